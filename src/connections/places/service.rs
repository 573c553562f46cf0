//! Queries that a service answers over HTTPS, and the pool of connections that carry them.
//!
//! ```text
//!            same request in flight: joins it
//!   ask ---> a slot is free: Resolving? -> Opening -> On(connection) ---> answer ---> every asker
//!            none is: Waiting ----^                     |       ^
//!            queue full: UNKNOWN_ERROR                  |       +-- an idle connection, if there is
//!                                                       +-- closed under the request: once more
//! ```
//!
//! A query has one deadline for all its steps. Bounded: queries in flight, and so connections; those
//! that wait; the bytes of an answer; an attempt to connect; the time that a connection is idle.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::exchange::{Exchange, Step};
use super::names::{Look, Names};
use super::queries::{Asker, Full, Queries, Query, QueryId, Stage};
use crate::config::{PlacesSettings, shown};
use crate::connections::{Command, ConnectionId, Verdict};
use crate::limits::{PLACES_CONNECT, PLACES_DISTRUST, PLACES_IDLE};
use crate::logging::Escaped;
use crate::logging::rate_limit::{self, Kind};
use crate::places::endpoint::Endpoint;
use crate::places::google::{Answer, Api, Circle, Failure};
use crate::places::http::Response;
use crate::places::key::Key;

/// The service, as one server of the herd uses it.
#[derive(Debug)]
pub(in crate::connections) struct Service {
    api: Api,
    endpoint: Endpoint,
    key: Option<Key>,
    patience: Duration,
    answer_bytes: usize,
    queries: Queries,
    exchanges: HashMap<ConnectionId, Exchange>,
    /// The pool, the one that rests for longest first.
    idle: Vec<ConnectionId>,
    /// Before this, connections are not kept: the service has sent what nobody asked for.
    distrusted_until: Duration,
    /// When attempts to connect are given up, the nearest first; of some that is no matter any more.
    attempts: VecDeque<(Duration, ConnectionId)>,
    names: Names,
    commands: VecDeque<Command>,
}

impl Service {
    pub(super) fn new(api: Api, settings: &PlacesSettings) -> Service {
        let endpoint = settings.endpoint.clone();
        Service {
            api,
            names: Names::new(&endpoint.host, endpoint.port),
            endpoint,
            key: settings.key.clone(),
            patience: settings.timeout,
            answer_bytes: settings.answer_bytes,
            queries: Queries::new(settings.in_flight, settings.waiting),
            exchanges: HashMap::new(),
            idle: Vec::new(),
            distrusted_until: Duration::ZERO,
            attempts: VecDeque::new(),
            commands: VecDeque::new(),
        }
    }

    /// A client asks. The answer is delivered later, unless there is no room for the query.
    pub(super) fn ask(
        &mut self,
        who: ConnectionId,
        circle: &Circle,
        bound: usize,
        now: Duration,
    ) -> Option<Vec<u8>> {
        let request = self.api.request(&self.endpoint, self.key.as_ref(), circle, bound);
        match self.queries.ask(request, Asker { who, bound }, now + self.patience) {
            Ok(()) => {
                self.start_waiting(now);
                None
            }
            Err(Full) => {
                let text = format_args!("A query for places is refused: too many are waiting.");
                rate_limit::warn(Kind::TooManyQueries, text);
                Some(Failure::unknown("too many queries are waiting").body())
            }
        }
    }

    /// A client has left.
    pub(super) fn forget(&mut self, who: ConnectionId) {
        self.queries.forget(who);
    }

