//! Claim: HTTP messages are read alike however their bytes are split, and a truncated, malformed or too long one is
//! refused within bounds.

#[path = "http/answers.rs"]
mod answers;
#[path = "http/requests.rs"]
mod requests;

use herd_mio::http::{Fault, HttpError, Response, ResponseProgress, ResponseReader};
use herd_mio::limits::{HEAD_BYTES, INTERIM_HEADS};
use proptest::prelude::*;

use answers::{ANSWERS, MALFORMED, UNTIL_CLOSE};

/// Of the readers here: small, so that a test can exceed it.
const BODY_LIMIT: usize = 4_096;

#[test]
fn any_split_of_an_answer_gives_the_same_response() {
    for (text, status, body, may_reuse) in ANSWERS {
        let expected = Ok(Response { status, body: body.as_bytes().to_vec(), may_reuse });
        for pieces in splits(text.as_bytes()) {
            assert_eq!(read(&pieces), expected, "{text:?} as {pieces:?}");
        }
    }
    for (text, status, body) in UNTIL_CLOSE {
        let expected = Ok(Response { status, body: body.as_bytes().to_vec(), may_reuse: false });
        for pieces in splits(text.as_bytes()) {
            assert_eq!(read(&pieces), expected, "{text:?} as {pieces:?}");
        }
    }
}

#[test]
fn a_truncated_answer_is_refused() {
    for (text, ..) in ANSWERS {
        let head = last_head(text);
        for length in 0..text.len() {
            let expected = match length {
                0 => HttpError::NoAnswer,
                length if length < head => HttpError::HeadCut,
                _ => HttpError::BodyCut,
            };
            let got = read(&[&text.as_bytes()[..length]]);
            assert_eq!(got, Err(expected), "{:?}", &text[..length]);
        }
    }
}

#[test]
fn an_answer_until_close_is_cut_in_its_head_only() {
    for (text, status, body) in UNTIL_CLOSE {
        let head = last_head(text);
        for length in 1..head {
            assert_eq!(read(&[&text.as_bytes()[..length]]), Err(HttpError::HeadCut));
        }
        for length in 0..body.len() {
            let body = body.as_bytes()[..length].to_vec();
            let got = read(&[&text.as_bytes()[..head + length]]);
            assert_eq!(got, Ok(Response { status, body, may_reuse: false }));
        }
    }
}

#[test]
fn a_byte_behind_the_end_forbids_another_request() {
    for (text, status, body, _) in ANSWERS {
        let longer = [text.as_bytes(), b"\r"].concat();
        let expected = Response { status, body: body.as_bytes().to_vec(), may_reuse: false };
        assert_eq!(read(&[&longer]), Ok(expected), "{text:?}");
    }
}

#[test]
fn a_malformed_answer_is_refused_for_the_same_reason_however_it_is_split() {
    for (text, error) in MALFORMED {
        for pieces in splits(text) {
            assert_eq!(read(&pieces), Err(error.clone()), "{:?}", text.escape_ascii().to_string());
        }
    }
}

#[test]
fn the_head_is_bounded_and_so_is_the_body() {
    let head = |bytes: usize| {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx: \r\n\r\n";
        text.replace("x: ", &format!("x: {}", "x".repeat(bytes - text.len()))).into_bytes()
    };
    assert!(read(&[&head(HEAD_BYTES)]).is_ok());
    for pieces in [vec![&head(HEAD_BYTES + 1)[..]], head(HEAD_BYTES + 1).chunks(1).collect()] {
        assert_eq!(read(&pieces), Err(Fault::HeadTooLong.into()));
    }

    let too_long = Err(Fault::BodyTooLong { limit: BODY_LIMIT }.into());
    let body = "x".repeat(BODY_LIMIT);
    for (head, tail) in [
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_LIMIT}\r\n\r\n"), ""),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{BODY_LIMIT:x}\r\n"),
            "\r\n0\r\n\r\n",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n".to_string(), ""),
    ] {
        let whole = [&head, &body, tail].concat();
        assert_eq!(read(&[whole.as_bytes()]).map(|response| response.body.len()), Ok(BODY_LIMIT));
    }
    // Refused as soon as it is announced.
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BODY_LIMIT + 1);
    assert_eq!(read(&[length.as_bytes()]), too_long);
    let chunk =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", BODY_LIMIT + 1);
    assert_eq!(read(&[chunk.as_bytes()]), too_long);
    let until_close = format!("HTTP/1.1 200 OK\r\n\r\n{body}x");
    assert_eq!(read(&[until_close.as_bytes()]), too_long);
}

