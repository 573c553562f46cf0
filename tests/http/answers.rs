//! Answers for the reader, good and bad.

use herd_mio::http::{Fault, HttpError};

/// Text, status, body, whether the connection may be used again. The first three are what Google and
/// Python's server send, made shorter.
pub const ANSWERS: [(&str, u16, &str, bool); 23] = [
    (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\n\
         Date: Mon, 05 Oct 2026 10:00:00 GMT\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache, must-revalidate\r\nVary: Accept-Language\r\n\
         Server: scaffolding on HTTPServer2\r\nX-XSS-Protection: 0\r\n\
         Alt-Svc: h3=\":443\"; ma=2592000,h3-29=\":443\"; ma=2592000\r\n\
         Transfer-Encoding: chunked\r\n\r\n\
         1c\r\n{\n   \"html_attributions\" : [\r\n18\r\n],\n   \"results\" : []\n}\n\n\r\n0\r\n\r\n",
        200,
        "{\n   \"html_attributions\" : [],\n   \"results\" : []\n}\n\n",
        true,
    ),
    (
        "HTTP/1.1 403 Forbidden\r\nVary: Origin\r\nVary: X-Origin\r\nVary: Referer\r\n\
         Content-Type: application/json; charset=UTF-8\r\nContent-Length: 22\r\n\r\n\
         {\"error\":{\"code\":403}}",
        403,
        "{\"error\":{\"code\":403}}",
        true,
    ),
    (
        "HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6 Python/3.12.3\r\nContent-Length: 2\r\n\r\n{}",
        200,
        "{}",
        false,
    ),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true),
    ("HTTP/1.1 200\r\nContent-Length:2 \r\n\r\nhi", 200, "hi", true),
    ("HTTP/1.1 200 \r\ncontent-length:\t2\t\r\nCONNECTION: Close\r\n\r\nhi", 200, "hi", false),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nConnection: x, close\r\n\
         content-length: 02\r\n\r\nhi",
        200,
        "hi",
        false,
    ),
    ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", false),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: identity\r\n\r\nhi",
        200,
        "hi",
        true,
    ),
    (
        "HTTP/1.1 500 Oh dear\r\nTRANSFER-ENCODING:\tChunked\r\n\r\n\
         0001;a=\"\\\";\";b\r\nx\r\n2 ;c\r\n\r\n\r\n000;d\r\nA: b\r\nC:\r\n\r\n",
        500,
        "x\r\n",
        true,
    ),
    ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", true),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, "", false),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99999\r\n\r\n", 304, "", true),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>\r\n\
         Content-Length: 9\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 1\r\n\r\n.",
        302,
        ".",
        true,
    ),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", true),
    // Folded fields, trailers among them.
    ("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length:\r\n\t 2\r\n\r\nhi", 200, "hi", true),
    (
        "HTTP/1.1 200 OK\r\nA:\r\n\tContent-Length: 5\r\n \r\nContent-Length: 2\r\n\r\nhi",
        200,
        "hi",
        true,
    ),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n  chunked\r\nConnection: x,\r\n close\r\n\r\n\
         2\r\nhi\r\n0\r\nA: b\r\n c\r\n\r\n",
        200,
        "hi",
        false,
    ),
    // Blanks behind a chunk's size.
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         2  \r\nhi\r\n1\t \t\r\n!\r\n3 ;a=b\r\n...\r\n0 \r\n\r\n",
        200,
        "hi!...",
        true,
    ),
    // A body that is not compressed, in other words.
    (
        "HTTP/1.1 200 OK\r\nContent-Encoding: None\r\nContent-Length: 2\r\n\
         Content-Encoding: identity, none\r\n\r\nhi",
        200,
        "hi",
        true,
    ),
    // Statuses and versions that do not exist yet.
    ("HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nhi", 600, "hi", true),
    ("HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n", 999, "", true),
    ("HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", true),
];

/// Text, status, body, of answers that the end of the connection ends.
pub const UNTIL_CLOSE: [(&str, u16, &str); 3] = [
    ("HTTP/1.1 200 OK\r\nServer: x\r\n\r\nuntil close", 200, "until close"),
    ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n", 200, "0\r\n\r\n"),
    ("HTTP/1.0 599 \r\n\r\n\r\n", 599, "\r\n"),
];

