//! Numbers that one thread counts and any thread reads, without locks. Each is correct by itself; two of them may show
//! different moments.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Class;

/// A number that only grows. There is one writer, so no other write falls between its load and its store: no locked
/// instruction is needed.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    #[inline]
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls. It has one writer, too.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub const fn new() -> Gauge {
        Gauge(AtomicU64::new(0))
    }

    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub fn add(&self, by: u64) {
        self.set(self.get().wrapping_add(by));
    }

    #[inline]
    pub fn subtract(&self, by: u64) {
        self.set(self.get().wrapping_sub(by));
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often a duration fell between two bounds. `bounds` ascend, in nanoseconds; what is above the last one is counted,
/// too.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    counts: [Counter; N],
    above: Counter,
    /// Nanoseconds.
    sum: Counter,
}

impl<const N: usize> Histogram<N> {
    pub const fn new(bounds: &'static [u64; N]) -> Histogram<N> {
        Histogram {
            bounds,
            counts: [const { Counter::new() }; N],
            above: Counter::new(),
            sum: Counter::new(),
        }
    }

    #[inline]
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = duration.as_nanos() as u64;
        let place = self.bounds.partition_point(|bound| *bound < nanoseconds);
        self.counts.get(place).unwrap_or(&self.above).add(1);
        self.sum.add(nanoseconds);
    }

    /// The upper bounds in nanoseconds, each with the number of observations in its bucket alone.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bounds.iter().zip(&self.counts).map(|(bound, count)| (*bound, count.get()))
    }

    /// Observations above the last bound.
    pub fn above(&self) -> u64 {
        self.above.get()
    }

    /// The sum of all observations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.get())
    }
}

/// Why a turn left work for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    Lines,
    Bytes,
    Accepts,
    Fill,
}

/// Connections of one class.
#[derive(Debug, Default)]
pub struct ClassMetrics {
    /// Open now.
    pub open: Gauge,
    /// Ever opened.
    pub opened: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// Not read now, because their output is full.
    pub full: Gauge,
}

/// The counters of one loop. The loop writes them, and any thread reads them.
#[derive(Debug)]
pub struct LoopMetrics {
    pub turns: Counter,
    /// Readiness events.
    pub events: Counter,
    /// From the end of the wait to the next wait.
    pub turn_duration: Histogram<14>,
    /// Time outside the wait, in nanoseconds.
    pub busy: Counter,
    /// When the present turn's wait ended, in nanoseconds as [`Now::elapsed`](crate::clock::Now::elapsed) counts; 0 while
    /// the loop waits.
    pub busy_since: Gauge,
    /// By [`Budget`].
    pub budgets: [Counter; 4],
    pub buffer_bytes: Gauge,
    /// Time in which the kernel lacked descriptors or memory for further connections, in nanoseconds.
    pub accept_paused: [Counter; 2],
    pub accept_paused_now: Gauge,
    /// Groups of addresses that the listeners keep in mind.
    pub address_groups: Gauge,
    /// By [`Class`].
    pub classes: [ClassMetrics; CLASSES],
}

impl LoopMetrics {
    pub fn class(&self, class: Class) -> &ClassMetrics {
        &self.classes[usize::from(class.0) % CLASSES]
    }
}

/// How many classes a loop counts.
pub const CLASSES: usize = 8;
