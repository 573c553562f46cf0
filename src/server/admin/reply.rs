//! A reply and its head.

use serde::Serialize;

use crate::http::ResponseHead;

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(super) status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    /// It is a part of the page.
    is_page: bool,
}

impl Reply {
    pub(super) fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Reply {
        Reply { status, content_type, body, is_page: false }
    }

    /// A text for people.
    pub(super) fn text(status: u16, body: String) -> Reply {
        Reply::new(status, "text/plain; charset=utf-8", body.into_bytes())
    }

    /// A file of the page.
    pub(super) fn page(content_type: &'static str, body: Vec<u8>) -> Reply {
        Reply { is_page: true, ..Reply::new(200, content_type, body) }
    }

    /// JSON, with a line feed behind it.
    pub(super) fn json(status: u16, value: &impl Serialize) -> Reply {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Reply::new(status, "application/json", body)
            }
            // Only maps with other keys than texts fail.
            Err(error) => Reply::text(500, format!("the reply can't be written: {error}\n")),
        }
    }

    /// Bytes of its body.
    pub(super) fn length(&self) -> usize {
        self.body.len()
    }

    /// Appends it; without its body if the request was HEAD.
    pub(super) fn write(&self, keep_alive: bool, is_head: bool, out: &mut Vec<u8>) {
        let fields = match self.status {
            405 => NOT_ALLOWED_FIELDS,
            _ if self.is_page => PAGE_FIELDS,
            _ => FIELDS,
        };
        let Reply { status, content_type, .. } = *self;
        ResponseHead { status, content_type, fields, keep_alive }.write(&self.body, is_head, out);
    }
}

/// Of every reply: it is kept by no cache, taken for no other type, and neither read by a page of another origin
/// nor followed by its address.
macro_rules! fields {
    ($more:literal) => {
        concat!(
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            "Cross-Origin-Resource-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n",
            $more
        )
    };
}
const FIELDS: &str = fields!("");
/// The page loads nothing but its own files, sends nothing, and is shown in no frame.
const PAGE_FIELDS: &str = fields!(
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
);
/// The head of a stream of events, which ends with its connection.
pub(super) const EVENT_STREAM_HEAD: &str = concat!(
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n",
    fields!("Connection: close\r\n\r\n")
);
const NOT_ALLOWED_FIELDS: &str = fields!("Allow: GET, HEAD\r\n");