const NOT_HTTP: HttpError = HttpError::Unreadable(Fault::NotHttp);
const BARE_LF: HttpError = HttpError::Unreadable(Fault::BareLineFeed);
const BAD_FIELD: HttpError = HttpError::Unreadable(Fault::BadField);
const BAD_LENGTH: HttpError = HttpError::Unreadable(Fault::BadLength);
const DIFFER: HttpError = HttpError::Unreadable(Fault::LengthsDiffer);
const BOTH: HttpError = HttpError::Unreadable(Fault::LengthAndCoding);
const NOT_LAST: HttpError = HttpError::Unreadable(Fault::ChunkedNotLast);
const UNKNOWN: HttpError = HttpError::Unreadable(Fault::UnknownCoding);
const BAD_CHUNK: HttpError = HttpError::Unreadable(Fault::BadChunk);

/// Answers that are refused, and why.
pub const MALFORMED: [(&[u8], HttpError); 60] = [
    // No HTTP/1.1.
    (b"\r\nHTTP/1.1 200 OK\r\n\r\n", NOT_HTTP),
    (b"\n", NOT_HTTP),
    (b"SSH-2.0-OpenSSH_9.6\r\n", NOT_HTTP),
    (b"\x15\x03\x01\x00\x02\x02\x46", NOT_HTTP),
    (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", NOT_HTTP),
    (b"HTTP/2 200\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.10 200 OK\r\n\r\n", NOT_HTTP),
    (b"http/1.1 200 OK\r\n\r\n", NOT_HTTP),
    (b"<html>500</html>", NOT_HTTP),
    // The first line.
    (b"HTTP/1.1\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1  200 OK\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1\t200 OK\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1 20 OK\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1 2000 OK\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1 +20 OK\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1 200OK\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1 200 O\0K\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1 099 OK\r\n\r\n", HttpError::BadStatus),
    (b"HTTP/1.1 000 OK\r\n\r\n", HttpError::BadStatus),
    (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", HttpError::SwitchesProtocols),
    // Line ends.
    (b"HTTP/1.1 200 OK\n\n", BARE_LF),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", BARE_LF),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", BARE_LF),
    (b"HTTP/1.1 200 OK\rContent-Length: 0\r\n\r\n", NOT_HTTP),
    (b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 0\r\n\r\n", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\r\n\r\n", NOT_HTTP),
    // Fields.
    (b"HTTP/1.1 200 OK\r\n \r\nA: b\r\n\r\n", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\nA: b\n folded\r\n\r\n", BARE_LF),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 6\r\n\r\nhello", BAD_LENGTH),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n ,6\r\n\r\nhello", DIFFER),
    (b"HTTP/1.1 200 OK\r\n Content-Length: 5\r\n\r\n", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\nContent Length: 5\r\n\r\nhello", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\n: 5\r\n\r\n", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\nA\r\n\r\n", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", BAD_FIELD),
    (b"HTTP/1.1 200 OK\r\nA\x00: b\r\n\r\n", BAD_FIELD),
    // Lengths.
    (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", BAD_LENGTH),
    (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello", BAD_LENGTH),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello", BAD_LENGTH),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: -1\r\n\r\n", BAD_LENGTH),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", DIFFER),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello", DIFFER),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BOTH),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n", BOTH),
    // Codings.
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", NOT_LAST),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n", NOT_LAST),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", UNKNOWN),
    (
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        HttpError::Unreadable(Fault::CodingInHttp10),
    ),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: gzip\r\n\r\nhello",
        HttpError::ContentCoding,
    ),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Encoding: none,\r\n gzip\r\n\r\nhello",
        HttpError::ContentCoding,
    ),
    // Chunks.
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", BAD_CHUNK),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\n\r\n", BAD_CHUNK),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n", BAD_CHUNK),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", BAD_CHUNK),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n", BAD_CHUNK),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;\nx\r\nhello\r\n", BAD_CHUNK),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n", BAD_CHUNK),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\n", BAD_CHUNK),
];
