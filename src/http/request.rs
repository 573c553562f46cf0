//! The server's side: requests, one after the other, from the bytes of a connection.
//!
//! ```text
//!   push ──> [ input ] ──next_request──> Head ──> Body ──> Request, and Head again
//!                                          └────────┴────> Refused, finally
//! ```
//!
//! A client may send several requests without waiting (RFC 9112, section 9.3.2). They are returned one
//! by one; later ones wait in the input, which the owner bounds by not pushing while a request is
//! unanswered.

use std::fmt;

use super::body::BodyReader;
use super::fault::Fault;
use super::head::{BodyFraming, HeadBuffer, is};
use crate::limits::{HEAD_BYTES, HEAD_FIELDS, REQUEST_BODY_BYTES};

/// Reads requests, one after the other, from a connection that may send several.
///
/// If the last [`RequestReader::next_request`] returned none, it holds at most a head of
/// [`HEAD_BYTES`](crate::limits::HEAD_BYTES), a body of [`REQUEST_BODY_BYTES`], and the room of one push.
#[derive(Debug)]
pub struct RequestReader {
    input: Input,
    state: RequestState,
}

/// A complete request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// As it came: methods are case-sensitive.
    pub method: String,
    /// As it came, with its query, which may contain a key.
    pub target: String,
    /// `X-Goog-Api-Key`; bytes that are not UTF-8 are replaced, so that it equals no key.
    pub key: Option<String>,
    /// `X-Goog-FieldMask`, empty if there is none; several are joined by commas.
    pub fields: String,
    /// Without its framing.
    pub body: Vec<u8>,
    /// The client may send another request on this connection: HTTP/1.1 and no `close`.
    pub keep_alive: bool,
    /// `Expect: 100-continue` was there. To answer it in time, see
    /// [`RequestReader::wants_continue`].
    pub expects_continue: bool,
}

/// Why a request is refused. The owner answers with [`BadRequest::status`] and then closes the connection,
/// because the start of the next request is unknown. Quotes nothing of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// Another major version than HTTP/1.
    Version,
    /// No Host, or several.
    Host,
    /// Several keys.
    Keys,
    /// A POST, PUT or PATCH without a length.
    NoLength,
    /// A body, where only heads are read.
    Body,
    /// A head with more bytes or fields than these.
    Head { bytes: usize, fields: usize },
    /// It can't be read.
    Unreadable(Fault),
}

enum RequestState {
    Head(HeadBuffer),
    /// The request lacks its body.
    Body {
        request: Request,
        body: BodyReader,
        wants_continue: bool,
    },
    Refused(BadRequest),
}

/// Received bytes that were not read yet.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl RequestReader {
    /// At the beginning of a connection.
    pub fn new() -> RequestReader {
        RequestReader {
            input: Input::default(),
            state: RequestState::Head(HeadBuffer::of_request(HEAD_BYTES)),
        }
    }

    /// Adds received bytes. After a refusal they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, RequestState::Refused(_)) {
            self.input.push(bytes);
        }
    }

    /// The next request, once it is complete; what follows it stays for the next call. A refusal is final:
    /// each further call returns it again.
    pub fn next_request(&mut self) -> Result<Option<Request>, BadRequest> {
        let mut rest = self.input.rest();
        let next = self.state.advance(&mut rest);
        let left = rest.len();
        self.input.keep_last(left);
        if let Err(refusal) = &next {
            self.state = RequestState::Refused(refusal.clone());
            self.input = Input::default();
        }
        next
    }

    /// True once for a request whose head said `Expect: 100-continue` and whose body has not begun:
    /// then the owner sends [`CONTINUE`](super::CONTINUE). Call this if [`RequestReader::next_request`] returned
    /// none. A client that gets no answer sends its body after a while (curl: after a second).
    pub fn wants_continue(&mut self) -> bool {
        match &mut self.state {
            RequestState::Body { body, wants_continue, .. } => {
                std::mem::take(wants_continue) && !body.has_begun()
            }
            RequestState::Head(_) | RequestState::Refused(_) => false,
        }
    }

    /// Whether a request has begun and is not complete.
    pub fn has_begun(&self) -> bool {
        match &self.state {
            RequestState::Head(head) => !head.is_empty() || !self.input.rest().is_empty(),
            RequestState::Body { .. } => true,
            RequestState::Refused(_) => false,
        }
    }

    /// Bytes of memory that it holds.
    pub fn buffered(&self) -> usize {
        let of_state = match &self.state {
            RequestState::Head(head) => head.buffered(),
            RequestState::Body { body, .. } => body.buffered(),
            RequestState::Refused(_) => 0,
        };
        self.input.buffered() + of_state
    }
}

