//! A herd in one thread: the server's own core, a virtual network (`network.rs`), and a clock that jumps
//! to the next thing that happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use herd_mio::herd::{Entry, Herd, Moment, NeighbourId, Output, Settings};
use herd_mio::protocol::{Dialect, Epoch, Refused, Request, Wall};

use crate::judge::{check_table, is_its_turn, union};
use crate::network::Network;
use crate::oracle::{Shadow, Told};
use crate::random::Random;
use crate::schedule::{Event, Schedule};

/// What went wrong.
pub type Wrong = String;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of all that happened, in order.
    pub trace: u64,
    pub steps: u64,
    pub updates_sent: u64,
}

pub struct World<'s> {
    pub schedule: &'s Schedule,
    pub random: Random,
    /// Virtual milliseconds.
    pub now: u64,
    pub servers: Vec<Server>,
    pub network: Network,
    /// What will happen: when, in which order of what is at the same time, and what.
    pub due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    last: u64,
    /// All that clients told, by client.
    pub told: BTreeMap<Vec<u8>, Vec<Told>>,
    pub report: Report,
}

pub struct Server {
    pub herd: Herd,
    pub shadow: Shadow,
    pub run: u64,
    pub is_down: bool,
    /// Milliseconds that its clock is ahead.
    clock: i64,
    pub neighbours: Vec<usize>,
    /// When it was last asked to be woken.
    wake: u64,
    /// It does nothing before this time.
    paused_until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Due {
    Script(usize),
    Arrive {
        wire: u64,
        way: usize,
        bytes: Vec<u8>,
    },
    /// An end learns that the other has closed.
    Closed {
        wire: u64,
        way: usize,
    },
    Connect {
        from: usize,
        run: u64,
        to: usize,
    },
    Wake {
        server: usize,
    },
    Back {
        server: usize,
    },
}

impl<'s> World<'s> {
    pub fn new(schedule: &'s Schedule) -> World<'s> {
        let mut world = World {
            schedule,
            random: Random::new(schedule.seed ^ 0xabcd),
            now: 0,
            servers: Vec::new(),
            network: Network::default(),
            due: BinaryHeap::new(),
            last: 0,
            told: BTreeMap::new(),
            report: Report::default(),
        };
        let mut neighbours = vec![Vec::new(); schedule.servers];
        for &(one, other) in &schedule.edges {
            neighbours[one].push(other);
            neighbours[other].push(one);
        }
        for (number, neighbours) in neighbours.into_iter().enumerate() {
            world.servers.push(Server {
                herd: world.herd(number, 0, &neighbours),
                shadow: Shadow { is_exact: !schedule.is_crowded, ..Shadow::default() },
                run: 0,
                is_down: false,
                clock: 0,
                neighbours,
                wake: u64::MAX,
                paused_until: 0,
            });
        }
        for (number, (at, _)) in schedule.events.iter().enumerate() {
            world.plan(*at, Due::Script(number));
        }
        world
    }

    /// Runs to the end and judges it.
    pub fn run(mut self) -> Result<Report, Wrong> {
        self.begin()?;
        self.run_until(self.schedule.healed)?;
        let expected = union(&self.servers);
        let quiet = self.schedule.healed + self.schedule.patience();
        self.run_until(quiet)?;
        let before = self.updates_sent();
        self.run_until(quiet + 3_000)?;
        self.report.updates_sent = self.updates_sent();
        if before != self.report.updates_sent {
            return Err(format!("{} updates still circle", self.report.updates_sent - before));
        }
        self.judge(&expected)?;
        Ok(self.report)
    }

    /// Starts all servers.
    pub fn begin(&mut self) -> Result<(), Wrong> {
        (0..self.servers.len()).try_for_each(|server| self.settle(server))
    }

    /// Updates that went out to neighbours.
    pub fn updates_sent(&self) -> u64 {
        self.servers.iter().map(|server| server.shadow.sent).sum()
    }

    pub fn run_until(&mut self, end: u64) -> Result<(), Wrong> {
        while self.due.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            let Some(Reverse((at, number, due))) = self.due.pop() else { break };
            self.now = at;
            let awake = self.concerned(&due).map_or(0, |it| self.servers[it].paused_until);
            if awake > at {
                // With its old number, so that it stays before what comes later.
                self.due.push(Reverse((awake, number, due)));
                continue;
            }
            self.report.steps += 1;
            if self.report.steps > self.schedule.most_steps() {
                return Err("it does not come to rest".to_owned());
            }
            self.trace(&due);
            self.happen(due)?;
        }
        self.now = end;
        Ok(())
    }

