//! Answers of JetStream.

use std::fmt;

use data_encoding::BASE64;
use memchr::memchr;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::connect::or_default;
use super::headers::Headers;
use super::parse::{Message, number};
use super::stream::StreamInfo;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A status in place of a body: 503 if nobody heard the request, 404 if there is no such message.
    Status(u16, String),
    Api(ApiError),
    /// The body is not what was asked for, for this reason.
    Unreadable(String),
}

/// What JetStream refuses a request by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ApiError {
    /// As in HTTP.
    pub code: u16,
    /// What exactly.
    pub err_code: u32,
    #[serde(deserialize_with = "or_default")]
    pub description: String,
}

impl ApiError {
    /// JetStream is not there for this account.
    pub const NO_JETSTREAM: [u32; 2] = [10039, 10076];
    pub const STREAM_NOT_FOUND: u32 = 10059;
    /// The cluster, or the stream, is about to elect a leader.
    pub const NO_LEADER: [u32; 2] = [10008, 10009];
    /// A stream of this name exists, with another configuration.
    pub const STREAM_EXISTS: u32 = 10058;
    pub const NO_MESSAGE: u32 = 10037;
    /// The last message of the subject is another one.
    pub const WRONG_LAST: [u32; 2] = [10071, 10164];
    /// Storage, memory or the stream is full.
    pub const NO_ROOM: [u32; 3] = [10023, 10047, 10077];
    pub const TOO_LARGE: u32 = 10054;
}

impl ReplyError {
    /// Whether nobody heard the request.
    pub fn is_no_responders(&self) -> bool {
        matches!(self, ReplyError::Status(503, _))
    }

    /// Whether the cluster, or the stream, says that it has no leader.
    pub fn has_no_leader(&self) -> bool {
        self.api_code().is_some_and(|code| ApiError::NO_LEADER.contains(&code))
    }

    /// The code of JetStream's error, if it is one.
    pub fn api_code(&self) -> Option<u32> {
        match self {
            ReplyError::Api(error) => Some(error.err_code),
            _ => None,
        }
    }
}

/// An answer of JetStream to one kind of request.
pub trait Answer<'a>: Sized {
    /// Reads it; a refusal is an error.
    fn read(message: &Message<'a>) -> Result<Self, ReplyError>;
}

/// The part that each answer has.
#[derive(Deserialize)]
struct OnlyError {
    error: Option<ApiError>,
}

fn status_of(message: &Message<'_>) -> Result<(), ReplyError> {
    match message.headers.status() {
        Some((code, text)) => Err(ReplyError::Status(code, text.to_owned())),
        None => Ok(()),
    }
}

fn body_of<T: DeserializeOwned>(message: &Message<'_>) -> Result<T, ReplyError> {
    status_of(message)?;
    let found: OnlyError = serde_json::from_slice(message.payload).map_err(unreadable)?;
    match found.error {
        Some(error) => Err(ReplyError::Api(error)),
        None => serde_json::from_slice(message.payload).map_err(unreadable),
    }
}

fn unreadable(error: serde_json::Error) -> ReplyError {
    ReplyError::Unreadable(error.to_string())
}

/// A publish is in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// The number of the message.
    pub seq: u64,
    /// It was there already.
    pub is_duplicate: bool,
}

#[derive(Deserialize)]
struct PubAckFields {
    error: Option<ApiError>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

/// The number of an acknowledgement that is written as nearly each is, `{"stream":"S", "seq":1}`. All others are read by
/// `serde_json`, which takes ten times as long.
fn plain_acknowledgement(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(b"{\"stream\":\"")?;
    let (stream, rest) = rest.split_at(memchr(b'"', rest)?);
    let rest = rest.strip_prefix(b"\",")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest).strip_prefix(b"\"seq\":")?;
    let digits = rest.strip_prefix(b" ").unwrap_or(rest).strip_suffix(b"}")?;
    let is_plain = stream.iter().all(|byte| (b' '..0x7F).contains(byte) && *byte != b'\\');
    number(digits).filter(|_| is_plain && !digits.starts_with(b"0"))
}

impl Answer<'_> for PubAck {
    fn read(message: &Message<'_>) -> Result<PubAck, ReplyError> {
        if message.headers.is_empty()
            && let Some(seq) = plain_acknowledgement(message.payload)
        {
            return Ok(PubAck { seq, is_duplicate: false });
        }
        status_of(message)?;
        let found: PubAckFields = serde_json::from_slice(message.payload).map_err(unreadable)?;
        match (found.error, found.seq) {
            (Some(error), _) => Err(ReplyError::Api(error)),
            (None, 0) => Err(ReplyError::Unreadable("an acknowledgement has no number".to_owned())),
            (None, seq) => Ok(PubAck { seq, is_duplicate: found.duplicate }),
        }
    }
}

