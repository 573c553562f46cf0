//! What the log is written to, as its thread sees it: a file or standard error, which take lines, or a socket, which
//! takes datagrams (`datagram.rs`).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{OutputKind, file, layout};

/// Where an output writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    File(PathBuf),
    Stderr,
    /// The kind is syslog or journald.
    Socket(OutputKind, PathBuf),
}

impl Destination {
    pub(super) fn kind(&self) -> OutputKind {
        match self {
            Destination::File(_) => OutputKind::File,
            Destination::Stderr => OutputKind::Stderr,
            Destination::Socket(kind, _) => *kind,
        }
    }
}

/// An open output.
pub(super) trait Output: Send {
    /// Writes records, and waits until they are written. An output whose wait is limited calls `may_wait`
    /// about once a second, and gives up if it returns false.
    fn write(&mut self, text: &[u8], may_wait: &mut dyn FnMut() -> bool) -> Result<(), Refused>;

    /// Opens it by its name. Returns false if nothing was opened that a record should begin with.
    fn reopen(&mut self) -> io::Result<bool>;
}

/// Records that were not written.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) records: u64,
    /// Why the first of them was not.
    pub(super) error: io::Error,
}

/// An output that takes lines: standard error, and what [`LogFile`] does with its file.
pub(super) struct Lines<F> {
    device: F,
    /// The output ends in the middle of a record.
    has_partial_line: bool,
}

/// The log's file.
pub(super) struct LogFile {
    path: PathBuf,
    lines: Lines<File>,
}

impl<F: Write> Lines<F> {
    pub(super) fn new(device: F) -> Lines<F> {
        Lines { device, has_partial_line: false }
    }

    fn write_lines(&mut self, text: &[u8]) -> Result<(), Refused> {
        let mut written = 0;
        let error = loop {
            if let Err(error) = self.end_partial_line() {
                break error;
            }
            if written == text.len() {
                return Ok(());
            }
            match self.device.write(&text[written..]) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        self.has_partial_line |= written > 0 && text[written - 1] != b'\n';
        Err(Refused { records: layout::lines(&text[written..]), error })
    }

    /// Ends an incomplete line, so that the next record starts on a new line.
    fn end_partial_line(&mut self) -> io::Result<()> {
        if self.has_partial_line {
            self.device.write_all(b"\n")?;
            self.has_partial_line = false;
        }
        Ok(())
    }
}

impl<F: Write + Send> Output for Lines<F> {
    fn write(&mut self, text: &[u8], _: &mut dyn FnMut() -> bool) -> Result<(), Refused> {
        self.write_lines(text)
    }

    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile { path: path.to_owned(), lines: Lines::new(file::append_to(path)?) })
    }
}

impl Output for LogFile {
    fn write(&mut self, text: &[u8], _: &mut dyn FnMut() -> bool) -> Result<(), Refused> {
        self.lines.write_lines(text)
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.lines = Lines::new(file::append_to(&self.path)?);
        Ok(true)
    }
}
