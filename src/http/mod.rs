//! HTTP/1.1 as bytes: the bytes of a connection, split anywhere, become an answer or requests.
//!
//! ```text
//!   bytes ──> HeadBuffer ──> httparse ──> BodyFraming ──> Body ──> Response, Request
//!             up to the      once, on     where the   by length,
//!             blank line     the whole    body ends   by chunks,
//!                                                     until close
//! ```
//!
//! Nothing here owns a socket, reads a clock or writes to the log; time limits belong to the owner
//! of the connection. Only the framing is decoded: a body is what the other side sent.
//!
//! Promises: the result depends on the bytes alone, never on how they were split; any input gives a
//! result or an error; a reader of answers holds at most [`HEAD_BYTES`] and its body's limit,
//! whatever lengths the other side announces; no error quotes what was received.
//!
//! The strictness has a reason. Where two readers of the same bytes disagree about where a body ends,
//! one of them takes a part of the body for the next message ("request smuggling"), so whatever leaves
//! room for two readings (both lengths, `+5`, a bare line feed, in requests a folded field) is refused
//! (RFC 9112, sections 2.2, 5.2 and 6.3), and the connection closed. What can be read in one way only
//! is accepted, because real services send it: folded fields in answers, blanks after a chunk's size,
//! a status above 599, a higher minor version, `Content-Encoding: none`. `httparse` reads the heads.
//! It does not read chunk sizes here, because its function for that takes an empty size for 0, so that
//! a truncated body would pass for a complete one.

mod body;
mod chunked;
mod encode;
mod fault;
mod get;
mod head;
mod request;
mod response;

pub use encode::{CONTINUE, ResponseHead, write_response};
pub use fault::Fault;
pub use get::{Get, GetReader};
pub use request::{BadRequest, Request, RequestReader};
pub use response::{HttpError, Response, ResponseProgress, ResponseReader};

#[cfg(doc)]
use crate::limits::HEAD_BYTES;

/// Appends without reserving more than `limit` bytes in all, unlike a plain `extend_from_slice`, which
/// doubles. `limit` must be no less than the final length of `into`.
fn append_within(limit: usize, into: &mut Vec<u8>, bytes: &[u8]) {
    let length = into.len() + bytes.len();
    if length > into.capacity() {
        let wanted = length.max((2 * into.capacity()).min(limit));
        into.reserve_exact(wanted - into.len());
    }
    into.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_doubles_up_to_the_limit_and_only_where_it_must() {
        let mut bytes = Vec::with_capacity(8);
        let pointer = bytes.as_ptr();
        append_within(100, &mut bytes, &[0; 8]);
        assert_eq!((bytes.capacity(), bytes.as_ptr()), (8, pointer), "there is just room enough");
        append_within(100, &mut bytes, &[0; 1]);
        assert_eq!((bytes.len(), bytes.capacity()), (9, 16));
        append_within(100, &mut bytes, &[0; 51]);
        assert_eq!(bytes.capacity(), 60);
        append_within(100, &mut bytes, &[0; 1]);
        assert_eq!(bytes.capacity(), 100);
    }
}
