//! What the engine does: it takes requests and publishes, commits, acknowledges, and pushes to consumers. What goes wrong in
//! it is in `faults`.

use crate::laws::newer_or_equal;
use crate::stream::{Consumer, Published, Stored, Stream, WINDOW, number_behind, text_behind};
use crate::wire::{Said, base64, matches, message};
use crate::world::{Event, World};

pub const BUCKET: &str = "b";
const STREAM: &str = "KV_b";

/// A publish that has reached the engine.
#[derive(Clone, Debug)]
pub struct Publish {
    pub member: usize,
    pub subject: String,
    pub reply: String,
    pub headers: String,
    pub payload: Vec<u8>,
}

impl World {
    /// Something that a member has said arrives.
    pub fn arrive(&mut self, member: usize, connection: u64, said: Said) {
        match said {
            Said::Subscribe { subject, sid } => {
                if let Some(open) = self.connection(member, connection) {
                    open.subscriptions.push((subject, sid));
                }
            }
            Said::Unsubscribe { sid } => {
                if let Some(open) = self.connection(member, connection) {
                    open.subscriptions.retain(|(_, of)| *of != sid);
                }
            }
            Said::Publish { subject, reply, headers, payload } => {
                let publish = Publish { member, subject, reply, headers, payload };
                self.published(publish);
            }
        }
    }

    fn published(&mut self, publish: Publish) {
        if publish.subject.starts_with("$KV.") {
            if self.stream.is_none() {
                return self.answer_status(&publish, 503);
            }
            if self.now < self.leaderless_until {
                // Nobody hears it, or whoever hears it dies, or it is applied once there is a leader again.
                match self.random.below(3) {
                    0 => self.answer_status(&publish, 503),
                    1 => {}
                    _ => {
                        let at = self.leaderless_until + self.random.between(0, 3_000) as u64;
                        self.at(at, Event::Commit(publish));
                    }
                }
                return;
            }
            let late = if self.random.percent(self.faults.late) { 6_000 } else { 3 };
            let at = self.now + self.random.between(0, late) as u64;
            return self.at(at, Event::Commit(publish));
        }
        if let Some(name) = publish.subject.strip_prefix("$JS.FC.") {
            let found = self.consumers.iter_mut().find(|it| it.stalled.as_deref() == Some(name));
            if let Some(consumer) = found {
                (consumer.stalled, consumer.in_window) = (None, 0);
                self.pump();
            }
            return;
        }
        if let Some(subject) = publish.subject.strip_prefix("$JS.API.DIRECT.GET.KV_b.") {
            let subject = subject.to_owned();
            return self.direct_get(&publish, &subject);
        }
        if self.now < self.leaderless_until || self.random.percent(self.faults.deaf) {
            return; // Without a leader no answer comes at all.
        }
        let body = String::from_utf8_lossy(&publish.payload).into_owned();
        let answer = self.api(&publish, &body);
        self.answer(&publish, b"", answer.as_bytes());
        self.pump();
    }

    fn api(&mut self, publish: &Publish, body: &str) -> String {
        let subject = publish.subject.as_str();
        if subject == format!("$JS.API.STREAM.CREATE.{STREAM}") && self.stream.is_none() {
            self.make_stream();
        } else if subject.starts_with("$JS.API.STREAM.CREATE.") && self.random.percent(50) {
            return error(10058, "stream name already in use with a different configuration");
        }
        let Some(stream) = &self.stream else {
            return error(10059, "stream not found");
        };
        if subject.starts_with("$JS.API.STREAM.MSG.GET.") {
            let wanted = text_behind(body, "\"last_by_subj\":\"").unwrap_or_default();
            return match stream.last_of(wanted) {
                None => error(10037, "no message found"),
                Some((seq, stored)) => stored_text(seq, stored),
            };
        }
        if let Some(name) = subject.strip_prefix("$JS.API.CONSUMER.CREATE.KV_b.") {
            let deliver = text_behind(body, "\"deliver_subject\":\"").unwrap_or_default();
            let start = number_behind(body, "\"opt_start_seq\":").unwrap_or(1);
            let consumer = Consumer {
                name: name.to_owned(),
                deliver_subject: deliver.to_owned(),
                member: publish.member,
                at: start - 1,
                delivered: 0,
                in_window: 0,
                stalled: None,
                said_at: self.now,
                heard_at: self.now,
                is_dead: false,
            };
            let pending = stream.pending_after(start - 1);
            self.consumers.push(consumer);
            return format!("{{\"name\":\"{name}\",\"num_pending\":{pending}}}");
        }
        if let Some(name) = subject.strip_prefix("$JS.API.CONSUMER.DELETE.KV_b.") {
            self.consumers.retain(|consumer| consumer.name != name);
            return "{\"success\":true}".to_owned();
        }
        stream.info(BUCKET)
    }

