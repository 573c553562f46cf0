//! What becomes of a query in the end: an answer, or a failure, for everyone who asked.

use std::time::Duration;

use super::super::exchange::{Exchange, Step};
use super::super::queries::{Query, QueryId, Stage};
use super::Service;
use crate::config::format_duration;
use crate::connections::{Command, ConnectionId, Verdict};
use crate::http::Response;
use crate::limits::{PLACES_DISTRUST, PLACES_DOUBT};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, target};
use crate::places::google::{Answer, Api, Failure};

impl Service {
    /// An answer is whole. On a kept connection it may be the one before, come once more: nothing in HTTP/1.1
    /// tells. What is alike although something else was asked is kept back for a moment: if the service has
    /// answered twice, the next answer follows. On a fresh connection the first answer can only be ours.
    pub(super) fn handle_response(
        &mut self,
        connection: ConnectionId,
        response: Response,
        now: Duration,
    ) -> Verdict {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Verdict::Close;
        };
        if exchange.is_reused && exchange.has_surplus() {
            return self.disbelieve(connection, now);
        }
        let is_doubtful = exchange.repeats_itself() && response.status == 200;
        if !is_doubtful || !response.may_reuse || now < self.answers_alike_until {
            return self.answered(connection, &response, now);
        }
        exchange.doubt(response);
        self.watch(connection, now + PLACES_DOUBT.max(2 * self.slowest).min(self.patience / 4));
        Verdict::Next
    }

    /// Nothing more has come: the service does answer different questions alike.
    pub(super) fn believe(&mut self, connection: ConnectionId, is_open: bool, now: Duration) {
        self.unwatch(connection);
        let exchange = self.exchanges.get_mut(&connection);
        if let Some(mut response) = exchange.and_then(Exchange::take_doubted) {
            response.may_reuse &= is_open;
            self.answers_alike_until = now + PLACES_DISTRUST;
            self.answered(connection, &response, now);
        }
    }

    /// More has come on a kept connection than one answer, and which is ours nobody knows: the query is
    /// asked again on a fresh one.
    pub(super) fn disbelieve(&mut self, connection: ConnectionId, now: Duration) -> Verdict {
        self.unwatch(connection);
        self.distrust(now);
        let id = self.exchanges.get_mut(&connection).and_then(|exchange| exchange.fail().0);
        match id.and_then(|id| Some((id, self.queries.get_mut(id)?))) {
            // It is asked elsewhere already.
            Some((_, query)) if query.suspect == Some(connection) => query.suspect = None,
            Some((id, query)) => {
                query.is_repeated = true;
                self.open(id, now);
            }
            None => self.start_waiting(now),
        }
        Verdict::Close
    }

    /// The whole answer to a query is there.
    fn answered(
        &mut self,
        connection: ConnectionId,
        response: &Response,
        now: Duration,
    ) -> Verdict {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Verdict::Close;
        };
        let has_surplus = exchange.has_surplus();
        let (query, _) = exchange.fail();
        if has_surplus {
            self.distrust(now);
        }
        let is_kept = response.may_reuse && now >= self.distrusted_until;
        if let (true, Some(exchange)) = (is_kept, self.exchanges.get_mut(&connection)) {
            exchange.rest(now);
            self.idle.push(connection);
        }
        match query.and_then(|id| self.queries.take(id)) {
            Some(query) => {
                self.let_go(&query, connection);
                self.deliver(query, response);
            }
            None => log::debug!(target: target::PLACES, "An answer came that nobody waits for."),
        }
        self.start_waiting(now);
        if is_kept { Verdict::Next } else { Verdict::Close }
    }

    fn deliver(&mut self, query: Query, response: &Response) {
        let most = query.askers.iter().map(|asker| asker.bound).max().unwrap_or(0);
        let places = match self.api.read(response, self.key.as_ref(), most) {
            Answer::Failed(failure) => {
                self.record(&failure);
                Err(failure.body())
            }
            Answer::Places { usable, refusal } => {
                refusal.iter().for_each(|refusal| self.record(refusal));
                Ok(usable.into_owned())
            }
        };
        self.commands.deliver(query.askers, places);
    }

    /// A query's time is up.
    pub(super) fn overdue(&mut self, id: QueryId, now: Duration) {
        let stage = self.queries.get_mut(id).map_or(Stage::Waiting, |query| query.stage);
        if let Stage::On(connection) = stage
            && self.exchanges.get(&connection).is_some_and(|it| it.step == Step::Doubted)
        {
            return self.believe(connection, true, now);
        }
        let patience = format_duration(self.patience);
        let (so_far, connection) = match stage {
            Stage::Waiting => ("too many other queries were in flight", None),
            Stage::Resolving => ("its name was not resolved", None),
            Stage::Opening => ("it could not be connected to", None),
            Stage::On(connection) => (self.overdue_on(connection), Some(connection)),
        };
        self.commands.extend(connection.map(Command::Close));
        let text = format!("no answer within {patience}: {so_far}");
        self.fail(id, &Failure::unknown(&text), now);
    }

    /// What a connection has not got to whose query's time is up, and what that says of others.
    fn overdue_on(&mut self, connection: ConnectionId) -> &'static str {
        self.unwatch(connection);
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return missing(Step::Failed);
        };
        let is_dead = exchange.is_reused && exchange.is_silent();
        let (was_opening, address) = (exchange.is_opening(), exchange.address);
        let (_, step) = exchange.fail();
        if was_opening {
            self.names.failed(address);
        }
        if is_dead {
            self.drop_idle();
        }
        missing(step)
    }

    /// A query was answered on one connection: one that carries it, too, is closed.
    fn let_go(&mut self, query: &Query, answered_on: ConnectionId) {
        let last = if let Stage::On(connection) = query.stage { Some(connection) } else { None };
        for other in query.suspect.into_iter().chain(last).filter(|it| *it != answered_on) {
            self.unwatch(other);
            if let Some(exchange) = self.exchanges.get_mut(&other) {
                exchange.fail();
                self.commands.push_back(Command::Close(other));
            }
        }
    }

    /// A query is answered with a failure.
    pub(super) fn fail(&mut self, id: QueryId, failure: &Failure, now: Duration) {
        if let Some(query) = self.queries.take(id) {
            self.commands.extend(query.suspect.map(Command::Close));
            self.record(failure);
            self.commands.deliver(query.askers, Err(failure.body()));
        }
        self.start_waiting(now);
    }

    /// Tells the operator, once a query.
    fn record(&self, Failure { status, message }: &Failure) {
        let (status, message) = (Escaped(status.as_bytes()), Escaped(message.as_bytes()));
        let text = format_args!("The Places service failed a query: {status}: {message}");
        rate_limit::warn(Kind::QueryFailed, text);
        if self.api == Api::NearbySearch && status.0 == b"REQUEST_DENIED" {
            let text = format_args!(
                "Google enables the legacy Nearby Search for no new project: try --places google-new."
            );
            rate_limit::warn(Kind::LegacyRefused, text);
        }
    }
}

/// What an exchange has not got to, for who waited for it.
fn missing(step: Step) -> &'static str {
    match step {
        Step::Connecting => "the connection was not made",
        Step::Handshaking => "the TLS handshake was not finished",
        Step::Sending | Step::Doubted | Step::Idle | Step::Chosen | Step::Failed => "nothing came",
        Step::ReadingHead => "its head was not finished",
        Step::ReadingBody => "its body was not finished",
    }
}
