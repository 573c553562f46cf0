//! Steps 3 and 5 of the turn: newcomers are accepted, ready connections are read from, framed
//! and answered within a budget, and what is queued is written. And the limits that end a
//! connection (protocol, section 7): each costs only the one that reached it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::connection::{Fill, Life};
use super::dialling::tune;
use super::listener::{Accepted, Door};
use super::pace::{Allowance, effort_of, share};
use super::timers::Timer;
use super::tls::explain;
use super::transport::Socket;
use super::{Entry, EventLoop};
use crate::connections::{self, ConnectionId, Role, Verdict};
use crate::errors::plain;
use crate::herd::Peer;
use crate::limits::{
    ACCEPT_RETRY, ACCEPTS_PER_TURN, CALL_EFFORT, EVICT_IDLE_AFTER, LINGER, MAX_UNIDENTIFIED_PEERS,
};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, target};

impl EventLoop {
    /// Step 3. Serves each ready connection within a budget: reads, frames, handles, answers.
    pub(super) fn serve(&mut self) {
        self.allowance = Allowance::new(self.start);
        for which in 0..self.listeners.len() {
            self.accept(which);
        }
        self.close_dry_listeners();
        self.allowance = Allowance::new(self.start);
        let count = self.ready.len();
        let share = share(count);
        for _ in 0..count {
            self.serve_next(share);
            // Whom there is no time for stays in front of those that come to the list from now on.
            if !self.allowance.spend(CALL_EFFORT) {
                break;
            }
        }
        self.obey_all();
    }

    fn serve_next(&mut self, share: u32) {
        let Some(id) = self.ready.pop_front() else {
            return;
        };
        self.served += 1;
        let Some(Entry { connection, role }) = self.slots.get_mut(id) else {
            return;
        };
        connection.is_queued = false;
        match connection.life {
            Life::Connecting => self.check_dial(id),
            Life::Open if role.speaks_lines() => self.serve_lines(id, share),
            Life::Open => self.serve_bytes(id),
            Life::Lingering => self.serve_lingering(id),
            Life::Flushing | Life::Dead => {}
        }
    }

    /// The lines that are there, and one read once there are none: what is left over from the turn
    /// before is handled before more is taken in, so that nobody's input grows.
    fn serve_lines(&mut self, id: ConnectionId, share: u32) {
        let is_stopping = self.stopping.is_some();
        let Some(Entry { connection, role }) = self.slots.get_mut(id) else {
            return;
        };
        let may_handle = |role: &Role, unsent: usize| match role {
            Role::Client(client) if client.is_waiting() => false,
            // Its lines are ACKs, which nothing answers: not to hear them would break the link.
            Role::Link(_) => true,
            _ => unsent <= self.limits.output_bytes,
        };
        let mut effort = 0;
        let mut has_time = true;
        let mut may_read = true;
        let mut verdict = Verdict::Next;
        while effort < share
            && has_time
            && verdict == Verdict::Next
            && may_handle(role, connection.unsent())
        {
            let limit = self.server.line_bytes(role);
            let peer = connection.peer;
            let Some((line, output)) = connection.next_line(limit, &mut self.buffers) else {
                if !connection.ready.readable || !std::mem::take(&mut may_read) {
                    break;
                }
                match connection.fill(&mut self.scratch, &mut self.buffers) {
                    Ok(Fill::Bytes(_)) => connection.heard_at = self.now.elapsed,
                    Ok(Fill::Nothing | Fill::End) => {}
                    Err(error) => return self.broken(id, &error),
                }
                continue;
            };
            let on = connections::Connection { id, role, peer };
            verdict = self.server.handle_line(on, line, self.now, output);
            let spent = self.server.take_effort();
            effort += spent;
            has_time = self.allowance.spend(spent);
        }
        let blocked = !may_handle(role, connection.unsent());
        let budget_spent = effort >= share || !has_time;
        let drained = !connection.ready.readable && !blocked && !budget_spent;
        let is_client = matches!(role, Role::Client(_));
        if verdict == Verdict::Close
            || connection.is_read_to_its_end() && !blocked
            || is_stopping && is_client && drained
        {
            connection.finish();
        }
        let again = connection.life == Life::Open
            && !blocked
            && (budget_spent || connection.ready.readable);
        let begun = connection.has_begun_line() && !blocked && !budget_spent;
        self.watch_begun_line(id, begun, effort > 0);
        if again {
            self.queue_serve(id);
        }
        match is_client {
            // At once, while its socket is in the cache, and not behind a thousand others' reads.
            true => self.flush_connection(id),
            false => {
                self.queue_flush(id);
                self.count_buffers(id);
            }
        }
    }

