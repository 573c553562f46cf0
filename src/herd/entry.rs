//! What the table knows of one client.

use super::NeighbourId;
use crate::protocol::{Epoch, LineText, Seq, Update, UpdateRef};

/// What is known of one client.
#[derive(Clone, Debug)]
pub struct Entry {
    pub update: Update,
    /// Where it came from, in 8 bytes instead of 24.
    from: ShortSource,
    /// The number of its latest change.
    pub(super) seq: Seq,
}

const _: () = assert!(size_of::<Entry>() == 48);

/// The neighbour that an update came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub neighbour: NeighbourId,
    /// The run that the neighbour's HELLO named.
    pub epoch: Epoch,
}

/// A source in short: its neighbour, and 48 bits of that neighbour's epoch, which is a random number. So the next run of a
/// neighbour passes for the former one once in 2^48 restarts, where with all 64 bits it would once in 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShortSource(u64);

impl ShortSource {
    fn new(source: Option<Source>) -> ShortSource {
        source.map_or(ShortSource::CLIENT, |Source { neighbour, epoch }| {
            ShortSource(epoch.0 << 16 | u64::from(neighbour.0))
        })
    }

    /// A client. No neighbour has this number: a configuration has at most 65,535 servers.
    const CLIENT: ShortSource = ShortSource(u16::MAX as u64);
}

impl Entry {
    pub(super) fn new(
        update: &UpdateRef<'_>,
        text: &impl LineText,
        source: Option<Source>,
    ) -> Entry {
        let (update, from) = (Update::with(update, text), ShortSource::new(source));
        Entry { update, from, seq: Seq(0) }
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
        self.from = ShortSource::new(source);
    }

    /// Whether this neighbour sent it in this run.
    pub(super) fn came_from(&self, source: Source) -> bool {
        self.from == ShortSource::new(Some(source))
    }

    /// The number of its latest change.
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }
}
