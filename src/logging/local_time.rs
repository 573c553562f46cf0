//! The time in front of each record: `06-Jun-19 18:30:55`, local. It is printed once a second
//! and copied in between.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::errors::plain;

/// The printed time of the last record.
#[derive(Debug)]
pub(super) struct LocalTime {
    zone: TimeZone,
    second: i64,
    text: String,
}

impl LocalTime {
    /// By the local time zone. Where that is unknown by UTC, and with a complaint.
    pub(super) fn new() -> (LocalTime, Option<String>) {
        let (zone, complaint) = match TimeZone::try_system() {
            Ok(zone) => (zone, None),
            Err(error) => {
                let complaint =
                    format!("the local time zone is unknown, so times are UTC: {}", plain(&error));
                (TimeZone::UTC, Some(complaint))
            }
        };
        (LocalTime { zone, second: i64::MIN, text: String::new() }, complaint)
    }

    /// The time now.
    pub(super) fn now(&mut self) -> &str {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs() as i64;
        if second != self.second {
            self.second = second;
            let time = Timestamp::from_second(second).unwrap_or_default();
            let local = time.to_zoned_datetime(self.zone.clone());
            self.text = local.strftime("%d-%b-%y %H:%M:%S").to_string();
        }
        &self.text
    }
}
