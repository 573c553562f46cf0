//! The load: many connections on one thread, each request timed and each answer compared with
//! what the protocol demands, byte for byte. What is said on a connection is the caller's choice.
//!
//! Two loops. The *closed* one keeps so many requests outstanding on each connection and sends
//! the next when one is answered: it finds out how much a server can do. The *open* one sends at
//! a given rate whatever comes back, and counts a request's time from when it was due, not from
//! when it could be sent: a server that stalls for 100 ms is charged for every request that was
//! due in that time. (To leave them out is called coordinated omission.)

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::Failure;

/// Connections to one server, with requests on their way.
pub struct Load {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    start: Instant,
    latency: Histogram<u64>,
    answered: u64,
    outstanding: u64,
}

struct Connection {
    stream: TcpStream,
    request: Request,
    /// Requests that the kernel has not taken yet.
    unsent: Vec<u8>,
    /// The answers that must come, one behind the other; `checked` bytes of them have.
    expected: Vec<u8>,
    checked: usize,
    /// Since when how many requests wait, in nanoseconds since the start.
    waiting: VecDeque<(u64, u32)>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub requests: u64,
    pub elapsed: Duration,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
}

impl Load {
    /// Opens `count` connections, each of which tells where a client is.
    pub fn connect(server: SocketAddr, count: usize) -> Result<Load, Failure> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Load::saying(server, (0..count).map(|index| Request::iamat(index, since)).collect())
    }

    /// Opens a connection for each request, and says it there again and again.
    pub fn saying(server: SocketAddr, requests: Vec<Request>) -> Result<Load, Failure> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            let mut stream = TcpStream::from_std(connect(server, index)?);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), both)?;
            connections.push(Connection {
                stream,
                request,
                unsent: Vec::new(),
                expected: Vec::new(),
                checked: 0,
                waiting: VecDeque::new(),
            });
        }
        Ok(Load {
            poll,
            events: Events::with_capacity(1_024),
            connections,
            scratch: vec![0; 64 * 1024],
            start: Instant::now(),
            latency: histogram(),
            answered: 0,
            outstanding: 0,
        })
    }

    /// From now on each request is of another client than the thousand before on its connection, as if
    /// the connections were those of proxies.
    pub fn mix_clients(&mut self) {
        self.connections.iter_mut().for_each(|connection| connection.request.is_mixed = true);
    }

    /// The closed loop, for so long: each connection keeps `depth` requests outstanding.
    pub fn closed(&mut self, depth: u32, time: Duration) -> Result<Seen, Failure> {
        let begin = self.begin();
        for index in 0..self.connections.len() {
            let missing = depth - self.connections[index].outstanding();
            self.send(index, begin, missing)?;
        }
        let end = begin + time.as_nanos() as u64;
        loop {
            self.poll.poll(&mut self.events, Some(Duration::from_secs(10)))?;
            let tokens: Vec<Token> = self.events.iter().map(|event| event.token()).collect();
            if tokens.is_empty() {
                return Err("no answer for ten seconds".into());
            }
            for Token(index) in tokens {
                let (answered, now) = self.receive(index)?;
                if answered > 0 {
                    self.send(index, now, answered)?;
                }
            }
            if self.now() >= end {
                return Ok(self.seen(begin));
            }
        }
    }

    /// The open loop, for so long: `rate` requests/s, the connections taking turns.
    pub fn open(&mut self, rate: u32, time: Duration) -> Result<Seen, Failure> {
        let begin = self.begin();
        let interval = 1_000_000_000 / u64::from(rate);
        let all = time.as_nanos() as u64 / interval;
        let mut sent = 0;
        while sent < all {
            let now = self.now();
            while sent < all && begin + sent * interval <= now {
                let index = sent as usize % self.connections.len();
                self.send(index, begin + sent * interval, 1)?;
                sent += 1;
            }
            // Waits are rounded to milliseconds, and requests are due more often: look, don't wait.
            self.receive_all(Duration::ZERO)?;
        }
        self.drain()?;
        Ok(self.seen(begin))
    }

    /// Waits until every request is answered.
    pub fn drain(&mut self) -> Result<(), Failure> {
        let deadline = self.now() + 10_000_000_000;
        while self.outstanding > 0 {
            self.receive_all(Duration::from_millis(100))?;
            if self.now() > deadline {
                return Err(format!("{} requests were never answered", self.outstanding).into());
            }
        }
        Ok(())
    }

    fn receive_all(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.poll.poll(&mut self.events, Some(timeout))?;
        let tokens: Vec<Token> = self.events.iter().map(|event| event.token()).collect();
        for Token(index) in tokens {
            self.receive(index)?;
            self.connections[index].flush()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> u64 {
        self.latency.reset();
        self.answered = 0;
        self.now()
    }

    fn seen(&self, begin: u64) -> Seen {
        Seen {
            requests: self.answered,
            elapsed: Duration::from_nanos(self.now() - begin),
            latency: self.latency.clone(),
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Sends so many requests on a connection; their time counts from `since`.
    fn send(&mut self, index: usize, since: u64, count: u32) -> Result<(), Failure> {
        self.outstanding += u64::from(count);
        let connection = &mut self.connections[index];
        connection.append(since, count);
        connection.flush()
    }

    /// Reads what is there and compares it. Returns how many requests it answers, and the time.
    fn receive(&mut self, index: usize) -> Result<(u32, u64), Failure> {
        let connection = &mut self.connections[index];
        let mut answers = 0;
        loop {
            let count = match connection.stream.read(&mut self.scratch) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            answers += connection.check(&self.scratch[..count])?;
            if count < self.scratch.len() {
                break;
            }
        }
        let now = self.start.elapsed().as_nanos() as u64;
        connection.note(answers, now, &mut self.latency);
        self.answered += u64::from(answers);
        self.outstanding -= u64::from(answers);
        Ok((answers, now))
    }
}

impl Connection {
    fn outstanding(&self) -> u32 {
        self.waiting.iter().map(|(_, count)| count).sum()
    }

    fn append(&mut self, since: u64, count: u32) {
        for _ in 0..count {
            self.request.advance();
            self.unsent.extend_from_slice(&self.request.line);
            self.request.expect(&mut self.expected);
        }
        if count > 0 {
            self.waiting.push_back((since, count));
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) if count == self.unsent.len() => self.unsent.clear(),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Compares what came with what must come. Returns how many answers are complete by it.
    fn check(&mut self, came: &[u8]) -> Result<u32, Failure> {
        let due = &self.expected[self.checked..];
        if due.get(..came.len()) != Some(came) {
            let text =
                |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
            return Err(format!("expected {:?}, got {:?}", text(due), text(came)).into());
        }
        let length = self.request.answer_length();
        let before = self.checked / length;
        self.checked += came.len();
        let answers = self.checked / length - before;
        if self.checked == self.expected.len() || self.checked > 64 * 1024 {
            let done = self.checked - self.checked % length;
            self.expected.drain(..done);
            self.checked -= done;
        }
        Ok(answers as u32)
    }

    /// Notes the time of the oldest `answers` requests.
    fn note(&mut self, mut answers: u32, now: u64, latency: &mut Histogram<u64>) {
        while answers > 0 {
            let Some((since, count)) = self.waiting.front_mut() else { return };
            let done = answers.min(*count);
            latency.saturating_record_n(now - *since, u64::from(done));
            answers -= done;
            *count -= done;
            if *count == 0 {
                self.waiting.pop_front();
            }
        }
    }
}

/// What is sent again and again, its length always the same.
pub struct Request {
    line: Vec<u8>,
    /// The digits in it that count up.
    counted: Range<usize>,
    /// What must come back each time; if nothing is said, `AT AT ` and the fields of the line.
    answer: Option<Vec<u8>>,
    /// Whether the client's number changes, too.
    is_mixed: bool,
}

impl Request {
    /// An IAMAT, each with a newer timestamp.
    fn iamat(index: usize, seconds: u64) -> Request {
        let line = format!(
            "IAMAT client-{index:05}.cs.ucla.edu +34.068930-118.445127 {seconds}.000000000\n"
        );
        let end = line.len() - 1;
        Request { line: line.into_bytes(), counted: end - 9..end, answer: None, is_mixed: false }
    }

    /// Bytes in which the digits of a range count up, and which are always answered alike.
    #[allow(dead_code, reason = "another bench has no use for it")]
    pub fn counting(line: Vec<u8>, counted: Range<usize>, answer: Vec<u8>) -> Request {
        Request { line, counted, answer: Some(answer), is_mixed: false }
    }

    fn advance(&mut self) {
        count_up(&mut self.line[self.counted.clone()]);
        if self.is_mixed {
            // The connection's number is below 100 and stays; what is before it counts.
            let number = b"IAMAT client-".len();
            count_up(&mut self.line[number..number + 3]);
        }
    }

    /// Appends what must come back.
    fn expect(&self, due: &mut Vec<u8>) {
        match &self.answer {
            Some(answer) => due.extend_from_slice(answer),
            None => {
                due.extend_from_slice(b"AT AT ");
                due.extend_from_slice(&self.line[b"IAMAT ".len()..]);
            }
        }
    }

    fn answer_length(&self) -> usize {
        // The answer in the report's dialect is as long as the request.
        self.answer.as_ref().map_or(self.line.len(), Vec::len)
    }
}

/// The next number of as many digits.
fn count_up(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            break;
        }
        *digit = b'0';
    }
}

/// A connection, from one of several addresses: a single one has only some 28,000 ports.
pub fn connect(server: SocketAddr, index: usize) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = Ipv4Addr::new(127, 0, 0, 1 + (index / PORTS_PER_ADDRESS) as u8);
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&server.into())?;
    socket.set_tcp_nodelay(true)?;
    // Closing resets: so many connections would else keep their ports for a minute.
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

const PORTS_PER_ADDRESS: usize = 5_000;
