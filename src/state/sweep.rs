//! Deletes what the floor forgot, a slice with each transaction: all of it in one transaction would hold up the answers
//! that wait for that. What is not deleted yet is left out when the database is read, so it never comes back.

use std::ops::Bound;

use redb::ReadableTable;

use super::database::{Fault, is_above, parse};
use crate::herd::Floor;

/// Where the sweep is.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    at: Option<At>,
    /// The floor has risen during the sweep, so another one follows it.
    again: bool,
}

/// The entries up to an id were looked at.
#[derive(Clone, Debug)]
enum At {
    Begin,
    After(Vec<u8>),
}

impl Sweep {
    /// One that begins.
    pub fn begin() -> Sweep {
        Sweep { at: Some(At::Begin), again: false }
    }

    /// The floor has risen.
    pub fn raised(mut self) -> Sweep {
        match self.at {
            None => Sweep::begin(),
            Some(_) => {
                self.again = true;
                self
            }
        }
    }

    /// Whether entries are left to be looked at.
    pub fn is_under_way(&self) -> bool {
        self.at.is_some()
    }

    /// Looks at as many entries as `written` is worth. Returns where the sweep is then, and how many it has deleted.
    pub fn slice(
        self,
        updates: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
        floor: Option<&Floor>,
        written: u64,
    ) -> Result<(Sweep, u64), Fault> {
        let Some(at) = self.at else {
            return Ok((self, 0));
        };
        let count = ENTRIES_PER_UPDATE.saturating_mul(written as usize).clamp(SMALLEST, LARGEST);
        let from = match &at {
            At::Begin => Bound::Unbounded,
            At::After(id) => Bound::Excluded(id.as_slice()),
        };
        let (mut gone, mut last, mut looked_at) = (Vec::new(), None, 0);
        for entry in updates.range::<&[u8]>((from, Bound::Unbounded))?.take(count) {
            let (id, line) = entry?;
            if !parse(line.value()).is_ok_and(|update| is_above(floor, &update)) {
                gone.push(id.value().to_vec());
            }
            looked_at += 1;
            if looked_at == count {
                last = Some(id.value().to_vec());
            }
        }
        for id in &gone {
            updates.remove(id.as_slice())?;
        }
        let after = match last {
            Some(id) => Sweep { at: Some(At::After(id)), again: self.again },
            None if self.again => Sweep::begin(),
            None => Sweep::default(),
        };
        Ok((after, gone.len() as u64))
    }
}

/// A sweep ends after a sixteenth as many updates as there are clients, so before the floor can have risen again: that
/// takes a tenth.
const ENTRIES_PER_UPDATE: usize = 16;
/// Looked at with a small transaction, and without one: some 2 ms.
const SMALLEST: usize = 8_192;
/// Looked at with a large one: some 15 ms.
const LARGEST: usize = 65_536;
