//! Answers that one connection holds back until what they confirm is kept (`kept.rs`).
//!
//! They are given in the order of their lines, so one that is not due holds up those behind it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};

use super::kept::{Awaited, Holder, slot_hash};
use super::{Herd, Output};

/// The answers of one connection that are not due yet.
#[derive(Debug, Default)]
pub struct HeldAnswers {
    answers: VecDeque<HeldAnswer>,
    /// Their texts, one behind the other.
    texts: VecDeque<u8>,
}

#[derive(Clone, Copy, Debug)]
struct HeldAnswer {
    /// None if it waits only for those before it.
    awaited: Option<Awaited>,
    length: usize,
    since: Duration,
}

impl HeldAnswers {
    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// The number of held answers.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Bytes of memory that they take.
    pub fn held_bytes(&self) -> usize {
        self.texts.capacity() + self.answers.capacity() * size_of::<HeldAnswer>()
    }

    /// How much of that is in use.
    pub fn used_bytes(&self) -> usize {
        self.texts.len() + self.answers.len() * size_of::<HeldAnswer>()
    }

    /// Since when the oldest one is held.
    pub fn since(&self) -> Option<Duration> {
        self.answers.front().map(|answer| answer.since)
    }

    /// Holds an answer back that waits for this, or, if for nothing, for those before it, of which there must be one.
    /// `holder` is told when it may be due ([`Output::AnswersDue`]).
    pub fn push(
        &mut self,
        awaited: Option<Awaited>,
        text: &[u8],
        now: Duration,
        holder: Holder,
        herd: &mut Herd,
    ) {
        debug_assert!(awaited.is_some() || !self.is_empty(), "it is due, and nobody would be told");
        if let Some(awaited) = awaited.filter(|_| self.is_empty()) {
            herd.hold(awaited, holder);
        }
        self.answers.push_back(HeldAnswer { awaited, length: text.len(), since: now });
        self.texts.extend(text);
    }

    /// Takes the answers that are due, appends them to `out`, and calls `taken` with the time since which each was held.
    /// `holder` is told when the next one may be due. Returns false if it never will be, because the engine does not take
    /// what it confirms: then `holder` is told nothing.
    pub fn take_due(
        &mut self,
        out: &mut Vec<u8>,
        holder: Holder,
        herd: &mut Herd,
        mut taken: impl FnMut(Duration),
    ) -> bool {
        while let Some(answer) = self.answers.front() {
            if let Some(awaited) = answer.awaited.filter(|awaited| !herd.is_kept(*awaited)) {
                if herd.is_given_up(awaited) {
                    return false;
                }
                herd.hold(awaited, holder);
                return true;
            }
            taken(answer.since);
            // Not byte by byte, as the iterator of `drain` would.
            let (front, back) = self.texts.as_slices();
            let of_front = answer.length.min(front.len());
            out.extend_from_slice(&front[..of_front]);
            out.extend_from_slice(&back[..answer.length - of_front]);
            self.texts.drain(..answer.length);
            self.answers.pop_front();
        }
        if self.held_bytes() > SMALLEST_FREED {
            *self = HeldAnswers::default();
        }
        true
    }

    /// The connection is closed: what it holds is never given, and `holder` is told nothing more.
    pub fn cancel(&mut self, holder: Holder, herd: &mut Herd) {
        // Only the front has registered, and is told once it is due.
        if let Some(awaited) = self.answers.front().and_then(|answer| answer.awaited) {
            herd.release(awaited, holder);
        }
        *self = HeldAnswers::default();
    }
}

/// Who is told, by the slots of the entries that they wait for. A connection stands in it once at most, by its front answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders {
    waiting: HashTable<(u32, Waiting)>,
    /// How often the floor had risen when all were last told.
    told_raises: u64,
}

/// Who waits for one entry: usually the one connection of its client.
#[derive(Clone, Debug)]
enum Waiting {
    One(Holder),
    /// Ordered, so that one that leaves is found among many.
    Many(BTreeSet<Holder>),
}

impl Holders {
    pub fn add(&mut self, awaited: Awaited, holder: Holder) {
        let is_it = |(slot, _): &(u32, Waiting)| *slot == awaited.slot;
        match self.waiting.entry(slot_hash(awaited.slot), is_it, |(slot, _)| slot_hash(*slot)) {
            Entry::Vacant(place) => drop(place.insert((awaited.slot, Waiting::One(holder)))),
            Entry::Occupied(mut found) => match &mut found.get_mut().1 {
                Waiting::One(other) if *other == holder => {}
                Waiting::One(other) => {
                    found.get_mut().1 = Waiting::Many(BTreeSet::from([*other, holder]));
                }
                Waiting::Many(all) => drop(all.insert(holder)),
            },
        }
    }

    pub fn remove(&mut self, awaited: Awaited, holder: Holder) {
        let Some(mut found) = self.find(awaited.slot) else { return };
        let is_last = match &mut found.get_mut().1 {
            Waiting::One(other) => *other == holder,
            Waiting::Many(all) => all.remove(&holder) && all.is_empty(),
        };
        if is_last {
            found.remove();
        }
    }

    /// Tells those that wait for the entry in `slot`: more is kept of it, or it is gone.
    pub fn tell(&mut self, slot: u32, outputs: &mut VecDeque<Output>) {
        let Some(found) = self.find(slot) else { return };
        match found.remove().0.1 {
            Waiting::One(holder) => outputs.push_back(Output::AnswersDue(holder)),
            Waiting::Many(all) => outputs.extend(all.into_iter().map(Output::AnswersDue)),
        }
        if self.waiting.is_empty() && self.waiting.capacity() > LARGEST_KEPT {
            self.waiting = HashTable::new();
        }
    }

    /// Tells all if the floor has risen since the last time: what was evicted is waited for no longer.
    pub fn tell_of_evicted(&mut self, floor_raises: u64, outputs: &mut VecDeque<Output>) {
        if std::mem::replace(&mut self.told_raises, floor_raises) != floor_raises {
            // Sorted, so that a run can be repeated.
            let mut slots: Vec<u32> = self.waiting.iter().map(|(slot, _)| *slot).collect();
            slots.sort_unstable();
            slots.into_iter().for_each(|slot| self.tell(slot, outputs));
        }
    }

    fn find(&mut self, slot: u32) -> Option<OccupiedEntry<'_, (u32, Waiting)>> {
        self.waiting.find_entry(slot_hash(slot), |(other, _)| *other == slot).ok()
    }
}

/// Waiting connections for which memory is kept while there are none.
const LARGEST_KEPT: usize = 4_096;
/// Memory that a connection may keep while nothing is held.
const SMALLEST_FREED: usize = 4_096;