impl Default for RequestReader {
    fn default() -> RequestReader {
        RequestReader::new()
    }
}

impl RequestState {
    /// Takes the bytes of the next request from the front of `rest`, and returns it once it is complete.
    fn advance(&mut self, rest: &mut &[u8]) -> Result<Option<Request>, BadRequest> {
        loop {
            match self {
                RequestState::Head(buffer) => {
                    let Some(text) = buffer.take(rest)? else {
                        return Ok(None);
                    };
                    *self = parse(text)?;
                }
                RequestState::Body { body, .. } => {
                    if !body.take(rest)? {
                        return Ok(None);
                    }
                    let next = RequestState::Head(HeadBuffer::of_request(HEAD_BYTES));
                    return Ok(match std::mem::replace(self, next) {
                        RequestState::Body { request, body, .. } => {
                            Some(Request { body: body.into_bytes(), ..request })
                        }
                        RequestState::Head(_) | RequestState::Refused(_) => None,
                    });
                }
                RequestState::Refused(refusal) => return Err(refusal.clone()),
            }
        }
    }
}

/// Parses a complete head. A body always follows, possibly an empty one.
fn parse(text: &[u8]) -> Result<RequestState, BadRequest> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let (method, target, minor) = parse_head(&mut parsed, text)?;
    let is_http_11 = minor == 1;
    let framing = BodyFraming::read(minor, parsed.headers)?;
    let values = |name| parsed.headers.iter().filter(move |field| is(field, name));
    let hosts = values("host").count();
    if hosts > 1 || is_http_11 && hosts == 0 {
        return Err(BadRequest::Host);
    }
    let mut keys = values("x-goog-api-key");
    let key = keys.next().map(|field| String::from_utf8_lossy(field.value).into_owned());
    if keys.next().is_some() {
        return Err(BadRequest::Keys);
    }
    let fields: Vec<_> =
        values("x-goog-fieldmask").map(|field| String::from_utf8_lossy(field.value)).collect();
    let expects_continue = is_http_11
        && values("expect").any(|field| field.value.eq_ignore_ascii_case(b"100-continue"));
    let body = if framing.is_chunked {
        BodyReader::in_chunks(REQUEST_BODY_BYTES, false)
    } else if framing.length.is_none() && matches!(method, "POST" | "PUT" | "PATCH") {
        // It would mean no body (RFC 9112, section 6.3), but a request of such a method without a
        // length was sent by mistake.
        return Err(BadRequest::NoLength);
    } else {
        BodyReader::of_length(framing.length.unwrap_or(0), REQUEST_BODY_BYTES)?
    };
    let request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        key,
        fields: fields.join(","),
        body: Vec::new(),
        keep_alive: is_http_11 && !framing.closes,
        expects_continue,
    };
    Ok(RequestState::Body { request, body, wants_continue: expects_continue })
}

/// Parses a complete head. Returns its method, its target and the minor version of HTTP.
pub(super) fn parse_head<'a>(
    parsed: &mut httparse::Request<'_, 'a>,
    text: &'a [u8],
) -> Result<(&'a str, &'a str, u8), BadRequest> {
    match parsed.parse(text) {
        Ok(httparse::Status::Complete(length)) if length == text.len() => {}
        Ok(_) => return Err(Fault::NotHttp.into()),
        Err(httparse::Error::Version) if names_http(text) => return Err(BadRequest::Version),
        Err(error) => return Err(Fault::from(error).into()),
    }
    match (parsed.method, parsed.path, parsed.version) {
        (Some(method), Some(target), Some(minor)) => Ok((method, target, minor)),
        _ => Err(Fault::NotHttp.into()),
    }
}

