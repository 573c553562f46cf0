//! Publishes whose fate is not known yet: one for each client at a time.

use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::herd::kept::slot_hash;
use crate::limits::{
    ENGINE_ACK_WAIT, ENGINE_ASKED_WAIT_MAX, ENGINE_LOST_AFTER, ENGINE_PUBLISHES,
    ENGINE_REFUSED_PAUSE, ENGINE_TRIES,
};
use crate::protocol::Seq;

/// A client's update on its way to the bucket.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    slot: u32,
    /// The client: its entry may leave the slot, and another one may come.
    pub id: Vec<u8>,
    /// The number of the client's last message, as each try says. It stays the same until the bucket has answered: so at
    /// most one try is accepted.
    pub expected: u64,
    /// The last few publishes, the latest first.
    tries: [Try; ENGINE_TRIES],
    /// The number of the request that asks the bucket for the client, while that is unanswered; else 0.
    question: u64,
    pub step: Step,
    until: Option<Duration>,
    /// When its latest publish or question was sent.
    sent_at: Duration,
    /// The number of a later message that was older than our update; 0 if there was none.
    pub older: u64,
    /// The pause after the next refusal.
    pub pause: Duration,
    /// How long its question is waited for.
    patience: Duration,
}

/// One publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Try {
    /// The number of its request; 0 for none.
    pub number: u64,
    /// The change of the entry whose text it carried.
    pub seq: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To be published, as soon as there is room.
    Due,
    /// Published; the answer is waited for.
    Sent,
    /// Another member came before: the consumer will bring what the bucket holds.
    Conflict,
    /// It did not: the bucket is to be asked, as soon as there is room.
    ToAsk,
    /// The bucket was asked.
    Asked,
    /// Refused: it is published again after a pause.
    Paused,
}

/// Flights by their slots, in a hash table: each update passes through it.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights {
    by_slot: HashTable<Flight>,
    /// No step is over before that. Most flights are answered long before, and so their deadlines are not kept in order:
    /// all are looked at when this comes.
    next_look: Option<Duration>,
    /// The memory of ids of flights that have ended, for those that begin: an update allocates none.
    spare_ids: Vec<Vec<u8>>,
}

impl Flights {
    pub fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub fn get(&self, slot: u32) -> Option<&Flight> {
        self.by_slot.find(slot_hash(slot), |flight| flight.slot == slot)
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Flight> {
        self.by_slot.find_mut(slot_hash(slot), |flight| flight.slot == slot)
    }

    /// One for an entry that has none.
    pub fn begin(&mut self, slot: u32, id: &[u8], expected: u64) {
        let mut own_id = self.spare_ids.pop().unwrap_or_default();
        own_id.extend_from_slice(id);
        let flight = Flight {
            slot,
            id: own_id,
            expected,
            tries: [Try::default(); ENGINE_TRIES],
            question: 0,
            step: Step::Due,
            until: None,
            sent_at: Duration::ZERO,
            older: 0,
            pause: ENGINE_REFUSED_PAUSE,
            patience: ENGINE_LOST_AFTER,
        };
        let is_it = |other: &Flight| other.slot == slot;
        match self.by_slot.entry(slot_hash(slot), is_it, |flight| slot_hash(flight.slot)) {
            Entry::Occupied(mut known) => *known.get_mut() = flight,
            Entry::Vacant(place) => drop(place.insert(flight)),
        }
    }

    /// A flight was published.
    pub fn sent(&mut self, slot: u32, attempt: Try, now: Duration) {
        let Some(flight) = self.get_mut(slot) else { return };
        // Should the one that is forgotten be accepted, then the next one is refused, and the bucket is looked at.
        flight.tries.rotate_right(1);
        flight.tries[0] = attempt;
        flight.sent_at = now;
        self.set_step(slot, Step::Sent, Some(now + ENGINE_LOST_AFTER));
    }

    /// The bucket was asked for a flight's client by the request with this number.
    pub fn asked(&mut self, slot: u32, number: u64, now: Duration) {
        self.set_step(slot, Step::Asked, Some(now + ENGINE_LOST_AFTER));
        if let Some(flight) = self.get_mut(slot) {
            flight.sent_at = now;
            flight.question = number;
        }
    }

    /// The bucket holds something that the flight did not expect: no try of it can be accepted any more.
    pub fn set_expected(&mut self, slot: u32, expected: u64) {
        if let Some(flight) = self.get_mut(slot) {
            flight.expected = expected;
            flight.tries = [Try::default(); ENGINE_TRIES];
        }
    }

    pub fn set_step(&mut self, slot: u32, step: Step, until: Option<Duration>) {
        let Some(flight) = self.get_mut(slot) else { return };
        flight.step = step;
        flight.until = until;
        // Something else may have told meanwhile what is to be done.
        flight.question = 0;
        if let Some(until) = until {
            self.next_look = Some(self.next_look.map_or(until, |look| look.min(until)));
        }
    }

    /// The flight of an entry is over, if there was one.
    pub fn end(&mut self, slot: u32) {
        let is_it = |flight: &Flight| flight.slot == slot;
        let Ok(found) = self.by_slot.find_entry(slot_hash(slot), is_it) else { return };
        let (Flight { mut id, .. }, _) = found.remove();
        if self.by_slot.is_empty() {
            self.next_look = None;
        }
        if self.spare_ids.len() < ENGINE_PUBLISHES {
            id.clear();
            self.spare_ids.push(id);
        }
    }

    /// Whether the bucket was asked for the client of this flight by the request with this number, which is answered.
    pub fn take_asked(&mut self, slot: u32, number: u64) -> bool {
        let flight = self.get_mut(slot).filter(|flight| flight.question == number && number > 0);
        flight.map(|flight| flight.question = 0).is_some()
    }

    /// All slots, ascending.
    pub fn slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.by_slot.iter().map(|flight| flight.slot).collect();
        slots.sort_unstable();
        slots
    }

