//! What moves a connection's bytes: a plain TCP stream, TLS over one, or a pair of sockets within the
//! process. The layers above can't see which.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::limits::BACKLOG;
use super::secured::Secured;
use crate::application::TlsInfo;
use crate::tls::TlsStream;

/// A byte stream that can be closed in one direction: a socket, or a test's script.
///
/// `read` returns plain bytes, `Ok(0)` when the other side has ended cleanly. `write` takes plain bytes, and
/// `flush` sends those that were taken and are still held. Each returns `WouldBlock` only when the kernel
/// did.
pub trait Transport: Read + Write {
    /// Ends our side: nothing more will be written. After `WouldBlock` it must be called again when the
    /// socket is writable.
    fn shut_down_writing(&mut self) -> io::Result<()>;

    /// Whether the last read or write, if it was short, means the same as `WouldBlock`.
    fn short_means_blocked(&self) -> bool {
        SHORT_MEANS_BLOCKED
    }

    /// Bytes that `write` took, or that the transport itself has to send, and that the kernel has not taken
    /// yet.
    fn unsent(&self) -> usize {
        0
    }

    /// Memory that it holds, as far as it is known.
    fn held(&self) -> usize {
        0
    }

    /// Bytes that it received from the socket since the last call, during which reads returned `plain` bytes.
    fn received(&mut self, plain: usize) -> usize {
        plain
    }

    /// Bytes that the socket took since the last call, during which writes took `plain` bytes.
    fn sent(&mut self, plain: usize) -> usize {
        plain
    }
}

/// The transport of a connection of the loop.
#[derive(Debug)]
pub enum Socket {
    /// Bytes as they are.
    Plain(TcpStream),
    /// TLS as client or as server, or perhaps TLS.
    Tls(Box<Secured>),
    /// To another loop of this process.
    Pair(UnixStream),
}

impl Socket {
    /// The event source that the loop registers.
    pub fn source(&mut self) -> Option<&mut dyn Source> {
        match self {
            Socket::Plain(stream) => Some(stream),
            Socket::Tls(tls) => tls.tcp().map(|stream| stream as &mut dyn Source),
            Socket::Pair(stream) => Some(stream),
        }
    }

    /// TLS, or perhaps TLS.
    pub(super) fn secured(&mut self) -> Option<&mut Secured> {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => None,
            Socket::Tls(tls) => Some(tls),
        }
    }

    /// What TLS has agreed on, once the handshake is complete.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => None,
            Socket::Tls(tls) => tls.info,
        }
    }

    /// The TCP stream below it. A pair has none: it is connected from the start.
    pub fn tcp(&mut self) -> Option<&mut TcpStream> {
        match self {
            Socket::Plain(stream) => Some(stream),
            Socket::Tls(tls) => tls.tcp(),
            Socket::Pair(_) => None,
        }
    }

    /// Whether a handshake is in progress.
    pub fn is_handshaking(&self) -> bool {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => false,
            Socket::Tls(tls) => tls.is_handshaking(),
        }
    }

    /// The other side's certificate (DER), if TLS asked for one and verified it.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => None,
            Socket::Tls(tls) => tls.session()?.peer_certificate(),
        }
    }

    /// What a failed read or write means, for a person.
    pub fn explain(&self, error: &io::Error) -> String {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => crate::tls::plain(error),
            Socket::Tls(tls) => tls.explain(error),
        }
    }

    /// Whether it holds no input that can't be read yet.
    pub fn holds_nothing(&self) -> bool {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => true,
            Socket::Tls(tls) => tls.session().is_none_or(TlsStream::is_between_records),
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
            Socket::Tls(tls) => tls.shut_down_writing(),
            Socket::Pair(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn short_means_blocked(&self) -> bool {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => SHORT_MEANS_BLOCKED,
            Socket::Tls(tls) => SHORT_MEANS_BLOCKED && tls.short_means_blocked(),
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

    fn received(&mut self, plain: usize) -> usize {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => plain,
            Socket::Tls(tls) => tls.received(plain),
        }
    }

    fn sent(&mut self, plain: usize) -> usize {
        match self {
            Socket::Plain(_) | Socket::Pair(_) => plain,
            Socket::Tls(tls) => tls.sent(plain),
        }
    }
}

/// Whether other loops of the process listen on the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// No other loop does.
    None,
    /// Others will, but none does yet.
    First,
    /// The first loop does already.
    Further,
}

/// Binds. `SO_REUSEADDR` lets a restarted process take its port at once, and a port in use is still reported:
/// here, or by [`listen`] if the other one does not listen yet. `SO_REUSEPORT` would hide that, so it is set
/// only if several loops of a process share a port: the kernel then spreads new connections over their
/// listeners. The first listener takes the port without it and permits sharing only once it listens: so only
/// one of two processes that start at the same moment gets the port.
pub(super) fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if sharing != Sharing::None && !joins_later(sharing) {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Listens on a socket that is bound. A second call changes nothing.
pub(super) fn listen(socket: &SockRef<'_>, sharing: Sharing) -> io::Result<()> {
    socket.listen(BACKLOG)?;
    if joins_later(sharing) {
        socket.set_reuse_port(true)?;
    }
    Ok(())
}

/// Only Linux lets a listener join a group after it was bound.
fn joins_later(sharing: Sharing) -> bool {
    sharing == Sharing::First && cfg!(target_os = "linux")
}

/// Sets the options for small messages: no delay for small writes, and keepalive against peers that vanish
/// silently. Errors are ignored: a socket that is already broken reports it at the next read.
pub fn set_socket_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How often it then asks at most.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// Whether a short read or write means the same as `WouldBlock`: epoll reports a new edge for whatever
/// arrives afterwards. This saves a third of the system calls at one request per turn. Events announce the
/// exceptions: the other side's end, and urgent data, at whose mark a read ends early, in line or not. kqueue
/// has no event for urgent data, so there, as everywhere else, only `WouldBlock` counts.
const SHORT_MEANS_BLOCKED: bool = cfg!(any(target_os = "linux", target_os = "android"));
