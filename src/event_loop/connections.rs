//! All connections, and what they share. The slots and the shared part are two fields that can be borrowed at
//! the same time, so one look-up serves, answers, flushes and counts a connection.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Interest, Registry};

use super::connect::progress;
use super::connection::Connection;
use super::groups::GroupNumber;
use super::limits::Limits;
use super::serve::{Served, Slot};
use super::shared::Shared;
use super::slots::{self, Slots};
use super::state::ConnectionState;
use super::transport::{Socket, set_socket_options};
use crate::application::{Application, Closed, ConnectionId, FlushAt, ListenerId, Origin};
use crate::clock::Now;

/// The connections of a loop.
pub struct Connections<S> {
    registry: Registry,
    pub(super) slots: Slots<Slot<S>>,
    pub shared: Shared,
}

impl<S> Connections<S> {
    pub fn new(registry: Registry, limits: Limits, start: Instant, now: Now) -> Connections<S> {
        let shared = Shared::new(limits, start, now);
        Connections { registry, slots: Slots::new(), shared }
    }

    fn get(&mut self, id: ConnectionId) -> Option<(&mut Slot<S>, &mut Shared)> {
        Some((self.slots.get_mut(id)?, &mut self.shared))
    }

    /// How many have a slot.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is work that no event will announce.
    pub fn has_work(&self) -> bool {
        let Shared { ready, fill, flush, closed, .. } = &self.shared;
        [ready, fill, flush, closed].iter().any(|queue| !queue.is_empty())
    }

