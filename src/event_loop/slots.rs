//! Slots for connections: a slab whose keys have a generation, so that a name given to what was
//! in a slot before never means what is in it now.

use mio::Token;
use slab::Slab;

use crate::application::ConnectionId;

/// Values by [`ConnectionId`].
#[derive(Debug)]
pub struct Slots<T> {
    slab: Slab<(u32, T)>,
    generation: u32,
}

impl<T> Slots<T> {
    pub fn new() -> Slots<T> {
        Slots { slab: Slab::new(), generation: 0 }
    }

    /// The name that the next inserted value will have.
    pub fn next_id(&self) -> ConnectionId {
        // Slots are bounded by the descriptors a process can have, which fit by far.
        let slot = self.slab.vacant_key() as u32;
        // Generation 0 belongs to the loop's own tokens, also after four thousand million.
        ConnectionId { slot, generation: self.generation.wrapping_add(1).max(1) }
    }

    /// Takes a slot.
    pub fn insert(&mut self, value: T) -> ConnectionId {
        let id = self.next_id();
        self.generation = id.generation;
        self.slab.insert((id.generation, value));
        id
    }

    /// How many are taken.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let (generation, value) = self.slab.get_mut(id.slot as usize)?;
        (*generation == id.generation).then_some(value)
    }

    /// Gives a slot back.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        self.get_mut(id)?;
        Some(self.slab.remove(id.slot as usize).1)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut T)> {
        self.slab.iter_mut().map(|(slot, (generation, value))| {
            (ConnectionId { slot: slot as u32, generation: *generation }, value)
        })
    }
}

/// The token under which the kernel reports a connection: its generation above its slot. A stale event
/// then names a slot that nobody has.
pub fn token(id: ConnectionId) -> Token {
    Token((id.generation as usize) << 32 | id.slot as usize)
}

/// The connection that a token names; a generation of 0 is none.
pub fn connection(token: Token) -> ConnectionId {
    ConnectionId { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

// Both halves of a token must fit; on 32 bits they would not.
const _: () = assert!(usize::BITS >= 64, "the loop needs a 64-bit machine");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_matches_no_connection_in_a_reused_slot() {
        let mut slots = Slots::new();
        let former = slots.insert("former");
        assert_eq!(slots.remove(former), Some("former"));
        let newcomer = slots.insert("newcomer");
        assert_eq!(newcomer.slot, former.slot, "the slot is used again");
        assert_eq!(slots.get_mut(former), None);
        assert_eq!(slots.remove(former), None);
        assert_eq!(slots.get_mut(newcomer), Some(&mut "newcomer"));
        assert_eq!(connection(token(former)), former, "a late event bears the name from before");
    }
}
