//! What the loop lends with a call about one connection, and what the application answers.

use std::net::SocketAddr;
use std::time::Duration;

use super::{ConnectionId, ListenerId, LoopId, Ticket};
use crate::clock::Now;

/// A connection that can be used.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    pub origin: Origin,
    /// The other side's certificate (DER), where TLS asked for one and has checked it.
    pub certificate: Option<&'a [u8]>,
}

impl Opened<'_> {
    /// Plain bytes, and nothing known of the other side: for tests and simulators.
    pub const fn plain(origin: Origin) -> Opened<'static> {
        Opened { origin, certificate: None }
    }
}

/// Where a connection comes from. It decides what is expected of it; what it says never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Accepted(ListenerId),
    Dialled(Ticket),
    /// The other end of a pair of sockets that this loop of the process asked for.
    Loop(LoopId),
}

/// What a handler may use of the one connection that it handles.
pub struct Io<'a> {
    pub id: ConnectionId,
    /// The address at the other end.
    pub peer: SocketAddr,
    pub now: Now,
    /// The connection's own output, not a copy: append only. It may hold bytes already.
    pub out: &'a mut Vec<u8>,
    /// [`Io::has_room`] until the output is this long.
    pub(crate) full: usize,
    /// [`Io::end_output`] was called.
    pub(crate) output_ends: bool,
    /// The work of the line itself, and what [`Io::spend`] reported.
    pub(crate) effort: u32,
}

impl<'a> Io<'a> {
    /// For tests and simulators, which lend a buffer of their own with `room` bytes to fill.
    pub fn new(
        id: ConnectionId,
        peer: SocketAddr,
        now: Now,
        out: &'a mut Vec<u8>,
        room: usize,
    ) -> Io<'a> {
        let full = out.len() + room;
        Io { id, peer, now, out, full, output_ends: false, effort: 0 }
    }

    /// Whether [`Application::fill`](super::Application::fill) may append more.
    pub fn has_room(&self) -> bool {
        self.out.len() < self.full
    }

    /// The length that [`Io::out`] may reach while it has room.
    pub fn full(&self) -> usize {
        self.full
    }

    /// Our side sends no more once the output is out; the other side is read on.
    pub fn end_output(&mut self) {
        self.output_ends = true;
    }

    /// Reports work beyond that of handling a plain line, in units of half a microsecond. The loop uses
    /// it to divide a turn fairly.
    pub fn spend(&mut self, effort: u32) {
        self.effort = self.effort.saturating_add(effort);
    }
}

/// How a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With what comes next.
    Read,
    /// The same, but a message was begun: its rest must come within [`Policy::input_timeout`]. For
    /// bytes; of lines the loop knows.
    Rest,
    /// There is more to do than one turn may take: the same call again in the next turn (of `fill`:
    /// once there is room). For bytes and for `fill`; with lines it means `Read`.
    Again,
    /// Nothing is read or handled until `fill` answers otherwise. Only the application can end this, so
    /// each reason to wait needs a deadline in [`Application::poll_timeout`](super::Application::poll_timeout).
    Wait,
    /// For bytes: the loop asks the kernel and TLS once more. What they have comes as bytes or as the
    /// end; if they have nothing, the next call is `handle_bytes` with none. So an application learns
    /// that nothing lies on a connection. From `fill` all of that happens in the same step. Where TLS holds
    /// a part of a record, what comes next can't be distinguished from it: the connection is closed as
    /// [`Closed::Unsolicited`](super::Closed::Unsolicited).
    Probe,
    /// Nothing more is handled; the connection is closed once its output is out.
    Finish,
}

/// What the loop must know of a connection, instead of what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub framing: Framing,
    /// Whether answers leave as soon as the connection was served, or with all others at the turn's end.
    pub flush: FlushAt,
    /// Whether it is read while its output is full: for one whose input nothing answers.
    pub reads_when_full: bool,
    /// Whether the loop answers and closes it when it stops; otherwise the application does.
    pub drains_on_stop: bool,
    /// Whether it may be closed to make room for another one, if it was silent for long.
    pub evictable: bool,
    /// Time for the rest of a message that was begun.
    pub input_timeout: Duration,
    /// For lines: one that was begun and is followed by nothing for so long is handed out as
    /// [`Line::Unfinished`](super::Line::Unfinished).
    pub line_pause: Option<Duration>,
}

/// How a connection's input becomes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Lines of at most so many bytes, their ending not counted.
    Lines(usize),
    /// Bytes as they come; the session frames them.
    Bytes,
}

/// When output leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushAt {
    /// As soon as the connection was served, while its socket is in the cache.
    Served,
    /// With all others: one write for everything that the turn had for it.
    TurnEnd,
}

impl Policy {
    /// For a client that sends lines and gets answers. Write `Policy { .., ..Policy::lines(limit) }` for
    /// another one.
    pub const fn lines(limit: usize) -> Policy {
        Policy {
            framing: Framing::Lines(limit),
            flush: FlushAt::Served,
            reads_when_full: false,
            drains_on_stop: true,
            evictable: true,
            input_timeout: Duration::from_secs(60),
            line_pause: None,
        }
    }

    /// The same, by bytes.
    pub const fn bytes() -> Policy {
        Policy { framing: Framing::Bytes, ..Policy::lines(0) }
    }
}
