//! What is on the other end of a connection: a client, a caller on the neighbours' port, a neighbour
//! that we dialled, or the Places service. One [`Server`] knows them all.
//!
//! Never here: a socket, a poll, a thread, a file. A line comes in with the connection's name
//! and [`Role`], the answer is appended to the output that the event loop lends, and a
//! [`Verdict`] says how the connection goes on. No line acts on another connection: what must
//! happen to others is a [`Command`] that the loop fetches.
//!
//! ```text
//!   clients' listener ----> Role::Client ----+
//!   neighbours' listener -> Role::Peer ------+---> Server ---> herd, places
//!   dial -----------------> Role::Link ------+       |
//!   query ----------------> Role::Places ----+       +-------> Command: dial, close, deliver
//! ```

mod caller;
mod client;
mod link;
mod odds;
mod places;
mod records;
mod visitor;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use client::Client;
pub use places::{Ask, QueryId};
pub use visitor::Visitor;

use crate::application::Line;
use crate::clock::Now;
use crate::config::{Config, ServerConfig};
use crate::herd::{Herd, NeighbourId, Output, Peer, Settings};
use crate::limits::{PEER_LINE_BYTES, UNREACHABLE_AFTER};
use crate::logging::LastingProblem;
use crate::places::key::ApiKey;
use crate::protocol::{Dialect, Epoch};
use odds::Odds;
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
    Peer(Peer),
    /// A neighbour that we dialled.
    Link(NeighbourId),
    /// The Places service, that we dialled.
    Places,
    /// Came by the port of a Places service of our own.
    Visitor(Box<Visitor>),
}

impl Role {
    /// Whether what it sends are lines. What others send is handed on as it comes.
    pub fn speaks_lines(&self) -> bool {
        matches!(self, Role::Client(_) | Role::Peer(_) | Role::Link(_))
    }

    /// Whether it came to be served: such are limited in number, and let go when the server stops.
    pub fn is_guest(&self) -> bool {
        matches!(self, Role::Client(_) | Role::Visitor(_))
    }

    /// Whether it waits for an answer that comes later than its line.
    pub fn is_waiting(&self) -> bool {
        match self {
            Role::Client(client) => client.is_waiting(),
            Role::Visitor(visitor) => visitor.has_more(),
            _ => false,
        }
    }
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
    /// A link that was dialled has become of use: its neighbour has said RESUME.
    LinkUp(NeighbourId),
    /// A neighbour has said HELLO from this address, so there it is.
    Called { neighbour: NeighbourId, from: IpAddr },
    /// Find out what a neighbour's name stands for, then call [`Server::resolved`]: somebody has said HELLO by
    /// its name from elsewhere.
    LookUp { neighbour: NeighbourId, address: String },
    /// Close a connection at once.
    Close(ConnectionId),
    /// Close a connection in order.
    Finish(ConnectionId),
    /// Unpack the gazetteer where it holds nobody up, then call [`Server::gazetteer_unpacked`].
    UnpackGazetteer,
    /// Find out what the Places service's name stands for, then call [`Server::places_resolved`].
    ResolvePlaces { host: String, port: u16 },
    /// Connect to the Places service for a query, by TLS.
    OpenPlaces { query: QueryId, address: SocketAddr },
    /// Send the next request on a kept connection with the Places service, by
    /// [`Server::places_quiet`], if nothing has come on it since its last answer.
    AskOn(ConnectionId),
    /// Append the end of an answer that a connection has waited for ([`Server::deliver`]).
    /// Thousands may wait for the same one, so it is shared.
    Deliver { to: ConnectionId, body: Arc<Vec<u8>> },
}

/// One server of the herd, without its sockets.
#[derive(Debug)]
pub struct Server {
    /// What the log calls it.
    title: String,
    herd: Herd,
    dialect: Dialect,
    client_line_bytes: usize,
    places: Places,
    /// What those must know who ask us by HTTP.
    visitors_key: Option<ApiKey>,
    neighbours: Vec<Neighbour>,
    /// Somebody else says HELLO by our name.
    own_name: LastingProblem,
    commands: VecDeque<Command>,
    /// What has been done since [`Server::take_effort`].
    effort: u32,
}

/// What the server knows of a neighbour besides what the herd's core does.
#[derive(Debug)]
struct Neighbour {
    dial: String,
    /// What `advertise` stands for, as far as it is known: from there the neighbour may call.
    addresses: Vec<IpAddr>,
    link: Option<ConnectionId>,
    caller: Option<ConnectionId>,
    /// Why its answer ended the present connection to it, if it did.
    refusal: Option<String>,
    /// That it can't be reached.
    unreachable: LastingProblem,
    /// That another server answers where it should.
    misnamed: LastingProblem,
    /// What the log calls it.
    title: String,
    odds: Odds,
}

impl Server {
    /// Server number `index` of a configuration, in a fresh run. `epoch` and `seed` are random.
    pub fn new(config: &Config, index: usize, epoch: Epoch, seed: u128, now: Now) -> Server {
        let own = &config.servers[index];
        let neighbours = own.neighbours.iter().map(|&other| &config.servers[other]);
        let settings = Settings {
            name: own.name.clone(),
            neighbours: neighbours.clone().map(|server| server.name.clone()).collect(),
            dialect: config.dialect,
            max_clients: config.max_clients,
            max_future: config.max_future,
            heartbeat: config.link.heartbeat,
            refill: config.link.refill,
            epoch,
            seed,
        };
        Server {
            title: own.name.clone(),
            herd: Herd::new(settings, now),
            dialect: config.dialect,
            client_line_bytes: config.limits.line_bytes,
            places: Places::new(&config.places),
            visitors_key: config.places.key.clone(),
            neighbours: neighbours.map(|server| Neighbour::new(own, server)).collect(),
            own_name: LastingProblem::new(Duration::ZERO),
            commands: VecDeque::new(),
            effort: 0,
        }
    }

