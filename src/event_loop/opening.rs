//! Step 3 for a connection that is not open yet: its first byte decides whether it uses TLS, and its handshake is
//! advanced.
//!
//! | the first byte | the connection |
//! |---|---|
//! | is 22 | begins TLS, once there is a place for one more handshake ([`handshakes`](super::handshakes)) |
//! | is any other one | is opened as plain, and that byte is read again as its first one |
//! | has not come in `handshake_timeout` | is opened as plain, or refused ([`Silent`]) |
//! | does not come: the other side ends | is opened as plain and then ends, or is closed without a word |
//! | has not come when the loop stops | is closed without a word: no request of it can have come |

use std::io;

use super::acceptor::{Security, Silent};
use super::connection::Connection;
use super::connections::Connections;
use super::handshakes::Claim;
use super::limits::{HANDSHAKE_EFFORT, HANDSHAKES_PER_TURN};
use super::secured::{FirstByte, Secured};
use super::serve::{Served, Slot};
use super::shared::Shared;
use super::state::{ConnectionState, Received};
use super::timers::Timer;
use super::transport::Socket;
use crate::application::{
    Application, Budget, Closed, ConnectionId, HandshakeFailure, ListenerId, Origin,
};
use crate::tls::{self, ServerTls};

/// What a listener's security makes of a first byte.
enum Decision {
    Plain,
    Tls(ServerTls),
}

