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
use crate::config::{Config, ServerConfig, StateAck};
use crate::herd::{AnswerAfter, DiskBatch, Floor, Herd};
use crate::limits::{STATE_END_WAIT, STATE_END_WAIT_LATE};
use crate::logging::target;
use crate::protocol::UpdateRef;
use crate::server::metrics::{StateNumbers, StateSource};
use crate::server::{Message, StateMessage};
use crate::state::{
    Contents, Database, Fault, Loaded, Outcome, Reply, Restored, StateDir, StateError,
    StateMetrics, StateThread,
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

    fn failing(&self) -> Option<(Duration, String)> {
        self.metrics.failing()
    }

    fn stuck(&self) -> Option<Duration> {
        self.metrics.stuck()
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
            let tables = loops.iter_mut().map(|each| each.application().restoring()).collect();
            restored = database.read(&mut Filling(tables))?;
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

    /// The loops have ended; `is_late`: because the time for that was over. Waits for the last transaction, but not for a
    /// disk that does not answer.
    pub fn finish(self, log_name: &str, is_late: bool) {
        let limit = if is_late { STATE_END_WAIT_LATE } else { STATE_END_WAIT };
        let is_done = self.thread.finish(limit);
        if !is_done {
            // Not limited: a server ends only once.
            log::error!(
                target: target::STATE, event = "state_unfinished";
                "{log_name} ends although its last updates may not be in the state directory: it did not answer within \
                 {} s.",
                limit.as_secs()
            );
        } else if let Some((lasted, reason)) = self.source.metrics.failing() {
            // Not limited: likewise.
            log::error!(
                target: target::STATE, event = "state_unfinished", reason = reason.as_str();
                "{log_name} ends although its last updates are not in the state directory, which can't be written, for \
                 {} s: {reason}.",
                lasted.as_secs()
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
    let own = &config.servers[index];
    // A dump of a mistyped directory would be empty, and be found out when it is needed.
    if let Some(path) = config.database(own).filter(|path| !path.exists()) {
        return Err(StateError::Missing { path }.into());
    }
    let dir = required(config, own)?;
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
    Ok(crate::state::load(&dir, input, config.max_future)?)
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

/// Puts what is read into the table of each loop.
struct Filling<'a>(Vec<&'a mut Herd>);

impl Contents for Filling<'_> {
    fn floor(&mut self, floor: &Floor) {
        self.0.iter_mut().for_each(|herd| herd.restore_floor(floor.clone()));
    }

    fn update(&mut self, update: &UpdateRef<'_>, _line: &[u8]) {
        for herd in &mut self.0 {
            herd.restore(update);
        }
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
        table.iter().for_each(|entry| entry.update.write_updateloc(&mut batch.lines));
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
    AnswerAfter {
        disk: config.state.ack == StateAck::Disk,
        engine: config.engine_wait(index).is_some(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Now, WallTime};
    use crate::herd::Settings;
    use crate::protocol::{Dialect, Epoch, FromDialler};

    fn herd(max_clients: usize) -> Herd {
        let settings = Settings {
            name: "Goloman".into(),
            neighbours: Vec::new(),
            dialect: Dialect::default(),
            max_clients,
            max_future: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            refill: true,
            epoch: Epoch(1),
            seed: 1,
        };
        Herd::new(settings, Now { elapsed: Duration::ZERO, wall: WallTime(0) })
    }

    /// A database of these clients, each with its number as its second, and its folder.
    fn filled(folder: &std::path::Path, clients: std::ops::Range<usize>) -> StateDir {
        let dir = StateDir::lock(folder, "Goloman", false).expect("it is free");
        let line =
            |client| format!("UPDATELOC c{client:02} +1.0-2.0 {client} Goloman +0.250000000\n");
        let lines = clients.clone().map(line).collect::<String>().into_bytes();
        let floor = Some(Floor { age: 0, id: b"f".to_vec() });
        let batch = DiskBatch { lines, updates: clients.len(), floor, ..DiskBatch::default() };
        dir.open().expect("a database").commit(&[batch]).expect("committed");
        dir
    }

    /// The clients that the database has.
    fn stored(database: &Database) -> Vec<String> {
        struct Ids(Vec<String>);
        impl Contents for Ids {
            fn floor(&mut self, _floor: &Floor) {}
            fn update(&mut self, update: &UpdateRef<'_>, _line: &[u8]) {
                self.0.push(String::from_utf8_lossy(update.id).into_owned());
            }
        }
        let mut ids = Ids(Vec::new());
        database.read(&mut ids).expect("it can be read");
        ids.0
    }

    #[test]
    fn a_floor_that_rises_while_the_table_is_filled_is_committed_before_the_loops_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = filled(folder.path(), 1..31);
        let mut herd = herd(10);
        let opened = dir.start(|database| database.read(&mut Filling(vec![&mut herd])).map(drop));
        let mut database = opened.expect("it is whole").database;
        assert_eq!(stored(&database).len(), 30);
        keep_what_differs(&herd, &mut database, false).expect("committed");
        drop(database);
        let database = dir.open().expect("it is whole");
        assert_eq!(database.floor(), herd.table().floor());
        assert!(database.floor().is_some_and(|floor| floor.age > 0));
        let known = |id: &String| herd.table().get(id.as_bytes()).is_some();
        assert!(stored(&database).iter().all(known), "what the floor forgot is left out");
        assert_eq!(stored(&database).len(), herd.table().len());
    }

    #[test]
    fn what_was_read_of_a_database_until_it_proved_to_be_damaged_is_in_the_new_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = filled(folder.path(), 1..31);
        let mut herd = herd(100);
        let mut reads = 0;
        let opened = dir.start(|database| {
            reads += 1;
            if reads == 1 {
                let floor = database.floor().expect("it has one");
                herd.restore_floor(floor.clone());
                let line = b"UPDATELOC c07 +1.0-2.0 7 Goloman +0.250000000";
                let Ok(FromDialler::Update(update)) = FromDialler::parse(line) else {
                    unreachable!("it is an update");
                };
                herd.restore(&update);
                return Err(Fault::Damaged("the second page".into()));
            }
            database.read(&mut Filling(vec![&mut herd])).map(drop)
        });
        let mut opened = opened.expect("a new one");
        assert!(opened.moved.as_ref().is_some_and(|(path, _)| path.exists()));
        assert!(stored(&opened.database).is_empty());
        keep_what_differs(&herd, &mut opened.database, true).expect("committed");
        drop(opened);
        let database = dir.open().expect("it is whole");
        assert_eq!(stored(&database), ["c07"]);
        assert_eq!(database.floor(), herd.table().floor());
    }
}
