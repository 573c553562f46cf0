//! Claim: what real servers of NATS said is read as it was meant, however it is cut, and what was sent to them is what we
//! write (`nats/record.py` recorded it).

use std::path::Path;

use herd_mio::nats::{
    AccountInfo, Answer, ApiError, Bucket, Connect, ConsumerConfig, ConsumerInfo, Credentials,
    Delivered, DirectMessage, FromServer, Headers, Info, Message, Notice, Parser, PubAck,
    ReplyError, StoredMessage, StreamConfig, StreamInfo, Success, Version, last_message_request,
    parse, write_expecting, write_ping, write_publish, write_subscribe, write_unsubscribe,
};

/// Debian 12's, and the current one.
const VERSIONS: [&str; 2] = ["2.9.10", "2.15.1"];
const VALUE: &[u8] =
    b"AT Goloman +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503";
const KEY: &[u8] = b"kiwi=2Ecs=2Eucla=2Eedu";
const SUBJECT: &[u8] = b"$KV.herd.kiwi=2Ecs=2Eucla=2Eedu";
const INBOX: &str = "_INBOX.0123456789abcdef";

/// A recorded conversation: what was sent, and what came back, each as one stream.
struct Recorded {
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Recorded {
    fn read(version: &str, name: &str) -> Recorded {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats").join(version);
        let text = std::fs::read_to_string(folder.join(name)).expect("a recorded conversation");
        let mut recorded = Recorded { sent: Vec::new(), received: Vec::new() };
        for line in text.lines() {
            match line.split_at(3) {
                ("C: ", rest) => unescape(rest, &mut recorded.sent),
                ("S: ", rest) => unescape(rest, &mut recorded.received),
                (begin, _) => panic!("{begin:?} begins a line of {version}/{name}"),
            }
        }
        recorded
    }

    fn all(&self) -> Vec<FromServer<'_>> {
        let mut rest = &self.received[..];
        let mut all = Vec::new();
        while !rest.is_empty() {
            let (what, length) = parse(rest, MAX).expect("readable").expect("complete");
            all.push(what);
            rest = &rest[length..];
        }
        all
    }

    fn messages(&self) -> Vec<Message<'_>> {
        let is_message = |what: FromServer<'_>| matches!(what, FromServer::Message(_));
        let all = self.all().into_iter().filter(|what| is_message(*what));
        all.map(|what| match what {
            FromServer::Message(message) => message,
            other => unreachable!("{other:?}"),
        })
        .collect()
    }

    /// The answer to the request with this number.
    fn answer(&self, number: &str) -> Message<'_> {
        let subject = format!("{INBOX}.r.{number}");
        let found = self.messages().into_iter().find(|it| it.subject == subject.as_bytes());
        found.unwrap_or_else(|| panic!("no answer {number}"))
    }
}

/// What the parser allows for a message here.
const MAX: usize = 1 << 20;

fn unescape(text: &str, to: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        to.extend_from_slice(plain.as_bytes());
        let (kind, behind) = escaped.split_at(1);
        rest = behind;
        match kind {
            "r" => to.push(b'\r'),
            "n" => to.push(b'\n'),
            "\\" => to.push(b'\\'),
            "x" => {
                to.push(u8::from_str_radix(&behind[..2], 16).expect("two hex digits"));
                rest = &behind[2..];
            }
            "{" => {
                let (run, behind) = behind.split_once('}').expect("the end of a run");
                let (letter, count) = run.split_once('*').expect("a letter and a count");
                let count = count.parse().expect("a count");
                to.extend(std::iter::repeat_n(letter.as_bytes()[0], count));
                rest = behind;
            }
            other => panic!("\\{other}"),
        }
    }
    to.extend_from_slice(rest.as_bytes());
}

