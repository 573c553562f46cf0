//! A member: the herd's core, its clients' held answers, and what it says to the engine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use herd_mio::clock::Now;
use herd_mio::herd::engine::{EngineEvent, EngineSettings, EngineStatus, Keep};
use herd_mio::herd::{AnswerAfter, Event, HeldAnswers, Herd, Holder, Observer, Output, Settings};
use herd_mio::nats::{self, FromServer};
use herd_mio::protocol::{Dialect, Epoch, Iamat, Timestamp, UpdateRef};

use crate::asks::Asks;
use crate::laws::Laws;
use crate::schedule::Schedule;
use crate::server::BUCKET;
use crate::wire::{Said, read_all};
use crate::world::Connection;

/// Connections of clients.
pub const HOLDERS: usize = 3;

pub struct Member {
    pub at: usize,
    /// How often it was started before.
    pub run: u64,
    pub is_up: bool,
    pub connection: Option<Connection>,
    /// Until then nothing passes between it and the engine.
    pub cut_until: u64,
    /// The number of the timer that counts.
    pub timer: u64,
    pub wants_another_connection: bool,
    /// Whether there was no room for what it was last told.
    pub took_up_nothing: bool,
    herd: Herd,
    held: Vec<HeldAnswers>,
    pub asks: Asks,
    out: Vec<u8>,
    /// Publishes that are not answered: by subject, when the last one was sent, and under which replies. An answer to an
    /// earlier one says what becomes of the later ones, which have the same expectation.
    in_flight: BTreeMap<String, (u64, Vec<String>)>,
}

pub struct Nobody;

impl Observer for Nobody {
    fn record(&mut self, event: Event<'_>) {
        if std::env::var_os("TELL").is_some() {
            match event {
                Event::Engine(EngineEvent::Sending { update }) => {
                    println!("    sends {}", update.line().trim_ascii().escape_ascii());
                }
                Event::Engine(EngineEvent::Received { update, applied }) => {
                    println!("    got {} {applied:?}", text_of(update));
                }
                Event::Applied { update, applied, .. } => {
                    println!("    told {} {applied:?}", text_of(update));
                }
                event => println!("    {event:?}"),
            }
        }
    }
}

