//! Dialling: from `host:port` to a link that is of use, without waiting for anything.
//!
//! ```text
//!                         +--> a thread looks it up ---+
//!   Command::Dial --name--+                            +--> connect to the first address
//!        |                +--> what is known already --+      |         |            ^
//!        |                     if that takes long             |         |            |
//!        +------------------literal address-------------------+      failed, or no RESUME in
//!                                                                    time: the next address
//! ```
//!
//! A dial is over when the neighbour has said RESUME (`Command::LinkUp`), or when each of its addresses
//! was tried: only then does the herd's core hear that it failed, and pauses.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::addresses::Addresses;
use super::connection::Life;
use super::timers::Timer;
use super::transport::Socket;
use super::worker::Job;
use super::{Entry, EventLoop};
use crate::config::format_duration;
use crate::connections::{ConnectionId, Role};
use crate::errors::plain;
use crate::herd::NeighbourId;
use crate::limits::{LOOKUP_REFRESH, LOOKUP_WAIT};
use crate::logging::target;

/// How we dial a neighbour.
#[derive(Debug, Default)]
pub(super) struct Dial {
    addresses: Addresses,
    /// Its name with the port, unless it is dialled by address.
    name: String,
    /// Whether its name is being looked up: one look-up a neighbour is enough.
    is_resolving: bool,
    /// When the last look-up ended.
    resolved_at: Option<Duration>,
}

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
        if let Ok(address) = address.parse() {
            self.dials[usize::from(neighbour.0)].addresses.found(vec![address]);
            return self.begin_round(neighbour);
        }
        let patience = self.dial_patience();
        let dial = &mut self.dials[usize::from(neighbour.0)];
        let is_known = !dial.addresses.is_empty();
        dial.name.clone_from(&address);
        if !std::mem::replace(&mut dial.is_resolving, true) {
            self.worker.start(Job::Resolve { neighbour, address });
        } else if is_known {
            // An earlier look-up hangs; it brings what is new when it ends.
            return self.begin_round(neighbour);
        }
        let patience = if is_known { LOOKUP_WAIT.min(patience) } else { patience };
        self.timers.set(Timer::Dial(neighbour), self.now.elapsed + patience);
    }

    /// A look-up of a neighbour's name has ended, however late.
    pub(super) fn resolved(&mut self, neighbour: NeighbourId, result: io::Result<Vec<SocketAddr>>) {
        let dial = &mut self.dials[usize::from(neighbour.0)];
        dial.is_resolving = false;
        dial.resolved_at = Some(self.now.elapsed);
        let failure = match result {
            Ok(addresses) if addresses.is_empty() => "its name stands for no address".to_owned(),
            Ok(addresses) => {
                let ips = addresses.iter().map(|address| address.ip().to_canonical()).collect();
                dial.addresses.found(addresses);
                self.server.resolved(neighbour, ips);
                String::new()
            }
            Err(error) => plain(&error),
        };
        if !self.server.awaits_connection(neighbour) {
            return; // The dial went on without it, or was given up.
        }
        let dial = &self.dials[usize::from(neighbour.0)];
        if dial.addresses.is_empty() {
            let reason = format!("{}: {failure}", dial.name);
            self.dial_gave_up(neighbour, &reason);
        } else {
            self.begin_round(neighbour);
        }
    }

    /// Tries each address that is known, one after the other.
    fn begin_round(&mut self, neighbour: NeighbourId) {
        self.dials[usize::from(neighbour.0)].addresses.begin();
        self.try_next(neighbour);
    }

    fn try_next(&mut self, neighbour: NeighbourId) {
        let patience = self.dial_patience();
        let addresses = &mut self.dials[usize::from(neighbour.0)].addresses;
        while let Some((address, limit)) = addresses.next(patience) {
            match connect_from(self.calls_from, address) {
                Ok(stream) => {
                    let socket = Socket::Plain(stream);
                    let id = self.add(socket, address, Role::Link(neighbour), Life::Connecting);
                    self.server.link_connecting(neighbour, id);
                    self.timers.set(Timer::Dial(neighbour), self.now.elapsed + limit);
                    return;
                }
                Err(error) => addresses.failed(&plain(&error)),
            }
        }
        let reason = addresses.give_up();
        self.dial_gave_up(neighbour, &reason);
    }

    fn dial_gave_up(&mut self, neighbour: NeighbourId, reason: &str) {
        self.timers.clear(Timer::Dial(neighbour));
        self.server.link_failed(neighbour, reason, self.now);
    }

    /// A connection to a neighbour could not be made, or ended before it was of use: on to the next address.
    pub(super) fn attempt_failed(&mut self, neighbour: NeighbourId, reason: &str) {
        let reason = self.server.link_attempt_failed(neighbour, reason, self.now);
        self.dials[usize::from(neighbour.0)].addresses.failed(&reason);
        self.try_next(neighbour);
    }

    /// A look-up or an address has had its time.
    pub(super) fn dial_is_late(&mut self, neighbour: NeighbourId) {
        let patience = self.dial_patience();
        if let Some(id) = self.server.link_being_made(neighbour) {
            let Some(Entry { connection, .. }) = self.slots.get_mut(id) else {
                return; // It has ended, and is called to account for that in this turn.
            };
            let reason = match connection.life {
                Life::Connecting => "no answer in time",
                _ => "connected, but it said no RESUME in time",
            };
            self.kill(id);
            self.attempt_failed(neighbour, reason);
        } else if !self.server.awaits_connection(neighbour) {
            // The core has given it up.
        } else {
            let Dial { addresses, name, .. } = &self.dials[usize::from(neighbour.0)];
            if !addresses.is_empty() {
                return self.begin_round(neighbour);
            }
            let reason =
                format!("{name} is still being looked up after {}", format_duration(patience));
            self.dial_gave_up(neighbour, &reason);
        }
    }

    /// A neighbour has said RESUME: its address is the one to try first from now on.
    pub(super) fn link_is_up(&mut self, neighbour: NeighbourId) {
        self.timers.clear(Timer::Dial(neighbour));
        self.dials[usize::from(neighbour.0)].addresses.worked();
    }

    /// A neighbour has said HELLO from there.
    pub(super) fn neighbour_called(&mut self, neighbour: NeighbourId, from: IpAddr) {
        self.dials[usize::from(neighbour.0)].addresses.heard_from(from);
    }

    /// Looks a neighbour's name up though it is not dialled, because it may have moved. A dial that waits for
    /// its own look-up gets the answer of this one.
    pub(super) fn look_up_again(&mut self, neighbour: NeighbourId, address: String) {
        let dial = &mut self.dials[usize::from(neighbour.0)];
        let is_recent = dial.resolved_at.is_some_and(|at| self.now.elapsed < at + LOOKUP_REFRESH);
        if dial.is_resolving || is_recent || address.parse::<SocketAddr>().is_ok() {
            return;
        }
        dial.is_resolving = true;
        self.worker.start(Job::Resolve { neighbour, address });
    }

    /// What one address may take if it is the only one, and a look-up: as long as the herd's core waits,
    /// which starts to count at the same moments.
    fn dial_patience(&self) -> Duration {
        3 * self.server.herd().settings().heartbeat
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

    /// Whether a look-up has found any.
    #[cfg(test)]
    pub(super) fn knows_addresses_of(&self, neighbour: NeighbourId) -> bool {
        !self.dials[usize::from(neighbour.0)].addresses.is_empty()
    }

    fn dial_failed(&mut self, id: ConnectionId, error: &io::Error) {
        self.kill(id);
        match self.slots.get_mut(id) {
            Some(Entry { role: Role::Link(neighbour), .. }) => {
                let neighbour = *neighbour;
                self.attempt_failed(neighbour, &plain(error));
            }
            _ => self.server.places_lost(id, &plain(error), self.now),
        }
    }
}

