//! Answers to IAMATs that are held back until what they confirm is kept, by the disk or by the engine. The answers are the
//! core's ([`HeldAnswers`](crate::herd::HeldAnswers)); here is when a connection gives them, and what waits behind them.
//!
//! ```text
//!   IAMAT ------> nothing to wait for, nothing held ---> answered at once
//!           \---> held, the next IAMAT is handled: Next::Owe
//!   any other line, behind held answers: the session keeps it, Next::Wait
//!   AnswersDue -> Command::Fill -> those that are due, then the line
//!   held for longer than the engine's `timeout` -> those before it, and then the connection ends
//! ```

use std::time::Duration;

use super::client::{Client, Waiting, command_of};
use super::metrics::{ClosedReason, LineCommand, Paused};
use super::wait_deadlines::WaitDeadlines;
use super::{Server, records};
use crate::application::{Command, ConnectionId, Io, Next};
use crate::config::Config;
use crate::herd::{HeldAnswers, Holder};
use crate::limits::{HELD_ANSWERS_PER_STEP, SPARE_WAITS, SPARE_WAITS_BYTES};
use crate::logging::Traffic;
use crate::protocol::{ClientRequest, Iamat, RequestError};

/// The answers of one client that are held back.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    answers: HeldAnswers,
}

/// A line that is not handled before all answers to those before it are given.
#[derive(Debug)]
pub(super) struct LineBehind {
    line: Box<[u8]>,
    /// It is the beginning of one that is too long.
    is_too_long: bool,
    since: Duration,
}

/// When connections must be looked at whose answers are held back.
#[derive(Debug, Default)]
pub(super) struct HeldDeadlines(
    /// None if an answer may be held back for ever, as with the disk alone.
    Option<WaitDeadlines>,
);

impl HeldBack {
    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Bytes of memory that they take.
    pub(super) fn held_bytes(&self) -> usize {
        self.answers.held_bytes()
    }
}

impl LineBehind {
    /// Bytes of memory that it takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.line.len()
    }
}

impl HeldDeadlines {
    pub(super) fn new(config: &Config, index: usize) -> HeldDeadlines {
        HeldDeadlines(config.engine_wait(index).map(WaitDeadlines::new))
    }

    /// When [`Server::judge_held_answers`] must be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.0.as_ref()?.poll_timeout()
    }

    /// Answers of this connection are held back, the oldest since then.
    fn watch(&mut self, held: &HeldBack, connection: ConnectionId) {
        if let (Some(deadlines), Some(since)) = (&mut self.0, held.answers.since()) {
            deadlines.waits(connection, since);
        }
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(deadlines) = &mut self.0 {
            deadlines.waits_no_longer(connection);
        }
    }

    /// Whether the oldest answer is held for too long.
    fn is_over(&self, held: &HeldBack) -> bool {
        let Some((deadlines, since)) = self.0.as_ref().zip(held.answers.since()) else {
            return false;
        };
        deadlines.is_over(since)
    }
}

impl Server {
    /// Whether the commands of clients must be looked at.
    pub(super) fn must_look_at_lines(&self) -> bool {
        self.shows_ids
            || self.tls.rules.judges_ids()
            || self.herd.answer_after().is_any()
            || self.engine.is_some()
    }

    /// Handles an IAMAT whose answer may be held back.
    pub(super) fn iamat_in_turn(
        &mut self,
        client: &mut Client,
        iamat: &Iamat<'_>,
        line: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        if self.must_wait_for_room(iamat) {
            return Ok(self.wait_for_room(client, line, false, io));
        }
        let (before, end) = (io.out.len(), self.herd.table().end());
        match self.iamat(client, iamat, line, io)? {
            Next::Read if self.lacked_room(iamat) => {
                io.out.truncate(before);
                Ok(self.wait_for_room(client, line, true, io))
            }
            Next::Read => {
                if self.herd.table().end() != end {
                    self.note_unsent_to_engine(iamat);
                }
                Ok(self.hold_answer(client, iamat.id, before, io))
            }
            next => Ok(next),
        }
    }

    /// Takes the answer to an IAMAT that was just appended at `before` out of the output again, if it must be held back.
    pub(super) fn hold_answer(
        &mut self,
        client: &mut Client,
        id: &[u8],
        before: usize,
        io: &mut Io<'_>,
    ) -> Next {
        if !self.herd.answer_after().is_any() {
            return Next::Read;
        }
        let awaited = self.herd.awaited(id);
        if awaited.is_none() && !client.is_held_back() {
            return Next::Read;
        }
        let spare = &mut self.durable.spare_waits;
        let waits = client.waits.get_or_insert_with(|| spare.pop().unwrap_or_default());
        let held = &mut waits.held;
        if held.is_empty() {
            self.metrics.pause(Paused::Kept);
        }
        let (text, now, holder) = (&io.out[before..], io.now.elapsed, holder_of(io.id));
        held.answers.push(awaited, text, now, holder, &mut self.herd);
        io.out.truncate(before);
        self.durable.held.watch(held, io.id);
        self.metrics.held_answers.add(1);
        self.metrics.count_delayed(LineCommand::Iamat);
        self.read_on(client)
    }

