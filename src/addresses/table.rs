//! Values of groups of addresses, in a bounded number.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::{Index, IndexMut};

use slab::Slab;

/// A value for each group of addresses, by a number that stays the group's until it is forgotten. When there are too
/// many groups, further ones share the value of [`AddressGroup::Others`](super::AddressGroup::Others). A value that is
/// like a new one is forgotten: each new group looks at a few, so nothing walks the table.
#[derive(Debug)]
pub struct GroupTable<K, V> {
    all: Slab<(K, V)>,
    /// The standard library keys its hash at random: nobody can choose addresses that collide.
    numbers: HashMap<K, u32>,
    /// The value that is looked at next for one that can be forgotten.
    hand: usize,
}

/// The bounds of a [`GroupTable`].
#[derive(Clone, Copy, Debug)]
pub struct GroupBounds {
    /// Groups that have a value of their own; fewer than 2^32.
    pub most: usize,
    /// Values that each new group looks at for one that can be forgotten.
    pub swept: usize,
}

impl<K: Copy + Eq + Hash, V> GroupTable<K, V> {
    /// The number of a group. If it is new, values for which `is_like_new` holds are forgotten, and it gets a `new` one;
    /// where there are too many, its key is `others` instead.
    pub fn number_or_new(
        &mut self,
        key: K,
        others: K,
        bounds: GroupBounds,
        is_like_new: impl Fn(&V) -> bool,
        new: impl FnOnce(K) -> V,
    ) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        for _ in 0..bounds.swept {
            self.forget_one(&is_like_new);
        }
        let key = if self.all.len() < bounds.most { key } else { others };
        let all = &mut self.all;
        *self.numbers.entry(key).or_insert_with(|| all.insert((key, new(key))) as u32)
    }

    /// Forgets the next value if it is like a new one.
    fn forget_one(&mut self, is_like_new: impl Fn(&V) -> bool) {
        let number = self.hand;
        self.hand = (number + 1) % self.all.capacity().max(1);
        if let Some((key, _)) = self.all.get(number).filter(|(_, value)| is_like_new(value)) {
            self.numbers.remove(key);
            self.all.remove(number);
        }
    }

    /// The numbers of all.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.all.iter().map(|(number, _)| number as u32)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.all.iter_mut().map(|(_, (_, value))| value)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a group has a value of its own.
    pub fn contains(&self, key: &K) -> bool {
        self.numbers.contains_key(key)
    }

    /// Whether each value is found by its key, and no other is.
    #[cfg(test)]
    pub(crate) fn is_whole(&self) -> bool {
        let is_found = |(number, (key, _)): (usize, &(K, V))| {
            self.numbers.get(key).is_some_and(|known| *known as usize == number)
        };
        self.numbers.len() == self.all.len() && self.all.iter().all(is_found)
    }
}

impl<K, V> Default for GroupTable<K, V> {
    fn default() -> Self {
        GroupTable { all: Slab::new(), numbers: HashMap::new(), hand: 0 }
    }
}

/// By the number of a group that is not forgotten.
impl<K, V> Index<u32> for GroupTable<K, V> {
    type Output = V;

    fn index(&self, number: u32) -> &V {
        &self.all[number as usize].1
    }
}

impl<K, V> IndexMut<u32> for GroupTable<K, V> {
    fn index_mut(&mut self, number: u32) -> &mut V {
        &mut self.all[number as usize].1
    }
}
