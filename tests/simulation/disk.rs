//! Disks: commits that are late, fail, or are lost in a crash, and servers that start again from what is left. Only some
//! schedules have them; to the others nothing here happens, and their runs are what they were without this file.

use std::collections::BTreeMap;

use herd_mio::herd::{DiskBatch, Floor, Herd};
use herd_mio::protocol::{FromDialler, UpdateRef};

use crate::held::Clients;
use crate::oracle::{Fact, Shadow, contents};
use crate::random::Random;
use crate::schedule::{Event, Schedule};
use crate::world::{Due, Server, World, Wrong};

/// What the disks of a schedule are like. By default there are none.
#[derive(Clone, Debug, Default)]
pub struct Disks {
    /// By server.
    kinds: Vec<Kind>,
    /// The longest time of a commit, and the longest until the server hears of it: milliseconds.
    delay: u64,
    /// Commits of a hundred that fail before all is healed.
    failing: usize,
    /// Updates in one transaction at most.
    batch: usize,
    /// Whether tables are half as large in every second run.
    shrinks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Without,
    /// Answers are given at once.
    Memory,
    /// Answers are given once their updates are on the disk.
    Answering,
}

/// What happens to one server's disk, or to who waits for it.
#[derive(Clone, Debug)]
pub enum DiskEvent {
    /// No commit ends before this time.
    Stall { until: u64 },
    /// Each commit fails.
    Full { until: u64 },
    /// An operator forgets a client.
    Forget { id: String },
    /// A connection with held answers closes.
    HangUp { client: usize },
}

/// One server's disk, and its clients.
pub struct Disk {
    kind: Kind,
    pub random: Random,
    /// What is committed: it survives the process.
    written: Image,
    /// What was synced: it survives the power.
    pub synced: Image,
    /// What the server knows to be committed.
    pub told: Image,
    /// The batch that is being committed, and what became of it.
    in_flight: Option<(DiskBatch, Option<bool>)>,
    last_number: u64,
    stalled_until: u64,
    full_until: u64,
    pub clients: Clients,
}

/// What a disk holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    lines: BTreeMap<Vec<u8>, Vec<u8>>,
    floor: Option<Floor>,
}

impl Disks {
    /// Gives some schedules disks, and what goes wrong with them. All is drawn from a number of its own, so that schedules
    /// without disks stay what they are.
    pub fn attach(schedule: &mut Schedule) {
        let mut random = Random::new(schedule.seed ^ 0xd15c);
        if !random.percent(30) {
            return;
        }
        let is_alone = random.percent(40);
        if is_alone {
            leave_one(schedule);
        }
        let kind = |number| match number {
            0..=1 => Kind::Without,
            2..=4 => Kind::Memory,
            _ => Kind::Answering,
        };
        schedule.disks = Disks {
            kinds: (0..schedule.servers).map(|_| kind(random.below(12))).collect(),
            delay: [1, 30, 400][random.below(3)],
            failing: [0, 10, 60][random.below(3)],
            batch: usize::MAX,
            shrinks: schedule.is_crowded && random.percent(60),
        };
        // Few enough that it takes several to write a table, if that does not take too long.
        let has_crowd = schedule.events.iter().any(|(_, it)| matches!(it, Event::Crowd { .. }));
        if !has_crowd && schedule.disks.delay < 100 && random.percent(70) {
            schedule.disks.batch = [2, 5, 20][random.below(3)];
        }
        for _ in 0..random.below(12) {
            let server = random.below(schedule.servers);
            let at = random.below(schedule.healed as usize) as u64;
            let until = (at + random.between(1, 3_000) as u64).min(schedule.healed);
            let event = match random.below(if is_alone { 8 } else { 5 }) {
                0 => DiskEvent::Stall { until },
                1 => DiskEvent::Full { until },
                2 => DiskEvent::HangUp { client: random.below(Clients::COUNT) },
                3..=4 => {
                    schedule.events.push((at, Event::Crash { server, until: at + 1 }));
                    continue;
                }
                _ => {
                    forget_some(schedule, at, &mut random);
                    continue;
                }
            };
            schedule.events.push((at, Event::Disk { server, event }));
        }
        schedule.events.sort_by_key(|(at, _)| *at);
    }

