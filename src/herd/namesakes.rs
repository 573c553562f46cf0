//! Detects two servers that use one neighbour's name: a copied unit file, an old host that came back.
//! Each HELLO of one displaces the other's connection, for as long as both run.
//!
//! A neighbour that restarts sends HELLO with a new epoch and never again with an old one. So a run that
//! sends HELLO again after another run did is still running beside it. It must do so a few times,
//! because a delayed HELLO may arrive after that of the next run.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{NAMESAKE_RETURNS, NAMESAKE_RUNS, NAMESAKES_RESET_AFTER};
use crate::protocol::Epoch;

/// The latest runs that have sent HELLO with one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Namesakes {
    /// The run that sent HELLO last is at the end.
    runs: VecDeque<Epoch>,
    /// How often one of them returned after another, without a long time in between.
    returns: u32,
    returned_at: Duration,
}

impl Namesakes {
    /// A run has sent HELLO.
    pub(super) fn hello(&mut self, epoch: Epoch, now: Duration) {
        if self.runs.back() == Some(&epoch) {
            return;
        }
        if let Some(place) = self.runs.iter().position(|run| *run == epoch) {
            self.runs.remove(place);
            let is_long_ago = self.returned_at + NAMESAKES_RESET_AFTER <= now;
            self.returns = if is_long_ago { 1 } else { self.returns.saturating_add(1) };
            self.returned_at = now;
        }
        if self.runs.len() == NAMESAKE_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(epoch);
    }

    /// Whether two of them are running at this time.
    pub(super) fn are_present(&self, now: Duration) -> bool {
        self.returns >= NAMESAKE_RETURNS && now < self.returned_at + NAMESAKES_RESET_AFTER
    }
}
