//! One server's part in an engine: a key-value bucket of NATS JetStream that several servers share instead of links.
//!
//! The engine is one more reader of the feed, which publishes what clients and neighbours sent, and one more origin in the
//! table, which follows what the other members published. Newest wins, here as everywhere: each publish says which message
//! of its client it replaces, and the server that loses compares.
//!
//! ```text
//!   stream     looks at the bucket, makes it, and tells one bucket from the next
//!   follower   bucket ──ordered consumer──> values ──> table
//!   publisher  table's feed ──> flights ──publishes──> bucket ──> answers
//! ```
//!
//! The rule behind it: whatever surprises us, the bucket is followed anew; whatever is unanswered is published again; the
//! table is the truth.

mod answers;
mod ascending;
mod bucket;
mod cache;
mod flights;
mod follower;
mod keys;
mod publisher;
mod questions;
mod requests;
mod status;
mod stream;
mod values;

use std::time::Duration;

pub use cache::EngineAnswer;
use follower::Follower;
use publisher::Publisher;
use questions::Questions;
use requests::{ANSWERS_SID, Answered, Kind, Requests};
pub use status::{EngineEvent, EngineState, EngineStatus};
use stream::Stream;

use super::{Awaited, Herd, Observer, Random};
use crate::clock::Now;
use crate::nats::{Bucket, Message, Version};

/// The settings of a member.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The bucket's name; its stream is `KV_` and this.
    pub bucket: String,
    /// How many copies of the bucket there are to be if it must be made.
    pub replicas: usize,
    /// Whether a missing bucket is made.
    pub create: bool,
    pub keep: Keep,
    /// What stands first in each subject for answers: random, and of this run alone.
    pub inbox: String,
    /// The seed of its random pauses.
    pub seed: u64,
}

/// Which clients a member holds in its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All: it follows the bucket.
    #[default]
    All,
    /// Those that were used last: it asks the bucket for each query.
    Cache,
}

/// One server's part.
#[derive(Clone, Debug)]
pub struct Engine {
    settings: EngineSettings,
    bucket: Bucket,
    requests: Requests,
    stream: Stream,
    follower: Follower,
    publisher: Publisher,
    questions: Questions,
    /// Messages came while the bucket could not be used: those who ask may be told what is cached. That is done once for all
    /// messages of a turn, since it goes through all who ask.
    may_not_ask: bool,
    /// Since when it is remembered which messages clients had that have left the cache.
    remembered_since: Duration,
    is_connected: bool,
    /// Whether a bucket was known at some time.
    is_known_bucket: bool,
    /// The server's.
    version: Version,
    /// The figures that are counted.
    status: EngineStatus,
    random: Random,
    /// A key or a subject that is being made.
    scratch: Vec<u8>,
    /// The line that is published.
    line: Vec<u8>,
    /// The subject for an answer that is being made.
    reply: Vec<u8>,
}

impl Engine {
    /// One that is not connected.
    pub fn new(settings: EngineSettings) -> Engine {
        Engine {
            bucket: Bucket::new(&settings.bucket),
            requests: Requests::new(&settings.inbox),
            stream: Stream::new(),
            follower: Follower::new(),
            publisher: Publisher::default(),
            questions: Questions::default(),
            may_not_ask: false,
            remembered_since: Duration::ZERO,
            is_connected: false,
            is_known_bucket: false,
            version: Version::default(),
            status: EngineStatus::default(),
            random: Random(settings.seed),
            scratch: Vec::new(),
            line: Vec::new(),
            reply: Vec::new(),
            settings,
        }
    }

    fn status(&self) -> EngineStatus {
        let state = match () {
            () if !self.is_connected => EngineState::Disconnected,
            () if self.stream.refusal().is_some() => EngineState::Refused,
            () if self.follower.is_in_sync => EngineState::InSync,
            () => EngineState::Filling,
        };
        EngineStatus {
            state,
            pending: self.follower.pending,
            in_flight: self.publisher.flights.len(),
            followed: self.follower.followed,
            consumers: self.follower.number,
            asking: self.questions.len(),
            asked: self.questions.count,
            ..self.status
        }
    }

    fn connected(&mut self, now: Duration, observer: &mut dyn Observer) {
        self.is_connected = true;
        self.requests.queued.clear();
        if let Some(reason) = bucket::too_old(self.version) {
            // Another version comes with another connection only, so nothing is asked on this one.
            self.refuse(reason, now, observer);
            return self.stream.asks_nothing();
        }
        self.requests.subscribe();
        self.follower_waits();
        self.ask_for_stream(now);
    }

    fn closed(&mut self) {
        self.is_connected = false;
        self.requests.queued.clear();
        self.stream.closed();
        self.follower.closed();
        self.publisher.closed();
        self.questions.closed();
        self.may_not_ask = false;
    }

