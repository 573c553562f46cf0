//! Messages from other threads, and threads for work that would block the loop: one channel, one wake-up.
//! Wake-ups merge, so the woken loop empties the channel.
//!
//! ```text
//!    Mailbox::send, another loop ----+
//!                                    v
//!    jobs      [ ][ ] ... 16 -----> channel + wake-up ---> Inbox::poll, in step 6
//!    look-ups  [ ][ ] ... 64 --------^
//! ```
//!
//! Each job and each look-up has a thread of its own, so none waits for another: a name whose server is
//! silent blocks `getaddrinfo` for half a minute, but delays no other name. The number of threads is bounded,
//! separately for jobs and look-ups, so names that hang do not delay jobs; when all threads are busy, further
//! work waits in a queue. No thread is ever joined: a look-up can't be cancelled, and must not delay the end.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::Waker;
use mio::net::UnixStream;

use super::acceptor::Sources;
use super::reconfigure::Change;
use crate::application::{Job, LoopId};

/// What the loop receives from the channel.
pub(super) enum Incoming<M> {
    Message(M),
    /// The result of a look-up.
    LookedUp {
        name: String,
        result: io::Result<Vec<SocketAddr>>,
    },
    /// The other end of a connection to another loop.
    Pair {
        from: LoopId,
        stream: UnixStream,
    },
    /// What is to change, and what makes a message of the result.
    Reconfigure(Box<Change>, Answer<M>),
    Drain,
    Stop,
}

/// Makes a message of a result.
type Answer<M> = Box<dyn FnOnce(io::Result<()>) -> M + Send>;

/// The same, and what only the inbox handles.
enum Sent<M> {
    Incoming(Incoming<M>),
    /// A job has ended. Its message is missing only if the closure that makes the message of a failure
    /// panicked.
    Done(Option<M>),
}

/// A handle with which any thread sends to a loop. It may outlive the loop.
pub struct Mailbox<M> {
    sender: Sender<Sent<M>>,
    waker: Arc<Waker>,
    sources: Arc<Sources>,
}

/// Sends one end of a pair of sockets to another loop.
pub(super) type ToLoop = Box<dyn Fn(LoopId, UnixStream) -> io::Result<()> + Send>;

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Mailbox {
            sender: self.sender.clone(),
            waker: Arc::clone(&self.waker),
            sources: Arc::clone(&self.sources),
        }
    }
}

impl<M> Mailbox<M> {
    /// The loop calls [`handle_message`](crate::application::Application::handle_message) with it. An error
    /// means that the loop has ended.
    pub fn send(&self, message: M) -> io::Result<()> {
        self.enqueue(Sent::Incoming(Incoming::Message(message)))
    }

    /// Stops the loop gracefully, as a signal would. An error means that it has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.enqueue(Sent::Incoming(Incoming::Stop))
    }

    /// Lets the loop drain and then stop. An error means that it has ended.
    pub fn drain(&self) -> io::Result<()> {
        self.enqueue(Sent::Incoming(Incoming::Drain))
    }

    /// Changes the loop: all of it in one step, between two turns, or nothing if a part fails. `done` runs on
    /// the loop's thread and makes a message of the result, with which the loop calls
    /// [`handle_message`](crate::application::Application::handle_message) in the same step. A loop that
    /// stops refuses every change, and one that drains all but [`Change::client_tls`] alone. An error here means
    /// that the loop has ended; then, and if it ends before the change's turn comes, there is no message.
    pub fn reconfigure(
        &self,
        change: Change,
        done: impl FnOnce(io::Result<()>) -> M + Send + 'static,
    ) -> io::Result<()> {
        let change = Incoming::Reconfigure(Box::new(change), Box::new(done));
        self.enqueue(Sent::Incoming(change))
    }

    /// Where the loop's listeners are registered.
    pub(super) fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    fn enqueue(&self, sent: Sent<M>) -> io::Result<()> {
        self.sender.send(sent).map_err(|_| io::Error::other("that loop has ended"))?;
        self.waker.wake()
    }
}

impl<M: Send + 'static> Mailbox<M> {
    /// For [`Dialer::know`](super::dialer::Dialer::know).
    pub(super) fn for_pairs(self) -> ToLoop {
        Box::new(move |from, stream| self.enqueue(Sent::Incoming(Incoming::Pair { from, stream })))
    }
}

/// The loop's side.
pub(super) struct Inbox<M> {
    received: Receiver<Sent<M>>,
    mailbox: Mailbox<M>,
    jobs: Threads<Job<M>>,
    look_ups: Threads<String>,
}

