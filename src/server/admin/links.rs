//! `/linksz`: the links with each neighbour, in both directions.

use serde::Serialize;

use super::reply::Reply;
use super::values::{ago, seconds, time_at};
use crate::application::{Counter, Target};
use crate::clock::Now;
use crate::herd::{InboundStatus, LinkStatus, NeighbourId};
use crate::protocol::Epoch;
use crate::server::Server;
use crate::server::metrics::Direction;
use crate::server::neighbour::{LinkError, Neighbour};
use crate::server::tls::Shown;

#[derive(Serialize)]
struct Links<'a> {
    /// The number of the newest change that is known here.
    feed: u64,
    links: Vec<Link<'a>>,
}

#[derive(Serialize)]
struct Link<'a> {
    neighbour: &'a str,
    /// Where the configuration says that it is.
    advertise: String,
    out: Out,
    #[serde(rename = "in")]
    inbound: In,
}

/// Our connection to the neighbour, on which it gets updates.
#[derive(Serialize)]
struct Out {
    state: &'static str,
    since: Option<String>,
    #[serde(flatten)]
    transport: Transport,
    /// The address that is tried, or connected to.
    address: Option<String>,
    /// Seconds until the next dial.
    next_dial: Option<f64>,
    epoch: Option<String>,
    /// All changes up to here were sent.
    sent: Option<u64>,
    mark: Option<u64>,
    ack: Option<u64>,
    lag: f64,
    unacknowledged: u64,
    updates: u64,
    last_error: Option<Problem>,
}

/// Its connection to us.
#[derive(Serialize)]
struct In {
    state: &'static str,
    #[serde(flatten)]
    transport: Transport,
    address: Option<String>,
    epoch: Option<String>,
    mark: Option<u64>,
    /// Seconds since its last line.
    silent: Option<f64>,
    updates: u64,
    malformed: u64,
    last_error: Option<Problem>,
}

/// How a connection is, or was last, carried.
#[derive(Serialize)]
struct Transport {
    transport: Option<&'static str>,
    /// The names in the neighbour's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Problem {
    reason: String,
    time: Option<String>,
}

impl Server {
    pub(super) fn linksz(&self, now: Now) -> Reply {
        let links = self.other_servers().map(|(id, known)| Link {
            neighbour: &known.name,
            advertise: match &known.target {
                Target::Address(address) => address.to_string(),
                Target::Name(name) => name.clone(),
                Target::Loop(_) => String::new(), // It is no other server.
            },
            out: self.outbound(id, known, now),
            inbound: self.inbound(id, known, now),
        });
        let links = Links { feed: self.herd.table().end().0, links: links.collect() };
        Reply::json(200, &links)
    }

    fn outbound(&self, id: NeighbourId, known: &Neighbour, now: Now) -> Out {
        let LinkStatus { state, since, next_dial, epoch, sent, mark, ack, .. } =
            self.herd.link_status(id);
        let connected = known.connected_to.filter(|_| known.link.is_some());
        Out {
            state,
            since: time_at(since, now),
            transport: Transport::of(known.is_dialled_with_tls, known.link_certificate.as_deref()),
            address: connected.or(known.attempts.current()).map(|address| address.to_string()),
            next_dial: next_dial.map(|at| seconds(at.saturating_sub(now.elapsed))),
            epoch: epoch.map(hexadecimal),
            sent: sent.map(|seq| seq.0),
            mark: mark.map(|seq| seq.0),
            ack: ack.map(|seq| seq.0),
            lag: seconds(self.herd.link_lag(id, now)),
            unacknowledged: self.herd.link_unconfirmed(id),
            updates: updates(known, Direction::Out).get(),
            last_error: problem(known.link_error.as_ref(), now),
        }
    }

    fn inbound(&self, id: NeighbourId, known: &Neighbour, now: Now) -> In {
        let InboundStatus { is_up, last_received, epoch, mark } = self.herd.inbound_status(id);
        In {
            state: if is_up { "up" } else { "down" },
            transport: match known.peer_address {
                None => Transport { transport: None, names: None }, // It has never connected.
                Some(_) => {
                    let certificate = known.peer_certificate.as_deref();
                    Transport::of(certificate.is_some(), certificate)
                }
            },
            address: known.peer_address.filter(|_| is_up).map(|address| address.to_string()),
            epoch: epoch.map(hexadecimal),
            mark: mark.map(|seq| seq.0),
            silent: last_received.map(|at| ago(at, now)),
            updates: updates(known, Direction::In).get(),
            malformed: known.metrics.malformed.get(),
            last_error: problem(known.peer_error.as_ref(), now),
        }
    }
}

impl Transport {
    fn of(is_tls: bool, certificate: Option<&Shown>) -> Transport {
        let transport = Some(if is_tls { "tls" } else { "plain" });
        Transport { transport, names: certificate.map(Shown::listed) }
    }
}

fn updates(known: &Neighbour, direction: Direction) -> &Counter {
    &known.metrics.updates[direction as usize]
}

fn problem(error: Option<&LinkError>, now: Now) -> Option<Problem> {
    let LinkError { reason, at } = error?;
    Some(Problem { reason: reason.clone(), time: time_at(*at, now) })
}

/// As the metrics show an epoch. (As a number it would lose digits in a browser.)
fn hexadecimal(Epoch(epoch): Epoch) -> String {
    format!("{epoch:016x}")
}
