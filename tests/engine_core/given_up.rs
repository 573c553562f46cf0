//! Claim: whoever waits for an update that the engine does not take learns so at once; the update is published again when
//! somebody waits for it again, and a newer one of the client is kept all the same.

use herd_mio::herd::engine::Keep;
use herd_mio::herd::{HeldAnswers, Herd, Holder, Output};

use crate::alone::{NOW, alone, hear, tell};
use crate::member::Nobody;
use crate::server::BUCKET;
use crate::stream::Stream;
use crate::wire::{Said, read_all};

/// A member whose engine takes values of so many bytes, and connections that hold answers back.
struct Played {
    herd: Herd,
    most: usize,
    held: [HeldAnswers; 2],
    /// What each connection was told: its answers, and `"the end"`.
    told: [Vec<String>; 2],
    publishes: u64,
    out: Vec<u8>,
}

impl Played {
    fn new() -> Played {
        let (herd, out) = alone(Keep::All, 100);
        let mut played = Played {
            herd,
            most: 1_000,
            held: Default::default(),
            told: Default::default(),
            publishes: 0,
            out,
        };
        played.settle();
        played
    }

    /// A client on this connection tells where it is, in a text of so many bytes more.
    fn tell(&mut self, connection: usize, timestamp: u64, length: usize) {
        let location = format!("+1.{}-2", "0".repeat(1 + length));
        let text = timestamp.to_string();
        tell(&mut self.herd, "kiwi", &location, &text, NOW);
        let awaited = self.herd.awaited(b"kiwi");
        let holder = Holder(connection as u64);
        assert!(awaited.is_some());
        self.held[connection].push(awaited, text.as_bytes(), NOW.elapsed, holder, &mut self.herd);
    }

    /// The engine answers all that it is asked, until nothing is left to be said.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.herd.poll_output() {
                let Output::AnswersDue(holder) = output else { continue };
                let at = holder.0 as usize;
                let mut answers = Vec::new();
                let may_come = self.held[at].take_due(&mut answers, holder, &mut self.herd, |_| {});
                if !answers.is_empty() {
                    self.told[at].push(String::from_utf8(answers).expect("text"));
                }
                if !may_come {
                    self.told[at].push("the end".to_owned());
                    self.held[at].cancel(holder, &mut self.herd);
                }
            }
            self.herd.poll_engine(1 << 20, NOW, &mut self.out, &mut Nobody);
            if self.out.is_empty() {
                return;
            }
            for said in read_all(&std::mem::take(&mut self.out)).expect("whole requests") {
                let Said::Publish { subject, reply, payload, .. } = said else { continue };
                let answer = self.answer(&subject, &payload);
                let said = (&b""[..], answer.as_bytes());
                hear(&mut self.herd, (&reply, 1), said, NOW, &mut self.out, &mut Nobody);
            }
        }
    }

    fn answer(&mut self, subject: &str, payload: &[u8]) -> String {
        if subject.starts_with("$JS.API.CONSUMER.") {
            return "{\"name\":\"x\",\"num_pending\":0}".to_owned();
        }
        if subject.starts_with("$JS.API.") {
            return Stream::new(1).info(BUCKET);
        }
        self.publishes += 1;
        if payload.len() > self.most {
            let error = "{\"code\":400,\"err_code\":10054,\"description\":\"too large\"}";
            return format!("{{\"error\":{error}}}");
        }
        format!("{{\"stream\":\"KV_b\",\"seq\":{}}}", self.publishes)
    }

    /// What the connection was told since it was last asked.
    fn told(&mut self, connection: usize) -> Vec<String> {
        std::mem::take(&mut self.told[connection])
    }
}

#[test]
fn whoever_waits_for_what_the_engine_does_not_take_learns_so_at_once() {
    let mut played = Played::new();
    played.most = 70;
    // Both wait for the same update, and the second one of the first connection for those before it.
    for connection in [0, 0, 1] {
        played.tell(connection, 5, 40);
    }
    played.settle();
    assert_eq!(
        (played.told(0), played.told(1)),
        (vec!["the end".to_owned()], vec!["the end".to_owned()])
    );
    assert_eq!(played.publishes, 1, "nobody waits any more");
    // Whoever repeats it has it tried once more, in vain, and with success once an operator has allowed it.
    played.tell(0, 5, 40);
    played.settle();
    assert_eq!((played.told(0), played.publishes), (vec!["the end".to_owned()], 2));
    played.most = 1_000;
    played.tell(0, 5, 40);
    played.settle();
    assert_eq!((played.told(0), played.publishes), (vec!["5".to_owned()], 3));
    assert_eq!(played.herd.awaited(b"kiwi"), None, "it is kept");
}

#[test]
fn a_newer_update_is_kept_although_an_earlier_one_was_not_taken() {
    let mut played = Played::new();
    played.most = 70;
    played.tell(0, 5, 40);
    played.settle();
    assert_eq!(played.told(0), ["the end"]);
    played.tell(0, 6, 0);
    played.settle();
    assert_eq!(played.told(0), ["6"]);

    // The newer one comes while the other one is on its way: both are answered by it.
    played.tell(0, 7, 40);
    played.herd.poll_engine(1 << 20, NOW, &mut played.out, &mut Nobody);
    played.tell(1, 8, 0);
    played.settle();
    assert_eq!((played.told(0), played.told(1)), (vec!["7".to_owned()], vec!["8".to_owned()]));
}
