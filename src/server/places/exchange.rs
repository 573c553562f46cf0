//! One connection with the Places service: a request goes out, its answer comes in, the next one may
//! follow.
//!
//! ```text
//!   Sending -> ReadingHead -> ReadingBody -> Idle -> Chosen -> Sending ...
//!      |            |              |           |       |
//!      +------------+--------------+-----------+-------+--> Failed
//! ```
//!
//! An answer that equals the one before, to another question, is `Doubted` for a moment before `Idle`.
//! (Look-up, connection and TLS handshake come before; until then there is only a query's dial.)

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use super::queries::QueryId;
use crate::http::{Fault, HttpError, Response, ResponseProgress, ResponseReader};
use crate::server::metrics::ClosedReason;

/// The state of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangeState {
    /// The request is on its way; nothing of the answer has come.
    Sending,
    ReadingHead,
    ReadingBody,
    /// Its answer is complete, but may not belong to its request: if more bytes come, it does not.
    Doubted,
    /// In the pool. Any byte that comes now is unsolicited.
    Idle,
    /// Taken from the pool for a query, whose request is not sent yet. A byte that comes now is
    /// unsolicited, too.
    Chosen,
    /// It is being closed.
    Failed,
}

/// A connection with the service.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) state: ExchangeState,
    /// The query whose request it carries.
    pub(super) query: Option<QueryId>,
    /// Whether it has carried a request before. The service may have closed it without having seen
    /// the present one.
    pub(super) is_reused: bool,
    /// When it opened, became idle, or got its request: the latest of these.
    pub(super) since: Duration,
    /// When its progress is checked.
    pub(super) check_at: Option<Duration>,
    /// Why the pool closes it, if it does.
    pub(super) closed_as: Option<ClosedReason>,
    reader: ResponseReader,
    /// The answer that is kept back.
    doubted: Option<Response>,
    /// The present request with its answer, and the same of the one before.
    present: Dialogue,
    former: Option<Dialogue>,
}

/// The part of a request and its answer that distinguishes them from others.
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
    /// A fresh connection, whose query's request goes out. An answer of at most `response_bytes` is
    /// expected.
    pub(super) fn new(
        query: QueryId,
        request: &[u8],
        response_bytes: usize,
        now: Duration,
    ) -> Exchange {
        Exchange {
            state: ExchangeState::Sending,
            query: Some(query),
            is_reused: false,
            since: now,
            check_at: None,
            closed_as: None,
            reader: ResponseReader::new(response_bytes),
            doubted: None,
            present: Dialogue::new(request),
            former: None,
        }
    }

    /// Takes it from the pool for a query.
    pub(super) fn choose(&mut self, query: QueryId) {
        self.state = ExchangeState::Chosen;
        self.query = Some(query);
    }

    /// Sends the request of the query for which it was chosen.
    pub(super) fn send(&mut self, request: &[u8], response_bytes: usize, now: Duration) {
        self.former = Some(std::mem::replace(&mut self.present, Dialogue::new(request)));
        self.is_reused = true;
        self.state = ExchangeState::Sending;
        self.since = now;
        self.reader = ResponseReader::new(response_bytes);
    }

    /// Adds bytes of the answer. Returns None while it is incomplete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<Response>, HttpError> {
        self.present.push(bytes);
        let progress = self.reader.push(bytes)?;
        let in_body = self.reader.is_in_body();
        self.state = if in_body { ExchangeState::ReadingBody } else { ExchangeState::ReadingHead };
        Ok(match progress {
            ResponseProgress::More => None,
            ResponseProgress::Done(response) => Some(response),
        })
    }

    /// The service has ended its side gracefully.
    pub(super) fn end(&mut self) -> Result<Response, HttpError> {
        self.reader.end()
    }

    /// Its answer is complete, and it waits for the next request.
    pub(super) fn idle(&mut self, now: Duration) {
        self.state = ExchangeState::Idle;
        self.query = None;
        self.since = now;
        self.reader = ResponseReader::new(0);
    }

    /// Marks it as failed. Returns the query that it carried, and its previous state.
    pub(super) fn fail(&mut self) -> (Option<QueryId>, ExchangeState) {
        (self.query.take(), std::mem::replace(&mut self.state, ExchangeState::Failed))
    }

    /// Whether every request sent on it is answered: anything that comes is surplus.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.state, ExchangeState::Idle | ExchangeState::Chosen)
    }

    /// Whether it has a request, and no byte of an answer has come.
    pub(super) fn is_silent(&self) -> bool {
        self.state == ExchangeState::Sending && !self.reader.has_begun()
    }

    /// Whether more bytes have come than its answer.
    pub(super) fn has_surplus(&self) -> bool {
        self.reader.has_surplus()
    }

    /// Whether an error in what has come shows that it is no answer, but more of the one before: it does not begin as an
    /// answer does. On a fresh connection such bytes are a broken answer.
    pub(super) fn shows_surplus(&self, error: &HttpError) -> bool {
        self.is_reused && *error == HttpError::Unreadable(Fault::NotHttp)
    }

    /// Whether its answer may be a second copy of the one before: the two answers are equal, and the
    /// requests are not.
    pub(super) fn repeats_itself(&self) -> bool {
        self.former.as_ref().is_some_and(|former| {
            former.request != self.present.request
                && former.length == self.present.length
                && former.beginning.finish() == self.present.beginning.finish()
        })
    }

    /// Keeps its answer back until it is known whether more comes.
    pub(super) fn doubt(&mut self, response: Response) {
        self.state = ExchangeState::Doubted;
        self.doubted = Some(response);
    }

    /// The answer that was kept back.
    pub(super) fn take_doubted(&mut self) -> Option<Response> {
        self.doubted.take()
    }

    /// Whether the service can't have begun to answer: it had closed the connection before.
    pub(super) fn may_retry(&self) -> bool {
        self.is_reused && !self.reader.has_begun()
    }

    /// Bytes of an answer that it holds.
    pub(super) fn buffered(&self) -> usize {
        let doubted = self.doubted.as_ref().map_or(0, |response| response.body.capacity());
        self.reader.buffered() + doubted
    }
}

/// How much of an answer is compared: its head, and the first place in it.
const DIGESTED: usize = 2_048;
