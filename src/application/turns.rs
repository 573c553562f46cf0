//! The latest turns of a loop, in a ring that one thread writes and any thread reads, without locks.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use std::time::Duration;

use crate::clock::nanoseconds;

/// One turn of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// When its wait ended, as [`Now::elapsed`](crate::clock::Now::elapsed) counts.
    pub start: Duration,
    /// How long the wait before it lasted.
    pub wait: Duration,
    /// From the end of its wait to the next wait.
    pub duration: Duration,
    /// Readiness events.
    pub events: u64,
    /// Lines that were handled.
    pub lines: u64,
    /// Reads from connections.
    pub reads: u64,
    /// Writes to connections.
    pub writes: u64,
}

/// The last [`TURNS`] turns.
///
/// Each entry has a stamp: the number of the turn that it holds, counted from 1, or 0 while it is written. A reader
/// that finds the same stamp before and after it has read an entry has read one turn and not parts of two.
#[derive(Debug)]
pub(super) struct TurnRing {
    entries: Box<[Entry]>,
    /// How many turns were ever written.
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct Entry {
    stamp: AtomicU64,
    /// The fields of [`Turn`] in their order; times in nanoseconds.
    fields: [AtomicU64; 7],
}

/// 256 KiB: a quarter of a second of a loop that never waits for anything, and hours of an idle one.
const TURNS: usize = 4_096;
const _: () = assert!(size_of::<Entry>() * TURNS == 256 * 1024);

impl Default for TurnRing {
    fn default() -> TurnRing {
        TurnRing {
            entries: (0..TURNS).map(|_| Entry::default()).collect(),
            written: AtomicU64::new(0),
        }
    }
}

impl TurnRing {
    /// Only one thread may call this.
    pub(super) fn push(&self, turn: &Turn) {
        let number = self.written.load(Relaxed) + 1;
        let entry = self.entry(number);
        entry.stamp.store(0, Relaxed);
        // No reader sees a new field together with the old stamp.
        fence(Release);
        for (field, value) in entry.fields.iter().zip(turn.pack()) {
            field.store(value, Relaxed);
        }
        entry.stamp.store(number, Release);
        self.written.store(number, Release);
    }

    /// Up to `most` of the latest turns, the oldest first.
    pub(super) fn latest(&self, most: usize) -> Vec<Turn> {
        let last = self.written.load(Acquire);
        let count = last.min(most.min(TURNS) as u64);
        (last - count + 1..=last).filter_map(|number| self.read(number)).collect()
    }

    fn read(&self, number: u64) -> Option<Turn> {
        let entry = self.entry(number);
        let before = entry.stamp.load(Acquire);
        let fields = std::array::from_fn(|at| entry.fields[at].load(Relaxed));
        fence(Acquire);
        let after = entry.stamp.load(Relaxed);
        (before == number && after == number).then(|| Turn::unpack(fields))
    }

    fn entry(&self, number: u64) -> &Entry {
        &self.entries[number as usize % TURNS]
    }
}

impl Turn {
    fn pack(&self) -> [u64; 7] {
        let times = [self.start, self.wait, self.duration].map(nanoseconds);
        let [start, wait, duration] = times;
        [start, wait, duration, self.events, self.lines, self.reads, self.writes]
    }

    fn unpack([start, wait, duration, events, lines, reads, writes]: [u64; 7]) -> Turn {
        let [start, wait, duration] = [start, wait, duration].map(Duration::from_nanos);
        Turn { start, wait, duration, events, lines, reads, writes }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn turn(number: u64) -> Turn {
        let time = Duration::from_nanos(number);
        Turn {
            start: time,
            wait: time,
            duration: time,
            events: number,
            lines: number,
            reads: number,
            writes: number,
        }
    }

    #[test]
    fn the_ring_returns_the_latest_turns_in_their_order() {
        let ring = TurnRing::default();
        assert_eq!(ring.latest(10), []);
        (1..=3).for_each(|number| ring.push(&turn(number)));
        assert_eq!(ring.latest(2), [turn(2), turn(3)]);
        assert_eq!(ring.latest(usize::MAX), [turn(1), turn(2), turn(3)]);
        (4..=2 * TURNS as u64).for_each(|number| ring.push(&turn(number)));
        let all = ring.latest(usize::MAX);
        assert_eq!(all.len(), TURNS);
        assert_eq!((all[0], all[TURNS - 1]), (turn(TURNS as u64 + 1), turn(2 * TURNS as u64)));
    }

    #[test]
    fn a_reader_beside_the_writer_never_sees_parts_of_two_turns() {
        let ring = Arc::new(TurnRing::default());
        let writer = thread::spawn({
            let ring = Arc::clone(&ring);
            move || (1..=50 * TURNS as u64).for_each(|number| ring.push(&turn(number)))
        });
        let mut seen = 0;
        while !writer.is_finished() {
            for found in ring.latest(TURNS) {
                assert_eq!(found, turn(found.events));
                seen += 1;
            }
        }
        writer.join().expect("the writer does not panic");
        assert!(seen > 0 || ring.latest(1).len() == 1);
    }
}
