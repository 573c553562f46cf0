use std::collections::BTreeSet;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::*;
use crate::protocol::{Skew, Timestamp};

const CLIENTS: usize = 5_000;

/// Ids that foldhash gives one hash whatever its seed: their last 16 bytes cancel its first
/// public constant, and what was mixed before is multiplied by zero.
fn colliding(number: usize, length: usize) -> Vec<u8> {
    let constant = 0xc0ac_29b7_c97c_50dd_u64.to_ne_bytes();
    let free = length - 16;
    [format!("{number:0free$}").as_bytes(), &constant, &constant].concat()
}

fn plain(number: usize, length: usize) -> Vec<u8> {
    format!("{number:0length$}").into_bytes()
}

/// How many entries are compared when each client is looked up once.
fn comparisons(key: u128, ids: &[Vec<u8>]) -> usize {
    let mut table = Table::new(ids.len(), key);
    let timestamp = Timestamp::parse(b"1").expect("a timestamp");
    for id in ids {
        let update = UpdateRef { id, location: b"+34-118", timestamp, server: b"A", skew: Skew(0) };
        assert!(matches!(table.apply(&update, None), Applied::Stored(_)));
    }
    assert_eq!(table.len(), ids.len());
    ids.iter().map(|id| table.by_id.iter_hash(table.hash(id)).count()).sum()
}

#[test]
fn ids_that_collide_in_an_unkeyed_hash_cost_no_more_than_twice_what_plain_ones_do() {
    for length in [22, 24, 31] {
        let ids = |id: fn(usize, usize) -> Vec<u8>| {
            (0..CLIENTS).map(|number| id(number, length)).collect::<Vec<_>>()
        };
        let (chosen, plain) = (ids(colliding), ids(plain));
        for seed in [0, 1, u64::MAX] {
            let foldhash = FixedState::with_seed(seed);
            let hashes = chosen.iter().map(|id| foldhash.hash_one(id));
            assert_eq!(hashes.collect::<BTreeSet<_>>().len(), 1, "they collide no more");
        }
        for key in [1, u128::MAX / 3] {
            let (chosen, plain) = (comparisons(key, &chosen), comparisons(key, &plain));
            assert!(chosen <= 2 * plain, "{chosen} comparisons, and {plain} for plain ids");
        }
    }
}
