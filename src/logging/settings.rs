//! The log settings of an operator.

use super::Levels;

/// Which records are written, how they look, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub levels: Levels,
    pub format: Format,
    /// At least one, each at most once.
    pub outputs: Vec<OutputKind>,
}

/// How a record looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As in the report: `06-Jun-19 18:30:55 - INFO: message`, local time.
    Report,
    /// One JSON object per line.
    Json,
}

/// Where the records go. Later outputs (syslog, journald) are further variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// `<server>_log.txt`.
    File,
    /// Standard error.
    Stderr,
}

impl Format {
    /// By its name in the configuration.
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "report" => Some(Format::Report),
            "json" => Some(Format::Json),
            _ => None,
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Format::Report => "report",
            Format::Json => "json",
        }
    }
}

impl OutputKind {
    /// By its name in the configuration.
    pub fn named(name: &str) -> Option<OutputKind> {
        match name {
            "file" => Some(OutputKind::File),
            "stderr" => Some(OutputKind::Stderr),
            _ => None,
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            OutputKind::File => "file",
            OutputKind::Stderr => "stderr",
        }
    }

    /// Its name in the message about dropped records.
    pub(super) fn device(self) -> &'static str {
        match self {
            OutputKind::File => "the disk",
            OutputKind::Stderr => "standard error",
        }
    }
}

/// INFO, in the report's format, into the file.
impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            levels: Levels::default(),
            format: Format::Report,
            outputs: vec![OutputKind::File],
        }
    }
}
