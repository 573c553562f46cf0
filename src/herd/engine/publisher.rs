//! Publishing what clients and neighbours sent: a reader of the feed, like a link, with a cursor and no queue.
//!
//! Each publish says which message of its client it replaces, and the engine takes it only if that is still the last one. A
//! member that came too late waits for what the other one put, compares, and publishes again if its own update is newer.
//! What is not answered is published again with the same expectation, so that at most one of the tries is accepted.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::flights::{Flights, Step, Try};
use super::requests::{Kind, write_question};
use super::values::Source;
use super::{Engine, EngineEvent, keys};
use crate::herd::{Event, Herd, Observer, Table};
use crate::limits::{
    ENGINE_ACK_WAIT, ENGINE_FILL_WAIT, ENGINE_GIVEN_UP, ENGINE_PUBLISHES, ENGINE_REFUSED_PAUSE,
    ENGINE_REFUSED_PAUSE_MAX, FEED_RECORDS_PER_STEP,
};
use crate::nats::write_expecting;
use crate::protocol::Seq;

/// The reader of the feed.
#[derive(Clone, Debug, Default)]
pub(super) struct Publisher {
    /// All later changes are to be looked at.
    cursor: Seq,
    /// What was known before the bucket was, if that has not been compared with it yet.
    backlog: Option<Backlog>,
    pub flights: Flights,
    /// Slots that are to be looked at before the feed.
    due: VecDeque<u32>,
    /// Slots whose flights have ended because the bucket has what is known of their clients.
    settled: Vec<u32>,
    trouble: Option<Trouble>,
    /// The latest change of an entry that the engine does not take, by slots. It is not published again unless somebody
    /// asks for that.
    given_up: BTreeMap<u32, Seq>,
    /// When the engine last answered a publish.
    answered: Duration,
    /// The greatest number of a publish that it has taken.
    acknowledged: u64,
}

#[derive(Clone, Copy, Debug)]
struct Backlog {
    cursor: Seq,
    until: Seq,
    /// When it begins, if what the bucket holds is known by then.
    at: Duration,
    is_open: bool,
}

/// The engine takes nothing: a single publish tries from time to time whether it does again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub why: Why,
    pub since: Duration,
    pub pause: Duration,
    probe_at: Duration,
    may_probe: bool,
    /// Whether one has tried since it last said so.
    has_probed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It does not answer.
    Silent,
    /// Nobody hears a publish.
    Unheard,
    /// It is full.
    NoRoom,
}

impl Publisher {
    /// The bucket is one that is not known yet: all up to `end` is compared with it, after a while.
    pub fn begin_generation(&mut self, end: Seq, now: Duration, spread: Duration) {
        *self = Publisher { cursor: end, answered: now, ..Publisher::default() };
        let at = now + spread;
        if end > Seq(0) {
            self.backlog = Some(Backlog { cursor: Seq(0), until: end, at, is_open: false });
        }
    }

    /// What the bucket held is known.
    pub fn follower_in_sync(&mut self, now: Duration) {
        if let Some(backlog) = &mut self.backlog {
            backlog.is_open |= backlog.at <= now;
        }
    }

    /// The connection is closed. Whatever is not answered is published again on the next one.
    pub fn closed(&mut self) {
        self.trouble = None;
        for slot in self.flights.slots() {
            self.make_due(slot);
        }
    }

    pub fn is_in_flight(&self, slot: u32) -> bool {
        self.flights.get(slot).is_some()
    }

    /// The flight is published, or ends, as soon as there is room.
    pub fn make_due(&mut self, slot: u32) {
        if self.flights.get(slot).is_some_and(|flight| flight.step != Step::Due) {
            self.flights.set_step(slot, Step::Due, None);
            self.due.push_back(slot);
        }
    }

    /// The bucket is asked for the client of the flight, as soon as there is room.
    pub fn make_asking(&mut self, slot: u32) {
        self.flights.set_step(slot, Step::ToAsk, None);
        self.due.push_back(slot);
    }

