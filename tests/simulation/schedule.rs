//! What happens to a herd: who is a neighbour of whom, what clients say, what breaks, and when. All of
//! it follows from a seed, and can be made smaller by leaving events out.

use std::fmt;

use crate::disk::{DiskEvent, Disks};
use crate::random::Random;

/// A whole schedule. Times are virtual milliseconds.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub seed: u64,
    pub servers: usize,
    pub edges: Vec<(usize, usize)>,
    /// Clients that send, a crowd not counted.
    pub clients: usize,
    /// Clients that a table holds.
    pub bound: usize,
    /// Whether more clients are about than that.
    pub is_crowded: bool,
    pub heartbeat: u64,
    /// The longest time that bytes are under way.
    pub delay: u64,
    /// Servers that take this much longer.
    pub slow: Vec<(usize, u64)>,
    /// Who takes no more than so many bytes a millisecond from whom, in both directions.
    pub narrow: Vec<((usize, usize), usize)>,
    /// Bytes that a link writes ahead at most.
    pub room: usize,
    /// Bytes that ids are longer by.
    pub padding: usize,
    /// Who hands updates over as values, as loops of one server do; in both directions.
    pub handed_over: Vec<(usize, usize)>,
    /// Whether a link begins with all that is known.
    pub refill: bool,
    /// Milliseconds that a timestamp may be ahead of a server's clock.
    pub ahead: u64,
    pub disks: Disks,
    pub events: Vec<(u64, Event)>,
    /// When the last fault is over.
    pub healed: u64,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client says IAMAT with this text behind it.
    Tell { server: usize, text: String },
    /// So many clients, each with an id of its own, say so at once.
    Crowd { server: usize, clients: usize },
    /// The connections between two servers break, in the middle of whatever is on them.
    Break { one: usize, other: usize },
    /// Nothing passes from one to the other, without an error at either end.
    Silence { from: usize, to: usize, until: u64 },
    /// A server loses all it knows, and is back then.
    Crash { server: usize, until: u64 },
    /// A server stands still, and its connections with it.
    Pause { server: usize, until: u64 },
    /// A server's clock jumps by so many milliseconds.
    Jump { server: usize, by: i64 },
    /// An impostor says HELLO to a server with a neighbour's name, and leaves or stays silent.
    Pretend { server: usize, name: usize, epoch: u64, leaves: bool },
    /// Something happens to a server's disk, or to who waits for it.
    Disk { server: usize, event: DiskEvent },
}

impl Schedule {
    pub fn from_seed(seed: u64, servers: Option<usize>) -> Schedule {
        let mut random = Random::new(seed);
        let servers = servers.unwrap_or_else(|| random.between(2, 6));
        let edges = edges(servers, &mut random);
        // So long that their updates fill a batch with bytes.
        let is_long = random.percent(5);
        // So many that a tenth of a full table is more than one, and that it takes a while to forget them.
        let is_large = random.percent(5);
        let clients = match is_long || is_large {
            true => random.between(1, 400),
            false => random.between(1, 12),
        };
        let is_crowded = (is_large || random.percent(15)) && clients > 2;
        let healed = random.between(2_000, 20_000) as u64;
        let slow = (0..servers).filter(|_| random.percent(10)).collect::<Vec<_>>();
        let mut schedule = Schedule {
            seed,
            servers,
            edges,
            clients,
            bound: if is_crowded { random.between(1, clients - 1) } else { 10_000 },
            is_crowded,
            heartbeat: random.between(400, 2_000) as u64,
            delay: random.between(1, 80) as u64,
            slow: Vec::new(),
            narrow: Vec::new(),
            room: [100, 300, 4_000, 256 * 1024][random.between(if is_long { 2 } else { 0 }, 3)],
            padding: if is_long { random.between(100, 250) } else { 0 },
            handed_over: Vec::new(),
            refill: !random.percent(5),
            ahead: [2_000, 300_000][random.below(2)],
            disks: Disks::default(),
            events: Vec::new(),
            healed,
        };
        // Within what three heartbeats allow: a link that is slower than that never comes up.
        let most = schedule.heartbeat as usize / 2;
        schedule.slow = slow.iter().map(|&it| (it, random.between(1, most) as u64)).collect();
        let batch = (schedule.room + schedule.longest_line()).min(66_000);
        let least = (2 * batch).div_ceil(schedule.heartbeat as usize);
        for edge in schedule.edges.clone() {
            if random.percent(10) {
                schedule.narrow.push((edge, random.between(least, 4 * least)));
            }
        }
        // Now and then so many that the feed is rewritten, or that a link needs several turns.
        let is_busy = is_long || is_large || random.percent(10);
        for _ in 0..random.between(1, if is_busy { 600 } else { 40 }) {
            let server = random.below(servers);
            let at = random.below(healed as usize) as u64;
            let times = if is_busy { 1 + at as usize / 80 } else { 0 };
            let text = schedule.words(clients, times, &mut random);
            schedule.events.push((at, Event::Tell { server, text }));
        }
        if random.below(400) == 0 && !is_crowded {
            (schedule.room, schedule.narrow) = (256 * 1024, Vec::new());
            let (server, clients) = (random.below(servers), random.between(1_100, 5_000));
            schedule
                .events
                .push((random.below(healed as usize) as u64, Event::Crowd { server, clients }));
        }
        for _ in 0..random.below(12) {
            let at = random.below(healed as usize) as u64;
            let event = schedule.fault(at, &mut random);
            schedule.events.push((at, event));
        }
        if random.percent(8) {
            schedule.pretenders(&mut random);
        }
        schedule.events.sort_by_key(|(at, _)| *at);
        Disks::attach(&mut schedule);
        schedule.hand_over();
        schedule
    }

