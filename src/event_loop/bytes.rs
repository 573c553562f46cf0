//! Step 3 for a connection that receives bytes: they go to the application as they arrive.

use std::io;

use super::limits::MAX_INTERRUPTED_READS;
use super::pace::effort_of;
use super::serve::{Pause, Slot, call, is_blocked};
use super::shared::Shared;
use super::state::{Owed, Received};
use crate::application::{Application, Budget, Closed, Next, Policy};

impl<S> Slot<S> {
    /// One read, and its handling.
    pub(super) fn serve_bytes<A: Application<Session = S>>(
        &mut self,
        policy: &Policy,
        app: &mut A,
        shared: &mut Shared,
    ) -> io::Result<()> {
        let connection = &mut self.connection;
        if is_blocked(connection, policy, shared) {
            return Ok(()); // It continues once enough output is sent, or the application says so.
        }
        let next = match std::mem::replace(&mut connection.owed, Owed::Nothing) {
            Owed::Probe => self.probe(app, shared)?,
            Owed::Again => self.handle_bytes(0, app, shared),
            Owed::Nothing if connection.ready.readable => {
                match connection.read(&mut shared.scratch)? {
                    Received::Bytes(count) => self.handle_read(count, app, shared),
                    Received::End => self.handle_end(app, shared),
                    Received::Nothing => {
                        self.rest(shared);
                        return Ok(());
                    }
                }
            }
            Owed::Nothing if connection.may_report_its_end() => self.handle_end(app, shared),
            Owed::Nothing => {
                self.rest(shared);
                return Ok(());
            }
        };
        self.go_on(next, self.pause_after(next), policy, shared);
        Ok(())
    }

    /// Whether more is left to handle or read after a call that returned `next`.
    pub(super) fn pause_after(&self, next: Next) -> Pause {
        match next {
            Next::Again => Pause::Budget(Budget::Lines),
            Next::Probe => Pause::Later,
            _ if self.connection.ready.readable => Pause::Budget(Budget::Bytes),
            _ => Pause::Dry,
        }
    }

    /// Nothing arrived, and the application is owed no call.
    fn rest(&mut self, shared: &mut Shared) {
        let connection = &mut self.connection;
        if connection.ready.readable {
            shared.queue_serve(connection); // The read was interrupted.
        } else if connection.is_leaving {
            shared.finish_leaving(connection);
        }
    }

    /// Reads from a connection on which the application expects nothing. There is nothing if the kernel says
    /// `WouldBlock` (a short read is not enough here) and TLS holds neither plaintext nor a part of a record.
    pub(super) fn probe<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        shared: &mut Shared,
    ) -> io::Result<Next> {
        for _ in 0..MAX_INTERRUPTED_READS {
            let connection = &mut self.connection;
            match connection.read(&mut shared.scratch)? {
                Received::Bytes(count) => return Ok(self.handle_read(count, app, shared)),
                Received::End => return Ok(self.handle_end(app, shared)),
                Received::Nothing if connection.ready.readable => {} // It was interrupted.
                Received::Nothing if connection.transport.holds_nothing() => {
                    return Ok(self.handle_bytes(0, app, shared));
                }
                Received::Nothing => break,
            }
        }
        // The rest would be taken for what is received next, so the connection is useless.
        shared.close(&mut self.connection, Closed::Unsolicited);
        Ok(Next::Wait)
    }

    fn handle_read<A: Application<Session = S>>(
        &mut self,
        count: usize,
        app: &mut A,
        shared: &mut Shared,
    ) -> Next {
        shared.note_read(&mut self.connection, count);
        shared.allowance.spend(effort_of(count));
        self.handle_bytes(count, app, shared)
    }

    pub(super) fn handle_bytes<A: Application<Session = S>>(
        &mut self,
        count: usize,
        app: &mut A,
        shared: &mut Shared,
    ) -> Next {
        let Slot { connection, session: Some(session) } = self else {
            return Next::Finish;
        };
        let (next, spent) = call(connection, shared, |io, scratch| {
            app.handle_bytes(session, &scratch[..count], io)
        });
        shared.allowance.spend(spent);
        next
    }

    fn handle_end<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        shared: &mut Shared,
    ) -> Next {
        let Slot { connection, session: Some(session) } = self else {
            return Next::Finish;
        };
        if !connection.take_end() {
            return Next::Read; // Not yet, or not again.
        }
        call(connection, shared, |io, _| app.handle_end(session, io)).0
    }
}
