//! Standard error, which may have no reader: a full pipe, or a terminal stopped with Ctrl-S, makes
//! every writer wait. So a separate thread writes, one message per write, and its queue is bounded.
//! Serving, restarting and stopping never wait for it.
//!
//! The descriptor is not set to non-blocking: it belongs to other processes, too.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::limits::{STDERR_FLUSH_WAIT, STDERR_QUEUE_BYTES};

/// The state shared with the thread.
struct StderrShared {
    queue: Mutex<StderrQueue>,
    /// Something is in the queue.
    filled: Condvar,
    /// Nothing is in the queue, and all is written.
    drained: Condvar,
}

struct StderrQueue {
    messages: VecDeque<Vec<u8>>,
    /// Bytes of all messages that wait, including the one that is being written.
    bytes: usize,
    /// Messages for which there was no room.
    dropped: u64,
    has_thread: bool,
}

static SHARED: StderrShared = StderrShared {
    queue: Mutex::new(StderrQueue::new()),
    filled: Condvar::new(),
    drained: Condvar::new(),
};

/// Prints a message for the operator, without waiting. If there is no room, the message is dropped
/// and counted.
pub fn print_line(text: &str) {
    let message = format!("{text}\n").into_bytes();
    let mut queue = SHARED.lock();
    if !queue.has_thread {
        queue.has_thread = thread::Builder::new().name("stderr".into()).spawn(run).is_ok();
    }
    if !queue.has_thread {
        drop(queue);
        // Without the thread, a write that may block is better than no message.
        return write(&message);
    }
    queue.push(message);
    SHARED.filled.notify_one();
}

/// Waits until everything is written, for a short time at most.
pub fn finish() {
    let until = Instant::now() + STDERR_FLUSH_WAIT;
    let mut queue = SHARED.lock();
    while queue.has_thread && (queue.bytes > 0 || queue.dropped > 0) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let waited = SHARED.drained.wait_timeout(queue, left);
        queue = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Sends the message of a panic the same way: the standard library's write could block.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let trace = Backtrace::capture();
        match trace.status() {
            BacktraceStatus::Captured => print_line(&format!("thread {name} {panic}\n{trace}")),
            _ => print_line(&format!("thread {name} {panic}")),
        }
        finish();
    }));
}

impl StderrShared {
    fn lock(&self) -> MutexGuard<'_, StderrQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StderrQueue {
    const fn new() -> StderrQueue {
        StderrQueue { messages: VecDeque::new(), bytes: 0, dropped: 0, has_thread: false }
    }

    /// Takes a message, if there is room; a single one always fits.
    fn push(&mut self, message: Vec<u8>) {
        if self.bytes > 0 && self.bytes + message.len() > STDERR_QUEUE_BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    /// A message was written.
    fn written(&mut self, message: &[u8]) {
        self.bytes -= message.len();
    }

    /// The next text to write: after the messages that were kept, the number of those that were
    /// dropped.
    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(message) = self.messages.pop_front() {
            return Some(message);
        }
        let dropped = std::mem::take(&mut self.dropped);
        let text = format!("{dropped} messages were dropped here, because nobody read them.\n");
        (dropped > 0).then(|| {
            self.bytes += text.len();
            text.into_bytes()
        })
    }
}

/// The thread.
fn run() {
    let mut queue = SHARED.lock();
    loop {
        let Some(message) = queue.next() else {
            SHARED.drained.notify_all();
            queue = SHARED.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(queue);
        write(&message);
        queue = SHARED.lock();
        queue.written(&message);
    }
}

/// Writes a message, in one write if the kernel accepts that. It bypasses `std::io::stderr`,
/// because a blocked thread would hold its lock.
fn write(message: &[u8]) {
    let mut rest = message;
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stderr(), rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            // Another process has set the shared descriptor to non-blocking.
            Err(Errno::AGAIN) => thread::sleep(NON_BLOCKING_PAUSE),
            // Closed, or the terminal is gone: there is no reader.
            Err(_) => return,
        }
    }
}

/// Whether journald reads standard error: `JOURNAL_STREAM` has the device and the inode of descriptor 2.
pub(super) fn is_read_by_journald() -> bool {
    let Some(stream) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let found = rustix::fs::fstat(rustix::stdio::stderr());
    found.is_ok_and(|found| stream.to_str() == Some(&format!("{}:{}", found.st_dev, found.st_ino)))
}

/// Standard error as an output of the log. The log's own thread for it writes, and may wait.
pub(super) struct StderrOutput;

impl Write for StderrOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(rustix::stdio::stderr(), bytes) {
                Err(Errno::AGAIN) => thread::sleep(NON_BLOCKING_PAUSE),
                result => return result.map_err(io::Error::from),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The interval at which a non-blocking standard error is tried again.
const NON_BLOCKING_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_nobody_reads_are_dropped_and_counted_behind_the_kept_ones() {
        let mut queue = StderrQueue::new();
        let message = vec![b'x'; STDERR_QUEUE_BYTES / 4];
        for _ in 0..7 {
            queue.push(message.clone());
        }
        for _ in 0..4 {
            assert_eq!(queue.next().as_ref(), Some(&message));
            queue.written(&message);
        }
        let count = queue.next().expect("what was dropped is counted");
        assert_eq!(count, b"3 messages were dropped here, because nobody read them.\n");
        queue.written(&count);
        assert_eq!((queue.next(), queue.bytes), (None, 0));
        let long = vec![b'x'; 2 * STDERR_QUEUE_BYTES];
        queue.push(long.clone());
        assert_eq!(queue.next(), Some(long), "a single one always finds room");
    }
}
