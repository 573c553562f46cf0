//! The whole herd on one machine (`--herd`): each server a process of its own, looked after.
//!
//! A server that dies is started again, after pauses that grow. Every server is on a *leash*:
//! its standard input is a pipe that only the supervisor holds. When that ends, the server stops
//! in order, so none outlives the supervisor, whatever became of it; a byte on it means that the
//! log is to be opened anew. The supervisor never talks to a server in any other way.
//!
//! ```text
//!   signals --thread--> channel --> supervisor ==leash==> Goloman, Hands, Holiday, ...
//!   SIGCHLD, SIGTERM, SIGINT, SIGHUP
//! ```

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fmt;
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Socket, Type};

use crate::args::Args;
use crate::certificates;
use crate::config::{Config, KEY_VARIABLE, PLACES_SERVICE};
use crate::errors::plain;
use crate::event_loop::LEASH;
use crate::limits::{BACKOFF_FIRST, BACKOFF_LONGEST, BACKOFF_RESET_AFTER, GRACE};
use crate::places::google::Api;

/// Why the herd can't run.
#[derive(Debug)]
pub enum HerdError {
    /// Signals can't be received, or this program's own file not be found.
    Setup(io::Error),
    /// A server's process can't be started.
    Start { name: String, error: io::Error },
    /// The Places service of our own can't be made ready.
    Places(String),
    /// A server ended by itself as soon as it was started; it has said why.
    Unusable { name: String, status: u8 },
}

/// The herd's processes.
struct Supervisor {
    program: PathBuf,
    /// What the processes find in their environment.
    variable: Option<(&'static str, String)>,
    servers: Vec<Server>,
    signals: Receiver<i32>,
}

/// One server's process, or the pause before its next one.
struct Server {
    name: String,
    options: Vec<OsString>,
    state: State,
    backoff: Duration,
    starts: u32,
}

enum State {
    Running { process: Child, leash: Option<ChildStdin>, since: Instant },
    Pausing { until: Instant },
}

/// Runs all servers until SIGTERM or SIGINT. `options` are passed on to each of them. Where nobody has
/// said who answers queries for places, a service of our own does, so that what the demonstration
/// shows goes all the way over HTTPS.
pub fn run(args: &Args, config: &Config, mut options: Vec<OsString>) -> Result<(), HerdError> {
    let program = std::env::current_exe().map_err(HerdError::Setup)?;
    let signals = signals().map_err(HerdError::Setup)?;
    let mut servers = Vec::new();
    let mut demonstrated = None;
    if config.needs_places_service(args) {
        let demonstration = Demonstration::new(args)?;
        servers.push(Server::new(PLACES_SERVICE, demonstration.service(args)));
        options.extend(demonstration.options());
        demonstrated = Some(demonstration);
    }
    for name in config.names() {
        let mut words: Vec<OsString> = vec!["--server".into(), name.into()];
        words.extend(options.iter().cloned());
        servers.push(Server::new(name, words));
    }
    let variable = demonstrated.as_ref().map(|service| (KEY_VARIABLE, service.key.clone()));
    let mut supervisor = Supervisor { program, variable, servers, signals };
    if let Some(service) = &demonstrated {
        // First, so that the first query finds it there.
        supervisor.servers[0].start(&supervisor.program, &supervisor.variable)?;
        service.await_listening();
    }
    let result = supervisor.watch();
    supervisor.stop();
    result
}

/// Signals, each as an item of a channel, so that they can be waited for with a limit.
fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP])?;
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

impl Supervisor {
    /// Starts what is to be started and waits for what happens, until it is told to stop.
    fn watch(&mut self) -> Result<(), HerdError> {
        loop {
            self.start_due()?;
            match self.next_signal() {
                Some(SIGTERM | SIGINT) => return Ok(()),
                Some(SIGHUP) => self.reopen_logs(),
                _ => self.look_after_the_dead()?,
            }
        }
    }

