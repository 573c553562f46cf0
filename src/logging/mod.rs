//! The log: records in `<server>_log.txt` (protocol, section 6), on standard error, in syslog or in the journal, or
//! in several of them. A record costs the loop no system call: it is appended to the text of the turn, and at the
//! turn's end the text goes in one piece to the queue of a writer thread. If that thread sleeps, waking it is the
//! only system call (a futex); after a write it looks by itself for what has come (`writer/queue.rs`). The queue's lock
//! can cost another call if both threads take it at the same moment.
//! The queue of an output is bounded; beyond that, records are dropped and counted, and the service continues.
//! Nothing here panics, whatever the disk does.
//!
//! ```text
//!   log::info!(target: ..) --> fern: level of the target, format --> Sink --+
//!                                                                           |
//!   Traffic::Client.received(..) --> a bit, bytes --------------------------+--> text of the turn in each layout
//!                                                                                     | submit
//!                           file <-- writer thread <-- queue (8 MiB) <----------------+
//!                standard error  <-- writer thread <-- queue (8 MiB) <----------------+
//!                 socket, syslog <-- writer thread <-- queue (8 MiB) <----------------+
//!               socket, journald <-- writer thread <-- queue (8 MiB) <----------------+
//! ```
//!
//! `fern` decides and formats, and writes nothing: its own outputs make a system call for each record, and
//! block. Each output has its own thread and queue, so that one that is stuck or broken stops no other.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs`, `reconfigure.rs` | the start, other settings, the end |
//! | `state.rs` | settings, streams and outputs that are in force |
//! | `logger.rs`, `traffic.rs` | records of a logger, and of traffic |
//! | `layout.rs`, `text.rs`, `json.rs`, `journal.rs` | how a record looks, and the text of a turn |
//! | `writer.rs`, `writer/queue.rs`, `output.rs`, `datagram.rs`, `file.rs`, `health.rs` | a writer thread and what it writes to |
//! | `tail.rs` | the latest records, for the page of the admin listener |
//! | `rate_limit.rs`, `lasting.rs` | warnings that would repeat |

mod counters;
mod datagram;
mod escape;
mod file;
mod health;
mod journal;
mod json;
mod lasting;
mod layout;
mod levels;
mod limited;
mod local_time;
mod logger;
mod output;
pub mod rate_limit;
mod reconfigure;
mod settings;
mod severity;
mod state;
pub mod stderr;
mod tail;
pub mod target;
mod text;
mod traffic;
mod turn_log;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use log::kv::Value;

pub use counters::{LogCounters, OutputCounters, counters};
pub use escape::Escaped;
pub use json::{IdBase64, set_loop_number};
pub use lasting::{Lasting, LastingProblem};
pub use levels::{LEVELS, LevelOverrides, Levels, LevelsError, level_named, name_of};
pub use reconfigure::LogChange;
pub use settings::{
    Format, JOURNALD_SOCKET, LogSettings, OutputFormats, OutputKind, SYSLOG_SOCKET,
};
pub use tail::{TailRecord, keep_tail, latest_records};
pub use traffic::{Party, TO_ENGINE, Traffic};
pub use turn_log::TurnLog;

use crate::errors::plain;
use crate::limits::LOG_FLUSH_WAIT;
use layout::Layout;
use severity::Severity;
use state::Core;
use writer::{OwnRecords, Retired, Writer};

/// A handle of the log. Cheap to clone; all clones share the same outputs.
#[derive(Clone, Debug)]
pub struct Log {
    core: Arc<Core>,
}

/// Why the log can't be opened.
#[derive(Debug)]
pub enum LogError {
    /// The file can't be opened for appending.
    Open { path: PathBuf, error: io::Error },
    /// The writer thread can't be started.
    Thread(io::Error),
}

/// The log of this process.
static PROCESS: OnceLock<Log> = OnceLock::new();

/// The fields of an event besides its name: `peer`, `id`, `location`, `neighbour`, `reason`, `bytes`, in this
/// order.
pub type Field<'a> = (&'static str, Value<'a>);

