//! Members, their connections to the engine, and time: events in one order, all from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::engine::EngineState;

use crate::faults::{Fault, Rates};
use crate::laws::{Laws, keep_newest, newer_or_equal, update};
use crate::member::Member;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::server::Publish;
use crate::stream::{Consumer, Stream};
use crate::wire::Said;

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// Something that a member has said arrives at the engine.
    Arrive {
        member: usize,
        connection: u64,
        said: Said,
    },
    Commit(Publish),
    /// The engine answers a request.
    Answer {
        member: usize,
        subject: String,
        headers: Vec<u8>,
        payload: Vec<u8>,
    },
    /// Bytes arrive at a member.
    Hear {
        member: usize,
        connection: u64,
        bytes: Heard,
    },
    Timer {
        member: usize,
        number: u64,
    },
    Connect {
        member: usize,
    },
    /// The connection of a member ends.
    Close {
        member: usize,
        connection: u64,
    },
    Restart {
        member: usize,
    },
    Tell {
        member: usize,
        client: usize,
    },
    Ask {
        member: usize,
        client: usize,
    },
    AskAtTheEnd {
        member: usize,
        client: usize,
        is_last: bool,
    },
    TellAtTheEnd {
        member: usize,
        client: usize,
    },
    Fault(Fault),
    OperatorMakesStream,
    Beat,
}

/// Bytes that can be read when they are printed.
#[derive(Clone)]
pub struct Heard(pub Vec<u8>);

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0).replace("\r\n", " | "))
    }
}

pub struct World {
    /// Milliseconds since the start.
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    pub random: Random,
    pub members: Vec<Member>,
    pub stream: Option<Stream>,
    pub consumers: Vec<Consumer>,
    /// How many streams were made.
    pub made: u64,
    pub backup: Option<Stream>,
    pub leaderless_until: u64,
    pub stale_until: u64,
    /// When the stream was last deleted or put back, or lost messages. For a while after that a number may be taken for that of
    /// another message, and what it led to is repaired.
    pub replaced_at: u64,
    /// When an update in the bucket was last replaced by an older one, by an operator or because of a stale leader.
    pub went_back_at: u64,
    pub faults: Rates,
    pub laws: Laws,
    pub schedule: Schedule,
    steps: u64,
    /// Questions that were answered.
    pub asked: u64,
    publishes_at_the_end: u64,
    /// The newest update of each client that a member or the bucket knew when the faults ended.
    known: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub steps: u64,
    pub answers: u64,
    pub asked: u64,
    pub conflicts: u64,
    pub repairs: u64,
    pub consumers: u64,
}

/// How long a run goes on after the last fault: longer than each pause and each wait.
const QUIET: u64 = 260_000;
/// A table that has room for so many clients loses none.
const KEEPS: usize = 1_000;
/// From so long before its end nothing is published.
const SILENT: u64 = 60_000;

impl World {
    pub fn new(schedule: &Schedule) -> World {
        let mut world = World {
            now: 0,
            queue: BTreeMap::new(),
            queued: 0,
            random: Random::new(schedule.seed),
            members: Vec::new(),
            stream: None,
            consumers: Vec::new(),
            made: 0,
            backup: None,
            leaderless_until: 0,
            stale_until: 0,
            replaced_at: 0,
            went_back_at: 0,
            faults: schedule.rates,
            laws: Laws::default(),
            schedule: schedule.clone(),
            steps: 0,
            asked: 0,
            publishes_at_the_end: 0,
            known: BTreeMap::new(),
        };
        for at in 0..schedule.members {
            world.members.push(Member::new(at, 0, schedule, world.now_of()));
            let connects = world.random.below(500) as u64;
            world.at(connects, Event::Connect { member: at });
        }
        if !schedule.create {
            world.at(3_000, Event::OperatorMakesStream);
        }
        for (at, event) in &schedule.events {
            world.at(*at, event.clone());
        }
        world.at(100, Event::Beat);
        world
    }

    /// The time as the herd's core gets it.
    pub fn now_of(&self) -> Now {
        Now { elapsed: Duration::from_millis(self.now), wall: WallTime(self.wall()) }
    }

