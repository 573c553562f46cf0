//! What the herd's core lets an observer know: a log, a simulator that checks it, a test.

use super::{Applied, NeighbourId};
use crate::protocol::{Common, Seq, UpdateError, UpdateRef};

/// Someone who is told what happens, as it happens. Must not act on it.
pub trait Observer {
    fn record(&mut self, event: Event<'_>);
}

/// Something that happened, and what may be concluded from it.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The table was offered an update; if it is stored, every neighbour will be told.
    Applied { update: UpdateRef<'a>, applied: Applied },
    /// The update stands in the link's output. It may be lost with the connection, and is then
    /// sent again.
    Sending { update: UpdateRef<'a>, neighbour: NeighbourId },
    /// The neighbour is down; it will be told when it is back.
    CannotSend { update: UpdateRef<'a>, neighbour: NeighbourId },
    /// The neighbour was sent all up to `seq`.
    Marked { neighbour: NeighbourId, seq: Seq },
    /// The neighbour was told our settings.
    SettingsSent { neighbour: NeighbourId, settings: Common<'a> },
    /// A link came up; the neighbour has all up to `from`, and `behind` changes came after.
    LinkUp { neighbour: NeighbourId, from: Seq, behind: u64 },
    /// The neighbour was sent what it had missed.
    CatchUpSent { neighbour: NeighbourId, updates: usize },
    /// A link was given up.
    LinkDown { neighbour: NeighbourId, reason: &'static str },
    /// Who answered on a link is not who was dialled: the configurations differ.
    WrongName { neighbour: NeighbourId, answered: &'a [u8] },
    /// The neighbour answered what no acceptor answers.
    AnswerRejected { neighbour: NeighbourId, line: &'a [u8] },
    /// A neighbour said HELLO; it is asked to go on from this mark of it, or from the beginning.
    PeerIdentified { neighbour: NeighbourId, from: Option<Seq> },
    /// A neighbour has told what we had missed.
    CatchUpReceived { neighbour: NeighbourId, updates: usize },
    /// A neighbour's update was malformed; the rest of what it says still counts.
    UpdateSkipped { neighbour: NeighbourId, error: UpdateError, line: &'a [u8] },
    /// A line on the neighbours' port that ends its connection.
    PeerRejected { reason: &'static str, line: &'a [u8] },
    /// A neighbour said nothing for three heartbeats.
    PeerTimedOut { neighbour: NeighbourId },
    /// Each neighbour that can be reached has told all that it knew: from now on this server
    /// knows what the herd knows.
    InSync,
}
