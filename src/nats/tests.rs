//! Framing at its bounds, secrets, and properties: what is written is read again.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const MAX: usize = 1000;

fn one(bytes: &[u8]) -> FromServer<'_> {
    let (what, length) = parse(bytes, MAX).expect("readable").expect("complete");
    assert_eq!(length, bytes.len());
    what
}

#[test]
fn verbs_have_any_case_and_fields_any_blanks() {
    assert_eq!(one(b"pInG\r\n"), FromServer::Ping);
    assert_eq!(one(b"PONG \t\r\n"), FromServer::Pong);
    assert_eq!(one(b"+ok\r\n"), FromServer::Ok);
    assert_eq!(one(b"+OK\n"), FromServer::Ok);
    assert_eq!(one(b"info\t{} \r\n"), FromServer::Info(b"{}"));
    assert_eq!(one(b"-ERR 'Stale Connection'\r\n"), FromServer::Error("Stale Connection"));
    assert_eq!(one(b"-err \xff'\r\n"), FromServer::Error(""));
    let expected = Message {
        subject: b"a.b",
        sid: 9,
        reply: Some(b"c"),
        payload: b"\r\n",
        ..Message::default()
    };
    assert_eq!(one(b"msg  a.b\t 9 c \t2 \r\n\r\n\r\n"), FromServer::Message(expected));
    let message =
        Message { reply: None, headers: Headers(b"NATS/1.0\r\n\r\n"), payload: b"x", ..expected };
    let bytes = b"HMSG a.b 9 12 13\r\nNATS/1.0\r\n\r\nx\r\n";
    assert_eq!(one(bytes), FromServer::Message(message));
}

#[test]
fn what_can_not_be_framed_is_named() {
    let error = |bytes: &[u8]| match parse(bytes, MAX) {
        Err(error) => error,
        Ok(what) => panic!("{what:?}"),
    };
    assert_eq!(error(b"HELLO you\r\n"), WireError::UnknownVerb("HELLO".to_owned()));
    assert_eq!(error(b"\r\n"), WireError::UnknownVerb(String::new()));
    assert_eq!(error(b"MSG a 1\r\n"), WireError::Fields { verb: "MSG" });
    assert_eq!(error(b"HMSG a 1 2\r\n"), WireError::Fields { verb: "HMSG" });
    assert_eq!(error(b"HMSG a 1 b 2 3 4\r\n"), WireError::Fields { verb: "HMSG" });
    for number in ["x", "-1", "+1", "1.0", "18446744073709551616", "000000000000000000001"] {
        let line = format!("MSG a {number} 1\r\n");
        let expected = WireError::Number { verb: "MSG", field: "subscription" };
        assert_eq!(error(line.as_bytes()), expected, "{number}");
    }
    let expected = WireError::Number { verb: "HMSG", field: "header length" };
    assert_eq!(error(b"HMSG a 1 x 2\r\n"), expected);
    assert_eq!(error(b"HMSG a 1 13 12\r\n"), WireError::HeaderLength);
    assert_eq!(error(b"MSG a 1 1001\r\n"), WireError::TooLarge { bytes: 1001, limit: MAX });
    let huge = error(b"HMSG a 1 1 18446744073709551615\r\n");
    assert!(matches!(huge, WireError::TooLarge { limit: MAX, .. }), "{huge:?}");
    assert_eq!(error(b"MSG a 1 1\r\nxyz"), WireError::PayloadEnd);
    assert_eq!(error(b"MSG a 1 1\r\nx\n\n"), WireError::PayloadEnd);
    assert!(matches!(Info::parse(b"{\"port\":}"), Err(WireError::Info(_))));
    assert!(matches!(Info::parse(b"{\"max_payload\":\"x\"}"), Err(WireError::Info(_))));
}

