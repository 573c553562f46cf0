//! The floor: what a full table evicts, and how it finds that without a long turn (section 5).
//!
//! The evicted tenth is exact: those with the least age keys of all that are known when a newcomer finds the table full. An
//! index ordered by age would slow down every update in the years between, and to look at a million entries takes 7 to
//! 60 ms. So a search begins when the table is nearly full, and each change does a slice of it:
//!
//! ```text
//!            low                high
//!   ----------|--------#---------|--------------------------------> age key
//!     counted    kept in order      neither             # the floor, if the table were full now
//! ```
//!
//! Two keys from a sample enclose the floor-to-be. Each entry is visited once, and from then on each change of one counts: so
//! when the table is full, only the few between the two keys are compared. As entries change, the floor-to-be moves
//! towards one of the two; before it arrives, another search has begun, and replaces this one when it is complete.
//!
//! Evicted entries are hidden at once, and freed by a sweep, a slice with each change. The entries of a small table are all
//! compared at once, and so are those of any table whose search is not complete in time, which takes an odd sample.

use std::collections::BTreeSet;

use super::table::Table;
use crate::limits::{
    FLOOR_AT_ONCE, FLOOR_SAMPLE, FLOOR_SAMPLE_SLOTS, FLOOR_SEARCH_SLOTS, FLOOR_SWEEP_SLOTS,
};
use crate::protocol::{Update, UpdateRef};

/// The floor: nothing at or below it is stored. It compares the age (see [`UpdateRef::age`]), then the id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Floor {
    pub age: i128,
    pub id: Vec<u8>,
}

/// What each change does a slice of.
#[derive(Clone, Debug, Default)]
pub(super) enum Work {
    #[default]
    Nothing,
    /// For the oldest tenth.
    Search(Box<Searches>),
    /// Of what the floor has passed, up to this slot.
    Sweep(usize),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Searches {
    /// One that is complete, unless it is the first, and one that will take its place, if it needs to be replaced.
    begun: Vec<Search>,
    /// For the next one.
    sample: Sample,
}

/// Some of the keys. By the time it is complete a few of the entries have others.
#[derive(Clone, Debug, Default)]
struct Sample {
    keys: Vec<Floor>,
    /// Slots looked at.
    tried: usize,
}

#[derive(Clone, Debug)]
struct Search {
    low: Floor,
    high: Floor,
    /// Bytes that the ids of nearly all keys between the two begin with: those of `high`.
    shared: usize,
    /// Entries visited that are not above `low`.
    below: usize,
    /// Of those visited that are above it, and not above `high`: their keys, in order, and their slots.
    between: BTreeSet<(Brief, u32)>,
    /// Slots before this one were visited; all, if it is [`ALL`].
    next: usize,
}

/// What entries are ordered by.
type Key<'a> = (i128, &'a [u8]);

/// A key in a form that nearly always tells which of two is less, without a look at their entries, which are far apart in
/// memory: the age, and eight bytes of the id, behind those that many have in common.
type Brief = (i64, u64);

/// How fast a search is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Slots visited with each change.
    slots: usize,
    /// Entries in a sample.
    sample: usize,
    /// The number of clients from which on a table is searched.
    from: usize,
}

fn key(update: &Update) -> Key<'_> {
    (update.age(), update.id())
}

fn brief((age, id): Key<'_>, shared: &[u8]) -> Brief {
    let age = age.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    let id = match id.strip_prefix(shared) {
        Some(rest) => {
            let (mut bytes, count) = ([0; 8], rest.len().min(8));
            bytes[..count].copy_from_slice(&rest[..count]);
            u64::from_be_bytes(bytes)
        }
        None if id < shared => 0,
        None => u64::MAX,
    };
    (age, id)
}

/// The number of bytes that both begin with.
fn shared_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

impl Floor {
    fn of((age, id): Key<'_>) -> Floor {
        Floor { age, id: id.to_vec() }
    }

    /// Whether an update lies above it, and so may be stored.
    pub fn is_below(&self, update: &UpdateRef<'_>) -> bool {
        (update.age(), update.id) > (self.age, self.id.as_slice())
    }

