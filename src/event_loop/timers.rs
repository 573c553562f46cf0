//! Timers: an ordered set of deadlines, the nearest of which bounds the loop's wait.
//!
//! Most connections have none most of the time, so they are stored apart from the connections and cost an
//! idle one nothing. After every wait the clock decides which are due, never the absence of events.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::application::{ConnectionId, Ticket};

/// What can be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// When to close a connection with an incomplete message.
    Input(ConnectionId),
    /// When to treat an incomplete line as a whole one, because nothing more of it arrived.
    LinePause(ConnectionId),
    /// When to close a connection whose peer accepts none of the bytes sent to it.
    Write(ConnectionId),
    /// When to stop reading from a connection that we have closed on our side.
    Linger(ConnectionId),
    /// When to end an attempt to connect, or a TLS handshake.
    Opening(ConnectionId),
    /// When a dial stops waiting for its look-up: it fails or uses cached addresses.
    Lookup(Ticket),
    /// When to try to accept again after the kernel refused.
    Accept,
    /// When a TLS handshake that waits may begin.
    Handshakes,
    /// When to verify more of the open connections after a change of TLS.
    Verification,
    /// When a drain does its next step.
    Drain,
    /// When a drain becomes a stop; or when to end a stop, even if answers are still being sent.
    Shutdown,
}

impl Timer {
    /// The connection to which the timer belongs, if it belongs to one.
    pub fn connection(self) -> Option<ConnectionId> {
        match self {
            Timer::Input(id)
            | Timer::LinePause(id)
            | Timer::Write(id)
            | Timer::Linger(id)
            | Timer::Opening(id) => Some(id),
            Timer::Lookup(_)
            | Timer::Accept
            | Timer::Handshakes
            | Timer::Verification
            | Timer::Drain
            | Timer::Shutdown => None,
        }
    }
}

/// Deadlines, at most one per timer. Times are those of [`crate::clock::Now::elapsed`].
#[derive(Debug, Default)]
pub struct Timers {
    by_time: BTreeSet<(Duration, Timer)>,
    times: HashMap<Timer, Duration>,
}

impl Timers {
    /// Sets a timer, or moves it if it is set.
    pub fn set(&mut self, timer: Timer, at: Duration) {
        self.clear(timer);
        self.times.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    /// Sets a timer unless it is set.
    pub fn set_once(&mut self, timer: Timer, at: Duration) {
        if !self.times.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Cancels a timer.
    #[inline]
    pub fn clear(&mut self, timer: Timer) {
        // The common case on the hot path: no timer is set.
        if !self.times.is_empty() {
            self.remove(timer);
        }
    }

    fn remove(&mut self, timer: Timer) {
        if let Some(at) = self.times.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Cancels all timers of a connection.
    pub fn clear_all(&mut self, id: ConnectionId) {
        for timer in [Timer::Input, Timer::LinePause, Timer::Write, Timer::Linger, Timer::Opening] {
            self.clear(timer(id));
        }
    }

    /// The nearest deadline.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out a timer that is due at `now`, with the time for which it was set.
    pub fn pop_due(&mut self, now: Duration) -> Option<(Duration, Timer)> {
        self.by_time.first().filter(|(at, _)| *at <= now)?;
        let (at, timer) = self.by_time.pop_first()?;
        self.times.remove(&timer);
        Some((at, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId { slot: 1, generation: 1 };
    const OTHER: ConnectionId = ConnectionId { slot: 2, generation: 2 };
    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn the_nearest_deadline_comes_first_and_only_once_it_is_due() {
        let mut timers = Timers::default();
        timers.set(Timer::Write(ONE), SECOND(5));
        timers.set(Timer::Input(OTHER), SECOND(3));
        assert_eq!(timers.next(), Some(SECOND(3)));
        assert_eq!(timers.pop_due(SECOND(2)), None);
        assert_eq!(timers.pop_due(SECOND(3)), Some((SECOND(3), Timer::Input(OTHER))));
        assert_eq!(timers.pop_due(SECOND(3)), None);
        assert_eq!(timers.pop_due(SECOND(9)), Some((SECOND(5), Timer::Write(ONE))));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_timer_has_one_deadline_which_only_set_moves() {
        let mut timers = Timers::default();
        timers.set(Timer::Accept, SECOND(5));
        timers.set_once(Timer::Accept, SECOND(1));
        assert_eq!(timers.next(), Some(SECOND(5)));
        timers.set(Timer::Accept, SECOND(7));
        assert_eq!(timers.pop_due(SECOND(6)), None);
        timers.set_once(Timer::Shutdown, SECOND(1));
        timers.clear(Timer::Shutdown);
        timers.clear(Timer::Shutdown);
        assert_eq!(timers.next(), Some(SECOND(7)));
    }

    #[test]
    fn clear_all_cancels_the_timers_of_one_connection_only() {
        let mut timers = Timers::default();
        let of = [Timer::Input, Timer::LinePause, Timer::Write, Timer::Linger, Timer::Opening];
        for id in [ONE, OTHER] {
            of.iter().for_each(|timer| timers.set(timer(id), SECOND(1)));
        }
        timers.clear_all(ONE);
        let left: Vec<_> = std::iter::from_fn(|| timers.pop_due(SECOND(1))).collect();
        assert_eq!(left.len(), of.len());
        assert!(left.iter().all(|(_, timer)| timer.connection() == Some(OTHER)));
    }
}
