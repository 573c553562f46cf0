//! One connection: bytes in, lines out; bytes queued, bytes flushed. The same code for every kind of
//! connection, whatever the transport: a TCP stream, TLS over one, a script in the tests.
//!
//! It keeps what the kernel last said (`ready`) and its own state (`state`) strictly apart: only the kernel's
//! answer clears a readiness bit. It never calls the application; its slot does that.
//!
//! ```text
//!   receive --> input --> next_line         output() --> output --> flush
//!   Connecting -> Handshaking -> Open --finish--> Flushing --all is out--> Lingering --> Closed
//! ```
//!
//! Some functions on the path of every request are marked `#[inline]`, here and in the files nearby: a
//! program with two applications calls them from two loops, and by itself the compiler inlines only functions
//! with a single caller. This saves about 3 % of a request's instructions.

mod closing;
mod owed;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

pub use owed::Awaits;

use super::buffers::Buffers;
use super::counting::UNCOUNTED;
use super::groups::GroupNumber;
use super::limits::TICK_BITS;
use super::state::{
    ConnectionState, Flush, OriginKind, Owed, PeerAddress, Readiness, Received, pack, unpack,
};
use super::transport::Transport;
use crate::application::{Class, Closed, ConnectionId, Line, LineBuffer, Origin};
use crate::clock::nanoseconds;

/// A connection and its buffers.
#[derive(Debug)]
pub struct Connection<T> {
    pub id: ConnectionId,
    pub transport: T,
    peer: PeerAddress,
    origin_number: u64,
    origin_kind: OriginKind,
    pub state: ConnectionState,
    pub ready: Readiness,
    /// Why it is being closed; the first reason stays. Boxed, because most never have one.
    pub why: Option<Box<Closed>>,
    /// The number of its policy in the loop's list.
    pub policy: u32,
    /// As its policy says, once it is open.
    pub class: Class,
    /// Its output was full, and more than half of it is still not sent.
    pub is_full: bool,
    /// On the list of connections to serve next.
    pub read_pending: bool,
    /// On the list of connections to flush next.
    pub write_pending: bool,
    /// On the list of connections to fill next.
    pub fill_pending: bool,
    /// `fill` was requested and has not been called yet.
    pub wants_fill: bool,
    /// What the application must do for it.
    pub awaits: Awaits,
    /// The loop stops or releases it: it is finished once nothing is left to read and handle.
    pub is_leaving: bool,
    /// It is leaving and is owed no answer: it is closed without lingering.
    pub is_owed_nothing: bool,
    /// The loop does not stop before it is closed.
    pub drains: bool,
    /// The application knows of it: its opening was reported, or its failure.
    pub is_reported: bool,
    pub owed: Owed,
    /// The application knows that the other side sends no more.
    pub end_is_reported: bool,
    /// Our side ends once the output is sent.
    pub output_ends: bool,
    /// When bytes last arrived, in nanoseconds: a `Duration` is twice as large.
    last_read: u64,
    /// Its part of the loop's sum of held memory ([`Connection::account`]).
    accounted: u32,
    /// The group of addresses that it counts for.
    pub group: GroupNumber,
    input: LineBuffer,
    output: Vec<u8>,
    sent: u32,
    dropped: u32,
}

/// Bytes at the front of an output that are sent already and kept all the same, at most.
const MOST_SENT: usize = 1 << 30;

type NextLine<'a> = (Line<'a>, &'a mut Vec<u8>, SocketAddr);

impl<T: Transport> Connection<T> {
    /// A connection in its first state. Its kernel buffer is empty, so it counts as writable.
    pub fn new(
        id: ConnectionId,
        transport: T,
        peer: SocketAddr,
        origin: Origin,
        state: ConnectionState,
        now: Duration,
    ) -> Connection<T> {
        let (origin_kind, origin_number) = pack(origin);
        Connection {
            id,
            transport,
            peer: peer.into(),
            origin_number,
            origin_kind,
            state,
            ready: Readiness { writable: true, ..Readiness::default() },
            why: None,
            policy: 0,
            class: UNCOUNTED,
            is_full: false,
            read_pending: false,
            write_pending: false,
            fill_pending: false,
            wants_fill: false,
            awaits: Awaits::Nothing,
            is_leaving: false,
            is_owed_nothing: false,
            drains: false,
            is_reported: false,
            owed: Owed::Nothing,
            end_is_reported: false,
            output_ends: false,
            last_read: nanoseconds(now),
            accounted: 0,
            group: GroupNumber::NONE,
            input: LineBuffer::default(),
            output: Vec::new(),
            sent: 0,
            dropped: 0,
        }
    }

    pub fn origin(&self) -> Origin {
        unpack(self.origin_kind, self.origin_number)
    }

    /// The other side's address.
    #[inline]
    pub fn peer(&self) -> SocketAddr {
        self.peer.unpack()
    }

    /// Sets its part of the loop's sum of held memory. Returns the former one and the new one, which is at most 4 GiB.
    #[inline]
    pub fn account(&mut self, held: usize) -> (usize, usize) {
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        (std::mem::replace(&mut self.accounted, held) as usize, held as usize)
    }

    /// Its part of the loop's sum of held memory.
    pub fn accounted(&self) -> usize {
        self.accounted as usize
    }

    /// When bytes last arrived, as [`Now::elapsed`](crate::clock::Now::elapsed) counts.
    pub fn last_read(&self) -> Duration {
        Duration::from_nanos(self.last_read)
    }

    /// Notes that bytes arrived. Returns whether they are the first ones in this tick (`TICK_BITS`).
    #[inline]
    pub fn note_read(&mut self, now: Duration) -> bool {
        let now = nanoseconds(now);
        let before = std::mem::replace(&mut self.last_read, now);
        (before ^ now) >> TICK_BITS != 0
    }

