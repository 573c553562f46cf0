//! The service manager that has started the herd, such as systemd: the supervisor is its service, and the servers are
//! not. It is told when all servers listen, how many run, and that the supervisor and its servers turn.
//!
//! ```text
//!   server --standard output--> thread --> channel --> supervisor --datagram--> service manager
//!           R: it is ready
//!           A: its loops turn
//! ```
//!
//! A server that has died is the supervisor's to restart, so it keeps no ping back; one that runs and says nothing does.
//! Without a service manager no server reports anything.

use std::io::Read;
use std::process::ChildStdout;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::{Event, Supervisor};
use crate::limits::{DRAIN_EXTENSION, MIN_WATCHDOG, STATUS_INTERVAL};
use crate::logging::stderr::print_line;
use crate::node::{Notice, Notifier, REPORT_ALIVE, REPORT_READY, Watched};

/// What a server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It listens.
    Ready,
    /// Its loops turn.
    Alive,
}

/// How servers are told to report.
#[derive(Clone)]
pub(super) struct Reports {
    /// The time within which a server must report that it is alive; zero if it need not.
    pub(super) within: Duration,
    events: Sender<Event>,
}

/// The herd's service manager.
pub(super) struct Manager {
    notifier: Notifier,
    watchdog: Option<Duration>,
    phase: HerdPhase,
    next_status: Instant,
    next_ping: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HerdPhase {
    Starting,
    Serving,
    Reloading,
    Draining,
    Stopping,
}

impl Manager {
    /// None without a service manager.
    pub(super) fn from_environment() -> Option<Manager> {
        let warn = |text: &str| print_line(&format!("herd-mio: warning: {text}"));
        let Watched { notifier, watchdog } = Watched::from_environment(warn)?;
        let now = Instant::now();
        let (phase, next_ping) = (HerdPhase::Starting, watchdog.map(|_| now));
        Some(Manager { notifier, watchdog, phase, next_status: now + STATUS_INTERVAL, next_ping })
    }

    /// How its servers report. Each may be silent for half of the time that the supervisor has.
    pub(super) fn reports(&self, events: Sender<Event>) -> Reports {
        Reports { within: self.watchdog.map(within).unwrap_or_default(), events }
    }

    fn tell(&mut self, notices: &[Notice<'_>]) {
        self.notifier.tell(notices);
    }
}

/// How long a server may say nothing, where the supervisor has this time.
fn within(watchdog: Duration) -> Duration {
    (watchdog / 2).max(MIN_WATCHDOG)
}

impl Reports {
    /// Passes on what a server reports until it ends.
    pub(super) fn follow(&self, mut pipe: ChildStdout, pid: Pid) -> std::io::Result<()> {
        let events = self.events.clone();
        let follow = move || {
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                for byte in &bytes[..count] {
                    let report = match *byte {
                        REPORT_READY => Report::Ready,
                        REPORT_ALIVE => Report::Alive,
                        _ => continue,
                    };
                    if events.send(Event::Reported(pid, report)).is_err() {
                        return;
                    }
                }
            }
        };
        thread::Builder::new().name("reports".into()).spawn(follow).map(drop)
    }
}

impl Supervisor {
    /// When [`Supervisor::tell_what_is_due`] must be called at the latest.
    pub(super) fn manager_due_at(&self) -> Option<Instant> {
        let manager = self.manager.as_ref()?;
        manager.next_ping.into_iter().chain([manager.next_status]).min()
    }

    /// A server has reported something.
    pub(super) fn reported(&mut self, pid: Pid, report: Report) {
        let server = self.servers.iter_mut().find(|server| server.pid() == Some(pid));
        server.into_iter().for_each(|server| server.reported(report, Instant::now()));
        let starts = self.manager.as_ref().is_some_and(|it| it.phase == HerdPhase::Starting);
        if starts && report == Report::Ready && self.ready_servers() == self.config.servers.len() {
            self.enter(HerdPhase::Serving);
        }
    }

    /// Tells the service manager what is due by now.
    pub(super) fn tell_what_is_due(&mut self, now: Instant) {
        if self.manager_due_at().is_none_or(|due| due > now) {
            return;
        }
        let status = self.status();
        let is_alive = |within| self.servers.iter().all(|server| server.is_alive(within, now));
        let Some(manager) = &mut self.manager else { return };
        if manager.next_status <= now {
            manager.next_status = now + STATUS_INTERVAL;
            match manager.phase {
                HerdPhase::Draining => {
                    manager.tell(&[Notice::Status(&status), Notice::Extend(DRAIN_EXTENSION)]);
                }
                _ => manager.tell(&[Notice::Status(&status)]),
            }
        }
        if let (Some(watchdog), Some(next)) = (manager.watchdog, manager.next_ping)
            && next <= now
        {
            manager.next_ping = Some(now + watchdog / 2);
            if is_alive(within(watchdog)) {
                manager.tell(&[Notice::Alive]);
            }
        }
    }

    /// The configuration is being read, or no longer.
    pub(super) fn tell_whether_it_reloads(&mut self) {
        let phase = self.manager.as_ref().map(|manager| manager.phase);
        match (phase, self.reader.is_reading()) {
            (Some(HerdPhase::Serving), true) => self.enter(HerdPhase::Reloading),
            (Some(HerdPhase::Reloading), false) => self.enter(HerdPhase::Serving),
            _ => {}
        }
    }

    pub(super) fn tell_draining(&mut self) {
        self.enter(HerdPhase::Draining);
    }

    pub(super) fn tell_stopping(&mut self) {
        self.enter(HerdPhase::Stopping);
    }

    fn enter(&mut self, phase: HerdPhase) {
        let text = self.status();
        let Some(manager) = &mut self.manager else { return };
        manager.phase = phase;
        manager.next_status = Instant::now() + STATUS_INTERVAL;
        let status = Notice::Status(&text);
        match phase {
            HerdPhase::Starting => {}
            HerdPhase::Serving => manager.tell(&[Notice::Ready, status]),
            HerdPhase::Reloading => manager.tell(&[Notice::Reloading, status]),
            HerdPhase::Draining | HerdPhase::Stopping => {
                manager.tell(&[Notice::Stopping, status, Notice::Extend(DRAIN_EXTENSION)]);
            }
        }
    }

    /// "5 of 5 servers run".
    fn status(&self) -> String {
        format!("{} of {} servers run", self.ready_servers(), self.config.servers.len())
    }

    fn ready_servers(&self) -> usize {
        self.servers.iter().filter(|server| server.is_named() && server.is_ready()).count()
    }
}
