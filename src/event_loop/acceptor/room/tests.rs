//! Which connections a listener takes, refuses or closes: of any address, without a network.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Poll, Token};

use super::*;
use crate::application::{ConnectionId, ListenerId, Origin};
use crate::event_loop::acceptor::Listen;
use crate::event_loop::connection::Awaits;
use crate::event_loop::limits::{FAIR_LOOKS, Limits, TICK_BITS};
use crate::event_loop::reconfigure::Bound;
use crate::event_loop::state::ConnectionState;
use crate::event_loop::transport::Socket;
use crate::event_loop::{GroupRules, now};

/// A listener and its connections, at a time that only [`Bed::later`] moves.
struct Bed {
    listener: Listener,
    connections: Connections<()>,
    _poll: Poll,
}

const LISTENER: ListenerId = ListenerId(3);

impl Bed {
    fn new(change: impl FnOnce(&mut Listen)) -> Bed {
        let mut listen = Listen::on(LISTENER, SocketAddr::from(([127, 0, 0, 1], 0)));
        listen.groups = GroupRules { fair_share: true, per_group: 0 };
        change(&mut listen);
        let bound = Bound::new(listen).expect("a free port");
        bound.listen().expect("it is free");
        let poll = Poll::new().expect("a poll");
        let registry = poll.registry().try_clone().expect("a descriptor");
        let start = Instant::now();
        let connections = Connections::new(registry, Limits::default(), start, now(start));
        Bed { listener: Listener::new(bound, Token(0)), connections, _poll: poll }
    }

    fn open(&mut self, from: &str) -> ConnectionId {
        let (socket, _) = UnixStream::pair().expect("a pair");
        let (origin, state) = (Origin::Accepted(LISTENER), ConnectionState::Handshaking);
        self.connections.add(Socket::Pair(socket), peer(from), origin, state)
    }

    fn admit(&mut self, from: &str) -> Admission {
        self.listener.admit(peer(from), &mut self.connections)
    }

    fn later(&mut self, time: Duration) {
        self.connections.shared.now.elapsed += time;
    }

    fn sends(&mut self, id: ConnectionId) {
        let slot = self.connections.slots.get_mut(id).expect("it is open");
        self.connections.shared.note_read(&mut slot.connection, 1);
    }

    fn is_closed(&mut self, id: ConnectionId) -> bool {
        self.connections.state(id) == Some(ConnectionState::Closed)
    }

    fn why(&mut self, id: ConnectionId) -> Option<Closed> {
        let slot = self.connections.slots.get_mut(id)?;
        slot.connection.why.as_deref().cloned()
    }

    fn count(&self, from: &str) -> usize {
        let group = AddressGroup::of(peer(from).ip());
        self.connections.shared.groups.connections(LISTENER, group)
    }

    fn reap(&mut self) {
        while self.connections.reap().is_some() {}
    }
}

fn peer(address: &str) -> SocketAddr {
    let address: IpAddr = address.parse().expect(address);
    SocketAddr::new(address.to_canonical(), 5_000)
}

fn is_refused_at_the_limit(admission: &Admission) -> bool {
    matches!(admission, Admission::Refuse(Refused::Limit(_)))
}

const TICK: Duration = Duration::from_nanos(1 << TICK_BITS);

#[test]
fn the_longest_silent_connection_of_the_largest_group_makes_room() {
    let mut bed = Bed::new(|listen| listen.connections = 5);
    let crowd: Vec<_> = (0..4)
        .map(|_| {
            bed.later(TICK);
            bed.open("10.0.0.1")
        })
        .collect();
    let other = bed.open("10.0.0.2");
    bed.later(TICK);
    bed.sends(crowd[0]);
    assert!(matches!(bed.admit("10.0.0.3"), Admission::Take));
    assert_eq!(bed.why(crowd[1]), Some(Closed::FairShare), "the first one has sent something");
    assert!(!bed.is_closed(other) && [0, 2, 3].iter().all(|&nth| !bed.is_closed(crowd[nth])));
    bed.open("10.0.0.3");
    // It has 3, and one with two would be only one behind.
    assert!(is_refused_at_the_limit(&bed.admit("10.0.0.2")));
    assert!(is_refused_at_the_limit(&bed.admit("10.0.0.1")), "the crowd gets nothing by it");
    assert!(matches!(bed.admit("10.0.0.4"), Admission::Take), "3 and 1");
    assert_eq!(bed.count("10.0.0.1"), 2);
    bed.open("10.0.0.4");
    assert!(is_refused_at_the_limit(&bed.admit("10.0.0.5")), "2 and 1: all have their share");
}

#[test]
fn within_a_tick_silence_is_compared_exactly_and_who_has_an_event_or_waits_comes_last() {
    let mut bed = Bed::new(|listen| listen.connections = 6);
    let crowd: Vec<_> = (0..6).map(|_| bed.open("10.0.0.1")).collect();
    bed.later(Duration::from_nanos(10));
    bed.sends(crowd[0]);
    bed.later(Duration::from_nanos(10));
    bed.sends(crowd[1]);
    let with_event = bed.connections.slots.get_mut(crowd[2]).expect("it is open");
    with_event.connection.read_pending = true;
    let waiting = bed.connections.slots.get_mut(crowd[3]).expect("it is open");
    waiting.connection.awaits = Awaits::Fill;
    let mut closed = Vec::new();
    for newcomer in ["10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        bed.admit(newcomer);
        let next = crowd.iter().position(|id| bed.is_closed(*id) && !closed.contains(id));
        closed.extend(next.map(|nth| crowd[nth]));
        bed.open(newcomer);
    }
    assert_eq!(closed, [crowd[4], crowd[5], crowd[0]]);
}