#[test]
fn the_longest_control_line_is_read_and_no_longer_one() {
    let longest = [&b"INFO "[..], &vec![b' '; CONTROL_LINE_BYTES - 7], b"\r\n"].concat();
    assert_eq!(longest.len(), CONTROL_LINE_BYTES);
    assert_eq!(one(&longest), FromServer::Info(b""));
    assert_eq!(parse(&longest[..CONTROL_LINE_BYTES - 1], MAX), Ok(None));
    let longer = [&longest[..CONTROL_LINE_BYTES - 2], b" \r\n"].concat();
    assert_eq!(parse(&longer, MAX), Err(WireError::LongLine));
    assert_eq!(parse(&longer[..CONTROL_LINE_BYTES], MAX), Err(WireError::LongLine));
}

/// Each byte is looked at twice at the most, and a control line once more for its fields, although the parser is asked
/// after every byte.
#[test]
fn bytes_that_arrive_one_by_one_are_not_searched_again() {
    let payload = vec![b'\n'; 500];
    let mut stream = vec![b'I', b'N', b'F', b'O', b' '];
    stream.extend(vec![b'x'; 30_000]);
    stream.extend_from_slice(b"\r\nMSG subject 1 500\r\n");
    stream.extend_from_slice(&payload);
    stream.extend_from_slice(b"\r\n");
    let (mut parser, mut begin, mut found) = (Parser::new(MAX), 0, 0);
    for end in 0..=stream.len() {
        if let Some((_, length)) = parser.next(&stream[begin..end]).expect("readable") {
            begin += length;
            found += 1;
        }
    }
    assert_eq!((found, begin), (2, stream.len()));
    assert!(parser.looked_at() <= 2 * stream.len() + 100, "{} looks", parser.looked_at());
}

