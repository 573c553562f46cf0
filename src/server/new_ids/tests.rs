//! Buckets and queues, at times that the tests choose.

use std::net::Ipv4Addr;

use super::*;

fn limits(rate: usize, burst: usize) -> ConfiguredLimits {
    ConfiguredLimits {
        new_ids_per_second: rate,
        new_ids_burst: burst,
        exempt: Vec::new(),
        ..ConfiguredLimits::default()
    }
}

fn peer(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

fn id(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 1 }
}

const fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Takes all tokens that there are.
fn taken(buckets: &mut NewIds, peer: IpAddr, now: Duration) -> usize {
    (0..1_000).take_while(|_| buckets.take(peer, now)).count()
}

#[test]
fn a_group_has_its_burst_at_once_and_then_its_rate() {
    let mut buckets = NewIds::new(&limits(10, 5), 1);
    let one = peer(1);
    assert_eq!(taken(&mut buckets, one, at(0)), 5);
    assert_eq!(taken(&mut buckets, one, at(99)), 0);
    assert_eq!(taken(&mut buckets, one, at(350)), 3);
    assert_eq!(taken(&mut buckets, one, at(399)), 0);
    assert_eq!(taken(&mut buckets, one, at(3_600_000)), 5, "never more than the burst");
    assert_eq!(taken(&mut buckets, peer(2), at(3_600_000)), 5, "each group has its own");
}

#[test]
fn who_waits_is_served_in_order_and_before_those_that_come_later() {
    let mut buckets = NewIds::new(&limits(10, 1), 1);
    let (one, two) = (peer(1), peer(2));
    assert!(buckets.take(one, at(0)) && buckets.take(two, at(50)));
    for (connection, of) in [(11, one), (12, one), (21, two), (13, one)] {
        assert!(!buckets.take(of, at(60)));
        buckets.wait(id(connection), of, at(60));
    }
    assert_eq!(buckets.poll_timeout(), Some(at(100)));
    assert_eq!(buckets.next_with_token(at(99)), None);
    assert_eq!(buckets.next_with_token(at(100)), Some(id(11)));
    assert_eq!(buckets.next_with_token(at(100)), None);
    assert!(!buckets.take(one, at(199)), "there would be no token");
    assert!(!buckets.take(one, at(200)), "there is one, and 12 waits for it");
    let rest: Vec<_> = (0..8).filter_map(|_| buckets.next_with_token(at(200))).collect();
    assert_eq!(rest, [id(21), id(12)], "its token has been there for longer");
    assert_eq!(buckets.next_with_token(at(300)), Some(id(13)));
    assert_eq!(buckets.poll_timeout(), None);
    assert!(buckets.take(one, at(400)));
}

#[test]
fn groups_whose_tokens_come_at_once_are_served_in_the_order_in_which_they_began_to_wait() {
    let mut buckets = NewIds::new(&limits(10, 1), 1);
    let order = [3, 1, 2];
    for number in order {
        assert!(buckets.take(peer(number), at(0)));
    }
    for number in order {
        buckets.wait(id(number), peer(number), at(10));
    }
    let served: Vec<_> = (0..8).filter_map(|_| buckets.next_with_token(at(100))).collect();
    assert_eq!(served, order.map(id));
}

#[test]
fn a_connection_that_is_closed_leaves_the_queue() {
    let mut buckets = NewIds::new(&limits(10, 1), 1);
    let one = peer(1);
    assert!(buckets.take(one, at(0)));
    let positions: Vec<Position> = (0..3).map(|slot| buckets.wait(id(slot), one, at(1))).collect();
    buckets.leave(positions[0]);
    assert!(!buckets.waits(positions[0]) && buckets.waits(positions[1]));
    assert_eq!(buckets.next_with_token(at(100)), Some(id(1)));
    assert!(!buckets.waits(positions[1]));
    buckets.leave(positions[1]); // It has its token already.
    buckets.leave(positions[2]);
    assert_eq!((buckets.poll_timeout(), buckets.queue.len()), (None, 0));
    assert!(buckets.take(one, at(200)));
}

