//! Where a client is: ISO 6709 text (section 3), checked digit by digit.
//!
//! ```text
//!   +34.068930   -118.445127   +125.5   CRSWGS_84   /
//!   latitude     longitude     altitude  reference  solidus    the last three may be left out
//! ```
//!
//! Latitude and longitude are degrees, degrees and minutes, or degrees, minutes and seconds,
//! distinguished by the number of digits before the point, each by itself.

use std::fmt;

use super::decimal::{Decimal, integer};

/// A place on Earth as a client wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Location<'a> {
    /// The whole text, as it is sent on.
    pub text: &'a [u8],
    /// North of the equator where positive.
    pub latitude: Angle<'a>,
    /// East of Greenwich where positive.
    pub longitude: Angle<'a>,
}

/// A latitude or a longitude.
#[derive(Clone, Copy, Debug)]
pub struct Angle<'a> {
    negative: bool,
    /// The digits of its parts before the point; behind it those of the last part's fraction.
    number: Decimal<'a>,
    /// How many digits the degrees have if minutes follow.
    degree_digits: usize,
}

/// Why a location is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationError {
    TooLong,
    Latitude,
    Longitude,
    LatitudeRange,
    LongitudeRange,
    SixtyMinutes,
    SixtySeconds,
    Altitude,
    Trailing,
}

impl<'a> Location<'a> {
    /// The same text, if [`Location::parse`] reads it. An IAMAT needs no more: its location is sent on as text.
    pub fn check(text: &'a [u8]) -> Result<&'a [u8], LocationError> {
        Location::read(text).map(|location| location.text)
    }

    /// Reads all of `text`.
    pub fn parse(text: &'a [u8]) -> Result<Location<'a>, LocationError> {
        Location::read(text)
    }

    // Inline, so that `check` makes no angles that nobody needs.
    #[inline(always)]
    fn read(text: &'a [u8]) -> Result<Location<'a>, LocationError> {
        if text.len() > MAX_BYTES {
            return Err(LocationError::TooLong);
        }
        let (latitude, rest) = Angle::parse(text, &LATITUDE)?;
        let (longitude, rest) = Angle::parse(rest, &LONGITUDE)?;
        let rest = altitude(rest)?;
        let rest = rest.strip_prefix(REFERENCE_SYSTEM).unwrap_or(rest);
        match rest.strip_prefix(b"/").unwrap_or(rest) {
            [] => Ok(Location { text, latitude, longitude }),
            _ => Err(LocationError::Trailing),
        }
    }
}

impl<'a> Angle<'a> {
    /// Decimal degrees, for calculations; comparisons use the text, and the text is sent.
    pub fn degrees(&self) -> f64 {
        let fraction = self
            .number
            .fraction
            .iter()
            .rev()
            .fold(0.0, |sum, digit| (sum + f64::from(digit - b'0')) / 10.0);
        let parts = self.components();
        let [mut degrees, mut minutes, mut seconds] = parts.map(|part| integer(part) as f64);
        match parts {
            [_, [], _] => degrees += fraction,
            [_, _, []] => minutes += fraction,
            _ => seconds += fraction,
        }
        let value = degrees + minutes / 60.0 + seconds / 3600.0;
        if self.negative { -value } else { value }
    }

    /// Decimal degrees as text, without a `+`: the client's own digits if it wrote decimal degrees.
    pub fn decimal_degrees(&self) -> String {
        let Decimal { whole, fraction } = self.number;
        if whole.len() > self.degree_digits {
            return format!("{:.8}", self.degrees()); // a millimetre
        }
        let mut text = String::from(if self.negative { "-" } else { "" });
        text.extend(whole.iter().map(|&digit| char::from(digit)));
        if !fraction.is_empty() {
            text.push('.');
            text.extend(fraction.iter().map(|&digit| char::from(digit)));
        }
        text
    }

    // Inline, because its result is large: returning a location takes 100 instructions more, 4 % of an
    // IAMAT.
    #[inline(always)]
    fn parse(text: &'a [u8], axis: &Axis) -> Result<(Angle<'a>, &'a [u8]), LocationError> {
        let (negative, unsigned) = match text {
            [b'+', rest @ ..] => (false, rest),
            [b'-', rest @ ..] => (true, rest),
            _ => return Err(axis.malformed),
        };
        let (number, rest) = Decimal::parse_prefix(unsigned).ok_or(axis.malformed)?;
        let (digits, degree_digits) = (number.whole.len(), axis.degree_digits);
        if digits > degree_digits && digits != degree_digits + 2 && digits != degree_digits + 4 {
            return Err(axis.malformed);
        }
        let angle = Angle { negative, number, degree_digits };
        angle.check(axis)?;
        Ok((angle, rest))
    }

    /// The digits of its degrees, minutes and seconds; empty for a part that was left out.
    fn components(&self) -> [&'a [u8]; 3] {
        let digits = self.number.whole;
        let (degrees, rest) = digits.split_at(digits.len().min(self.degree_digits));
        let (minutes, seconds) = rest.split_at(rest.len().min(2));
        [degrees, minutes, seconds]
    }

    // Inline like its caller: a call takes 60 instructions more, 2 % of an IAMAT.
    #[inline(always)]
    fn check(&self, axis: &Axis) -> Result<(), LocationError> {
        let [degrees, minutes, seconds] = self.components();
        if let [b'6'..=b'9', _] = minutes {
            return Err(LocationError::SixtyMinutes);
        }
        if let [b'6'..=b'9', _] = seconds {
            return Err(LocationError::SixtySeconds);
        }
        let zero = |digits: &[u8]| digits.iter().all(|&digit| digit == b'0');
        let exact = || zero(minutes) && zero(seconds) && zero(self.number.fraction);
        match integer(degrees) {
            degrees if degrees < axis.greatest || degrees == axis.greatest && exact() => Ok(()),
            _ => Err(axis.out_of_range),
        }
    }
}

/// Skips an altitude: a sign and a decimal number. A sign without a number is an error.
fn altitude(text: &[u8]) -> Result<&[u8], LocationError> {
    match text {
        [b'+' | b'-', number @ ..] => match Decimal::parse_prefix(number) {
            Some((_, rest)) => Ok(rest),
            None => Err(LocationError::Altitude),
        },
        _ => Ok(text),
    }
}

impl fmt::Display for LocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LocationError::TooLong => "the location is longer than 64 bytes",
            LocationError::Latitude => "the latitude is not ±DD[.d], ±DDMM[.m] or ±DDMMSS[.s]",
            LocationError::Longitude => "the longitude is not ±DDD[.d], ±DDDMM[.m] or ±DDDMMSS[.s]",
            LocationError::LatitudeRange => "the latitude is past 90 degrees",
            LocationError::LongitudeRange => "the longitude is past 180 degrees",
            LocationError::SixtyMinutes => "there are less than 60 minutes in a degree",
            LocationError::SixtySeconds => "there are less than 60 seconds in a minute",
            LocationError::Altitude => "the altitude is not ±n[.n]",
            LocationError::Trailing => "the location is followed by something else",
        })
    }
}

