//! What moves a connection's bytes: a TCP stream as it is, TLS over one, or a pair of sockets within the
//! process. The layers above can't see which.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixStream};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::limits::BACKLOG;
use crate::tls::TlsStream;

/// A byte stream that can be closed one way: a socket, or a test's script.
///
/// `read` brings plain bytes, `Ok(0)` when the other side has ended cleanly. `write` takes plain
/// bytes, and `flush` moves what was taken and is still held. Each answers `WouldBlock` only when the
/// kernel did.
pub trait Transport: Read + Write {
    /// Ends our side: nothing more will be written. `WouldBlock`: it has to be tried again
    /// when the socket is writable.
    fn shut_down_writing(&mut self) -> io::Result<()>;

    /// Whether the last read or write, if it moved less than it could, says as much as `WouldBlock`.
    fn short_means_blocked(&self) -> bool {
        SHORT_MEANS_BLOCKED
    }

    /// Bytes that `write` took, or that the transport itself has to send, and that the kernel has
    /// not taken yet.
    fn unsent(&self) -> usize {
        0
    }

    /// Memory that it holds, as far as it is known.
    fn held(&self) -> usize {
        0
    }
}

/// The transport of a connection of the loop.
#[derive(Debug)]
pub enum Socket {
    /// Bytes as they are.
    Plain(TcpStream),
    /// As client or as server.
    Tls(Box<TlsStream<TcpStream>>),
    /// To another loop of this process.
    Pair(UnixStream),
}

impl Socket {
    /// What the loop registers.
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Plain(stream) => stream,
            Socket::Tls(tls) => tls.stream(),
            Socket::Pair(stream) => stream,
        }
    }

    /// The TCP stream that carries it. A pair has none: it is connected from the start.
    pub fn tcp(&mut self) -> Option<&mut TcpStream> {
        match self {
            Socket::Plain(stream) => Some(stream),
            Socket::Tls(tls) => Some(tls.stream()),
            Socket::Pair(_) => None,
        }
    }

    /// Whether a handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => false,
            Socket::Tls(tls) => tls.is_handshaking(),
        }
    }

    /// The other side's certificate (DER), where TLS has asked for one and checked it.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => None,
            Socket::Tls(tls) => tls.peer_certificate(),
        }
    }

    /// What a failed read or write means, for a person.
    pub fn explain(&self, error: &io::Error) -> String {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => crate::tls::plain(error),
            Socket::Tls(tls) => tls.explain(error),
        }
    }

    /// Whether nothing of what came is held that can't be read yet.
    pub fn holds_nothing(&self) -> bool {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => true,
            Socket::Tls(tls) => tls.is_between_records(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.read(into),
            Socket::Tls(tls) => tls.read(into),
            Socket::Pair(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.write(bytes),
            Socket::Tls(tls) => tls.write(bytes),
            Socket::Pair(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => Ok(()), // They hold nothing.
            Socket::Tls(tls) => tls.flush(),
        }
    }
}

impl Transport for Socket {
    fn shut_down_writing(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(stream) => stream.shutdown(Shutdown::Write),
            Socket::Tls(tls) => {
                tls.close()?;
                tls.stream().shutdown(Shutdown::Write)
            }
            Socket::Pair(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn short_means_blocked(&self) -> bool {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => SHORT_MEANS_BLOCKED,
            // It gave all its plaintext, and the kernel all its records.
            Socket::Tls(tls) => SHORT_MEANS_BLOCKED && tls.input_drained(),
        }
    }

    fn unsent(&self) -> usize {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => 0,
            Socket::Tls(tls) => tls.unsent(),
        }
    }

    fn held(&self) -> usize {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => 0,
            Socket::Tls(tls) => tls.held(),
        }
    }
}

/// Whether other loops of the process listen on the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else does.
    None,
    /// Others will, and nobody does yet.
    First,
    /// The first one does.
    Further,
}

/// Binds and listens. `SO_REUSEADDR` lets a restarted process take its port at once and still reports one
/// that is in use. `SO_REUSEPORT` would hide that, and is set only where several loops of a process share
/// a port: the kernel then spreads newcomers over their listeners. Their first listener takes the port
/// without it, and only then permits sharing: so of two processes that start at the same moment only one
/// gets it, too.
pub(super) fn listen_on(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Only Linux joins a listener to a group after it was bound.
    let joins_later = sharing == Sharing::First && cfg!(target_os = "linux");
    if sharing != Sharing::None && !joins_later {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    if joins_later {
        socket.set_reuse_port(true)?;
    }
    Ok(TcpListener::from_std(socket.into()))
}

/// Settings that make a socket fit for small messages: no delay for small writes, and a sign of life
/// from peers that vanished without a word. A socket that is already broken says so when it is read.
pub fn set_socket_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How often it then asks at most.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// Where a read or write that moved less than it could says as much as `WouldBlock`: epoll gives a
/// new edge for what comes after. It saves a third of the system calls at one request a turn. The
/// exceptions are announced by events: the other side's end, and urgent data, at whose mark a read ends
/// early, in line or not. kqueue has no event for the latter, so there, as everywhere else, only
/// `WouldBlock` will do.
const SHORT_MEANS_BLOCKED: bool = cfg!(any(target_os = "linux", target_os = "android"));
