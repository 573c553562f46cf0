//! What the bucket holds of a client, met with what this server knows of it.
//!
//! The newest update wins. If that is ours although the bucket held it, or a newer one, before, then the bucket has gone
//! back: ours is published again. So the bucket can't stay behind what any member knows.

use super::{Engine, EngineEvent, keys};
use crate::herd::{Applied, Awaited, Event, Herd, InBucket, Observer};
use crate::nats::{Answer, ApiError, DirectMessage, Headers, Message, ReplyError, StoredMessage};
use crate::protocol::{FromDialler, UpdateRef};

/// A message of the bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub key: &'a [u8],
    /// Its number in the stream.
    pub sequence: u64,
    pub headers: Headers<'a>,
    pub payload: &'a [u8],
    /// When it was stored, in nanoseconds since 1970, by the engine's clock; None if only its headers may say it. See
    /// [`Found::stored_at`].
    pub stored_at: Option<i128>,
    /// Whether the leader has just answered that this is the last message of the key; else it was, at some time.
    pub is_answer: bool,
}

impl Found<'_> {
    /// When it was stored. It matters for a deletion only, so a time in headers is not read before.
    fn stored_at(&self) -> i128 {
        self.stored_at.or_else(|| self.headers.stored_at()).unwrap_or(i128::MIN)
    }
}

/// Who answers for the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Leader,
    /// Any copy, which may lag.
    Copy,
}

