//! The client's end of a connection: lines out, lines in, with limits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{LIMIT, shown};

/// What came next on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line, without its LF.
    Line(Vec<u8>),
    /// The other side closed; what it sent behind the last LF, usually nothing.
    End(Vec<u8>),
    /// A reset.
    Reset,
    /// Nothing whole within the limit.
    Silence,
}

/// What a WHATSAT brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The AT line, or the refusal.
    pub first: String,
    /// The lines up to the blank one, each with its LF; empty for a refusal.
    pub body: String,
}

impl Answer {
    pub fn is_refusal(&self) -> bool {
        self.first.starts_with("? ")
    }

    /// How many elements `results` has.
    pub fn results(&self) -> Vec<serde_json::Value> {
        let body: serde_json::Value = serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body {:?}", self.body));
        body["results"].as_array().expect("results is an array").clone()
    }

    pub fn status(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("the body is JSON");
        body["status"].as_str().expect("status is text").to_owned()
    }
}

pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects; fails the test where nobody listens.
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Client> {
        Ok(Client::of(TcpStream::connect_timeout(&address, LIMIT)?))
    }

    /// Connects from another address of this machine, such as 127.0.0.2.
    pub fn connect_from(ip: [u8; 4], address: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a descriptor");
        socket.bind(&SocketAddr::from((ip, 0)).into()).expect("an address of this machine");
        let connected = socket.connect_timeout(&address.into(), LIMIT);
        connected.unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Client::of(socket.into())
    }

    /// Takes over a connection that was accepted, say.
    pub fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(LIMIT)).expect("a write timeout");
        Client { stream, received: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if let Err(error) = self.stream.write_all(bytes) {
            let begin = &bytes[..bytes.len().min(80)];
            panic!("sending {}: {error}", shown(begin));
        }
    }

    /// For bytes that the other side may not want any more.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a line and returns the one that answers.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line()
    }

    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("half-close");
    }

    /// Closes with a reset instead of a FIN.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// The next line as bytes, or what came instead.
    pub fn next(&mut self, limit: Duration) -> Next {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.received.drain(..=end).collect();
                line.pop();
                return Next::Line(line);
            }
            match self.fill(deadline) {
                Received::Some => {}
                Received::End => return Next::End(std::mem::take(&mut self.received)),
                Received::Reset => return Next::Reset,
                Received::TimedOut => return Next::Silence,
            }
        }
    }

    /// The next line; anything else fails the test.
    pub fn line_bytes(&mut self) -> Vec<u8> {
        match self.next(LIMIT) {
            Next::Line(line) => line,
            other => {
                panic!("a line was due, this came: {other:?} after {:?}", shown(&self.received))
            }
        }
    }

    /// The next line as text.
    pub fn line(&mut self) -> String {
        String::from_utf8_lossy(&self.line_bytes()).into_owned()
    }

    /// All that comes until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.fill(deadline) {
                Received::Some => {}
                Received::End => return std::mem::take(&mut self.received),
                Received::Reset => panic!("reset after {}", shown(&self.received)),
                Received::TimedOut => {
                    panic!("not closed within {LIMIT:?}, after {}", shown(&self.received))
                }
            }
        }
    }

    /// The other side closes now, and sends nothing before.
    pub fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "an end was due, before it came {}", shown(&rest));
    }

    /// Closed by the other side within the limit, whether with FIN or a reset; what came before does not count.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            match self.fill(deadline) {
                Received::Some => self.received.clear(),
                Received::End | Received::Reset => return true,
                Received::TimedOut => return false,
            }
        }
    }

    /// Nothing more comes for this long, not even an end.
    pub fn expect_silence(&mut self, time: Duration) {
        let next = self.next(time);
        assert_eq!(next, Next::Silence, "nothing was due");
        assert!(self.received.is_empty(), "nothing was due, not even {}", shown(&self.received));
    }

    /// Asks WHATSAT and reads the answer up to its blank line.
    pub fn whatsat(&mut self, id: &str, radius: &str, bound: &str) -> Answer {
        self.send(format!("WHATSAT {id} {radius} {bound}\n"));
        self.answer()
    }

    /// Reads the answer to a WHATSAT.
    pub fn answer(&mut self) -> Answer {
        let first = self.line();
        let mut body = String::new();
        if !first.starts_with("? ") {
            loop {
                let line = self.line();
                if line.is_empty() {
                    break;
                }
                body += &line;
                body.push('\n');
            }
        }
        Answer { first, body }
    }

    fn fill(&mut self, deadline: Instant) -> Received {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).expect("a read timeout");
        let mut bytes = [0; 65_536];
        match self.stream.read(&mut bytes) {
            Ok(0) => Received::End,
            Ok(count) => {
                self.received.extend_from_slice(&bytes[..count]);
                Received::Some
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut if Instant::now() >= deadline => {
                    Received::TimedOut
                }
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                    Received::Some
                }
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Received::Reset,
                _ => panic!("reading: {error}"),
            },
        }
    }
}

enum Received {
    Some,
    End,
    Reset,
    TimedOut,
}
