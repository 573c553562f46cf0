//! Many clients on one thread, each of which sends a line, waits for its answer, and later sends the next one.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::LIMIT;

/// The clients.
pub struct Talkers {
    poll: Poll,
    events: Events,
    pub all: Vec<Talker>,
}

/// One of them.
pub struct Talker {
    /// None once it has ended: then this side is closed, too.
    stream: Option<TcpStream>,
    id: String,
    /// How long it is silent after an answer; for ever with None.
    pub pause: Option<Duration>,
    next_at: Instant,
    /// Lines that it has sent, and those that were answered.
    pub sent: u64,
    pub answered: u64,
    received: Vec<u8>,
    pub end: Option<TheEnd>,
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TheEnd {
    Fin,
    Reset,
}

impl Talkers {
    /// Connects so many clients. Each has sent one line, and has its answer.
    pub fn connect(
        count: usize,
        address: SocketAddr,
        pause: impl Fn(usize) -> Option<Duration>,
    ) -> Talkers {
        let poll = Poll::new().expect("a poll");
        let all = (0..count).map(|number| {
            let stream = std::net::TcpStream::connect_timeout(&address, LIMIT);
            let stream = stream.unwrap_or_else(|error| panic!("client {number}: {error}"));
            stream.set_nodelay(true).expect("TCP_NODELAY");
            stream.set_nonblocking(true).expect("it does not block");
            let mut stream = TcpStream::from_std(stream);
            let registry = poll.registry();
            registry.register(&mut stream, Token(number), Interest::READABLE).expect("it is new");
            Talker {
                stream: Some(stream),
                id: format!("talker{number}"),
                pause: pause(number),
                next_at: Instant::now(),
                sent: 0,
                answered: 0,
                received: Vec::new(),
                end: None,
            }
        });
        let mut talkers =
            Talkers { all: all.collect(), events: Events::with_capacity(1_024), poll };
        talkers.all.iter_mut().for_each(Talker::send);
        talkers.run("each has its first answer", |talkers| {
            talkers.all.iter().all(|one| one.answered > 0)
        });
        talkers
    }

    /// Lets them talk until the condition holds.
    pub fn run(&mut self, what: &str, mut is_over: impl FnMut(&Talkers) -> bool) {
        let begin = Instant::now();
        while !is_over(self) {
            assert!(begin.elapsed() < 2 * LIMIT, "still not so: {what}");
            self.poll.poll(&mut self.events, Some(Duration::from_millis(1))).expect("a poll");
            for event in &self.events {
                self.all[event.token().0].receive();
            }
            let now = Instant::now();
            for talker in self.all.iter_mut().filter(|one| one.is_due(now)) {
                talker.receive(); // What comes after an end that has arrived was not sent before it.
                talker.send();
            }
        }
    }

    /// Lets them talk for a time.
    pub fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.run("the time has passed", |_| Instant::now() >= end);
    }

    /// How many connections have ended.
    pub fn ended(&self) -> usize {
        self.all.iter().filter(|one| one.end.is_some()).count()
    }

    /// Lines without an answer.
    pub fn unanswered(&self) -> u64 {
        self.all.iter().map(|one| one.sent - one.answered).sum()
    }
}

impl Talker {
    fn is_due(&self, now: Instant) -> bool {
        self.end.is_none()
            && self.sent == self.answered
            && self.pause.is_some()
            && self.next_at <= now
    }

    /// The text that its line number `number` tells.
    pub fn told(&self, number: u64) -> String {
        format!("{} +1.0+2.0 {number}", self.id)
    }

    fn send(&mut self) {
        let line = format!("IAMAT {}\n", self.told(self.sent + 1));
        let Some(stream) = &mut self.stream else {
            return;
        };
        match stream.write(line.as_bytes()) {
            Ok(count) => assert_eq!(count, line.len(), "its buffer is empty"),
            // It has ended, and the event is still to come: then the line was not sent.
            Err(error) if is_the_end(error.kind()) => return,
            Err(error) => panic!("{}: {error}", self.id),
        }
        self.sent += 1;
    }

    fn ends(&mut self, end: TheEnd) {
        (self.stream, self.end) = (None, Some(end));
    }

    fn receive(&mut self) {
        let mut bytes = [0; 4_096];
        while let Some(stream) = &mut self.stream {
            match stream.read(&mut bytes) {
                Ok(0) => self.ends(TheEnd::Fin),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_the_end(error.kind()) => self.ends(TheEnd::Reset),
                Err(error) => panic!("{}: {error}", self.id),
            }
        }
        while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            self.answered += 1;
            let due = format!("AT AT {}\n", self.told(self.answered));
            assert_eq!(String::from_utf8_lossy(&line), due);
            self.next_at = Instant::now() + self.pause.unwrap_or_default();
        }
        if self.end.is_some() {
            assert!(self.received.is_empty(), "a line is whole: {:?}", self.received);
        }
    }
}

fn is_the_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
