//! Requests to the engine and the subjects to which their answers come: `<inbox>.r.<kind>.<number>`.
//!
//! Each request has a number of its own, and an answer counts only for the request that it names: one that comes late, for a
//! request that was repeated, is known for what it is.

use std::time::Duration;

use crate::nats::{Bucket, write_decimal, write_publish, write_subscribe};

/// The number of the subscription to all answers.
pub(super) const ANSWERS_SID: u64 = 1;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    StreamInfo,
    CreateStream,
    CreateConsumer,
    DeleteConsumer,
    Publish,
    /// The bucket's present value of a client, for a publish.
    Get,
    /// The same, from any copy of the bucket.
    GetCopy,
    /// The bucket's value of a client, from any copy, for those who ask.
    Ask,
    /// The same, from its leader.
    AskLeader,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::StreamInfo,
        Kind::CreateStream,
        Kind::CreateConsumer,
        Kind::DeleteConsumer,
        Kind::Publish,
        Kind::Get,
        Kind::GetCopy,
        Kind::Ask,
        Kind::AskLeader,
    ];

    fn letter(self) -> u8 {
        match self {
            Kind::StreamInfo => b'i',
            Kind::CreateStream => b's',
            Kind::CreateConsumer => b'c',
            Kind::DeleteConsumer => b'x',
            Kind::Publish => b'p',
            Kind::Get => b'g',
            Kind::GetCopy => b'h',
            Kind::Ask => b'a',
            Kind::AskLeader => b'l',
        }
    }
}

/// A request whose answer is waited for until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub number: u64,
    pub until: Duration,
}

/// Numbers requests, and holds those back that are not written by [`Herd::poll_engine`](crate::herd::Herd::poll_engine).
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// `<inbox>.`
    inbox: Vec<u8>,
    last: u64,
    /// Requests that are to be written: few, since each waits for its answer.
    pub queued: Vec<u8>,
}

impl Requests {
    pub fn new(inbox: &str) -> Requests {
        Requests { inbox: format!("{inbox}.").into_bytes(), last: 0, queued: Vec::new() }
    }

    /// Where all answers come.
    pub fn subscribe(&mut self) {
        let subject = [&self.inbox[..], b"r.>"].concat();
        write_subscribe(&subject, ANSWERS_SID, &mut self.queued);
    }

    /// Queues a request, and returns its number.
    pub fn ask(&mut self, kind: Kind, subject: &str, body: &[u8]) -> u64 {
        let (number, reply) = self.next(kind);
        Bucket::write_request(subject, &reply, body, &mut self.queued);
        number
    }

    /// Queues an empty message, which answers one that asked for it.
    pub fn acknowledge(&mut self, subject: &[u8]) {
        write_publish(subject, None, b"", &mut self.queued);
    }

    /// The number of the next request, and where its answer comes.
    pub fn next(&mut self, kind: Kind) -> (u64, Vec<u8>) {
        self.last += 1;
        let mut reply = Vec::with_capacity(self.inbox.len() + 24);
        reply.extend_from_slice(&self.inbox);
        reply.extend([b'r', b'.', kind.letter(), b'.']);
        write_decimal(self.last, &mut reply);
        (self.last, reply)
    }

    /// What a message on this subject answers.
    pub fn answered(&self, subject: &[u8]) -> Option<(Kind, u64)> {
        let rest = subject.strip_prefix(&self.inbox[..])?.strip_prefix(b"r.")?;
        let [letter, b'.', number @ ..] = rest else { return None };
        let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == *letter)?;
        Some((kind, std::str::from_utf8(number).ok()?.parse().ok()?))
    }

    /// Where the messages of the consumer with this number come; no subject of answers.
    pub fn deliver_subject(&self, consumer: u64) -> String {
        format!("{}d{consumer}", String::from_utf8_lossy(&self.inbox))
    }

    /// The name of the consumer with this number: no other run of a server uses it.
    pub fn consumer_name(&self, consumer: u64) -> String {
        let inbox = String::from_utf8_lossy(&self.inbox);
        let run: String = inbox.chars().filter(|char| char.is_ascii_alphanumeric()).collect();
        format!("herd-{run}-{consumer}")
    }
}
