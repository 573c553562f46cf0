//! How a loop ends: no newcomers, answers to what was received, and the application agrees.
//!
//! ```text
//!   stop: those that wait in the kernel are accepted, listeners closed, each connection that drains
//!         is read once more
//!         -> they are answered and closed
//!         -> the application has nothing left to wait for -> the loop is left
//!   ... or the grace time is over, or a second signal says that it is to end at once.
//! ```
//!
//! A connection that is owed no answer is closed without lingering: nothing that it could lose is on
//! its way, so a loop with idle connections stops as fast as one without.

use std::time::Duration;

use super::limits::SECOND_SIGNAL_AFTER;

/// Whether the loop stops, and how far it is with that.
#[derive(Debug, Default)]
pub struct Shutdown {
    /// When it began to stop, if it has.
    since: Option<Duration>,
    is_over: bool,
    grace_expired: bool,
    is_hurried: bool,
}

impl Shutdown {
    /// Begins to stop. Whether it had not begun before.
    pub fn begin(&mut self, now: Duration) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// A signal came. One that comes while the loop stops is impatience, unless it comes with the first
    /// one. (`timeout` and Ctrl-C on a group signal twice.)
    pub fn handle_signal(&mut self, now: Duration) {
        if self.since.is_some_and(|since| now >= since + SECOND_SIGNAL_AFTER) {
            self.is_hurried = true;
            self.is_over = true;
        }
    }

    /// Whether the loop stops and is not over.
    pub fn is_under_way(&self) -> bool {
        self.since.is_some() && !self.is_over
    }

    /// Nobody has anything left to wait for.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// Connections that are not answered by now will not be.
    pub fn expire(&mut self) {
        self.grace_expired = true;
        self.is_over = true;
    }

    /// Whether the loop is to be left.
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
