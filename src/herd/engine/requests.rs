//! Requests to the engine and the subjects to which their answers come: `<inbox>.r.<kind>.<number>`, and for those that
//! concern one client `<inbox>.r.<kind>.<number>.<slot of its entry, or place of its question>`.
//!
//! Each request has a number of its own, and an answer counts only for the request that it names: one that comes late, for a
//! request that was repeated, is known for what it is.

use std::time::Duration;

use super::keys;
use super::values::Source;
use crate::limits::ENGINE_REQUEST_WAIT;
use crate::nats::{
    Bucket, last_message_request, read_decimal, write_decimal, write_publish, write_subscribe,
};

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

/// One request that is sent again until it is answered, no matter by which of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Series {
    first: u64,
    last: u64,
    /// When the last complaint was due that no answer comes; at first: when it began.
    since: Duration,
    pub again_at: Duration,
}

impl Series {
    /// The request with this number was sent.
    pub fn begin(number: u64, now: Duration, again_at: Duration) -> Series {
        Series { first: number, last: number, since: now, again_at }
    }

    /// It was sent once more, with this number. Whether it has been unanswered for so long that this is worth a record.
    pub fn repeat(&mut self, number: u64, now: Duration, again_at: Duration) -> bool {
        (self.last, self.again_at) = (number, again_at);
        let is_silent = self.since + ENGINE_REQUEST_WAIT <= now;
        if is_silent {
            self.since = now;
        }
        is_silent
    }

    /// Whether a request with this number is one of it: other kinds have numbers of the same row.
    pub fn has(&self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// Which request a message answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub kind: Kind,
    pub number: u64,
    /// The slot of the client's entry, or the place of the question; one that none has if the request concerns no client.
    pub slot: u32,
}

/// Appends the request for what the bucket has of a client. Its answer comes where `reply` says.
pub(super) fn write_question(
    bucket: &Bucket,
    source: Source,
    id: &[u8],
    reply: &[u8],
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    scratch.clear();
    match source {
        Source::Leader => {
            bucket.append_subject(b"", scratch);
            keys::encode(id, scratch);
            Bucket::write_request(&bucket.message_get, reply, &last_message_request(scratch), out);
        }
        Source::Copy => {
            bucket.append_direct_get(b"", scratch);
            keys::encode(id, scratch);
            write_publish(scratch, Some(reply), b"", out);
        }
    }
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
        let mut reply = Vec::new();
        let number = self.next(kind, &mut reply);
        Bucket::write_request(subject, &reply, body, &mut self.queued);
        number
    }

    /// Queues an empty message, which answers one that asked for it.
    pub fn acknowledge(&mut self, subject: &[u8]) {
        write_publish(subject, None, b"", &mut self.queued);
    }

    /// The number of the next request that concerns the client in this slot, or the question at this place. Where its
    /// answer comes is put into `reply`.
    pub fn next_of(&mut self, kind: Kind, slot: u32, reply: &mut Vec<u8>) -> u64 {
        let number = self.next(kind, reply);
        reply.push(b'.');
        write_decimal(slot.into(), reply);
        number
    }

    /// The number of the next request. Where its answer comes is put into `reply`.
    pub fn next(&mut self, kind: Kind, reply: &mut Vec<u8>) -> u64 {
        self.last += 1;
        reply.clear();
        reply.extend_from_slice(&self.inbox);
        reply.extend_from_slice(&[b'r', b'.', kind.letter(), b'.']);
        write_decimal(self.last, reply);
        self.last
    }

    /// What a message on this subject answers.
    pub fn answered(&self, subject: &[u8]) -> Option<Answered> {
        let rest = subject.strip_prefix(&self.inbox[..])?.strip_prefix(b"r.")?;
        let [letter, b'.', numbers @ ..] = rest else { return None };
        let kind = Kind::ALL.into_iter().find(|kind| kind.letter() == *letter)?;
        let mut numbers = numbers.split(|byte| *byte == b'.').map(read_decimal);
        let number = numbers.next()??;
        let slot = numbers.next().flatten().and_then(|slot| slot.try_into().ok());
        Some(Answered { kind, number, slot: slot.unwrap_or(u32::MAX) })
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
