//! The thread that writes to one of the log's outputs. Only this thread waits for the output: each has a thread and
//! a queue of its own, so one that is stuck or broken stops no other.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Instant;

use jiff::tz::TimeZone;

use super::counters;
use super::health::Health;
use super::layout::{self, Layout};
use super::output::{Destination, Output};
use super::severity::Severity;
use super::text::TurnText;
use crate::errors::plain;
use crate::limits::{LOG_QUEUE_BYTES, LOG_REOPEN_INTERVAL};

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

#[derive(Debug)]
struct WriterShared {
    destination: Destination,
    queue: Mutex<WriterQueue>,
    /// Something is in the queue.
    filled: Condvar,
    /// Nothing is in the queue, and all is written.
    drained: Condvar,
    /// There is no handle any more. It changes under the lock, but is read without it.
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct WriterQueue {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Records for which there was no room.
    dropped: u64,
    reopen: bool,
    is_writing: bool,
    /// The thread waits for [`WriterShared::filled`]. If it does not, it is not woken, which saves a system call.
    is_asleep: bool,
    /// The memory of a written piece, for reuse.
    spare: Vec<u8>,
    /// How the thread's own records look.
    layout: Layout,
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
        let queue = WriterQueue::new(own.layout);
        let shared = Arc::new(WriterShared {
            destination,
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            drained: Condvar::new(),
            is_closed: AtomicBool::new(false),
        });
        let kind = shared.destination.kind();
        let health = Health::new(own.server.clone(), kind);
        let thread = Thread {
            output,
            text: TurnText::new(own.layout, &own.zone),
            own,
            shared: Arc::clone(&shared),
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

    /// Takes a piece of text, and gives memory for the next one. `dropped` records are missing from it. If the
    /// output can't keep up, the piece is dropped and its records are counted.
    pub(super) fn push(&self, mut text: Vec<u8>, dropped: u64) -> Vec<u8> {
        let shared = &self.handle.shared;
        let kind = shared.destination.kind();
        let mut queue = shared.lock();
        let mut dropped = dropped;
        let memory = if text.is_empty() || queue.bytes + text.len() > LOG_QUEUE_BYTES {
            dropped += layout::records(kind, &text);
            text.clear();
            text
        } else {
            queue.bytes += text.len();
            counters::add_pending(kind, text.len());
            queue.pieces.push_back(text);
            std::mem::take(&mut queue.spare)
        };
        queue.dropped += dropped;
        counters::add_dropped(kind, dropped);
        shared.wake(queue);
        memory
    }

    /// The same with a copy of the text.
    pub(super) fn push_copy(&self, text: &[u8], dropped: u64) {
        let mut memory = std::mem::take(&mut self.handle.shared.lock().spare);
        memory.extend_from_slice(text);
        let memory = self.push(memory, dropped);
        self.handle.shared.lock().spare = memory;
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

impl WriterShared {
    fn lock(&self) -> MutexGuard<'_, WriterQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue and wakes the thread.
    fn ask(&self, change: impl FnOnce(&mut WriterQueue)) {
        let mut queue = self.lock();
        change(&mut queue);
        self.wake(queue);
    }

    /// Wakes the thread if it sleeps.
    fn wake(&self, mut queue: MutexGuard<'_, WriterQueue>) {
        let is_asleep = std::mem::take(&mut queue.is_asleep);
        drop(queue);
        if is_asleep {
            self.filled.notify_one();
        }
    }

    fn flush(&self, until: Instant) -> bool {
        let mut queue = self.lock();
        while queue.has_work() || queue.is_writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.drained.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl WriterQueue {
    fn new(layout: Layout) -> WriterQueue {
        WriterQueue {
            pieces: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            reopen: false,
            is_writing: false,
            is_asleep: false,
            spare: Vec::new(),
            layout,
        }
    }

    fn has_work(&self) -> bool {
        !self.pieces.is_empty() || self.reopen || self.dropped > 0
    }
}

/// The state of the thread.
struct Thread {
    output: Box<dyn Output>,
    own: OwnRecords,
    /// For its own records.
    text: TurnText,
    shared: Arc<WriterShared>,
    /// Records that are missing in the output and that were not reported there yet.
    lost: u64,
    health: Health,
    /// When to open the output by its name once more, after that has failed.
    reopen_at: Option<Instant>,
}

/// What the queue has for the thread.
struct Work {
    piece: Option<Vec<u8>>,
    dropped: u64,
    reopen: bool,
}

impl Thread {
    fn run(mut self) {
        while let Some(work) = self.next_work() {
            self.work(work);
        }
        let mut queue = self.shared.lock();
        queue.is_writing = false;
        self.shared.drained.notify_all();
    }

    /// Waits for work. None if there will be none.
    fn next_work(&mut self) -> Option<Work> {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.lock();
        queue.is_writing = false;
        while !queue.has_work() {
            shared.drained.notify_all();
            if shared.is_closed.load(Relaxed) {
                return None;
            }
            queue.is_asleep = true;
            queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.is_asleep = false;
        let piece = queue.pieces.pop_front();
        // Only after the text that was submitted before it.
        let is_last = queue.pieces.is_empty();
        let reopen = is_last && std::mem::take(&mut queue.reopen);
        let dropped = if is_last { std::mem::take(&mut queue.dropped) } else { 0 };
        queue.is_writing = true;
        if self.own.layout != queue.layout {
            self.own.layout = queue.layout;
            self.text = TurnText::new(queue.layout, &self.own.zone);
        }
        Some(Work { piece, dropped, reopen })
    }

    fn work(&mut self, work: Work) {
        if self.reopen_at.is_some_and(|at| at <= Instant::now()) {
            self.reopen();
        }
        if let Some(mut piece) = work.piece {
            if self.lost > 0 {
                self.report_dropped();
            }
            self.write(&piece, true);
            let mut queue = self.shared.lock();
            // Only now: until it is written, it counts as waiting.
            queue.bytes -= piece.len();
            counters::remove_pending(self.health.kind, piece.len());
            piece.clear();
            queue.spare = piece;
        }
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
mod tests {
    use std::io::Write;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::logging::Format;
    use crate::logging::layout::Envelope;
    use crate::logging::output::Lines;

    /// A disk that accepts a write when the test permits it, and reports what was written.
    struct Slow {
        permits: mpsc::Receiver<io::Result<usize>>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match self.permits.recv() {
                Ok(permit) => permit?.min(bytes.len()),
                Err(_) => bytes.len(),
            };
            let _ = self.taken.send(bytes[..count].to_vec());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow_disk() -> (Writer, mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>) {
        let (permit, permits) = mpsc::channel();
        let (taken, seen) = mpsc::channel();
        let disk = Slow { permits, taken };
        let layout = Layout { format: Format::Report, envelope: Envelope::Line };
        let own = OwnRecords { server: "A".to_owned(), zone: TimeZone::UTC, layout };
        let output = Box::new(Lines::new(disk));
        let writer = Writer::start(Destination::File("A".into()), output, own).expect("a thread");
        (writer, permit, seen)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn records_that_the_disk_cannot_follow_are_dropped_and_counted() {
        let (writer, permit, seen) = slow_disk();
        let line = vec![b'x'; LOG_QUEUE_BYTES / 2 - 1];
        let piece = [line, b"\n".to_vec()].concat();
        for _ in 0..5 {
            writer.push(piece.clone(), 0);
        }
        drop(permit);
        assert!(writer.flush(soon()));
        let written = seen.try_iter().collect::<Vec<_>>();
        assert_eq!(written.iter().filter(|bytes| bytes.len() == piece.len()).count(), 2);
        let last = String::from_utf8(written[written.len() - 1].clone()).expect("text");
        assert!(last.ends_with("WARNING: 3 records were dropped: the disk could not keep up.\n"));
    }

    #[test]
    fn a_full_disk_costs_its_records_and_nothing_else() {
        let (writer, permit, seen) = slow_disk();
        let full = || Err(io::ErrorKind::StorageFull.into());
        for answer in [Ok(3), full()] {
            permit.send(answer).expect("the disk is there");
        }
        writer.push(b"first\n".to_vec(), 0);
        assert!(!writer.flush(Instant::now()) || writer.flush(soon()));
        drop(permit);
        writer.push(b"second\n".to_vec(), 0);
        assert!(writer.flush(soon()));
        let written = String::from_utf8(seen.try_iter().flatten().collect()).expect("text");
        assert!(written.starts_with("fir"), "{written}");
        assert!(written.contains("1 record was dropped"), "{written}");
        assert!(written.ends_with("second\n"), "{written}");
    }
}
