//! The virtual network: connections that carry bytes in order, cut anywhere, late, slowly, or not at
//! all; and what each end's server makes of them.

use std::collections::{BTreeMap, VecDeque};

use herd_mio::application::{Line, LineBuffer};
use herd_mio::herd::{NeighbourId, Outcome, Peer};
use herd_mio::limits::BATCHES_WAITING;
use herd_mio::protocol::{Batch, Seq};

use crate::judge;
use crate::world::{Due, World, Wrong, epoch};

/// All connections.
#[derive(Default)]
pub struct Network {
    pub wires: BTreeMap<u64, Wire>,
    /// Their numbers by who dialled whom, the oldest first.
    pub by_ends: BTreeMap<(usize, usize), Vec<u64>>,
    /// Nothing passes from one to the other before this time.
    silences: Vec<(usize, usize, u64)>,
    /// What one hands over to the other.
    handovers: BTreeMap<(usize, usize), Handover>,
    /// Bytes that were sent, by all.
    pub bytes_sent: u64,
}

/// Updates that one server hands over to another as values.
#[derive(Default)]
struct Handover {
    /// Since the last MARK.
    open: Batch,
    waiting: VecDeque<Batch>,
}

/// A connection, from the one who dialled to the one who accepted.
pub struct Wire {
    pub from: usize,
    pub to: usize,
    /// In which run of each it was made.
    runs: [u64; 2],
    inbound: Peer,
    /// Bytes that wait to be framed at the acceptor, and at the dialler.
    framed: [LineBuffer; 2],
    /// Whether each end believes in it: the dialler, the acceptor.
    pub is_open: [bool; 2],
    /// When the last bytes arrive, each way: TCP keeps their order.
    pub arrival: [u64; 2],
    /// The acceptor has received a later HELLO of the same neighbour, and closes it soon.
    pub is_replaced: bool,
    /// When the acceptor last received a line.
    last_read_at: u64,
    /// Whether the dialler still owes its settings.
    owes_settings: bool,
    /// Up to where the acceptor was found to have what the dialler has.
    marked: Seq,
    /// Bytes that the dialler has written and the acceptor has not read.
    under_way: usize,
    /// It is broken: nothing more gets through, and neither end may know yet.
    pub is_cut: bool,
}

/// The directions of a wire, and the ends that they begin at.
pub const OUT: usize = 0;
pub const BACK: usize = 1;

impl Network {
    /// The two ends of a wire: who dialled, and who accepted.
    pub fn ends(&self, wire: u64) -> Option<[usize; 2]> {
        self.wires.get(&wire).map(|wire| [wire.from, wire.to])
    }

    pub fn silence(&mut self, from: usize, to: usize, until: u64) {
        self.silences.push((from, to, until));
    }

    /// Until when nothing passes from one to the other.
    fn silent_until(&self, from: usize, to: usize, now: u64) -> Option<u64> {
        let silences = self.silences.iter().filter(|(one, other, _)| (*one, *other) == (from, to));
        silences.map(|(.., until)| *until).filter(|until| *until > now).max()
    }

    /// The wires from one to the other that one end (of `OUT` and `BACK`) believes in.
    fn open(&self, from: usize, to: usize, end: usize) -> Vec<u64> {
        let all = self.by_ends.get(&(from, to)).into_iter().flatten().copied();
        all.filter(|id| self.wires[id].is_open[end]).collect()
    }

    /// Whether one has a connection to the other that it believes in.
    pub fn is_dialled(&self, from: usize, to: usize) -> bool {
        !self.open(from, to, OUT).is_empty()
    }

    /// The wires from one to the other on which the acceptor has received a HELLO, and none later on another.
    pub fn identified(&self, from: usize, to: usize) -> Vec<u64> {
        let is_identified = |id: &u64| {
            let wire = &self.wires[id];
            !wire.is_replaced && matches!(wire.inbound, Peer::Identified { .. })
        };
        self.open(from, to, BACK).into_iter().filter(is_identified).collect()
    }

    /// When the acceptor last received a line on such a wire, if that was before a time.
    pub fn received_before(&self, from: usize, to: usize, time: u64) -> Option<u64> {
        let received = self.identified(from, to).into_iter().map(|id| self.wires[&id].last_read_at);
        received.filter(|at| *at < time).min()
    }

