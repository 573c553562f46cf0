//! The herd drains: each server is asked to, by its lifeline, and ends by itself. None is restarted, and none is killed
//! before it had the time that its configuration gives it.

use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGUSR1};

use super::{Event, StopBegan, Supervisor};
use crate::cli::supervisor::child::Process;
use crate::config::format_duration;
use crate::limits::STOP_WAIT;
use crate::logging::stderr::print_line;
use crate::node::process;

impl Supervisor {
    /// Waits until all servers have drained and ended; returns before that if they must be stopped: by SIGINT, or because
    /// they have taken too long. Our own Places server runs on, because clients may still ask for places.
    pub(super) fn drain(&mut self) -> StopBegan {
        let duration = self.config.stop.drain_duration;
        let until = Instant::now() + duration + STOP_WAIT;
        print_line(&format!("the herd drains, within {}", format_duration(duration)));
        let named = self.servers.iter_mut().filter(|server| server.is_named());
        named.for_each(Process::drain);
        loop {
            self.collect_stopped();
            let is_draining = |server: &Process| server.reads_config() && server.pid().is_some();
            let now = Instant::now();
            if now >= until || !self.servers.iter().any(is_draining) {
                return StopBegan::Drain;
            }
            self.servers.iter_mut().for_each(|server| server.act(now));
            self.tell_what_is_due(now);
            let due = self.servers.iter().filter_map(Process::due_at).chain(self.manager_due_at());
            let due = due.fold(until, Instant::min);
            match self.events.recv_timeout(due.saturating_duration_since(now)) {
                Ok(Event::Signal(SIGINT)) => return StopBegan::Signal,
                Ok(Event::Signal(SIGHUP)) if !process::has_lost_its_terminal() => {
                    self.reopen_logs();
                    print_line("configuration not reloaded: the herd is draining");
                }
                Ok(Event::Signal(SIGUSR1)) => self.reopen_logs(),
                Ok(Event::Reported(pid, report)) => self.reported(pid, report),
                // SIGTERM comes behind a drain.
                _ => {}
            }
        }
    }
}