    /// A herd to which nothing happens.
    pub fn quiet(
        servers: usize,
        edges: Vec<(usize, usize)>,
        delay: u64,
        heartbeat: u64,
        bound: usize,
    ) -> Schedule {
        Schedule {
            seed: 1,
            servers,
            edges,
            clients: bound,
            bound,
            is_crowded: false,
            heartbeat,
            delay,
            slow: Vec::new(),
            narrow: Vec::new(),
            room: 256 * 1024,
            padding: 0,
            handed_over: Vec::new(),
            refill: true,
            ahead: 300_000,
            disks: Disks::default(),
            events: Vec::new(),
            healed: 0,
        }
    }

    /// Bytes that pass between two servers in a millisecond, where that is limited.
    pub fn bytes_a_ms(&self, one: usize, other: usize) -> Option<usize> {
        let edge = (one.min(other), one.max(other));
        self.narrow.iter().find(|(narrow, _)| *narrow == edge).map(|(_, rate)| *rate)
    }

    /// In a quarter of the schedules, half of the links carry values. (By numbers of its own, so that the rest of a
    /// schedule is what it was before there was this.)
    fn hand_over(&mut self) {
        let mut random = Random::new(!self.seed);
        if random.percent(25) {
            let edges = self.edges.iter().copied();
            self.handed_over = edges.filter(|_| random.percent(50)).collect();
        }
    }

    /// Whether updates pass between two servers as values.
    pub fn hands_over(&self, one: usize, other: usize) -> bool {
        self.handed_over.contains(&(one.min(other), one.max(other)))
    }

    /// An update, and a MARK behind it.
    pub fn longest_line(&self) -> usize {
        256 + self.padding
    }

    /// Time for links to notice that all is well, to be dialled again, and to pass all on, hop by hop, a
    /// room at a time.
    pub fn settling_time(&self) -> u64 {
        let all = (self.clients * self.longest_line()) as u64;
        let slowest = self.narrow.iter().map(|(_, rate)| *rate as u64).min();
        let delay = self.delay + self.slow.iter().map(|(_, by)| *by).max().unwrap_or(0);
        let hop = 500 + all / self.room as u64 * delay + slowest.map_or(0, |rate| all / rate);
        5 * self.heartbeat + 12_000 + self.servers as u64 * hop
    }

    /// Time for one more update to be everywhere.
    pub fn spread(&self) -> u64 {
        let delay = self.delay + self.slow.iter().map(|(_, by)| *by).max().unwrap_or(0);
        1_000 + self.servers as u64 * (4 * delay + 100)
    }

    /// Whether somebody bears a server's name besides it.
    pub fn has_pretenders(&self) -> bool {
        self.events.iter().any(|(_, event)| matches!(event, Event::Pretend { .. }))
    }

