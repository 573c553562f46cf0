//! The lines of the protocol: bytes to values and back, and nothing else.
//!
//! Never here: a socket, a clock, a thread, a file, a log record, and never a decision; what a line
//! *means* is decided in [`crate::herd`] and [`crate::server`]. Values borrow the line they were
//! read from, so that reading one allocates nothing, and keep the original text of every field,
//! because that text is sent on, and not a reprinted number (section 3).
//!
//! ```text
//!   bytes --LineBuffer--> line --split--> fields --parse--> ClientRequest, Hello, Update, Mark ...
//!   bytes <------------------------------------------------ write_...
//! ```

mod decimal;
mod fields;
mod location;
mod peer;
mod plain;
mod request;
mod time;
mod update;
mod word;

pub use decimal::Decimal;
pub use fields::{Fields, split};
pub use location::{Angle, Location, LocationError};
pub use peer::{Common, Epoch, FromAcceptor, FromDialler, PeerError, Seq, UpdateError};
pub use peer::{write_ack, write_hello, write_mark, write_resume, write_settings};
pub use request::{
    ClientRequest, Iamat, MAX_ID_BYTES, RequestError, Whatsat, is_http_request_line,
};
pub use time::{Skew, Timestamp, TimestampError};
pub use update::{Batch, Copied, LineText, Update, UpdateRef, Written};

/// The form of the answers to clients (section 2). The whole herd uses one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `AT AT <id> <location> <timestamp>`, radii in miles.
    #[default]
    Report,
    /// `AT <server> <skew> <id> <location> <timestamp>`, radii in kilometres.
    Course,
}

impl Dialect {
    /// Its name in the configuration and between servers.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Report => "report",
            Dialect::Course => "course",
        }
    }

    /// A dialect by its name.
    pub fn named(name: &str) -> Option<Dialect> {
        [Dialect::Report, Dialect::Course].into_iter().find(|dialect| dialect.name() == name)
    }
}

/// Appends `? `, the line as it came, and LF: the answer to an invalid command (section 3).
pub fn write_refusal(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"? ");
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// Whether `name` is a valid name of a server: 1 to 64 letters, digits, `_` and `-`. The bound keeps
/// `<name>_log.txt` a legal file name and an UPDATELOC within its line.
pub fn is_server_name(name: &[u8]) -> bool {
    let is_permitted = |&byte: &u8| PERMITTED[usize::from(byte)];
    (1..=MAX_SERVER_NAME_BYTES).contains(&name.len()) && name.iter().all(is_permitted)
}

/// Which bytes a server's name may have. It is looked up for each update of a neighbour.
const PERMITTED: [bool; 256] = {
    let (mut permitted, mut byte) = ([false; 256], 0u8);
    while byte < 0x80 {
        permitted[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        byte += 1;
    }
    permitted
};

/// The longest name of a server, in bytes.
pub const MAX_SERVER_NAME_BYTES: usize = 64;
