//! How a query ends: with an answer, or a failure, for each client that waits.

use std::time::Duration;

use super::super::exchange::{Exchange, ExchangeState};
use super::super::queries::{DialProgress, PendingQuery, QueryId, QueryState};
use super::Pool;
use crate::application::{Command, ConnectionId, Next};
use crate::config::format_duration;
use crate::http::Response;
use crate::limits::{PLACES_DISTRUST, PLACES_DOUBT};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, field, target};
use crate::places::UNKNOWN_ERROR;
use crate::places::google::{Answer, Api, Failure};
use crate::server::metrics::{ClosedReason, PlacesResult};

impl Pool {
    /// An answer is complete. On a kept connection it may be a second copy of the one before: HTTP/1.1
    /// cannot distinguish them. An equal answer to another question is kept back for a moment: if the
    /// service has answered twice, the next answer follows. On a fresh connection the first answer can only
    /// be ours.
    pub(super) fn handle_response(
        &mut self,
        connection: ConnectionId,
        response: Response,
        now: Duration,
    ) -> Next {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Next::Finish;
        };
        if exchange.is_reused && exchange.has_surplus() {
            return self.disbelieve(connection, now);
        }
        let is_doubtful = exchange.repeats_itself() && response.status == 200;
        if !is_doubtful || !response.may_reuse || now < self.answers_alike_until {
            return self.answered(connection, &response, now);
        }
        exchange.doubt(response);
        self.check_at(connection, now + PLACES_DOUBT.max(2 * self.slowest).min(self.timeout / 4));
        Next::Read
    }

    /// No more bytes have come: the service does give equal answers to different questions.
    pub(super) fn believe(&mut self, connection: ConnectionId, is_open: bool, now: Duration) {
        self.cancel_check(connection);
        let exchange = self.exchanges.get_mut(&connection);
        if let Some(mut response) = exchange.and_then(Exchange::take_doubted) {
            response.may_reuse &= is_open;
            self.answers_alike_until = now + PLACES_DISTRUST;
            let next = self.answered(connection, &response, now);
            // Nothing came on the connection, so the loop must be asked to go on with it: to close it, or to
            // count its memory without the answer.
            match next {
                _ if !is_open => {}
                Next::Finish => self.commands.push_back(Command::Finish(connection)),
                _ => self.commands.push_back(Command::Fill(connection)),
            }
        }
    }

    /// More bytes have come on a kept connection than one answer, and it is unknown which answer is ours:
    /// the query is sent again on a fresh connection.
    pub(super) fn disbelieve(&mut self, connection: ConnectionId, now: Duration) -> Next {
        self.cancel_check(connection);
        self.distrust(now);
        let id = self.exchanges.get_mut(&connection).and_then(|exchange| exchange.fail().0);
        match id.and_then(|id| Some((id, self.queries.get_mut(id)?))) {
            // It was sent on another connection already.
            Some((_, query)) if query.suspect == Some(connection) => query.suspect = None,
            Some((id, query)) => {
                query.was_retried = true;
                self.dial(id, now);
            }
            None => self.start_queued(now),
        }
        Next::Finish
    }

    /// The answer to a query is complete, and is believed.
    fn answered(&mut self, connection: ConnectionId, response: &Response, now: Duration) -> Next {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Next::Finish;
        };
        let has_surplus = exchange.has_surplus();
        let (query, _) = exchange.fail();
        if has_surplus {
            self.distrust(now);
        }
        let is_kept = response.may_reuse && now >= self.distrusted_until;
        if let (true, Some(exchange)) = (is_kept, self.exchanges.get_mut(&connection)) {
            exchange.idle(now);
            self.idle.push(connection);
        }
        match query.and_then(|id| Some((id, self.queries.take(id)?))) {
            Some((id, query)) => {
                self.release_others(id, &query, connection);
                self.complete(query, response, now);
            }
            None => log::debug!(
                target: target::PLACES, event = "answer_unused";
                "An answer came that no client waits for."
            ),
        }
        self.start_queued(now);
        if is_kept { Next::Read } else { Next::Finish }
    }

    fn complete(&mut self, query: PendingQuery, response: &Response, now: Duration) {
        let most = query.waiters.iter().map(|waiter| waiter.bound).max().unwrap_or(0);
        let (places, result) = match self.api.read(response, self.key.as_ref(), most) {
            Answer::Failed(failure) => {
                self.record(&failure);
                // A status of its own means that the service has refused the query.
                let is_unusable = response.status == 200 && failure.status == UNKNOWN_ERROR;
                let result = if is_unusable { PlacesResult::Unusable } else { PlacesResult::Http };
                (Err(failure.body()), result)
            }
            Answer::Places { usable, refusal } => {
                refusal.iter().for_each(|refusal| self.record(refusal));
                let result = if refusal.is_some() { PlacesResult::Http } else { PlacesResult::Ok };
                (Ok(usable.into_owned()), result)
            }
        };
        self.queries.count(&query, result, now);
        self.answers.complete(query.waiters, places);
    }

    /// A query has timed out.
    pub(super) fn timed_out(&mut self, id: QueryId, now: Duration) {
        let state = self.queries.get(id).map_or(QueryState::Queued, |query| query.state);
        if let QueryState::On(connection) = state
            && self.exchanges.get(&connection).is_some_and(|it| it.state == ExchangeState::Doubted)
        {
            return self.believe(connection, true, now);
        }
        let timeout = format_duration(self.timeout);
        let (so_far, command) = match state {
            QueryState::Queued => ("too many other queries were in flight", None),
            QueryState::Dialling(progress) => {
                self.avoided = self.queries.get(id).and_then(|query| query.address);
                (missing_of_dial(progress), Some(Command::Cancel(id.ticket())))
            }
            QueryState::On(connection) => {
                (self.timed_out_on(connection), Some(Command::Close(connection)))
            }
        };
        self.commands.extend(command);
        let text = format!("no answer within {timeout}: {so_far}");
        self.fail(id, PlacesResult::Timeout, &Failure::unknown(&text), now);
    }

    /// Reports what is missing on a connection whose query has timed out, and acts on what that means for
    /// others.
    fn timed_out_on(&mut self, connection: ConnectionId) -> &'static str {
        self.cancel_check(connection);
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return missing(ExchangeState::Failed);
        };
        let is_dead = exchange.is_reused && exchange.is_silent();
        let (_, state) = exchange.fail();
        if is_dead {
            self.drop_idle();
        }
        missing(state)
    }

    /// A query was answered on one connection: another one that carries it, too, is closed, and a dial for
    /// it is cancelled.
    fn release_others(&mut self, id: QueryId, query: &PendingQuery, answered_on: ConnectionId) {
        if let QueryState::Dialling(_) = query.state {
            self.commands.push_back(Command::Cancel(id.ticket()));
        }
        let others = query.suspect.into_iter().chain(query.connection());
        for other in others.filter(|it| *it != answered_on) {
            self.cancel_check(other);
            if let Some(exchange) = self.exchanges.get_mut(&other) {
                exchange.fail();
                exchange.closed_as = Some(ClosedReason::Replaced);
                self.commands.push_back(Command::Close(other));
            }
        }
    }

    /// Answers a query with a failure.
    pub(super) fn fail(
        &mut self,
        id: QueryId,
        result: PlacesResult,
        failure: &Failure,
        now: Duration,
    ) {
        if let Some(query) = self.queries.take(id) {
            self.commands.extend(query.suspect.map(Command::Close));
            self.queries.count(&query, result, now);
            self.record(failure);
            self.answers.complete(query.waiters, Err(failure.body()));
        }
        self.start_queued(now);
    }

    /// Reports it to the operator, once per query.
    pub(super) fn record(&self, Failure { status, message }: &Failure) {
        let (status, message) = (Escaped(status.as_bytes()), Escaped(message.as_bytes()));
        let text = format_args!("The Places service failed a query: {status}: {message}");
        rate_limit::warn(Kind::QueryFailed, &[field("reason", &message)], text);
        if self.api == Api::NearbySearch && status.0 == b"REQUEST_DENIED" {
            let text = format_args!(
                "Google enables the legacy Nearby Search for no new project: try --places google-new."
            );
            rate_limit::warn(Kind::LegacyRefused, &[], text);
        }
    }
}

/// What is missing for an answer on a connection.
fn missing(state: ExchangeState) -> &'static str {
    match state {
        ExchangeState::ReadingHead => "its head was not finished",
        ExchangeState::ReadingBody => "its body was not finished",
        ExchangeState::Sending
        | ExchangeState::Doubted
        | ExchangeState::Idle
        | ExchangeState::Chosen
        | ExchangeState::Failed => "nothing came",
    }
}

/// What is missing for an answer if there is no connection yet.
fn missing_of_dial(progress: DialProgress) -> &'static str {
    match progress {
        DialProgress::Resolving => "its name was not resolved",
        DialProgress::Connecting => "the connection was not made",
        DialProgress::Handshaking => "the TLS handshake was not finished",
    }
}
