//! A map for keys of which nearly each new one is the greatest: numbers of messages, as they come. It is a sorted queue, so
//! that such a key costs no search.

use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub(super) struct Ascending<V> {
    pairs: VecDeque<(u64, V)>,
}

impl<V> Ascending<V> {
    pub fn new() -> Ascending<V> {
        Ascending { pairs: VecDeque::new() }
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn get(&self, key: &u64) -> Option<&V> {
        self.place(*key).ok().map(|at| &self.pairs[at].1)
    }

    pub fn get_mut(&mut self, key: &u64) -> Option<&mut V> {
        self.place(*key).ok().map(|at| &mut self.pairs[at].1)
    }

    /// The value of a key, which is this one if it has none yet.
    pub fn get_or_insert(&mut self, key: u64, value: V) -> &mut V {
        let at = self.place(key).unwrap_or_else(|at| {
            self.pairs.insert(at, (key, value));
            at
        });
        &mut self.pairs[at].1
    }

    /// Puts a value in place of the one that the key had.
    pub fn insert(&mut self, key: u64, value: V) {
        match self.place(key) {
            Ok(at) => self.pairs[at].1 = value,
            Err(at) => self.pairs.insert(at, (key, value)),
        }
    }

    pub fn pop_first(&mut self) {
        self.pairs.pop_front();
    }

    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    pub fn first_key_value(&self) -> Option<(&u64, &V)> {
        self.pairs.front().map(|(key, value)| (key, value))
    }

    pub fn last_key_value(&self) -> Option<(&u64, &V)> {
        self.pairs.back().map(|(key, value)| (key, value))
    }

    /// In the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&u64, &V)> {
        self.pairs.iter().map(|(key, value)| (key, value))
    }

    /// Where a key stands, or would.
    fn place(&self, key: u64) -> Result<usize, usize> {
        let Some((last, _)) = self.pairs.back() else { return Err(0) };
        if *last < key {
            return Err(self.pairs.len());
        }
        // Where it stands if no number between it and the last one is missing.
        let behind = usize::try_from(last - key).unwrap_or(usize::MAX);
        if let Some(at) = (self.pairs.len() - 1).checked_sub(behind)
            && self.pairs[at].0 == key
        {
            return Ok(at);
        }
        self.pairs.binary_search_by_key(&key, |(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..5_u8, 0..40_u64), 1..200)) {
            let (mut ours, mut model) = (Ascending::new(), BTreeMap::new());
            for (value, (what, key)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        ours.insert(key, value);
                        model.insert(key, value);
                    }
                    1 => {
                        let known = *ours.get_or_insert(key, value);
                        prop_assert_eq!(known, *model.entry(key).or_insert(value));
                    }
                    2 => {
                        ours.pop_first();
                        model.pop_first();
                    }
                    3 => prop_assert_eq!(ours.get(&key), model.get(&key)),
                    _ => prop_assert_eq!(ours.get_mut(&key), model.get_mut(&key)),
                }
                prop_assert_eq!(ours.len(), model.len());
                prop_assert!(ours.iter().eq(model.iter()));
                prop_assert_eq!(ours.first_key_value(), model.first_key_value());
                prop_assert_eq!(ours.last_key_value(), model.last_key_value());
            }
        }
    }
}
