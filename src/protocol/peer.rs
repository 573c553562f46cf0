//! The lines between servers (section 4).
//!
//! ```text
//!   dialler                                acceptor
//!   HELLO herd/1 <server> <epoch>    -->
//!                                    <--   RESUME <epoch> <seq> <own epoch> <own name>
//!   SETTINGS ...                     -->
//!   UPDATELOC ...                    -->
//!   MARK <seq>                       -->
//!                                    <--   ACK <seq>
//! ```

use std::fmt;

use super::decimal::{NumberText, integer, trim_zeros_before};
use super::fields::split;
use super::is_server_name;
use super::location::{Location, LocationError};
use super::plain::{self, PlainFields};
use super::request::MAX_ID_BYTES;
use super::time::{Skew, Timestamp, TimestampError};
use super::update::{COMMAND, Copied, UpdateRef};

/// Identifies one run of a server (its incarnation), and so its feed: a random number, new at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A position in a feed: the number of changes up to it. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// A line of the dialling side of a link.
#[derive(Clone, Copy, Debug)]
pub enum FromDialler<'a> {
    Hello { server: &'a [u8], epoch: Epoch },
    Settings(Common<'a>),
    Update(UpdateRef<'a>),
    Mark(Seq),
}

/// A server's values of the settings that must be equal throughout the herd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Common<'a> {
    /// The dialect's name; a server of another version may send one that is unknown here.
    pub dialect: &'a [u8],
    pub max_clients: u64,
    /// In whole milliseconds.
    pub max_future: u64,
}

/// A line of the accepting side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromAcceptor<'a> {
    Resume {
        /// The last MARK that it has, and the epoch of the dialler that it belongs to; none if it
        /// has nothing of the dialler's present run.
        mark: Option<(Epoch, Seq)>,
        /// The acceptor's epoch.
        epoch: Epoch,
        name: &'a [u8],
    },
    Ack(Seq),
}

/// Why a neighbour's line is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// Not a line that a server sends on this side of a link.
    Unknown,
    /// A HELLO of another version of the protocol.
    Version,
    /// A malformed UPDATELOC: it is skipped, and the link stays up.
    Update(UpdateError),
}

/// Why an UPDATELOC is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    FieldCount,
    Id,
    Location(LocationError),
    Timestamp(TimestampError),
    Server,
    Skew,
    /// Sent by a server that should have refused it (section 3, `max_future`).
    Future,
}

impl<'a> FromDialler<'a> {
    /// Reads a line, given without its ending.
    // Inline, because its result is large: it would be written to memory and read again.
    #[inline(always)]
    pub fn parse(line: &'a [u8]) -> Result<FromDialler<'a>, PeerError> {
        match FromDialler::parse_plain(line) {
            Some((update, _)) => Ok(FromDialler::Update(update)),
            None => FromDialler::parse_any(line),
        }
    }

    /// Reads an update as servers write it: with one space between two fields, and a plain location, as nearly all are.
    /// Then the line need not be written once more to be kept: 250 instructions of 2,550.
    #[inline(always)] // As its callers.
    pub fn parse_plain(line: &'a [u8]) -> Option<(UpdateRef<'a>, Copied<'a>)> {
        let text = line.strip_prefix(b"UPDATELOC ")?;
        let PlainFields { id, location, timestamp, rest } = plain::fields(text)?;
        let (server, skew) = plain::up_to_space(rest.strip_prefix(b" ")?)?;
        let skew = plain::skew(skew)?;
        let update = UpdateRef { id, location, timestamp, server, skew };
        is_server_name(server).then_some((update, Copied::of(text)))
    }

    /// The same for a line of any form.
    #[inline(never)]
    pub(super) fn parse_any(line: &'a [u8]) -> Result<FromDialler<'a>, PeerError> {
        match split(line).as_slice() {
            [COMMAND, fields @ ..] => {
                let update = parse_update(fields).map_err(PeerError::Update)?;
                Ok(FromDialler::Update(update))
            }
            [b"MARK", seq] => Seq::parse(seq).map(FromDialler::Mark).ok_or(PeerError::Unknown),
            // A later version may send more fields.
            [b"SETTINGS", dialect, max_clients, max_future, ..] => {
                let settings = parse_settings(dialect, max_clients, max_future);
                settings.map(FromDialler::Settings).ok_or(PeerError::Unknown)
            }
            [b"HELLO", b"herd/1", server, epoch] => {
                let epoch = Epoch::parse(epoch).ok_or(PeerError::Unknown)?;
                Ok(FromDialler::Hello { server, epoch })
            }
            [b"HELLO", _, _, _] => Err(PeerError::Version),
            _ => Err(PeerError::Unknown),
        }
    }
}

impl<'a> FromAcceptor<'a> {
    /// Reads a line, given without its ending.
    pub fn parse(line: &'a [u8]) -> Result<FromAcceptor<'a>, PeerError> {
        let parsed = match split(line).as_slice() {
            [b"RESUME", of, seq, epoch, name] => parse_resume(of, seq, epoch, name),
            [b"ACK", seq] => Seq::parse(seq).map(FromAcceptor::Ack),
            _ => None,
        };
        parsed.ok_or(PeerError::Unknown)
    }
}

fn parse_resume<'a>(
    of: &[u8],
    seq: &[u8],
    epoch: &[u8],
    name: &'a [u8],
) -> Option<FromAcceptor<'a>> {
    let seq = Seq::parse(seq)?;
    let mark = match of {
        b"0" => None,
        _ => Some((Epoch::parse(of)?, seq)),
    };
    Some(FromAcceptor::Resume { mark, epoch: Epoch::parse(epoch)?, name })
}

fn parse_settings<'a>(
    dialect: &'a [u8],
    max_clients: &[u8],
    max_future: &[u8],
) -> Option<Common<'a>> {
    let is_word = dialect.len() <= DIALECT_BYTES && dialect.iter().all(u8::is_ascii_lowercase);
    // A number that is too large to represent counts as the largest one: it differs from ours.
    let number = |text: &[u8]| {
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        is_number.then(|| Seq::parse(text).map_or(u64::MAX, |seq| seq.0))
    };
    let (max_clients, max_future) = (number(max_clients)?, number(max_future)?);
    is_word.then_some(Common { dialect, max_clients, max_future })
}

