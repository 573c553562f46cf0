//! How fast a group of addresses may add ids to the table: each group has a bucket of tokens, and an IAMAT that would make
//! a new entry takes one. Without a token the line waits; it is neither refused nor answered falsely. Known ids, and
//! updates of neighbours, take none.
//!
//! ```text
//!   IAMAT of a new id --> a token is left, and nobody of the group waits --> handled
//!                     \-> the session keeps the line, and its connection is not read
//!                           |  poll_timeout: when the group has the next token
//!                           +--> Fill: handled; the connection is read again
//! ```

mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::addresses::{AddressGroup, GroupBounds, GroupTable, Prefix};
use crate::application::ConnectionId;
use crate::clock::{TokenBucket, TokenRate, nanoseconds};
use crate::limits::{ADDRESS_GROUPS, ConfiguredLimits, GROUPS_SWEPT};
pub(super) use waits::WaitingLine;

/// The buckets of all groups, and the connections that wait for tokens.
#[derive(Debug, Default)]
pub(super) struct NewIds {
    rules: Rules,
    /// The server stops: what waits is handled, and nothing waits from now on.
    is_lifted: bool,
    buckets: GroupTable<AddressGroup, Bucket>,
    /// Who waits, by bucket and in the order in which they began to.
    queue: BTreeMap<Position, ConnectionId>,
    /// When each bucket with a queue has its next token; of those with the same time, the one that has had a queue for
    /// longest comes first.
    due: BTreeSet<Due>,
    next_number: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    rate: TokenRate,
    exempt: Vec<Prefix>,
}

#[derive(Debug, Default)]
struct Bucket {
    tokens: TokenBucket,
    waiting: usize,
    /// The number of the first position in its queue.
    since: u64,
}

/// A place in the queue of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    bucket: u32,
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    since: u64,
    bucket: u32,
}

impl Rules {
    /// One of `loops` loops has its part of the rate and of the burst.
    fn new(limits: &ConfiguredLimits, loops: usize) -> Rules {
        let (loops, rate) = (loops as u64, limits.new_ids_per_second as u64);
        let interval = loops.saturating_mul(1_000_000_000).checked_div(rate).unwrap_or(0);
        let burst = (limits.new_ids_burst as u64).div_ceil(loops);
        Rules { rate: TokenRate::new(interval, burst), exempt: limits.exempt.clone() }
    }

    fn is_free(&self, peer: IpAddr) -> bool {
        self.rate.is_unlimited() || self.exempt.iter().any(|prefix| prefix.contains(peer))
    }
}

impl Bucket {
    /// When it has a token.
    fn has_token_at(&self, rules: &Rules) -> u64 {
        self.tokens.has_token_at(rules.rate)
    }

    fn take(&mut self, rules: &Rules, now: u64) {
        self.tokens.take(rules.rate, now);
    }

    fn due(&self, bucket: u32, rules: &Rules) -> Due {
        Due { at: self.has_token_at(rules), since: self.since, bucket }
    }
}

impl NewIds {
    pub fn new(limits: &ConfiguredLimits, loops: usize) -> NewIds {
        NewIds { rules: Rules::new(limits, loops), ..NewIds::default() }
    }

    /// Other limits hold from now on. Returns the connections that waited, in their order: their lines are handled as if
    /// each had a token, because what they waited for may be gone. None if the limits are the same.
    pub fn set_limits(
        &mut self,
        limits: &ConfiguredLimits,
        loops: usize,
        now: Duration,
    ) -> Vec<ConnectionId> {
        let rules = Rules::new(limits, loops);
        if rules == self.rules {
            return Vec::new();
        }
        self.rules = rules;
        let now = nanoseconds(now);
        for bucket in self.buckets.values_mut() {
            bucket.tokens.limit(self.rules.rate, now);
        }
        self.release()
    }

    /// The server stops: nothing waits from now on. Returns the connections that waited, in their order.
    pub fn lift(&mut self) -> Vec<ConnectionId> {
        self.is_lifted = true;
        self.release()
    }

    fn release(&mut self) -> Vec<ConnectionId> {
        self.due.clear();
        self.buckets.values_mut().for_each(|bucket| bucket.waiting = 0);
        let queue = std::mem::take(&mut self.queue);
        let mut released: Vec<_> =
            queue.into_iter().map(|(position, connection)| (position.number, connection)).collect();
        released.sort_unstable();
        released.into_iter().map(|(_, connection)| connection).collect()
    }

    /// Takes a token for an id that a peer adds. Returns false if there is none, or others of its group wait for one.
    // Not inline: most IAMATs are of known ids.
    #[inline(never)]
    pub fn take(&mut self, peer: IpAddr, now: Duration) -> bool {
        if self.is_lifted || self.rules.is_free(peer) {
            return true;
        }
        let now = nanoseconds(now);
        let number = self.number_or_new(AddressGroup::of(peer), now);
        let bucket = &mut self.buckets[number];
        let has_token = bucket.waiting == 0 && bucket.has_token_at(&self.rules) <= now;
        if has_token {
            bucket.take(&self.rules, now);
        }
        has_token
    }

    /// A connection waits for a token, behind all others of its group.
    pub fn wait(&mut self, connection: ConnectionId, peer: IpAddr, now: Duration) -> Position {
        let number = self.number_or_new(AddressGroup::of(peer), nanoseconds(now));
        let position = Position { bucket: number, number: self.next_number };
        self.next_number += 1;
        let bucket = &mut self.buckets[number];
        bucket.waiting += 1;
        if bucket.waiting == 1 {
            bucket.since = position.number;
            self.due.insert(bucket.due(number, &self.rules));
        }
        self.queue.insert(position, connection);
        position
    }

    /// Whether a connection still waits.
    pub fn waits(&self, position: Position) -> bool {
        self.queue.contains_key(&position)
    }

    /// A connection waits no longer.
    pub fn leave(&mut self, position: Position) {
        if self.queue.remove(&position).is_none() {
            return;
        }
        let bucket = &mut self.buckets[position.bucket];
        bucket.waiting -= 1;
        if bucket.waiting == 0 {
            self.due.remove(&bucket.due(position.bucket, &self.rules));
        }
    }

    /// When the next connection has its token.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due.first().map(|due| Duration::from_nanos(due.at))
    }

    /// Takes a token for the next connection that waits and has one: its line can be handled.
    pub fn next_with_token(&mut self, now: Duration) -> Option<ConnectionId> {
        let now = nanoseconds(now);
        let due = *self.due.first().filter(|due| due.at <= now)?;
        self.due.remove(&due);
        let number = due.bucket;
        let first = Position { bucket: number, number: 0 };
        let (position, connection) = self.queue.range(first..).next()?;
        let (position, connection) = (*position, *connection);
        self.queue.remove(&position);
        let bucket = &mut self.buckets[number];
        bucket.take(&self.rules, now);
        bucket.waiting -= 1;
        if bucket.waiting > 0 {
            self.due.insert(bucket.due(number, &self.rules));
        }
        Some(connection)
    }

    /// The bucket of a group; if it has none and there are too many, that of all others. A full bucket is forgotten.
    fn number_or_new(&mut self, group: AddressGroup, now: u64) -> u32 {
        let is_full = |bucket: &Bucket| bucket.waiting == 0 && bucket.tokens.is_full(now);
        let new = |_| Bucket::default();
        self.buckets.number_or_new(group, AddressGroup::Others, BOUNDS, is_full, new)
    }
}

const BOUNDS: GroupBounds = GroupBounds { most: ADDRESS_GROUPS, swept: GROUPS_SWEPT };

#[cfg(test)]
mod tests;
