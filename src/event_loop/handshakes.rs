//! Which TLS handshakes of accepted connections are in progress, and which wait. A handshake costs as much as some two
//! hundred lines, and a client that begins one and goes no further costs a session until its time is over. So there are
//! three bounds:
//!
//! - so many are in progress at once (`Limits::handshakes`), and one group of addresses has half of them at most, so
//!   that no group keeps all others out;
//! - each group has a bucket of tokens, of which each handshake takes one (`Limits::handshakes_per_second`);
//! - one turn processes so many messages of handshakes ([`HANDSHAKES_PER_TURN`]).
//!
//! A connection waits unread until there is a slot and a token for it, within the time of its handshake. Those of a
//! group wait in their order, and the groups take turns: a group with a thousand does not delay one with a single one.
//! Plain connections are not concerned.
//!
//! ```text
//!   first byte is 22 --> a slot and a token, and nobody waits for them --> in progress --> open, or failed
//!                    \-> waits: for a slot of its group (in neither set), for a token (`later`), for its turn (`ready`)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::limits::{ADDRESS_GROUPS, GROUPS_SWEPT, HANDSHAKES_PER_TURN, Limits};
use crate::addresses::{AddressGroup, GroupBounds, GroupTable, Prefix};
use crate::application::ConnectionId;
use crate::clock::{TokenBucket, TokenRate, nanoseconds};

/// The handshakes of a loop.
#[derive(Debug, Default)]
pub struct Handshakes {
    rules: Rules,
    in_progress: usize,
    waiting: usize,
    groups: GroupTable<Key, Group>,
    /// Who waits, by group and in the order in which they began to.
    queue: BTreeMap<Position, ConnectionId>,
    /// Groups that wait for a slot of all: in the order of their turns.
    ready: BTreeSet<(u64, u32)>,
    /// Groups that wait for a token: when they have one.
    later: BTreeSet<(u64, u32)>,
    next_number: u64,
    /// Connections with a slot for which this turn had no time.
    postponed: VecDeque<ConnectionId>,
    /// The turn whose messages are counted, and their number.
    turn: u64,
    processed: usize,
}

/// What a connection has of the handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    #[default]
    None,
    Waiting(Position),
    /// It is in progress, and counts for this group.
    Slot(u32),
}

/// A place in the queue of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    group: u32,
    number: u64,
}

/// A group, and whether its addresses are exempt from the bucket: a prefix may be longer than a group.
type Key = (AddressGroup, bool);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    at_once: usize,
    of_one_group: usize,
    rate: TokenRate,
    exempt: Vec<Prefix>,
}

#[derive(Debug)]
struct Group {
    is_exempt: bool,
    in_progress: usize,
    waiting: usize,
    tokens: TokenBucket,
    place: Place,
}

/// In which set a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nobody waits, or all slots of the group are taken.
    Nowhere,
    Ready(u64),
    Later(u64),
}

impl Rules {
    fn new(limits: &Limits) -> Rules {
        let interval = 1_000_000_000_u64.checked_div(limits.handshakes_per_second as u64);
        let rate = TokenRate::new(interval.unwrap_or(0), limits.handshakes_burst as u64);
        Rules {
            at_once: limits.handshakes.max(1),
            of_one_group: (limits.handshakes / 2).max(1),
            rate,
            exempt: limits.exempt.clone(),
        }
    }
}

impl Group {
    fn has_token_at(&self, rules: &Rules) -> u64 {
        if self.is_exempt || rules.rate.is_unlimited() {
            0
        } else {
            self.tokens.has_token_at(rules.rate)
        }
    }

    fn begin(&mut self, rules: &Rules, now: u64) {
        self.in_progress += 1;
        if !self.is_exempt {
            self.tokens.take(rules.rate, now);
        }
    }
}

impl Handshakes {
    pub fn new(limits: &Limits) -> Handshakes {
        Handshakes { rules: Rules::new(limits), ..Handshakes::default() }
    }

