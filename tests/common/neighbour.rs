//! Neighbours that the test plays itself, on either side of a link.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::{Client, LIMIT, Next, ServerProcess};

/// A neighbour that a server dials: the accepting side of its link.
pub struct FakeNeighbour {
    pub name: String,
    listener: TcpListener,
}

impl FakeNeighbour {
    pub fn listen(name: &str, at: SocketAddr) -> FakeNeighbour {
        let listener =
            TcpListener::bind(at).unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
        listener.set_nonblocking(true).expect("non-blocking");
        FakeNeighbour { name: name.to_owned(), listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it listens")
    }

    /// Waits for the server's connection.
    pub fn accept(&self) -> Client {
        self.accept_within(LIMIT).unwrap_or_else(|| panic!("nobody dials {}", self.name))
    }

    pub fn accept_within(&self, limit: Duration) -> Option<Client> {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).expect("blocking");
                    return Some(Client::of(stream));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        None
    }

    /// Waits for the connection and its HELLO, which must have the protocol's form.
    pub fn greet(&self) -> Link {
        let mut client = self.accept();
        let hello = client.line();
        let fields: Vec<&str> = hello.split(' ').collect();
        let [word, version, from, epoch] = fields[..] else {
            panic!("HELLO has four fields: {hello:?}")
        };
        assert_eq!((word, version), ("HELLO", "herd/1"), "in {hello:?}");
        assert!(is_epoch(epoch), "sixteen lower case hexadecimal digits: {hello:?}");
        let (from, epoch) = (from.to_owned(), epoch.to_owned());
        Link { client, from, epoch, name: self.name.clone(), settings: None }
    }

    /// Greets and says that nothing is known yet, in a run of this epoch.
    pub fn greet_empty(&self, own_epoch: &str) -> Link {
        let mut link = self.greet();
        link.resume("0", 0, own_epoch);
        link
    }
}

/// A server's link to us, after its HELLO.
pub struct Link {
    pub client: Client,
    /// The server that dialled.
    pub from: String,
    /// Its run.
    pub epoch: String,
    /// Who we are.
    name: String,
    /// What it said of its settings, before anything else.
    settings: Option<String>,
}

impl Link {
    pub fn resume(&mut self, epoch: &str, mark: u64, own_epoch: &str) {
        let line = format!("RESUME {epoch} {mark} {own_epoch} {}\n", self.name);
        self.client.send(line);
    }

    pub fn ack(&mut self, mark: u64) {
        self.client.send(format!("ACK {mark}\n"));
    }

    /// What it says of its settings, once, after RESUME and before anything else.
    pub fn settings(&mut self) -> &str {
        let client = &mut self.client;
        self.settings.get_or_insert_with(|| {
            let line = client.line();
            assert!(line.starts_with("SETTINGS "), "SETTINGS was due: {line:?}");
            line
        })
    }

    /// Reads updates up to the next MARK, and acknowledges that.
    pub fn until_mark(&mut self) -> (Vec<String>, u64) {
        let (updates, mark) = self.until_mark_silently();
        self.ack(mark);
        (updates, mark)
    }

    /// Reads updates up to the next MARK.
    pub fn until_mark_silently(&mut self) -> (Vec<String>, u64) {
        self.settings();
        let mut updates = Vec::new();
        loop {
            let line = self.client.line();
            if let Some(mark) = line.strip_prefix("MARK ") {
                let mark = mark.parse().unwrap_or_else(|_| panic!("a number: {line:?}"));
                return (updates, mark);
            }
            assert!(line.starts_with("UPDATELOC "), "an update or a mark was due: {line:?}");
            updates.push(line);
        }
    }

    /// Reads over as many marks as it takes until this many updates came, and on to the mark behind them.
    pub fn until_updates(&mut self, count: usize) -> (Vec<String>, u64) {
        let mut all = Vec::new();
        let begin = Instant::now();
        loop {
            let (updates, mark) = self.until_mark();
            all.extend(updates);
            if all.len() >= count {
                return (all, mark);
            }
            assert!(begin.elapsed() < LIMIT, "{count} updates were due, these came: {all:#?}");
        }
    }

    /// Reads marks for this long, acknowledges them, and fails on an update.
    pub fn expect_no_update(&mut self, time: Duration) {
        self.settings();
        let begin = Instant::now();
        while let Some(left) = time.checked_sub(begin.elapsed()) {
            match self.client.next(left) {
                Next::Silence => return,
                Next::Line(line) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    let mark = line.strip_prefix("MARK ").and_then(|mark| mark.parse().ok());
                    self.ack(mark.unwrap_or_else(|| panic!("no update was due: {line:?}")));
                }
                other => panic!("the link was to stay up: {other:?}"),
            }
        }
    }
}

/// What a server answered to our HELLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Our run that it knows a mark of, or `0`.
    pub epoch: String,
    pub mark: u64,
    pub own_epoch: String,
    pub own_name: String,
}

/// Dials a server as its neighbour: the dialling side of a link.
pub fn connect_as(server: &ServerProcess, name: &str, epoch: &str) -> (Client, Resume) {
    let mut client = server.peer();
    let line = client.ask(&format!("HELLO herd/1 {name} {epoch}"));
    let fields: Vec<&str> = line.split(' ').collect();
    let ["RESUME", epoch, mark, own_epoch, own_name] = fields[..] else {
        panic!("RESUME was due: {line:?}")
    };
    assert!(is_epoch(own_epoch), "sixteen lower case hexadecimal digits: {line:?}");
    let resume = Resume {
        epoch: epoch.to_owned(),
        mark: mark.parse().unwrap_or_else(|_| panic!("a number: {line:?}")),
        own_epoch: own_epoch.to_owned(),
        own_name: own_name.to_owned(),
    };
    (client, resume)
}

fn is_epoch(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
