//! The disk as a reader of the feed: what is handed to it, in batches, and what of that is committed.
//!
//! Like a link it has a cursor and no queue. The next batch is made when the former one is committed, from whatever the feed
//! has past the cursor; what was overwritten meanwhile is never written. So a disk that is slow or full costs no memory.

use std::collections::BTreeSet;

use super::feed::Record;
use super::floor::Floor;
use super::table::Table;
use crate::limits::{DISK_BATCH_BYTES, DISK_BATCH_RECORDS, DISK_BATCH_UPDATES};
use crate::protocol::Seq;

/// What the disk is asked to commit in one transaction: first the removals, then the floor, then the lines. A line may be
/// older than one of its client that lies at or below the floor, and takes its place.
///
/// It may be empty, if all that the feed had was overwritten meanwhile; then it is committed at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskBatch {
    /// Numbers the batches of one reader, from 1 on.
    pub number: u64,
    /// UPDATELOC lines with their LF, at most one for each client.
    pub lines: Vec<u8>,
    /// How many lines there are.
    pub updates: usize,
    /// Clients that were taken out of the table, other than by the floor. One that has come back has its line in this batch
    /// or a later one.
    pub removed: Vec<Vec<u8>>,
    /// The floor, if it has risen since the last batch that was committed. What lies at or below it need not be kept.
    pub floor: Option<Floor>,
    /// Whether answers are given because of what is committed, so that it must survive a loss of power.
    pub must_sync: bool,
}

/// A reader of the feed that writes to the disk.
#[derive(Clone, Debug)]
pub(super) struct DiskReader {
    /// All changes up to here were handed over.
    cursor: Seq,
    in_flight: Option<InFlight>,
    last_number: u64,
    /// How often the floor had risen when the disk last committed it.
    floor_raises: u64,
    /// Clients that were taken out of the table and not handed over yet.
    removed: BTreeSet<Vec<u8>>,
    must_sync: bool,
    /// Updates, and removals, in one batch at most.
    pub(super) batch_updates: usize,
}

/// The batch that is being committed.
#[derive(Clone, Debug)]
struct InFlight {
    /// The cursor before it.
    from: Seq,
    /// What it holds, if answers wait for that.
    records: Vec<Record>,
    floor_raises: u64,
    removed: Vec<Vec<u8>>,
}

impl DiskReader {
    /// One that has everything up to the table's present end. If the floor has risen while the table was filled, the disk
    /// does not know yet.
    pub fn new(table: &Table, must_sync: bool) -> DiskReader {
        DiskReader {
            cursor: table.end(),
            in_flight: None,
            last_number: 0,
            floor_raises: 0,
            removed: BTreeSet::new(),
            must_sync,
            batch_updates: DISK_BATCH_UPDATES,
        }
    }

    /// Whether the disk has everything.
    pub fn is_settled(&self, table: &Table) -> bool {
        self.in_flight.is_none() && !self.has_pending(table)
    }

    /// How many changes it has not committed yet. Those that were overwritten meanwhile count, too.
    pub fn uncommitted(&self, table: &Table) -> u64 {
        let committed = self.in_flight.as_ref().map_or(self.cursor, |in_flight| in_flight.from);
        table.end().0 - committed.0
    }

    fn has_pending(&self, table: &Table) -> bool {
        self.cursor < table.end()
            || self.floor_raises < table.floor_raises()
            || !self.removed.is_empty()
    }

    /// A client was taken out of the table. While the disk commits nothing, as many are remembered as the table may have
    /// clients; a further one is back after the next start.
    pub fn forget(&mut self, id: &[u8], table: &Table) {
        if self.removed.len() < table.bound() {
            self.removed.insert(id.to_vec());
        }
    }

    /// The next batch, unless one is being committed or there is nothing to commit.
    pub fn poll_batch(&mut self, table: &Table) -> Option<DiskBatch> {
        if self.in_flight.is_some() || !self.has_pending(table) {
            return None;
        }
        self.last_number += 1;
        let floor_raises = table.floor_raises();
        let floor = (self.floor_raises < floor_raises).then(|| table.floor().cloned()).flatten();
        let mut batch = DiskBatch {
            number: self.last_number,
            floor,
            must_sync: self.must_sync,
            ..DiskBatch::default()
        };
        while let Some(id) = self.removed.pop_first() {
            batch.removed.push(id);
            if batch.removed.len() == self.batch_updates {
                break;
            }
        }
        let from = self.cursor;
        // A removal that came behind the line of a client that is back would take that out.
        let records = match self.removed.is_empty() {
            true => self.walk(table, &mut batch),
            false => Vec::new(),
        };
        let removed = batch.removed.clone();
        self.in_flight = Some(InFlight { from, records, floor_raises, removed });
        Some(batch)
    }

    /// Fills a batch from what the feed has past the cursor.
    fn walk(&mut self, table: &Table, batch: &mut DiskBatch) -> Vec<Record> {
        let mut records = Vec::new();
        for (walked, (record, entry)) in table.records_after(self.cursor).enumerate() {
            let is_full =
                batch.updates == self.batch_updates || batch.lines.len() >= DISK_BATCH_BYTES;
            if is_full || walked == DISK_BATCH_RECORDS {
                return records;
            }
            self.cursor = record.seq;
            let Some(entry) = entry else { continue };
            entry.update.write_updateloc(&mut batch.lines);
            batch.updates += 1;
            if self.must_sync {
                records.push(record);
            }
        }
        self.cursor = table.end(); // The latest changes may have been swept, and have left no records.
        records
    }

    /// The batch with this number is committed: calls `kept` with what it held, if answers wait for that.
    pub fn committed(&mut self, number: u64, kept: impl FnMut(&Record)) {
        if let Some(in_flight) = self.take_in_flight(number) {
            self.floor_raises = in_flight.floor_raises;
            in_flight.records.iter().for_each(kept);
        }
    }

    /// The batch with this number could not be committed. What it held is handed over again, as far as it is still current.
    pub fn failed(&mut self, number: u64) {
        if let Some(in_flight) = self.take_in_flight(number) {
            self.cursor = in_flight.from;
            self.removed.extend(in_flight.removed);
        }
    }

    /// What became of a batch is heard once, and of the latest one only.
    fn take_in_flight(&mut self, number: u64) -> Option<InFlight> {
        self.in_flight.take_if(|_| number == self.last_number)
    }
}