    fn message(
        &mut self,
        message: &Message<'_>,
        herd: &mut Herd,
        now: Duration,
        observer: &mut dyn Observer,
    ) {
        if self.follower.listens_to(message.sid) {
            return self.delivered(message, herd, now, observer);
        }
        if message.sid != ANSWERS_SID {
            return; // It is of a consumer that was left.
        }
        let Some(answered) = self.requests.answered(message.subject) else { return };
        let Answered { kind, number, slot } = answered;
        self.questions.is_silent = false;
        match kind {
            Kind::StreamInfo | Kind::CreateStream => {
                self.stream_answered(kind, number, message, herd, now, observer);
            }
            Kind::CreateConsumer => self.consumer_answered(number, message, herd, now, observer),
            Kind::DeleteConsumer => {}
            Kind::Publish => self.publish_answered(slot, number, message, herd, now, observer),
            Kind::Get | Kind::GetCopy => {
                self.value_answered(answered, message, herd, now, observer);
            }
            Kind::Ask | Kind::AskLeader => {
                self.question_answered(slot, number, message, herd, now, observer);
            }
        }
    }

    /// Whether the bucket does not take an update.
    pub(super) fn has_given_up(&self, awaited: Awaited) -> bool {
        self.publisher.has_given_up(awaited.slot, awaited.seq)
    }

    /// Somebody waits for an update that the bucket may not have taken.
    pub(super) fn try_again(&mut self, awaited: Awaited) {
        if self.has_given_up(awaited) {
            self.publisher.try_again(awaited.slot);
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        let stream = self.stream.poll_timeout();
        let follower = self.follower.poll_timeout();
        let publisher = self.publisher.poll_timeout(self.follower.is_in_sync);
        let publisher = publisher.filter(|_| self.stream.is_usable);
        let questions = self.questions.poll_timeout();
        let all = stream.into_iter().chain(follower).chain(publisher).chain(questions);
        all.min().filter(|_| self.is_connected)
    }

    /// A part of this time, by chance.
    fn by_chance(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.part())
    }
}

impl Herd {
    /// From now on the engine reads the feed, and fills the table. To be called before an update is applied.
    pub fn attach_engine(&mut self, settings: EngineSettings) {
        self.table.follow_engine();
        if settings.keep == Keep::Cache {
            self.table.become_cache(self.settings.name.as_bytes());
        }
        self.durable.engine = Some(Box::new(Engine::new(settings)));
    }

    /// The version of the server that is connected, from its INFO. To be called before [`Herd::engine_connected`]; a server
    /// that is too old is refused there.
    pub fn engine_version(&mut self, version: Version) {
        if let Some(engine) = &mut self.durable.engine {
            engine.version = version;
        }
    }

    /// The connection to the engine is usable: appends the first requests.
    pub fn engine_connected(&mut self, now: Now, out: &mut Vec<u8>, observer: &mut dyn Observer) {
        if let Some(engine) = &mut self.durable.engine {
            engine.connected(now.elapsed, observer);
            out.append(&mut engine.requests.queued);
        }
    }

    /// Handles a message of the engine, and appends what must be answered at once.
    pub fn engine_message(
        &mut self,
        message: &Message<'_>,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        if let Some(mut engine) = self.durable.engine.take_if(|engine| engine.is_connected) {
            engine.message(message, self, now.elapsed, observer);
            engine.may_not_ask = !engine.stream.is_usable;
            out.append(&mut engine.requests.queued);
            self.durable.engine = Some(engine);
            self.tell_of_evicted();
        }
    }

    /// Appends what the engine has not been sent yet, until `out` holds `full` bytes.
    pub fn poll_engine(
        &mut self,
        full: usize,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        if let Some(mut engine) = self.durable.engine.take_if(|engine| engine.is_connected) {
            out.append(&mut engine.requests.queued);
            let may_not_ask = std::mem::take(&mut engine.may_not_ask);
            if engine.stream.is_usable {
                engine.ask_questions(full, self, now.elapsed, out);
                engine.publish(full, self, now.elapsed, out, observer);
                engine.settle(self);
            } else if may_not_ask {
                engine.cannot_ask_any(self);
            }
            self.durable.engine = Some(engine);
        }
    }

    /// Whether [`Herd::poll_engine`] would append something, or get further, given room.
    pub fn engine_has_pending(&self) -> bool {
        self.durable.engine.as_ref().is_some_and(|engine| {
            engine.is_connected
                && (!engine.requests.queued.is_empty()
                    || engine.may_not_ask
                    || (engine.stream.is_usable
                        && (engine.publisher.has_pending(&self.table)
                            || engine.questions.has_pending())))
        })
    }

    /// The connection to the engine is closed.
    pub fn engine_closed(&mut self) {
        if let Some(mut engine) = self.durable.engine.take() {
            engine.closed();
            engine.cannot_ask_any(self);
            self.durable.engine = Some(engine);
        }
    }

    /// When [`Herd::handle_engine_timeout`] must be called at the latest.
    pub fn poll_engine_timeout(&self) -> Option<Duration> {
        self.durable.engine.as_ref()?.poll_timeout()
    }

    /// Does what is due. [`Herd::poll_engine`] then appends what that asks for.
    pub fn handle_engine_timeout(&mut self, now: Now, observer: &mut dyn Observer) {
        if let Some(mut engine) = self.durable.engine.take_if(|engine| engine.is_connected) {
            engine.stream_timeouts(now.elapsed, observer);
            engine.follower_timeouts(now.elapsed, observer);
            if engine.stream.is_usable {
                engine.publisher_timeouts(now.elapsed, observer);
            }
            engine.question_timeouts(self, now.elapsed);
            self.durable.engine = Some(engine);
        }
    }
}
