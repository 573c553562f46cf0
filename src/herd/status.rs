//! What an operator may know of a neighbour. Times are since the start, as [`Now::elapsed`] counts.
//!
//! [`Now::elapsed`]: crate::clock::Now::elapsed

use std::time::Duration;

use super::{Herd, NeighbourId};
use crate::clock::Now;
use crate::protocol::{Epoch, Seq};

/// Our link to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// `waiting` (for the next dial), `dialling`, `greeting` (HELLO is sent, no RESUME has come) or `up`.
    pub state: &'static str,
    /// Since when it is up, or is not.
    pub since: Duration,
    /// When it is dialled, if it waits.
    pub next_dial: Option<Duration>,
    /// The neighbour's run. This and what follows is known of a link that is up.
    pub epoch: Option<Epoch>,
    /// All changes up to here were sent.
    pub sent: Option<Seq>,
    /// The last MARK that was sent.
    pub mark: Option<Seq>,
    /// The last MARK that was acknowledged.
    pub ack: Option<Seq>,
    /// Why the link, or an attempt to make it, last ended.
    pub down_reason: Option<&'static str>,
}

/// The other direction: a neighbour's connection to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundStatus {
    pub is_up: bool,
    /// When its last line came, if it is up.
    pub last_received: Option<Duration>,
    /// The run that its latest HELLO named.
    pub epoch: Option<Epoch>,
    /// The last MARK of that run.
    pub mark: Option<Seq>,
}

impl Herd {
    pub fn link_status(&self, neighbour: NeighbourId) -> LinkStatus {
        self.links[usize::from(neighbour.0)].status()
    }

    pub fn inbound_status(&self, neighbour: NeighbourId) -> InboundStatus {
        self.inbound[usize::from(neighbour.0)].status()
    }

    /// The age of the oldest MARK that a neighbour has not acknowledged; while the link is down, since when it is.
    pub fn link_lag(&self, neighbour: NeighbourId, now: Now) -> Duration {
        self.links[usize::from(neighbour.0)].lag(now.elapsed)
    }

    /// How many changes a neighbour has not confirmed yet. Those that came from itself count, too.
    pub fn link_unconfirmed(&self, neighbour: NeighbourId) -> u64 {
        self.links[usize::from(neighbour.0)].unconfirmed(self.table.end())
    }
}