#[test]
fn a_conversation_is_read_the_same_however_it_is_cut() {
    for version in VERSIONS {
        for name in ["bucket.txt", "flow.txt", "refused.txt", "permissions.txt"] {
            let recorded = Recorded::read(version, name);
            let whole: Vec<String> =
                recorded.all().iter().map(|what| format!("{what:?}")).collect();
            for step in [1, 2, 3, 7, 1000] {
                let mut found = Vec::new();
                let (mut parser, mut begin, mut end) = (Parser::new(MAX), 0, 0);
                while end < recorded.received.len() {
                    end = (end + step).min(recorded.received.len());
                    let next = |parser: &mut Parser, begin: usize| {
                        let bytes = &recorded.received[begin..end];
                        let next = parser.next(bytes).expect("readable");
                        next.map(|(what, length)| (format!("{what:?}"), length))
                    };
                    while let Some((what, length)) = next(&mut parser, begin) {
                        found.push(what);
                        begin += length;
                    }
                }
                assert!(found == whole, "{version}/{name} in pieces of {step}");
            }
        }
    }
}

#[test]
fn what_was_sent_to_a_server_is_what_we_write() {
    let bucket = Bucket::new("herd");
    let request = |number: &str| format!("{INBOX}.r.{number}").into_bytes();
    for version in VERSIONS {
        let mut out = Vec::new();
        begin(&mut out);
        let ask = |subject: &str, number: &str, body: &[u8], out: &mut Vec<u8>| {
            Bucket::write_request(subject, &request(number), body, out);
        };
        ask(Bucket::ACCOUNT_INFO, "1", b"", &mut out);
        ask(&bucket.stream_info, "2", b"", &mut out);
        ask(&bucket.stream_create, "3", &StreamConfig::of_bucket("herd", 1).to_json(), &mut out);
        ask(&bucket.stream_info, "4", b"", &mut out);
        for (number, expected) in [("p1", 0), ("p2", 0), ("p3", 1)] {
            write_expecting(SUBJECT, &request(number), expected, VALUE, &mut out);
        }
        ask(&bucket.message_get, "5", &last_message_request(SUBJECT), &mut out);
        ask(&bucket.message_get, "6", &last_message_request(b"$KV.herd.nobody"), &mut out);
        for (number, key) in [("7", KEY), ("8", b"nobody")] {
            let mut subject = Vec::new();
            bucket.append_direct_get(key, &mut subject);
            write_publish(&subject, Some(&request(number)), b"", &mut out);
        }
        let deliver_subject = &format!("{INBOX}.d1");
        write_subscribe(deliver_subject.as_bytes(), 2, &mut out);
        let mut config = ConsumerConfig {
            stream: &bucket.stream,
            name: "herd1",
            deliver_subject,
            start_seq: None,
            idle_heartbeat: 200_000_000,
            inactive_threshold: 30_000_000_000,
        };
        ask(&bucket.consumer_create("herd1"), "9", &config.to_json(), &mut out);
        ask(&bucket.consumer_delete("herd1"), "10", b"", &mut out);
        config = ConsumerConfig {
            name: "herd2",
            start_seq: Some(7),
            idle_heartbeat: 2_000_000_000,
            ..config
        };
        ask(&bucket.consumer_create("herd2"), "11", &config.to_json(), &mut out);
        ask("nobody.is.here", "12", b"", &mut out);
        write_publish(b"$KV.herd.*", None, b"no", &mut out);
        write_ping(&mut out);
        write_unsubscribe(1, &mut out);
        out.extend_from_slice(b"SAY WHAT\r\n");
        let recorded = Recorded::read(version, "bucket.txt");
        assert_eq!(out.escape_ascii().to_string(), recorded.sent.escape_ascii().to_string());
    }
}

/// CONNECT, PING, and the subscription for answers.
fn begin(out: &mut Vec<u8>) {
    Connect::new("herd-mio/Goloman/0123456789abcdef", "0.1.0").write(out);
    write_ping(out);
    write_subscribe(format!("{INBOX}.r.>").as_bytes(), 1, out);
}

#[test]
fn credentials_are_sent_as_the_server_expects_them() {
    let file = b"wrong \"\\ word\n";
    let credentials = Credentials::password("herd", file).expect("a password");
    for version in VERSIONS {
        let recorded = Recorded::read(version, "refused.txt");
        let all = recorded.all();
        let info = info_of(&all[0]);
        assert!(info.auth_required, "{info:?}");
        let mut connect = Connect::new("herd-mio/Goloman/0123456789abcdef", "0.1.0");
        credentials.prove(&info, &mut connect).expect("a proof");
        let mut out = Vec::new();
        connect.write(&mut out);
        write_ping(&mut out);
        assert_eq!(out.escape_ascii().to_string(), recorded.sent.escape_ascii().to_string());
        assert_eq!(all.last(), Some(&FromServer::Error("Authorization Violation")));
    }
}

