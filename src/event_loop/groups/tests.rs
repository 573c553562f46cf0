//! The lists and counts of groups, compared with a search of all connections.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;

const LISTENER: ListenerId = ListenerId(1);

fn group(number: u32) -> AddressGroup {
    AddressGroup::V4(Ipv4Addr::from_bits(number))
}

/// Numbers below `bound` that look random (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }
}

#[test]
fn the_largest_group_and_the_order_of_its_connections_are_those_of_a_search() {
    let mut random = Random(7);
    let mut groups = Groups::default();
    // Of each open connection: its slot, group and number, and when it last sent something.
    let mut open: Vec<(u32, u32, GroupNumber, usize)> = Vec::new();
    for step in 0..20_000 {
        match random.below(3) {
            0 if open.len() < 200 => {
                let free = (0..).find(|slot| open.iter().all(|one| one.0 != *slot));
                let (slot, of) = (free.expect("a free one"), random.below(8) as u32);
                open.push((slot, of, groups.opened(LISTENER, group(of), slot), step));
            }
            1 if !open.is_empty() => {
                let (slot, _, number, _) = open.swap_remove(random.below(open.len()));
                groups.closed(number, slot);
            }
            _ if !open.is_empty() => {
                let one = random.below(open.len());
                open[one].3 = step;
                groups.sent(open[one].2, open[one].0);
            }
            _ => {}
        }
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        open.iter().for_each(|one| *sizes.entry(one.1).or_default() += 1);
        assert_eq!(groups.len(), sizes.len());
        for (of, size) in &sizes {
            assert_eq!(groups.connections(LISTENER, group(*of)), *size);
        }
        let largest = groups.largest(LISTENER);
        assert_eq!(largest.map(|(_, size)| size), sizes.values().max().copied());
        let Some((number, _)) = largest else { continue };
        let mut members: Vec<_> = open.iter().filter(|one| one.2 == number).collect();
        members.sort_by_key(|one| one.3);
        members.truncate(FAIR_LOOKS);
        let expected: Vec<u32> = members.iter().map(|one| one.0).collect();
        assert_eq!(groups.most_silent(number).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn listeners_count_apart() {
    let mut groups = Groups::default();
    let (one, other) = (ListenerId(0), ListenerId(5));
    let first = groups.opened(one, group(1), 0);
    groups.opened(other, group(1), 1);
    groups.opened(other, group(1), 2);
    assert_eq!((groups.connections(one, group(1)), groups.connections(other, group(1))), (1, 2));
    assert_eq!(groups.largest(one), Some((first, 1)));
    groups.closed(first, 0);
    assert_eq!(groups.largest(one), None);
    assert_eq!(groups.largest(ListenerId(9)), None);
    groups.closed(GroupNumber::NONE, 7);
}

#[test]
fn groups_beyond_the_bound_share_one_and_forgotten_ones_make_room() {
    let mut groups = Groups::default();
    let most = ADDRESS_GROUPS as u32;
    let numbers: Vec<_> =
        (0..most).map(|slot| groups.opened(LISTENER, group(slot), slot)).collect();
    let one = groups.opened(LISTENER, group(most), most);
    let two = groups.opened(LISTENER, group(most + 1), most + 1);
    assert_eq!(one, two, "they share one");
    assert_eq!(groups.len(), ADDRESS_GROUPS + 1);
    assert_eq!(groups.connections(LISTENER, group(most + 7)), 2, "so do those to come");
    assert_eq!(groups.connections(LISTENER, group(5)), 1, "known ones keep their own");
    assert_eq!(groups.largest(LISTENER), Some((one, 2)));
    groups.closed(numbers[3], 3);
    groups.closed(numbers[4], 4);
    let own = groups.opened(LISTENER, group(most + 2), 3);
    assert_ne!(own, one);
    groups.closed(one, most);
    groups.closed(two, most + 1);
    groups.closed(own, 3);
    assert_eq!(groups.len(), ADDRESS_GROUPS - 2);
}

/// Counted, not timed: however many connections a group has, few are looked at.
#[test]
fn of_ten_thousand_connections_only_a_few_are_looked_at() {
    let mut groups = Groups::default();
    for slot in 0..10_000 {
        groups.opened(LISTENER, group(1), slot);
    }
    let (largest, most) = groups.largest(LISTENER).expect("there is one");
    assert_eq!(most, 10_000);
    assert_eq!(groups.most_silent(largest).count(), FAIR_LOOKS);
}
