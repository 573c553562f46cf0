//! What happens to a slot in a turn: its connection is opened, served, filled, flushed. One look-up borrows
//! all that this needs, and the application is an argument.

use super::connection::{Awaits, Connection};
use super::shared::Shared;
use super::slots::HasId;
use super::state::{ConnectionState, Owed};
use super::timers::Timer;
use super::transport::Socket;
use crate::application::{
    Application, Budget, Closed, ConnectionId, FlushAt, Framing, Io, Next, Opened, Origin, Policy,
};

/// A connection and the application's session for it.
pub struct Slot<S> {
    pub connection: Connection<Socket>,
    /// None until it is open, and never again.
    pub session: Option<S>,
}

impl<S> HasId for Slot<S> {
    fn id(&self) -> ConnectionId {
        self.connection.id
    }
}

/// What the caller has to do after a connection was served.
#[derive(Debug)]
pub enum Served {
    Done,
    /// There was an event for a connecting socket.
    Connecting,
    /// Its handshake is complete, and the application knows of it.
    Opened(Origin),
    /// Its handshake has failed; the connection knows why.
    NotOpened,
}

/// Why a connection is not served any further in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Nothing is left to handle or to read.
    Dry,
    /// There is more, for the next turn: this budget is used up.
    Budget(Budget),
    /// It must be served in the next turn, for another reason.
    Later,
    /// It waits until its output is sent, or for the application.
    Blocked,
}

impl<S> Slot<S> {
    pub fn new(connection: Connection<Socket>) -> Slot<S> {
        Slot { connection, session: None }
    }

    /// Opens it: it was accepted or has connected, and its handshake is complete. Returns whether the
    /// application was called.
    pub fn open<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) -> bool {
        let connection = &mut self.connection;
        if connection.state > ConnectionState::Handshaking {
            return false; // It could not be registered.
        }
        shared.timers.clear(Timer::Opening(connection.id));
        connection.is_reported = true;
        let certificate = connection.transport.peer_certificate().map(<[u8]>::to_vec);
        let origin = connection.origin();
        if let Some(secured) = connection.transport.secured() {
            secured.note_complete(shared.now.elapsed);
        }
        let tls = connection.transport.tls_info();
        let opened = Opened { origin, certificate: certificate.as_deref(), tls };
        let (accepted, _) = call(connection, shared, |io, _| app.handle_open(opened, io));
        let Some((session, policy)) = accepted else {
            shared.close(connection, Closed::Finished);
            return true;
        };
        self.session = Some(session);
        connection.state = ConnectionState::Open;
        connection.ready.writable = true;
        shared.policies.give_back(connection.policy);
        connection.policy = shared.policies.take(policy);
        shared.counting.opened(connection, policy.class, shared.now.elapsed);
        let was_leaving = std::mem::take(&mut connection.is_leaving);
        connection.is_owed_nothing = false;
        shared.set_drains(connection, policy.drains_on_stop);
        match policy.drains_on_stop {
            true if shared.is_stopping => shared.drain(connection),
            true if was_leaving => shared.release(connection),
            _ => {}
        }
        if matches!(connection.origin(), Origin::Dialled(_)) {
            connection.ready.readable = true; // Its events arrived while it was connecting.
            shared.queue_serve(connection);
        }
        shared.queue_flush(connection);
        true
    }

    /// Step 3. `share` is the effort that it may use in this turn.
    pub fn serve<A: Application<Session = S>>(
        &mut self,
        share: u32,
        app: &mut A,
        shared: &mut Shared,
    ) -> Served {
        self.connection.read_pending = false;
        match self.connection.state {
            ConnectionState::Connecting => return Served::Connecting,
            ConnectionState::Handshaking => return self.serve_opening(app, shared),
            ConnectionState::Open => self.serve_open(share, app, shared),
            ConnectionState::Lingering => self.serve_lingering(shared),
            ConnectionState::Flushing | ConnectionState::Closed => {}
        }
        Served::Done
    }

    fn serve_open<A: Application<Session = S>>(
        &mut self,
        share: u32,
        app: &mut A,
        shared: &mut Shared,
    ) {
        let policy = *shared.policies.get(self.connection.policy);
        let served = match policy.framing {
            Framing::Lines(limit) => self.serve_lines(limit, share, &policy, app, shared),
            Framing::Bytes => self.serve_bytes(&policy, app, shared),
        };
        if let Err(error) = served {
            self.fail(&error, app, shared);
        }
        self.flush_or_queue(policy.flush, app, shared);
    }

    #[inline]
    pub(super) fn flush_or_queue<A: Application<Session = S>>(
        &mut self,
        flush: FlushAt,
        app: &mut A,
        shared: &mut Shared,
    ) {
        match flush {
            // At once, while its socket is in the cache, and not after the reads of a thousand others.
            FlushAt::Served => self.flush(app, shared),
            FlushAt::TurnEnd => {
                shared.queue_flush(&mut self.connection);
                self.account(app, shared);
            }
        }
    }

    pub(super) fn take_first_bytes<A: Application<Session = S>>(
        &mut self,
        count: usize,
        app: &mut A,
        shared: &mut Shared,
    ) {
        let policy = *shared.policies.get(self.connection.policy);
        match policy.framing {
            Framing::Lines(_) => {
                self.connection.keep(&shared.scratch[..count], &mut shared.buffers);
                shared.queue_serve(&mut self.connection);
            }
            Framing::Bytes => {
                let next = self.handle_bytes(count, app, shared);
                self.go_on(next, Pause::Later, &policy, shared);
            }
        }
        self.account(app, shared);
    }

    /// Applies the handler's answer and the reason for the pause to the next turn.
    pub(super) fn go_on(&mut self, next: Next, pause: Pause, policy: &Policy, shared: &mut Shared) {
        let connection = &mut self.connection;
        match next {
            Next::Wait => connection.awaits = Awaits::Fill,
            Next::Owe => connection.awaits = Awaits::Answer,
            Next::Again => connection.owed = Owed::Again,
            Next::Probe => connection.owed = Owed::Probe,
            Next::StartTls(with) => return self.start_tls(with, shared),
            Next::Read | Next::Rest | Next::Finish => {}
        }
        match pause {
            _ if next == Next::Finish => shared.finish(connection),
            _ if next == Next::Wait => {}
            Pause::Budget(budget) => {
                shared.counting.exhausted(budget);
                shared.queue_serve(connection);
            }
            Pause::Later => shared.queue_serve(connection),
            Pause::Dry if connection.is_leaving => shared.finish_leaving(connection),
            Pause::Dry | Pause::Blocked => {}
        }
        if policy.framing == Framing::Bytes {
            let is_another = connection.unsent() > 0;
            watch_input(connection, next == Next::Rest, is_another, policy, shared);
        }
    }

    fn serve_lingering(&mut self, shared: &mut Shared) {
        let connection = &mut self.connection;
        if !connection.ready.readable {
            return;
        }
        if connection.drop_input(&mut shared.scratch) {
            shared.close(connection, Closed::Finished);
        } else if connection.ready.readable {
            shared.queue_serve(connection);
        }
    }
}

