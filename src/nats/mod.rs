//! The protocol of NATS as values and bytes: control lines, headers, credentials, and the messages of JetStream.
//!
//! ```text
//!   bytes ──> Parser ──> FromServer ──┬──> Info
//!             by length, in place     ├──> Message ──> StreamInfo, PubAck, ... or a ReplyError
//!                                     └──> Message::notice, Delivered
//!   bytes <── Connect, write_subscribe, write_publish, write_expecting, ... <── values
//! ```
//!
//! Nothing here has a socket or a clock. What is read is bounded: a control line by [`CONTROL_LINE_BYTES`], a payload by
//! what the caller allows ([`Info::max_message_bytes`]).
//!
//! Promises: the result depends on the bytes alone, never on how they were split; any input gives a value, an error, or
//! the wish for more; no error and no `Debug` shows a secret. Only the framing can be wrong for a connection as a whole
//! ([`WireError`]): what another client has published (headers, payloads) concerns one message.

mod api;
mod connect;
mod credentials;
mod error;
mod headers;
mod nkey;
mod notice;
mod parse;
mod reply;
mod stream;
#[cfg(test)]
mod tests;
mod write;

pub use api::{
    Bucket, ConsumerConfig, last_message_request, stream_name, write_decimal, write_expecting,
};
pub use connect::{Connect, Info, Version};
pub use credentials::{Credentials, CredentialsError};
pub use error::WireError;
pub use headers::Headers;
pub use nkey::{Nkey, NkeyError};
pub use notice::{Delivered, Notice};
pub use parse::{FromServer, Message, Parser, number as read_decimal, parse};
pub use reply::{
    AccountInfo, Answer, ApiError, ConsumerInfo, DirectMessage, PubAck, ReplyError, SequencePair,
    StoredMessage, Success,
};
pub use stream::{ClusterInfo, StreamConfig, StreamInfo, StreamState};
pub use write::{
    PING, PONG, is_subject, write_ping, write_pong, write_publish, write_publish_with_headers,
    write_subscribe, write_unsubscribe,
};

pub use crate::limits::{CONTROL_LINE_BYTES, MAX_HEADERS};
