//! TLS by hand: every call to rustls stands in this file, but for those that decide whom to trust, in
//! `tls/trust.rs`, and the words for what fails, in `tls/explain.rs`.
//!
//! rustls moves no bytes by itself. It is a machine between two pairs of buffers, and whoever holds
//! the socket carries the bytes to and fro:
//!
//! ```text
//!      the loop            rustls::Connection             this file            the kernel
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
//!   tell of it. After 32 KiB without plaintext a read is `Interrupted`, so that the loop comes back for
//!   the rest after the others.
//! - Both directions stir each other: what comes in can make something to be sent (a handshake's next
//!   flight, an alert, a key update). So [`TlsStream::unsent`] counts what rustls wants to write, and
//!   the loop flushes a connection after it has served it, whether or not it has answered anything.
//! - An error in what came leaves an alert to be sent. It is sent; only then the error is told.
//! - The end of the stream is an end in order only after `close_notify`; without it an answer may have
//!   been cut by anyone on the way. `read` answers `Ok(0)` to the one and `UnexpectedEof` to the other.
//!
//! `complete_io` and `rustls::Stream` would do all this in one call. They are for blocking sockets: on
//! others they spin, or wait for the wrong direction.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection, crypto,
};

use super::tls_records::RecordBorders;
use crate::limits::TLS_SESSION_BYTES;
pub use trust::Authorities;

pub(super) use explain::{explain, is_of_tls};
use explain::{explain_setup, plain_pem};
use trust::Trust;

mod explain;
#[cfg(test)]
mod tests;
mod trust;

/// A TCP stream with TLS over it.
pub struct TlsStream {
    stream: TcpStream,
    session: Connection,
    /// Records that the kernel has not taken, from `sent` on.
    records: Vec<u8>,
    sent: usize,
    /// Why nothing that comes can be understood any more.
    failure: Option<Error>,
    is_failure_told: bool,
    is_drained: bool,
    borders: RecordBorders,
}

/// A stream that remembers whether it brought less than it could, and whether it ended within a record:
/// how much rustls asks for, and keeps, is its own affair.
struct Watched<'a> {
    stream: &'a mut TcpStream,
    was_short: bool,
    borders: &'a mut RecordBorders,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(into)?;
        self.was_short = count < into.len();
        self.borders.pass(&into[..count]);
        Ok(count)
    }
}

impl TlsStream {
    fn new(stream: TcpStream, mut session: Connection) -> TlsStream {
        session.set_buffer_limit(Some(UNSENT_BYTES));
        TlsStream {
            stream,
            session,
            records: Vec::new(),
            sent: 0,
            failure: None,
            is_failure_told: false,
            is_drained: false,
            borders: RecordBorders::default(),
        }
    }

    /// What is below.
    pub fn stream(&mut self) -> &mut TcpStream {
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

    /// Says `close_notify`, and then that nothing more comes.
    pub fn shut_down_writing(&mut self) -> io::Result<()> {
        self.session.send_close_notify();
        self.send()?;
        self.stream.shutdown(Shutdown::Write)
    }

    /// Whether nothing can be read before the kernel tells of something new.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// Whether the last record that came was whole, so that no part of one is held.
    pub fn is_between_records(&self) -> bool {
        self.borders.is_between()
    }

    /// Takes what the kernel has into rustls, once. Whatever comes of it is found by `reader`.
    fn receive(&mut self) -> io::Result<()> {
        let (stream, borders) = (&mut self.stream, &mut self.borders);
        let mut watched = Watched { stream, was_short: false, borders };
        // 0 is the end of the stream; rustls keeps that in mind.
        self.session.read_tls(&mut watched)?;
        self.is_drained = watched.was_short;
        match self.session.process_new_packets() {
            // Its `close_notify` may have come together with the last plaintext: then an end is to be
            // read behind that, which no event will tell of.
            Ok(state) => self.is_drained &= !state.peer_has_closed(),
            Err(error) => {
                self.failure = Some(error);
                self.is_drained = false;
                // The alert that tells the other side why. If it can't go out now, the flush takes it.
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

impl Read for TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Of this read, not of one before: an edge may have come since.
        self.is_drained = false;
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
        // Somebody else's turn; there may be more.
        Err(ErrorKind::Interrupted.into())
    }
}

impl Write for TlsStream {
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

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handshaking = self.is_handshaking();
        f.debug_struct("TlsStream").field("is_handshaking", &handshaking).finish_non_exhaustive()
    }
}

/// How we speak TLS as the client of one host.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
}

impl ClientTls {
    /// Trusts `authorities`, or the built-in roots. Sessions are resumed.
    pub fn new(host: &str, authorities: Option<&Authorities>) -> Result<ClientTls, TlsError> {
        let bad_host = || TlsError::Host(host.to_owned());
        let host = ServerName::try_from(host.to_owned()).map_err(|_| bad_host())?;
        let provider = Arc::new(crypto::ring::default_provider());
        let trust = Trust::new(authorities, Arc::clone(&provider))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous() // rustls's word for any verifier but its own; see `tls/trust.rs`
            .with_custom_certificate_verifier(trust)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(ClientTls { config: Arc::new(config), host })
    }

    /// Begins TLS on a stream that is connected, or will be.
    pub fn begin(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.host.clone());
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(TlsStream::new(stream, session.into()))
    }
}

/// How we speak TLS as a server.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// `chain` and `key` are PEM.
    pub fn new(chain: &str, key: &str) -> Result<ServerTls, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| TlsError::Pem(plain_pem(&error)))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let key = key.map_err(|error| TlsError::Pem(plain_pem(&error)))?;
        let mut config =
            ServerConfig::builder_with_provider(crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .map_err(TlsError::Setup)?
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .map_err(TlsError::Setup)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(ServerTls(Arc::new(config)))
    }

    /// Begins TLS on a stream that was accepted.
    pub fn begin(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let session = ServerConnection::new(Arc::clone(&self.0));
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(TlsStream::new(stream, session.into()))
    }
}

/// Why TLS can't be spoken.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// Neither a name nor an address.
    Host(String),
    /// A file is no PEM, or holds nothing that is needed.
    Pem(String),
    /// rustls refuses the certificate or key.
    Setup(Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Host(host) => write!(f, "{host:?} is neither a name nor an address"),
            TlsError::Pem(reason) => f.write_str(reason),
            TlsError::Setup(error) => f.write_str(&explain_setup(error)),
        }
    }
}

impl std::error::Error for TlsError {}

/// Plaintext and records that rustls holds for a connection, each. More waits in the connection's own
/// output.
const UNSENT_BYTES: usize = 64 * 1024;
/// Times that one read takes from the kernel, 4 KiB each, before it gives up to find plaintext: enough for
/// a handshake with many certificates.
const RECEIVES_PER_READ: usize = 8;
/// The only protocol that is spoken over TLS here (RFC 7301).
const ALPN: &[u8] = b"http/1.1";
