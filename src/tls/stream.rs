//! TLS over a stream, for non-blocking sockets.
//!
//! rustls moves no bytes by itself. It is a state machine between two pairs of buffers, and the owner of the
//! socket moves the bytes in and out:
//!
//! ```text
//!      the owner           rustls::Connection             this file            below
//!                       +-----------------------+
//!   write(plain) -----> | writer()    write_tls | ----> records ----send----> socket
//!                       |     \         ^       |
//!                       |      handshake, alerts|
//!                       |     /         v       |
//!   read(plain) <------ | reader()     read_tls | <-------------------------- socket
//!                       |   process_new_packets |
//!                       +-----------------------+
//! ```
//!
//! - Reading: waiting plaintext goes first, because `read_tls` refuses while there is some. Otherwise take
//!   what the kernel has (up to 16 KiB per call), let rustls process it, and look again, until the kernel says
//!   `WouldBlock`: one pass per event would leave the rest unread, and no edge would announce it. After 32
//!   KiB without plaintext a read is `Interrupted`, so that the loop serves the other connections before the
//!   rest.
//! - rustls reads 4 KiB per call, and an answer of the Places service has 7 KB. So the kernel writes into the memory
//!   that is to receive the plaintext, and rustls copies from there: one call for each 16 KiB.
//! - The directions depend on each other: input can cause output (a handshake's next flight, an alert, a key
//!   update). So [`TlsStream::unsent`] counts what rustls wants to write, and the loop flushes a connection
//!   after it has served it, whether or not there is an answer.
//! - An error in the input produces an alert. It is sent before the error is returned.
//! - The end of the stream is a clean end only after `close_notify`; without it somebody on the path may have
//!   cut the answer. `read` returns `Ok(0)` for the former and `UnexpectedEof` for the latter.
//!
//! `complete_io` and `rustls::Stream` would do all this in one call. They are for blocking sockets: on others
//! they spin or wait for the wrong direction.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{Connection, Error, HandshakeKind, ProtocolVersion};

use super::explain::{self, Other};
use super::records::{READ_BYTES, ReadBuffer, RecordBorders};
use crate::application::{HandshakeFailure, TlsVersion};

/// TLS over `S`, which must not block.
pub struct TlsStream<S> {
    stream: S,
    session: Connection,
    /// Records for the kernel; it has taken the bytes before `sent`.
    records: Vec<u8>,
    sent: usize,
    /// The error after which no input can be understood any more.
    failure: Option<Error>,
    is_failure_reported: bool,
    input_drained: bool,
    borders: RecordBorders,
    read_buffer: ReadBuffer,
    /// Bytes from and to the stream since they were last asked for.
    wire_in: usize,
    wire_out: usize,
    /// The name of the other side in messages.
    other: Arc<Other>,
}

/// A stream that remembers whether a read was short, and whether the bytes ended within a record: rustls does
/// not tell how much it asks for and keeps.
struct WatchedStream<'a, S> {
    stream: &'a mut S,
    was_short: bool,
    borders: &'a mut RecordBorders,
    count: &'a mut usize,
}

impl<S: Read> Read for WatchedStream<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(into)?;
        self.was_short = count < into.len();
        self.borders.pass(&into[..count]);
        *self.count += count;
        Ok(count)
    }
}

impl<S: Read + Write> TlsStream<S> {
    pub(super) fn new(stream: S, mut session: Connection, other: Arc<Other>) -> TlsStream<S> {
        session.set_buffer_limit(Some(UNSENT_BYTES));
        TlsStream {
            stream,
            session,
            records: Vec::new(),
            sent: 0,
            failure: None,
            is_failure_reported: false,
            input_drained: false,
            borders: RecordBorders::default(),
            read_buffer: ReadBuffer::default(),
            wire_in: 0,
            wire_out: 0,
            other,
        }
    }

    /// The stream below.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether the handshake is not complete yet.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Bytes to send; records that rustls has not made yet count as 1.
    pub fn unsent(&self) -> usize {
        self.records.len() - self.sent + usize::from(self.session.wants_write())
    }

