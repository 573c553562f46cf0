//! A thread for what would hold the loop up: looking names up and unpacking the gazetteer.
//!
//! One thread, started with the first job; jobs wait in its channel. There is never more than
//! one look-up a neighbour under way, and one for the Places service, so the channel is bounded by
//! the herd's shape. Results
//! come back by another channel and a wake-up; wakes merge, so whoever is woken empties it. The
//! thread is never joined: a look-up can't be cancelled, and must not delay the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::Waker;

use super::dialling::resolve;
use crate::herd::NeighbourId;
use crate::places::gazetteer::Gazetteer;

/// Work for the thread.
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
    /// The thread could not be started.
    Failed {
        job: Job,
        error: io::Error,
    },
}

/// The loop's side of the thread.
#[derive(Debug)]
pub struct Worker {
    jobs: Option<Sender<Job>>,
    results: Receiver<Done>,
    report: Sender<Done>,
    waker: Arc<Waker>,
}

impl Worker {
    pub fn new(waker: Arc<Waker>) -> Worker {
        let (report, results) = mpsc::channel();
        Worker { jobs: None, results, report, waker }
    }

    /// Gives the thread a job.
    pub fn start(&mut self, job: Job) {
        let jobs = match &self.jobs {
            Some(jobs) => jobs.clone(),
            None => match self.start_thread() {
                Ok(jobs) => jobs,
                Err(error) => return self.fail(job, error),
            },
        };
        if let Err(mpsc::SendError(job)) = jobs.send(job) {
            // The thread is gone; the next job starts another.
            self.jobs = None;
            self.fail(job, io::Error::other("the worker thread ended"));
        }
    }

    /// A result, if there is one.
    pub fn poll(&self) -> Option<Done> {
        self.results.try_recv().ok()
    }

    fn start_thread(&mut self) -> io::Result<Sender<Job>> {
        let (jobs, received) = mpsc::channel();
        let (report, waker) = (self.report.clone(), Arc::clone(&self.waker));
        thread::Builder::new().name("worker".into()).spawn(move || {
            for job in received {
                // Nobody is left to be told only when the loop has ended.
                if report.send(work(job)).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        self.jobs = Some(jobs.clone());
        Ok(jobs)
    }

    fn fail(&self, job: Job, error: io::Error) {
        // The loop holds the receiving end, so this can't fail; the wake-up ends its wait.
        let _ = self.report.send(Done::Failed { job, error });
        let _ = self.waker.wake();
    }
}

fn work(job: Job) -> Done {
    match job {
        Job::Resolve { neighbour, address } => {
            Done::Resolved { neighbour, result: resolve(address.as_str()) }
        }
        Job::ResolvePlaces { host, port } => Done::PlacesResolved(resolve((host.as_str(), port))),
        Job::UnpackGazetteer => Done::Gazetteer(Box::new(Gazetteer::unpack())),
    }
}