#[test]
fn exempt_addresses_and_a_rate_of_zero_are_free() {
    let mut one = limits(1, 1);
    one.exempt = vec!["10.0.0.0/8".parse().expect("a prefix")];
    let mut buckets = NewIds::new(&one, 1);
    assert_eq!(taken(&mut buckets, [10, 1, 2, 3].into(), at(0)), 1_000);
    assert_eq!(taken(&mut buckets, [11, 1, 2, 3].into(), at(0)), 1);
    assert_eq!(taken(&mut NewIds::new(&limits(0, 1), 1), peer(1), at(0)), 1_000);
    let default = ConfiguredLimits::default();
    let mut buckets = NewIds::new(&default, 1);
    assert_eq!(taken(&mut buckets, Ipv4Addr::LOCALHOST.into(), at(0)), 1_000);
    assert_eq!(buckets.buckets.len(), 0);
}

#[test]
fn one_of_several_loops_has_its_part() {
    let mut buckets = NewIds::new(&limits(30, 9), 3);
    assert_eq!(taken(&mut buckets, peer(1), at(0)), 3);
    assert_eq!(taken(&mut buckets, peer(1), at(200)), 2);
}

#[test]
fn ipv6_addresses_of_one_64_share_a_bucket() {
    let mut buckets = NewIds::new(&limits(1, 3), 1);
    let address = |text: &str| text.parse::<IpAddr>().expect(text);
    assert!(buckets.take(address("2001:db8:0:1::1"), at(0)));
    assert_eq!(taken(&mut buckets, address("2001:db8:0:1:ffff::2"), at(0)), 2);
    assert_eq!(taken(&mut buckets, address("2001:db8:0:2::1"), at(0)), 3);
}

#[test]
fn buckets_are_bounded_and_full_ones_are_forgotten() {
    let mut buckets = NewIds::new(&limits(1, 2), 1);
    let most = ADDRESS_GROUPS as u32;
    for number in 0..most + 100 {
        taken(&mut buckets, peer(number), at(0));
    }
    assert_eq!(buckets.buckets.len(), ADDRESS_GROUPS + 1);
    assert_eq!(taken(&mut buckets, peer(most + 5), at(0)), 0, "these share one");
    buckets.wait(id(1), peer(7), at(0));
    // A second later nobody's is full, two seconds later all are but the one with a queue.
    assert_eq!(taken(&mut buckets, peer(most + 200), at(1_000)), 1);
    for number in 0..most {
        buckets.take(peer(most + 1_000 + number), at(10_000_000));
    }
    assert!(buckets.buckets.len() <= ADDRESS_GROUPS + 1);
    assert!(buckets.buckets.contains(&AddressGroup::of(peer(7))));
    assert_eq!(taken(&mut buckets, peer(3 * most), at(10_005_000)), 2, "it has its own");
    assert!(buckets.buckets.is_whole());
}

#[test]
fn a_stop_and_other_limits_release_all_that_wait_in_their_order() {
    let mut buckets = NewIds::new(&limits(1, 1_000), 1);
    let (one, two) = (peer(1), peer(2));
    assert_eq!(taken(&mut buckets, one, at(0)) + taken(&mut buckets, two, at(0)), 2_000);
    let wait = |buckets: &mut NewIds| {
        buckets.wait(id(5), two, at(1));
        buckets.wait(id(4), one, at(1));
        buckets.wait(id(6), two, at(1));
    };
    wait(&mut buckets);
    assert_eq!(buckets.set_limits(&limits(1, 1_000), 1, at(2)), [], "they are the same");
    assert_eq!(buckets.set_limits(&limits(10, 2), 1, at(2)), [5, 4, 6].map(id));
    // The bucket is as empty as it may be with the new limits, not with the old ones.
    assert_eq!(taken(&mut buckets, one, at(2)), 0);
    assert_eq!(taken(&mut buckets, one, at(202)), 2);
    wait(&mut buckets);
    assert_eq!(buckets.lift(), [5, 4, 6].map(id));
    assert_eq!(taken(&mut buckets, one, at(202)), 1_000, "nobody waits at a stop");
    assert_eq!((buckets.poll_timeout(), buckets.queue.len()), (None, 0));
}
