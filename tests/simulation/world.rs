//! A herd in one thread: the server's own core, a network that delays, cuts and keeps silent, and a clock
//! that jumps to the next thing that happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use herd_mio::herd::{Caller, Herd, Moment, NeighbourId, Output, Settings, Verdict};
use herd_mio::protocol::{Dialect, Epoch, Line, LineBuffer, Request, Wall};

use crate::oracle::{Shadow, Told, contents};
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
    schedule: &'s Schedule,
    random: Random,
    now: u64,
    servers: Vec<Server>,
    wires: BTreeMap<u64, Wire>,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    last: u64,
    /// Nothing passes from one to the other before this time.
    silences: Vec<(usize, usize, u64)>,
    /// Clients that somebody has told of.
    told: BTreeSet<Vec<u8>>,
    report: Report,
}

struct Server {
    herd: Herd,
    shadow: Shadow,
    run: u64,
    is_down: bool,
    clock: i64,
    neighbours: Vec<usize>,
    /// When it was last asked to be woken.
    wake: u64,
}

/// A connection, from the one who dialled to the one who accepted.
struct Wire {
    from: usize,
    to: usize,
    /// In which run of each it was made.
    runs: [u64; 2],
    caller: Caller,
    /// Bytes that wait to be framed at the acceptor, and at the dialler.
    framed: [LineBuffer; 2],
    /// Whether each end believes in it: the dialler, the acceptor.
    is_open: [bool; 2],
    /// When the last bytes arrive, each way: TCP keeps their order.
    arrival: [u64; 2],
    under_way: usize,
    /// It is broken: nothing more gets through, and neither end may know yet.
    is_torn: bool,
}

