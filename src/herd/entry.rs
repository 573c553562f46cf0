//! What the table knows of one client.

use super::NeighbourId;
use crate::protocol::{Epoch, LineText, Seq, Update, UpdateRef};

/// What is known of one client.
#[derive(Clone, Debug)]
pub struct Entry {
    pub update: Update,
    /// Where it came from, in 10 bytes instead of 24.
    neighbour: NeighbourId,
    epoch: Epoch,
    /// The number of its latest change.
    pub(super) seq: Seq,
}

const _: () = assert!(size_of::<Entry>() == 64);

/// The neighbour that an update came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub neighbour: NeighbourId,
    /// The run that the neighbour's HELLO named.
    pub epoch: Epoch,
}

impl Entry {
    pub(super) fn new(
        update: &UpdateRef<'_>,
        text: &impl LineText,
        source: Option<Source>,
    ) -> Entry {
        let Source { neighbour, epoch } = source.unwrap_or(CLIENT);
        Entry { update: Update::with(update, text), neighbour, epoch, seq: Seq(0) }
    }

    pub(super) fn assign(
        &mut self,
        update: &UpdateRef<'_>,
        text: &impl LineText,
        source: Option<Source>,
    ) {
        self.update.assign(update, text);
        self.set_source(source);
    }

    pub(super) fn set_source(&mut self, source: Option<Source>) {
        Source { neighbour: self.neighbour, epoch: self.epoch } = source.unwrap_or(CLIENT);
    }

    /// The neighbour that sent it, and that neighbour's run; none if a client sent it to this server.
    pub fn source(&self) -> Option<Source> {
        let source = Source { neighbour: self.neighbour, epoch: self.epoch };
        (self.neighbour != CLIENT.neighbour).then_some(source)
    }

    /// The number of its latest change.
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }
}

/// Stands for no neighbour: a configuration has at most 65,535 servers, so no neighbour has this number.
const CLIENT: Source = Source { neighbour: NeighbourId(u16::MAX), epoch: Epoch(0) };
