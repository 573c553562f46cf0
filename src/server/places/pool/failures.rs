//! What happens if a connection with the service ends, or cannot be trusted any more.

use std::time::Duration;

use super::super::exchange::{Exchange, ExchangeState};
use super::Pool;
use crate::application::{Closed, ClosedConnection, Command, ConnectionId};
use crate::limits::PLACES_DISTRUST;
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, target};
use crate::places::google::Failure;
use crate::server::metrics::ClosedReason;
use crate::server::metrics::PlacesResult::{self, Http, Refused};

impl Pool {
    /// The service has ended its side of a connection gracefully.
    pub(in super::super) fn handle_end(&mut self, connection: ConnectionId, now: Duration) {
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return;
        };
        let is_answered = exchange.state == ExchangeState::Doubted;
        if exchange.is_at_rest() || is_answered || exchange.may_retry() {
            return self.connection_failed(connection, Refused, CLOSED, now);
        }
        match exchange.end() {
            Ok(response) => {
                self.handle_response(connection, response, now);
            }
            Err(error) => self.connection_failed(connection, Http, &error.to_string(), now),
        }
    }

    /// A connection is closed.
    pub(in super::super) fn handle_closed(&mut self, closed: &ClosedConnection<'_>, now: Duration) {
        let reason = match closed.why {
            Closed::Finished | Closed::Commanded => CLOSED.to_owned(),
            Closed::Broken(reason) | Closed::Tls(_, reason) => self.without_key(reason.clone()),
            other => other.to_string(),
        };
        if let Closed::Broken(_) | Closed::Tls(..) = closed.why {
            let (peer, reason) = (closed.peer, Escaped(reason.as_bytes()));
            log::info!(
                target: target::PLACES, event = "connection_aborted", peer:% = peer, reason:% = reason;
                "The connection with {peer} is broken: {reason}"
            );
        }
        let is_at_rest = self.exchanges.get(&closed.id).is_some_and(Exchange::is_at_rest);
        if *closed.why == Closed::Unsolicited && is_at_rest {
            self.distrust(now);
        }
        self.connection_failed(closed.id, Refused, &reason, now);
        self.exchanges.remove(&closed.id);
    }

    /// A connection has failed. Its query is sent on another one if that may help.
    pub(super) fn connection_failed(
        &mut self,
        connection: ConnectionId,
        result: PlacesResult,
        reason: &str,
        now: Duration,
    ) {
        self.cancel_check(connection);
        let Some(exchange) = self.exchanges.get_mut(&connection) else {
            return;
        };
        if exchange.state == ExchangeState::Doubted {
            return self.believe(connection, false, now); // However it ended, no other answer follows.
        }
        let may_retry = exchange.may_retry();
        let (query, state) = exchange.fail();
        self.idle.retain(|idle| *idle != connection);
        let Some((id, query)) = query.and_then(|id| Some((id, self.queries.get_mut(id)?))) else {
            return;
        };
        if query.suspect == Some(connection) {
            query.suspect = None; // It was sent on another connection already.
            return;
        }
        if state == ExchangeState::Chosen {
            return self.carry(id, now); // The service has not seen it yet.
        }
        // A search changes nothing at the service, so the New API's POST may be sent again, too.
        if may_retry && !std::mem::replace(&mut query.was_retried, true) {
            log::debug!(
                target: target::PLACES, event = "query_retried";
                "A kept connection was closed by the Places service; retrying on a new one."
            );
            return self.dial(id, now);
        }
        self.fail_or_wait(id, result, &Failure::unknown(reason), now);
    }

    pub(super) fn distrust(&mut self, now: Duration) {
        let text = format_args!(
            "The Places service sent more than was asked for: no connection is kept for now."
        );
        rate_limit::warn(Kind::ServiceDistrusted, &[], text);
        self.distrusted_until = now + PLACES_DISTRUST;
        self.drop_idle();
    }

    /// Closes all connections of the pool: they may have the same fault as the one that failed.
    pub(super) fn drop_idle(&mut self) {
        for connection in std::mem::take(&mut self.idle) {
            self.closes(connection, ClosedReason::Protocol);
            self.commands.push_back(Command::Finish(connection));
        }
    }

    /// The pool closes a connection, for this reason.
    pub(super) fn closes(&mut self, connection: ConnectionId, reason: ClosedReason) {
        if let Some(exchange) = self.exchanges.get_mut(&connection) {
            exchange.closed_as = Some(reason);
        }
    }

    /// Why the pool closes a connection, if it does.
    pub(in super::super) fn why_closed(&self, connection: ConnectionId) -> Option<ClosedReason> {
        self.exchanges.get(&connection)?.closed_as
    }
}

const CLOSED: &str = "the connection was closed";
