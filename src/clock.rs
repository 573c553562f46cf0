//! Points in time as values, and tokens that come with time. Nothing here reads a clock: the event loop does, once per
//! turn, and passes the time on as an argument. So everything that it calls can be tested and simulated at any time of
//! day.

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

/// How fast a [`TokenBucket`] gets tokens, and how many it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenRate {
    /// Nanoseconds between two tokens; 0 if there is no limit.
    interval: u64,
    /// Nanoseconds in which an empty bucket gets all tokens but one.
    window: u64,
}

/// Tokens that come at a rate, of which each use takes one. It is one number, the time at which it will be full again:
/// each token moves it by the time between two tokens, and a token is left as long as it lies no further ahead than the
/// burst. So nothing has to be refilled. A new bucket is full; times are nanoseconds as [`Now::elapsed`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenBucket {
    full_at: u64,
}

impl TokenRate {
    /// A token each `interval` nanoseconds (0 for no limit), and `burst` of them at most.
    pub fn new(interval: u64, burst: u64) -> TokenRate {
        TokenRate { interval, window: interval.saturating_mul(burst.saturating_sub(1)) }
    }

    /// Whether there is no limit.
    pub fn is_unlimited(self) -> bool {
        self.interval == 0
    }
}

impl TokenBucket {
    /// When it has a token, or since when.
    pub fn has_token_at(self, rate: TokenRate) -> u64 {
        self.full_at.saturating_sub(rate.window)
    }

    /// Takes a token.
    pub fn take(&mut self, rate: TokenRate, now: u64) {
        self.full_at = self.full_at.max(now).saturating_add(rate.interval);
    }

    /// Another rate holds from now on: it lacks no more tokens than it holds by that.
    pub fn limit(&mut self, rate: TokenRate, now: u64) {
        let empty = now.saturating_add(rate.window).saturating_add(rate.interval);
        self.full_at = self.full_at.min(empty);
    }

    /// Whether it is like a new one.
    pub fn is_full(self, now: u64) -> bool {
        self.full_at <= now
    }
}
