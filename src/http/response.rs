//! The client's side: one answer from the bytes of a connection.
//!
//! ```text
//!            1xx: the next head
//!              ┌────┐
//!              v    │    final status             whole, or the end of the connection
//!   new() ──> Head ─┴──────────────────> Body ──────────────────────────────────────> Over
//!              └──────────── error ───────┴──────────────────────────────────────────> Over
//! ```
//!
//! It reads answers to GET and POST: after HEAD or CONNECT a body is framed in other ways.

use std::fmt;

use super::body::BodyReader;
use super::fault::Fault;
use super::head::{BodyFraming, HeadBuffer, elements, is};
use crate::limits::{HEAD_FIELDS, INTERIM_HEADS};

/// Reads one response to a GET or POST, from bytes as they arrive.
#[derive(Debug)]
pub struct ResponseReader {
    state: ResponseState,
    body_limit: usize,
    has_begun: bool,
    has_surplus: bool,
    interim_heads: usize,
}

/// The progress of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum ResponseProgress {
    /// It is not complete: push the next bytes.
    More,
    /// It is complete.
    Done(Response),
}

/// A complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// From 200 to 999. A status above 599 means the same as one from 500 on (RFC 9110, section 15).
    pub status: u16,
    /// Without its framing; at most as long as the reader's limit.
    pub body: Vec<u8>,
    /// The connection may carry another request: both sides speak HTTP/1.1, none sent `close`, and no
    /// byte followed the end. The reader can't see bytes that come later: the owner must drop an idle
    /// connection on which anything arrives.
    pub may_reuse: bool,
}

/// Why there is no response. The connection is not usable any more.
///
/// Its text fits into an `error_message`, and quotes nothing of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The other side closed before the first byte: on a connection that was used before, it may not have
    /// seen the request.
    NoAnswer,
    /// The other side closed within the head, or after one of status 1xx.
    HeadCut,
    /// The other side closed within the body.
    BodyCut,
    /// A status below 100.
    BadStatus,
    /// Status 101, although no other protocol was requested.
    SwitchesProtocols,
    /// More than [`INTERIM_HEADS`] heads of status 1xx.
    TooManyInterim,
    /// A real Content-Encoding, although none was requested.
    ContentCoding,
    /// The answer can't be read.
    Unreadable(Fault),
    /// A mistake of the caller: the reader has already returned its response or an error.
    AfterTheEnd,
}

enum ResponseState {
    Head(HeadBuffer),
    Body { status: u16, may_reuse: bool, body: BodyReader },
    Over,
}

impl ResponseReader {
    /// Takes a body of at most `body_limit` bytes, and a head of at most
    /// [`HEAD_BYTES`](crate::limits::HEAD_BYTES).
    pub fn new(body_limit: usize) -> ResponseReader {
        ResponseReader {
            state: ResponseState::Head(HeadBuffer::of_answer()),
            body_limit,
            has_begun: false,
            has_surplus: false,
            interim_heads: 0,
        }
    }

