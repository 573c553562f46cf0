//! What passes between members and NATS servers, recorded outside of both: a proxy before each NATS server reads every
//! publish and its answer, and every message that a consumer delivers. It shares no code with the project.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::eye::key;
use super::members::Written;
use super::nats::Nats;
use crate::common::ports::{Port, reserve};

/// The proxies. Dropped, they end.
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    ports: Vec<Port>,
}

/// Something that was said of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the recorder began.
    pub at: Duration,
    /// The number of the NATS server.
    pub node: usize,
    /// The number of the connection.
    pub connection: u64,
    pub key: String,
    /// In the value, in milliseconds; 0 if there is none.
    pub timestamp: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A publish that replaces the message of this number.
    Published { expected: u64 },
    /// NATS has it, as the message of this number.
    Acknowledged { sequence: u64 },
    /// NATS does not take it.
    Refused { answer: String },
    /// A consumer has delivered the message of this number.
    Delivered { sequence: u64 },
}

impl Recorder {
    /// Puts a proxy before each of these servers, which are not started yet: they then name it to their clients.
    pub fn before(nats: &Nats) -> Recorder {
        let events = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicU64::new(0));
        let (mut threads, mut ports) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        for (number, node) in nats.nodes.iter().enumerate() {
            let port = reserve();
            let address = port.address();
            let mut more = File::options().append(true).open(node.configuration()).expect("a file");
            writeln!(more, "client_advertise: \"{address}\"").expect("a file can be written");
            let listener = TcpListener::bind(address).expect("a reserved port");
            listener.set_nonblocking(true).expect("non-blocking");
            ports.push(port);
            let reader = Reader {
                node: number,
                connection: 0,
                is_of_server: false,
                begin,
                events: Arc::clone(&events),
                asked: Arc::default(),
                unread: Vec::new(),
            };
            let (target, is_over) = (node.address, Arc::clone(&is_over));
            let connections = Arc::clone(&connections);
            threads.push(thread::spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    match listener.accept() {
                        Ok((client, _)) => join(client, target, &reader, &connections),
                        Err(_) => thread::sleep(Duration::from_millis(5)),
                    }
                }
            }));
        }
        Recorder { events, is_over, threads, ports }
    }

    /// Where clients connect to each server.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(Port::address).collect()
    }

    /// `[engine]` of a herd that uses the servers by way of the proxies.
    pub fn section(&self, nats: &Nats) -> String {
        let urls: Vec<String> = self.addresses().iter().map(|at| format!("nats://{at}")).collect();
        nats.section("").replace(&format!("{:?}", nats.urls()), &format!("{urls:?}"))
    }

    /// A client that was answered although NATS had neither acknowledged nor delivered the update, or a newer one.
    pub fn unconfirmed(&self, written: &Written) -> Option<String> {
        let mut newest: HashMap<String, u64> = HashMap::new();
        for event in self.events() {
            if matches!(event.what, What::Acknowledged { .. } | What::Delivered { .. }) {
                let known = newest.entry(event.key).or_default();
                *known = event.timestamp.max(*known);
            }
        }
        written.answered.iter().find_map(|(id, answered)| {
            let confirmed = newest.get(&key(id.as_bytes()));
            (confirmed < Some(answered))
                .then(|| format!("{id} {answered} was answered, NATS has {confirmed:?}"))
        })
    }

    /// A publish that names a message to be replaced which held a newer update, as far as NATS had said what it holds.
    pub fn replacement_by_an_older_one(&self) -> Option<Event> {
        let mut oldest: HashMap<(String, u64), u64> = HashMap::new();
        for event in self.events() {
            let of_key = |sequence| (event.key.clone(), sequence);
            match event.what {
                What::Acknowledged { sequence } | What::Delivered { sequence } => {
                    let known = oldest.entry(of_key(sequence)).or_insert(event.timestamp);
                    *known = event.timestamp.min(*known);
                }
                What::Published { expected } => {
                    if oldest.get(&of_key(expected)).is_some_and(|it| *it > event.timestamp) {
                        return Some(event);
                    }
                }
                What::Refused { .. } => {}
            }
        }
        None
    }

    /// What was said so far, in its order.
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.events.lock().expect("nobody panics with it").clone();
        events.sort_by_key(|event| event.at);
        events
    }

    /// The newest acknowledged update of each key: its timestamp and number.
    pub fn acknowledged(&self) -> BTreeMap<String, (u64, u64)> {
        let mut newest = BTreeMap::new();
        for event in self.events() {
            if let What::Acknowledged { sequence } = event.what {
                let known = newest.entry(event.key).or_default();
                *known = (event.timestamp, sequence).max(*known);
            }
        }
        newest
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            _ = thread.join();
        }
    }
}

