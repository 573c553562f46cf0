//! A server on its loop, in a thread, with a disk that commits when the test says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use herd_mio::config::Config;
use herd_mio::event_loop::{self, EventLoop, Limits, Listen, Mailbox, Stopped};
use herd_mio::herd::{AnswerAfter, DiskBatch};
use herd_mio::server::metrics::Paused;
use herd_mio::server::{CLIENTS, Message, Server, ServerMetrics, ServerSetup, StateMessage};

use crate::common::{Client, LIMIT, wait_until};

pub struct World {
    pub address: SocketAddr,
    pub metrics: Arc<ServerMetrics>,
    pub mailbox: Mailbox<Message>,
    batches: Receiver<DiskBatch>,
    thread: Option<JoinHandle<Stopped<Server>>>,
}

/// What a test may change before the server starts.
pub struct Plan {
    pub config: Config,
    pub limits: Limits,
    pub listen: Listen,
    pub answer_after: AnswerAfter,
}

const ONE_SERVER: &str = "[places]\nprovider = \"offline\"\n\
                          [[server]]\nname = \"A\"\nlisten = \"127.0.0.1:0\"\npeer_listen = \"127.0.0.1:0\"\n";

impl World {
    pub fn new() -> World {
        World::of(|_| {})
    }

    /// `change` gets a server that answers after its disk.
    pub fn of(change: impl FnOnce(&mut Plan)) -> World {
        let mut plan = Plan {
            config: Config::parse(ONE_SERVER).expect("a configuration"),
            limits: Limits { grace: LIMIT, ..Limits::default() },
            listen: Listen::on(CLIENTS, ([127, 0, 0, 1], 0).into()),
            answer_after: AnswerAfter { disk: true, engine: false },
        };
        change(&mut plan);
        let setup = ServerSetup::plain(&plan.config, event_loop::now(Instant::now()));
        let mut new = EventLoop::new(Server::new(setup), plan.limits).expect("a loop");
        let (send, batches) = channel();
        let port = Box::new(move |batch| drop(send.send(batch))); // The test may have ended.
        new.application().attach_disk(port, plan.answer_after);
        let (mailbox, metrics) = (new.mailbox(), new.application().metrics());
        let address = new.listen(plan.listen).expect("a port");
        let thread = std::thread::spawn(move || new.run().expect("the loop runs"));
        World { address, metrics, mailbox, batches, thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The batch that the disk has been handed, or is handed next.
    pub fn batch(&self) -> DiskBatch {
        self.batches.recv_timeout(LIMIT).expect("a batch")
    }

    /// The disk is handed nothing: it has everything, or has not said what became of the last batch.
    pub fn expect_no_batch(&self) {
        assert!(self.batches.try_recv().is_err(), "a batch");
    }

    pub fn say(&self, message: StateMessage) {
        self.mailbox.send(Message::State(message)).expect("it runs");
    }

    /// The disk commits the next batch.
    pub fn commit(&self) -> DiskBatch {
        let batch = self.batch();
        self.say(StateMessage::Committed(batch.number));
        batch
    }

    /// The disk commits whatever comes, until so many answers are held back.
    pub fn commit_until(&self, held: u64) {
        wait_until(LIMIT, &format!("{held} answers are held back"), || {
            if let Ok(batch) = self.batches.try_recv() {
                self.say(StateMessage::Committed(batch.number));
            }
            self.held() == held
        });
    }

    /// How many answers are held back.
    pub fn held(&self) -> u64 {
        self.metrics.held_answers.get()
    }

    pub fn wait_until_held(&self, count: u64) {
        wait_until(LIMIT, &format!("{count} answers are held back"), || self.held() == count);
    }

    pub fn paused(&self, reason: Paused) -> u64 {
        self.metrics.paused[reason as usize].get()
    }

    pub fn stop(&self) {
        self.mailbox.stop().expect("it runs");
    }

    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The loop ends by itself.
    pub fn end(mut self) -> Stopped<Server> {
        wait_until(LIMIT, "the loop has ended", || !self.is_running());
        self.thread.take().expect("it was not joined").join().expect("it does not panic")
    }
}

/// The lines of a batch, as text.
pub fn lines(batch: &DiskBatch) -> Vec<String> {
    let text = String::from_utf8(batch.lines.clone()).expect("text");
    text.lines().map(str::to_owned).collect()
}

/// A short time in which nothing must come.
pub const QUIET: Duration = Duration::from_millis(50);
