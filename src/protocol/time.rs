//! Points in time and the differences between them, exact to the nanosecond and never a float.

use std::fmt;

use super::decimal::{Decimal, NumberText, integer};
use crate::clock::WallTime;

/// The time for which a client reports its location: POSIX time, by its own clock (section 3).
#[derive(Clone, Copy, Debug)]
pub struct Timestamp<'a> {
    /// As the client wrote it, and as it is sent on.
    pub text: &'a [u8],
    /// Nanoseconds since 1970; finer digits are cut.
    pub nanos: i128,
}

/// A server's clock minus the client's timestamp when the server received it, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skew(pub i128);

/// Why a timestamp is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampError {
    TooLong,
    NotDecimal,
    TooManyDigits,
}

impl<'a> Timestamp<'a> {
    /// Reads all of `text`.
    pub fn parse(text: &'a [u8]) -> Result<Timestamp<'a>, TimestampError> {
        if text.len() > MAX_BYTES {
            return Err(TimestampError::TooLong);
        }
        let number = Decimal::parse(text).ok_or(TimestampError::NotDecimal)?;
        Timestamp::of(text, &number).ok_or(TimestampError::TooManyDigits)
    }

    /// That of a text that is this number; None if it is too long.
    #[inline(always)]
    pub(super) fn of(text: &'a [u8], number: &Decimal<'_>) -> Option<Timestamp<'a>> {
        let is_short = text.len() <= MAX_BYTES && number.whole.len() <= MAX_DIGITS;
        is_short.then(|| Timestamp { text, nanos: nanoseconds(number) })
    }
}

impl WallTime {
    /// How far this clock is ahead of `timestamp`.
    pub fn skew(self, timestamp: &Timestamp<'_>) -> Skew {
        Skew(self.0 - timestamp.nanos)
    }
}

impl Skew {
    /// Reads all of `text`: a sign, 1 to 18 digits, a point and nine decimals; zero is positive.
    /// (Two times of at most 18 digits are never further apart.)
    pub fn parse(text: &[u8]) -> Option<Skew> {
        let (negative, unsigned) = match text {
            [b'+', rest @ ..] => (false, rest),
            [b'-', rest @ ..] => (true, rest),
            _ => return None,
        };
        Skew::of(&Decimal::parse(unsigned)?, negative)
    }

    /// That of a number.
    #[inline(always)]
    pub(super) fn of(number: &Decimal<'_>, negative: bool) -> Option<Skew> {
        if number.whole.len() > MAX_DIGITS || number.fraction.len() != DECIMALS {
            return None;
        }
        match (negative, nanoseconds(number)) {
            (true, 0) => None,
            (true, nanos) => Some(Skew(-nanos)),
            (false, nanos) => Some(Skew(nanos)),
        }
    }

    /// Appends it with its sign and nine decimals: `+0.263873386`.
    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text().as_slice());
    }

    /// What [`Skew::write`] appends.
    pub(super) fn text(self) -> NumberText {
        let (seconds, below) = self.split();
        let mut text = NumberText::new();
        text.put_nine_digits(below);
        text.put(b'.');
        text.put_integer(seconds);
        text.put(if self.0 < 0 { b'-' } else { b'+' });
        text
    }

    /// Whole seconds and the remaining nanoseconds, without the sign.
    fn split(self) -> (u64, u64) {
        let nanos = self.0.unsigned_abs();
        match u64::try_from(nanos) {
            // Less than 584 years, as nearly all are: dividing 128 bits costs ten times as much.
            Ok(nanos) => (nanos / BILLION as u64, nanos % BILLION as u64),
            // Its seconds have 18 digits at most, see `parse`, so both parts fit.
            Err(_) => ((nanos / BILLION) as u64, (nanos % BILLION) as u64),
        }
    }
}

/// The value in nanoseconds, finer digits cut; its whole part has 18 digits at most.
fn nanoseconds(number: &Decimal<'_>) -> i128 {
    let kept = &number.fraction[..number.fraction.len().min(DECIMALS)];
    let nanos = integer(kept) * 10u64.pow((DECIMALS - kept.len()) as u32);
    i128::from(integer(number.whole)) * BILLION as i128 + i128::from(nanos)
}

impl fmt::Display for TimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimestampError::TooLong => "the timestamp is longer than 40 bytes",
            TimestampError::NotDecimal => {
                "the timestamp is not a decimal number without sign and exponent"
            }
            TimestampError::TooManyDigits => {
                "the timestamp has more than 18 digits before its point"
            }
        })
    }
}

/// Longer is an invalid command (section 3).
const MAX_BYTES: usize = 40;
/// Digits before the point, at most (section 3).
const MAX_DIGITS: usize = 18;
/// Decimals of a skew, and those of a timestamp that count.
const DECIMALS: usize = 9;
/// Nanoseconds in a second.
const BILLION: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_decimals_count_and_the_rest_is_cut() {
        let nanos = |text: &'static str| Timestamp::parse(text.as_bytes()).map(|time| time.nanos);
        assert_eq!(nanos("1559865055.5"), Ok(1_559_865_055_500_000_000));
        assert_eq!(nanos("9.9999999999"), Ok(9_999_999_999));
        assert_eq!(nanos("1234567890123456789"), Err(TimestampError::TooManyDigits));
        assert_eq!(nanos("-12.5"), Err(TimestampError::NotDecimal));
    }

    #[test]
    fn skews_print_as_they_were_read() {
        for text in
            ["+0.263873386", "-0.000012000", "+0.000000000", "-999999999999999999.999999999"]
        {
            let mut out = Vec::new();
            let skew = Skew::parse(text.as_bytes()).expect(text);
            skew.write(&mut out);
            assert_eq!(String::from_utf8(out).expect("ASCII"), text);
        }
        for text in ["-0.000000000", "0.000000000", "+0.1", "+.000000000", "+1", "+0.0000000001"] {
            assert_eq!(Skew::parse(text.as_bytes()), None, "{text}");
        }
    }
}