    /// The next signal, or none when a pause is over.
    fn next_signal(&self) -> Option<i32> {
        let pauses = self.servers.iter().filter_map(|server| match server.state {
            State::Pausing { until } => Some(until),
            State::Running { .. } => None,
        });
        let timeout = pauses.min().map(|until| until.saturating_duration_since(Instant::now()));
        match self.signals.recv_timeout(timeout.unwrap_or(Duration::MAX)) {
            Ok(signal) => Some(signal),
            Err(RecvTimeoutError::Timeout) => None,
            // Without its thread no signal would ever come again: better to stop now.
            Err(RecvTimeoutError::Disconnected) => Some(SIGTERM),
        }
    }

    fn start_due(&mut self) -> Result<(), HerdError> {
        for server in &mut self.servers {
            if matches!(server.state, State::Pausing { until } if until <= Instant::now()) {
                server.start(&self.program, &self.variable)?;
            }
        }
        Ok(())
    }

    fn reopen_logs(&mut self) {
        for server in &mut self.servers {
            if let State::Running { leash: Some(leash), .. } = &mut server.state {
                // One that is just dying has no log to open.
                let _ = leash.write_all(b"\n");
            }
        }
    }

    fn look_after_the_dead(&mut self) -> Result<(), HerdError> {
        for server in &mut self.servers {
            let State::Running { process, since, .. } = &mut server.state else {
                continue;
            };
            let Ok(Some(status)) = process.try_wait() else {
                continue;
            };
            let lasted = since.elapsed();
            server.ended(status, lasted)?;
        }
        Ok(())
    }