    /// The same for one that is kept.
    pub(super) fn is_below_kept(&self, update: &Update) -> bool {
        (update.age(), update.id()) > (self.age, self.id.as_slice())
    }
}

impl Pace {
    /// For a table of at most `bound` clients, which has up to twice as many slots.
    pub(super) fn new(bound: usize) -> Pace {
        let pace = Pace { slots: FLOOR_SEARCH_SLOTS, sample: FLOOR_SAMPLE, from: usize::MAX };
        if bound <= FLOOR_AT_ONCE { pace } else { pace.of_searched(bound) }
    }

    fn changes_of_sample(self) -> usize {
        (2 * self.sample).div_ceil(FLOOR_SAMPLE_SLOTS)
    }

    /// A search begins when there is room for twice as many further clients as it takes changes.
    fn of_searched(self, bound: usize) -> Pace {
        let changes = (2 * bound).div_ceil(self.slots) + self.changes_of_sample();
        Pace { from: bound.saturating_sub(2 * changes), ..self }
    }
}

impl Search {
    /// Chooses the keys. None if the sample is empty.
    fn begin(table: &Table, mut sample: Vec<Floor>) -> Option<Search> {
        let last = sample.len().checked_sub(1)?;
        let going = table.tenth() * sample.len() / table.len;
        // As far as it may move until the next search is complete, which begins when this one is; and as much as the sample
        // may be wrong: that is four times its standard deviation.
        let moves = table.changes_of_search() * sample.len() / table.len;
        let around = 2 * moves + sample.len() / 64 + 1;
        let mut key_at = |rank: usize| sample.select_nth_unstable(rank).1.clone();
        let low = going.checked_sub(around).map(|rank| key_at(rank.min(last)));
        let low = low.unwrap_or(Floor { age: i128::MIN, id: Vec::new() });
        let high = key_at((going + around).min(last));
        let shared = if low.age == high.age { shared_bytes(&low.id, &high.id) } else { 0 };
        Some(Search { low, high, shared, below: 0, between: BTreeSet::new(), next: 0 })
    }

    fn is_complete(&self) -> bool {
        self.next == ALL
    }

    /// Visits a few more slots.
    fn visit(&mut self, table: &Table) {
        let (begin, last) = (self.next, table.entries.capacity());
        self.next = (begin + table.pace.slots).min(last);
        for slot in begin..self.next {
            if let Some(entry) = table.entries.get(slot) {
                self.joins(slot as u32, &entry.update);
            }
        }
        if self.next == last {
            self.next = ALL;
        }
    }

    /// A slot has this update from now on. One that was not visited will be.
    fn joins(&mut self, slot: u32, update: &Update) {
        if slot as usize >= self.next {
        } else if !self.low.is_below_kept(update) {
            self.below += 1;
        } else if !self.high.is_below_kept(update) {
            self.between.insert((self.brief(key(update)), slot));
        }
    }

    /// A slot has this update no longer.
    fn leaves(&mut self, slot: u32, update: &Update) {
        if slot as usize >= self.next {
        } else if !self.low.is_below_kept(update) {
            self.below -= 1;
        } else if !self.high.is_below_kept(update) {
            self.between.remove(&(self.brief(key(update)), slot));
        }
    }

    fn brief(&self, key: Key<'_>) -> Brief {
        brief(key, &self.high.id[..self.shared])
    }

    /// Whether the floor-to-be may leave the two keys before another search is complete.
    fn is_thin(&self, table: &Table) -> bool {
        let (going, changes) = (table.tenth(), table.changes_of_search());
        going <= self.below + changes || self.below + self.between.len() < going + changes
    }

