//! The log as an application on the event loop uses it: its records are submitted at the end of each turn.

use std::time::Duration;

use super::{Log, rate_limit};

/// An application's log, and the deadline by which suppressed warnings are counted in it. Times are since
/// the loop was made.
#[derive(Debug)]
pub struct TurnLog {
    /// None in tests that need no log.
    log: Option<Log>,
    suppressed_at: Option<Duration>,
}

impl TurnLog {
    pub fn new(log: Option<Log>) -> TurnLog {
        TurnLog { log, suppressed_at: None }
    }

    /// Opens the log's file again, after a rotation.
    pub fn reopen(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// When [`TurnLog::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.suppressed_at
    }

    /// Counts in the log the warnings that were suppressed, if that is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.suppressed_at.is_some_and(|at| at <= now) {
            self.suppressed_at = None;
            rate_limit::say_rest();
        }
    }

    /// Submits the turn's records to the log's writer. If warnings were suppressed and no further warning
    /// of their kind reports their number, the deadline does.
    pub fn submit(&mut self, now: Duration) {
        if self.suppressed_at.is_none()
            && let Some(time) = rate_limit::until_rest()
        {
            self.suppressed_at = Some(now + time);
        }
        if let Some(log) = &self.log {
            log.submit();
        }
    }
}
