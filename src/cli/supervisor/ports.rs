//! Tries every port before any server is started, so that a herd starts as a whole or not at all.
//!
//! A port in use is tried again for a while, because after a quick restart the servers of the last
//! supervisor may still be stopping.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{HerdError, means_stop};
use crate::config::Config;
use crate::limits::PORTS_WAIT;

/// Tries the ports of all servers and releases them. Returns false if a signal stops the herd in the
/// meantime.
pub(super) fn try_all(config: &Config, signals: &Receiver<i32>) -> Result<bool, HerdError> {
    let begin = Instant::now();
    loop {
        let mut failed = config.servers.iter().flat_map(|server| {
            let ports = [("clients", server.listen), ("neighbours", server.peer_listen)];
            ports.into_iter().filter_map(|(what, address)| {
                let error = try_one(address).err()?;
                Some((server.name.clone(), what, address, error))
            })
        });
        let Some((server, what, address, error)) = failed.next() else {
            return Ok(true);
        };
        if begin.elapsed() >= PORTS_WAIT || error.kind() != ErrorKind::AddrInUse {
            let more = failed.count();
            return Err(HerdError::Port { server, what, address, error, more });
        }
        match signals.recv_timeout(PORTS_PROBE) {
            Ok(signal) if means_stop(signal) => return Ok(false),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(PORTS_PROBE),
        }
    }
}

/// Binds and does not listen, so that no client is accepted and then lost. With `SO_REUSEADDR`,
/// connections that are just ending (TIME_WAIT) do not block the port, but a listener does.
fn try_one(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let tried = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| {
            socket.set_reuse_address(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            socket.bind(&address.into())
        });
    match tried {
        Err(error)
            if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) =>
        {
            Err(error)
        }
        // An address of another host, or a family that this host does not have: the server itself
        // reports it.
        _ => Ok(()),
    }
}

/// How often a port that is in use is tried again.
const PORTS_PROBE: Duration = Duration::from_millis(20);
