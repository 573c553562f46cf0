//! Queries that a service answers over HTTPS, and the pool of connections that carry them.
//!
//! ```text
//!                same request in flight: joins it
//!   request ---> a slot is free: Dialling -> On(connection) ---> answer ---> each waiter's fill
//!                none is: Queued --^             |       ^
//!                queue full: UNKNOWN_ERROR       |       +-- an idle connection, if there is one
//!                                                +-- closed under the request, or silent for
//!                                                    long: once more on a fresh connection
//! ```
//! A query has one deadline for all its steps. Bounded are the queries in flight, and so the connections (two
//! for each); the queued queries; the bytes of an answer; the time of an attempt at one address; the time that
//! a connection is idle.

mod dial;
mod failures;
mod former;
mod outcome;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Bounds;
use super::answers::Answers;
use super::exchange::{Exchange, ExchangeState};
use super::queries::{Queries, QueryId, QueueFull, Waiter};
use crate::application::{Command, ConnectionId, Due, Io, Next, TlsId};
use crate::config::PlacesSettings;
use crate::limits::{PLACES_IDLE, PLACES_READING_PART};
use crate::logging::rate_limit::{self, Kind};
use crate::places::endpoint::Endpoint;
use crate::places::google::{Api, AreaText, Failure};
use crate::places::key::ApiKey;
use crate::server::ServerCommand;
use crate::server::metrics::ClosedReason;
use crate::server::metrics::PlacesMetrics;
use crate::server::metrics::PlacesResult::{self, Http, Refused};

/// The service, as one server of the herd uses it.
#[derive(Debug)]
pub(super) struct Pool {
    api: Api,
    endpoint: Endpoint,
    key: Option<ApiKey>,
    /// Without it no query is accepted, so no query is ever sent in plain text.
    tls: Option<TlsId>,
    timeout: Duration,
    response_bytes: usize,
    queries: Queries,
    exchanges: HashMap<ConnectionId, Exchange>,
    /// The pool; the connection that has been idle longest is first.
    idle: Vec<ConnectionId>,
    /// Until this time, connections are not kept: the service has sent unsolicited bytes.
    distrusted_until: Duration,
    /// Until this time, two equal answers are no sign of that: the service is known to give equal answers to
    /// different questions.
    answers_alike_until: Duration,
    /// When the progress of connections is checked ([`Exchange::check_at`]).
    checks: BTreeSet<(Duration, ConnectionId)>,
    /// How long the first byte of recent answers has taken: the longest time, which decays.
    slowest: Duration,
    /// The address that was being dialled when the last query timed out. The loop does not know that it
    /// failed, because the dial was cancelled.
    avoided: Option<SocketAddr>,
    answers: Answers,
    commands: VecDeque<ServerCommand>,
    metrics: Arc<PlacesMetrics>,
}

impl Pool {
    pub(super) fn new(
        api: Api,
        settings: &PlacesSettings,
        bounds: Bounds,
        tls: Option<TlsId>,
        last: QueryId,
        metrics: Arc<PlacesMetrics>,
    ) -> Pool {
        Pool {
            api,
            endpoint: settings.endpoint.clone(),
            key: settings.key.clone(),
            tls,
            timeout: bounds.timeout,
            response_bytes: settings.response_bytes,
            queries: Queries::new(bounds.in_flight, bounds.queued, last, Arc::clone(&metrics)),
            exchanges: HashMap::new(),
            idle: Vec::new(),
            distrusted_until: Duration::ZERO,
            answers_alike_until: Duration::ZERO,
            checks: BTreeSet::new(),
            slowest: Duration::ZERO,
            avoided: None,
            answers: Answers::default(),
            commands: VecDeque::new(),
            metrics,
        }
    }

    /// The answer comes later, by the client's `fill`, unless there is no room for the query.
    pub(super) fn request(
        &mut self,
        waiter: Waiter,
        area: &AreaText,
        now: Duration,
    ) -> Option<Vec<u8>> {
        if self.tls.is_none() {
            self.metrics.count_request(PlacesResult::Refused, None);
            return Some(Failure::unknown("TLS is not set up for the Places service").body());
        }
        let request = self.api.request(&self.endpoint, self.key.as_ref(), area, waiter.bound);
        let deadline = now + self.timeout;
        match self.queries.add(request, waiter, now, deadline, deadline - self.timeout / 2) {
            Ok(()) => {
                self.start_queued(now);
                None
            }
            Err(QueueFull) => {
                self.metrics.count_request(PlacesResult::Busy, None);
                let text = format_args!("A query for places is refused: too many are waiting.");
                rate_limit::warn(Kind::TooManyQueries, &[], text);
                Some(Failure::unknown("too many queries are waiting").body())
            }
        }
    }

    /// Forgets a client that is gone.
    pub(super) fn forget(&mut self, client: ConnectionId) {
        self.queries.forget(client);
        self.answers.forget(client);
    }

    pub(super) fn take_answer(&mut self, client: ConnectionId) -> Option<Arc<Vec<u8>>> {
        self.answers.take(client)
    }

