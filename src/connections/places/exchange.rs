//! One connection with the Places service: a request goes out, its answer comes in, the next one may
//! follow.
//!
//! ```text
//!   Connecting -> Handshaking -> Sending -> ReadingHead -> ReadingBody -> Idle -> Chosen -> Sending ...
//!        |             |            |            |              |           |       |
//!        +-------------+------------+------------+--------------+-----------+-------+--> Failed
//! ```
//!
//! An answer that is as the one before, to another question, is `Doubted` for a moment before `Idle`.
//! (The step before these, resolving the name, is a query's: there is no connection yet.)

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use super::QueryId;
use crate::http::{HttpError, Progress, Response, ResponseReader};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Connecting,
    Handshaking,
    /// The request is on its way; nothing of the answer has come.
    Sending,
    ReadingHead,
    ReadingBody,
    /// Its answer is whole, and may not be the one that was asked for: if more comes, it was not.
    Doubted,
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
    /// The answer that is not believed yet.
    doubted: Option<Response>,
    /// What was asked last and what has come of it, and the same of the time before.
    present: Dialogue,
    former: Option<Dialogue>,
}

/// A request and the answer to it, as far as it takes to tell them from others.
#[derive(Clone, Debug, Default)]
struct Dialogue {
    request: u64,
    /// Bytes of the answer, head included.
    length: usize,
    beginning: DefaultHasher,
}

impl Dialogue {
    fn new(request: &[u8]) -> Dialogue {
        let mut hasher = DefaultHasher::new();
        hasher.write(request);
        Dialogue { request: hasher.finish(), ..Dialogue::default() }
    }

    fn push(&mut self, bytes: &[u8]) {
        let wanted = DIGESTED.saturating_sub(self.length).min(bytes.len());
        self.beginning.write(&bytes[..wanted]);
        self.length += bytes.len();
    }
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
            doubted: None,
            present: Dialogue::default(),
            former: None,
        }
    }

    /// It is taken from the pool for a query.
    pub(super) fn choose(&mut self, query: QueryId) {
        self.step = Step::Chosen;
        self.query = Some(query);
    }

    /// Its query's request goes out, and an answer of at most `response_bytes` is expected.
    pub(super) fn begin(&mut self, request: &[u8], response_bytes: usize) {
        self.is_reused = self.step == Step::Chosen;
        let former = std::mem::replace(&mut self.present, Dialogue::new(request));
        self.former = self.is_reused.then_some(former);
        self.step = if self.is_reused { Step::Sending } else { Step::Handshaking };
        self.reader = ResponseReader::new(response_bytes);
    }

    /// Both sides have their keys: what was queued goes out.
    pub(super) fn secured(&mut self, now: Duration) {
        self.since = now;
        self.step = Step::Sending;
    }

    /// Bytes of the answer. None as long as it isn't whole.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<Response>, HttpError> {
        self.present.push(bytes);
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

    /// Whether its answer may be that to the request before, come once more: the two are alike, and the
    /// requests are not.
    pub(super) fn repeats_itself(&self) -> bool {
        self.former.as_ref().is_some_and(|former| {
            former.request != self.present.request
                && former.length == self.present.length
                && former.beginning.finish() == self.present.beginning.finish()
        })
    }

    /// Its answer is kept back until it is known whether more comes.
    pub(super) fn doubt(&mut self, response: Response) {
        self.step = Step::Doubted;
        self.doubted = Some(response);
    }

    /// The answer that was kept back.
    pub(super) fn take_doubted(&mut self) -> Option<Response> {
        self.doubted.take()
    }

    /// Whether the service can't have begun to answer: it had closed the connection before.
    pub(super) fn may_be_repeated(&self) -> bool {
        self.is_reused && !self.reader.has_begun()
    }

    /// Bytes of an answer that it holds.
    pub(super) fn buffered(&self) -> usize {
        let doubted = self.doubted.as_ref().map_or(0, |response| response.body.capacity());
        self.reader.buffered() + doubted
    }
}

/// How much of a text is looked at to tell it from others: the head of an answer, and the first place in it.
const DIGESTED: usize = 2_048;
