//! The whole herd on one machine (`--herd`): starts each server as a process of its own, and restarts it.
//!
//! The supervisor restarts a server that dies, after pauses that grow. Every server has a *lifeline*: its
//! standard input is a pipe that only the supervisor holds. When the pipe closes, the server stops gracefully, so
//! no server outlives the supervisor, however that ends. A byte on the pipe asks the server to reopen its log.
//! The supervisor never communicates with a server in any other way.
//!
//! ```text
//!   signals --thread--> channel --> supervisor ==lifeline==> Goloman, Hands, Holiday, ...
//!   SIGCHLD, SIGTERM, SIGINT,
//!   SIGHUP, SIGUSR1
//! ```
//!
//! Nothing here waits without a limit: not for a server that is to stop, not for one that does not
//! read its pipe, and not for standard error.

mod child;

mod ports;
mod program;
mod read_once;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::cli::args::Args;
use crate::cli::demo::DemoPlaces;
use crate::config::{Config, PLACES_SERVICE};
use crate::errors::plain;
use crate::limits::{KILL_WAIT, SECOND_SIGNAL_AFTER, STOP_WAIT};
use crate::logging::stderr::print_line;
use crate::node::process;
use child::Process;
use program::Program;

pub use read_once::ReadOnce;

/// Why the herd cannot run, or failed to stop.
#[derive(Debug)]
pub enum HerdError {
    /// Signals cannot be received, or this program's own file was not found.
    Setup(io::Error),
    /// A port cannot be listened on, nor can `more` others.
    Port { server: String, what: &'static str, address: SocketAddr, error: io::Error, more: usize },
    /// A server's process cannot be started.
    Start { name: String, error: io::Error },
    /// Our own Places server cannot be prepared.
    Places(String),
    /// A server exited as soon as it was started, after printing why.
    StartFailed { name: String, status: u8 },
    /// Servers that were killed because they had not stopped in time, or because of a second signal.
    Killed { names: Vec<String>, after: Duration, is_hurried: bool },
}

/// The herd's processes.
struct Supervisor {
    program: Program,
    servers: Vec<Process>,
    signals: Receiver<i32>,
}

/// Runs all servers until SIGTERM or SIGINT, and passes `options` to each of them. Unless a provider of places is
/// chosen, also runs our own Places server, so that the demonstration uses HTTPS as with a real service.
pub fn run(args: &Args, config: &Config, mut options: Vec<OsString>) -> Result<(), HerdError> {
    let signals = signals().map_err(HerdError::Setup)?;
    if !ports::try_all(config, &signals)? {
        return Ok(()); // A signal has stopped the herd.
    }
    let mut program = Program::find().map_err(HerdError::Setup)?;
    let mut servers = Vec::new();
    let mut demonstrated = None;
    if config.needs_places_service(&args.overrides) {
        let demonstration = DemoPlaces::new(args, config)?;
        servers.push(Process::new(PLACES_SERVICE, demonstration.service(args)));
        options.extend(demonstration.options());
        program.variables = demonstration.variables();
        demonstrated = Some(demonstration);
    }
    for name in config.names() {
        let mut words: Vec<OsString> = vec!["--server".into(), name.into()];
        words.extend(options.iter().cloned());
        servers.push(Process::new(name, words));
    }
    // Each server's lifeline takes one descriptor.
    process::raise_descriptors(servers.len() as u64 + OWN_DESCRIPTORS);
    let mut supervisor = Supervisor { program, servers, signals };
    if let Some(service) = &demonstrated {
        // First, so that it is ready for the first query.
        supervisor.servers[0].start(&supervisor.program)?;
        service.await_listening();
    }
    let watched = supervisor.watch();
    let stopped = supervisor.stop();
    watched.and(stopped)
}

/// A channel of signals, because waiting on a channel can have a time limit.
fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new(process::control_signals())?;
    process::unblock_signals();
    let (send, receive) = mpsc::channel();
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if send.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receive)
}

/// Whether a signal stops the herd.
fn means_stop(signal: i32) -> bool {
    match signal {
        SIGTERM | SIGINT => true,
        SIGHUP => process::has_lost_its_terminal(),
        _ => false,
    }
}

impl Supervisor {
    /// Starts servers that are due, and handles signals, until one stops the herd.
    fn watch(&mut self) -> Result<(), HerdError> {
        self.reap_children()?; // Inherited children that had already ended.
        loop {
            self.start_due()?;
            match self.next_signal() {
                Some(signal) if means_stop(signal) => return Ok(()),
                Some(SIGHUP | SIGUSR1) => self.servers.iter_mut().for_each(Process::reopen_log),
                _ => self.reap_children()?,
            }
        }
    }

