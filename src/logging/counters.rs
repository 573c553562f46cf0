//! Numbers of the log for metrics: records by level, and what each output dropped and has not written yet.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::OutputKind;

/// The numbers of the log of this process, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Records by level, those that an output dropped included. A record counts once, whatever the number of
    /// outputs; the records of a turn count at its end.
    pub records: [(&'static str, u64); Severity::ALL.len()],
    /// The outputs in use, and those that were in use before a reload. Empty without a log.
    pub outputs: Vec<OutputCounters>,
}

/// The numbers of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputCounters {
    pub output: OutputKind,
    /// Records that it could not take or that its device refused.
    pub dropped: u64,
    /// Bytes that wait to be written. 0 for an output that is not in use.
    pub pending_bytes: u64,
}

/// The level of a record, with Python's names and the numbers of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Debug,
    Info,
    Warning,
    Error,
    /// Only a panic.
    Critical,
}

impl Severity {
    pub(super) const ALL: [Severity; 5] =
        [Severity::Debug, Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];

    /// In lower case, as in the configuration.
    fn label(self) -> &'static str {
        match self {
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

/// Reads the numbers. Each is exact; together they are not of one moment.
pub fn counters() -> LogCounters {
    LogCounters {
        records: Severity::ALL.map(|level| (level.label(), RECORDS[level as usize].load(Relaxed))),
        outputs: Vec::new(),
    }
}

static RECORDS: [AtomicU64; Severity::ALL.len()] = [const { AtomicU64::new(0) }; 5];
