//! Claim: once a cluster has a leader again, a member has published all that waits within a second, however the former one
//! went; and a member does not storm a cluster that has none.

use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::engine::{EngineEvent, Keep};
use herd_mio::herd::{Event, Herd, Observer};

use crate::alone::{hear, tell, unconnected};
use crate::random::Random;
use crate::server::BUCKET;
use crate::stream::{Stored, Stream, number_behind};
use crate::wire::{Said, read_all};

/// What is answered while there is no leader.
#[derive(Clone, Copy, Debug)]
struct Election {
    /// When the leader goes.
    at: u64,
    length: u64,
    /// Whether nobody listens to publishes, which is answered; else they vanish.
    is_unheard: bool,
    /// The member was connected to the node that went, and is connected again after so long.
    reconnects: Option<u64>,
    info: Info,
    /// For so long the next leader has not applied all that the former one had acknowledged.
    lag: u64,
}

/// Who answers STREAM.INFO without a leader.
#[derive(Clone, Copy, Debug)]
enum Info {
    Nobody,
    /// The whole cluster has no leader, and says so.
    Cluster,
    /// A follower, which knows no leader and lags.
    Follower,
}

/// A member and a cluster, millisecond by millisecond.
struct Played {
    herd: Herd,
    stream: Stream,
    election: Election,
    now: u64,
    told: u64,
    out: Vec<u8>,
    is_connected: bool,
    /// What the member has sent while there was no leader.
    asked: u64,
    replaced: u64,
}

#[derive(Default)]
struct Replaced(u64);

impl Observer for Replaced {
    fn record(&mut self, event: Event<'_>) {
        self.0 += u64::from(matches!(event, Event::Engine(EngineEvent::BucketReplaced)));
    }
}

impl Played {
    fn new(seed: u64) -> Played {
        let mut random = Random::new(seed);
        let at = random.between(1_000, 3_000) as u64;
        let length = random.between(50, 12_000) as u64;
        let reconnects = random.percent(50).then(|| random.between(60, 200) as u64);
        let info = [Info::Nobody, Info::Cluster, Info::Follower][random.below(3)];
        let is_unheard = random.percent(50);
        let lag = (random.below(2) * random.below(400)) as u64;
        let election = Election { at, length, is_unheard, reconnects, info, lag };
        let mut played = Played {
            herd: unconnected(Keep::All, 10_000, seed),
            stream: Stream::new(1),
            election,
            now: 0,
            told: 0,
            out: Vec::new(),
            is_connected: false,
            asked: 0,
            replaced: 0,
        };
        played.connect();
        played
    }

    fn now(&self) -> Now {
        let wall = WallTime(1_700_000_000_000_000_000 + i128::from(self.now) * 1_000_000);
        Now { elapsed: Duration::from_millis(self.now), wall }
    }

    fn connect(&mut self) {
        let now = self.now();
        self.is_connected = true;
        self.herd.engine_connected(now, &mut self.out, &mut Replaced::default());
    }

    fn has_leader(&self) -> bool {
        let Election { at, length, .. } = self.election;
        !(at..at + length).contains(&self.now)
    }

    fn leader_lags(&self) -> bool {
        let Election { at, length, lag, .. } = self.election;
        (at + length..at + length + lag).contains(&self.now)
    }

    /// The bucket, as a leader says that has just come, or a follower.
    fn behind(&self) -> String {
        let mut behind = self.stream.clone();
        behind.last_seq = 1;
        behind.info(BUCKET)
    }

    /// A client tells something new every 10 ms, one of 200.
    fn tell(&mut self) {
        self.told += 1;
        let id = format!("kiwi{}", self.told % 200);
        let text = format!("{}.5", 1_600_000_000 + self.told);
        let now = self.now();
        tell(&mut self.herd, &id, "+1-2", &text, now);
    }

    /// Plays until all that was told before the leader came is published. Returns how long that took, at most 20 s.
    fn play(&mut self) -> u64 {
        let Election { at, length, reconnects, .. } = self.election;
        let led_at = at + length;
        loop {
            self.now += 1;
            let now = self.now();
            if self.now == at && reconnects.is_some() {
                self.is_connected = false;
                self.out.clear();
                self.herd.engine_closed();
            }
            if reconnects.is_some_and(|after| self.now == at + after) {
                self.connect();
            }
            if self.now.is_multiple_of(10) && self.now < led_at {
                self.tell();
            }
            if self.herd.poll_engine_timeout().is_some_and(|at| at <= now.elapsed) {
                self.herd.handle_engine_timeout(now, &mut Replaced::default());
            }
            self.exchange();
            let mut has_all = || {
                let ids = (0..200).map(|number| format!("kiwi{number}"));
                ids.into_iter().all(|id| self.herd.awaited(id.as_bytes()).is_none())
            };
            if self.now >= led_at && (has_all() || self.now > led_at + 20_000) {
                return self.now - led_at;
            }
        }
    }

