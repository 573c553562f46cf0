//! How long clients wait for answers that are given at once.
//!
//! The loop reads its clock once a turn, so a single line has no duration of its own: all lines that a turn answers were
//! complete, as far as this process can know, when the turn's wait ended, and their answers are in the output when the
//! turn ends. So each counts with the time of the whole turn, which it took at most. That time is known one turn later.

use std::sync::Arc;
use std::time::Duration;

use super::metrics::{LineCommand, ServerMetrics};
use crate::application::LoopMetrics;

/// What the turns so far have answered.
#[derive(Debug, Default)]
pub(super) struct AnswersAtOnce {
    /// The loop's counters, if the durations are measured.
    own_loop: Option<Arc<LoopMetrics>>,
    /// Answers until the end of the turn before, by [`LineCommand`].
    answered: [u64; LineCommand::COUNT],
    /// Answers of the turn before.
    latest: [u64; LineCommand::COUNT],
    /// The loop's busy time at the end of the turn before, which that turn is not a part of. In nanoseconds.
    busy: u64,
}

impl AnswersAtOnce {
    /// Begins to measure.
    pub(super) fn observe(&mut self, own_loop: Arc<LoopMetrics>, metrics: &ServerMetrics) {
        self.busy = own_loop.busy.get();
        for command in LineCommand::ALL {
            self.answered[*command as usize] = metrics.answered_at_once(*command);
        }
        self.own_loop = Some(own_loop);
    }

    /// Whether durations are measured.
    pub(super) fn is_observed(&self) -> bool {
        self.own_loop.is_some()
    }

    /// Counts the answers of the turn before, whose time is known by now.
    pub(super) fn settle(&mut self, metrics: &ServerMetrics) {
        let Some(own_loop) = &self.own_loop else {
            return;
        };
        let busy = own_loop.busy.get();
        let took = Duration::from_nanos(busy.wrapping_sub(self.busy));
        self.busy = busy;
        for (histogram, count) in metrics.answers.iter().zip(&mut self.latest) {
            histogram.observe_many(took, std::mem::take(count));
        }
    }

    /// The turn ends.
    pub(super) fn turn_ends(&mut self, metrics: &ServerMetrics) {
        if !self.is_observed() {
            return;
        }
        self.settle(metrics);
        for command in LineCommand::ALL {
            let (answered, place) = (metrics.answered_at_once(*command), *command as usize);
            self.latest[place] = answered.wrapping_sub(self.answered[place]);
            self.answered[place] = answered;
        }
    }
}