/// Whether the first line is one of HTTP, of any version.
fn names_http(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    let (version, more) = (parts.next().unwrap_or_default(), parts.next());
    let is_version = matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit());
    is_version && more.is_none()
}

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Bytes of memory that it holds.
    pub(super) fn buffered(&self) -> usize {
        self.bytes.capacity()
    }

    /// Drops all but the last `left` bytes; there are at least as many.
    pub(super) fn keep_last(&mut self, left: usize) {
        self.start = self.bytes.len() - left;
        if left == 0 {
            self.bytes.clear();
            self.start = 0;
        }
    }
}

impl BadRequest {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Version => 505,
            Self::NoLength => 411,
            Self::Head { .. } | Self::Unreadable(Fault::HeadTooLong | Fault::TooManyFields) => 431,
            Self::Body | Self::Unreadable(Fault::BodyTooLong { .. }) => 413,
            Self::Unreadable(Fault::UnknownCoding) => 501,
            Self::Host | Self::Keys | Self::Unreadable(_) => 400,
        }
    }
}

impl From<Fault> for BadRequest {
    fn from(fault: Fault) -> BadRequest {
        BadRequest::Unreadable(fault)
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "the request is not HTTP/1.1",
            Self::Host => "the request does not have one Host",
            Self::Keys => "the request has several keys",
            Self::NoLength => "the request does not say how long its body is",
            Self::Body => "the request has a body; none is accepted here",
            Self::Head { bytes, fields } => {
                return write!(f, "the request's head is over {bytes} bytes or {fields} fields");
            }
            Self::Unreadable(fault) => return fault.describe("the request", f),
        })
    }
}

impl std::error::Error for BadRequest {}

/// Without the parts that may contain a key: the field and the target's query.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "Request({} {path}, {} bytes)", self.method, self.body.len())
    }
}

impl fmt::Debug for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestState::Head(head) => head.fmt(f),
            RequestState::Body { request, body, .. } => write!(f, "{request:?}, {body:?}"),
            RequestState::Refused(refusal) => write!(f, "Refused({refusal:?})"),
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} bytes)", self.rest().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_expects_100_continue_gets_it_once() {
        let mut reader = RequestReader::new();
        reader.push(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n");
        assert_eq!(reader.next_request(), Ok(None));
        assert!(!reader.wants_continue(), "the head is not over");
        reader.push(b"\r\n");
        assert_eq!(reader.next_request(), Ok(None));
        assert!(reader.wants_continue());
        assert!(!reader.wants_continue(), "a second time");
        reader.push(b"{}");
        let request = reader.next_request().expect("it is well-formed").expect("it is whole");
        assert!(request.expects_continue && request.body == b"{}");
        assert!(!reader.wants_continue() && !reader.has_begun());
    }

    #[test]
    fn a_client_that_does_not_expect_100_continue_gets_none() {
        let mut reader = RequestReader::new();
        reader.push(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{",
        );
        assert_eq!(reader.next_request(), Ok(None));
        assert!(!reader.wants_continue());
    }

    #[test]
    fn no_key_is_shown() {
        let text = b"POST /a?key=secret HTTP/1.1\r\nHost: x\r\nX-Goog-Api-Key: secret\r\nContent-Length: 9\r\n\r\nsecret";
        for length in 0..=text.len() {
            let mut reader = RequestReader::new();
            reader.push(&text[..length]);
            assert!(!format!("{reader:?}").contains("secret"));
            assert_eq!(reader.next_request(), Ok(None));
            assert!(!format!("{reader:?}").contains("secret"));
        }
    }
}
