//! A model of a JetStream stream as a bucket has it: one message a subject, compare-and-set, consumers that push in order.
//! It has no clock and no connections: the world calls it when something happens, and carries what it answers.

use std::collections::BTreeMap;

use crate::laws::update;

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub subject: String,
    /// From `NATS/1.0` on, or empty.
    pub headers: Vec<u8>,
    pub payload: Vec<u8>,
    /// Nanoseconds since 1970.
    pub time: i128,
}

/// What the stream holds.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// When it was made, as a number that makes a text.
    pub created: u64,
    pub last_seq: u64,
    pub messages: BTreeMap<u64, Stored>,
    by_subject: BTreeMap<String, u64>,
    /// All messages that each subject ever had, for copies that lag.
    versions: BTreeMap<String, Vec<(u64, Stored)>>,
}

/// How a publish ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    Stored(u64),
    WrongLast(u64),
}

impl Stream {
    pub fn new(created: u64) -> Stream {
        Stream { created, ..Stream::default() }
    }

    pub fn last_of(&self, subject: &str) -> Option<(u64, &Stored)> {
        let seq = *self.by_subject.get(subject)?;
        Some((seq, &self.messages[&seq]))
    }

    /// The last message of a subject, as a copy has it that knows nothing that was stored later than this.
    pub fn copy_of(&self, subject: &str, time: i128) -> Option<(u64, &Stored)> {
        let versions = self.versions.get(subject)?;
        let known = versions.iter().rev().find(|(_, stored)| stored.time <= time)?;
        Some((known.0, &known.1))
    }

    /// Whether the bucket has had such an update of a client ever since it first had one.
    pub fn kept_since(&self, id: &[u8], is_such: impl Fn(&[u8]) -> bool) -> bool {
        let is_of = |line: &[u8]| update(line).is_some_and(|update| update.id == id);
        let mut versions = self.versions.values();
        let of_client = versions.find(|all| all.iter().any(|(_, it)| is_of(&it.payload)));
        let all = of_client.into_iter().flatten().map(|(_, it)| is_such(&it.payload));
        let mut since = all.skip_while(|is_such| !is_such).peekable();
        since.peek().is_some() && since.all(|is_such| is_such)
    }

    /// Stores a message if the last one of its subject has the expected number. A stale leader does not look.
    pub fn publish(&mut self, stored: Stored, expected: Option<u64>, is_stale: bool) -> Published {
        let last = self.by_subject.get(&stored.subject).copied().unwrap_or(0);
        if !is_stale && expected.is_some_and(|expected| expected != last) {
            return Published::WrongLast(last);
        }
        self.messages.remove(&last);
        self.last_seq += 1;
        self.by_subject.insert(stored.subject.clone(), self.last_seq);
        let versions = self.versions.entry(stored.subject.clone()).or_default();
        versions.push((self.last_seq, stored.clone()));
        self.messages.insert(self.last_seq, stored);
        Published::Stored(self.last_seq)
    }

    /// The last messages are gone, as if they had never come.
    pub fn lose(&mut self, count: usize) {
        for _ in 0..count {
            if let Some((_, lost)) = self.messages.pop_last() {
                self.by_subject.remove(&lost.subject);
            }
        }
        self.last_seq = self.messages.last_key_value().map_or(0, |(seq, _)| *seq);
        self.versions.clear();
        for (seq, stored) in &self.messages {
            self.versions.insert(stored.subject.clone(), vec![(*seq, stored.clone())]);
        }
    }

    /// The first message behind this number.
    pub fn next_after(&self, seq: u64) -> Option<(u64, &Stored)> {
        self.messages.range(seq + 1..).next().map(|(seq, stored)| (*seq, stored))
    }

    pub fn pending_after(&self, seq: u64) -> usize {
        self.messages.range(seq + 1..).count()
    }

    /// When it was made, as a server writes it.
    pub fn created_text(&self) -> String {
        format!("2026-01-01T00:00:00.{:09}Z", self.created)
    }

    /// The answer to STREAM.INFO and STREAM.CREATE.
    pub fn info(&self, bucket: &str) -> String {
        let config = herd_mio::nats::StreamConfig::of_bucket(bucket, 1).to_json();
        format!(
            "{{\"config\":{},\"created\":\"{}\",\"state\":{{\"messages\":{},\"last_seq\":{}}}}}",
            String::from_utf8_lossy(&config),
            self.created_text(),
            self.messages.len(),
            self.last_seq
        )
    }
}

/// A consumer that pushes.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub name: String,
    pub deliver_subject: String,
    /// The member whose connection made it, and which connection of it that was.
    pub member: usize,
    /// The number of the last message of the stream that it has delivered.
    pub at: u64,
    /// The number of its own last delivery.
    pub delivered: u64,
    /// Messages since the last request of flow control was answered.
    pub in_window: usize,
    /// Where the open request of flow control is answered.
    pub stalled: Option<String>,
    /// When anything was last sent to its subject.
    pub said_at: u64,
    /// When somebody last listened.
    pub heard_at: u64,
    /// Silent for ever, although it is there: its node has died.
    pub is_dead: bool,
}

/// How many messages a consumer delivers before it asks.
pub const WINDOW: usize = 6;

impl Consumer {
    /// The reply subject of a delivered message.
    pub fn ack_subject(&self, stream: &str, seq: u64, time: i128, pending: usize) -> String {
        format!("$JS.ACK.{stream}.{}.1.{seq}.{}.{time}.{pending}", self.name, self.delivered)
    }
}

/// The last decimal number behind a mark in a text.
pub fn number_behind(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The text behind a mark, up to the next quote.
pub fn text_behind<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let rest = &text[text.find(mark)? + mark.len()..];
    Some(&rest[..rest.find('"')?])
}