    /// Memory that it holds: records to send, what was received, and the estimate for a session.
    pub fn held(&self) -> usize {
        let handshake = if self.is_handshaking() { HANDSHAKE_BYTES } else { 0 };
        self.records.capacity() + self.read_buffer.capacity() + SESSION_BYTES + handshake
    }

    /// Bytes received from the stream below since the last call.
    pub fn take_received(&mut self) -> usize {
        std::mem::take(&mut self.wire_in)
    }

    /// Bytes that the stream below took since the last call.
    pub fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.wire_out)
    }

    /// Sends `close_notify`, after which nothing more is sent. After `WouldBlock` it is not sent yet: call
    /// this again; it is sent only once. Then end the stream below, too.
    pub fn close(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.send()
    }

    /// The other side's certificate (DER), once TLS has asked for one and verified it.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = self.session.peer_certificates()?;
        chain.first().map(|certificate| certificate.as_ref())
    }

    /// The certificates that the other side has shown, its own first; empty without any, or before the handshake is
    /// complete. [`ServerTls::distrusts`](super::ServerTls::distrusts) judges them again.
    pub fn peer_chain(&self) -> &[CertificateDer<'static>] {
        self.session.peer_certificates().unwrap_or_default()
    }

    /// The version of TLS, once both sides have agreed on one.
    pub fn version(&self) -> Option<TlsVersion> {
        match self.session.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some(TlsVersion::V1_2),
            ProtocolVersion::TLSv1_3 => Some(TlsVersion::V1_3),
            _ => None,
        }
    }

    /// Whether an earlier session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What the handshake failed at.
    pub fn handshake_failure(&self, error: &io::Error) -> HandshakeFailure {
        explain::handshake_failure(error)
    }

    /// What a failed read or write means, in words for an operator.
    pub fn explain(&self, error: &io::Error) -> String {
        explain::explain(error, &self.other)
    }

    /// Whether nothing can be read before the kernel announces something new.
    pub fn input_drained(&self) -> bool {
        self.input_drained
    }

    /// Whether the last received record was whole, so that no part of one is held.
    pub fn is_between_records(&self) -> bool {
        self.borders.is_between()
    }

    /// Advances the handshake by what the stream below has, and leaves what may be behind it unread. Until the handshake is
    /// complete this is an error: `WouldBlock`, or as for a read; the end of the stream is `UnexpectedEof`.
    pub fn advance(&mut self) -> io::Result<()> {
        self.input_drained = false;
        for _ in 0..RECEIVES_PER_READ {
            if let Some(error) = &self.failure {
                self.is_failure_reported = true;
                return Err(io::Error::new(ErrorKind::InvalidData, error.clone()));
            }
            if !self.is_handshaking() {
                return Ok(());
            }
            // It has no plaintext yet, but perhaps the end.
            match self.session.reader().read(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
            }
            match self.receive() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => received?,
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Moves what the kernel has into rustls, once, as much as rustls asks for. `reader` returns the resulting
    /// plaintext.
    fn receive(&mut self) -> io::Result<()> {
        let (stream, borders, count) = (&mut self.stream, &mut self.borders, &mut self.wire_in);
        let mut watched = WatchedStream { stream, was_short: false, borders, count };
        self.read_buffer.prepare();
        // 0 means the end of the stream; rustls remembers it.
        let received = self.session.read_tls(&mut watched)?;
        self.input_drained = watched.was_short;
        self.process(received);
        Ok(())
    }

    /// The same by way of `spare`, if the kernel may give more at once so. Not in a handshake: what may be behind it
    /// stays in the kernel.
    fn receive_by_way_of(&mut self, spare: &mut [u8]) -> io::Result<()> {
        // With the record that has begun it is never more than rustls takes.
        let room = MOST_AT_ONCE.saturating_sub(self.borders.incomplete()).min(spare.len());
        if room <= READ_BYTES || self.is_handshaking() {
            return self.receive();
        }
        let count = self.stream.read(&mut spare[..room])?;
        self.wire_in += count;
        self.input_drained = count < room;
        let mut rest = &spare[..count];
        loop {
            self.read_buffer.prepare();
            let taken = self.session.read_tls(&mut &*rest)?; // 0: the end, or what is behind it.
            self.borders.pass(&rest[..taken]);
            self.process(taken);
            rest = &rest[taken..];
            if rest.is_empty() || taken == 0 || self.failure.is_some() {
                return Ok(());
            }
        }
    }

    /// Lets rustls process bytes that it has received.
    fn process(&mut self, received: usize) {
        self.read_buffer.add(received);
        match self.session.process_new_packets() {
            // `close_notify` may have arrived together with the last plaintext: then the end must be read
            // after it, and no event will announce that.
            Ok(state) => {
                self.input_drained &= !state.peer_has_closed();
                if state.plaintext_bytes_to_read() > 0 {
                    self.read_buffer.take(&self.borders);
                }
            }
            Err(error) => {
                self.failure = Some(error);
                self.input_drained = false;
                // The alert tells the other side the reason. If it can't be sent now, the next flush sends
                // it.
                let _ = self.send();
            }
        }
    }

    /// Writes until nothing is left or the kernel accepts no more.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.records)?;
        }
        while self.sent < self.records.len() {
            match self.stream.write(&self.records[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.sent += taken;
                    self.wire_out += taken;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Freed, not kept: most connections are idle most of the time.
        self.records = Vec::new();
        self.sent = 0;
        Ok(())
    }
}

impl<S: Read + Write> Read for TlsStream<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // About this read, not an earlier one: there may have been an edge since.
        self.input_drained = false;
        let before = self.wire_in;
        // Records without plaintext (tickets, key updates) may arrive without end.
        for _ in 0..RECEIVES_PER_READ {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {} // no plaintext yet
                plaintext_or_end => return plaintext_or_end,
            }
            match &self.failure {
                Some(error) if !self.is_failure_reported => {
                    self.is_failure_reported = true;
                    return Err(io::Error::new(ErrorKind::InvalidData, error.clone()));
                }
                // Further input is meaningless; the caller drops it until the other side closes.
                Some(_) => return self.stream.read(into),
                None if self.wire_in - before >= MOST_WITHOUT_PLAINTEXT => break,
                None => {}
            }
            match self.receive_by_way_of(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => received?,
            }
        }
        // Other connections have their turn now; there may be more here.
        Err(ErrorKind::Interrupted.into())
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?; // Older bytes go first.
        let mut taken = 0;
        while taken < bytes.len() {
            match self.session.writer().write(&bytes[taken..])? {
                // Full. That happens only before the handshake is complete, with more than any request needs:
                // afterwards the `send` below empties it.
                0 => break,
                more => taken += more,
            }
            match self.send() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                sent => sent?,
            }
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handshaking = self.session.is_handshaking();
        f.debug_struct("TlsStream").field("is_handshaking", &handshaking).finish_non_exhaustive()
    }
}

/// How much plaintext and how many bytes of records rustls may hold per connection. More waits in the
/// connection's own output.
const UNSENT_BYTES: usize = 64 * 1024;
/// How often one read may ask the kernel in search of plaintext: at 4 KiB each, enough for a handshake with many
/// certificates.
const RECEIVES_PER_READ: usize = 8;
/// How much one read may take from the kernel in search of plaintext.
const MOST_WITHOUT_PLAINTEXT: usize = RECEIVES_PER_READ * READ_BYTES;
/// How much the kernel may give at once. rustls keeps no more received plaintext than this.
const MOST_AT_ONCE: usize = 16 * 1024;
/// Estimated memory of a TLS session besides its buffers: keys, the other side's certificates, and the allocator's
/// overhead. A fixed number, because rustls does not tell: an idle session takes 7.7 KB, the 4 KiB of its
/// [`ReadBuffer`] included.
const SESSION_BYTES: usize = 6 * 1024;
/// The same for what only the handshake needs.
const HANDSHAKE_BYTES: usize = 6 * 1024;
