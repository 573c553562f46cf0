//! What the herd's core does for updates that must outlive the process: fills the table from the disk, hands the disk its
//! batches, and tells who holds answers back when they may be due.

use std::collections::HashMap;

use super::disk::{DiskBatch, DiskReader};
use super::engine::Engine;
use super::kept::{AnswerAfter, Awaited, Holder};
use super::table::Floor;
use super::{Applied, Herd, Output};
use crate::protocol::UpdateRef;

/// The readers that keep updates outside the process, and who waits for them. All is empty unless it is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    answer_after: AnswerAfter,
    disk: Option<Box<DiskReader>>,
    pub(super) engine: Option<Box<Engine>>,
    /// Holders, by the slots of the entries that they wait for.
    holders: HashMap<u32, Vec<Holder>>,
    /// How often the floor had risen when the holders were last told.
    told_raises: u64,
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

    /// From now on the disk reads the feed. It has what was restored.
    pub fn attach_disk(&mut self, answer_after: AnswerAfter) {
        self.durable.answer_after = answer_after;
        let disk = DiskReader::new(&self.table, answer_after.disk);
        self.durable.disk = Some(Box::new(disk));
        if answer_after.disk {
            let restored: Vec<_> = self.table.records_after(Default::default()).collect();
            let alive = restored.into_iter().filter(|(_, entry)| entry.is_some());
            let alive: Vec<_> = alive.map(|(record, _)| record).collect();
            for record in alive {
                self.table.kept.set_on_disk(record.slot, record.seq);
            }
        }
    }

    /// What answers wait for.
    pub fn answer_after(&self) -> AnswerAfter {
        self.durable.answer_after
    }

    /// What the answer to an IAMAT waits for that was just handled: that what is now known of the client is kept. None if
    /// nothing is left to wait for.
    pub fn awaited(&self, id: &[u8]) -> Option<Awaited> {
        self.table.awaited(id).filter(|awaited| !self.is_kept(*awaited))
    }

    /// Whether an update, or a newer one of its client, is kept wherever answers wait for. One that was evicted is waited
    /// for no longer: it is known nowhere.
    pub fn is_kept(&self, awaited: Awaited) -> bool {
        let Awaited { slot, seq } = awaited;
        let kept = &self.table.kept;
        let on_disk = !self.durable.answer_after.disk || kept.on_disk(slot) >= seq;
        let in_engine = !self.durable.answer_after.engine || kept.in_bucket(slot).seq >= seq;
        (on_disk && in_engine) || self.table.is_gone(awaited)
    }

    /// Lets [`Output::AnswersDue`] tell the holder when this may be kept.
    pub fn hold(&mut self, awaited: Awaited, holder: Holder) {
        let holders = self.durable.holders.entry(awaited.slot).or_default();
        if holders.last() != Some(&holder) {
            holders.push(holder);
        }
    }

    /// The next batch for the disk, unless one is being committed or there is nothing to commit.
    pub fn poll_disk_batch(&mut self) -> Option<DiskBatch> {
        self.durable.disk.as_mut()?.poll_batch(&self.table)
    }

    /// Whether the disk has all that is known. True if no disk reads the feed.
    pub fn is_on_disk(&self) -> bool {
        self.durable.disk.as_ref().is_none_or(|disk| disk.is_settled(&self.table))
    }

    /// The disk has committed this batch.
    pub fn disk_committed(&mut self, number: u64) {
        let Some(disk) = &mut self.durable.disk else {
            return;
        };
        let (table, holders, outputs) =
            (&mut self.table, &mut self.durable.holders, &mut self.outputs);
        let marks = self.durable.answer_after.disk;
        disk.committed(number, |record| {
            if marks {
                table.kept.set_on_disk(record.slot, record.seq);
                let due = holders.remove(&record.slot).unwrap_or_default();
                outputs.extend(due.into_iter().map(Output::AnswersDue));
            }
        });
        self.tell_of_evicted();
    }

    /// The disk could not commit this batch: it is handed over again.
    pub fn disk_failed(&mut self, number: u64) {
        if let Some(disk) = &mut self.durable.disk {
            disk.failed(number);
        }
    }

    /// What was evicted is waited for no longer.
    fn tell_of_evicted(&mut self) {
        let raises = self.table.floor_raises();
        if std::mem::replace(&mut self.durable.told_raises, raises) != raises {
            let all = std::mem::take(&mut self.durable.holders).into_values().flatten();
            self.outputs.extend(all.map(Output::AnswersDue));
        }
    }
}
