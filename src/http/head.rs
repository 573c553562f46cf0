//! The head of a message: finding it in the stream, and reading where the body ends.
//!
//! ```text
//!   HTTP/1.1 200 OK CR LF Content-Length: 5 CR LF CR LF hello
//!   └─────────────────── head ────────────────────────┘└ body: left to the caller
//! ```
//!
//! The head is scanned line by line as it arrives, each byte once, and parsed when it is complete. Parsing it
//! again with each piece, as `httparse` suggests, takes quadratic time if the sender sends single bytes.
//! Before that, two forms are rewritten in place, as RFC 9112 requires: a higher minor version, and in
//! answers folded fields.

use std::fmt;

use httparse::Header;
use memchr::memchr;

use super::append_within;
use super::fault::Fault;
use crate::limits::HEAD_BYTES;

/// Collects a head of at most `limit` bytes, and nothing after it.
pub(super) struct HeadBuffer {
    bytes: Vec<u8>,
    limit: usize,
    /// The bytes with which it must begin. They are checked as they arrive; otherwise the reader would wait
    /// for the end of input that is not HTTP at all and has no line ends.
    prefix: &'static [u8],
    /// Whether one empty line may still come before it.
    may_skip_line: bool,
    /// Whether a field may continue in the next line.
    may_fold: bool,
}

impl HeadBuffer {
    pub(super) fn of_answer() -> HeadBuffer {
        HeadBuffer {
            bytes: Vec::new(),
            limit: HEAD_BYTES,
            prefix: b"HTTP/1.",
            may_skip_line: false,
            may_fold: true,
        }
    }

    /// A request may have an empty line before it: old clients sent one after a body (RFC 9112, section 2.2).
    /// It may not fold: a proxy in front of us could have read it in another way (section 5.2).
    pub(super) fn of_request(limit: usize) -> HeadBuffer {
        HeadBuffer { bytes: Vec::new(), limit, prefix: b"", may_skip_line: true, may_fold: false }
    }

    /// Takes the bytes of the head from the front of `rest`: all of it, or up to the blank line. Returns the
    /// head with its blank line once it is complete.
    pub(super) fn take(&mut self, rest: &mut &[u8]) -> Result<Option<&[u8]>, Fault> {
        while !rest.is_empty() {
            // Never 0: with a full buffer this function has returned an error.
            let room = (self.limit - self.bytes.len()).min(rest.len());
            let line_end = memchr(b'\n', &rest[..room]);
            let (piece, after) = rest.split_at(line_end.map_or(room, |at| at + 1));
            *rest = after;
            append_within(self.limit, &mut self.bytes, piece);

            let compared = self.prefix.len().min(self.bytes.len());
            if self.bytes[..compared] != self.prefix[..compared] {
                return Err(Fault::NotHttp);
            }
            if line_end.is_some() && self.ends_head()? {
                lower_version(&mut self.bytes);
                if self.may_fold {
                    unfold(&mut self.bytes);
                }
                return Ok(Some(&self.bytes));
            }
            if self.bytes.len() == self.limit {
                return Err(Fault::HeadTooLong);
            }
        }
        Ok(None)
    }

    /// Whether the line that has just ended is the empty one after the fields.
    fn ends_head(&mut self) -> Result<bool, Fault> {
        let Some(line) = self.bytes.strip_suffix(b"\r\n") else {
            return Err(Fault::BareLineFeed);
        };
        if !line.is_empty() {
            return Ok(line.ends_with(b"\r\n"));
        }
        if !self.may_skip_line {
            return Err(Fault::NotHttp);
        }
        self.may_skip_line = false;
        self.bytes.clear();
        Ok(false)
    }

    /// Forgets the head, for the next one of the same kind.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes reserved.
    pub(super) fn buffered(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Replaces HTTP/1.2 to HTTP/1.9 in the first line by HTTP/1.1, the highest version that is supported here
/// (RFC 9110, section 2.5).
fn lower_version(head: &mut [u8]) {
    let line_end = memchr(b'\r', head).unwrap_or(head.len());
    let line = &head[..line_end];
    // The first word of an answer, the last one of a request.
    let at = match line.starts_with(VERSION) {
        true => VERSION.len(),
        false => line.len().saturating_sub(1),
    };
    let is_whole = matches!(line.get(at + 1), None | Some(b' '));
    if is_whole && line[..at].ends_with(VERSION) && matches!(line.get(at), Some(b'2'..=b'9')) {
        head[at] = b'1';
    }
}

/// Replaces folds of fields by blanks (RFC 9112, section 5.2). A continuation of the first line is not a
/// fold; it is refused later.
fn unfold(head: &mut [u8]) {
    let mut from = memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    while let Some(at) = memchr(b'\n', &head[from..]) {
        let next = from + at + 1;
        // `ends_head` has ensured that a CR stands before each LF.
        if matches!(head.get(next), Some(b' ' | b'\t')) {
            head[next - 2..next].fill(b' ');
        }
        from = next;
    }
}

/// Without the bytes: a request's head has the key.
impl fmt::Debug for HeadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeadBuffer({} bytes)", self.bytes.len())
    }
}

/// Where the body ends, and whether the connection does, according to the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BodyFraming {
    /// Content-Length, in bytes.
    pub(super) length: Option<u64>,
    /// Transfer-Encoding: chunked. Never with a length.
    pub(super) is_chunked: bool,
    /// Connection: close.
    pub(super) closes: bool,
}

