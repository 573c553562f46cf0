//! Queries for places, as far as the connections know of them: asked, waiting, answered.
//!
//! The gazetteer is unpacked at the first query, on a thread, because it takes longer than a
//! turn may. Until it is there the few that asked wait; after that an answer is a matter of
//! microseconds and is given at once.

use std::time::Duration;

use super::{Command, ConnectionId, Server};
use crate::config::PlacesSettings;
use crate::places::gazetteer::Gazetteer;
use crate::places::{Query, failure, offline, trim};

/// What a client wants to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub query: Query,
    /// Places in the answer at most.
    pub bound: usize,
}

/// The queries of one server.
#[derive(Debug)]
pub(super) struct Places {
    gazetteer: Unpacked,
    waiting: Vec<Waiting>,
    most_waiting: usize,
    patience: Duration,
}

#[derive(Debug)]
enum Unpacked {
    NotYet,
    UnderWay,
    Done(Box<Gazetteer>),
}

#[derive(Debug)]
struct Waiting {
    who: ConnectionId,
    ask: Ask,
    until: Duration,
}

impl Places {
    pub(super) fn new(settings: &PlacesSettings) -> Places {
        Places {
            gazetteer: Unpacked::NotYet,
            waiting: Vec::new(),
            most_waiting: settings.in_flight + settings.waiting,
            patience: settings.timeout,
        }
    }

    /// The answer, or none if it will be delivered.
    pub(super) fn ask(&mut self, who: ConnectionId, ask: Ask, now: Duration) -> Option<Vec<u8>> {
        if let Unpacked::Done(gazetteer) = &self.gazetteer {
            return Some(answer(gazetteer, &ask));
        }
        if self.waiting.len() >= self.most_waiting {
            return Some(failure(UNKNOWN_ERROR, "too many queries are waiting"));
        }
        self.waiting.push(Waiting { who, ask, until: now + self.patience });
        None
    }

    /// Whether the gazetteer must be unpacked now; says so once.
    pub(super) fn must_unpack(&mut self) -> bool {
        let wanted = !self.waiting.is_empty() && matches!(self.gazetteer, Unpacked::NotYet);
        if wanted {
            self.gazetteer = Unpacked::UnderWay;
        }
        wanted
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Vec<Command> {
        let due = self.waiting.extract_if(.., |waiting| waiting.until <= now);
        due.map(|waiting| {
            log::warn!("A query for places was not answered in time.");
            let body = failure(UNKNOWN_ERROR, "the gazetteer was not unpacked in time");
            Command::Deliver { to: waiting.who, body }
        })
        .collect()
    }
}

impl Server {
    /// The gazetteer is there: those that waited for it are answered.
    pub fn gazetteer_unpacked(&mut self, gazetteer: Box<Gazetteer>) {
        for Waiting { who, ask, .. } in self.places.waiting.drain(..) {
            let body = answer(&gazetteer, &ask);
            self.commands.push_back(Command::Deliver { to: who, body });
        }
        self.places.gazetteer = Unpacked::Done(gazetteer);
    }

    /// The gazetteer could not be unpacked, for this reason; it is tried again at the next query.
    pub fn gazetteer_failed(&mut self, reason: &str) {
        log::error!("The gazetteer could not be unpacked: {reason}");
        for Waiting { who, .. } in self.places.waiting.drain(..) {
            let body = failure(UNKNOWN_ERROR, "the gazetteer could not be unpacked");
            self.commands.push_back(Command::Deliver { to: who, body });
        }
        self.places.gazetteer = Unpacked::NotYet;
    }
}

/// The gazetteer's answer goes the way of a service's: whole, then trimmed.
fn answer(gazetteer: &Gazetteer, ask: &Ask) -> Vec<u8> {
    let body = offline::answer(gazetteer, &ask.query);
    trim::trim(&body, LIST, ask.bound).unwrap_or_else(|reason| {
        log::error!("The gazetteer's answer is unusable: {reason}");
        failure(UNKNOWN_ERROR, &reason.to_string())
    })
}

/// Where Nearby Search, whose shape the gazetteer's answers have, lists the places.
const LIST: &str = "results";
/// The status of an answer that is none (section 3).
const UNKNOWN_ERROR: &str = "UNKNOWN_ERROR";
