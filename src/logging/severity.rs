//! The level of a record: Python's names, as in the report's logs, and the numbers of syslog.

use log::Level;

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

    /// In a record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
            Severity::Critical => "CRITICAL",
        }
    }

    /// Between the time and the words of a record.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Severity::Debug => " - DEBUG: ",
            Severity::Info => " - INFO: ",
            Severity::Warning => " - WARNING: ",
            Severity::Error => " - ERROR: ",
            Severity::Critical => " - CRITICAL: ",
        }
    }

    /// In metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }

    /// The severity of RFC 3164, one digit.
    pub(super) fn priority(self) -> u8 {
        match self {
            Severity::Debug => 7,
            Severity::Info => 6,
            Severity::Warning => 4,
            Severity::Error => 3,
            Severity::Critical => 2,
        }
    }
}

impl From<Level> for Severity {
    fn from(level: Level) -> Severity {
        match level {
            Level::Error => Severity::Error,
            Level::Warn => Severity::Warning,
            Level::Info => Severity::Info,
            Level::Debug | Level::Trace => Severity::Debug,
        }
    }
}