    pub(super) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let query = self.queries.nearest().map(|(until, _)| until);
        let attempt = self.attempts.front().map(|(until, _)| *until);
        let oldest = self.idle.first().and_then(|id| self.exchanges.get(id));
        let idle = oldest.map(|exchange| exchange.since + PLACES_IDLE);
        [query, attempt, idle].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        for id in self.queries.due(now) {
            if !self.is_being_read(id) {
                self.overdue(id, now);
            }
        }
        while let Some((until, connection)) = self.attempts.front().copied()
            && until <= now
        {
            self.attempts.pop_front();
            let exchange = self.exchanges.get(&connection);
            if exchange.is_some_and(|exchange| exchange.step == Step::Connecting) {
                self.commands.push_back(Command::Close(connection));
                self.lost(connection, "the connection was not made in time", now);
            }
        }
        while let Some(oldest) = self.idle.first().copied()
            && self.exchanges.get(&oldest).is_none_or(|it| it.since + PLACES_IDLE <= now)
        {
            self.idle.remove(0);
            self.commands.push_back(Command::Finish(oldest));
        }
    }

    /// The resolver has answered.
    pub(super) fn resolved(&mut self, result: Result<Vec<SocketAddr>, String>, now: Duration) {
        self.names.resolved(result, now);
        for id in self.queries.resolving() {
            self.open(id, now);
        }
    }

    /// A connection is being made for a query.
    pub(super) fn connecting(
        &mut self,
        id: QueryId,
        connection: ConnectionId,
        address: SocketAddr,
        now: Duration,
    ) {
        self.exchanges.insert(connection, Exchange::new(id, address, now));
        self.attempts.push_back((now + PLACES_CONNECT, connection));
        if let Some(query) = self.queries.get_mut(id) {
            query.stage = Stage::On(connection);
        }
    }

    /// It could not even be begun.
    pub(super) fn not_connecting(&mut self, id: QueryId, reason: &str, now: Duration) {
        self.try_next_address(id, reason, now);
    }

    /// A connection is made: appends the request, which goes out once the handshake is done.
    pub(super) fn connected(&mut self, connection: ConnectionId, out: &mut Vec<u8>) {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return;
        };
        self.names.prefer(exchange.address);
        if let Some(id) = exchange.query
            && let Some(query) = self.queries.get_mut(id)
        {
            log::debug!("Connected to the Places service at {}.", exchange.address);
            exchange.begin(self.answer_bytes);
            out.extend_from_slice(&query.request);
        }
    }

    /// A kept connection that was chosen for a query is quiet: appends the request.
    pub(super) fn quiet(&mut self, connection: ConnectionId, out: &mut Vec<u8>) {
        if let Some(exchange) = self.exchanges.get_mut(&connection)
            && exchange.step == Step::Chosen
            && let Some(query) = exchange.query.and_then(|id| self.queries.get_mut(id))
        {
            exchange.begin(self.answer_bytes);
            out.extend_from_slice(&query.request);
        }
    }

    /// Bytes have come on a kept connection that nobody asked for: the other kept ones may bring some,
    /// too, and too late to be told from an answer.
    pub(super) fn spoke_unasked(&mut self, connection: ConnectionId, now: Duration) {
        self.distrust(now);
        self.lost(connection, "it spoke without being asked", now);
    }

    fn distrust(&mut self, now: Duration) {
        let text = format_args!(
            "The Places service sent more than was asked for: no connection is kept for now."
        );
        rate_limit::warn(Kind::ServiceDistrusted, text);
        self.distrusted_until = now + PLACES_DISTRUST;
        self.commands.extend(self.idle.drain(..).map(Command::Finish));
    }

    /// The handshake is done.
    pub(super) fn secured(&mut self, connection: ConnectionId) {
        if let Some(exchange) = self.exchanges.get_mut(&connection) {
            exchange.secured();
        }
    }

    /// Bytes have come on a connection.
    pub(super) fn handle_bytes(
        &mut self,
        connection: ConnectionId,
        bytes: &[u8],
        now: Duration,
    ) -> Verdict {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Verdict::Close;
        };
        if exchange.is_at_rest() {
            self.spoke_unasked(connection, now);
            return Verdict::Close;
        }
        match exchange.push(bytes) {
            Ok(None) => Verdict::Next,
            Ok(Some(response)) => self.answered(connection, &response, now),
            Err(error) => {
                self.lost(connection, &error.to_string(), now);
                Verdict::Close
            }
        }
    }

    /// The service has ended its side of a connection, in order.
    pub(super) fn handle_end(&mut self, connection: ConnectionId, now: Duration) {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return;
        };
        if exchange.is_at_rest() || exchange.may_be_repeated() {
            return self.lost(connection, "the connection was closed", now);
        }
        match exchange.end() {
            Ok(response) => {
                self.answered(connection, &response, now);
            }
            Err(error) => self.lost(connection, &error.to_string(), now),
        }
    }

    /// A connection is of no use any more. Its query is tried elsewhere where that may help.
    pub(super) fn lost(&mut self, connection: ConnectionId, reason: &str, now: Duration) {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return;
        };
        let may_be_repeated = exchange.may_be_repeated();
        let (query, step) = exchange.fail();
        self.idle.retain(|idle| *idle != connection);
        let Some((id, query)) = query.and_then(|id| Some((id, self.queries.get_mut(id)?))) else {
            return;
        };
        if step == Step::Connecting {
            return self.try_next_address(id, reason, now);
        }
        if step == Step::Chosen {
            return self.carry(id, now); // The service knows nothing of it yet.
        }
        // A search changes nothing at the service, so also the New API's POST may be said again.
        if may_be_repeated && !std::mem::replace(&mut query.is_repeated, true) {
            log::debug!("A kept connection with the Places service was closed: once more.");
            return self.open(id, now);
        }
        self.fail(id, &Failure::unknown(reason), now);
    }

    /// A connection is closed, and its slot given back.
    pub(super) fn closed(&mut self, connection: ConnectionId, now: Duration) {
        self.lost(connection, "the connection was closed", now);
        self.exchanges.remove(&connection);
    }

    pub(super) fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// Notes whether more of what has come on a connection is still to be read.
    pub(super) fn unread(&mut self, connection: ConnectionId, is_unread: bool) {
        if let Some(exchange) = self.exchanges.get_mut(&connection) {
            exchange.is_unread = is_unread;
        }
    }

    /// Whether a query's answer has come and is only not read to its end: it is bounded, so that will
    /// not take long.
    fn is_being_read(&mut self, id: QueryId) -> bool {
        let stage = self.queries.get_mut(id).map(|query| query.stage);
        let Some(Stage::On(connection)) = stage else {
            return false;
        };
        self.exchanges.get(&connection).is_some_and(|exchange| exchange.is_unread)
    }

    /// Bytes of an answer that a connection holds.
    pub(super) fn buffered(&self, connection: ConnectionId) -> usize {
        self.exchanges.get(&connection).map_or(0, Exchange::buffered)
    }

    /// Gives free slots to those that wait, by connections of the pool where it has some.
    fn start_waiting(&mut self, now: Duration) {
        while let Some(id) = self.queries.next() {
            self.carry(id, now);
        }
    }

    /// Gives a query a connection: one of the pool where that has some, else a fresh one.
    fn carry(&mut self, id: QueryId, now: Duration) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        match self.idle.pop().and_then(|idle| Some((idle, self.exchanges.get_mut(&idle)?))) {
            Some((connection, exchange)) => {
                query.stage = Stage::On(connection);
                exchange.choose(id);
                self.commands.push_back(Command::AskOn(connection));
            }
            None => self.open(id, now),
        }
    }

    /// Makes a fresh connection for a query.
    fn open(&mut self, id: QueryId, now: Duration) {
        let look = self.names.look(now);
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        match look {
            Look::Addresses(addresses) => {
                query.addresses = addresses;
                self.try_next_address(id, "its name stands for no address", now);
            }
            Look::Unknown { ask } => {
                query.stage = Stage::Resolving;
                if ask {
                    let Endpoint { host, port, .. } = self.endpoint.clone();
                    self.commands.push_back(Command::ResolvePlaces { host, port });
                }
            }
            Look::Failed(reason) => {
                let host = &self.endpoint.host;
                let text = format!("the name {host} can't be resolved: {reason}");
                self.fail(id, &Failure::unknown(&text), now);
            }
        }
    }

    fn try_next_address(&mut self, id: QueryId, reason: &str, now: Duration) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        match query.addresses.pop_front() {
            Some(address) => {
                query.stage = Stage::Opening;
                self.commands.push_back(Command::OpenPlaces { query: id, address });
            }
            None => {
                let host = self.endpoint.authority();
                let text = format!("{host} can't be reached: {reason}");
                self.fail(id, &Failure::unknown(&text), now);
            }
        }
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
            Some(query) => self.deliver(query, response),
            None => log::debug!("An answer came that nobody waits for."),
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
                Ok(usable)
            }
        };
        for Asker { who, bound } in query.askers {
            let body = match &places {
                Ok(usable) => usable.trim(bound),
                Err(failed) => failed.clone(),
            };
            self.commands.push_back(Command::Deliver { to: who, body });
        }
    }

    fn overdue(&mut self, id: QueryId, now: Duration) {
        let patience = shown(self.patience);
        let stage = self.queries.get_mut(id).map_or(Stage::Waiting, |query| query.stage);
        let (so_far, connection) = match stage {
            Stage::Waiting => ("too many other queries were in flight", None),
            Stage::Resolving => ("its name was not resolved", None),
            Stage::Opening => ("it could not be connected to", None),
            Stage::On(connection) => {
                let exchange = self.exchanges.get_mut(&connection);
                let step = exchange.map_or(Step::Failed, |exchange| exchange.fail().1);
                (missing(step), Some(connection))
            }
        };
        self.commands.extend(connection.map(Command::Close));
        let text = format!("no answer within {patience}: {so_far}");
        self.fail(id, &Failure::unknown(&text), now);
    }

    fn fail(&mut self, id: QueryId, failure: &Failure, now: Duration) {
        if let Some(query) = self.queries.take(id) {
            self.record(failure);
            for Asker { who, .. } in query.askers {
                self.commands.push_back(Command::Deliver { to: who, body: failure.body() });
            }
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
        Step::Sending | Step::Idle | Step::Chosen | Step::Failed => "nothing came",
        Step::ReadingHead => "its head was not finished",
        Step::ReadingBody => "its body was not finished",
    }
}
