//! Queries that a service answers over HTTPS, and the pool of connections that carry them.
//!
//! ```text
//!            same request in flight: joins it
//!   ask ---> a slot is free: Resolving? -> Opening -> On(connection) ---> answer ---> every asker
//!            none is: Waiting ----^                     |       ^
//!            queue full: UNKNOWN_ERROR                  |       +-- an idle connection, if there is
//!                                                       +-- closed under the request, or silent for
//!                                                           long: once more on a fresh connection
//! ```
//!
//! A query has one deadline for all its steps. Bounded: queries in flight, and so connections, two for
//! each; those that wait; the bytes of an answer; an attempt at one address; the time that a connection
//! is idle.

mod answer;
mod reach;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use super::commands::Commands;
use super::exchange::{Exchange, Step};
use super::names::Names;
use super::queries::{Asker, Full, Queries, QueryId, Stage};
use crate::config::PlacesSettings;
use crate::connections::{Command, ConnectionId, Verdict};
use crate::limits::{PLACES_ATTEMPT_PART, PLACES_DISTRUST, PLACES_IDLE, PLACES_READING_PART};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::target;
use crate::places::endpoint::Endpoint;
use crate::places::google::{Api, AreaText, Failure};
use crate::places::key::ApiKey;

/// The service, as one server of the herd uses it.
#[derive(Debug)]
pub(in crate::connections) struct Service {
    api: Api,
    endpoint: Endpoint,
    key: Option<ApiKey>,
    patience: Duration,
    response_bytes: usize,
    queries: Queries,
    exchanges: HashMap<ConnectionId, Exchange>,
    /// The pool, the one that rests for longest first.
    idle: Vec<ConnectionId>,
    /// Before this, connections are not kept: the service has sent what nobody asked for.
    distrusted_until: Duration,
    /// Before this, two answers that are alike are no sign of that: the service was seen to answer different
    /// questions alike.
    answers_alike_until: Duration,
    /// When connections are looked at that may not get on ([`Exchange::watched`]).
    watches: BTreeSet<(Duration, ConnectionId)>,
    /// How long the first byte of an answer has taken of late: the longest time, fading.
    slowest: Duration,
    names: Names,
    commands: Commands,
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
            response_bytes: settings.response_bytes,
            queries: Queries::new(settings.max_in_flight, settings.max_queued),
            exchanges: HashMap::new(),
            idle: Vec::new(),
            distrusted_until: Duration::ZERO,
            answers_alike_until: Duration::ZERO,
            watches: BTreeSet::new(),
            slowest: Duration::ZERO,
            commands: Commands::default(),
        }
    }

    /// A client asks. The answer is delivered later, unless there is no room for the query.
    pub(super) fn ask(
        &mut self,
        who: ConnectionId,
        circle: &AreaText,
        bound: usize,
        now: Duration,
    ) -> Option<Vec<u8>> {
        let request = self.api.request(&self.endpoint, self.key.as_ref(), circle, bound);
        let until = now + self.patience;
        match self.queries.ask(request, Asker { who, bound }, until, until - self.patience / 2) {
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

    /// Bytes of answers that are still to be delivered.
    pub(super) fn undelivered(&self) -> usize {
        self.commands.undelivered()
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let query = self.queries.nearest().map(|(until, _)| until);
        let watch = self.watches.first().map(|(until, _)| *until);
        let oldest = self.idle.first().and_then(|id| self.exchanges.get(id));
        let idle = oldest.map(|exchange| exchange.since + PLACES_IDLE);
        [query, watch, idle].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        for id in self.queries.due(now) {
            if !self.is_being_read(id, now) {
                self.overdue(id, now);
            }
        }
        let due = self.watches.iter().take_while(|(until, _)| *until <= now);
        for connection in due.map(|(_, connection)| *connection).collect::<Vec<_>>() {
            if !self.is_unread(connection) {
                self.look_after(connection, now);
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
        let Some(query) = self.queries.get_mut(id) else {
            return self.commands.push_back(Command::Close(connection));
        };
        query.stage = Stage::On(connection);
        if !query.addresses.is_empty() {
            self.watch(connection, now + self.patience / PLACES_ATTEMPT_PART);
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
        if let Some(id) = exchange.query
            && let Some(query) = self.queries.get_mut(id)
        {
            log::debug!(target: target::PLACES, "Connected to the Places service at {}.", exchange.address);
            exchange.begin(&query.request, self.response_bytes);
            out.extend_from_slice(&query.request);
        }
    }

    /// A kept connection that was chosen for a query is quiet: appends the request.
    pub(super) fn quiet(&mut self, connection: ConnectionId, out: &mut Vec<u8>, now: Duration) {
        let look_at = now + self.silence();
        if let Some(exchange) = self.exchanges.get_mut(&connection)
            && exchange.step == Step::Chosen
            && let Some(query) = exchange.query.and_then(|id| self.queries.get_mut(id))
        {
            exchange.begin(&query.request, self.response_bytes);
            exchange.since = now;
            out.extend_from_slice(&query.request);
            if look_at < query.until {
                self.watch(connection, look_at);
            }
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
        self.drop_idle();
    }

    /// Closes all connections of the pool: what befell one may have befallen them.
    fn drop_idle(&mut self) {
        self.commands.extend(self.idle.drain(..).map(Command::Finish));
    }

    /// The handshake is done.
    pub(super) fn secured(&mut self, connection: ConnectionId, now: Duration) {
        if let Some(exchange) = self.exchanges.get_mut(&connection)
            && exchange.step == Step::Handshaking
        {
            exchange.secured(now);
            self.names.worked(exchange.address);
            self.unwatch(connection);
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
        if exchange.step == Step::Doubted {
            return self.disbelieve(connection, now);
        }
        if exchange.is_silent() {
            let took = now.saturating_sub(exchange.since);
            self.slowest = took.max(self.slowest - self.slowest / FADING);
            self.unwatch(connection);
        }
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return Verdict::Close;
        };
        match exchange.push(bytes) {
            Ok(None) => Verdict::Next,
            Ok(Some(response)) => self.handle_response(connection, response, now),
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
        let is_answered = exchange.step == Step::Doubted;
        if exchange.is_at_rest() || is_answered || exchange.may_be_repeated() {
            return self.lost(connection, "the connection was closed", now);
        }
        match exchange.end() {
            Ok(response) => {
                self.handle_response(connection, response, now);
            }
            Err(error) => self.lost(connection, &error.to_string(), now),
        }
    }

    /// A connection is of no use any more. Its query is tried elsewhere where that may help.
    pub(super) fn lost(&mut self, connection: ConnectionId, reason: &str, now: Duration) {
        self.unwatch(connection);
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return;
        };
        if exchange.step == Step::Doubted {
            return self.believe(connection, false, now); // However it ended, no other answer follows.
        }
        let (was_opening, address) = (exchange.is_opening(), exchange.address);
        let may_be_repeated = exchange.may_be_repeated();
        let (query, step) = exchange.fail();
        self.idle.retain(|idle| *idle != connection);
        if was_opening {
            self.names.failed(address);
        }
        let Some((id, query)) = query.and_then(|id| Some((id, self.queries.get_mut(id)?))) else {
            return;
        };
        if query.suspect == Some(connection) {
            query.suspect = None; // It is asked elsewhere already.
            return;
        }
        match step {
            Step::Connecting => return self.try_next_address(id, reason, now),
            Step::Handshaking => {
                query.reason = Some(reason.to_owned());
                return self.try_next_address(id, reason, now);
            }
            Step::Chosen => return self.carry(id, now), // The service knows nothing of it yet.
            _ => {}
        }
        // A search changes nothing at the service, so also the New API's POST may be said again.
        if may_be_repeated && !std::mem::replace(&mut query.is_repeated, true) {
            log::debug!(target: target::PLACES, "A kept connection with the Places service was closed: once more.");
            return self.open(id, now);
        }
        self.give_up(id, &Failure::unknown(reason), now);
    }

    /// A connection is closed, and its slot given back.
    pub(super) fn closed(&mut self, connection: ConnectionId, now: Duration) {
        self.lost(connection, "the connection was closed", now);
        self.exchanges.remove(&connection);
    }

    pub(super) fn without_key(&self, message: String) -> String {
        match self.key.as_ref().is_some_and(|key| key.is_in(message.as_bytes())) {
            true => "for a reason that can't be told, because it holds the API key".to_owned(),
            false => message,
        }
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

    /// Whether an answer to a query that is overdue may have come, and is only not read to its end. What
    /// came in time is read soon; a service that does not stop sending must not hold the query up for longer.
    fn is_being_read(&mut self, id: QueryId, now: Duration) -> bool {
        self.queries.get_mut(id).is_some_and(|query| {
            let last = if let Stage::On(last) = query.stage { Some(last) } else { None };
            let is_unread = |id| self.exchanges.get(&id).is_some_and(|exchange| exchange.is_unread);
            let since = *query.overdue_since.get_or_insert(now);
            now <= since + self.patience / PLACES_READING_PART
                && last.into_iter().chain(query.suspect).any(is_unread)
        })
    }

    fn is_unread(&self, connection: ConnectionId) -> bool {
        self.exchanges.get(&connection).is_some_and(|exchange| exchange.is_unread)
    }

    /// Bytes of an answer that a connection holds.
    pub(super) fn buffered(&self, connection: ConnectionId) -> usize {
        self.exchanges.get(&connection).map_or(0, Exchange::buffered)
    }
}

/// By this part the slowest answer of late fades with each that follows.
const FADING: u32 = 8;