fn parse_update<'a>(fields: &[&'a [u8]]) -> Result<UpdateRef<'a>, UpdateError> {
    let [id, location, timestamp, server, skew] = *fields else {
        return Err(UpdateError::FieldCount);
    };
    if id.len() > MAX_ID_BYTES {
        return Err(UpdateError::Id);
    }
    if !is_server_name(server) {
        return Err(UpdateError::Server);
    }
    Ok(UpdateRef {
        id,
        location: Location::check(location).map_err(UpdateError::Location)?,
        timestamp: Timestamp::parse(timestamp).map_err(UpdateError::Timestamp)?,
        server,
        skew: Skew::parse(skew).ok_or(UpdateError::Skew)?,
    })
}

impl Epoch {
    /// Reads 16 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Epoch> {
        if text.len() != 16 {
            return None;
        }
        text.iter()
            .try_fold(0, |value, &digit| {
                Some(value << 4 | u64::from(char::from(digit).to_digit(16)?))
            })
            .map(Epoch)
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend((0..16).rev().map(|place| HEX[(self.0 >> (4 * place)) as usize & 15]));
    }
}

impl Seq {
    /// Reads a decimal integer of at most 64 bits.
    pub fn parse(text: &[u8]) -> Option<Seq> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        match trim_zeros_before(text) {
            digits if digits.len() < 20 => Some(Seq(integer(digits))),
            digits => std::str::from_utf8(digits).ok()?.parse().ok().map(Seq),
        }
    }
}

impl Seq {
    fn write(self, out: &mut Vec<u8>) {
        let mut text = NumberText::new();
        text.put_integer(self.0);
        out.extend_from_slice(text.as_slice());
    }
}

/// Appends `HELLO herd/1 <server> <epoch>`.
pub fn write_hello(server: &[u8], epoch: Epoch, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HELLO herd/1 ");
    out.extend_from_slice(server);
    out.push(b' ');
    epoch.write(out);
    out.push(b'\n');
}

/// Appends `SETTINGS <dialect> <clients> <ahead in whole milliseconds>`.
pub fn write_settings(settings: &Common<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"SETTINGS ");
    out.extend_from_slice(settings.dialect);
    for number in [settings.max_clients, settings.max_future] {
        out.push(b' ');
        Seq(number).write(out);
    }
    out.push(b'\n');
}

/// Appends `RESUME <epoch> <seq> <own epoch> <own name>`; without a mark it begins with `0 0`.
pub fn write_resume(mark: Option<(Epoch, Seq)>, own: Epoch, name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"RESUME ");
    match mark {
        None => out.extend_from_slice(b"0 0"),
        Some((epoch, seq)) => {
            epoch.write(out);
            out.push(b' ');
            seq.write(out);
        }
    }
    out.push(b' ');
    own.write(out);
    out.push(b' ');
    out.extend_from_slice(name);
    out.push(b'\n');
}

/// Appends `MARK <seq>`.
pub fn write_mark(seq: Seq, out: &mut Vec<u8>) {
    write_numbered(b"MARK ", seq, out);
}

/// Appends `ACK <seq>`.
pub fn write_ack(seq: Seq, out: &mut Vec<u8>) {
    write_numbered(b"ACK ", seq, out);
}

fn write_numbered(word: &[u8], seq: Seq, out: &mut Vec<u8>) {
    out.extend_from_slice(word);
    seq.write(out);
    out.push(b'\n');
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerError::Unknown => "no server says that here",
            PeerError::Version => "this server speaks herd/1 only",
            PeerError::Update(error) => return error.fmt(f),
        })
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UpdateError::FieldCount => "an UPDATELOC has five fields",
            UpdateError::Id => "the client's ID is longer than 256 bytes",
            UpdateError::Location(error) => return error.fmt(f),
            UpdateError::Timestamp(error) => return error.fmt(f),
            UpdateError::Server => "the server's name is not of the permitted form",
            UpdateError::Future => "the timestamp lay too far in the future when it was sent",
            UpdateError::Skew => "the skew is not a sign, digits, a point and nine decimals",
        })
    }
}

/// The longest name of a dialect that a server of another version may send.
const DIALECT_BYTES: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";
