//! Points in time as values. Nothing here reads a clock: the event loop does, once per turn, and passes the
//! time on as an argument. So everything that it calls can be tested and simulated at any time of day.

use std::time::Duration;

/// The time of a turn, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time since the loop was created. It never goes back; deadlines are measured with it.
    pub elapsed: Duration,
    /// The wall clock, which timestamps are compared with. It may jump.
    pub wall: WallTime,
}

/// A duration as a number: 64 bits are enough for five centuries.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i128);