/// The differences between latitude and longitude.
struct Axis {
    /// Digits of the degrees if minutes follow; else their maximal number.
    degree_digits: usize,
    greatest: u64,
    malformed: LocationError,
    out_of_range: LocationError,
}

const LATITUDE: Axis = Axis {
    degree_digits: 2,
    greatest: 90,
    malformed: LocationError::Latitude,
    out_of_range: LocationError::LatitudeRange,
};

const LONGITUDE: Axis = Axis {
    degree_digits: 3,
    greatest: 180,
    malformed: LocationError::Longitude,
    out_of_range: LocationError::LongitudeRange,
};

/// The only reference system that is accepted: in another one, the same numbers mean another place.
const REFERENCE_SYSTEM: &[u8] = b"CRSWGS_84";

/// Longer is an invalid command (section 3).
const MAX_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_iso_6709_mean_the_same_place() {
        for text in [
            "+34.068930-118.445127",
            "+3404.1358-11826.7076+125.5CRSWGS_84/",
            "+340408.148-1182642.457/",
            "+34.068930-11826.7076CRSWGS_84",
        ] {
            let location = Location::parse(text.as_bytes()).expect(text);
            assert!((location.latitude.degrees() - 34.068930).abs() < 1e-6, "{text}");
            assert!((location.longitude.degrees() + 118.445127).abs() < 1e-6, "{text}");
        }
    }

    #[test]
    fn a_latitude_above_90_is_rejected() {
        let parse = |text: &'static str| Location::parse(text.as_bytes()).map(|_| ());
        assert_eq!(parse("+90.000000000000000000000+1"), Ok(()));
        let past = "+90.00000000000000000000000000000000000001+1";
        assert_eq!(parse(past), Err(LocationError::LatitudeRange));
        assert_eq!(parse("+900000.1+1"), Err(LocationError::LatitudeRange));
        assert_eq!(parse("+1-1800000.0"), Ok(()));
    }

    #[test]
    fn the_malformed_part_is_named() {
        for (text, error) in [
            ("+123+1", LocationError::Latitude),
            ("+12345+1", LocationError::Latitude),
            ("+1+1234", LocationError::Longitude),
            ("+1+123456", LocationError::Longitude),
            ("+3460-11826", LocationError::SixtyMinutes),
            ("+340060-11826", LocationError::SixtySeconds),
            ("+1+1+", LocationError::Altitude),
            ("+1+1CRS", LocationError::Trailing),
            ("+1+1//", LocationError::Trailing),
            ("+1", LocationError::Longitude),
            ("+1.+1", LocationError::Latitude),
        ] {
            assert_eq!(Location::parse(text.as_bytes()).err(), Some(error), "{text}");
        }
    }
}
