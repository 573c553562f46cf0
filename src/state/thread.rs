//! The thread that owns the database. Each loop hands it one batch at a time, and gets an answer for each. Batches that
//! wait are committed together.
//!
//! After a failure the batches are dropped: a loop that learns of it hands its updates over again, by then perhaps newer
//! ones. It learns of it after a pause, which grows with each failure, so that a disk that is full is tried now and then.
//! redb refuses everything after an error of the disk, so the database is closed and opened again.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::database::{Database, Fault};
use super::metrics::StateMetrics;
use super::open::StateDir;
use crate::herd::DiskBatch;
use crate::limits::{
    DISK_BATCH_BYTES, DISK_BATCH_UPDATES, STATE_COMMIT_INTERVAL, STATE_RETRY_INITIAL,
    STATE_RETRY_MAX,
};
use crate::logging::{self, LastingProblem, target};

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The batch with this number is on the disk, synced.
    Committed(u64),
    /// The batch with this number could not be committed. The log says why, and the pause after that is over.
    Failed(u64),
}

/// Tells a loop what became of its batch. It never blocks.
pub type Reply = Box<dyn Fn(Outcome) + Send>;

/// Opens the database again after a failure.
pub type Opener = Box<dyn FnMut() -> Result<Database, Fault> + Send>;

/// How the thread spaces its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time between two transactions for which no answer waits.
    pub interval: Duration,
    /// The pause after a failure, which doubles up to the maximum.
    pub retry_initial: Duration,
    pub retry_max: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            interval: STATE_COMMIT_INTERVAL,
            retry_initial: STATE_RETRY_INITIAL,
            retry_max: STATE_RETRY_MAX,
        }
    }
}

/// The thread, as its starter holds it.
pub struct StateThread {
    sender: Sender<ToThread>,
    ended: Receiver<()>,
}

enum ToThread {
    /// From the loop with this number.
    Batch(usize, DiskBatch),
    End,
}

impl StateThread {
    /// Starts the thread on the database of a folder. Each loop is answered by its reply.
    pub fn start(
        dir: StateDir,
        database: Database,
        replies: Vec<Reply>,
        metrics: Arc<StateMetrics>,
    ) -> io::Result<StateThread> {
        let (name, size) = (dir.path(), dir.clone());
        metrics.set_bytes(size.bytes());
        let measure = Box::new(move || size.bytes());
        let opener = Box::new(move || dir.reopen());
        StateThread::start_with(name, database, opener, measure, replies, metrics, Pace::default())
    }

    /// The same with another way to open the database again, and with another pace, for tests.
    pub fn start_with(
        name: PathBuf,
        database: Database,
        opener: Opener,
        measure: Box<dyn Fn() -> u64 + Send>,
        replies: Vec<Reply>,
        metrics: Arc<StateMetrics>,
        pace: Pace,
    ) -> io::Result<StateThread> {
        let (sender, received) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let worker = Worker {
            name,
            database: Some(database),
            opener,
            measure,
            replies,
            metrics,
            pace,
            received,
            is_ending: false,
            last_commit: None,
            started: Instant::now(),
            problem: LastingProblem::new(Duration::ZERO),
            pause: pace.retry_initial,
        };
        thread::Builder::new().name("state".into()).spawn(move || {
            worker.run();
            logging::submit();
            let _ = end.send(()); // Nobody may wait for it.
        })?;
        Ok(StateThread { sender, ended })
    }

    /// How the loop with this number hands over its batches. It never blocks.
    pub fn port(&self, number: usize) -> impl Fn(DiskBatch) + Send + use<> {
        let sender = self.sender.clone();
        move |batch| {
            let _ = sender.send(ToThread::Batch(number, batch)); // The server has ended.
        }
    }

    /// Commits what was handed over, closes the database, and ends the thread. Waits for that for `limit` at most, and
    /// returns whether it is done.
    pub fn finish(self, limit: Duration) -> bool {
        let _ = self.sender.send(ToThread::End);
        // Without a message the thread has ended, too: it panicked.
        !matches!(self.ended.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
    }
}

struct Worker {
    /// What messages call the database.
    name: PathBuf,
    /// None after a failure.
    database: Option<Database>,
    opener: Opener,
    measure: Box<dyn Fn() -> u64 + Send>,
    replies: Vec<Reply>,
    metrics: Arc<StateMetrics>,
    pace: Pace,
    received: Receiver<ToThread>,
    is_ending: bool,
    last_commit: Option<Instant>,
    started: Instant,
    problem: LastingProblem,
    /// After the next failure.
    pause: Duration,
}

/// Batches that are committed together, and the loops that they are from.
#[derive(Default)]
struct Together {
    batches: Vec<DiskBatch>,
    from: Vec<(usize, u64)>,
}

impl Worker {
    fn run(mut self) {
        loop {
            let together = self.gather();
            if together.batches.is_empty() && self.is_ending {
                break;
            }
            self.write(together);
            logging::submit();
        }
        self.close(); // Cleanly, so that the next start need not search it for what is allocated.
    }

