//! The order in which a cache's clients were used, and what is remembered of those that have left it.
//!
//! Only a client whose present update the engine has may leave, so only such clients stand in the order: a client enters it
//! anew, as the last one to leave, when the engine has its update and when it was asked for. One that tells a newer update
//! leaves the order as soon as that is noticed. So each step takes the same time, however many clients there are.

use super::{Applied, Table};
use crate::limits::{CACHE_EVICTION_STEPS, CACHE_REMEMBERED};
use crate::protocol::UpdateRef;

/// The order, by the slots of the table. It is there only in a cache.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    /// The neighbours of each slot in the order; both name the slot itself if it does not stand there.
    links: Vec<Link>,
    /// Who leaves first, and last; NOBODY if the order is empty.
    first: u32,
    last: u32,
    /// How many stand in it.
    count: usize,
    /// The updates of this server are those of its clients.
    server: Box<[u8]>,
    /// The slots of clients that were told to this server although a newer update is known: one bit each.
    told: Vec<u64>,
    remembered: Remembered,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    behind: u32,
}

const NOBODY: u32 = u32::MAX;

/// The messages of clients that have left, of those that were told to this server: for each cell, which many ids share, the
/// number of the last one. A copy of the bucket that holds an earlier one of such a client may lag.
#[derive(Clone, Debug, Default)]
struct Remembered {
    present: Period,
    former: Period,
}

#[derive(Clone, Debug, Default)]
struct Period {
    cells: Vec<u64>,
    /// The bucket is another one since.
    has_new_bucket: bool,
}

impl Recent {
    /// An empty order of a cache for so many clients of the server of this name: 8 bytes for each, and up to 16 bytes for
    /// each of [`CACHE_REMEMBERED`] cells.
    pub fn new(clients: usize, server: &[u8]) -> Recent {
        Recent {
            links: Vec::with_capacity(clients),
            first: NOBODY,
            last: NOBODY,
            count: 0,
            server: server.into(),
            told: Vec::new(),
            remembered: Remembered::default(),
        }
    }

    /// The slot's client was used: it leaves after all others.
    fn use_slot(&mut self, slot: u32) {
        if self.last == slot {
            return;
        }
        self.take_out(slot);
        let before = std::mem::replace(&mut self.last, slot);
        match self.links.get_mut(before as usize) {
            Some(link) => link.behind = slot,
            None => self.first = slot,
        }
        self.links[slot as usize] = Link { before, behind: NOBODY };
        self.count += 1;
    }

    /// The slot's client does not stand in the order any more.
    fn take_out(&mut self, slot: u32) {
        while self.links.len() <= slot as usize {
            let itself = self.links.len() as u32;
            self.links.push(Link { before: itself, behind: itself });
        }
        let Link { before, behind } = self.links[slot as usize];
        if before == slot {
            return;
        }
        self.links[slot as usize] = Link { before: slot, behind: slot };
        self.count -= 1;
        match self.links.get_mut(before as usize) {
            Some(link) => link.behind = behind,
            None => self.first = behind,
        }
        match self.links.get_mut(behind as usize) {
            Some(link) => link.before = before,
            None => self.last = before,
        }
    }

    fn set_told(&mut self, slot: u32, is_told: bool) {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        match self.told.get_mut(word) {
            Some(bits) if is_told => *bits |= bit,
            Some(bits) => *bits &= !bit,
            None if is_told => {
                self.told.resize(word + 1, 0);
                self.told[word] = bit;
            }
            None => {}
        }
    }

    fn is_told(&self, slot: u32) -> bool {
        self.told.get(slot as usize / 64).is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }

    fn take_first(&mut self) -> Option<u32> {
        let slot = Some(self.first).filter(|slot| *slot != NOBODY)?;
        self.take_out(slot);
        Some(slot)
    }
}

impl Period {
    fn add(&mut self, hash: u64, sequence: u64) {
        if self.cells.is_empty() {
            self.cells = vec![0; CACHE_REMEMBERED];
        }
        let cell = &mut self.cells[hash as usize % CACHE_REMEMBERED];
        *cell = sequence.max(*cell);
    }

    fn find(&self, hash: u64) -> u64 {
        self.cells.get(hash as usize % CACHE_REMEMBERED).copied().unwrap_or(0)
    }
}

