//! A drain: the loop goes on as before for a time, because load balancers learn late that it leaves; then it closes the
//! connections of its clients one after the other, so that they do not come back all at once elsewhere; then it stops.
//!
//! ```text
//!   begin              closes_at                        the last one is closed     may_stop
//!     |  Delay             |  Closing                       |  Settling                |
//!     |  as before         |  listeners are closed;         |  until the application   |  the ordinary stop
//!     |                    |  each 100 ms some are          |  has nothing to wait     |  (shutdown)
//!     |                    |  released, longest silent      |  for                     |
//!     |                    |  first                         |                          |
//!     +------ drain_delay -+----------- up to drain_duration, then the ordinary stop -+
//! ```
//!
//! Only listeners that drain ([`Listen::drains`](super::Listen::drains)) and their connections take part. All others
//! serve until the ordinary stop, so that an operator can watch, and updates still find their way.
//!
//! A connection that is released gets the answers that it is owed, those to input that is read until it is empty
//! included, and then a clean end: its side is shut down, and the loop lingers. An incomplete line is waited for.

use std::time::Duration;

use super::EventLoop;
use super::connections::Connections;
use super::limits::{DRAIN_STEP, LINGER, Limits};
use super::state::ConnectionState;
use super::timers::Timer;
use crate::application::{Application, ConnectionId, Control, ListenerId, Origin};

/// How far a drain has come, and how many connections it releases when.
#[derive(Debug)]
pub struct Drain {
    phase: DrainPhase,
    /// When the listeners are closed.
    closes_at: Duration,
    /// When it becomes an ordinary stop in any case.
    ends_at: Duration,
    /// The listeners that have drained: their connections are released.
    listeners: Vec<ListenerId>,
    /// When the latest step was; before the first one, when that phase began.
    last_step: Duration,
    /// The part of a connection that the steps so far were short of, or had too much.
    carried: f64,
    /// Every connection was released, in the last step at the latest.
    all_released: bool,
    /// It has got the time that the last ones need.
    is_prolonged: bool,
}

/// What a drain does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainPhase {
    /// It goes on as before.
    Delay,
    /// Connections are released.
    Closing,
    /// All are closed; the application may still wait for something.
    Settling,
}

impl Drain {
    /// A drain that begins now.
    pub fn new(now: Duration, limits: &Limits) -> Drain {
        let ends_at = now + limits.drain_duration;
        Drain {
            phase: DrainPhase::Delay,
            closes_at: ends_at.min(now + limits.drain_delay),
            ends_at,
            listeners: Vec::new(),
            last_step: Duration::ZERO,
            carried: 0.0,
            all_released: false,
            is_prolonged: false,
        }
    }

    pub fn phase(&self) -> DrainPhase {
        self.phase
    }

    pub fn closes_at(&self) -> Duration {
        self.closes_at
    }

    pub fn ends_at(&self) -> Duration {
        self.ends_at
    }

    /// The next phase: these listeners are closed now.
    pub fn close(&mut self, listeners: Vec<ListenerId>, now: Duration) {
        (self.phase, self.listeners, self.last_step) = (DrainPhase::Closing, listeners, now);
    }

    /// The next phase: all their connections are closed.
    pub fn settle(&mut self) {
        self.phase = DrainPhase::Settling;
    }

    /// Its time is over. If all connections are released, those of the last steps get the time to end as the others did.
    /// Returns until when, at the first call.
    pub fn prolong(&mut self) -> Option<Duration> {
        let prolongs = self.all_released && !std::mem::replace(&mut self.is_prolonged, true);
        prolongs.then_some(self.ends_at + LINGER)
    }

    /// How many connections to release in the step at `now`, if `left` were not released yet: the part of them that the
    /// time since the step before has of the time that is left, but at least one, so that a drain with few connections
    /// ends early. For a loop that was held up for long, this is not all that the steps in that time would have released:
    /// the rest is spread over the time that is left.
    pub fn share(&mut self, now: Duration, left: usize) -> usize {
        let passed = now.saturating_sub(self.last_step).min(MAX_STEP);
        self.last_step = now;
        // The last step comes before the end.
        let time = self.ends_at.saturating_sub(DRAIN_STEP).saturating_sub(now) + passed;
        let part = passed.as_secs_f64() / time.as_secs_f64().max(f64::MIN_POSITIVE);
        self.carried += (left as f64 * part).max(1.0);
        let share = (self.carried.round_ties_even() as usize).min(left);
        self.carried -= share as f64;
        self.all_released = share == left;
        share
    }
}

impl<A: Application> EventLoop<A> {
    /// Begins to drain. While the loop drains or stops, a call does nothing.
    pub(super) fn drain(&mut self) {
        let shared = &mut self.connections.shared;
        let now = shared.now;
        let Some(drain) = self.shutdown.begin_drain(now.elapsed, &shared.limits) else {
            return;
        };
        shared.timers.set(Timer::Drain, drain.closes_at());
        shared.timers.set(Timer::Shutdown, drain.ends_at());
        shared.has_commands = true;
        // Loops that have already ended are ignored.
        self.stop_with.iter().for_each(|other| drop(other.drain()));
        self.app.handle_control(Control::Drain, now);
    }

    /// [`Timer::Drain`] is due.
    pub(super) fn step_drain(&mut self) {
        let Some(drain) = self.shutdown.drain() else {
            return;
        };
        let shared = &mut self.connections.shared;
        let now = shared.now.elapsed;
        match drain.phase() {
            DrainPhase::Delay => drain.close(self.acceptor.drain(now), now),
            DrainPhase::Closing => self.connections.release(drain),
            DrainPhase::Settling => return,
        }
        self.connections.shared.timers.set(Timer::Drain, now + DRAIN_STEP);
    }

