//! Numbers that one thread counts and any thread reads, without locks. Each is correct by itself; two of them may show
//! different moments.

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

use super::turns::{Turn, TurnRing};
use super::{Class, ListenerId};
use crate::clock::nanoseconds;

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
        self.observe_many(duration, 1);
    }

    /// Records `count` observations of one duration.
    #[inline]
    pub fn observe_many(&self, duration: Duration, count: u64) {
        if count > 0 {
            let nanoseconds = nanoseconds(duration);
            let place = self.bounds.partition_point(|bound| *bound < nanoseconds);
            self.counts.get(place).unwrap_or(&self.above).add(count);
            self.sum.add(nanoseconds.wrapping_mul(count));
        }
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
    /// A connection's share of the turn, or the time for all ready connections, was used up while lines or calls were
    /// left.
    Lines,
    /// A connection had more bytes than one turn reads from it.
    Bytes,
    /// A listener had more new connections than one turn accepts.
    Accepts,
    /// The time for [`fill`](super::Application::fill) was used up.
    Fill,
    /// More TLS handshakes had something to process than one turn processes.
    Handshakes,
}

/// What the kernel lacked when it refused further connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Descriptors, of the process or of the system, or something that is neither of both.
    Descriptors,
    Memory,
}

/// Connections of one class.
#[derive(Debug, Default)]
pub struct ClassMetrics {
    /// Open now.
    pub open: Gauge,
    /// Those of them that use TLS.
    pub tls: Gauge,
    /// Ever opened.
    pub opened: Counter,
    /// Those of them that use TLS.
    pub tls_opened: Counter,
    /// Received from the socket, TLS included.
    pub bytes_in: Counter,
    /// Taken by the socket, TLS included.
    pub bytes_out: Counter,
    /// Slow now: their output was full ([`Application::handle_full`](super::Application::handle_full)), and more than
    /// half of it is still not sent.
    pub full: Gauge,
}

/// The counters of one loop. The loop writes them, and any thread reads them.
///
/// What costs nothing beside a system call is always counted. What needs another look at the clock in each turn, or
/// memory for each connection, is counted only while somebody [observes](LoopMetrics::observe) the loop.
#[derive(Debug)]
pub struct LoopMetrics {
    pub turns: Counter,
    /// Readiness events.
    pub events: Counter,
    /// From the end of the wait to the next wait. Only while the loop is observed.
    pub turn_duration: Histogram<14>,
    /// The longest of them, in nanoseconds. Only while the loop is observed.
    pub longest_turn: Gauge,
    /// Time outside the wait, in nanoseconds. Only while the loop is observed.
    pub busy: Counter,
    /// When the present turn's wait ended, in nanoseconds as [`Now::elapsed`](crate::clock::Now::elapsed) counts; 0 while
    /// the loop waits.
    pub busy_since: Gauge,
    /// By [`Budget`].
    pub budgets: [Counter; 5],
    /// Memory that counts towards the limit, at the end of the last turn.
    pub buffer_bytes: Gauge,
    pub buffer_limit: Gauge,
    /// Time in which the kernel lacked descriptors or memory for further connections, in nanoseconds, by [`Lack`]. It is
    /// added up at each new attempt, ten times a second or more often.
    pub accept_paused: [Counter; 2],
    /// 1 while a listener waits for descriptors or memory.
    pub accept_paused_now: Gauge,
    /// Groups of addresses that have connections.
    pub address_groups: Gauge,
    /// Connections accepted by a listener with TLS that are not open yet: no byte has come that tells whether they use
    /// TLS, or their handshake waits or is in progress. By listener; read it with [`LoopMetrics::handshaking`].
    pub handshaking: [Gauge; LISTENERS],
    /// Those of them whose handshake waits, because too many are in progress or their group of addresses has begun too
    /// many.
    pub waiting_handshakes: Gauge,
    /// How many handshakes have ever had to wait for that.
    pub rate_limited_handshakes: Counter,
    /// By [`Class`].
    pub classes: [ClassMetrics; CLASSES],
    start: Instant,
    is_observed: AtomicBool,
    /// Allocated when the loop is first observed.
    recent: OnceLock<TurnRing>,
}

impl LoopMetrics {
    /// Those of a loop that was made at `start`.
    pub fn new(start: Instant) -> LoopMetrics {
        LoopMetrics {
            turns: Counter::new(),
            events: Counter::new(),
            turn_duration: Histogram::new(&TURN_BOUNDS),
            longest_turn: Gauge::new(),
            busy: Counter::new(),
            busy_since: Gauge::new(),
            budgets: [const { Counter::new() }; 5],
            buffer_bytes: Gauge::new(),
            buffer_limit: Gauge::new(),
            accept_paused: [const { Counter::new() }; 2],
            accept_paused_now: Gauge::new(),
            address_groups: Gauge::new(),
            handshaking: Default::default(),
            waiting_handshakes: Gauge::new(),
            rate_limited_handshakes: Counter::new(),
            classes: Default::default(),
            start,
            is_observed: AtomicBool::new(false),
            recent: OnceLock::new(),
        }
    }

