//! Following the bucket: an ordered consumer, which pushes its messages in the order of the stream.
//!
//! Whatever surprises us, the consumer is left, and another one begins behind the last message that was read: with a name,
//! a subject and a subscription of its own, so that an abandoned consumer that wakes up is not listened to.
//!
//! It begins a little before that message, with the last ones that are known to be in the bucket. If one of them has vanished
//! then the engine has lost what it had acknowledged, and all is compared anew: the numbers alone would not show it, once
//! others have published as much again.

use std::time::Duration;

use super::ascending::Ascending;
use super::requests::{Asked, Kind};
use super::values::Found;
use super::{Engine, EngineEvent};
use crate::herd::{Event, Herd, Observer};
use crate::limits::{
    ENGINE_CONSUMER_INACTIVE, ENGINE_CREATE_WAIT, ENGINE_CREATE_WAIT_MAX, ENGINE_FOLLOW_PAUSE,
    ENGINE_FOLLOW_PAUSE_MAX, ENGINE_FOLLOW_RESET_AFTER, ENGINE_IDLE_HEARTBEAT, ENGINE_WITNESSES,
};
use crate::nats::{
    Answer, ConsumerConfig, ConsumerInfo, Delivered, Message, Notice, write_subscribe,
    write_unsubscribe,
};

/// How far the bucket was followed, and by which consumer.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    /// The number of the last message of the stream that was read.
    pub followed: u64,
    /// Messages that are to come, as far as is known.
    pub pending: u64,
    /// Whether all was read that the bucket held when this consumer began.
    pub is_in_sync: bool,
    /// Numbers the consumers of this run.
    pub number: u64,
    state: State,
    /// The pause before the next consumer, if this one fails soon.
    pause: Duration,
    create_wait: Duration,
    /// The last consumer, if it is still to be removed.
    abandoned: Option<u64>,
    /// The last messages that are known to be in the bucket, by their numbers.
    witnesses: Ascending<Witness>,
}

#[derive(Clone, Copy, Debug)]
struct Witness {
    /// Its client's; None if it is no update of a client that is known.
    slot: Option<u32>,
    /// The consumer that has delivered it; 0 if none has.
    consumer: u64,
    /// When it was stored, in nanoseconds since 1970; 0 if it was not delivered.
    stored_at: u64,
}

/// Whether a message is the last one of the client in a slot.
fn is_last(sequence: u64, slot: u32, herd: &Herd) -> bool {
    herd.table.kept.in_bucket(slot).sequence == sequence
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The bucket can't be used.
    Off,
    /// A consumer is made once the stream has been looked at.
    Waiting,
    Pausing {
        until: Duration,
    },
    Following(Consumer),
}

#[derive(Clone, Copy, Debug)]
struct Consumer {
    /// Its CONSUMER.CREATE, while that is unanswered.
    asked: Option<Asked>,
    /// The number, among those of this consumer, of the message that came last.
    last: u64,
    /// Its number in the stream.
    at: u64,
    since: Duration,
    /// When anything last came from it.
    heard: Duration,
}

impl Follower {
    pub fn new() -> Follower {
        Follower {
            followed: 0,
            pending: 0,
            is_in_sync: false,
            number: 0,
            state: State::Off,
            pause: ENGINE_FOLLOW_PAUSE,
            create_wait: ENGINE_CREATE_WAIT,
            abandoned: None,
            witnesses: Ascending::new(),
        }
    }

    /// A message is in the bucket: that of the client in this slot. It was delivered, or the engine has acknowledged it.
    pub fn witness(&mut self, sequence: u64, slot: u32, was_delivered: bool) {
        let consumer = if was_delivered { self.number } else { 0 };
        let new = Witness { slot: Some(slot), consumer, stored_at: 0 };
        let known = self.witnesses.get_or_insert(sequence, new);
        if known.slot == Some(slot) {
            known.consumer = known.consumer.max(consumer);
        }
        self.forget_witnesses();
    }

