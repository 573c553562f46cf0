//! Groups of addresses: how many connections each has at each listener, and which of a group's connections
//! has been silent for longest. A full listener makes room by that ([`room`](super::room)).
//!
//! Nothing here searches all connections. The largest group is the last of an ordered set; the connections
//! of a group are a list in the order in which they last sent something. Moving a connection within its list
//! at every read would cost each request something, so it is moved at its first read in each tick of 134 ms:
//! the order is exact up to that, and the few at the front are compared.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use super::limits::{ADDRESS_GROUPS, FAIR_LOOKS};
use super::slots::RESERVED;
use crate::addresses::AddressGroup;
use crate::application::ListenerId;

/// What one group of addresses ([`AddressGroup`]) may take of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupRules {
    /// When the listener is full, a connection of the group that has the most makes room for one of a group
    /// that has fewer, however short it was silent.
    pub fair_share: bool,
    /// How many connections of one group may be open at once; 0 if there is no such limit. Addresses of
    /// [`Limits::exempt`](super::Limits) are free of it.
    pub per_group: usize,
}

/// A group at a listener, by its number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupNumber(u32);

impl GroupNumber {
    /// Of connections that were not accepted.
    pub const NONE: GroupNumber = GroupNumber(u32::MAX);
}

/// All groups that have connections.
#[derive(Debug)]
pub struct Groups {
    all: Slab<Group>,
    /// The standard library keys its hash at random: nobody can choose addresses that collide.
    numbers: HashMap<(ListenerId, AddressGroup), GroupNumber>,
    /// By listener: its groups, the one with the most connections last.
    by_size: Vec<BTreeSet<(u32, GroupNumber)>>,
    /// By slot: the position of a connection in the list of its group.
    positions: Vec<Position>,
}

#[derive(Debug)]
struct Group {
    key: (ListenerId, AddressGroup),
    connections: u32,
    /// The slots of the connection that sent nothing for longest, and of the one that sent last.
    first: u32,
    last: u32,
}

/// The slots of the connections before and after one in the list of its group.
#[derive(Clone, Copy, Debug)]
struct Position {
    before: u32,
    after: u32,
}

impl Default for Groups {
    fn default() -> Groups {
        Groups {
            all: Slab::new(),
            numbers: HashMap::new(),
            by_size: Vec::new(),
            positions: Vec::with_capacity(RESERVED),
        }
    }
}

impl Groups {
    /// How many groups have connections.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// How many connections a group has at a listener.
    pub fn connections(&self, listener: ListenerId, group: AddressGroup) -> usize {
        let number = self.number(listener, group);
        number.map_or(0, |GroupNumber(number)| self.all[number as usize].connections as usize)
    }

    /// The group that has the most connections at a listener, and their number.
    pub fn largest(&self, listener: ListenerId) -> Option<(GroupNumber, usize)> {
        let (connections, number) = self.by_size.get(usize::from(listener.0))?.last()?;
        Some((*number, *connections as usize))
    }

    /// Slots of connections of a group: the first ones of its list, which have been silent for longest. The
    /// number of slots has a bound.
    pub fn most_silent(&self, GroupNumber(number): GroupNumber) -> impl Iterator<Item = u32> {
        let somebody = |slot: &u32| *slot != NOBODY;
        let first = self.all.get(number as usize).map(|group| group.first).filter(somebody);
        let next = move |slot: &u32| Some(self.positions[*slot as usize].after).filter(somebody);
        std::iter::successors(first, next).take(FAIR_LOOKS)
    }

    /// Counts a connection that was accepted, and puts it at the end of its group's list.
    pub fn opened(&mut self, listener: ListenerId, group: AddressGroup, slot: u32) -> GroupNumber {
        let number = self.number_or_new(listener, group);
        self.resize(number, u32::wrapping_add);
        let slots = slot as usize + 1;
        if self.positions.len() < slots {
            self.positions.resize(slots, Position { before: NOBODY, after: NOBODY });
        }
        self.append(number, slot);
        number
    }

    /// Counts a connection of a group that is closed.
    pub fn closed(&mut self, number: GroupNumber, slot: u32) {
        if number == GroupNumber::NONE {
            return;
        }
        self.take_out(number, slot);
        self.resize(number, u32::wrapping_sub);
        let place = number.0 as usize;
        if self.all[place].connections == 0 {
            let key = self.all.remove(place).key;
            self.numbers.remove(&key);
        }
    }

    /// Moves a connection that sent something to the end of its group's list.
    #[inline(never)] // Once for each tick.
    pub fn sent(&mut self, number: GroupNumber, slot: u32) {
        if number != GroupNumber::NONE {
            self.take_out(number, slot);
            self.append(number, slot);
        }
    }

    /// The number of a group, or that of the others if it has none because there are too many.
    fn number(&self, listener: ListenerId, group: AddressGroup) -> Option<GroupNumber> {
        let known = self.numbers.get(&(listener, group));
        let of_others = || self.numbers.get(&(listener, AddressGroup::Others));
        known.or_else(|| self.is_full().then(of_others).flatten()).copied()
    }

    fn number_or_new(&mut self, listener: ListenerId, group: AddressGroup) -> GroupNumber {
        if let Some(number) = self.number(listener, group) {
            return number;
        }
        let group = if self.is_full() { AddressGroup::Others } else { group };
        let key = (listener, group);
        let new = Group { key, connections: 0, first: NOBODY, last: NOBODY };
        // Fewer than 2^32: see `ADDRESS_GROUPS`.
        let number = GroupNumber(self.all.insert(new) as u32);
        self.numbers.insert(key, number);
        number
    }

    fn is_full(&self) -> bool {
        self.all.len() >= ADDRESS_GROUPS
    }

    fn resize(&mut self, number: GroupNumber, change: impl Fn(u32, u32) -> u32) {
        let Group { key: (listener, _), connections, .. } = &mut self.all[number.0 as usize];
        let listener = usize::from(listener.0);
        if self.by_size.len() <= listener {
            self.by_size.resize_with(listener + 1, BTreeSet::new);
        }
        let sizes = &mut self.by_size[listener];
        sizes.remove(&(*connections, number));
        *connections = change(*connections, 1);
        if *connections > 0 {
            sizes.insert((*connections, number));
        }
    }

    fn append(&mut self, GroupNumber(number): GroupNumber, slot: u32) {
        let group = &mut self.all[number as usize];
        let before = std::mem::replace(&mut group.last, slot);
        self.positions[slot as usize] = Position { before, after: NOBODY };
        match self.positions.get_mut(before as usize) {
            Some(position) => position.after = slot,
            None => group.first = slot,
        }
    }

    fn take_out(&mut self, GroupNumber(number): GroupNumber, slot: u32) {
        let group = &mut self.all[number as usize];
        let Position { before, after } = self.positions[slot as usize];
        match self.positions.get_mut(before as usize) {
            Some(position) => position.after = after,
            None => group.first = after,
        }
        match self.positions.get_mut(after as usize) {
            Some(position) => position.before = before,
            None => group.last = before,
        }
    }
}

/// No slot has this number.
const NOBODY: u32 = u32::MAX;

#[cfg(test)]
mod tests;
