//! The chunked transfer coding (RFC 9112, section 7.1).
//!
//! ```text
//!   5;name="va\"lue" CR LF hello CR LF   0 CR LF Field: value CR LF CR LF
//!   │ └ Extension, Quoted  └ Data        │       └ TrailerName, TrailerValue
//!   └ Size                               └ Size
//! ```
//!
//! Looks at each byte once and keeps none of them: data is returned as slices of the input, extensions
//! and trailers are skipped. Their syntax is checked nevertheless, as far as it decides where a line
//! ends and whether a line is a field at all: a part of the next message must not pass for a trailer.

use super::fault::Fault;
use crate::limits::{CHUNK_LINE_BYTES, HEAD_BYTES};

/// The position in the chunks.
#[derive(Debug)]
pub(super) struct Chunks {
    state: ChunkState,
    /// Of the present chunk: the value of its digits, then the number of bytes that have not come yet; so
    /// 0 before the next chunk's digits.
    size: u64,
    digits: u8,
    /// Bytes so far of the line before a chunk, or of all trailers.
    skipped: usize,
    /// Bytes of data that all further chunks together may have.
    room: u64,
    limit: usize,
    may_fold: bool,
}

/// The next piece of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkStep<'a> {
    Data(&'a [u8]),
    /// The input is used up.
    More,
    /// The body is complete; the rest of the input does not belong to it.
    Last,
}

#[derive(Clone, Copy, Debug)]
enum ChunkState {
    Size,
    /// Blanks and tabs after the digits.
    SizeSpace,
    Extension,
    Quoted,
    /// After a backslash between quotes.
    Escaped,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a field, or of the blank line that ends the body.
    TrailerBegin,
    /// The same after a field, which may continue here.
    TrailerNext,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunks {
    /// `limit` is for the data of all chunks together. `may_fold`: a trailer may continue in the next
    /// line, as a field of an answer may (RFC 9112, section 5.2).
    pub(super) fn new(limit: usize, may_fold: bool) -> Chunks {
        let room = u64::try_from(limit).unwrap_or(u64::MAX);
        Chunks { state: ChunkState::Size, size: 0, digits: 0, skipped: 0, room, limit, may_fold }
    }

    /// Takes the next piece of data, or all input before it.
    pub(super) fn next<'a>(&mut self, rest: &mut &'a [u8]) -> Result<ChunkStep<'a>, Fault> {
        loop {
            if matches!(self.state, ChunkState::Done) {
                return Ok(ChunkStep::Last);
            }
            if rest.is_empty() {
                return Ok(ChunkStep::More);
            }
            if matches!(self.state, ChunkState::Data) {
                return Ok(ChunkStep::Data(self.data(rest)));
            }
            let (byte, after) = (rest[0], &rest[1..]);
            *rest = after;
            self.state = self.after(byte)?;
        }
    }

    fn data<'a>(&mut self, rest: &mut &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.size).map_or(rest.len(), |size| size.min(rest.len()));
        let (data, after) = rest.split_at(length);
        *rest = after;
        self.size -= length as u64;
        if self.size == 0 {
            self.state = ChunkState::DataCr;
        }
        data
    }

    /// The state after a byte that is not data.
    fn after(&mut self, byte: u8) -> Result<ChunkState, Fault> {
        use ChunkState::*;
        self.count()?;
        Ok(match (self.state, byte) {
            (Size, digit) if digit.is_ascii_hexdigit() => self.add_digit(digit)?,
            (Size | SizeSpace, b'\r') if self.digits > 0 => SizeLf,
            (Size | SizeSpace, b' ' | b'\t') => SizeSpace,
            (Size | SizeSpace, b';') if self.digits > 0 => Extension,
            (Extension, b'\r') => SizeLf,
            (Extension, b'"') => Quoted,
            (Quoted, b'"') => Extension,
            (Quoted, b'\\') => Escaped,
            (Extension, byte) if is_text(byte) => Extension,
            (Quoted | Escaped, byte) if is_text(byte) => Quoted,
            (SizeLf, b'\n') => self.begin_chunk()?,
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => {
                self.digits = 0;
                self.skipped = 0;
                Size
            }
            (TrailerBegin | TrailerNext, b'\r') => LastLf,
            (TrailerBegin | TrailerNext | TrailerName, byte) if is_token(byte) => TrailerName,
            (TrailerNext, b' ' | b'\t') if self.may_fold => TrailerValue,
            (TrailerName, b':') => TrailerValue,
            (TrailerValue, b'\r') => TrailerLf,
            (TrailerValue, byte) if is_text(byte) => TrailerValue,
            (TrailerLf, b'\n') => TrailerNext,
            (LastLf, b'\n') => Done,
            _ => return Err(Fault::BadChunk),
        })
    }

    /// Counts a byte that is skipped.
    fn count(&mut self) -> Result<(), Fault> {
        use ChunkState::*;
        self.skipped += 1;
        match self.state {
            TrailerBegin | TrailerNext | TrailerName | TrailerValue | TrailerLf | LastLf => {
                if self.skipped > HEAD_BYTES { Err(Fault::TrailersTooLong) } else { Ok(()) }
            }
            _ if self.skipped > CHUNK_LINE_BYTES => Err(Fault::ChunkLineTooLong),
            _ => Ok(()),
        }
    }

    /// 64 bits hold sixteen digits; more are refused even if they are zeros.
    fn add_digit(&mut self, digit: u8) -> Result<ChunkState, Fault> {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => digit - b'A' + 10,
        };
        self.digits += 1;
        if self.digits > 16 {
            return Err(Fault::BadChunk);
        }
        let size = self.size.checked_mul(16).and_then(|size| size.checked_add(value.into()));
        self.size = size.ok_or(Fault::BadChunk)?;
        Ok(ChunkState::Size)
    }

    /// Refuses a chunk that would exceed the limit before any of it arrives.
    fn begin_chunk(&mut self) -> Result<ChunkState, Fault> {
        let room = self.room.checked_sub(self.size);
        self.room = room.ok_or(Fault::BodyTooLong { limit: self.limit })?;
        self.skipped = 0;
        Ok(if self.size == 0 { ChunkState::TrailerBegin } else { ChunkState::Data })
    }
}

