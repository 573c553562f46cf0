//! When connections must be looked at that wait for something, each for the same time at the most.
//!
//! Nearly each wait ends long before its deadline, and the connection soon waits again. So a deadline is not taken out when
//! its wait ends: when it is over, it is seen whether the connection waits at all. A connection that waits a thousand times a
//! second stands in the order once for each `timeout`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::application::ConnectionId;

/// The connections that wait.
#[derive(Debug)]
pub(super) struct WaitDeadlines {
    /// For how long one may wait.
    timeout: Duration,
    /// One for each slot at the most, no later than that of the connection there.
    due: BTreeSet<(Duration, u32)>,
    /// By the slots of connections.
    slots: Vec<Slot>,
    /// How many connections wait.
    waiting: usize,
    /// Deadlines up to here are over.
    judged: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Whether it stands in `due`.
    is_due: bool,
    /// The generation of the connection that waits, if one does.
    waits: Option<u32>,
}

impl WaitDeadlines {
    /// Nobody waits, and nobody may for longer than this.
    pub fn new(timeout: Duration) -> WaitDeadlines {
        let (due, slots) = (BTreeSet::new(), Vec::new());
        WaitDeadlines { timeout, due, slots, waiting: 0, judged: Duration::ZERO }
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When [`WaitDeadlines::take_overdue`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let first = self.due.first().filter(|_| self.waiting > 0);
        first.map(|(at, _)| *at)
    }

    /// A connection waits since then.
    pub fn waits(&mut self, ConnectionId { slot, generation }: ConnectionId, since: Duration) {
        let index = slot as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        let known = &mut self.slots[index];
        self.waiting += usize::from(known.waits.is_none());
        known.waits = Some(generation);
        if !known.is_due {
            known.is_due = true;
            self.due.insert((since + self.timeout, slot));
        }
    }

    /// It waits no longer.
    pub fn waits_no_longer(&mut self, ConnectionId { slot, generation }: ConnectionId) {
        let known = self.slots.get_mut(slot as usize);
        if let Some(known) = known.filter(|known| known.waits == Some(generation)) {
            known.waits = None;
            self.waiting -= 1;
        }
    }

    /// Deadlines up to now are over: the connections whose wait may be, of the first so many deadlines. For each that goes on
    /// waiting [`WaitDeadlines::waits`] must be called.
    pub fn take_overdue(&mut self, now: Duration, most: usize) -> Vec<ConnectionId> {
        self.judged = now;
        let mut overdue = Vec::new();
        for _ in 0..most {
            let Some(&(at, slot)) = self.due.first().filter(|(at, _)| *at <= now) else { break };
            self.due.remove(&(at, slot));
            if let Some(known) = self.slots.get_mut(slot as usize) {
                known.is_due = false;
                let waits = known.waits.map(|generation| ConnectionId { slot, generation });
                overdue.extend(waits);
            }
        }
        overdue
    }

    /// Whether a wait that began then is over.
    pub fn is_over(&self, since: Duration) -> bool {
        since + self.timeout <= self.judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(15);

    fn connection(slot: u32, generation: u32) -> ConnectionId {
        ConnectionId { slot, generation }
    }

    fn overdue(deadlines: &mut WaitDeadlines, seconds: u64) -> Vec<ConnectionId> {
        deadlines.take_overdue(Duration::from_secs(seconds), 100)
    }

    #[test]
    fn a_wait_that_ended_is_not_told_and_one_that_began_later_is_in_time() {
        let mut deadlines = WaitDeadlines::new(TIMEOUT);
        deadlines.waits(connection(3, 1), Duration::ZERO);
        deadlines.waits(connection(1, 1), Duration::from_secs(1));
        deadlines.waits_no_longer(connection(3, 1));
        // Another connection in its slot, which takes over the deadline.
        deadlines.waits(connection(3, 2), Duration::from_secs(5));
        deadlines.waits_no_longer(connection(3, 1));
        assert_eq!(deadlines.poll_timeout(), Some(TIMEOUT));
        assert_eq!(overdue(&mut deadlines, 15), [connection(3, 2)]);
        assert!(!deadlines.is_over(Duration::from_secs(5)));
        deadlines.waits(connection(3, 2), Duration::from_secs(5));
        assert_eq!(overdue(&mut deadlines, 20), [connection(1, 1), connection(3, 2)]);
        assert!(deadlines.is_over(Duration::from_secs(5)));
    }

    #[test]
    fn nothing_is_due_when_nobody_waits() {
        let mut deadlines = WaitDeadlines::new(TIMEOUT);
        for second in 0..10 {
            deadlines.waits(connection(0, 1), Duration::from_secs(second));
            deadlines.waits_no_longer(connection(0, 1));
        }
        assert_eq!((deadlines.poll_timeout(), deadlines.due.len()), (None, 1));
        assert_eq!(overdue(&mut deadlines, 100), []);
        deadlines.waits(connection(0, 1), Duration::from_secs(100));
        assert_eq!(deadlines.poll_timeout(), Some(Duration::from_secs(115)));
    }
}
