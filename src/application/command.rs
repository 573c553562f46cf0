//! What an application asks of the loop, and how the loop reports the results.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{ConnectionId, LoopId, Origin, Ticket, TlsId, TlsInfo};

/// What the application wants the loop to do.
#[derive(Debug)]
pub enum Command<M> {
    /// Connect. `handle_open` or `handle_dial` reports how it went.
    Dial(Dial),
    /// Forget a dial, however far it has come, its TLS handshake included.
    Cancel(Ticket),
    /// Look a `host:port` up without dialling it. `handle_dial` reports [`DialEvent::Resolved`] or
    /// [`DialEvent::Failed`] for this ticket, which must not be that of a dial.
    Resolve { ticket: Ticket, name: String },
    /// Call [`Application::fill`](super::Application::fill) for this connection when it has room. Repeated
    /// requests lead to one call.
    Fill(ConnectionId),
    /// Handle no more of its input; close it once its output is sent.
    Finish(ConnectionId),
    /// Handle and answer what it has sent so far, also what it waits for, and then close it, as in a drain
    /// ([`Closed::Drained`]).
    Leave(ConnectionId),
    /// Close it at once.
    Close(ConnectionId),
    /// Run a job on a thread of its own; its result arrives as a message.
    Run(Job<M>),
    /// Call [`Application::handle_inspect`](super::Application::handle_inspect) with all connections of this
    /// loop, once the closed ones are reported.
    Inspect(Ticket),
    /// Stop the loop gracefully, as a signal would.
    Stop,
}

/// Work that would block the loop.
pub struct Job<M> {
    /// The name of its thread.
    pub name: &'static str,
    pub run: Box<dyn FnOnce() -> M + Send>,
    /// Makes the message if `run` panicked or no thread could be started; the argument is the reason.
    pub failed: Box<dyn FnOnce(String) -> M + Send>,
}

impl<M> fmt::Debug for Job<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A connection to make. The loop tries several addresses one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// A dial in progress with the same ticket is cancelled.
    pub ticket: Ticket,
    pub to: Target,
    pub tls: Option<TlsId>,
    /// How long connecting and the TLS handshake may take for an address that is not the last one.
    pub attempt_timeout: Duration,
    /// The same for the last or only address; also for the look-up.
    pub timeout: Duration,
    /// The address to dial from; its port is ignored. The kernel chooses if it is a wildcard, of another
    /// address family, or a loopback address while the target is another host.
    pub from: Option<SocketAddr>,
    pub start: Start,
    pub freshness: Freshness,
}

impl Dial {
    /// Plain bytes, from any address, in the order of the addresses. Write `Dial { .., ..Dial::new(ticket, to) }`.
    pub const fn new(ticket: Ticket, to: Target) -> Dial {
        Dial {
            ticket,
            to,
            tls: None,
            attempt_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            from: None,
            start: Start::Best,
            freshness: Freshness::Cached,
        }
    }
}

/// Which of a name's addresses is tried first; the others follow in their order, cyclically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The one that worked last; those that failed last come last.
    Best,
    /// This one. If the name no longer has it, it counts as `Best`.
    At(SocketAddr),
    /// The one after this; this one is tried last: it has failed in a way that only the application knows.
    Behind(SocketAddr),
}

/// How old the result of an earlier look-up may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As old as the loop's cache keeps it.
    Cached,
    /// The name is looked up again; if that takes longer than this, the earlier result is used.
    Ask(Duration),
}

/// What is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Address(SocketAddr),
    /// `host:port`, looked up on a thread. An address in text form needs no look-up.
    Name(String),
    /// Another loop of this process, by a pair of sockets.
    Loop(LoopId),
}

/// The progress of a dial or a look-up.
#[derive(Debug)]
pub enum DialEvent<'a> {
    /// The name has these addresses, in the order in which they are tried.
    Resolved(&'a [SocketAddr]),
    Connecting(SocketAddr),
    /// Connected; the TLS handshake begins.
    Handshaking(SocketAddr),
    /// The TLS handshake with this address failed, at this. [`DialEvent::AttemptFailed`] or [`DialEvent::Failed`]
    /// follows, with the reason in words.
    HandshakeFailed(SocketAddr, HandshakeFailure),
    /// This address failed, for this reason. The next one follows, if there is one.
    AttemptFailed(SocketAddr, &'a str),
    /// All addresses failed. The text names the addresses that were tried, and why they failed.
    Failed(String),
}

/// Why a connection was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// The listener's limit is reached, and no connection was idle for long enough; or this one was not open yet, and
    /// made room for one of another address.
    Limit(SocketAddr),
    /// Its group of addresses has as many connections as the listener allows one group.
    Group(SocketAddr),
    /// Its TLS handshake failed, in words for an operator.
    Handshake(SocketAddr, HandshakeFailure, String),
    /// The kernel lacks descriptors or memory. The loop tries again.
    Kernel(io::Error),
}