impl<M: Send + 'static> Inbox<M> {
    pub fn new(waker: Arc<Waker>, sources: Arc<Sources>) -> Inbox<M> {
        let (sender, received) = mpsc::channel();
        let mailbox = Mailbox { sender, waker, sources };
        let (jobs, look_ups) = (Threads::new(MAX_JOBS), Threads::new(MAX_LOOK_UPS));
        Inbox { received, mailbox, jobs, look_ups }
    }

    /// Starts no look-ups from now on, so that a test answers them; returns how many wait.
    #[cfg(test)]
    pub fn hold_look_ups(&mut self) -> usize {
        self.look_ups.at_once = 0;
        self.look_ups.waiting.len()
    }

    pub fn mailbox(&self) -> Mailbox<M> {
        self.mailbox.clone()
    }

    /// The next thing received, if there is one.
    pub fn poll(&mut self) -> Option<Incoming<M>> {
        loop {
            match self.received.try_recv().ok()? {
                Sent::Done(message) => {
                    self.jobs.busy -= 1;
                    self.start_jobs();
                    if let Some(message) = message {
                        return Some(Incoming::Message(message));
                    }
                }
                Sent::Incoming(looked_up @ Incoming::LookedUp { .. }) => {
                    self.look_ups.busy -= 1;
                    self.start_look_ups();
                    return Some(looked_up);
                }
                Sent::Incoming(other) => return Some(other),
            }
        }
    }

    /// Runs a job on a thread, or queues it until one is free.
    pub fn run(&mut self, job: Job<M>) {
        self.jobs.waiting.push_back(job);
        self.start_jobs();
    }

    /// Looks a `host:port` up on a thread, or queues it until one is free. The caller has at most one look-up
    /// per name in progress.
    pub fn look_up(&mut self, name: String) {
        self.look_ups.waiting.push_back(name);
        self.start_look_ups();
    }

    fn start_jobs(&mut self) {
        while let Some(Job { name, run, failed }) = self.jobs.next() {
            self.start(Task {
                name,
                run: Box::new(move || Sent::Done(Some(run()))),
                failed: Box::new(move |reason| {
                    Sent::Done(catch_unwind(AssertUnwindSafe(|| failed(reason))).ok())
                }),
            });
        }
    }

    fn start_look_ups(&mut self) {
        while let Some(name) = self.look_ups.next() {
            let failed = name.clone();
            self.start(Task {
                name: "look-up",
                run: Box::new(move || {
                    let result = name.to_socket_addrs().map(Iterator::collect);
                    Sent::Incoming(Incoming::LookedUp { name, result })
                }),
                failed: Box::new(move |reason| {
                    let result = Err(io::Error::other(reason));
                    Sent::Incoming(Incoming::LookedUp { name: failed, result })
                }),
            });
        }
    }

    fn start(&self, task: Task<M>) {
        let name = task.name;
        let task = Reported { task: Some(task), mailbox: self.mailbox() };
        // If no thread can be started, the task is dropped, which reports it.
        let _ = thread::Builder::new().name(name.into()).spawn(move || task.run());
    }
}

/// Work of one kind, and how much of it is running.
struct Threads<T> {
    /// Waits until a thread ends.
    waiting: VecDeque<T>,
    busy: usize,
    at_once: usize,
}

impl<T> Threads<T> {
    fn new(at_once: usize) -> Threads<T> {
        Threads { waiting: VecDeque::new(), busy: 0, at_once }
    }

    /// The next task to start a thread for; its thread counts as busy from now on.
    fn next(&mut self) -> Option<T> {
        let next = if self.busy < self.at_once { self.waiting.pop_front() } else { None };
        self.busy += usize::from(next.is_some());
        next
    }
}

struct Task<M> {
    name: &'static str,
    run: Box<dyn FnOnce() -> Sent<M> + Send>,
    failed: Box<dyn FnOnce(String) -> Sent<M> + Send>,
}

/// A task that reports a result in every case, before its thread starts and on it: otherwise it would count
/// as busy indefinitely, and its receiver would wait indefinitely.
struct Reported<M> {
    task: Option<Task<M>>,
    mailbox: Mailbox<M>,
}

impl<M> Reported<M> {
    fn run(mut self) {
        if let Some(Task { run, failed, .. }) = self.task.take() {
            let done = catch_unwind(AssertUnwindSafe(run));
            self.report(done.unwrap_or_else(|panic| failed(words_of(panic.as_ref()))));
        }
    }

    fn report(&self, sent: Sent<M>) {
        let _ = self.mailbox.enqueue(sent); // The loop may have ended.
    }
}

impl<M> Drop for Reported<M> {
    fn drop(&mut self) {
        if let Some(Task { failed, .. }) = self.task.take() {
            self.report(failed("no thread can be started for it".to_owned()));
        }
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    match text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)) {
        Some(text) => format!("its thread panicked: {text}"),
        None => "its thread panicked".to_owned(),
    }
}

/// How many jobs run at once.
const MAX_JOBS: usize = 16;
/// How many look-ups run at once. One for a name whose server is silent takes up to half a minute, and there
/// is at most one per name: enough that names which hang at the same time leave a thread for another one.
const MAX_LOOK_UPS: usize = 64;

#[cfg(test)]
mod tests;