    fn exchange(&mut self) {
        let now = self.now();
        while self.is_connected {
            self.herd.poll_engine(1 << 20, now, &mut self.out, &mut Replaced::default());
            if self.out.is_empty() {
                return;
            }
            for said in read_all(&std::mem::take(&mut self.out)).expect("whole requests") {
                let Said::Publish { subject, reply, headers, payload } = said else { continue };
                let Some((head, body)) = self.answer(&subject, &headers, payload) else { continue };
                let mut replaced = Replaced::default();
                let said = (head.as_bytes(), body.as_bytes());
                hear(&mut self.herd, (&reply, 1), said, now, &mut self.out, &mut replaced);
                self.replaced += replaced.0;
            }
            while self.herd.poll_output().is_some() {}
        }
    }

    /// Headers and body.
    fn answer(
        &mut self,
        subject: &str,
        headers: &str,
        payload: Vec<u8>,
    ) -> Option<(&'static str, String)> {
        let has_leader = self.has_leader();
        self.asked += u64::from(!has_leader);
        if subject.starts_with("$KV.") {
            if !has_leader {
                let unheard = ("NATS/1.0 503\r\n\r\n", String::new());
                return Some(unheard).filter(|_| self.election.is_unheard);
            }
            let expected = number_behind(headers, "Nats-Expected-Last-Subject-Sequence: ");
            let last = self.stream.last_of(subject).map_or(0, |(seq, _)| seq);
            // Nobody else publishes: only who takes the bucket for another one expects something else.
            self.replaced += u64::from(expected != Some(last));
            let stored =
                Stored { subject: subject.to_owned(), headers: Vec::new(), payload, time: 1 };
            self.stream.publish(stored, None, true);
            return Some(("", format!("{{\"stream\":\"KV_b\",\"seq\":{}}}", self.stream.last_seq)));
        }
        if !has_leader && !subject.starts_with("$JS.API.STREAM.INFO.") {
            return None;
        }
        let body = match (has_leader, self.election.info) {
            (false, Info::Nobody) => return None,
            (false, Info::Cluster) => {
                "{\"error\":{\"code\":503,\"err_code\":10008,\"description\":\"unavailable\"}}"
                    .to_owned()
            }
            (false, Info::Follower) => with_leader(&self.behind(), ""),
            _ if subject.starts_with("$JS.API.CONSUMER.") => {
                "{\"name\":\"x\",\"num_pending\":0}".to_owned()
            }
            _ if self.leader_lags() => with_leader(&self.behind(), "n1"),
            _ => with_leader(&self.stream.info(BUCKET), "n1"),
        };
        Some(("", body))
    }
}

fn with_leader(info: &str, leader: &str) -> String {
    info.replacen('{', &format!("{{\"cluster\":{{\"name\":\"c\",\"leader\":\"{leader}\"}},"), 1)
}

/// How long a member takes to go on after one election, in milliseconds; or what is wrong with that.
pub fn check(seed: u64) -> Result<u64, String> {
    let mut played = Played::new(seed);
    let late = played.play();
    let Played { election, asked, replaced, .. } = played;
    // A publish that nobody answers is sent again after two seconds, also if the next leader came sooner.
    let latest = if election.length < 2_000 { 3_000 - election.length } else { 1_000 };
    // One publish every 100 ms and one look every 250 ms, and what was under way.
    let most = election.length / 100 + election.length / 250 + 200;
    match () {
        () if late > latest => Err(format!("{late} ms after the leader: {election:?}")),
        () if replaced > 0 => Err(format!("the bucket counts as another one: {election:?}")),
        () if asked > most => Err(format!("{asked} requests without a leader: {election:?}")),
        () => Ok(late),
    }
}

#[test]
fn a_member_goes_on_within_a_second_of_the_next_leader() {
    for seed in 0..300 {
        assert_eq!(check(seed).err(), None, "seed {seed}");
    }
}