    pub(super) fn poll_command(&mut self) -> Option<ServerCommand> {
        self.commands.pop_front().or_else(|| self.answers.poll_fill().map(Command::Fill))
    }

    /// Bytes of complete answers that clients have not taken yet.
    pub(super) fn shared_bytes(&self) -> usize {
        self.answers.held_bytes()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let query = self.queries.next_deadline();
        let check = self.checks.first().map(|(at, _)| *at);
        let oldest = self.idle.first().and_then(|id| self.exchanges.get(id));
        let idle = oldest.map(|exchange| exchange.since + PLACES_IDLE);
        [query, check, idle].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, due: &mut Due<'_>) {
        let now = due.now.elapsed;
        for id in self.queries.due(now) {
            if !self.is_being_read(id, due) {
                self.timed_out(id, now);
            }
        }
        let checks = self.checks.iter().take_while(|(at, _)| *at <= now);
        for connection in checks.map(|(_, connection)| *connection).collect::<Vec<_>>() {
            if !due.is_behind(connection) {
                self.check_progress(connection, now);
            }
        }
        while let Some(oldest) = self.idle.first().copied()
            && self.exchanges.get(&oldest).is_none_or(|it| it.since + PLACES_IDLE <= now)
        {
            self.idle.remove(0);
            self.closes(oldest, ClosedReason::IdleEvicted);
            self.commands.push_back(Command::Finish(oldest));
        }
    }

    /// The output of a kept connection that was chosen for a query has room for the request. Bytes that have
    /// come on the connection since its last answer, noticed or not, would be taken for the answer to this
    /// request, so the loop reads from the kernel first.
    pub(super) fn fill(&self, connection: ConnectionId) -> Next {
        match self.exchanges.get(&connection).map(|exchange| exchange.state) {
            Some(ExchangeState::Chosen) => Next::Probe,
            Some(ExchangeState::Failed) | None => Next::Finish,
            Some(_) => Next::Read,
        }
    }

    /// A kept connection that was chosen for a query is quiet: appends the request.
    pub(super) fn handle_quiet(&mut self, io: &mut Io<'_>) -> Next {
        let (connection, now) = (io.id, io.now.elapsed);
        let check_at = now + self.silence();
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Next::Finish;
        };
        if exchange.state == ExchangeState::Chosen
            && let Some(query) = exchange.query.and_then(|id| self.queries.get_mut(id))
        {
            exchange.send(&query.request, self.response_bytes, now);
            io.out.extend_from_slice(&query.request);
            self.metrics.connections[1].add(1);
            if check_at < query.deadline {
                self.check_at(connection, check_at);
            }
        }
        Next::Read
    }

    /// Bytes came on a connection.
    pub(super) fn handle_bytes(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        now: Duration,
    ) -> Next {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Next::Finish;
        };
        if exchange.is_at_rest() {
            // The other kept connections may bring such bytes, too, and too late to be distinguished from an
            // answer.
            self.distrust(now);
            self.closes(connection, ClosedReason::Protocol);
            self.connection_failed(connection, Refused, "it sent data without a request", now);
            return Next::Finish;
        }
        match exchange.state {
            ExchangeState::Doubted => return self.disbelieve(connection, now),
            ExchangeState::Failed => return Next::Finish,
            _ => {}
        }
        if exchange.is_silent() {
            let took = now.saturating_sub(exchange.since);
            self.slowest = took.max(self.slowest - self.slowest / FADING);
            self.cancel_check(connection);
        }
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Next::Finish;
        };
        match exchange.push(bytes) {
            Ok(None) => Next::Read,
            Ok(Some(response)) => self.handle_response(connection, response, now),
            Err(error) if exchange.shows_surplus(&error) => {
                self.closes(connection, ClosedReason::Protocol);
                self.disbelieve(connection, now)
            }
            Err(error) => {
                self.closes(connection, ClosedReason::Protocol);
                self.connection_failed(connection, Http, &error.to_string(), now);
                Next::Finish
            }
        }
    }

    /// A text without any quotation of the key by the service.
    pub(super) fn without_key(&self, text: String) -> String {
        match self.key.as_ref().is_some_and(|key| key.is_in(text.as_bytes())) {
            true => "for a reason that can't be shown, because it contains the API key".to_owned(),
            false => text,
        }
    }

    /// Whether an answer to a query that has timed out may have arrived but is not completely read yet. Bytes
    /// that came in time are read soon; a service that does not stop sending must not hold the query for
    /// longer.
    fn is_being_read(&mut self, id: QueryId, due: &mut Due<'_>) -> bool {
        let now = due.now.elapsed;
        self.queries.get_mut(id).is_some_and(|query| {
            let since = *query.timed_out_since.get_or_insert(now);
            now <= since + self.timeout / PLACES_READING_PART
                && query.connection().into_iter().chain(query.suspect).any(|id| due.is_behind(id))
        })
    }

    /// Bytes of an answer that a connection holds.
    pub(super) fn held_bytes(&self, connection: ConnectionId) -> usize {
        self.exchanges.get(&connection).map_or(0, Exchange::buffered)
    }
}

/// The time of the slowest recent answer decays by this part with each answer that follows.
const FADING: u32 = 8;
