//! Step 3 for a connection that receives lines: they are framed and handled within a budget.

use std::io;

use super::connection::{Awaits, Connection};
use super::pace::effort_of_line;
use super::serve::{Pause, Slot, call, is_blocked, watch_input};
use super::shared::Shared;
use super::state::Received;
use super::timers::Timer;
use super::transport::{Socket, Transport};
use crate::application::{Application, Budget, Io, Next, Policy};

impl<S> Slot<S> {
    /// Handles the buffered lines, and reads once when there are none: input left from the turn before is
    /// handled before more is read, so that no input buffer grows.
    pub(super) fn serve_lines<A: Application<Session = S>>(
        &mut self,
        limit: usize,
        share: u32,
        policy: &Policy,
        app: &mut A,
        shared: &mut Shared,
    ) -> io::Result<()> {
        if is_blocked(&self.connection, policy, shared) {
            self.watch_line(Pause::Blocked, false, policy, shared);
            return Ok(());
        }
        let Slot { connection, session: Some(session) } = self else {
            return Ok(());
        };
        let (id, full) = (connection.id, connection.sent() + shared.limits.fill_bytes);
        let most = full_above(connection, policy, shared);
        let (mut next, mut spent, mut lines, mut may_read) = (Next::Read, 0u32, 0, true);
        let pause = loop {
            match next {
                Next::Wait => break Pause::Blocked,
                Next::Finish => break Pause::Dry,
                _ if connection.output_len() > most => break Pause::Blocked,
                _ if spent >= share || !shared.allowance.is_left() => {
                    break Pause::Budget(Budget::Lines);
                }
                Next::Owe => connection.awaits = Awaits::Answer,
                _ => {}
            }
            if let Some((line, out, peer)) = connection.next_line(limit, &mut shared.buffers) {
                let (now, effort) = (shared.now, effort_of_line(line.bytes().len()));
                let before = out.len();
                let mut io = Io { id, peer, now, out, full, output_ends: false, effort };
                next = app.handle_line(session, line, &mut io);
                debug_assert!(io.out.len() >= before, "the output is append-only");
                let (ends, effort) = (io.output_ends, io.effort);
                connection.output_ends |= ends;
                spent = spent.saturating_add(effort);
                shared.allowance.spend(effort);
                lines += 1;
            } else if connection.take_end() {
                let effort;
                (next, effort) = call(connection, shared, |io, _| app.handle_end(session, io));
                spent = spent.saturating_add(effort).saturating_add(1);
            } else if !connection.ready.readable {
                break Pause::Dry;
            } else if !std::mem::take(&mut may_read) {
                break Pause::Budget(Budget::Bytes);
            } else if let Received::Bytes(count) =
                connection.receive(&mut shared.scratch, &mut shared.buffers)?
            {
                shared.note_read(connection, count);
            }
        };
        shared.counting.handled(id, lines);
        self.go_on_with_lines(next, pause, policy, shared);
        self.watch_line(pause, spent > 0, policy, shared);
        Ok(())
    }

    #[inline]
    fn go_on_with_lines(&mut self, next: Next, pause: Pause, policy: &Policy, shared: &mut Shared) {
        // The loop itself knows whether a line is incomplete.
        let means_read = next < Next::Owe;
        // Most often nothing has to be done.
        if !means_read || pause != Pause::Dry || self.connection.is_leaving {
            self.go_on(if means_read { Next::Read } else { next }, pause, policy, shared);
        }
    }

    /// Sets the timers of an incomplete line and of a pause in it.
    #[inline]
    fn watch_line(&mut self, pause: Pause, is_another: bool, policy: &Policy, shared: &mut Shared) {
        let connection = &mut self.connection;
        let is_begun = pause != Pause::Blocked && connection.has_incomplete_line();
        watch_input(connection, is_begun, is_another, policy, shared);
        let timer = Timer::LinePause(connection.id);
        match policy.line_pause {
            Some(line_pause) if is_begun => {
                shared.timers.set(timer, connection.last_read() + line_pause);
            }
            Some(_) => shared.timers.clear(timer),
            None => {}
        }
    }
}

/// The length of the output above which nothing more of the input is handled. What TLS itself has to send counts
/// as it was at the beginning.
#[inline]
fn full_above(connection: &Connection<Socket>, policy: &Policy, shared: &Shared) -> usize {
    match policy.reads_when_full {
        true => usize::MAX,
        false => {
            let most = connection.sent() + shared.limits.output_bytes;
            most.saturating_sub(connection.transport.unsent())
        }
    }
}
