//! The loop's beginning and end: ports, limits of the process, and what can go wrong with them.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::buffers::Buffers;
use super::listener::Listener;
use super::rarely::Rarely;
use super::signals::Wishes;
use super::slots::Slots;
use super::timers::Timers;
use super::worker::Worker;
use super::{CLIENTS, EventLoop, LEASH_PIPE, NEIGHBOURS, SIGNALS, WAKER, moment};
use crate::config::Config;
use crate::connections::Server;
use crate::limits::{EVENTS_A_TURN, READ_BYTES_A_TURN, STRANGERS};
use crate::logging::Log;
use crate::protocol::Epoch;

/// Why a server could not start, or had to end.
#[derive(Debug)]
pub enum RunError {
    /// A port can't be listened on.
    Bind { what: &'static str, address: SocketAddr, error: io::Error },
    /// The kernel refused what the loop can't do without.
    Kernel { what: &'static str, error: io::Error },
}

/// Runs server number `server` of the configuration until it is told to stop.
pub fn run(config: &Config, server: usize, log: Log) -> Result<(), RunError> {
    let mut event_loop = EventLoop::new(config, server, log)?;
    while !event_loop.is_over() {
        event_loop.turn().map_err(kernel("wait for events"))?;
    }
    log::info!("{} has stopped.", event_loop.server.name());
    event_loop.log.finish();
    Ok(())
}

impl EventLoop {
    fn new(config: &Config, index: usize, log: Log) -> Result<EventLoop, RunError> {
        let own = &config.servers[index];
        let mut clients = bind("clients", own.listen)?;
        let mut neighbours = bind("neighbours", own.peers)?;
        let poll = Poll::new().map_err(kernel("make a poll"))?;
        let registry = poll.registry();
        for (listener, token) in [(&mut clients, CLIENTS), (&mut neighbours, NEIGHBOURS)] {
            let socket = &mut listener.socket;
            registry.register(socket, token, Interest::READABLE).map_err(kernel("watch a port"))?;
        }
        let waker = Waker::new(registry, WAKER).map_err(kernel("make a waker"))?;
        let wishes =
            Wishes::register(registry, SIGNALS, LEASH_PIPE).map_err(kernel("watch for signals"))?;
        let start = Instant::now();
        let now = moment(start);
        let listening = [clients.socket.local_addr(), neighbours.socket.local_addr()];
        announce(&own.name, [own.listen, own.peers], listening);
        Ok(EventLoop {
            events: Events::with_capacity(EVENTS_A_TURN),
            slots: Slots::new(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            scratch: vec![0; READ_BYTES_A_TURN],
            listeners: Some([clients, neighbours]),
            wishes,
            worker: Worker::new(waker),
            server: Server::new(config, index, epoch(), random(), now),
            limits: config.limits.clone(),
            log,
            start,
            now,
            ready: Vec::new(),
            dirty: Vec::new(),
            dead: Vec::new(),
            dials: vec![Vec::new(); own.neighbours.len()],
            strangers: Vec::new(),
            clients: 0,
            clients_at_most: clients_at_most(config.limits.connections, own.neighbours.len()),
            nobody_silent_before: Duration::ZERO,
            buffered: 0,
            rarely: Rarely::default(),
            stopping: None,
            poll,
        })
    }
}

fn bind(what: &'static str, address: SocketAddr) -> Result<Listener, RunError> {
    Listener::bind(address).map_err(|error| RunError::Bind { what, address, error })
}

fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |error| RunError::Kernel { what, error }
}

/// Says where the server listens: on standard error, for people and scripts that wait for it.
fn announce(name: &str, wanted: [SocketAddr; 2], got: [io::Result<SocketAddr>; 2]) {
    let [clients, neighbours] = got;
    let clients = clients.unwrap_or(wanted[0]);
    let neighbours = neighbours.unwrap_or(wanted[1]);
    let text = format!("{name} listens on {clients}, for neighbours on {neighbours}");
    log::info!("{text}.");
    // Nobody may be there to read it; that is no reason not to serve.
    let _ = io::Write::write_all(&mut io::stderr(), format!("{text}\n").as_bytes());
}

/// How many clients the descriptors of this process suffice for, once it has raised its own
/// limit as far as it may. Neighbours, strangers, the log and the loop have theirs set aside, so
/// that a crowd of clients can't cut the herd in pieces.
fn clients_at_most(wanted: usize, neighbours: usize) -> usize {
    let set_aside = OWN_DESCRIPTORS + STRANGERS + 4 * neighbours;
    let needed = (wanted + set_aside) as u64;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let current = limit.current.unwrap_or(u64::MAX);
    if current < needed {
        let raised = Rlimit { current: Some(needed.min(most)), maximum: limit.maximum };
        // Where that is not allowed, what there is must do.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // With very few descriptors the shares shrink, down to half of what there is.
    let set_aside = (set_aside as u64).min(descriptors / 2);
    let clients = usize::try_from(descriptors - set_aside).unwrap_or(usize::MAX);
    if clients < wanted {
        log::warn!(
            "{descriptors} descriptors suffice for {clients} clients only, not for the {wanted} \
             that `connections` allows: raise the limit (ulimit -n). More wait to be accepted."
        );
    }
    clients
}

/// A fresh run's identity. 0 stands for none, so it is never that.
fn epoch() -> Epoch {
    Epoch(random().max(1))
}

/// The standard library seeds its hash tables from the system's random numbers, which is all
/// the randomness that is needed here.
fn random() -> u64 {
    RandomState::new().hash_one("herd-mio")
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Bind { what, address, error } => {
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => "stop the program that has it, or choose another",
                    io::ErrorKind::PermissionDenied => "choose one above 1023",
                    _ => "check the address in the configuration",
                };
                write!(f, "can't listen for {what} on {address}: {error}; {remedy}")
            }
            RunError::Kernel { what, error } => write!(f, "can't {what}: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// Standard streams, poll, waker, signals, listeners, log, a look-up, and some to spare.
const OWN_DESCRIPTORS: usize = 24;