    /// How many clients a server's table holds in one of its runs.
    pub fn bound(&self, bound: usize, run: u64) -> usize {
        if self.shrinks && run % 2 == 1 { bound.div_ceil(2) } else { bound }
    }

    /// A server's disk, empty.
    pub fn disk(&self, number: usize, seed: u64) -> Option<Disk> {
        let kind = self.kinds.get(number).copied().filter(|kind| *kind != Kind::Without)?;
        Some(Disk {
            kind,
            random: Random::new(seed ^ (number as u64) << 32),
            written: Image::default(),
            synced: Image::default(),
            told: Image::default(),
            in_flight: None,
            last_number: 0,
            stalled_until: 0,
            full_until: 0,
            clients: Clients::default(),
        })
    }
}

/// An operator forgets clients of the only server, and the last of them comes back at once.
fn forget_some(schedule: &mut Schedule, at: u64, random: &mut Random) {
    let padding = "x".repeat(schedule.padding);
    let ids = (0..random.between(1, 8)).map(|_| random.below(schedule.clients));
    let ids: Vec<_> = ids.map(|client| format!("c{client}{padding}")).collect();
    let back = ids.last().map(|id| format!("{id} +1.0-2.0 {}", random.between(1_000, 1_300)));
    for id in ids {
        schedule.events.push((at, Event::Disk { server: 0, event: DiskEvent::Forget { id } }));
    }
    schedule.events.extend(back.map(|text| (at, Event::Tell { server: 0, text })));
}

/// One server, without neighbours: what it forgets, nobody tells it again.
fn leave_one(schedule: &mut Schedule) {
    (schedule.servers, schedule.refill) = (1, true);
    schedule.edges.clear();
    schedule.narrow.clear();
    schedule.slow.clear();
    schedule.events.retain_mut(|(_, event)| match event {
        Event::Tell { server, .. }
        | Event::Crowd { server, .. }
        | Event::Crash { server, .. }
        | Event::Pause { server, .. }
        | Event::Jump { server, .. }
        | Event::Disk { server, .. } => {
            *server = 0;
            true
        }
        Event::Break { .. } | Event::Silence { .. } | Event::Pretend { .. } => false,
    });
}

impl Image {
    /// Commits a batch, as its documentation says: removals, floor, lines.
    fn commit(&mut self, batch: &DiskBatch, deletes: bool) -> Result<(), Wrong> {
        for id in &batch.removed {
            self.lines.remove(id);
        }
        if batch.floor.is_some() {
            if batch.floor < self.floor {
                return Err(format!("the floor falls to {:?}", batch.floor));
            }
            self.floor = batch.floor.clone();
            if deletes {
                self.lines = self.above_floor();
            }
        }
        let mut updates = 0;
        for line in batch.lines.split_inclusive(|&byte| byte == b'\n') {
            let update = update(line)?;
            self.lines.insert(update.id.to_vec(), line.to_vec());
            updates += 1;
        }
        if updates != batch.updates {
            return Err(format!("{updates} lines of {} updates", batch.updates));
        }
        Ok(())
    }

    fn above_floor(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let above = self.lines.iter().filter(|(id, line)| self.is_above_floor(id, line));
        above.map(|(id, line)| (id.clone(), line.clone())).collect()
    }

    fn is_above_floor(&self, id: &[u8], line: &[u8]) -> bool {
        let age = update(line).map(|update| update.age()).unwrap_or_default();
        self.floor.as_ref().is_none_or(|floor| (age, id) > (floor.age, &floor.id[..]))
    }

    /// What it has of a client above its floor.
    pub fn get(&self, id: &[u8]) -> Option<Fact> {
        let line = self.lines.get(id).filter(|line| self.is_above_floor(id, line))?;
        fact(line).ok()
    }

    /// Fills a server that knows nothing, and what it must know then.
    fn restore(&self, herd: &mut Herd, shadow: &mut Shadow) -> Result<(), Wrong> {
        if let Some(floor) = &self.floor {
            herd.restore_floor(floor.clone());
            shadow.floor = Some((floor.age, floor.id.clone()));
        }
        for line in self.lines.values() {
            let update = update(line)?;
            let applied = herd.restore(&update);
            shadow.applied(&update, applied);
        }
        Ok(())
    }
}

