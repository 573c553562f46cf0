//! How much of its loop's time the admin listener takes: clients are served by the same loop, so whoever asks for costly
//! answers again and again must not take their time. Answers take a tenth of it at most; what exceeds that waits, in
//! the order in which it came.

use std::collections::VecDeque;
use std::time::Duration;

use crate::application::ConnectionId;
use crate::limits::{
    ADMIN_ANSWER_TIME, ADMIN_BURST, ADMIN_BYTE_TIME, ADMIN_CONNECTION_TIME, ADMIN_ROW_TIME,
    ADMIN_SHARE,
};

/// The time that answers take, as it is estimated, and the sessions that wait because others have taken too much.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Until then the listener's share is spent.
    spent_until: Duration,
    waiting: VecDeque<ConnectionId>,
}

impl Pace {
    /// Whether a request must wait. If so, its session is told by [`Pace::next`] when it may go on.
    pub(super) fn delays(&mut self, id: ConnectionId, now: Duration) -> bool {
        let must_wait = !self.waiting.is_empty() || !self.has_time(now);
        if must_wait {
            self.waiting.push_back(id);
        }
        must_wait
    }

    /// An answer takes this long.
    pub(super) fn spend(&mut self, time: Duration, now: Duration) {
        self.spent_until = self.spent_until.max(now) + time * ADMIN_SHARE;
    }

    /// When the first session that waits may go on.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let next = self.spent_until.saturating_sub(ADMIN_BURST);
        (!self.waiting.is_empty()).then_some(next)
    }

    /// The session that may go on now.
    pub(super) fn next(&mut self, now: Duration) -> Option<ConnectionId> {
        if self.has_time(now) { self.waiting.pop_front() } else { None }
    }

    /// A session is closed.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        self.waiting.retain(|waiting| *waiting != id);
    }

    fn has_time(&self, now: Duration) -> bool {
        self.spent_until.saturating_sub(ADMIN_BURST) <= now
    }
}

/// How long an answer with such a body takes.
pub(super) fn of_body(bytes: usize) -> Duration {
    ADMIN_ANSWER_TIME + ADMIN_BYTE_TIME * u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// How long a page of connections takes, of a loop that has so many.
pub(super) fn of_page(rows: usize, connections: u64) -> Duration {
    let times = |time: Duration, count: u64| time * u32::try_from(count).unwrap_or(u32::MAX);
    let rows = (rows as u64).min(connections);
    ADMIN_ANSWER_TIME + times(ADMIN_ROW_TIME, rows) + times(ADMIN_CONNECTION_TIME, connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 1 }
    }

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn costly_answers_take_a_tenth_of_the_time_and_wait_in_their_order() {
        let (mut pace, cost) = (Pace::default(), at(5));
        let start = at(1_000_000);
        for _ in 0..2 {
            assert!(!pace.delays(id(0), start), "a burst goes at once");
            pace.spend(cost, start);
        }
        for slot in 1..=3 {
            assert!(pace.delays(id(slot), start));
        }
        pace.leave(id(2));
        assert_eq!((pace.next(start), pace.poll_timeout()), (None, Some(start + at(50))));
        assert_eq!(pace.next(start + at(50)), Some(id(1)));
        pace.spend(cost, start + at(50));
        assert!(pace.delays(id(4), start + at(60)), "others wait");
        assert_eq!(pace.next(start + at(99)), None);
        assert_eq!(pace.next(start + at(100)), Some(id(3)));
        assert_eq!(pace.next(start + at(100)), Some(id(4)));
        assert_eq!(pace.poll_timeout(), None);
    }

    #[test]
    fn an_answer_costs_by_its_size_and_a_page_also_by_what_it_is_chosen_from() {
        assert!(of_body(50_000) < Duration::from_micros(500));
        assert!(of_page(1, 10_000) > of_page(1, 1) * 2);
        assert!(of_page(1_024, 10_000) > at(1) && of_page(1_024, 10_000) < at(5));
        assert_eq!(of_page(1_024, 3), of_page(3, 3));
    }
}
