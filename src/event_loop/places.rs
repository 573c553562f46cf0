//! Connections that don't speak lines: ours with the Places service, and those of visitors to a Places
//! service that we are. Their bytes go to the server as they come; it knows what HTTP is.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::connection::{Fill, Life};
use super::pace::effort_of;
use super::transport::Socket;
use super::{Entry, EventLoop};
use crate::connections::{self, ConnectionId, QueryId, Role, Verdict};
use crate::errors::plain;
use crate::limits::HANDSHAKE_EFFORT;
use crate::limits::MAX_INTERRUPTED_READS;

/// What a kept connection has brought since its last answer.
enum AtRest {
    Quiet,
    /// Bytes that nobody asked for.
    Spoke,
    /// It can't be used any more.
    Ended,
}

impl EventLoop {
    /// The Places service's name was looked up.
    pub(super) fn places_resolved(&mut self, result: io::Result<Vec<SocketAddr>>) {
        self.server.places_resolved(result.map_err(|error| plain(&error)), self.now);
    }

    /// Begins a connection with the Places service.
    pub(super) fn open_places(&mut self, query: QueryId, address: SocketAddr) {
        let socket = match &self.client_tls {
            Some(tls) => TcpStream::connect(address).and_then(|stream| tls.begin(stream)),
            // Without a service to be asked there are no queries for it.
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        match socket {
            Ok(tls) => {
                let socket = Socket::Tls(Box::new(tls));
                let id = self.add(socket, address, Role::Places, Life::Connecting);
                self.server.places_connecting(query, id, address, self.now);
            }
            Err(error) => self.server.places_not_connecting(query, &plain(&error), self.now),
        }
    }

    /// Sends the request that a kept connection was chosen for. What came on that connection since its
    /// last answer, noted or not, would be taken for the answer to this request: so the kernel is asked
    /// now, and not only when it tells.
    pub(super) fn ask_on(&mut self, kept: ConnectionId) {
        match self.look_at_rest(kept) {
            AtRest::Quiet => {
                if let Some(Entry { connection, .. }) = self.slots.get_mut(kept) {
                    let output = connection.queue(&mut self.buffers);
                    self.server.places_quiet(kept, self.now, output);
                    self.queue_flush(kept);
                }
                return;
            }
            AtRest::Spoke => self.server.places_spoke(kept, self.now),
            AtRest::Ended => self.server.places_lost(kept, "the connection was closed", self.now),
        }
        self.finish(kept);
    }

    /// Reads from a connection on which nothing is to come. It is quiet if the kernel says
    /// `WouldBlock`, which a short read does not stand for here, and TLS holds neither plaintext nor a
    /// part of a record.
    fn look_at_rest(&mut self, id: ConnectionId) -> AtRest {
        let Some(Entry { connection, .. }) = self.slots.get_mut(id) else {
            return AtRest::Ended;
        };
        let mut interrupted = 0;
        while connection.life == Life::Open && interrupted < MAX_INTERRUPTED_READS {
            match connection.read(&mut self.scratch) {
                Ok(Fill::Bytes(_)) => return AtRest::Spoke,
                Ok(Fill::Nothing) if connection.ready.readable => interrupted += 1,
                Ok(Fill::Nothing) if connection.transport.holds_nothing() => return AtRest::Quiet,
                Ok(Fill::Nothing) => return AtRest::Spoke,
                Ok(Fill::End) | Err(_) => return AtRest::Ended,
            }
        }
        AtRest::Ended
    }

    /// One read, and what comes of it. The counterpart of `serve_lines`.
    pub(super) fn serve_bytes(&mut self, id: ConnectionId) {
        let is_stopping = self.stopping.is_some();
        let Some(Entry { connection, role }) = self.slots.get_mut(id) else {
            return;
        };
        let has_more = matches!(role, Role::Visitor(visitor) if visitor.has_more());
        if connection.unsent() > self.limits.output_bytes {
            return; // It goes on once enough of it is sent.
        }
        let mut fill = Fill::Nothing;
        let was_handshaking = connection.transport.is_handshaking();
        if connection.ready.readable && !has_more {
            match connection.read(&mut self.scratch) {
                Ok(read) => fill = read,
                Err(error) => return self.broken(id, &error),
            }
        }
        if matches!(role, Role::Places) && !connection.transport.is_handshaking() {
            self.server.places_secured(id, self.now);
        }
        let peer = connection.peer;
        let count = if let Fill::Bytes(count) = fill { count } else { 0 };
        let effort = if was_handshaking { HANDSHAKE_EFFORT } else { effort_of(count) };
        let mut verdict = Verdict::Next;
        if count > 0 || has_more {
            connection.heard_at = self.now.elapsed;
            let output = connection.queue(&mut self.buffers);
            let on = connections::Connection { id, role, peer };
            verdict = self.server.handle_bytes(on, &self.scratch[..count], self.now, output);
        }
        if fill == Fill::End {
            self.server.handle_end(connections::Connection { id, role, peer }, self.now);
            verdict = Verdict::Close;
        }
        // A visitor that doesn't finish its handshake is like one that doesn't finish its request. (Our
        // own handshakes have their query's deadline.)
        let (begun, more) = match role {
            Role::Visitor(visitor) => {
                let handshaking = connection.transport.is_handshaking();
                (visitor.has_begun() || handshaking, visitor.has_more())
            }
            _ => (false, false),
        };
        let is_idle_guest = role.is_guest() && !connection.ready.readable && !more;
        if verdict == Verdict::Close && !more || is_stopping && is_idle_guest {
            connection.finish();
        }
        let again = connection.life == Life::Open && (connection.ready.readable || more);
        let is_open = connection.life == Life::Open;
        let was_answered = connection.unsent() > 0;
        if let Role::Places = role {
            self.server.places_unread(id, again);
        }
        self.allowance.spend(effort + self.server.take_effort());
        self.watch_begun_line(id, begun && is_open, was_answered && begun);
        if again {
            self.queue_serve(id);
        }
        self.queue_flush(id);
        self.count_buffers(id);
    }

    /// What a failed read or write of a connection with the Places service means. `host` is what it is
    /// called.
    pub(super) fn explain_places(
        &self,
        error: &io::Error,
        host: &str,
        handshaking: bool,
    ) -> String {
        let reason = super::tls::explain(error, host);
        let reason = match handshaking && !super::tls::is_of_tls(error) {
            true => format!(
                "the TLS handshake with {host} failed: {reason}; is it TLS that is spoken at this port?"
            ),
            false => reason,
        };
        // It may quote the service's certificate, and the service knows the key.
        self.server.without_places_key(reason)
    }

    /// How a connection that failed is called to account: TLS may have an alert to send, which then
    /// goes out in order.
    pub(super) fn places_broken(&mut self, id: ConnectionId, error: &io::Error, handshaking: bool) {
        let reason = self.explain_places(error, self.server.places_host(), handshaking);
        self.server.places_lost(id, &reason, self.now);
    }
}