fn update(line: &[u8]) -> Result<UpdateRef<'_>, Wrong> {
    match line.strip_suffix(b"\n").map(FromDialler::parse) {
        Some(Ok(FromDialler::Update(update))) => Ok(update),
        other => Err(format!("on the disk is {}: {other:?}", line.escape_ascii())),
    }
}

fn fact(line: &[u8]) -> Result<Fact, Wrong> {
    update(line).map(|update| Fact::of(&update))
}

impl Disk {
    /// Whether answers wait for it.
    pub fn is_answering(&self) -> bool {
        self.kind == Kind::Answering
    }

    fn sync(&mut self) {
        self.synced = self.written.clone();
    }
}

impl World<'_> {
    /// Hands the disk its next batch.
    pub fn write_disk(&mut self, number: usize) -> Result<(), Wrong> {
        let server = &mut self.servers[number];
        let (Some(disk), run) = (&mut server.disk, server.run) else { return Ok(()) };
        let Some(batch) = server.herd.poll_disk_batch() else {
            let (has, floor) = (&disk.told.floor, server.herd.table().floor());
            if disk.in_flight.is_none() && has.as_ref() != floor {
                return Err(format!("server {number} keeps {floor:?} for itself, behind {has:?}"));
            }
            return Ok(());
        };
        for line in batch.lines.split_inclusive(|&byte| byte == b'\n') {
            let update = update(line)?;
            if !server.shadow.table.get(update.id).is_some_and(|(fact, _)| fact.is(&update)) {
                return Err(format!("server {number} hands over {update:?}, and has another one"));
            }
        }
        let batch_number = batch.number;
        if disk.in_flight.is_some() || batch_number != disk.last_number + 1 {
            return Err(format!("server {number} hands over batch {batch_number} at a wrong time"));
        }
        disk.last_number = batch_number;
        disk.in_flight = Some((batch, None));
        let most = self.schedule.disks.delay as usize;
        let ends = disk.stalled_until.max(self.now) + disk.random.between(0, most) as u64;
        let is_heard = ends + disk.random.between(0, most) as u64;
        self.plan(ends, Due::Commit { server: number, run, batch: batch_number });
        self.plan(is_heard, Due::Committed { server: number, run, batch: batch_number });
        Ok(())
    }

    /// The thread's commit ends.
    pub fn commit(&mut self, number: usize, run: u64, batch: u64) -> Result<(), Wrong> {
        let is_healed = self.now >= self.schedule.healed;
        let server = &mut self.servers[number];
        let Some(disk) = server.disk.as_mut().filter(|_| server.run == run) else { return Ok(()) };
        let Some((batch, result)) = disk.in_flight.as_mut().filter(|it| it.0.number == batch)
        else {
            return Err(format!("server {number} has no batch {batch} in flight"));
        };
        let fails = self.now < disk.full_until
            || !is_healed && disk.random.percent(self.schedule.disks.failing);
        *result = Some(!fails);
        // One that fails may be on the disk all the same.
        if !fails || disk.random.percent(10) {
            disk.written.commit(batch, disk.random.percent(50))?;
            if batch.must_sync && !fails || disk.random.percent(10) {
                disk.sync();
            }
        }
        Ok(())
    }

    /// The server hears what became of its batch.
    pub fn committed(&mut self, number: usize, run: u64, batch: u64) -> Result<(), Wrong> {
        let server = &mut self.servers[number];
        let Some(disk) = server.disk.as_mut().filter(|_| server.run == run) else { return Ok(()) };
        match disk.in_flight.take_if(|it| it.0.number == batch) {
            Some((batch, Some(true))) => {
                disk.told.commit(&batch, false)?;
                server.herd.disk_committed(batch.number);
            }
            Some((batch, Some(false))) => server.herd.disk_failed(batch.number),
            other => return Err(format!("server {number} hears of {batch}, and has {other:?}")),
        }
        self.settle(number)
    }

    pub fn disk_event(&mut self, number: usize, event: &DiskEvent) -> Result<(), Wrong> {
        let server = &mut self.servers[number];
        let Some(disk) = server.disk.as_mut().filter(|_| !server.is_down) else { return Ok(()) };
        match event {
            DiskEvent::Stall { until } => disk.stalled_until = *until,
            DiskEvent::Full { until } => disk.full_until = *until,
            DiskEvent::HangUp { client } => disk.clients.hang_up(*client, &mut server.herd),
            DiskEvent::Forget { id } => {
                let known = server.shadow.table.remove(id.as_bytes());
                if server.herd.forget(id.as_bytes()) != known.is_some() {
                    return Err(format!("server {number} forgets {id}, and it knew {known:?}"));
                }
                if let Some((fact, _)) = known {
                    disk.clients.forgotten(id.as_bytes(), fact);
                }
            }
        }
        self.settle(number)
    }

    /// A server dies, or its machine does: what was answered is still on the disk.
    pub fn disk_crashes(&mut self, number: usize) -> Result<(), Wrong> {
        let Server { disk: Some(disk), shadow, .. } = &mut self.servers[number] else {
            return Ok(());
        };
        match disk.random.below(3) {
            0 => {}
            1 => {
                if let Some((batch, None)) = &disk.in_flight {
                    disk.written.commit(batch, true)?;
                }
            }
            _ => disk.written = disk.synced.clone(),
        }
        disk.sync();
        (disk.told, disk.in_flight, disk.last_number) = (disk.synced.clone(), None, 0);
        let left = &disk.synced;
        disk.clients.crash(left, shadow).map_err(|wrong| format!("server {number}: {wrong}"))
    }

    /// A server has what its disk has, and its disk reads the feed from now on.
    pub fn disk_restarts(&mut self, number: usize) -> Result<(), Wrong> {
        let Server { disk, shadow, herd, .. } = &mut self.servers[number];
        shadow.bound = herd.table().bound();
        let Some(disk) = disk else { return Ok(()) };
        disk.synced.restore(herd, shadow)?;
        herd.attach_disk(herd_mio::herd::AnswerAfter { disk: disk.is_answering(), engine: false });
        herd.limit_disk_batches(self.schedule.disks.batch);
        Ok(())
    }

    /// Once all faults are over: each disk has what its server has and no more, and a server that starts from it is its
    /// equal; no answer is owed.
    pub fn judge_disks(&self) -> Result<(), Wrong> {
        for (number, server) in self.servers.iter().enumerate() {
            let Some(disk) = &server.disk else { continue };
            if !server.herd.is_on_disk() || server.herd.disk_uncommitted() != 0 {
                return Err(format!("server {number} ends with changes that are not on its disk"));
            }
            disk.clients.judge().map_err(|wrong| format!("server {number} ends: {wrong}"))?;
            let entries = server.herd.table().iter();
            let held = entries.map(|it| (it.update.id().to_vec(), it.update.line()));
            let held: BTreeMap<_, _> = held.collect();
            let mut on_disk = disk.written.above_floor();
            let all = on_disk.len();
            // Of a client whose newest update the floor has passed, an older one may be above the floor: that was the case if
            // it was sent later. To the server it is like what a neighbour still has.
            on_disk.retain(|id, line| {
                let is_older = |it: Fact| server.shadow.dropped.get(id).is_some_and(|to| *to >= it);
                held.contains_key(id) || !fact(line).is_ok_and(is_older)
            });
            if held != on_disk || server.herd.table().floor() != disk.written.floor.as_ref() {
                return Err(format!(
                    "server {number} ends with {held:?} above {:?}, and its disk with {on_disk:?} above {:?}",
                    server.herd.table().floor(),
                    disk.written.floor
                ));
            }
            if on_disk.len() < all {
                continue;
            }
            let mut next = self.herd(number, server.run, &server.neighbours);
            disk.written.restore(&mut next, &mut Shadow { bound: usize::MAX, ..self.shadow() })?;
            let known = |herd: &Herd| contents(herd.table().iter().map(|entry| entry.update.get()));
            if known(&next) != known(&server.herd) {
                return Err(format!("server {number} is another one after a restart"));
            }
        }
        Ok(())
    }
}
