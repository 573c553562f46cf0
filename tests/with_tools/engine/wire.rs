//! Claim: a real NATS server takes what `herd_mio::nats` writes, and what it answers is read as it is meant: a bucket is made,
//! the second of two who expect the same loses, and a consumer whose requests of flow control are answered delivers all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use herd_mio::nats::{
    Answer, ApiError, Bucket, Connect, ConsumerConfig, Delivered, FromServer, Info, Notice, Parser,
    PubAck, ReplyError, StoredMessage, StreamConfig, StreamInfo, last_message_request,
    write_expecting, write_ping, write_publish, write_subscribe,
};

use super::nats::{Nats, Release};
use crate::common::LIMIT;
use crate::common::needs::Outcome;

pub fn a_bucket_is_made_written_and_followed_by_hand() -> Outcome {
    speak(&Nats::one(Release::Current)?);
    Ok(())
}

pub fn with_debians_server_a_bucket_is_made_written_and_followed_by_hand() -> Outcome {
    speak(&Nats::one(Release::Debian)?);
    Ok(())
}

/// So much that flow control is asked for more than once.
const UPDATES: u64 = 3_000;
const VALUE: [u8; 1_500] = [b'x'; 1_500];

struct Talk {
    stream: TcpStream,
    parser: Parser,
    input: Vec<u8>,
    out: Vec<u8>,
}

impl Talk {
    fn begin(nats: &Nats) -> Talk {
        let stream = TcpStream::connect(nats.nodes[0].address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let (parser, input, out) = (Parser::new(0), Vec::new(), Vec::new());
        let mut talk = Talk { stream, parser, input, out };
        let info = talk.until(|what, _| match what {
            FromServer::Info(json) => Some(Info::parse(json).expect("INFO")),
            _ => None,
        });
        assert!(info.headers && info.jetstream, "{info:?}");
        talk.parser.set_max_payload(info.max_message_bytes());
        Connect::new("wire", "1").write(&mut talk.out);
        write_ping(&mut talk.out);
        talk.until(|what, _| (*what == FromServer::Pong).then_some(()));
        talk
    }

    /// Sends what is to be said, and reads until something of what comes is this.
    fn until<T>(
        &mut self,
        mut wanted: impl FnMut(&FromServer<'_>, &mut Vec<u8>) -> Option<T>,
    ) -> T {
        let mut into = vec![0; 1 << 16];
        let begin = Instant::now();
        loop {
            let mut at = 0;
            let mut found = None;
            while let Some((what, length)) = self.parser.next(&self.input[at..]).expect("readable")
            {
                at += length;
                found = wanted(&what, &mut self.out);
                if found.is_some() {
                    break;
                }
            }
            self.input.drain(..at);
            self.stream.write_all(&std::mem::take(&mut self.out)).expect("it is connected");
            if let Some(found) = found {
                return found;
            }
            let count = self.stream.read(&mut into).expect("something comes");
            assert!(count > 0, "the server has ended the connection");
            assert!(begin.elapsed() < LIMIT, "it does not come");
            self.input.extend_from_slice(&into[..count]);
        }
    }

    /// The next message for this subject.
    fn answer<T: for<'a> Answer<'a>>(&mut self, subject: &str) -> Result<T, ReplyError> {
        self.until(|what, _| match what {
            FromServer::Message(message) if message.subject == subject.as_bytes() => {
                Some(T::read(message))
            }
            _ => None,
        })
    }

    fn request<T: for<'a> Answer<'a>>(
        &mut self,
        subject: &str,
        body: &[u8],
    ) -> Result<T, ReplyError> {
        Bucket::write_request(subject, b"_INBOX.wire.r.1", body, &mut self.out);
        self.answer("_INBOX.wire.r.1")
    }
}

fn speak(nats: &Nats) {
    let bucket = Bucket::new("wire");
    let mut talk = Talk::begin(nats);
    write_subscribe(b"_INBOX.wire.r.>", 1, &mut talk.out);
    let missing = talk.request::<StreamInfo>(&bucket.stream_info, b"");
    let missing = missing.expect_err("there is no bucket");
    assert_eq!(missing.api_code(), Some(ApiError::STREAM_NOT_FOUND));
    let config = StreamConfig::of_bucket("wire", 1);
    let made = talk.request::<StreamInfo>(&bucket.stream_create, &config.to_json());
    let made = made.expect("a bucket");
    assert!(made.config == config && made.created_at().is_some(), "{made:?}");

    let reply = "_INBOX.wire.r.2";
    for number in 1..=UPDATES {
        let subject = format!("{}k{number}", bucket.prefix);
        write_expecting(subject.as_bytes(), reply.as_bytes(), 0, &VALUE, &mut talk.out);
        if number % 100 == 0 {
            let mut last = 0;
            while last < number {
                last = talk.answer::<PubAck>(reply).expect("it is stored").seq;
            }
        }
    }
    let subject = format!("{}k1", bucket.prefix);
    write_expecting(subject.as_bytes(), reply.as_bytes(), 0, b"late", &mut talk.out);
    let late = talk.answer::<PubAck>(reply).expect_err("another was before");
    assert!(late.api_code().is_some_and(|code| ApiError::WRONG_LAST.contains(&code)), "{late}");
    let body = last_message_request(subject.as_bytes());
    let stored = talk.request::<StoredMessage>(&bucket.message_get, &body);
    let stored = stored.expect("a message");
    assert_eq!((stored.seq, &stored.payload[..]), (1, &VALUE[..]));

    let config = ConsumerConfig {
        stream: &bucket.stream,
        name: "wire1",
        deliver_subject: "_INBOX.wire.d1",
        start_seq: None,
        idle_heartbeat: 500_000_000,
        inactive_threshold: 30_000_000_000,
    };
    write_subscribe(config.deliver_subject.as_bytes(), 2, &mut talk.out);
    let create = bucket.consumer_create(config.name);
    Bucket::write_request(&create, b"_INBOX.wire.r.3", &config.to_json(), &mut talk.out);
    let (mut delivered, mut requests) = (0, 0);
    let last = talk.until(|what, out| {
        let FromServer::Message(message) = what else { return None };
        if message.sid != 2 {
            return None;
        }
        if let Some(of_stream) = message.reply.and_then(Delivered::parse) {
            delivered += 1;
            assert_eq!((of_stream.consumer_seq, of_stream.stream_seq), (delivered, delivered));
            assert_eq!(of_stream.pending, UPDATES - delivered);
            return None;
        }
        match message.notice()? {
            Notice::FlowControl { reply } => {
                requests += 1;
                write_publish(reply, None, b"", out);
                None
            }
            Notice::Heartbeat { last_consumer, .. } => last_consumer.filter(|it| *it == UPDATES),
        }
    });
    assert_eq!((delivered, last), (UPDATES, UPDATES));
    assert!(requests > 1, "{requests} requests of flow control");
}
