//! The log settings of an operator.

use std::path::{Path, PathBuf};

use super::Levels;

/// Which records are written, how they look, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub levels: Levels,
    /// The format of every output that has none of its own.
    pub format: Format,
    /// The formats of single outputs.
    pub formats: OutputFormats,
    /// At least one, each at most once.
    pub outputs: Vec<OutputKind>,
    /// The socket of the syslog daemon.
    pub syslog_socket: PathBuf,
    /// The socket of journald.
    pub journald_socket: PathBuf,
}

/// How a record looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As in the report: `06-Jun-19 18:30:55 - INFO: message`, local time.
    Report,
    /// One JSON object per line.
    Json,
}

/// Where the records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// `<server>_log.txt`.
    File,
    /// Standard error.
    Stderr,
    /// The syslog daemon of this host.
    Syslog,
    /// The journal of systemd, by its native protocol.
    Journald,
}

/// The formats of outputs that have one of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputFormats([Option<Format>; OutputKind::ALL.len()]);

impl LogSettings {
    /// The format of an output.
    pub fn format_of(&self, output: OutputKind) -> Format {
        self.formats.of(output).unwrap_or(self.format)
    }

    /// The socket of an output that is one.
    pub(super) fn socket_of(&self, output: OutputKind) -> Option<&Path> {
        match output {
            OutputKind::File | OutputKind::Stderr => None,
            OutputKind::Syslog => Some(&self.syslog_socket),
            OutputKind::Journald => Some(&self.journald_socket),
        }
    }
}

impl OutputFormats {
    /// The format of an output, if it has one of its own.
    pub fn of(&self, output: OutputKind) -> Option<Format> {
        self.0[output as usize]
    }

    /// Gives an output a format of its own.
    pub fn set(&mut self, output: OutputKind, format: Format) {
        self.0[output as usize] = Some(format);
    }
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
    /// All of them.
    pub const ALL: [OutputKind; 4] =
        [OutputKind::File, OutputKind::Stderr, OutputKind::Syslog, OutputKind::Journald];

    /// By its name in the configuration.
    pub fn named(name: &str) -> Option<OutputKind> {
        OutputKind::ALL.into_iter().find(|output| output.name() == name)
    }

    /// Its name in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            OutputKind::File => "file",
            OutputKind::Stderr => "stderr",
            OutputKind::Syslog => "syslog",
            OutputKind::Journald => "journald",
        }
    }

    /// Its name in the message about dropped records.
    pub(super) fn device(self) -> &'static str {
        match self {
            OutputKind::File => "the disk",
            OutputKind::Stderr => "standard error",
            OutputKind::Syslog => "the syslog daemon",
            OutputKind::Journald => "journald",
        }
    }

    /// Whether each record is a datagram of its own.
    pub(super) fn has_datagrams(self) -> bool {
        matches!(self, OutputKind::Syslog | OutputKind::Journald)
    }
}

/// INFO, in the report's format, into the file.
impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            levels: Levels::default(),
            format: Format::Report,
            formats: OutputFormats::default(),
            outputs: vec![OutputKind::File],
            syslog_socket: SYSLOG_SOCKET.into(),
            journald_socket: JOURNALD_SOCKET.into(),
        }
    }
}

/// Where `syslog(3)` sends.
pub const SYSLOG_SOCKET: &str = "/dev/log";
/// Where `sd_journal_send(3)` sends.
pub const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";
