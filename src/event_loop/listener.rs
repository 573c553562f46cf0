//! A listening socket, and the trap in it: when accepting fails for want of descriptors, the
//! edge that announced the newcomers is spent, and nothing announces them again. So "there may
//! be newcomers" is a flag of ours that only `WouldBlock` clears, and after a failure the loop
//! tries again: when a connection is closed, and a tenth of a second later.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use super::tls::ServerTls;
use crate::limits::BACKLOG;

/// Who comes by a port.
#[derive(Clone)]
pub enum Door {
    Clients,
    Neighbours,
    /// Visitors of a Places service, by TLS.
    Visitors(ServerTls),
}

/// Whether other loops of the server listen on the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else does.
    None,
    /// Others will, and nobody does yet.
    First,
    /// The first one does.
    Further,
}

/// A port that connections come by.
pub struct Listener {
    pub socket: TcpListener,
    pub door: Door,
    /// Newcomers may be waiting.
    pub is_ready: bool,
    /// The kernel refused; until something changes there is no use in asking again.
    pub is_paused: bool,
    /// So many are accepted yet; no bound before the server stops.
    left: Option<usize>,
}

/// What came of an attempt to accept.
#[derive(Debug)]
pub enum Accepted {
    Newcomer(TcpStream, SocketAddr),
    /// Nobody is waiting.
    Nobody,
    /// The kernel can't give us another connection now, for want of descriptors or memory.
    Refused(io::Error),
}

impl Listener {
    /// Binds and listens. `SO_REUSEADDR` lets a restarted server take its port at once and still
    /// reports one that is in use. `SO_REUSEPORT` would hide that, and is set only where several loops
    /// of a server share a port: the kernel then spreads newcomers over their listeners. Their first
    /// listener takes the port without it, and only then permits sharing: so of two servers that start
    /// at the same moment only one gets it, too.
    pub fn bind(door: Door, address: SocketAddr, sharing: Sharing) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
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
        let socket = TcpListener::from_std(socket.into());
        Ok(Listener { socket, door, is_ready: false, is_paused: false, left: None })
    }

    /// From now on accepts those who wait already, and no others: else newcomers that never end keep a
    /// server from stopping. The kernel keeps no more than the backlog and one, and who came first is the
    /// first to be accepted.
    pub fn accept_the_last(&mut self) {
        self.is_ready = true;
        self.left = Some(BACKLOG as usize + 1);
    }

    /// Whether nobody is to be accepted any more of those who waited, or nobody can be.
    pub fn is_done(&self) -> bool {
        !self.is_ready || self.is_paused || self.left == Some(0)
    }

    /// Accepts one connection, if there is one. Newcomers that gave up meanwhile are passed over.
    pub fn accept(&mut self) -> Accepted {
        if self.left == Some(0) {
            return Accepted::Nobody;
        }
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    self.left = self.left.map(|left| left - 1);
                    return Accepted::Newcomer(stream, peer);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.is_ready = false;
                        return Accepted::Nobody;
                    }
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Accepted::Refused(error),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_that_never_end_do_not_keep_a_listener_open() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listener =
            Listener::bind(Door::Clients, address, Sharing::None).expect("a free port");
        let address = listener.socket.local_addr().expect("it is bound");
        listener.accept_the_last();
        for number in 0..=BACKLOG {
            assert!(!listener.is_done(), "{number} of those who may have waited were accepted");
            // Each comes in time, so that nothing ever says that nobody waits.
            let _newcomer = std::net::TcpStream::connect(address).expect("it listens");
            assert!(matches!(listener.accept(), Accepted::Newcomer(..)));
        }
        assert!(listener.is_done());
        let _late = std::net::TcpStream::connect(address).expect("it listens still");
        assert!(matches!(listener.accept(), Accepted::Nobody));
    }
}
