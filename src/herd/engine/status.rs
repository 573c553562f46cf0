//! What an operator may know of a member's part in the engine: events for the log, and figures.

use crate::herd::{Applied, Herd};
use crate::protocol::{Update, UpdateRef};

/// What happened between this server and the engine.
#[derive(Clone, Copy, Debug)]
pub enum EngineEvent<'a> {
    /// This server knows all that the bucket holds.
    InSync,
    /// This server, which keeps a cache, can ask the bucket.
    CanAsk,
    /// The engine can't be used as it is, for this reason. It is looked at again after a pause. `is_misfit`: the bucket has
    /// other settings than it must have, and no bucket was usable before.
    Refused { reason: &'a str, is_misfit: bool },
    /// The bucket can be used, but is not what the settings ask for.
    Unfit { warning: &'a str },
    /// There was no bucket, and this server has made it.
    BucketMade,
    /// The bucket is another one than before, or was put back to an older state: what it lacks is published again.
    BucketReplaced,
    /// The bucket is followed anew from where this server has come to, for this reason.
    FollowedAnew { reason: &'a str },
    /// The engine is connected, and does not answer; it is asked again.
    NoAnswer { request: &'static str },
    /// An update of the bucket was applied to the table.
    Received { update: &'a UpdateRef<'a>, applied: Applied },
    /// The update is in the output to the engine. It is published again until it is acknowledged.
    Sending { update: &'a Update },
    /// The bucket held an older update of this client, or none that can be read; this one is published again.
    Repairing { update: &'a Update },
    /// A value of the bucket is no update of its client.
    Skipped { key: &'a [u8], sequence: u64, reason: &'static str },
    /// An operator has deleted this client in the bucket; it is forgotten.
    Forgotten { id: &'a [u8] },
    /// The engine has refused an update of this client, which is published again after a pause.
    PublishRefused { id: &'a [u8], reason: &'a str },
    /// The engine does not take an update of this client, which is not published any more.
    GivenUp { id: &'a [u8], reason: &'a str },
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

/// What is known of a member's engine, for an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    pub state: EngineState,
    /// Messages of the bucket that have not been read yet.
    pub pending: u64,
    /// Publishes that are not acknowledged yet.
    pub in_flight: usize,
    /// The number of the last message of the bucket that was read.
    pub followed: u64,
    /// How often the bucket was followed, by one consumer after the other. A cache follows nothing.
    pub consumers: u64,
    /// Questions for clients that are not answered yet, in a cache.
    pub asking: usize,
    /// Requests that a cache has sent for them.
    pub asked: u64,
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
    /// Publishes that the engine has refused, other than for another member's.
    pub refused: u64,
    /// Updates that the engine does not take, and that are not published any more.
    pub given_up: u64,
}

impl Herd {
    /// What is known of the engine; None if there is none.
    pub fn engine_status(&self) -> Option<EngineStatus> {
        self.durable.engine.as_ref().map(|engine| engine.status())
    }

    /// Why the engine can't be used, if it can't.
    pub fn engine_refusal(&self) -> Option<&str> {
        self.durable.engine.as_ref()?.stream.refusal()
    }
}
