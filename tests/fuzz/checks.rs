//! What must hold for any bytes at all: one function a target, used by the fuzzer and, over the kept
//! inputs, by plain `cargo test`. Each panics where its claim does not hold.
//!
//! The first byte of an input often is no part of the text: it chooses where a stream is cut, or a
//! limit.

use std::time::Duration;

use herd_mio::application::{
    Application, ConnectionId, Framing, Io, LineBuffer, ListenerId, Next, Opened, Origin,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::http::{RequestReader, Response, ResponseProgress, ResponseReader};
use herd_mio::nats::{
    Answer as _, ConsumerInfo, Credentials, Delivered, DirectMessage, FromServer, Info,
    MAX_HEADERS, Parser, PubAck, StoredMessage, StreamInfo, is_subject,
};
use herd_mio::places::google::{Answer, Api, Shape};
use herd_mio::places::trim;
use herd_mio::protocol::{Dialect, Epoch, Location};
use herd_mio::server::{CLIENTS, PEERS, Server, ServerSetup};

/// What is checked of an input.
pub type Check = fn(&[u8]);

/// Every target by its name.
pub const ALL: [(&str, Check); 8] = [
    ("client_lines", client_lines),
    ("peer_lines", peer_lines),
    ("location", location),
    ("http_answer", http_answer),
    ("http_request", http_request),
    ("trim_answer", trim_answer),
    ("configuration", configuration),
    ("nats", nats),
];

/// A client's stream gets the same answers however it is cut, one line per line, as long as nobody asks
/// for places.
pub fn client_lines(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let whole = converse(CLIENTS, &[stream]);
    let cut = usize::from(*choice) % (stream.len() + 1);
    let (left, right) = stream.split_at(cut);
    assert_eq!(converse(CLIENTS, &[left, right]), whole, "cut at {cut}");
    let each = usize::from(choice % 16) + 1;
    let pieces: Vec<&[u8]> = stream.chunks(each).collect();
    assert_eq!(converse(CLIENTS, &pieces), whole, "in pieces of {each}");
    let (output, _) = whole;
    assert!(output.is_empty() || output.ends_with(b"\n"), "an answer ends with LF");
}

/// The same on the neighbours' port, and what comes back are lines that an acceptor says.
pub fn peer_lines(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    // Most inputs would not get past the first line, so half of them begin with one that is right.
    let mut stream = Vec::new();
    if choice % 2 == 0 {
        stream.extend_from_slice(b"HELLO herd/1 Hands 00000000000000a1\n");
    }
    stream.extend_from_slice(rest);
    let whole = converse(PEERS, &[&stream]);
    let cut = usize::from(*choice) % (stream.len() + 1);
    let (left, right) = stream.split_at(cut);
    assert_eq!(converse(PEERS, &[left, right]), whole, "cut at {cut}");
    for line in whole.0.split_inclusive(|&byte| byte == b'\n') {
        let known = [&b"RESUME "[..], b"ACK ", b"? "].iter().any(|word| line.starts_with(word));
        assert!(known, "{}", line.escape_ascii());
    }
}

/// A location that is accepted keeps its text, is on Earth and has decimal degrees that are near its
/// degrees.
pub fn location(data: &[u8]) {
    let Ok(location) = Location::parse(data) else { return };
    assert_eq!(location.text, data);
    for (angle, most) in [(location.latitude, 90.0), (location.longitude, 180.0)] {
        let degrees = angle.degrees();
        assert!(degrees.abs() <= most, "{degrees}");
        let text = angle.decimal_degrees();
        let again: f64 = text.parse().expect("decimal degrees are a number");
        assert!((again - degrees).abs() < 1e-7, "{text} and {degrees}");
    }
}

/// An answer is read alike however it is cut, and holds no more than its limits.
pub fn http_answer(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let limit = usize::from(*choice) * 16;
    let whole = read_answer(&[stream], limit);
    let each = usize::from(choice % 16) + 1;
    let pieces: Vec<&[u8]> = stream.chunks(each).collect();
    let split = read_answer(&pieces, limit);
    // Bytes behind the answer are seen only if they come with its end.
    let alike = match (&whole, &split) {
        (Some(whole), Some(split)) => (whole.status, &whole.body) == (split.status, &split.body),
        (whole, split) => whole.is_none() && split.is_none(),
    };
    assert!(alike, "{whole:?} and in pieces of {each} {split:?}");
    assert!(whole.is_none_or(|answer| answer.body.len() <= limit));
}

/// Requests are read alike however they are cut.
pub fn http_request(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut reader = RequestReader::new();
        let mut seen = Vec::new();
        for piece in pieces {
            reader.push(piece);
            loop {
                match reader.next_request() {
                    Ok(Some(it)) => {
                        seen.push(Ok((it.method, it.target, it.key, it.body, it.keep_alive)));
                    }
                    Ok(None) => break,
                    Err(bad) => {
                        seen.push(Err(bad.status()));
                        return seen;
                    }
                }
            }
        }
        seen
    };
    let whole = read(&mut std::iter::once(stream));
    let each = usize::from(choice % 16) + 1;
    assert_eq!(read(&mut stream.chunks(each)), whole, "in pieces of {each}");
}