/// Begins to connect to a neighbour, from the address that it knows us by where that is possible.
fn connect_from(own: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    if let Some(from) = source(own, to, is_of_this_host) {
        match start_connect(Some(from), to) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                log::debug!(target: target::LINK, "No connection to {to} from {from}: {}", plain(&error))
            }
        }
    }
    start_connect(None, to)
}

/// The address to call from, if it is not for the kernel to choose.
///
/// A host may have several addresses, of which the kernel picks one that the neighbour has perhaps never
/// heard of. But a wildcard is no address, the other family is out of reach, and what comes from a
/// loopback address never leaves the host.
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
    own.set_port(0); // The port is for the kernel to choose. A zone stays.
    leads_there.then_some(own)
}

/// Whether an address is one of this host's: to others nothing can be bound.
fn is_of_this_host(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

fn start_connect(from: Option<SocketAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let Some(from) = from else {
        return TcpStream::connect(to);
    };
    let socket = socket2::Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&from.into())?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(UNDER_WAY) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
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

/// What connect says of a socket that does not wait for it: it has begun.
const UNDER_WAY: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();
/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How often it asks then, before it gives up.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// What takes thousands of dials to happen by chance: the kernel chooses the port that is dialled.
    #[test]
    fn a_connection_that_reached_itself_is_a_failure() {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.connect(&socket.local_addr().expect("its own")).expect("it reaches itself");
        socket.set_nonblocking(true).expect("non-blocking");
        let Progress::Failed(error) = progress(&TcpStream::from_std(socket.into())) else {
            panic!("it counts as connected");
        };
        assert_eq!(error.to_string(), "the connection reached itself");
    }

    /// Nothing has come of it yet: it is neither an end nor a connection.
    #[test]
    fn an_event_says_nothing_of_a_dial_that_is_under_way() {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.set_nonblocking(true).expect("non-blocking");
        let seen = progress(&TcpStream::from_std(socket.into()));
        assert!(matches!(seen, Progress::UnderWay), "{seen:?}");
    }

    #[test]
    fn a_link_calls_from_its_own_address_where_that_can_lead_there() {
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
            assert_eq!(source(address(own), address(to), is_ours), expected, "{own} calls {to}");
        }
    }
}
