//! The server's side of the same claim.

use herd_mio::http::{BadRequest, Request, RequestReader};
use herd_mio::limits::{HEAD_BYTES, HEAD_FIELDS, REQUEST_BODY_BYTES};
use proptest::prelude::*;

use super::{cut, cuts, mutated, splits};

/// What clients send; the first is curl's.
const REQUESTS: [&str; 8] = [
    "GET /maps/api/place/nearbysearch/json?location=34.07,-118.44&radius=16093.44&key=k HTTP/1.1\r\n\
     Host: localhost:8443\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
    "POST /v1/places:searchNearby HTTP/1.1\r\nHost: localhost\r\nX-Goog-Api-Key: k\r\n\
     X-Goog-FieldMask: *\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n\
     {\"maxResultCount\": 1}",
    "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\n{\r\n1 \r\n}\r\n0\r\nA: b\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nhost: a\r\nConnection: keep-alive\r\n\r\n",
    "DELETE http://a/ HTTP/1.2\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET /x HTTP/1.1\r\n\r",
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
    "GET / HTTP/1.0\r\n\r\n",
];

fn expected() -> Vec<Request> {
    let get = |target: &str| Request {
        method: "GET".to_string(),
        target: target.to_string(),
        key: None,
        fields: String::new(),
        body: Vec::new(),
        keep_alive: true,
        expects_continue: false,
    };
    let with = |method: &str, target: &str, body: &str| Request {
        method: method.to_string(),
        body: body.as_bytes().to_vec(),
        ..get(target)
    };
    let key = Some("k".to_string());
    vec![
        get("/maps/api/place/nearbysearch/json?location=34.07,-118.44&radius=16093.44&key=k"),
        Request {
            key,
            fields: "*".to_string(),
            ..with("POST", "/v1/places:searchNearby", "{\"maxResultCount\": 1}")
        },
        with("POST", "/", "{}"),
        get("/"),
        with("DELETE", "http://a/", ""),
        with("GET", "/", "GET /x HTTP/1.1\r\n\r"),
        Request { keep_alive: false, expects_continue: true, ..with("POST", "/", "x") },
        Request { keep_alive: false, ..get("/") },
    ]
}