    /// Somebody bears a neighbour's name for a while, in one run or in a new one each time.
    fn pretenders(&mut self, random: &mut Random) {
        let (one, other) = self.edges[random.below(self.edges.len())];
        let (server, name) = if random.percent(50) { (one, other) } else { (other, one) };
        let mut at = random.below(self.healed as usize) as u64;
        let most = [20, 300, 3_000][random.below(3)];
        let is_one_run = random.percent(70);
        let leaves = random.percent(70);
        for number in 0..random.between(1, 40) as u64 {
            let epoch = 1_000_000 + if is_one_run { 0 } else { number };
            if at < self.healed {
                self.events.push((at, Event::Pretend { server, name, epoch, leaves }));
            }
            at += random.between(1, most) as u64;
        }
    }

    /// More than it takes to come to rest.
    pub fn most_steps(&self) -> u64 {
        400_000.max(50_000 * self.servers as u64)
    }

    /// A client, a place and a time: few enough of each that updates meet, and are often equal. With
    /// time going on `later`, nearly each is a change.
    fn words(&self, clients: usize, later: usize, random: &mut Random) -> String {
        let id = random.below(clients);
        let timestamp = 1_000 + later + random.below(8);
        let fraction = ["", ".0", ".5", ".50", ".500000000", ".5000000001"][random.below(6)];
        let location = ["+1.0-2.0", "+1.0-2.00", "+3.0+4.0/", "-5-6"][random.below(4)];
        let padding = "x".repeat(self.padding);
        format!("c{id}{padding} {location} {timestamp}{fraction}")
    }

    fn fault(&self, at: u64, random: &mut Random) -> Event {
        let (one, other) = self.edges[random.below(self.edges.len())];
        let (from, to) = if random.percent(50) { (one, other) } else { (other, one) };
        let until = at + random.between(1, 3 * self.heartbeat as usize + 2_000) as u64;
        let until = until.min(self.healed);
        match random.below(12) {
            0..=3 => Event::Break { one, other },
            4..=5 => Event::Silence { from, to, until },
            // Back so soon that what it said before is still under way.
            6 => Event::Crash { server: from, until: at + random.below(50) as u64 },
            7..=8 => Event::Crash { server: from, until },
            9..=10 => Event::Pause { server: from, until },
            _ => Event::Jump { server: from, by: random.between(0, 4_000) as i64 - 2_000 },
        }
    }
}

/// A line, a ring, a tree, the report's five, or anything that hangs together.
fn edges(servers: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let mut edges: Vec<(usize, usize)> = match random.below(5) {
        0 => (1..servers).map(|it| (it - 1, it)).collect(),
        1 => (1..servers).map(|it| (it - 1, it)).chain([(0, servers - 1)]).collect(),
        2 => (1..servers).map(|it| ((it - 1) / 2, it)).collect(),
        3 if servers == 5 => vec![(0, 1), (0, 2), (0, 3), (1, 3), (2, 4)],
        _ => {
            let mut edges: Vec<_> = (1..servers).map(|it| (random.below(it), it)).collect();
            for _ in 0..random.below(servers) {
                let (one, other) = (random.below(servers), random.below(servers));
                edges.extend((one != other).then_some((one.min(other), one.max(other))));
            }
            edges
        }
    };
    edges.sort_unstable();
    edges.dedup();
    edges.retain(|(one, other)| one != other);
    edges
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { seed, servers, edges, bound, heartbeat, delay, slow, room, healed, .. } =
            self;
        let Schedule { narrow, padding, ahead, refill, handed_over, .. } = self;
        writeln!(f, "seed {seed}: {servers} servers, edges {edges:?}, tables of {bound},")?;
        writeln!(f, "heartbeat {heartbeat} ms, delays to {delay} ms, slow {slow:?}, room {room},")?;
        writeln!(
            f,
            "narrow {narrow:?} bytes/ms, ids longer by {padding}, {ahead} ms ahead allowed, refill {refill},"
        )?;
        writeln!(f, "values between {handed_over:?}")?;
        writeln!(f, "{:?}, healed at {healed} ms", self.disks)?;
        for (at, event) in &self.events {
            writeln!(f, "  {at:6} ms  {event:?}")?;
        }
        Ok(())
    }
}
