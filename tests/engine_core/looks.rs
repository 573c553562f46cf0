//! Claim: a member finds out by itself that the engine has lost what it had, also where its consumer says nothing of it.

use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::Herd;
use herd_mio::herd::engine::Keep;

use crate::alone::{NOW, alone, hear, tell};
use crate::member::Nobody;
use crate::server::BUCKET;
use crate::stream::{Stream, number_behind};
use crate::wire::{Said, read_all};

/// A member, and an engine whose consumer delivers nothing: it waits for a number that is far away.
struct Played {
    herd: Herd,
    now: Now,
    /// The number of the last message of the bucket.
    last: u64,
    /// How often the bucket was looked at.
    looks: u32,
    /// Who says what it holds; nobody in particular if it is empty.
    leader: &'static str,
    /// The numbers with which consumers were to begin.
    begun: Vec<Option<u64>>,
    /// The numbers that publishes expected.
    published: Vec<Option<u64>>,
    consumer: (String, u64),
    out: Vec<u8>,
}

impl Played {
    fn new(last: u64) -> Played {
        let (herd, out) = alone(Keep::All, 100);
        let (begun, published, consumer) = (Vec::new(), Vec::new(), (String::new(), 0));
        let (now, looks, leader) = (NOW, 0, "");
        let mut played = Played { herd, now, last, looks, leader, begun, published, consumer, out };
        played.settle();
        played
    }

    fn settle(&mut self) {
        loop {
            self.herd.poll_engine(1 << 20, self.now, &mut self.out, &mut Nobody);
            if self.out.is_empty() {
                return;
            }
            for said in read_all(&std::mem::take(&mut self.out)).expect("whole requests") {
                match said {
                    Said::Subscribe { subject, sid } => self.consumer = (subject, sid),
                    Said::Publish { subject, reply, headers, payload } => {
                        let answer = self.answer(&subject, &headers, &payload);
                        self.say(&reply, 1, b"", answer.as_bytes());
                    }
                    Said::Unsubscribe { .. } => {}
                }
            }
        }
    }

    fn answer(&mut self, subject: &str, headers: &str, payload: &[u8]) -> String {
        if subject.starts_with("$JS.API.CONSUMER.CREATE.") {
            let config = String::from_utf8_lossy(payload);
            self.begun.push(number_behind(&config, "\"opt_start_seq\":"));
            return "{\"name\":\"x\",\"num_pending\":0}".to_owned();
        }
        if subject.starts_with("$JS.API.STREAM.INFO.") {
            self.looks += 1;
            let mut stream = Stream::new(1);
            stream.last_seq = self.last;
            let cluster = format!("{{\"cluster\":{{\"leader\":\"{}\"}},", self.leader);
            let info = stream.info(BUCKET);
            return if self.leader.is_empty() { info } else { info.replacen('{', &cluster, 1) };
        }
        if subject.starts_with("$JS.API.") {
            return "{\"success\":true}".to_owned();
        }
        let expected = "Nats-Expected-Last-Subject-Sequence: ";
        self.published.push(number_behind(headers, expected));
        self.last += 1;
        format!("{{\"stream\":\"KV_b\",\"seq\":{}}}", self.last)
    }

    fn say(&mut self, subject: &str, sid: u64, headers: &[u8], payload: &[u8]) {
        let said = (headers, payload);
        hear(&mut self.herd, (subject, sid), said, self.now, &mut self.out, &mut Nobody);
    }

    /// Until the bucket is looked at.
    fn look(&mut self) {
        let looks = self.looks;
        while self.looks == looks {
            let elapsed = self.herd.poll_engine_timeout().expect("a look").max(self.now.elapsed);
            self.now = Now { elapsed, ..self.now };
            self.herd.handle_engine_timeout(self.now, &mut Nobody);
            self.settle();
        }
    }

    /// Seconds in which the consumer beats, and nothing else comes by itself.
    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            let elapsed = self.now.elapsed + Duration::from_secs(1);
            self.now = Now { elapsed, wall: WallTime(self.now.wall.0 + 1_000_000_000) };
            let (subject, sid) = self.consumer.clone();
            let beat = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 0\r\n\r\n";
            self.say(&subject, sid, beat, b"");
            while self.herd.poll_engine_timeout().is_some_and(|at| at <= elapsed) {
                self.herd.handle_engine_timeout(self.now, &mut Nobody);
                self.settle();
            }
        }
    }
}

#[test]
fn a_bucket_that_lost_all_while_its_consumer_waits_for_later_numbers_is_read_and_filled_anew() {
    let mut played = Played::new(60);
    assert_eq!(played.begun, [None]);
    tell(&mut played.herd, "kiwi", "+1-2", "5", NOW);
    played.settle();
    assert_eq!(played.published, [Some(0)]);

    // Nothing is lost: the bucket is looked at, and nothing else is done.
    played.pass(30);
    assert_eq!((played.begun.len(), played.published.len()), (1, 1));

    played.last = 3;
    played.pass(15);
    assert_eq!(played.begun, [None, None], "the bucket is read from its beginning");
    assert_eq!(played.published, [Some(0), Some(0)], "and has what it had lost");
}

#[test]
fn a_bucket_whose_new_leader_lags_is_looked_at_again_and_not_read_from_its_beginning() {
    let mut played = Played::new(60);
    tell(&mut played.herd, "kiwi", "+1-2", "5", NOW);
    played.settle();
    played.pass(9);

    // The next leader has not applied all yet, and soon it has.
    played.last = 55;
    played.look();
    assert_eq!(played.begun, [None], "it may be that nothing is lost");
    played.last = 70;
    played.look();
    // Or others have published as much again: another consumer shows whether what was known is there.
    assert_eq!(played.begun.len(), 2);
    assert_eq!(played.published, [Some(0)], "and nothing is compared anew");
}

#[test]
fn a_leader_that_stays_and_answers_with_what_it_had_a_moment_ago_changes_nothing() {
    let mut played = Played::new(60);
    played.leader = "n1";
    tell(&mut played.herd, "kiwi", "+1-2", "5", NOW);
    played.settle();
    played.pass(9);
    played.look(); // From now on it is known who leads.
    for (behind, leader, begun) in [(55, "n1", 1), (55, "n2", 2)] {
        played.pass(9);
        played.last = behind;
        played.leader = leader;
        played.look();
        played.last = 70;
        played.look();
        assert_eq!(played.begun.len(), begun, "consumers, after {leader}");
    }
    assert_eq!(played.published, [Some(0)], "and nothing is compared anew");
}
