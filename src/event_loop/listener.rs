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

/// A port that connections come by.
pub struct Listener {
    pub socket: TcpListener,
    pub door: Door,
    /// Newcomers may be waiting.
    pub is_ready: bool,
    /// The kernel refused; until something changes there is no use in asking again.
    pub is_paused: bool,
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
    /// of a server share a port: the kernel then spreads newcomers over their listeners. (The server's
    /// second start still fails: its port for neighbours is one loop's.)
    pub fn bind(door: Door, address: SocketAddr, is_shared: bool) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if is_shared {
            socket.set_reuse_port(true)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into());
        Ok(Listener { socket, door, is_ready: false, is_paused: false })
    }

    /// Accepts one connection, if there is one. Newcomers that gave up meanwhile are passed over.
    pub fn accept(&mut self) -> Accepted {
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => return Accepted::Newcomer(stream, peer),
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
