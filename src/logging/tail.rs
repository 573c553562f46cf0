//! The latest records, for an operator who looks at a running server. The outputs get every record; this keeps the last
//! ones of each turn, and adds none.
//!
//! ```text
//!   text of the turn   record record record record record ------> outputs
//!                             [mark] [mark] [mark] [mark]
//!                                  | submit
//!                                  v
//!                      Tail: the last LOG_TAIL_RECORDS, copied once a turn
//! ```
//!
//! While it is kept, a record costs a mark of twelve bytes in the turn's text, and a turn the copy of some
//! records at most, however many it has. Otherwise a record costs the test of a bit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::severity::Severity;
use super::target;
use super::text::TurnText;
use super::{Format, limited};
use crate::limits::{LOG_TAIL_BYTES, LOG_TAIL_RECORDS, LOG_TAIL_TEXT_BYTES};

/// A record as the report words it, without its time and level, which are beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailRecord {
    /// Each record has a number one higher than the record before it.
    pub number: u64,
    /// The end of its turn, in milliseconds since 1970.
    pub time: i64,
    /// `DEBUG` to `CRITICAL`.
    pub level: &'static str,
    pub target: &'static str,
    pub text: String,
}

/// Starts or stops keeping the latest records of this process.
pub fn keep_tail(is_kept: bool) {
    KEPT.store(is_kept, Relaxed);
    if !is_kept {
        *tail() = Tail::NONE;
    }
}

/// The latest records after this number of which `is_shown` holds (its target; whether it is a warning or worse), the
/// oldest first, at most [`LOG_TAIL_RECORDS`]; and the number of the latest of all.
pub fn latest_records(after: u64, is_shown: impl Fn(&str, bool) -> bool) -> (Vec<TailRecord>, u64) {
    tail().latest(after, is_shown)
}

/// Where the latest records stand in the text of a turn.
#[derive(Debug)]
pub(super) struct Marks {
    is_kept: bool,
    /// The last [`LOG_TAIL_RECORDS`], in a ring.
    marks: Vec<Mark>,
    /// Of the turn.
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    begin: u32,
    end: u32,
    target: u8,
    level: Severity,
}

impl Marks {
    pub(super) fn new() -> Marks {
        Marks { is_kept: KEPT.load(Relaxed), marks: Vec::new(), count: 0 }
    }

    /// A record's content begins there. `target` is its number in [`target::ALL`].
    #[inline]
    pub(super) fn begin(&mut self, begin: usize, level: Severity, target: u8) {
        if self.is_kept {
            let begin = begin as u32;
            let mark = Mark { begin, end: begin, target, level };
            let place = self.count % LOG_TAIL_RECORDS;
            self.count += 1;
            match self.marks.get_mut(place) {
                Some(oldest) => *oldest = mark,
                None => self.marks.push(mark),
            }
        }
    }

    /// It ends there.
    #[inline]
    pub(super) fn end(&mut self, end: usize) {
        if self.is_kept && self.count > 0 {
            self.marks[(self.count - 1) % LOG_TAIL_RECORDS].end = end as u32;
        }
    }

    /// Those of the turn, the oldest first. The next ones belong to another text.
    fn take(&mut self) -> impl Iterator<Item = &Mark> {
        let (marks, count) = (&self.marks, std::mem::take(&mut self.count));
        let kept = count.min(marks.len());
        (count - kept..count).map(move |number| &marks[number % LOG_TAIL_RECORDS])
    }
}

/// Keeps the latest records of a text that is being submitted, if it belongs to the first stream: all streams have the
/// same records.
#[inline]
pub(super) fn submit(turn: &mut TurnText, is_first: bool) {
    if turn.marks.is_kept && is_first {
        let records = turn.marks.count as u64;
        let is_json = turn.layout.format == Format::Json;
        tail().add(records, &turn.text, is_json, turn.marks.take());
    }
    turn.marks.count = 0;
    turn.marks.is_kept = KEPT.load(Relaxed);
}

