//! What a consumer says beside the messages that it delivers, and what it says of each of these.

use memchr::memchr;

use super::headers::Headers;
use super::parse::{Message, number};
use super::write::is_subject;

/// A message of the consumer itself: status 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// Nothing was to be delivered for a while.
    Heartbeat {
        /// The consumer sequence of the last message that was delivered.
        last_consumer: Option<u64>,
        /// Its stream sequence.
        last_stream: Option<u64>,
        /// It waits for an answer to a former request of flow control; an empty message to this subject is one.
        stalled: Option<&'a [u8]>,
    },
    /// More comes once an empty message was sent to this subject, after all that came before was handled.
    FlowControl { reply: &'a [u8] },
}

impl<'a> Message<'a> {
    /// What the consumer says of itself by this message, if it does. A subject to answer to that can't be one is left out.
    pub fn notice(&self) -> Option<Notice<'a>> {
        let (100, _) = self.headers.status()? else { return None };
        if let Some(reply) = self.reply.filter(|reply| is_subject(reply)) {
            return Some(Notice::FlowControl { reply });
        }
        let headers: Headers<'a> = self.headers;
        Some(Notice::Heartbeat {
            last_consumer: headers.number("Nats-Last-Consumer"),
            last_stream: headers.number("Nats-Last-Stream"),
            stalled: headers.get("Nats-Consumer-Stalled").filter(|subject| is_subject(subject)),
        })
    }
}

/// What the reply subject of a delivered message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    pub stream: &'a [u8],
    pub consumer: &'a [u8],
    /// How often this message was delivered, this time included.
    pub delivered: u64,
    /// The number of the message in its stream.
    pub stream_seq: u64,
    /// The number of the message among those of its consumer: 1 for the first, without a gap.
    pub consumer_seq: u64,
    /// When it was stored, since 1970.
    pub nanoseconds: u64,
    /// How many are to follow.
    pub pending: u64,
}

impl<'a> Delivered<'a> {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>`, also with domain
    /// and account hash before the stream, and then also with one more token at its end.
    pub fn parse(reply: &'a [u8]) -> Option<Delivered<'a>> {
        let rest = reply.strip_prefix(b"$JS.ACK.")?;
        let (mut tokens, mut count): ([&[u8]; 10], usize) = ([b""; 10], 0);
        let mut rest = Some(rest);
        while let Some(text) = rest {
            let end = memchr(b'.', text);
            *tokens.get_mut(count)? = &text[..end.unwrap_or(text.len())];
            rest = end.map(|end| &text[end + 1..]);
            count += 1;
        }
        let first = match count {
            7 => 0,
            9 | 10 => 2,
            _ => return None,
        };
        let [stream, consumer, numbers @ ..] = &tokens[first..first + 7] else { return None };
        let at = |index: usize| number(numbers[index]);
        Some(Delivered {
            stream,
            consumer,
            delivered: at(0)?,
            stream_seq: at(1)?,
            consumer_seq: at(2)?,
            nanoseconds: at(3)?,
            pending: at(4)?,
        })
    }
}
