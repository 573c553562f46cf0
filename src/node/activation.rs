//! Sockets that a service manager has opened for this process (socket activation, sd_listen_fds(3)): connections wait in
//! them while the server restarts, and a port below 1024 needs no capability of ours.
//!
//! They come as descriptors from 3 on, with a name each. `LISTEN_PID` says for which process: the variables of another
//! one are inherited and mean nothing. `listenfd` makes sockets of them; it would also take them without `LISTEN_PID`,
//! and any number of them, so all of that is checked here before it looks.

use std::env;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::{Protocol, SockRef};

use crate::config::PassedAddresses;
use crate::errors::{listed, plain};

/// The sockets of a service manager; each listens.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(super) clients: Option<TcpListener>,
    pub(super) peers: Option<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

impl Sockets {
    /// Takes the sockets that were passed to this process. Call this at the start of `main`, before a thread is started
    /// or a file is opened: it changes the environment, and another descriptor could get a number that it expects.
    pub fn take() -> Result<Sockets, String> {
        let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
        let Some(count) = env::var_os("LISTEN_FDS").filter(|_| is_ours) else {
            return Ok(Sockets::default());
        };
        let unusable =
            || format!("LISTEN_FDS={} is not the number of at most 3 sockets", count.display());
        let count: usize = count.to_str().and_then(|it| it.parse().ok()).ok_or_else(unusable)?;
        if count > NAMES.len() {
            return Err(unusable());
        }
        if env::var_os("LISTEN_FDS_FIRST_FD").is_some() {
            return Err(
                "LISTEN_FDS_FIRST_FD is not supported: sockets are passed from descriptor 3 on"
                    .into(),
            );
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').filter(|_| !names.is_empty()).collect();
        if names.len() != count {
            return Err(format!(
                "LISTEN_FDS={count}, but LISTEN_FDNAMES has {} names",
                names.len()
            ));
        }
        Sockets::named(&names)
    }

    fn named(names: &[&str]) -> Result<Sockets, String> {
        let mut sockets = Sockets::default();
        let mut passed = ListenFd::from_env();
        for (place, name) in names.iter().enumerate() {
            let socket = match *name {
                "clients" => &mut sockets.clients,
                "peers" => &mut sockets.peers,
                "admin" => &mut sockets.admin,
                other => {
                    let names = listed(&NAMES);
                    return Err(format!(
                        "a passed socket is named {other:?}; set FileDescriptorName= to one of {names}"
                    ));
                }
            };
            if socket.is_some() {
                return Err(format!(
                    "two passed sockets are named {name}; a server takes one of each"
                ));
            }
            let descriptor = FIRST + place;
            let failed = |reason| format!("the socket {name} (descriptor {descriptor}) {reason}");
            let taken = passed.take_tcp_listener(place);
            let taken = taken.map_err(|error| failed(format!("is unusable: {}", plain(&error))))?;
            let taken = taken.ok_or_else(|| failed("was not passed".to_owned()))?;
            if !listens(&taken) {
                return Err(failed("is not a TCP socket that listens".to_owned()));
            }
            *socket = Some(taken);
        }
        Ok(sockets)
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_none() && self.peers.is_none() && self.admin.is_none()
    }

    /// Where they listen, for the configuration of the server that takes them.
    pub fn addresses(&self, server: &str) -> PassedAddresses {
        let address = |socket: &Option<TcpListener>| -> Option<SocketAddr> {
            socket.as_ref().and_then(|socket| socket.local_addr().ok())
        };
        PassedAddresses {
            server: server.to_owned(),
            clients: address(&self.clients),
            peers: address(&self.peers),
            admin: address(&self.admin),
        }
    }
}

fn listens(socket: &TcpListener) -> bool {
    let socket = SockRef::from(socket);
    let is_tcp = socket.protocol().is_ok_and(|it| it == Some(Protocol::TCP));
    is_tcp && socket.is_listener().unwrap_or(false)
}

const NAMES: [&str; 3] = ["clients", "peers", "admin"];
/// The first descriptor that is passed.
const FIRST: usize = 3;
