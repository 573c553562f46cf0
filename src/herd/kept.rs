//! Which updates are kept outside this process, by the disk or by the engine, and which answers wait for that.
//!
//! An update is *kept* once it, or a newer one of its client, is committed to the disk or acknowledged by the engine. One
//! number for the whole feed would not do: a record that was overwritten before its reader came to it is dead, and would
//! count as kept although nothing of its client is. So each entry has a number of its own, by its slot in the table.

use super::table::Table;
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

impl Awaited {
    /// What was not taken up: no answer may ever confirm it.
    pub(super) const NEVER: Awaited = Awaited { slot: u32::MAX, seq: Seq(u64::MAX) };

    /// Whether the update was not taken up, because a cache is full of clients whose updates the engine does not have yet
    /// ([`Applied::NoRoom`](super::Applied::NoRoom)). An answer that waits for it is never due.
    pub fn is_never(self) -> bool {
        self == Awaited::NEVER
    }
}

/// Who holds answers back, or has asked the engine for a client: a connection, as the caller numbers it.
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

/// What is known of each entry, by its slot. A reader that nobody waits for, or that is not there, costs nothing.
///
/// All numbers are of one feed, and a slot is given to another client only after it was freed, so the numbers of its later
/// client are greater than all of its earlier one's: none of the earlier one's can pass for the later one's.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    disk: Option<Vec<Seq>>,
    engine: Option<Vec<InBucket>>,
}

impl Kept {
    /// From now on it is asked what the disk has of up to so many entries: 8 bytes each.
    pub fn follow_disk(&mut self, entries: usize) {
        self.disk.get_or_insert_with(|| Vec::with_capacity(entries));
    }

    /// From now on it is asked what the engine has of up to so many entries: 16 bytes each.
    pub fn follow_engine(&mut self, entries: usize) {
        self.engine.get_or_insert_with(|| Vec::with_capacity(entries));
    }

    /// The latest change of the entry in `slot` that is committed to the disk.
    pub fn on_disk(&self, slot: u32) -> Seq {
        let known = self.disk.as_ref().and_then(|all| all.get(slot as usize));
        known.copied().unwrap_or_default()
    }

    /// The change `seq` of the entry in `slot`, or of one that was there before, is committed.
    pub fn set_on_disk(&mut self, slot: u32, seq: Seq) {
        if let Some(all) = &mut self.disk {
            let known = at(all, slot);
            *known = seq.max(*known);
        }
    }

    /// What the engine holds of the entry in `slot`.
    pub fn in_bucket(&self, slot: u32) -> InBucket {
        let known = self.engine.as_ref().and_then(|all| all.get(slot as usize));
        known.copied().unwrap_or_default()
    }

    /// The engine has the change `seq` of the entry in `slot`, as the message with this number.
    pub fn set_in_bucket(&mut self, slot: u32, known: InBucket) {
        if let Some(all) = &mut self.engine {
            *at(all, slot) = known;
        }
    }

    /// The slot is free: nothing up to the feed's end is waited for there any more, and what is put there next is another
    /// client, of which nothing is kept.
    pub fn free(&mut self, slot: u32, end: Seq) {
        if let Some(all) = &mut self.disk {
            *at(all, slot) = end;
        }
        if let Some(all) = &mut self.engine {
            *at(all, slot) = InBucket { sequence: 0, seq: end };
        }
    }

    /// The bucket is another one: nothing that was known of it holds.
    pub fn forget_bucket(&mut self) {
        if let Some(all) = &mut self.engine {
            all.clear();
        }
    }
}

impl Table {
    /// What an answer waits for that confirms the entry of a client, as it is now.
    pub(super) fn awaited(&self, id: &[u8]) -> Option<Awaited> {
        // Usually it has just changed.
        let latest = self.feed.last().filter(|record| {
            let entry = self.entries.get(record.slot as usize);
            entry.is_some_and(|entry| entry.seq() == record.seq && entry.update.id() == id)
        });
        let slot = match latest {
            Some(record) => record.slot,
            None => self.find(self.hash(id), id)?,
        };
        self.entry_at(slot).map(|entry| Awaited { slot, seq: entry.seq() })
    }

    /// Whether the entry is one that was evicted, and has not left its slot yet (`Kept::free` tells of one that has).
    pub(super) fn is_evicted(&self, awaited: Awaited) -> bool {
        self.entry_at(awaited.slot).is_none()
    }
}

/// A hash of slots, which are small numbers of our own that no client chooses.
pub(super) fn slot_hash(slot: u32) -> u64 {
    u64::from(slot).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn at<T: Clone + Default>(all: &mut Vec<T>, slot: u32) -> &mut T {
    let index = slot as usize;
    if index >= all.len() {
        all.resize(index + 1, T::default());
    }
    &mut all[index]
}