#[test]
fn the_received_bytes_of_an_answer_are_counted() {
    for (text, least) in [
        ("HTTP/1.1 200 OK\r\nContent-", 25),
        ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789", 10),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n0123456789", 10),
        ("HTTP/1.1 200 OK\r\n\r\n0123456789", 10),
    ] {
        let mut reader = ResponseReader::new(BODY_LIMIT);
        assert_eq!(reader.push(text.as_bytes()), Ok(ResponseProgress::More), "{text}");
        assert!(reader.buffered() >= least, "{text}: {} bytes", reader.buffered());
        assert_eq!(reader.is_in_body(), text.contains("\r\n\r\n"));
    }
}

#[test]
fn interim_answers_are_skipped_up_to_a_bound() {
    let interim = "HTTP/1.1 102 Processing\r\nContent-Length: 7\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let answer = |count| [&interim.repeat(count), last].concat();
    assert!(read(&[answer(INTERIM_HEADS).as_bytes()]).is_ok());
    assert_eq!(read(&[answer(INTERIM_HEADS + 1).as_bytes()]), Err(HttpError::TooManyInterim));
    assert_eq!(read(&[interim.as_bytes()]), Err(HttpError::HeadCut));
}

#[test]
fn an_endless_message_is_not_read_indefinitely() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = [
        (String::new(), "H"),
        (String::new(), "HTTP/1.1 100 Continue\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n".to_string(), "a: b\r\n"),
        ("HTTP/1.1 200 ".to_string(), "x"),
        ("HTTP/1.1 200 OK\r\n\r\n".to_string(), "x"),
        (chunked.to_string(), "0"),
        (format!("{chunked}1;"), "x"),
        (format!("{chunked}1;a=\""), "x"),
        (chunked.to_string(), "1\r\nx\r\n"),
        (format!("{chunked}0\r\n"), "a: b\r\n"),
        (format!("{chunked}0\r\na:"), " "),
    ];
    for (begin, again) in endless {
        let mut reader = ResponseReader::new(BODY_LIMIT);
        let mut result = reader.push(begin.as_bytes());
        for _ in 0..HEAD_BYTES + BODY_LIMIT {
            if result != Ok(ResponseProgress::More) {
                break;
            }
            result = reader.push(again.as_bytes());
            assert_bounded(&reader);
        }
        assert!(result.is_err(), "{begin:?} and {again:?} without end: {result:?}");
    }
}