fn text_of(update: &UpdateRef<'_>) -> String {
    let mut line = Vec::new();
    update.write_updateloc(&mut line);
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

impl Member {
    pub fn new(at: usize, run: u64, schedule: &Schedule, now: Now) -> Member {
        let settings = Settings {
            name: format!("S{at}"),
            neighbours: Vec::new(),
            dialect: Dialect::Course,
            max_clients: schedule.caches[at].unwrap_or(1_000),
            max_future: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            refill: true,
            epoch: Epoch(1 + at as u64 + 100 * run),
            seed: u128::from(schedule.seed) + 7,
        };
        let mut herd = Herd::new(settings, now);
        herd.set_answer_after(AnswerAfter { disk: false, engine: true });
        let engine = EngineSettings {
            bucket: BUCKET.to_owned(),
            replicas: 1,
            create: schedule.create,
            keep: schedule.caches[at].map_or(Keep::All, |_| Keep::Cache),
            inbox: format!("_INBOX.m{at}r{run}"),
            seed: schedule.seed + 31 * at as u64 + 1_009 * run,
        };
        herd.attach_engine(engine);
        Member {
            at,
            run,
            is_up: true,
            connection: None,
            cut_until: 0,
            timer: 0,
            wants_another_connection: false,
            took_up_nothing: false,
            herd,
            held: (0..HOLDERS).map(|_| HeldAnswers::default()).collect(),
            asks: Asks::default(),
            out: Vec::new(),
            in_flight: BTreeMap::new(),
        }
    }

    pub fn connect(&mut self, number: u64, now: Now) {
        let subscriptions = Vec::new();
        self.connection = Some(Connection { number, subscriptions, heard_until: 0, said_until: 0 });
        // On another connection all is published again at once.
        self.in_flight.values_mut().for_each(|(sent_at, _)| *sent_at = 0);
        self.out.clear();
        self.herd.engine_connected(now, &mut self.out, &mut Nobody);
    }

    /// The connection ends. False if there was none.
    pub fn close(&mut self) -> bool {
        let was_open = self.connection.take().is_some();
        if was_open {
            self.out.clear();
            self.herd.engine_closed();
        }
        was_open
    }

    /// It is killed.
    pub fn crash(&mut self) {
        self.connection = None;
        self.is_up = false;
        self.timer += 1;
    }

    pub fn hear(&mut self, bytes: &[u8], now: Now, laws: &mut Laws) {
        if self.connection.is_none() {
            return;
        }
        let parsed = nats::parse(bytes, 1 << 20);
        let Ok(Some((FromServer::Message(message), length))) = parsed else {
            return laws.wrong(format!("not a message: {}", bytes.escape_ascii()));
        };
        assert_eq!(length, bytes.len());
        let subject = String::from_utf8_lossy(message.subject).into_owned();
        let is_info = subject.contains(".r.i.") || subject.contains(".r.s.");
        // Then there is a leader, and what was sent to a former one before that may be published again.
        let is_taken = subject.contains(".r.p.") && message.headers.is_empty();
        let mut taken = self.in_flight.values().filter(|(_, replies)| replies.contains(&subject));
        let before = taken.next().map_or(0, |(sent_at, _)| *sent_at);
        for (sent_at, replies) in self.in_flight.values_mut() {
            // Once it was looked at, the bucket may be another one, of which nothing is known.
            if is_info || replies.contains(&subject) || (is_taken && *sent_at <= before) {
                *sent_at = 0;
            }
        }
        self.herd.engine_message(&message, now, &mut self.out, &mut Nobody);
    }

    pub fn timeout(&mut self, now: Now, laws: &mut Laws) {
        self.herd.handle_engine_timeout(now, &mut Nobody);
        if self.herd.poll_engine_timeout().is_some_and(|at| at <= now.elapsed) {
            laws.wrong(format!("member {}: a deadline that has passed stays", self.at));
        }
    }

    /// A client tells where it is.
    pub fn tell(
        &mut self,
        client: usize,
        timestamp: i128,
        place: usize,
        holder: usize,
        now: Now,
        laws: &mut Laws,
    ) {
        let id = name_of(client);
        let stamp = format!("{}.{:09}", timestamp / 1_000_000_000, timestamp % 1_000_000_000);
        let location = format!("+{place:02}-118");
        let timestamp = Timestamp::parse(stamp.as_bytes()).expect("a timestamp");
        let name = format!("S{}", self.at);
        let update = UpdateRef {
            id: id.as_bytes(),
            location: location.as_bytes(),
            timestamp,
            server: name.as_bytes(),
            skew: now.wall.skew(&timestamp),
        };
        let mut line = Vec::new();
        update.write_updateloc(&mut line);
        let iamat = Iamat { id: id.as_bytes(), location: location.as_bytes(), timestamp };
        let mut answer = Vec::new();
        self.herd.handle_iamat(&iamat, now, &mut answer, &mut Nobody).expect("it is taken");
        let awaited = self.herd.awaited(id.as_bytes());
        self.took_up_nothing = awaited.is_some_and(|awaited| awaited.is_never());
        match awaited {
            None if self.held[holder].is_empty() => {
                laws.answered(&line);
                self.asks.told(&line);
            }
            awaited => {
                let held = &mut self.held[holder];
                held.push(awaited, &line, now.elapsed, Holder(holder as u64), &mut self.herd);
            }
        }
    }

    /// Does all that is to be done now. What it says, and when it wants to be woken.
    pub fn drive(&mut self, full: usize, now: Now, laws: &mut Laws) -> (Vec<Said>, Option<u64>) {
        if !self.is_up {
            return (Vec::new(), None);
        }
        let mut said = VecDeque::new();
        for round in 0.. {
            if round > 20_000 {
                laws.wrong(format!("member {} does not come to rest", self.at));
                break;
            }
            while let Some(output) = self.herd.poll_output() {
                match output {
                    Output::AnswersDue(holder) => {
                        let mut lines = Vec::new();
                        let held = &mut self.held[holder.0 as usize];
                        if !held.take_due(&mut lines, holder, &mut self.herd, |_| {}) {
                            held.cancel(holder, &mut self.herd); // It is disconnected.
                        }
                        for line in lines.split_inclusive(|byte| *byte == b'\n') {
                            laws.answered(line);
                            self.asks.told(line);
                        }
                    }
                    Output::EngineAnswered(holder) => {
                        if let Some(answer) = self.herd.take_engine_answer(holder) {
                            self.asks.answered.push((holder.0 as usize, answer));
                        }
                    }
                    Output::CloseEngine(_) => self.wants_another_connection = true,
                    _ => {}
                }
            }
            if self.herd.engine_has_pending() {
                self.herd.poll_engine(full, now, &mut self.out, &mut Nobody);
            } else if self.out.is_empty() {
                break;
            }
            match read_all(&std::mem::take(&mut self.out)) {
                Ok(all) => said.extend(all),
                Err(wrong) => laws.wrong(wrong),
            }
        }
        let table = self.herd.table();
        if table.len() > table.bound() || table.iter().count() != table.len() {
            laws.wrong(format!("member {} holds {} clients", self.at, table.len()));
        }
        if self.connection.is_some() {
            for one in &said {
                self.watch(one, now, laws);
            }
        }
        // A deadline may lie between two milliseconds.
        let wake = self.herd.poll_engine_timeout();
        (said.into(), wake.map(|at| at.as_nanos().div_ceil(1_000_000) as u64))
    }

    /// One publish of a client at a time, unless the last one was not answered for long.
    fn watch(&mut self, said: &Said, now: Now, laws: &mut Laws) {
        let Said::Publish { subject, reply, .. } = said else { return };
        if !subject.starts_with("$KV.") {
            return;
        }
        let at = now.elapsed.as_millis() as u64;
        let (sent_at, replies) = self.in_flight.entry(subject.clone()).or_default();
        let is_early = *sent_at > 0 && at < *sent_at + 2_000;
        *sent_at = at;
        replies.push(reply.clone());
        if is_early && laws.deleted.is_empty() {
            laws.wrong(format!("member {} has two publishes of {subject} in flight", self.at));
        }
    }

    /// A client asks for another one.
    pub fn ask(&mut self, client: usize, holder: usize) {
        self.herd.ask_engine(name_of(client).as_bytes(), Holder(holder as u64));
    }

    /// It waits no longer.
    pub fn forget_asker(&mut self, holder: usize) {
        self.herd.forget_asker(Holder(holder as u64));
    }

    pub fn is_cache(&self) -> bool {
        self.herd.is_cache()
    }

    pub fn bound(&self) -> usize {
        self.herd.table().bound()
    }

    pub fn table(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let entries = self.herd.table().iter();
        let line = |line: &[u8]| line.strip_suffix(b"\n").unwrap_or(line).to_vec();
        entries.map(|it| (it.update.id().to_vec(), line(&it.update.line()))).collect()
    }

    /// What it knows of a client.
    pub fn known(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.herd.table().get(id).map(|entry| entry.update.line().trim_ascii_end().to_vec())
    }

    pub fn status(&self) -> EngineStatus {
        self.herd.engine_status().expect("there is an engine")
    }

    /// Answers that are held.
    pub fn held(&self) -> usize {
        self.held.iter().map(HeldAnswers::len).sum()
    }
}

/// The id of a client: some need signs in a key.
pub fn name_of(client: usize) -> String {
    match client % 3 {
        0 => format!("kiwi.{client}"),
        1 => format!("_c{client}"),
        _ => format!("plain-{client}"),
    }
}
