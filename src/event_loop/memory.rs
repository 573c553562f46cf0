//! The bound on the memory of all connections together.
//!
//! All memory that is held counts, used or not: the capacity of each connection's input and output, TLS
//! records and sessions, what sessions hold and what the application holds for all of them, spare buffers. It
//! is counted as soon as a connection has been served or flushed. Above the bound the connection that holds
//! most is closed, in the same step, until there is room again.

use super::connections::Connections;
use super::state::ConnectionState;
use crate::application::{Application, Closed, ConnectionId};

impl<S> Connections<S> {
    /// Makes room if all connections together hold too much.
    #[inline]
    pub(super) fn keep_limit<A: Application<Session = S>>(&mut self, app: &mut A) {
        if self.held(app) > self.shared.limits.buffer_bytes {
            self.close_largest(app);
        }
    }

    /// Counts the memory that is held at the end of a turn.
    pub(super) fn count_memory<A: Application<Session = S>>(&self, app: &A) {
        let metrics = &self.shared.counting.metrics;
        metrics.buffer_bytes.set(self.held(app) as u64);
    }

    /// Memory that counts against the bound.
    fn held<A: Application<Session = S>>(&self, app: &A) -> usize {
        self.shared.buffered + self.shared.buffers.held() + app.shared_bytes()
    }

    /// Frees spare buffers, and closes connections, the largest first.
    #[cold]
    fn close_largest<A: Application<Session = S>>(&mut self, app: &mut A) {
        let most = self.shared.limits.buffer_bytes;
        self.shared.buffers.clear();
        if self.held(app) <= most {
            return;
        }
        let mut holders: Vec<_> = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| slot.connection.state != ConnectionState::Closed)
            .map(|(id, slot)| (slot.connection.accounted(), id))
            .filter(|(accounted, _)| *accounted > 0)
            .collect();
        // A little more than is needed, or the next line would have to make room again.
        let enough = most - most / ROOM_PART;
        holders.sort_unstable_by(|left, right| right.cmp(left));
        for (_, id) in holders {
            if self.held(app) <= enough {
                break;
            }
            self.shed(id, app);
        }
    }

    /// Closes a connection and frees its memory at once. That includes its session, so the application gets
    /// it back now; the slot is given back at the end of the turn.
    fn shed<A: Application<Session = S>>(&mut self, id: ConnectionId, app: &mut A) {
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        let connection = &mut slot.connection;
        self.shared.close(connection, Closed::OutOfMemory);
        connection.discard();
        self.shared.buffered -= connection.account(0).0;
        slot.report_closed(app, &mut self.shared);
    }
}

/// When the bound is reached, this part of it (one sixteenth) is freed.
const ROOM_PART: usize = 16;