    /// The bucket held an update that is older than ours while ours was on its way.
    pub fn found_older(&mut self, slot: u32, sequence: u64) {
        let Some(flight) = self.flights.get_mut(slot) else { return };
        flight.older = flight.older.max(sequence);
        if flight.step == Step::Sent {
            return; // Its answer will tell whether it came before or after this.
        }
        let is_waiting = matches!(flight.step, Step::Conflict | Step::ToAsk | Step::Asked);
        self.flights.set_expected(slot, sequence);
        if is_waiting {
            self.make_due(slot);
        }
    }

    /// The bucket holds what we know of the client.
    pub fn found_equal(&mut self, slot: u32) {
        let Some(flight) = self.flights.get_mut(slot) else { return };
        flight.older = 0;
        if flight.step != Step::Sent {
            self.flights.end(slot);
        }
    }

    /// The client is not published any more.
    pub fn end_flight(&mut self, slot: u32) {
        self.flights.end(slot);
    }

    /// The slot is looked at once more before the feed is.
    pub fn look_again(&mut self, slot: u32) {
        self.due.push_back(slot);
    }

    /// The engine does not take this change of the entry in a slot.
    pub fn give_up(&mut self, slot: u32, seq: Seq) {
        self.given_up.insert(slot, seq);
        if self.given_up.len() > ENGINE_GIVEN_UP {
            self.given_up.pop_first();
        }
    }

    pub fn has_given_up(&self, slot: u32, seq: Seq) -> bool {
        self.given_up.get(&slot).is_some_and(|given_up| *given_up >= seq)
    }

    /// What was given up is published once more: somebody waits for it, and an operator may have changed the bucket.
    pub fn try_again(&mut self, slot: u32) {
        if self.given_up.remove(&slot).is_some() {
            self.look_again(slot);
        }
    }

    /// The bucket holds something of the client that this server knows, too.
    pub fn is_kept(&mut self, slot: u32) {
        if !self.given_up.is_empty() {
            self.given_up.remove(&slot);
        }
    }

    /// The engine answers publishes.
    pub fn engine_answers(&mut self, now: Duration) {
        (self.answered, self.trouble) = (now, None);
    }

    /// It has taken the publish with this number.
    pub fn acknowledged(&mut self, number: u64) {
        self.acknowledged = self.acknowledged.max(number);
    }

    /// The leader has answered a question: a publish need not wait any longer to try whether it takes one.
    pub fn leader_answers(&mut self) {
        if let Some(trouble) = self.trouble.as_mut().filter(|trouble| trouble.why != Why::NoRoom) {
            trouble.may_probe = true;
        }
    }

    /// What was sent for a flight is sent once more, as soon as there is room.
    fn again(&mut self, slot: u32, step: Step) {
        match step {
            Step::Conflict | Step::Asked => self.make_asking(slot),
            Step::Sent | Step::Due | Step::ToAsk | Step::Paused => self.make_due(slot),
        }
    }

    /// The engine takes nothing, for this reason.
    pub fn begin_trouble(&mut self, why: Why, pause: Duration, now: Duration) -> &mut Trouble {
        let before = self.trouble.filter(|trouble| trouble.why == why);
        let trouble = match before {
            // One of those that were on their way when it began.
            Some(trouble) if !trouble.has_probed => trouble,
            _ => {
                let pause = match (why, before) {
                    (Why::NoRoom, Some(before)) => (2 * before.pause).min(ENGINE_REFUSED_PAUSE_MAX),
                    _ => pause,
                };
                let since = before.map_or(now, |trouble| trouble.since);
                let probe_at = now + pause;
                Trouble { why, since, pause, probe_at, may_probe: false, has_probed: false }
            }
        };
        self.trouble.insert(trouble)
    }

    pub fn has_pending(&self, table: &Table) -> bool {
        if self.trouble.is_some_and(|trouble| !trouble.may_probe) {
            return false;
        }
        let has_room = self.flights.len() < ENGINE_PUBLISHES;
        let has_backlog = self.backlog.is_some_and(|backlog| backlog.is_open);
        !self.due.is_empty() || (has_room && (self.cursor < table.end() || has_backlog))
    }