    /// Takes the next bytes. After [`ResponseProgress::Done`] or an error it returns
    /// [`HttpError::AfterTheEnd`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<ResponseProgress, HttpError> {
        self.has_begun |= !bytes.is_empty();
        let mut rest = bytes;
        match self.advance(&mut rest) {
            Ok(false) => Ok(ResponseProgress::More),
            Ok(true) => {
                let mut response = self.finish()?;
                self.has_surplus = !rest.is_empty();
                response.may_reuse &= !self.has_surplus;
                Ok(ResponseProgress::Done(response))
            }
            Err(error) => {
                self.state = ResponseState::Over;
                Err(error)
            }
        }
    }

    /// The other side has closed gracefully (`close_notify` or FIN): that completes a body that lasts
    /// until then, and is an error otherwise.
    pub fn end(&mut self) -> Result<Response, HttpError> {
        let error = match &self.state {
            ResponseState::Body { body, .. } if body.is_until_close() => return self.finish(),
            ResponseState::Body { .. } => HttpError::BodyCut,
            ResponseState::Head(_) if self.has_begun => HttpError::HeadCut,
            ResponseState::Head(_) => HttpError::NoAnswer,
            ResponseState::Over => HttpError::AfterTheEnd,
        };
        self.state = ResponseState::Over;
        Err(error)
    }

    /// Whether any byte of the answer has arrived.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether bytes followed the end of the answer; they belong to no other answer.
    pub fn has_surplus(&self) -> bool {
        self.has_surplus
    }

    /// Whether the head is complete and the body is not.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, ResponseState::Body { .. })
    }

    /// The final status, once the head is complete and while the body is not.
    pub fn status(&self) -> Option<u16> {
        match self.state {
            ResponseState::Body { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Bytes of memory that it holds.
    pub fn buffered(&self) -> usize {
        match &self.state {
            ResponseState::Head(head) => head.buffered(),
            ResponseState::Body { body, .. } => body.buffered(),
            ResponseState::Over => 0,
        }
    }

    /// Takes the bytes of the response; true once it is complete.
    fn advance(&mut self, rest: &mut &[u8]) -> Result<bool, HttpError> {
        loop {
            match &mut self.state {
                ResponseState::Head(buffer) => {
                    let Some(text) = buffer.take(rest)? else {
                        return Ok(false);
                    };
                    let head = Head::parse(text)?;
                    if head.status >= 200 {
                        self.state = head.into_state(self.body_limit)?;
                        continue;
                    }
                    buffer.clear();
                    self.interim_heads += 1;
                    if self.interim_heads > INTERIM_HEADS {
                        return Err(HttpError::TooManyInterim);
                    }
                }
                ResponseState::Body { body, .. } => return Ok(body.take(rest)?),
                ResponseState::Over => return Err(HttpError::AfterTheEnd),
            }
        }
    }

    /// Returns the body as it is now as the complete one.
    fn finish(&mut self) -> Result<Response, HttpError> {
        match std::mem::replace(&mut self.state, ResponseState::Over) {
            ResponseState::Body { status, may_reuse, body } => {
                Ok(Response { status, body: body.into_bytes(), may_reuse })
            }
            ResponseState::Head(_) | ResponseState::Over => Err(HttpError::AfterTheEnd),
        }
    }
}

/// The parts of a head that matter here.
struct Head {
    status: u16,
    is_http_11: bool,
    framing: BodyFraming,
}

impl Head {
    /// Parses a complete head.
    fn parse(text: &[u8]) -> Result<Head, HttpError> {
        let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        // If the parser takes only a part of it, the lines were split wrongly.
        if parsed.parse(text).map_err(Fault::from)? != httparse::Status::Complete(text.len()) {
            return Err(Fault::NotHttp.into());
        }
        let (Some(minor), Some(status)) = (parsed.version, parsed.code) else {
            return Err(Fault::NotHttp.into());
        };
        let is_http_11 = minor == 1;
        match status {
            101 => return Err(HttpError::SwitchesProtocols),
            // No body follows, whatever the fields say.
            100..200 => return Ok(Head { status, is_http_11, framing: BodyFraming::default() }),
            200..1000 => {}
            _ => return Err(HttpError::BadStatus),
        }
        let framing = BodyFraming::read(minor, parsed.headers)?;
        let mut codings = parsed
            .headers
            .iter()
            .filter(|field| is(field, "content-encoding"))
            .flat_map(|field| elements(field.value));
        // "none" is not registered, but some servers send it for "identity".
        let is_plain = |coding: &[u8]| {
            [&b""[..], b"identity", b"none"].iter().any(|name| coding.eq_ignore_ascii_case(name))
        };
        if !codings.all(is_plain) {
            return Err(HttpError::ContentCoding);
        }
        Ok(Head { status, is_http_11, framing })
    }

    /// Where the body ends, in the order of RFC 9112, section 6.3.
    fn into_state(self, limit: usize) -> Result<ResponseState, HttpError> {
        let BodyFraming { length, is_chunked, closes } = self.framing;
        let mut may_reuse = self.is_http_11 && !closes;
        let body = if matches!(self.status, 204 | 304) {
            // A 304 may announce how long the body would have been. After a 204 with a length, which may
            // have a body, too, the start of the next answer is unknown.
            may_reuse &= !is_chunked && (self.status == 304 || length.unwrap_or(0) == 0);
            BodyReader::of_length(0, limit)?
        } else if is_chunked {
            BodyReader::in_chunks(limit, true)
        } else if let Some(length) = length {
            BodyReader::of_length(length, limit)?
        } else {
            may_reuse = false;
            BodyReader::until_close(limit)
        };
        Ok(ResponseState::Body { status: self.status, may_reuse, body })
    }
}

impl fmt::Debug for ResponseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResponseState::Head(head) => head.fmt(f),
            ResponseState::Body { status, body, .. } => write!(f, "{status}, {body:?}"),
            ResponseState::Over => f.write_str("Over"),
        }
    }
}

