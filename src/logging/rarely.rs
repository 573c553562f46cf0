//! Records of what may happen a thousand times a second: one in a while, with a count.

use std::time::Duration;

/// Says something at most once in ten seconds, and how often it was left unsaid.
#[derive(Debug, Default)]
pub struct Rarely {
    not_before: Duration,
    unsaid: u64,
}

impl Rarely {
    /// Logs a warning, or counts it.
    pub fn warn(&mut self, now: Duration, text: &str) {
        if now < self.not_before {
            self.unsaid += 1;
            return;
        }
        match std::mem::take(&mut self.unsaid) {
            0 => log::warn!("{text}"),
            unsaid => log::warn!("{text} ({unsaid} times more since this was said last)"),
        }
        self.not_before = now + PAUSE;
    }
}

/// The least time between two records.
const PAUSE: Duration = Duration::from_secs(10);
