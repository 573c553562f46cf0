//! Numbers that only the loop knows: plain counters that one thread writes and any thread reads, without
//! locks. Each is correct by itself; two of them may show different moments.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::limits::COUNTED_LISTENERS;
use crate::application::{ListenerId, Origin};

/// Counters of one loop.
#[derive(Debug, Default)]
pub struct Metrics {
    turns: AtomicU64,
    open: AtomicU64,
    by_listener: [AtomicU64; COUNTED_LISTENERS],
}

impl Metrics {
    /// Turns since the start.
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// Connections of every kind that are not closed.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// The open connections of a listener. Listeners numbered 16 and above are not counted.
    pub fn open_at(&self, listener: ListenerId) -> u64 {
        self.by_listener.get(usize::from(listener.0)).map_or(0, |count| count.load(Relaxed))
    }

    pub(super) fn count_turn(&self) {
        add(&self.turns, 1);
    }

    pub(super) fn count_opened(&self, origin: Origin) {
        self.change(origin, 1);
    }

    pub(super) fn count_closed(&self, origin: Origin) {
        self.change(origin, u64::MAX); // One less.
    }

    fn change(&self, origin: Origin, by: u64) {
        add(&self.open, by);
        if let Origin::Accepted(ListenerId(listener)) = origin
            && let Some(count) = self.by_listener.get(usize::from(listener))
        {
            add(count, by);
        }
    }
}

/// There is one writer, so no other write falls between the load and the store: no locked instruction is
/// needed.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}
