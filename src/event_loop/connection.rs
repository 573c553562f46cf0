//! One connection: bytes in, lines out; bytes queued, bytes flushed. The same code for clients,
//! neighbours and links, whatever the transport: a TCP stream, TLS over one, a script in the tests.
//!
//! It knows what the kernel last said (`ready`) and what is to be done with the connection
//! (`life`), and never mixes them up: only the kernel's word clears a ready flag.
//!
//! ```text
//!   fill --> input --> next_line            queue --> output --> flush
//!   Open --finish--> Flushing --all is out--> Lingering --end, or long enough--> Dead
//! ```

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::buffers::Buffers;
use super::transport::Transport;
use crate::application::{Line, LineBuffer};
use crate::limits::LINGER_BYTES;

/// How far a connection's life has come. It goes one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// A dial is under way; the socket can't be used yet.
    Connecting,
    /// Lines are handled.
    Open,
    /// No further line is handled; what is queued goes out.
    Flushing,
    /// All is out and we have shut down writing. What still comes is read and dropped, because
    /// closing with unread input would send a reset that could overtake our last answer.
    Lingering,
    /// Nothing more happens; the slot is given back at the end of the turn.
    Dead,
}

/// What the kernel said last, kept until it says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// The other side is done, or something is wrong: the end must be read, so a short read is
    /// no reason to wait for another edge. There will be none.
    pub read_closed: bool,
    /// The other side has sent urgent data (TCP's out-of-band byte): reads end early at its mark, so
    /// on this connection a short read says nothing any more.
    pub has_urgent: bool,
}

/// A connection and its buffers.
#[derive(Debug)]
pub struct Connection<T> {
    pub transport: T,
    pub peer: SocketAddr,
    pub life: Life,
    pub ready: Ready,
    /// On the list of those that are served next.
    pub is_queued: bool,
    /// On the list of those that are flushed next.
    pub is_dirty: bool,
    /// When it last said something.
    pub heard_at: Duration,
    /// The server stops, and this connection waits for no answer: it is closed without lingering.
    pub is_owed_nothing: bool,
    /// What the loop's count of buffered bytes holds for it.
    pub counted: usize,
    input: LineBuffer,
    output: Vec<u8>,
    sent: usize,
    dropped: usize,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The other side will send no more.
    End,
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Bytes that the kernel took.
    pub taken: usize,
    /// Bytes that it did not.
    pub left: usize,
}

impl<T: Transport> Connection<T> {
    /// A connection that is open, or still connecting. Its kernel buffer is empty, so it counts
    /// as writable.
    pub fn new(transport: T, peer: SocketAddr, life: Life, now: Duration) -> Connection<T> {
        Connection {
            transport,
            peer,
            life,
            ready: Ready { writable: true, ..Ready::default() },
            is_queued: false,
            is_dirty: false,
            heard_at: now,
            is_owed_nothing: false,
            counted: 0,
            input: LineBuffer::default(),
            output: Vec::new(),
            sent: 0,
            dropped: 0,
        }
    }

