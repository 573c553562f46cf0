//! The server's side where only heads are read: requests that ask and change nothing, one after the other.
//!
//! ```text
//!   push ──> [ input ] ──next_request──> HeadBuffer ──> Get
//!                                            └────────> BadRequest, finally
//! ```
//!
//! A request that announces a body is refused by its head, before any of the body is read.

use super::head::{BodyFraming, HeadBuffer, is};
use super::request::{BadRequest, Input, parse_head};

/// Reads requests without bodies, whose heads have at most `FIELDS` fields.
///
/// If the last [`GetReader::next_request`] returned none, it holds at most one head and the room of one push.
#[derive(Debug)]
pub struct GetReader<const FIELDS: usize> {
    input: Input,
    head: HeadBuffer,
    head_bytes: usize,
    refused: Option<BadRequest>,
}

/// A complete request. It may have any method: the owner decides which ones it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// As it came: methods are case-sensitive.
    pub method: String,
    /// As it came, with its query.
    pub target: String,
    /// `Host`, with its port; bytes that are not UTF-8 are replaced.
    pub host: String,
    /// `Accept`, empty if there is none; several are joined by commas.
    pub accept: String,
    /// `Sec-Fetch-Site`, empty if there is none; several are joined by commas.
    pub fetch_site: String,
    /// `Sec-Fetch-Dest`, likewise.
    pub fetch_dest: String,
    /// The client may send another request on this connection: HTTP/1.1 and no `close`.
    pub keep_alive: bool,
}

impl<const FIELDS: usize> GetReader<FIELDS> {
    /// At the beginning of a connection. A head has at most `head_bytes`.
    pub fn new(head_bytes: usize) -> GetReader<FIELDS> {
        let head = HeadBuffer::of_request(head_bytes);
        GetReader { input: Input::default(), head, head_bytes, refused: None }
    }

    /// Adds received bytes. After a refusal they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.refused.is_none() {
            self.input.push(bytes);
        }
    }

    /// The next request, once it is complete; what follows it stays for the next call. A refusal is final: each
    /// further call returns it again.
    pub fn next_request(&mut self) -> Result<Option<Get>, BadRequest> {
        if let Some(refusal) = &self.refused {
            return Err(refusal.clone());
        }
        let mut rest = self.input.rest();
        let next = match self.head.take(&mut rest) {
            Ok(Some(text)) => parse::<FIELDS>(text).map(Some),
            Ok(None) => Ok(None),
            Err(fault) => Err(fault.into()),
        };
        let left = rest.len();
        self.input.keep_last(left);
        if !matches!(next, Ok(None)) {
            self.head = HeadBuffer::of_request(self.head_bytes);
        }
        next.map_err(|refusal| {
            let too_large = BadRequest::Head { bytes: self.head_bytes, fields: FIELDS };
            let refusal = if refusal.status() == 431 { too_large } else { refusal };
            self.input = Input::default();
            self.refused = Some(refusal.clone());
            refusal
        })
    }

    /// Whether a request has begun and is not complete.
    pub fn has_begun(&self) -> bool {
        !self.head.is_empty() || !self.input.rest().is_empty()
    }

    /// Bytes of memory that it holds.
    pub fn buffered(&self) -> usize {
        self.input.buffered() + self.head.buffered()
    }
}

/// Parses a complete head.
fn parse<const FIELDS: usize>(text: &[u8]) -> Result<Get, BadRequest> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let (method, target, minor) = parse_head(&mut parsed, text)?;
    let framing = BodyFraming::read(minor, parsed.headers)?;
    if framing.is_chunked || framing.length.is_some_and(|length| length > 0) {
        return Err(BadRequest::Body);
    }
    let values = |name| {
        let fields = parsed.headers.iter().filter(move |field| is(field, name));
        fields.map(|field| String::from_utf8_lossy(field.value)).collect::<Vec<_>>()
    };
    let hosts = values("host");
    let [host] = &hosts[..] else {
        return Err(BadRequest::Host);
    };
    Ok(Get {
        method: method.to_owned(),
        target: target.to_owned(),
        host: host.trim().to_owned(),
        accept: values("accept").join(","),
        fetch_site: values("sec-fetch-site").join(","),
        fetch_dest: values("sec-fetch-dest").join(","),
        keep_alive: minor == 1 && !framing.closes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fault::Fault;
    use super::*;

    /// What comes of these bytes, however they are cut: the targets in their order, and the refusal.
    fn read(text: &[u8]) -> (Vec<String>, Option<BadRequest>) {
        let all = |size: usize| {
            let mut reader = GetReader::<4>::new(200);
            let mut targets = Vec::new();
            for piece in text.chunks(size) {
                reader.push(piece);
                loop {
                    match reader.next_request() {
                        Ok(Some(request)) => targets.push(request.target),
                        Ok(None) => break,
                        Err(refusal) => return (targets, Some(refusal)),
                    }
                }
                assert!(reader.buffered() <= 400 + 2 * size.max(8), "{} bytes", reader.buffered());
            }
            (targets, None)
        };
        let whole = all(text.len().max(1));
        for size in [1, 2, 7] {
            assert_eq!(all(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn heads_follow_each_other_and_a_body_is_refused_by_its_head() {
        let one = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        let two = format!("{one}HEAD /b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let targets =
            |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(read(two.as_bytes()), (targets(&["/a", "/b"]), None));
        for (field, refusal) in [
            ("Content-Length: 1", BadRequest::Body),
            ("Content-Length: 8388608", BadRequest::Body),
            ("Transfer-Encoding: chunked", BadRequest::Body),
            ("Transfer-Encoding: gzip, chunked", Fault::UnknownCoding.into()),
            ("Transfer-Encoding: identity", Fault::ChunkedNotLast.into()),
            ("Content-Length: 0\r\nContent-Length: 1", Fault::LengthsDiffer.into()),
            ("Content-Length: 0\r\nTransfer-Encoding: chunked", Fault::LengthAndCoding.into()),
            ("Content-Length: +0", Fault::BadLength.into()),
            ("Host: y", BadRequest::Host),
            ("a: b\r\n folded", Fault::BadField.into()),
        ] {
            let text = format!("{one}GET /b HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\nGET /c");
            assert_eq!(read(text.as_bytes()), (targets(&["/a"]), Some(refusal)), "{field}");
        }
    }

    #[test]
    fn a_head_has_its_own_bounds() {
        let fields =
            |count| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(read(fields(3).as_bytes()).1, None);
        let refusal = Some(BadRequest::Head { bytes: 200, fields: 4 });
        assert_eq!(read(fields(4).as_bytes()).1, refusal);
        let long =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\na: {}\r\n\r\n", "y".repeat(count));
        let most = 200 - long(0).len();
        assert_eq!(read(long(most).as_bytes()).1, None);
        assert_eq!(read(long(most + 1).as_bytes()).1, refusal);
        assert_eq!(read("x".repeat(200).as_bytes()).1, refusal);
    }
}