/// Calls `with` with what an answer says of the key for which the bucket was asked: None if it has no message.
pub(super) fn read_found<T>(
    message: &Message<'_>,
    key: &[u8],
    source: Source,
    with: impl FnOnce(Result<Option<Found<'_>>, ReplyError>) -> T,
) -> T {
    let found = |sequence, headers, payload, stored_at: Option<i128>| Found {
        key,
        sequence,
        headers,
        payload,
        stored_at,
        is_answer: false,
    };
    let error = match source {
        Source::Leader => match StoredMessage::read(message) {
            Ok(it) => {
                let found = found(it.seq, it.headers(), &it.payload, it.stored_at());
                return with(Ok(Some(found)));
            }
            Err(error) => error,
        },
        Source::Copy => match DirectMessage::read(message) {
            Ok(it) => {
                return with(Ok(Some(found(it.seq, it.headers, it.payload, None))));
            }
            Err(error) => error,
        },
    };
    match &error {
        ReplyError::Status(404, _) => with(Ok(None)),
        error if error.api_code() == Some(ApiError::NO_MESSAGE) => with(Ok(None)),
        // A copy that can't be understood says nothing, and the leader is asked.
        ReplyError::Unreadable(_) if source == Source::Copy => with(Ok(None)),
        _ => with(Err(error)),
    }
}

/// What it says.
enum Value<'a> {
    Update(UpdateRef<'a>),
    /// An operator has deleted the client.
    Deleted,
    /// The engine has deleted an old update, as it was told to.
    Expired,
    Unreadable(&'static str),
}

/// What a message is of, if its text is, to the letter, that of the entry in this slot.
pub(super) fn same_as(slot: u32, found: &Found<'_>, herd: &Herd) -> Option<Awaited> {
    let entry = herd.table.entry_at(slot)?;
    let is_same = entry.update.is_line(found.payload)
        && keys::is_of(found.key, entry.update.id())
        && found.headers.get("KV-Operation").is_none();
    is_same.then(|| Awaited { slot, seq: entry.seq() })
}

impl Engine {
    /// Takes a message of the bucket in.
    pub(super) fn found_in_bucket(
        &mut self,
        found: &Found<'_>,
        herd: &mut Herd,
        observer: &mut dyn Observer,
    ) {
        if let Some(awaited) = self.own(found, herd) {
            return self.found_same(awaited, found, herd, observer);
        }
        match self.read(found, herd) {
            Value::Update(update) => self.found_update(&update, found, herd, observer),
            Value::Deleted => self.found_deleted(found, herd, observer),
            Value::Expired => {
                if let Some(awaited) = self.known(found, herd) {
                    self.note_sequence(awaited, found, herd);
                }
            }
            Value::Unreadable(reason) => {
                self.status.skipped += 1;
                let event =
                    EngineEvent::Skipped { key: found.key, sequence: found.sequence, reason };
                observer.record(Event::Engine(event));
                if let Some(awaited) = self.known(found, herd) {
                    self.found_older(awaited, found, herd, observer);
                }
            }
        }
    }

    /// What a message is of which the engine has acknowledged that it has it, if its text is, to the letter, what this server
    /// knows of the client: nothing of it must be read. So most of its own updates come back.
    fn own(&self, found: &Found<'_>, herd: &Herd) -> Option<Awaited> {
        let slot = self.follower.acknowledged_by(found.sequence)?;
        same_as(slot, found, herd)
    }

    /// The bucket holds, to the letter, what this server knows of the client.
    pub(super) fn found_same(
        &mut self,
        awaited: Awaited,
        found: &Found<'_>,
        herd: &mut Herd,
        observer: &mut dyn Observer,
    ) {
        self.status.received += 1;
        if let Some(entry) = herd.table.entry_at(awaited.slot) {
            let (update, applied) = (&entry.update.get(), Applied::Stale);
            observer.record(Event::Engine(EngineEvent::Received { update, applied }));
        }
        self.found_equal(awaited, found, herd);
    }

    fn read<'a>(&self, found: &Found<'a>, herd: &Herd) -> Value<'a> {
        match found.headers.get_both(["KV-Operation", "Nats-Marker-Reason"]) {
            [Some(b"DEL" | b"PURGE"), _] => return Value::Deleted,
            [_, Some(_)] => return Value::Expired,
            _ => {}
        }
        let Ok(FromDialler::Update(update)) = FromDialler::parse(found.payload) else {
            return Value::Unreadable("it is no update");
        };
        if !keys::is_of(found.key, update.id) {
            return Value::Unreadable("it is an update of another client");
        }
        if update.skew.0 < -(herd.settings.max_future.as_nanos() as i128) {
            return Value::Unreadable("its timestamp lies too far ahead");
        }
        Value::Update(update)
    }

    /// The update of a message, if it is one of its key.
    pub(super) fn read_update<'a>(&self, found: &Found<'a>, herd: &Herd) -> Option<UpdateRef<'a>> {
        match self.read(found, herd) {
            Value::Update(update) => Some(update),
            _ => None,
        }
    }

    /// What is known of the client of a message.
    fn known(&mut self, found: &Found<'_>, herd: &Herd) -> Option<Awaited> {
        self.scratch.clear();
        if keys::decode(found.key, &mut self.scratch) {
            herd.table.awaited(&self.scratch)
        } else {
            None
        }
    }

    fn found_update(
        &mut self,
        update: &UpdateRef<'_>,
        found: &Found<'_>,
        herd: &mut Herd,
        observer: &mut dyn Observer,
    ) {
        self.status.received += 1;
        let applied = herd.table.apply(update, None);
        observer.record(Event::Engine(EngineEvent::Received { update, applied }));
        if let Applied::Stored(_) = applied {
            crate::herd::report_to_links(&herd.links, update, None, observer);
        }
        // None if it lies below the floor: what that forgot is not repaired.
        let Some(awaited) = herd.table.awaited(update.id) else { return };
        let ours = herd.table.entry_at(awaited.slot).map(|entry| entry.update.get());
        if ours.is_some_and(|ours| update.newness(&ours).is_eq()) {
            self.found_equal(awaited, found, herd);
        } else {
            self.found_older(awaited, found, herd, observer);
        }
    }

    /// Notes the number of a client's last message. False if a later one is known.
    fn note_sequence(&mut self, awaited: Awaited, found: &Found<'_>, herd: &mut Herd) -> bool {
        let Awaited { slot, .. } = awaited;
        let known = herd.table.kept.in_bucket(slot);
        // The same number again, and not what was acknowledged by it: the engine has lost that.
        let is_last = found.sequence >= known.sequence;
        // An answer of the leader may name an earlier one: the bucket is another one, or a later message came meanwhile.
        if is_last || found.is_answer {
            let known = InBucket { sequence: found.sequence, ..known };
            herd.table.kept.set_in_bucket(slot, known);
        }
        if !found.is_answer {
            self.follower.witness(found.sequence, slot, true);
        }
        is_last
    }

    /// The bucket held what we know of the client.
    fn found_equal(&mut self, awaited: Awaited, found: &Found<'_>, herd: &mut Herd) {
        let is_last = self.note_sequence(awaited, found, herd);
        let known = herd.table.kept.in_bucket(awaited.slot);
        if is_last {
            self.publisher.found_equal(awaited.slot);
            self.kept(awaited.slot, InBucket { seq: known.seq.max(awaited.seq), ..known }, herd);
        }
    }

    /// The bucket held something older than what we know of the client.
    fn found_older(
        &mut self,
        awaited: Awaited,
        found: &Found<'_>,
        herd: &mut Herd,
        observer: &mut dyn Observer,
    ) {
        if !self.note_sequence(awaited, found, herd) {
            return;
        }
        let Awaited { slot, seq } = awaited;
        if self.publisher.is_in_flight(slot) {
            self.publisher.found_older(slot, found.sequence);
        } else if herd.table.kept.in_bucket(slot).seq >= seq {
            self.repair(slot, herd, observer);
        }
        // Else it has not been published yet.
    }

    /// Publishes again what the bucket has lost.
    pub(super) fn repair(&mut self, slot: u32, herd: &mut Herd, observer: &mut dyn Observer) {
        if herd.table.append_again(slot).is_some() {
            self.status.repairs += 1;
            if let Some(entry) = herd.table.entry_at(slot) {
                let event = EngineEvent::Repairing { update: &entry.update };
                observer.record(Event::Engine(event));
            }
        }
    }

    /// The engine has an update: tells those who wait for it. Each update comes twice, with its acknowledgement and from the
    /// consumer, and nobody waits for the second.
    pub(super) fn kept(&mut self, slot: u32, known: InBucket, herd: &mut Herd) {
        let before = herd.table.kept.in_bucket(slot);
        herd.table.kept.set_in_bucket(slot, known);
        self.publisher.is_kept(slot);
        self.used(slot, herd); // By what was just set it may leave a cache.
        if known.seq > before.seq {
            let Herd { durable, outputs, .. } = herd;
            durable.holders.tell(slot, outputs);
        }
    }

    /// An operator has deleted the client: this server forgets what it received before that.
    fn found_deleted(&mut self, found: &Found<'_>, herd: &mut Herd, observer: &mut dyn Observer) {
        let Some(awaited) = self.known(found, herd) else { return };
        if !self.note_sequence(awaited, found, herd) {
            return;
        }
        let Awaited { slot, seq } = awaited;
        let Some(entry) = herd.table.entry_at(slot) else { return };
        let update = entry.update.get();
        let received_at = update.timestamp.nanos + update.skew.0;
        if herd.table.kept.in_bucket(slot).seq >= seq || received_at < found.stored_at() {
            let id = update.id.to_vec();
            self.publisher.end_flight(slot);
            herd.forget(&id);
            observer.record(Event::Engine(EngineEvent::Forgotten { id: &id }));
        } else if self.publisher.is_in_flight(slot) {
            self.publisher.found_older(slot, found.sequence);
        }
    }
}
