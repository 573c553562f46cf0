//! The table: where each client is, by the newest update (section 5).
//!
//! It decides which update is newest, numbers its changes in its [`Feed`], and bounds its own size:
//! when it is full, it evicts the oldest tenth, and raises the *floor* (the eviction threshold),
//! below which nothing is stored any more. It removes an entry for no other reason by itself. Two tables
//! to which the same updates were applied hold the same entries, in whatever order they came, as long
//! as neither floor has risen.

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use slab::Slab;

use super::entry::{Entry, Source};
use super::feed::{Feed, Record};
use super::floor::{Floor, Pace, Work};
use super::kept::Kept;
use super::recent::Recent;
use crate::protocol::{LineText, Seq, UpdateRef, Written};

/// What the server knows: one entry per client.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) entries: Slab<Entry>,
    /// Slots of `entries` by the hash of the client's ID; the ID itself is in the entry only.
    pub(super) by_id: HashTable<u32>,
    hasher: SipHasher13,
    pub(super) feed: Feed,
    /// Known clients, without entries below the floor that wait for the sweep.
    pub(super) len: usize,
    pub(super) bound: usize,
    pub(super) floor: Option<Floor>,
    /// How often the floor was raised, and how many clients that, or a cache, has evicted.
    pub(super) floor_raises: u64,
    pub(super) evicted: u64,
    /// What a full table needs, a slice with each change.
    pub(super) work: Work,
    pub(super) pace: Pace,
    pub(super) kept: Kept,
    /// The order in which clients were used, if this is a cache.
    pub(super) recent: Option<Box<Recent>>,
}

/// The result of applying an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is the newest of its client, and was stored as the change with this number.
    Stored(Seq),
    /// The table already has this update, or a newer one.
    Stale,
    /// It lies at or below the floor.
    BelowFloor,
    /// A cache is full of clients whose updates the engine does not have yet. Nothing has changed.
    NoRoom,
}

impl Table {
    /// An empty table for at most `bound` clients (at least one). `key` makes the positions in its
    /// hash table unpredictable to clients, which choose the ids, as long as it is secret.
    ///
    /// The hash is SipHash-1-3, which was made for that. The standard library's takes no key, and the
    /// simulator must be able to repeat a run. An id of 16 bytes costs 135 instructions, where
    /// foldhash took 20; but foldhash's constants are public, and ids that have one hash for
    /// every seed can be written down by hand. ahash would take 28: without the processor's AES,
    /// which the build can't count on, it multiplies and folds much as foldhash does.
    pub fn new(bound: usize, key: u128) -> Table {
        Table {
            entries: Slab::with_capacity(reserved(bound)),
            by_id: HashTable::with_capacity(reserved(bound)),
            hasher: SipHasher13::new_with_key(&key.to_le_bytes()),
            feed: Feed::new(reserved(bound)),
            len: 0,
            bound: bound.max(1),
            floor: None,
            floor_raises: 0,
            evicted: 0,
            work: Work::Nothing,
            pace: Pace::new(bound.max(1)),
            kept: Kept::default(),
            recent: None,
        }
    }

    /// A number that cannot be predicted without the key, and does not reveal it.
    pub(super) fn unpredictable(&self, purpose: &[u8]) -> u64 {
        self.hash(purpose)
    }

    /// The number of known clients.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no client is known.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The maximal number of clients.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// How many known clients were evicted.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number of the latest change.
    pub fn end(&self) -> Seq {
        self.feed.end()
    }

    /// What is known of a client.
    pub fn get(&self, id: &[u8]) -> Option<&Entry> {
        let slot = self.find(self.hash(id), id)?;
        Some(&self.entries[slot as usize]).filter(|entry| is_visible(&self.floor, entry))
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter().map(|(_, entry)| entry);
        entries.filter(|entry| is_visible(&self.floor, entry))
    }

    /// The records after `cursor`, each with its entry unless the record is dead.
    pub fn changes_after(&self, cursor: Seq) -> impl Iterator<Item = (Seq, Option<&Entry>)> {
        let records = self.feed.after(cursor);
        records.map(|record| (record.seq, self.entry_of(record)))
    }

