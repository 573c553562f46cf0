//! The state of a connection besides its buffers, kept as small as possible: there may be many idle
//! connections.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use crate::application::{ListenerId, LoopId, Origin, Ticket};

/// How far a connection has come. It moves only forward, with one exception: an open connection on which TLS begins is
/// `Handshaking` until it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionState {
    /// A dial is in progress; the socket can't be used yet.
    Connecting,
    /// The TLS handshake is in progress, or it is not known yet whether there will be one. A connection of a plain
    /// listener passes through this state within one step.
    Handshaking,
    /// Its input is handled.
    Open,
    /// Nothing more is handled; queued output is sent.
    Flushing,
    /// All output is sent and we have shut down writing. Further input is read and dropped, because closing
    /// with unread input would send a reset that could overtake our last answer.
    Lingering,
    /// Nothing more happens; the slot is given back at the end of the turn.
    Closed,
}

/// What the kernel last said, kept until it says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    /// The other side has closed, or there is an error: the end must be read, so a short read is no reason to
    /// wait for another edge. There will be none.
    pub read_closed: bool,
    /// The other side has sent urgent data (TCP's out-of-band byte): reads end early at its mark, so on this
    /// connection a short read no longer means that the socket is empty.
    pub has_urgent: bool,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The other side will send no more.
    End,
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Bytes that were to be sent.
    pub wanted: usize,
    /// Bytes that the kernel took.
    pub taken: usize,
    /// Bytes that it did not.
    pub left: usize,
}

/// A call that is owed to the application, whether or not anything arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    Nothing,
    /// It returned [`Next::Again`](crate::application::Next::Again).
    Again,
    /// It returned [`Next::Probe`](crate::application::Next::Probe).
    Probe,
}

/// An [`Origin`] without its number, which is stored beside the other flags of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum OriginKind {
    Accepted,
    Dialled,
    Loop,
}

pub(super) fn pack(origin: Origin) -> (OriginKind, u64) {
    match origin {
        Origin::Accepted(ListenerId(number)) => (OriginKind::Accepted, number.into()),
        Origin::Dialled(Ticket(number)) => (OriginKind::Dialled, number),
        Origin::Loop(LoopId(number)) => (OriginKind::Loop, number.into()),
    }
}

pub(super) fn unpack(kind: OriginKind, number: u64) -> Origin {
    match kind {
        OriginKind::Accepted => Origin::Accepted(ListenerId(number as u16)),
        OriginKind::Dialled => Origin::Dialled(Ticket(number)),
        OriginKind::Loop => Origin::Loop(LoopId(number as u16)),
    }
}

/// A [`SocketAddr`] in 23 bytes in place of 32, without IPv6's flow information.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerAddress {
    ip: IpAddr,
    port: [u8; 2],
    scope: [u8; 4],
}

impl PeerAddress {
    #[inline]
    pub(super) fn unpack(self) -> SocketAddr {
        let port = u16::from_ne_bytes(self.port);
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(self.scope)).into(),
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> PeerAddress {
        let scope = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(address) => address.scope_id(),
        };
        let (port, scope) = (address.port().to_ne_bytes(), scope.to_ne_bytes());
        PeerAddress { ip: address.ip(), port, scope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_unpacked_as_it_was_packed() {
        for text in
            ["127.0.0.1:65535", "[::1]:80", "[::ffff:192.0.2.1]:1", "[fe80::1%4294967295]:2"]
        {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(PeerAddress::from(address).unpack(), address);
        }
    }

    #[test]
    fn an_origin_is_unpacked_as_it_was_packed() {
        let (largest, ticket) = (u16::MAX, Ticket(u64::MAX));
        for origin in [
            Origin::Accepted(ListenerId(largest)),
            Origin::Dialled(ticket),
            Origin::Loop(LoopId(largest)),
        ] {
            let (kind, number) = pack(origin);
            assert_eq!(unpack(kind, number), origin);
        }
    }
}
