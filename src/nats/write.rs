//! What we say to a server. Each function appends to the output.
//!
//! Subjects are written as they are: those that come from elsewhere must be looked at by [`is_subject`] first.

use super::api::write_decimal;

pub const PING: &[u8] = b"PING\r\n";
pub const PONG: &[u8] = b"PONG\r\n";
/// What stands before all headers.
const HEADER_LINE: &[u8] = b"NATS/1.0\r\n";

/// Whether bytes can be a subject of a message: without blanks, controls, wildcards and empty tokens, and short enough
/// for a control line of any server.
pub fn is_subject(bytes: &[u8]) -> bool {
    let is_token = |token: &[u8]| {
        !token.is_empty()
            && token != b"*"
            && token != b">"
            && token.iter().all(|byte| *byte > b' ' && *byte != 0x7F)
    };
    bytes.len() <= MAX_SUBJECT_BYTES && bytes.split(|byte| *byte == b'.').all(is_token)
}

/// A server takes control lines of 4,096 bytes unless told otherwise; two subjects and two lengths fit.
const MAX_SUBJECT_BYTES: usize = 1_900;

pub fn write_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(PING);
}

pub fn write_pong(out: &mut Vec<u8>) {
    out.extend_from_slice(PONG);
}

/// Messages on these subjects come to us, with this number.
pub fn write_subscribe(subject: &[u8], sid: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject);
    out.push(b' ');
    write_decimal(sid, out);
    out.extend_from_slice(b"\r\n");
}

pub fn write_unsubscribe(sid: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"UNSUB ");
    write_decimal(sid, out);
    out.extend_from_slice(b"\r\n");
}

/// A message without headers.
pub fn write_publish(subject: &[u8], reply: Option<&[u8]>, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"PUB ");
    write_subjects(subject, reply, out);
    write_decimal(payload.len() as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// A message with these headers. Neither names nor values may hold an end of a line.
pub fn write_publish_with_headers(
    subject: &[u8],
    reply: Option<&[u8]>,
    headers: &[(&str, &[u8])],
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let each = headers.iter().map(|(name, value)| name.len() + value.len() + 4);
    let header_bytes = HEADER_LINE.len() + each.sum::<usize>() + 2;
    begin_with_headers(subject, reply, header_bytes, payload.len(), out);
    for (name, value) in headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The control line of a message with headers, and what stands before the first one.
pub(super) fn begin_with_headers(
    subject: &[u8],
    reply: Option<&[u8]>,
    header_bytes: usize,
    payload_bytes: usize,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HPUB ");
    write_subjects(subject, reply, out);
    write_decimal(header_bytes as u64, out);
    out.push(b' ');
    write_decimal((header_bytes + payload_bytes) as u64, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(HEADER_LINE);
}

fn write_subjects(subject: &[u8], reply: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(subject);
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply);
        out.push(b' ');
    }
}