    /// The same with the records themselves, whose slots name entries until the floor rises.
    pub fn records_after(&self, cursor: Seq) -> impl Iterator<Item = (Record, Option<&Entry>)> {
        self.feed.after(cursor).map(|record| (record, self.entry_of(record)))
    }

    /// Records that the feed keeps, dead ones included.
    pub fn feed_len(&self) -> usize {
        self.feed.len()
    }

    /// The entry in a slot, if there is one above the floor.
    pub(super) fn entry_at(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize).filter(|entry| is_visible(&self.floor, entry))
    }

    /// The slot of a client's entry. It is the entry's until that is evicted or forgotten.
    pub(super) fn slot_of(&self, id: &[u8]) -> Option<u32> {
        self.slot_with(self.hash(id), id)
    }

    /// The same, of the client with this hash.
    pub(super) fn slot_with(&self, hash: u64, id: &[u8]) -> Option<u32> {
        let slot = self.find(hash, id)?;
        self.entry_at(slot).map(|_| slot)
    }

    /// From now on it is known what the disk has of each entry, which is what the table holds now.
    pub(super) fn follow_disk(&mut self) {
        self.kept.follow_disk(reserved(self.bound));
        for (slot, entry) in &self.entries {
            self.kept.set_on_disk(slot as u32, entry.seq);
        }
    }

    /// From now on it is known what the engine has of each entry: nothing yet.
    pub(super) fn follow_engine(&mut self) {
        self.kept.follow_engine(reserved(self.bound));
    }

    /// The entry in a slot becomes the latest change, so that each reader is handed it again. None if there is none.
    pub(super) fn append_again(&mut self, slot: u32) -> Option<Seq> {
        self.entry_at(slot)?;
        let seq = self.feed.append(slot);
        let before = std::mem::replace(&mut self.entries[slot as usize].seq, seq);
        if self.kept.on_disk(slot) == before {
            self.kept.set_on_disk(slot, seq); // It is the same update.
        }
        self.tidy_up();
        Some(seq)
    }

    /// Takes a client's entry out, and returns the slot that it had.
    pub(super) fn forget(&mut self, id: &[u8]) -> Option<u32> {
        let slot = self.slot_of(id)?;
        self.remove(slot as usize);
        self.len -= 1;
        Some(slot)
    }

    /// Frees a slot. What waited for its entry waits no longer.
    pub(super) fn remove(&mut self, slot: usize) {
        if self.is_searched() {
            self.leaves_search(slot as u32);
        }
        let hash = self.hash(self.entries[slot].update.id());
        if let Ok(found) = self.by_id.find_entry(hash, |&other| other as usize == slot) {
            found.remove();
        }
        self.entries.remove(slot);
        self.kept.free(slot as u32, self.feed.end());
        self.forget_use(slot as u32);
    }

    /// Stores the update if it is above the floor and the newest of its client.
    pub fn apply(&mut self, update: &UpdateRef<'_>, source: Option<Source>) -> Applied {
        self.apply_text(self.hash(update.id), update, &Written, source)
    }

    /// The same with the hash of the client's id, and with this text.
    #[inline(always)] // As what it calls.
    pub(super) fn apply_text(
        &mut self,
        hash: u64,
        update: &UpdateRef<'_>,
        text: &impl LineText,
        source: Option<Source>,
    ) -> Applied {
        // It is None only if `may_add` returns false.
        self.apply_with(hash, update, text, source, || true).unwrap_or(Applied::Stale)
    }

    /// As [`Table::apply`], if the update's client is known or `may_add` returns true. Otherwise the result is None,
    /// and nothing has changed.
    pub(super) fn apply_if(
        &mut self,
        update: &UpdateRef<'_>,
        source: Option<Source>,
        may_add: impl FnOnce() -> bool,
    ) -> Option<Applied> {
        self.apply_with(self.hash(update.id), update, &Written, source, may_add)
    }

    /// The same with the hash of the client's id, and with this text.
    #[inline(always)] // Its callers are one call each.
    fn apply_with(
        &mut self,
        hash: u64,
        update: &UpdateRef<'_>,
        text: &impl LineText,
        source: Option<Source>,
        may_add: impl FnOnce() -> bool,
    ) -> Option<Applied> {
        if !self.is_above_floor(update) {
            return Some(Applied::BelowFloor);
        }
        let found = self.find(hash, update.id);
        let known = found.filter(|&slot| is_visible(&self.floor, &self.entries[slot as usize]));
        let slot = if let Some(slot) = known {
            let is_searched = self.is_searched();
            let entry = &mut self.entries[slot as usize];
            if !entry.update.is_older_than(update) {
                return Some(Applied::Stale);
            }
            if is_searched {
                self.leaves_search(slot);
                self.entries[slot as usize].assign(update, text, source);
                self.joins_search(slot);
            } else {
                entry.assign(update, text, source);
            }
            slot
        } else {
            if !may_add() {
                return None;
            }
            if self.len == self.bound
                && let Some(refused) = self.make_room(update)
            {
                return Some(refused);
            }
            self.len += 1;
            // Raising the floor may have swept the slot that was found below it.
            let slot = self.put(hash, update, text, source);
            self.search_if_nearly_full();
            slot
        };
        let seq = self.feed.append(slot);
        self.entries[slot as usize].seq = seq;
        self.tidy_up();
        Some(Applied::Stored(seq))
    }

    /// Puts the update into its client's entry, or into a new one.
    fn put(
        &mut self,
        hash: u64,
        update: &UpdateRef<'_>,
        text: &impl LineText,
        source: Option<Source>,
    ) -> u32 {
        if let Some(slot) = self.find(hash, update.id) {
            let entry = &mut self.entries[slot as usize];
            entry.assign(update, text, source);
            self.kept.free(slot, self.feed.end()); // What was evicted is waited for no more.
            return slot;
        }
        let slot = self.entries.insert(Entry::new(update, text, source)) as u32;
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash_of = |&slot: &u32| hasher.hash(entries[slot as usize].update.id());
        self.by_id.insert_unique(hash, slot, hash_of);
        if self.is_searched() {
            self.joins_search(slot);
        }
        slot
    }

    /// The housekeeping after each change.
    #[inline]
    fn tidy_up(&mut self) {
        if !matches!(self.work, Work::Nothing) {
            self.work();
        }
        let (entries, floor) = (&self.entries, &self.floor);
        let is_alive = |record: Record| {
            let entry = entries.get(record.slot as usize);
            entry.is_some_and(|entry| entry.seq == record.seq && is_visible(floor, entry))
        };
        self.feed.compact(self.len, is_alive);
    }

    pub(super) fn is_visible(&self, entry: &Entry) -> bool {
        is_visible(&self.floor, entry)
    }

    fn entry_of(&self, record: Record) -> Option<&Entry> {
        let entry = self.entries.get(record.slot as usize)?;
        let alive = entry.seq == record.seq && is_visible(&self.floor, entry);
        alive.then_some(entry)
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, id: &[u8]) -> Option<u32> {
        let is_it = |&slot: &u32| self.entries[slot as usize].update.id() == id;
        self.by_id.find(hash, is_it).copied()
    }

    #[inline]
    pub(super) fn hash(&self, id: &[u8]) -> u64 {
        self.hasher.hash(id)
    }

    pub(super) fn is_above_floor(&self, update: &UpdateRef<'_>) -> bool {
        is_above(&self.floor, update)
    }
}

/// Whether the floor has not risen past an entry. Usually there is no floor, and nothing to read.
fn is_visible(floor: &Option<Floor>, entry: &Entry) -> bool {
    floor.as_ref().is_none_or(|floor| floor.is_below_kept(&entry.update))
}

fn is_above(floor: &Option<Floor>, update: &UpdateRef<'_>) -> bool {
    match floor {
        None => true,
        Some(floor) => floor.is_below(update),
    }
}

/// Clients that there is room for from the start.
pub(super) fn reserved(bound: usize) -> usize {
    bound.saturating_add(bound / 8).min(RESERVED)
}

/// Clients that there is room for from the start: memory that is not touched costs nothing. Growing later would hash every
/// known id again, and copy every entry, in one turn.
const RESERVED: usize = 1 << 22;

#[cfg(test)]
mod tests;
