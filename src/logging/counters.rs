//! Numbers of the log for metrics: records by level, and what each output dropped and has not written yet. The
//! log counts in the turn's text and adds the counts here once per turn.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::OutputKind;
use super::severity::Severity;

/// The numbers of the log of this process, since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCounters {
    /// Records by level (`debug` to `critical`), those that an output dropped included. A record counts once,
    /// whatever the number of outputs. A loop's records count at the end of their turn.
    pub records: [(&'static str, u64); 5],
    /// Each output that is in use, or was before a reload, in the order of [`OutputKind::ALL`].
    pub outputs: Vec<OutputCounters>,
}

/// The numbers of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputCounters {
    pub output: OutputKind,
    /// Records for which there was no room, or that the device refused.
    pub dropped: u64,
    /// Bytes that wait to be written, at most [`crate::limits::LOG_QUEUE_BYTES`].
    pub pending_bytes: u64,
}

/// Reads the numbers. Each of them is exact; together they are not of one moment.
pub fn counters() -> LogCounters {
    let of_output = |output: OutputKind| OutputCounters {
        output,
        dropped: DROPPED[output as usize].load(Relaxed),
        pending_bytes: PENDING[output as usize].load(Relaxed),
    };
    let is_used = |output: &OutputKind| USED[*output as usize].load(Relaxed);
    LogCounters {
        records: Severity::ALL.map(|level| (level.label(), RECORDS[level as usize].load(Relaxed))),
        outputs: OutputKind::ALL.into_iter().filter(is_used).map(of_output).collect(),
    }
}

/// Adds the records of a turn, by level, and sets the counts to 0.
pub(super) fn add_records(counts: &mut RecordCounts) {
    for (total, count) in RECORDS.iter().zip(counts) {
        if *count > 0 {
            total.fetch_add(u64::from(std::mem::take(count)), Relaxed);
        }
    }
}

/// Adds one record.
pub(super) fn add_record(level: Severity) {
    RECORDS[level as usize].fetch_add(1, Relaxed);
}

pub(super) fn add_dropped(output: OutputKind, count: u64) {
    if count > 0 {
        DROPPED[output as usize].fetch_add(count, Relaxed);
    }
}

/// From now on the output has its numbers.
pub(super) fn use_output(output: OutputKind) {
    USED[output as usize].store(true, Relaxed);
}

/// Bytes that wait from now on.
pub(super) fn add_pending(output: OutputKind, bytes: usize) {
    PENDING[output as usize].fetch_add(bytes as u64, Relaxed);
}

/// Bytes that wait no longer.
pub(super) fn remove_pending(output: OutputKind, bytes: usize) {
    PENDING[output as usize].fetch_sub(bytes as u64, Relaxed);
}

/// Records of a turn by level.
pub(super) type RecordCounts = [u32; Severity::ALL.len()];

const OUTPUTS: usize = OutputKind::ALL.len();
static RECORDS: [AtomicU64; Severity::ALL.len()] =
    [const { AtomicU64::new(0) }; Severity::ALL.len()];
static DROPPED: [AtomicU64; OUTPUTS] = [const { AtomicU64::new(0) }; OUTPUTS];
static PENDING: [AtomicU64; OUTPUTS] = [const { AtomicU64::new(0) }; OUTPUTS];
static USED: [AtomicBool; OUTPUTS] = [const { AtomicBool::new(false) }; OUTPUTS];
