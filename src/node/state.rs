//! The state directory of a server: its database is read into each loop before the ports are opened, and its thread ends
//! after the last loop.
//!
//! ```text
//!   lock, open, read --> each loop's table --> ports --> loops run --> loops end --> last transaction, closed
//! ```

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{RunError, ServerLoop, kernel};
use crate::config::{Config, EngineAck, ServerConfig, StateAck};
use crate::herd::{AnswerAfter, DiskBatch, Floor, Herd};
use crate::limits::STATE_END_WAIT;
use crate::logging::target;
use crate::protocol::UpdateRef;
use crate::server::metrics::{StateNumbers, StateSource};
use crate::server::{Message, StateMessage};
use crate::state::{
    Contents, Database, Fault, Loaded, Outcome, Reply, Restored, StateDir, StateMetrics,
    StateThread,
};

/// The state directory of a server that runs.
pub(super) struct State {
    thread: StateThread,
    source: Arc<Source>,
}

/// What the thread counts, and how the start was.
#[derive(Debug)]
struct Source {
    metrics: Arc<StateMetrics>,
    restored: u64,
    restore: Duration,
}

impl StateSource for Source {
    fn numbers(&self) -> StateNumbers {
        let Source { metrics, restored, restore } = self;
        StateNumbers {
            commits: metrics.commits(),
            updates: metrics.updates(),
            failures: metrics.failures(),
            is_failing: metrics.is_failing(),
            last_commit: metrics.last_commit(),
            bytes: metrics.bytes(),
            restored: *restored,
            restore: *restore,
        }
    }
}

impl State {
    /// Fills the loops from the database, and starts the thread that gets what changes. None without a state directory.
    pub fn start(
        config: &Config,
        index: usize,
        loops: &mut [&mut ServerLoop],
    ) -> Result<Option<State>, RunError> {
        let own = &config.servers[index];
        let Some(dir) = lock(config, own)? else {
            return Ok(None);
        };
        let begun = Instant::now();
        let mut restored = Restored::default();
        let mut opened = dir.start(|database| {
            for each in loops.iter_mut() {
                restored = database.read(&mut Filling(each.application().restoring()))?;
            }
            Ok(())
        })?;
        let restore = begun.elapsed();
        record(&dir, restored, restore);
        let is_new = opened.moved.is_some();
        for each in loops.iter_mut() {
            keep_what_differs(each.application().restoring(), &mut opened.database, is_new)
                .map_err(|fault| dir.explain(fault))?;
        }
        let metrics = Arc::<StateMetrics>::default();
        let replies = loops.iter().map(|each| reply(each)).collect();
        let thread = StateThread::start(dir, opened.database, replies, Arc::clone(&metrics))
            .map_err(kernel("start the thread of the state directory"))?;
        let answer_after = answer_after(config, index);
        for (number, each) in loops.iter_mut().enumerate() {
            each.application().attach_disk(Box::new(thread.port(number)), answer_after);
        }
        let source = Arc::new(Source { metrics, restored: restored.updates, restore });
        Ok(Some(State { thread, source }))
    }

    /// Where what the thread counts is read.
    pub fn source(&self) -> Arc<dyn StateSource> {
        Arc::clone(&self.source) as Arc<dyn StateSource>
    }

    /// The loops have ended. Waits for the last transaction, but not for a disk that does not answer.
    pub fn finish(self, log_name: &str) {
        if !self.thread.finish(STATE_END_WAIT) {
            // Not limited: a server ends only once.
            log::error!(
                target: target::STATE, event = "state_unfinished";
                "{log_name} ends although its last updates may not be in the state directory: it did not answer within \
                 {} s.",
                STATE_END_WAIT.as_secs()
            );
        }
    }
}

/// Writes all that is in the database of a server: the inner error is one of `out`.
pub fn dump_state(
    config: &Config,
    index: usize,
    out: &mut dyn Write,
) -> Result<io::Result<Restored>, RunError> {
    let dir = required(config, &config.servers[index])?;
    match crate::state::dump(&dir, out) {
        Ok(result) => Ok(Ok(result?)),
        Err(error) => Ok(Err(error)),
    }
}

/// Adds the lines of `input` to the database of a server, all of them or none.
pub fn load_state(
    config: &Config,
    index: usize,
    input: &mut dyn BufRead,
) -> Result<Loaded, RunError> {
    let dir = required(config, &config.servers[index])?;
    Ok(crate::state::load(&dir, input)?)
}

fn required(config: &Config, own: &ServerConfig) -> Result<StateDir, RunError> {
    lock(config, own)?.ok_or(RunError::NoStateDir)
}

/// Locks the database of a server, if there is a state directory.
fn lock(config: &Config, own: &ServerConfig) -> Result<Option<StateDir>, RunError> {
    let dir = config.state_dir();
    let locked = dir.map(|dir| StateDir::lock(&dir, &own.name, config.loops > 1));
    Ok(locked.transpose()?)
}

/// Puts what is read into the table of a loop.
struct Filling<'a>(&'a mut Herd);

impl Contents for Filling<'_> {
    fn floor(&mut self, floor: &Floor) {
        self.0.restore_floor(floor.clone());
    }

    fn update(&mut self, update: &UpdateRef<'_>, _line: &[u8]) {
        self.0.restore(update);
    }
}

/// From here on the disk counts as having what the table has. So the database gets the floor, if that has risen because
/// more was read than the table may hold, and, if it is new, what could be read of the damaged one.
fn keep_what_differs(herd: &Herd, database: &mut Database, is_new: bool) -> Result<(), Fault> {
    let table = herd.table();
    let floor = table.floor().filter(|floor| Some(*floor) != database.floor()).cloned();
    let has_more = is_new && !table.is_empty();
    if floor.is_none() && !has_more {
        return Ok(());
    }
    let mut batch = DiskBatch { floor, must_sync: true, ..DiskBatch::default() };
    if is_new {
        table.iter().for_each(|entry| batch.lines.extend_from_slice(entry.update.line()));
    }
    database.commit(&[batch]).map(drop)
}

/// What tells a loop of its batches.
fn reply(of: &ServerLoop) -> Reply {
    let mailbox = of.mailbox();
    Box::new(move |outcome| {
        let message = match outcome {
            Outcome::Committed(number) => StateMessage::Committed(number),
            Outcome::Failed(number) => StateMessage::Failed(number),
        };
        let _ = mailbox.send(Message::State(message)); // The loop may have ended.
    })
}

/// What answers wait for.
fn answer_after(config: &Config, index: usize) -> AnswerAfter {
    let of_member = config.engine.as_ref().filter(|engine| engine.members.contains(&index));
    AnswerAfter {
        disk: config.state.ack == StateAck::Disk,
        engine: of_member.is_some_and(|engine| engine.ack == EngineAck::Engine),
    }
}

fn record(dir: &StateDir, restored: Restored, took: Duration) {
    let Restored { updates, below_floor, unreadable } = restored;
    let path = dir.path();
    log::info!(
        target: target::STATE, event = "state_read", updates = updates;
        "Read {updates} clients from {} in {:.3} s; {below_floor} more were below the floor.",
        path.display(),
        took.as_secs_f64()
    );
    if unreadable > 0 {
        // Not limited: once, at the start.
        log::error!(
            target: target::STATE, event = "state_skipped";
            "{unreadable} entries of {} are no updates; they are left out.",
            path.display()
        );
    }
}