    /// The slot of the client whose update the engine has acknowledged by this number.
    pub fn acknowledged_by(&self, sequence: u64) -> Option<u32> {
        self.witnesses.get(&sequence).and_then(|witness| witness.slot)
    }

    fn forget_witnesses(&mut self) {
        while self.witnesses.len() > ENGINE_WITNESSES {
            self.witnesses.pop_first();
        }
    }

    /// A message was delivered and taken in. False if what is known of this number, or of the ones before, can't be of the
    /// same stream.
    fn agrees(&mut self, sequence: u64, stored_at: u64, herd: &Herd) -> bool {
        let number = self.number;
        let is_known = sequence <= self.followed;
        let new = Witness { slot: None, consumer: number, stored_at };
        let Some(known) = self.witnesses.get_mut(&sequence) else {
            self.witnesses.insert(sequence, new);
            self.forget_witnesses();
            return !is_known;
        };
        let is_same = known.stored_at == 0 || known.stored_at == stored_at;
        known.stored_at = stored_at;
        let slot = known.slot.filter(|_| known.consumer != number);
        let is_other = slot.is_some_and(|slot| is_last(sequence, slot, herd));
        is_same && !is_other
    }

    /// The greatest number of a message that was in the bucket.
    pub fn greatest_known(&self) -> u64 {
        let last = self.witnesses.last_key_value().map_or(0, |(sequence, _)| *sequence);
        last.max(self.followed)
    }

    /// The slots of the clients whose present messages are the last ones that are known to be in the bucket.
    pub fn last_witnesses<'a>(&'a self, herd: &'a Herd) -> impl Iterator<Item = u32> + use<'a> {
        let witnesses = self.witnesses.iter().rev();
        witnesses.filter_map(|(sequence, witness)| {
            witness.slot.filter(|slot| is_last(*sequence, *slot, herd))
        })
    }

    /// Whether the present consumer has passed over a message that must be there.
    fn lacks_witness(&self, herd: &Herd) -> bool {
        let mut read =
            self.witnesses.iter().take_while(|(sequence, _)| **sequence <= self.followed);
        read.any(|(sequence, witness)| {
            let slot = witness.slot.filter(|_| witness.consumer != self.number);
            slot.is_some_and(|slot| is_last(*sequence, slot, herd))
        })
    }

    /// The subscription of the present consumer.
    fn sid(&self) -> u64 {
        self.number + 1
    }

    fn consumer(&mut self) -> Option<&mut Consumer> {
        match &mut self.state {
            State::Following(consumer) => Some(consumer),
            _ => None,
        }
    }

    /// Whether messages with this subscription are the present consumer's.
    pub fn listens_to(&self, sid: u64) -> bool {
        matches!(self.state, State::Following(_)) && sid == self.sid()
    }

    /// The connection is closed. The consumer may still be there.
    pub fn closed(&mut self) {
        if matches!(self.state, State::Following(_)) {
            self.abandoned = Some(self.number);
        }
        self.state = State::Off;
        self.is_in_sync = false;
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.state {
            State::Off | State::Waiting => None,
            State::Pausing { until } => Some(*until),
            State::Following(consumer) => Some(consumer.times_out_at()),
        }
    }
}

impl Consumer {
    fn times_out_at(&self) -> Duration {
        match self.asked {
            Some(asked) => asked.until,
            None => self.heard + 2 * ENGINE_IDLE_HEARTBEAT,
        }
    }
}

impl Engine {
    /// The connection is open: a consumer is made once the stream has been looked at.
    pub(super) fn follower_waits(&mut self) {
        if let Some(abandoned) = self.follower.abandoned.take() {
            self.remove_consumer(abandoned);
        }
        self.follower.state = State::Waiting;
    }

    /// The bucket can't be used any more.
    pub(super) fn follower_stops(&mut self) {
        self.leave_consumer();
        self.follower.state = State::Waiting;
    }

