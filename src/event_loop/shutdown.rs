//! How a loop stops, perhaps after a drain ([`drain`](super::drain)): it accepts no new connections, answers what was
//! received, and ends once the application agrees.
//!
//! ```text
//! stop: connections in the backlog are accepted, listeners closed, each connection that drains
//!         is read once more
//!         -> they are answered and closed
//! -> the application has nothing left to wait for -> the loop ends
//! ... or the grace time is over, or a second signal ends it at once.
//! ```
//!
//! A connection that is owed no answer is closed without lingering: no data is in transit that it could lose,
//! so a loop with idle connections stops as fast as one without.

use std::time::Duration;

use super::drain::Drain;
use super::limits::{Limits, SECOND_SIGNAL_AFTER};

/// Whether the loop is draining or stopping, and how far it has come.
#[derive(Debug, Default)]
pub struct Shutdown {
    /// When the end began, with a drain or with a stop.
    began: Option<Duration>,
    /// From the beginning of a drain until it has become a stop.
    drain: Option<Drain>,
    /// When it began to stop, if it did.
    since: Option<Duration>,
    /// The signal that counts as the first one.
    first_signal: Option<Duration>,
    is_over: bool,
    grace_expired: bool,
    is_hurried: bool,
}

impl Shutdown {
    /// Begins to drain, unless the loop drains or stops already.
    pub fn begin_drain(&mut self, now: Duration, limits: &Limits) -> Option<&Drain> {
        if self.since.is_some() || self.drain.is_some() {
            return None;
        }
        self.began = Some(now);
        self.drain = Some(Drain::new(now, limits));
        self.drain.as_ref()
    }

    /// The drain that is under way.
    pub fn drain(&mut self) -> Option<&mut Drain> {
        self.drain.as_mut()
    }

    /// Whether the loop drains, and does not stop yet.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Begins to stop; a drain is over then. Returns whether this is the first call.
    pub fn begin(&mut self, now: Duration) -> bool {
        if self.since.is_some() {
            return false;
        }
        self.since = Some(now);
        self.began.get_or_insert(now);
        if self.drain.take().is_none() {
            self.first_signal.get_or_insert(now);
        }
        true
    }

    /// Handles a signal to stop. A second one while the loop stops ends it at once, unless it arrives together with
    /// the first one. (`timeout` and Ctrl-C on a group signal twice.) Where no signal has begun the stop, its beginning
    /// counts as the first one; but not if it was a drain before, because service managers send theirs behind it.
    pub fn handle_signal(&mut self, now: Duration) {
        let first = *self.first_signal.get_or_insert(now);
        if self.since.is_some() && now >= first + SECOND_SIGNAL_AFTER {
            self.is_hurried = true;
            self.is_over = true;
        }
    }

    /// Whether the loop is stopping and has not ended.
    pub fn is_under_way(&self) -> bool {
        self.since.is_some() && !self.is_over
    }

    /// Nothing is left to wait for: the loop ends.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// The grace time is over: connections that are not answered yet will not be.
    pub fn expire(&mut self) {
        self.grace_expired = true;
        self.is_over = true;
    }

    /// Whether the loop must end.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn has_grace_expired(&self) -> bool {
        self.grace_expired
    }

    /// How long the end has taken, at this time.
    pub fn took(&self, now: Duration) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began))
    }

    pub fn is_hurried(&self) -> bool {
        self.is_hurried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `timeout` and Ctrl-C signal a process and then its group.
    #[test]
    fn a_second_signal_is_impatience_only_after_a_second() {
        let began = Duration::from_secs(60);
        let mut shutdown = Shutdown::default();
        for (after, ends) in [(0, false), (0, false), (999, false), (1_000, true)] {
            let now = began + Duration::from_millis(after);
            shutdown.handle_signal(now);
            shutdown.begin(now);
            assert_eq!(shutdown.is_over(), ends, "after {after} ms");
        }
        assert!(shutdown.is_hurried() && !shutdown.has_grace_expired());
    }

    /// Service managers and Kubernetes send SIGTERM behind a drain, whenever it ends.
    #[test]
    fn the_first_signal_after_a_drain_that_became_a_stop_is_no_second_one() {
        let second = Duration::from_secs;
        let mut shutdown = Shutdown::default();
        assert!(shutdown.begin_drain(second(1), &Limits::default()).is_some());
        assert!(shutdown.begin_drain(second(2), &Limits::default()).is_none(), "it drains");
        assert!(shutdown.is_draining() && !shutdown.is_under_way());
        assert!(shutdown.begin(second(31)));
        assert!(!shutdown.is_draining() && shutdown.is_under_way());
        assert!(shutdown.begin_drain(second(32), &Limits::default()).is_none(), "it stops");
        for (after, ends) in [(33, false), (33, false), (34, true)] {
            shutdown.handle_signal(second(after));
            assert_eq!(shutdown.is_over(), ends, "after {after} s");
        }
    }

    #[test]
    fn a_signal_that_ends_a_drain_is_the_first_one_of_the_stop() {
        let second = Duration::from_secs;
        let mut shutdown = Shutdown::default();
        assert!(shutdown.begin_drain(second(1), &Limits::default()).is_some());
        shutdown.handle_signal(second(5));
        assert!(shutdown.begin(second(5)) && !shutdown.is_over());
        shutdown.handle_signal(second(6));
        assert!(shutdown.is_over() && shutdown.is_hurried());
    }

    #[test]
    fn to_stop_begins_once() {
        let mut shutdown = Shutdown::default();
        assert!(!shutdown.is_under_way());
        assert!(shutdown.begin(Duration::from_secs(1)));
        assert!(!shutdown.begin(Duration::from_secs(2)));
        assert!(shutdown.is_under_way());
        shutdown.end();
        assert!(!shutdown.is_under_way() && shutdown.is_over());
    }
}
