//! Dialling: from `host:port` to a connection, without waiting for anything.
//!
//! ```text
//!   Command::Dial --name--> resolver thread --addresses--> connect to the first
//!        |                                                   |        |
//!        +------------------literal address------------------+      failed: the next one
//! ```
//!
//! How long all of it may take is the herd core's to say: it hangs up.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use super::connection::Life;
use super::transport::Socket;
use super::worker::Job;
use super::{Entry, EventLoop};
use crate::connections::{ConnectionId, Role};
use crate::errors::plain;
use crate::herd::NeighbourId;

/// Where a socket stands that was told to connect.
#[derive(Debug)]
enum Progress {
    Connected,
    /// The kernel is still at it; spurious events are legal.
    UnderWay,
    Failed(io::Error),
}

impl EventLoop {
    /// Begins to dial a neighbour.
    pub(super) fn dial(&mut self, neighbour: NeighbourId, address: String) {
        if let Some(post) = self.siblings.post(neighbour) {
            return self.dial_sibling(neighbour, &post);
        }
        match address.parse::<SocketAddr>() {
            Ok(address) => self.connect(neighbour, vec![address]),
            // An earlier look-up may still be under way, and answers for this dial, too.
            Err(_) if std::mem::replace(&mut self.is_resolving[usize::from(neighbour.0)], true) => {
            }
            Err(_) => self.worker.start(Job::Resolve { neighbour, address }),
        }
    }

    /// The addresses of a neighbour's name are known.
    pub(super) fn resolved(&mut self, neighbour: NeighbourId, result: io::Result<Vec<SocketAddr>>) {
        self.is_resolving[usize::from(neighbour.0)] = false;
        if let Ok(addresses) = &result {
            let ips = addresses.iter().map(|address| address.ip().to_canonical());
            self.server.resolved(neighbour, ips.collect());
        }
        if !self.server.awaits_connection(neighbour) {
            return; // The look-up took too long, and the dial was given up.
        }
        match result {
            Ok(addresses) => self.connect(neighbour, addresses),
            Err(error) => {
                self.server.link_failed(neighbour, &plain(&error), self.now);
            }
        }
    }

    /// Connects to the first address that can be connected to; the rest is for later.
    fn connect(&mut self, neighbour: NeighbourId, mut addresses: Vec<SocketAddr>) {
        let mut reason = "its name stands for no address".to_string();
        while !addresses.is_empty() {
            let address = addresses.remove(0);
            match TcpStream::connect(address) {
                Ok(stream) => {
                    self.dials[usize::from(neighbour.0)] = addresses;
                    let socket = Socket::Plain(stream);
                    let id = self.add(socket, address, Role::Link(neighbour), Life::Connecting);
                    self.server.link_connecting(neighbour, id);
                    return;
                }
                Err(error) => reason = plain(&error),
            }
        }
        self.server.link_failed(neighbour, &reason, self.now);
    }

    /// Looks how a dial is doing, after an event for it.
    pub(super) fn check_dial(&mut self, id: ConnectionId) {
        let Some(Entry { connection, role }) = self.slots.get_mut(id) else {
            return;
        };
        let tcp = connection.transport.tcp();
        match tcp.map_or(Progress::Connected, |stream| progress(stream)) {
            Progress::UnderWay => {}
            Progress::Connected => {
                if let Some(stream) = connection.transport.tcp() {
                    tune(stream);
                }
                connection.life = Life::Open;
                connection.ready.readable = true;
                connection.ready.writable = true;
                let output = connection.queue(&mut self.buffers);
                match role {
                    Role::Link(to) => self.server.link_connected(*to, self.now, output),
                    _ => self.server.places_connected(id, output),
                }
                self.queue_flush(id);
                self.queue_serve(id);
            }
            Progress::Failed(error) => self.dial_failed(id, &error),
        }
    }

    fn dial_failed(&mut self, id: ConnectionId, error: &io::Error) {
        self.kill(id);
        let Some(Entry { role: Role::Link(neighbour), .. }) = self.slots.get_mut(id) else {
            return self.server.places_lost(id, &plain(error), self.now);
        };
        let neighbour = *neighbour;
        let rest = std::mem::take(&mut self.dials[usize::from(neighbour.0)]);
        if rest.is_empty() {
            self.server.link_failed(neighbour, &plain(error), self.now);
        } else {
            self.connect(neighbour, rest);
        }
    }
}

/// `take_error` tells of a failure once only; `peer_addr` alone tells that a socket is connected.
/// A socket that was dialled in the ephemeral range of its own host may have reached itself.
fn progress(stream: &TcpStream) -> Progress {
    match stream.take_error() {
        Ok(None) => {}
        Ok(Some(error)) | Err(error) => return Progress::Failed(error),
    }
    match (stream.peer_addr(), stream.local_addr()) {
        (Ok(peer), Ok(local)) if peer == local => {
            Progress::Failed(io::Error::other("the connection reached itself"))
        }
        (Ok(_), _) => Progress::Connected,
        (Err(error), _) if error.kind() == io::ErrorKind::NotConnected => Progress::UnderWay,
        (Err(error), _) => Progress::Failed(error),
    }
}

/// Resolves a name. It blocks, for as long as it likes: not on the loop's thread.
pub(super) fn resolve(address: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    Ok(address.to_socket_addrs()?.collect())
}

/// Settings that make a socket fit for lines: no delay for small writes, and a sign of life from
/// peers that vanished without a word. A socket that is already broken says so when it is read.
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How often it asks then, before it gives up.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