/// What a TLS handshake failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It took too long, or not even its first byte came in time.
    Timeout,
    /// The other side ended it by an alert.
    Alert,
    /// The other side's certificate is missing or not trusted.
    Certificate,
    /// What came is not TLS, or nothing in common was offered.
    Protocol,
    /// The connection was closed or broke, or the loop stopped.
    Closed,
}

/// What the operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    ReopenLog,
    /// The loop begins to drain: it goes on as before for a time, then closes its clients evenly, and stops.
    Drain,
    /// Read the configuration again. A supervisor sends its text along, by the lifeline.
    Reload(Option<Vec<u8>>),
}

/// A connection that is closed.
#[derive(Clone, Copy, Debug)]
pub struct ClosedConnection<'a> {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    pub origin: Origin,
    pub why: &'a Closed,
}

/// A connection as [`Application::handle_inspect`](super::Application::handle_inspect) sees it.
#[derive(Debug)]
pub struct Inspected<'a, S> {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    pub origin: Origin,
    /// None before the connection is open.
    pub session: Option<&'a S>,
    /// The bytes of its output that the kernel has not taken yet.
    pub unsent: usize,
    /// Since when it has sent nothing, as [`Now::elapsed`](crate::clock::Now::elapsed) counts.
    pub silent_since: Duration,
    /// What TLS has agreed on, once the handshake is complete.
    pub tls: Option<TlsInfo>,
    /// What it did since it was opened; None unless the loop counts it
    /// ([`LoopMetrics::observe`](super::LoopMetrics::observe)).
    pub activity: Option<Activity>,
    /// Whether it waits for the application ([`Next::Wait`](super::Next::Wait)), or for an answer that it is owed
    /// ([`Next::Owe`](super::Next::Owe)).
    pub waits: bool,
    /// Whether its output is so full that it is not read.
    pub is_full: bool,
}

/// A connection whose output became full, or is no longer
/// ([`Application::handle_full`](super::Application::handle_full)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullOutput {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    pub is_full: bool,
    /// The bytes of its output that the kernel has not taken yet.
    pub unsent: usize,
}

/// What a connection did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// When it was opened, as [`Now::elapsed`](crate::clock::Now::elapsed) counts.
    pub opened: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub lines: u64,
}

/// Why a connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Gracefully, by either side.
    Finished,
    /// By [`Command::Close`].
    Commanded,
    /// The kernel reported an error.
    Broken(String),
    /// TLS reported an error after the handshake: what arrived is damaged or ends too early, or the other side sent an
    /// alert. With TLS 1.3 that is also how a client learns that its certificate is refused.
    Tls(HandshakeFailure, String),
    /// The rest of a message did not arrive within [`Policy::input_timeout`](super::Policy::input_timeout).
    InputTimeout,
    /// The other side read none of its output for too long.
    WriteTimeout,
    /// It was idle for longest, and was closed to make room for another one.
    Evicted,
    /// The listener was full, and its group of addresses had the most connections.
    FairShare,
    /// All buffers together were full, and its own were the largest.
    OutOfMemory,
    /// It was closed by a drain, after it got the answers that it was owed.
    Drained,
    /// The security of its listener or of its dial has changed, and its certificate is no longer trusted, for this
    /// reason.
    Untrusted(String),
    /// A part of a TLS record had arrived when [`Next::Probe`](super::Next::Probe) asked: the rest would be
    /// taken for what is received next.
    Unsolicited,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Finished => f.write_str("closed"),
            Closed::Commanded => f.write_str("closed by the application"),
            Closed::Broken(reason) | Closed::Tls(_, reason) => f.write_str(reason),
            Closed::InputTimeout => f.write_str("a message was not completed in time"),
            Closed::WriteTimeout => f.write_str("write timed out"),
            Closed::Evicted => f.write_str("idle for longest, evicted"),
            Closed::FairShare => f.write_str("its addresses had the most connections, evicted"),
            Closed::OutOfMemory => f.write_str("memory limit reached"),
            Closed::Drained => f.write_str("drained"),
            Closed::Untrusted(reason) => f.write_str(reason),
            Closed::Unsolicited => f.write_str("a part of something came that nobody asked for"),
        }
    }
}
