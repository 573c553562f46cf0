//! Which updates are kept outside this process, by the disk or by the engine, and which answers wait for that.
//!
//! An update is *kept* once it, or a newer one of its client, is committed to the disk or acknowledged by the engine. One
//! number for the whole feed would not do: a record that was overwritten before its reader came to it is dead, and would
//! count as kept although nothing of its client is. So each entry has a number of its own, by its slot in the table.

use crate::protocol::Seq;

/// Which readers of the feed must have an update before its IAMAT is answered. By default none: it is answered at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerAfter {
    pub disk: bool,
    pub engine: bool,
}

impl AnswerAfter {
    /// Whether answers wait for anything.
    pub fn is_any(self) -> bool {
        self.disk || self.engine
    }
}

/// What an answer waits for: that the update with this number, or a newer one of the same client, is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    pub(super) slot: u32,
    pub(super) seq: Seq,
}

/// Who holds answers back: a connection, as the caller numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub u64);

/// What the bucket of the engine holds of a client, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InBucket {
    /// The number of the client's message in the stream; 0 if none is known.
    pub sequence: u64,
    /// The latest change of the entry that the engine has acknowledged, or that came from it.
    pub seq: Seq,
}

/// What is known of each entry, by its slot; empty as long as nobody asks for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    disk: Vec<Seq>,
    engine: Vec<InBucket>,
}

impl Kept {
    /// The latest change of the entry in `slot` that is committed to the disk.
    pub fn on_disk(&self, slot: u32) -> Seq {
        self.disk.get(slot as usize).copied().unwrap_or_default()
    }

    /// The change `seq` of the entry in `slot` is committed.
    pub fn set_on_disk(&mut self, slot: u32, seq: Seq) {
        let known = at(&mut self.disk, slot);
        *known = seq.max(*known);
    }

    /// What the engine holds of the entry in `slot`.
    pub fn in_bucket(&self, slot: u32) -> InBucket {
        self.engine.get(slot as usize).copied().unwrap_or_default()
    }

    /// The same, to be changed.
    #[allow(dead_code, reason = "the engine will use it")]
    pub fn in_bucket_mut(&mut self, slot: u32) -> &mut InBucket {
        at(&mut self.engine, slot)
    }

    /// The slot is free: what is put there is another client.
    pub fn forget(&mut self, slot: u32) {
        if let Some(known) = self.disk.get_mut(slot as usize) {
            *known = Seq(0);
        }
        if let Some(known) = self.engine.get_mut(slot as usize) {
            *known = InBucket::default();
        }
    }

    /// The bucket is another one: nothing that was known of it holds.
    #[allow(dead_code, reason = "the engine will use it")]
    pub fn forget_bucket(&mut self) {
        self.engine.clear();
    }
}

fn at<T: Clone + Default>(all: &mut Vec<T>, slot: u32) -> &mut T {
    let index = slot as usize;
    if index >= all.len() {
        all.resize(index + 1, T::default());
    }
    &mut all[index]
}