    /// The time of the drain is over: it becomes an ordinary stop.
    pub(super) fn end_drain(&mut self) {
        match self.shutdown.drain().and_then(Drain::prolong) {
            Some(until) => self.connections.shared.timers.set(Timer::Shutdown, until),
            None => self.stop(),
        }
    }

    /// Whether all are closed that take part; and then, whether the application is done, too.
    #[cold]
    pub(super) fn check_drain(&mut self) {
        let Some(drain) = self.shutdown.drain() else {
            return;
        };
        let shared = &mut self.connections.shared;
        if drain.phase() == DrainPhase::Closing {
            let open: usize = drain.listeners.iter().map(|one| shared.counts.at(*one)).sum();
            if open > 0 || !shared.closed.is_empty() || self.acceptor.drains() {
                return;
            }
            drain.settle();
        }
        if drain.phase() == DrainPhase::Settling && self.app.may_stop() {
            self.stop();
        }
    }
}

impl<S> Connections<S> {
    /// One step of a drain. It looks at all connections, as an eviction does; so nothing has to be kept up to date
    /// while there is no drain, and those that come and go meanwhile count as they must.
    fn release(&mut self, drain: &mut Drain) {
        let is_meant = |origin| match origin {
            Origin::Accepted(listener) => drain.listeners.contains(&listener),
            Origin::Dialled(_) | Origin::Loop(_) => false,
        };
        let all = self.slots.iter().map(|(id, slot)| (id, &slot.connection));
        let left = all.filter(|(_, one)| {
            !one.is_leaving && one.state <= ConnectionState::Open && is_meant(one.origin())
        });
        let mut left: Vec<(Duration, ConnectionId)> =
            left.map(|(id, one)| (one.last_read(), id)).collect();
        let share = drain.share(self.shared.now.elapsed, left.len());
        if share < left.len() {
            left.select_nth_unstable(share);
        }
        for (_, id) in &left[..share] {
            if let Some(slot) = self.slots.get_mut(*id) {
                self.shared.release(&mut slot.connection);
            }
        }
    }
}

/// The longest time that one step makes up for: a busy loop is some milliseconds late in each step, and must not be left
/// with a crowd at the end; but one that was held up for seconds must not release a crowd, either.
const MAX_STEP: Duration = DRAIN_STEP.saturating_mul(3);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A drain of 20 s after 10 s, at its closing.
    fn closing() -> Drain {
        let limits =
            Limits { drain_delay: at(10_000), drain_duration: at(30_000), ..Limits::default() };
        let mut drain = Drain::new(at(5_000), &limits);
        assert_eq!((drain.closes_at(), drain.ends_at()), (at(15_000), at(35_000)));
        drain.close(vec![ListenerId(0)], at(15_000));
        drain
    }

    /// How many are released in each second, of `count`, if a step comes each so many milliseconds.
    fn by_second(count: usize, step: u64) -> Vec<usize> {
        let (mut drain, mut left, mut seconds) = (closing(), count, Vec::new());
        for now in (0..20_300).step_by(step as usize).skip(1) {
            let share = drain.share(at(15_000 + now), left);
            left -= share;
            seconds.resize((now / 1_000).min(19) as usize + 1, 0);
            *seconds.last_mut().expect("it was resized") += share;
            if left == 0 {
                return seconds;
            }
        }
        panic!("{left} of {count} are left: {seconds:?}");
    }

    #[test]
    fn connections_are_released_evenly_whatever_their_number_and_however_late_the_steps() {
        for (count, step) in [200, 201, 250, 399, 777, 10_000, 99_999]
            .into_iter()
            .flat_map(|count| [100, 103, 130, 299].map(|step| (count, step)))
        {
            let seconds = by_second(count, step);
            let (even, of_step) = (count as f64 / 19.9, count as f64 * step as f64 / 19_900.0);
            let (first, last) = (seconds[0] as f64, seconds[seconds.len() - 1] as f64);
            assert_eq!(seconds.len(), 20, "{count}, {step}: {seconds:?}");
            for of_second in &seconds[1..19] {
                let off = (*of_second as f64 - even).abs();
                assert!(off <= of_step + 1.5, "{count}, {step}: {seconds:?}");
            }
            // The first step comes when a tenth of a second has passed; the last one releases all that are left.
            assert!((first - even).abs() <= 2.0 * of_step + 1.5, "{count}, {step}: {seconds:?}");
            assert!((last - even).abs() <= 2.0 * of_step + 1.5, "{count}, {step}: {seconds:?}");
        }
    }

    #[test]
    fn few_connections_are_released_early_one_in_each_step() {
        assert_eq!(by_second(1, 100), [1]);
        assert_eq!(by_second(25, 100), [9, 10, 6]);
        assert_eq!(closing().share(at(15_100), 0), 0);
    }

    /// A loop that was held up for five seconds does not make up for them at once.
    #[test]
    fn a_late_step_spreads_what_is_left_over_the_rest_of_the_time() {
        let mut drain = closing();
        assert_eq!(
            drain.share(at(20_100), 1_510),
            30,
            "as many as in 0.3 s of the 15.1 that are left"
        );
        assert_eq!(drain.share(at(34_900), 70), 70, "the last step releases all");
        assert_eq!(drain.share(at(99_000), 7), 7, "and so does one after it");
    }

    #[test]
    fn a_delay_is_never_longer_than_the_whole() {
        let limits =
            Limits { drain_delay: at(9_000), drain_duration: at(1_000), ..Limits::default() };
        assert_eq!(Drain::new(at(5), &limits).closes_at(), at(1_005));
    }
}
