//! An IAMAT for which a cache has no room: each of its clients has told something that the engine has not acknowledged yet,
//! and none of them may be forgotten. It is neither refused nor answered falsely: the session keeps the line.
//!
//! ```text
//!   IAMAT of a client that is not cached --> no room, or others wait for it: Next::Wait, behind them
//!   so many clients may leave the cache --> so many that wait, the first ones: Command::Fill, handled again
//!   no room for the engine's `timeout` --> the connection ends, and the update is known nowhere
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Server;
use crate::application::{Command, ConnectionId, Io, Next};
use crate::herd::Awaited;
use crate::limits::ENGINE_ROOM_PAUSE;
use crate::protocol::{ClientRequest, Iamat};
use crate::server::client::{Client, Waiting};
use crate::server::records::{self, HerdLog};

/// An IAMAT that waits for room.
#[derive(Debug)]
pub(in crate::server) struct WaitingForRoom {
    line: Box<[u8]>,
    since: Duration,
    /// Its place in the order of those that wait.
    number: u64,
    /// Whether it has what the limit for new ids asks for.
    has_token: bool,
}

/// Who waits for room, in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, ConnectionId>,
    last: u64,
    /// The places of those that may try again, and have not yet.
    released: BTreeSet<u64>,
    /// When the first one tries again, whatever has come.
    retry_at: Option<Duration>,
}

impl WaitingForRoom {
    /// Bytes of memory that it takes, its place among all that wait included.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        self.line.len() + size_of::<(u64, ConnectionId)>() + size_of::<(Duration, ConnectionId)>()
    }
}

impl Queue {
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.retry_at
    }

    /// A place behind all others.
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The connection waits at this place.
    fn push(&mut self, number: u64, connection: ConnectionId, now: Duration) {
        self.waiting.insert(number, connection);
        self.retry_at.get_or_insert(now + ENGINE_ROOM_PAUSE);
    }

    /// So many may try again.
    fn release(&mut self, count: usize) -> Vec<ConnectionId> {
        let count = count.min(self.waiting.len());
        let first = (0..count).map_while(|_| self.waiting.pop_first());
        let released = first.map(|(number, connection)| {
            self.released.insert(number);
            connection
        });
        released.collect()
    }
}

impl Server {
    /// Whether an IAMAT that was just handled was not taken up, because the cache has no room for its client.
    pub(in crate::server) fn lacked_room(&mut self, iamat: &Iamat<'_>) -> bool {
        self.keeps_cache() && self.herd.awaited(iamat.id).is_some_and(Awaited::is_never)
    }

    /// Whether others wait for room, and this one must, too, because it needs some.
    pub(in crate::server) fn must_wait_for_room(&self, iamat: &Iamat<'_>) -> bool {
        self.cache_waits().is_some_and(|waits| !waits.for_room.waiting.is_empty())
            && self.herd.table().get(iamat.id).is_none()
    }

    /// Keeps an IAMAT until there is room for its client.
    #[cold]
    pub(in crate::server) fn wait_for_room(
        &mut self,
        client: &mut Client,
        line: &[u8],
        has_token: bool,
        io: &Io<'_>,
    ) -> Next {
        let now = io.now.elapsed;
        self.waits_for_engine(io.id, now);
        self.metrics.engine.waiting_for_room.add(1);
        records::engine::no_room(io.peer);
        let number = self.cache_waits_mut().map_or(0, |waits| waits.for_room.next_number());
        self.queue_for_room(number, io);
        let line = line.into();
        client.wait(Waiting::Room(WaitingForRoom { line, since: now, number, has_token }))
    }

    fn queue_for_room(&mut self, number: u64, io: &Io<'_>) {
        if let Some(waits) = self.cache_waits_mut() {
            waits.for_room.push(number, io.id, io.now.elapsed);
        }
    }

