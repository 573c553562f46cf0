//! The log's settings, streams and outputs, and the one set of them that is in force. A reload replaces the set as
//! a whole; the old one lives until the last thread has submitted what it wrote for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::tz::TimeZone;

use super::layout::Layout;
use super::text::TurnText;
use super::writer::{Retired, Writer};
use super::{LogSettings, logger, tail};

/// What all handles of a log share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) server: String,
    /// The folder of the file.
    pub(super) folder: PathBuf,
    pub(super) zone: TimeZone,
    current: RwLock<Arc<State>>,
    /// That of `current`, to be read without the lock.
    pub(super) generation: AtomicU64,
    /// Outputs that are no longer in use and may not be written to their end.
    retired: Mutex<Vec<Retired>>,
}

/// One set of settings, and what was made for it.
pub(super) struct State {
    /// Different for each set.
    pub(super) generation: u64,
    pub(super) settings: LogSettings,
    pub(super) streams: Arc<Streams>,
    /// Levels and formats.
    pub(super) logger: logger::Fern,
}

/// One stream for each layout in use.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) list: Vec<Stream>,
    /// Whether a shared text may be non-empty. Each turn reads it, without a lock.
    has_shared: AtomicBool,
}

/// Everything that is written in one layout.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) layout: Layout,
    /// All streams have the same records; those of this one are kept for who looks at them.
    is_first: bool,
    /// The text of the threads that have none of their own.
    shared: Mutex<TurnText>,
    pub(super) outputs: Vec<Writer>,
}

impl Core {
    pub(super) fn new(server: &str, folder: PathBuf, zone: TimeZone, state: State) -> Core {
        Core {
            server: server.to_owned(),
            folder,
            zone,
            generation: AtomicU64::new(state.generation),
            current: RwLock::new(Arc::new(state)),
            retired: Mutex::default(),
        }
    }

    /// The set that is in force.
    pub(super) fn current(&self) -> Arc<State> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a set in force. Threads with texts of their own use it from their next submit on.
    pub(super) fn replace(&self, new: Arc<State>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let generation = new.generation;
        let old = std::mem::replace(&mut *current, new);
        self.generation.store(generation, Release);
        drop(current);
        old.streams.submit_all_shared();
    }

    /// Call this after writing to the shared texts of a set. If it is no longer in force, no thread may submit
    /// them again.
    pub(super) fn settle(&self, state: &State) {
        if self.generation.load(Acquire) != state.generation {
            state.streams.submit_all_shared();
        }
    }

    /// Outputs that are no longer in use are remembered until they are written to their end.
    pub(super) fn retire(&self, writers: impl Iterator<Item = Retired>) {
        let mut retired = self.retired();
        retired.retain(Retired::is_open);
        retired.extend(writers);
    }

    pub(super) fn retired(&self) -> MutexGuard<'_, Vec<Retired>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn new(settings: LogSettings, streams: Arc<Streams>, logger: logger::Fern) -> State {
        let generation = NEXT_GENERATION.fetch_add(1, Relaxed);
        State { generation, settings, streams, logger }
    }
}

impl Streams {
    /// Every output in the stream of its layout.
    pub(super) fn new(outputs: Vec<(Layout, Writer)>, zone: &TimeZone) -> Streams {
        let mut list: Vec<Stream> = Vec::new();
        for (layout, writer) in outputs {
            match list.iter_mut().find(|stream| stream.layout == layout) {
                Some(stream) => stream.outputs.push(writer),
                None => list.push(Stream {
                    layout,
                    is_first: list.is_empty(),
                    shared: Mutex::new(TurnText::new(layout, zone)),
                    outputs: vec![writer],
                }),
            }
        }
        Streams { list, has_shared: AtomicBool::new(false) }
    }

    /// Lets `write` append to the text that threads share in one stream.
    pub(super) fn append_shared(&self, number: usize, write: impl Fn(&mut TurnText)) {
        self.list[number].append_shared(write);
        // After the lock: who has submitted before this text was written has set it to false before.
        self.has_shared.store(true, Relaxed);
    }

    /// Submits the shared texts to which a thread has written since the last call.
    #[inline]
    pub(super) fn submit_shared(&self) {
        if self.has_shared.load(Relaxed) {
            self.submit_all_shared();
        }
    }

    /// The same, also for what another thread has written a moment ago.
    #[cold]
    fn submit_all_shared(&self) {
        self.has_shared.store(false, Relaxed);
        self.list.iter().for_each(Stream::submit_shared);
    }

    pub(super) fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.list.iter().flat_map(|stream| &stream.outputs)
    }
}

/// A thread may have written to a set that was replaced in the meantime.
impl Drop for Streams {
    fn drop(&mut self) {
        self.submit_all_shared();
    }
}

impl Stream {
    fn append_shared(&self, write: impl Fn(&mut TurnText)) {
        write(&mut self.lock_shared());
    }

    fn submit_shared(&self) {
        self.submit(&mut self.lock_shared());
    }

    fn lock_shared(&self) -> MutexGuard<'_, TurnText> {
        // Nothing is done under the lock that could leave the text half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a text to every output.
    #[inline]
    pub(super) fn submit(&self, turn: &mut TurnText) {
        if !turn.is_empty() {
            self.push(turn);
        }
    }

    fn push(&self, turn: &mut TurnText) {
        let Some((last, others)) = self.outputs.split_last() else {
            return;
        };
        tail::submit(turn, self.is_first);
        let dropped = std::mem::take(&mut turn.dropped);
        for output in others {
            output.push(&turn.text, dropped);
        }
        last.push_and_clear(&mut turn.text, dropped);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("settings", &self.settings).finish_non_exhaustive()
    }
}

static NEXT_GENERATION: AtomicU64 = AtomicU64::new(0);
