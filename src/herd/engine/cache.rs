//! A member that keeps a cache (`keep = "cache"`): it follows nothing, and asks the engine for one client at a time.
//!
//! A client that is asked for is taken from the bucket or from the table, whichever has the newer update. A copy of the
//! bucket may lag, so what this server was told itself is never missing in that, also when it has left the table
//! (`Remembered`).
//!
//! Without a consumer nothing tells that the engine has lost what it had acknowledged, or that the bucket is another one. So
//! a cache looks from time to time whether the bucket is the one that it knows, and still has the last messages that it knows
//! of it; and each answer of the leader that is behind what is known is a proof. Then all that is cached is compared anew.

use std::time::Duration;

use super::questions::Sent;
use super::requests::{Kind, write_question};
use super::values::{Found, Source, read_found, same_as};
use super::{Engine, Keep, keys};
use crate::herd::{Herd, Holder, InBucket, Observer, Table};
use crate::limits::{CACHE_REMEMBERED_FOR, ENGINE_LOOK_WITNESSES, ENGINE_UNHEARD_PAUSE};
use crate::nats::Message;
use crate::protocol::Update;

/// What the engine, or the cache in its place, says of a client.
#[derive(Clone, Debug)]
pub enum EngineAnswer {
    /// The newest update that the bucket or this server has.
    Known(Update),
    /// The engine has been asked, and neither it nor this server has one.
    Unknown,
    /// The engine can't be asked now. This server has this update, and the bucket may have a newer one by now.
    Cached(Update),
}

impl Engine {
    pub(super) fn is_cache(&self) -> bool {
        self.settings.keep == Keep::Cache
    }

    /// Whether questions can't be asked at the moment, as far as is known.
    fn is_away(&self) -> bool {
        !self.is_connected || !self.stream.is_usable || self.questions.is_silent
    }

    /// In a cache: the client in a slot was used, and may leave after all others, unless an update of it is on its way.
    pub(super) fn used(&self, slot: u32, herd: &mut Herd) {
        if !self.is_cache() {
            return; // Nor is it looked for among the flights, for each acknowledgement.
        }
        match self.publisher.is_in_flight(slot) {
            true => herd.table.hold_in_cache(slot),
            false => herd.table.used(slot),
        }
    }

    /// Asks the questions for which there is room, until `out` holds `full` bytes.
    pub(super) fn ask_questions(
        &mut self,
        full: usize,
        herd: &Herd,
        now: Duration,
        out: &mut Vec<u8>,
    ) {
        let Engine { questions, requests, bucket, scratch, reply, .. } = self;
        while out.len() < full
            && let Some((place, id, hash, asks_leader)) = questions.next()
        {
            let known = known_sequence(herd.table.slot_with(hash, id), &herd.table);
            let least = herd.table.least_sequence(hash);
            let asks_leader = asks_leader || herd.table.is_leader_only();
            let (kind, source) = match asks_leader {
                true => (Kind::AskLeader, Source::Leader),
                false => (Kind::Ask, Source::Copy),
            };
            let request = requests.next_of(kind, place, reply);
            write_question(bucket, source, id, reply, scratch, out);
            questions.sent(request, place, asks_leader, [known, least], now);
        }
    }

    /// The answer to the request with this number, of the question at this place.
    pub(super) fn question_answered(
        &mut self,
        place: u32,
        request: u64,
        message: &Message<'_>,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        let Some((sent, id)) = self.questions.take_sent(place, request) else { return };
        let mut key = Vec::with_capacity(3 * id.len());
        keys::encode(&id, &mut key);
        let source = if sent.asks_leader { Source::Leader } else { Source::Copy };
        read_found(message, &key, source, |found| match found {
            Ok(Some(found)) => self.question_found(sent, &id, &found, herd, now, observer),
            Ok(None) if !sent.asks_leader => self.questions.ask_again(sent.question, true),
            Ok(None) => self.nothing_found(sent, &id, herd, now),
            Err(_) => {
                // There is no stream, or no leader, or the server is in trouble.
                self.questions.pause(now + ENGINE_UNHEARD_PAUSE);
                self.ask_for_stream(now);
                self.cannot_ask(sent.question, &id, sent.asks_leader, herd);
            }
        });
    }