/// The latest records of the process.
#[derive(Debug)]
struct Tail {
    chunks: VecDeque<Chunk>,
    /// Records in all chunks, and their bytes.
    records: usize,
    bytes: usize,
    /// The number of the latest record; the first one has number 1.
    last: u64,
    /// Memory of a chunk that is gone.
    spare: Option<Chunk>,
}

/// The last records of one turn.
#[derive(Debug, Default)]
struct Chunk {
    time: i64,
    /// The number of the last of them.
    last: u64,
    is_json: bool,
    bytes: Vec<u8>,
    marks: Vec<Mark>,
}

impl Tail {
    const NONE: Tail = Tail { chunks: VecDeque::new(), records: 0, bytes: 0, last: 0, spare: None };

    /// Adds the last of the `records` of a text.
    fn add<'a>(
        &mut self,
        records: u64,
        text: &[u8],
        is_json: bool,
        marks: impl Iterator<Item = &'a Mark>,
    ) {
        self.last += records;
        let mut chunk = self.spare.take().unwrap_or_default();
        chunk.bytes.clear();
        chunk.marks.clear();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (chunk.time, chunk.last, chunk.is_json) = (time.as_millis() as i64, self.last, is_json);
        for mark in marks {
            let Some(record) = text.get(mark.begin as usize..mark.end as usize) else { continue };
            // A JSON object can't be read when it is cut.
            let most = if is_json { record.len() } else { LOG_TAIL_TEXT_BYTES };
            let begin = chunk.bytes.len() as u32;
            chunk.bytes.extend_from_slice(&record[..record.len().min(most)]);
            chunk.marks.push(Mark { begin, end: chunk.bytes.len() as u32, ..*mark });
        }
        self.records += chunk.marks.len();
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
        self.drop_oldest();
    }

    fn drop_oldest(&mut self) {
        while let Some(oldest) = self.chunks.front()
            && (self.records - oldest.marks.len() >= LOG_TAIL_RECORDS
                || self.bytes > LOG_TAIL_BYTES)
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.records -= oldest.marks.len();
            self.bytes -= oldest.bytes.len();
            self.spare = Some(oldest);
        }
    }

    fn latest(&self, after: u64, is_shown: impl Fn(&str, bool) -> bool) -> (Vec<TailRecord>, u64) {
        let mut found = Vec::new();
        'chunks: for chunk in self.chunks.iter().rev().take_while(|chunk| chunk.last > after) {
            for (number, mark) in (1..=chunk.last).rev().zip(chunk.marks.iter().rev()) {
                if number <= after || found.len() == LOG_TAIL_RECORDS {
                    break 'chunks;
                }
                let target = target::ALL.get(usize::from(mark.target)).copied().unwrap_or_default();
                if is_shown(target, mark.level.priority() <= Severity::Warning.priority()) {
                    found.push(chunk.record(number, target, mark));
                }
            }
        }
        found.reverse();
        (found, self.last)
    }
}

impl Chunk {
    fn record(&self, number: u64, target: &'static str, mark: &Mark) -> TailRecord {
        let bytes = &self.bytes[mark.begin as usize..mark.end as usize];
        let text = match self.is_json.then(|| serde_json::from_slice(bytes)) {
            Some(Ok(Object { message })) => message,
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        let mut text = text;
        if text.len() >= LOG_TAIL_TEXT_BYTES {
            text.truncate(limited::cut_at(&text, LOG_TAIL_TEXT_BYTES - 1).len());
            text.push('…');
        }
        TailRecord { number, time: self.time, level: mark.level.name(), target, text }
    }
}

/// A record in JSON.
#[derive(Deserialize)]
struct Object {
    message: String,
}

fn tail() -> MutexGuard<'static, Tail> {
    // Nothing is done under the lock that could leave it half changed.
    TAIL.lock().unwrap_or_else(PoisonError::into_inner)
}

static KEPT: AtomicBool = AtomicBool::new(false);
static TAIL: Mutex<Tail> = Mutex::new(Tail::NONE);
