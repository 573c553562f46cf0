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

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::Config;
use crate::event_loop::LEASH;
use crate::limits::{BACKOFF_FIRST, BACKOFF_LONGEST, BACKOFF_RESET_AFTER, GRACE};

/// Why the herd can't run.
#[derive(Debug)]
pub enum HerdError {
    /// Signals can't be received, or this program's own file not be found.
    Setup(io::Error),
    /// A server's process can't be started.
    Start { name: String, error: io::Error },
    /// A server ended by itself as soon as it was started; it has said why.
    Unusable { name: String, status: u8 },
}

/// The herd's processes.
struct Supervisor {
    program: std::path::PathBuf,
    options: Vec<OsString>,
    servers: Vec<Server>,
    signals: Receiver<i32>,
}

/// One server's process, or the pause before its next one.
struct Server {
    name: String,
    state: State,
    backoff: Duration,
    starts: u32,
}

enum State {
    Running { process: Child, leash: Option<ChildStdin>, since: Instant },
    Pausing { until: Instant },
}

/// Runs all servers until SIGTERM or SIGINT. `options` are passed on to each of them.
pub fn run(config: &Config, options: Vec<OsString>) -> Result<(), HerdError> {
    let program = std::env::current_exe().map_err(HerdError::Setup)?;
    let signals = signals().map_err(HerdError::Setup)?;
    let now = Instant::now();
    let server = |name: &&str| Server {
        name: (*name).to_owned(),
        state: State::Pausing { until: now },
        backoff: BACKOFF_FIRST,
        starts: 0,
    };
    let servers = config.names().iter().map(server).collect();
    let mut supervisor = Supervisor { program, options, servers, signals };
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
                server.start(&self.program, &self.options)?;
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
    fn start(&mut self, program: &std::path::Path, options: &[OsString]) -> Result<(), HerdError> {
        let spawned = Command::new(program)
            .arg("--server")
            .arg(&self.name)
            .args(options)
            .env(LEASH, "1")
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
                say(&format!("{} can't be started: {error}", self.name));
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

impl fmt::Display for HerdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HerdError::Setup(error) => write!(f, "can't look after the herd: {error}"),
            HerdError::Start { name, error } => write!(f, "can't start {name}: {error}"),
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
/// What a server may take beyond its grace time.
const STOP_MARGIN: Duration = Duration::from_secs(2);
