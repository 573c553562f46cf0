//! Requests to JetStream: their subjects and bodies.

use serde::Serialize;

use super::write::{begin_with_headers, write_publish};

/// The name of a bucket's stream.
pub fn stream_name(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subjects of a bucket, made once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    /// The name of its stream.
    pub stream: String,
    /// What stands before a key in the subject of its values: `$KV.<bucket>.`
    pub prefix: String,
    pub stream_info: String,
    pub stream_create: String,
    /// Asks the leader for a message; see [`last_message_request`].
    pub message_get: String,
    /// What stands before the subject of a message that any copy may answer; it ends with a point.
    direct_get: String,
    consumer_create: String,
    consumer_delete: String,
}

/// Whether the account has JetStream.
pub(super) const ACCOUNT_INFO: &str = "$JS.API.INFO";

impl Bucket {
    /// The request for what the account may do.
    pub const ACCOUNT_INFO: &str = ACCOUNT_INFO;

    /// Subjects of the bucket of this name; it must be a name of a bucket (`[A-Za-z0-9_-]{1,64}`).
    pub fn new(name: &str) -> Bucket {
        let stream = stream_name(name);
        Bucket {
            name: name.to_owned(),
            prefix: format!("$KV.{name}."),
            stream_info: format!("$JS.API.STREAM.INFO.{stream}"),
            stream_create: format!("$JS.API.STREAM.CREATE.{stream}"),
            message_get: format!("$JS.API.STREAM.MSG.GET.{stream}"),
            direct_get: format!("$JS.API.DIRECT.GET.{stream}."),
            consumer_create: format!("$JS.API.CONSUMER.CREATE.{stream}."),
            consumer_delete: format!("$JS.API.CONSUMER.DELETE.{stream}."),
            stream,
        }
    }

    /// Appends the subject of a key's values.
    pub fn append_subject(&self, key: &[u8], to: &mut Vec<u8>) {
        to.extend_from_slice(self.prefix.as_bytes());
        to.extend_from_slice(key);
    }

    /// The key of a subject of this bucket.
    pub fn key_of<'a>(&self, subject: &'a [u8]) -> Option<&'a [u8]> {
        subject.strip_prefix(self.prefix.as_bytes()).filter(|key| !key.is_empty())
    }

    /// Appends the subject of the request for a key's value that any copy may answer.
    pub fn append_direct_get(&self, key: &[u8], to: &mut Vec<u8>) {
        to.extend_from_slice(self.direct_get.as_bytes());
        self.append_subject(key, to);
    }

    /// The subject of the request that makes a consumer of this name.
    pub fn consumer_create(&self, consumer: &str) -> String {
        format!("{}{consumer}", self.consumer_create)
    }

    /// The subject of the request that removes the consumer of this name.
    pub fn consumer_delete(&self, consumer: &str) -> String {
        format!("{}{consumer}", self.consumer_delete)
    }

    /// Appends a request with its body. The answer comes to `reply`.
    pub fn write_request(subject: &str, reply: &[u8], body: &[u8], out: &mut Vec<u8>) {
        write_publish(subject.as_bytes(), Some(reply), body, out);
    }
}

/// The body of a request for the last message on a subject. A subject must hold no quotes, backslashes or controls, as no
/// subject of a bucket does.
pub fn last_message_request(subject: &[u8]) -> Vec<u8> {
    [b"{\"last_by_subj\":\"", subject, b"\"}"].concat()
}

/// Appends an update of a key, which the server takes only if the last message on this subject has the number `expected`
/// (0: there is none).
pub fn write_expecting(
    subject: &[u8],
    reply: &[u8],
    expected: u64,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    const NAME: &[u8] = b"Nats-Expected-Last-Subject-Sequence: ";
    let mut digits = [0; 20];
    let digits = decimal(expected, &mut digits);
    let header_bytes = 10 + NAME.len() + digits.len() + 4;
    begin_with_headers(subject, Some(reply), header_bytes, payload.len(), out);
    out.extend_from_slice(NAME);
    out.extend_from_slice(digits);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal digits.
pub fn write_decimal(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    out.extend_from_slice(decimal(number, &mut digits));
}

/// The digits of a number; `std::fmt` takes some ten times as long.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// A consumer that pushes a stream's messages in their order, without acknowledgements, and dies of neglect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerConfig<'a> {
    pub stream: &'a str,
    pub name: &'a str,
    /// Where the messages go. A subscription of ours must name exactly this subject: a consumer does not see one with a
    /// wildcard, and delivers nothing, not even heartbeats. And no subscription with a wildcard may match it, or each
    /// message comes twice. Messages may come before the answer to the request.
    pub deliver_subject: &'a str,
    /// The number of the first message; None: from the beginning.
    pub start_seq: Option<u64>,
    /// How long it is silent at the most, in nanoseconds.
    pub idle_heartbeat: u64,
    /// How long it stays when nobody listens, in nanoseconds.
    pub inactive_threshold: u64,
}

impl ConsumerConfig<'_> {
    /// The body of the request that makes it.
    pub fn to_json(&self) -> Vec<u8> {
        let config = ConsumerFields {
            name: self.name,
            deliver_policy: if self.start_seq.is_some() { "by_start_sequence" } else { "all" },
            opt_start_seq: self.start_seq,
            ack_policy: "none",
            max_deliver: 1,
            replay_policy: "instant",
            flow_control: true,
            idle_heartbeat: self.idle_heartbeat,
            deliver_subject: self.deliver_subject,
            num_replicas: 1,
            mem_storage: true,
            inactive_threshold: self.inactive_threshold,
        };
        let request = CreateConsumer { stream_name: self.stream, config };
        // Each field is a text, a number or a bool: that can't fail.
        serde_json::to_vec(&request).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct CreateConsumer<'a> {
    stream_name: &'a str,
    config: ConsumerFields<'a>,
}

#[derive(Serialize)]
struct ConsumerFields<'a> {
    name: &'a str,
    deliver_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_start_seq: Option<u64>,
    ack_policy: &'static str,
    max_deliver: i64,
    replay_policy: &'static str,
    flow_control: bool,
    idle_heartbeat: u64,
    deliver_subject: &'a str,
    num_replicas: u32,
    mem_storage: bool,
    inactive_threshold: u64,
}