    fn insert(&mut self, id: u64, wire: Wire) {
        self.by_ends.entry((wire.from, wire.to)).or_default().push(id);
        self.wires.insert(id, wire);
    }

    fn remove(&mut self, id: u64) {
        if let Some(wire) = self.wires.remove(&id)
            && let Some(ids) = self.by_ends.get_mut(&(wire.from, wire.to))
        {
            ids.retain(|&other| other != id);
        }
    }
}

impl World<'_> {
    /// A dial reaches the other side, or doesn't.
    pub fn connect(&mut self, from: usize, run: u64, to: usize) -> Result<(), Wrong> {
        let neighbour = self.neighbour(from, to);
        let is_stale = self.servers[from].run != run || self.servers[from].is_down;
        if is_stale || !self.servers[from].herd.link_is_dialling(neighbour) {
            return Ok(());
        }
        let is_silent = |one, other| self.network.silent_until(one, other, self.now).is_some();
        if is_silent(from, to) || is_silent(to, from) {
            return Ok(()); // Nobody answers; the core's own time-out ends it.
        }
        let moment = self.moment(from);
        if self.servers[to].is_down {
            let server = &mut self.servers[from];
            server.herd.link_closed(neighbour, moment, &mut server.shadow);
            return self.settle(from);
        }
        let mut hello = Vec::new();
        self.servers[from].herd.link_connected(neighbour, moment, &mut hello);
        let id = self.number();
        let wire = Wire {
            from,
            to,
            runs: [run, self.servers[to].run],
            inbound: Peer::Unidentified,
            framed: [LineBuffer::default(), LineBuffer::default()],
            is_open: [true, true],
            arrival: [self.now, self.now],
            is_replaced: false,
            last_read_at: self.now,
            owes_settings: true,
            marked: Seq(0),
            under_way: 0,
            is_cut: false,
        };
        self.network.insert(id, wire);
        self.send(id, OUT, &hello);
        self.settle(from)
    }

    /// A link copies from the feed what it has room for.
    pub fn write(&mut self, from: usize, neighbour: NeighbourId) -> Result<(), Wrong> {
        if !self.servers[from].herd.link_has_pending(neighbour) {
            return Ok(());
        }
        let to = self.servers[from].neighbours[usize::from(neighbour.0)];
        let Some(id) = self.network.open(from, to, OUT).last().copied() else { return Ok(()) };
        let wire = &self.network.wires[&id];
        let (room, run) = (self.schedule.room, wire.runs[BACK]);
        if wire.under_way >= room {
            return Ok(());
        }
        let hands_over = self.schedule.hands_over(from, to);
        let out = match hands_over {
            true => self.hand_over(from, neighbour, to),
            false => self.poll(from, neighbour),
        };
        if !hands_over && out.len() > room + self.schedule.longest_line() {
            return Err(format!("server {from} wrote {} bytes into a room of {room}", out.len()));
        }
        let Some(wire) = self.network.wires.get_mut(&id) else { return Ok(()) };
        let owes_settings = &mut wire.owes_settings;
        if out.is_empty() {
            return Ok(());
        }
        judge::check_sent(&self.servers[from], neighbour, (to, run), owes_settings, &out)
            .map_err(|wrong| format!("server {from} sends {to} {wrong}"))?;
        if out.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"MARK ")) {
            self.servers[from].watch[usize::from(neighbour.0)].marked(self.now);
        }
        let lines = out.split_inclusive(|&byte| byte == b'\n');
        let is_sent = |line: &&[u8]| !(hands_over && line.starts_with(b"UPDATELOC "));
        self.send(id, OUT, &lines.filter(is_sent).collect::<Vec<_>>().concat());
        Ok(())
    }

    fn poll(&mut self, from: usize, neighbour: NeighbourId) -> Vec<u8> {
        let (moment, room) = (self.moment(from), self.schedule.room);
        let server = &mut self.servers[from];
        let mut out = Vec::new();
        server.herd.poll_link(neighbour, room, moment, &mut out, &mut server.shadow);
        out
    }

    /// A link hands over what it has room for. Returns what it writes, with the updates as if they were lines.
    fn hand_over(&mut self, from: usize, neighbour: NeighbourId, to: usize) -> Vec<u8> {
        let moment = self.moment(from);
        let server = &mut self.servers[from];
        let handover = self.network.handovers.entry((from, to)).or_default();
        if handover.waiting.len() >= BATCHES_WAITING {
            return Vec::new();
        }
        let mut out = Vec::new();
        let batch = &mut handover.open;
        let (herd, shadow) = (&mut server.herd, &mut server.shadow);
        if !herd.poll_link_values(neighbour, batch, moment, &mut out, shadow) {
            return out;
        }
        let batch = std::mem::take(batch);
        let mut all: Vec<u8> = Vec::new();
        for (update, _) in batch.iter() {
            update.write_updateloc(&mut all);
        }
        handover.waiting.push_back(batch);
        all.append(&mut out);
        all
    }

    /// Puts bytes on a wire, in pieces of any size.
    fn send(&mut self, id: u64, way: usize, mut bytes: &[u8]) {
        let Some(ends) = self.network.ends(id) else { return };
        let (from, to) = (ends[way], ends[1 - way]);
        self.network.bytes_sent += bytes.len() as u64;
        let rate = self.schedule.bytes_a_ms(from, to);
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.random.between(1, bytes.len()));
            bytes = rest;
            let begin = self.network.silent_until(from, to, self.now).unwrap_or(self.now);
            let at = begin + self.delay(from, to);
            let Some(wire) = self.network.wires.get_mut(&id).filter(|wire| !wire.is_cut) else {
                return;
            };
            let lasts = rate.map_or(0, |rate| piece.len().div_ceil(rate) as u64);
            let at = at.max(wire.arrival[way]) + lasts;
            wire.arrival[way] = at;
            if way == OUT {
                wire.under_way += piece.len();
            }
            self.plan(at, Due::Arrive { wire: id, way, bytes: piece.to_vec() });
        }
    }

    pub fn delay(&mut self, from: usize, to: usize) -> u64 {
        let slow = self.schedule.slow.iter().filter(|(server, _)| *server == from || *server == to);
        let most = self.schedule.delay + slow.map(|(_, by)| *by).max().unwrap_or(0);
        self.random.between(0, most as usize) as u64
    }

    /// Bytes arrive, are framed and handled, whatever they were cut into.
    pub fn arrive(&mut self, id: u64, way: usize, bytes: &[u8]) -> Result<(), Wrong> {
        let Some(wire) = self.network.wires.get_mut(&id) else { return Ok(()) };
        if way == OUT {
            wire.under_way -= bytes.len().min(wire.under_way);
        }
        let ends = [wire.from, wire.to];
        if !wire.is_open[1 - way] {
            // The kernel knows of no such connection, and says so, if its host is there.
            if wire.is_open[way] && !self.servers[ends[1 - way]].is_down {
                let at = self.now + self.delay(ends[1 - way], ends[way]);
                self.plan(at, Due::Closed { wire: id, way: 1 - way });
            }
            return Ok(());
        }
        wire.framed[way].push(bytes);
        while let Some(wire) = self.network.wires.get_mut(&id) {
            let Some(Line::Whole(line)) = wire.framed[way].next_line(65_536) else { break };
            let line = line.to_vec();
            let outcome = match way {
                OUT => self.called(id, &line)?,
                _ => self.answered(ends[OUT], ends[BACK], &line),
            };
            if outcome == Outcome::Close {
                self.close(id, 1 - way);
                break;
            }
        }
        self.settle(ends[1 - way])?;
        self.settle(ends[way])
    }

    /// A line of a dialler reaches the acceptor.
    fn called(&mut self, id: u64, line: &[u8]) -> Result<Outcome, Wrong> {
        let Some(wire) = self.network.wires.get_mut(&id) else { return Ok(Outcome::Close) };
        let (from, to, run) = (wire.from, wire.to, wire.runs[OUT]);
        let moment = self.servers[to].moment(self.now);
        let server = &mut self.servers[to];
        server.shadow.source = Some((from, run));
        let was_identified = matches!(wire.inbound, Peer::Identified { .. });
        if let (Peer::Identified { neighbour, .. }, true) =
            (wire.inbound, line.starts_with(b"MARK "))
        {
            server.shadow.marked.insert(neighbour.0);
            let handover = self.network.handovers.entry((from, to)).or_default();
            let is_taken = server.herd.takes_batches(wire.inbound).is_some();
            if is_taken && let Some(batch) = handover.waiting.pop_front() {
                server.herd.handle_batch(wire.inbound, &batch, moment, &mut server.shadow);
            }
        }
        let mut answer = Vec::new();
        let outcome = server.herd.handle_peer_line(
            &mut wire.inbound,
            line,
            &|_| true,
            moment,
            &mut answer,
            &mut server.shadow,
        );
        wire.last_read_at = self.now;
        // What a run says of its feed can be compared with it only while that run lives.
        let is_comparable = self.servers[from].run == run;
        if outcome == Outcome::Continue && is_comparable {
            let (from, to) = (&self.servers[from], &self.servers[to]);
            judge::check_applied(from, to, &mut wire.marked, line, &answer)
                .map_err(|wrong| format!("{wrong}, on a wire from {} to {}", wire.from, wire.to))?;
        }
        let is_identified = matches!(wire.inbound, Peer::Identified { .. });
        self.send(id, BACK, &answer);
        if is_identified && !was_identified {
            self.received_hello(to, from, epoch(from, run).0, Some(id))?;
        }
        Ok(outcome)
    }

    /// A line of an acceptor reaches the dialler.
    fn answered(&mut self, from: usize, to: usize, line: &[u8]) -> Outcome {
        let (neighbour, moment) = (self.neighbour(from, to), self.moment(from));
        let server = &mut self.servers[from];
        let watch = &mut server.watch[usize::from(neighbour.0)];
        match line.starts_with(b"ACK ") {
            true => watch.acknowledged(self.now),
            false => {
                watch.resumed(self.now);
                // What waits was for a former connection.
                self.network.handovers.insert((from, to), Handover::default());
            }
        }
        server.herd.handle_answer(neighbour, line, moment, &mut server.shadow)
    }

    /// A server wants its link to another one closed; its core knows already.
    pub fn hang_up(&mut self, from: usize, to: usize) {
        for id in self.network.open(from, to, OUT) {
            if let Some(wire) = self.network.wires.get_mut(&id) {
                wire.is_open[OUT] = false;
                let at = wire.arrival[OUT].max(self.now) + 1;
                self.plan(at, Due::Closed { wire: id, way: OUT });
            }
        }
    }

    /// A server wants the connection closed by which another one came.
    pub fn send_away(&mut self, from: usize, to: usize) {
        for id in self.network.open(from, to, BACK) {
            self.close(id, BACK);
        }
    }

    /// A later connection of the same neighbour has taken a wire's place at its acceptor.
    pub fn replaced(&mut self, id: u64) -> Result<(), Wrong> {
        self.close(id, BACK);
        let to = self.network.ends(id).map(|ends| ends[1]);
        to.map_or(Ok(()), |to| self.settle(to))
    }

    /// An end closes its side; the other learns of it behind what is under way.
    fn close(&mut self, id: u64, end: usize) {
        let Some(wire) = self.network.wires.get_mut(&id) else { return };
        if !std::mem::replace(&mut wire.is_open[end], false) {
            return;
        }
        let at = wire.arrival[end].max(self.now) + 1;
        self.left(id, end);
        self.plan(at, Due::Closed { wire: id, way: end });
    }

    /// The end that is not `way`'s learns that the other has closed.
    pub fn closed(&mut self, id: u64, way: usize) -> Result<(), Wrong> {
        let Some(wire) = self.network.wires.get_mut(&id) else { return Ok(()) };
        let end = 1 - way;
        let (from, to) = (wire.from, wire.to);
        if std::mem::replace(&mut wire.is_open[end], false) {
            self.left(id, end);
        }
        if self.network.wires.get(&id).is_some_and(|wire| wire.is_open == [false, false]) {
            self.network.remove(id);
        }
        self.settle(from)?;
        self.settle(to)
    }

    /// An end reports to its core that a connection has gone.
    fn left(&mut self, id: u64, end: usize) {
        let Some(wire) = self.network.wires.get(&id) else { return };
        let (from, to, inbound) = (wire.from, wire.to, wire.inbound);
        if end == BACK {
            return self.servers[to].herd.peer_closed(inbound);
        }
        // A later connection of the same link is not concerned.
        let is_latest = self.network.by_ends[&(from, to)].last() == Some(&id);
        let neighbour = self.neighbour(from, to);
        let moment = self.moment(from);
        let server = &mut self.servers[from];
        if is_latest && !server.is_down {
            server.herd.link_closed(neighbour, moment, &mut server.shadow);
        }
    }
}