    /// The bucket is followed from its beginning.
    pub(super) fn follower_begins_anew(&mut self) {
        self.follower_stops();
        (self.follower.followed, self.follower.pending) = (0, 0);
        self.follower.witnesses.clear();
    }

    fn leave_consumer(&mut self) {
        self.follower.is_in_sync = false;
        if self.follower.consumer().is_some() {
            write_unsubscribe(self.follower.sid(), &mut self.requests.queued);
            self.remove_consumer(self.follower.number);
        }
    }

    fn remove_consumer(&mut self, number: u64) {
        let name = self.requests.consumer_name(number);
        // If the answer does not come, the engine removes it after a while.
        self.requests.ask(Kind::DeleteConsumer, &self.bucket.consumer_delete(&name), b"");
    }

    /// The stream was looked at, and can be used: makes a consumer if there is none.
    pub(super) fn follow_if_due(&mut self, now: Duration) {
        if !matches!(self.follower.state, State::Waiting) {
            return;
        }
        self.follower.number += 1;
        let number = self.follower.number;
        let (name, subject) =
            (self.requests.consumer_name(number), self.requests.deliver_subject(number));
        let first = self.follower.witnesses.first_key_value().map(|(sequence, _)| *sequence);
        let next = self.follower.followed + 1;
        let start = first.map_or(next, |first| first.min(next));
        let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
        let config = ConsumerConfig {
            stream: &self.bucket.stream,
            name: &name,
            deliver_subject: &subject,
            start_seq: (start > 1).then_some(start),
            idle_heartbeat: nanoseconds(ENGINE_IDLE_HEARTBEAT),
            inactive_threshold: nanoseconds(ENGINE_CONSUMER_INACTIVE),
        };
        write_subscribe(subject.as_bytes(), self.follower.sid(), &mut self.requests.queued);
        let create = self.bucket.consumer_create(&name);
        let asked = self.requests.ask(Kind::CreateConsumer, &create, &config.to_json());
        let until = now + self.follower.create_wait;
        let asked = Some(Asked { number: asked, until });
        let consumer = Consumer { asked, last: 0, at: 0, since: now, heard: now };
        self.follower.state = State::Following(consumer);
    }

    /// In a cache: the stream was looked at, and can be used. It is asked for single clients, and not followed.
    pub(super) fn can_ask(&mut self, now: Duration, observer: &mut dyn Observer) {
        if !self.follower.is_in_sync {
            self.follower.is_in_sync = true;
            observer.record(Event::Engine(EngineEvent::CanAsk));
            self.publisher.follower_in_sync(now);
        }
    }

    /// The answer to CONSUMER.CREATE.
    pub(super) fn consumer_answered(
        &mut self,
        number: u64,
        message: &Message<'_>,
        herd: &Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        let Some(consumer) = self.follower.consumer() else { return };
        if consumer.asked.take_if(|asked| asked.number == number).is_none() {
            return;
        }
        consumer.heard = now;
        let has_delivered = consumer.last > 0;
        match ConsumerInfo::read(message) {
            Ok(info) => {
                self.follower.create_wait = ENGINE_CREATE_WAIT;
                if !has_delivered {
                    self.follower.pending = info.num_pending;
                }
                self.check_in_sync(herd, now, observer);
            }
            Err(error) => self.follow_anew(&error.to_string(), now, observer),
        }
    }

    /// Leaves the consumer, and makes another one after a pause.
    pub(super) fn follow_anew(&mut self, reason: &str, now: Duration, observer: &mut dyn Observer) {
        if let Some(consumer) = self.follower.consumer() {
            if consumer.since + ENGINE_FOLLOW_RESET_AFTER <= now {
                self.follower.pause = ENGINE_FOLLOW_PAUSE;
            }
            observer.record(Event::Engine(EngineEvent::FollowedAnew { reason }));
        }
        self.leave_consumer();
        let pause = self.follower.pause;
        let until = now + pause / 2 + self.by_chance(pause / 2);
        self.follower.state = State::Pausing { until };
        self.follower.pause = (2 * pause).min(ENGINE_FOLLOW_PAUSE_MAX);
    }

