//! One connection with the Places service: a request goes out, its answer comes in, the next one may
//! follow.
//!
//! ```text
//!   Connecting -> Handshaking -> Sending -> ReadingHead -> ReadingBody -> Idle -> Chosen -> Sending ...
//!        |             |            |            |              |           |       |
//!        +-------------+------------+------------+--------------+-----------+-------+--> Failed
//! ```
//!
//! (The step before these, resolving the name, is a query's: there is no connection yet.)

use std::net::SocketAddr;
use std::time::Duration;

use super::QueryId;
use crate::places::http::{HttpError, Progress, Response, ResponseReader};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Connecting,
    Handshaking,
    /// The request is on its way; nothing of the answer has come.
    Sending,
    ReadingHead,
    ReadingBody,
    /// In the pool. Any byte that comes now is one that nobody asked for.
    Idle,
    /// Taken from the pool for a query, whose request is not sent yet. A byte that comes now is one that
    /// nobody asked for, too.
    Chosen,
    /// It is being closed.
    Failed,
}

/// A connection with the service.
#[derive(Debug)]
pub struct Exchange {
    pub(super) step: Step,
    /// Whose request it carries.
    pub(super) query: Option<QueryId>,
    pub(super) address: SocketAddr,
    /// Whether it has carried a request before. The service may have closed it meanwhile, without
    /// having seen this one.
    pub(super) is_reused: bool,
    /// Since when it can be used, is idle, or has its request: what came last.
    pub(super) since: Duration,
    /// Whether more of what has come is still to be read.
    pub(super) is_unread: bool,
    /// When it is looked at if it has not got on.
    pub(super) watched: Option<Duration>,
    reader: ResponseReader,
}

impl Exchange {
    pub(super) fn new(query: QueryId, address: SocketAddr, now: Duration) -> Exchange {
        Exchange {
            step: Step::Connecting,
            query: Some(query),
            address,
            is_reused: false,
            since: now,
            is_unread: false,
            watched: None,
            reader: ResponseReader::new(0),
        }
    }

    /// It is taken from the pool for a query.
    pub(super) fn choose(&mut self, query: QueryId) {
        self.step = Step::Chosen;
        self.query = Some(query);
    }

    /// Its query's request goes out, and an answer of at most `answer_bytes` is expected.
    pub(super) fn begin(&mut self, answer_bytes: usize) {
        self.is_reused = self.step == Step::Chosen;
        self.step = if self.is_reused { Step::Sending } else { Step::Handshaking };
        self.reader = ResponseReader::new(answer_bytes);
    }

    /// Both sides have their keys: what was queued goes out.
    pub(super) fn secured(&mut self, now: Duration) {
        self.since = now;
        self.step = Step::Sending;
    }

    /// Bytes of the answer. None as long as it isn't whole.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<Response>, HttpError> {
        let progress = self.reader.push(bytes)?;
        let in_body = self.reader.is_in_body();
        self.step = if in_body { Step::ReadingBody } else { Step::ReadingHead };
        Ok(match progress {
            Progress::More => None,
            Progress::Done(response) => Some(response),
        })
    }

    /// The service has ended its side in order.
    pub(super) fn end(&mut self) -> Result<Response, HttpError> {
        self.reader.end()
    }

    /// Its answer is whole, and it waits for the next request.
    pub(super) fn rest(&mut self, now: Duration) {
        self.step = Step::Idle;
        self.query = None;
        self.since = now;
        self.reader = ResponseReader::new(0);
    }

    /// Nothing more is expected of it. Says whose request it carried, and in which step.
    pub(super) fn fail(&mut self) -> (Option<QueryId>, Step) {
        (self.query.take(), std::mem::replace(&mut self.step, Step::Failed))
    }

    /// Whether nobody has asked anything on it that is not answered: what comes is surplus.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.step, Step::Idle | Step::Chosen)
    }

    /// Whether it is still on its way to being of use.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.step, Step::Connecting | Step::Handshaking)
    }

    /// Whether it has a request, and no byte of an answer has come.
    pub(super) fn is_silent(&self) -> bool {
        self.step == Step::Sending && !self.reader.has_begun()
    }

    /// Whether more has come than its answer.
    pub(super) fn has_surplus(&self) -> bool {
        self.reader.has_surplus()
    }

    /// Whether the service can't have begun to answer: it had closed the connection before.
    pub(super) fn may_be_repeated(&self) -> bool {
        self.is_reused && !self.reader.has_begun()
    }

    /// Bytes of an answer that it holds.
    pub(super) fn buffered(&self) -> usize {
        self.reader.buffered()
    }
}
