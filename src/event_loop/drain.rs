//! A drain: the loop goes on as before for a time, because load balancers learn late that it leaves; then it closes the
//! connections of its clients one after the other, so that they do not come back all at once elsewhere; then it stops.
//!
//! ```text
//!   begin              closes_at                        the last one is closed     may_stop
//!     |  Delay             |  Closing                       |  Settling                |
//!     |  as before         |  listeners are closed;         |  until the application   |  the ordinary stop
//!     |                    |  each 100 ms some are          |  has nothing to wait     |  (shutdown)
//!     |                    |  released, longest silent      |  for, but not for        |
//!     |                    |  first                         |  long                    |
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
use super::limits::{DRAIN_STEP, Limits};
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
    /// The part of a connection that the steps so far were short of.
    carried: f64,
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
            carried: 0.0,
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

    /// The next phase: these listeners are closed.
    pub fn close(&mut self, listeners: Vec<ListenerId>) {
        (self.phase, self.listeners) = (DrainPhase::Closing, listeners);
    }

    /// The next phase: all their connections are closed.
    pub fn settle(&mut self) {
        self.phase = DrainPhase::Settling;
    }

    /// How many connections to release in the step at `now`, if `left` were not released yet: an equal part in each step
    /// that is left, but at least one, so that a drain with few connections ends early. A step that comes late is not
    /// made up for: the rest is spread over the steps that are left.
    pub fn share(&mut self, now: Duration, left: usize) -> usize {
        let time = self.ends_at.saturating_sub(now).as_secs_f64();
        let steps = (time / DRAIN_STEP.as_secs_f64()).round().max(1.0);
        self.carried += (left as f64 / steps).max(1.0);
        let share = (self.carried as usize).min(left);
        self.carried -= self.carried.trunc();
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
            DrainPhase::Delay => drain.close(self.acceptor.drain(now)),
            DrainPhase::Closing => self.connections.release(drain),
            // The application has waited for too long.
            DrainPhase::Settling => return self.stop_unsettled(),
        }
        self.connections.shared.timers.set(Timer::Drain, now + DRAIN_STEP);
    }

    /// The application was not done in time: the loop stops without waiting for it.
    fn stop_unsettled(&mut self) {
        self.stop();
        self.shutdown.ask_no_more();
    }

    /// Whether all are closed that take part; and then, whether the application is done, too.
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
            shared.timers.set(Timer::Drain, shared.now.elapsed + shared.limits.drain_settle);
        }
        if drain.phase() == DrainPhase::Settling && self.app.may_stop() {
            self.stop();
        }
    }
}

impl<S> Connections<S> {
    /// One step of a drain. It looks at all connections, which takes 20 ns for each; so nothing has to be kept up to date
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
        drain.close(vec![ListenerId(0)]);
        drain
    }

    /// How many are released in each second, of `count`.
    fn by_second(count: usize) -> Vec<usize> {
        let (mut drain, mut left, mut seconds) = (closing(), count, Vec::new());
        for step in 1..200 {
            let share = drain.share(at(15_000 + 100 * step), left);
            left -= share;
            if (step - 1) % 10 == 0 {
                seconds.push(0);
            }
            *seconds.last_mut().expect("it was pushed") += share;
            if left == 0 {
                return seconds;
            }
        }
        panic!("{left} of {count} are left: {seconds:?}");
    }

    #[test]
    fn connections_are_released_evenly_whatever_their_number() {
        for count in [200, 201, 250, 399, 777, 10_000, 99_999] {
            let seconds = by_second(count);
            let even = count as f64 / 19.9;
            let (last, whole) = seconds.split_last().expect("it takes some");
            assert_eq!(seconds.len(), 20, "{count}: {seconds:?}");
            for of_second in whole {
                assert!((*of_second as f64 - even).abs() <= 1.5, "{count}: {seconds:?}");
            }
            assert!((*last as f64) <= even + 1.5, "{count}: {seconds:?}");
        }
    }

    #[test]
    fn few_connections_are_released_early_one_in_each_step() {
        assert_eq!(by_second(1), [1]);
        assert_eq!(by_second(25), [10, 10, 5]);
        assert_eq!(closing().share(at(15_100), 0), 0);
    }

    /// A loop that was held up for five seconds does not make up for them at once.
    #[test]
    fn a_late_step_spreads_what_is_left_over_the_rest_of_the_time() {
        let mut drain = closing();
        assert_eq!(drain.share(at(20_100), 1_490), 10);
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
