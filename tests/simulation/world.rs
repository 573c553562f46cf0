//! A herd in one thread: the server's own core, a virtual network (`network.rs`), and a clock that jumps
//! to the next thing that happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::{Herd, NeighbourId, Output, Settings};
use herd_mio::protocol::{Dialect, Epoch, Seq};

use crate::disk::Disk;
use crate::judge::{check_table, is_its_turn, union};
use crate::network::Network;
use crate::oracle::{Fact, Shadow};
use crate::random::Random;
use crate::schedule::{Event, Schedule};
use crate::watch::{Late, Watch};

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
    /// All that clients sent, by client.
    pub facts: BTreeMap<Vec<u8>, Vec<Fact>>,
    /// What a client sends when all faults are over, and who must learn it.
    pub fresh: Option<(Vec<u8>, Fact)>,
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
    pub wake: u64,
    /// It does nothing before this time.
    pub paused_until: u64,
    /// What it does about each neighbour.
    pub watch: Vec<Watch>,
    pub was_in_sync: bool,
    /// The end of its feed when its table was last looked at.
    pub looked_at: Seq,
    pub disk: Option<Disk>,
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
    /// A connection is closed whose neighbour has a later one.
    Replaced {
        wire: u64,
    },
    /// Who was silent for three heartbeats speaks again.
    Late {
        server: usize,
        run: u64,
        inbound: Late,
    },
    /// A disk's commit ends.
    Commit {
        server: usize,
        run: u64,
        batch: u64,
    },
    /// A server hears what became of it.
    Committed {
        server: usize,
        run: u64,
        batch: u64,
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
            facts: BTreeMap::new(),
            fresh: None,
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
                shadow: world.shadow(),
                watch: vec![Watch::default(); neighbours.len()],
                was_in_sync: false,
                looked_at: Seq(0),
                disk: schedule.disks.disk(number, schedule.seed),
                run: 0,
                is_down: false,
                clock: 0,
                neighbours,
                wake: u64::MAX,
                paused_until: 0,
            });
        }
        for number in 0..schedule.servers {
            world.disk_restarts(number).expect("an empty disk");
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
        let quiet = self.schedule.healed + self.schedule.settling_time();
        self.run_until(quiet)?;
        self.tell_at_last()?;
        self.run_until(self.now + self.schedule.spread())?;
        let (before, links) = (self.updates_sent(), self.links_given_up());
        self.run_until(self.now + 3_000.max(4 * self.schedule.heartbeat))?;
        self.report.updates_sent = self.updates_sent();
        if before != self.report.updates_sent {
            return Err(format!("{} updates still circle", self.report.updates_sent - before));
        }
        if links != self.links_given_up() {
            return Err("links are lost without a reason".to_owned());
        }
        self.judge(&expected)?;
        self.judge_disks()?;
        Ok(self.report)
    }

    /// Starts all servers.
    pub fn begin(&mut self) -> Result<(), Wrong> {
        (0..self.servers.len()).try_for_each(|server| self.settle(server))
    }

    fn links_given_up(&self) -> u64 {
        self.servers.iter().map(|server| server.shadow.links_lost).sum()
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
                Event::Tell { server, .. }
                | Event::Crowd { server, .. }
                | Event::Pretend { server, .. }
                | Event::Disk { server, .. } => Some(*server),
                _ => None,
            },
            Due::Arrive { wire, way, .. } | Due::Closed { wire, way } => {
                self.network.ends(*wire).map(|ends| ends[1 - way])
            }
            Due::Connect { from: server, .. }
            | Due::Wake { server }
            | Due::Late { server, .. }
            | Due::Committed { server, .. } => Some(*server),
            Due::Replaced { wire } => self.network.ends(*wire).map(|ends| ends[1]),
            Due::Back { .. } | Due::Commit { .. } => None,
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
            Due::Replaced { wire } => self.replaced(wire),
            Due::Late { server, run, inbound } => self.late(server, run, inbound.0),
            Due::Commit { server, run, batch } => self.commit(server, run, batch),
            Due::Committed { server, run, batch } => self.committed(server, run, batch),
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
            Event::Pretend { server, name, epoch, leaves } => {
                return self.pretend(*server, *name, *epoch, *leaves);
            }
            Event::Break { one, other } => self.tear_between(*one, *other),
            Event::Silence { from, to, until } => self.network.silence(*from, *to, *until),
            Event::Crash { server, until } => return self.crash(*server, *until),
            Event::Disk { server, event } => return self.disk_event(*server, event),
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

    fn wake(&mut self, number: usize) -> Result<(), Wrong> {
        if self.servers[number].is_down || self.servers[number].wake > self.now {
            return Ok(());
        }
        self.servers[number].wake = u64::MAX;
        let moment = self.moment(number);
        let server = &mut self.servers[number];
        server.herd.handle_timeout(moment, &mut server.shadow);
        self.settle(number)?;
        self.check_timers(number)
    }

    /// What a server does after each event: it acts on its core's output, lets links write, and asks to be woken.
    /// What it now holds is compared with what it said.
    pub fn settle(&mut self, number: usize) -> Result<(), Wrong> {
        if self.servers[number].is_down || self.servers[number].paused_until > self.now {
            return Ok(());
        }
        self.write_disk(number)?;
        while let Some(output) = self.servers[number].herd.poll_output() {
            self.act(number, output)?;
        }
        self.check_held(number)?;
        for place in 0..self.servers[number].neighbours.len() {
            self.write(number, NeighbourId(place as u16))?;
        }
        if is_its_turn(&mut self.servers[number], self.report.steps) {
            check_table(&self.servers[number], &self.facts)
                .map_err(|wrong| format!("server {number}: {wrong}"))?;
        }
        self.check_in_sync(number)?;
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

    fn act(&mut self, number: usize, output: Output) -> Result<(), Wrong> {
        let neighbours = &self.servers[number].neighbours;
        match output {
            Output::AnswersDue(holder) => self.answers_due(number, holder)?,
            Output::CloseEngine(_) | Output::EngineAnswered(_) => {}
            Output::Dial(NeighbourId(place)) => {
                let to = neighbours[usize::from(place)];
                let server = &mut self.servers[number];
                server.watch[usize::from(place)]
                    .dialled(self.now, server.paused_until)
                    .map_err(|wrong| format!("server {number} to {to}: {wrong}"))?;
                let (run, at) = (self.servers[number].run, self.now + self.delay(number, to));
                self.plan(at, Due::Connect { from: number, run, to });
            }
            Output::CloseLink(NeighbourId(place)) => {
                let Server { shadow, watch, .. } = &self.servers[number];
                watch[usize::from(place)]
                    .links_lost(self.now, 3 * self.schedule.heartbeat, shadow.reason)
                    .map_err(|wrong| format!("server {number} {wrong}"))?;
                self.hang_up(number, neighbours[usize::from(place)]);
            }
            Output::ClosePeer(NeighbourId(place)) => {
                self.send_away(neighbours[usize::from(place)], number);
            }
        }
        Ok(())
    }

    pub fn plan(&mut self, at: u64, due: Due) {
        let number = self.number();
        self.due.push(Reverse((at, number, due)));
    }

    /// The next of the numbers that distinguish events, and wires.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub fn neighbour(&self, server: usize, other: usize) -> NeighbourId {
        let place = self.servers[server].neighbours.iter().position(|&it| it == other);
        NeighbourId(place.expect("they are neighbours") as u16)
    }

    pub fn moment(&self, server: usize) -> Now {
        moment(self.now, self.servers[server].clock)
    }

    /// Of a run that knows nothing yet.
    pub fn shadow(&self) -> Shadow {
        let (bound, refills) = (self.schedule.bound, self.schedule.refill);
        Shadow { bound, refills, ..Shadow::default() }
    }

    pub fn herd(&self, number: usize, run: u64, neighbours: &[usize]) -> Herd {
        let settings = Settings {
            name: name(number),
            neighbours: neighbours.iter().map(|&it| name(it)).collect(),
            dialect: Dialect::Report,
            max_clients: self.schedule.disks.bound(self.schedule.bound, run),
            max_future: Duration::from_millis(self.schedule.ahead),
            heartbeat: Duration::from_millis(self.schedule.heartbeat),
            refill: self.schedule.refill,
            epoch: epoch(number, run),
            seed: u128::from(self.schedule.seed ^ number as u64),
        };
        let clock = self.servers.get(number).map_or(0, |server| server.clock);
        let mut herd = Herd::new(settings, moment(self.now, clock));
        // Slow searches begin early and fast ones late; a sample of one is nearly always odd.
        let [slots, sample] = [[1, 100], [3, 20], [8, 5], [40, 1]][self.schedule.seed as usize % 4];
        herd.limit_floor_search(slots, sample);
        herd
    }
}

/// A run's identity.
pub fn epoch(server: usize, run: u64) -> Epoch {
    Epoch(1_000 * (server as u64 + 1) + run)
}

impl Server {
    pub fn moment(&self, now: u64) -> Now {
        moment(now, self.clock)
    }
}

fn moment(now: u64, clock: i64) -> Now {
    let wall = 1_000_000 + i128::from(now) + i128::from(clock);
    Now { elapsed: Duration::from_millis(now), wall: WallTime(wall * 1_000_000) }
}

pub fn name(server: usize) -> String {
    format!("S{server}")
}