    /// Gives a socket a slot and registers it, once and for all. One that can't be registered is closed.
    pub fn add(
        &mut self,
        socket: Socket,
        peer: SocketAddr,
        origin: Origin,
        state: ConnectionState,
    ) -> ConnectionId {
        let id = self.slots.next_id();
        let now = self.shared.now.elapsed;
        let mut connection = Connection::new(id, socket, peer, origin, state, now);
        let registered = match connection.transport.source() {
            Some(source) => self.registry.register(source, slots::token(id), INTEREST),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        self.shared.admit(&mut connection);
        if let Err(error) = registered {
            let reason = format!("it can't be watched: {}", crate::tls::plain(&error));
            self.shared.close(&mut connection, Closed::Broken(reason));
        }
        self.slots.insert(Slot::new(connection));
        id
    }

    /// Passes a connection to the application, once it can be used. Returns whether it did: one that could
    /// not be registered is reported when it is reaped.
    pub fn open<A: Application<Session = S>>(&mut self, id: ConnectionId, app: &mut A) -> bool {
        self.get(id).is_some_and(|(slot, shared)| slot.open(app, shared))
    }

    /// Begins the TLS handshake of a dial that has connected.
    pub fn handshake(&mut self, id: ConnectionId) {
        if let Some((Slot { connection, .. }, shared)) = self.get(id)
            && connection.state == ConnectionState::Connecting
        {
            connection.state = ConnectionState::Handshaking;
            if let Some(secured) = connection.transport.secured() {
                secured.began = Some(shared.now.elapsed);
            }
            (connection.ready.readable, connection.ready.writable) = (true, true);
            shared.queue_serve(connection);
            shared.queue_flush(connection);
        }
    }

    /// Step 2: notes what the kernel reported for a connection.
    pub fn note(&mut self, id: ConnectionId, event: &Event) {
        let Some((Slot { connection, .. }, shared)) = self.get(id) else {
            return; // The connection is closed, and the event late.
        };
        let ready = &mut connection.ready;
        // Error and closed are hints: the next read or write shows what happened.
        let broken = event.is_error();
        ready.readable |= event.is_readable() || event.is_read_closed() || broken;
        ready.read_closed |= event.is_read_closed() || broken;
        ready.has_urgent |= event.is_priority();
        ready.writable |= event.is_writable() || event.is_write_closed() || broken;
        let is_flushed_when_served = connection.state == ConnectionState::Open
            && shared.policies.get(connection.policy).flush == FlushAt::Served;
        shared.queue_serve(connection);
        if !is_flushed_when_served {
            shared.queue_flush(connection);
        }
    }

    /// Step 3, for one connection. `share` is the effort that it may use in this turn.
    pub fn serve<A: Application<Session = S>>(
        &mut self,
        id: ConnectionId,
        share: u32,
        app: &mut A,
    ) -> Served {
        let Some((slot, shared)) = self.get(id) else {
            return Served::Done;
        };
        let served = slot.serve(share, app, shared);
        self.keep_limit(app);
        served
    }

    /// Step 4, for one connection. Returns the effort that it took.
    pub fn fill<A: Application<Session = S>>(&mut self, id: ConnectionId, app: &mut A) -> u32 {
        let Some((slot, shared)) = self.get(id) else {
            return 0;
        };
        let effort = slot.fill(app, shared);
        self.keep_limit(app);
        effort
    }

    /// Step 5, for one connection.
    pub fn flush<A: Application<Session = S>>(&mut self, id: ConnectionId, app: &mut A) {
        if let Some((slot, shared)) = self.get(id) {
            slot.flush(app, shared);
            self.keep_limit(app);
        }
    }

    /// Carries out [`Command::Fill`](crate::application::Command::Fill).
    pub fn want_fill(&mut self, id: ConnectionId) {
        if let Some((Slot { connection, .. }, shared)) = self.get(id) {
            connection.wants_fill = true;
            shared.queue_fill(connection);
        }
    }

    /// Ends an incomplete line after a pause: it is handled as it is, before anything more is read. TLS has no such
    /// lines.
    pub fn end_line(&mut self, id: ConnectionId) {
        if let Some((Slot { connection, .. }, shared)) = self.get(id) {
            // Somebody who delays a TLS record could cut a line.
            if connection.transport.secured().is_none() {
                connection.end_line();
                shared.queue_serve(connection);
            }
        }
    }

    /// Handles nothing more of it, sends its queued output, and then closes it.
    pub fn finish(&mut self, id: ConnectionId) {
        if let Some((slot, shared)) = self.get(id) {
            shared.finish(&mut slot.connection);
        }
    }

    /// Closes it once it has got what it is owed.
    pub fn leave(&mut self, id: ConnectionId) {
        if let Some((slot, shared)) = self.get(id) {
            shared.release(&mut slot.connection);
        }
    }

    /// Closes it at once; its slot is given back at the end of the turn.
    pub fn close(&mut self, id: ConnectionId, why: Closed) {
        if let Some((slot, shared)) = self.get(id) {
            shared.close(&mut slot.connection, why);
        }
    }

    /// Ends an attempt that was reported as failed. If TLS has an alert to send, the connection is closed
    /// gracefully.
    pub fn abandon(&mut self, id: ConnectionId) {
        if let Some((Slot { connection, .. }, shared)) = self.get(id) {
            connection.is_reported = true;
            if connection.state < ConnectionState::Flushing {
                shared.close(connection, Closed::Finished);
            }
        }
    }

    pub fn origin(&mut self, id: ConnectionId) -> Option<(Origin, SocketAddr)> {
        self.slots.get_mut(id).map(|slot| (slot.connection.origin(), slot.connection.peer()))
    }

    /// Why it is being closed, if that is known.
    pub fn why(&mut self, id: ConnectionId) -> Option<&Closed> {
        self.slots.get_mut(id)?.connection.why.as_deref()
    }

    pub fn state(&mut self, id: ConnectionId) -> Option<ConnectionState> {
        self.slots.get_mut(id).map(|slot| slot.connection.state)
    }

    /// Whether a connection has something to be served or flushed.
    pub fn is_behind(&mut self, id: ConnectionId) -> bool {
        let slot = self.slots.get_mut(id);
        slot.is_some_and(|slot| slot.connection.read_pending || slot.connection.write_pending)
    }

    /// Whether a dial has connected; spurious events are legal.
    pub fn dial_progress(&mut self, id: ConnectionId) -> io::Result<bool> {
        let Some(slot) = self.slots.get_mut(id) else {
            return Ok(false);
        };
        let connected = slot.connection.transport.tcp().map_or(Ok(true), |stream| progress(stream));
        if let (Ok(true), Some(stream)) = (&connected, slot.connection.transport.tcp()) {
            set_socket_options(stream);
        }
        connected
    }

    /// The connection of a group that has been silent for longest; one that has just sent something, or that
    /// waits for the application or is owed an answer, only if there is no other. Up to a tick and for at most
    /// [`FAIR_LOOKS`](super::limits::FAIR_LOOKS) comparisons it is exactly that one.
    pub fn longest_silent(&mut self, group: GroupNumber) -> Option<ConnectionId> {
        let Shared { groups, policies, .. } = &mut self.shared;
        let front: Vec<u32> = groups.most_silent(group).collect();
        let all = front.iter().filter_map(|slot| Some(&self.slots.at(*slot)?.connection));
        let candidates = all.filter(|one| policies.get(one.policy).evictable);
        let key = |one: &Connection<Socket>| {
            (one.read_pending || one.is_waiting(), one.last_read(), one.id)
        };
        let longest = candidates.map(key).min().map(|(_, _, id)| id);
        if longest.is_none() {
            // None of them may be closed: others come first the next time.
            front.iter().for_each(|slot| groups.sent(group, *slot));
        }
        longest
    }

    /// The longest-idle connection of a listener, and since when it is idle. One with an event, or that waits
    /// for the application or is owed an answer, is not idle.
    pub fn idlest(&mut self, listener: ListenerId) -> Option<(Duration, ConnectionId)> {
        let policies = &self.shared.policies;
        let all = self.slots.iter_mut().map(|(_, slot)| &slot.connection);
        let candidates = all.filter(|one| {
            one.origin() == Origin::Accepted(listener)
                && one.state != ConnectionState::Closed
                && !one.read_pending
                && !one.is_waiting()
                && policies.get(one.policy).evictable
        });
        candidates.map(|one| (one.last_read(), one.id)).min()
    }

    /// Input that the kernel has received is still answered: each connection that drains is read until it is
    /// empty, answered, and then closed.
    pub fn drain(&mut self) {
        self.shared.is_stopping = true;
        for (_, slot) in self.slots.iter_mut() {
            if slot.connection.drains {
                self.shared.drain(&mut slot.connection);
            }
        }
    }

    /// Step 7: takes the next closed connection out and gives its slot back.
    pub fn reap(&mut self) -> Option<Slot<S>> {
        while let Some(id) = self.shared.closed.pop() {
            if let Some(slot) = self.slots.remove(id) {
                self.shared.timers.clear_all(id);
                self.shared.buffered -= slot.connection.accounted();
                self.shared.policies.give_back(slot.connection.policy);
                return Some(slot);
            }
        }
        None
    }
}

/// Both directions, and, where short reads are trusted, urgent data: it makes them untrustworthy.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);