fn info_of(what: &FromServer<'_>) -> Info {
    match what {
        FromServer::Info(json) => Info::parse(json).expect("INFO"),
        other => panic!("{other:?} in place of INFO"),
    }
}

#[test]
fn a_server_says_what_it_is() {
    for (version, number) in VERSIONS.into_iter().zip([Version(2, 9, 10), Version(2, 15, 1)]) {
        let recorded = Recorded::read(version, "bucket.txt");
        let all = recorded.all();
        let info = info_of(&all[0]);
        assert_eq!((info.version(), &*info.version_text), (number, version));
        assert_eq!((&*info.server_name, &*info.client_ip), ("one", "127.0.0.1"));
        assert!(info.headers && info.jetstream && !info.auth_required && !info.is_leaving);
        assert!(!info.tls_required && !info.tls_available && info.connect_urls.is_empty());
        assert_eq!((info.max_payload, info.max_message_bytes()), (1 << 20, (2 << 20) + (64 << 10)));
        assert_eq!(all[1], FromServer::Pong);
        assert_eq!(all.last(), Some(&FromServer::Error("Unknown Protocol Operation")));
    }
}

#[test]
fn a_bucket_is_made_written_and_read() {
    for version in VERSIONS {
        let recorded = Recorded::read(version, "bucket.txt");
        let api = |number| match recorded.answer(number) {
            message if number.starts_with('p') => PubAck::read(&message).map(|ack| ack.seq),
            message => StreamInfo::read(&message).map(|info| info.state.last_seq),
        };
        AccountInfo::read(&recorded.answer("1")).expect("JetStream");
        let missing = StreamInfo::read(&recorded.answer("2")).expect_err("no stream yet");
        let expected = ApiError {
            code: 404,
            err_code: ApiError::STREAM_NOT_FOUND,
            description: "stream not found".to_owned(),
        };
        assert_eq!(missing, ReplyError::Api(expected));
        assert_eq!(missing.to_string(), "stream not found (error 10059)");
        let made = StreamInfo::read(&recorded.answer("3")).expect("a stream");
        let found = StreamInfo::read(&recorded.answer("4")).expect("a stream");
        assert_eq!(made.config, StreamConfig::of_bucket("herd", 1), "{version}");
        assert_eq!((&found.config, &found.created), (&made.config, &made.created));
        assert!(made.created_at().is_some_and(|at| at > 1_700_000_000_000_000_000), "{made:?}");
        assert_eq!((api("4"), api("p1"), api("p3")), (Ok(0), Ok(1), Ok(2)));
        let lost = api("p2").expect_err("the second one is too late");
        assert!(lost.api_code().is_some_and(|code| ApiError::WRONG_LAST.contains(&code)), "{lost}");

        let stored = StoredMessage::read(&recorded.answer("5")).expect("a message");
        assert_eq!((stored.subject.as_bytes(), stored.seq), (SUBJECT, 2));
        assert_eq!(stored.payload.escape_ascii().to_string(), VALUE.escape_ascii().to_string());
        let expected = stored.headers().number("Nats-Expected-Last-Subject-Sequence");
        assert_eq!(expected, Some(1));
        let missing = StoredMessage::read(&recorded.answer("6")).expect_err("nobody");
        assert_eq!(missing.api_code(), Some(ApiError::NO_MESSAGE));

        let answer = recorded.answer("7");
        let direct = DirectMessage::read(&answer).expect("a message");
        assert_eq!((direct.subject, direct.seq, direct.payload), (SUBJECT, 2, VALUE));
        let missing = DirectMessage::read(&recorded.answer("8")).expect_err("nobody");
        assert_eq!(missing, ReplyError::Status(404, "Message Not Found".to_owned()));
    }
}