#[test]
fn a_status_is_not_told_by_its_length() {
    let status = |text: &'static [u8]| Headers(text).status();
    assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some((503, "")));
    assert_eq!(status(b"NATS/1.0 503\r\nNats-Subject: a\r\n\r\n"), Some((503, "")));
    assert_eq!(status(b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"), Some((100, "Idle Heartbeat")));
    for other in [&b""[..], b"NATS/1.0\r\n\r\n", b"NATS/1.0 5x3\r\n", b"NATS/1.0 5033\r\n", b"503"]
    {
        assert_eq!(Headers(other).status(), None, "{}", other.escape_ascii());
    }
}

#[test]
fn headers_that_another_client_wrote_wrong_are_left_out() {
    let headers =
        Headers(b"NATS/1.0\r\nA:1\r\nno colon\r\na: 2 \r\nB:\r\nC: 1:2\r\nA: 3\r\n\r\nD: 4\r\n");
    assert_eq!((headers.get("A"), headers.number("A")), (Some(&b"1"[..]), Some(1)));
    assert_eq!((headers.get("a"), headers.get("B")), (Some(&b"2"[..]), Some(&b""[..])));
    assert_eq!((headers.get("C"), headers.get("D")), (Some(&b"1:2"[..]), None));
    assert_eq!(headers.iter().count(), 5);
    assert_eq!(Headers(b"HTTP/1.1\r\nA: 1\r\n\r\n").get("A"), None);
    let many = format!("NATS/1.0\r\n{}\r\n", "N: 1\r\n".repeat(1000));
    assert_eq!(Headers(many.as_bytes()).iter().count(), MAX_HEADERS);
}

#[test]
fn what_the_server_says_of_a_stored_message_stands_behind_what_the_message_says_of_itself() {
    // A tool has copied a message with its headers, or somebody has written a thousand.
    let own = "Nats-Sequence: 999\r\nNats-Subject: a\r\nNats-Time-Stamp: b\r\n".repeat(1_000);
    let added = "Nats-Stream: KV_herd\r\nNats-Subject: $KV.herd.kiwi\r\nNats-Sequence: 5\r\n\
                 Nats-Time-Stamp: 1970-01-01T00:00:01Z\r\n";
    for own in [own.as_str(), ""] {
        let headers = format!("NATS/1.0\r\n{own}{added}\r\n");
        let message = Message {
            subject: b"_INBOX.1.r.q.1",
            sid: 1,
            reply: None,
            headers: Headers(headers.as_bytes()),
            payload: b"",
        };
        let stored = DirectMessage::read(&message).expect("the server has answered");
        assert_eq!((stored.seq, stored.subject), (5, &b"$KV.herd.kiwi"[..]));
        assert_eq!(stored.headers.stored_at(), Some(1_000_000_000));
    }
    let no_header = Headers(b"NATS/1.0 404 Message Not Found\r\n\r\n");
    assert_eq!(no_header.last("Nats-Sequence"), None);
}

#[test]
fn fields_that_are_null_or_unknown_change_nothing() {
    let json =
        br#"{"connect_urls":null,"ldm":true,"nonce":null,"what":{"is":[1]},"max_payload":-1}"#;
    let info = Info::parse(json).expect("INFO");
    assert!(info.is_leaving && info.connect_urls.is_empty() && info.nonce.is_none());
    assert_eq!(info.max_message_bytes(), 64 * 1024);
    assert_eq!(Info::parse(b"{}").expect("INFO"), Info::default());
    let stream = br#"{"config":{"subjects":null,"mirror":{"name":"x"},"sources":[{},{}],"sealed":true},"cluster":null}"#;
    let message = Message { payload: stream, ..Message::default() };
    let info = StreamInfo::read(&message).expect("a stream");
    assert!(info.config.is_mirror && info.config.sealed && info.config.subjects.is_empty());
    assert_eq!((info.config.sources, info.cluster, info.created.len()), (2, None, 0));
    let infos = [Version::parse("2.9.10"), Version::parse("2.10.0-beta.1"), Version::parse("v3")];
    assert_eq!(infos, [Version(2, 9, 10), Version(2, 10, 0), Version(3, 0, 0)]);
    assert!(infos.is_sorted() && Version::parse("nonsense") == Version(0, 0, 0));
}

#[test]
fn a_time_is_a_text_and_a_value() {
    let at = |created: &str| StreamInfo { created: created.to_owned(), ..StreamInfo::default() };
    assert_eq!(at("1970-01-01T00:00:01.000000002Z").created_at(), Some(1_000_000_002));
    assert_eq!(at("1970-01-01T02:00:01.000000002+02:00").created_at(), Some(1_000_000_002));
    assert_eq!((at("").created_at(), at("yesterday").created_at()), (None, None));
}

#[test]
fn a_delivered_message_says_where_it_is_from() {
    let short = b"$JS.ACK.KV_herd.c1.1.20.3.1795686593167755571.7";
    let expected = Delivered {
        stream: b"KV_herd",
        consumer: b"c1",
        delivered: 1,
        stream_seq: 20,
        consumer_seq: 3,
        nanoseconds: 1_795_686_593_167_755_571,
        pending: 7,
    };
    assert_eq!(Delivered::parse(short), Some(expected));
    for long in [
        "$JS.ACK._.hash.KV_herd.c1.1.20.3.1795686593167755571.7",
        "$JS.ACK.hub.hash.KV_herd.c1.1.20.3.1795686593167755571.7.x1",
    ] {
        assert_eq!(Delivered::parse(long.as_bytes()), Some(expected), "{long}");
    }
    for wrong in [
        "",
        "$JS.ACK.a.b.1.2.3.4",
        "$JS.ACK.a.b.1.2.3.4.5.6",
        "$JS.ACK.a.b.1.2.x.4.5",
        "$JS.FC.a.b.1.2.3.4.5",
        "$JS.ACK.d.h.a.b.1.2.3.4.5.x.y",
    ] {
        assert_eq!(Delivered::parse(wrong.as_bytes()), None, "{wrong}");
    }
}

/// Who may write into an inbox could end the line, and say something else in our name.
#[test]
fn an_answer_goes_to_no_subject_that_is_none() {
    let said = |headers: &'static [u8], reply: Option<&'static [u8]>| {
        Message { headers: Headers(headers), reply, ..Message::default() }.notice()
    };
    assert_eq!(said(b"NATS/1.0\r\n\r\n", None), None);
    let flow = said(b"NATS/1.0 100 FlowControl Request\r\n\r\n", Some(b"$JS.FC.a.b.c"));
    assert_eq!(flow, Some(Notice::FlowControl { reply: b"$JS.FC.a.b.c" }));
    let nothing = Notice::Heartbeat { last_consumer: None, last_stream: None, stalled: None };
    for subject in ["a b", "a\nPUB x 0", "a..b", "", "*", "a.>", "\u{7f}"] {
        assert!(!is_subject(subject.as_bytes()), "{subject:?}");
        let text =
            format!("NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: {subject}\r\n\r\n");
        let message = Message { headers: Headers(text.as_bytes()), ..Message::default() };
        assert_eq!(message.notice(), Some(nothing), "{subject:?}");
    }
    assert_eq!(said(b"NATS/1.0 100\r\n\r\n", Some(b"a.*")), Some(nothing));
    assert!(is_subject(b"$KV.herd.kiwi=2E*") && !is_subject(&[b'a'; 2000]));
}

#[test]
fn an_error_in_place_of_a_result_is_an_error() {
    let read = |payload: &'static [u8]| PubAck::read(&Message { payload, ..Message::default() });
    assert_eq!(
        read(br#"{"stream":"S","seq":3,"duplicate":true}"#).map(|ack| ack.is_duplicate),
        Ok(true)
    );
    let error = read(br#"{"error":{"code":400,"err_code":10164,"description":null},"seq":0}"#);
    assert!(
        error.expect_err("refused").api_code().is_some_and(|it| ApiError::WRONG_LAST.contains(&it))
    );
    for unreadable in [&b""[..], b"{}", b"[]", b"{\"seq\":-1}", b"\xff"] {
        let error = read(unreadable).expect_err("it has no number");
        assert!(matches!(error, ReplyError::Unreadable(_)), "{error:?}");
    }
    let stored = br#"{"message":{"subject":"a","seq":1,"data":"%%%"}}"#;
    let error = StoredMessage::read(&Message { payload: stored, ..Message::default() });
    assert!(matches!(error, Err(ReplyError::Unreadable(_))), "{error:?}");
    let empty = br#"{"message":{"subject":"a","seq":1}}"#;
    let empty = StoredMessage::read(&Message { payload: empty, ..Message::default() });
    assert_eq!(empty.map(|it| (it.payload.len(), it.headers.len())), Ok((0, 0)));
}

#[test]
fn an_acknowledgement_says_the_same_whichever_way_it_is_read() {
    let read = |payload: &[u8]| PubAck::read(&Message { payload, ..Message::default() });
    let texts = [
        r#"{"stream":"KV_herd", "seq":7}"#,
        r#"{"stream":"KV_herd","seq":18446744073709551615}"#,
        r#"{"stream":"","seq": 7}"#,
        r#"{"stream":"a"b", "seq":7}"#,
        r#"{"stream":"S", "seq":7,"duplicate": true}"#,
        r#"{"stream":"S", "seq":7, "domain":"hub"}"#,
        r#"{"stream":"S", "seq":07}"#,
        r#"{"stream":"S", "seq":0}"#,
        r#"{"stream":"S", "seq":18446744073709551616}"#,
        r#"{"stream":"S", "seq":7}}"#,
        r#"{"stream":"S", "seq":}"#,
        r#"{"stream":"S", "seq":1,"error":{"code":503,"err_code":10077}}"#,
    ];
    for text in texts {
        for end in 0..=text.len() {
            // A blank in front makes it one that only serde_json reads.
            let any = format!(" {}", &text[..end]);
            let (plain, any) = (read(&text.as_bytes()[..end]), read(any.as_bytes()));
            assert_eq!(plain.as_ref().ok(), any.as_ref().ok(), "{}", &text[..end]);
        }
        assert!(read(format!("{text}\r\n").as_bytes()).is_ok() == read(text.as_bytes()).is_ok());
    }
    assert_eq!(read(texts[0].as_bytes()), Ok(PubAck { seq: 7, is_duplicate: false }));
}

/// The pair in the documentation of NATS.
const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

#[test]
fn a_seed_signs_and_is_never_shown() {
    let key = Nkey::from_seed(SEED).expect("a seed");
    assert_eq!(key.public(), PUBLIC);
    let signature = key.sign("PXoWU7zWAMt75FY");
    assert_eq!(signature.len(), 86);
    assert!(!signature.contains(['=', '+', '/']), "base64url without padding");
    let raw = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64url");
    let public = data_encoding::BASE32_NOPAD.decode(PUBLIC.as_bytes()).expect("base32");
    let verifier =
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &public[1..33]);
    verifier.verify(b"PXoWU7zWAMt75FY", &raw).expect("it is the key's");
    assert_eq!(format!("{key:?}"), format!("Nkey({PUBLIC})"));
}

#[test]
fn what_is_wrong_with_a_seed_is_named_and_not_quoted() {
    let error = |text: &str| Nkey::from_seed(text).expect_err("no seed");
    assert_eq!(error(""), NkeyError::NotASeed);
    assert_eq!(error("hello"), NkeyError::NotASeed);
    assert_eq!(error(&SEED[..57]), NkeyError::NotASeed);
    assert_eq!(error(PUBLIC), NkeyError::PublicKey);
    assert_eq!(error(&SEED.replace("SUACSS", "SUACST")), NkeyError::Checksum);
    let mut account = vec![(18 << 3), 0];
    account.extend_from_slice(&[7; 32]);
    account.extend_from_slice(&nkey::checksum(&account).to_le_bytes());
    assert_eq!(error(&data_encoding::BASE32_NOPAD.encode(&account)), NkeyError::NotOfAUser);
}

#[test]
fn credentials_are_read_from_files_and_never_shown() {
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\r\neyJ0.eyJq-_.sig\r\n------END NATS USER JWT------\r\n\r\n\
         ************************* IMPORTANT *************************\r\n\
         -----BEGIN USER NKEY SEED-----\r\n{SEED}\r\n------END USER NKEY SEED------\r\n"
    );
    let all = [
        Credentials::password("herd", b"pass word \n").expect("a password"),
        Credentials::token(b"tok\"en").expect("a token"),
        Credentials::nkey(format!(" {SEED}\n").as_bytes()).expect("a seed"),
        Credentials::nkey(creds.as_bytes()).expect("a seed"),
        Credentials::creds(creds.as_bytes()).expect("credentials"),
    ];
    let info = Info { nonce: Some("nonce".to_owned()), ..Info::default() };
    let mut written = Vec::new();
    for credentials in &all {
        let mut connect = Connect::new("name", "1");
        credentials.prove(&info, &mut connect).expect("a proof");
        connect.write(&mut written);
        let shown = format!("{credentials:?} {connect:?}");
        for secret in ["pass word", "tok", SEED, "eyJ0"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    let written = String::from_utf8(written).expect("JSON");
    assert!(written.contains(r#""user":"herd","pass":"pass word "}"#), "{written}");
    assert!(written.contains(r#""auth_token":"tok\"en"}"#), "{written}");
    assert!(written.contains(&format!(r#""nkey":"{PUBLIC}","sig":""#)), "{written}");
    assert!(written.contains(r#""jwt":"eyJ0.eyJq-_.sig","sig":""#), "{written}");
    assert!(!written.contains(SEED));

    let error = |made: Result<Credentials, CredentialsError>| made.expect_err("no credentials");
    assert_eq!(error(Credentials::token(b"\n")), CredentialsError::Empty);
    assert_eq!(error(Credentials::token(b"\xff")), CredentialsError::NotText);
    assert_eq!(error(Credentials::password("a", b"b\nc\n")), CredentialsError::SeveralLines);
    assert_eq!(error(Credentials::creds(b"x")), CredentialsError::Missing("the JWT of a user"));
    let without = creds.replace("USER NKEY SEED", "SOMETHING");
    assert_eq!(
        error(Credentials::creds(without.as_bytes())),
        CredentialsError::Missing("the seed of an nkey")
    );
    let broken = creds.replace("eyJ0.", "");
    assert_eq!(error(Credentials::creds(broken.as_bytes())), CredentialsError::NotAJwt);
    assert_eq!(
        error(Credentials::nkey(PUBLIC.as_bytes())).to_string(),
        NkeyError::PublicKey.to_string()
    );
    let proved = all[2].prove(&Info::default(), &mut Connect::new("name", "1"));
    assert_eq!(proved, Err(CredentialsError::NoNonce));
}

/// A subject's tokens.
fn subject() -> impl Strategy<Value = Vec<u8>> {
    vec(vec(0x21u8..0x7f, 1..9), 1..4)
        .prop_map(|tokens| tokens.join(&b'.'))
        .prop_filter("a subject", |made| is_subject(made))
}

proptest! {
    /// A server that passes a message on writes it as we do, with a subscription in place of a verb.
    #[test]
    fn what_is_written_is_read_again(
        subject in subject(),
        reply in proptest::option::of(subject()),
        expected in any::<u64>(),
        payload in vec(any::<u8>(), 0..300),
    ) {
        let mut out = Vec::new();
        write_publish(&subject, reply.as_deref(), &payload, &mut out);
        let line = [&b"MSG "[..], &subject, b" 7"].concat();
        let passed = [&line[..], &out[4 + subject.len()..]].concat();
        let message = Message { subject: &subject, sid: 7, reply: reply.as_deref(), payload: &payload, ..Message::default() };
        prop_assert_eq!(one(&passed), FromServer::Message(message));

        let reply = reply.unwrap_or(b"r".to_vec());
        let (mut one_way, mut other) = (Vec::new(), Vec::new());
        write_expecting(&subject, &reply, expected, &payload, &mut one_way);
        let value = expected.to_string();
        let headers = [("Nats-Expected-Last-Subject-Sequence", value.as_bytes())];
        write_publish_with_headers(&subject, Some(&reply), &headers, &payload, &mut other);
        prop_assert_eq!(&one_way, &other);
        let passed = [&b"H"[..], &line, &other[5 + subject.len()..]].concat();
        let (FromServer::Message(found), _) = parse(&passed, MAX).expect("readable").expect("complete") else {
            panic!("a message")
        };
        prop_assert_eq!(found.headers.number("Nats-Expected-Last-Subject-Sequence"), Some(expected));
        prop_assert_eq!((found.payload, found.reply), (&payload[..], Some(&reply[..])));
    }

    /// However a stream is cut, and whatever it is.
    #[test]
    fn any_bytes_are_read_the_same_however_they_are_cut(
        stream in vec(prop_oneof![
            Just(b"PING\r\n".to_vec()),
            Just(b"MSG a 1 3\r\nabc\r\n".to_vec()),
            Just(b"HMSG a 1 b 12 13\r\nNATS/1.0\r\n\r\nx\r\n".to_vec()),
            Just(b"INFO {}\r\n".to_vec()),
            Just(b"-ERR 'x'\r\n".to_vec()),
            vec(any::<u8>(), 0..6),
        ], 0..8).prop_map(|parts| parts.concat()),
        step in 1usize..9,
    ) {
        let (mut whole, mut rest) = (Vec::new(), &stream[..]);
        loop {
            match parse(rest, MAX) {
                Ok(Some((what, length))) => {
                    whole.push(format!("{what:?}"));
                    rest = &rest[length..];
                }
                Ok(None) => break,
                Err(error) => {
                    whole.push(error.to_string());
                    break;
                }
            }
        }
        let (mut parser, mut begin, mut cut, mut end) = (Parser::new(MAX), 0, Vec::new(), 0);
        'all: while end < stream.len() {
            end = (end + step).min(stream.len());
            loop {
                match parser.next(&stream[begin..end]) {
                    Ok(Some((what, length))) => {
                        cut.push(format!("{what:?}"));
                        begin += length;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        cut.push(error.to_string());
                        break 'all;
                    }
                }
            }
        }
        prop_assert_eq!(cut, whole);
    }

    #[test]
    fn a_number_is_written_in_its_digits(number: u64) {
        let mut out = Vec::new();
        write_decimal(number, &mut out);
        prop_assert_eq!(String::from_utf8(out), Ok(number.to_string()));
    }
}
