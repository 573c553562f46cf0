//! Publishes whose fate is not known yet: one for each client at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::{ENGINE_REFUSED_PAUSE, ENGINE_TRIES};
use crate::protocol::Seq;

/// A client's update on its way to the bucket.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// The client: its entry may leave the slot, and another one may come.
    pub id: Box<[u8]>,
    /// The number of the client's last message, as each try says. It stays the same until the bucket has answered: so at
    /// most one try is accepted.
    pub expected: u64,
    /// The last few publishes, the latest last.
    tries: Vec<Try>,
    /// The number of the request that asks the bucket for the client, while that is unanswered.
    question: Option<u64>,
    pub step: Step,
    until: Option<Duration>,
    /// The number of a later message that was older than our update; 0 if there was none.
    pub older: u64,
    /// The pause after the next refusal.
    pub pause: Duration,
}

/// One publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Try {
    /// The number of its request.
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

#[derive(Clone, Debug, Default)]
pub(super) struct Flights {
    by_slot: BTreeMap<u32, Flight>,
    /// Slots by the numbers of requests.
    by_number: BTreeMap<u64, u32>,
    deadlines: BTreeSet<(Duration, u32)>,
}

impl Flights {
    pub fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub fn get(&self, slot: u32) -> Option<&Flight> {
        self.by_slot.get(&slot)
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Flight> {
        self.by_slot.get_mut(&slot)
    }

    /// The slot of the flight that a request belongs to.
    pub fn slot_of(&self, number: u64) -> Option<u32> {
        self.by_number.get(&number).copied()
    }

    pub fn begin(&mut self, slot: u32, id: &[u8], expected: u64) {
        let flight = Flight {
            id: id.into(),
            expected,
            tries: Vec::with_capacity(1),
            question: None,
            step: Step::Due,
            until: None,
            older: 0,
            pause: ENGINE_REFUSED_PAUSE,
        };
        self.by_slot.insert(slot, flight);
    }

    /// A flight was published as the request with this number.
    pub fn sent(&mut self, slot: u32, attempt: Try, until: Duration) {
        let Some(flight) = self.by_slot.get_mut(&slot) else { return };
        if flight.tries.len() == ENGINE_TRIES {
            // Should it be the one that was accepted, then the next one is refused, and the bucket is looked at.
            let forgotten = flight.tries.remove(0);
            self.by_number.remove(&forgotten.number);
        }
        flight.tries.push(attempt);
        self.by_number.insert(attempt.number, slot);
        self.set_step(slot, Step::Sent, Some(until));
    }

    /// The bucket was asked for a flight's client by the request with this number.
    pub fn asked(&mut self, slot: u32, number: u64, until: Duration) {
        if let Some(flight) = self.by_slot.get_mut(&slot) {
            if let Some(before) = flight.question.replace(number) {
                self.by_number.remove(&before);
            }
            self.by_number.insert(number, slot);
            self.set_step(slot, Step::Asked, Some(until));
        }
    }

    /// The bucket holds something that the flight did not expect: no try of it can be accepted any more.
    pub fn set_expected(&mut self, slot: u32, expected: u64) {
        if let Some(flight) = self.by_slot.get_mut(&slot) {
            flight.expected = expected;
            for attempt in flight.tries.drain(..) {
                self.by_number.remove(&attempt.number);
            }
        }
    }

    pub fn set_step(&mut self, slot: u32, step: Step, until: Option<Duration>) {
        let Some(flight) = self.by_slot.get_mut(&slot) else { return };
        flight.step = step;
        if step != Step::Asked
            && let Some(question) = flight.question.take()
        {
            // Meanwhile something else has told what is to be done.
            self.by_number.remove(&question);
        }
        if let Some(before) = std::mem::replace(&mut flight.until, until) {
            self.deadlines.remove(&(before, slot));
        }
        if let Some(until) = until {
            self.deadlines.insert((until, slot));
        }
    }

    pub fn end(&mut self, slot: u32) -> Option<Flight> {
        self.set_step(slot, Step::Due, None);
        let flight = self.by_slot.remove(&slot)?;
        let tries = flight.tries.iter().map(|attempt| attempt.number);
        for number in tries.chain(flight.question) {
            self.by_number.remove(&number);
        }
        Some(flight)
    }

    /// The slot of the flight for which the bucket was asked by the request with this number, which is answered.
    pub fn take_asked(&mut self, number: u64) -> Option<u32> {
        let slot = self.slot_of(number)?;
        self.by_slot.get_mut(&slot)?.question.take_if(|question| *question == number)?;
        self.by_number.remove(&number);
        Some(slot)
    }

    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.by_slot.keys().copied()
    }

    pub fn first_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// A flight whose step is over.
    pub fn take_overdue(&mut self, now: Duration) -> Option<(u32, Step)> {
        let (_, slot) = *self.deadlines.first().filter(|(until, _)| *until <= now)?;
        let step = self.by_slot.get(&slot)?.step;
        self.set_step(slot, step, None);
        Some((slot, step))
    }
}

impl Flight {
    pub fn find(&self, number: u64) -> Option<Try> {
        self.tries.iter().find(|attempt| attempt.number == number).copied()
    }

    /// Whether this is the number of its latest publish.
    pub fn is_latest(&self, number: u64) -> bool {
        self.tries.last().is_some_and(|attempt| attempt.number == number)
    }
}
