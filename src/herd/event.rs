//! The events that the herd's core reports to an observer: a log, a simulator that checks it, a test.

use super::engine::EngineEvent;
use super::{Applied, NeighbourId};
use crate::protocol::{Batch, Common, Seq, Update, UpdateError, UpdateRef};

/// Receives each event as it happens. It must not act on the herd.
pub trait Observer {
    fn record(&mut self, event: Event<'_>);
}

/// What happened, and what it implies. Updates are referred to: a copy for each event would cost 1 % of an IAMAT.
// With a tag of its own: the compiler would put it into the one of `EngineEvent`, where a look at it takes three
// instructions for each update and neighbour instead of one.
#[repr(u8)]
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An update was applied to the table; if it is stored, every neighbour will be sent it. `from` is the neighbour
    /// that sent it, if it was none of our clients.
    Applied { update: &'a UpdateRef<'a>, from: Option<NeighbourId>, applied: Applied },
    /// The update is in the link's output. If the connection is lost, the update is sent again.
    Sending { update: &'a Update, neighbour: NeighbourId },
    /// The link to the neighbour is down; the update will be sent once it is up.
    CannotSend { update: &'a UpdateRef<'a>, neighbour: NeighbourId },
    /// The neighbour was sent all updates up to `seq`, and a MARK. So many of them were sent since the MARK before.
    MarkSent { neighbour: NeighbourId, seq: Seq, updates: usize },
    /// The neighbour was sent our settings.
    SettingsSent { neighbour: NeighbourId, settings: Common<'a> },
    /// A link came up; the neighbour has all changes up to `from`, and `behind` changes follow.
    LinkUp { neighbour: NeighbourId, from: Seq, behind: u64 },
    /// The neighbour was sent the updates that it had missed.
    CatchUpSent { neighbour: NeighbourId, updates: usize },
    /// The link was closed, for this reason.
    LinkDown { neighbour: NeighbourId, reason: &'static str },
    /// Another server answered than the one that was dialled: the configurations differ.
    WrongName { neighbour: NeighbourId, answered: &'a [u8] },
    /// The neighbour answered with a line that no acceptor sends.
    AnswerRejected { neighbour: NeighbourId, line: &'a [u8] },
    /// A neighbour sent HELLO; it is asked to resume after this mark, or from the beginning.
    PeerIdentified { neighbour: NeighbourId, from: Option<Seq> },
    /// A neighbour has sent the updates that we had missed.
    CatchUpReceived { neighbour: NeighbourId, updates: usize },
    /// Another loop of this server has handed these updates over.
    HandedOver { neighbour: NeighbourId, batch: &'a Batch },
    /// A neighbour's update was malformed and skipped; the connection stays open.
    UpdateSkipped { neighbour: NeighbourId, error: UpdateError, line: &'a [u8] },
    /// A line on the neighbours' port was rejected, and its connection is closed.
    PeerRejected { reason: &'static str, line: &'a [u8] },
    /// A neighbour sent nothing for three heartbeats.
    PeerTimedOut { neighbour: NeighbourId },
    /// Each neighbour that can be reached has sent its full state: from now on this server
    /// knows what the herd knows.
    InSync,
    /// Something happened between this server and the engine.
    Engine(EngineEvent<'a>),
}