    pub fn poll_timeout(&self, is_in_sync: bool) -> Option<Duration> {
        let backlog = self.backlog.filter(|backlog| !backlog.is_open);
        let backlog = backlog.map(|backlog| backlog.opens_at(is_in_sync));
        let probe = self.trouble.filter(|trouble| !trouble.may_probe);
        let probe = probe.map(|trouble| trouble.probe_at);
        self.flights.next_look().into_iter().chain(backlog).chain(probe).min()
    }
}

impl Backlog {
    fn opens_at(&self, is_in_sync: bool) -> Duration {
        if is_in_sync { self.at } else { self.at + ENGINE_FILL_WAIT }
    }
}

impl Engine {
    /// Publishes what the bucket lacks, until `out` holds `full` bytes.
    pub(super) fn publish(
        &mut self,
        full: usize,
        herd: &Herd,
        now: Duration,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        let mut allowed = match &mut self.publisher.trouble {
            None => usize::MAX,
            Some(trouble) if trouble.may_probe => {
                trouble.may_probe = false;
                trouble.has_probed = true;
                trouble.probe_at = now + trouble.pause;
                1
            }
            Some(_) => 0,
        };
        while allowed > 0 && out.len() < full {
            let Some(slot) = self.publisher.due.pop_front() else { break };
            if self.look_at(slot, herd, now, out, observer) {
                allowed -= 1;
            }
        }
        let mut cursor = self.publisher.cursor;
        let end = herd.table.end();
        self.walk(&mut cursor, end, &mut allowed, full, herd, now, out, observer);
        self.publisher.cursor = cursor;
        if let Some(mut backlog) = self.publisher.backlog.filter(|backlog| backlog.is_open) {
            let until = backlog.until;
            let cursor = &mut backlog.cursor;
            self.walk(cursor, until, &mut allowed, full, herd, now, out, observer);
            self.publisher.backlog = Some(backlog).filter(|backlog| backlog.cursor < until);
        }
    }

    /// Clients whose updates were on their way may leave the cache again.
    pub(super) fn settle(&mut self, herd: &mut Herd) {
        for slot in std::mem::take(&mut self.publisher.settled) {
            self.used(slot, herd);
        }
    }

    /// Publishes changes behind the cursor, up to `until`.
    #[allow(clippy::too_many_arguments)]
    fn walk(
        &mut self,
        cursor: &mut Seq,
        until: Seq,
        allowed: &mut usize,
        full: usize,
        herd: &Herd,
        now: Duration,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        let mut records = herd.table.records_after(*cursor);
        for _ in 0..FEED_RECORDS_PER_STEP {
            if *allowed == 0
                || out.len() >= full
                || self.publisher.flights.len() >= ENGINE_PUBLISHES
                || *cursor >= until
            {
                return;
            }
            let Some((record, entry)) = records.next() else {
                *cursor = until; // The latest changes were swept, and left no record.
                return;
            };
            *cursor = record.seq;
            if record.seq > until {
                *cursor = until;
                return;
            }
            // One whose earlier update is on its way is looked at when the answer has come.
            if entry.is_some()
                && !self.publisher.is_in_flight(record.slot)
                && self.look_at(record.slot, herd, now, out, observer)
            {
                *allowed -= 1;
            }
        }
    }