    /// Handles an IAMAT again, if it is its turn.
    pub(in crate::server) fn fill_for_room(
        &mut self,
        client: &mut Client,
        mut waiting: WaitingForRoom,
        io: &mut Io<'_>,
    ) -> Next {
        if self.has_waited_for_too_long(waiting.since) {
            self.waits_for_room_no_longer(&waiting, io.id);
            self.metrics.engine.given_up.add(1);
            records::engine::room_given_up(io.peer, io.now.elapsed.saturating_sub(waiting.since));
            return self.ends_without_answer(io);
        }
        if let Some(waits) = self.cache_waits_mut() {
            if waits.for_room.waiting.contains_key(&waiting.number) {
                self.goes_on_waiting(io.id, waiting.since);
                return client.wait(Waiting::Room(waiting));
            }
            waits.for_room.released.remove(&waiting.number);
        }
        let before = io.out.len();
        let handled = ClientRequest::parse(&waiting.line, self.dialect).and_then(|request| {
            let ClientRequest::Iamat(iamat) = request else {
                return Ok(Some(Next::Read)); // It was one when it came, and is one still.
            };
            let log = &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics);
            if waiting.has_token {
                self.herd.handle_iamat(&iamat, io.now, io.out, log)?;
            } else if let Next::Wait = self.iamat(client, &iamat, &waiting.line, io)? {
                return Ok(Some(Next::Wait)); // It waits for its token now.
            }
            if self.lacked_room(&iamat) {
                io.out.truncate(before);
                return Ok(None);
            }
            Ok(Some(self.hold_answer(client, iamat.id, before, io)))
        });
        if let Ok(None) = handled {
            waiting.has_token = true;
            self.queue_for_room(waiting.number, io);
            self.goes_on_waiting(io.id, waiting.since);
            return client.wait(Waiting::Room(waiting));
        }
        self.waits_for_room_no_longer(&waiting, io.id);
        self.make_room(); // It may not have needed what it was let through for.
        let handled = handled.map(|next| next.unwrap_or(Next::Read));
        self.waited(client, &waiting.line, waiting.since, handled, before, io)
    }

    /// The connection of an IAMAT that waits for room is closed.
    pub(in crate::server) fn waits_for_room_no_longer(
        &mut self,
        waiting: &WaitingForRoom,
        connection: ConnectionId,
    ) {
        if let Some(waits) = self.cache_waits_mut() {
            waits.for_room.waiting.remove(&waiting.number);
            waits.for_room.released.remove(&waiting.number);
        }
        self.waited_for_engine(connection);
        self.metrics.engine.waiting_for_room.subtract(1);
    }

    /// Lets as many try again as there is room for. It counts who may leave the cache, not what the engine has acknowledged: an
    /// update that the bucket holds already, or for which it holds a newer one, is never published.
    pub(in crate::server) fn make_room(&mut self) {
        if self.cache_waits().is_none_or(|waits| waits.for_room.waiting.is_empty()) {
            return;
        }
        let room = self.herd.cache_room();
        let Some(waits) = self.cache_waits_mut() else {
            return;
        };
        let queue = &mut waits.for_room;
        let released = queue.release(room.saturating_sub(queue.released.len()));
        self.commands.extend(released.into_iter().map(Command::Fill));
    }

    /// One that waits tries again, should what may leave the cache have told something newer.
    pub(super) fn retry_for_room(&mut self, now: Duration) {
        let Some(waits) = self.cache_waits_mut() else {
            return;
        };
        let queue = &mut waits.for_room;
        if queue.retry_at.is_none_or(|at| now < at) {
            return;
        }
        queue.retry_at = None;
        let released = queue.release(1);
        if !queue.waiting.is_empty() {
            queue.retry_at = Some(now + ENGINE_ROOM_PAUSE);
        }
        self.commands.extend(released.into_iter().map(Command::Fill));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_room_longest_tries_first_and_keeps_its_place_if_there_is_none() {
        let connection = |slot| ConnectionId { slot, generation: 0 };
        let mut queue = Queue::default();
        let places: Vec<u64> = (0..3).map(|_| queue.next_number()).collect();
        for (slot, place) in places.iter().enumerate() {
            queue.push(*place, connection(slot as u32), Duration::ZERO);
        }
        assert_eq!(queue.release(2), [connection(0), connection(1)]);
        queue.push(places[0], connection(0), Duration::ZERO);
        assert_eq!(queue.release(1), [connection(0)]);
        assert_eq!(queue.release(9), [connection(2)]);
        assert_eq!(queue.release(9), []);
    }
}
