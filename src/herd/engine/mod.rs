//! One server's part in an engine: a key-value bucket of NATS JetStream that several servers share instead of links.
//!
//! The engine is one more reader of the feed, which publishes what clients and neighbours sent, and one more origin in the
//! table, which follows what the other members published. Newest wins, here as everywhere: each publish says which message
//! of its client it replaces, and the server that loses compares.

use std::time::Duration;

use super::{Herd, Observer};
use crate::clock::Now;
use crate::nats::Message;

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
    /// How long an answer may be held.
    pub timeout: Duration,
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

/// What happened between this server and the engine.
#[derive(Clone, Copy, Debug)]
pub enum EngineEvent<'a> {
    /// This server knows all that the bucket holds.
    InSync,
    /// The engine can't be used as it is, for this reason.
    Refused { reason: &'a str },
}

/// How far a member has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineState {
    #[default]
    Disconnected,
    /// Connected; the bucket can't be used.
    Refused,
    /// What the bucket holds is being read.
    Filling,
    InSync,
}

/// One server's part.
#[derive(Clone, Debug)]
pub struct Engine {
    _settings: EngineSettings,
}

impl Engine {
    /// One that is not connected.
    pub fn new(settings: EngineSettings) -> Engine {
        Engine { _settings: settings }
    }
}

/// What is known of a member's engine, for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    pub state: EngineState,
    /// Messages of the bucket that have not been read yet.
    pub pending: u64,
    /// Publishes that are not acknowledged yet.
    pub in_flight: usize,
    /// Publishes that another member came before.
    pub conflicts: u64,
    /// Updates that were published again, because the bucket held an older one.
    pub repairs: u64,
    /// Updates that the engine has acknowledged.
    pub published: u64,
    /// Updates that were read from the bucket.
    pub received: u64,
    /// Values of the bucket that are not an update of their client.
    pub skipped: u64,
}

impl Herd {
    /// From now on the engine reads the feed, and fills the table.
    pub fn attach_engine(&mut self, settings: EngineSettings, _now: Now) {
        self.table.follow_engine();
        self.durable.engine = Some(Box::new(Engine::new(settings)));
    }

    /// The connection to the engine is usable: appends the first requests.
    pub fn engine_connected(
        &mut self,
        _now: Now,
        _out: &mut Vec<u8>,
        _observer: &mut dyn Observer,
    ) {
    }

    /// Handles a message of the engine, and appends what must be answered at once.
    pub fn engine_message(
        &mut self,
        _message: &Message<'_>,
        _now: Now,
        _out: &mut Vec<u8>,
        _observer: &mut dyn Observer,
    ) {
    }

    /// Appends what the engine has not been sent yet, until `out` holds `full` bytes.
    pub fn poll_engine(
        &mut self,
        _full: usize,
        _now: Now,
        _out: &mut Vec<u8>,
        _observer: &mut dyn Observer,
    ) {
    }

    /// Whether [`Herd::poll_engine`] would append something, given room.
    pub fn engine_has_pending(&self) -> bool {
        false
    }

    /// The connection to the engine is closed.
    pub fn engine_closed(&mut self, _now: Now, _observer: &mut dyn Observer) {}

    /// When [`Herd::handle_engine_timeout`] must be called at the latest.
    pub fn poll_engine_timeout(&self) -> Option<Duration> {
        None
    }

    /// Does what is due.
    pub fn handle_engine_timeout(&mut self, _now: Now, _observer: &mut dyn Observer) {}

    /// What is known of the engine; None if there is none.
    pub fn engine_status(&self) -> Option<EngineStatus> {
        self.durable.engine.as_ref().map(|_| EngineStatus::default())
    }
}