    /// A message with the consumer's subscription.
    pub(super) fn delivered(
        &mut self,
        message: &Message<'_>,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        let Some(consumer) = self.follower.consumer() else { return };
        consumer.heard = now;
        let last = consumer.last;
        let of_stream = message.reply.and_then(Delivered::parse);
        let key = self.bucket.key_of(message.subject);
        if let (Some(delivered), Some(key)) = (of_stream, key) {
            if delivered.consumer_seq != last + 1 || delivered.stream_seq <= consumer.at {
                return self.follow_anew("a message of it is missing", now, observer);
            }
            (consumer.last, consumer.at) = (delivered.consumer_seq, delivered.stream_seq);
            let found = Found {
                key,
                sequence: delivered.stream_seq,
                headers: message.headers,
                payload: message.payload,
                stored_at: Some(delivered.nanoseconds.into()),
                is_answer: false,
            };
            self.found_in_bucket(&found, herd, observer);
            if !self.follower.agrees(delivered.stream_seq, delivered.nanoseconds, herd) {
                return self.follow_another(now, observer);
            }
            self.follower.followed = self.follower.followed.max(delivered.stream_seq);
            self.follower.pending = delivered.pending;
            return self.check_in_sync(herd, now, observer);
        }
        match message.notice() {
            Some(Notice::FlowControl { reply }) => self.requests.acknowledge(reply),
            Some(Notice::Heartbeat { last_consumer, stalled, .. }) => {
                if last_consumer.is_some_and(|theirs| theirs != last) {
                    return self.follow_anew("messages of it are missing", now, observer);
                }
                match stalled {
                    Some(subject) => self.requests.acknowledge(subject),
                    // It has nothing to deliver.
                    None => self.follower.pending = 0,
                }
                self.check_in_sync(herd, now, observer);
            }
            None => {
                let (code, text) = message.headers.status().unwrap_or_default();
                let reason = format!("its consumer says {code} {text}");
                self.follow_anew(&reason, now, observer);
            }
        }
    }

    /// The engine has lost what it had acknowledged: all is compared anew.
    fn follow_another(&mut self, now: Duration, observer: &mut dyn Observer) {
        self.stream.is_another();
        self.follow_anew("it lacks what it had acknowledged", now, observer);
    }

    fn check_in_sync(&mut self, herd: &Herd, now: Duration, observer: &mut dyn Observer) {
        let is_made = self.follower.consumer().is_some_and(|consumer| consumer.asked.is_none());
        if self.follower.pending == 0 && is_made && !self.follower.is_in_sync {
            if self.stream.keeps_for_ever && self.follower.lacks_witness(herd) {
                return self.follow_another(now, observer);
            }
            self.follower.is_in_sync = true;
            observer.record(Event::Engine(EngineEvent::InSync));
            self.publisher.follower_in_sync(now);
        }
    }

    pub(super) fn follower_timeouts(&mut self, now: Duration, observer: &mut dyn Observer) {
        match self.follower.state {
            State::Pausing { until } if until <= now => {
                self.follower.state = State::Waiting;
                // It may be another one meanwhile.
                self.ask_for_stream(now);
            }
            State::Following(consumer) if consumer.times_out_at() <= now => {
                let mut reason = "nothing came from it";
                if consumer.asked.is_some() {
                    reason = "its consumer was not made in time";
                    let wait = (2 * self.follower.create_wait).min(ENGINE_CREATE_WAIT_MAX);
                    self.follower.create_wait = wait;
                }
                self.follow_anew(reason, now, observer);
            }
            _ => {}
        }
    }
}
