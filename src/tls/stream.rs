//! A stream with TLS over it, for sockets that do not block.
//!
//! rustls moves no bytes by itself. It is a machine between two pairs of buffers, and the owner of
//! the socket carries the bytes to and fro:
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
//! - Reading: plaintext that is there goes first, because `read_tls` refuses while some waits. Else
//!   take what the kernel has (some 4 KiB a call), let rustls process it, and look again, until the
//!   kernel says `WouldBlock`: one pass an event would leave the rest lying there, and no edge would
//!   announce it. After 32 KiB without plaintext a read is `Interrupted`, so that the loop comes back for
//!   the rest after the others.
//! - Both directions stir each other: what comes in can make something to be sent (a handshake's next
//!   flight, an alert, a key update). So [`TlsStream::unsent`] counts what rustls wants to write, and
//!   the loop flushes a connection after it has served it, whether or not it has answered anything.
//! - An error in what came leaves an alert to be sent. It is sent; only then the error is returned.
//! - The end of the stream is a clean end only after `close_notify`; without it an answer may have
//!   been cut by anyone on the way. `read` answers `Ok(0)` to the one and `UnexpectedEof` to the other.
//!
//! `complete_io` and `rustls::Stream` would do all this in one call. They are for blocking sockets: on
//! others they spin, or wait for the wrong direction.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::{Connection, Error};

use super::explain::{self, Other};
use super::records::RecordBorders;

/// TLS over `S`, which must not block.
pub struct TlsStream<S> {
    stream: S,
    session: Connection,
    /// Records that the kernel has not taken, from `sent` on.
    records: Vec<u8>,
    sent: usize,
    /// Why nothing that comes can be understood any more.
    failure: Option<Error>,
    is_failure_told: bool,
    input_drained: bool,
    borders: RecordBorders,
    /// The other side, as messages name it.
    other: Arc<Other>,
}

/// A stream that remembers whether it brought less than it could, and whether it ended within a record:
/// how much rustls asks for, and keeps, is its own affair.
struct WatchedStream<'a, S> {
    stream: &'a mut S,
    was_short: bool,
    borders: &'a mut RecordBorders,
}

impl<S: Read> Read for WatchedStream<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(into)?;
        self.was_short = count < into.len();
        self.borders.pass(&into[..count]);
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
            is_failure_told: false,
            input_drained: false,
            borders: RecordBorders::default(),
            other,
        }
    }

    /// What is below.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether the two sides have not agreed on keys yet.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Bytes that are to be sent; 1 for records that rustls has not made yet.
    pub fn unsent(&self) -> usize {
        self.records.len() - self.sent + usize::from(self.session.wants_write())
    }

    /// Memory that it holds: the records that we know of, and what a session takes.
    pub fn held(&self) -> usize {
        self.records.capacity() + TLS_SESSION_BYTES
    }

    /// Sends `close_notify`: nothing more is sent after it. `WouldBlock`: it is not out yet; call it again,
    /// and it goes out once. The stream below is then to be ended, too.
    pub fn close(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.send()
    }

    /// The other side's certificate (DER), once it was asked for one and that was checked.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = self.session.peer_certificates()?;
        chain.first().map(|certificate| certificate.as_ref())
    }

    /// What a failed read or write means, in words for an operator.
    pub fn explain(&self, error: &io::Error) -> String {
        explain::explain(error, &self.other)
    }

    /// Whether nothing can be read before the kernel announces something new.
    pub fn input_drained(&self) -> bool {
        self.input_drained
    }

    /// Whether the last record that came was whole, so that no part of one is held.
    pub fn is_between_records(&self) -> bool {
        self.borders.is_between()
    }

    /// Takes what the kernel has into rustls, once. Whatever comes of it is found by `reader`.
    fn receive(&mut self) -> io::Result<()> {
        let (stream, borders) = (&mut self.stream, &mut self.borders);
        let mut watched = WatchedStream { stream, was_short: false, borders };
        // 0 is the end of the stream; rustls remembers that.
        self.session.read_tls(&mut watched)?;
        self.input_drained = watched.was_short;
        match self.session.process_new_packets() {
            // Its `close_notify` may have come together with the last plaintext: then an end is to be
            // read behind that, which no event will announce.
            Ok(state) => self.input_drained &= !state.peer_has_closed(),
            Err(error) => {
                self.failure = Some(error);
                self.input_drained = false;
                // The alert that gives the other side the reason. If it can't go out now, the flush takes it.
                let _ = self.send();
            }
        }
        Ok(())
    }

    /// Writes until nothing is left or the kernel takes no more.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.records)?;
        }
        while self.sent < self.records.len() {
            match self.stream.write(&self.records[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.sent += taken,
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
        // Of this read, not of one before: an edge may have come since.
        self.input_drained = false;
        // Records without plaintext (tickets, key updates) may come without end.
        for _ in 0..RECEIVES_PER_READ {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {} // no plaintext yet
                plaintext_or_end => return plaintext_or_end,
            }
            match &self.failure {
                Some(error) if !self.is_failure_told => {
                    self.is_failure_told = true;
                    return Err(io::Error::new(ErrorKind::InvalidData, error.clone()));
                }
                // What still comes is no more than noise, to be dropped until the other side closes.
                Some(_) => return self.stream.read(into),
                None => {}
            }
            match self.receive() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => received?,
            }
        }
        // The turn of other connections; there may be more.
        Err(ErrorKind::Interrupted.into())
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send()?; // What was taken before goes first.
        let mut taken = 0;
        while taken < bytes.len() {
            match self.session.writer().write(&bytes[taken..])? {
                // Full. It can only be before the handshake is done, by more than any request has:
                // after it, `send` below has emptied it.
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

/// Plaintext and records that rustls holds for a connection, each. More waits in the connection's own
/// output.
const UNSENT_BYTES: usize = 64 * 1024;
/// Times that one read takes from the kernel, 4 KiB each, in search of plaintext: enough for
/// a handshake with many certificates.
const RECEIVES_PER_READ: usize = 8;
/// Memory of a TLS session, about: keys, rustls's buffers for one record each way, and what the allocator
/// adds. A fixed share for each, because rustls does not say.
const TLS_SESSION_BYTES: usize = 24 * 1024;