impl<S> Slot<S> {
    /// Advances a connection that is not open yet.
    pub(super) fn serve_opening<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        shared: &mut Shared,
    ) -> Served {
        if self.session.is_some() {
            return self.serve_start_tls(app, shared);
        }
        let connection = &mut self.connection;
        if let (Origin::Accepted(listener), Some(secured)) =
            (connection.origin(), connection.transport.secured())
        {
            if secured.is_undecided() {
                return self.serve_undecided(listener, app, shared);
            }
            if !may_process(connection, shared) {
                return Served::Done;
            }
        }
        self.serve_handshake(app, shared)
    }

    fn serve_undecided<A: Application<Session = S>>(
        &mut self,
        listener: ListenerId,
        app: &mut A,
        shared: &mut Shared,
    ) -> Served {
        let connection = &mut self.connection;
        let now = shared.now.elapsed;
        let Some(secured) = connection.transport.secured() else {
            return Served::Done;
        };
        let first = match secured.first_byte() {
            Ok(first) => first,
            Err(_) if secured.began.is_none() => {
                close_quietly(connection, shared);
                return Served::Done;
            }
            Err(error) => {
                self.handle_io_error(&error, shared);
                return Served::NotOpened;
            }
        };
        match first {
            FirstByte::None => {
                connection.ready.readable = false;
                if connection.is_leaving {
                    close_quietly(connection, shared);
                }
                Served::Done
            }
            FirstByte::End if shared.silence(listener) == Silent::Open => {
                self.open_plain(app, shared)
            }
            FirstByte::End => {
                close_quietly(connection, shared);
                Served::Done
            }
            FirstByte::Is(byte) => {
                secured.began.get_or_insert(now);
                match shared.decide(listener, byte) {
                    Decision::Plain => self.open_plain(app, shared),
                    Decision::Tls(tls) => self.begin_handshake(&tls, app, shared),
                }
            }
        }
    }

    /// Its first byte is still in the kernel, and is read in the next turn.
    fn open_plain<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        shared: &mut Shared,
    ) -> Served {
        let connection = &mut self.connection;
        shared.end_handshake(connection);
        let stream = connection.transport.secured().and_then(Secured::take_plain);
        if let Some(stream) = stream {
            connection.transport = Socket::Plain(stream);
        }
        self.open(app, shared);
        if self.connection.state == ConnectionState::Open {
            shared.queue_serve(&mut self.connection);
        }
        self.account(app, shared);
        Served::Done
    }

    /// Begins TLS if there is a place for one more handshake.
    fn begin_handshake<A: Application<Session = S>>(
        &mut self,
        tls: &ServerTls,
        app: &mut A,
        shared: &mut Shared,
    ) -> Served {
        let connection = &mut self.connection;
        if !shared.claim_handshake(connection) {
            let why = match (connection.is_leaving, connection.ready.read_closed) {
                (true, _) => "its TLS handshake had not begun when the loop stopped",
                (false, true) => "the connection was closed before its TLS handshake",
                (false, false) => return Served::Done,
            };
            shared.close(connection, Closed::Tls(HandshakeFailure::Closed, why.to_owned()));
            return Served::NotOpened;
        }
        if !may_process(connection, shared) {
            return Served::Done;
        }
        let generation = shared.security.generation;
        let Some(secured) = connection.transport.secured() else {
            return Served::Done;
        };
        if let Err(error) = secured.begin(tls, generation) {
            let why = format!("no TLS: {}", tls::plain(&error));
            shared.close(connection, Closed::Tls(HandshakeFailure::Protocol, why));
            return Served::NotOpened;
        }
        self.serve_handshake(app, shared)
    }

    /// Reading advances the handshake. Bytes behind it in the same read are the application's already.
    fn serve_handshake<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        shared: &mut Shared,
    ) -> Served {
        shared.allowance.spend(HANDSHAKE_EFFORT);
        let connection = &mut self.connection;
        let received = connection.read(&mut shared.scratch);
        let is_handshaking = connection.transport.is_handshaking();
        match &received {
            Ok(Received::End) if is_handshaking => {
                let why = "the connection was closed during the TLS handshake".to_owned();
                shared.close(connection, Closed::Tls(HandshakeFailure::Closed, why));
                return Served::NotOpened;
            }
            Err(error) if is_handshaking => {
                self.handle_io_error(error, shared);
                return Served::NotOpened;
            }
            _ => {}
        }
        shared.queue_flush(connection);
        if is_handshaking {
            if connection.ready.readable {
                shared.queue_serve(connection);
            } else if connection.is_leaving {
                // It cannot have sent a request yet.
                let why = "the TLS handshake was not complete when the loop stopped".to_owned();
                shared.close(connection, Closed::Tls(HandshakeFailure::Closed, why));
                return Served::NotOpened;
            }
            self.account(app, shared);
            return Served::Done;
        }
        if let Some(why) = shared.distrusts_at_end(connection) {
            shared.close(connection, Closed::Tls(HandshakeFailure::Certificate, why));
            return Served::NotOpened;
        }
        shared.end_handshake(connection);
        self.open(app, shared);
        self.take_rest(received, app, shared);
        Served::Opened(self.connection.origin())
    }

    /// Takes what the last read of a handshake has found behind it: bytes of the application, or that the other side has
    /// ended already. That is then an end of an open connection, and the handshake has succeeded.
    fn take_rest<A: Application<Session = S>>(
        &mut self,
        received: io::Result<Received>,
        app: &mut A,
        shared: &mut Shared,
    ) {
        let connection = &mut self.connection;
        match received {
            Ok(Received::Bytes(count)) if connection.state == ConnectionState::Open => {
                shared.note_read(connection, count);
                connection.is_owed_nothing = false;
                self.take_first_bytes(count, app, shared);
            }
            Err(error) if connection.state == ConnectionState::Open => {
                self.fail(&error, app, shared)
            }
            Ok(Received::End) => {
                connection.ready.readable = true; // It is read once more, as that of an open one.
                shared.queue_serve(connection);
            }
            _ if connection.ready.readable => shared.queue_serve(connection), // No event announces the rest.
            _ => {}
        }
    }

    /// Its time to connect, to send a first byte and to complete the handshake is over.
    fn is_late<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) {
        let connection = &mut self.connection;
        let origin = connection.origin();
        let secured = connection.transport.secured();
        let why = match (connection.state, origin, secured) {
            (ConnectionState::Connecting, ..) => {
                return shared.close(connection, Closed::Broken("no answer in time".to_owned()));
            }
            (ConnectionState::Handshaking, Origin::Accepted(listener), Some(secured))
                if secured.is_undecided() =>
            {
                match (secured.began, shared.silence(listener)) {
                    (None, Silent::Open) => {
                        self.open_plain(app, shared);
                        return;
                    }
                    (None, Silent::Refuse) => "not even a first byte came in time",
                    (Some(_), _) => "its TLS handshake had to wait for others for too long",
                }
            }
            (_, _, Some(secured)) if secured.is_clear() => {
                "TLS did not begin in time: the output before it was not taken"
            }
            _ => "the TLS handshake was not complete in time",
        };
        shared.close(connection, Closed::Tls(HandshakeFailure::Timeout, why.to_owned()));
    }
}

