//! Claim: of a cache's clients the one leaves that was used least recently, and none that the engine does not have; an update
//! for which there is no room is never answered; those who ask for one client share one request, if they asked before it
//! was sent; and no output names an asker who has left.

use herd_mio::herd::engine::{EngineAnswer, Keep};
use herd_mio::herd::{Herd, Holder, Output};

use crate::alone::{NOW, alone, hear, tell};
use crate::member::Nobody;
use crate::server::BUCKET;
use crate::stream::{Published, Stored, Stream};
use crate::wire::{Said, read_all};

/// A cache and its engine.
struct Played {
    herd: Herd,
    stream: Stream,
    out: Vec<u8>,
    /// Requests for single clients.
    asked: Vec<String>,
    answers: Vec<(u64, Option<String>)>,
}

impl Played {
    fn new(clients: usize) -> Played {
        let (herd, out) = alone(Keep::Cache, clients);
        let stream = Stream::new(1);
        let mut played = Played { herd, stream, out, asked: Vec::new(), answers: Vec::new() };
        played.settle();
        played
    }

    /// Whether the update is taken up.
    fn tell(&mut self, id: &str, timestamp: u64) -> bool {
        tell(&mut self.herd, id, "+34-118", &timestamp.to_string(), NOW);
        self.herd.awaited(id.as_bytes()).is_some_and(|awaited| !awaited.is_never())
    }

    fn ask(&mut self, id: &str, asker: u64) {
        self.herd.ask_engine(id.as_bytes(), Holder(asker));
    }

    /// The engine answers all that it is asked, until nothing is left to be said.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.herd.poll_output() {
                let Output::EngineAnswered(holder) = output else { continue };
                let answer = self.herd.take_engine_answer(holder);
                let Some(answer) = answer else { continue };
                let line = match answer {
                    EngineAnswer::Known(update) => {
                        Some(String::from_utf8_lossy(update.id()).into_owned())
                    }
                    EngineAnswer::Unknown => None,
                    EngineAnswer::Cached(_) => panic!("the engine is there"),
                };
                self.answers.push((holder.0, line));
            }
            self.write();
            if self.out.is_empty() {
                return;
            }
            for said in read_all(&std::mem::take(&mut self.out)).expect("whole requests") {
                let Said::Publish { subject, reply, payload, .. } = said else { continue };
                let (headers, answer) = self.answer(&subject, &payload);
                let said = (headers.as_bytes(), &*answer);
                hear(&mut self.herd, (&reply, 1), said, NOW, &mut self.out, &mut Nobody);
            }
        }
    }

    /// What the cache has to say is written.
    fn write(&mut self) {
        self.herd.poll_engine(1 << 20, NOW, &mut self.out, &mut Nobody);
    }

    fn answer(&mut self, subject: &str, payload: &[u8]) -> (String, Vec<u8>) {
        if let Some(subject) = subject.strip_prefix("$JS.API.DIRECT.GET.KV_b.") {
            self.asked.push(subject.to_owned());
            return match self.stream.last_of(subject) {
                None => ("NATS/1.0 404 Message Not Found\r\n\r\n".to_owned(), Vec::new()),
                Some((seq, stored)) => {
                    let headers = format!(
                        "NATS/1.0\r\nNats-Subject: {subject}\r\nNats-Sequence: {seq}\r\n\r\n"
                    );
                    (headers, stored.payload.clone())
                }
            };
        }
        if subject.starts_with("$JS.API.STREAM.MSG.GET.") {
            let error = "{\"error\":{\"code\":404,\"err_code\":10037,\"description\":\"none\"}}";
            return (String::new(), error.into());
        }
        if subject.starts_with("$JS.API.") {
            return (String::new(), self.stream.info(BUCKET).into_bytes());
        }
        let stored = Stored {
            subject: subject.to_owned(),
            headers: Vec::new(),
            payload: payload.to_vec(),
            time: 0,
        };
        let Published::Stored(seq) = self.stream.publish(stored, None, false) else {
            panic!("it expects nothing")
        };
        (String::new(), format!("{{\"stream\":\"KV_b\",\"seq\":{seq}}}").into_bytes())
    }

    fn cached(&self) -> String {
        let ids = self.herd.table().iter().map(|it| it.update.id()[0]);
        let mut ids: Vec<u8> = ids.collect();
        ids.sort_unstable();
        String::from_utf8(ids).expect("ASCII")
    }
}

#[test]
fn the_client_that_was_used_least_recently_leaves() {
    let mut played = Played::new(3);
    for id in ["a", "b", "c"] {
        assert!(played.tell(id, 1));
        played.settle();
    }
    assert_eq!(played.cached(), "abc");
    // It is used by whoever asks for it, and by itself.
    played.ask("a", 1);
    played.settle();
    played.tell("b", 2);
    played.settle();
    assert!(played.tell("d", 1));
    played.settle();
    assert_eq!(played.cached(), "abd");
    // What has left is found in the bucket, and takes the place of another one.
    played.ask("c", 1);
    played.settle();
    assert_eq!(played.answers, [(1, Some("a".to_owned())), (1, Some("c".to_owned()))]);
    assert_eq!(played.cached(), "bcd");
}

#[test]
fn what_the_engine_does_not_have_never_leaves_and_for_more_there_is_no_room() {
    let mut played = Played::new(3);
    for id in ["a", "b", "c"] {
        assert!(played.tell(id, 1));
    }
    assert!(!played.tell("d", 1), "the engine has nothing yet");
    assert_eq!(played.cached(), "abc");
    assert!(played.tell("a", 2), "a client that is known needs no room");
    played.settle();
    assert!(played.tell("d", 1));
    // It has the first one, and not what that one has told since.
    assert!(played.tell("b", 2) && played.tell("c", 2));
    assert_eq!(played.cached(), "bcd");
    assert!(!played.tell("e", 1));
    played.settle();
    assert!(played.tell("e", 1));
}

#[test]
fn those_who_ask_before_a_request_is_sent_share_it_and_the_others_share_the_next_one() {
    let mut played = Played::new(3);
    played.tell("a", 1);
    played.settle();
    played.asked.clear();
    played.ask("a", 1);
    played.ask("a", 2);
    played.write();
    // The answer to what is on its way may be older than what these know.
    played.ask("a", 3);
    played.ask("a", 4);
    played.ask("a", 5);
    played.herd.forget_asker(Holder(4));
    played.settle();
    assert_eq!(played.asked.len(), 2, "{:?}", played.asked);
    let known = |asker| (asker, Some("a".to_owned()));
    assert_eq!(played.answers, [1, 2, 3, 5].map(known));
    // A question that nobody asks any more is not sent.
    played.ask("b", 1);
    played.herd.forget_asker(Holder(1));
    played.settle();
    assert_eq!(played.asked.len(), 2);
    // And an asker who asks for another one gets the answer to that alone.
    played.ask("b", 1);
    played.ask("a", 1);
    played.settle();
    assert_eq!(played.answers[4..], [known(1)]);
}