    /// Other limits hold from now on. What is in progress stays.
    pub fn set_limits(&mut self, limits: &Limits, now: Duration) {
        let rules = Rules::new(limits);
        if rules == self.rules {
            return;
        }
        self.rules = rules;
        let now = nanoseconds(now);
        let numbers: Vec<u32> = self.groups.numbers().collect();
        for number in numbers {
            let group = &mut self.groups[number];
            group.tokens.limit(self.rules.rate, now);
            self.settle(number);
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// A connection wants to begin its handshake: it has a slot now, or waits.
    pub fn begin(&mut self, id: ConnectionId, peer: IpAddr, now: Duration) -> Claim {
        let now = nanoseconds(now);
        self.note_tokens(now);
        let is_exempt = self.rules.exempt.iter().any(|prefix| prefix.contains(peer));
        let number = self.number_or_new((AddressGroup::of(peer), is_exempt), now);
        let is_free = self.ready.is_empty() && self.in_progress < self.rules.at_once;
        let group = &mut self.groups[number];
        let has_slot = group.in_progress < self.rules.of_one_group;
        let has_token = group.has_token_at(&self.rules) <= now;
        if is_free && has_slot && has_token && group.waiting == 0 {
            group.begin(&self.rules, now);
            self.in_progress += 1;
            return Claim::Slot(number);
        }
        group.waiting += 1;
        let is_first = group.waiting == 1;
        self.waiting += 1;
        let position = Position { group: number, number: self.next_number() };
        self.queue.insert(position, id);
        if is_first {
            self.settle(number);
        }
        Claim::Waiting(position)
    }

    /// The next connection that waited and has a slot now.
    pub fn next(&mut self, now: Duration) -> Option<(ConnectionId, Claim)> {
        let now = nanoseconds(now);
        self.note_tokens(now);
        if self.in_progress >= self.rules.at_once {
            return None;
        }
        let (_, number) = *self.ready.first()?;
        let first = Position { group: number, number: 0 };
        let (position, id) = self.queue.range(first..).next()?;
        let (position, id) = (*position, *id);
        self.queue.remove(&position);
        let group = &mut self.groups[number];
        group.waiting -= 1;
        group.begin(&self.rules, now);
        self.waiting -= 1;
        self.in_progress += 1;
        self.settle(number); // Behind all other groups.
        Some((id, Claim::Slot(number)))
    }

    /// A connection waits no longer, or its handshake is over.
    pub fn release(&mut self, claim: Claim) {
        let number = match claim {
            Claim::None => return,
            Claim::Slot(number) => {
                self.in_progress -= 1;
                self.groups[number].in_progress -= 1;
                number
            }
            Claim::Waiting(position) => {
                self.queue.remove(&position);
                self.waiting -= 1;
                self.groups[position.group].waiting -= 1;
                position.group
            }
        };
        let Group { waiting, place, .. } = self.groups[number];
        // One that is ready keeps its turn.
        if waiting == 0 || place == Place::Nowhere {
            self.settle(number);
        }
    }

    /// When [`Handshakes::next`] or [`Handshakes::postponed`] may have something, if not before something is released.
    pub fn next_at(&self, now: Duration) -> Option<Duration> {
        if !self.postponed.is_empty() {
            return Some(now);
        }
        if self.in_progress >= self.rules.at_once {
            return None;
        }
        if !self.ready.is_empty() {
            return Some(now);
        }
        self.later.first().map(|(at, _)| Duration::from_nanos(*at))
    }

    /// Whether this turn has time for a message of one more handshake.
    pub fn may_process(&mut self, turn: u64) -> bool {
        if self.turn != turn {
            (self.turn, self.processed) = (turn, 0);
        }
        self.processed += 1;
        self.processed <= HANDSHAKES_PER_TURN
    }

    /// A connection is served in a later turn.
    pub fn postpone(&mut self, id: ConnectionId) {
        self.postponed.push_back(id);
    }

    /// The next one of those that were postponed.
    pub fn postponed(&mut self) -> Option<ConnectionId> {
        self.postponed.pop_front()
    }

    fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Groups that have a token by now wait for a slot only.
    fn note_tokens(&mut self, now: u64) {
        while let Some((at, number)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, number));
            let turn = self.next_number();
            self.ready.insert((turn, number));
            self.groups[number].place = Place::Ready(turn);
        }
    }

    /// Puts a group into the set where it belongs now.
    fn settle(&mut self, number: u32) {
        let group = &mut self.groups[number];
        match group.place {
            Place::Nowhere => {}
            Place::Ready(turn) => drop(self.ready.remove(&(turn, number))),
            Place::Later(at) => drop(self.later.remove(&(at, number))),
        }
        group.place = Place::Nowhere;
        if group.waiting > 0 && group.in_progress < self.rules.of_one_group {
            let at = group.has_token_at(&self.rules);
            group.place = Place::Later(at);
            self.later.insert((at, number));
        }
    }

    /// A group; if it is new and there are too many, that of all others.
    fn number_or_new(&mut self, key: Key, now: u64) -> u32 {
        let others = (AddressGroup::Others, key.1);
        let is_idle = |it: &Group| it.in_progress == 0 && it.waiting == 0 && it.tokens.is_full(now);
        self.groups.number_or_new(key, others, BOUNDS, is_idle, |(_, is_exempt)| Group {
            is_exempt,
            in_progress: 0,
            waiting: 0,
            tokens: TokenBucket::default(),
            place: Place::Nowhere,
        })
    }
}

const BOUNDS: GroupBounds = GroupBounds { most: ADDRESS_GROUPS, swept: GROUPS_SWEPT };

#[cfg(test)]
mod tests;
