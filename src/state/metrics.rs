//! What the thread of the state directory counts. It alone writes; any thread reads, without waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters since the start, and the present state.
#[derive(Debug, Default)]
pub struct StateMetrics {
    commits: AtomicU64,
    updates: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
    last_commit_nanos: AtomicU64,
    is_failing: AtomicBool,
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

    /// Whether the last transaction failed: what has changed since then is in memory only.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Relaxed)
    }

    pub(super) fn committed(&self, updates: u64, took: Duration) {
        self.commits.fetch_add(1, Relaxed);
        self.updates.fetch_add(updates, Relaxed);
        self.last_commit_nanos.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.is_failing.store(false, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.is_failing.store(true, Relaxed);
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }
}
