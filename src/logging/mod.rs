//! The log: one line a record, in `<server>_log.txt` (protocol, section 6).
//!
//! A record costs the loop no system call: it is appended to the text of the turn, and at the
//! turn's end that goes in one piece to a thread that writes. What waits for the disk is
//! bounded; beyond that records are dropped and counted, and the service goes on. Nothing here
//! panics, whatever the disk does.
//!
//! ```text
//!   log::info!(..) --> turn's text --submit--> queue (8 MiB) --> writer thread --> file
//! ```

mod escape;
mod lasting;
mod local_time;
pub mod rate_limit;
pub mod stderr;
mod writer;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Metadata, Record};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

pub use escape::Escaped;
pub use lasting::{Lasting, LastingProblem};
pub use writer::{Opener, Writer};

use crate::errors::plain;
use crate::limits::{LOG_FLUSH_WAIT, LOG_QUEUE_BYTES, LOG_RECORD_BYTES};
use local_time::LocalTime;

/// The way to the log file. Cheap to clone; every clone leads to the same file.
#[derive(Clone, Debug)]
pub struct Log {
    turn: Arc<Mutex<TurnText>>,
    writer: Writer,
}

/// What was recorded since the last hand-over.
#[derive(Debug)]
struct TurnText {
    text: Vec<u8>,
    dropped: u64,
    stamp: LocalTime,
}

/// Why there can be no log.
#[derive(Debug)]
pub enum LogError {
    /// The file can't be opened for appending.
    Open { path: PathBuf, error: io::Error },
    /// The thread that writes can't be started.
    Thread(io::Error),
}

/// Opens `<dir>/<server>_log.txt` and makes it the log of this process, panics included.
pub fn start(dir: &Path, server: &str, level: LevelFilter) -> Result<Log, LogError> {
    let path = dir.join(format!("{server}_log.txt"));
    let open = {
        let path = path.clone();
        move || append_to(&path)
    };
    let file = open().map_err(|error| LogError::Open { path, error })?;
    let reopen: Opener<File> = Box::new(open);
    let writer = Writer::start(file, reopen).map_err(LogError::Thread)?;
    let (stamp, complaint) = LocalTime::new();
    let turn = TurnText { text: Vec::new(), dropped: 0, stamp };
    let log = Log { turn: Arc::new(Mutex::new(turn)), writer };
    // A second log in one process can only be a test's; the first stays the process's.
    if log::set_boxed_logger(Box::new(log.clone())).is_ok() {
        log::set_max_level(level);
        log.catch_panics();
    }
    if let Some(complaint) = complaint {
        // Not limited: once, at the start.
        log::warn!("{complaint}");
    }
    Ok(log)
}

/// Opens a log, for its owner to write and its group to read. Never waits: a FIFO that nobody reads
/// is an error. A symbolic link is followed (`A_log.txt -> /dev/stdout`), unless another user has laid
/// it there, who could have it point to a file that is ours to write and not theirs.
fn append_to(path: &Path) -> io::Result<File> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            if found.uid() != geteuid().as_raw() && found.uid() != 0 {
                return Err(io::Error::other("it is a symbolic link of another user"));
            }
        }
        // What is none now must not become one meanwhile.
        _ => flags |= OFlags::NOFOLLOW,
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640).custom_flags(flags.bits() as i32);
    let file = options.open(path).map_err(|error| {
        let is_fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        match Errno::from_io_error(&error) {
            Some(Errno::NXIO) if is_fifo => io::Error::other("it is a FIFO that nobody reads"),
            _ => error,
        }
    })?;
    // From here on the thread that writes may wait: it is there for that.
    rustix::io::ioctl_fionbio(&file, false)?;
    // A disk that is full is no reason not to run.
    let _ = end_partial_record(path, &file);
    Ok(file)
}

/// A process that was killed, or a disk that was full, may have left the half of a record: the next
/// one gets a line of its own.
fn end_partial_record(path: &Path, mut file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(());
    }
    let mut last = [b'\n'];
    File::open(path)?.read_exact_at(&mut last, found.len() - 1)?;
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(())
}

impl Log {
    /// Hands what was recorded since the last time to the thread that writes, in one piece.
    pub fn submit(&self) {
        let mut turn = self.turn();
        if turn.text.is_empty() && turn.dropped == 0 {
            return;
        }
        let dropped = std::mem::take(&mut turn.dropped);
        let text = std::mem::take(&mut turn.text);
        turn.text = self.writer.push(text, dropped);
    }

    /// Opens the file anew by its name, for logrotate. If that fails the old one stays.
    pub fn reopen(&self) {
        self.submit();
        self.writer.reopen();
    }

    /// Says what was only counted, and waits until all is written, but not for ever.
    pub fn finish(&self) {
        self.finish_within(LOG_FLUSH_WAIT);
    }

    /// The same, with another limit.
    pub fn finish_within(&self, wait: Duration) {
        rate_limit::say_all();
        self.write_out(wait);
    }

    fn write_out(&self, wait: Duration) {
        self.submit();
        self.writer.flush(wait);
    }

    fn turn(&self) -> MutexGuard<'_, TurnText> {
        // Nothing is done under the lock that could leave the text half changed.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, level: &str, text: &str) {
        let mut turn = self.turn();
        if turn.text.len() > LOG_QUEUE_BYTES {
            turn.dropped += 1;
            return;
        }
        let TurnText { text: all, stamp, .. } = &mut *turn;
        all.extend_from_slice(stamp.now().as_bytes());
        for part in [" - ", level, ": ", cut(text)] {
            all.extend_from_slice(part.as_bytes());
        }
        if text.len() > LOG_RECORD_BYTES {
            all.extend_from_slice(format!(" [cut, {} bytes in all]", text.len()).as_bytes());
        }
        all.push(b'\n');
    }

    /// A panic is a defect of ours; its record should survive it.
    fn catch_panics(&self) {
        let log = self.clone();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.to_string();
            log.append("CRITICAL", &format!("{}", Escaped(text.as_bytes())));
            log.write_out(LOG_FLUSH_WAIT);
            usual(panic);
        }));
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Formatted before the lock is taken, so that whatever formatting does, a panic
        // included, can log.
        TEXT.with_borrow_mut(|text| {
            text.clear();
            // Writing to a String fails only where a Display does.
            let _ = write!(text, "{}", record.args());
            self.append(level_name(record.level()), text);
        });
    }

    fn flush(&self) {
        self.finish();
    }
}

thread_local! {
    /// Memory for one record, so that none is allocated for each.
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Python's names of the levels, as in the report's logs.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

/// As much of a record as is written.
fn cut(text: &str) -> &str {
    match text.floor_char_boundary(LOG_RECORD_BYTES) {
        end if end < text.len() => &text[..end],
        _ => text,
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Open { path, error } => write!(
                f,
                "can't write the log {}: {}; choose a folder that exists and can be written \
                 with --log-dir",
                path.display(),
                plain(error)
            ),
            LogError::Thread(error) => {
                write!(f, "can't start the thread that logs: {}", plain(error))
            }
        }
    }
}

impl std::error::Error for LogError {}
