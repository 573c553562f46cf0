//! What the herd's core does for updates that must outlive the process: fills the table from the disk, hands the disk its
//! batches, and tells who holds answers back when they may be due.

use super::disk::{DiskBatch, DiskReader};
use super::engine::Engine;
use super::floor::Floor;
use super::held::Holders;
use super::kept::{AnswerAfter, Awaited, Holder};
use super::{Applied, Herd, Output};
use crate::limits::DISK_BATCH_UPDATES;
use crate::protocol::UpdateRef;

/// The readers that keep updates outside the process, and who waits for them. All is empty unless it is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    answer_after: AnswerAfter,
    disk: Option<Box<DiskReader>>,
    pub(super) engine: Option<Box<Engine>>,
    pub(super) holders: Holders,
}

impl Herd {
    /// Puts back the floor of a former run. To be called before [`Herd::restore`].
    pub fn restore_floor(&mut self, floor: Floor) {
        self.table.restore_floor(floor);
    }

    /// Puts back an update of a former run. It meets the floor and the table's bound like a neighbour's.
    pub fn restore(&mut self, update: &UpdateRef<'_>) -> Applied {
        self.table.apply(update, None)
    }

    /// Sets what answers wait for, as [`Herd::attach_disk`] does: for a server without a disk. To be called before an update
    /// is applied.
    pub fn set_answer_after(&mut self, answer_after: AnswerAfter) {
        self.durable.answer_after = answer_after;
        if answer_after.disk {
            self.table.follow_disk();
        }
    }

    /// From now on the disk reads the feed. It has what was restored.
    pub fn attach_disk(&mut self, answer_after: AnswerAfter) {
        self.set_answer_after(answer_after);
        let disk = DiskReader::new(&self.table, answer_after.disk);
        self.durable.disk = Some(Box::new(disk));
    }

    /// Lets a batch hold fewer updates than [`DISK_BATCH_UPDATES`]: at least one. So a simulated table, which is small,
    /// fills many.
    pub fn limit_disk_batches(&mut self, updates: usize) {
        if let Some(disk) = &mut self.durable.disk {
            disk.batch_updates = updates.clamp(1, DISK_BATCH_UPDATES);
        }
    }

    /// Lets a nearly full table be searched for its oldest with so few slots at a time, and if it holds more clients than a
    /// sample of this size. So a simulated table, which is small, is searched.
    pub fn limit_floor_search(&mut self, slots: usize, sample: usize) {
        self.table.limit_search(slots, sample);
    }

    /// What answers wait for.
    pub fn answer_after(&self) -> AnswerAfter {
        self.durable.answer_after
    }

    /// What the answer to an IAMAT waits for that was just handled: that what is now known of the client is kept. None if
    /// nothing is left to wait for. In a cache it may never be kept: see [`Awaited::is_never`].
    pub fn awaited(&mut self, id: &[u8]) -> Option<Awaited> {
        let Some(awaited) = self.table.awaited(id) else {
            // A cache has no floor below which an update that was handled would not be stored.
            return self.table.is_cache().then_some(Awaited::NEVER);
        };
        self.table.is_answered(awaited.slot);
        Some(awaited).filter(|awaited| !self.is_kept(*awaited))
    }

    /// Whether an update, or a newer one of its client, is kept wherever answers wait for. One that was evicted is waited
    /// for no longer: it is known nowhere.
    pub fn is_kept(&self, awaited: Awaited) -> bool {
        let Awaited { slot, seq } = awaited;
        let kept = &self.table.kept;
        let on_disk = !self.durable.answer_after.disk || kept.on_disk(slot) >= seq;
        let in_engine = !self.durable.answer_after.engine || kept.in_bucket(slot).seq >= seq;
        ((on_disk && in_engine) || self.table.is_evicted(awaited)) && !awaited.is_never()
    }

    /// Lets [`Output::AnswersDue`] tell the holder once when this may be kept. It must not be kept yet. What the engine did
    /// not take is sent to it once more. For what is never kept ([`Awaited::is_never`]) the holder is told at once.
    pub fn hold(&mut self, awaited: Awaited, holder: Holder) {
        if awaited.is_never() {
            self.outputs.push_back(Output::AnswersDue(holder));
            return;
        }
        self.durable.holders.add(awaited, holder);
        if let Some(engine) = &mut self.durable.engine {
            engine.try_again(awaited);
        }
    }

    /// Whether the engine, or a full cache, does not take an update that answers wait for: whoever holds one back waits in
    /// vain. It must not be kept.
    pub fn is_given_up(&self, awaited: Awaited) -> bool {
        let engine = self.durable.engine.as_ref().filter(|_| self.durable.answer_after.engine);
        awaited.is_never() || engine.is_some_and(|engine| engine.has_given_up(awaited))
    }

    /// The holder waits for this no longer.
    pub fn release(&mut self, awaited: Awaited, holder: Holder) {
        self.durable.holders.remove(awaited, holder);
    }

    /// The next batch for the disk, unless one is being committed or there is nothing to commit.
    ///
    /// To be called after lines were handled, and before [`Herd::poll_output`]: it also tells those who wait for what was
    /// evicted meanwhile.
    pub fn poll_disk_batch(&mut self) -> Option<DiskBatch> {
        self.tell_of_evicted();
        self.durable.disk.as_mut()?.poll_batch(&self.table)
    }

    /// Whether the disk has all that is known. True if no disk reads the feed.
    pub fn is_on_disk(&self) -> bool {
        self.durable.disk.as_ref().is_none_or(|disk| disk.is_settled(&self.table))
    }

    /// How many changes the disk has not committed yet. Those that were overwritten meanwhile count, too.
    pub fn disk_uncommitted(&self) -> u64 {
        self.durable.disk.as_ref().map_or(0, |disk| disk.uncommitted(&self.table))
    }

    /// The disk has committed this batch.
    pub fn disk_committed(&mut self, number: u64) {
        let Herd { durable, table, outputs, .. } = self;
        if let Some(disk) = &mut durable.disk {
            disk.committed(number, |record| {
                table.kept.set_on_disk(record.slot, record.seq);
                durable.holders.tell(record.slot, outputs);
            });
        }
    }

    /// The disk could not commit this batch: it is handed over again.
    pub fn disk_failed(&mut self, number: u64) {
        if let Some(disk) = &mut self.durable.disk {
            disk.failed(number);
        }
    }

    /// Takes a client out of the table and off the disk: an operator has forgotten it in the engine. Answers that wait for it
    /// are given. Whether it was known.
    pub fn forget(&mut self, id: &[u8]) -> bool {
        let Herd { durable, table, outputs, .. } = self;
        let Some(slot) = table.forget(id) else {
            return false;
        };
        if let Some(disk) = &mut durable.disk {
            disk.forget(id, table);
        }
        durable.holders.tell(slot, outputs);
        true
    }

    /// What was evicted is waited for no longer. To be called by each reader, after lines were handled.
    pub(super) fn tell_of_evicted(&mut self) {
        let raises = self.table.floor_raises();
        self.durable.holders.tell_of_evicted(raises, &mut self.outputs);
    }
}
