//! The body of a message, collected up to the end that the head announced.

use std::fmt;

use super::append_within;
use super::chunked::{ChunkStep, Chunks};
use super::fault::Fault;

/// Collects a body as it arrives.
pub(super) struct BodyReader {
    bytes: Vec<u8>,
    limit: usize,
    until: Until,
    has_begun: bool,
}

#[derive(Debug)]
enum Until {
    Length(usize),
    LastChunk(Chunks),
    Close,
}

impl BodyReader {
    /// Refuses a body at once that is announced to be longer than `limit` bytes. The announced length is
    /// not reserved: memory grows with what arrives.
    pub(super) fn of_length(length: u64, limit: usize) -> Result<BodyReader, Fault> {
        match usize::try_from(length) {
            Ok(length) if length <= limit => Ok(BodyReader::new(Until::Length(length), limit)),
            _ => Err(Fault::BodyTooLong { limit }),
        }
    }

    pub(super) fn in_chunks(limit: usize, may_fold: bool) -> BodyReader {
        BodyReader::new(Until::LastChunk(Chunks::new(limit, may_fold)), limit)
    }

    pub(super) fn until_close(limit: usize) -> BodyReader {
        BodyReader::new(Until::Close, limit)
    }

    fn new(until: Until, limit: usize) -> BodyReader {
        BodyReader { bytes: Vec::new(), limit, until, has_begun: false }
    }

    /// Takes the bytes of the body from the front of `rest`. True once the body is complete; a body that
    /// lasts until the connection closes never is.
    pub(super) fn take(&mut self, rest: &mut &[u8]) -> Result<bool, Fault> {
        self.has_begun |= !rest.is_empty();
        match &mut self.until {
            Until::Length(length) => {
                let (piece, after) = rest.split_at(rest.len().min(*length - self.bytes.len()));
                *rest = after;
                append_within(*length, &mut self.bytes, piece);
                Ok(self.bytes.len() == *length)
            }
            Until::LastChunk(chunks) => loop {
                match chunks.next(rest)? {
                    ChunkStep::Data(piece) => append_within(self.limit, &mut self.bytes, piece),
                    ChunkStep::More => return Ok(false),
                    ChunkStep::Last => return Ok(true),
                }
            },
            Until::Close => {
                if rest.len() > self.limit - self.bytes.len() {
                    return Err(Fault::BodyTooLong { limit: self.limit });
                }
                append_within(self.limit, &mut self.bytes, rest);
                *rest = &[];
                Ok(false)
            }
        }
    }

    /// Whether any byte of it, or of its framing, has arrived.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn is_until_close(&self) -> bool {
        matches!(self.until, Until::Close)
    }

    /// Bytes reserved.
    pub(super) fn buffered(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes, until {:?})", self.bytes.len(), self.until)
    }
}
