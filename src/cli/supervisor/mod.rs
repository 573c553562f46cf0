//! The whole herd on one machine (`--herd`): starts each server as a process of its own, and restarts it.
//!
//! The supervisor restarts a server that dies, after pauses that grow. Every server has a *lifeline*: its
//! standard input is a pipe that only the supervisor holds. When the pipe closes, the server stops gracefully, so
//! no server outlives the supervisor, however that ends. Frames on the pipe ask the server to reopen its log or to
//! drain, or hand it a new configuration. The supervisor never communicates with a running server in any other way.
//!
//! ```text
//!   signals --thread--> channel --> supervisor ==lifeline==> Goloman, Hands, Holiday, ...
//!   SIGCHLD, SIGTERM,      ^            |
//!   SIGINT, SIGHUP,        |            v
//!   SIGUSR1, SIGUSR2       +-------- thread that reads the configuration file
//! ```
//!
//! All servers run with one text of the configuration: the supervisor reads the file, and hands the text to servers
//! that start (in a file in memory) and to those that run (through the lifeline).
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the watch over the servers, and their end |
//! | `child.rs` | one server's process, or the pause before it is restarted |
//! | `drain.rs` | the wait for servers that drain |
//! | `lifeline.rs` | the frames on its pipe |
//! | `reload.rs` | the reading of the configuration file |
//! | `apply.rs` | a new configuration is put in force |
//! | `manager.rs` | the service manager that has started the herd |
//! | `ports.rs` | ports are tried before a server needs them |
//! | `program.rs` | how processes are started |
//! | `read_once.rs`, `memory.rs` | files that can be read only once, and files in memory |
//! | `error.rs` | why the herd cannot run |
//!
//! Nothing here waits without a limit: not for a server that is to stop, not for one that does not
//! read its pipe, not for the disk, and not for standard error.

mod apply;
mod child;
mod drain;
mod error;
mod lifeline;
mod manager;
mod memory;
mod ports;
mod program;
mod read_once;
mod reload;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::cli::args::{Args, remove};
use crate::cli::demo::DemoPlaces;
use crate::config::{Config, OnSigterm, PLACES_SERVICE, ServerConfig};
use crate::files::Stamps;
use crate::limits::{KILL_WAIT, SECOND_SIGNAL_AFTER, STOP_WAIT};
use crate::node::process;
use child::Process;
use manager::{Manager, Report};
use program::Program;
use reload::{Found, Reader, Source};

pub use error::HerdError;
pub use program::{ADMIN_OF_HERD, CONFIG_TEXT, HERD_WIDE};
pub use read_once::ReadOnce;

/// The herd's processes.
struct Supervisor {
    program: Program,
    /// Also those that a reload has removed, until they have ended.
    servers: Vec<Process>,
    events: Receiver<Event>,
    /// The configuration in force, and the text of its file; empty without a file.
    config: Config,
    text: String,
    /// The one that was loaded last. Some of it may wait for a restart.
    newest: Config,
    reader: Reader,
    /// None without a service manager.
    manager: Option<Manager>,
    /// The common options of the servers.
    options: Vec<OsString>,
    /// Our own Places server, if the herd has one.
    places: Option<DemoPlaces>,
    args: Args,
}

/// What the supervisor waits for.
enum Event {
    Signal(i32),
    /// A thread has read the configuration, or looked at its file.
    Found(Found),
    /// A server has reported something.
    Reported(Pid, Report),
}

/// How the herd ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Stop,
    Drain,
}

/// What has begun the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopBegan {
    /// A signal, or a failure.
    Signal,
    /// The end of a drain: service managers send their signal behind it, so one that comes then is the first.
    Drain,
}

/// A channel of events, because waiting on a channel can have a time limit.
struct Events {
    send: Sender<Event>,
    receive: Receiver<Event>,
}

/// The configuration that the herd is started with.
pub struct Start<'a> {
    pub config: &'a Config,
    /// The text of its file, if there is one.
    pub text: Option<&'a str>,
    pub read_once: &'a ReadOnce,
    /// Its files, and how they looked before they were read.
    pub files: Vec<PathBuf>,
    pub stamps: Stamps,
}