/// A field with a text.
pub fn field<'a>(name: &'static str, value: &'a impl fmt::Display) -> Field<'a> {
    (name, Value::from_display(value))
}

/// Opens the outputs (`<dir>/<server>_log.txt` for the file), and makes this the log of the process, panics
/// included.
pub fn start(dir: &Path, server: &str, settings: &LogSettings) -> Result<Log, LogError> {
    let (zone, zone_warning) = local_time::local_zone();
    let mut outputs = Vec::new();
    for kind in &settings.outputs {
        let layout = Layout::of(*kind, settings);
        let own = OwnRecords { server: server.to_owned(), zone: zone.clone(), layout };
        let destination = reconfigure::destination(dir, server, *kind, settings);
        outputs.push((layout, reconfigure::open(destination, own)?));
    }
    let state = reconfigure::new_state(server, &zone, settings, outputs);
    let log = Log { core: Arc::new(Core::new(server, dir.to_owned(), zone, state)) };
    // A second log in one process can only be a test's; the first stays the process's.
    let logger = Box::new(logger::Switch { core: Arc::clone(&log.core) });
    if log::set_boxed_logger(logger).is_ok() && PROCESS.set(log.clone()).is_ok() {
        reconfigure::set_levels(&log.core.current());
        log.catch_panics();
    }
    if let Some(warning) = zone_warning {
        // Not limited: it happens once, at the start.
        log::warn!(target: target::LOOP, event = "time_zone_unknown"; "{warning}");
    }
    let has_file = settings.outputs.contains(&OutputKind::File);
    if let Some(warning) = has_file.then(|| file::folder_warning(dir)).flatten() {
        // Not limited: it happens once, at the start.
        log::warn!(target: target::CONFIG, event = "log_folder_unsafe"; "{warning}");
    }
    Ok(log)
}

/// Hands the records of this thread to the outputs, as [`Log::submit`] does. For a thread that reports its end
/// to another one, which may then end the process.
pub fn submit() {
    if let Some(log) = PROCESS.get() {
        log.submit();
    }
}

impl Log {
    /// A log without outputs, for tests of code that needs a log.
    pub fn none() -> Log {
        let settings = LogSettings { outputs: Vec::new(), ..LogSettings::default() };
        let state = reconfigure::new_state("", &TimeZone::UTC, &settings, Vec::new());
        Log { core: Arc::new(Core::new("", PathBuf::new(), TimeZone::UTC, state)) }
    }

    /// Hands the records of this thread since the last call to the writer threads, in one piece. From the first
    /// call on, this thread has a text of its own.
    pub fn submit(&self) {
        if PROCESS.get().is_some_and(|log| Arc::ptr_eq(&log.core, &self.core)) {
            text::submit_own(&self.core);
        }
    }

    /// Reopens the file by its name, for logrotate. If that fails, the old one stays open.
    pub fn reopen(&self) {
        self.submit();
        self.core.current().streams.writers().for_each(Writer::reopen);
    }

    /// Records the counts of suppressed warnings, and waits until everything is written, for a short time at
    /// most.
    pub fn finish(&self) {
        self.finish_within(LOG_FLUSH_WAIT);
    }

    /// The same, with a different time limit.
    pub fn finish_within(&self, wait: Duration) {
        rate_limit::say_all();
        self.write_out(wait);
    }

    fn write_out(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.submit();
        for writer in self.core.current().streams.writers() {
            writer.flush(until);
        }
        let retired: Vec<Retired> = self.core.retired().drain(..).collect();
        retired.iter().for_each(|writer| writer.flush(until));
    }

    /// A panic is a defect of this program; its record should survive it.
    fn catch_panics(&self) {
        let log = self.clone();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let message = Escaped(panic.to_string().as_bytes()).to_string();
            text::append_each(&log.core, Severity::Critical, |turn| {
                turn.record(Severity::Critical, &log.core.server, "panic", &message, "");
            });
            log.write_out(LOG_FLUSH_WAIT);
            usual(panic);
        }));
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