    /// The next signal, or none at the end of a pause.
    fn next_signal(&self) -> Option<i32> {
        let due = self.servers.iter().filter_map(Process::starts_at).min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        match self.signals.recv_timeout(timeout.unwrap_or(Duration::MAX)) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            // Without its thread no signal would ever come again: stop now.
            Err(RecvTimeoutError::Disconnected) => Some(SIGTERM),
        }
    }

    fn start_due(&mut self) -> Result<(), HerdError> {
        let now = Instant::now();
        let due = |server: &&mut Process| server.starts_at().is_some_and(|due| due <= now);
        self.servers.iter_mut().filter(due).try_for_each(|server| server.start(&self.program))
    }

    fn reap_children(&mut self) -> Result<(), HerdError> {
        let mut result = Ok(());
        for (place, status, lasted) in self.reap() {
            result = result.and(self.servers[place].start_again(status, lasted));
        }
        result
    }

    /// Reaps the processes that have ended, and returns the servers among them. After this, nothing uses their
    /// process ids, which the kernel may reuse.
    fn reap(&mut self) -> Vec<(usize, ExitStatus, Duration)> {
        let mut servers = Vec::new();
        for (pid, status) in process::reap() {
            let place = self.servers.iter().position(|server| server.pid() == Some(pid));
            if let Some(place) = place {
                servers.push((place, status, self.servers[place].ended()));
            }
        }
        servers
    }

    /// Stops all servers at once and gracefully. Kills those that do not stop in time, or all when a
    /// second signal comes that is not part of the first one.
    fn stop(&mut self) -> Result<(), HerdError> {
        let begin = Instant::now();
        self.servers.iter_mut().for_each(Process::stop);
        let mut is_hurried = false;
        while !is_hurried && self.is_running() && begin.elapsed() < STOP_WAIT {
            let left = STOP_WAIT.saturating_sub(begin.elapsed());
            match self.signals.recv_timeout(left) {
                Ok(SIGTERM | SIGINT) => is_hurried = begin.elapsed() >= SECOND_SIGNAL_AFTER,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(KILL_PROBE),
            }
            self.collect_stopped();
        }
        let after = begin.elapsed();
        let running = self.servers.iter().filter(|server| server.pid().is_some());
        let names: Vec<String> = running.map(|server| server.name.clone()).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.servers.iter_mut().for_each(Process::kill);
        let killed = Instant::now();
        while self.is_running() && killed.elapsed() < KILL_WAIT {
            thread::sleep(KILL_PROBE);
            self.reap();
        }
        Err(HerdError::Killed { names, after, is_hurried })
    }

    fn is_running(&self) -> bool {
        self.servers.iter().any(|server| server.pid().is_some())
    }

    fn collect_stopped(&mut self) {
        for (place, status, _) in self.reap() {
            if !status.success() {
                let name = &self.servers[place].name;
                print_line(&format!("{name} {} while stopping.", child::how_it_ended(status)));
            }
        }
    }
}

impl fmt::Display for HerdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HerdError::Setup(error) => write!(f, "cannot supervise the servers: {}", plain(error)),
            HerdError::Places(reason) => {
                write!(f, "cannot run the Places server: {reason}; or choose --places offline")
            }
            HerdError::Port { server, what, address, error, more } => {
                let others = match more {
                    0 => String::new(),
                    1 => " (the same for another port)".to_owned(),
                    more => format!(" (the same for {more} other ports)"),
                };
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "stop the program that uses it, or choose another port"
                    }
                    _ => "choose a port above 1023",
                };
                let reason = plain(error);
                write!(
                    f,
                    "{server} cannot listen on {address}, for {what}: {reason}{others}; {remedy}"
                )
            }
            HerdError::Start { name, error } => {
                let remedy = match Errno::from_io_error(error) {
                    Some(Errno::MFILE) => "; raise the limit (ulimit -n)",
                    Some(Errno::AGAIN) => "; raise the limit (ulimit -u)",
                    _ => "",
                };
                write!(f, "cannot start {name}: {}{remedy}", plain(error))
            }
            HerdError::StartFailed { name, .. } => {
                write!(f, "{name} failed to start (see above); stopping the other servers")
            }
            HerdError::Killed { names, after, is_hurried } => {
                let (names, after) = (names.join(", "), after.as_secs_f32());
                match is_hurried {
                    true => write!(f, "killed after {after:.1} s by a second signal: {names}"),
                    false => {
                        write!(f, "killed because they did not stop within {after:.1} s: {names}")
                    }
                }
            }
        }
    }
}

impl std::error::Error for HerdError {}

/// Descriptors that the supervisor has open besides the lifelines, or needs briefly to start a process.
const OWN_DESCRIPTORS: u64 = 64;
/// How often to check whether a killed process is gone.
const KILL_PROBE: Duration = Duration::from_millis(10);
