//! A pool of former settings: it takes no more queries, answers those that it has, and keeps no connection.

use std::time::Duration;

use super::super::queries::{QueryId, QueryState};
use super::Pool;
use crate::application::{Command, ConnectionId, Ticket, TlsId};
use crate::places::google::Failure;
use crate::server::metrics::PlacesResult;

impl Pool {
    /// Another one takes the queries from now on. No connection is kept any more.
    pub(in super::super) fn retire(&mut self) {
        self.distrusted_until = Duration::MAX;
        self.drop_idle();
    }

    /// Whether nothing is left to do after [`Pool::retire`].
    pub(in super::super) fn is_over(&self) -> bool {
        let is_answered = self.queries.is_empty() && self.answers.is_empty();
        is_answered && self.exchanges.is_empty() && self.commands.is_empty()
    }

    pub(in super::super) fn tls(&self) -> Option<TlsId> {
        self.tls
    }

    /// The number of its latest query.
    pub(in super::super) fn last_query(&self) -> QueryId {
        self.queries.last()
    }

    /// Whether this is the ticket of one of its queries.
    pub(in super::super) fn dials(&self, ticket: Ticket) -> bool {
        QueryId::of(ticket).is_some_and(|id| self.queries.get(id).is_some())
    }

    /// Whether a connection is one of its own.
    pub(in super::super) fn has(&self, connection: ConnectionId) -> bool {
        self.exchanges.contains_key(&connection)
    }

    /// Answers all queries that are left with a failure, at once.
    pub(in super::super) fn abandon(&mut self) {
        for id in self.queries.ids() {
            self.commands.extend(match self.queries.get(id).map(|query| query.state) {
                Some(QueryState::Dialling(_)) => Some(Command::Cancel(id.ticket())),
                Some(QueryState::On(connection)) => Some(Command::Close(connection)),
                Some(QueryState::Queued) | None => None,
            });
            if let Some(query) = self.queries.take(id) {
                self.commands.extend(query.suspect.map(Command::Close));
                let failure = Failure::unknown("the settings of places have changed several times");
                self.record(&failure);
                self.metrics.count_request(PlacesResult::Refused, None);
                self.answers.complete(query.waiters, Err(failure.body()));
            }
        }
    }
}