/// Runs all servers until SIGTERM or SIGINT, and passes `options` to each of them. Unless a provider of places is
/// chosen, also runs our own Places server, so that the demonstration uses HTTPS as with a real service.
pub fn run(args: &Args, start: Start<'_>, mut options: Vec<OsString>) -> Result<(), HerdError> {
    let Start { config, text, read_once, files, stamps } = start;
    let events = events().map_err(HerdError::Setup)?;
    if !ports::try_all(config, &events)? {
        return Ok(()); // A signal has stopped the herd.
    }
    let mut program = Program::find(config).map_err(HerdError::Setup)?;
    if let Some(text) = text {
        program.keep_config(text).map_err(HerdError::Setup)?;
    }
    let source = match &args.config {
        None => Source::BuiltIn,
        Some(path) => match read_once.typed(path) {
            Some(typed) => Source::ReadOnce(typed.to_owned()),
            None => Source::File(path.clone()),
        },
    };
    let manager = Manager::from_environment();
    program.reports = manager.as_ref().map(|manager| manager.reports(events.send.clone()));
    let reader = Reader::new(source, &args.overrides, (files, stamps), events.send);
    let mut servers = Vec::new();
    let mut places = None;
    if config.needs_places_service(&args.overrides) {
        let demonstration = DemoPlaces::new(args, config)?;
        servers.push(Process::new(PLACES_SERVICE, demonstration.service(args)));
        options.extend(demonstration.options());
        program.variables = demonstration.variables();
        places = Some(demonstration);
    }
    remove(&mut options, "--admin");
    let (config, args) = (config.clone(), args.clone());
    let (events, text) = (events.receive, text.unwrap_or_default().to_owned());
    let newest = config.clone();
    let mut supervisor = Supervisor {
        program,
        servers,
        events,
        config,
        text,
        newest,
        reader,
        manager,
        options,
        places,
        args,
    };
    let named = supervisor.config.servers.iter();
    let servers: Vec<Process> = named.map(|server| supervisor.server(server)).collect();
    supervisor.servers.extend(servers);
    supervisor.use_settings();
    if let Some(service) = &supervisor.places {
        // First, so that it is ready for the first query.
        supervisor.servers[0].start(&supervisor.program)?;
        service.await_listening();
    }
    let watched = supervisor.watch();
    let began_by = match watched {
        Ok(Ending::Drain) => {
            supervisor.tell_draining();
            supervisor.drain()
        }
        _ => StopBegan::Signal,
    };
    supervisor.tell_stopping();
    let stopped = supervisor.stop(began_by);
    watched.map(drop).and(stopped)
}

/// Begins to receive signals.
fn events() -> io::Result<Events> {
    /// Without its thread no signal would ever come again: the herd is stopped then.
    struct AtItsEnd(Sender<Event>);
    impl Drop for AtItsEnd {
        fn drop(&mut self) {
            let _ = self.0.send(Event::Signal(SIGTERM)); // Fails only if the supervisor has ended.
        }
    }
    let mut signals = Signals::new(process::control_signals())?;
    process::unblock_signals();
    let (send, receive) = mpsc::channel();
    let for_signals = AtItsEnd(send.clone());
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if for_signals.0.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(Events { send, receive })
}

/// Whether a signal ends the herd, and how.
fn ending(signal: i32, on_sigterm: OnSigterm) -> Option<Ending> {
    let on_sigterm = match on_sigterm {
        OnSigterm::Stop => Ending::Stop,
        OnSigterm::Drain => Ending::Drain,
    };
    match signal {
        SIGINT => Some(Ending::Stop),
        SIGTERM => Some(on_sigterm),
        SIGHUP if process::has_lost_its_terminal() => Some(on_sigterm),
        SIGUSR2 => Some(Ending::Drain),
        _ => None,
    }
}

impl Supervisor {
    /// One server of the configuration, not started yet.
    fn server(&self, server: &ServerConfig) -> Process {
        let mut words: Vec<OsString> = vec!["--server".into(), server.name.as_str().into()];
        words.extend(self.options.iter().cloned());
        // The servers count up from the address of the command line.
        if let (Some(_), Some(address)) = (&self.args.overrides.admin, server.admin_listen) {
            words.extend(["--admin".into(), address.to_string().into()]);
        }
        Process::server(&server.name, words, ports::of(server))
    }

