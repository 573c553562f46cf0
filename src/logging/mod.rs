//! The log: one line per record, in `<server>_log.txt` (protocol, section 6), on standard error, or both. A
//! record costs the loop no system call: it is appended to the text of the turn, and at the turn's end the text
//! goes in one piece to the queue of a writer thread. If that thread sleeps, waking it is the only system call
//! (a futex); the queue's lock can cost another one if both threads take it at the same moment. The queue of an
//! output is bounded; beyond that, records are dropped and counted, and the service continues. Nothing here
//! panics, whatever the disk does.
//!
//! ```text
//!   log::info!(target: ..) --> fern: level of the target, format --> Sink --+
//!                                                                           |
//!   Traffic::Client.received(..) --> a bit, bytes --------------------------+--> text of the turn
//!                                                                                     | submit
//!                           file <-- writer thread <-- queue (8 MiB) <----------------+
//!                standard error  <-- writer thread <-- queue (8 MiB) <----------------+
//! ```
//!
//! `fern` decides and formats, and writes nothing: its own outputs make a system call for each record, and
//! block. Each output has its own thread and queue, so that one that is stuck or broken stops no other.

mod counters;
mod escape;
mod file;
mod json;
mod lasting;
mod levels;
mod limited;
mod local_time;
pub mod rate_limit;
mod settings;
pub mod stderr;
pub mod target;
mod text;
mod traffic;
mod turn_log;
mod writer;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fern::{Dispatch, FormatCallback};
use jiff::tz::TimeZone;
use log::kv::Value;
use log::{Level, LevelFilter, Metadata, Record};

pub use counters::{LogCounters, OutputCounters, counters};
pub use escape::Escaped;
pub use json::{IdBase64, set_loop_number};
pub use lasting::{Lasting, LastingProblem};
pub use levels::{LEVELS, LevelOverrides, Levels, LevelsError, level_named, name_of};
pub use settings::{Format, LogSettings, OutputKind};
pub use traffic::{Party, Traffic};
pub use turn_log::TurnLog;

use crate::errors::plain;
use crate::limits::LOG_FLUSH_WAIT;
use text::TurnText;
use writer::Writer;

/// A handle of the log. Cheap to clone; all clones share the same outputs.
#[derive(Clone, Debug)]
pub struct Log {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    server: String,
    zone: TimeZone,
    /// One for each format in use.
    streams: Vec<Stream>,
}

/// Everything that is written in one format.
#[derive(Debug)]
struct Stream {
    format: Format,
    /// The text of the threads that have none of their own.
    shared: Mutex<TurnText>,
    /// Whether it may be non-empty. It changes only under the lock, but each turn reads it without the lock.
    has_shared: AtomicBool,
    outputs: Vec<Writer>,
}

/// Settings of the log that are prepared and not yet in force.
#[derive(Debug)]
#[must_use = "it does nothing until it is committed"]
pub struct LogChange {
    log: Log,
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
    let (zone, warning) = local_time::local_zone();
    let mut outputs = Vec::new();
    for kind in &settings.outputs {
        outputs.push(open(*kind, dir, server, settings.format, &zone)?);
    }
    let shared = Mutex::new(TurnText::new(settings.format, &zone));
    let has_shared = AtomicBool::new(false);
    let stream = Stream { format: settings.format, shared, has_shared, outputs };
    let core = Core { server: server.to_owned(), zone, streams: vec![stream] };
    let log = Log { core: Arc::new(core) };
    let (level, logger) = dispatch(&log.core, &settings.levels);
    // A second log in one process can only be a test's; the first stays the process's.
    if log::set_boxed_logger(logger).is_ok() && PROCESS.set(log.clone()).is_ok() {
        log::set_max_level(level);
        traffic::set(&settings.levels);
        log.catch_panics();
    }
    if let Some(warning) = warning {
        // Not limited: it happens once, at the start.
        log::warn!(target: target::LOOP, event = "time_zone_unknown"; "{warning}");
    }
    Ok(log)
}

/// Opens an output and starts its thread.
fn open(
    kind: OutputKind,
    dir: &Path,
    server: &str,
    format: Format,
    zone: &TimeZone,
) -> Result<Writer, LogError> {
    let own = TurnText::new(format, zone);
    let writer = match kind {
        OutputKind::File => {
            let path = dir.join(format!("{server}_log.txt"));
            let file = match file::append_to(&path) {
                Ok(file) => file,
                Err(error) => return Err(LogError::Open { path, error }),
            };
            let reopen = Box::new(move || file::append_to(&path).map(Some));
            Writer::start(file, reopen, kind.device(), own, server)
        }
        OutputKind::Stderr => {
            let reopen = Box::new(|| Ok(None));
            Writer::start(stderr::StderrOutput, reopen, kind.device(), own, server)
        }
    };
    writer.map_err(LogError::Thread)
}

/// The logger: levels by target, then for each format a child that formats. The outputs of the children only
/// append to the text of the turn.
fn dispatch(core: &Arc<Core>, levels: &Levels) -> (LevelFilter, Box<dyn log::Log>) {
    let mut root = Dispatch::new().level(levels.all);
    for (target, level) in levels.of_targets() {
        root = root.level_for(target, level);
    }
    for (number, stream) in core.streams.iter().enumerate() {
        let child = match stream.format {
            Format::Report => Dispatch::new().format(format_report),
            Format::Json => {
                let core = Arc::clone(core);
                Dispatch::new().format(move |out, message, record| {
                    format_json(&core.server, out, message, record);
                })
            }
        };
        let sink: Box<dyn log::Log> = Box::new(Sink { core: Arc::clone(core), stream: number });
        root = root.chain(child.chain(sink));
    }
    root.into_log()
}

