//! The deadlines of a server: when the next one is, and what is done then.

use std::time::Duration;

use super::records::HerdLog;
use super::{Server, UNCHECKED};
use crate::application::Due;

impl Server {
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let attempts = self.neighbours.iter().filter_map(|neighbour| neighbour.attempt_until).min();
        let next = [
            self.herd.poll_timeout(),
            self.places.poll_timeout(),
            self.unidentified.next_deadline(),
            self.new_ids.poll_timeout(),
            self.log.poll_timeout(),
            self.admin.as_ref().and_then(|admin| admin.poll_timeout()),
        ]
        .into_iter()
        .fold(attempts, earlier);
        // A server is asked in each turn, and most have none of these.
        let has_others = self.rare.has_deadlines
            || self.tls.expiries.poll_timeout().is_some()
            || self.draining.poll_timeout().is_some();
        if has_others { self.other_deadline(next) } else { next }
    }

    /// The same, with the deadlines that concern certificates, a drain, the service manager, the disk, the engine and
    /// answers that are held back.
    #[cold]
    fn other_deadline(&self, next: Option<Duration>) -> Option<Duration> {
        [
            self.durable.poll_timeout(),
            self.draining.poll_timeout().filter(|at| *at > self.now),
            self.tls.expiries.poll_timeout(),
            self.manager.as_ref().map(|manager| manager.poll_timeout()),
            self.engine_timeout(),
        ]
        .into_iter()
        .fold(next, earlier)
    }

    /// Performs the actions that are due by `due.now`, which may lie a little before the time at which the last line
    /// was handled: a deadline is judged only after all input that came before it was handled.
    pub(super) fn do_what_is_due(&mut self, due: &mut Due<'_>) {
        let now = due.now;
        if self.now < now.elapsed {
            self.now = now.elapsed; // Time limits of the next requests count from now.
        }
        self.judge_attempts(due);
        self.judge_unidentified(due);
        self.judge_admin(due);
        self.judge_engine(due);
        self.herd.handle_timeout(
            now,
            &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics),
        );
        self.links_checked = UNCHECKED; // A heartbeat may be due.
        self.note_links_down(now);
        self.places.handle_timeout(due);
        self.resume_new_ids(now.elapsed);
        self.check_own_name_is_free(now);
        self.tell_what_is_due(now.elapsed);
        self.check_expiries(now);
        self.judge_held_answers(now.elapsed);
        self.judge_disk(now.elapsed);
        self.log.handle_timeout(now.elapsed);
    }
}

/// The earlier one of two deadlines.
pub(super) fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}