/// What is trimmed is still JSON with the same list, no longer than the bound; it ends in the only
/// blank line; and to trim it again changes nothing.
pub fn trim_answer(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let bound = usize::from(choice % 24);
    reshape_answer(body, bound);
    let Ok(trimmed) = trim::trim(body, "results", bound) else { return };
    let text = std::str::from_utf8(&trimmed).expect("UTF-8 stays UTF-8");
    assert!(text.ends_with("\n\n") && !text.trim_end_matches('\n').contains("\n\n"), "{text:?}");
    assert!(!text.contains("\n\r\n"), "{text:?}");
    assert_eq!(trim::trim(&trimmed, "results", bound).as_deref(), Ok(&*trimmed), "{text:?}");
    // serde_json gives up on numbers and depths that trimming has no need to look at.
    let before: Result<serde_json::Value, _> = serde_json::from_slice(body);
    let (Ok(before), Ok(after)) = (before, serde_json::from_str::<serde_json::Value>(text)) else {
        return;
    };
    let (before, after) = (before["results"].as_array(), after["results"].as_array());
    let (before, after) = (before.expect("a list"), after.expect("a list"));
    assert_eq!(&before[..before.len().min(bound)], &after[..]);
}

/// An answer of the New API becomes one of Nearby Search, whole and well-formed, or none.
fn reshape_answer(body: &[u8], bound: usize) {
    let response = Response { status: 200, body: body.to_vec(), may_reuse: true };
    let Answer::Places { usable, .. } = Api::New(Shape::Nearby).read(&response, None, bound) else {
        return;
    };
    let text = String::from_utf8(usable.trim(bound)).expect("UTF-8 stays UTF-8");
    assert!(text.starts_with("{\n   \"html_attributions\" : [") && text.ends_with("\n}\n\n"));
    assert!(!text.trim_end_matches('\n').contains("\n\n"), "{text:?}");
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
        assert!(value["results"].as_array().expect("a list").len() <= bound);
    }
}

/// A configuration that is accepted is a herd: neighbours both ways, and printed it means the same.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = Config::parse(text) else { return };
    for (number, server) in config.servers.iter().enumerate() {
        for &other in &server.neighbours {
            assert!(other != number && config.servers[other].neighbours.contains(&number));
        }
    }
    assert_eq!(Config::parse(&config.summary()), Ok(config));
}