/// The part of a record after the time, in the report's format.
fn format_report(out: FormatCallback<'_>, message: &fmt::Arguments<'_>, record: &Record<'_>) {
    let level = level_name(record.level());
    out.finish(format_args!(" - {level}: {}", limited::Limited(message)));
}

/// The part of a record after the time, in a JSON object.
fn format_json(
    server: &str,
    out: FormatCallback<'_>,
    message: &fmt::Arguments<'_>,
    record: &Record<'_>,
) {
    let mut words = String::new();
    // Writing to a String fails only if a Display does.
    let _ = words.write_fmt(*message);
    let mut rest = Vec::new();
    let level = level_name(record.level());
    // Fern's outputs get no key-values; here they are the event's own fields.
    let fields = record.key_values();
    json::append_rest(&mut rest, level, record.target(), server, &words, fields);
    out.finish(format_args!("{}", String::from_utf8_lossy(&rest)));
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
        let core = Core { server: String::new(), zone: TimeZone::UTC, streams: Vec::new() };
        Log { core: Arc::new(core) }
    }

    /// Hands the records of this thread since the last call to the writer threads, in one piece. From the first
    /// call on, this thread has a text of its own.
    pub fn submit(&self) {
        self.core.submit_shared();
        if PROCESS.get().is_some_and(|log| Arc::ptr_eq(&log.core, &self.core)) {
            text::submit_own(&self.core);
        }
    }

    /// Prepares other settings: opens the outputs that are new, and the file by its name. Nothing changes until
    /// the result is committed; if it is dropped, nothing ever does. Opening files may take time, so a job calls
    /// it, not a loop.
    pub fn reconfigure(&self, _settings: &LogSettings) -> Result<LogChange, LogError> {
        Ok(LogChange { log: self.clone() })
    }

    /// Reopens the file by its name, for logrotate. If that fails, the old one stays open.
    pub fn reopen(&self) {
        self.submit();
        self.core.writers().for_each(Writer::reopen);
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
        for writer in self.core.writers() {
            writer.flush(until);
        }
    }

    /// A panic is a defect of this program; its record should survive it.
    fn catch_panics(&self) {
        let log = self.clone();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.to_string();
            let text = Escaped(text.as_bytes()).to_string();
            log.core.append_each(|core, turn| {
                turn.record("CRITICAL", &core.server, "panic", &text);
            });
            log.write_out(LOG_FLUSH_WAIT);
            usual(panic);
        }));
    }
}

impl LogChange {
    /// Puts the settings in force for the whole process: call it once, whatever the number of loops. It never
    /// waits for an output. Each loop uses them from its next turn on, so no record is lost or written twice;
    /// outputs that are no longer in use are written to their end and closed.
    pub fn commit(self) {
        self.log.reopen();
    }
}

impl Core {
    /// Lets `write` append to the text of this thread in each format.
    fn append_each(&self, write: impl Fn(&Core, &mut TurnText)) {
        for number in 0..self.streams.len() {
            text::append(self, number, |text| write(self, text));
        }
    }

    /// Lets `write` append to the text that threads share.
    fn append_shared(&self, stream: usize, write: impl Fn(&mut TurnText)) {
        let stream = &self.streams[stream];
        let mut text = stream.lock_shared();
        write(&mut text);
        stream.has_shared.store(true, Relaxed);
    }

    /// Empty texts for a thread.
    fn new_texts(&self) -> Vec<TurnText> {
        self.streams.iter().map(|stream| TurnText::new(stream.format, &self.zone)).collect()
    }

    fn submit_shared(&self) {
        for stream in self.streams.iter().filter(|stream| stream.has_shared.load(Relaxed)) {
            let mut text = stream.lock_shared();
            stream.has_shared.store(false, Relaxed);
            stream.submit(&mut text);
        }
    }

    /// Takes the texts of a thread, in the order of the streams.
    fn submit<'a>(&self, texts: impl Iterator<Item = &'a mut TurnText>) {
        for (stream, text) in self.streams.iter().zip(texts) {
            stream.submit(text);
        }
    }

    fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.streams.iter().flat_map(|stream| &stream.outputs)
    }
}

impl Stream {
    fn lock_shared(&self) -> MutexGuard<'_, TurnText> {
        // Nothing is done under the lock that could leave the text half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a text to every output, and leaves memory in its place.
    #[inline]
    fn submit(&self, turn: &mut TurnText) {
        if !turn.is_empty() {
            self.push(turn);
        }
    }

    fn push(&self, turn: &mut TurnText) {
        let Some((first, others)) = self.outputs.split_first() else {
            return;
        };
        let dropped = std::mem::take(&mut turn.dropped);
        for other in others {
            other.push_copy(&turn.text, dropped);
        }
        turn.text = first.push(std::mem::take(&mut turn.text), dropped);
    }
}

/// The output of fern: appends records to the text of the turn.
struct Sink {
    core: Arc<Core>,
    stream: usize,
}

impl Sink {
    fn append(&self, record: &Record<'_>, text: &mut String) {
        text.clear();
        // Formatted before the text is borrowed, so that whatever formatting does, a panic included, can log.
        // Writing to a String fails only if a Display does.
        let _ = text.write_fmt(*record.args());
        text::append(&self.core, self.stream, |turn| turn.push(text));
    }
}

impl log::Log for Sink {
    /// Always true: fern has already decided.
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let is_done = SCRATCH.try_with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => {
                self.append(record, &mut scratch);
                true
            }
            // A Display that is being formatted writes a log record.
            Err(_) => false,
        });
        if !matches!(is_done, Ok(true)) {
            self.append(record, &mut String::new());
        }
    }

    fn flush(&self) {
        if let Some(log) = PROCESS.get() {
            log.finish();
        }
    }
}

thread_local! {
    /// Memory for one record, so that none is allocated for each.
    static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
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
