//! The time as values. Nothing here reads a clock: the event loop does, once a turn, and hands the
//! time down as an argument. So everything below it can be tested and simulated at any time of day.

use std::time::Duration;

/// The time of a turn, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the loop was made. It never goes back; deadlines are measured by it.
    pub elapsed: Duration,
    /// The clock that timestamps are compared with. It may jump.
    pub wall: WallTime,
}

/// Nanoseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i128);
