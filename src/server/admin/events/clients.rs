//! Where the clients are, for the map of the page. It follows the feed with cursors, as a link does, and so it
//! looks at a bounded number of records at a time and never walks the table.
//!
//! ```text
//!   feed   1 2 3 4 5 6 ......................... 90 91 92 93
//!                  ^             ^                          ^
//!                  back          until                      live
//!
//!   live: what changes now. If more changes than may be looked at, it jumps, and `until` with it.
//!   back: what was there before, a slice at a time, up to `until`.
//! ```
//!
//! A client is counted in a cell of one degree. Those that changed last are dots, too, up to a number.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::herd::{Entry, Record, Table};
use crate::limits::{
    MAP_BACK_RECORDS, MAP_CELLS, MAP_CELLS_AT_ONCE, MAP_DOTS, MAP_FRAME_BYTES, MAP_LIVE_RECORDS,
};
use crate::protocol::Seq;

/// The positions of clients, as far as the feed was read.
#[derive(Debug)]
pub(super) struct ClientMap {
    back: Seq,
    until: Seq,
    live: Seq,
    /// The table's count when the walk began: after a raise, slots name other clients.
    floor_raises: u64,
    /// The cell of each of the table's slots.
    cell_of: Vec<u16>,
    cells: Box<[u32]>,
    /// Clients in all cells.
    counted: usize,
    changed_cells: VecDeque<u16>,
    is_changed: Box<[bool]>,
    /// By the slot of the client.
    dots: HashMap<u32, Dot>,
    by_age: BTreeMap<Seq, u32>,
    changed_dots: BTreeSet<u32>,
    gone: Vec<u32>,
}

#[derive(Debug)]
struct Dot {
    seq: Seq,
    place: Place,
    id: Box<[u8]>,
    /// An event has shown it.
    is_shown: bool,
}

/// In degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) latitude: f64,
    pub(super) longitude: f64,
}

/// A client that is a dot: its slot, where it is, its id.
pub(super) type DotShown<'a> = (u32, Place, &'a [u8]);

/// What has changed since the event before.
#[derive(Debug, Default)]
pub(super) struct MapChanges {
    pub(super) dots: Vec<u32>,
    pub(super) gone: Vec<u32>,
    /// Cells with their counts.
    pub(super) cells: Vec<(u16, u32)>,
}

impl ClientMap {
    /// It has looked at what changed last, and begun with what was there before.
    pub(super) fn new(table: &Table) -> ClientMap {
        let end = table.end();
        let live = Seq(end.0.saturating_sub(MAP_LIVE_RECORDS as u64));
        let mut map = ClientMap {
            back: Seq(0),
            until: live,
            live,
            floor_raises: table.floor_raises(),
            cell_of: Vec::new(),
            cells: vec![0; CELLS].into(),
            counted: 0,
            changed_cells: VecDeque::new(),
            is_changed: vec![false; CELLS].into(),
            dots: HashMap::new(),
            by_age: BTreeMap::new(),
            changed_dots: BTreeSet::new(),
            gone: Vec::new(),
        };
        map.follow(table);
        map.walk_back(table);
        // Every stream begins with all of it.
        map.changed_dots.clear();
        map.changed_cells.clear();
        map.is_changed.fill(false);
        map
    }

    /// Whether the floor has risen, so that what is known here is no longer true.
    pub(super) fn is_outdated(&self, table: &Table) -> bool {
        self.floor_raises != table.floor_raises()
    }

    /// Whether [`ClientMap::walk_back`] has more to do.
    pub(super) fn is_behind(&self) -> bool {
        self.back < self.until
    }

    /// Clients that were counted.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// Bytes of memory that it holds, about.
    pub(super) fn held_bytes(&self) -> usize {
        self.cell_of.capacity() * 2 + CELLS * 5 + self.dots.len() * DOT_BYTES
    }

    /// Looks at the latest changes.
    pub(super) fn follow(&mut self, table: &Table) {
        let end = table.end();
        let begin = Seq(end.0.saturating_sub(MAP_LIVE_RECORDS as u64));
        if begin > self.live {
            (self.live, self.until) = (begin, begin);
        }
        for (record, entry) in table.records_after(self.live) {
            if let Some(entry) = entry {
                self.put(record, entry, true);
            }
        }
        self.live = end;
    }

    /// Looks at some of the changes before those.
    pub(super) fn walk_back(&mut self, table: &Table) {
        let mut looked_at = 0;
        for (record, entry) in table.records_after(self.back).take(MAP_BACK_RECORDS) {
            if record.seq > self.until {
                break;
            }
            looked_at += 1;
            self.back = record.seq;
            if let Some(entry) = entry {
                self.put(record, entry, false);
            }
        }
        if looked_at < MAP_BACK_RECORDS {
            self.back = self.until;
        }
    }

    fn put(&mut self, record: Record, entry: &Entry, is_live: bool) {
        let Some(location) = entry.update.location() else { return };
        let (latitude, longitude) = (location.latitude.degrees(), location.longitude.degrees());
        let place = Place { latitude, longitude };
        self.count(record.slot, place.cell());
        self.draw(record, place, entry.update.id(), is_live);
    }

