//! The queue of a writer's thread, and how the thread waits for what comes into it.
//!
//! ```text
//!              a record                     written                      nothing has come
//!   asleep ---------------> awake, writes ----------> pause (LOG_PAUSE) ------------------> asleep
//!                             ^                         |
//!                             +-- something has come ---+
//! ```
//!
//! Who submits wakes the thread only when it sleeps, which costs a system call. So what comes after a quiet time is
//! written at once, and under load the thread looks by itself, every [`LOG_PAUSE`](crate::limits::LOG_PAUSE), and
//! writes all that has come since, in one piece. A pause ends early when much has come, and when somebody waits.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::LOG_PAUSE_BYTES;
use crate::logging::layout::Layout;
use crate::logging::output::Destination;

/// What the thread and its handles share.
#[derive(Debug)]
pub(super) struct WriterShared {
    pub(super) destination: Destination,
    queue: Mutex<WriterQueue>,
    /// The thread is called.
    called: Condvar,
    /// Nothing is in the queue, and all is written.
    pub(super) drained: Condvar,
    /// There is no handle any more. It changes under the lock, but is read without it.
    pub(super) is_closed: AtomicBool,
}

#[derive(Debug)]
pub(super) struct WriterQueue {
    /// The records that wait.
    pub(super) text: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    pub(super) in_writing: usize,
    /// Records for which there was no room.
    pub(super) dropped: u64,
    pub(super) reopen: bool,
    pub(super) is_writing: bool,
    rest: Rest,
    /// Somebody waits until all is written, so there is no pause.
    is_hurried: bool,
    /// How the thread's own records look.
    pub(super) layout: Layout,
}

/// What the thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It waits for nothing.
    Awake,
    /// For the end of its pause.
    Pause,
    /// For work.
    Asleep,
}

impl WriterQueue {
    /// Bytes that are not written yet.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.in_writing
    }

    fn has_work(&self) -> bool {
        !self.text.is_empty() || self.reopen || self.dropped > 0
    }

    fn may_pause(&self) -> bool {
        !self.is_hurried && !self.reopen && self.text.len() < LOG_PAUSE_BYTES
    }
}

impl WriterShared {
    pub(super) fn new(destination: Destination, layout: Layout) -> WriterShared {
        let queue = WriterQueue {
            text: Vec::new(),
            in_writing: 0,
            dropped: 0,
            reopen: false,
            is_writing: false,
            rest: Rest::Awake,
            is_hurried: false,
            layout,
        };
        WriterShared {
            destination,
            queue: Mutex::new(queue),
            called: Condvar::new(),
            drained: Condvar::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WriterQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue and calls the thread.
    pub(super) fn ask(&self, change: impl FnOnce(&mut WriterQueue)) {
        let mut queue = self.lock();
        change(&mut queue);
        self.wake(queue);
    }

    /// Calls the thread if it sleeps, or if its pause is over.
    pub(super) fn wake(&self, mut queue: MutexGuard<'_, WriterQueue>) {
        let is_called = match queue.rest {
            Rest::Awake => false,
            Rest::Pause => !queue.may_pause() || self.is_closed.load(Relaxed),
            Rest::Asleep => true,
        };
        if is_called {
            queue.rest = Rest::Awake; // It is called once.
            drop(queue);
            self.called.notify_one();
        }
    }

    /// The thread does not look at the queue for a while.
    pub(super) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut queue = self.lock();
        queue.is_writing = false;
        while queue.may_pause() && !self.is_closed.load(Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue.rest = Rest::Pause;
            let waited = self.called.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.rest = Rest::Awake;
    }

    /// The thread waits for work. None if there will be none.
    pub(super) fn wait_for_work(&self) -> Option<MutexGuard<'_, WriterQueue>> {
        let mut queue = self.lock();
        while !queue.has_work() {
            queue.is_hurried = false;
            self.drained.notify_all();
            if self.is_closed.load(Relaxed) {
                return None;
            }
            queue.rest = Rest::Asleep;
            queue = self.called.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.rest = Rest::Awake;
        Some(queue)
    }

    /// Waits until everything is written, or until this time. Returns whether everything is written.
    pub(super) fn flush(&self, until: Instant) -> bool {
        let mut queue = self.lock();
        while queue.has_work() || queue.is_writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue.is_hurried = true;
            self.called.notify_one();
            let waited = self.drained.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether the thread sleeps: then it needs no time until it is called.
    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.lock().rest == Rest::Asleep
    }

    #[cfg(test)]
    pub(super) fn is_pausing(&self) -> bool {
        self.lock().rest == Rest::Pause
    }
}
