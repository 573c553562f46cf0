//! Why a connection can't be used any further.

use std::fmt;

use crate::limits::CONTROL_LINE_BYTES;

/// What a server sent that can't be framed, so nothing behind it can. It quotes nothing of it but the verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// More than [`CONTROL_LINE_BYTES`] bytes without an end of the line.
    LongLine,
    /// A line that begins with none of the words of a server; its first word, as far as it is printable.
    UnknownVerb(String),
    /// The fields of this verb are not those that it has.
    Fields { verb: &'static str },
    /// A field that must be a number is none, or is too great for us.
    Number { verb: &'static str, field: &'static str },
    /// A message of this many bytes, and the bound.
    TooLarge { bytes: usize, limit: usize },
    /// A message with more bytes of headers than bytes.
    HeaderLength,
    /// A payload is not followed by CR LF.
    PayloadEnd,
    /// The JSON of INFO can't be read, for this reason.
    Info(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::LongLine => {
                write!(f, "a control line is longer than {CONTROL_LINE_BYTES} bytes")
            }
            WireError::UnknownVerb(verb) => write!(f, "a server of NATS does not say {verb:?}"),
            WireError::Fields { verb } => write!(f, "{verb} has a wrong number of fields"),
            WireError::Number { verb, field } => write!(f, "the {field} of {verb} is no number"),
            WireError::TooLarge { bytes, limit } => {
                write!(f, "a message has {bytes} bytes, and {limit} are allowed")
            }
            WireError::HeaderLength => f.write_str("the headers are longer than their message"),
            WireError::PayloadEnd => f.write_str("a payload does not end where it should"),
            WireError::Info(why) => write!(f, "INFO can't be read: {why}"),
        }
    }
}

impl std::error::Error for WireError {}
