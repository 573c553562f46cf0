//! The feed: every change of the table in the order in which it happened (section 5).
//!
//! It is a log of (sequence number, slot of the table's entry). An entry remembers the number of
//! its latest change, so a record is *alive* only if the two agree. Once dead records outnumber
//! live ones, the log is rewritten, a few records with each append, so that no append takes long. A
//! reader's cursor is a sequence number and survives a rewrite. Nothing here depends on what an
//! entry is, or on the reader.
//!
//! ```text
//!   records   3:a  4:b  5:c  6:a  7:d            3:a is dead, since a changed again at 6
//!                        ^
//!                     cursor 5: has everything up to 5, and gets 6:a and 7:d
//! ```

use crate::protocol::Seq;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub seq: Seq,
    /// The slot of the entry that changed.
    pub slot: u32,
}

/// A record as it is stored: in 12 bytes instead of 16, since there are up to three for each client.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
struct Stored {
    seq: Seq,
    slot: u32,
}

const _: () = assert!(size_of::<Stored>() == 12);

impl Stored {
    #[inline]
    fn get(self) -> Record {
        Record { seq: self.seq, slot: self.slot }
    }
}

/// The log of changes, ascending by sequence number.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    records: Vec<Stored>,
    end: Seq,
    rewrite: Option<Rewrite>,
}

/// A rewrite under way: readers use the old records, which are complete, until it is done.
#[derive(Clone, Debug)]
struct Rewrite {
    fresh: Vec<Stored>,
    /// How many of the old records have been visited.
    looked_at: usize,
}

impl Feed {
    /// An empty one, with room for the records of so many entries.
    pub fn new(entries: usize) -> Feed {
        Feed { records: Vec::with_capacity(room_for(entries)), ..Feed::default() }
    }

    /// The number of the latest change; 0 before the first.
    pub fn end(&self) -> Seq {
        self.end
    }

    /// How many records are kept, dead ones included.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing ever changed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The latest change, if its record was not dropped.
    pub fn last(&self) -> Option<Record> {
        self.records.last().map(|record| record.get())
    }

    /// Appends a change of the entry in `slot` and returns its number.
    #[inline]
    pub fn append(&mut self, slot: u32) -> Seq {
        self.end.0 += 1;
        self.records.push(Stored { seq: self.end, slot });
        self.end
    }

    /// The records after `cursor`, dead ones included.
    pub fn after(&self, cursor: Seq) -> impl Iterator<Item = Record> + '_ {
        let begin = self.records.partition_point(|record| { record.seq } <= cursor);
        self.records[begin..].iter().map(|record| record.get())
    }

    /// A slice of housekeeping, to be called once after every append: drops dead records once they
    /// outnumber the `live` ones.
    #[inline]
    pub fn compact(&mut self, live: usize, is_alive: impl Fn(Record) -> bool) {
        let outweighed = self.records.len() > 2 * live + SMALLEST_REWRITE;
        if self.rewrite.is_some() || outweighed {
            self.compact_slice(live, is_alive);
        }
    }

    // Not inline, so that `compact` is.
    #[inline(never)]
    fn compact_slice(&mut self, live: usize, is_alive: impl Fn(Record) -> bool) {
        let rewrite = self.rewrite.get_or_insert_with(|| {
            // With room for what the feed will hold before the next rewrite: memory that is not touched costs nothing,
            // and growing would copy all records in one turn.
            let fresh = Vec::with_capacity(room_for(live));
            Rewrite { fresh, looked_at: 0 }
        });
        let slice = self.records[rewrite.looked_at..].iter().take(RECORDS_PER_SLICE);
        let before = rewrite.looked_at;
        for &record in slice {
            rewrite.looked_at += 1;
            if is_alive(record.get()) {
                rewrite.fresh.push(record);
            }
        }
        if rewrite.looked_at == before || rewrite.looked_at == self.records.len() {
            self.records = std::mem::take(&mut rewrite.fresh);
            self.rewrite = None;
        }
    }
}

/// Records that there are at most with so many live ones: a rewrite begins when dead ones outnumber those, and takes at most
/// a seventh as many appends as there are records.
fn room_for(live: usize) -> usize {
    2 * live + live / 3 + 4 * SMALLEST_REWRITE
}

/// Records visited with each append while a rewrite is under way. More than one, or a rewrite
/// would never catch up with the appends.
const RECORDS_PER_SLICE: usize = 8;
/// The number of dead records that is not worth a rewrite.
const SMALLEST_REWRITE: usize = 64;