    fn count(&mut self, slot: u32, cell: u16) {
        let slot = slot as usize;
        if slot >= self.cell_of.len() {
            self.cell_of.resize(slot + 1, NO_CELL);
        }
        let before = std::mem::replace(&mut self.cell_of[slot], cell);
        if before == cell {
            return;
        }
        match before {
            NO_CELL => self.counted += 1,
            before => self.add(before, u32::MAX),
        }
        self.add(cell, 1);
    }

    /// Adds to the count of a cell, modulo 2^32.
    fn add(&mut self, cell: u16, by: u32) {
        let count = &mut self.cells[usize::from(cell)];
        *count = count.wrapping_add(by);
        if !std::mem::replace(&mut self.is_changed[usize::from(cell)], true) {
            self.changed_cells.push_back(cell);
        }
    }

    /// Makes a client a dot, in place of the one that changed longest ago if there are enough. One that is looked at
    /// later displaces none.
    fn draw(&mut self, Record { seq, slot }: Record, place: Place, id: &[u8], is_live: bool) {
        if let Some(dot) = self.dots.get_mut(&slot) {
            self.by_age.remove(&dot.seq);
            (dot.seq, dot.place) = (seq, place);
        } else {
            if self.dots.len() >= MAP_DOTS {
                if !is_live {
                    return;
                }
                self.drop_oldest();
            }
            self.dots.insert(slot, Dot { seq, place, id: id.into(), is_shown: false });
        }
        self.by_age.insert(seq, slot);
        self.changed_dots.insert(slot);
    }

    fn drop_oldest(&mut self) {
        let Some((_, slot)) = self.by_age.pop_first() else { return };
        self.changed_dots.remove(&slot);
        if self.dots.remove(&slot).is_some_and(|dot| dot.is_shown) {
            self.gone.push(slot);
        }
    }

    /// What the next event shows. What does not fit follows with the one after it.
    pub(super) fn take_changes(&mut self) -> MapChanges {
        let mut changes =
            MapChanges { gone: std::mem::take(&mut self.gone), ..MapChanges::default() };
        let mut bytes = 0;
        while bytes < MAP_FRAME_BYTES
            && let Some(slot) = self.changed_dots.pop_first()
            && let Some(dot) = self.dots.get_mut(&slot)
        {
            bytes += dot.shown_bytes();
            dot.is_shown = true;
            changes.dots.push(slot);
        }
        // The latest one last, as in `all_dots`.
        changes.dots.sort_by_key(|slot| self.dots.get(slot).map(|dot| dot.seq));
        let count = self.changed_cells.len().min(MAP_CELLS);
        for cell in self.changed_cells.drain(..count) {
            self.is_changed[usize::from(cell)] = false;
            changes.cells.push((cell, self.cells[usize::from(cell)]));
        }
        changes
    }

    /// A dot.
    pub(super) fn dot(&self, slot: u32) -> Option<DotShown<'_>> {
        self.dots.get(&slot).map(|dot| (slot, dot.place, &dot.id[..]))
    }

    /// The slots of all dots that fit into one event, the latest one last; the others follow as changes.
    pub(super) fn all_dots(&mut self) -> Vec<u32> {
        let (mut bytes, mut shown) = (0, Vec::with_capacity(self.dots.len()));
        for &slot in self.by_age.values().rev() {
            let Some(dot) = self.dots.get_mut(&slot) else { continue };
            if bytes < 2 * MAP_FRAME_BYTES {
                bytes += dot.shown_bytes();
                dot.is_shown = true;
                shown.push(slot);
            } else {
                self.changed_dots.insert(slot);
            }
        }
        shown.reverse();
        shown
    }

    /// The cells that have clients, as many as fit into one event; the others follow as changes.
    pub(super) fn all_cells(&mut self) -> Vec<(u16, u32)> {
        let mut shown = Vec::new();
        for (cell, &count) in self.cells.iter().enumerate().filter(|(_, count)| **count > 0) {
            if shown.len() < MAP_CELLS_AT_ONCE {
                shown.push((cell as u16, count));
            } else if !std::mem::replace(&mut self.is_changed[cell], true) {
                self.changed_cells.push_back(cell as u16);
            }
        }
        shown
    }
}

impl Dot {
    /// About.
    fn shown_bytes(&self) -> usize {
        // In the worst case a byte of an id becomes `\\xff`.
        DOT_BYTES + self.id.len() * 5
    }
}

impl Place {
    /// The cell of one degree, by rows from the north-west.
    fn cell(self) -> u16 {
        // The casts saturate, and latitudes and longitudes are within their ranges.
        let row = ((90.0 - self.latitude) as u16).min(ROWS - 1);
        let column = ((self.longitude + 180.0) as u16).min(COLUMNS - 1);
        row * COLUMNS + column
    }
}

const ROWS: u16 = 180;
const COLUMNS: u16 = 360;
const CELLS: usize = ROWS as usize * COLUMNS as usize;
/// Of a slot that was not looked at yet.
const NO_CELL: u16 = u16::MAX;
const _: () = assert!(CELLS < NO_CELL as usize);
/// Bytes of a dot without its id.
const DOT_BYTES: usize = 40;