    /// From now on the log knows it by that name. In the herd it keeps its own.
    pub fn call_in_log(&mut self, title: &str) {
        self.title = title.to_owned();
    }

    /// What the log calls it: by the name that it bears in the herd, unless told otherwise.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What the log calls a neighbour.
    fn known_as(&self, neighbour: NeighbourId) -> &str {
        &self.neighbours[usize::from(neighbour.0)].title
    }

    /// Its core.
    pub fn herd(&self) -> &Herd {
        &self.herd
    }

    /// How long a line on this kind of connection may be, its ending not counted.
    pub fn line_bytes(&self, role: &Role) -> usize {
        match role {
            Role::Client(_) => self.client_line_bytes,
            _ => PEER_LINE_BYTES,
        }
    }

    /// Handles one line and appends its answer.
    pub fn handle_line(
        &mut self,
        on: Connection<'_>,
        line: Line<'_>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Verdict {
        self.effort += 1 + line.bytes().len() as u32 / BYTES_PER_LINE;
        match on.role {
            Role::Client(client) => self.client_line(on.id, client, on.peer, line, now, out),
            Role::Peer(caller) => self.caller_line(on.id, caller, on.peer, line, now, out),
            Role::Link(neighbour) => self.link_line(*neighbour, line, now),
            Role::Places | Role::Visitor(_) => Verdict::Close, // They don't speak lines.
        }
    }

    /// What was done since this was last asked, in units of a plain line.
    pub fn take_effort(&mut self) -> u32 {
        std::mem::take(&mut self.effort)
    }

    /// Handles bytes of a connection that does not speak lines, and appends what is to be said.
    pub fn handle_bytes(
        &mut self,
        on: Connection<'_>,
        bytes: &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) -> Verdict {
        match on.role {
            Role::Places => self.places_bytes(on.id, bytes, now),
            Role::Visitor(visitor) => self.visitor_bytes(visitor, on.peer, bytes, out),
            Role::Client(_) | Role::Peer(_) | Role::Link(_) => Verdict::Close,
        }
    }

    /// A connection that does not speak lines has ended, in order.
    pub fn handle_end(&mut self, on: Connection<'_>, now: Now) {
        if let Role::Places = on.role {
            self.places_ended(on.id, now);
        }
    }

    /// Forgets a connection that is closed.
    pub fn closed(&mut self, on: Connection<'_>, now: Now) {
        match on.role {
            Role::Client(client) => {
                records::closed("Client", on.peer);
                if client.is_waiting() {
                    self.places.forget(on.id);
                }
            }
            Role::Visitor(_) => records::closed("Visitor", on.peer),
            Role::Places => self.places_closed(on.id, now),
            Role::Peer(caller) => self.caller_closed(on.id, *caller, on.peer),
            Role::Link(neighbour) => self.link_closed(on.id, *neighbour, now),
        }
    }

    /// The next thing that the loop must do.
    pub fn poll_command(&mut self) -> Option<Command> {
        while let Some(output) = self.herd.poll_output() {
            let command = match output {
                Output::Dial(neighbour) => Some(self.dial(neighbour)),
                Output::CloseLink(neighbour) => self.hang_up(neighbour),
                Output::ClosePeer(neighbour) => self.send_away(neighbour),
            };
            self.commands.extend(command);
        }
        self.commands.pop_front().or_else(|| self.places.poll_command())
    }

    /// When [`Server::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let herd = self.herd.poll_timeout();
        let places = self.places.poll_timeout();
        herd.into_iter().chain(places).min()
    }

    /// Does what is due by `now`, which may lie a little before the time at which the last line was
    /// handled: deadlines are judged once all that came before them has been.
    pub fn handle_timeout(&mut self, now: Now) {
        self.herd.handle_timeout(now, &mut Records(&self.title, &self.neighbours));
        self.note_links_down(now);
        self.places.handle_timeout(now.elapsed);
        self.check_own_name_is_free(now);
    }
}

/// A connection as a line of it is handled.
#[derive(Debug)]
pub struct Connection<'a> {
    pub id: ConnectionId,
    pub role: &'a mut Role,
    /// The address at the other end.
    pub peer: SocketAddr,
}

/// What a line of plain length has at most; each more of it counts as a line, too.
const BYTES_PER_LINE: u32 = 128;

impl Neighbour {
    fn new(own: &ServerConfig, server: &ServerConfig) -> Neighbour {
        // One of our own name is another loop of this server, and dialled by what tells it apart.
        let title = if server.name == own.name { &server.advertise } else { &server.name };
        let literal: Option<SocketAddr> = server.advertise.parse().ok();
        Neighbour {
            dial: server.advertise.clone(),
            addresses: literal.map(|address| address.ip().to_canonical()).into_iter().collect(),
            link: None,
            caller: None,
            refusal: None,
            unreachable: LastingProblem::new(UNREACHABLE_AFTER),
            misnamed: LastingProblem::new(Duration::ZERO),
            title: title.clone(),
            odds: Odds::new(),
        }
    }
}
