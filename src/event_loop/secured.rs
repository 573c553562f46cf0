//! A connection that uses TLS, or perhaps does: on a listener that takes both, the first byte decides.
//!
//! ```text
//!   accepted --> Undecided --22, and a handshake may begin--> Session
//!                    \-----any other byte, or silence-------> plain: the box is dropped
//!   dialled ------------------------------------------------> Session
//! ```
//!
//! On an open connection TLS can begin later ([`upgrade`](super::upgrade)):
//!
//! ```text
//!   plain --> Clear --the output is sent--> Session
//! ```
//!
//! All of this is in a box, so that a plain connection does not pay for it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::net::TcpStream;

use super::connection::Connection;
use super::handshakes::Claim;
use super::state::ConnectionState;
use super::transport::{Socket, Transport};
use crate::application::{Closed, HandshakeFailure, ListenerId, TlsId, TlsInfo};
use crate::tls::{self, ClientTls, ServerTls, TlsStream};

/// TLS over a TCP stream, or a stream of which it is not known yet whether it will carry TLS.
#[derive(Debug)]
pub struct Secured {
    stage: Stage,
    /// The configuration of the dial, if it was dialled.
    pub(super) dialled_with: Option<TlsId>,
    /// How often the loop's TLS had been changed when this handshake began.
    pub(super) generation: u64,
    /// When the first byte came; for a dial, when it had connected.
    pub(super) began: Option<Duration>,
    /// What the handshake has agreed on.
    pub(super) info: Option<TlsInfo>,
    /// Its place among the handshakes, if it was accepted.
    pub(super) claim: Claim,
    /// The listener among whose connections in handshake it is counted.
    pub(super) counted: Option<ListenerId>,
}

#[derive(Debug)]
enum Stage {
    /// No byte was read yet.
    Undecided(TcpStream),
    /// TLS begins once the output is sent.
    Clear(TcpStream),
    Session(Box<TlsStream<TcpStream>>),
    /// The stream was taken out, and this is about to be dropped.
    Spent,
}

/// What a look at the first byte shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstByte {
    Is(u8),
    /// None has come yet.
    None,
    /// The other side has ended without one.
    End,
}

impl Secured {
    /// For a connection that was accepted.
    pub fn undecided(stream: TcpStream, listener: ListenerId) -> Secured {
        Secured::new(Stage::Undecided(stream), None, 0, Some(listener))
    }

    /// For a dial; `stream` may still be connecting.
    pub fn dialled(
        stream: TcpStream,
        with: TlsId,
        tls: &ClientTls,
        generation: u64,
    ) -> io::Result<Secured> {
        let session = Stage::Session(Box::new(tls.begin(stream)?));
        Ok(Secured::new(session, Some(with), generation, None))
    }

    fn new(
        stage: Stage,
        dialled_with: Option<TlsId>,
        generation: u64,
        counted: Option<ListenerId>,
    ) -> Secured {
        let claim = Claim::None;
        Secured { stage, dialled_with, generation, began: None, info: None, claim, counted }
    }

    /// For a connection that is open. [`Secured::hold`] gives it its stream.
    pub(super) fn held(with: TlsId) -> Secured {
        Secured::new(Stage::Spent, Some(with), 0, None)
    }

    pub(super) fn hold(&mut self, stream: TcpStream) {
        self.stage = Stage::Clear(stream);
    }

    /// Whether TLS is to begin on an open connection and has not yet.
    pub(super) fn is_clear(&self) -> bool {
        matches!(self.stage, Stage::Clear(_))
    }

    pub fn is_undecided(&self) -> bool {
        matches!(self.stage, Stage::Undecided(_))
    }

