//! The state directory: the batches that go to the thread that owns its database, and what it says of them.

use std::fmt;
use std::time::Duration;

use super::Server;
use super::client::Waits;
use super::deadlines::earlier;
use super::held::HeldDeadlines;
use crate::config::Config;
use crate::herd::{AnswerAfter, DiskBatch};
use crate::limits::STATE_STUCK_AFTER;
use crate::logging::{LastingProblem, target};

/// Hands a batch to the thread that owns the database. It never blocks; [`StateMessage`] says what became of it.
pub type DiskPort = Box<dyn Fn(DiskBatch) + Send>;

/// What the thread of the state directory tells a loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateMessage {
    /// The batch with this number is committed.
    Committed(u64),
    /// The batch with this number could not be committed. The next one may be handed over at once: the thread has recorded
    /// the reason in the log, and has waited before it says so.
    Failed(u64),
}

/// What keeps updates outside the process, and the answers that wait for it.
pub(super) struct Durable {
    /// Where the disk gets its batches, if there is one.
    disk: Option<DiskPort>,
    /// When a batch that the disk has not answered is looked at. The thread that waits for the disk can't say so itself.
    look_at: Option<Duration>,
    silence: LastingProblem,
    pub held: HeldDeadlines,
    /// Memory of clients that have got their answers, for those that wait next.
    #[expect(clippy::vec_box, reason = "a client has a box")]
    pub spare_waits: Vec<Box<Waits>>,
    /// The end of a turn has brought commands, which the loop asks for only once something is due.
    has_commands: bool,
}

impl Durable {
    pub(super) fn new(config: &Config, index: usize) -> Durable {
        Durable {
            disk: None,
            look_at: None,
            silence: LastingProblem::new(Duration::ZERO),
            held: HeldDeadlines::new(config, index),
            spare_waits: Vec::new(),
            has_commands: false,
        }
    }

    /// When [`Server::do_what_is_due`] must be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let due = earlier(self.held.poll_timeout(), self.look_at);
        if self.has_commands { Some(Duration::ZERO) } else { due }
    }
}

impl Server {
    /// From now on the disk gets all changes, in batches by this port, and answers to IAMATs wait for what `answer_after`
    /// says. Call it before the loop runs, after what was read from the disk is restored.
    pub fn attach_disk(&mut self, port: DiskPort, answer_after: AnswerAfter) {
        self.herd.attach_disk(answer_after);
        self.durable.disk = Some(port);
        self.rare.watches_turns = true;
        self.judge_lines_anew();
    }

    /// Answers to IAMATs wait for this. For a server without a disk; to be called before the loop runs.
    pub fn answer_after(&mut self, answer_after: AnswerAfter) {
        self.herd.set_answer_after(answer_after);
        self.judge_lines_anew();
    }

    fn judge_lines_anew(&mut self) {
        self.rare.has_deadlines = true;
        self.looks_at_lines = self.must_look_at_lines();
    }

    /// A turn ends: the disk gets the next batch, if it has committed the former one.
    pub(super) fn hand_over_to_disk(&mut self) {
        let Some(port) = &self.durable.disk else {
            return;
        };
        if let Some(batch) = self.herd.poll_disk_batch() {
            port(batch);
            self.durable.look_at = Some(self.now + STATE_STUCK_AFTER);
        }
        // Answers that wait for what was evicted are due.
        self.run_outputs();
        self.durable.has_commands = !self.commands.is_empty();
    }

    /// The loop asks for the commands again.
    pub(super) fn forget_commands_of_turn_end(&mut self) {
        self.durable.has_commands = false;
    }

    /// Reports a disk that hangs: nothing fails then, and nothing is answered. The first loop does that for all.
    pub(super) fn judge_disk(&mut self, now: Duration) {
        if self.durable.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.durable.look_at = Some(now + STATE_STUCK_AFTER);
        let stuck = self.all_metrics.state.as_ref().and_then(|source| source.stuck());
        if let Some(time) = stuck
            && self.durable.silence.occurs(now).is_some()
        {
            // Not limited: `LastingProblem` says when.
            log::error!(
                target: target::STATE, event = "state_silent";
                "The disk of the state directory has not answered for {} s. What clients tell is in memory only until it \
                 does.", time.as_secs()
            );
        }
    }

    /// From the thread of the state directory.
    pub(super) fn state_message(&mut self, message: StateMessage) {
        self.durable.look_at = None;
        if let Some(lasted) = self.durable.silence.is_over(self.now) {
            let seconds = (lasted + STATE_STUCK_AFTER).as_secs();
            // Not limited: `LastingProblem` says when.
            log::info!(
                target: target::STATE, event = "state_answers";
                "The disk of the state directory answers again, after {seconds} s."
            );
        }
        match message {
            StateMessage::Committed(number) => self.herd.disk_committed(number),
            StateMessage::Failed(number) => self.herd.disk_failed(number),
        }
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("held", &self.held).finish_non_exhaustive()
    }
}
