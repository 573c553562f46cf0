//! Claim: a question for a client's value whose answer takes longer than acknowledgements do is asked again a few times,
//! and one of its answers counts; and so is one that a cache asks of an engine that is slower than it waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::engine::{EngineAnswer, Keep};
use herd_mio::herd::{Herd, Holder};

use crate::alone::{NOW, alone, hear, tell};
use crate::member::Nobody;
use crate::server::BUCKET;
use crate::stream::Stream;
use crate::wire::{Said, base64, read_all};

/// A member, and an engine that acknowledges at once and answers questions after a while.
struct Played {
    herd: Herd,
    /// Whether other clients tell something all the time.
    is_busy: bool,
    latency: u64,
    /// Milliseconds since the member connected.
    now: u64,
    /// Answers by when they come.
    answers: BTreeMap<(u64, u64), (String, &'static str, String)>,
    questions: u64,
    /// Publishes of `kiwi` that were accepted.
    accepted: u64,
    last: u64,
    out: Vec<u8>,
}

/// What the bucket has of `kiwi` when a cache asks for it.
const LINE: &str = "UPDATELOC kiwi +1-2 5.000000000 B +1.000000000";

impl Played {
    fn new(keep: Keep, latency: u64) -> Played {
        let (herd, out) = alone(keep, 1_000);
        let is_busy = keep == Keep::All;
        let answers = BTreeMap::new();
        let (questions, accepted, last) = (0, 0, 10);
        Played { herd, is_busy, latency, now: 0, answers, questions, accepted, last, out }
    }

    fn now(&self) -> Now {
        let elapsed = NOW.elapsed + Duration::from_millis(self.now);
        Now { elapsed, wall: WallTime(NOW.wall.0 + i128::from(self.now) * 1_000_000) }
    }

    fn tell(&mut self, id: &str, seconds: u64) {
        let now = self.now();
        tell(&mut self.herd, id, "+1-2", &seconds.to_string(), now);
    }

    /// One millisecond in which another client tells something now and then.
    fn step(&mut self) {
        self.now += 1;
        if self.is_busy && self.now.is_multiple_of(10) {
            self.tell(&format!("other{}", self.now % 70), self.now);
        }
        let now = self.now();
        if self.herd.poll_engine_timeout().is_some_and(|at| at <= now.elapsed) {
            self.herd.handle_engine_timeout(now, &mut Nobody);
        }
        while let Some(entry) = self.answers.first_entry().filter(|it| it.key().0 <= self.now) {
            let (reply, headers, answer) = entry.remove();
            let said = (headers.as_bytes(), answer.as_bytes());
            hear(&mut self.herd, (&reply, 1), said, now, &mut self.out, &mut Nobody);
        }
        self.herd.poll_engine(1 << 20, now, &mut self.out, &mut Nobody);
        for said in read_all(&std::mem::take(&mut self.out)).expect("whole requests") {
            let Said::Publish { subject, reply, headers, .. } = said else { continue };
            let number = self.answers.len() as u64 + 1_000 * self.now;
            let (after, headers, answer) = match subject.starts_with("$JS.API.DIRECT.GET.") {
                true => self.value(),
                false => {
                    let (after, answer) = self.answer(&subject, &headers);
                    (after, "", answer)
                }
            };
            self.answers.insert((self.now + after, number), (reply, headers, answer));
        }
    }

    /// What any copy of the bucket has of `kiwi`.
    fn value(&mut self) -> (u64, &'static str, String) {
        self.questions += 1;
        let headers = "NATS/1.0\r\nNats-Subject: $KV.b.kiwi\r\nNats-Sequence: 5\r\n\r\n";
        (self.latency, headers, LINE.to_owned())
    }

    fn answer(&mut self, subject: &str, headers: &str) -> (u64, String) {
        if subject.starts_with("$JS.API.CONSUMER.") {
            return (0, "{\"name\":\"x\",\"num_pending\":0}".to_owned());
        }
        if subject.starts_with("$JS.API.STREAM.MSG.GET.") {
            self.questions += 1;
            if !self.is_busy {
                let (subject, data) = ("$KV.b.kiwi", base64(LINE.as_bytes()));
                let time = "2026-01-01T00:00:00Z";
                let message = format!(
                    "{{\"subject\":\"{subject}\",\"seq\":5,\"data\":\"{data}\",\"time\":\"{time}\"}}"
                );
                return (self.latency, format!("{{\"message\":{message}}}"));
            }
            let error = "{\"code\":404,\"err_code\":10037,\"description\":\"no message found\"}";
            return (self.latency, format!("{{\"error\":{error}}}"));
        }
        if subject.starts_with("$JS.API.") {
            let mut stream = Stream::new(1);
            stream.last_seq = self.last;
            return (0, stream.info(BUCKET));
        }
        // The first publish of this client meets what nobody has told the member.
        if subject.ends_with("kiwi") && self.questions == 0 {
            let error =
                "{\"code\":400,\"err_code\":10071,\"description\":\"wrong last sequence: 7\"}";
            return (0, format!("{{\"error\":{error}}}"));
        }
        self.accepted += u64::from(subject.ends_with("kiwi"));
        assert!(headers.contains("Nats-Expected-Last-Subject-Sequence"), "{headers}");
        self.last += 1;
        (0, format!("{{\"stream\":\"KV_b\",\"seq\":{}}}", self.last))
    }
}

#[test]
fn a_question_that_takes_longer_than_acknowledgements_is_repeated_a_few_times_and_answered() {
    for (latency, most) in [(1, 1), (400, 2), (1_500, 4), (3_000, 5)] {
        let mut played = Played::new(Keep::All, latency);
        while played.now < 5_000 {
            played.step(); // It is in sync, and has published what it knew before.
        }
        played.tell("kiwi", 5);
        // A conflict waits for the consumer first.
        let limit = played.now + 1_000 + 3 * latency;
        while played.now < limit && played.accepted == 0 {
            played.step();
        }
        let seen = (played.accepted, played.questions <= most);
        assert_eq!(seen, (1, true), "{latency} ms: {} questions", played.questions);
    }
}

#[test]
fn a_cache_takes_the_answer_of_an_engine_that_is_slower_than_it_waits_for_at_first() {
    for (latency, most) in [(1, 1), (1_500, 1), (2_500, 2), (3_500, 2)] {
        let mut played = Played::new(Keep::Cache, latency);
        while played.now < 1_000 {
            played.step();
        }
        played.herd.ask_engine(b"kiwi", Holder(1));
        let mut answer = None;
        while played.now < 15_000 && answer.is_none() {
            played.step();
            answer = played.herd.take_engine_answer(Holder(1));
        }
        assert!(matches!(answer, Some(EngineAnswer::Known(_))), "{latency} ms: {answer:?}");
        assert!(played.questions <= most, "{latency} ms: {} requests", played.questions);
    }
}