/// Whether a field's value or an extension may contain the byte: no control characters but tabs.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// Whether a field's name may contain the byte (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data and the rest of the input, or the fault; None if more input is needed.
    fn decoded(text: &str, limit: usize) -> Result<Option<(String, String)>, Fault> {
        let mut chunks = Chunks::new(limit, true);
        let mut rest = text.as_bytes();
        let mut data = Vec::new();
        loop {
            match chunks.next(&mut rest)? {
                ChunkStep::Data(piece) => data.extend_from_slice(piece),
                ChunkStep::More => return Ok(None),
                ChunkStep::Last => break,
            }
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some((text(&data), text(rest))))
    }

    #[test]
    fn extensions_and_trailers_are_skipped() {
        let cases = [
            ("0\r\n\r\n", ""),
            ("00\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
            (
                "a\r\n0123456789\r\nA\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
                "0123456789\r\n\r\n\r\n\r\n\r\n",
            ),
            ("1;a\r\nx\r\n0;b=c;d=\"e\"\r\n\r\n", "x"),
            ("1 \t\r\nx\r\n0 \r\n\r\n", "x"),
            ("1\r\nx\r\n0\r\nA: b\r\n c\r\n\t\r\nD: e\r\n\r\n", "x"),
            ("1 \t; a = \"0;\\\"\t\\\\\"\r\nx\r\n0\r\n\r\n", "x"),
            ("1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", "x"),
        ];
        for (text, data) in cases {
            let expected = Ok(Some((data.to_string(), "rest".to_string())));
            assert_eq!(decoded(&format!("{text}rest"), 20), expected, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_chunk_is_refused() {
        let cases = [
            "\r\n",
            ";a\r\n",
            " 5\r\n",
            "+5\r\n",
            "-5\r\n",
            "0x5\r\n",
            "5 \n",
            " \r\n",
            "5\n",
            "5\r\r\n",
            "5;a\n",
            "5;a=\"b\r\n",
            "5;a\0\r\n",
            "g\r\n",
            "5 5\r\n",
            "00000000000000005",
            "5\r\nhelloworld",
            "5\r\nhello\n",
            "5\r\nhello\r\r",
            "0\r\n\n",
            "0\r\n A: b",
            "0\r\nA\r\n b",
            "0\r\nGET / HTTP/1.1\r\n",
            "0\r\n: b\r\n",
            "0\r\nA\r\n",
            "0\r\nA: b\n",
            "0\r\nA: b\r\r",
            "0\r\nA: \0",
        ];
        for text in cases {
            assert_eq!(decoded(text, 100), Err(Fault::BadChunk), "{text:?}");
        }
    }

    #[test]
    fn the_limit_is_for_all_chunks_together() {
        let too_long = Err(Fault::BodyTooLong { limit: 9 });
        assert_eq!(decoded("a\r\n", 9), too_long);
        assert_eq!(decoded("ffffffffffffffff\r\n", 9), too_long);
        assert_eq!(decoded("5\r\nhello\r\n5\r\n", 9), too_long);
        assert_eq!(decoded("5\r\nhello\r\n4\r\n", 9), Ok(None));
    }

    #[test]
    fn skipped_bytes_are_bounded() {
        let line = |bytes: usize| format!("5;{}\r\n", "x".repeat(bytes - 4));
        assert_eq!(decoded(&line(CHUNK_LINE_BYTES), 9), Ok(None));
        assert_eq!(decoded(&line(CHUNK_LINE_BYTES + 1), 9), Err(Fault::ChunkLineTooLong));
        let trailers = |bytes: usize| format!("0\r\nx:{}\r\n\r\n", "x".repeat(bytes - 6));
        assert!(matches!(decoded(&trailers(HEAD_BYTES), 9), Ok(Some(_))));
        assert_eq!(decoded(&trailers(HEAD_BYTES + 1), 9), Err(Fault::TrailersTooLong));
    }
}
