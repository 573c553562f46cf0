//! A bare client of NATS, to compare with: it publishes, asks and reads as fast as it can, and does nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Failure;
use crate::load::histogram;

/// A connection.
pub struct Bare {
    stream: TcpStream,
    /// What came is in `received[handled..end]`.
    received: Vec<u8>,
    handled: usize,
    end: usize,
    out: Vec<u8>,
    /// Names the subjects of this connection, at which what is sent to it comes.
    number: usize,
    /// The number of its last message, where it publishes one at a time.
    pub last: u64,
}

/// How a publish is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    Plain,
    /// With the number of the message that it replaces.
    CompareAndSet,
}

/// A message that came.
struct Came {
    /// The number at the end of the subject of a reply.
    number: usize,
    /// The reply subject, where there is one.
    reply: String,
    /// In `received`.
    headers: std::ops::Range<usize>,
    payload: std::ops::Range<usize>,
}

impl Bare {
    pub fn connect(address: SocketAddr) -> Result<Bare, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let (received, out) = (vec![0; BUFFER], Vec::new());
        let mut bare = Bare { stream, received, handled: 0, end: 0, out, number, last: 0 };
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true,\"protocol\":1,\"lang\":\"rust\",\"version\":\"0\"}}\r\n\
             SUB _INBOX.b{number}.> 1\r\nSUB _INBOX.d{number}.0 2\r\nPING\r\n"
        );
        bare.stream.write_all(connect.as_bytes())?;
        // Another INFO may come behind it.
        while memchr::memmem::find(&bare.received[..bare.end], b"PONG\r\n").is_none() {
            bare.fill()?;
        }
        Ok(bare)
    }

    /// A request of JetStream's, and its answer.
    pub fn api(&mut self, subject: &str, body: &str) -> Result<String, Failure> {
        let length = body.len();
        let inbox = self.number;
        let request = format!("PUB $JS.API.{subject} _INBOX.b{inbox}.0 {length}\r\n{body}\r\n");
        self.stream.write_all(request.as_bytes())?;
        let came = self.next()?;
        let text = String::from_utf8_lossy(&self.received[came.payload]).into_owned();
        match text.contains("\"error\"") {
            true => Err(text.into()),
            false => Ok(text),
        }
    }

    /// Makes the stream of a bucket as a member would.
    pub fn make_bucket(&mut self, bucket: &str, replicas: usize) -> Result<(), Failure> {
        let config = format!(
            "{{\"name\":\"KV_{bucket}\",\"subjects\":[\"$KV.{bucket}.>\"],\"retention\":\"limits\",\
             \"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,\
             \"max_msgs_per_subject\":1,\"max_msg_size\":-1,\"storage\":\"file\",\"discard\":\"new\",\
             \"num_replicas\":{replicas},\"duplicate_window\":120000000000,\"allow_direct\":true,\
             \"allow_rollup_hdrs\":true,\"deny_delete\":true}}"
        );
        self.api(&format!("STREAM.CREATE.KV_{bucket}"), &config)?;
        Ok(())
    }

    /// Publishes `count` updates of `clients` clients with so many unanswered at a time. Returns how long it took, and the
    /// times of single ones in nanoseconds.
    pub fn publish(
        &mut self,
        bucket: &str,
        clients: usize,
        count: usize,
        window: usize,
        how: Publish,
    ) -> Result<(Duration, Histogram<u64>), Failure> {
        let mut latency = histogram();
        let mut known = vec![0_u64; clients];
        let mut since = vec![Instant::now(); clients];
        let (mut sent, mut acked) = (0, 0);
        self.out.clear();
        let begin = Instant::now();
        while acked < count {
            let now = Instant::now();
            while sent < count && sent - acked < window.min(clients) {
                let client = sent % clients;
                since[client] = now;
                let expected = (how != Publish::Plain).then_some(known[client]);
                self.write_publish(bucket, client, sent, expected);
                sent += 1;
            }
            self.stream.write_all(&self.out)?;
            self.out.clear();
            // At least one, and what came with it.
            loop {
                let came = self.next()?;
                known[came.number] = self.sequence(&came)?;
                latency.saturating_record(since[came.number].elapsed().as_nanos() as u64);
                acked += 1;
                if !self.has_whole() || acked == count {
                    break;
                }
            }
        }
        Ok((begin.elapsed(), latency))
    }

    /// Publishes `count` updates of `clients` clients, all of which are on their way at a time, and asks for no acknowledgement:
    /// the consumer of this connection ([`Bare::follow`]) brings each, with its number. So a refusal would not be noticed.
    pub fn publish_told(
        &mut self,
        bucket: &str,
        clients: usize,
        count: usize,
    ) -> Result<Duration, Failure> {
        let mut known = vec![0_u64; clients];
        let mut due: Vec<usize> = (0..clients).collect();
        let (mut sent, mut told) = (0, 0);
        let begin = Instant::now();
        while told < count {
            self.out.clear();
            for client in due.drain(..) {
                if sent < count {
                    self.write_update(bucket, client, sent, Some(known[client]), "");
                    sent += 1;
                }
            }
            self.stream.write_all(&self.out)?;
            loop {
                let came = self.next()?;
                if self.received[came.payload.clone()].starts_with(b"UPDATELOC ") {
                    let text = &self.received[came.payload.clone()];
                    let client = number_behind(text, b" host-").unwrap_or(0) as usize;
                    let mut tokens = came.reply.rsplit('.');
                    let sequence = tokens.nth(3).and_then(|number| number.parse().ok());
                    known[client] = sequence.ok_or("a message without its number")?;
                    due.push(client);
                    told += 1;
                } else if self.received[came.headers].starts_with(b"NATS/1.0 100 Flow") {
                    let reply = format!("PUB {} 0\r\n\r\n", came.reply);
                    self.stream.write_all(reply.as_bytes())?;
                }
                if told == count || (!due.is_empty() && !self.has_whole()) {
                    break;
                }
            }
        }
        Ok(begin.elapsed())
    }

    /// Publishes one update, without waiting for the answer.
    pub fn publish_one(
        &mut self,
        bucket: &str,
        client: usize,
        number: usize,
        how: Publish,
    ) -> Result<(), Failure> {
        self.out.clear();
        let expected = (how != Publish::Plain).then_some(self.last);
        self.write_publish(bucket, client, number, expected);
        self.stream.write_all(&self.out)?;
        Ok(())
    }

    /// Appends a publish to what is to be sent.
    fn write_publish(&mut self, bucket: &str, client: usize, number: usize, expected: Option<u64>) {
        let reply = format!("_INBOX.b{}.{client} ", self.number);
        self.write_update(bucket, client, number, expected, &reply);
    }

    /// The same; the acknowledgement comes to `reply`, which ends with a blank.
    fn write_update(
        &mut self,
        bucket: &str,
        client: usize,
        number: usize,
        expected: Option<u64>,
        reply: &str,
    ) {
        let value = format!(
            "UPDATELOC host-{client:07}.cs.ucla.edu +34.068930-118.445127 1700000000.{number:09} Bare +0.263873386"
        );
        let (key, length) = (key(client), value.len());
        let text = match expected {
            None => format!("PUB $KV.{bucket}.{key} {reply}{length}\r\n{value}\r\n"),
            Some(expected) => {
                let headers =
                    format!("NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {expected}\r\n\r\n");
                let (of_headers, all) = (headers.len(), headers.len() + length);
                format!("HPUB $KV.{bucket}.{key} {reply}{of_headers} {all}\r\n{headers}{value}\r\n")
            }
        };
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Whether the acknowledgement of that has come. Does not wait if the stream does not block.
    pub fn acknowledged(&mut self) -> Result<bool, Failure> {
        let Some(came) = self.poll()? else { return Ok(false) };
        self.last = self.sequence(&came)?;
        Ok(true)
    }

    /// The number of the message that was acknowledged.
    fn sequence(&self, came: &Came) -> Result<u64, Failure> {
        let payload = &self.received[came.payload.clone()];
        let sequence = number_behind(payload, b"\"seq\":");
        sequence.ok_or_else(|| String::from_utf8_lossy(payload).into())
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Asks for `count` clients, so many at a time, by DIRECT.GET. Returns how long it took.
    pub fn direct_get(
        &mut self,
        bucket: &str,
        clients: usize,
        count: usize,
        window: usize,
    ) -> Result<Duration, Failure> {
        let (mut sent, mut answered) = (0, 0);
        let mut out = Vec::new();
        let begin = Instant::now();
        while answered < count {
            while sent < count && sent - answered < window {
                let client = sent.wrapping_mul(7_919) % clients;
                let key = key(client);
                let inbox = self.number;
                let line = format!(
                    "PUB $JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key} _INBOX.b{inbox}.{client} 0\r\n\r\n"
                );
                out.extend_from_slice(line.as_bytes());
                sent += 1;
            }
            self.stream.write_all(&out)?;
            out.clear();
            loop {
                let came = self.next()?;
                if !self.received[came.payload.clone()].starts_with(b"UPDATELOC ") {
                    return Err("an answer without an update".into());
                }
                answered += 1;
                if !self.has_whole() || answered == count {
                    break;
                }
            }
        }
        Ok(begin.elapsed())
    }

    /// Reads all that a bucket holds, by the kind of consumer that a member makes. Returns the messages and the time.
    pub fn replay(&mut self, bucket: &str) -> Result<(usize, Duration), Failure> {
        let begin = Instant::now();
        self.follow(bucket)?;
        let mut count = 0;
        loop {
            // Messages may come before the answer.
            match self.followed()? {
                Some(0) => break,
                Some(_) => count += 1,
                None => {}
            }
        }
        let took = begin.elapsed();
        self.api(&format!("CONSUMER.DELETE.KV_{bucket}.bare{}", self.number), "")?;
        Ok((count + 1, took))
    }

    /// Makes a consumer of a bucket, whose messages [`Bare::followed`] reads.
    pub fn follow(&mut self, bucket: &str) -> Result<(), Failure> {
        let inbox = self.number;
        let config = format!(
            "{{\"stream_name\":\"KV_{bucket}\",\"config\":{{\"name\":\"bare{inbox}\",\"deliver_policy\":\"all\",\
             \"ack_policy\":\"none\",\"max_deliver\":1,\"replay_policy\":\"instant\",\"flow_control\":true,\
             \"idle_heartbeat\":2000000000,\"deliver_subject\":\"_INBOX.d{inbox}.0\",\"num_replicas\":1,\
             \"mem_storage\":true,\"inactive_threshold\":30000000000}}}}"
        );
        // NATS does not take a subscription to a wildcard for interest in them.
        let length = config.len();
        let subject = format!("$JS.API.CONSUMER.CREATE.KV_{bucket}.bare{inbox}");
        let request = format!("PUB {subject} _INBOX.b{inbox}.1 {length}\r\n{config}\r\n");
        self.stream.write_all(request.as_bytes())?;
        Ok(())
    }

    /// Reads on. How many messages are behind the one that came, if it is one of the bucket's.
    pub fn followed(&mut self) -> Result<Option<u64>, Failure> {
        let came = self.next()?;
        if came.number == 1 {
            let text = String::from_utf8_lossy(&self.received[came.payload]).into_owned();
            return if text.contains("\"error\"") { Err(text.into()) } else { Ok(None) };
        }
        if came.headers.is_empty() {
            let pending = came.reply.rsplit('.').next().and_then(|number| number.parse().ok());
            return Ok(Some(pending.unwrap_or(0)));
        }
        if self.received[came.headers].starts_with(b"NATS/1.0 100 Flow") {
            let reply = format!("PUB {} 0\r\n\r\n", came.reply);
            self.stream.write_all(reply.as_bytes())?;
        }
        Ok(None)
    }

    /// Receives what there is. False if the stream does not block, and there is nothing.
    fn fill(&mut self) -> Result<bool, Failure> {
        self.received.copy_within(self.handled..self.end, 0);
        self.end -= self.handled;
        self.handled = 0;
        if self.end == self.received.len() {
            self.received.resize(2 * self.end, 0);
        }
        match self.stream.read(&mut self.received[self.end..]) {
            Ok(0) => Err("NATS closed the connection".into()),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the next message is there already.
    fn has_whole(&self) -> bool {
        matches!(self.whole(), Some((Some(_), _)))
    }

    /// The next message; PINGs are answered.
    fn next(&mut self) -> Result<Came, Failure> {
        self.poll()?.ok_or_else(|| "NATS did not answer for half a minute".into())
    }

    /// The same. None if the stream does not block, and no message has come.
    fn poll(&mut self) -> Result<Option<Came>, Failure> {
        loop {
            match self.whole() {
                Some((Some(came), end)) => {
                    self.handled = end;
                    return Ok(Some(came));
                }
                Some((None, end)) => {
                    let line = &self.received[self.handled..end];
                    if line.starts_with(b"PING") {
                        self.stream.write_all(b"PONG\r\n")?;
                    } else if line.starts_with(b"-ERR") {
                        return Err(String::from_utf8_lossy(line).into());
                    }
                    self.handled = end;
                }
                None if !self.fill()? => return Ok(None),
                None => {}
            }
        }
    }

    /// What stands next in `received`, if all of it has come: a message, or another line; and where it ends.
    fn whole(&self) -> Option<(Option<Came>, usize)> {
        let rest = &self.received[self.handled..self.end];
        let end = memchr::memchr(b'\n', rest)?;
        let line = std::str::from_utf8(&rest[..end]).ok()?.trim_end();
        let begin = self.handled + end + 1;
        let (kind, fields) = line.split_once(' ').unwrap_or((line, ""));
        if kind != "MSG" && kind != "HMSG" {
            return Some((None, begin));
        }
        let fields: Vec<&str> = fields.split(' ').collect();
        let of_end = |at: usize| fields[fields.len() - at].parse::<usize>().unwrap_or(0);
        let all = of_end(1);
        let (headers, last) = if kind == "HMSG" { (of_end(2), 4) } else { (0, 3) };
        if self.end < begin + all + 2 {
            return None;
        }
        let number = fields[0].rsplit('.').next().and_then(|number| number.parse().ok());
        let reply = if fields.len() > last { fields[2].to_owned() } else { String::new() };
        let came = Came {
            number: number.unwrap_or(0),
            reply,
            headers: begin..begin + headers,
            payload: begin + headers..begin + all,
        };
        Some((Some(came), begin + all + 2))
    }
}

/// The key of a client.
fn key(client: usize) -> String {
    format!("host-{client:07}=2Ecs=2Eucla=2Eedu")
}

fn number_behind(text: &[u8], word: &[u8]) -> Option<u64> {
    let at = text.windows(word.len()).position(|window| window == word)? + word.len();
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Room for what one system call receives.
const BUFFER: usize = 256 * 1024;
