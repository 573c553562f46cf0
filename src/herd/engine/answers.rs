//! What the engine answers to a publish, and to the question for a client's value.

use std::time::Duration;

use super::flights::Step;
use super::publisher::Why;
use super::requests::{Answered, Kind};
use super::values::{Found, Source, read_found};
use super::{Engine, EngineEvent, keys};
use crate::herd::{Event, Herd, InBucket, Observer};
use crate::limits::{
    ENGINE_CONFLICT_WAIT, ENGINE_REFUSED_PAUSE, ENGINE_UNHEARD_CHECK, ENGINE_UNHEARD_PAUSE,
};
use crate::nats::{Answer, ApiError, Message, PubAck, ReplyError};
use crate::protocol::Seq;

impl Engine {
    /// The answer to the publish with this number, of the entry in this slot.
    pub(super) fn publish_answered(
        &mut self,
        slot: u32,
        number: u64,
        message: &Message<'_>,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        let Some(flight) = self.publisher.flights.get(slot) else { return };
        let (Some(attempt), is_latest) = (flight.find(number), flight.is_latest(number)) else {
            return;
        };
        match PubAck::read(message) {
            Ok(ack) => {
                self.publisher.engine_answers(now);
                self.publisher.acknowledged(number);
                self.acknowledged(slot, ack.seq, attempt.seq, herd, observer);
            }
            // An earlier try that is refused says nothing of the latest one.
            Err(_) if !is_latest => {}
            Err(error) => self.refused(slot, attempt.seq, &error, herd, now, observer),
        }
    }

    /// The bucket has the text of the change `seq`, as the message `sequence`.
    fn acknowledged(
        &mut self,
        slot: u32,
        sequence: u64,
        seq: Seq,
        herd: &mut Herd,
        observer: &mut dyn Observer,
    ) {
        self.status.published += 1;
        let Some(flight) = self.publisher.flights.get(slot) else { return };
        let (entry, older) = (herd.table.entry_at(slot), flight.older);
        let is_of_another = entry.is_some_and(|entry| *entry.update.id() != *flight.id);
        self.publisher.flights.end(slot);
        let Some(entry) = entry else { return };
        if is_of_another {
            // The one that is there now waited for this.
            return self.publisher.look_again(slot);
        }
        let latest = entry.seq();
        let known = herd.table.kept.in_bucket(slot);
        // A leader that was replaced may take an earlier publish over a later one.
        let went_back = seq < known.seq && sequence >= known.sequence;
        let known = InBucket { sequence: known.sequence.max(sequence), seq: known.seq.max(seq) };
        self.follower.witness(sequence, slot, false);
        self.kept(slot, known, herd);
        if latest > known.seq {
            self.publisher.look_again(slot);
        } else if older > sequence || went_back {
            self.repair(slot, herd, observer);
        }
    }

    /// The latest publish of the entry in a slot, whose text is that of the change `seq`, was not taken.
    fn refused(
        &mut self,
        slot: u32,
        seq: Seq,
        error: &ReplyError,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        match error.api_code() {
            Some(code) if ApiError::WRONG_LAST.contains(&code) => {
                self.publisher.engine_answers(now);
                self.status.conflicts += 1;
                return self.conflict(slot, herd, now);
            }
            Some(ApiError::TOO_LARGE) => {
                self.publisher.engine_answers(now);
                return self.give_up(slot, seq, error, herd, observer);
            }
            _ => {}
        }
        if error.is_no_responders() || error.has_no_leader() {
            self.publisher.make_due(slot);
            return self.unheard(now);
        }
        self.status.refused += 1;
        if error.api_code().is_some_and(|code| ApiError::NO_ROOM.contains(&code)) {
            self.publisher.make_due(slot);
            self.publisher.begin_trouble(Why::NoRoom, ENGINE_REFUSED_PAUSE, now);
        } else {
            self.pause_flight(slot, now);
        }
        if let Some(flight) = self.publisher.flights.get(slot) {
            let (id, reason) = (&*flight.id, error.to_string());
            let event = EngineEvent::PublishRefused { id, reason: &reason };
            observer.record(Event::Engine(event));
        }
    }

