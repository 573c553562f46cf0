//! Sockets that connect without blocking: their source address, and whether they are connected yet.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Type};

/// Begins to connect, from the given address if it can reach the destination.
pub(super) fn connect(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    if let Some(from) = from.and_then(|from| source(from, to, is_of_this_host))
        && let Ok(stream) = connect_from(from, to)
    {
        return Ok(stream);
    }
    TcpStream::connect(to) // The kernel chooses, also if our address is of no use.
}

/// The address to connect from, or `None` if the kernel chooses it.
///
/// A host may have several addresses, and the kernel may pick one that the other side does not know. But a
/// wildcard is no address, an address of the other family cannot be used, and packets from a loopback address
/// never leave the host.
fn source(
    own: SocketAddr,
    to: SocketAddr,
    is_of_this_host: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    let (from, to_ip) = (own.ip().to_canonical(), to.ip().to_canonical());
    let is_of_one_family = own.is_ipv4() == to.is_ipv4() && from.is_ipv4() == to_ip.is_ipv4();
    let leads_there = !from.is_unspecified()
        && is_of_one_family
        && (!from.is_loopback() || is_of_this_host(to_ip));
    let mut own = own;
    own.set_port(0); // The kernel chooses the port. A zone is kept.
    leads_there.then_some(own)
}

/// Whether this host has the address: a socket can't be bound to any other.
fn is_of_this_host(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&from.into())?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(UNDER_WAY) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Whether a connecting socket is connected now; an event may arrive before it is. `take_error` reports a
/// failure only once; only `peer_addr` shows success. A socket that dials a port of its own host in the
/// ephemeral range may have reached itself.
pub(super) fn progress(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match (stream.peer_addr(), stream.local_addr()) {
        (Ok(peer), Ok(local)) if peer == local => {
            Err(io::Error::other("the connection reached itself"))
        }
        (Ok(_), _) => Ok(true),
        (Err(error), _) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        (Err(error), _) => Err(error),
    }
}

/// What `connect` returns for a non-blocking socket: the attempt is in progress.
const UNDER_WAY: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_uses_the_given_address_if_that_can_reach_the_target() {
        let ours = ["127.0.0.1", "127.0.0.3", "::1", "10.0.0.9", "fd00::9"];
        let is_ours = |ip: IpAddr| ours.iter().any(|own| own.parse() == Ok(ip));
        let cases = [
            ("127.0.0.1:5", "10.0.0.9:9", Some("127.0.0.1:0")),
            ("[::1]:5", "[fd00::9]:9", Some("[::1]:0")),
            ("127.0.0.2:5", "127.0.0.3:9", Some("127.0.0.2:0")),
            ("10.0.0.1:5", "10.0.0.2:9", Some("10.0.0.1:0")),
            ("10.0.0.1:5", "127.0.0.1:9", Some("10.0.0.1:0")),
            ("[fd00::1]:5", "[fd00::2]:9", Some("[fd00::1]:0")),
            ("[fe80::1%3]:5", "[fe80::2%3]:9", Some("[fe80::1%3]:0")),
            ("[::1]:5", "[::1]:9", Some("[::1]:0")),
            ("[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.2]:9", Some("[::ffff:10.0.0.1]:0")),
            // The kernel chooses: a wildcard, a loopback address and a way out, two families.
            ("0.0.0.0:5", "10.0.0.2:9", None),
            ("[::]:5", "[fd00::2]:9", None),
            ("[::]:5", "127.0.0.1:9", None),
            ("127.0.0.1:5", "10.0.0.2:9", None),
            ("[::1]:5", "[fd00::2]:9", None),
            ("[::ffff:127.0.0.1]:5", "[::ffff:10.0.0.2]:9", None),
            ("10.0.0.1:5", "[fd00::2]:9", None),
            ("[fd00::1]:5", "10.0.0.2:9", None),
            ("[fd00::1]:5", "[::ffff:10.0.0.2]:9", None),
            ("[::ffff:10.0.0.1]:5", "10.0.0.2:9", None),
        ];
        for (own, to, from) in cases {
            let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
            let expected = from.map(address);
            assert_eq!(source(address(own), address(to), is_ours), expected, "{own} dials {to}");
        }
    }

    #[test]
    fn an_address_that_is_not_ours_leaves_the_choice_to_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let to = listener.local_addr().expect("an address");
        let not_ours = SocketAddr::from(([192, 0, 2, 1], 5)); // RFC 5737: used by no host.
        let _stream = connect(Some(not_ours), to).expect("it connects all the same");
        let (_, peer) = listener.accept().expect("a connection");
        assert!(peer.ip().is_loopback());
        let _stream =
            connect(Some(SocketAddr::from(([127, 0, 0, 9], 5))), to).expect("it connects");
        let (_, peer) = listener.accept().expect("a connection");
        assert_eq!(peer.ip().to_string(), "127.0.0.9");
    }

    fn bound() -> socket2::Socket {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket
    }

    /// By chance this takes thousands of dials: the kernel chooses the dialled port as the source port.
    #[test]
    fn a_connection_to_itself_is_a_failure() {
        let socket = bound();
        socket.connect(&socket.local_addr().expect("its own")).expect("it reaches itself");
        socket.set_nonblocking(true).expect("non-blocking");
        let error = progress(&TcpStream::from_std(socket.into())).expect_err("it is a failure");
        assert_eq!(error.to_string(), "the connection reached itself");
    }

    /// An attempt in progress is neither a failure nor a connection.
    #[test]
    fn a_spurious_event_does_not_end_a_dial_in_progress() {
        let socket = bound();
        socket.set_nonblocking(true).expect("non-blocking");
        let is_connected = progress(&TcpStream::from_std(socket.into())).expect("no failure");
        assert!(!is_connected);
    }
}
