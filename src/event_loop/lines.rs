//! Step 3 for a connection that receives lines: they are framed and handled within a budget.

use std::io;

use super::connection::Received;
use super::pace::effort_of_line;
use super::serve::{Pause, Slot, call, is_blocked, watch_input};
use super::shared::Shared;
use super::timers::Timer;
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
        let Slot { connection, session: Some(session) } = self else {
            return Ok(());
        };
        let (id, peer, now) = (connection.id, connection.peer, shared.now);
        let full = connection.sent() + shared.limits.fill_bytes;
        let (mut effort, mut lines, mut has_time, mut may_read) = (0, 0, true, true);
        let mut next = Next::Read;
        let pause = loop {
            match next {
                Next::Wait => break Pause::Blocked,
                Next::Finish => break Pause::Dry,
                _ if is_blocked(connection, policy, shared) => break Pause::Blocked,
                _ if effort >= share || !has_time => break Pause::Budget(Budget::Lines),
                _ => {}
            }
            if let Some((line, out)) = connection.next_line(limit, &mut shared.buffers) {
                let plain = effort_of_line(line.bytes().len());
                let before = out.len();
                let mut io = Io { id, peer, now, out, full, output_ends: false, effort: plain };
                next = app.handle_line(session, line, &mut io);
                debug_assert!(io.out.len() >= before, "the output is append-only");
                let (ends, spent) = (io.output_ends, io.effort);
                connection.output_ends |= ends;
                effort = spent.saturating_add(effort);
                has_time = shared.allowance.spend(spent);
                lines += 1;
            } else if connection.is_read_to_its_end() && !connection.end_is_reported {
                connection.end_is_reported = true;
                let spent;
                (next, spent) = call(connection, shared, |io, _| app.handle_end(session, io));
                effort = spent.saturating_add(1).saturating_add(effort);
            } else if !connection.ready.readable {
                break Pause::Dry;
            } else if !std::mem::take(&mut may_read) {
                break Pause::Budget(Budget::Bytes);
            } else {
                let received = connection.receive(&mut shared.scratch, &mut shared.buffers)?;
                if let Received::Bytes(count) = received {
                    shared.note_read(connection, count);
                }
            }
        };
        shared.counting.handled(id, lines);
        if !matches!(next, Next::Finish | Next::Wait) {
            next = Next::Read; // The loop itself knows whether a line is incomplete.
        }
        self.go_on(next, pause, policy, shared);
        self.watch_line(pause, effort > 0, policy, shared);
        Ok(())
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