/// Calls the application with the parts of a connection that it may use. Returns its answer and the effort
/// that it reported.
pub(super) fn call<R>(
    connection: &mut Connection<Socket>,
    shared: &mut Shared,
    handle: impl FnOnce(&mut Io<'_>, &[u8]) -> R,
) -> (R, u32) {
    let full = connection.sent() + shared.limits.fill_bytes;
    let (id, peer, now) = (connection.id, connection.peer(), shared.now);
    let out = connection.output(&mut shared.buffers);
    let before = out.len();
    let mut io = Io { id, peer, now, out, full, output_ends: false, effort: 0 };
    let answer = handle(&mut io, &shared.scratch);
    debug_assert!(io.out.len() >= before, "the output is append-only");
    let (ends, effort) = (io.output_ends, io.effort);
    connection.output_ends |= ends;
    (answer, effort)
}

/// Whether no more of its input may be handled for now.
#[inline]
pub(super) fn is_blocked(
    connection: &Connection<Socket>,
    policy: &Policy,
    shared: &Shared,
) -> bool {
    let is_full = connection.unsent() > shared.limits.output_bytes;
    connection.awaits == Awaits::Fill || is_full && !policy.reads_when_full
}

/// Sets the timer of an incomplete message: it runs from the first byte, however slowly the rest arrives.
#[inline]
pub(super) fn watch_input(
    connection: &Connection<Socket>,
    is_begun: bool,
    is_another: bool,
    policy: &Policy,
    shared: &mut Shared,
) {
    let timer = Timer::Input(connection.id);
    let is_begun = is_begun && connection.state == ConnectionState::Open;
    if !is_begun || is_another {
        shared.timers.clear(timer);
    }
    if is_begun {
        shared.timer_in(timer, policy.input_timeout);
    }
}