    /// Whether what was sent for a flight is lost, because a later publish was acknowledged and a leader answers in order; or
    /// is given up, because it was sent so long ago. Else it is looked at again soon.
    pub fn is_lost(&mut self, slot: u32, acknowledged: u64, now: Duration) -> (bool, bool) {
        let Some(flight) = self.get_mut(slot) else { return (false, false) };
        let number = flight.question.max(flight.tries[0].number);
        let waited = now.saturating_sub(flight.sent_at);
        let is_question = flight.step == Step::Asked;
        // Questions take another way than publishes, which may be slower: each repeat waits twice as long, so that the
        // answer of one of them comes in time.
        let patience = if is_question { flight.patience } else { Duration::ZERO };
        let is_lost = number < acknowledged && patience <= waited;
        let is_old = ENGINE_ACK_WAIT.max(patience) <= waited;
        if is_question && (is_lost || is_old) {
            flight.patience = (2 * patience).min(ENGINE_ASKED_WAIT_MAX);
        }
        if !is_lost && !is_old {
            let until = now + ENGINE_LOST_AFTER;
            flight.until = Some(until);
            self.next_look = Some(self.next_look.map_or(until, |look| look.min(until)));
        }
        (is_lost, is_old)
    }

    /// When [`Flights::take_overdue`] must be called at the latest.
    pub fn next_look(&self) -> Option<Duration> {
        self.next_look
    }

    /// The flights whose step is over, in the order of their deadlines. They have none any more.
    pub fn take_overdue(&mut self, now: Duration) -> Vec<(Duration, u32, Step)> {
        let mut overdue = Vec::new();
        if self.next_look.is_none_or(|look| look > now) {
            return overdue;
        }
        self.next_look = None;
        for flight in &mut self.by_slot {
            match flight.until {
                Some(until) if until <= now => {
                    flight.until = None;
                    overdue.push((until, flight.slot, flight.step));
                }
                Some(until) => {
                    self.next_look = Some(self.next_look.map_or(until, |look| look.min(until)));
                }
                None => {}
            }
        }
        overdue.sort_unstable_by_key(|(until, slot, _)| (*until, *slot));
        overdue
    }
}

impl Flight {
    pub fn find(&self, number: u64) -> Option<Try> {
        self.tries.iter().find(|attempt| attempt.number == number && number > 0).copied()
    }

    /// Whether this is the number of its latest publish.
    pub fn is_latest(&self, number: u64) -> bool {
        self.tries[0].number == number
    }
}