/// Joins a client to the server, if that runs.
fn join(client: TcpStream, target: SocketAddr, reader: &Reader, connections: &AtomicU64) {
    let Ok(server) = TcpStream::connect(target) else { return };
    client.set_nonblocking(false).expect("blocking");
    let connection = connections.fetch_add(1, Ordering::SeqCst);
    let of_client = Reader { connection, asked: Arc::default(), ..reader.clone() };
    let of_server = Reader { is_of_server: true, ..of_client.clone() };
    let other = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    let (from, to) = (other(&client), other(&server));
    thread::spawn(move || pass(from, to, of_client));
    thread::spawn(move || pass(server, client, of_server));
}

/// Passes bytes on, and reads them.
fn pass(mut from: TcpStream, mut to: TcpStream, mut reader: Reader) {
    let mut bytes = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        // Before the member has it, so that it is recorded before what follows from it.
        reader.read(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    _ = to.shutdown(Shutdown::Both);
    _ = from.shutdown(Shutdown::Both);
}

/// Reads one direction of a connection.
#[derive(Clone)]
struct Reader {
    node: usize,
    connection: u64,
    is_of_server: bool,
    begin: Instant,
    events: Arc<Mutex<Vec<Event>>>,
    /// Publishes by the subjects of their answers: key and timestamp.
    asked: Arc<Mutex<HashMap<String, (String, u64)>>>,
    unread: Vec<u8>,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) {
        self.unread.extend(bytes);
        let mut at = 0;
        while let Some(length) = self.message(at) {
            at += length;
        }
        self.unread.drain(..at);
    }

    /// Reads the message that begins there. Returns its length, if it is whole.
    fn message(&self, at: usize) -> Option<usize> {
        let unread = &self.unread[at..];
        let end = unread.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(&unread[..end]).into_owned();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (verb, last) = (words.first()?.to_ascii_uppercase(), words.last()?);
        let (has_payload, has_headers) = match verb.as_str() {
            "MSG" | "PUB" => (true, false),
            "HMSG" | "HPUB" => (true, true),
            _ => (false, false),
        };
        if !has_payload {
            return Some(end + 2);
        }
        let size: usize = last.parse().expect("the size of a payload");
        let whole = unread.get(end + 2..end + 2 + size)?;
        unread.get(end + 2 + size..end + 4 + size)?;
        let headers: usize = match has_headers {
            true => words[words.len() - 2].parse().expect("the size of headers"),
            false => 0,
        };
        let (headers, payload) = whole.split_at(headers);
        let (headers, payload) =
            (String::from_utf8_lossy(headers), String::from_utf8_lossy(payload));
        let subject = words[1];
        match subject.strip_prefix("$KV.herd.") {
            Some(key) if !self.is_of_server => {
                let expected = header(&headers, "Nats-Expected-Last-Subject-Sequence");
                let expected = expected.and_then(|number| number.parse().ok()).unwrap_or(0);
                let timestamp = timestamp(&payload);
                let reply = words[2].to_owned();
                self.asked.lock().expect("whole").insert(reply, (key.to_owned(), timestamp));
                self.record(key, timestamp, What::Published { expected });
            }
            Some(key) if words.len() > 4 => {
                let tokens: Vec<&str> = words[3].split('.').collect();
                let at = if tokens.len() == 9 { 5 } else { 7 };
                let sequence = tokens[at].parse().expect("the number of a message");
                self.record(key, timestamp(&payload), What::Delivered { sequence });
            }
            _ if self.is_of_server => {
                if let Some((key, timestamp)) = self.asked.lock().expect("whole").remove(subject) {
                    let answer: Option<serde_json::Value> = serde_json::from_str(&payload).ok();
                    let sequence = answer.as_ref().and_then(|answer| answer["seq"].as_u64());
                    let is_error = answer.as_ref().is_none_or(|it| it.get("error").is_some());
                    let what = match sequence.filter(|_| !is_error) {
                        Some(sequence) => What::Acknowledged { sequence },
                        None => What::Refused { answer: format!("{}{payload}", headers.trim()) },
                    };
                    self.record(&key, timestamp, what);
                }
            }
            _ => {}
        }
        Some(end + 4 + size)
    }

    fn record(&self, key: &str, timestamp: u64, what: What) {
        let event = Event {
            at: self.begin.elapsed(),
            node: self.node,
            connection: self.connection,
            key: key.to_owned(),
            timestamp,
            what,
        };
        self.events.lock().expect("nobody panics with it").push(event);
    }
}

fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The timestamp of an update, in milliseconds.
fn timestamp(value: &str) -> u64 {
    let timestamp = value.split(' ').nth(3).unwrap_or_default();
    timestamp.replace('.', "").parse().unwrap_or(0)
}