/// Requests that are refused, and with which status.
const BAD: [(&[u8], u16); 48] = [
    (b"\r\n\r\n", 400),
    (b"\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"GET / HTTP/1.1\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", 400),
    (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / FOO/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX-Goog-Api-Key: k\r\nX-Goog-Api-Key: l\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    // Two readings of where the body ends.
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\nhello", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 0\r\n\r\nhello", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \x0b\r\n\r\nhello", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 5\r\n\r\nhello", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nZ\r\nQ", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET /admin HTTP/1.1\r\n", 400),
    // The rest of the statuses.
    (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 411),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n", 413),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
];

#[test]
fn any_split_of_pipelined_requests_gives_the_same_requests() {
    let text = REQUESTS.concat();
    for pieces in splits(text.as_bytes()) {
        assert_eq!(read(&pieces), (expected(), None));
    }
}

#[test]
fn a_cut_request_stays_begun() {
    let text = REQUESTS.concat();
    let mut ends = vec![0];
    ends.extend(REQUESTS.iter().scan(0, |end, request| {
        *end += request.len();
        Some(*end)
    }));
    // The empty line before a request does not begin it.
    let before = ends[3] + 2;
    for length in 0..text.len() {
        let mut reader = RequestReader::new();
        reader.push(&text.as_bytes()[..length]);
        let mut requests = Vec::new();
        while let Some(request) = reader.next_request().expect("each is well-formed") {
            requests.push(request);
        }
        let whole = ends.iter().filter(|end| **end <= length).count() - 1;
        assert_eq!(requests, expected()[..whole], "{length} bytes");
        let is_between = ends.contains(&length) || length == before;
        assert_eq!(reader.has_begun(), !is_between, "{length} bytes");
    }
}

#[test]
fn a_bad_request_is_refused_with_its_status_however_it_is_split() {
    for (text, status) in BAD {
        let behind = [REQUESTS[0].as_bytes(), text].concat();
        for pieces in splits(&behind) {
            let (requests, refusal) = read(&pieces);
            let shown = text.escape_ascii();
            assert_eq!(requests, expected()[..1], "{shown}");
            assert_eq!(refusal.as_ref().map(|it| it.status()), Some(status), "{shown}");
            // In words, which quote nothing.
            let reason = refusal.map(|it| it.to_string()).unwrap_or_default();
            assert!(reason.starts_with("the request"), "{shown}: {reason}");
        }
    }
}

#[test]
fn a_refusal_is_final() {
    let mut reader = RequestReader::new();
    reader.push(b"GET / HTTP/2.0\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(reader.next_request(), Err(BadRequest::Version));
        reader.push(REQUESTS[0].as_bytes());
        assert_eq!(reader.buffered(), 0);
        assert!(!reader.has_begun());
    }
}

#[test]
fn received_bytes_of_a_request_are_counted_and_not_printed() {
    let mut reader = RequestReader::new();
    for text in
        ["GET /?key=s3cret HTTP/1.1\r\nContent-Length: 20\r\nHost: a\r\n", "\r\nmore s3cret"]
    {
        reader.push(text.as_bytes());
        assert_eq!(reader.next_request(), Ok(None));
        assert!(reader.buffered() >= 11, "{} bytes", reader.buffered());
        let shown = format!("{reader:?}");
        assert!(shown.contains(" bytes") && !shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn the_head_of_a_request_is_bounded_and_so_is_its_body() {
    let head = |bytes: usize| {
        let text = "GET / HTTP/1.1\r\nHost: \r\n\r\n";
        text.replace("Host: ", &format!("Host: {}", "x".repeat(bytes - text.len())))
    };
    assert_eq!(read(&[head(HEAD_BYTES).as_bytes()]).0.len(), 1);
    let fields =
        |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
    assert_eq!(read(&[fields(HEAD_FIELDS).as_bytes()]).0.len(), 1);
    for text in [head(HEAD_BYTES + 1), fields(HEAD_FIELDS + 1), "x".repeat(HEAD_BYTES)] {
        assert_eq!(read(&[text.as_bytes()]).1.map(|it| it.status()), Some(431));
    }
    let body = "x".repeat(REQUEST_BODY_BYTES);
    let text =
        format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {REQUEST_BODY_BYTES}\r\n\r\n{body}");
    assert_eq!(read(&[text.as_bytes()]).0[0].body, body.as_bytes());
}

proptest! {
    #[test]
    fn any_split_of_any_requests_gives_the_same(
        text in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            mutated(REQUESTS.map(str::as_bytes)),
            mutated(BAD.map(|(text, _)| text)),
            (mutated(REQUESTS.map(str::as_bytes)), mutated(REQUESTS.map(str::as_bytes)))
                .prop_map(|(one, other)| [one, other].concat()),
        ],
        cuts in cuts(),
    ) {
        let whole = read(&[&text]);
        prop_assert_eq!(read(&cut(&text, &cuts)), whole.clone());
        prop_assert_eq!(read(&text.chunks(1).collect::<Vec<_>>()), whole);
    }
}

/// The requests in the pieces up to the first that is refused, and its refusal.
fn read(pieces: &[&[u8]]) -> (Vec<Request>, Option<BadRequest>) {
    let longest = pieces.iter().map(|piece| piece.len()).max().unwrap_or(0);
    // A vector's memory doubles, and is 8 bytes at least.
    let bound = HEAD_BYTES + REQUEST_BODY_BYTES + (2 * longest).max(8);
    let mut reader = RequestReader::new();
    let mut requests = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            let next = reader.next_request();
            assert!(reader.buffered() <= bound, "{} bytes", reader.buffered());
            match next {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(refusal) => return (requests, Some(refusal)),
            }
        }
    }
    (requests, None)
}
