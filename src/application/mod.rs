//! The interface between the event loop and the program on top of it: one trait, and the values that it
//! passes.
//!
//! ```text
//!                 lines, bytes, the end, messages, time
//!   event loop ------------------------------------------> Application ----> the connection's own output (Io::out)
//!              <------------------------------------------
//! Next: how this connection continues
//!                 Command: what must happen to others
//! ```
//!
//! Nothing here polls, opens a socket, reads a clock, uses TLS, or knows what a line means. The loop is
//! generic over [`Application`], so every call is dispatched statically.
//!
//! Three rules that the trait cannot enforce:
//!
//! - [`Io::out`] is append-only.
//! - An application asks for [`Command::Fill`] when something has changed, never in answer to every
//!   [`Application::fill`]: two sessions that wake each other would spin.
//! - [`Application::poll_timeout`] takes constant time, or close to it: the loop calls it in each turn.

mod command;
mod io;
mod line;
mod metrics;
pub mod recorder;
mod turns;

use std::time::Duration;

pub use command::{
    Activity, Closed, ClosedConnection, Command, Control, Dial, DialEvent, Freshness, FullOutput,
    HandshakeFailure, Inspected, Job, Refused, Start, Target,
};
pub use io::{Class, FlushAt, Framing, Io, Next, Opened, Origin, Policy, TlsInfo, TlsVersion};
pub use line::{Line, LineBuffer};
pub use metrics::{
    Budget, CLASSES, ClassMetrics, Counter, Gauge, Histogram, LISTENERS, Lack, LoopMetrics,
};
pub use turns::Turn;

use crate::clock::Now;

/// A program without its sockets.
pub trait Application: Sized {
    /// What it keeps for each connection. The loop stores it and lends it with every call about that
    /// connection.
    type Session;
    /// What other threads send to this loop: results of jobs, messages from other loops. [`Never`] if there
    /// are none.
    type Message: Send + 'static;

    /// A connection can be used: it was accepted or dialled, and its TLS handshake is complete. `None`
    /// refuses it. A greeting goes into [`Io::out`].
    fn handle_open(
        &mut self,
        opened: Opened<'_>,
        io: &mut Io<'_>,
    ) -> Option<(Self::Session, Policy)>;

    /// A line arrived. Only with [`Framing::Lines`].
    fn handle_line(
        &mut self,
        _session: &mut Self::Session,
        _line: Line<'_>,
        _io: &mut Io<'_>,
    ) -> Next {
        Next::Finish
    }

    /// Bytes arrived. The slice is empty after [`Next::Again`], [`Next::Probe`] and [`Next::StartTls`], and when a
    /// connection that waited continues: the session then handles what it holds. Only with [`Framing::Bytes`].
    fn handle_bytes(
        &mut self,
        _session: &mut Self::Session,
        _bytes: &[u8],
        _io: &mut Io<'_>,
    ) -> Next {
        Next::Finish
    }

    /// The other side sends no more, all its input was handled, and no answer to it is owed ([`Next::Owe`]).
    fn handle_end(&mut self, _session: &mut Self::Session, _io: &mut Io<'_>) -> Next {
        Next::Finish
    }

    /// [`Command::Fill`] was requested, and the output has room: append until [`Io::has_room`] returns false.
    fn fill(&mut self, _session: &mut Self::Session, _io: &mut Io<'_>) -> Next {
        Next::Read
    }

    /// The other side is slow: even after a write the output is full, so nothing is read until there is room.
    /// Or it has recovered: at most half of a full output is left. A connection that is closed while it is
    /// full does not recover. Those that are read all the same ([`Policy::reads_when_full`]) are not reported.
    fn handle_full(&mut self, _full: FullOutput, _session: &mut Self::Session, _now: Now) {}

    /// A connection is closed. Its id is never used again. (The loop does not report those that are left when
    /// it ends.)
    fn handle_closed(&mut self, _closed: ClosedConnection<'_>, _session: Self::Session, _now: Now) {
    }

    /// The progress of a dial. After [`DialEvent::Failed`] there is no further call for its ticket; success
    /// is reported by [`Application::handle_open`].
    fn handle_dial(&mut self, _ticket: Ticket, _event: DialEvent<'_>, _now: Now) {}

    /// A connection was refused at a listener, could not be accepted, or failed in its handshake.
    fn handle_refused(&mut self, _listener: ListenerId, _why: &Refused, _now: Now) {}

    /// A message arrived from another thread.
    fn handle_message(&mut self, _message: Self::Message, _now: Now) {}

    /// The next command for the loop. The loop asks until the answer is `None`: at the start, after the
    /// lines, after the timers, and after connections were closed.
    fn poll_command(&mut self) -> Option<Command<Self::Message>> {
        None
    }

    /// When [`Application::handle_timeout`] must be called at the latest, as [`Now::elapsed`] counts. The loop asks in
    /// each turn before it waits; a deadline that the turn itself brings nearer holds from then on.
    fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// Does what is due.
    fn handle_timeout(&mut self, _due: &mut Due<'_>) {}

    /// The operator asks for something. (The loop itself handles a request to stop.)
    fn handle_control(&mut self, _control: Control, _now: Now) {}

    /// [`Command::Inspect`]: all connections of the loop, in no order. Keep what is needed, and ask for
    /// [`Command::Fill`] of the session that waits for it: commands are run after this.
    fn handle_inspect(
        &mut self,
        _ticket: Ticket,
        _all: &mut dyn Iterator<Item = Inspected<'_, Self::Session>>,
        _now: Now,
    ) {
    }

    /// The loop begins to stop: its listeners close, and connections that drain get their answers.
    fn handle_stop(&mut self, _now: Now) {}

    /// Whether the application has nothing left to wait for. The loop waits no longer than its grace time.
    fn may_stop(&self) -> bool {
        true
    }

    /// Bytes that a session holds besides the loop's buffers. They count towards the loop's memory limit.
    fn held_bytes(&self, _session: &Self::Session) -> usize {
        0
    }

    /// Bytes that the application holds and that belong to no single session. They count towards the limit,
    /// too.
    fn shared_bytes(&self) -> usize {
        0
    }

    /// A turn is over: submit its log records here. A command that the application adds here waits for the
    /// next event.
    fn handle_turn_end(&mut self) {}
}

/// The time up to which deadlines may be judged, and which connections are behind.
///
/// The loop judges a deadline only once it has served everything that arrived before it: the bytes that meet
/// the deadline may still be in the kernel, because the process was stopped or had too much to do. So `now`
/// may be a little before the time at which the last line was handled.
pub struct Due<'a> {
    /// Deadlines at or before [`Now::elapsed`] are due.
    pub now: Now,
    is_behind: &'a mut dyn FnMut(ConnectionId) -> bool,
}

impl<'a> Due<'a> {
    /// `is_behind` tells for one connection whether it has more to read or write.
    pub fn new(now: Now, is_behind: &'a mut dyn FnMut(ConnectionId) -> bool) -> Due<'a> {
        Due { now, is_behind }
    }

    /// Whether a connection has received bytes that are not read or handled yet, or output that is not
    /// written yet. Judge a deadline of such a connection at the next call.
    pub fn is_behind(&mut self, connection: ConnectionId) -> bool {
        (self.is_behind)(connection)
    }
}

/// For an application to which nobody sends messages.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

/// A connection's id: its slot in the loop, and the slot's generation. It may outlive the connection and
/// never names another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

/// The application's own number for a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A listener, numbered by the program that sets the loop up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// A TLS client configuration, numbered by the program that sets the loop up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsId(pub u16);

/// Another loop of the same process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoopId(pub u16);
