//! One server's process, or the pause before it is restarted.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::HerdError;
use super::lifeline::{Frame, Lifeline};
use super::manager::Report;
use super::program::Program;
use crate::errors::plain;
use crate::limits::{BACKOFF_INITIAL, BACKOFF_MAX, BACKOFF_RESET_AFTER, STOP_WAIT};
use crate::logging::stderr::print_line;
use crate::node::{REPORTS, RESTARTED};

/// One server's process, restarted when it dies.
pub(super) struct Process {
    pub(super) name: String,
    options: Vec<OsString>,
    /// Where it listens.
    pub(super) ports: Vec<SocketAddr>,
    /// It reads the herd's configuration, unlike our own Places server.
    reads_config: bool,
    /// A reload has added it: it is restarted even if its first start fails, because the herd serves.
    is_added: bool,
    /// A reload has removed it: it is stopping, and is killed at this time.
    kill_at: Option<Instant>,
    state: ProcessState,
    backoff: Duration,
    starts: u32,
}

enum ProcessState {
    /// The process is not reaped yet, so the kernel cannot reuse its id.
    Running {
        pid: Pid,
        lifeline: Option<Lifeline>,
        since: Instant,
        /// When it has reported something last; None if it is not ready, or has nobody to report to.
        heard: Option<Instant>,
    },
    Pausing {
        until: Instant,
    },
    /// It has ended; whether it is restarted is not decided yet.
    Ended,
}

impl Process {
    /// A server of the herd, which listens at these ports.
    pub(super) fn server(name: &str, options: Vec<OsString>, ports: Vec<SocketAddr>) -> Process {
        Process { ports, reads_config: true, ..Process::new(name, options) }
    }

