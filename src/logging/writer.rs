//! The thread that writes to one of the log's outputs. Only this thread waits for the output: each has a thread and
//! a queue of its own, so one that is stuck or broken stops no other.

mod queue;

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::counters;
use super::health::Health;
use super::layout::{self, Layout};
use super::output::{Destination, Output};
use super::severity::Severity;
use super::text::TurnText;
use crate::errors::plain;
use crate::limits::{LOG_KEPT_BYTES, LOG_PAUSE, LOG_QUEUE_BYTES, LOG_REOPEN_INTERVAL};
use queue::{WriterQueue, WriterShared};

/// A handle of the thread. When the last one is dropped, the thread writes what is in the queue, closes the output
/// and ends.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<WriterShared>,
}

/// The thread of an output that is no longer in use.
#[derive(Debug)]
pub(super) struct Retired {
    shared: Weak<WriterShared>,
}

/// The settings of a thread's own records.
#[derive(Clone, Debug)]
pub(super) struct OwnRecords {
    pub(super) server: String,
    pub(super) zone: TimeZone,
    pub(super) layout: Layout,
}

impl Writer {
    /// Starts the thread with an output.
    pub(super) fn start(
        destination: Destination,
        output: Box<dyn Output>,
        own: OwnRecords,
    ) -> io::Result<Writer> {
        Writer::start_with(destination, output, own, LOG_PAUSE)
    }

    /// The same with another pause between two writes.
    fn start_with(
        destination: Destination,
        output: Box<dyn Output>,
        own: OwnRecords,
        pause: Duration,
    ) -> io::Result<Writer> {
        let shared = Arc::new(WriterShared::new(destination, own.layout));
        let kind = shared.destination.kind();
        let health = Health::new(own.server.clone(), kind);
        let thread = Thread {
            output,
            text: TurnText::new(own.layout, &own.zone),
            own,
            shared: Arc::clone(&shared),
            piece: Vec::new(),
            pause,
            lost: 0,
            health,
            reopen_at: None,
        };
        thread::Builder::new().name("log".into()).spawn(move || thread.run())?;
        counters::use_output(kind);
        Ok(Writer { handle: Arc::new(Handle { shared }) })
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.handle.shared.destination
    }

    /// Takes a copy of a text. `dropped` records are missing from it. If the output can't keep up, none of it is taken,
    /// and its records are counted.
    pub(super) fn push(&self, text: &[u8], dropped: u64) {
        let mut queue = self.handle.shared.lock();
        if self.note(&mut queue, text, dropped) {
            queue.text.extend_from_slice(text);
        }
        self.handle.shared.wake(queue);
    }

    /// The same with a text that is not needed any more: if no other one waits, it is taken itself.
    pub(super) fn push_and_clear(&self, text: &mut Vec<u8>, dropped: u64) {
        let mut queue = self.handle.shared.lock();
        let takes = self.note(&mut queue, text, dropped);
        if takes && queue.text.is_empty() {
            std::mem::swap(&mut queue.text, text);
        } else if takes {
            queue.text.extend_from_slice(text);
        }
        self.handle.shared.wake(queue);
        text.clear();
        text.shrink_to(LOG_KEPT_BYTES);
    }

    /// Counts a text that comes into the queue. If there is no room, only its records are counted, and the result is false.
    fn note(&self, queue: &mut WriterQueue, text: &[u8], dropped: u64) -> bool {
        let kind = self.handle.shared.destination.kind();
        let has_room = queue.bytes() + text.len() <= LOG_QUEUE_BYTES;
        let refused = if has_room { 0 } else { layout::records(kind, text) };
        if has_room {
            counters::add_pending(kind, text.len());
        }
        queue.dropped += dropped + refused;
        counters::add_dropped(kind, dropped + refused);
        has_room
    }

    /// Reopens the output, after everything that was submitted before is written.
    pub(super) fn reopen(&self) {
        self.handle.shared.ask(|queue| queue.reopen = true);
    }

    /// Changes how the thread's own records look.
    pub(super) fn set_layout(&self, layout: Layout) {
        self.handle.shared.lock().layout = layout;
    }

    /// Waits until everything is written, or until this time. Returns whether everything is written.
    pub(super) fn flush(&self, until: Instant) -> bool {
        self.handle.shared.flush(until)
    }

    /// What remains of it when it is no longer in use.
    pub(super) fn retired(&self) -> Retired {
        Retired { shared: Arc::downgrade(&self.handle.shared) }
    }
}

/// The last handle is gone.
impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.ask(|_| self.shared.is_closed.store(true, Relaxed));
    }
}

impl Retired {
    /// Whether its thread has not ended yet.
    pub(super) fn is_open(&self) -> bool {
        self.shared.strong_count() > 0
    }

