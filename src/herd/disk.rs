//! The disk as a reader of the feed: what is handed to it, in batches, and what of that is committed.
//!
//! Like a link it has a cursor and no queue. The next batch is made when the former one is committed, from whatever the feed
//! has past the cursor; what was overwritten meanwhile is never written. So a disk that is slow or full costs no memory.

use super::feed::Record;
use super::table::{Floor, Table};
use crate::limits::{DISK_BATCH_BYTES, DISK_BATCH_UPDATES};
use crate::protocol::Seq;

/// What the disk is asked to commit in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskBatch {
    /// Numbers the batches of one reader, from 1 on.
    pub number: u64,
    /// UPDATELOC lines with their LF, at most one for each client.
    pub lines: Vec<u8>,
    /// How many lines there are.
    pub updates: usize,
    /// Clients that were taken out of the table, other than by the floor.
    pub removed: Vec<Vec<u8>>,
    /// The floor, if it has risen since the last batch. What lies at or below it need not be kept.
    pub floor: Option<Floor>,
    /// Whether answers wait for this batch, so that it must survive a loss of power.
    pub must_sync: bool,
}

/// A reader of the feed that writes to the disk.
#[derive(Clone, Debug)]
pub(super) struct DiskReader {
    /// All changes up to here were handed over.
    cursor: Seq,
    in_flight: Option<InFlight>,
    last_number: u64,
    /// How often the floor had risen when it was last handed over.
    floor_raises: u64,
    removed: Vec<Vec<u8>>,
    must_sync: bool,
}

/// The batch that is being committed.
#[derive(Clone, Debug)]
struct InFlight {
    /// The cursor before it.
    from: Seq,
    records: Vec<Record>,
    floor_raises: u64,
    removed: Vec<Vec<u8>>,
}

impl DiskReader {
    /// One that has everything up to the table's present end.
    pub fn new(table: &Table, must_sync: bool) -> DiskReader {
        DiskReader {
            cursor: table.end(),
            in_flight: None,
            last_number: 0,
            floor_raises: table.floor_raises(),
            removed: Vec::new(),
            must_sync,
        }
    }

    /// Whether the disk has everything.
    pub fn is_settled(&self, table: &Table) -> bool {
        self.in_flight.is_none() && !self.has_pending(table)
    }

    fn has_pending(&self, table: &Table) -> bool {
        self.cursor < table.end()
            || self.floor_raises < table.floor_raises()
            || !self.removed.is_empty()
    }

    /// A client was taken out of the table.
    #[allow(dead_code, reason = "the engine will take clients out")]
    pub fn forget(&mut self, id: &[u8]) {
        self.removed.push(id.to_vec());
    }

    /// The next batch, unless one is being committed or there is nothing to commit.
    pub fn poll_batch(&mut self, table: &Table) -> Option<DiskBatch> {
        if self.in_flight.is_some() || !self.has_pending(table) {
            return None;
        }
        let (from, mut records, mut lines) = (self.cursor, Vec::new(), Vec::new());
        let mut walked = 0;
        for (record, entry) in table.records_after(self.cursor).take(4 * DISK_BATCH_UPDATES) {
            if records.len() >= DISK_BATCH_UPDATES || lines.len() >= DISK_BATCH_BYTES {
                break;
            }
            walked += 1;
            self.cursor = record.seq;
            if let Some(entry) = entry {
                lines.extend_from_slice(entry.update.line());
                records.push(record);
            }
        }
        if walked == 0 {
            self.cursor = table.end(); // The latest change was swept, and left no record.
        }
        let floor_raises = table.floor_raises();
        let floor = (self.floor_raises < floor_raises).then(|| table.floor().cloned()).flatten();
        self.last_number += 1;
        let removed = std::mem::take(&mut self.removed);
        let batch = DiskBatch {
            number: self.last_number,
            updates: records.len(),
            lines,
            removed: removed.clone(),
            floor,
            must_sync: self.must_sync,
        };
        self.in_flight = Some(InFlight { from, records, floor_raises, removed });
        Some(batch)
    }

    /// The batch with this number is committed: calls `kept` with what it held.
    pub fn committed(&mut self, number: u64, kept: impl FnMut(&Record)) {
        if number != self.last_number {
            return;
        }
        if let Some(in_flight) = self.in_flight.take() {
            self.floor_raises = in_flight.floor_raises;
            in_flight.records.iter().for_each(kept);
        }
    }

    /// The batch with this number could not be committed. What it held is handed over again, as far as it is still current.
    pub fn failed(&mut self, number: u64) {
        if number != self.last_number {
            return;
        }
        if let Some(mut in_flight) = self.in_flight.take() {
            self.cursor = in_flight.from;
            in_flight.removed.append(&mut self.removed);
            self.removed = in_flight.removed;
        }
    }
}
