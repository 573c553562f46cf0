//! An HTTP client as bytes: requests are sent as they are written, and responses are read by their length.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{LIMIT, shown};

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in their order.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// One connection.
pub struct Http {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", shown(&self.body)))
    }
}

impl Http {
    pub fn connect(address: SocketAddr) -> Http {
        let stream = TcpStream::connect_timeout(&address, LIMIT)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a read timeout");
        stream.set_write_timeout(Some(LIMIT)).expect("a write timeout");
        Http { stream, received: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("it is sent");
    }

    /// A GET of this target, and the response.
    pub fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.response().unwrap_or_else(|| panic!("no response to {target}"))
    }

    /// The next response to a GET; none if the connection ends first.
    pub fn response(&mut self) -> Option<Response> {
        self.response_to("GET")
    }

    /// The status of a GET of `/livez`, or of what comes without one; none at the end.
    pub fn response_or_silence(&mut self) -> Option<u16> {
        let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let _ = self.stream.write_all(request.as_bytes());
        self.response().map(|response| response.status)
    }

    /// The next response; one to a HEAD has no body.
    pub fn response_to(&mut self, method: &str) -> Option<Response> {
        let head_end = loop {
            match self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.read_more() => {}
                None => {
                    assert!(self.received.is_empty(), "half a head: {}", shown(&self.received));
                    return None;
                }
            }
        };
        let head = String::from_utf8_lossy(&self.received[..head_end]).into_owned();
        self.received.drain(..head_end);
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().expect("a status line");
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a field");
            (name.to_ascii_lowercase(), value.to_owned())
        });
        let mut response = Response {
            status: status.unwrap_or_else(|| panic!("{first:?}")),
            fields: fields.collect(),
            body: Vec::new(),
        };
        let length = response.field("content-length").expect("a length").parse().expect("a number");
        if method != "HEAD" {
            while self.received.len() < length {
                assert!(self.read_more(), "the body ends early: {}", shown(&self.received));
            }
            response.body = self.received.drain(..length).collect();
        }
        Some(response)
    }

    /// Whether the other side ends the connection without a further byte.
    pub fn ends(&mut self) -> bool {
        !self.read_more() && self.received.is_empty()
    }

    /// Whether nothing has come so far.
    pub fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.peek(&mut byte), Err(error) if is_nothing(error.kind()))
    }

    /// False at the end of the connection.
    fn read_more(&mut self) -> bool {
        let begin = Instant::now();
        let mut bytes = [0; 65_536];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.received.extend_from_slice(&bytes[..count]);
                    return count > 0;
                }
                Err(error) if is_nothing(error.kind()) => {
                    assert!(begin.elapsed() < LIMIT, "nothing comes");
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn is_nothing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// A GET on a connection of its own.
pub fn get(address: SocketAddr, target: &str) -> Response {
    Http::connect(address).get(target)
}