/// What a server of NATS sends is read alike however it is cut, within the bound; what it says of JetStream is a value or
/// an error; a subject to answer to is one. A file of credentials shows nothing of itself.
pub fn nats(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let most = usize::from(*choice) * 8;
    let read = |step: usize| {
        let (mut parser, mut seen) = (Parser::new(most), Vec::new());
        let (mut begin, mut end) = (0, 0);
        while end < stream.len() {
            end = (end + step).min(stream.len());
            loop {
                match parser.next(&stream[begin..end]) {
                    Ok(Some((what, length))) => {
                        look_into(&what, most);
                        seen.push(format!("{what:?}"));
                        begin += length;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        seen.push(error.to_string());
                        return seen;
                    }
                }
            }
        }
        seen
    };
    let each = usize::from(choice % 16) + 1;
    assert_eq!(read(each), read(stream.len().max(1)), "in pieces of {each}");
    for made in [Credentials::creds(stream), Credentials::nkey(stream), Credentials::token(stream)]
    {
        let shown = match made {
            Ok(credentials) => format!("{credentials:?}"),
            Err(error) => error.to_string(),
        };
        assert!(shown.len() < 100, "{shown}");
    }
}

fn look_into(what: &FromServer<'_>, most: usize) {
    let message = match what {
        FromServer::Info(json) => {
            _ = Info::parse(json).map(|info| (info.version(), info.max_message_bytes()));
            return;
        }
        FromServer::Message(message) => message,
        _ => return,
    };
    assert!(message.headers.0.len() + message.payload.len() <= most);
    assert!(message.headers.iter().count() <= MAX_HEADERS);
    if let Some(notice) = message.notice() {
        let answered = match notice {
            herd_mio::nats::Notice::FlowControl { reply } => Some(reply),
            herd_mio::nats::Notice::Heartbeat { stalled, .. } => stalled,
        };
        assert!(answered.is_none_or(is_subject));
    }
    if let Some(delivered) = message.reply.and_then(Delivered::parse) {
        assert!(!delivered.stream.contains(&b'.') && !delivered.consumer.contains(&b'.'));
    }
    _ = PubAck::read(message).map(|ack| assert!(ack.seq > 0));
    _ = StreamInfo::read(message).map(|info| info.created_at());
    _ = ConsumerInfo::read(message);
    _ = StoredMessage::read(message);
    _ = DirectMessage::read(message);
}

/// What one connection gets for these pieces, its last line included, and whether it was closed.
fn converse(port: ListenerId, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let config = &Config { dialect: Dialect::Report, max_clients: 8, ..Config::default() };
    let setup = ServerSetup { epoch: Epoch(0xabcd), ..ServerSetup::plain(config, NOW) };
    let mut server = Server::new(setup);
    let mut input = LineBuffer::default();
    let mut output = Vec::new();
    let opened = server.handle_open(Opened::plain(Origin::Accepted(port)), &mut io(&mut output));
    let (mut session, policy) = opened.expect("nobody is refused");
    let Framing::Lines(limit) = policy.framing else { panic!("both ports get lines") };
    for piece in pieces.iter().copied().chain([&[][..]]) {
        if piece.is_empty() {
            input.end();
        } else {
            input.push(piece);
        }
        while let Some(line) = input.next_line(limit) {
            match server.handle_line(&mut session, line, &mut io(&mut output)) {
                Next::Finish => return (output, true),
                Next::Wait => return (output, false), // Nobody will answer.
                _ => {}
            }
        }
    }
    (output, false)
}

fn io(out: &mut Vec<u8>) -> Io<'_> {
    let (id, peer) = (ConnectionId { slot: 0, generation: 1 }, ([127, 0, 0, 1], 1).into());
    Io::new(id, peer, NOW, out, usize::MAX / 2)
}

fn read_answer(pieces: &[&[u8]], limit: usize) -> Option<Response> {
    let mut reader = ResponseReader::new(limit);
    for piece in pieces {
        let progress = reader.push(piece);
        assert!(reader.buffered() <= limit + 2 * herd_mio::limits::HEAD_BYTES, "it holds too much");
        match progress {
            Ok(ResponseProgress::Done(answer)) => return Some(answer),
            Ok(ResponseProgress::More) => {}
            Err(_) => return None,
        }
    }
    reader.end().ok()
}

const NOW: Now = Now { elapsed: Duration::ZERO, wall: WallTime(1_700_000_000_000_000_000) };