    /// How a connection goes on that has no line that waits.
    pub(super) fn read_on(&mut self, client: &mut Client) -> Next {
        match client.waits.as_deref() {
            None => Next::Read,
            Some(waits) if waits.held.is_empty() => {
                // An idle client holds no memory; the next one that waits gets it.
                let waits =
                    client.waits.take().filter(|waits| waits.held_bytes() <= SPARE_WAITS_BYTES);
                if self.durable.spare_waits.len() < SPARE_WAITS {
                    self.durable.spare_waits.extend(waits);
                }
                Next::Read
            }
            // A client that sends and gets no answers is not read for ever.
            Some(waits) if waits.held.answers.used_bytes() > self.limits.output_bytes => Next::Wait,
            Some(_) => Next::Owe,
        }
    }

    /// Keeps a line that must wait for the answers before it.
    #[cold]
    pub(super) fn wait_behind(
        &mut self,
        client: &mut Client,
        line: &[u8],
        is_too_long: bool,
        io: &Io<'_>,
    ) -> Next {
        let since = io.now.elapsed;
        client.wait(Waiting::Behind(LineBehind { line: line.into(), is_too_long, since }))
    }

    /// Handles a line, once the answers before it are given.
    pub(super) fn fill_line_behind(
        &mut self,
        client: &mut Client,
        waiting: LineBehind,
        io: &mut Io<'_>,
    ) -> Next {
        if client.is_held_back() {
            return client.wait(Waiting::Behind(waiting));
        }
        let LineBehind { line, is_too_long, since } = waiting;
        let before = io.out.len();
        let next = if is_too_long {
            self.refuse_too_long(&line, io)
        } else {
            ClientRequest::parse(&line, self.dialect)
                .and_then(|request| self.look_at(client, &request, &line, io))
                .unwrap_or_else(|reason| self.refuse(&line, reason, io))
        };
        match next {
            Next::Read | Next::Finish => {
                let command = command_of(&line);
                self.metrics.count_delayed(command);
                let took = io.now.elapsed.saturating_sub(since);
                self.metrics.answers[command as usize].observe(took);
            }
            _ => client.waits_since(since),
        }
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        next
    }

    /// Gives the answers that are due. Returns false if the next one was held back for too long, or the engine does not take
    /// what it confirms: the connection ends.
    pub(super) fn give_answers(&mut self, client: &mut Client, io: &mut Io<'_>) -> bool {
        let Some(waits) = client.waits.as_deref_mut() else {
            return true;
        };
        let (held, now, before) = (&mut waits.held, io.now.elapsed, io.out.len());
        let durations = &self.metrics.answers[LineCommand::Iamat as usize];
        let mut given = 0;
        let may_come = held.answers.take_due(io.out, holder_of(io.id), &mut self.herd, |since| {
            durations.observe(now.saturating_sub(since));
            given += 1;
        });
        self.metrics.held_answers.subtract(given);
        if Traffic::Client.is_recorded() {
            let answers = io.out[before..].split_inclusive(|byte| *byte == b'\n');
            answers.for_each(|answer| Traffic::Client.sent(&io.peer, answer));
        }
        if held.is_empty() {
            self.durable.held.forget(io.id);
            self.metrics.resume(Paused::Kept);
            return true;
        }
        let reason = match () {
            () if !may_come => Some(ClosedReason::AnswerRefused),
            () if self.durable.held.is_over(held) => Some(ClosedReason::AnswerTimeout),
            () => None,
        };
        if let Some(reason) = reason {
            self.give_up(client, reason, io);
            return false;
        }
        self.durable.held.watch(held, io.id);
        true
    }

    /// An answer was held back for too long, or in vain. It is never given, and neither are those behind it: no answer means
    /// that the update may be kept, or may be lost.
    #[cold]
    fn give_up(&mut self, client: &mut Client, reason: ClosedReason, io: &Io<'_>) {
        if let Some(waits) = client.waits.as_deref_mut() {
            self.metrics.engine.given_up.add(waits.held.answers.len() as u64);
            self.drop_answers(&mut waits.held, io.id);
        }
        let timeout = self.durable.held.0.as_ref().map(WaitDeadlines::timeout).unwrap_or_default();
        records::given_up(io.peer, (reason == ClosedReason::AnswerTimeout).then_some(timeout));
        self.ends.insert(io.id, reason);
    }

    /// Its connection is closed, or will be: answers that are held back are not given.
    pub(super) fn drop_answers(&mut self, held: &mut HeldBack, connection: ConnectionId) {
        if held.is_empty() {
            return;
        }
        self.metrics.held_answers.subtract(held.answers.len() as u64);
        self.metrics.resume(Paused::Kept);
        self.durable.held.forget(connection);
        held.answers.cancel(holder_of(connection), &mut self.herd);
    }

    /// A connection may have answers that are due.
    pub(super) fn answers_due(&mut self, holder: Holder) {
        let Holder(number) = holder;
        let (slot, generation) = ((number >> 32) as u32, number as u32);
        self.commands.push_back(Command::Fill(ConnectionId { slot, generation }));
    }

    /// Looks at the connections whose oldest answer may be held back for too long.
    pub(super) fn judge_held_answers(&mut self, now: Duration) {
        self.forget_commands_of_turn_end();
        let Some(deadlines) = &mut self.durable.held.0 else {
            return;
        };
        let overdue = deadlines.take_overdue(now, HELD_ANSWERS_PER_STEP);
        self.commands.extend(overdue.into_iter().map(Command::Fill));
    }
}

/// A connection, as the core knows it.
pub(super) fn holder_of(ConnectionId { slot, generation }: ConnectionId) -> Holder {
    Holder(u64::from(slot) << 32 | u64::from(generation))
}
