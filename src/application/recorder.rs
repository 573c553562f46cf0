//! A record of all calls between the loop and an application, and a replay of it without the loop.
//!
//! [`Recorder`] is itself an [`Application`]: it passes each call on to another one, and writes the call and
//! its answer as one line of text. [`replay`] makes the same calls again and compares the answers. Neither
//! the loop nor the application notices it.
//!
//! ```text
//!   event loop <---> Recorder <---> application          replay ---> Recorder ---> application
//!                       |                                   ^           |
//!                       v                                   |           v
//!                   recording -------------------------> recording == recording
//! ```
//!
//! A recording contains what clients sent, so only its owner should read it. It is made only if a program
//! asks for it.
//!
//! It does not contain [`Application::poll_timeout`] and the other calls that change nothing, nor the content
//! of messages, which have no common text form: a replay gets them from its caller.

mod inspected;
mod replay;
mod text;

use std::io::{self, Write};
use std::time::Duration;

use super::{
    Application, ClosedConnection, Command, Control, DialEvent, Due, FullOutput, Inspected, Io,
    Line, ListenerId, Next, Opened, Policy, Refused, Ticket,
};
use crate::clock::Now;
pub use replay::{Difference, replay};

/// Records the calls of an application, and its answers.
#[derive(Debug)]
pub struct Recorder<A, W> {
    inner: A,
    to: W,
    error: Option<io::Error>,
}

impl<A, W: Write> Recorder<A, W> {
    /// Writes every call of `inner` to `to`, one line per call. Flushing `to` is up to the caller.
    pub fn new(inner: A, to: W) -> Recorder<A, W> {
        Recorder { inner, to, error: None }
    }

    /// The application, for calls that are not the loop's.
    pub fn application(&mut self) -> &mut A {
        &mut self.inner
    }

    /// The application and the recording, or why the recording is not complete.
    pub fn into_parts(self) -> (A, io::Result<W>) {
        (self.inner, self.error.map_or(Ok(self.to), Err))
    }

    /// After a write error the application continues without a recording.
    fn write(&mut self, call: &str, answer: &str) {
        if self.error.is_none() {
            self.error = writeln!(self.to, "{call}\t=>\t{answer}").err();
        }
    }

    /// Makes a call about one connection, and records it with what was appended to the output.
    fn on<T>(
        &mut self,
        call: &str,
        io: &mut Io<'_>,
        run: impl FnOnce(&mut A, &mut Io<'_>) -> T,
        answer: impl FnOnce(&T) -> String,
    ) -> T {
        let call = text::on(call, io);
        let before = io.out.len();
        let result = run(&mut self.inner, io);
        let ends = if io.output_ends { "\tends" } else { "" };
        let out = io.out[before..].escape_ascii();
        self.write(&call, &format!("{}\t{out}{ends}", answer(&result)));
        result
    }
}

impl<A: Application, W: Write> Application for Recorder<A, W> {
    type Session = A::Session;
    type Message = A::Message;

    fn handle_open(&mut self, opened: Opened<'_>, io: &mut Io<'_>) -> Option<(A::Session, Policy)> {
        self.on(
            &text::open(&opened),
            io,
            |inner, io| inner.handle_open(opened, io),
            |result| format!("{:?}", result.as_ref().map(|(_, policy)| policy)),
        )
    }

    fn handle_line(&mut self, session: &mut A::Session, line: Line<'_>, io: &mut Io<'_>) -> Next {
        let run = |inner: &mut A, io: &mut Io<'_>| inner.handle_line(session, line, io);
        self.on(&text::line(line), io, run, text::next)
    }

    fn handle_bytes(&mut self, session: &mut A::Session, bytes: &[u8], io: &mut Io<'_>) -> Next {
        let run = |inner: &mut A, io: &mut Io<'_>| inner.handle_bytes(session, bytes, io);
        self.on(&format!("bytes\t{}", bytes.escape_ascii()), io, run, text::next)
    }

    fn handle_end(&mut self, session: &mut A::Session, io: &mut Io<'_>) -> Next {
        let run = |inner: &mut A, io: &mut Io<'_>| inner.handle_end(session, io);
        self.on("end\t", io, run, text::next)
    }

    fn fill(&mut self, session: &mut A::Session, io: &mut Io<'_>) -> Next {
        let run = |inner: &mut A, io: &mut Io<'_>| inner.fill(session, io);
        self.on("fill\t", io, run, text::next)
    }

    fn handle_full(&mut self, full: FullOutput, session: &mut A::Session, now: Now) {
        self.write(&text::full(&full, now), "");
        self.inner.handle_full(full, session, now);
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, session: A::Session, now: Now) {
        self.write(&text::closed(&closed, now), "");
        self.inner.handle_closed(closed, session, now);
    }

    fn handle_dial(&mut self, ticket: Ticket, event: DialEvent<'_>, now: Now) {
        self.write(&text::dial(ticket, &event, now), "");
        self.inner.handle_dial(ticket, event, now);
    }

    fn handle_refused(&mut self, listener: ListenerId, why: &Refused, now: Now) {
        self.write(&text::refused(listener, why, now), "");
        self.inner.handle_refused(listener, why, now);
    }

    fn handle_message(&mut self, message: A::Message, now: Now) {
        self.write(&text::at("message\t", now), "");
        self.inner.handle_message(message, now);
    }

    fn poll_command(&mut self) -> Option<Command<A::Message>> {
        let command = self.inner.poll_command();
        self.write("command", &text::command(command.as_ref()));
        command
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.inner.poll_timeout()
    }

    /// What the application asked about connections is part of the recorded call: the replay answers the
    /// same.
    fn handle_timeout(&mut self, due: &mut Due<'_>) {
        let now = due.now;
        let mut asked = Vec::new();
        let mut is_behind = |id| {
            let is_behind = due.is_behind(id);
            asked.push((id, is_behind));
            is_behind
        };
        self.inner.handle_timeout(&mut Due::new(now, &mut is_behind));
        let call = text::at(&format!("timeout\t{}", text::asked(&asked)), now);
        self.write(&call, "");
    }

    fn handle_control(&mut self, control: Control, now: Now) {
        self.write(&text::at(&format!("control\t{}", text::control(&control)), now), "");
        self.inner.handle_control(control, now);
    }

    /// The connections are part of the recorded call, as far as the application looked at them.
    fn handle_inspect(
        &mut self,
        ticket: Ticket,
        all: &mut dyn Iterator<Item = Inspected<'_, A::Session>>,
        now: Now,
    ) {
        let mut seen = inspected::begin(ticket);
        let mut all = all.inspect(|one| inspected::push(&mut seen, one));
        self.inner.handle_inspect(ticket, &mut all, now);
        self.write(&text::at(&seen, now), "");
    }

    fn handle_stop(&mut self, now: Now) {
        self.write(&text::at("stop\t", now), "");
        self.inner.handle_stop(now);
    }

    fn may_stop(&self) -> bool {
        self.inner.may_stop()
    }

    fn held_bytes(&self, session: &A::Session) -> usize {
        self.inner.held_bytes(session)
    }

    fn shared_bytes(&self) -> usize {
        self.inner.shared_bytes()
    }

    fn handle_turn_end(&mut self) {
        self.write("turn", "");
        self.inner.handle_turn_end();
    }
}