    /// Nanoseconds since 1970.
    pub fn wall(&self) -> i128 {
        1_700_000_000_000_000_000 + i128::from(self.now) * 1_000_000
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    pub fn run(mut self) -> Result<Report, String> {
        let faults_end = self.schedule.faults_end;
        let end = faults_end + QUIET;
        let mut has_ended = false;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > faults_end && !has_ended {
                has_ended = true;
                self.faults = Rates::default();
                self.known = self.newest();
                self.tell_all(faults_end + 35_000);
                self.ask_for_all(faults_end + 140_000, false);
                self.ask_for_all(end - 20_000, true);
            }
            if at > end {
                break;
            }
            self.now = at;
            self.steps += 1;
            if self.steps > 3_000_000 {
                return Err(format!("no end of events at {} ms", self.now));
            }
            if std::env::var_os("TELL").is_some() && !matches!(event, Event::Beat) {
                println!("{at}: {event:?}");
            }
            self.step(event);
            if let Some(wrong) = self.laws.wrong.take() {
                return Err(format!("at {} ms: {wrong}", self.now));
            }
        }
        self.check_end()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrive { member, connection, said } => {
                let is_publish =
                    matches!(&said, Said::Publish { subject, .. } if subject.starts_with("$KV."));
                if is_publish && self.now + SILENT > self.schedule.faults_end + QUIET {
                    self.publishes_at_the_end += 1;
                }
                self.arrive(member, connection, said);
            }
            Event::Commit(publish) => self.commit(publish),
            Event::Answer { member, subject, headers, payload } => {
                self.send(member, &subject, &subject, "", &headers, &payload);
            }
            Event::Hear { member, connection, bytes } => {
                if self.connection(member, connection).is_some() {
                    let now = self.now_of();
                    self.members[member].hear(&bytes.0, now, &mut self.laws);
                    self.drive(member);
                }
            }
            Event::Timer { member, number } => {
                if self.members[member].timer == number {
                    let now = self.now_of();
                    self.members[member].timeout(now, &mut self.laws);
                    self.drive(member);
                }
            }
            Event::Connect { member } => self.connect(member),
            Event::Close { member, connection } => {
                if self.connection(member, connection).is_some() {
                    self.close(member);
                }
            }
            Event::Restart { member } => self.restart(member),
            Event::Tell { member, client } => self.tell(member, client),
            Event::Ask { member, client } => self.ask(member, client, false),
            Event::AskAtTheEnd { member, client, is_last } => self.ask(member, client, is_last),
            Event::TellAtTheEnd { member, client } => {
                self.tell_of_old(member, client);
                let status = self.members[member].status();
                let is_settled = status.in_flight == 0 && status.state == EngineState::InSync;
                if self.members[member].took_up_nothing && is_settled {
                    self.laws.wrong(format!("member {member} has no room, and all is kept"));
                }
            }
            Event::Fault(fault) => self.fault(fault),
            Event::OperatorMakesStream => {
                if self.stream.is_none() {
                    self.make_stream();
                }
            }
            Event::Beat => {
                self.beat();
                self.at(self.now + 100, Event::Beat);
            }
        }
    }

    pub fn connection(&mut self, member: usize, number: u64) -> Option<&mut Connection> {
        self.members[member].connection.as_mut().filter(|open| open.number == number)
    }

    fn connect(&mut self, member: usize) {
        if self.members[member].connection.is_some() || !self.members[member].is_up {
            return;
        }
        let now = self.now_of();
        self.queued += 1;
        self.members[member].connect(self.queued, now);
        self.drive(member);
    }

    /// The connection of a member ends, and it makes another one soon.
    pub fn close(&mut self, member: usize) {
        if self.members[member].close() {
            let at = self.now + self.random.between(50, 2_000) as u64;
            let at = at.max(self.members[member].cut_until);
            self.at(at, Event::Connect { member });
        }
        self.drive(member);
    }

    fn restart(&mut self, member: usize) {
        if self.members[member].is_up {
            return;
        }
        let run = self.members[member].run + 1;
        let now = self.now_of();
        let cut_until = self.members[member].cut_until;
        self.members[member] = Member::new(member, run, &self.schedule, now);
        self.members[member].cut_until = cut_until;
        self.at(self.now.max(cut_until) + 10, Event::Connect { member });
    }

    fn tell(&mut self, member: usize, client: usize) {
        if !self.members[member].is_up {
            return;
        }
        let skew = self.random.between(0, 3_000) as i128 - 1_500;
        self.tell_at(member, client, self.wall() + skew * 1_000_000);
    }

    /// A client tells what is older than all that it has told before, and so replaces nothing that was lost.
    fn tell_of_old(&mut self, member: usize, client: usize) {
        self.members[member].took_up_nothing = false;
        if self.members[member].is_up {
            self.tell_at(member, client, 1_000_000_000);
        }
    }

    fn tell_at(&mut self, member: usize, client: usize, timestamp: i128) {
        let place = self.random.below(80);
        let now = self.now_of();
        let holder = self.random.below(crate::member::HOLDERS);
        self.members[member].tell(client, timestamp, place, holder, now, &mut self.laws);
        self.drive(member);
    }

    /// Lets a member do all that it wants to do now.
    pub fn drive(&mut self, member: usize) {
        let now = self.now_of();
        let full = self.random.between(1, 4_000);
        let answers = self.laws.answers;
        let (said, timer) = self.members[member].drive(full, now, &mut self.laws);
        if self.laws.answers > answers && self.members[member].bound() < KEEPS {
            // The bucket may have lost it between its acknowledgement and the answer.
            self.forget_what_is_lost();
        }
        self.judge_answers(member);
        if self.members[member].wants_another_connection {
            self.members[member].wants_another_connection = false;
            self.close(member);
        }
        if let Some(open) = self.members[member].connection.as_mut() {
            let number = open.number;
            let cut_until = self.members[member].cut_until;
            for said in said {
                let delay = self.random.between(0, 2) as u64;
                let open = self.members[member].connection.as_mut().expect("it is open");
                let at = (self.now + delay).max(cut_until).max(open.heard_until);
                open.heard_until = at;
                self.at(at, Event::Arrive { member, connection: number, said });
            }
        }
        if let Some(at) = timer {
            self.members[member].timer += 1;
            let number = self.members[member].timer;
            self.at(at, Event::Timer { member, number });
        }
    }

    /// Bytes go to a member.
    pub fn carry(&mut self, member: usize, bytes: Vec<u8>) {
        let delay = self.random.between(0, 2) as u64;
        let cut_until = self.members[member].cut_until;
        let Some(open) = self.members[member].connection.as_mut() else { return };
        let at = (self.now + delay).max(cut_until).max(open.said_until);
        open.said_until = at;
        let connection = open.number;
        self.at(at, Event::Hear { member, connection, bytes: Heard(bytes) });
    }

    /// The newest update of each client that is in the bucket or in a table.
    pub fn newest(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut newest = self.in_bucket();
        // What a small cache has of what the bucket has lost may leave it before that is noticed.
        let keeps = |member: &&Member| member.is_up && member.bound() >= KEEPS;
        for member in self.members.iter().filter(keeps) {
            for (id, line) in member.table() {
                keep_newest(&mut newest, &id, &line);
            }
        }
        newest
    }

    pub fn in_bucket(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut all = BTreeMap::new();
        for stored in self.stream.iter().flat_map(|stream| stream.messages.values()) {
            if let Some(update) = update(&stored.payload) {
                all.insert(update.id.to_vec(), stored.payload.clone());
            }
        }
        all
    }

    /// What was answered, and is now known nowhere any more, was lost by a fault and not by a member.
    pub fn forget_what_is_lost(&mut self) {
        let newest = self.newest();
        self.laws
            .answered
            .retain(|id, line| newest.get(id).is_some_and(|newest| newer_or_equal(newest, line)));
        let bucket = self.in_bucket();
        let is_there = |id: &Vec<u8>, line: &[u8]| {
            bucket.get(id).is_some_and(|stored| newer_or_equal(stored, line))
        };
        for member in &mut self.members {
            member.asks.own.retain(|id, line| is_there(id, line));
        }
    }

    fn check_end(self) -> Result<Report, String> {
        let text = |line: Option<&Vec<u8>>| {
            line.map_or("nothing".to_owned(), |line| String::from_utf8_lossy(line).into_owned())
        };
        let bucket = self.in_bucket();
        let mut report = Report {
            steps: self.steps,
            answers: self.laws.answers,
            asked: self.asked,
            ..Report::default()
        };
        for member in &self.members {
            let status = member.status();
            report.conflicts += status.conflicts;
            report.repairs += status.repairs;
            report.consumers += status.consumers;
            if status.state != EngineState::InSync {
                return Err(format!("member {} is not in sync: {status:?}", member.at));
            }
            let (held, asks) = (member.held(), member.asks.len());
            if status.in_flight > 0 || held > 0 || asks > 0 {
                return Err(format!(
                    "member {} still waits: {status:?}, {held} held, {asks} asked",
                    member.at
                ));
            }
            let table = member.table();
            // A cache has what it was asked for.
            let all = bucket.keys().filter(|id| !member.is_cache() || table.contains_key(*id));
            for id in table.keys().chain(all) {
                if table.get(id) != bucket.get(id) {
                    return Err(format!(
                        "member {} knows {}, and the bucket holds {}",
                        member.at,
                        text(table.get(id)),
                        text(bucket.get(id))
                    ));
                }
            }
        }
        for (id, line) in self.known.iter().chain(&self.laws.answered) {
            let is_there = bucket.get(id).is_some_and(|found| newer_or_equal(found, line));
            if !is_there && !self.laws.deleted.contains(id) {
                let found = text(bucket.get(id));
                return Err(format!("lost: {}; the bucket holds {found}", text(Some(line))));
            }
        }
        if self.consumers.len() > self.members.len() {
            return Err(format!("{} consumers are left", self.consumers.len()));
        }
        if self.publishes_at_the_end > 0 {
            return Err(format!(
                "{} publishes although nothing changed",
                self.publishes_at_the_end
            ));
        }
        Ok(report)
    }
}

/// A member's connection to the engine.
#[derive(Clone, Debug)]
pub struct Connection {
    pub number: u64,
    /// Subjects and the numbers of subscriptions.
    pub subscriptions: Vec<(String, u64)>,
    /// When the last bytes arrive, in each direction.
    pub heard_until: u64,
    pub said_until: u64,
}
