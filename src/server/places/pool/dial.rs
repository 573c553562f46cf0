//! How a query gets a connection: one of the pool, or a fresh one that the loop dials; and what happens if
//! that one makes no progress.

use std::time::Duration;

use super::super::exchange::{Exchange, ExchangeState};
use super::super::queries::{DialProgress, QueryId, QueryState};
use super::Pool;
use crate::application::{
    Command, ConnectionId, Dial, DialEvent, Freshness, Io, Start, Target, Ticket,
};
use crate::limits::{PLACES_ATTEMPT_PART, PLACES_SILENCE_PART};
use crate::logging::{Escaped, target};
use crate::places::endpoint::Endpoint;
use crate::places::google::Failure;
use crate::server::metrics::PlacesResult;

impl Pool {
    /// Gives free slots to queued queries.
    pub(super) fn start_queued(&mut self, now: Duration) {
        while let Some(id) = self.queries.next() {
            self.carry(id, now);
        }
    }

    /// Gives a query a connection: one of the pool if there is any, else a fresh one.
    pub(super) fn carry(&mut self, id: QueryId, now: Duration) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        match self.idle.pop().and_then(|idle| Some((idle, self.exchanges.get_mut(&idle)?))) {
            Some((connection, exchange)) => {
                query.set_state(QueryState::On(connection), &self.metrics);
                exchange.choose(id);
                self.commands.push_back(Command::Fill(connection));
            }
            None => self.dial(id, now),
        }
    }

    /// Asks the loop for a fresh connection for a query. One of several addresses may take a part of the
    /// query's time, the last one all that is left.
    pub(super) fn dial(&mut self, id: QueryId, now: Duration) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        query.set_state(QueryState::Dialling(DialProgress::Resolving), &self.metrics);
        query.attempt_failure = None;
        query.address = None;
        let timeout = query.deadline.saturating_sub(now);
        self.commands.push_back(Command::Dial(Dial {
            ticket: id.ticket(),
            to: Target::Name(self.host_and_port()),
            tls: self.tls,
            attempt_timeout: self.timeout / PLACES_ATTEMPT_PART,
            timeout,
            from: None,
            start: self.avoided.map_or(Start::Best, Start::Behind),
            freshness: Freshness::Cached,
        }));
    }

    fn host_and_port(&self) -> String {
        let Endpoint { host, port, .. } = &self.endpoint;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// Progress of a query's dial.
    pub(in super::super) fn handle_dial(
        &mut self,
        ticket: Ticket,
        event: DialEvent<'_>,
        now: Duration,
    ) {
        let Some(id) = QueryId::of(ticket) else {
            return;
        };
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        let QueryState::Dialling(progress) = query.state else {
            return;
        };
        let (deadline, metrics) = (query.deadline, &self.metrics);
        let mut set = |progress| query.set_state(QueryState::Dialling(progress), metrics);
        match event {
            DialEvent::Resolved(_) => set(DialProgress::Connecting),
            DialEvent::Connecting(address) => {
                set(DialProgress::Connecting);
                query.address = Some(address);
            }
            DialEvent::Handshaking(_) => set(DialProgress::Handshaking),
            DialEvent::HandshakeFailed(..) => {} // What follows has the reason.
            DialEvent::AttemptFailed(address, reason) => {
                let is_timeout = now >= deadline;
                let in_handshake = progress == DialProgress::Handshaking;
                if !is_timeout {
                    set(DialProgress::Connecting);
                }
                let reason = self.without_key(reason.to_owned());
                let shown = Escaped(reason.as_bytes());
                log::info!(
                    target: target::PLACES, event = "dial_failed", peer:% = address, reason:% = shown;
                    "Dialling the Places service at {address} failed: {shown}"
                );
                self.attempt_failed(id, reason, in_handshake);
            }
            DialEvent::Failed(reason) => self.dial_failed(id, &reason, now),
        }
    }

    /// Keeps the reason why an address failed, until it is known whether another one works.
    fn attempt_failed(&mut self, id: QueryId, reason: String, in_handshake: bool) {
        let host = self.endpoint.authority();
        // A TLS error already names the host.
        let is_named = reason.contains(&self.endpoint.host);
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        if in_handshake {
            query.handshake_failure = Some(match is_named {
                true => reason.clone(),
                false => format!("{host} can't be reached: {reason}"),
            });
        }
        query.attempt_failure = Some(reason);
    }

    /// No address works, or none is known.
    fn dial_failed(&mut self, id: QueryId, reason: &str, now: Duration) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        if now >= query.deadline && query.suspect.is_none() {
            return self.timed_out(id, now);
        }
        // The error of an address where the service answered is more informative than that others did not
        // answer.
        let met = query.handshake_failure.take();
        let is_unresolved = query.state == QueryState::Dialling(DialProgress::Resolving);
        let attempt = query.attempt_failure.take();
        let text = met.unwrap_or_else(|| match attempt {
            Some(reason) => format!("{} can't be reached: {reason}", self.endpoint.authority()),
            None if is_unresolved => {
                // The loop's text names the host.
                let prefix = format!("{}: ", self.host_and_port());
                let reason = reason.strip_prefix(&prefix).unwrap_or(reason);
                format!("the name {} can't be resolved: {reason}", self.endpoint.host)
            }
            None => format!("{} can't be reached: {reason}", self.endpoint.authority()),
        });
        let failure = Failure::unknown(&self.without_key(text));
        self.fail_or_wait(id, PlacesResult::Refused, &failure, now);
    }

    /// A dialled connection is open, its TLS handshake done: appends the request. False if no query needs
    /// it any more.
    pub(in super::super) fn handle_open(&mut self, ticket: Ticket, io: &mut Io<'_>) -> bool {
        let id = QueryId::of(ticket);
        let Some((id, query)) = id.and_then(|id| Some((id, self.queries.get_mut(id)?))) else {
            return false;
        };
        if !matches!(query.state, QueryState::Dialling(_)) {
            return false;
        }
        log::debug!(
            target: target::PLACES, event = "service_connected", peer:% = io.peer;
            "Connected to the Places service at {}.", io.peer
        );
        query.set_state(QueryState::On(io.id), &self.metrics);
        self.avoided = None;
        io.out.extend_from_slice(&query.request);
        let exchange = Exchange::new(id, &query.request, self.response_bytes, io.now.elapsed);
        self.exchanges.insert(io.id, exchange);
        self.metrics.connections[0].add(1);
        true
    }

    /// A query can't be sent. If a connection of the pool still carries it, the query waits for that one.
    pub(super) fn fail_or_wait(
        &mut self,
        id: QueryId,
        result: PlacesResult,
        failure: &Failure,
        now: Duration,
    ) {
        match self.queries.get_mut(id).and_then(|query| Some((query.suspect.take()?, query))) {
            Some((suspect, query)) => query.set_state(QueryState::On(suspect), &self.metrics),
            None => self.fail(id, result, failure, now),
        }
    }

    /// Sets the time at which a connection's progress is checked.
    pub(super) fn check_at(&mut self, connection: ConnectionId, at: Duration) {
        self.cancel_check(connection);
        if let Some(exchange) = self.exchanges.get_mut(&connection) {
            exchange.check_at = Some(at);
            self.checks.insert((at, connection));
        }
    }

    /// It has made progress, or has failed.
    pub(super) fn cancel_check(&mut self, connection: ConnectionId) {
        let exchange = self.exchanges.get_mut(&connection);
        if let Some(at) = exchange.and_then(|exchange| exchange.check_at.take()) {
            self.checks.remove(&(at, connection));
        }
    }

    /// A connection has made no progress for as long as it may.
    pub(super) fn check_progress(&mut self, connection: ConnectionId, now: Duration) {
        self.cancel_check(connection);
        match self.exchanges.get(&connection).map(|exchange| exchange.state) {
            Some(ExchangeState::Sending) => self.send_again(connection, now),
            Some(ExchangeState::Doubted) => self.believe(connection, true, now),
            _ => {}
        }
    }

    /// A kept connection is silent, perhaps because a firewall has forgotten it. Its query is sent once
    /// more on a fresh one, and the first answer counts: the service may just be slow.
    fn send_again(&mut self, connection: ConnectionId, now: Duration) {
        let id = self.exchanges.get(&connection).and_then(|exchange| exchange.query);
        let Some((id, query)) = id.and_then(|id| Some((id, self.queries.get_mut(id)?))) else {
            return;
        };
        if std::mem::replace(&mut query.was_retried, true) {
            return;
        }
        log::debug!(
            target: target::PLACES, event = "query_retried";
            "A kept connection with the Places service is silent; retrying on a new one."
        );
        query.suspect = Some(connection);
        self.drop_idle();
        self.dial(id, now);
    }

    /// How long a kept connection may be silent: a part of the time of a query, but twice as long as the
    /// service was silent recently, so that a slow one does not get every query twice. It is never so long
    /// that no time is left for a second attempt: the service may have been slow because it was about to
    /// fall silent.
    pub(super) fn silence(&self) -> Duration {
        (self.timeout / PLACES_SILENCE_PART).max(2 * self.slowest).min(self.timeout / 2)
    }
}
