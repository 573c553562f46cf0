//! The embedded gazetteer as the provider.
//!
//! It is unpacked at the first query, on a thread, because that takes longer than a turn may. Clients that
//! ask before it is ready wait; after that an answer takes microseconds and is given at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::queries::Waiter;
use super::{Bounds, PlacesMessage};
use crate::application::{Command, ConnectionId, Job};
use crate::logging::field;
use crate::logging::rate_limit::{self, Kind};
use crate::places::gazetteer::Gazetteer;
use crate::places::google::Failure;
use crate::places::{Area, UNKNOWN_ERROR, answer, failure};
use crate::server::metrics::{PlacesMetrics, PlacesResult};
use crate::server::{self, ServerCommand};

/// The gazetteer, and the clients that wait for it.
#[derive(Debug)]
pub(super) struct Local {
    gazetteer: Unpacking,
    /// Queries that wait until it is unpacked; the oldest is the first.
    waiting: VecDeque<WaitingQuery>,
    max_waiting: usize,
    timeout: Duration,
    /// Clients that can take their answer, with its content. An answer is made when it is taken, so that
    /// many of them neither take one long step nor occupy memory at once.
    complete: HashMap<ConnectionId, LocalOutcome>,
    commands: VecDeque<ServerCommand>,
    metrics: Arc<PlacesMetrics>,
    /// What the gauge shows of it.
    shown: u64,
}

#[derive(Debug)]
enum Unpacking {
    NotStarted,
    UnderWay,
    Done(Box<Gazetteer>),
}

#[derive(Debug)]
struct WaitingQuery {
    waiter: Waiter,
    area: Area,
    since: Duration,
    deadline: Duration,
}

/// How a query that had to wait ended.
#[derive(Debug)]
enum LocalOutcome {
    Answer { area: Area, bound: usize },
    TimedOut,
    UnpackFailed,
}

impl Local {
    pub(super) fn new(bounds: Bounds, metrics: Arc<PlacesMetrics>) -> Local {
        Local {
            gazetteer: Unpacking::NotStarted,
            waiting: VecDeque::new(),
            max_waiting: bounds.in_flight + bounds.queued,
            timeout: bounds.timeout,
            complete: HashMap::new(),
            commands: VecDeque::new(),
            metrics,
            shown: 0,
        }
    }

    /// Other bounds for the queries that come from now on.
    pub(super) fn reconfigure(&mut self, bounds: Bounds) {
        self.max_waiting = bounds.in_flight + bounds.queued;
        self.timeout = bounds.timeout;
    }

    /// Whether a thread is unpacking the gazetteer.
    pub(super) fn is_unpacking(&self) -> bool {
        matches!(self.gazetteer, Unpacking::UnderWay)
    }

    /// Whether no client waits for it, nor it for a thread.
    pub(super) fn is_over(&self) -> bool {
        let is_answered = self.waiting.is_empty() && self.complete.is_empty();
        is_answered && self.commands.is_empty() && !self.is_unpacking()
    }

    /// The answer; None if the client must wait for its `fill`.
    pub(super) fn request(&mut self, waiter: Waiter, area: Area, now: Duration) -> Option<Vec<u8>> {
        if let Unpacking::Done(gazetteer) = &self.gazetteer {
            self.metrics.count_request(PlacesResult::Ok, None);
            return Some(answer::trimmed(gazetteer, &area, waiter.bound));
        }
        if self.waiting.len() >= self.max_waiting {
            self.metrics.count_request(PlacesResult::Busy, None);
            return Some(failure(UNKNOWN_ERROR, "too many queries are waiting"));
        }
        if matches!(self.gazetteer, Unpacking::NotStarted) {
            self.gazetteer = Unpacking::UnderWay;
            self.commands.push_back(Command::Run(unpack()));
        }
        let deadline = now + self.timeout;
        self.waiting.push_back(WaitingQuery { waiter, area, since: now, deadline });
        self.show();
        None
    }

    pub(super) fn forget(&mut self, client: ConnectionId) {
        self.waiting.retain(|waiting| waiting.waiter.client != client);
        self.show();
        self.complete.remove(&client);
    }

    /// The answer that a client has waited for, once it can be made.
    pub(super) fn take_answer(&mut self, client: ConnectionId) -> Option<Vec<u8>> {
        let body = match (self.complete.remove(&client)?, &self.gazetteer) {
            (LocalOutcome::Answer { area, bound }, Unpacking::Done(gazetteer)) => {
                answer::trimmed(gazetteer, &area, bound)
            }
            (LocalOutcome::TimedOut, _) => {
                Failure::unknown("the gazetteer was not unpacked in time").body()
            }
            // Once unpacked it stays so.
            (LocalOutcome::UnpackFailed | LocalOutcome::Answer { .. }, _) => {
                Failure::unknown("the gazetteer could not be unpacked").body()
            }
        };
        Some(body)
    }

    pub(super) fn poll_command(&mut self) -> Option<ServerCommand> {
        self.commands.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        // Few, and only until the gazetteer is unpacked. The timeout may have changed between two of them.
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        let is_late = |waiting: &WaitingQuery| waiting.deadline <= now;
        while let Some(place) = self.waiting.iter().position(is_late)
            && let Some(waiting) = self.waiting.remove(place)
        {
            let text = format_args!("A query for places was not answered in time.");
            rate_limit::warn(Kind::QueryFailed, &[], text);
            let took = now.saturating_sub(waiting.since);
            self.metrics.count_request(PlacesResult::Timeout, Some(took));
            self.complete(waiting.waiter.client, LocalOutcome::TimedOut);
        }
        self.show();
    }

    /// The thread has unpacked the gazetteer, or has failed to: then it is tried again at the next query.
    pub(super) fn handle_message(&mut self, message: PlacesMessage, now: Duration) {
        let is_unpacked = match message {
            PlacesMessage::Unpacked(gazetteer) => {
                self.gazetteer = Unpacking::Done(gazetteer);
                true
            }
            PlacesMessage::UnpackFailed(reason) => {
                let text = format_args!("The gazetteer could not be unpacked: {reason}");
                rate_limit::warn(Kind::GazetteerFailed, &[field("reason", &reason)], text);
                self.gazetteer = Unpacking::NotStarted;
                false
            }
        };
        for WaitingQuery { waiter: Waiter { client, bound }, area, since, .. } in
            std::mem::take(&mut self.waiting)
        {
            let (outcome, result) = if is_unpacked {
                (LocalOutcome::Answer { area, bound }, PlacesResult::Ok)
            } else {
                (LocalOutcome::UnpackFailed, PlacesResult::Unusable)
            };
            self.metrics.count_request(result, Some(now.saturating_sub(since)));
            self.complete(client, outcome);
        }
        self.show();
    }

    fn show(&mut self) {
        let waiting = self.waiting.len() as u64;
        self.metrics.waiting.subtract(std::mem::replace(&mut self.shown, waiting));
        self.metrics.waiting.add(waiting);
    }

    fn complete(&mut self, client: ConnectionId, outcome: LocalOutcome) {
        self.complete.insert(client, outcome);
        self.commands.push_back(Command::Fill(client));
    }
}

/// Unpacks the gazetteer on a thread.
fn unpack() -> Job<server::Message> {
    Job {
        name: "gazetteer",
        run: Box::new(|| {
            server::Message::Places(PlacesMessage::Unpacked(Box::new(Gazetteer::unpack())))
        }),
        failed: Box::new(|reason| server::Message::Places(PlacesMessage::UnpackFailed(reason))),
    }
}
