//! Slots for connections: a slab whose keys have a generation, so that an id of a slot's former connection
//! never matches its present one.

use mio::Token;
use slab::Slab;

use crate::application::ConnectionId;

/// What has a slot. It keeps its id itself: beside it, the generation alone would take eight bytes of each slot.
pub trait HasId {
    /// The one that [`Slots::next_id`] returned before it was inserted.
    fn id(&self) -> ConnectionId;
}

/// Values by [`ConnectionId`].
#[derive(Debug)]
pub struct Slots<T> {
    slab: Slab<T>,
    generation: u32,
}

impl<T: HasId> Slots<T> {
    pub fn new() -> Slots<T> {
        Slots { slab: Slab::with_capacity(RESERVED), generation: 0 }
    }

    /// The id that the next inserted value will have.
    pub fn next_id(&self) -> ConnectionId {
        // The number of slots is bounded by the descriptors of a process, far fewer than 2^32.
        let slot = self.slab.vacant_key() as u32;
        // Generation 0 is reserved for the loop's own tokens, even after the counter wraps.
        ConnectionId { slot, generation: self.generation.wrapping_add(1).max(1) }
    }

    /// Puts a value into a free slot.
    pub fn insert(&mut self, value: T) {
        let id = self.next_id();
        debug_assert_eq!(value.id(), id, "it has the id of its slot");
        self.generation = id.generation;
        self.slab.insert(value);
    }

    /// How many slots are in use.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        self.slab.get_mut(id.slot as usize).filter(|value| value.id() == id)
    }

    /// The value in a slot.
    pub fn at(&self, slot: u32) -> Option<&T> {
        self.slab.get(slot as usize)
    }

    /// The same, to change it.
    pub fn at_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.slab.get_mut(slot)
    }

    /// No slot that is in use has this number or a higher one.
    pub fn bound(&self) -> usize {
        self.slab.capacity()
    }

    /// Takes a value out and gives its slot back.
    pub fn remove(&mut self, id: ConnectionId) -> Option<T> {
        self.get_mut(id)?;
        self.slab.try_remove(id.slot as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &T)> {
        self.slab.iter().map(|(_, value)| (value.id(), value))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut T)> {
        self.slab.iter_mut().map(|(_, value)| (value.id(), value))
    }
}

/// The token under which the kernel reports a connection: its generation in the upper half, its slot in the
/// lower. So the token of a stale event matches no connection.
pub fn token(id: ConnectionId) -> Token {
    Token((id.generation as usize) << 32 | id.slot as usize)
}

/// The connection that a token names; with generation 0 it is none.
pub fn connection(token: Token) -> ConnectionId {
    ConnectionId { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

/// Slots for which memory is reserved, which is not touched before there are so many connections. It is a mapping of its
/// own then, which leaves no gaps when it grows.
pub const RESERVED: usize = 16_384;

// Both halves of a token must fit; on 32 bits they would not.
const _: () = assert!(usize::BITS >= 64, "the loop needs a 64-bit machine");

#[cfg(test)]
mod tests {
    use super::*;

    impl HasId for ConnectionId {
        fn id(&self) -> ConnectionId {
            *self
        }
    }

    #[test]
    fn a_stale_id_matches_no_connection_in_a_reused_slot() {
        let mut slots: Slots<ConnectionId> = Slots::new();
        let former = slots.next_id();
        slots.insert(former);
        assert_eq!(slots.remove(former), Some(former));
        let mut second = slots.next_id();
        slots.insert(second);
        assert_eq!(second.slot, former.slot, "the slot is used again");
        assert_eq!(slots.get_mut(former), None);
        assert_eq!(slots.remove(former), None);
        assert_eq!(slots.get_mut(second), Some(&mut second));
        assert_eq!(connection(token(former)), former, "a stale event has the former id");
    }
}
