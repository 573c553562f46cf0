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
    own_loop: Option<Arc<LoopMetrics>>,
    /// Whether durations are measured.
    is_observed: bool,
    /// Whether that is so, or something else watches each update of a neighbour: one flag for both.
    watches_updates: bool,
    always_watches: bool,
    /// Answers until the end of the turn before, by [`LineCommand`].
    answered: [u64; LineCommand::COUNT],
    /// Answers of the turn before.
    latest: [u64; LineCommand::COUNT],
    /// The loop's busy time at the end of the turn before, which that turn is not a part of. In nanoseconds.
    busy: u64,
}

impl AnswersAtOnce {
    /// The counters of the loop, which knows how long a turn takes while it is observed.
    pub(super) fn know(&mut self, own_loop: Arc<LoopMetrics>) {
        self.own_loop = Some(own_loop);
    }

    /// The same.
    pub(super) fn own_loop(&self) -> Option<&LoopMetrics> {
        self.own_loop.as_deref()
    }

    /// Whether durations are measured.
    pub(super) fn is_observed(&self) -> bool {
        self.is_observed
    }

    /// Whether each update of a neighbour is looked at besides.
    pub(super) fn watches_updates(&self) -> bool {
        self.watches_updates
    }

    /// From now on each update of a neighbour is looked at.
    pub(super) fn watch_updates(&mut self) {
        (self.watches_updates, self.always_watches) = (true, true);
    }

    /// Counts the answers of the turn before, whose time is known by now.
    pub(super) fn settle(&mut self, metrics: &ServerMetrics) {
        let Some(own_loop) = self.own_loop.as_ref().filter(|_| self.is_observed) else {
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
    #[inline]
    pub(super) fn turn_ends(&mut self, metrics: &ServerMetrics) {
        let is_observed = self.own_loop.as_ref().is_some_and(|own_loop| own_loop.is_observed());
        if is_observed || self.is_observed {
            self.observed_turn_ends(is_observed, metrics);
        }
    }

    #[cold]
    fn observed_turn_ends(&mut self, is_observed: bool, metrics: &ServerMetrics) {
        self.settle(metrics);
        for command in LineCommand::ALL {
            let (answered, place) = (metrics.answered_at_once(*command), *command as usize);
            // What was answered while nobody observed has no known duration.
            let latest = answered.wrapping_sub(self.answered[place]);
            self.latest[place] = if self.is_observed { latest } else { 0 };
            self.answered[place] = answered;
        }
        self.is_observed = is_observed;
        self.watches_updates = is_observed || self.always_watches;
        self.busy = self.own_loop.as_ref().map_or(0, |own_loop| own_loop.busy.get());
    }
}
