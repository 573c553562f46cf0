//! What the loop lends to the application in a call about one connection, and what the application returns.

use std::net::SocketAddr;
use std::time::Duration;

use super::{ConnectionId, ListenerId, LoopId, Ticket, TlsId};
use crate::clock::Now;

/// A connection that is open.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    pub origin: Origin,
    /// The other side's certificate (DER), if TLS asked for one and verified it.
    pub certificate: Option<&'a [u8]>,
    /// What TLS has agreed on; None for plain bytes. On a listener that takes both it is the application that decides
    /// whether plain bytes are welcome.
    pub tls: Option<TlsInfo>,
}

/// What a TLS handshake has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    pub version: TlsVersion,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// How long the handshake took: from its first byte, or for a dial from the connection, to its end.
    pub took: Duration,
}

/// A version of TLS (RFC 5246, RFC 8446).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

impl TlsVersion {
    /// "1.2" or "1.3".
    pub const fn number(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }
}

impl Opened<'_> {
    /// Plain bytes, from an unknown peer: for tests and simulators.
    pub const fn plain(origin: Origin) -> Opened<'static> {
        Opened { origin, certificate: None, tls: None }
    }
}

/// Where a connection comes from. This decides what the application expects of it, never what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Accepted(ListenerId),
    Dialled(Ticket),
    /// One end of a pair of sockets; the given loop has asked for it and holds the other end.
    Loop(LoopId),
}

/// What a handler may use of the one connection that it handles.
pub struct Io<'a> {
    pub id: ConnectionId,
    /// The address at the other end.
    pub peer: SocketAddr,
    pub now: Now,
    /// The connection's own output, not a copy: append-only. It may hold bytes already.
    pub out: &'a mut Vec<u8>,
    /// [`Io::has_room`] until the output is this long.
    pub(crate) full: usize,
    /// [`Io::end_output`] was called.
    pub(crate) output_ends: bool,
    /// The work of the line itself, and what [`Io::spend`] reported.
    pub(crate) effort: u32,
}

impl<'a> Io<'a> {
    /// For tests and simulators, which lend their own buffer with room for `room` bytes.
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

    /// Ends our side once the output is sent; the loop continues to read the other side.
    pub fn end_output(&mut self) {
        self.output_ends = true;
    }

    /// Reports work beyond that of handling a plain line, in units of half a microsecond. The loop uses
    /// it to divide a turn fairly.
    pub fn spend(&mut self, effort: u32) {
        self.effort = self.effort.saturating_add(effort);
    }
}

/// How a connection continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    /// Reads and handles what arrives next.
    Read,
    /// The same, but a message is incomplete: its rest must arrive within [`Policy::input_timeout`]. For
    /// bytes; in lines the loop itself knows.
    Rest,
    /// There is more to do than one turn may take: the loop repeats the call in the next turn (`fill`: once
    /// there is room). For bytes and for `fill`; with lines it means `Read`.
    Again,
    /// For bytes: the loop asks the kernel and TLS once more. What they have is passed on as bytes or as the
    /// end; if they have nothing, the next call is `handle_bytes` with an empty slice. So an application
    /// learns that a connection has no unread input. If `fill` returns this, all of that happens in the same
    /// step. If TLS holds a part of a record, later input can't be distinguished from its rest: the
    /// connection is closed as [`Closed::Unsolicited`](super::Closed::Unsolicited).
    Probe,
    /// For bytes: what goes in the clear is said, and TLS begins, with us as the client, as the [`TlsId`] says. First the
    /// output is sent; then the handshake has the loop's `handshake_timeout`; then `handle_bytes` is called with an empty
    /// slice, and what that appends goes out through TLS. Meanwhile nothing is called for this connection but
    /// [`Application::handle_closed`](super::Application::handle_closed), which also tells of a failure
    /// ([`Closed::Tls`](super::Closed::Tls)). Bytes that arrive in the clear before TLS begins break the connection; those
    /// behind the last words in the same call are the application's to refuse. With lines it means `Read`.
    StartTls(TlsId),
    /// Reads and handles what arrives next, but an answer to earlier input comes later: until `fill` returns something
    /// else, the connection is not taken for done. In a stop, in a drain and after
    /// [`Command::Leave`](super::Command::Leave) it is not closed; the end of its input is reported only then; and others
    /// make room for a new connection first. A call that returns `Read` meanwhile changes nothing of that. What ends this
    /// is up to the application; a stop waits no longer than its grace time.
    Owe,
    /// Nothing is read or handled until `fill` returns something else. Only the application can end this, so
    /// each reason to wait needs a deadline in
    /// [`Application::poll_timeout`](super::Application::poll_timeout). What is owed (`Owe`) is owed still.
    Wait,
    /// Nothing more is handled; the connection is closed once its output is sent.
    Finish,
}

/// How the loop treats a connection; it does not know what the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub framing: Framing,
    /// Whether answers are sent as soon as the connection was served, or with all others at the turn's end.
    pub flush: FlushAt,
    /// Whether it is read while its output is full: for connections whose input gets no answers.
    pub reads_when_full: bool,
    /// Whether the loop answers and closes it when it stops; otherwise the application does.
    pub drains_on_stop: bool,
    /// Whether it may be closed to make room for another one, if it was idle for long.
    pub evictable: bool,
    /// Under which number [`LoopMetrics`](super::LoopMetrics) counts it.
    pub class: Class,
    /// The time for the rest of an incomplete message.
    pub input_timeout: Duration,
    /// For lines: an incomplete one after which nothing arrives for this long is handled as
    /// [`Line::Unfinished`](super::Line::Unfinished).
    pub line_pause: Option<Duration>,
}

/// A kind of connection, numbered by the application, below [`CLASSES`](super::CLASSES).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class(pub u8);

/// How a connection's input becomes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Lines of at most this many bytes, without their ending, and of 1 GiB at most.
    Lines(usize),
    /// Bytes as they arrive; the session frames them.
    Bytes,
}

/// When output is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushAt {
    /// As soon as the connection was served, while its socket is in the cache.
    Served,
    /// With all others: one write for everything that the turn appended.
    TurnEnd,
}

impl Policy {
    /// For a client that sends lines and gets answers. For another policy write `Policy { ..,
    /// ..Policy::lines(limit) }`.
    pub const fn lines(limit: usize) -> Policy {
        Policy {
            framing: Framing::Lines(limit),
            flush: FlushAt::Served,
            reads_when_full: false,
            drains_on_stop: true,
            evictable: true,
            class: Class(0),
            input_timeout: Duration::from_secs(60),
            line_pause: None,
        }
    }

    /// The same, for bytes.
    pub const fn bytes() -> Policy {
        Policy { framing: Framing::Bytes, ..Policy::lines(0) }
    }
}
