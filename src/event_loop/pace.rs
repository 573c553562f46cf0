//! The pace of the turn: how long a step may take, and which deadlines may be judged.
//!
//! Both are about fairness. All connections wait for a long step, so each step has an [`Allowance`] of time;
//! what it does not reach is done in the next turn, in the same order. And a deadline is judged only once
//! everything that arrived before it has been served ([`ServedUpTo`]), however late the loop looks: the
//! process may have been stopped, or have had too much to do.

use std::time::{Duration, Instant};

use super::limits::{
    EFFORT_PER_LOOK, EFFORT_PER_PASS, EVENTS_PER_TURN, LINE_BYTES_PER_EFFORT, LINES_PER_TURN,
    MIN_EFFORT, STEP_TIME,
};

/// The time that a step of the turn may take. The clock is read only after some work, so a turn with little
/// to do does not read it at all.
///
/// Work is counted in units of about half a microsecond: what a plain line costs.
#[derive(Debug)]
pub struct Allowance {
    start: Instant,
    /// When the step has to end, as [`crate::clock::Now::elapsed`] counts; set at the first look at the
    /// clock.
    until: Option<Duration>,
    effort: u32,
    is_used_up: bool,
}

impl Allowance {
    /// The allowance of a step that begins now, in a loop that began at `start`.
    pub fn new(start: Instant) -> Allowance {
        Allowance { start, until: None, effort: 0, is_used_up: false }
    }

    /// Begins the next step.
    pub fn begin_step(&mut self) {
        (self.until, self.effort, self.is_used_up) = (None, 0, false);
    }

    /// Counts work that was done. Returns whether there is time for more.
    pub fn spend(&mut self, effort: u32) -> bool {
        self.effort = self.effort.saturating_add(effort);
        if self.effort >= EFFORT_PER_LOOK {
            self.effort = 0;
            let now = self.start.elapsed();
            self.is_used_up |= now >= *self.until.get_or_insert(now + STEP_TIME);
        }
        !self.is_used_up
    }

    /// Whether there is time for more.
    pub fn is_left(&self) -> bool {
        !self.is_used_up
    }
}

/// The effort of copying, writing or decrypting `bytes` bytes.
pub fn effort_of(bytes: usize) -> u32 {
    u32::try_from(bytes / BYTES_PER_EFFORT).unwrap_or(MAX_EFFORT)
}

/// The effort of a line of this length, whatever its content.
pub fn effort_of_line(bytes: usize) -> u32 {
    (1 + bytes / LINE_BYTES_PER_EFFORT).min(MAX_EFFORT as usize) as u32
}

/// The effort that each of `ready` connections may use before the next one is served: the more there are, the
/// less, so that the last one does not wait long for all the others.
pub fn share(ready: usize) -> u32 {
    let each = EFFORT_PER_PASS / u32::try_from(ready.max(1)).unwrap_or(u32::MAX);
    each.clamp(MIN_EFFORT, LINES_PER_TURN)
}

/// The time up to which everything that arrived has been served. A deadline before it may be judged.
///
/// ```text
///   a poll begins at `from` -> a batch is noted, until one was not full -> what it made ready is served
///                                                                        -> caught up to `from`
/// ```
///
/// So a deadline is judged one poll late, after the bytes that may have met it. This needs no guess at how
/// late is too late, and it ends however much there is to do: the kernel reports each socket once before it
/// reports one again, and each connection that was ready gets its share once.
#[derive(Debug, Default)]
pub struct ServedUpTo {
    up_to: Duration,
    /// The poll whose events are being served began after this.
    from: Duration,
    /// Events noted since then.
    noted: usize,
    stage: PollStage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum PollStage {
    #[default]
    Done,
    /// Batches were full, so the kernel may have more events.
    Noting,
    /// Until this many connections have ever left the list of ready ones.
    Serving { last: u64 },
}

impl ServedUpTo {
    /// Everything that arrived before this has been served.
    pub fn up_to(&self) -> Duration {
        self.up_to
    }

    /// A poll that began after `begun` has returned `events`; there are `sockets` in all, and `queued`
    /// connections have ever been put on the list of ready ones.
    pub fn polled(&mut self, begun: Duration, events: usize, sockets: usize, queued: u64) {
        if self.stage == PollStage::Done {
            (self.from, self.noted, self.stage) = (begun, 0, PollStage::Noting);
        }
        if self.stage == PollStage::Noting {
            self.noted += events;
            if events < EVENTS_PER_TURN || self.noted >= sockets {
                self.stage = PollStage::Serving { last: queued };
            }
        }
    }

    /// This many connections have ever left the list.
    pub fn served(&mut self, served: u64) {
        if matches!(self.stage, PollStage::Serving { last } if last <= served) {
            (self.up_to, self.stage) = (self.from, PollStage::Done);
        }
    }
}

/// How many bytes are copied in half a microsecond if they are not in the cache.
const BYTES_PER_EFFORT: usize = 1_024;
/// More than any step has; a sum of a few of them must not overflow.
const MAX_EFFORT: u32 = u32::MAX / 8;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_deadline_is_judged_only_once_earlier_input_has_been_served() {
        let mut served_up_to = ServedUpTo::default();
        served_up_to.polled(SECOND(1), 3, 10, 3);
        served_up_to.served(2);
        assert_eq!(served_up_to.up_to(), SECOND(0), "one of three has not been served");
        served_up_to.polled(SECOND(2), 3, 10, 6);
        served_up_to.served(3);
        assert_eq!(served_up_to.up_to(), SECOND(1), "those of the first poll have been served");
        served_up_to.served(6);
        assert_eq!(served_up_to.up_to(), SECOND(1), "nothing has been polled since");
        served_up_to.polled(SECOND(3), 0, 10, 6);
        served_up_to.served(6);
        assert_eq!(served_up_to.up_to(), SECOND(3), "nothing came");
    }

    #[test]
    fn after_a_full_batch_there_may_be_more_but_not_more_than_there_are_sockets() {
        let mut served_up_to = ServedUpTo::default();
        for (poll, up_to) in [(1, 0), (2, 0), (3, 1)] {
            served_up_to.polled(SECOND(poll), EVENTS_PER_TURN, 3 * EVENTS_PER_TURN, poll);
            served_up_to.served(poll);
            assert_eq!(served_up_to.up_to(), SECOND(up_to), "after poll {poll}");
        }
        served_up_to.polled(SECOND(4), EVENTS_PER_TURN, 3 * EVENTS_PER_TURN, 4);
        served_up_to.polled(SECOND(5), 1, 3 * EVENTS_PER_TURN, 5);
        served_up_to.served(5);
        assert_eq!(served_up_to.up_to(), SECOND(4), "the second batch was not full");
    }

    #[test]
    fn many_ready_connections_have_small_shares() {
        assert_eq!(share(0), LINES_PER_TURN);
        assert_eq!(share(1), LINES_PER_TURN);
        assert!(share(1_000) < 100);
        assert_eq!(share(1_000_000), MIN_EFFORT);
    }

    #[test]
    fn little_work_does_not_look_at_the_clock_and_much_ends_the_step() {
        let start = Instant::now() - SECOND(60);
        let mut allowance = Allowance::new(start);
        assert!(allowance.spend(EFFORT_PER_LOOK - 1));
        assert_eq!(allowance.until, None);
        assert!(allowance.spend(1), "the step begins with the first look");
        allowance.until = Some(SECOND(1));
        assert!(!allowance.spend(EFFORT_PER_LOOK));
        assert!(!allowance.is_left());
    }
}