    /// Keeps the time of a begun line: from its first byte, however slowly the rest drips.
    pub(super) fn watch_begun_line(&mut self, id: ConnectionId, begun: bool, is_another: bool) {
        let timer = Timer::BegunLine(id);
        if !begun || is_another {
            self.timers.clear(timer);
        }
        if begun {
            self.timers.set_once(timer, self.now.elapsed + self.limits.line_timeout);
        }
        if let Some(pause) = self.limits.line_pause {
            self.watch_line_pause(id, begun, pause);
        }
    }

    fn serve_lingering(&mut self, id: ConnectionId) {
        if let Some(Entry { connection, .. }) = self.slots.get_mut(id) {
            if connection.ready.readable {
                connection.drop_input(&mut self.scratch);
            }
            if connection.life == Life::Dead {
                self.dead.push_back(id);
            } else if connection.ready.readable {
                self.queue_serve(id);
            }
        }
    }

    /// Step 5. One write for each connection with unsent bytes. What the kernel does not take waits
    /// for its next writable event.
    pub(super) fn flush(&mut self) {
        self.allowance = Allowance::new(self.start);
        for _ in 0..self.dirty.len() {
            if let Some(id) = self.dirty.pop_front() {
                self.flush_connection(id);
            }
            if !self.allowance.spend(CALL_EFFORT) {
                break;
            }
        }
    }

    pub(super) fn flush_connection(&mut self, id: ConnectionId) {
        let Some(Entry { connection, .. }) = self.slots.get_mut(id) else {
            return;
        };
        connection.is_dirty = false;
        if matches!(connection.life, Life::Open | Life::Flushing) {
            self.flush_one(id);
        }
        self.count_buffers(id);
    }

    fn flush_one(&mut self, id: ConnectionId) {
        let Some(Entry { connection, .. }) = self.slots.get_mut(id) else {
            return;
        };
        let before = connection.unsent();
        let flush = match connection.flush() {
            Ok(flush) => flush,
            Err(error) => return self.broken(id, &error),
        };
        self.allowance.spend(effort_of(flush.taken));
        let was_blocked = before > self.limits.output_bytes;
        let is_blocked = flush.left > self.limits.output_bytes;
        let is_flushing = connection.life == Life::Flushing;
        let is_writable = connection.ready.writable;
        if flush.left == 0 && is_flushing {
            self.shut_down(id);
        } else if was_blocked && !is_blocked && !is_flushing {
            self.queue_serve(id);
        }
        let stalled = Timer::Stalled(id);
        if flush.left == 0 {
            self.timers.clear(stalled);
        } else if flush.taken > 0 {
            self.timers.set(stalled, self.now.elapsed + self.limits.write_timeout);
        } else {
            self.timers.set_once(stalled, self.now.elapsed + self.limits.write_timeout);
        }
        if flush.left > 0 && is_writable {
            self.queue_flush(id);
        }
    }

    fn shut_down(&mut self, id: ConnectionId) {
        let Some(Entry { connection, .. }) = self.slots.get_mut(id) else {
            return;
        };
        connection.shut_down();
        if connection.life == Life::Dead {
            self.dead.push_back(id);
        } else {
            self.timers.set(Timer::Linger(id), self.now.elapsed + LINGER);
            self.queue_serve(id);
        }
    }

    /// A connection that the kernel, or TLS, has given up. After an error in what came by TLS an alert
    /// is to be sent, so that one is closed in order.
    pub(super) fn broken(&mut self, id: ConnectionId, error: &io::Error) {
        let Some(Entry { connection, role }) = self.slots.get_mut(id) else {
            return;
        };
        let (peer, is_places) = (connection.peer, matches!(role, Role::Places));
        let handshaking = connection.transport.is_handshaking();
        // It may quote the other side's certificate.
        let reason = match is_places {
            true => self.explain_places(error, &peer.to_string(), handshaking),
            false => explain(error, &peer.to_string()),
        };
        log::info!(target: target::LOOP, "The connection with {peer} is broken: {}", Escaped(reason.as_bytes()));
        if is_places {
            self.places_broken(id, error, handshaking);
        }
        match error.kind() {
            ErrorKind::InvalidData => self.finish(id),
            _ => self.kill(id),
        }
    }

    /// Ends a connection that has reached a limit.
    pub(super) fn give_up(&mut self, id: ConnectionId, kind: Kind, reason: &str) {
        if let Some(Entry { connection, .. }) = self.slots.get_mut(id) {
            let peer = connection.peer;
            rate_limit::warn(kind, format_args!("{peer} is disconnected: {reason}."));
        }
        self.kill(id);
    }

    /// Ends a caller that has not said who it is.
    pub(super) fn give_up_stranger(&mut self, id: ConnectionId) {
        if let Some(Entry { role: Role::Peer(Peer::Unidentified), .. }) = self.slots.get_mut(id) {
            self.give_up(id, Kind::HelloMissing, "it did not say HELLO in time");
        }
    }

