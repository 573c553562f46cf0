//! What is on the other end of a connection: a client, a caller on the neighbours' port, or a
//! neighbour that we dialled. One [`Server`] knows them all.
//!
//! Never here: a socket, a poll, a thread, a file. A line comes in with the connection's name
//! and [`Role`], the answer is appended to the output that the event loop lends, and a
//! [`Verdict`] says how the connection goes on. No line acts on another connection: what must
//! happen to others is a [`Command`] that the loop fetches.
//!
//! ```text
//!   clients' listener ----> Role::Client ----+
//!   neighbours' listener -> Role::Caller ----+---> Server ---> herd, places
//!   dial -----------------> Role::Link ------+       |
//!                                                    +-------> Command: dial, close, deliver
//! ```

mod caller;
mod client;
mod link;
mod places;
mod records;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

pub use client::Client;
pub use places::Ask;

use crate::config::Config;
use crate::herd::{Caller, Herd, Moment, NeighbourId, Output, Settings};
use crate::limits::PEER_LINE_BYTES;
use crate::protocol::{Dialect, Epoch, Line};
use places::Places;
use records::Records;

/// A connection, by its slot in the loop and the slot's generation: a name that outlives the
/// connection without ever meaning another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

/// What is on the other end.
#[derive(Debug)]
pub enum Role {
    /// Came by the clients' port.
    Client(Client),
    /// Came by the neighbours' port.
    Caller(Caller),
    /// A neighbour that we dialled.
    Link(NeighbourId),
}

/// How a connection goes on after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With its next line.
    Next,
    /// Not before the answer that it waits for was delivered.
    Wait,
    /// No further line is handled; it is closed once its output is out.
    Close,
}

/// What the loop must do for the server.
#[derive(Debug)]
pub enum Command {
    /// Connect to a neighbour at `host:port`.
    Dial { neighbour: NeighbourId, address: String },
    /// Close a connection at once.
    Close(ConnectionId),
    /// Unpack the gazetteer where it holds nobody up, then call [`Server::gazetteer_unpacked`].
    UnpackGazetteer,
    /// Append the end of an answer that a connection has waited for ([`Server::deliver`]).
    Deliver { to: ConnectionId, body: Vec<u8> },
}

/// One server of the herd, without its sockets.
#[derive(Debug)]
pub struct Server {
    own: String,
    herd: Herd,
    dialect: Dialect,
    client_line_bytes: usize,
    places: Places,
    neighbours: Vec<Neighbour>,
    commands: VecDeque<Command>,
}

/// What the server knows of a neighbour besides what the herd's core does.
#[derive(Debug)]
struct Neighbour {
    dial: String,
    /// What `dial` stands for, as far as it is known: from there the neighbour may call.
    addresses: Vec<IpAddr>,
    link: Option<ConnectionId>,
    caller: Option<ConnectionId>,
    name: String,
}

impl Server {
    /// Server number `index` of a configuration, in a fresh run. `epoch` and `seed` are random.
    pub fn new(config: &Config, index: usize, epoch: Epoch, seed: u64, now: Moment) -> Server {
        let own = &config.servers[index];
        let neighbours = own.neighbours.iter().map(|&other| &config.servers[other]);
        let settings = Settings {
            name: own.name.clone(),
            neighbours: neighbours.clone().map(|server| server.name.clone()).collect(),
            dialect: config.dialect,
            clients: config.clients,
            ahead: config.ahead,
            heartbeat: config.link.heartbeat,
            refill: config.link.refill,
            epoch,
            seed,
        };
        Server {
            own: own.name.clone(),
            herd: Herd::new(settings, now),
            dialect: config.dialect,
            client_line_bytes: config.limits.line_bytes,
            places: Places::new(&config.places),
            neighbours: neighbours.map(Neighbour::new).collect(),
            commands: VecDeque::new(),
        }
    }

    /// The name that it bears in the herd.
    pub fn name(&self) -> &str {
        &self.own
    }

    /// Its core.
    pub fn herd(&self) -> &Herd {
        &self.herd
    }

    /// How long a line on this kind of connection may be, its ending not counted.
    pub fn line_bytes(&self, role: &Role) -> usize {
        match role {
            Role::Client(_) => self.client_line_bytes,
            Role::Caller(_) | Role::Link(_) => PEER_LINE_BYTES,
        }
    }

    /// Handles one line and appends its answer.
    pub fn handle_line(
        &mut self,
        on: Connection<'_>,
        line: Line<'_>,
        now: Moment,
        out: &mut Vec<u8>,
    ) -> Verdict {
        match on.role {
            Role::Client(client) => self.client_line(on.id, client, on.peer, line, now, out),
            Role::Caller(caller) => self.caller_line(on.id, caller, on.peer, line, now, out),
            Role::Link(neighbour) => self.link_line(*neighbour, line, now),
        }
    }

    /// Forgets a connection that is closed.
    pub fn closed(&mut self, on: Connection<'_>, now: Moment) {
        match on.role {
            Role::Client(_) => records::closed("Client", on.peer),
            Role::Caller(caller) => self.caller_closed(on.id, *caller, on.peer),
            Role::Link(neighbour) => self.link_closed(on.id, *neighbour, now),
        }
    }

    /// The next thing that the loop must do.
    pub fn poll_command(&mut self) -> Option<Command> {
        while let Some(output) = self.herd.poll_output() {
            let command = match output {
                Output::Dial(neighbour) => Some(self.dial(neighbour)),
                Output::HangUp(neighbour) => self.hang_up(neighbour),
                Output::SendAway(neighbour) => self.send_away(neighbour),
            };
            self.commands.extend(command);
        }
        if self.places.must_unpack() {
            self.commands.push_back(Command::UnpackGazetteer);
        }
        self.commands.pop_front()
    }

    /// When [`Server::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let herd = self.herd.poll_timeout();
        let places = self.places.poll_timeout();
        herd.into_iter().chain(places).min()
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.herd.handle_timeout(now, &mut Records(&self.own, &self.neighbours));
        self.commands.extend(self.places.handle_timeout(now.elapsed));
    }
}

/// A connection as a line of it is handled.
#[derive(Debug)]
pub struct Connection<'a> {
    pub id: ConnectionId,
    pub role: &'a mut Role,
    /// The address at the other end.
    pub peer: std::net::SocketAddr,
}

impl Neighbour {
    fn new(server: &crate::config::ServerConfig) -> Neighbour {
        let literal: Option<std::net::SocketAddr> = server.dial.parse().ok();
        Neighbour {
            dial: server.dial.clone(),
            addresses: literal.map(|address| address.ip().to_canonical()).into_iter().collect(),
            link: None,
            caller: None,
            name: server.name.clone(),
        }
    }
}