#[test]
fn without_fair_share_or_with_one_group_only_an_idle_one_makes_room() {
    let idle = Duration::from_secs(60);
    for fair_share in [true, false] {
        let mut bed = Bed::new(|listen| {
            (listen.connections, listen.evict_after) = (3, Some(idle));
            listen.groups.fair_share = fair_share;
        });
        let crowd: Vec<_> = (0..3).map(|_| bed.open("127.0.0.1")).collect();
        let newcomer = if fair_share { "127.0.0.1" } else { "127.0.0.2" };
        assert!(is_refused_at_the_limit(&bed.admit(newcomer)));
        bed.later(idle);
        bed.sends(crowd[0]);
        bed.listener.no_eviction_before = Duration::ZERO;
        assert!(matches!(bed.admit(newcomer), Admission::NextTurn), "the kernel is asked first");
        let judged = bed.connections.shared.now.elapsed;
        let shared = &mut bed.connections.shared;
        shared.served_up_to.polled(judged, 0, 10, shared.ready.pushed);
        shared.served_up_to.served(shared.ready.popped);
        assert!(matches!(bed.admit(newcomer), Admission::Take));
        assert_eq!(bed.why(crowd[1]), Some(Closed::Evicted));
    }
}

#[test]
fn a_group_may_have_as_many_as_its_cap_whatever_addresses_it_uses_and_exempt_ones_more() {
    let mut bed = Bed::new(|listen| listen.groups.per_group = 2);
    bed.connections.shared.limits.exempt = vec!["10.0.0.0/8".parse().expect("a prefix")];
    let first = bed.open("2001:db8:0:1::1");
    bed.open("2001:db8:0:1::2");
    let admission = bed.admit("2001:db8:0:1:ffff::3");
    assert!(matches!(admission, Admission::Refuse(Refused::Group(peer)) if peer.port() == 5_000));
    assert!(matches!(bed.admit("2001:db8:0:2::1"), Admission::Take), "another /64");
    bed.connections.close(first, Closed::Commanded);
    assert!(matches!(bed.admit("2001:db8:0:1:ffff::3"), Admission::Take), "counts fall at once");
    for _ in 0..3 {
        assert!(matches!(bed.admit("::ffff:10.0.0.1"), Admission::Take));
        bed.open("10.0.0.1");
    }
    bed.open("192.0.2.1");
    bed.open("::ffff:192.0.2.1");
    assert!(matches!(bed.admit("192.0.2.1"), Admission::Refuse(Refused::Group(_))));
}

#[test]
fn without_descriptors_a_newcomer_waits_for_one_that_is_given_back_or_is_refused() {
    let mut bed = Bed::new(|listen| listen.max_open = 4);
    bed.connections.shared.limits.exempt = vec!["127.0.0.0/8".parse().expect("a prefix")];
    let crowd: Vec<_> = (0..4).map(|_| bed.open("10.0.0.1")).collect();
    assert!(is_refused_at_the_limit(&bed.admit("10.0.0.1")), "so that others come to the front");
    assert!(matches!(bed.admit("10.0.0.2"), Admission::NextTurn));
    assert_eq!(bed.why(crowd[0]), Some(Closed::FairShare));
    assert!(matches!(bed.admit("10.0.0.2"), Admission::NextTurn), "one makes room, no second one");
    bed.reap();
    assert!(matches!(bed.admit("10.0.0.2"), Admission::Take));
    bed.open("10.0.0.2");
    bed.open("127.0.0.1");
    bed.connections.close(crowd[1], Closed::Commanded);
    bed.reap();
    // 2, 1 and 1 are open: nobody has to make room.
    assert!(is_refused_at_the_limit(&bed.admit("10.0.0.3")));
    assert!(matches!(bed.admit("127.0.0.2"), Admission::Pause), "it is exempt");
}

/// Each newcomer brings it one connection nearer to the limit.
#[test]
fn a_lowered_limit_is_reached_by_fair_share() {
    let mut bed = Bed::new(|listen| listen.connections = 10);
    for _ in 0..10 {
        bed.open("10.0.0.1");
    }
    bed.listener.listen.connections = 8;
    for newcomer in ["10.0.0.2", "10.0.0.3"] {
        assert!(matches!(bed.admit(newcomer), Admission::Take));
        bed.open(newcomer);
    }
    assert_eq!(bed.connections.shared.counts.at(LISTENER), 8);
    assert!(matches!(bed.admit("10.0.0.4"), Admission::Take));
    bed.open("10.0.0.4");
    assert_eq!(bed.connections.shared.counts.at(LISTENER), 8);
}

/// Connections that may not be closed come first in the list, and all others are found behind them.
#[test]
fn connections_that_may_not_be_closed_hide_no_others() {
    let mut bed = Bed::new(|listen| listen.connections = FAIR_LOOKS + 10);
    let policies = &mut bed.connections.shared.policies;
    let kept = policies.take(crate::application::Policy {
        evictable: false,
        ..crate::application::Policy::lines(10)
    });
    for _ in 0..FAIR_LOOKS + 5 {
        let id = bed.open("10.0.0.1");
        bed.connections.slots.get_mut(id).expect("it is open").connection.policy = kept;
    }
    let others: Vec<_> = (0..5).map(|_| bed.open("10.0.0.1")).collect();
    assert!(is_refused_at_the_limit(&bed.admit("10.0.0.2")));
    assert!(matches!(bed.admit("10.0.0.2"), Admission::Take));
    assert!(bed.is_closed(others[0]));
}