/// The directions of a wire.
const OUT: usize = 0;
const BACK: usize = 1;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Due {
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
            wires: BTreeMap::new(),
            due: BinaryHeap::new(),
            last: 0,
            silences: Vec::new(),
            told: BTreeSet::new(),
            report: Report::default(),
        };
        for number in 0..schedule.servers {
            let ends = schedule.edges.iter().filter_map(|&(one, other)| match number {
                _ if number == one => Some(other),
                _ if number == other => Some(one),
                _ => None,
            });
            let neighbours: Vec<usize> = ends.collect();
            let herd = world.herd(number, 0, &neighbours);
            let is_exact = !schedule.is_crowded;
            let (shadow, wake) = (Shadow { is_exact, ..Shadow::default() }, u64::MAX);
            let (run, is_down, clock) = (0, false, 0);
            world.servers.push(Server { herd, shadow, run, is_down, clock, neighbours, wake });
        }
        for (number, (at, _)) in schedule.events.iter().enumerate() {
            world.plan(*at, Due::Script(number));
        }
        world
    }

    /// Runs to the end and judges it.
    pub fn run(mut self) -> Result<Report, Wrong> {
        for server in 0..self.servers.len() {
            self.settle(server)?;
        }
        self.run_until(self.schedule.healed)?;
        let expected = self.union();
        // Time for links to notice, to be dialled anew, and to pass things on, hop by hop.
        let patience = 5 * self.schedule.heartbeat + 12_000 + 500 * self.servers.len() as u64;
        self.run_until(self.schedule.healed + patience)?;
        let before: u64 = self.servers.iter().map(|server| server.shadow.sent).sum();
        self.run_until(self.schedule.healed + patience + 3_000)?;
        let after: u64 = self.servers.iter().map(|server| server.shadow.sent).sum();
        if before != after {
            return Err(format!("{} updates still circle", after - before));
        }
        self.judge(&expected)?;
        self.report.updates_sent = after;
        Ok(self.report)
    }

    /// The newest of what any server knows, by client.
    fn union(&self) -> BTreeMap<Vec<u8>, Told> {
        let mut union = BTreeMap::new();
        for server in &self.servers {
            for (id, told) in table(server) {
                let known = union.entry(id).or_insert_with(|| told.clone());
                if *known < told {
                    *known = told;
                }
            }
        }
        union
    }

    fn judge(&self, expected: &BTreeMap<Vec<u8>, Told>) -> Result<(), Wrong> {
        for (number, server) in self.servers.iter().enumerate() {
            let known = table(server);
            if self.schedule.is_crowded {
                if known.len() > self.schedule.bound {
                    return Err(format!("server {number} holds {} clients", known.len()));
                }
                continue;
            }
            if known != table(&self.servers[0]) {
                return Err(format!("servers 0 and {number} end with different tables: {known:?}"));
            }
            // More than was known when all had healed may have been under way from one that died.
            let is_lost = |(id, told): (&Vec<u8>, &Told)| known.get(id).is_none_or(|it| it < told);
            if let Some(lost) = expected.iter().find(|&entry| is_lost(entry)) {
                return Err(format!("server {number} ends with {known:?}, without {lost:?}"));
            }
            if let Some(invented) = known.keys().find(|id| !self.told.contains(*id)) {
                return Err(format!("nobody told of {}", invented.escape_ascii()));
            }
            if !server.shadow.is_filled {
                return Err(format!("server {number} was never filled"));
            }
            if !server.herd.is_settled() {
                return Err(format!("server {number} waits for acknowledgements"));
            }
        }
        Ok(())
    }

    fn run_until(&mut self, end: u64) -> Result<(), Wrong> {
        while self.due.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            let Some(Reverse((at, _, due))) = self.due.pop() else { break };
            self.now = at;
            self.report.steps += 1;
            if self.report.steps > MOST_STEPS {
                return Err("it does not come to rest".to_owned());
            }
            self.trace(&due);
            self.happen(due)?;
        }
        self.now = end;
        Ok(())
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

    fn script(&mut self, event: &Event) -> Result<(), Wrong> {
        match event {
            Event::Tell { server, text } => self.tell(*server, text),
            Event::Break { one, other } => {
                let between = |wire: &Wire| {
                    (wire.from, wire.to) == (*one, *other) || (wire.from, wire.to) == (*other, *one)
                };
                let broken: Vec<u64> = self
                    .wires
                    .iter()
                    .filter(|(_, wire)| between(wire))
                    .map(|(id, _)| *id)
                    .collect();
                broken.into_iter().for_each(|wire| self.tear(wire));
                Ok(())
            }
            Event::Silence { from, to, until } => {
                self.silences.push((*from, *to, *until));
                Ok(())
            }
            Event::Crash { server, until } => self.crash(*server, *until),
            Event::Jump { server, by } => {
                self.servers[*server].clock += by;
                Ok(())
            }
        }
    }

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
        self.told.insert(iamat.id.to_vec());
        server.shadow.source = None;
        let mut answer = Vec::new();
        let told = server.herd.handle_iamat(&iamat, moment, &mut answer, &mut server.shadow);
        if told.is_err() || answer != format!("AT AT {text}\n").as_bytes() {
            return Err(format!("{line} is answered {told:?} {}", answer.escape_ascii()));
        }
        self.settle(number)
    }

    fn crash(&mut self, number: usize, until: u64) -> Result<(), Wrong> {
        if self.servers[number].is_down {
            return Ok(());
        }
        let ends: Vec<u64> = self.wires.keys().copied().collect();
        for id in ends {
            let Some(wire) = self.wires.get_mut(&id) else { continue };
            let end = if wire.from == number { OUT } else { BACK };
            if wire.from != number && wire.to != number {
                continue;
            }
            wire.is_open[end] = false;
            // A process that dies is reset by its kernel; a host that dies says nothing.
            if self.random.percent(70) {
                let at = self.now + self.random.below(50) as u64;
                self.plan(at, Due::Closed { wire: id, way: end });
            }
        }
        let (run, neighbours) =
            (self.servers[number].run + 1, self.servers[number].neighbours.clone());
        let herd = self.herd(number, run, &neighbours);
        let server = &mut self.servers[number];
        let sent = server.shadow.sent;
        server.herd = herd;
        let is_exact = server.shadow.is_exact;
        server.shadow = Shadow { sent, is_exact, ..Shadow::default() };
        (server.run, server.is_down, server.wake) = (run, true, u64::MAX);
        self.plan(until.max(self.now), Due::Back { server: number });
        Ok(())
    }

    /// A wire breaks: of what is on it a part may still arrive, and each end learns of it, sooner or
    /// later.
    fn tear(&mut self, id: u64) {
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.is_torn = true;
        }
        let mut all = std::mem::take(&mut self.due).into_sorted_vec();
        all.reverse(); // The earliest first.
        let mut whole = [self.random.below(8), self.random.below(8)];
        all.retain_mut(|Reverse((_, _, due))| match due {
            Due::Arrive { wire, way, bytes } if *wire == id => match &mut whole[*way] {
                0 => false,
                1 => {
                    bytes.truncate(self.random.below(bytes.len() + 1));
                    whole[*way] = 0;
                    true
                }
                more => {
                    *more -= 1;
                    true
                }
            },
            _ => true,
        });
        self.due = all.into();
        for way in [OUT, BACK] {
            let arrival = self.wires.get(&id).map_or(self.now, |wire| wire.arrival[way]);
            let at = arrival.max(self.now) + self.random.below(200) as u64;
            self.plan(at, Due::Closed { wire: id, way });
        }
    }

    fn connect(&mut self, from: usize, run: u64, to: usize) -> Result<(), Wrong> {
        let neighbour = self.neighbour(from, to);
        let is_stale = self.servers[from].run != run || self.servers[from].is_down;
        if is_stale || !self.servers[from].herd.link_is_dialling(neighbour) {
            return Ok(());
        }
        if self.is_silent(from, to).is_some() || self.is_silent(to, from).is_some() {
            return Ok(()); // Nobody answers; the core's own patience ends it.
        }
        let moment = self.moment(from);
        if self.servers[to].is_down {
            let server = &mut self.servers[from];
            server.herd.link_closed(neighbour, moment, &mut server.shadow);
            return self.settle(from);
        }
        let mut hello = Vec::new();
        self.servers[from].herd.link_connected(neighbour, moment, &mut hello);
        self.last += 1;
        let wire = Wire {
            from,
            to,
            runs: [run, self.servers[to].run],
            caller: Caller::Stranger,
            framed: [LineBuffer::default(), LineBuffer::default()],
            is_open: [true, true],
            arrival: [self.now, self.now],
            under_way: 0,
            is_torn: false,
        };
        let id = self.last;
        self.wires.insert(id, wire);
        self.send(id, OUT, &hello);
        self.settle(from)
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

    /// Bytes arrive, are framed and handled, whatever they were cut into.
    fn arrive(&mut self, id: u64, way: usize, bytes: &[u8]) -> Result<(), Wrong> {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        if way == OUT {
            wire.under_way -= bytes.len().min(wire.under_way);
        }
        let (from, to, is_open) = (wire.from, wire.to, wire.is_open[1 - way]);
        if !is_open || bytes.is_empty() {
            return Ok(());
        }
        wire.framed[way].push(bytes);
        while let Some(wire) = self.wires.get_mut(&id) {
            let Some(Line::Whole(line)) = wire.framed[way].next_line(65_536) else { break };
            let line = line.to_vec();
            let verdict = match way {
                OUT => self.called(id, from, to, &line)?,
                _ => self.answered(from, to, &line),
            };
            if verdict == Verdict::Close {
                self.close(id, 1 - way);
                break;
            }
        }
        self.settle(if way == OUT { to } else { from })?;
        self.settle(if way == OUT { from } else { to })
    }

    fn called(&mut self, id: u64, from: usize, to: usize, line: &[u8]) -> Result<Verdict, Wrong> {
        let moment = self.moment(to);
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(Verdict::Close) };
        let server = &mut self.servers[to];
        server.shadow.source = Some((from, wire.runs[OUT]));
        let mut answer = Vec::new();
        let verdict = server.herd.handle_caller(
            &mut wire.caller,
            line,
            &|_| true,
            moment,
            &mut answer,
            &mut server.shadow,
        );
        self.send(id, BACK, &answer);
        Ok(verdict)
    }

    fn answered(&mut self, from: usize, to: usize, line: &[u8]) -> Verdict {
        let (neighbour, moment) = (self.neighbour(from, to), self.moment(from));
        let server = &mut self.servers[from];
        server.herd.handle_answer(neighbour, line, moment, &mut server.shadow)
    }

    /// An end closes its side; the other learns of it behind what is under way.
    fn close(&mut self, id: u64, end: usize) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        if !std::mem::replace(&mut wire.is_open[end], false) {
            return;
        }
        let at = wire.arrival[end].max(self.now) + 1;
        self.left(id, end);
        self.plan(at, Due::Closed { wire: id, way: end });
    }

    /// The end that is not `way`'s learns that the other has closed.
    fn closed(&mut self, id: u64, way: usize) -> Result<(), Wrong> {
        let Some(wire) = self.wires.get_mut(&id) else { return Ok(()) };
        let end = 1 - way;
        let (from, to) = (wire.from, wire.to);
        if std::mem::replace(&mut wire.is_open[end], false) {
            self.left(id, end);
        }
        if self.wires.get(&id).is_some_and(|wire| wire.is_open == [false, false]) {
            self.wires.remove(&id);
        }
        self.settle(from)?;
        self.settle(to)
    }

    /// An end tells its core that a connection has gone.
    fn left(&mut self, id: u64, end: usize) {
        let Some(wire) = self.wires.get(&id) else { return };
        let (from, to, caller) = (wire.from, wire.to, wire.caller);
        if end == BACK {
            return self.servers[to].herd.caller_left(caller);
        }
        // A later connection of the same link is not concerned.
        let is_latest = !self.wires.range(id + 1..).any(|(_, it)| (it.from, it.to) == (from, to));
        let neighbour = self.neighbour(from, to);
        let moment = self.moment(from);
        let server = &mut self.servers[from];
        if is_latest && !server.is_down {
            server.herd.link_closed(neighbour, moment, &mut server.shadow);
        }
    }

    /// What a server does after each event: it obeys its core, lets links write, and asks to be woken.
    fn settle(&mut self, number: usize) -> Result<(), Wrong> {
        if self.servers[number].is_down {
            return Ok(());
        }
        while let Some(output) = self.servers[number].herd.poll_output() {
            self.obey(number, output);
        }
        for place in 0..self.servers[number].neighbours.len() {
            self.write(number, NeighbourId(place as u16))?;
        }
        let server = &mut self.servers[number];
        if let Some(wrong) = &server.shadow.wrong {
            return Err(format!("server {number}: {wrong}"));
        }
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
                let to = neighbours[usize::from(place)];
                let open: Vec<u64> = self.wires_between(number, to, OUT);
                for id in open {
                    // The core knows already.
                    if let Some(wire) = self.wires.get_mut(&id) {
                        wire.is_open[OUT] = false;
                        let at = wire.arrival[OUT].max(self.now) + 1;
                        self.plan(at, Due::Closed { wire: id, way: OUT });
                    }
                }
            }
            Output::SendAway(NeighbourId(place)) => {
                let from = neighbours[usize::from(place)];
                for id in self.wires_between(from, number, BACK) {
                    self.close(id, BACK);
                }
            }
        }
    }

    fn wires_between(&self, from: usize, to: usize, end: usize) -> Vec<u64> {
        let between = |wire: &Wire| (wire.from, wire.to) == (from, to) && wire.is_open[end];
        self.wires.iter().filter(|(_, wire)| between(wire)).map(|(id, _)| *id).collect()
    }

    /// A link copies from the feed what it has room for.
    fn write(&mut self, from: usize, neighbour: NeighbourId) -> Result<(), Wrong> {
        let to = self.servers[from].neighbours[usize::from(neighbour.0)];
        let moment = self.moment(from);
        let Some(id) = self.wires_between(from, to, OUT).last().copied() else { return Ok(()) };
        let Some(wire) = self.wires.get(&id) else { return Ok(()) };
        if wire.under_way >= self.schedule.room || !self.servers[from].herd.link_lags(neighbour) {
            return Ok(());
        }
        let (room, run) = (self.schedule.room, wire.runs[BACK]);
        let server = &mut self.servers[from];
        let mut out = Vec::new();
        server.herd.poll_link(neighbour, room, moment, &mut out, &mut server.shadow);
        if out.len() > room + LONGEST_LINE {
            return Err(format!("server {from} wrote {} bytes into a room of {room}", out.len()));
        }
        self.check_sent(from, (to, run), &out)?;
        self.send(id, OUT, &out);
        Ok(())
    }

    /// A link never says what its neighbour's present run has said, nor marks what is not there.
    fn check_sent(&self, from: usize, to: (usize, u64), bytes: &[u8]) -> Result<(), Wrong> {
        let server = &self.servers[from];
        let end = server.herd.table().end().0;
        for line in bytes.split(|&byte| byte == b'\n') {
            let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
            match fields[..] {
                [b"UPDATELOC", id, ..] => {
                    let source = server.shadow.table.get(id).and_then(|(_, source)| *source);
                    // (A full table drops entries without a word, so there the shadow doesn't know.)
                    if source == Some(to) && !self.schedule.is_crowded {
                        let (line, to) = (line.escape_ascii(), to.0);
                        return Err(format!("server {from} tells {to} what it said: {line}"));
                    }
                }
                [b"MARK", seq] => {
                    let seq: u64 =
                        std::str::from_utf8(seq).unwrap_or("").parse().unwrap_or(u64::MAX);
                    if seq > end {
                        return Err(format!(
                            "server {from} marks {seq}, and its feed ends at {end}"
                        ));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts bytes on a wire, in pieces of any size.
    fn send(&mut self, id: u64, way: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.random.between(1, bytes.len()));
            bytes = rest;
            let Some((from, to)) = self.wires.get(&id).map(|wire| (wire.from, wire.to)) else {
                return;
            };
            let (from, to) = if way == OUT { (from, to) } else { (to, from) };
            let at = self.now.max(self.is_silent(from, to).unwrap_or(0)) + self.delay(from, to);
            let Some(wire) = self.wires.get_mut(&id).filter(|wire| !wire.is_torn) else { return };
            let at = at.max(wire.arrival[way]);
            wire.arrival[way] = at;
            if way == OUT {
                wire.under_way += piece.len();
            }
            self.plan(at, Due::Arrive { wire: id, way, bytes: piece.to_vec() });
        }
    }

    /// Until when nothing passes from one to the other.
    fn is_silent(&self, from: usize, to: usize) -> Option<u64> {
        let silences = self.silences.iter().filter(|(one, other, _)| (*one, *other) == (from, to));
        silences.map(|(.., until)| *until).filter(|until| *until > self.now).max()
    }

    fn delay(&mut self, from: usize, to: usize) -> u64 {
        let slow = self.schedule.slow.iter().filter(|(server, _)| *server == from || *server == to);
        let most = self.schedule.delay + slow.map(|(_, by)| *by).max().unwrap_or(0);
        self.random.between(0, most as usize) as u64
    }

    fn plan(&mut self, at: u64, due: Due) {
        self.last += 1;
        self.due.push(Reverse((at, self.last, due)));
    }

    fn neighbour(&self, server: usize, other: usize) -> NeighbourId {
        let place = self.servers[server].neighbours.iter().position(|&it| it == other);
        NeighbourId(place.expect("they are neighbours") as u16)
    }

    fn moment(&self, server: usize) -> Moment {
        let clock = self.servers.get(server).map_or(0, |server| server.clock);
        let wall = 1_000_000 + i128::from(self.now) + i128::from(clock);
        Moment { elapsed: Duration::from_millis(self.now), wall: Wall(wall * 1_000_000) }
    }

    fn herd(&self, number: usize, run: u64, neighbours: &[usize]) -> Herd {
        let settings = Settings {
            name: name(number),
            neighbours: neighbours.iter().map(|&it| name(it)).collect(),
            dialect: Dialect::Report,
            clients: self.schedule.bound,
            ahead: Duration::from_secs(300),
            heartbeat: Duration::from_millis(self.schedule.heartbeat),
            refill: true,
            epoch: Epoch(1_000 * (number as u64 + 1) + run),
            seed: self.schedule.seed ^ number as u64,
        };
        Herd::new(settings, self.moment(number))
    }
}

fn name(server: usize) -> String {
    format!("S{server}")
}

fn table(server: &Server) -> BTreeMap<Vec<u8>, Told> {
    contents(server.herd.table().iter().map(|entry| entry.update.get()))
}

/// More than any schedule takes that comes to rest.
const MOST_STEPS: u64 = 400_000;
/// An update of these schedules, and a MARK.
const LONGEST_LINE: usize = 256;
