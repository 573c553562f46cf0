//! The state directory: the batches that go to its thread, and the answers that wait for it.

use super::Server;
use crate::herd::{DiskBatch, Holder};

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

impl Server {
    /// From the thread of the state directory.
    pub(super) fn state_message(&mut self, message: StateMessage) {
        match message {
            StateMessage::Committed(number) => self.herd.disk_committed(number),
            StateMessage::Failed(number) => self.herd.disk_failed(number),
        }
    }

    /// A connection may have answers that are due.
    pub(super) fn answers_due(&mut self, _holder: Holder) {}
}