    /// The floor that makes room for a newcomer, if it is known.
    fn floor(&self, table: &Table, added: &UpdateRef<'_>) -> Option<Floor> {
        let is_below = usize::from(!self.low.is_below(added));
        let is_between = is_below == 0 && !self.high.is_below(added);
        let rank = table.tenth().checked_sub(self.below + is_below)?.checked_sub(1)?;
        let among = self.between.len() + usize::from(is_between);
        if !self.is_complete() || rank >= among {
            return None;
        }
        let added_brief = is_between.then(|| self.brief((added.age(), added.id)));
        // The newcomer is the last of those with the same short form.
        let place = added_brief.map(|brief| self.between.range(..(brief, NEW_ENTRY)).count());
        let in_set = |rank| self.between.iter().nth(rank).map(|(brief, _)| *brief);
        let brief = match place {
            Some(place) if place == rank => added_brief,
            Some(place) if place < rank => in_set(rank - 1),
            _ => in_set(rank),
        }?;
        let less = self.between.iter().take_while(|key| key.0 < brief).count();
        let before = less + usize::from(added_brief.is_some_and(|added| added < brief));
        let alike = self.between.range((brief, 0)..(brief, NEW_ENTRY)).map(|(_, slot)| *slot);
        let newcomer = (added_brief == Some(brief)).then_some(NEW_ENTRY);
        Some(table.floor_at(rank - before, alike.chain(newcomer), added))
    }
}

impl Sample {
    /// Looks at a few more slots.
    fn visit(&mut self, table: &Table) {
        for _ in 0..FLOOR_SAMPLE_SLOTS {
            // Which entries these are must not be foreseen: clients choose ages, and in which order they come.
            let number = [table.end().0.to_le_bytes(), (self.tried as u64).to_le_bytes()].concat();
            let slot = (table.hash(&number) % table.entries.capacity() as u64) as usize;
            if table.entries.contains(slot) {
                self.keys.push(Floor::of(table.key_of(slot as u32)));
            }
            self.tried += 1;
            if self.is_complete(table) {
                return;
            }
        }
    }

    /// Up to half of the slots of a table that is nearly full are empty.
    fn is_complete(&self, table: &Table) -> bool {
        self.keys.len() == table.pace.sample || self.tried >= 2 * table.pace.sample
    }
}

impl Searches {
    /// A slice.
    fn step(&mut self, table: &Table) {
        match self.begun.last_mut() {
            Some(search) if !search.is_complete() => {
                search.visit(table);
                if search.is_complete() {
                    self.begun.drain(..self.begun.len() - 1);
                }
            }
            Some(search) if !search.is_thin(table) => {}
            _ => {
                self.sample.visit(table);
                if self.sample.is_complete(table) {
                    let keys = std::mem::take(&mut self.sample).keys;
                    self.begun.extend(Search::begin(table, keys));
                }
            }
        }
    }
}

impl Table {
    /// Below which nothing is stored, if there is such a limit.
    pub fn floor(&self) -> Option<&Floor> {
        self.floor.as_ref()
    }

    /// How often the table was full and the floor was raised.
    pub fn floor_raises(&self) -> u64 {
        self.floor_raises
    }

    /// The floor of a former run. What lies at or below it is evicted, as if the table had been full.
    pub(super) fn restore_floor(&mut self, floor: Floor) {
        debug_assert!(self.entries.is_empty(), "the floor is restored before the entries");
        self.floor = self.floor.take().max(Some(floor));
    }

    /// Lets searches be slower, and begin with fewer clients: at least one each.
    pub(super) fn limit_search(&mut self, slots: usize, sample: usize) {
        let pace = Pace { slots: slots.max(1), sample: sample.max(1), from: usize::MAX };
        if self.bound > sample {
            self.pace = pace.of_searched(self.bound);
        }
    }

    /// How many are evicted, the newcomer included.
    fn tenth(&self) -> usize {
        self.bound.div_ceil(10)
    }

    /// How many changes a search takes.
    fn changes_of_search(&self) -> usize {
        self.entries.capacity().div_ceil(self.pace.slots) + self.pace.changes_of_sample() + 1
    }

    /// A client was added.
    #[inline]
    pub(super) fn search_if_nearly_full(&mut self) {
        if self.len >= self.pace.from && matches!(self.work, Work::Nothing) && !self.is_cache() {
            self.work = Work::Search(Box::default());
        }
    }

    #[inline]
    pub(super) fn is_searched(&self) -> bool {
        matches!(self.work, Work::Search(_))
    }

    /// A slot has an update from now on that is not in it yet for a search.
    #[cold]
    pub(super) fn joins_search(&mut self, slot: u32) {
        if let Work::Search(searches) = &mut self.work {
            let update = &self.entries[slot as usize].update;
            searches.begun.iter_mut().for_each(|search| search.joins(slot, update));
        }
    }