    pub fn make_stream(&mut self) {
        self.made += 1;
        self.stream = Some(Stream::new(self.made));
        self.consumers.clear();
    }

    /// A publish takes effect.
    pub fn commit(&mut self, publish: Publish) {
        let is_stale = self.now < self.stale_until && self.random.percent(50);
        let time = self.wall();
        let expected = number_behind(&publish.headers, "Nats-Expected-Last-Subject-Sequence: ");
        let Some(stream) = &mut self.stream else {
            return self.answer_status(&publish, 503);
        };
        let stored = Stored {
            subject: publish.subject.clone(),
            headers: Vec::new(),
            payload: publish.payload.clone(),
            time,
        };
        let before = stream.last_of(&publish.subject).map(|(_, stored)| stored.payload.clone());
        match stream.publish(stored, expected, is_stale) {
            Published::Stored(seq) => {
                self.laws.committed(&publish.payload);
                let went_back = before.is_some_and(|it| !newer_or_equal(&publish.payload, &it));
                if went_back {
                    self.went_back_at = self.now;
                }
                if is_stale {
                    self.forget_what_is_lost();
                } else if went_back && self.now > self.replaced_at + 40_000 {
                    self.laws.wrong(format!(
                        "member {} put an older update over a newer one: {}",
                        publish.member,
                        String::from_utf8_lossy(&publish.payload)
                    ));
                }
                let ack = format!("{{\"stream\":\"{STREAM}\",\"seq\":{seq}}}");
                if !self.random.percent(self.faults.lost_acks) {
                    self.answer(&publish, b"", ack.as_bytes());
                }
            }
            Published::WrongLast(last) => {
                let code = if self.random.percent(50) { 10071 } else { 10164 };
                let text = error(code, &format!("wrong last sequence: {last}"));
                self.answer(&publish, b"", text.as_bytes());
            }
        }
        self.pump();
    }

    /// Any copy answers, also without a leader. It may lag.
    fn direct_get(&mut self, publish: &Publish, subject: &str) {
        if self.random.percent(self.faults.deaf) {
            return;
        }
        let lag = match self.schedule.copy_lag {
            0 => 0,
            _ if self.random.percent(50) => 0,
            most => self.random.below(most),
        };
        let time = self.wall() - lag as i128 * 1_000_000;
        let Some(stream) = &self.stream else {
            return self.answer_status(publish, 503);
        };
        let Some((seq, stored)) = stream.copy_of(subject, time) else {
            let headers = b"NATS/1.0 404 Message Not Found\r\n\r\n";
            return self.answer(publish, headers, b"");
        };
        let of_message = match stored.headers.strip_suffix(b"\r\n") {
            Some(own) => String::from_utf8_lossy(own).into_owned(),
            None => "NATS/1.0\r\n".to_owned(),
        };
        let headers = format!(
            "{of_message}Nats-Stream: {STREAM}\r\nNats-Subject: {subject}\r\nNats-Sequence: {seq}\r\nNats-Time-Stamp: {}\r\n\r\n",
            time_text(stored.time)
        );
        let payload = stored.payload.clone();
        self.answer(publish, headers.as_bytes(), &payload);
    }

    fn answer_status(&mut self, to: &Publish, status: u16) {
        let headers = format!("NATS/1.0 {status}\r\n\r\n");
        self.answer(to, headers.as_bytes(), b"");
    }

    /// An answer goes to whoever has subscribed to its subject.
    fn answer(&mut self, to: &Publish, headers: &[u8], payload: &[u8]) {
        let delay = self.random.between(0, self.faults.slow_acks);
        let event = Event::Answer {
            member: to.member,
            subject: to.reply.clone(),
            headers: headers.to_vec(),
            payload: payload.to_vec(),
        };
        self.at(self.now + delay as u64, event);
    }

    /// A message reaches the connection of a member, if it has subscribed to it.
    pub fn send(
        &mut self,
        member: usize,
        subject: &str,
        as_subject: &str,
        reply: &str,
        headers: &[u8],
        payload: &[u8],
    ) -> bool {
        let Some(open) = self.members[member].connection.as_ref() else { return false };
        let found = open.subscriptions.iter().find(|(of, _)| matches(of, subject));
        let Some(sid) = found.map(|(_, sid)| *sid) else { return false };
        let bytes = message(as_subject, sid, reply, headers, payload);
        self.carry(member, bytes);
        true
    }