    /// Publishes the entry in a slot unless the bucket has it, or asks the bucket for it. Whether something was written.
    fn look_at(
        &mut self,
        slot: u32,
        herd: &Herd,
        now: Duration,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) -> bool {
        let is_cache = self.is_cache();
        let flights = &mut self.publisher.flights;
        let Some(entry) = herd.table.entry_at(slot) else {
            flights.end(slot);
            return false;
        };
        let (id, seq) = (entry.update.id(), entry.seq());
        let known = herd.table.kept.in_bucket(slot);
        let flight = flights.get(slot).filter(|flight| *flight.id == *id);
        if flight.is_some_and(|flight| !matches!(flight.step, Step::Due | Step::ToAsk)) {
            return false; // The slot stood there twice.
        }
        // One that was in the bucket, and has been replaced by an older one since, is published again.
        let older = flight.map_or(0, |flight| flight.older);
        if flight.is_some_and(|flight| flight.expected < older) {
            flights.set_expected(slot, older);
        } else if flight.is_none() || (known.seq >= seq && older == 0) {
            flights.end(slot);
        }
        if known.seq >= seq && older == 0 {
            if is_cache {
                self.publisher.settled.push(slot);
            }
            return false;
        }
        let step = flights.get(slot).map(|flight| (flight.step, flight.expected));
        let expected = match step {
            None => {
                flights.begin(slot, id, known.sequence);
                if known.sequence == 0 && is_cache {
                    // It may be there, and have left this cache.
                    let is_leader_only = herd.table.is_leader_only();
                    let kind = if is_leader_only { Kind::Get } else { Kind::GetCopy };
                    self.ask_for(kind, slot, id, now, out);
                    return true;
                }
                known.sequence
            }
            Some((Step::ToAsk, _)) => {
                self.ask_for(Kind::Get, slot, id, now, out);
                return true;
            }
            Some((_, expected)) => expected,
        };
        let number = self.requests.next_of(Kind::Publish, slot, &mut self.reply);
        self.subject_of(id);
        self.line.clear();
        entry.update.write_updateloc(&mut self.line);
        let value = self.line.trim_ascii_end();
        write_expecting(&self.scratch, &self.reply, expected, value, out);
        self.publisher.flights.sent(slot, Try { number, seq }, now);
        observer.record(Event::Engine(EngineEvent::Sending { update: &entry.update }));
        true
    }

    /// Asks the leader, or any copy, for the bucket's value of a client.
    fn ask_for(&mut self, kind: Kind, slot: u32, id: &[u8], now: Duration, out: &mut Vec<u8>) {
        let Engine { requests, bucket, reply, scratch, .. } = self;
        let number = requests.next_of(kind, slot, reply);
        let source = if kind == Kind::Get { Source::Leader } else { Source::Copy };
        write_question(bucket, source, id, reply, scratch, out);
        self.publisher.flights.asked(slot, number, now);
    }

    /// The subject of a client, in `scratch`.
    fn subject_of(&mut self, id: &[u8]) {
        self.scratch.clear();
        self.bucket.append_subject(b"", &mut self.scratch);
        keys::encode(id, &mut self.scratch);
    }

    pub(super) fn publisher_timeouts(&mut self, now: Duration, observer: &mut dyn Observer) {
        let is_in_sync = self.follower.is_in_sync;
        let publisher = &mut self.publisher;
        if let Some(backlog) = &mut publisher.backlog {
            backlog.is_open |= backlog.opens_at(is_in_sync) <= now;
        }
        let mut is_silent = false;
        for (_, slot, step) in publisher.flights.take_overdue(now) {
            if matches!(step, Step::Sent | Step::Asked) {
                let acknowledged = publisher.acknowledged;
                let (is_lost, is_old) = publisher.flights.is_lost(slot, acknowledged, now);
                if !is_lost && !is_old {
                    continue;
                }
                let was_silent = publisher.answered + ENGINE_ACK_WAIT <= now;
                is_silent |= step == Step::Sent && is_old && was_silent;
            }
            publisher.again(slot, step);
        }
        if is_silent && publisher.trouble.is_none() {
            let pause = self.repeat_pause();
            // It has been silent for long enough: the first one tries at once.
            self.publisher.begin_trouble(Why::Silent, pause, now).probe_at = now;
            observer.record(Event::Engine(EngineEvent::NoAnswer { request: "publish" }));
        }
        let publisher = &mut self.publisher;
        if let Some(trouble) = publisher.trouble.as_mut().filter(|it| it.probe_at <= now) {
            trouble.may_probe = true;
        }
    }

    /// Refuses one flight for a while, that is twice as long each time.
    pub(super) fn pause_flight(&mut self, slot: u32, now: Duration) {
        let Some(flight) = self.publisher.flights.get_mut(slot) else { return };
        let pause = flight.pause.max(ENGINE_REFUSED_PAUSE);
        flight.pause = (2 * pause).min(ENGINE_REFUSED_PAUSE_MAX);
        self.publisher.flights.set_step(slot, Step::Paused, Some(now + pause));
    }
}
