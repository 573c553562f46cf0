//! Timers: an ordered set of deadlines, the nearest of which bounds the loop's wait.
//!
//! Most connections have none most of the time, so they are kept apart from them and cost an
//! idle connection nothing. Whether one is due is asked of the clock, after every wait, and never
//! concluded from the absence of events.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::connections::ConnectionId;
use crate::herd::NeighbourId;

/// What can be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// When to give up a line that was begun and is not finished.
    BegunLine(ConnectionId),
    /// When to take a line that was begun for a whole one, because nothing more came of it.
    LinePause(ConnectionId),
    /// When to give up a connection that takes none of its bytes.
    Stalled(ConnectionId),
    /// When to stop reading from a connection that we have closed on our side.
    Linger(ConnectionId),
    /// When a caller on the neighbours' port must have said who it is.
    Hello(ConnectionId),
    /// When a neighbour's name must have been looked up, or the link to one of its addresses be of use.
    Dial(NeighbourId),
    /// When to try to accept again after the kernel refused.
    Accept,
    /// When to leave, whoever is still being answered.
    Grace,
    /// When to say how many warnings were suppressed.
    Suppressed,
}

impl Timer {
    /// The connection whose timer it is, if it is one's.
    pub fn connection(self) -> Option<ConnectionId> {
        match self {
            Timer::BegunLine(id)
            | Timer::LinePause(id)
            | Timer::Stalled(id)
            | Timer::Linger(id)
            | Timer::Hello(id) => Some(id),
            Timer::Dial(_) | Timer::Accept | Timer::Grace | Timer::Suppressed => None,
        }
    }
}

/// Deadlines, one a timer at most. Times are those of [`crate::herd::Now::elapsed`].
#[derive(Debug, Default)]
pub struct Timers {
    by_time: BTreeSet<(Duration, Timer)>,
    times: HashMap<Timer, Duration>,
}

impl Timers {
    /// Sets a timer, or sets it anew.
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

    /// Takes a timer back.
    pub fn clear(&mut self, timer: Timer) {
        // The common case on the hot path: nobody has a timer.
        if self.times.is_empty() {
            return;
        }
        if let Some(at) = self.times.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Takes back all timers of a connection.
    pub fn clear_all(&mut self, id: ConnectionId) {
        for timer in
            [Timer::BegunLine, Timer::LinePause, Timer::Stalled, Timer::Linger, Timer::Hello]
        {
            self.clear(timer(id));
        }
    }

    /// The nearest deadline.
    pub fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out a timer that was due at `now`, and says since when.
    pub fn pop_due(&mut self, now: Duration) -> Option<(Duration, Timer)> {
        self.by_time.first().filter(|(at, _)| *at <= now)?;
        let (at, timer) = self.by_time.pop_first()?;
        self.times.remove(&timer);
        Some((at, timer))
    }
}
