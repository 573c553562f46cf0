//! Threads for what would hold the loop up: looking names up and unpacking the gazetteer.
//!
//! Each job has a thread of its own, so none waits for another: a name whose server is silent holds up
//! `getaddrinfo` for half a minute, and only itself. Threads are bounded; when all are busy, further jobs
//! wait in a queue. There is never more than one look-up a neighbour under way, and one for the Places
//! service, so the queue is bounded by the herd's shape.
//!
//! Results come back by a channel and a wake-up; wakes merge, so whoever is woken empties it. No thread
//! is ever joined: a look-up can't be cancelled, and must not delay the end.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::Waker;

use super::dialling::resolve;
use crate::herd::NeighbourId;
use crate::places::gazetteer::Gazetteer;

/// Work for a thread.
#[derive(Debug)]
pub enum Job {
    Resolve { neighbour: NeighbourId, address: String },
    ResolvePlaces { host: String, port: u16 },
    UnpackGazetteer,
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    Resolved {
        neighbour: NeighbourId,
        result: io::Result<Vec<SocketAddr>>,
    },
    PlacesResolved(io::Result<Vec<SocketAddr>>),
    Gazetteer(Box<Gazetteer>),
    /// The thread could not be started, or panicked.
    Failed {
        job: Job,
        error: io::Error,
    },
}

/// The loop's side of the threads.
#[derive(Debug)]
pub struct Worker {
    /// Jobs that wait for a thread to end.
    waiting: VecDeque<Job>,
    busy: usize,
    /// Threads at once.
    threads: usize,
    results: Receiver<Done>,
    report: Sender<Done>,
    waker: Arc<Waker>,
}

impl Worker {
    pub fn new(threads: usize, waker: Arc<Waker>) -> Worker {
        let (report, results) = mpsc::channel();
        Worker { waiting: VecDeque::new(), busy: 0, threads, results, report, waker }
    }

    /// Gives a job to a thread, or puts it behind those that wait for one.
    pub fn start(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.start_waiting();
    }

    /// A result, if there is one. Its thread has ended, so the next job begins.
    pub fn poll(&mut self) -> Option<Done> {
        let done = self.results.try_recv().ok()?;
        self.busy -= 1;
        self.start_waiting();
        Some(done)
    }

    /// Does what a thread does that has ended, so that a test decides when.
    #[cfg(test)]
    pub(super) fn report_done(&mut self, done: Done) {
        self.busy += 1;
        self.report.send(done).expect("the loop's end is there");
        self.waker.wake().expect("a wake-up");
    }

    fn start_waiting(&mut self) {
        while self.busy < self.threads
            && let Some(job) = self.waiting.pop_front()
        {
            self.busy += 1;
            let name = job.name();
            let task =
                Task { job: Some(job), report: self.report.clone(), waker: self.waker.clone() };
            // Where no thread can be started, the task is dropped, and says so.
            _ = thread::Builder::new().name(name.into()).spawn(move || task.run());
        }
    }
}

impl Job {
    fn name(&self) -> &'static str {
        match self {
            Job::Resolve { .. } | Job::ResolvePlaces { .. } => "look-up",
            Job::UnpackGazetteer => "gazetteer",
        }
    }

    fn run(&self) -> Done {
        match self {
            Job::Resolve { neighbour, address } => {
                Done::Resolved { neighbour: *neighbour, result: resolve(address.as_str()) }
            }
            Job::ResolvePlaces { host, port } => {
                Done::PlacesResolved(resolve((host.as_str(), *port)))
            }
            Job::UnpackGazetteer => Done::Gazetteer(Box::new(Gazetteer::unpack())),
        }
    }
}

/// A job on its way, which reports in any case: a job of which nothing was heard would count as busy for
/// ever, and whoever waits for it would wait for ever.
struct Task {
    job: Option<Job>,
    report: Sender<Done>,
    waker: Arc<Waker>,
}

impl Task {
    fn run(mut self) {
        if let Some(job) = &self.job {
            let done = job.run();
            self.job = None;
            self.tell(done);
        }
    }

    fn tell(&self, done: Done) {
        // Nobody is left to be told only when the loop has ended.
        let _ = self.report.send(done);
        let _ = self.waker.wake();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            let reason = match thread::panicking() {
                true => "its thread panicked",
                false => "no thread can be started for it",
            };
            self.tell(Done::Failed { job, error: io::Error::other(reason) });
        }
    }
}