    fn question_found(
        &mut self,
        sent: Sent,
        id: &[u8],
        found: &Found<'_>,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        let slot = herd.table.slot_with(sent.hash, id);
        let known = known_sequence(slot, &herd.table);
        let least = herd.table.least_sequence(sent.hash);
        let is_behind = match sent.asks_leader {
            false => found.sequence < known.max(least),
            // What has left this cache meanwhile may have been acknowledged after the leader has answered.
            true => found.sequence < least && sent.least < least,
        };
        if is_behind {
            return self.questions.ask_again(sent.question, true);
        }
        // To the letter: nothing of it must be read.
        let same = slot.and_then(|slot| same_as(slot, found, herd));
        let contradicts = || slot.is_some_and(|slot| self.contradicts(slot, found, herd));
        if found.sequence < sent.known || (same.is_none() && contradicts()) {
            self.compare_anew(now);
        }
        match same {
            Some(awaited) => self.found_same(awaited, found, herd, observer),
            None => self.found_in_bucket(found, herd, observer),
        }
        let answer = self.newest(sent.hash, id, Some(found), herd);
        if matches!(answer, EngineAnswer::Unknown) && !sent.asks_leader {
            return self.questions.ask_again(sent.question, true); // It may be there again.
        }
        self.questions.answer(sent.question, answer, &mut herd.outputs);
    }

    /// The leader has nothing of the client.
    fn nothing_found(&mut self, sent: Sent, id: &[u8], herd: &mut Herd, now: Duration) {
        if sent.known > 0 && self.stream.keeps_for_ever {
            self.compare_anew(now);
        } else if let Some(slot) = herd.table.slot_with(sent.hash, id).filter(|_| sent.known > 0) {
            // The engine has deleted it by itself. What is published next must ask first.
            let known = herd.table.kept.in_bucket(slot);
            herd.table.kept.set_in_bucket(slot, InBucket { sequence: 0, ..known });
        }
        let answer = self.newest(sent.hash, id, None, herd);
        self.questions.answer(sent.question, answer, &mut herd.outputs);
    }

    /// Whether a message has the number of one that had another text.
    fn contradicts(&self, slot: u32, found: &Found<'_>, herd: &Herd) -> bool {
        let Some(entry) = herd.table.entry_at(slot) else { return false };
        let known = herd.table.kept.in_bucket(slot);
        let (ours, seq) = (entry.update.get(), entry.seq());
        known.sequence == found.sequence
            && known.seq >= seq
            && self.read_update(found, herd).is_some_and(|update| update.newness(&ours).is_ne())
    }

    /// The engine has lost what it had acknowledged: once the bucket was looked at, all that is cached is compared with it.
    pub(super) fn compare_anew(&mut self, now: Duration) {
        self.stream.is_another();
        self.ask_for_stream(now);
    }

    /// What is known of a client, after the bucket's message of it was met with the table.
    fn newest(
        &self,
        hash: u64,
        id: &[u8],
        found: Option<&Found<'_>>,
        herd: &mut Herd,
    ) -> EngineAnswer {
        if let Some(slot) = herd.table.slot_with(hash, id) {
            self.used(slot, herd);
            if let Some(entry) = herd.table.entry_at(slot) {
                return EngineAnswer::Known(entry.update.clone());
            }
        }
        // There was no room for it.
        match found.and_then(|found| self.read_update(found, herd)) {
            Some(update) => EngineAnswer::Known(Update::new(&update)),
            None => EngineAnswer::Unknown,
        }
    }

    /// A question can't be asked now. Who asks for a client that is cached is told what is, and the others wait: the leader,
    /// or any copy, is asked again.
    fn cannot_ask(&mut self, place: u32, id: &[u8], asks_leader: bool, herd: &mut Herd) {
        let Some(update) = met(id, &herd.table) else {
            return self.questions.ask_again(place, asks_leader);
        };
        let answer = EngineAnswer::Cached(update.clone());
        for asker in self.questions.end(place) {
            self.questions.answer_one(asker, answer.clone(), &mut herd.outputs);
        }
    }