    /// All consumers deliver what they can.
    pub fn pump(&mut self) {
        for at in 0..self.consumers.len() {
            self.pump_one(at);
        }
    }

    fn pump_one(&mut self, at: usize) {
        loop {
            let Some(stream) = &self.stream else { return };
            let mut consumer = self.consumers[at].clone();
            if consumer.is_dead || consumer.stalled.is_some() {
                return;
            }
            let Some((seq, stored)) = stream.next_after(consumer.at) else { return };
            let stored = stored.clone();
            let (member, deliver) = (consumer.member, consumer.deliver_subject.clone());
            if !self.listens(member, &deliver) {
                return;
            }
            consumer.at = seq;
            consumer.delivered += 1;
            consumer.in_window += 1;
            consumer.said_at = self.now;
            consumer.heard_at = self.now;
            let pending = stream.pending_after(seq);
            let reply = consumer.ack_subject(STREAM, seq, stored.time, pending);
            if consumer.in_window >= WINDOW {
                consumer.stalled = Some(format!("{}.{}", consumer.name, consumer.delivered));
            }
            let stalled = consumer.stalled.clone();
            self.consumers[at] = consumer;
            if !self.random.percent(self.faults.gaps) {
                let (headers, payload) = (&stored.headers, &stored.payload);
                self.send(member, &deliver, &stored.subject, &reply, headers, payload);
            }
            if let Some(name) = stalled
                && !self.random.percent(self.faults.gaps)
            {
                let reply = format!("$JS.FC.{name}");
                let headers = b"NATS/1.0 100 FlowControl Request\r\n\r\n";
                self.send(member, &deliver, &deliver, &reply, headers, b"");
            }
        }
    }

    pub fn listens(&self, member: usize, subject: &str) -> bool {
        let open = self.members[member].connection.as_ref();
        open.is_some_and(|open| open.subscriptions.iter().any(|(of, _)| matches(of, subject)))
    }

    /// Consumers that have nothing to deliver say so, and those that nobody listens to are removed.
    pub fn beat(&mut self) {
        for at in 0..self.consumers.len() {
            let consumer = &self.consumers[at];
            let (member, deliver) = (consumer.member, consumer.deliver_subject.clone());
            if consumer.is_dead || !self.listens(member, &deliver) {
                continue;
            }
            let is_silent = consumer.said_at + 2_000 <= self.now;
            let (delivered, seq) = (consumer.delivered, consumer.at);
            let stalled = consumer.stalled.clone();
            self.consumers[at].heard_at = self.now;
            if is_silent {
                self.consumers[at].said_at = self.now;
                let stalled = stalled.map_or(String::new(), |name| {
                    format!("Nats-Consumer-Stalled: $JS.FC.{name}\r\n")
                });
                let headers = format!(
                    "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {delivered}\r\nNats-Last-Stream: {seq}\r\n{stalled}\r\n"
                );
                self.send(member, &deliver, &deliver, "", headers.as_bytes(), b"");
            }
        }
        let now = self.now;
        self.consumers.retain(|consumer| consumer.heard_at + 30_000 > now);
        self.pump();
    }
}

fn error(code: u32, text: &str) -> String {
    format!("{{\"error\":{{\"code\":400,\"err_code\":{code},\"description\":\"{text}\"}}}}")
}

fn stored_text(seq: u64, stored: &Stored) -> String {
    let data = base64(&stored.payload);
    let headers = match stored.headers.is_empty() {
        true => String::new(),
        false => format!("\"hdrs\":\"{}\",", base64(&stored.headers)),
    };
    let time = time_text(stored.time);
    format!(
        "{{\"message\":{{\"subject\":\"{}\",\"seq\":{seq},{headers}\"data\":\"{data}\",\"time\":\"{time}\"}}}}",
        stored.subject
    )
}

/// A time as the engine writes it.
fn time_text(time: i128) -> String {
    let nanos = time - 1_700_000_000_000_000_000;
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    // 1.7e9 seconds after 1970 it was 22:13:20.
    let (of_day, day) = ((80_000 + seconds) % 86_400, 14 + (80_000 + seconds) / 86_400);
    format!(
        "2023-11-{day:02}T{:02}:{:02}:{:02}.{rest:09}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}