    /// A slot's update is about to change, or to be removed.
    #[cold]
    pub(super) fn leaves_search(&mut self, slot: u32) {
        if let Work::Search(searches) = &mut self.work {
            let update = &self.entries[slot as usize].update;
            searches.begun.iter_mut().for_each(|search| search.leaves(slot, update));
        }
    }

    /// A slice of what is under way.
    #[cold]
    #[inline(never)]
    pub(super) fn work(&mut self) {
        match std::mem::take(&mut self.work) {
            Work::Nothing => {}
            Work::Sweep(begin) => self.sweep_slice(begin),
            // Clients were taken out: the table is not nearly full any more.
            Work::Search(_) if self.len < self.pace.from / 2 => {}
            Work::Search(mut searches) => {
                searches.step(self);
                self.work = Work::Search(searches);
            }
        }
    }

    /// Makes room for a new entry: evicts, of all entries including the new one, the tenth with the
    /// least age keys. Returns whether the new entry is above the new floor.
    pub(super) fn raise_floor(&mut self, added: &UpdateRef<'_>) -> bool {
        let floor = self.searched_floor(added).unwrap_or_else(|| self.find_floor(added));
        self.floor = Some(floor);
        self.work = Work::Sweep(0);
        let is_kept = self.is_above_floor(added);
        // The new entry is one of the evicted, or it is not in the table yet.
        let evicted = if is_kept { self.tenth() } else { self.tenth() - 1 };
        self.len -= evicted;
        self.floor_raises += 1;
        self.evicted += evicted as u64;
        is_kept
    }

    /// The new floor, if a search is complete.
    fn searched_floor(&self, added: &UpdateRef<'_>) -> Option<Floor> {
        match &self.work {
            Work::Search(searches) => searches.begun.iter().find_map(|it| it.floor(self, added)),
            _ => None,
        }
    }

    /// The same floor, at once.
    fn find_floor(&mut self, added: &UpdateRef<'_>) -> Floor {
        while let Work::Sweep(begin) = self.work {
            self.sweep_slice(begin);
        }
        let slots = self.entries.iter().map(|(slot, _)| slot as u32).chain([NEW_ENTRY]);
        self.floor_at(self.tenth() - 1, slots, added)
    }

    /// The age key with this rank among those in these slots; `added` has [`NEW_ENTRY`].
    fn floor_at(
        &self,
        rank: usize,
        slots: impl Iterator<Item = u32>,
        added: &UpdateRef<'_>,
    ) -> Floor {
        let key_of = |slot: u32| match slot {
            NEW_ENTRY => (added.age(), added.id),
            slot => self.key_of(slot),
        };
        // Ages in steps of about a second are half as long, and nearly always distinguish two
        // entries.
        let coarse = |age: i128| (age >> 30) as i64;
        let mut ages: Vec<(i64, u32)> = slots.map(|slot| (coarse(key_of(slot).0), slot)).collect();
        let by_key = |a: &(i64, u32), b: &(i64, u32)| {
            (a.0.cmp(&b.0)).then_with(|| key_of(a.1).cmp(&key_of(b.1)))
        };
        let (_, &mut (_, slot), _) = ages.select_nth_unstable_by(rank, by_key);
        Floor::of(key_of(slot))
    }

    fn key_of(&self, slot: u32) -> Key<'_> {
        key(&self.entries[slot as usize].update)
    }

    /// Frees a few of the entries below the floor, from this slot on.
    fn sweep_slice(&mut self, begin: usize) {
        let end = (begin + FLOOR_SWEEP_SLOTS).min(self.entries.capacity());
        for slot in begin..end {
            let Some(entry) = self.entries.get(slot) else {
                continue;
            };
            if self.is_visible(entry) {
                continue;
            }
            self.remove(slot);
        }
        let is_done = end == self.entries.capacity();
        self.work = if is_done { Work::Nothing } else { Work::Sweep(end) };
    }
}

/// All slots, also those that will be given later.
const ALL: usize = usize::MAX;
/// Stands for the new update, which is not in the table yet.
const NEW_ENTRY: u32 = u32::MAX;

#[cfg(test)]
mod tests;