    /// Reads once, as much as `scratch` holds. An error means that the connection is broken.
    #[inline]
    pub fn read(&mut self, scratch: &mut [u8]) -> io::Result<Received> {
        match self.transport.read(scratch) {
            Ok(0) => {
                self.ready.readable = false;
                self.input.end();
                Ok(Received::End)
            }
            Ok(count) => {
                self.note_short_read(count < scratch.len());
                self.is_owed_nothing = false;
                Ok(Received::Bytes(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.readable = false;
                Ok(Received::Nothing)
            }
            // Not tried again here: TLS returns it when other connections must have their turn.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Reads once, and keeps the bytes for [`Connection::next_line`].
    #[inline]
    pub fn receive(&mut self, scratch: &mut [u8], buffers: &mut Buffers) -> io::Result<Received> {
        let received = self.read(scratch)?;
        if let Received::Bytes(count) = received {
            self.keep(&scratch[..count], buffers);
        }
        Ok(received)
    }

    /// Keeps bytes that were read for [`Connection::next_line`].
    #[inline]
    pub fn keep(&mut self, bytes: &[u8], buffers: &mut Buffers) {
        if self.input.wants_memory() {
            self.input.lend(buffers.lend());
        }
        self.input.push(bytes);
    }

    fn note_short_read(&mut self, is_short: bool) {
        let means_blocked = !self.ready.read_closed && !self.ready.has_urgent;
        if is_short && means_blocked && self.transport.short_means_blocked() {
            self.ready.readable = false;
        }
    }

    /// The next line, the output to append its answer to, and the other side's address.
    #[inline(always)] // Like `LineBuffer::next_line`.
    pub fn next_line(&mut self, limit: usize, buffers: &mut Buffers) -> Option<NextLine<'_>> {
        if self.input.is_empty() {
            return None; // Happens twice per request: before its read and after its line.
        }
        let line = self.input.next_line(limit)?;
        if self.output.capacity() == 0 {
            self.output = buffers.lend();
        }
        Some((line, &mut self.output, self.peer.unpack()))
    }

    /// The output, for bytes that do not answer a line.
    pub fn output(&mut self, buffers: &mut Buffers) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = buffers.lend();
        }
        &mut self.output
    }

    /// Bytes at the front of the output that are sent already: positions in the output count them.
    #[inline]
    pub fn sent(&self) -> usize {
        self.sent as usize
    }

    /// The length of the output, sent bytes included.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Bytes that wait to be sent, here and in the transport.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent() + self.transport.unsent()
    }

    /// Memory that its buffers hold, here and in the transport, used or not.
    pub fn buffered(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.transport.held()
    }

    /// Drops all its buffers, with their contents: nothing more is handled or sent.
    pub fn discard(&mut self) {
        self.input = LineBuffer::default();
        self.input.close();
        self.output = Vec::new();
        self.sent = 0;
    }

    /// Writes once, as much as the kernel takes. An error means that the connection is broken.
    #[inline(always)]
    pub fn flush(&mut self) -> io::Result<Flush> {
        let wanted = self.unsent();
        if wanted == 0 || !self.ready.writable {
            return Ok(Flush { wanted, taken: 0, left: wanted });
        }
        let pending = self.output.len() - self.sent();
        let moved = match pending {
            0 => self.transport.flush().map(|()| 0),
            _ => self.transport.write(&self.output[self.sent()..]),
        };
        let taken = match moved {
            Ok(0) if pending > 0 => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.writable = false;
                0
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        let sent = self.sent() + taken;
        let is_short = 0 < taken && taken < pending && self.transport.short_means_blocked();
        // If the transport still holds bytes, the kernel has refused them.
        if is_short || self.transport.unsent() > 0 {
            self.ready.writable = false;
        }
        // To move the rest costs in proportion to its size, so it is done once more than half is sent, or 1 GiB. The kernel
        // takes less than 2 GiB at once, so the position fits.
        self.sent = 0;
        if sent == self.output.len() {
            self.output.clear();
        } else if sent > self.output.len() / 2 || sent > MOST_SENT {
            self.output.drain(..sent);
        } else {
            self.sent = sent as u32;
        }
        let left = self.unsent();
        Ok(Flush { wanted, taken: wanted.saturating_sub(left), left })
    }

    /// Gives empty buffers back: an idle connection holds none.
    #[inline]
    pub fn reclaim(&mut self, buffers: &mut Buffers) {
        if let Some(memory) = self.input.reclaim() {
            buffers.reclaim(memory);
        }
        if self.output.len() == self.sent() && self.output.capacity() > 0 {
            self.sent = 0;
            buffers.reclaim(std::mem::take(&mut self.output));
        }
    }

    /// Whether a line has begun and not ended, in what was read so far.
    pub fn has_incomplete_line(&self) -> bool {
        self.input.has_incomplete_line()
    }

    /// How many bytes wait for the end of their line.
    pub fn incomplete_bytes(&self) -> usize {
        if self.has_incomplete_line() { self.input.len() } else { 0 }
    }

    /// Whether neither a whole line nor bytes that were not looked at yet wait to be handled.
    pub fn has_no_line(&self) -> bool {
        self.input.is_empty() || self.input.has_incomplete_line()
    }

    /// A pause has ended the incomplete line ([`LineBuffer::end_line`]).
    pub fn end_line(&mut self) {
        self.input.end_line();
    }

    /// Whether the other side's last line was returned.
    pub fn is_read_to_its_end(&self) -> bool {
        self.input.is_done()
    }

    /// Whether the other side has ended its sending.
    pub fn has_ended(&self) -> bool {
        self.input.has_ended()
    }
}
