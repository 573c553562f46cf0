//! Ports that are ours for as long as the value lives, also against tests that run at the same time.
//!
//! A socket that is bound and does not listen holds each: a connect to it is refused, the kernel gives it to no outgoing
//! connection, and another test's `reserve` passes over it. Since that socket allows reuse, a server that sets
//! SO_REUSEADDR (as any that restarts must) can still listen there.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Socket, Type};

/// Below Linux's ephemeral range, above what the machine's services use.
const FIRST: u32 = 12_500;
const COUNT: u32 = 19_500;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 at which nobody listens until we say so.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    _held: Socket,
}

impl Port {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }
}

/// Takes the next free port; each process begins somewhere else.
pub fn reserve() -> Port {
    let offset = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = FIRST + offset.wrapping_add(step) % COUNT;
        let number = u16::try_from(number).expect("FIRST and COUNT stay below 65536");
        if (22_138..=22_142).contains(&number) {
            continue; // the default herd's own
        }
        if let Some(held) = hold(number) {
            return Port { number, _held: held };
        }
    }
    panic!("no free port from {FIRST} on");
}

fn hold(number: u16) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, number);
    // Bound without reuse first: that fails where anybody else holds it, listening or not.
    socket.bind(&address.into()).ok()?;
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    Some(socket)
}
