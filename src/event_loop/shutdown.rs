//! How a loop stops: it accepts no new connections, answers what was received, and ends once the application
//! agrees.
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

use super::limits::SECOND_SIGNAL_AFTER;

/// Whether the loop is stopping, and how far it has come.
#[derive(Debug, Default)]
pub struct Shutdown {
    /// When it began to stop, if it did.
    since: Option<Duration>,
    is_over: bool,
    grace_expired: bool,
    is_hurried: bool,
}

impl Shutdown {
    /// Begins to stop. Returns whether this is the first call.
    pub fn begin(&mut self, now: Duration) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// Handles a signal. A second one while the loop stops ends it at once, unless it arrives together with
    /// the first one. (`timeout` and Ctrl-C on a group signal twice.)
    pub fn handle_signal(&mut self, now: Duration) {
        if self.since.is_some_and(|since| now >= since + SECOND_SIGNAL_AFTER) {
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