proptest! {
    #[test]
    fn a_message_framed_in_any_way_comes_out(
        body in prop::collection::vec(any::<u8>(), 0..BODY_LIMIT),
        framing in 0..3u8,
        sizes in prop::collection::vec(1..600usize, 1..20),
        interim in 0..=INTERIM_HEADS,
        cuts in cuts(),
    ) {
        let mut text = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n".repeat(interim);
        text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        match framing {
            0 => {
                text.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                text.extend_from_slice(&body);
            }
            1 => {
                text.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                let mut rest = &body[..];
                for size in sizes.iter().cycle() {
                    let (chunk, after) = rest.split_at(rest.len().min(*size));
                    text.extend_from_slice(format!("{:x};n={size}\r\n", chunk.len()).as_bytes());
                    text.extend_from_slice(chunk);
                    text.extend_from_slice(b"\r\n");
                    if chunk.is_empty() {
                        break;
                    }
                    rest = after;
                }
            }
            _ => {
                text.extend_from_slice(b"\r\n");
                text.extend_from_slice(&body);
            }
        }
        let expected = Response { status: 200, body, may_reuse: framing < 2 };
        prop_assert_eq!(read(&cut(&text, &cuts)), Ok(expected));
    }

    #[test]
    fn any_split_of_anything_gives_the_same_result(
        text in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            mutated(ANSWERS.map(|answer| answer.0.as_bytes())),
            mutated(MALFORMED.map(|(text, _)| text)),
        ],
        cuts in cuts(),
    ) {
        // Whether bytes stood behind the end depends on when they came, and on nothing else.
        let outcome = |pieces: &[&[u8]]| read(pieces).map(|it| (it.status, it.body));
        let whole = outcome(&[&text]);
        prop_assert_eq!(outcome(&cut(&text, &cuts)), whole.clone());
        prop_assert_eq!(outcome(&text.chunks(1).collect::<Vec<_>>()), whole);
    }
}

/// Pushes the pieces up to the end of the answer, or notes the end behind the last.
fn read(pieces: &[&[u8]]) -> Result<Response, HttpError> {
    let mut reader = ResponseReader::new(BODY_LIMIT);
    let mut came = false;
    for piece in pieces {
        assert_eq!(reader.has_begun(), came);
        came |= !piece.is_empty();
        let progress = reader.push(piece);
        assert_bounded(&reader);
        if let ResponseProgress::Done(response) = progress? {
            assert!(response.body.capacity() <= BODY_LIMIT);
            assert_eq!(reader.buffered(), 0);
            return Ok(response);
        }
    }
    reader.end()
}

fn assert_bounded(reader: &ResponseReader) {
    let bound = if reader.is_in_body() { BODY_LIMIT } else { HEAD_BYTES };
    assert!(reader.buffered() <= bound, "{} bytes", reader.buffered());
}

/// Where the body of the answer itself begins.
fn last_head(text: &str) -> usize {
    let last = text.rfind("HTTP/1.").expect("an answer has a first line");
    last + text[last..].find("\r\n\r\n").expect("a head ends with a blank line") + 4
}

/// As a whole, byte by byte, and in two in every way.
fn splits(text: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut splits = vec![vec![text], text.chunks(1).collect()];
    splits.extend((0..=text.len()).map(|at| vec![&text[..at], &text[at..]]));
    splits
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..8)
}

/// `text`, cut in these places.
fn cut<'t>(text: &'t [u8], cuts: &[prop::sample::Index]) -> Vec<&'t [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.sort_unstable();
    places.push(text.len());
    let mut start = 0;
    let pieces = places.iter().map(|end| &text[std::mem::replace(&mut start, *end)..*end]);
    pieces.collect()
}

/// One of the texts with some bytes replaced, inserted, left out or repeated.
fn mutated<const N: usize>(texts: [&'static [u8]; N]) -> impl Strategy<Value = Vec<u8>> {
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(b"\r\n:;, \t\"\\0159afAF+-x".to_vec())];
    let change = (any::<prop::sample::Index>(), 0..4u8, byte, 1..40usize);
    let changes = prop::collection::vec(change, 0..5);
    (prop::sample::select(texts.to_vec()), changes).prop_map(|(text, changes)| {
        let mut text = text.to_vec();
        for (at, kind, byte, length) in changes {
            let at = at.index(text.len() + 1);
            let end = text.len().min(at + length);
            match kind {
                0 if at < text.len() => text[at] = byte,
                1 => text.insert(at, byte),
                2 => drop(text.drain(at..end)),
                _ => {
                    let copy = text[at..end].to_vec();
                    text.splice(at..at, copy);
                }
            }
        }
        text
    })
}