impl From<Fault> for HttpError {
    fn from(fault: Fault) -> HttpError {
        HttpError::Unreadable(fault)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAnswer => "the connection was closed before any answer came",
            Self::HeadCut => "the answer's head was cut",
            Self::BodyCut => "the answer's body was cut",
            Self::BadStatus => "the answer's status is below 100",
            Self::SwitchesProtocols => "the answer wants to switch to another protocol",
            Self::TooManyInterim => {
                return write!(f, "over {INTERIM_HEADS} answers of status 1xx came");
            }
            Self::ContentCoding => "the answer's body is compressed, although it should not be",
            Self::Unreadable(fault) => return fault.describe("the answer", f),
            Self::AfterTheEnd => "the answer was over before",
        })
    }
}

impl std::error::Error for HttpError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ResponseProgress, HttpError> {
        ResponseReader::new(100).push(text.as_bytes())
    }

    #[test]
    fn a_finished_reader_reports_it_and_holds_no_memory() {
        let mut done = ResponseReader::new(100);
        let response = Response { status: 200, body: b"hi".to_vec(), may_reuse: true };
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(done.push(text), Ok(ResponseProgress::Done(response)));
        let mut failed = ResponseReader::new(100);
        assert_eq!(failed.push(b"SSH-2.0-x"), Err(Fault::NotHttp.into()));
        for mut reader in [done, failed] {
            assert_eq!(reader.push(b"x"), Err(HttpError::AfterTheEnd));
            assert_eq!(reader.push(b""), Err(HttpError::AfterTheEnd));
            assert_eq!(reader.end(), Err(HttpError::AfterTheEnd));
            assert_eq!(reader.buffered(), 0);
            assert!(reader.has_begun() && !reader.is_in_body());
        }
    }

    #[test]
    fn an_error_is_explained_in_plain_words() {
        let cases = [
            ("SSH", "the answer is not HTTP/1.1"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", "the answer is over 100 bytes"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "the answer has both a Content-Length and a Transfer-Encoding",
            ),
        ];
        for (text, words) in cases {
            assert_eq!(read(text).map_err(|error| error.to_string()), Err(words.to_string()));
        }
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(20_000));
        let words = read(&long).map_err(|error| error.to_string());
        assert_eq!(words, Err("the answer's head is over 16384 bytes".to_string()));
    }

    #[test]
    fn debug_shows_lengths_and_no_content() {
        let mut reader = ResponseReader::new(100);
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsecret";
        assert_eq!(reader.push(text), Ok(ResponseProgress::More));
        let shown = format!("{reader:?}");
        assert!(shown.contains("6 bytes") && !shown.contains("secret"), "{shown}");
    }
}
