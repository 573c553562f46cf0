//! The metrics of what outlives the process, and of the state directory, where there is one. The thread of the state
//! directory counts; the first loop reads its numbers.

use std::fmt;
use std::time::Duration;

use super::collect::{Loops, of_servers};
use super::family::Family;
use crate::server::Server;

/// What the thread of the state directory has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StateNumbers {
    /// Transactions that were committed.
    pub commits: u64,
    /// Updates that were written in them.
    pub updates: u64,
    /// Transactions that failed, and attempts to open the database again after that.
    pub failures: u64,
    /// Whether the last one failed, or is not answered.
    pub is_failing: bool,
    /// How long the last one took, its sync included.
    pub last_commit: Duration,
    /// Bytes of the disk that the database takes.
    pub bytes: u64,
    /// Clients that were read from it at the start, and how long that took.
    pub restored: u64,
    pub restore: Duration,
}

/// Where the numbers of the state directory are read, without waiting.
pub trait StateSource: fmt::Debug + Send + Sync {
    fn numbers(&self) -> StateNumbers;

    /// Since when it is failing and why, in words, if it is.
    fn failing(&self) -> Option<(Duration, String)>;

    /// For how long the disk has not answered, if that is too long.
    fn stuck(&self) -> Option<Duration>;
}

impl Server {
    /// What outlives the process.
    pub(super) fn add_kept(&self, loops: &Loops, all: &mut Vec<Family>) {
        if self.herd.answer_after().is_any() {
            let help = "Answers that wait until what they confirm is kept";
            let held = of_servers(loops, |it| it.held_answers.get());
            all.push(Family::gauge("herd_answers_held", help).of(held));
        }
        self.add_state(all);
        self.add_engine(loops, all);
    }

    /// The numbers of the state directory; None without one, and on every loop but the first.
    pub(in crate::server) fn state_numbers(&self) -> Option<StateNumbers> {
        self.all_metrics.state.as_ref().map(|source| source.numbers())
    }

    /// Since when the state directory is failing and why, in words, if it is.
    pub(in crate::server) fn state_failing(&self) -> Option<(Duration, String)> {
        self.all_metrics.state.as_ref().and_then(|source| source.failing())
    }

    fn add_state(&self, all: &mut Vec<Family>) {
        let Some(numbers) = self.state_numbers() else {
            return;
        };
        let counter = |name, help, value: u64| Family::counter(name, help).of(value);
        let gauge = |name, help, value: u64| Family::gauge(name, help).of(value);
        let seconds = |name, help, time: Duration| Family::gauge(name, help).of(time.as_secs_f64());
        let help = "Transactions that the disk has committed";
        all.push(counter("herd_state_commits_total", help, numbers.commits));
        let help = "Updates that were written to the disk";
        all.push(counter("herd_state_updates_total", help, numbers.updates));
        let help = "Attempts to write to the disk that failed";
        all.push(counter("herd_state_failures_total", help, numbers.failures));
        let help = "Whether the last attempt to write to the disk failed, or is not answered";
        all.push(Family::gauge("herd_state_failing", help).of(numbers.is_failing));
        let (name, help) =
            ("herd_state_last_commit_duration_seconds", "How long the last commit took");
        all.push(seconds(name, help, numbers.last_commit));
        let help = "Changes that are not committed yet, outdated ones included";
        all.push(gauge("herd_state_unwritten_updates", help, self.herd.disk_uncommitted()));
        all.push(gauge("herd_state_bytes", "Bytes of the database on the disk", numbers.bytes));
        let help = "Clients that were read from the disk at the start";
        all.push(gauge("herd_state_restored_clients", help, numbers.restored));
        let help = "How long reading them took";
        all.push(seconds("herd_state_restore_duration_seconds", help, numbers.restore));
    }
}
