//! The commands of clients: IAMAT and WHATSAT (section 3). An invalid line has a reason, for the log.

use std::fmt;

use super::Dialect;
use super::decimal::{Decimal, integer, trim_zeros_before};
use super::fields::split;
use super::location::{Location, LocationError};
use super::plain::{self, PlainFields};
use super::time::{Timestamp, TimestampError};

/// A command that is valid by itself. Whether its timestamp lies in the future, and whether its client is
/// known, is checked elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum ClientRequest<'a> {
    Iamat(Iamat<'a>),
    Whatsat(Whatsat<'a>),
}

/// `IAMAT <id> <location> <timestamp>`
#[derive(Clone, Copy, Debug)]
pub struct Iamat<'a> {
    pub id: &'a [u8],
    /// ISO 6709 text that has been checked.
    pub location: &'a [u8],
    pub timestamp: Timestamp<'a>,
}

/// `WHATSAT <id> <radius> <bound>`
#[derive(Clone, Copy, Debug)]
pub struct Whatsat<'a> {
    pub id: &'a [u8],
    /// Metres.
    pub radius: f64,
    /// The maximal number of places, up to 20.
    pub bound: usize,
}

/// Why a client's line is not a valid command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    Empty,
    UnknownCommand,
    /// IAMAT and WHATSAT have three fields each after the command.
    FieldCount,
    IdTooLong,
    Location(LocationError),
    Timestamp(TimestampError),
    /// Not a decimal number without a sign, or more than 50 km.
    Radius,
    /// Not an integer from 0 to 20.
    Bound,
    /// The timestamp lies further ahead of the server's clock than allowed.
    Future,
    /// A WHATSAT about a client that this server does not know.
    UnknownClient,
}

impl<'a> ClientRequest<'a> {
    /// Reads a line, given without its ending.
    // Inline, because its result is large: it would be written to memory and read again.
    #[inline(always)]
    pub fn parse(line: &'a [u8], dialect: Dialect) -> Result<ClientRequest<'a>, RequestError> {
        match line.strip_prefix(b"IAMAT ").and_then(plain::fields) {
            Some(PlainFields { id, location, timestamp, rest: [] }) => {
                Ok(ClientRequest::Iamat(Iamat { id, location, timestamp }))
            }
            _ => ClientRequest::parse_any(line, dialect),
        }
    }

    /// The same for a line of any form.
    #[inline(never)]
    pub(super) fn parse_any(
        line: &'a [u8],
        dialect: Dialect,
    ) -> Result<ClientRequest<'a>, RequestError> {
        match split(line).as_slice() {
            [] => Err(RequestError::Empty),
            [b"IAMAT", id, location, timestamp] => Ok(ClientRequest::Iamat(Iamat {
                id: check_id(id)?,
                location: Location::check(location).map_err(RequestError::Location)?,
                timestamp: Timestamp::parse(timestamp).map_err(RequestError::Timestamp)?,
            })),
            [b"WHATSAT", id, radius, bound] => Ok(ClientRequest::Whatsat(Whatsat {
                id: check_id(id)?,
                radius: parse_radius(radius, dialect).ok_or(RequestError::Radius)?,
                bound: parse_bound(bound).ok_or(RequestError::Bound)?,
            })),
            [b"IAMAT" | b"WHATSAT", ..] => Err(RequestError::FieldCount),
            _ => Err(RequestError::UnknownCommand),
        }
    }
}

/// Whether the line is the first one of an HTTP request: so the second line of a browser that was made to
/// post here is never handled (section 1).
pub fn is_http_request_line(line: &[u8]) -> bool {
    line.ends_with(b" HTTP/1.0") || line.ends_with(b" HTTP/1.1")
}

fn check_id(id: &[u8]) -> Result<&[u8], RequestError> {
    if id.len() > MAX_ID_BYTES { Err(RequestError::IdTooLong) } else { Ok(id) }
}

/// The radius in metres. Its limit is checked on its digits; only a valid radius becomes a float.
fn parse_radius(text: &[u8], dialect: Dialect) -> Option<f64> {
    let (greatest, metres) = match dialect {
        Dialect::Report => (MAX_MILES, METRES_PER_MILE),
        Dialect::Course => (MAX_KILOMETRES, 1000.0),
    };
    Decimal::parse(text).filter(|radius| *radius <= greatest)?;
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(value * metres)
}

fn parse_bound(text: &[u8]) -> Option<usize> {
    let number = Decimal::parse(text).filter(|number| number.fraction.is_empty())?;
    let value = match trim_zeros_before(number.whole) {
        digits if digits.len() <= 2 => integer(digits) as usize,
        _ => return None,
    };
    (value <= MAX_BOUND).then_some(value)
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestError::Empty => "the line is empty",
            RequestError::UnknownCommand => "a client says IAMAT or WHATSAT",
            RequestError::FieldCount => "the command takes three fields",
            RequestError::IdTooLong => "the client's ID is longer than 256 bytes",
            RequestError::Location(error) => return error.fmt(f),
            RequestError::Timestamp(error) => return error.fmt(f),
            RequestError::Radius => "the radius is not a decimal number from 0 to 50 km",
            RequestError::Bound => "the bound is not an integer from 0 to 20",
            RequestError::Future => "the timestamp lies too far in the future",
            RequestError::UnknownClient => "the location of this client is not known",
        })
    }
}

/// Longer is an invalid command (section 3).
pub const MAX_ID_BYTES: usize = 256;
/// Places that one answer can hold: as many as Google returns at once.
const MAX_BOUND: usize = 20;
const METRES_PER_MILE: f64 = 1609.344;
const MAX_KILOMETRES: Decimal<'static> = Decimal { whole: b"50", fraction: b"" };
/// 50 km to the 54th decimal; the fraction never ends.
const MAX_MILES: Decimal<'static> =
    Decimal { whole: b"31", fraction: b"068559611866698480871709218165911079296906068559611866" };