impl Answer<'_> for StreamInfo {
    fn read(message: &Message<'_>) -> Result<StreamInfo, ReplyError> {
        body_of(message)
    }
}

/// The answer to CONSUMER.CREATE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConsumerInfo {
    pub stream_name: String,
    pub name: String,
    pub created: String,
    /// How many messages are to be delivered.
    pub num_pending: u64,
    /// What was delivered last.
    pub delivered: SequencePair,
}

/// Numbers of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SequencePair {
    pub consumer_seq: u64,
    pub stream_seq: u64,
}

impl Answer<'_> for ConsumerInfo {
    fn read(message: &Message<'_>) -> Result<ConsumerInfo, ReplyError> {
        body_of(message)
    }
}

/// The answer to CONSUMER.DELETE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Success {
    pub success: bool,
}

impl Answer<'_> for Success {
    fn read(message: &Message<'_>) -> Result<Success, ReplyError> {
        body_of(message)
    }
}

/// The answer to the request for what the account may do: it has JetStream if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AccountInfo {
    pub memory: u64,
    pub storage: u64,
    pub streams: u64,
    pub consumers: u64,
}

impl Answer<'_> for AccountInfo {
    fn read(message: &Message<'_>) -> Result<AccountInfo, ReplyError> {
        body_of(message)
    }
}

/// A message of a stream, as its leader has it: the answer to STREAM.MSG.GET.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredMessage {
    pub subject: String,
    pub seq: u64,
    /// From `NATS/1.0` on; empty if it has none. See [`Headers`].
    pub headers: Vec<u8>,
    pub payload: Vec<u8>,
    /// When it was stored, as the server writes it.
    pub time: String,
}

#[derive(Deserialize)]
struct MessageGet {
    message: StoredFields,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredFields {
    subject: String,
    seq: u64,
    hdrs: Option<String>,
    data: Option<String>,
    time: String,
}

impl StoredMessage {
    /// The headers, to be read.
    pub fn headers(&self) -> Headers<'_> {
        Headers(&self.headers)
    }

    /// When it was stored, in nanoseconds since 1970; None if the text is no time.
    pub fn stored_at(&self) -> Option<i128> {
        let time: jiff::Timestamp = self.time.parse().ok()?;
        Some(time.as_nanosecond())
    }
}

impl Answer<'_> for StoredMessage {
    fn read(message: &Message<'_>) -> Result<StoredMessage, ReplyError> {
        let MessageGet { message } = body_of(message)?;
        let decoded = |text: Option<String>| {
            let bytes = BASE64.decode(text.unwrap_or_default().as_bytes());
            bytes.map_err(|error| ReplyError::Unreadable(format!("a message: {error}")))
        };
        Ok(StoredMessage {
            headers: decoded(message.hdrs)?,
            payload: decoded(message.data)?,
            subject: message.subject,
            seq: message.seq,
            time: message.time,
        })
    }
}

/// A message of a stream, as any copy has it: the answer to DIRECT.GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectMessage<'a> {
    pub subject: &'a [u8],
    pub seq: u64,
    pub headers: Headers<'a>,
    pub payload: &'a [u8],
}

impl<'a> Answer<'a> for DirectMessage<'a> {
    fn read(message: &Message<'a>) -> Result<DirectMessage<'a>, ReplyError> {
        status_of(message)?;
        let without = |name| ReplyError::Unreadable(format!("a message has no {name}"));
        let [seq, subject] = message.headers.last_both(["Nats-Sequence", "Nats-Subject"]);
        Ok(DirectMessage {
            subject: subject.ok_or_else(|| without("Nats-Subject"))?,
            seq: seq.and_then(number).ok_or_else(|| without("Nats-Sequence"))?,
            headers: message.headers,
            payload: message.payload,
        })
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyError::Status(503, _) => f.write_str("nobody answers (503)"),
            ReplyError::Status(code, text) => write!(f, "status {code} {text}"),
            ReplyError::Api(error) => error.fmt(f),
            ReplyError::Unreadable(why) => write!(f, "the answer can't be read: {why}"),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.description, self.err_code)
    }
}

impl std::error::Error for ReplyError {}
impl std::error::Error for ApiError {}
