//! What the thread of the state directory counts. It alone writes; any thread reads, without waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::STATE_STUCK_AFTER;

/// Counters since the start, and the present state.
#[derive(Debug)]
pub struct StateMetrics {
    started: Instant,
    commits: AtomicU64,
    updates: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
    last_commit_nanos: AtomicU64,
    is_failing: AtomicBool,
    /// When the transaction under way began, in nanoseconds since `started` and one; 0 without one.
    begun: AtomicU64,
    /// Why the last transaction failed, and when the first of those failed that failed since one was committed.
    failure: Mutex<Option<(String, Instant)>>,
}

impl Default for StateMetrics {
    fn default() -> StateMetrics {
        StateMetrics {
            started: Instant::now(),
            commits: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_commit_nanos: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            failure: Mutex::default(),
        }
    }
}

impl StateMetrics {
    /// Transactions that were committed.
    pub fn commits(&self) -> u64 {
        self.commits.load(Relaxed)
    }

    /// Updates that were written in them.
    pub fn updates(&self) -> u64 {
        self.updates.load(Relaxed)
    }

    /// Transactions that failed, and attempts to open the database again after that.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Bytes of the disk that the database takes, as of the last commit.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How long the last commit took, its sync included.
    pub fn last_commit(&self) -> Duration {
        Duration::from_nanos(self.last_commit_nanos.load(Relaxed))
    }

    /// Whether the last transaction failed, or the disk does not answer: what has changed since then is in memory only.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Relaxed) || self.stuck().is_some()
    }

    /// Since when it is failing and why, in words, if it is.
    pub fn failing(&self) -> Option<(Duration, String)> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failure.as_ref().map(|(reason, since)| (since.elapsed(), reason.clone()));
        failed.or_else(|| Some((self.stuck()?, "the disk does not answer".to_owned())))
    }

    /// For how long the disk has not answered, if that is too long.
    pub fn stuck(&self) -> Option<Duration> {
        Some(self.unanswered()).filter(|time| *time >= STATE_STUCK_AFTER)
    }

    /// For how long a transaction has been under way.
    fn unanswered(&self) -> Duration {
        match self.begun.load(Relaxed) {
            0 => Duration::ZERO,
            begun => self.started.elapsed().saturating_sub(Duration::from_nanos(begun)),
        }
    }

    /// A transaction begins.
    pub(super) fn begins(&self) {
        self.begun.store(nanos(self.started.elapsed()).max(1), Relaxed);
    }

    pub(super) fn committed(&self, updates: u64, took: Duration) {
        self.commits.fetch_add(1, Relaxed);
        self.updates.fetch_add(updates, Relaxed);
        self.last_commit_nanos.store(nanos(took), Relaxed);
        self.begun.store(0, Relaxed);
        if self.is_failing.swap(false, Relaxed) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(super) fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Relaxed);
        self.begun.store(0, Relaxed);
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let since = failure.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        *failure = Some((reason.to_owned(), since));
        self.is_failing.store(true, Relaxed);
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_dated_from_the_first_one_and_over_with_the_next_commit() {
        let metrics = StateMetrics::default();
        assert_eq!((metrics.is_failing(), metrics.failing()), (false, None));
        metrics.begins();
        metrics.failed("full");
        let (first, _) = metrics.failing().expect("it fails");
        metrics.failed("broken");
        let (since, reason) = metrics.failing().expect("it fails");
        assert!(metrics.is_failing() && since >= first);
        assert_eq!((reason.as_str(), metrics.failures()), ("broken", 2));
        metrics.committed(1, Duration::ZERO);
        assert_eq!((metrics.is_failing(), metrics.failing()), (false, None));
    }

    #[test]
    fn a_transaction_that_is_not_answered_for_ten_seconds_is_a_failure() {
        let ago = |time| {
            let started = Instant::now().checked_sub(time).expect("a host runs for longer");
            let metrics = StateMetrics { started, ..StateMetrics::default() };
            metrics.begun.store(1, Relaxed);
            metrics
        };
        let just_begun = ago(STATE_STUCK_AFTER / 2);
        assert_eq!((just_begun.is_failing(), just_begun.failing()), (false, None));
        let stuck = ago(STATE_STUCK_AFTER);
        let (since, reason) = stuck.failing().expect("it is stuck");
        assert!(stuck.is_failing() && since >= STATE_STUCK_AFTER);
        assert_eq!(reason, "the disk does not answer");
        stuck.committed(1, STATE_STUCK_AFTER);
        assert!(!stuck.is_failing());
    }
}
