//! The protocol of NATS as values and bytes: control lines, headers, credentials, and the messages of JetStream.
//!
//! Nothing here has a socket or a clock. What is read is bounded: a control line by [`CONTROL_LINE_BYTES`], a payload by the
//! `max_payload` of the server.

/// The longest control line that a server may send.
pub const CONTROL_LINE_BYTES: usize = 64 * 1024;

/// A message on a subject that we have subscribed to (`MSG`, `HMSG`).
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub subject: &'a [u8],
    pub sid: u64,
    /// Where an answer goes.
    pub reply: Option<&'a [u8]>,
    pub headers: Headers<'a>,
    pub payload: &'a [u8],
}

/// The headers of a message as they came, from `NATS/1.0` on; empty if it has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a>(pub &'a [u8]);