    /// The server that must run for something to happen.
    fn concerned(&self, due: &Due) -> Option<usize> {
        match due {
            Due::Script(number) => match &self.schedule.events[*number].1 {
                Event::Tell { server, .. } | Event::Crowd { server, .. } => Some(*server),
                _ => None,
            },
            Due::Arrive { wire, way, .. } | Due::Closed { wire, way } => {
                self.network.ends(*wire).map(|ends| ends[1 - way])
            }
            Due::Connect { from: server, .. } | Due::Wake { server } => Some(*server),
            Due::Back { .. } => None,
        }
    }

    fn trace(&mut self, due: &Due) {
        let mut hasher = DefaultHasher::new(); // Its keys are the same each time.
        (self.report.trace, self.now, due).hash(&mut hasher);
        self.report.trace = hasher.finish();
    }

    fn happen(&mut self, due: Due) -> Result<(), Wrong> {
        match due {
            Due::Script(number) => self.script(&self.schedule.events[number].1),
            Due::Arrive { wire, way, bytes } => self.arrive(wire, way, &bytes),
            Due::Closed { wire, way } => self.closed(wire, way),
            Due::Connect { from, run, to } => self.connect(from, run, to),
            Due::Wake { server } => self.wake(server),
            Due::Back { server } => {
                self.servers[server].is_down = false;
                self.settle(server)
            }
        }
    }

    pub fn script(&mut self, event: &Event) -> Result<(), Wrong> {
        match event {
            Event::Tell { server, text } => {
                self.tell(*server, text)?;
                return self.settle(*server);
            }
            Event::Crowd { server, clients } => {
                for client in 0..*clients {
                    self.tell(*server, &format!("x{client} +1-1 1000"))?;
                }
                return self.settle(*server);
            }
            Event::Break { one, other } => self.tear_between(*one, *other),
            Event::Silence { from, to, until } => self.network.silence(*from, *to, *until),
            Event::Crash { server, until } => self.crash(*server, *until),
            Event::Pause { server, .. } if self.servers[*server].is_down => {}
            Event::Pause { server, until } => {
                let until = self.servers[*server].paused_until.max(*until);
                self.servers[*server].paused_until = until;
                self.servers[*server].wake = until;
                self.plan(until, Due::Wake { server: *server });
            }
            Event::Jump { server, by } => self.servers[*server].clock += by,
        }
        Ok(())
    }

    /// A client says where it is.
    fn tell(&mut self, number: usize, text: &str) -> Result<(), Wrong> {
        let moment = self.moment(number);
        let server = &mut self.servers[number];
        if server.is_down {
            return Ok(());
        }
        let line = format!("IAMAT {text}");
        let Ok(Request::Iamat(iamat)) = Request::parse(line.as_bytes(), Dialect::Report) else {
            return Err(format!("{line} is no IAMAT"));
        };
        let told = Told::by_client(text, &name(number), moment.wall.0);
        let is_refused = told.is_ahead_by_more_than(self.schedule.ahead);
        server.shadow.source = None;
        let mut answer = Vec::new();
        let result = server.herd.handle_iamat(&iamat, moment, &mut answer, &mut server.shadow);
        let is_right = match result {
            Ok(()) => !is_refused && answer == format!("AT AT {text}\n").as_bytes(),
            Err(refused) => is_refused && refused == Refused::Future && answer.is_empty(),
        };
        if !is_right {
            return Err(format!("{line} is answered {result:?} {}", answer.escape_ascii()));
        }
        let known = server.herd.table().get(iamat.id);
        if !is_refused && !self.schedule.is_crowded {
            let is_there = |entry: &Entry| told <= Told::of(&entry.update.get());
            if !known.is_some_and(is_there) {
                return Err(format!("{line} is answered and not stored"));
            }
        }
        if !is_refused {
            self.told.entry(iamat.id.to_vec()).or_default().push(told);
        }
        Ok(())
    }

