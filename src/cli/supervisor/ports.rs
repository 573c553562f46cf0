//! Tries every port before any server is started, so that a herd starts as a whole or not at all.
//!
//! A port in use is tried again for a while, because after a quick restart the servers of the last
//! supervisor may still be stopping.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGHUP;
use socket2::{Domain, Protocol, Socket, Type};

use super::child::Process;
use super::error::HerdError;
use super::{Event, Events, ending};
use crate::config::{Config, ServerConfig};
use crate::limits::PORTS_WAIT;

/// Tries the ports of all servers and releases them. Returns false if a signal stops the herd in the
/// meantime. A SIGHUP is kept for later.
pub(super) fn try_all(config: &Config, events: &Events) -> Result<bool, HerdError> {
    let begin = Instant::now();
    let mut is_asked = false;
    loop {
        let mut failed = config.servers.iter().flat_map(|server| {
            server.listeners().filter_map(|(what, address)| {
                let error = try_one(address).err()?;
                Some((server.name.clone(), what, address, error))
            })
        });
        let Some((server, what, address, error)) = failed.next() else {
            if is_asked {
                let _ = events.send.send(Event::Signal(SIGHUP)); // We have the receiver.
            }
            return Ok(true);
        };
        if begin.elapsed() >= PORTS_WAIT || error.kind() != ErrorKind::AddrInUse {
            let more = failed.count();
            return Err(HerdError::Port { server, what, address, error, more });
        }
        match events.receive.recv_timeout(PORTS_PROBE) {
            Ok(Event::Signal(signal)) if ending(signal, config.stop.on_sigterm).is_some() => {
                return Ok(false); // Nothing is there to be drained.
            }
            Ok(Event::Signal(SIGHUP)) => is_asked = true,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(PORTS_PROBE),
        }
    }
}

/// The addresses at which a server listens.
pub(super) fn of(server: &ServerConfig) -> Vec<SocketAddr> {
    server.listeners().map(|(_, address)| address).collect()
}

/// Tries the ports that a reload adds, and those to which a server moves. A server that stops frees its ports, so a
/// new one may have them. A server that must be restarted to move stays where it is.
pub(super) fn try_new(old: &Config, new: &Config, running: &[Process]) -> Result<(), HerdError> {
    let is_freed = |address: SocketAddr| {
        let stops = |process: &&Process| {
            let stays = process.is_named() && new.server(&process.name).is_some();
            !stays && process.pid().is_some()
        };
        let mut ports = running.iter().filter(stops).flat_map(|process| &process.ports);
        ports.any(|port| port.port() == address.port())
    };
    for server in &new.servers {
        let before = old.server(&server.name).map(|place| &old.servers[place]);
        for (what, address) in server.listeners() {
            let is_tried = match before {
                None => !is_freed(address),
                Some(before) => {
                    let is_there = before.listeners().any(|there| there == (what, address));
                    !is_there && !before.is_in_the_way(address)
                }
            };
            if is_tried && let Err(error) = bind(address) {
                let server = server.name.clone();
                return Err(HerdError::Port { server, what, address, error, more: 0 });
            }
        }
    }
    Ok(())
}

/// Tries a port at the start of the herd.
fn try_one(address: SocketAddr) -> io::Result<()> {
    match bind(address) {
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

/// Binds and does not listen, so that no client is accepted and then lost. With `SO_REUSEADDR`,
/// connections that are just ending (TIME_WAIT) do not block the port, but a listener does.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())
}

/// How often a port that is in use is tried again.
const PORTS_PROBE: Duration = Duration::from_millis(20);
