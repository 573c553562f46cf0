//! The loop's beginning and end: ports, limits of the process, and what can go wrong with them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use super::buffers::Buffers;
use super::dialling::Dial;
use super::listener::{Door, Listener, Sharing};
use super::pace::{Allowance, CaughtUp};
use super::siblings::{self, Siblings};
use super::signals::Wishes;
use super::slots::Slots;
use super::timers::Timers;
use super::tls::{ClientTls, ServerTls, TlsError};
use super::worker::Worker;
use super::{EventLoop, LIFELINE, LIFELINE_PIPE, SIGNALS, WAKER, moment};
use crate::config::{Config, PlacesSettings};
use crate::connections::Server;
use crate::errors::plain;
use crate::limits::{
    EVENTS_PER_TURN, MAX_LOOKUPS, MAX_UNIDENTIFIED_PEERS, PLACES_JOBS, READ_BYTES_PER_TURN,
};
use crate::logging::{Log, stderr, target};
use crate::places::Provider;
use crate::places::gazetteer::Gazetteer;
use crate::process;
use crate::protocol::Epoch;

/// Why a server could not start, or had to end.
#[derive(Debug)]
pub enum RunError {
    /// A port can't be listened on.
    Bind { what: &'static str, address: SocketAddr, error: io::Error },
    /// The kernel refused what the loop can't do without.
    Kernel { what: &'static str, error: io::Error },
    /// The Places service can't be spoken with.
    Tls(TlsError),
    /// A second signal has ended it before it had stopped.
    Hurried,
}

/// Runs server number `server` of the configuration until it is told to stop.
pub fn run(config: &Config, server: usize, log: Log) -> Result<(), RunError> {
    let own = &config.servers[server];
    let sharing = if config.loops > 1 { Sharing::First } else { Sharing::None };
    let neighbours = bind("neighbours", Door::Neighbours, own.peer_listen, Sharing::None)?;
    let clients = bind("clients", Door::Clients, own.listen, sharing)?;
    let listening = [&clients, &neighbours].map(|listener| listener.socket.local_addr());
    let [listen, peers] = listening;
    let (listen, peers) = (listen.unwrap_or(own.listen), peers.unwrap_or(own.peer_listen));
    let guests = guests_at_most(config, own.neighbours.len()).div_ceil(config.loops);
    let told = siblings::told(config, server, 1);
    let mut first = EventLoop::new(&told, server, vec![clients, neighbours], guests, log.clone())?;
    first.hear_wishes()?;
    let mut further = Vec::new();
    for number in 2..=config.loops {
        let clients = bind("clients", Door::Clients, listen, Sharing::Further)?;
        let told = siblings::told(config, server, number);
        let mut event_loop = EventLoop::new(&told, server, vec![clients], guests, log.clone())?;
        event_loop.server.call_in_log(&siblings::title(&own.name, number));
        further.push(event_loop);
    }
    first.look_after(own.neighbours.len(), further)?;
    announce(&format!("{} listens on {listen}, for neighbours on {peers}", own.name), config);
    first.run()
}

/// Runs a Places service at `address` until it is told to stop. `config` has one server, which has no
/// neighbours and gives the service its name.
pub fn run_places(
    config: &Config,
    address: SocketAddr,
    tls: ServerTls,
    log: Log,
) -> Result<(), RunError> {
    let visitors = bind("visitors", Door::Visitors(tls), address, Sharing::None)?;
    let listening = visitors.socket.local_addr().unwrap_or(address);
    let guests = guests_at_most(config, 0);
    let mut event_loop = EventLoop::new(config, 0, vec![visitors], guests, log)?;
    event_loop.hear_wishes()?;
    // Before the first visitor comes: whoever starts a service of places will ask it for some.
    event_loop.server.gazetteer_unpacked(Box::new(Gazetteer::unpack()));
    announce(&format!("{} listens on {listening}", event_loop.server.title()), config);
    event_loop.run()
}

impl EventLoop {
    /// Runs until it is told to stop.
    pub(super) fn run(mut self) -> Result<(), RunError> {
        self.log.submit(); // What the start has recorded; the first wait may be long.
        while !self.is_over() {
            self.turn().map_err(kernel("wait for events"))?;
            if let Some(failure) = self.siblings.take_failure() {
                return Err(failure);
            }
        }
        if self.stopping.as_ref().is_some_and(|stopping| stopping.is_hurried) {
            return Err(RunError::Hurried);
        }
        log::info!(target: target::LOOP, "{} has stopped.", self.server.title());
        self.log.finish();
        Ok(())
    }

    pub(super) fn new(
        config: &Config,
        index: usize,
        mut listeners: Vec<Listener>,
        guests_at_most: usize,
        log: Log,
    ) -> Result<EventLoop, RunError> {
        let own = &config.servers[index];
        let poll = Poll::new().map_err(kernel("make a poll"))?;
        let registry = poll.registry();
        for (which, listener) in listeners.iter_mut().enumerate() {
            registry
                .register(&mut listener.socket, Token(which), Interest::READABLE)
                .map_err(kernel("watch a port"))?;
        }
        let waker = Arc::new(Waker::new(registry, WAKER).map_err(kernel("make a waker"))?);
        let client_tls = client_tls(&config.places).map_err(RunError::Tls)?;
        let (epoch, seed) = fresh_run()?;
        let start = Instant::now();
        let now = moment(start);
        Ok(EventLoop {
            events: Events::with_capacity(EVENTS_PER_TURN),
            slots: Slots::new(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            scratch: vec![0; READ_BYTES_PER_TURN],
            listeners,
            client_tls,
            wishes: None,
            worker: Worker::new(MAX_LOOKUPS, Arc::clone(&waker)),
            places_worker: Worker::new(PLACES_JOBS, Arc::clone(&waker)),
            siblings: Siblings::none(waker),
            server: Server::new(config, index, epoch, seed, now),
            limits: config.limits.clone(),
            log,
            start,
            now,
            ready: VecDeque::new(),
            dirty: VecDeque::new(),
            dead: VecDeque::new(),
            queued: 0,
            served: 0,
            allowance: Allowance::new(start),
            caught_up: CaughtUp::default(),
            polled_after: None,
            has_commands: false,
            first_link: 0,
            dials: own.neighbours.iter().map(|_| Dial::default()).collect(),
            calls_from: own.peer_listen,
            strangers: Vec::new(),
            guests: 0,
            guests_at_most,
            nobody_silent_before: Duration::ZERO,
            buffered: 0,
            stopping: None,
            poll,
        })
    }

    /// From now on signals and the supervisor's lifeline are this loop's to obey.
    fn hear_wishes(&mut self) -> Result<(), RunError> {
        let wishes = Wishes::register(self.poll.registry(), SIGNALS, LIFELINE_PIPE);
        self.wishes = Some(wishes.map_err(kernel("watch for signals"))?);
        Ok(())
    }
}

/// How we speak with the Places service, if one is asked.
fn client_tls(places: &PlacesSettings) -> Result<Option<ClientTls>, TlsError> {
    match places.provider() {
        Provider::Offline => Ok(None),
        _ => ClientTls::new(&places.endpoint.host, places.ca.as_ref()).map(Some),
    }
}

fn bind(
    what: &'static str,
    door: Door,
    address: SocketAddr,
    sharing: Sharing,
) -> Result<Listener, RunError> {
    Listener::bind(door, address, sharing).map_err(|error| RunError::Bind { what, address, error })
}

pub(super) fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |error| RunError::Kernel { what, error }
}

/// Says where the server listens: on standard error, for people and scripts that wait for it. On a
/// terminal what the operator should know follows; scripts find that in the log, and under a supervisor it has said so.
fn announce(text: &str, config: &Config) {
    log::info!(target: target::LOOP, "{text}.");
    stderr::print_line(text);
    if io::stderr().is_terminal() && std::env::var_os(LIFELINE).is_none() {
        let warnings = config.places.warnings.iter();
        warnings.for_each(|warning| stderr::print_line(&format!("herd-mio: warning: {warning}")));
    }
}

/// How many guests the descriptors of this process suffice for in all its loops, once it has raised its
/// own limit as far as it may. Neighbours, strangers, connections with the Places service, the log and
/// the loops have theirs set aside, so that a crowd of clients can't cut the herd in pieces.
fn guests_at_most(config: &Config, neighbours: usize) -> usize {
    let wanted = config.limits.client_connections;
    let queries = match config.places.provider() {
        Provider::Offline => 0,
        // One that a kept connection is silent to is carried by a fresh one, too.
        _ => 2 * config.places.max_in_flight,
    };
    let set_aside =
        config.loops * OWN_DESCRIPTORS + MAX_UNIDENTIFIED_PEERS + 4 * neighbours + queries;
    let needed = (wanted + set_aside) as u64;
    let descriptors = process::raise_descriptors(needed);
    // With very few descriptors the shares shrink, down to half of what there is.
    let set_aside = (set_aside as u64).min(descriptors / 2);
    let clients = usize::try_from(descriptors - set_aside).unwrap_or(usize::MAX);
    if clients < wanted {
        // Not limited: once, at the start.
        log::warn!(
            target: target::LOOP,
            "{descriptors} descriptors suffice for {clients} clients only, not for the {wanted} \
             that `client_connections` allows: raise the limit (ulimit -n). More wait to be accepted."
        );
    }
    clients
}

/// What makes a run unlike any other: its epoch, which neighbours learn, and the seed, which nobody
/// does. Both are the operating system's random numbers.
fn fresh_run() -> Result<(Epoch, u128), RunError> {
    let (mut epoch, mut seed) = ([0; 8], [0; 16]);
    for bytes in [&mut epoch[..], &mut seed[..]] {
        getrandom::fill(bytes).map_err(|error| kernel("get random numbers")(error.into()))?;
    }
    // 0 stands for no epoch.
    Ok((Epoch(u64::from_ne_bytes(epoch).max(1)), u128::from_ne_bytes(seed)))
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Bind { what, address, error } => {
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => "stop the program that has it, or choose another",
                    io::ErrorKind::PermissionDenied => "choose one above 1023",
                    _ => "check the address",
                };
                write!(f, "can't listen for {what} on {address}: {}; {remedy}", plain(error))
            }
            RunError::Kernel { what, error } => write!(f, "can't {what}: {}", plain(error)),
            RunError::Tls(error) => write!(f, "can't speak TLS with the Places service: {error}"),
            RunError::Hurried => f.write_str("was signalled twice, and ends without waiting"),
        }
    }
}

impl std::error::Error for RunError {}

/// Of each loop: standard streams, poll, waker, signals, listeners, log, a look-up, links to other
/// loops, and some to spare.
const OWN_DESCRIPTORS: usize = 24;