    /// Reads once, as much as `scratch` holds. An error means that the connection is broken.
    pub fn read(&mut self, scratch: &mut [u8]) -> io::Result<Fill> {
        match self.transport.read(scratch) {
            Ok(0) => {
                self.ready.readable = false;
                self.input.end();
                Ok(Fill::End)
            }
            Ok(count) => {
                self.note_short_read(count < scratch.len());
                self.is_owed_nothing = false;
                Ok(Fill::Bytes(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.readable = false;
                Ok(Fill::Nothing)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Fill::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Reads once, and keeps what came for [`Connection::next_line`].
    pub fn fill(&mut self, scratch: &mut [u8], buffers: &mut Buffers) -> io::Result<Fill> {
        let fill = self.read(scratch)?;
        if let Fill::Bytes(count) = fill {
            if self.input.wants_memory() {
                self.input.lend(buffers.lend());
            }
            self.input.push(&scratch[..count]);
        }
        Ok(fill)
    }

    fn note_short_read(&mut self, is_short: bool) {
        let means_blocked = !self.ready.read_closed && !self.ready.has_urgent;
        if is_short && means_blocked && self.transport.short_means_blocked() {
            self.ready.readable = false;
        }
    }

    /// The next line, and the output that its answer is to be appended to.
    pub fn next_line(
        &mut self,
        limit: usize,
        buffers: &mut Buffers,
    ) -> Option<(Line<'_>, &mut Vec<u8>)> {
        let line = self.input.next_line(limit)?;
        if self.output.capacity() == 0 {
            self.output = buffers.lend();
        }
        Some((line, &mut self.output))
    }

    /// The output, for bytes that are no answer to a line.
    pub fn queue(&mut self, buffers: &mut Buffers) -> &mut Vec<u8> {
        if self.output.capacity() == 0 {
            self.output = buffers.lend();
        }
        &mut self.output
    }

    /// Bytes in front of the output that are sent already: positions in it count them.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Bytes that wait to be sent, here and in the transport.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent + self.transport.unsent()
    }

    /// Memory that its buffers hold, here and in the transport, used or not.
    pub fn buffered(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.transport.held()
    }

    /// Gives all memory of its buffers up, with what is in them: nothing more is handled or sent.
    pub fn discard(&mut self) {
        self.input = LineBuffer::default();
        self.input.close();
        self.output = Vec::new();
        self.sent = 0;
    }

    /// Writes once, as much as the kernel takes. An error means that the connection is broken.
    pub fn flush(&mut self) -> io::Result<Flush> {
        let wanted = self.unsent();
        if wanted == 0 || !self.ready.writable {
            return Ok(Flush { taken: 0, left: wanted });
        }
        let pending = self.output.len() - self.sent;
        let moved = match pending {
            0 => self.transport.flush().map(|()| 0),
            _ => self.transport.write(&self.output[self.sent..]),
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
        self.sent += taken;
        let is_short = 0 < taken && taken < pending && self.transport.short_means_blocked();
        // What the transport still holds, the kernel has refused.
        if is_short || self.transport.unsent() > 0 {
            self.ready.writable = false;
        }
        // Moving what is left to the front costs as much as what is left, so only once the
        // larger part is sent.
        if self.sent > self.output.len() / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        let left = self.unsent();
        Ok(Flush { taken: wanted.saturating_sub(left), left })
    }

    /// Gives memory back that has nothing in it: an idle connection holds none.
    pub fn reclaim(&mut self, buffers: &mut Buffers) {
        if let Some(memory) = self.input.reclaim() {
            buffers.reclaim(memory);
        }
        if self.output.len() == self.sent && self.output.capacity() > 0 {
            self.sent = 0;
            buffers.reclaim(std::mem::take(&mut self.output));
        }
    }

    /// Whether a line was begun and not finished, as far as it was read.
    pub fn has_begun_line(&self) -> bool {
        self.input.has_begun_line()
    }

    /// A pause has ended the line that was begun ([`LineBuffer::end_line`]).
    pub fn end_line(&mut self) {
        self.input.end_line();
    }

    /// Whether the other side's last line was handed out.
    pub fn is_read_to_its_end(&self) -> bool {
        self.input.is_done()
    }

    /// Whether the other side has said that it will send no more.
    pub fn has_ended(&self) -> bool {
        self.input.has_ended()
    }

    /// No further line is handled: what is queued goes out, and then the connection is closed.
    pub fn finish(&mut self) {
        if self.life < Life::Flushing {
            self.life = Life::Flushing;
            self.input.close();
        }
    }

    /// The next step of a connection that is being closed, once all is out: tell the other side,
    /// and linger unless it has nothing more to say.
    pub fn shut_down(&mut self) {
        let told = self.transport.shut_down_writing();
        if matches!(&told, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.ready.writable = false; // Its last word waits like any other byte.
            return;
        }
        let over = told.is_err() || self.has_ended() || self.is_owed_nothing;
        self.life = if over { Life::Dead } else { Life::Lingering };
    }

    /// Reads and drops what comes to a connection that lingers.
    pub fn drop_input(&mut self, scratch: &mut [u8]) {
        match self.transport.read(scratch) {
            Ok(count) if count > 0 && self.dropped < LINGER_BYTES => {
                self.dropped += count;
                self.note_short_read(count < scratch.len());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => self.life = Life::Dead,
        }
    }
}