impl Table {
    /// From now on it is a cache of what the engine holds: a full one makes room by the client that was used least recently,
    /// of those whose update the engine has, and has no floor. To be called while it is empty.
    pub(super) fn become_cache(&mut self, server: &[u8]) {
        debug_assert!(self.entries.is_empty(), "no client stands in the order yet");
        self.recent = Some(Box::new(Recent::new(super::table::reserved(self.bound), server)));
    }

    /// Whether it is a cache.
    pub(super) fn is_cache(&self) -> bool {
        self.recent.is_some()
    }

    /// The client in a slot was used. It leaves a cache after all others, if the engine has its update.
    pub(super) fn used(&mut self, slot: u32) {
        let in_bucket = self.kept.in_bucket(slot);
        if let Some(recent) = &mut self.recent
            && self.entries.get(slot as usize).is_some_and(|entry| in_bucket.seq >= entry.seq())
        {
            recent.use_slot(slot);
        }
    }

    /// The client in a slot stays in the cache for now.
    pub(super) fn hold_in_cache(&mut self, slot: u32) {
        if let Some(recent) = &mut self.recent {
            recent.take_out(slot);
        }
    }

    /// A slot of the cache is free.
    pub(super) fn forget_use(&mut self, slot: u32) {
        if let Some(recent) = &mut self.recent {
            recent.take_out(slot);
            recent.set_told(slot, false);
        }
    }

    /// An answer says that this server knows the present update of the client in a slot, or a newer one.
    pub(super) fn is_answered(&mut self, slot: u32) {
        if let Some(recent) = &mut self.recent {
            recent.set_told(slot, true);
        }
    }

    /// How many more clients a cache can take up now: those that may leave it are counted as gone. It may be fewer, because
    /// one of these may have told something newer.
    pub(super) fn cache_room(&self) -> usize {
        let may_leave = self.recent.as_ref().map_or(0, |recent| recent.count);
        self.bound.saturating_sub(self.len) + may_leave
    }

    /// Makes room for a new entry, or says why it is not stored.
    pub(super) fn make_room(&mut self, added: &UpdateRef<'_>) -> Option<Applied> {
        match self.is_cache() {
            true => (!self.evict_one()).then_some(Applied::NoRoom),
            false => (!self.raise_floor(added)).then_some(Applied::BelowFloor),
        }
    }

    /// Makes room in a cache for one more client. False if there is none that may leave.
    #[cold]
    fn evict_one(&mut self) -> bool {
        for _ in 0..CACHE_EVICTION_STEPS {
            let Some(slot) = self.recent.as_mut().and_then(|recent| recent.take_first()) else {
                return false;
            };
            let Some(entry) = self.entries.get(slot as usize) else { continue };
            let in_bucket = self.kept.in_bucket(slot);
            if in_bucket.seq < entry.seq() {
                continue; // It has told something newer: it is back once the engine has that.
            }
            let hash = self.hash(entry.update.id());
            if let Some(recent) = &mut self.recent
                && (entry.update.get().server == &*recent.server || recent.is_told(slot))
            {
                recent.remembered.present.add(hash, in_bucket.sequence);
            }
            self.remove(slot as usize);
            self.len -= 1;
            self.evicted += 1;
            return true;
        }
        false
    }

    /// The least number that the last message of a client with this hash can have in the bucket, as far as is known of those that have left
    /// this cache; it may be that of another client.
    pub(super) fn least_sequence(&self, hash: u64) -> u64 {
        let Some(recent) = &self.recent else { return 0 };
        let Remembered { present, former } = &recent.remembered;
        present.find(hash).max(former.find(hash))
    }

    /// Whether only the leader of the bucket can tell what that holds: it is another one, and a copy may not be.
    pub(super) fn is_leader_only(&self) -> bool {
        self.recent.as_ref().is_some_and(|recent| {
            let Remembered { present, former } = &recent.remembered;
            present.has_new_bucket || former.has_new_bucket
        })
    }

    /// What was remembered for one period more is forgotten.
    pub(super) fn age_remembered(&mut self) {
        if let Some(Recent { remembered, .. }) = self.recent.as_deref_mut() {
            remembered.former = std::mem::take(&mut remembered.present);
        }
    }

    /// The bucket is another one: no number that was remembered holds.
    pub(super) fn forget_remembered(&mut self) {
        if let Some(recent) = &mut self.recent {
            recent.remembered = Remembered::default();
            recent.remembered.present.has_new_bucket = true;
        }
    }
}