    /// No question can be asked now.
    pub(super) fn cannot_ask_any(&mut self, herd: &mut Herd) {
        for (place, id) in self.questions.places() {
            self.cannot_ask(place, &id, false, herd);
        }
    }

    pub(super) fn question_timeouts(&mut self, herd: &mut Herd, now: Duration) {
        self.questions.end_pause(now);
        for (sent, id) in self.questions.take_overdue(now) {
            self.questions.is_silent = true;
            self.cannot_ask(sent.question, &id, !sent.asks_leader, herd);
        }
    }

    /// The stream was looked at, and is the one that is known: is what is known to be there still there?
    pub(super) fn look_for_witnesses(&mut self, herd: &mut Herd, now: Duration) {
        if self.remembered_since + CACHE_REMEMBERED_FOR <= now {
            self.remembered_since = now;
            herd.table.age_remembered();
        }
        let slots = self.follower.last_witnesses(herd);
        for slot in slots.take(ENGINE_LOOK_WITNESSES) {
            if let Some(entry) = herd.table.entry_at(slot) {
                let id = entry.update.id();
                self.questions.ask(id, herd.table.hash(id), None);
            }
        }
    }
}

/// What is cached of a client, if it has been met with what the bucket held. Else the bucket may have had something newer ever
/// since, which this server has told before.
fn met<'a>(id: &[u8], table: &'a Table) -> Option<&'a Update> {
    let slot = table.slot_of(id)?;
    let is_met = table.kept.in_bucket(slot).sequence > 0;
    table.entry_at(slot).filter(|_| is_met).map(|entry| &entry.update)
}

/// The number of the last message of the client in a slot, as far as is known; 0 if none is.
fn known_sequence(slot: Option<u32>, table: &Table) -> u64 {
    slot.map_or(0, |slot| table.kept.in_bucket(slot).sequence)
}

impl Herd {
    /// Whether this is a member that keeps a cache: what the table lacks, the engine may have
    /// ([`ask_engine`](Herd::ask_engine)).
    pub fn is_cache(&self) -> bool {
        self.table.is_cache()
    }

    /// How many more clients a cache can take up now, at most: see [`awaited`](Herd::awaited) for what it has no room for.
    pub fn cache_room(&self) -> usize {
        self.table.cache_room()
    }

    /// Asks the engine for a client. [`Output::EngineAnswered`](crate::herd::Output::EngineAnswered) tells the asker when there
    /// is an answer ([`take_engine_answer`](Herd::take_engine_answer)).
    ///
    /// That is at once if this member follows the bucket, or if the engine can't be asked now and the client is cached.
    /// It may take for ever if the engine is away and the client is not cached: the caller decides how long it waits, and
    /// then forgets the asker ([`forget_asker`](Herd::forget_asker)). A lost connection, an election and a request that was not
    /// answered are no answers: the question is asked again.
    ///
    /// An asker asks for one client at a time. If it has asked before and was not answered, then that is forgotten.
    pub fn ask_engine(&mut self, id: &[u8], asker: Holder) {
        let Herd { durable, table, outputs, .. } = self;
        let Some(engine) = &mut durable.engine else { return };
        engine.questions.forget(asker);
        let answer = if !engine.is_cache() {
            table.get(id).map_or(EngineAnswer::Unknown, |it| EngineAnswer::Known(it.update.clone()))
        } else if engine.is_away()
            && let Some(update) = met(id, table)
        {
            // A question without an asker finds out when it answers again.
            if engine.questions.len() == 0 {
                engine.questions.ask(id, table.hash(id), None);
            }
            EngineAnswer::Cached(update.clone())
        } else {
            return engine.questions.ask(id, table.hash(id), Some(asker));
        };
        engine.questions.answer_one(asker, answer, outputs);
    }

    /// The answer to what this asker has asked, once. None if there is none yet: an output may be of an earlier question, that
    /// was forgotten.
    pub fn take_engine_answer(&mut self, asker: Holder) -> Option<EngineAnswer> {
        self.durable.engine.as_mut()?.questions.take_answer(asker)
    }

    /// The asker waits no longer, or has taken its answer: it is told nothing more.
    pub fn forget_asker(&mut self, asker: Holder) {
        if let Some(engine) = &mut self.durable.engine {
            engine.questions.forget(asker);
        }
    }
}