    pub fn class(&self, class: Class) -> &ClassMetrics {
        &self.classes[usize::from(class.0) % CLASSES]
    }

    /// The connections of a listener that are not open yet. Listeners with numbers from [`LISTENERS`] on share the last
    /// gauge.
    pub fn handshaking(&self, ListenerId(listener): ListenerId) -> &Gauge {
        &self.handshaking[usize::from(listener).min(LISTENERS - 1)]
    }

    /// The open connections of all classes.
    pub fn open(&self) -> u64 {
        self.classes.iter().map(|class| class.open.get()).sum()
    }

    pub fn budget(&self, budget: Budget) -> &Counter {
        &self.budgets[budget as usize]
    }

    /// Begins or ends to time the turns, to keep the latest ones, and to count what each connection does. The loop
    /// follows in its next turn. The first call with true allocates 256 KiB; nothing is ever freed.
    ///
    /// Any thread may call this. What was counted stays; connections that were open before have no
    /// [`Activity`](super::Activity).
    pub fn observe(&self, is_observed: bool) {
        if is_observed {
            self.recent.get_or_init(TurnRing::default);
        }
        self.is_observed.store(is_observed, Release);
    }

    /// Whether somebody observes the loop.
    #[inline]
    pub fn is_observed(&self) -> bool {
        self.is_observed.load(Acquire)
    }

    /// Up to `most` of the latest turns that were observed, the oldest first. A turn that is written at this moment is
    /// left out.
    pub fn latest_turns(&self, most: usize) -> Vec<Turn> {
        self.recent.get().map_or_else(Vec::new, |recent| recent.latest(most))
    }

    /// Counts an observed turn. Only the loop itself calls this.
    pub fn record_turn(&self, turn: &Turn) {
        self.turn_duration.observe(turn.duration);
        if nanoseconds(turn.duration) > self.longest_turn.get() {
            self.longest_turn.set(nanoseconds(turn.duration));
        }
        self.busy.add(nanoseconds(turn.duration));
        if let Some(recent) = self.recent.get() {
            recent.push(turn);
        }
    }

    /// For how long the present turn has lasted; `None` while the loop waits. `now` is
    /// [`Now::elapsed`](crate::clock::Now::elapsed) of the loop whose metrics are `reader`: each loop counts from its own
    /// start. So one loop notices that another one is stuck.
    pub fn busy_for(&self, reader: &LoopMetrics, now: Duration) -> Option<Duration> {
        let since = match self.busy_since.get() {
            0 => return None,
            since => Duration::from_nanos(since),
        };
        let now = (now + reader.start.saturating_duration_since(self.start))
            .saturating_sub(self.start.saturating_duration_since(reader.start));
        Some(now.saturating_sub(since))
    }
}

/// How many classes a loop counts.
pub const CLASSES: usize = 8;
/// How many listeners a loop counts connections in their handshake for.
pub const LISTENERS: usize = 8;

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000 * MICRO;
/// The upper bounds of the buckets of [`LoopMetrics::turn_duration`], in nanoseconds.
const TURN_BOUNDS: [u64; 14] = [
    10 * MICRO,
    20 * MICRO,
    50 * MICRO,
    100 * MICRO,
    200 * MICRO,
    500 * MICRO,
    MILLI,
    2 * MILLI,
    5 * MILLI,
    10 * MILLI,
    20 * MILLI,
    50 * MILLI,
    100 * MILLI,
    1_000 * MILLI,
];

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&TURN_BOUNDS);
        for duration in [0, 10 * MICRO, 10 * MICRO + 1, 1_000 * MILLI, 1_000 * MILLI + 1] {
            histogram.observe(Duration::from_nanos(duration));
        }
        let counts: Vec<u64> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            (histogram.above(), histogram.sum()),
            (1, MS(2_000) + Duration::from_nanos(20_002))
        );
    }

    #[test]
    fn a_loop_sees_by_its_own_time_how_long_another_one_is_busy() {
        let start = Instant::now();
        let (reader, later) = (LoopMetrics::new(start), LoopMetrics::new(start + MS(500)));
        assert_eq!(later.busy_for(&reader, MS(900)), None, "it waits");
        later.busy_since.set(nanoseconds(MS(100)));
        assert_eq!(later.busy_for(&reader, MS(900)), Some(MS(300)));
        reader.busy_since.set(nanoseconds(MS(700)));
        assert_eq!(reader.busy_for(&later, MS(400)), Some(MS(200)));
        assert_eq!(reader.busy_for(&later, MS(100)), Some(MS(0)), "its time is a little older");
    }
}
