//! Times and sizes as a configuration writes them: `"90s"`, `"1m 30s"`, `4096`, `"256MiB"`.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::fmt::friendly::SpanParser;

/// A time of at least a millisecond, in whole ones: a number and a unit, or the friendly format of jiff
/// (`1m30s`, `5 min`, `01:30:00`). The error is added to the text about what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    if let Some(duration) = number_and_unit(text) {
        return Ok(duration);
    }
    let Ok(duration) = PARSER.parse_unsigned_duration(text) else {
        let is_calendar = PARSER.parse_span(text).is_ok_and(|span| {
            span.get_days() != 0
                || span.get_weeks() != 0
                || span.get_months() != 0
                || span.get_years() != 0
        });
        return Err(if is_calendar { CALENDAR } else { "" });
    };
    let is_whole = duration.subsec_nanos().is_multiple_of(1_000_000);
    let is_in_range = !duration.is_zero() && duration.as_millis() <= u128::from(u64::MAX);
    match is_whole && is_in_range {
        true => Ok(duration),
        false if is_in_range => Err("; a time is in whole milliseconds"),
        false => Err(""),
    }
}

/// Parses numbers beyond 63 bits, which jiff does not: a setting without an upper limit accepts 64
/// bits.
fn number_and_unit(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let duration = Duration::from_millis(number.checked_mul(*milliseconds)?);
    (!duration.is_zero()).then_some(duration)
}

/// A duration as [`parse_duration`] reads it, in the largest unit that leaves no remainder.
pub fn written(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let fits = |unit: &&(&str, u64)| milliseconds.is_multiple_of(u128::from(unit.1));
    let (name, unit) = UNITS.iter().find(fits).unwrap_or(&("ms", 1));
    format!("{}{name}", milliseconds / u128::from(*unit))
}

/// A number of bytes with its unit: `256MiB` is 256 × 2^20, `1 GB` is 10^9.
pub fn parse_size(text: &str) -> Option<usize> {
    let size: ByteSize = text.parse().ok()?;
    usize::try_from(size.as_u64()).ok()
}

static PARSER: SpanParser = SpanParser::new();
/// Units of time and their milliseconds, largest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const CALENDAR: &str =
    "; a day, week, month or year has no fixed length: write hours, as in \"24h\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_durations_are_a_number_and_a_unit() {
        for (text, duration) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("60s", Some(Duration::from_secs(60))),
            ("5m", Some(Duration::from_secs(300))),
            ("1h", Some(Duration::from_secs(3_600))),
            ("18446744073709551615ms", Some(Duration::from_millis(u64::MAX))),
            ("0s", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("99999999999999999999h", None),
            ("5124095576031h", None),
        ] {
            assert_eq!(parse_duration(text).ok(), duration, "{text}");
            if let Some(duration) = duration {
                assert_eq!(parse_duration(&written(duration)), Ok(duration), "{text}");
            }
        }
        assert_eq!(written(Duration::from_secs(90)), "90s");
        assert_eq!(written(Duration::from_secs(7_200)), "2h");
    }

    #[test]
    fn friendly_durations_are_accepted_and_calendar_units_refused() {
        for (text, milliseconds) in [
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("5 min", 300_000),
            ("5 m", 300_000),
            ("2 hours, 30 minutes", 9_000_000),
            ("1.5h", 5_400_000),
            ("0.25s", 250),
            ("01:30:00", 5_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["1mo", "2 days", "1w", "1y", "1 month 5s", "1d12h"] {
            assert_eq!(parse_duration(text), Err(CALENDAR), "{text}");
        }
        for text in ["5s ago", "-5s", "+", "", "0.5ms", "1us", "forever", "0ms", "5 parsecs"] {
            let why = parse_duration(text).expect_err(text);
            assert_ne!(why, CALENDAR, "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("4096", Some(4_096)),
            ("256MiB", Some(256 << 20)),
            ("256 mib", Some(256 << 20)),
            ("1.5KiB", Some(1_536)),
            ("1GB", Some(1_000_000_000)),
            ("5B", Some(5)),
            ("", None),
            ("-1", None),
            ("1 parsec", None),
            ("1e3", None),
            ("MiB", None),
            (".", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