impl BodyFraming {
    /// `minor` is the 0 or 1 of HTTP/1.x. Refuses messages that RFC 9112, section 6, calls an error or leaves
    /// to the implementation.
    pub(super) fn read(minor: u8, fields: &[Header<'_>]) -> Result<BodyFraming, Fault> {
        let mut framing = BodyFraming::default();
        let mut codings = None;
        for field in fields {
            if is(field, "content-length") {
                framing.add_length(field.value)?;
            } else if is(field, "transfer-encoding") {
                codings.get_or_insert_with(Codings::default).add(field.value);
            } else if is(field, "connection") {
                framing.closes |=
                    elements(field.value).any(|option| option.eq_ignore_ascii_case(b"close"));
            }
        }
        if let Some(codings) = codings {
            if minor == 0 {
                return Err(Fault::CodingInHttp10);
            }
            if framing.length.is_some() {
                return Err(Fault::LengthAndCoding);
            }
            codings.check()?;
            framing.is_chunked = true;
        }
        Ok(framing)
    }

    /// Adds a field's value: a number, or, if a proxy has joined repeated fields, a list of the same number.
    fn add_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        for element in elements(value) {
            let length = number(element).ok_or(Fault::BadLength)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(Fault::LengthsDiffer);
            }
            self.length = Some(length);
        }
        Ok(())
    }
}

/// The transfer codings, of all fields in their order.
#[derive(Default)]
struct Codings {
    chunked: usize,
    others: usize,
    ends_with_chunked: bool,
}

impl Codings {
    fn add(&mut self, value: &[u8]) {
        for coding in elements(value) {
            self.ends_with_chunked = coding.eq_ignore_ascii_case(b"chunked");
            if self.ends_with_chunked {
                self.chunked += 1;
            } else {
                self.others += 1;
            }
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.chunked != 1 || !self.ends_with_chunked {
            return Err(Fault::ChunkedNotLast);
        }
        if self.others > 0 {
            return Err(Fault::UnknownCoding);
        }
        Ok(())
    }
}

/// Whether the field has this name.
pub(super) fn is(field: &Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

/// The elements of a list, with empty ones: the reader of the field decides whether those are allowed.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits and nothing else: `str::parse` would accept a sign.
fn number(text: &[u8]) -> Option<u64> {
    let mut number: Option<u64> = None;
    for byte in text {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
    }
    number
}

/// The text before the minor version.
const VERSION: &[u8] = b"HTTP/1.";

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(fields: &[(&str, &str)]) -> Result<BodyFraming, Fault> {
        let fields: Vec<Header> =
            fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        BodyFraming::read(1, &fields)
    }

    #[test]
    fn a_length_is_digits_alone() {
        for good in ["5", "005", "5, 5", "5 ,\t5,05", "0", "18446744073709551615"] {
            let length = good.split(',').next().expect("it has one").trim().parse().ok();
            let expected = BodyFraming { length, ..BodyFraming::default() };
            assert_eq!(framing(&[("Content-LENGTH", good)]), Ok(expected), "{good:?}");
        }
        let bad = ["", "+5", "-5", "5,", ",5", "5 5", "0x5", "5.0", "1e3", "18446744073709551616"];
        for bad in bad {
            assert_eq!(framing(&[("Content-Length", bad)]), Err(Fault::BadLength), "{bad:?}");
        }
        assert_eq!(framing(&[("Content-Length", "5, 6")]), Err(Fault::LengthsDiffer));
        let twice = |second| framing(&[("Content-Length", "5"), ("content-length", second)]);
        assert_eq!(twice("6"), Err(Fault::LengthsDiffer));
        assert_eq!(twice("5").map(|framing| framing.length), Ok(Some(5)));
    }

    #[test]
    fn chunked_is_the_one_coding_and_the_last() {
        let chunked = BodyFraming { is_chunked: true, ..BodyFraming::default() };
        assert_eq!(framing(&[("transfer-encoding", "Chunked")]), Ok(chunked));
        let cases = [
            ("", Fault::ChunkedNotLast),
            ("identity", Fault::ChunkedNotLast),
            ("xchunked", Fault::ChunkedNotLast),
            ("chunked;q=1", Fault::ChunkedNotLast),
            ("\"chunked\"", Fault::ChunkedNotLast),
            ("chunked, gzip", Fault::ChunkedNotLast),
            ("chunked, chunked", Fault::ChunkedNotLast),
            ("chunked,", Fault::ChunkedNotLast),
            (",chunked", Fault::UnknownCoding),
            ("gzip, chunked", Fault::UnknownCoding),
        ];
        for (value, fault) in cases {
            assert_eq!(framing(&[("Transfer-Encoding", value)]), Err(fault), "{value:?}");
        }
        let twice = [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")];
        assert_eq!(framing(&twice), Err(Fault::ChunkedNotLast));
        let both = [("Content-Length", "5"), ("Transfer-Encoding", "chunked")];
        assert_eq!(framing(&both), Err(Fault::LengthAndCoding));
    }

    #[test]
    fn a_head_byte_by_byte_takes_no_more_memory_than_its_limit() {
        let mut head = HeadBuffer::of_answer();
        let mut text: &[u8] = b"HTTP/1.1 200 OK\r\nx: ";
        assert_eq!(head.take(&mut text), Ok(None));
        for _ in 20..HEAD_BYTES - 1 {
            assert_eq!(head.take(&mut &b"x"[..]), Ok(None));
            assert!(head.buffered() <= HEAD_BYTES);
        }
        assert_eq!(head.take(&mut &b"x"[..]), Err(Fault::HeadTooLong));
        assert!(head.buffered() <= HEAD_BYTES);
    }
}