    /// Waits for something to do, and returns all that is there then: batches, or none if the thread has only to sweep, or
    /// ends.
    fn gather(&mut self) -> Together {
        let mut together = Together::default();
        loop {
            while let Ok(received) = self.received.try_recv() {
                self.take(&mut together, received);
            }
            if self.is_ending || together.batches.iter().any(is_urgent) {
                return together;
            }
            let sweeps = self.database.as_ref().is_some_and(Database::is_sweeping);
            let next = match (sweeps || !together.batches.is_empty(), self.due_in()) {
                (true, None) => return together,
                (true, Some(pause)) => self.received.recv_timeout(pause),
                (false, _) => self.received.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(received) => self.take(&mut together, received),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.is_ending = true,
            }
        }
    }

    fn take(&mut self, together: &mut Together, received: ToThread) {
        match received {
            ToThread::Batch(number, batch) => {
                together.from.push((number, batch.number));
                together.batches.push(batch);
            }
            ToThread::End => self.is_ending = true,
        }
    }

    /// How long a transaction for which no answer waits should wait itself; None if it is due.
    fn due_in(&self) -> Option<Duration> {
        let since = self.last_commit?.elapsed();
        self.pace.interval.checked_sub(since).filter(|pause| !pause.is_zero())
    }

    /// Commits, and tells the loops.
    fn write(&mut self, mut together: Together) {
        let begun = Instant::now();
        let result = self.commit(&together.batches);
        self.last_commit = Some(Instant::now());
        match result {
            Ok(updates) => {
                self.metrics.committed(updates, begun.elapsed());
                self.metrics.set_bytes((self.measure)());
                self.works();
                for (number, batch) in together.from {
                    self.reply(number, Outcome::Committed(batch));
                }
            }
            Err(fault) => {
                together.batches.clear();
                // Whatever it was: redb refuses everything after an error, and what it has in memory may be wrong.
                self.close();
                let reason = reason(fault);
                self.metrics.failed(&reason);
                self.fails(&reason);
                self.wait_after_failure(&mut together);
                for (number, batch) in together.from {
                    self.reply(number, Outcome::Failed(batch));
                }
            }
        }
    }

    fn commit(&mut self, batches: &[DiskBatch]) -> Result<u64, Fault> {
        self.metrics.begins();
        let (database, opener) = (&mut self.database, &mut self.opener);
        let attempt = AssertUnwindSafe(|| {
            let database = match database {
                Some(database) => database,
                None => database.insert(opener()?),
            };
            database.commit(batches).map(|written| written.updates)
        });
        catch_unwind(attempt)
            .unwrap_or_else(|_| Err(Fault::Damaged("writing to it failed".to_owned())))
    }

    fn close(&mut self) {
        let database = self.database.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }

    /// The pause is over early if the thread is to end. What other loops hand over during it fails, too: the next attempt
    /// gets newer updates.
    fn wait_after_failure(&mut self, failed: &mut Together) {
        let until = Instant::now() + self.pause;
        self.pause = (2 * self.pause).min(self.pace.retry_max);
        while !self.is_ending {
            let left = until.saturating_duration_since(Instant::now());
            match self.received.recv_timeout(left) {
                Ok(received) => self.take(failed, received),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => self.is_ending = true,
            }
            failed.batches.clear();
        }
    }

    fn reply(&self, number: usize, outcome: Outcome) {
        if let Some(reply) = self.replies.get(number) {
            reply(outcome);
        }
    }

    fn fails(&mut self, reason: &str) {
        logging::submit();
        if let Some(lasting) = self.problem.occurs(self.started.elapsed()) {
            // Not limited: at growing intervals.
            log::error!(
                target: target::STATE, event = "state_failed", reason = reason;
                "The database {} can't be written: {reason}. What clients tell is in memory only until that works \
                 again{lasting}.",
                self.name.display()
            );
        }
    }

    fn works(&mut self) {
        self.pause = self.pace.retry_initial;
        if let Some(lasted) = self.problem.is_over(self.started.elapsed()) {
            log::info!(
                target: target::STATE, event = "state_works";
                "The database {} is written again, after {} s.",
                self.name.display(),
                lasted.as_secs()
            );
        }
    }
}

/// Whether it should be committed at once: an answer waits for it, or the loop has more.
fn is_urgent(batch: &DiskBatch) -> bool {
    batch.must_sync || batch.updates >= DISK_BATCH_UPDATES || batch.lines.len() >= DISK_BATCH_BYTES
}

fn reason(fault: Fault) -> String {
    match fault {
        Fault::InUse => "another process has it".to_owned(),
        Fault::OtherServer(of) => format!("it is that of {of} now"),
        Fault::NewerFormat(format) => format!("it has format {format} now"),
        Fault::Damaged(reason) => format!("it is damaged ({reason}); restart the server"),
        Fault::Io(reason) => reason,
    }
}
