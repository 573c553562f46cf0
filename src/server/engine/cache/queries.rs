//! A WHATSAT of a member that keeps a cache: the engine is asked for its client each time, because another member may know
//! a newer update. The line waits for the answer, as for places; nothing behind it is handled before.
//!
//! ```text
//!   WHATSAT --> the core asks the engine; the session keeps the line, Next::Wait
//!                |
//!   EngineAnswered -> Command::Fill -> the newer one of the answer and the cache, then places
//!                |                     or "unknown", because the engine has none
//!                +-- no answer for the engine's `timeout`: the connection ends, because "unknown" might be a lie
//! ```
//!
//! While the engine is silent the core answers for cached clients.

use std::time::Duration;

use super::Server;
use crate::application::{ConnectionId, Io, Next};
use crate::herd::engine::EngineAnswer;
use crate::logging::Traffic;
use crate::protocol::{ClientRequest, RequestError, Whatsat};
use crate::server::client::{Client, Waiting};
use crate::server::held::holder_of;
use crate::server::metrics::{LineCommand, QueryResult};
use crate::server::records;

/// A WHATSAT that waits for what the engine has of its client.
#[derive(Debug)]
pub(in crate::server) struct WaitingQuery {
    line: Box<[u8]>,
    since: Duration,
}

impl WaitingQuery {
    /// Bytes of memory that it takes, its place among all that wait included.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        self.line.len() + size_of::<(Duration, ConnectionId)>()
    }
}

impl Server {
    /// Asks the engine for a query's client. The line waits for the answer, unless the engine can't be asked and the client
    /// is cached.
    #[inline(never)]
    pub(in crate::server) fn query_engine(
        &mut self,
        client: &mut Client,
        whatsat: &Whatsat<'_>,
        line: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        let (since, asker) = (io.now.elapsed, holder_of(io.id));
        self.herd.ask_engine(whatsat.id, asker);
        if let Some(answer) = self.herd.take_engine_answer(asker) {
            return self.answer_query(client, whatsat, answer, io);
        }
        self.waits_for_engine(io.id, since);
        self.metrics.engine.queries_waiting.add(1);
        Ok(client.wait(Waiting::Query(WaitingQuery { line: line.into(), since })))
    }

    /// Answers a query, once the engine has answered.
    pub(in crate::server) fn fill_query(
        &mut self,
        client: &mut Client,
        waiting: WaitingQuery,
        io: &mut Io<'_>,
    ) -> Next {
        let Some(answer) = self.herd.take_engine_answer(holder_of(io.id)) else {
            if self.has_waited_for_too_long(waiting.since) {
                return self.give_query_up(waiting.since, io);
            }
            self.goes_on_waiting(io.id, waiting.since);
            return client.wait(Waiting::Query(waiting));
        };
        let WaitingQuery { line, since } = waiting;
        self.query_ends(io.id);
        let before = io.out.len();
        let handled = ClientRequest::parse(&line, self.dialect).and_then(|request| {
            let ClientRequest::Whatsat(whatsat) = request else {
                return Ok(Next::Read); // It was one when it came, and is one still.
            };
            self.answer_query(client, &whatsat, answer, io)
        });
        let next = handled.unwrap_or_else(|reason| self.refuse(&line, reason, io));
        match next {
            Next::Read | Next::Finish => {
                self.metrics.count_delayed(LineCommand::Whatsat);
                let took = io.now.elapsed.saturating_sub(since);
                self.metrics.answers[LineCommand::Whatsat as usize].observe(took);
            }
            // It waits for places now.
            _ => client.waits_since(since),
        }
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        next
    }

    /// Answers a query by the newer one of the engine's answer and the cache.
    fn answer_query(
        &mut self,
        client: &mut Client,
        whatsat: &Whatsat<'_>,
        answer: EngineAnswer,
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        let (result, found) = match answer {
            EngineAnswer::Known(update) => (QueryResult::Known, Some(update)),
            EngineAnswer::Unknown => (QueryResult::Unknown, None),
            EngineAnswer::Cached(update) => {
                records::engine::answered_from_cache(io.peer);
                (QueryResult::Cached, Some(update))
            }
        };
        self.metrics.engine.count_query(result);
        // Somebody may have told this server more since the answer came.
        let told = self.herd.table().get(whatsat.id).map(|entry| &entry.update);
        let newer = told.filter(|told| {
            found.as_ref().is_none_or(|found| told.get().newness(&found.get()).is_gt())
        });
        let update = newer.cloned().or(found).ok_or(RequestError::UnknownClient)?;
        self.whatsat_of(client, &update, whatsat, io)
    }

    /// The engine has not answered for too long.
    #[cold]
    fn give_query_up(&mut self, since: Duration, io: &Io<'_>) -> Next {
        self.herd.forget_asker(holder_of(io.id));
        self.query_ends(io.id);
        self.metrics.engine.count_query(QueryResult::GivenUp);
        self.metrics.engine.given_up.add(1);
        records::engine::query_given_up(io.peer, io.now.elapsed.saturating_sub(since));
        self.ends_without_answer(io)
    }

    /// A query waits no longer.
    fn query_ends(&mut self, connection: ConnectionId) {
        self.waited_for_engine(connection);
        self.metrics.engine.queries_waiting.subtract(1);
    }

    /// The connection of a query is closed.
    pub(in crate::server) fn forget_query(&mut self, closed: ConnectionId) {
        self.herd.forget_asker(holder_of(closed));
        self.query_ends(closed);
    }
}
