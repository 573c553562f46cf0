//! The watch over the files of a configuration (`[reload] watch`): a thread looks at them, and the server reloads once
//! they have changed and two looks found the same.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::event_loop::Mailbox;
use crate::files::{Stamps, Watch};
use crate::logging::target;
use crate::server::Message;

/// The thread, if it was ever wanted, and what is known of the files.
pub(super) struct Watcher {
    files: Arc<Mutex<Vec<PathBuf>>>,
    known: Arc<Mutex<Watch>>,
    /// Tells the thread the interval; None until it runs.
    thread: Mutex<Option<Sender<Option<Duration>>>>,
    home: Mailbox<Message>,
}

impl Watcher {
    /// The files were just read. `home` is the loop that reloads.
    pub(super) fn new(files: Vec<PathBuf>, home: Mailbox<Message>) -> Watcher {
        let known = Arc::new(Mutex::new(Watch::new(Stamps::of(&files))));
        Watcher { files: Arc::new(Mutex::new(files)), known, thread: Mutex::default(), home }
    }

    /// The files are about to be read: a change after this is another one.
    pub(super) fn loading(&self) {
        let stamps = Stamps::of(&lock(&self.files));
        lock(&self.known).loading(stamps);
    }

    /// From now on these are the files. Those that were not watched before are about to be read.
    pub(super) fn watch_also(&self, files: &[PathBuf]) {
        *lock(&self.files) = files.to_vec();
        lock(&self.known).loading_also(Stamps::of(files));
    }

    /// From now on the files are looked at with this interval, or not at all.
    pub(super) fn look_every(&self, interval: Option<Duration>) {
        let mut thread = lock(&self.thread);
        match (&*thread, interval) {
            // It ends only with the loop.
            (Some(told), _) => drop(told.send(interval)),
            (None, Some(_)) => *thread = self.start(interval),
            (None, None) => {}
        }
    }

    fn start(&self, interval: Option<Duration>) -> Option<Sender<Option<Duration>>> {
        let (send, told) = mpsc::channel();
        let (files, known) = (Arc::clone(&self.files), Arc::clone(&self.known));
        let home = self.home.clone();
        let run = move || watch(&files, &known, &home, interval, &told);
        match thread::Builder::new().name("watch".into()).spawn(run) {
            Ok(_) => Some(send),
            Err(error) => {
                // Not limited: once for each reload at most.
                log::error!(
                    target: target::CONFIG, event = "watch_failed", reason:% = error;
                    "the configuration is not watched: {error}; to reload it, send SIGHUP"
                );
                None
            }
        }
    }
}

/// Looks until the loop has ended.
fn watch(
    files: &Mutex<Vec<PathBuf>>,
    known: &Mutex<Watch>,
    home: &Mailbox<Message>,
    mut interval: Option<Duration>,
    told: &Receiver<Option<Duration>>,
) {
    loop {
        let news = match interval {
            Some(interval) => told.recv_timeout(interval),
            None => told.recv().map_err(RecvTimeoutError::from),
        };
        match news {
            Ok(new) => interval = new,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let paths = lock(files).clone();
                let has_changed = lock(known).look(Stamps::of(&paths));
                if has_changed && home.send(Message::FilesChanged).is_err() {
                    return;
                }
            }
        }
    }
}

/// Nothing that is done under these locks leaves a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
