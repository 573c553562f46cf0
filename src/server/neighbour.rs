//! A neighbour, apart from its state in the herd's core: how it is dialled, its connections, and the
//! problems that are reported about it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::attempts::Attempts;
use super::checks::Checks;
use super::handover::Handover;
use super::metrics::LinkMetrics;
use super::tls::Shown;
use super::{FIRST_LOOP, Server};
use crate::application::{ConnectionId, HandshakeFailure, LoopId, Target, Ticket};
use crate::config::{Config, ServerConfig};
use crate::herd::NeighbourId;
use crate::limits::UNREACHABLE_AFTER;
use crate::logging::LastingProblem;
use crate::tls::Identity;

/// A neighbour of this server: another server, or another loop of this one.
#[derive(Debug)]
pub(super) struct Neighbour {
    /// Its name in the herd.
    pub(super) name: String,
    /// What the log calls it.
    pub(super) log_name: String,
    /// It is no neighbour any more: what is left of it is a place in the list, and its name for the records of
    /// its last connections.
    pub(super) is_removed: bool,
    /// How it is dialled.
    pub(super) target: Target,
    /// How its certificate names it.
    pub(super) identity: Identity,
    /// Its known addresses: it may connect from these.
    pub(super) addresses: Vec<SocketAddr>,
    /// How updates are exchanged with it, if it is another loop.
    pub(super) handover: Option<Box<Handover>>,
    /// Our connection to it, also before its RESUME.
    pub(super) link: Option<ConnectionId>,
    /// The address that the latest link was connected to.
    pub(super) connected_to: Option<SocketAddr>,
    /// Whether the latest dial was with TLS.
    pub(super) is_dialled_with_tls: bool,
    /// The TLS handshake of the latest attempt has begun; and what it failed at, if it did.
    pub(super) handshake: Handshake,
    /// What the certificate of the latest link says, if it has TLS.
    pub(super) link_certificate: Option<Box<Shown>>,
    /// Whether the loop was asked to fill the link and has not yet filled it to the feed's end.
    pub(super) is_fill_asked: bool,
    /// Its connection to us.
    pub(super) peer: Option<ConnectionId>,
    /// Where its latest connection to us came from.
    pub(super) peer_address: Option<SocketAddr>,
    /// What the certificate of that connection says, if it has TLS.
    pub(super) peer_certificate: Option<Box<Shown>>,
    pub(super) attempts: Attempts,
    /// The dial that is under way.
    pub(super) dial: Option<Ticket>,
    /// The deadline for the address that is being tried to become a usable link.
    pub(super) attempt_until: Option<Duration>,
    /// The look-up of its name that is under way, whether or not a dial waits for its answer.
    pub(super) look_up: Option<Ticket>,
    /// When its name was last looked up.
    pub(super) resolved_at: Option<Duration>,
    /// The configuration has another name for it, whose addresses are not known yet.
    pub(super) has_moved: bool,
    /// Why its answer ended the present connection to it, if it did.
    pub(super) refusal: Option<String>,
    /// The last problem with our connection to it, and with its connection to us.
    pub(super) link_error: Option<LinkError>,
    pub(super) peer_error: Option<LinkError>,
    /// The problem that it can't be reached.
    pub(super) unreachable: LastingProblem,
    /// The problem that another server answers at its address.
    pub(super) misnamed: LastingProblem,
    pub(super) checks: Checks,
    pub(super) metrics: LinkMetrics,
}

/// How far the TLS handshake of an attempt has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Handshake {
    /// There is none, or not yet.
    #[default]
    None,
    UnderWay,
    Failed(HandshakeFailure),
}

/// Why a connection with a neighbour ended, or was not made.
#[derive(Clone, Debug)]
pub(super) struct LinkError {
    /// For people.
    pub(super) reason: String,
    /// As [`Now::elapsed`](crate::clock::Now::elapsed) counts.
    pub(super) at: Duration,
}

impl Neighbour {
    fn new(server: &ServerConfig, log_name: String, target: Target) -> Neighbour {
        let addresses = if let Target::Address(address) = target { vec![address] } else { vec![] };
        Neighbour {
            name: server.name.clone(),
            log_name,
            is_removed: false,
            target,
            identity: server.identity.clone(),
            addresses,
            handover: None,
            link: None,
            connected_to: None,
            is_dialled_with_tls: false,
            handshake: Handshake::None,
            link_certificate: None,
            is_fill_asked: false,
            peer: None,
            peer_address: None,
            peer_certificate: None,
            attempts: Attempts::default(),
            dial: None,
            attempt_until: None,
            look_up: None,
            resolved_at: None,
            has_moved: false,
            refusal: None,
            link_error: None,
            peer_error: None,
            unreachable: LastingProblem::new(UNREACHABLE_AFTER),
            misnamed: LastingProblem::new(Duration::ZERO),
            checks: Checks::new(),
            metrics: LinkMetrics::default(),
        }
    }

    /// Whether it is another loop of this server.
    pub(super) fn is_loop(&self) -> bool {
        matches!(self.target, Target::Loop(_))
    }

    /// Whether it may connect from this address.
    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip().to_canonical() == ip)
    }
}

/// The neighbours of one loop of a server. The first loop has those of the configuration and all
/// other loops; any other loop has the first. With an engine loops need no links between them: each is a member.
pub(super) fn of(config: &Config, index: usize, number: LoopId) -> Vec<Neighbour> {
    let own = &config.servers[index];
    let is_member = config.member_engine(index).is_some();
    let other_loop = |other| Neighbour::new(own, loop_name(&own.name, other), Target::Loop(other));
    if number != FIRST_LOOP {
        return if is_member { Vec::new() } else { vec![other_loop(FIRST_LOOP)] };
    }
    let linked_loops = if is_member { 1 } else { config.loops };
    let servers = own.neighbours.iter().map(|&place| {
        let server = &config.servers[place];
        let target = server.advertise.parse().map(Target::Address);
        let target = target.unwrap_or_else(|_| Target::Name(server.advertise.clone()));
        Neighbour::new(server, server.name.clone(), target)
    });
    servers.chain((1..linked_loops).map(|other| other_loop(LoopId(other as u16)))).collect()
}

/// What the log calls a loop: the server's name and, after the first loop, its number.
pub(super) fn loop_name(server: &str, number: LoopId) -> String {
    match number {
        FIRST_LOOP => server.to_owned(),
        LoopId(further) => format!("{server}/{}", further + 1),
    }
}

/// What stands before the line that a neighbour should not have answered.
pub(super) const UNKNOWN_ANSWER: &str = "it answered what no neighbour answers";

impl Server {
    /// Keeps the last problem with our connection to a neighbour, for operators.
    pub(super) fn note_link_error(&mut self, neighbour: NeighbourId, reason: &str) {
        let at = self.now;
        // Where no ids are shown, the line that was answered is in the log alone.
        let hides_line = !self.shows_ids && reason.starts_with(UNKNOWN_ANSWER);
        let reason = if hides_line { UNKNOWN_ANSWER } else { reason };
        self.neighbour(neighbour).link_error = Some(LinkError { reason: reason.to_owned(), at });
    }
}
