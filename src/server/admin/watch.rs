//! What has gone wrong within the last minute, from samples of counters.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{HEALTH_SAMPLE_INTERVAL, HEALTH_WINDOW};

/// Samples of counters over a minute.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The oldest first: the last one before the window, and those within.
    samples: VecDeque<Sample>,
    /// Since when no query for places has succeeded, while some have failed; and when the last failure was seen.
    failing: Option<(Duration, Duration)>,
}

/// Counters at one time, which is as [`Now::elapsed`](crate::clock::Now::elapsed) counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) at: Duration,
    /// Records of the log.
    pub(super) dropped: u64,
    /// Queries for places.
    pub(super) succeeded: u64,
    pub(super) failed: u64,
}

impl Watch {
    /// When the next sample is due.
    pub(super) fn next(&self) -> Duration {
        self.samples.back().map_or(Duration::ZERO, |last| last.at + HEALTH_SAMPLE_INTERVAL)
    }

    /// Adds a sample; they come in the order of their times.
    pub(super) fn add(&mut self, sample: Sample) {
        let last = self.samples.back().copied().unwrap_or(sample);
        if sample.succeeded > last.succeeded {
            self.failing = None;
        } else if sample.failed > last.failed {
            let since = self.failing.map_or(last.at, |(since, _)| since);
            self.failing = Some((since, sample.at));
        }
        if sample.at < self.next() {
            return; // The present state is kept, and no more samples than needed.
        }
        self.samples.push_back(sample);
        let start = sample.at.saturating_sub(HEALTH_WINDOW);
        while self.samples.get(1).is_some_and(|second| second.at <= start) {
            self.samples.pop_front();
        }
    }

    /// Records that the log has dropped since the start of the window.
    pub(super) fn dropped(&self, now: &Sample) -> u64 {
        self.samples.front().map_or(0, |first| now.dropped.saturating_sub(first.dropped))
    }

    /// For how long queries for places have failed, if failures were seen over a whole window: a single one, with no
    /// query behind it, says little. It stays so until a query succeeds.
    pub(super) fn failing(&self, now: &Sample) -> Option<Duration> {
        let (since, last) = self.failing?;
        let is_lasting = last.saturating_sub(since) >= HEALTH_WINDOW;
        is_lasting.then(|| now.at.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, dropped: u64, succeeded: u64, failed: u64) -> Sample {
        Sample { at: Duration::from_secs(seconds), dropped, succeeded, failed }
    }

    #[test]
    fn a_dropped_record_is_seen_for_a_minute() {
        let mut watch = Watch::default();
        watch.add(at(0, 5, 0, 0));
        assert_eq!(watch.dropped(&at(0, 5, 0, 0)), 0, "it was before the start");
        for seconds in 1..200 {
            let now = at(seconds, if seconds < 50 { 5 } else { 8 }, 0, 0);
            watch.add(now);
            let seen = watch.dropped(&now);
            match seconds {
                0..50 => assert_eq!(seen, 0, "at {seconds}"),
                50..110 => assert_eq!(seen, 3, "at {seconds}"),
                120.. => assert_eq!(seen, 0, "at {seconds}"),
                _ => {} // A sample is taken each 10 s.
            }
            assert!(watch.samples.len() <= 8);
        }
    }

    #[test]
    fn queries_that_fail_for_a_minute_are_seen_until_one_succeeds() {
        let mut watch = Watch::default();
        let mut failing = Vec::new();
        for seconds in 0..=100 {
            let now = at(seconds, 0, u64::from(seconds >= 95), seconds.saturating_sub(20));
            watch.add(now);
            failing.extend(watch.failing(&now).map(|_| seconds));
        }
        assert_eq!(failing.first().map(|first| (75..=85).contains(first)), Some(true));
        assert_eq!(failing.last(), Some(&94));
    }

    #[test]
    fn a_single_query_that_fails_is_not_taken_for_a_service_that_does() {
        let mut watch = Watch::default();
        for seconds in 0..=1_000 {
            let now = at(seconds, 0, 5, u64::from(seconds >= 25));
            watch.add(now);
            assert_eq!(watch.failing(&now), None, "at {seconds}");
        }
        let next = at(1_001, 0, 5, 2);
        watch.add(next);
        let time = watch.failing(&next).map(|time| time.as_secs());
        assert!(time.is_some_and(|time| (970..=990).contains(&time)), "none succeeded: {time:?}");
    }
}