    /// A server loses all that it knows.
    fn crash(&mut self, number: usize, until: u64) {
        if self.servers[number].is_down {
            return;
        }
        self.drop_ends(number);
        let run = self.servers[number].run + 1;
        let herd = self.herd(number, run, &self.servers[number].neighbours);
        let server = &mut self.servers[number];
        let Shadow { sent, is_exact, .. } = server.shadow;
        server.herd = herd;
        server.shadow = Shadow { sent, is_exact, ..Shadow::default() };
        (server.run, server.is_down) = (run, true);
        (server.wake, server.paused_until) = (u64::MAX, 0);
        self.plan(until.max(self.now), Due::Back { server: number });
    }

    fn wake(&mut self, number: usize) -> Result<(), Wrong> {
        if self.servers[number].is_down || self.servers[number].wake > self.now {
            return Ok(());
        }
        self.servers[number].wake = u64::MAX;
        let moment = self.moment(number);
        let server = &mut self.servers[number];
        server.herd.handle_timeout(moment, &mut server.shadow);
        self.settle(number)
    }

    /// What a server does after each event: it obeys its core, lets links write, and asks to be woken.
    /// What it now holds is compared with what it said.
    pub fn settle(&mut self, number: usize) -> Result<(), Wrong> {
        if self.servers[number].is_down || self.servers[number].paused_until > self.now {
            return Ok(());
        }
        while let Some(output) = self.servers[number].herd.poll_output() {
            self.obey(number, output);
        }
        for place in 0..self.servers[number].neighbours.len() {
            self.write(number, NeighbourId(place as u16))?;
        }
        if is_its_turn(&self.servers[number], self.report.steps) {
            check_table(&self.servers[number])
                .map_err(|wrong| format!("server {number}: {wrong}"))?;
        }
        let server = &mut self.servers[number];
        let at = server
            .herd
            .poll_timeout()
            .map_or(u64::MAX, |at| at.as_nanos().div_ceil(1_000_000) as u64);
        let at = at.max(self.now + 1);
        if at < server.wake {
            server.wake = at;
            self.plan(at, Due::Wake { server: number });
        }
        Ok(())
    }

    fn obey(&mut self, number: usize, output: Output) {
        let neighbours = &self.servers[number].neighbours;
        match output {
            Output::Dial(NeighbourId(place)) => {
                let to = neighbours[usize::from(place)];
                let (run, at) = (self.servers[number].run, self.now + self.delay(number, to));
                self.plan(at, Due::Connect { from: number, run, to });
            }
            Output::HangUp(NeighbourId(place)) => {
                self.hang_up(number, neighbours[usize::from(place)]);
            }
            Output::SendAway(NeighbourId(place)) => {
                self.send_away(neighbours[usize::from(place)], number);
            }
        }
    }

    pub fn plan(&mut self, at: u64, due: Due) {
        let number = self.number();
        self.due.push(Reverse((at, number, due)));
    }

    /// The next of the numbers that tell events, and wires, apart.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub fn neighbour(&self, server: usize, other: usize) -> NeighbourId {
        let place = self.servers[server].neighbours.iter().position(|&it| it == other);
        NeighbourId(place.expect("they are neighbours") as u16)
    }

    pub fn moment(&self, server: usize) -> Moment {
        moment(self.now, self.servers[server].clock)
    }

    fn herd(&self, number: usize, run: u64, neighbours: &[usize]) -> Herd {
        let settings = Settings {
            name: name(number),
            neighbours: neighbours.iter().map(|&it| name(it)).collect(),
            dialect: Dialect::Report,
            clients: self.schedule.bound,
            ahead: Duration::from_millis(self.schedule.ahead),
            heartbeat: Duration::from_millis(self.schedule.heartbeat),
            refill: true,
            epoch: Epoch(1_000 * (number as u64 + 1) + run),
            seed: u128::from(self.schedule.seed ^ number as u64),
        };
        let clock = self.servers.get(number).map_or(0, |server| server.clock);
        Herd::new(settings, moment(self.now, clock))
    }
}

impl Server {
    pub fn moment(&self, now: u64) -> Moment {
        moment(now, self.clock)
    }
}

fn moment(now: u64, clock: i64) -> Moment {
    let wall = 1_000_000 + i128::from(now) + i128::from(clock);
    Moment { elapsed: Duration::from_millis(now), wall: Wall(wall * 1_000_000) }
}

fn name(server: usize) -> String {
    format!("S{server}")
}
