//! Handshakes alone: without sockets.

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn id(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 1 }
}

fn host(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn limits(handshakes: usize, per_second: usize, burst: usize) -> Limits {
    Limits {
        handshakes,
        handshakes_per_second: per_second,
        handshakes_burst: burst,
        ..Limits::default()
    }
}

fn has_slot(claim: Claim) -> bool {
    matches!(claim, Claim::Slot(_))
}

/// The slots of the connections that may begin now, in their order.
fn next(handshakes: &mut Handshakes, now: Duration) -> Vec<u32> {
    std::iter::from_fn(|| handshakes.next(now)).map(|(id, _)| id.slot).collect()
}

#[test]
fn one_group_has_half_of_the_slots_and_others_have_the_rest() {
    let mut handshakes = Handshakes::new(&limits(4, 0, 1));
    let claims: Vec<Claim> =
        (0..3).map(|slot| handshakes.begin(id(slot), host(1), MS(0))).collect();
    assert_eq!(
        claims.iter().map(|claim| has_slot(*claim)).collect::<Vec<_>>(),
        [true, true, false]
    );
    let other = handshakes.begin(id(3), host(2), MS(0));
    assert!(has_slot(other), "another group is not held up");
    assert_eq!((handshakes.waiting(), handshakes.next_at(MS(0))), (1, None));
    assert_eq!(next(&mut handshakes, MS(9_999)), [0; 0], "time alone helps nobody");
    handshakes.release(other);
    assert_eq!(next(&mut handshakes, MS(0)), [0; 0], "its own group has none left");
    handshakes.release(claims[0]);
    assert_eq!(handshakes.next_at(MS(0)), Some(Duration::ZERO));
    assert_eq!(next(&mut handshakes, MS(0)), [2]);
    assert_eq!(handshakes.waiting(), 0);
}

#[test]
fn exempt_groups_have_half_of_the_slots_too_but_need_no_token() {
    let exempt = vec!["10.0.0.1/32".parse().expect("a prefix")];
    let mut handshakes = Handshakes::new(&Limits { exempt, ..limits(8, 1, 2) });
    let mut begin = |slot, last| has_slot(handshakes.begin(id(slot), host(last), MS(0)));
    assert_eq!([0, 1, 2, 3, 4].map(|slot| begin(slot, 1)), [true, true, true, true, false]);
    assert_eq!([5, 6, 7].map(|slot| begin(slot, 2)), [true, true, false]);
}

#[test]
fn a_bucket_is_used_up_by_its_burst_and_filled_at_its_rate() {
    let mut handshakes = Handshakes::new(&limits(100, 10, 3));
    let claims: Vec<Claim> =
        (0..5).map(|slot| handshakes.begin(id(slot), host(1), MS(0))).collect();
    assert_eq!(claims.iter().filter(|claim| has_slot(**claim)).count(), 3);
    // The handshakes are over, but their tokens are spent.
    claims[..3].iter().for_each(|claim| handshakes.release(*claim));
    assert_eq!(handshakes.next_at(MS(0)), Some(MS(100)));
    assert_eq!(next(&mut handshakes, MS(99)), [0; 0]);
    assert_eq!(next(&mut handshakes, MS(100)), [3]);
    assert!(has_slot(handshakes.begin(id(6), host(2), MS(100))), "another group has its own");
    let late = handshakes.begin(id(7), host(1), MS(200));
    assert!(!has_slot(late), "the token is for the one that waits already");
    assert_eq!(next(&mut handshakes, MS(200)), [4]);
    assert_eq!(next(&mut handshakes, MS(300)), [7]);
}

#[test]
fn groups_take_turns_and_each_keeps_the_order_of_its_connections() {
    let mut handshakes = Handshakes::new(&limits(2, 0, 1));
    let held: Vec<Claim> =
        [(0, 8), (1, 9)].map(|(slot, last)| handshakes.begin(id(slot), host(last), MS(0))).into();
    for (slot, last) in [(2, 1), (3, 1), (4, 1), (5, 2), (6, 3)] {
        assert!(!has_slot(handshakes.begin(id(slot), host(last), MS(0))));
    }
    let mut order = Vec::new();
    let mut slots: VecDeque<Claim> = held.into();
    while let Some(claim) = slots.pop_front() {
        handshakes.release(claim);
        while let Some((id, claim)) = handshakes.next(MS(0)) {
            order.push(id.slot);
            slots.push_back(claim);
        }
    }
    assert_eq!(order, [2, 5, 6, 3, 4]);
}

#[test]
fn one_that_leaves_the_queue_is_forgotten_and_takes_no_slot() {
    let mut handshakes = Handshakes::new(&limits(2, 0, 1));
    let first = handshakes.begin(id(0), host(1), MS(0));
    let waits: Vec<Claim> = (1..4).map(|slot| handshakes.begin(id(slot), host(1), MS(0))).collect();
    handshakes.release(waits[0]);
    handshakes.release(waits[2]);
    assert_eq!(handshakes.waiting(), 1);
    handshakes.release(first);
    assert_eq!(next(&mut handshakes, MS(0)), [2]);
    assert_eq!(handshakes.next_at(MS(0)), None);
}

#[test]
fn new_limits_hold_for_those_that_wait() {
    let mut handshakes = Handshakes::new(&limits(100, 1, 1));
    assert!(has_slot(handshakes.begin(id(0), host(1), MS(0))));
    assert!(!has_slot(handshakes.begin(id(1), host(1), MS(0))));
    assert_eq!(handshakes.next_at(MS(0)), Some(MS(1_000)));
    handshakes.set_limits(&limits(100, 100, 1), MS(0));
    assert_eq!(next(&mut handshakes, MS(10)), [1]);
    let mut handshakes = Handshakes::new(&limits(2, 0, 1));
    assert!(has_slot(handshakes.begin(id(0), host(1), MS(0))));
    assert!(!has_slot(handshakes.begin(id(1), host(1), MS(0))));
    handshakes.set_limits(&limits(4, 0, 1), MS(0));
    assert_eq!(next(&mut handshakes, MS(0)), [1]);
}

#[test]
fn a_turn_processes_so_many_and_the_next_one_as_many_again() {
    let mut handshakes = Handshakes::new(&Limits::default());
    for turn in [5, 6] {
        let processed = (0..100).filter(|_| handshakes.may_process(turn)).count();
        assert_eq!(processed, HANDSHAKES_PER_TURN);
    }
    handshakes.postpone(id(3));
    assert_eq!(handshakes.next_at(MS(7)), Some(MS(7)));
    assert_eq!((handshakes.postponed(), handshakes.postponed()), (Some(id(3)), None));
}

/// A flood from ever new addresses finds a bound, and a group whose bucket is full again makes room.
#[test]
fn groups_are_bounded_and_idle_ones_are_forgotten() {
    let mut handshakes = Handshakes::new(&limits(usize::MAX, 1, 1));
    let address = |number: u32| IpAddr::from((0x0b00_0000 + number).to_be_bytes());
    for number in 0..ADDRESS_GROUPS as u32 + 100 {
        let claim = handshakes.begin(id(number), address(number), MS(0));
        handshakes.release(claim);
    }
    assert!(handshakes.groups.len() <= ADDRESS_GROUPS + 1);
    let shared = [1, 2].map(|more| {
        let number = ADDRESS_GROUPS as u32 + 100 + more;
        has_slot(handshakes.begin(id(number), address(number), MS(0)))
    });
    assert!(!shared[0] && !shared[1], "further groups share a bucket, which is empty");
    for number in 0..ADDRESS_GROUPS as u32 {
        let claim = handshakes.begin(id(number), address(1_000_000 + number), MS(100_000));
        handshakes.release(claim);
    }
    assert!(handshakes.groups.contains(&(AddressGroup::of(address(1_000_000)), false)));
}
