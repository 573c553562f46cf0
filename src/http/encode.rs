//! Writes responses, for the server's side.

use std::io::Write;

/// The response for which a client waits before it sends its body (RFC 9110, section 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a response: status line, `Content-Type: application/json; charset=UTF-8`,
/// `Content-Length`, `Connection: close` unless `keep_alive`, the blank line, and `body`.
pub fn write_response(status: u16, body: &[u8], keep_alive: bool, out: &mut Vec<u8>) {
    let content_type = "application/json; charset=UTF-8";
    ResponseHead { status, content_type, fields: "", keep_alive }.write(body, false, out);
}

/// What the head of a response says besides its status and its body's length.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub content_type: &'a str,
    /// Whole lines, each with its CR LF.
    pub fields: &'a str,
    pub keep_alive: bool,
}

impl ResponseHead<'_> {
    /// Appends a response: the status line, `Content-Type`, `Content-Length`, the fields, `Connection: close` unless
    /// `keep_alive`, the blank line, and `body` unless it is the answer to a HEAD.
    pub fn write(&self, body: &[u8], is_head: bool, out: &mut Vec<u8>) {
        let ResponseHead { status, content_type, fields, keep_alive } = self;
        let connection = if *keep_alive { "" } else { "Connection: close\r\n" };
        // Writing to a vector never fails.
        let _ = write!(
            out,
            "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             {fields}{connection}\r\n",
            reason(*status),
            body.len()
        );
        if !is_head {
            out.extend_from_slice(body);
        }
    }
}

/// The reason phrase (RFC 9110, section 15); empty for other statuses: a client does not need it.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_how_long_it_is_and_whether_it_was_the_last() {
        let mut out = b"before".to_vec();
        write_response(200, b"{}", true, &mut out);
        let kept = "beforeHTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\n\
                    Content-Length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8_lossy(&out), kept);
        out.clear();
        write_response(418, b"", false, &mut out);
        let last = "HTTP/1.1 418 \r\nContent-Type: application/json; charset=UTF-8\r\n\
                    Content-Length: 0\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), last);
    }
}
