//! Output of one slot: filling and flushing it; and the end of a connection that fails or is done.

use std::io::{self, ErrorKind};

use super::connection::Awaits;
use super::limits::LINGER;
use super::pace::effort_of;
use super::serve::{Slot, call, watch_input};
use super::shared::Shared;
use super::state::{ConnectionState, Flush, Owed};
use super::timers::Timer;
use crate::application::{
    Application, Budget, Closed, ClosedConnection, Framing, FullOutput, Next, Policy,
};

impl<S> Slot<S> {
    /// Step 4: calls `fill` as [`Command::Fill`](crate::application::Command::Fill) asked, while there is
    /// room. Without room, the flush that makes some puts the connection on the list again. Returns the
    /// effort that it took.
    pub fn fill<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) -> u32 {
        let Slot { connection, session: Some(session) } = self else {
            return 0;
        };
        connection.fill_pending = false;
        let is_open = connection.state == ConnectionState::Open && connection.wants_fill;
        if !is_open || connection.unsent() >= shared.limits.fill_bytes {
            return 0;
        }
        connection.wants_fill = false;
        let before = connection.unsent();
        let (next, spent) = call(connection, shared, |io, _| app.fill(session, io));
        let effort = spent.saturating_add(effort_of(connection.unsent().saturating_sub(before)));
        let policy = *shared.policies.get(connection.policy);
        if let Err(error) = self.go_on_filled(next, &policy, app, shared) {
            self.fail(&error, app, shared);
        }
        self.flush_or_queue(policy.flush, app, shared);
        effort
    }

    fn go_on_filled<A: Application<Session = S>>(
        &mut self,
        next: Next,
        policy: &Policy,
        app: &mut A,
        shared: &mut Shared,
    ) -> io::Result<()> {
        let connection = &mut self.connection;
        match next {
            Next::Again => {
                connection.wants_fill = true;
                shared.counting.exhausted(Budget::Fill);
            }
            Next::Finish => shared.finish(connection),
            Next::Wait => {
                connection.awaits = Awaits::Fill;
                watch_input(connection, false, false, policy, shared);
            }
            // The application must know at once whether there is input, before it sends more.
            Next::Probe if policy.framing == Framing::Bytes => {
                connection.awaits = Awaits::Nothing;
                connection.owed = Owed::Nothing;
                let next = self.probe(app, shared)?;
                self.go_on(next, self.pause_after(next), policy, shared);
            }
            Next::StartTls(with) if policy.framing == Framing::Bytes => {
                connection.awaits = Awaits::Nothing;
                self.start_tls(with, shared);
            }
            Next::Read | Next::Rest | Next::Probe | Next::Owe | Next::StartTls(_) => {
                let awaits = if next == Next::Owe { Awaits::Answer } else { Awaits::Nothing };
                let waited = std::mem::replace(&mut connection.awaits, awaits) == Awaits::Fill;
                if waited && policy.framing == Framing::Bytes {
                    connection.owed = Owed::Again; // The session itself holds the incomplete message.
                } else if next == Next::Rest && policy.framing == Framing::Bytes {
                    watch_input(connection, true, false, policy, shared);
                }
                // Else a turn without a wait would find nothing to do: an `epoll_wait` for each answer that came
                // later, and for each batch of updates that a link sends.
                if !connection.is_served() {
                    shared.queue_serve(connection);
                }
            }
        }
        Ok(())
    }

    /// Step 5, and step 3 for connections that are flushed as soon as they are served.
    #[inline]
    pub fn flush<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) {
        use ConnectionState::{Flushing, Handshaking, Open};
        self.connection.write_pending = false;
        if matches!(self.connection.state, Handshaking | Open | Flushing) {
            self.write(app, shared);
        }
        self.account(app, shared);
    }

    /// One write, and its consequences. Bytes that the kernel does not take wait for the next writable event.
    #[inline(always)] // It has one caller, twice in each application.
    fn write<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) {
        let connection = &mut self.connection;
        let flush = match connection.flush() {
            Ok(flush) => flush,
            Err(error) => {
                self.handle_io_error(&error, shared);
                return;
            }
        };
        if flush.taken > 0 {
            shared.counting.wrote(connection, flush.taken);
        }
        shared.allowance.spend(effort_of(flush.taken));
        let most = shared.limits.output_bytes;
        if flush.wanted > most / 2 {
            self.sent_much(flush, app, shared);
        }
        let connection = &mut self.connection;
        if connection.wants_fill && flush.left < shared.limits.fill_bytes {
            shared.queue_fill(connection);
        }
        let timer = Timer::Write(connection.id);
        let timeout = shared.limits.write_timeout;
        if flush.left == 0 {
            shared.timers.clear(timer);
        } else if flush.taken > 0 {
            shared.timers.set(timer, shared.now.elapsed + timeout);
        } else {
            shared.timer_in(timer, timeout);
        }
        if flush.left > 0 && connection.ready.writable {
            shared.queue_flush(connection);
        }
        let is_usual = connection.state == ConnectionState::Open && !connection.output_ends;
        if flush.left == 0 && !is_usual {
            self.all_is_sent(shared);
        }
    }

    /// The output is sent, and something depends on that.
    fn all_is_sent(&mut self, shared: &mut Shared) {
        let connection = &mut self.connection;
        match connection.state {
            ConnectionState::Flushing => self.shut_down(shared),
            ConnectionState::Open => {
                connection.end_output();
                if connection.output_ends {
                    let timer = Timer::Write(connection.id);
                    shared.timer_in(timer, shared.limits.write_timeout);
                }
            }
            // TLS may begin now on a connection that was open.
            ConnectionState::Handshaking if connection.transport.is_clear() => {
                shared.queue_serve(connection);
            }
            _ => {}
        }
    }

    /// Much was queued before a write: perhaps reading may go on.
    #[cold]
    fn sent_much<A: Application<Session = S>>(
        &mut self,
        Flush { wanted, left, .. }: Flush,
        app: &mut A,
        shared: &mut Shared,
    ) {
        let most = shared.limits.output_bytes;
        if wanted > most && left <= most {
            shared.queue_serve(&mut self.connection);
        }
        self.check_full(left, app, shared);
    }

    /// Tells the application if the other side has become slow, or has recovered: `left` bytes are not sent.
    pub fn check_full<A: Application<Session = S>>(
        &mut self,
        left: usize,
        app: &mut A,
        shared: &mut Shared,
    ) {
        let Slot { connection, session } = self;
        let most = shared.limits.output_bytes;
        let is_read = shared.policies.get(connection.policy).reads_when_full;
        let is_full = left > if connection.is_full { most / 2 } else { most };
        let is_open = match connection.state {
            ConnectionState::Open => true,
            ConnectionState::Handshaking => session.is_some(), // TLS begins on it.
            _ => false,
        };
        if is_open
            && !is_read
            && shared.counting.set_full(connection, is_full)
            && let Some(session) = session
        {
            let full =
                FullOutput { id: connection.id, peer: connection.peer(), is_full, unsent: left };
            shared.has_commands = true;
            app.handle_full(full, session, shared.now);
        }
    }

    fn shut_down(&mut self, shared: &mut Shared) {
        let connection = &mut self.connection;
        if connection.shut_down() {
            shared.close(connection, Closed::Finished);
        } else if connection.state == ConnectionState::Lingering {
            shared.timer_in(Timer::Linger(connection.id), LINGER);
            shared.queue_serve(connection);
        } else {
            // The wait until TLS's `close_notify` is sent is limited.
            shared.timer_in(Timer::Write(connection.id), shared.limits.write_timeout);
        }
    }

    /// An open connection has failed. The application learns of it at once, although a TLS alert may have to
    /// be sent before it is closed.
    pub fn fail<A: Application<Session = S>>(
        &mut self,
        error: &io::Error,
        app: &mut A,
        shared: &mut Shared,
    ) {
        self.handle_io_error(error, shared);
        if self.connection.state > ConnectionState::Open {
            self.report_closed(app, shared);
        }
    }

    /// Gives the session back to the application, unless that was done already.
    pub fn report_closed<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) {
        let Slot { connection, session } = self;
        if let Some(session) = session.take() {
            let (id, peer, origin) = (connection.id, connection.peer(), connection.origin());
            let why = connection.why.as_deref().unwrap_or(&Closed::Finished);
            shared.has_commands = true;
            app.handle_closed(ClosedConnection { id, peer, origin, why }, session, shared.now);
        }
    }

    /// The kernel or TLS reported an error. After an error in received TLS data an alert must be sent, so
    /// such a connection is closed gracefully. So is one whose other side has ended without TLS's `close_notify`: it may
    /// still read the answers to its whole lines, those that it is owed included.
    pub fn handle_io_error(&mut self, error: &io::Error, shared: &mut Shared) {
        let connection = &mut self.connection;
        let why = connection.why_broken(error);
        connection.note_why(why.clone());
        shared.end_handshake(connection);
        let has_alert = error.kind() == ErrorKind::InvalidData;
        let is_end = error.kind() == ErrorKind::UnexpectedEof;
        let may_be_read = has_alert || is_end && connection.state == ConnectionState::Open;
        if is_end && may_be_read && connection.is_waiting() {
            connection.cut();
        } else if may_be_read && connection.state < ConnectionState::Flushing {
            connection.finish();
            shared.queue_flush(connection);
        } else {
            shared.close(connection, why);
        }
    }

    /// Takes empty buffers back, and counts the memory of the others.
    #[inline]
    pub fn account<A: Application<Session = S>>(&mut self, app: &A, shared: &mut Shared) {
        let Slot { connection, session } = self;
        connection.reclaim(&mut shared.buffers);
        if connection.state != ConnectionState::Closed {
            let held = session.as_ref().map_or(0, |session| app.held_bytes(session));
            let held = connection.buffered() + held;
            let (before, held) = connection.account(held);
            shared.buffered = shared.buffered - before + held;
        }
    }
}
