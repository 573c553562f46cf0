//! The time in front of each record: `06-Jun-19 18:30:55`, local, in the report's format,
//! `{"time":"2019-06-07T01:30:55.918963Z"` in JSON, and `Jun  6 18:30:55`, local, for syslog. Everything except
//! the microseconds is printed once per second and copied in between.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::errors::plain;

/// The printed time of the last record.
#[derive(Debug)]
pub(super) struct LocalTime {
    style: TimeStyle,
    zone: TimeZone,
    second: i64,
    text: String,
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeStyle {
    /// Local, without microseconds.
    Report,
    /// UTC with microseconds.
    Json,
    /// Local, without the year.
    Syslog,
}

/// The local time zone. If it is unknown, UTC and a text that says so.
pub(super) fn local_zone() -> (TimeZone, Option<String>) {
    match TimeZone::try_system() {
        Ok(zone) => (zone, None),
        Err(error) => {
            let warning =
                format!("the local time zone is unknown, so times are UTC: {}", plain(&error));
            (TimeZone::UTC, Some(warning))
        }
    }
}

impl LocalTime {
    /// `zone` is for local times.
    pub(super) fn new(style: TimeStyle, zone: &TimeZone) -> LocalTime {
        LocalTime { style, zone: zone.clone(), second: i64::MIN, text: String::new() }
    }

    /// Appends the time now; in JSON as the field with which the object begins.
    pub(super) fn append(&mut self, out: &mut Vec<u8>) {
        self.append_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), out);
    }

    /// Appends the time of the last record, if that record is of the same turn and the time shows only seconds: a turn
    /// takes milliseconds, and to ask for the time takes a fifth of a record.
    #[inline]
    pub(super) fn append_again(&mut self, is_same_turn: bool, out: &mut Vec<u8>) {
        match self.style {
            TimeStyle::Report | TimeStyle::Syslog if is_same_turn => {
                out.extend_from_slice(self.text.as_bytes());
            }
            _ => self.append(out),
        }
    }

    fn append_at(&mut self, since_epoch: Duration, out: &mut Vec<u8>) {
        let second = since_epoch.as_secs() as i64;
        if second != self.second {
            self.second = second;
            self.text = self.print(Timestamp::from_second(second).unwrap_or_default());
        }
        out.extend_from_slice(self.text.as_bytes());
        if self.style == TimeStyle::Json {
            append_micros(since_epoch.subsec_micros(), out);
        }
    }

    fn print(&self, time: Timestamp) -> String {
        let local =
            |form: &str| time.to_zoned_datetime(self.zone.clone()).strftime(form).to_string();
        match self.style {
            TimeStyle::Report => local("%d-%b-%y %H:%M:%S"),
            TimeStyle::Syslog => local("%b %e %H:%M:%S"),
            TimeStyle::Json => time.strftime("{\"time\":\"%Y-%m-%dT%H:%M:%S").to_string(),
        }
    }
}

/// `.918963Z"`
fn append_micros(micros: u32, out: &mut Vec<u8>) {
    let mut text = *b".000000Z\"";
    for (at, pair) in [(1, micros / 10_000), (3, micros / 100 % 100), (5, micros % 100)] {
        text[at] = b'0' + (pair / 10) as u8;
        text[at + 1] = b'0' + (pair % 10) as u8;
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_local_seconds_and_json_microseconds_of_utc() {
        let zone = TimeZone::fixed(jiff::tz::offset(-7));
        for (style, texts) in [
            (TimeStyle::Syslog, ["Jun  6 17:30:55", "Jun  6 17:30:55", "Jun  6 17:30:56"]),
            (TimeStyle::Report, ["06-Jun-19 17:30:55", "06-Jun-19 17:30:55", "06-Jun-19 17:30:56"]),
            (
                TimeStyle::Json,
                [
                    r#"{"time":"2019-06-07T00:30:55.918963Z""#,
                    r#"{"time":"2019-06-07T00:30:55.000007Z""#,
                    r#"{"time":"2019-06-07T00:30:56.000000Z""#,
                ],
            ),
        ] {
            let mut time = LocalTime::new(style, &zone);
            let moments = [(55, 918_963_997), (55, 7_000), (56, 0)];
            for ((seconds, nanos), text) in moments.into_iter().zip(texts) {
                let mut out = Vec::new();
                time.append_at(Duration::new(1_559_867_400 + seconds, nanos), &mut out);
                assert_eq!(String::from_utf8_lossy(&out), text);
            }
        }
    }
}