    /// Stops the servers one after the other, in order. A second signal ends those that are left
    /// at once; one that does not stop in time is ended, too.
    fn stop(&mut self) {
        let mut in_order = true;
        for server in &mut self.servers {
            let State::Running { process, leash, .. } = &mut server.state else {
                continue;
            };
            drop(leash.take());
            let until = Instant::now() + GRACE + STOP_MARGIN;
            while in_order && matches!(process.try_wait(), Ok(None)) {
                let left = until.saturating_duration_since(Instant::now());
                match self.signals.recv_timeout(left) {
                    Ok(SIGTERM | SIGINT) => in_order = false,
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            if matches!(process.try_wait(), Ok(None)) {
                say(&format!("{} does not stop, and is ended.", server.name));
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

impl Server {
    fn new(name: &str, options: Vec<OsString>) -> Server {
        Server {
            name: name.to_owned(),
            options,
            state: State::Pausing { until: Instant::now() },
            backoff: BACKOFF_FIRST,
            starts: 0,
        }
    }

    fn start(
        &mut self,
        program: &Path,
        variable: &Option<(&'static str, String)>,
    ) -> Result<(), HerdError> {
        let spawned = Command::new(program)
            .args(&self.options)
            .env(LEASH, "1")
            .envs(variable.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            // A group of its own: Ctrl-C in a terminal is for the supervisor alone.
            .process_group(0)
            .spawn();
        match spawned {
            Ok(mut process) => {
                let leash = process.stdin.take();
                self.starts += 1;
                self.state = State::Running { process, leash, since: Instant::now() };
            }
            Err(error) if self.starts == 0 => {
                return Err(HerdError::Start { name: self.name.clone(), error });
            }
            Err(error) => {
                say(&format!("{} can't be started: {}", self.name, plain(&error)));
                self.pause();
            }
        }
        Ok(())
    }

    /// Its process is gone: it is started again, unless it could not even begin.
    fn ended(&mut self, status: ExitStatus, lasted: Duration) -> Result<(), HerdError> {
        if let Some(code @ 1..=2) = status.code()
            && self.starts == 1
            && lasted < FIRST_MOMENTS
        {
            let name = self.name.clone();
            self.state = State::Pausing { until: Instant::now() };
            return Err(HerdError::Unusable { name, status: code as u8 });
        }
        if lasted >= BACKOFF_RESET_AFTER {
            self.backoff = BACKOFF_FIRST;
        }
        let how = match (status.code(), status.signal()) {
            (_, Some(signal)) => format!("was ended by signal {signal}"),
            (Some(code), _) => format!("ended with status {code}"),
            _ => "ended".to_owned(),
        };
        let pause = self.backoff.as_millis();
        say(&format!("{} {how}; it is started again in {pause} ms.", self.name));
        self.pause();
        Ok(())
    }

    fn pause(&mut self) {
        self.state = State::Pausing { until: Instant::now() + self.backoff };
        self.backoff = (self.backoff * 2).min(BACKOFF_LONGEST);
    }
}

/// Tells the operator, if one is there.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The Places service that runs beside a herd nobody has given one.
struct Demonstration {
    folder: PathBuf,
    port: u16,
    key: String,
    /// Holds the port, also while the service is started again: bound and not listening, with
    /// `SO_REUSEADDR` at both, it doesn't stand in the service's way, and nobody else gets it.
    _reservation: Socket,
}

impl Demonstration {
    fn new(args: &Args) -> Result<Demonstration, HerdError> {
        let folder = args.log_dir.join(TLS_FOLDER);
        // Made here, so that it is there when the servers look for it.
        certificates::keep(&folder).map_err(|error| HerdError::Places(error.to_string()))?;
        let reservation = reserve().map_err(HerdError::Setup)?;
        let address = reservation.local_addr().map_err(HerdError::Setup)?;
        let port = address.as_socket().map_or(0, |address| address.port());
        // Not a secret that anyone's money hangs on; but what has a key should be asked with it.
        let key = format!("{:016x}", RandomState::new().hash_one(port));
        Ok(Demonstration { folder, port, key, _reservation: reservation })
    }

    /// Waits until the service accepts connections, or is late enough to be waited for by the queries.
    fn await_listening(&self) {
        let begin = Instant::now();
        let address = (Ipv4Addr::LOCALHOST, self.port);
        while TcpStream::connect(address).is_err() && begin.elapsed() < SERVICE_WAIT {
            thread::sleep(SERVICE_PROBE);
        }
    }

    /// What the service is started with.
    fn service(&self, args: &Args) -> Vec<OsString> {
        let address = format!("{}:{}", Ipv4Addr::LOCALHOST, self.port);
        let level = args.log_level.to_string().to_lowercase();
        let level = if level == "warn" { "warning".to_owned() } else { level };
        let mut words: Vec<OsString> = vec!["--places-server".into(), address.into()];
        words.extend(["--tls-dir".into(), self.folder.clone().into()]);
        words.extend(["--log-dir".into(), args.log_dir.clone().into()]);
        words.extend(["--log-level".into(), level.into()]);
        words
    }

    /// What the servers are started with, to ask it.
    fn options(&self) -> Vec<OsString> {
        let path = Api::NearbySearch.path();
        let url = format!("https://localhost:{}{path}", self.port);
        let mut words: Vec<OsString> = vec!["--places".into(), "google".into()];
        words.extend(["--places-url".into(), url.into()]);
        words.extend(["--places-ca".into(), self.folder.join(certificates::CA).into()]);
        words
    }
}

fn reserve() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket)
}

impl fmt::Display for HerdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HerdError::Setup(error) => write!(f, "can't look after the herd: {}", plain(error)),
            HerdError::Places(reason) => {
                write!(f, "can't be a Places service: {reason}; or choose --places offline")
            }
            HerdError::Start { name, error } => write!(f, "can't start {name}: {}", plain(error)),
            HerdError::Unusable { name, .. } => {
                write!(f, "{name} could not begin (see above), so the herd is not run")
            }
        }
    }
}

impl std::error::Error for HerdError {}

/// A server that fails so soon after its very first start would fail again: its port is in use,
/// or its log can't be written.
const FIRST_MOMENTS: Duration = Duration::from_secs(3);
/// Where the certificates of the service are kept, beside the logs.
const TLS_FOLDER: &str = "places-tls";
/// How long the herd waits for the service at its start, and how often it looks.
const SERVICE_WAIT: Duration = Duration::from_secs(2);
const SERVICE_PROBE: Duration = Duration::from_millis(5);
/// What a server may take beyond its grace time.
const STOP_MARGIN: Duration = Duration::from_secs(2);