impl<S> Connections<S> {
    /// [`Timer::Opening`] is due.
    pub fn opening_is_late<A: Application<Session = S>>(&mut self, id: ConnectionId, app: &mut A) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.is_late(app, &mut self.shared);
        }
    }

    /// [`Timer::Handshakes`] is due: those that waited and have a place now are served next.
    pub fn admit_handshakes(&mut self) {
        let shared = &mut self.shared;
        for _ in 0..HANDSHAKES_PER_TURN {
            match shared.handshakes.postponed() {
                Some(id) => shared.ready.push(id),
                None => break,
            }
        }
        while let Some((id, claim)) = shared.handshakes.next(shared.now.elapsed) {
            let Some(slot) = self.slots.get_mut(id) else {
                shared.handshakes.release(claim); // One that waits has a slot.
                continue;
            };
            if let Some(secured) = slot.connection.transport.secured() {
                secured.claim = claim;
            }
            shared.queue_serve(&mut slot.connection);
        }
        shared.watch_handshakes();
    }
}

impl Shared {
    /// What becomes of a silent connection of a listener.
    fn silence(&self, listener: ListenerId) -> Silent {
        match self.security.of(listener) {
            Some(Security::Either { silent, .. }) => *silent,
            Some(Security::Tls(_)) => Silent::Refuse,
            Some(Security::Plain) | None => Silent::Open,
        }
    }

    fn decide(&self, listener: ListenerId, first: u8) -> Decision {
        match self.security.of(listener) {
            Some(Security::Tls(tls)) => Decision::Tls(tls.clone()),
            Some(Security::Either { tls, .. }) if first == HANDSHAKE => Decision::Tls(tls.clone()),
            _ => Decision::Plain,
        }
    }

    /// Whether a connection has a place among the handshakes. If not, it waits for one.
    fn claim_handshake(&mut self, connection: &mut Connection<Socket>) -> bool {
        let (id, peer) = (connection.id, connection.peer().ip());
        let Some(secured) = connection.transport.secured() else {
            return false;
        };
        if secured.claim == Claim::None {
            secured.claim = self.handshakes.begin(id, peer, self.now.elapsed);
            if matches!(secured.claim, Claim::Waiting(_)) {
                self.counting.metrics.rate_limited_handshakes.add(1);
                self.watch_handshakes();
            }
        }
        matches!(secured.claim, Claim::Slot(_))
    }

    /// The handshake of a connection is over, or the connection is.
    pub(super) fn end_handshake(&mut self, connection: &mut Connection<Socket>) {
        let Some(secured) = connection.transport.secured() else {
            return;
        };
        if let Some(listener) = secured.counted.take() {
            self.counting.metrics.handshaking(listener).subtract(1);
        }
        let claim = std::mem::take(&mut secured.claim);
        if claim != Claim::None {
            self.handshakes.release(claim);
            self.watch_handshakes();
        }
    }

    /// Sets the timer for the handshakes that wait.
    fn watch_handshakes(&mut self) {
        self.counting.metrics.waiting_handshakes.set(self.handshakes.waiting() as u64);
        match self.handshakes.next_at(self.now.elapsed) {
            Some(at) => self.timers.set(Timer::Handshakes, at),
            None => self.timers.clear(Timer::Handshakes),
        }
    }

    /// Other limits hold for handshakes.
    pub(super) fn limit_handshakes(&mut self) {
        self.handshakes.set_limits(&self.limits, self.now.elapsed);
        self.watch_handshakes();
    }
}

/// Whether this turn has time for a message of the connection's handshake. If not, it has its turn later, and counts as
/// one that has something to read until then.
fn may_process(connection: &mut Connection<Socket>, shared: &mut Shared) -> bool {
    let turn = shared.counting.metrics.turns.get();
    if shared.handshakes.may_process(turn) {
        return true;
    }
    connection.read_pending = true;
    shared.handshakes.postpone(connection.id);
    shared.counting.exhausted(Budget::Handshakes);
    shared.watch_handshakes();
    false
}

/// Closes a connection that has sent nothing and is owed nothing; nobody need know of it.
fn close_quietly(connection: &mut Connection<Socket>, shared: &mut Shared) {
    connection.is_reported = true;
    shared.close(connection, Closed::Finished);
}

/// The type of a TLS record of the handshake, the first byte of a TLS connection (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