    /// Accepts newcomers while there are some, within a budget.
    fn accept(&mut self, which: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.allowance.spend(4 * CALL_EFFORT) {
                return;
            }
            let guests_fit = self.guests < self.guests_at_most;
            let Some(listener) = self.listeners.get_mut(which) else {
                return;
            };
            if !listener.is_ready || listener.is_paused {
                return;
            }
            if !guests_fit && !matches!(listener.door, Door::Neighbours) {
                listener.is_paused = true;
                // Its descriptor is free at the turn's end; else somebody may have been silent for long
                // enough when this is tried again.
                self.make_room();
                self.timers.set_once(Timer::Accept, self.now.elapsed + ACCEPT_RETRY);
                return;
            }
            match listener.accept() {
                Accepted::Newcomer(stream, peer) => {
                    let door = listener.door.clone();
                    self.welcome(&door, stream, peer);
                }
                Accepted::Nobody => return,
                Accepted::Refused(error) => {
                    listener.is_paused = true;
                    let reason = plain(&error);
                    let text = format_args!("No connection can be accepted for now: {reason}");
                    rate_limit::warn(Kind::AcceptFailed, text);
                    self.timers.set_once(Timer::Accept, self.now.elapsed + ACCEPT_RETRY);
                    return;
                }
            }
        }
    }

    /// Something has changed since the kernel refused: asking again may help.
    pub(super) fn resume_accepting(&mut self) {
        for listener in &mut self.listeners {
            listener.is_paused = false;
        }
    }

    fn welcome(&mut self, door: &Door, stream: TcpStream, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        tune(&stream);
        if let Door::Neighbours = door {
            return self.welcome_stranger(stream, peer);
        }
        if self.guests >= self.limits.client_connections && !self.make_room() {
            let text = format_args!("{peer} is turned away: there are too many clients.");
            return rate_limit::warn(Kind::ClientTurnedAway, text);
        }
        let Door::Visitors(tls) = door else {
            log::info!(target: target::CLIENT, "Client {peer} is connected.");
            let role = Role::Client(connections::Client::default());
            self.add(Socket::Plain(stream), peer, role, Life::Open);
            return;
        };
        match tls.begin(stream) {
            Ok(tls) => {
                log::info!(target: target::HTTP, "Visitor {peer} is connected.");
                let role = Role::Visitor(Box::default());
                let id = self.add(Socket::Tls(Box::new(tls)), peer, role, Life::Open);
                self.watch_begun_line(id, true, false); // Its handshake is a line begun.
            }
            Err(error) => {
                let reason = plain(&error);
                rate_limit::warn(Kind::TlsFailed, format_args!("No TLS with {peer}: {reason}"));
            }
        }
    }

    fn welcome_stranger(&mut self, stream: TcpStream, peer: SocketAddr) {
        log::info!(target: target::LINK, "Stranger {peer} is connected to the neighbours' port.");
        self.make_room_for_stranger();
        let role = Role::Peer(Peer::Unidentified);
        let id = self.add(Socket::Plain(stream), peer, role, Life::Open);
        self.strangers.push(id);
        let patience = self.server.herd().settings().heartbeat;
        self.timers.set(Timer::Hello(id), self.now.elapsed + patience);
    }

    /// Of too many that have not said who they are, the one that had the longest time to goes.
    fn make_room_for_stranger(&mut self) {
        let slots = &mut self.slots;
        self.strangers.retain(|id| {
            let role = slots.get_mut(*id).map(|entry| &entry.role);
            matches!(role, Some(Role::Peer(Peer::Unidentified)))
        });
        if self.strangers.len() >= MAX_UNIDENTIFIED_PEERS {
            let longest_waiting = self.strangers.remove(0);
            let reason = "too many callers have not said HELLO";
            self.give_up(longest_waiting, Kind::TooManyUnidentified, reason);
        }
    }

    /// Disconnects the client that has been silent for longest, if that was long enough.
    fn make_room(&mut self) -> bool {
        if self.now.elapsed < self.nobody_silent_before {
            return false; // It was looked for not long ago.
        }
        let clients = self
            .slots
            .iter_mut()
            .filter(|(_, entry)| entry.role.is_guest() && entry.connection.life != Life::Dead)
            .filter(|(_, entry)| !entry.connection.is_queued);
        let Some((heard_at, id)) = clients.map(|(id, entry)| (entry.connection.heard_at, id)).min()
        else {
            return false;
        };
        // It may have spoken since we last looked: up to then it was silent.
        if self.caught_up.up_to() < heard_at + EVICT_IDLE_AFTER {
            self.nobody_silent_before = heard_at + EVICT_IDLE_AFTER;
            return false;
        }
        let reason = "it was silent for longest, and makes room for another client";
        self.give_up(id, Kind::ClientEvicted, reason);
        true
    }
}
