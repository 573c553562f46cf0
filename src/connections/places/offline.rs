//! The embedded gazetteer as the one that answers.
//!
//! It is unpacked at the first query, on a thread, because that takes longer than a turn may. Until
//! it is there the few that asked wait; after that an answer is a matter of microseconds and is
//! given at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Command, ConnectionId};
use crate::config::PlacesSettings;
use crate::logging::rate_limit::{self, Kind};
use crate::places::gazetteer::Gazetteer;
use crate::places::google::Failure;
use crate::places::{Area, UNKNOWN_ERROR, answer, failure, trim};

/// The gazetteer, and who waits for it.
#[derive(Debug)]
pub(in crate::connections) struct Offline {
    gazetteer: Unpacked,
    waiting: VecDeque<Waiting>,
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
    query: Area,
    bound: usize,
    until: Duration,
}

impl Offline {
    pub(super) fn new(settings: &PlacesSettings) -> Offline {
        Offline {
            gazetteer: Unpacked::NotYet,
            waiting: VecDeque::new(),
            most_waiting: settings.max_in_flight + settings.max_queued,
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
        query: Area,
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
        self.waiting.push_back(Waiting { who, query, bound, until: now + self.patience });
        None
    }

    pub(super) fn forget(&mut self, who: ConnectionId) {
        self.waiting.retain(|waiting| waiting.who != who);
    }

    /// Once the gazetteer is there, those that waited for it are answered: each when it is its turn, so
    /// that many of them are neither one long step nor many answers at once.
    pub(super) fn poll_command(&mut self) -> Option<Command> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        let Unpacked::Done(gazetteer) = &self.gazetteer else {
            return None;
        };
        let Waiting { who, query, bound, .. } = self.waiting.pop_front()?;
        let body = Arc::new(answer(gazetteer, &query, bound));
        Some(Command::Deliver { to: who, body })
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        // All have the same patience, and those for whom the answer is there have only to be told.
        let oldest = self.waiting.front().filter(|_| self.gazetteer().is_none());
        oldest.map(|waiting| waiting.until)
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        while self.gazetteer().is_none()
            && self.waiting.front().is_some_and(|waiting| waiting.until <= now)
            && let Some(waiting) = self.waiting.pop_front()
        {
            let text = format_args!("A query for places was not answered in time.");
            rate_limit::warn(Kind::QueryFailed, text);
            let body = Failure::unknown("the gazetteer was not unpacked in time").body().into();
            self.commands.push_back(Command::Deliver { to: waiting.who, body });
        }
    }

    /// The gazetteer is there: those that waited for it are answered.
    pub(in crate::connections) fn unpacked(&mut self, gazetteer: Box<Gazetteer>) {
        self.gazetteer = Unpacked::Done(gazetteer);
    }

    /// It could not be unpacked, for this reason; it is tried again at the next query.
    pub(in crate::connections) fn failed(&mut self, reason: &str) {
        let text = format_args!("The gazetteer could not be unpacked: {reason}");
        rate_limit::warn(Kind::GazetteerFailed, text);
        for Waiting { who, .. } in self.waiting.drain(..) {
            let body = Failure::unknown("the gazetteer could not be unpacked").body().into();
            self.commands.push_back(Command::Deliver { to: who, body });
        }
        self.gazetteer = Unpacked::NotYet;
    }
}

/// The gazetteer's answer goes the way of a service's: whole, then trimmed.
fn answer(gazetteer: &Gazetteer, query: &Area, bound: usize) -> Vec<u8> {
    let body = answer::nearby_search(gazetteer, query);
    trim::trim(&body, LIST, bound).unwrap_or_else(|reason| {
        let text = format_args!("The gazetteer's answer is unusable: {reason}");
        rate_limit::warn(Kind::GazetteerFailed, text);
        failure(UNKNOWN_ERROR, &reason.to_string())
    })
}

/// Where Nearby Search, whose shape the gazetteer's answers have, lists the places.
const LIST: &str = "results";
