//! The embedded gazetteer as the one that answers.
//!
//! It is unpacked at the first query, on a thread, because that takes longer than a turn may. Until
//! it is there the few that asked wait; after that an answer is a matter of microseconds and is
//! given at once.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::{Command, ConnectionId};
use crate::config::PlacesSettings;
use crate::logging::rate_limit::{self, Kind};
use crate::places::gazetteer::Gazetteer;
use crate::places::google::Failure;
use crate::places::{Query, UNKNOWN_ERROR, failure, offline, trim};

/// The gazetteer, and who waits for it.
#[derive(Debug)]
pub(in crate::connections) struct Offline {
    gazetteer: Unpacked,
    waiting: Vec<Waiting>,
    most_waiting: usize,
    patience: Duration,
    commands: VecDeque<Command>,
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
    query: Query,
    bound: usize,
    until: Duration,
}

impl Offline {
    pub(super) fn new(settings: &PlacesSettings) -> Offline {
        Offline {
            gazetteer: Unpacked::NotYet,
            waiting: Vec::new(),
            most_waiting: settings.in_flight + settings.waiting,
            patience: settings.timeout,
            commands: VecDeque::new(),
        }
    }

    /// The gazetteer, once it is unpacked.
    pub(in crate::connections) fn gazetteer(&self) -> Option<&Gazetteer> {
        match &self.gazetteer {
            Unpacked::Done(gazetteer) => Some(gazetteer),
            Unpacked::NotYet | Unpacked::UnderWay => None,
        }
    }

    pub(super) fn ask(
        &mut self,
        who: ConnectionId,
        query: Query,
        bound: usize,
        now: Duration,
    ) -> Option<Vec<u8>> {
        if let Unpacked::Done(gazetteer) = &self.gazetteer {
            return Some(answer(gazetteer, &query, bound));
        }
        if self.waiting.len() >= self.most_waiting {
            return Some(failure(UNKNOWN_ERROR, "too many queries are waiting"));
        }
        if matches!(self.gazetteer, Unpacked::NotYet) {
            self.gazetteer = Unpacked::UnderWay;
            self.commands.push_back(Command::UnpackGazetteer);
        }
        self.waiting.push(Waiting { who, query, bound, until: now + self.patience });
        None
    }

    pub(super) fn forget(&mut self, who: ConnectionId) {
        self.waiting.retain(|waiting| waiting.who != who);
    }

    pub(super) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        for waiting in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            let text = format_args!("A query for places was not answered in time.");
            rate_limit::warn(Kind::QueryFailed, text);
            let body = Failure::unknown("the gazetteer was not unpacked in time").body();
            self.commands.push_back(Command::Deliver { to: waiting.who, body });
        }
    }

    /// The gazetteer is there: those that waited for it are answered.
    pub(in crate::connections) fn unpacked(&mut self, gazetteer: Box<Gazetteer>) {
        for Waiting { who, query, bound, .. } in self.waiting.drain(..) {
            let body = answer(&gazetteer, &query, bound);
            self.commands.push_back(Command::Deliver { to: who, body });
        }
        self.gazetteer = Unpacked::Done(gazetteer);
    }

    /// It could not be unpacked, for this reason; it is tried again at the next query.
    pub(in crate::connections) fn failed(&mut self, reason: &str) {
        let text = format_args!("The gazetteer could not be unpacked: {reason}");
        rate_limit::warn(Kind::GazetteerFailed, text);
        for Waiting { who, .. } in self.waiting.drain(..) {
            let body = Failure::unknown("the gazetteer could not be unpacked").body();
            self.commands.push_back(Command::Deliver { to: who, body });
        }
        self.gazetteer = Unpacked::NotYet;
    }
}

/// The gazetteer's answer goes the way of a service's: whole, then trimmed.
fn answer(gazetteer: &Gazetteer, query: &Query, bound: usize) -> Vec<u8> {
    let body = offline::answer(gazetteer, query);
    trim::trim(&body, LIST, bound).unwrap_or_else(|reason| {
        let text = format_args!("The gazetteer's answer is unusable: {reason}");
        rate_limit::warn(Kind::GazetteerFailed, text);
        failure(UNKNOWN_ERROR, &reason.to_string())
    })
}

/// Where Nearby Search, whose shape the gazetteer's answers have, lists the places.
const LIST: &str = "results";
