//! One server's process, or the pause before it is restarted.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::HerdError;
use super::program::Program;
use crate::errors::plain;
use crate::limits::{BACKOFF_INITIAL, BACKOFF_MAX, BACKOFF_RESET_AFTER};
use crate::logging::stderr::print_line;

/// One server's process, restarted when it dies.
pub(super) struct Process {
    pub(super) name: String,
    options: Vec<OsString>,
    state: ProcessState,
    backoff: Duration,
    starts: u32,
}

enum ProcessState {
    /// The process is not reaped yet, so the kernel cannot reuse its id.
    Running {
        pid: Pid,
        lifeline: Option<ChildStdin>,
        since: Instant,
    },
    Pausing {
        until: Instant,
    },
    /// It has ended; whether it is restarted is not decided yet.
    Ended,
}

impl Process {
    pub(super) fn new(name: &str, options: Vec<OsString>) -> Process {
        Process {
            name: name.to_owned(),
            options,
            state: ProcessState::Pausing { until: Instant::now() },
            backoff: BACKOFF_INITIAL,
            starts: 0,
        }
    }

    /// Its process, if there is one.
    pub(super) fn pid(&self) -> Option<Pid> {
        match self.state {
            ProcessState::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// When to start it, if it is not running.
    pub(super) fn starts_at(&self) -> Option<Instant> {
        match self.state {
            ProcessState::Pausing { until } => Some(until),
            _ => None,
        }
    }

    /// Starts its process.
    pub(super) fn start(&mut self, program: &Program) -> Result<(), HerdError> {
        let spawned = program
            .command()
            .args(&self.options)
            .stdin(Stdio::piped())
            // A group of its own: Ctrl-C in a terminal is for the supervisor alone.
            .process_group(0)
            .spawn();
        match spawned {
            Ok(mut process) => {
                let lifeline = process.stdin.take();
                if let Some(lifeline) = &lifeline {
                    // A server that does not read must not block the supervisor; this never fails
                    // for a pipe.
                    let _ = rustix::io::ioctl_fionbio(lifeline, true);
                }
                self.starts += 1;
                let pid = Pid::from_child(&process);
                self.state = ProcessState::Running { pid, lifeline, since: Instant::now() };
            }
            Err(error) if self.starts == 0 => {
                return Err(HerdError::Start { name: self.name.clone(), error });
            }
            Err(error) => {
                print_line(&format!(
                    "cannot restart {}: {}; next attempt in {} ms",
                    self.name,
                    plain(&error),
                    self.backoff.as_millis()
                ));
                self.pause();
            }
        }
        Ok(())
    }

    /// Makes it reopen its log.
    pub(super) fn reopen_log(&mut self) {
        if let ProcessState::Running { lifeline: Some(lifeline), .. } = &mut self.state {
            // The process may already be exiting; or the pipe is full of requests that it has not read.
            let _ = lifeline.write_all(b"\n");
        }
    }

    /// Makes it stop gracefully, without waiting for it.
    pub(super) fn stop(&mut self) {
        match &mut self.state {
            ProcessState::Running { lifeline, .. } => drop(lifeline.take()),
            state => *state = ProcessState::Ended,
        }
    }

    /// Kills it, without waiting for it.
    pub(super) fn kill(&mut self) {
        if let ProcessState::Running { pid, .. } = self.state {
            // It fails if the process has ended already.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Notes that its process was reaped, and returns how long it ran.
    pub(super) fn ended(&mut self) -> Duration {
        match std::mem::replace(&mut self.state, ProcessState::Ended) {
            ProcessState::Running { since, .. } => since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Its process has ended: schedules a restart, unless it failed at its first start.
    pub(super) fn start_again(
        &mut self,
        status: ExitStatus,
        lasted: Duration,
    ) -> Result<(), HerdError> {
        if let Some(code @ 1..=2) = status.code()
            && self.starts == 1
            && lasted < STARTUP_WINDOW
        {
            return Err(HerdError::StartFailed { name: self.name.clone(), status: code as u8 });
        }
        if lasted >= BACKOFF_RESET_AFTER {
            self.backoff = BACKOFF_INITIAL;
        }
        let (how, pause) = (how_it_ended(status), self.backoff.as_millis());
        print_line(&format!("{} {how}; restarting in {pause} ms", self.name));
        self.pause();
        Ok(())
    }

    fn pause(&mut self) {
        self.state = ProcessState::Pausing { until: Instant::now() + self.backoff };
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

/// How a process ended, as the predicate of a sentence.
pub(super) fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (Some(code), _) => format!("exited with status {code}"),
        _ => "exited".to_owned(),
    }
}

/// A server that exits so soon after its first start would fail again: its port is in use,
/// or its log cannot be written.
const STARTUP_WINDOW: Duration = Duration::from_secs(3);