    /// Starts servers that are due, and handles events, until a signal ends the herd.
    fn watch(&mut self) -> Result<Ending, HerdError> {
        self.reap_children()?; // Inherited children that had already ended.
        loop {
            self.act()?;
            let event = self.next_event();
            if let Some(Event::Signal(signal)) = event
                && let Some(ending) = ending(signal, self.config.stop.on_sigterm)
            {
                return Ok(ending);
            }
            match event {
                None => {}
                Some(Event::Signal(SIGHUP)) => self.reload(),
                Some(Event::Signal(SIGUSR1)) => self.reopen_logs(),
                Some(Event::Signal(_)) => self.reap_children()?,
                Some(Event::Found(found)) => {
                    if let Some(read) = self.reader.take(found) {
                        self.reloaded(read);
                    }
                }
                Some(Event::Reported(pid, report)) => self.reported(pid, report),
            }
            self.tell_whether_it_reloads();
        }
    }

    /// The next event, or none when something is due.
    fn next_event(&self) -> Option<Event> {
        let starts = self.startable().filter_map(|place| self.servers[place].starts_at());
        let due = starts.chain(self.servers.iter().filter_map(Process::due_at));
        let due = due.chain(self.reader.due_at()).chain(self.manager_due_at()).min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        // There is always a sender: the reader has one.
        self.events.recv_timeout(timeout.unwrap_or(Duration::MAX)).ok()
    }

    /// Does what is due.
    fn act(&mut self) -> Result<(), HerdError> {
        let now = Instant::now();
        self.reader.act(now);
        self.tell_what_is_due(now);
        self.servers.iter_mut().for_each(|server| server.act(now));
        let due = |place: &usize| self.servers[*place].starts_at().is_some_and(|due| due <= now);
        let due: Vec<usize> = self.startable().filter(due).collect();
        due.into_iter().try_for_each(|place| self.start(place))
    }

    /// Starts a server. It has what has waited for that.
    fn start(&mut self, place: usize) -> Result<(), HerdError> {
        let server = &mut self.servers[place];
        self.config.restarted(&self.newest, &server.name);
        if let Some(own) = self.config.server(&server.name) {
            server.ports = ports::of(&self.config.servers[own]);
        }
        server.start(&self.program)
    }

    /// The places of the servers that need not wait for another one to stop.
    fn startable(&self) -> impl Iterator<Item = usize> {
        let stopping: Vec<&Process> = self.servers.iter().filter(|it| it.is_stopping()).collect();
        let waits = move |server: &Process| stopping.iter().any(|other| server.waits_for(other));
        (0..self.servers.len()).filter(move |place| !waits(&self.servers[*place]))
    }

    fn reopen_logs(&mut self) {
        self.servers.iter_mut().for_each(Process::reopen_log);
    }

    fn reap_children(&mut self) -> Result<(), HerdError> {
        let mut result = Ok(());
        for (place, status, lasted) in self.reap() {
            result = result.and(self.servers[place].start_again(status, lasted));
        }
        self.servers.retain(|server| !server.is_gone());
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
    fn stop(&mut self, began: StopBegan) -> Result<(), HerdError> {
        let begin = Instant::now();
        let mut first_signal = (began == StopBegan::Signal).then_some(begin);
        self.servers.iter_mut().for_each(Process::stop);
        let mut is_hurried = false;
        while !is_hurried && self.is_running() && begin.elapsed() < STOP_WAIT {
            let left = STOP_WAIT.saturating_sub(begin.elapsed());
            match self.events.recv_timeout(left) {
                Ok(Event::Signal(SIGTERM | SIGINT)) => {
                    let first = *first_signal.get_or_insert_with(Instant::now);
                    is_hurried = first.elapsed() >= SECOND_SIGNAL_AFTER;
                }
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
                self.servers[place].report_stop(status);
            }
        }
    }
}

/// Descriptors that the supervisor has open besides the lifelines, or needs briefly to start a process.
const OWN_DESCRIPTORS: u64 = 64;
/// How often to check whether a killed process is gone.
const KILL_PROBE: Duration = Duration::from_millis(10);
