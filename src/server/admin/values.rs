//! Values as JSON shows them: durations in seconds, times as RFC 3339 in UTC.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Now, WallTime};

/// Seconds, to the microsecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

/// A time by the wall clock, to the millisecond; none if it is outside of the years that can be written.
pub(super) fn time(WallTime(nanoseconds): WallTime) -> Option<String> {
    let milliseconds = nanoseconds.saturating_add(500_000).div_euclid(1_000_000);
    let time = Timestamp::from_millisecond(milliseconds.try_into().ok()?).ok()?;
    Some(format!("{time:.3}"))
}

/// The same for a time of the loop, as [`Now::elapsed`] counts.
pub(super) fn time_at(elapsed: Duration, now: Now) -> Option<String> {
    let ago = now.elapsed.as_nanos() as i128 - elapsed.as_nanos() as i128;
    time(WallTime(now.wall.0 - ago))
}

/// How long ago a time of the loop is, in seconds.
pub(super) fn ago(elapsed: Duration, now: Now) -> f64 {
    seconds(now.elapsed.saturating_sub(elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_and_durations_in_seconds() {
        let wall = WallTime(1_559_865_055_918_963_997);
        assert_eq!(time(wall).as_deref(), Some("2019-06-06T23:50:55.919Z"));
        assert_eq!(time(WallTime(0)).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(time(WallTime(i128::MAX)), None);
        let now = Now { elapsed: Duration::from_secs(10), wall };
        assert_eq!(
            time_at(Duration::from_secs(9), now).as_deref(),
            Some("2019-06-06T23:50:54.919Z")
        );
        assert_eq!(
            time_at(Duration::from_secs(11), now).as_deref(),
            Some("2019-06-06T23:50:56.919Z")
        );
        assert_eq!(ago(Duration::from_millis(8_500), now), 1.5);
        assert_eq!(seconds(Duration::from_nanos(1_499)), 0.000_001);
    }
}
