//! How a query comes to a connection: one of the pool, or a fresh one to the address that is most
//! likely to answer; and what happens where that one does not get on.

use std::time::Duration;

use super::super::exchange::Step;
use super::super::names::Look;
use super::super::queries::{QueryId, Stage};
use super::Service;
use crate::connections::{Command, ConnectionId};
use crate::limits::PLACES_SILENCE_PART;
use crate::logging::target;
use crate::places::endpoint::Endpoint;
use crate::places::google::Failure;

impl Service {
    /// Gives free slots to those that wait, by connections of the pool where it has some.
    pub(super) fn start_waiting(&mut self, now: Duration) {
        while let Some(id) = self.queries.next() {
            self.carry(id, now);
        }
    }

    /// Gives a query a connection: one of the pool where that has some, else a fresh one.
    pub(super) fn carry(&mut self, id: QueryId, now: Duration) {
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
    pub(super) fn open(&mut self, id: QueryId, now: Duration) {
        if self.names.is_due(now) {
            let Endpoint { host, port, .. } = self.endpoint.clone();
            self.commands.push_back(Command::ResolvePlaces { host, port });
        }
        let look = self.names.look(now);
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        match look {
            Look::Addresses(addresses) => {
                query.addresses = addresses;
                self.try_next_address(id, "its name stands for no address", now);
            }
            Look::Unknown => query.stage = Stage::Resolving,
            Look::Failed(reason) => {
                let host = &self.endpoint.host;
                let text = format!("the name {host} can't be resolved: {reason}");
                self.give_up(id, &Failure::unknown(&text), now);
            }
        }
    }

    pub(super) fn try_next_address(&mut self, id: QueryId, reason: &str, now: Duration) {
        let Some(query) = self.queries.get_mut(id) else {
            return;
        };
        match query.addresses.pop_front() {
            Some(address) => {
                query.stage = Stage::Opening;
                self.commands.push_back(Command::OpenPlaces { query: id, address });
            }
            None => {
                // What was said where the service was met tells more than that it was not met elsewhere.
                let met = query.reason.take();
                let host = self.endpoint.authority();
                let text = met.unwrap_or_else(|| format!("{host} can't be reached: {reason}"));
                self.give_up(id, &Failure::unknown(&text), now);
            }
        }
    }

    /// A query can't be asked. If a connection of the pool still carries it, it waits for that one.
    pub(super) fn give_up(&mut self, id: QueryId, failure: &Failure, now: Duration) {
        match self.queries.get_mut(id).and_then(|query| Some((query.suspect.take()?, query))) {
            Some((suspect, query)) => query.stage = Stage::On(suspect),
            None => self.fail(id, failure, now),
        }
    }

    /// A connection is to be looked at, if it has not got on by then.
    pub(super) fn watch(&mut self, connection: ConnectionId, at: Duration) {
        self.unwatch(connection);
        if let Some(exchange) = self.exchanges.get_mut(&connection) {
            exchange.watched = Some(at);
            self.watches.insert((at, connection));
        }
    }

    /// It has got on, or is given up.
    pub(super) fn unwatch(&mut self, connection: ConnectionId) {
        let exchange = self.exchanges.get_mut(&connection);
        if let Some(at) = exchange.and_then(|exchange| exchange.watched.take()) {
            self.watches.remove(&(at, connection));
        }
    }

    /// A connection has not got on for as long as it may.
    pub(super) fn look_after(&mut self, connection: ConnectionId, now: Duration) {
        self.unwatch(connection);
        let step = self.exchanges.get(&connection).map_or(Step::Failed, |exchange| exchange.step);
        let reason = match step {
            Step::Connecting => "the connection was not made in time".to_owned(),
            Step::Handshaking => {
                let host = self.endpoint.authority();
                format!("{host} can't be reached: the TLS handshake was not finished in time")
            }
            Step::Sending => return self.ask_again(connection, now),
            Step::Doubted => return self.believe(connection, true, now),
            _ => return,
        };
        self.commands.push_back(Command::Close(connection));
        self.lost(connection, &reason, now);
    }

    /// A kept connection is silent, as one would be that a firewall has forgotten. Its query is asked
    /// once more on a fresh one, and the first answer counts: the service may just be slow.
    fn ask_again(&mut self, connection: ConnectionId, now: Duration) {
        let id = self.exchanges.get(&connection).and_then(|exchange| exchange.query);
        let Some((id, query)) = id.and_then(|id| Some((id, self.queries.get_mut(id)?))) else {
            return;
        };
        if std::mem::replace(&mut query.is_repeated, true) {
            return;
        }
        log::debug!(target: target::PLACES, "A kept connection with the Places service is silent: once more.");
        query.suspect = Some(connection);
        self.drop_idle();
        self.open(id, now);
    }

    /// How long a kept connection may be silent: a part of the time of a query, but twice as long as the
    /// service was silent of late, so that one that is slow is not asked twice for ever. Never so long that no
    /// time is left to ask again: it may have been slow because it was about to fall silent.
    pub(super) fn silence(&self) -> Duration {
        (self.patience / PLACES_SILENCE_PART).max(2 * self.slowest).min(self.patience / 2)
    }
}
