//! Why a message, an answer or a request, is invalid.

use std::fmt;

use crate::limits::{CHUNK_LINE_BYTES, HEAD_BYTES, HEAD_FIELDS};

/// Why a message can't be read. The error that carries it makes a text of it, which quotes nothing of the
/// message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first line is not one of HTTP/1.
    NotHttp,
    /// No blank line within [`HEAD_BYTES`].
    HeadTooLong,
    /// More fields than [`HEAD_FIELDS`].
    TooManyFields,
    /// A line of the head ends with LF alone.
    BareLineFeed,
    /// A malformed field, or, in a request, a field that continues in a second line.
    BadField,
    /// A Content-Length with other characters than digits, or one that does not fit into 64 bits.
    BadLength,
    /// Two values of Content-Length.
    LengthsDiffer,
    /// Both Content-Length and Transfer-Encoding.
    LengthAndCoding,
    /// A Transfer-Encoding, which HTTP/1.0 does not know.
    CodingInHttp10,
    /// Chunked is not the last transfer coding, or occurs twice.
    ChunkedNotLast,
    /// A transfer coding other than chunked.
    UnknownCoding,
    /// The chunks are malformed: no size, no CR LF after the data …
    BadChunk,
    /// A chunk's size and extensions take more than [`CHUNK_LINE_BYTES`].
    ChunkLineTooLong,
    /// The fields after the last chunk take more than [`HEAD_BYTES`].
    TrailersTooLong,
    /// The body is longer than this, or announced as longer.
    BodyTooLong { limit: usize },
}

impl Fault {
    /// Writes the reason; `message` is "the answer" or "the request".
    pub(super) fn describe(self, message: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => write!(f, "{message} is not HTTP/1.1"),
            Self::HeadTooLong => write!(f, "{message}'s head is over {HEAD_BYTES} bytes"),
            Self::TooManyFields => write!(f, "{message}'s head has over {HEAD_FIELDS} fields"),
            Self::BareLineFeed => {
                write!(f, "{message}'s head has a line feed without a carriage return")
            }
            Self::BadField => write!(f, "{message}'s head has a malformed field"),
            Self::BadLength => write!(f, "{message}'s Content-Length is not a number of bytes"),
            Self::LengthsDiffer => write!(f, "{message} has two different Content-Lengths"),
            Self::LengthAndCoding => {
                write!(f, "{message} has both a Content-Length and a Transfer-Encoding")
            }
            Self::CodingInHttp10 => {
                write!(f, "{message} has a Transfer-Encoding, but is HTTP/1.0")
            }
            Self::ChunkedNotLast => {
                write!(f, "{message}'s Transfer-Encoding does not end with one \"chunked\"")
            }
            Self::UnknownCoding => {
                write!(f, "{message} has a Transfer-Encoding other than \"chunked\"")
            }
            Self::BadChunk => write!(f, "{message} has a malformed chunk"),
            Self::ChunkLineTooLong => {
                write!(f, "{message} has a chunk whose first line is over {CHUNK_LINE_BYTES} bytes")
            }
            Self::TrailersTooLong => {
                write!(f, "{message}'s trailers are over {HEAD_BYTES} bytes")
            }
            Self::BodyTooLong { limit } => write!(f, "{message} is over {limit} bytes"),
        }
    }
}

impl From<httparse::Error> for Fault {
    fn from(error: httparse::Error) -> Fault {
        use httparse::Error;
        match error {
            Error::HeaderName | Error::HeaderValue => Fault::BadField,
            Error::TooManyHeaders => Fault::TooManyFields,
            Error::NewLine | Error::Status | Error::Token | Error::Version => Fault::NotHttp,
        }
    }
}
