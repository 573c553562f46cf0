//! Tests of the floor, and of the search for it.

use std::collections::{BTreeMap, VecDeque};

use super::super::Random;
use super::super::table::Applied;
use super::*;
use crate::protocol::{Skew, Timestamp};

/// Applies an update to the table, and to a list of age keys that is sorted for each newcomer without a place.
struct Twins {
    table: Table,
    known: BTreeMap<Vec<u8>, u64>,
    floor: Option<(u64, Vec<u8>)>,
    searched: usize,
}

impl Twins {
    fn new(bound: usize) -> Twins {
        let (known, floor) = (BTreeMap::new(), None);
        Twins { table: Table::new(bound, 5), known, floor, searched: 0 }
    }

    fn apply(&mut self, id: &[u8], time: u64) {
        let text = time.to_string();
        let timestamp = Timestamp::parse(text.as_bytes()).expect("a timestamp");
        let update = UpdateRef { id, location: b"+1+2", timestamp, server: b"A", skew: Skew(0) };
        let searched = self.table.searched_floor(&update);
        let raises = self.table.floor_raises();
        let applied = self.table.apply(&update, None);
        let key = (time, id.to_vec());
        let bound = self.table.bound();
        let is_full = self.known.len() == bound && !self.known.contains_key(id);
        if self.floor.as_ref().is_some_and(|floor| key <= *floor) {
            assert_eq!(applied, Applied::BelowFloor);
            return;
        } else if self.known.get(id).is_some_and(|known| *known >= time) {
            assert_eq!(applied, Applied::Stale);
            return;
        }
        if is_full {
            let keys = self.known.iter().map(|(id, time)| (*time, id.clone()));
            let mut keys: Vec<_> = keys.chain([key.clone()]).collect();
            keys.sort_unstable();
            let floor = keys[bound.div_ceil(10) - 1].clone();
            self.known.retain(|id, time| (*time, id) > (floor.0, &floor.1));
            self.searched += usize::from(searched.is_some());
            let of_table = self.table.floor().map(|floor| (floor.age, floor.id.clone()));
            let nanos = i128::from(floor.0) * 1_000_000_000;
            assert_eq!(of_table, Some((nanos, floor.1.clone())));
            self.floor = Some(floor);
        }
        let is_kept = self.floor.as_ref().is_none_or(|floor| key > *floor);
        assert_eq!(matches!(applied, Applied::Stored(_)), is_kept, "{applied:?}");
        if is_kept {
            self.known.insert(key.1, key.0);
        }
        assert_eq!(self.table.len(), self.known.len());
        assert_eq!(self.table.floor_raises() - raises, u64::from(is_full));
    }

    fn forget(&mut self, id: &[u8]) {
        let was_known = self.known.remove(id).is_some();
        assert_eq!(self.table.forget(id).is_some(), was_known);
    }
}

#[test]
fn a_searched_table_evicts_whom_a_sorted_list_would_however_its_entries_change() {
    let mut searched = 0;
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut below = |bound: u64| random.number() % bound;
        let mut twins = Twins::new(2 + below(200) as usize);
        twins.table.limit_search(1 + below(12) as usize, 1 + below(40) as usize);
        // Few ages, so that many are equal, or many.
        let (ages, ids) = ([3, 40, 100_000][below(3) as usize], 1 + below(400));
        let grows = below(2);
        for step in 0..1_500 {
            let id = below(ids).to_string();
            match below(12) {
                0 => twins.forget(id.as_bytes()),
                _ => twins.apply(id.as_bytes(), 1 + step * grows + below(ages)),
            }
        }
        searched += twins.searched;
    }
    assert!(searched > 500, "{searched} floors were found by searches");
}

/// So that no turn compares a whole large table.
#[test]
fn the_search_of_a_large_table_is_complete_when_that_is_full_wherever_the_oldest_are() {
    for order in 0..3 {
        let mut large = Large::new(5);
        for number in 0..LARGE as u64 * 13 / 10 {
            let time = match order {
                0 => number + 1,
                1 => number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40,
                _ => 7, // The ids decide.
            };
            large.apply(number, time);
        }
        assert!(large.raises > 0, "order {order}");
    }
}

/// As where each client tells something as often as the others: the oldest one is the next.
#[test]
fn the_search_of_a_large_table_is_complete_when_that_is_full_where_the_oldest_changes_next() {
    for key in 0..2 {
        let mut large = Large::new(key);
        let mut known: VecDeque<u64> = VecDeque::new();
        let mut newcomers = 0;
        for number in 0.. {
            let is_new = newcomers < LARGE as u64 * 9 / 10 || number % 30 == 0;
            if !is_new {
                while known.front().is_some_and(|id| !large.knows(*id)) {
                    known.pop_front();
                }
            }
            let oldest = if is_new { None } else { known.pop_front() };
            let id = oldest.unwrap_or(newcomers);
            newcomers += u64::from(oldest.is_none());
            large.apply(id, number + 1);
            known.push_back(id);
            if large.raises == 4 {
                break;
            }
        }
    }
}

/// A table that is searched, and how often its floor has risen: each time to what a search had found.
struct Large {
    table: Table,
    raises: u64,
}

const LARGE: usize = 70_000;

impl Large {
    fn new(key: u128) -> Large {
        Large { table: Table::new(LARGE, key), raises: 0 }
    }

    fn knows(&self, id: u64) -> bool {
        self.table.get(format!("{id:09}").as_bytes()).is_some()
    }

    fn apply(&mut self, id: u64, time: u64) {
        let Large { table, raises } = self;
        let (id, text) = (format!("{id:09}"), time.to_string());
        let timestamp = Timestamp::parse(text.as_bytes()).expect("a timestamp");
        let (id, location) = (id.as_bytes(), &b"+1+2"[..]);
        let update = UpdateRef { id, location, timestamp, server: b"A", skew: Skew(0) };
        let is_full = table.len() == LARGE && table.get(id).is_none();
        let searched = is_full.then(|| table.searched_floor(&update)).flatten();
        table.apply(&update, None);
        if table.floor_raises() > *raises {
            assert_eq!(searched.as_ref(), table.floor());
            *raises += 1;
        }
    }
}
