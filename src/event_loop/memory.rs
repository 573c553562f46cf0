//! The bound on the memory of all buffers together (protocol, section 7).
//!
//! Counted is what is held, used or not: the capacity of each connection's input and output, records
//! and sessions of TLS, what the readers of HTTP hold, answers to be delivered, spare buffers. It is
//! counted as soon as a connection was served or flushed, and who holds most is closed, in the same
//! step, until there is room again.

use super::EventLoop;
use super::connection::Life;
use super::{Entry, Role};
use crate::connections::ConnectionId;
use crate::logging::rate_limit::Kind;

impl EventLoop {
    /// Takes back empty buffers, counts the memory of the others, and makes room where all together
    /// hold too much.
    pub(super) fn count_buffers(&mut self, id: ConnectionId) {
        let Some(Entry { connection, role }) = self.slots.get_mut(id) else {
            return;
        };
        connection.reclaim(&mut self.buffers);
        let held = connection.buffered()
            + match role {
                Role::Client(client) => client.buffered(),
                Role::Places => self.server.places_buffered(id),
                Role::Visitor(visitor) => visitor.buffered(),
                Role::Peer(_) | Role::Link(_) => 0,
            };
        if connection.life != Life::Dead {
            self.buffered = self.buffered - connection.counted + held;
            connection.counted = held;
        }
        if self.held() > self.limits.buffer_bytes {
            self.make_room_for(0);
        }
    }

    /// Memory that counts against the bound.
    fn held(&self) -> usize {
        self.buffered + self.buffers.held() + self.server.undelivered()
    }

    /// Whether there is room for so many bytes more. If there is none, spare buffers are freed, and
    /// connections that hold more than that are closed, the largest first.
    pub(super) fn make_room_for(&mut self, bytes: usize) -> bool {
        let most = self.limits.buffer_bytes;
        if self.held() + bytes <= most {
            return true;
        }
        self.buffers.clear();
        let mut holders: Vec<_> = self
            .slots
            .iter_mut()
            .filter(|(_, entry)| entry.connection.life != Life::Dead)
            .map(|(id, entry)| (entry.connection.counted, id))
            .filter(|(counted, _)| *counted > bytes)
            .collect();
        // A little more room than is needed, or the next line would have to look for some again.
        let enough = most - most / ROOM_PART;
        holders.sort_unstable_by(|left, right| right.cmp(left));
        for (_, id) in holders {
            if self.held() + bytes <= enough {
                break;
            }
            self.shed(id);
        }
        self.held() + bytes <= most
    }

    /// Closes a connection and frees its memory at once; its slot is given back at the end of the turn.
    fn shed(&mut self, id: ConnectionId) {
        let reason = "all buffers together are full, and its are the largest";
        self.give_up(id, Kind::BuffersFull, reason);
        if let Some(Entry { connection, role }) = self.slots.get_mut(id) {
            connection.discard();
            if let Role::Visitor(visitor) = role {
                **visitor = Default::default();
            }
            self.buffered -= std::mem::take(&mut connection.counted);
        }
    }
}

/// So many parts make the bound; one of them is made free when it is reached.
const ROOM_PART: usize = 16;
