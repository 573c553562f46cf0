//! Warnings about lasting problems: reported once, then at growing intervals, and once more when the problem
//! is over.

use std::fmt;
use std::time::Duration;

use super::rate_limit::Suppressed;
use crate::limits::{LASTING_INTERVAL_INITIAL, LASTING_INTERVAL_MAX, LASTING_RESET_AFTER};

/// One problem that may last, such as a neighbour that can't be reached. It only decides when to report; its
/// caller writes the record.
#[derive(Clone, Debug)]
pub struct LastingProblem {
    /// A problem that is over sooner is never reported.
    report_after: Duration,
    state: LastingState,
    /// Until this time, it is not reported again.
    not_before: Duration,
    /// The time between the next record and the one after it.
    interval: Duration,
    suppressed: u64,
}

#[derive(Clone, Debug)]
enum LastingState {
    /// There is no problem, since then if there ever was one.
    Well { since: Option<Duration> },
    /// The problem lasts.
    Lasting { since: Duration, is_said: bool },
}

/// The addition to a record of a problem. As text: how long the problem has lasted, and how many similar
/// messages were suppressed; empty if none were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting {
    pub time: Duration,
    pub suppressed: u64,
}

impl LastingProblem {
    /// A problem that is reported once it has lasted for `report_after`; with 0, at once.
    pub fn new(report_after: Duration) -> LastingProblem {
        LastingProblem {
            report_after,
            state: LastingState::Well { since: None },
            not_before: Duration::ZERO,
            interval: LASTING_INTERVAL_INITIAL,
            suppressed: 0,
        }
    }

    /// The problem may exist from now on, which is not worth a record yet. Without this call it begins when it
    /// first occurs.
    pub fn begins(&mut self, now: Duration) {
        if let LastingState::Well { since } = self.state {
            if since.is_none_or(|since| now >= since + LASTING_RESET_AFTER) {
                *self = LastingProblem::new(self.report_after);
            }
            self.state = LastingState::Lasting { since: now, is_said: false };
        }
    }

    /// The problem has begun, or still lasts. Returns what to add to the record if it is to be reported now.
    pub fn occurs(&mut self, now: Duration) -> Option<Lasting> {
        self.begins(now);
        let LastingState::Lasting { since, is_said } = &mut self.state else {
            return None;
        };
        if now < *since + self.report_after {
            return None;
        }
        if now < self.not_before {
            self.suppressed += 1;
            return None;
        }
        *is_said = true;
        self.not_before = now + self.interval;
        self.interval = (self.interval * 2).min(LASTING_INTERVAL_MAX);
        let suppressed = std::mem::take(&mut self.suppressed);
        Some(Lasting { time: now.saturating_sub(*since), suppressed })
    }

    /// The problem is over. Returns how long it lasted, if the log has reported it.
    pub fn is_over(&mut self, now: Duration) -> Option<Duration> {
        let LastingState::Lasting { since, is_said } = self.state else {
            return None;
        };
        self.state = LastingState::Well { since: Some(now) };
        // Deadlines are judged by the time up to which everything is served, which may lie before the turn's.
        is_said.then(|| now.saturating_sub(since))
    }
}

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.time.as_secs(), self.suppressed) {
            (_, 0) => Ok(()),
            (0, suppressed) => write!(f, " ({})", Suppressed(suppressed)),
            (seconds, suppressed) => {
                write!(f, " (for {seconds} s now, {})", Suppressed(suppressed))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The seconds at which a problem that occurs each second is reported.
    fn reported(problem: &mut LastingProblem, from: u64, to: u64) -> Vec<u64> {
        (from..to).filter(|second| problem.occurs(at(*second)).is_some()).collect()
    }

    #[test]
    fn a_problem_is_reported_once_then_at_growing_intervals_and_when_it_is_over() {
        let mut problem = LastingProblem::new(Duration::ZERO);
        assert_eq!(problem.is_over(at(0)), None);
        assert_eq!(reported(&mut problem, 5, 1_000), [5, 65, 185, 425, 905]);
        assert_eq!(problem.occurs(at(1_865)), Some(Lasting { time: at(1_860), suppressed: 94 }));
        assert_eq!(problem.is_over(at(2_000)), Some(at(1_995)));
        assert_eq!(problem.is_over(at(2_000)), None);
        // It is reported at least once an hour.
        let mut problem = LastingProblem::new(Duration::ZERO);
        let times = reported(&mut problem, 0, 100_000);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 3_600), "{times:?}");
        assert!(times.len() < 40, "{times:?}");
    }

    #[test]
    fn a_problem_that_is_over_soon_is_not_reported() {
        let mut problem = LastingProblem::new(at(3));
        assert!(reported(&mut problem, 10, 13).is_empty());
        assert_eq!(problem.is_over(at(13)), None);
        assert_eq!(reported(&mut problem, 20, 30), [23]);
        assert_eq!(problem.is_over(at(30)), Some(at(10)));
        // A problem that is slow to show counts from its begin.
        let mut problem = LastingProblem::new(at(3));
        problem.begins(at(1));
        assert_eq!(reported(&mut problem, 9, 10), [9]);
        problem.begins(at(20));
        assert_eq!(problem.is_over(at(30)), Some(at(29)));
    }

    #[test]
    fn a_problem_that_comes_and_goes_is_not_reported_each_time_but_at_once_after_a_pause() {
        let mut problem = LastingProblem::new(Duration::ZERO);
        let mut records = 0;
        for second in (0..86_400).step_by(4) {
            records += usize::from(problem.occurs(at(second)).is_some());
            records += usize::from(problem.is_over(at(second + 2)).is_some());
        }
        assert!((20..80).contains(&records), "{records} records in a day");
        assert_eq!(reported(&mut problem, 90_000, 90_002), [90_000]);
    }

    #[test]
    fn a_record_tells_how_long_it_has_been_so() {
        assert_eq!(Lasting { time: at(0), suppressed: 0 }.to_string(), "");
        assert_eq!(Lasting { time: at(9), suppressed: 0 }.to_string(), "");
        let text = " (for 65 s now, 12 similar messages suppressed)";
        assert_eq!(Lasting { time: at(65), suppressed: 12 }.to_string(), text);
        let text = " (12 similar messages suppressed)";
        assert_eq!(Lasting { time: at(0), suppressed: 12 }.to_string(), text);
    }
}