    /// A process that does not read the herd's configuration.
    pub(super) fn new(name: &str, options: Vec<OsString>) -> Process {
        Process {
            name: name.to_owned(),
            options,
            ports: Vec::new(),
            reads_config: false,
            is_added: false,
            kill_at: None,
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

    /// It has reported something.
    pub(super) fn reported(&mut self, report: Report, now: Instant) {
        if let ProcessState::Running { heard, .. } = &mut self.state
            && (report == Report::Ready || heard.is_some())
        {
            *heard = Some(now);
        }
    }

    /// Whether it has reported that it listens.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, ProcessState::Running { heard: Some(_), .. })
    }

    /// Whether nothing is wrong with it that a restart could mend: it has reported something within this time, or it is
    /// not ready yet, or does not run.
    pub(super) fn is_alive(&self, within: Duration, now: Instant) -> bool {
        match self.state {
            ProcessState::Running { heard: Some(heard), .. } => now < heard + within,
            _ => true,
        }
    }

    /// When to start it, if it is not running.
    pub(super) fn starts_at(&self) -> Option<Instant> {
        match self.state {
            ProcessState::Pausing { until } => Some(until),
            _ => None,
        }
    }

    /// Whether a configuration names it: it reads one, and no reload has removed it.
    pub(super) fn is_named(&self) -> bool {
        self.reads_config && self.kill_at.is_none()
    }

    /// A server that a reload has added.
    pub(super) fn added(self) -> Process {
        Process { is_added: true, ..self }
    }

    /// Whether a reload has removed it and it still runs.
    pub(super) fn is_stopping(&self) -> bool {
        self.kill_at.is_some() && self.pid().is_some()
    }

    /// Whether its start must wait for this other server, which is stopping and has its log or a port of it.
    pub(super) fn waits_for(&self, other: &Process) -> bool {
        let is_listening = |port: &SocketAddr| {
            port.port() != 0 && self.ports.iter().any(|own| own.port() == port.port())
        };
        other.is_stopping()
            && (other.name.eq_ignore_ascii_case(&self.name) || other.ports.iter().any(is_listening))
    }

    /// Starts its process.
    pub(super) fn start(&mut self, program: &Program) -> Result<(), HerdError> {
        let mut command = program.command();
        if self.starts > 0 || self.is_added {
            command.env(RESTARTED, "1");
        }
        // A group of its own: Ctrl-C in a terminal is for the supervisor alone.
        command.args(&self.options).stdin(Stdio::piped()).process_group(0);
        let reports = program.reports.as_ref().filter(|_| self.reads_config);
        if let Some(reports) = reports {
            command.env(REPORTS, reports.within.as_micros().to_string()).stdout(Stdio::piped());
        }
        let spawned = command.spawn();
        match spawned {
            Ok(mut process) => {
                let lifeline = process.stdin.take().map(Lifeline::new);
                self.starts += 1;
                let pid = Pid::from_child(&process);
                let now = Instant::now();
                self.state = ProcessState::Running { pid, lifeline, since: now, heard: None };
                if let (Some(reports), Some(pipe)) = (reports, process.stdout.take())
                    && let Err(error) = reports.follow(pipe, pid)
                {
                    // The service manager ends the herd if it misses them.
                    print_line(&format!(
                        "cannot hear the reports of {}: {}",
                        self.name,
                        plain(&error)
                    ));
                }
            }
            Err(error) if self.starts == 0 && !self.is_added => {
                return Err(HerdError::Start { name: self.name.clone(), error });
            }
            Err(error) => {
                print_line(&format!(
                    "cannot start {}: {}; next attempt in {} ms",
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
        if let Some(lifeline) = self.lifeline() {
            lifeline.reopen_log();
        }
    }

    /// Makes it drain, without waiting for it; one that is not running is not started again.
    pub(super) fn drain(&mut self) {
        match &mut self.state {
            ProcessState::Running { lifeline: Some(lifeline), .. } => lifeline.drain(),
            ProcessState::Running { .. } => {}
            state => *state = ProcessState::Ended,
        }
    }

    /// Whether it is a server of the herd, and not our own Places server.
    pub(super) fn reads_config(&self) -> bool {
        self.reads_config
    }

    /// Hands it a configuration, if it reads one.
    pub(super) fn reload(&mut self, frame: &Frame) {
        if self.reads_config
            && let Some(lifeline) = self.lifeline()
        {
            lifeline.reload(frame);
        }
    }

    /// When it has not read its lifeline and is to be tried again, or is killed.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let retry_at = match &self.state {
            ProcessState::Running { lifeline: Some(lifeline), .. } => lifeline.retry_at(),
            _ => None,
        };
        retry_at.into_iter().chain(self.kill_at.filter(|_| self.pid().is_some())).min()
    }

    /// Writes on to its lifeline, or kills it, if that is due.
    pub(super) fn act(&mut self, now: Instant) {
        if let Some(lifeline) = self.lifeline()
            && lifeline.retry_at().is_some_and(|due| due <= now)
        {
            lifeline.write();
        }
        if self.pid().is_some() && self.kill_at.is_some_and(|due| due <= now) {
            let seconds = STOP_WAIT.as_secs();
            print_line(&format!("{} is killed: it did not stop within {seconds} s", self.name));
            self.kill();
            self.kill_at = Some(now + STOP_WAIT); // Once more, if it is still there then.
        }
    }

    fn lifeline(&mut self) -> Option<&mut Lifeline> {
        match &mut self.state {
            ProcessState::Running { lifeline, .. } => lifeline.as_mut(),
            _ => None,
        }
    }

    /// Makes a server that a reload has removed stop; it is never started again.
    pub(super) fn remove(&mut self) {
        self.kill_at = Some(Instant::now() + STOP_WAIT);
        self.stop();
    }

    /// Whether a reload has removed it and it has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.kill_at.is_some() && self.pid().is_none()
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
        if self.kill_at.is_some() {
            if !status.success() {
                self.report_stop(status);
            }
            return Ok(());
        }
        if let Some(code @ 1..=2) = status.code()
            && self.starts == 1
            && !self.is_added
            && (code == CONFIGURATION || lasted < STARTUP_WINDOW)
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

    /// Says how it ended, although it was to stop.
    pub(super) fn report_stop(&self, status: ExitStatus) {
        print_line(&format!("{} {} while stopping.", self.name, how_it_ended(status)));
    }

    fn pause(&mut self) {
        self.state = ProcessState::Pausing { until: Instant::now() + self.backoff };
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

/// How a process ended, as the predicate of a sentence.
fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (Some(code), _) => format!("exited with status {code}"),
        _ => "exited".to_owned(),
    }
}

/// The exit status of a server whose configuration can't be used. It is never one of a server that has served for long.
const CONFIGURATION: i32 = 2;
/// A server that exits so soon after its first start would fail again: its port is in use,
/// or its log cannot be written.
const STARTUP_WINDOW: Duration = Duration::from_secs(3);