    /// Another message of the client came before.
    fn conflict(&mut self, slot: u32, herd: &Herd, now: Duration) {
        let known = herd.table.kept.in_bucket(slot);
        let Some(flight) = self.publisher.flights.get(slot) else { return };
        if known.sequence > flight.expected {
            // It is known already.
            self.publisher.flights.set_expected(slot, known.sequence);
            self.publisher.make_due(slot);
        } else if self.is_cache() {
            self.publisher.make_asking(slot); // No consumer will bring it.
        } else {
            let until = now + ENGINE_CONFLICT_WAIT;
            self.publisher.flights.set_step(slot, Step::Conflict, Some(until));
        }
    }

    /// Nobody has heard a publish: there is no leader, or no stream.
    fn unheard(&mut self, now: Duration) {
        let pause = ENGINE_UNHEARD_PAUSE + self.by_chance(2 * ENGINE_UNHEARD_PAUSE);
        let trouble = self.publisher.begin_trouble(Why::Unheard, pause, now);
        if trouble.since + ENGINE_UNHEARD_CHECK <= now {
            trouble.since = now;
            self.ask_for_stream(now);
        }
    }

    fn give_up(
        &mut self,
        slot: u32,
        seq: Seq,
        error: &ReplyError,
        herd: &mut Herd,
        observer: &mut dyn Observer,
    ) {
        let Some(flight) = self.publisher.flights.get(slot) else { return };
        self.status.given_up += 1;
        let (id, reason) = (&*flight.id, error.to_string());
        observer.record(Event::Engine(EngineEvent::GivenUp { id, reason: &reason }));
        self.publisher.flights.end(slot);
        if herd.table.entry_at(slot).is_some_and(|entry| entry.seq() > seq) {
            self.publisher.look_again(slot);
            return;
        }
        // Those who wait for it are told that they wait in vain.
        self.publisher.give_up(slot, seq);
        let Herd { durable, outputs, .. } = herd;
        durable.holders.tell(slot, outputs);
    }

    /// The answer to a question for a client's value, of the leader or of any copy.
    pub(super) fn value_answered(
        &mut self,
        answered: Answered,
        message: &Message<'_>,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        let Answered { kind, number, slot } = answered;
        if !self.publisher.flights.take_asked(slot, number) {
            return;
        }
        let Some(flight) = self.publisher.flights.get(slot) else { return };
        let mut key = Vec::with_capacity(3 * flight.id.len());
        keys::encode(&flight.id, &mut key);
        let is_answer = kind == Kind::Get;
        let source = if is_answer { Source::Leader } else { Source::Copy };
        let before = herd.table.kept.in_bucket(slot).sequence;
        // Only of a copy: what left this cache not long ago may be a later message.
        let least =
            if is_answer { 0 } else { herd.table.least_sequence(herd.table.hash(&flight.id)) };
        let sequence = read_found(message, &key, source, |found| match found {
            Ok(found) if found.is_none_or(|found| found.sequence < least) && least > 0 => {
                self.publisher.make_asking(slot);
                None
            }
            Ok(Some(found)) => {
                self.found_in_bucket(&Found { is_answer, ..found }, herd, observer);
                Some(found.sequence)
            }
            Ok(None) if is_answer => {
                // If it was there, then the bucket has lost it.
                herd.table.kept.set_in_bucket(slot, InBucket::default());
                Some(0)
            }
            Ok(None) => Some(0), // If it is there, then the publish is refused, and the leader is asked.
            Err(error) => {
                if error.is_no_responders() || error.api_code() == Some(ApiError::STREAM_NOT_FOUND)
                {
                    self.ask_for_stream(now);
                }
                let until = now + ENGINE_CONFLICT_WAIT;
                self.publisher.flights.set_step(slot, Step::Conflict, Some(until));
                None
            }
        });
        let Some(mut sequence) = sequence else { return };
        if is_answer {
            self.publisher.leader_answers();
        } else {
            sequence = sequence.max(herd.table.kept.in_bucket(slot).sequence);
        }
        // Unless it was settled by what was found.
        if let Some(flight) = self.publisher.flights.get_mut(slot) {
            flight.older = sequence;
            self.publisher.flights.set_expected(slot, sequence);
            self.publisher.make_due(slot);
        }
        let is_lost = sequence < before && (sequence > 0 || self.stream.keeps_for_ever);
        if is_answer && is_lost && self.is_cache() {
            self.compare_anew(now);
        }
    }
}
