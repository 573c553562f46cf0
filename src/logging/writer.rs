//! The thread that writes to one of the log's outputs. Only this thread waits for the output: each has a thread and
//! a queue of its own, so one that is stuck or broken stops no other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::text::TurnText;
use crate::errors::plain;
use crate::limits::LOG_QUEUE_BYTES;

/// Reopens an output: the log's file by its name. Returns None for an output that can't be reopened.
pub(super) type Opener<F = File> = Box<dyn FnMut() -> io::Result<Option<F>> + Send>;

/// The handle of the thread.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    shared: Arc<WriterShared>,
}

#[derive(Debug, Default)]
struct WriterShared {
    queue: Mutex<WriterQueue>,
    /// Something is in the queue.
    filled: Condvar,
    /// Nothing is in the queue, and all is written.
    drained: Condvar,
}

#[derive(Debug, Default)]
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
}

impl Writer {
    /// Starts the thread with an open output. `device` is what its messages call it, `own` formats its own
    /// records, and `server` is named in them.
    pub(super) fn start<F: Write + Send + 'static>(
        file: F,
        open: Opener<F>,
        device: &'static str,
        own: TurnText,
        server: &str,
    ) -> io::Result<Writer> {
        let shared = Arc::new(WriterShared::default());
        let thread = Thread {
            file,
            open,
            device,
            own,
            server: server.to_owned(),
            shared: Arc::clone(&shared),
            lost: 0,
            has_partial_line: false,
        };
        thread::Builder::new().name("log".into()).spawn(move || thread.run())?;
        Ok(Writer { shared })
    }

    /// Takes a piece of text, and gives memory for the next one. `dropped` records are missing from it. If the
    /// output can't keep up, the piece is dropped and its records are counted.
    pub(super) fn push(&self, text: Vec<u8>, dropped: u64) -> Vec<u8> {
        let mut queue = self.shared.lock();
        queue.dropped += dropped;
        if queue.bytes + text.len() > LOG_QUEUE_BYTES {
            queue.dropped += records(&text);
        } else {
            queue.bytes += text.len();
            queue.pieces.push_back(text);
        }
        let memory = std::mem::take(&mut queue.spare);
        self.shared.wake(queue);
        memory
    }

    /// The same with a copy of the text.
    pub(super) fn push_copy(&self, text: &[u8], dropped: u64) {
        let mut memory = std::mem::take(&mut self.shared.lock().spare);
        memory.extend_from_slice(text);
        let memory = self.push(memory, dropped);
        self.shared.lock().spare = memory;
    }

    /// Reopens the file, after everything that was submitted before is written.
    pub(super) fn reopen(&self) {
        let mut queue = self.shared.lock();
        queue.reopen = true;
        self.shared.wake(queue);
    }

    /// Waits until everything is written, or until this time. Returns whether everything is written.
    pub(super) fn flush(&self, until: Instant) -> bool {
        let mut queue = self.shared.lock();
        while queue.has_work() || queue.is_writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.drained.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl WriterShared {
    fn lock(&self) -> MutexGuard<'_, WriterQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread if it sleeps.
    fn wake(&self, mut queue: MutexGuard<'_, WriterQueue>) {
        let is_asleep = std::mem::take(&mut queue.is_asleep);
        drop(queue);
        if is_asleep {
            self.filled.notify_one();
        }
    }
}

impl WriterQueue {
    fn has_work(&self) -> bool {
        !self.pieces.is_empty() || self.reopen || self.dropped > 0
    }
}

/// The state of the thread.
struct Thread<F> {
    file: F,
    open: Opener<F>,
    device: &'static str,
    own: TurnText,
    server: String,
    shared: Arc<WriterShared>,
    /// Records that the output refused and that were not reported yet.
    lost: u64,
    /// The output ends in the middle of a record.
    has_partial_line: bool,
}

impl<F: Write> Thread<F> {
    fn run(mut self) {
        loop {
            let mut queue = self.shared.lock();
            queue.is_writing = false;
            while !queue.has_work() {
                self.shared.drained.notify_all();
                queue.is_asleep = true;
                let waited = self.shared.filled.wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
            }
            queue.is_asleep = false;
            let piece = queue.pieces.pop_front();
            // Only after the text that was submitted before it.
            let reopen = queue.pieces.is_empty() && std::mem::take(&mut queue.reopen);
            let dropped = match queue.pieces.is_empty() {
                true => std::mem::take(&mut queue.dropped),
                false => 0,
            };
            queue.is_writing = true;
            drop(queue);
            self.work(piece, dropped, reopen);
        }
    }

    fn work(&mut self, piece: Option<Vec<u8>>, dropped: u64, reopen: bool) {
        if let Some(mut piece) = piece {
            self.write(&piece);
            let mut queue = self.shared.lock();
            // Only now: until it is written, it counts as waiting.
            queue.bytes -= piece.len();
            piece.clear();
            queue.spare = piece;
        }
        self.lost += dropped;
        if reopen {
            self.reopen();
        }
        if dropped > 0 {
            self.report_dropped();
        }
    }

    fn write(&mut self, text: &[u8]) {
        if self.lost > 0 {
            self.report_dropped();
        }
        self.end_partial_line();
        let mut written = 0;
        while written < text.len() {
            match self.file.write(&text[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        if written < text.len() {
            self.lost += records(&text[written..]);
            self.has_partial_line |= written > 0 && text[written - 1] != b'\n';
        }
    }

    /// Ends an incomplete line, so that the next record starts on a new line.
    fn end_partial_line(&mut self) {
        if self.has_partial_line && self.file.write_all(b"\n").is_ok() {
            self.has_partial_line = false;
        }
    }

    /// Writes how many records are missing, if the output accepts it.
    fn report_dropped(&mut self) {
        self.end_partial_line();
        let lost = std::mem::take(&mut self.lost);
        let records = if lost == 1 { "record was" } else { "records were" };
        let device = self.device;
        let text = format!("{lost} {records} dropped: {device} could not keep up.");
        let text = self.record("WARNING", "records_dropped", &text);
        if self.file.write_all(&text).is_err() {
            self.lost = lost;
        }
    }

    /// Opens the new file first: if that fails, the old one stays in use.
    fn reopen(&mut self) {
        let text = match (self.open)() {
            Ok(None) => return,
            Ok(Some(file)) => {
                self.file = file;
                self.has_partial_line = false;
                self.record("INFO", "log_reopened", "Log reopened.")
            }
            Err(error) => {
                let reason = plain(&error);
                let text = format!("The log could not be reopened and continues here: {reason}");
                self.record("ERROR", "log_reopen_failed", &text)
            }
        };
        self.write(&text);
    }

    /// A record of the thread's own.
    fn record(&mut self, level: &str, event: &str, message: &str) -> Vec<u8> {
        self.own.record(level, &self.server, event, message);
        std::mem::take(&mut self.own.text)
    }
}

/// How many records a text holds.
fn records(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::logging::Format;

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
        let open: Opener<Slow> = Box::new(|| Err(io::ErrorKind::NotFound.into()));
        let own = TurnText::new(Format::Report, &TimeZone::UTC);
        let writer = Writer::start(disk, open, "the disk", own, "A").expect("a thread");
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
        for answer in [Ok(3), full(), full()] {
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