    /// Looks at the first byte and leaves it where it is.
    pub(super) fn first_byte(&self) -> io::Result<FirstByte> {
        let (Stage::Undecided(stream) | Stage::Clear(stream)) = &self.stage else {
            return Ok(FirstByte::None);
        };
        let mut first = [0];
        loop {
            return match stream.peek(&mut first) {
                Ok(0) => Ok(FirstByte::End),
                Ok(_) => Ok(FirstByte::Is(first[0])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(FirstByte::None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Begins TLS as a server, unless that was done.
    pub(super) fn begin(&mut self, tls: &ServerTls, generation: u64) -> io::Result<()> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Spent) {
            Stage::Undecided(stream) => Stage::Session(Box::new(tls.begin(stream)?)),
            other => other,
        };
        self.generation = generation;
        Ok(())
    }

    /// Begins TLS as a client on a stream that was held for it.
    pub(super) fn begin_as_client(&mut self, tls: &ClientTls, generation: u64) -> io::Result<()> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Spent) {
            Stage::Clear(stream) => Stage::Session(Box::new(tls.begin(stream)?)),
            other => other,
        };
        self.generation = generation;
        Ok(())
    }

    /// Advances the handshake ([`TlsStream::advance`]).
    pub(super) fn advance(&mut self) -> io::Result<()> {
        match &mut self.stage {
            Stage::Session(session) => session.advance(),
            Stage::Undecided(_) | Stage::Clear(_) | Stage::Spent => {
                Err(ErrorKind::NotConnected.into())
            }
        }
    }

    /// The stream, if no TLS has begun on it. The rest is of no use then.
    pub(super) fn take_plain(&mut self) -> Option<TcpStream> {
        match std::mem::replace(&mut self.stage, Stage::Spent) {
            Stage::Undecided(stream) => Some(stream),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// The handshake is complete. Notes what it has agreed on.
    pub(super) fn note_complete(&mut self, now: Duration) {
        let Some(session) = self.session() else { return };
        let took = self.began.map_or(Duration::ZERO, |began| now.saturating_sub(began));
        self.info = session.version().map(|version| TlsInfo {
            version,
            resumed: session.is_resumed(),
            took,
        });
    }

    pub(super) fn session(&self) -> Option<&TlsStream<TcpStream>> {
        match &self.stage {
            Stage::Session(session) => Some(session),
            Stage::Undecided(_) | Stage::Clear(_) | Stage::Spent => None,
        }
    }

    /// The stream below.
    pub(super) fn tcp(&mut self) -> Option<&mut TcpStream> {
        match &mut self.stage {
            Stage::Undecided(stream) | Stage::Clear(stream) => Some(stream),
            Stage::Session(session) => Some(session.stream()),
            Stage::Spent => None,
        }
    }

    /// Whether the handshake is not complete, or has not begun.
    pub fn is_handshaking(&self) -> bool {
        self.session().is_none_or(TlsStream::is_handshaking)
    }

    pub(super) fn explain(&self, error: &io::Error) -> String {
        match self.session() {
            Some(session) => session.explain(error),
            None => crate::tls::plain(error),
        }
    }

    /// What a handshake failed at.
    pub(super) fn handshake_failure(&self, error: &io::Error) -> HandshakeFailure {
        let session = self.session();
        session.map_or(HandshakeFailure::Closed, |session| session.handshake_failure(error))
    }
}

impl Read for Secured {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.stage {
            Stage::Undecided(stream) | Stage::Clear(stream) => stream.read(into),
            Stage::Session(session) => session.read(into),
            Stage::Spent => Ok(0),
        }
    }
}

impl Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stage {
            Stage::Undecided(stream) | Stage::Clear(stream) => stream.write(bytes),
            Stage::Session(session) => session.write(bytes),
            Stage::Spent => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stage {
            Stage::Session(session) => session.flush(),
            Stage::Undecided(_) | Stage::Clear(_) | Stage::Spent => Ok(()),
        }
    }
}

impl Transport for Secured {
    fn shut_down_writing(&mut self) -> io::Result<()> {
        if let Stage::Session(session) = &mut self.stage {
            session.close()?;
        }
        self.tcp().map_or(Ok(()), |stream| stream.shutdown(Shutdown::Write))
    }

    fn short_means_blocked(&self) -> bool {
        // TLS returned all its plaintext, and the kernel all its records.
        self.session().is_some_and(TlsStream::input_drained)
    }

    fn unsent(&self) -> usize {
        self.session().map_or(0, TlsStream::unsent)
    }

    fn held(&self) -> usize {
        size_of::<Secured>() + self.session().map_or(0, TlsStream::held)
    }

    fn received(&mut self, _plain: usize) -> usize {
        match &mut self.stage {
            Stage::Session(session) => session.take_received(),
            Stage::Undecided(_) | Stage::Clear(_) | Stage::Spent => 0,
        }
    }

    fn sent(&mut self, plain: usize) -> usize {
        match &mut self.stage {
            Stage::Session(session) => session.take_sent(),
            Stage::Clear(_) => plain,
            Stage::Undecided(_) | Stage::Spent => 0,
        }
    }
}

impl Connection<Socket> {
    /// What an error of its transport means. Under TLS the end of the stream without `close_notify` is an error, too:
    /// somebody who cuts the connection could shorten a line, so an unfinished one is dropped.
    #[cold]
    pub(super) fn why_broken(&mut self, error: &io::Error) -> Closed {
        let mut reason = self.transport.explain(error);
        let (is_opening, dropped) =
            (self.state == ConnectionState::Handshaking, self.incomplete_bytes());
        let Some(secured) = self.transport.secured() else {
            return Closed::Broken(reason);
        };
        let is_of_tls = tls::is_of_tls(error);
        if is_opening && !is_of_tls {
            reason = format!(
                "the TLS handshake failed: {reason}; does the other side use TLS at this port?"
            );
        }
        if dropped > 0 {
            reason.push_str(&format!("; {dropped} bytes of an unfinished line were dropped"));
        }
        match is_opening || is_of_tls || error.kind() == ErrorKind::UnexpectedEof {
            true => Closed::Tls(secured.handshake_failure(error), reason),
            false => Closed::Broken(reason),
        }
    }
}