    /// Waits until everything is written, or until this time.
    pub(super) fn flush(&self, until: Instant) {
        if let Some(shared) = self.shared.upgrade() {
            shared.flush(until);
        }
    }
}

/// The state of the thread.
struct Thread {
    output: Box<dyn Output>,
    own: OwnRecords,
    /// For its own records.
    text: TurnText,
    shared: Arc<WriterShared>,
    /// The text that it writes: it and the one of the queue change places.
    piece: Vec<u8>,
    /// How long it does not look at the queue after a write, unless it is called.
    pause: Duration,
    /// Records that are missing in the output and that were not reported there yet.
    lost: u64,
    health: Health,
    /// When to open the output by its name once more, after that has failed.
    reopen_at: Option<Instant>,
}

/// What the queue has for the thread, besides a piece of text.
struct Work {
    dropped: u64,
    reopen: bool,
}

impl Thread {
    fn run(mut self) {
        while let Some(work) = self.next_work() {
            self.work(work);
            self.shared.pause(self.pause);
        }
        let mut queue = self.shared.lock();
        queue.is_writing = false;
        self.shared.drained.notify_all();
    }

    /// Waits for work. None if there will be none.
    fn next_work(&mut self) -> Option<Work> {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.wait_for_work()?;
        std::mem::swap(&mut queue.text, &mut self.piece);
        queue.in_writing = self.piece.len();
        queue.is_writing = true;
        if self.own.layout != queue.layout {
            self.own.layout = queue.layout;
            self.text = TurnText::new(queue.layout, &self.own.zone);
        }
        let dropped = std::mem::take(&mut queue.dropped);
        Some(Work { dropped, reopen: std::mem::take(&mut queue.reopen) })
    }

    /// Writes the piece, and then does what was asked for after it.
    fn work(&mut self, work: Work) {
        if self.reopen_at.is_some_and(|at| at <= Instant::now()) {
            self.reopen();
        }
        let mut piece = std::mem::take(&mut self.piece);
        if !piece.is_empty() {
            if self.lost > 0 {
                self.report_dropped();
            }
            self.write(&piece, true);
            // Only now: until it is written, it counts as waiting.
            self.shared.lock().in_writing = 0;
            counters::remove_pending(self.health.kind, piece.len());
            piece.clear();
        }
        piece.shrink_to(LOG_KEPT_BYTES);
        self.piece = piece;
        self.lost += work.dropped;
        if work.reopen {
            self.reopen();
        }
        if work.dropped > 0 {
            self.report_dropped();
        }
    }

    /// Returns whether all was written; if not, the records are counted if `is_counted`.
    fn write(&mut self, text: &[u8], is_counted: bool) -> bool {
        let Thread { output, shared, health, .. } = self;
        let written = output.write(text, &mut || {
            health.fails("nothing reads it", false);
            !shared.is_closed.load(Relaxed)
        });
        match written {
            Ok(()) => {
                self.health.works();
                true
            }
            Err(refused) => {
                if is_counted {
                    self.lost += refused.records;
                    counters::add_dropped(self.health.kind, refused.records);
                }
                self.health.fails(&plain(&refused.error), true);
                false
            }
        }
    }

    /// Writes how many records are missing, if the output accepts it.
    fn report_dropped(&mut self) {
        let lost = self.lost;
        let records = if lost == 1 { "record was" } else { "records were" };
        let device = self.health.kind.device();
        let text = format!("{lost} {records} dropped: {device} could not keep up.");
        if self.record(Severity::Warning, "records_dropped", &text) {
            self.lost = 0;
        }
    }

    /// If the new file can't be opened, the old one stays in use.
    fn reopen(&mut self) {
        let reopened = self.output.reopen();
        self.reopen_at = None;
        match reopened {
            Ok(false) => {}
            Ok(true) => {
                self.record(Severity::Info, "log_reopened", "Log reopened.");
                self.health.is_reopened();
            }
            Err(error) => {
                self.reopen_at = Some(Instant::now() + LOG_REOPEN_INTERVAL);
                let reason = plain(&error);
                if self.health.fails_to_reopen(&reason) {
                    let text =
                        format!("The log could not be reopened and continues here: {reason}");
                    self.record(Severity::Error, "log_reopen_failed", &text);
                }
            }
        }
    }

    /// Writes a record of the thread's own. Returns whether it was written.
    fn record(&mut self, level: Severity, event: &str, message: &str) -> bool {
        self.text.record(level, &self.own.server, event, message, "");
        let mut text = std::mem::take(&mut self.text.text);
        counters::add_record(level);
        let is_written = self.write(&text, false);
        text.clear();
        self.text.text = text;
        is_written
    }
}

#[cfg(test)]
mod tests;