#[test]
fn a_consumer_delivers_and_is_silent_then() {
    for version in VERSIONS {
        let recorded = Recorded::read(version, "bucket.txt");
        let info = ConsumerInfo::read(&recorded.answer("9")).expect("a consumer");
        assert_eq!((&*info.stream_name, &*info.name), ("KV_herd", "herd1"));
        // Two updates were stored, and the bucket keeps one message a subject.
        assert_eq!(info.num_pending, 1, "{version}: {info:?}");
        let messages = recorded.messages();
        let pushed: Vec<&Message<'_>> = messages.iter().filter(|it| it.sid == 2).collect();
        let [first, heartbeat, ..] = pushed[..] else { panic!("{pushed:?}") };
        assert_eq!((first.subject, first.payload), (SUBJECT, VALUE));
        assert_eq!(first.notice(), None);
        let delivered = first.reply.and_then(Delivered::parse).expect("where it is from");
        assert_eq!((delivered.stream, delivered.consumer), (&b"KV_herd"[..], &b"herd1"[..]));
        assert_eq!((delivered.delivered, delivered.stream_seq), (1, 2));
        assert_eq!((delivered.consumer_seq, delivered.pending), (1, 0));
        let expected =
            Notice::Heartbeat { last_consumer: Some(1), last_stream: Some(2), stalled: None };
        assert_eq!(heartbeat.notice(), Some(expected), "{version}: {:?}", heartbeat.headers);
        let gone = Success::read(&recorded.answer("10")).expect("it is removed");
        assert!(gone.success);
        // It begins behind the end, and the server does not mind.
        assert_eq!(ConsumerInfo::read(&recorded.answer("11")).map(|info| info.num_pending), Ok(0));
    }
}

/// The current server adds a header to the status, which is 46 bytes long and not 16.
#[test]
fn nobody_hears_a_request() {
    for (version, subject) in VERSIONS.into_iter().zip([None, Some(&b"nobody.is.here"[..])]) {
        let recorded = Recorded::read(version, "bucket.txt");
        let answer = recorded.answer("12");
        let error = PubAck::read(&answer).expect_err("nobody");
        assert!(error.is_no_responders(), "{error:?}");
        assert_eq!(answer.headers.get("Nats-Subject"), subject, "{version}");
    }
}

#[test]
fn a_consumer_that_was_not_answered_says_so() {
    for version in VERSIONS {
        let recorded = Recorded::read(version, "flow.txt");
        let messages = recorded.messages();
        let notices: Vec<Notice<'_>> = messages.iter().filter_map(Message::notice).collect();
        let requested = notices.iter().find_map(|notice| match notice {
            Notice::FlowControl { reply } => Some(*reply),
            Notice::Heartbeat { .. } => None,
        });
        let stalled = notices.iter().find_map(|notice| match notice {
            Notice::Heartbeat { stalled, .. } => *stalled,
            Notice::FlowControl { .. } => None,
        });
        let requested = requested.expect("a request of flow control");
        assert!(requested.starts_with(b"$JS.FC.KV_herd.herd3."), "{}", requested.escape_ascii());
        assert_eq!(stalled, Some(requested), "{version}");
        // An empty message there, and all that was left is delivered.
        let last = messages.iter().rfind(|it| it.subject.starts_with(b"$KV."));
        let last = last.and_then(|it| Delivered::parse(it.reply?)).expect("a message");
        assert_eq!(last.pending, 0, "{version}");
    }
}

#[test]
fn what_is_not_permitted_is_an_error_and_no_end() {
    for version in VERSIONS {
        let recorded = Recorded::read(version, "permissions.txt");
        let errors: Vec<String> = recorded
            .all()
            .iter()
            .filter_map(|what| match what {
                FromServer::Error(text) => Some((*text).to_owned()),
                _ => None,
            })
            .collect();
        let expected = [
            r#"Permissions Violation for Publish to "$JS.API.STREAM.INFO.KV_herd""#,
            r#"Permissions Violation for Subscription to "$KV.herd.>""#,
        ];
        assert_eq!(errors, expected, "{version}");
    }
}

#[test]
fn an_empty_header_block_has_no_status() {
    assert_eq!(Headers(b"NATS/1.0\r\n\r\n").status(), None);
}
