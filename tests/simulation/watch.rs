//! What must hold of links in time: when they are dialled, that a HELLO ends their pause, that nobody who
//! says nothing stays connected; and others who say HELLO by a server's name.

use herd_mio::herd::{NeighbourId, Outcome, Peer};

use crate::world::{Due, Server, World, Wrong};

/// What one run of a server does about one neighbour.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Dials since the neighbour was last reached, and how many before had the pauses grow.
    dials: Vec<u64>,
    grown: u32,
    /// When the link last came up, and whether it was acknowledged since.
    up_at: u64,
    is_acked: bool,
    acked_at: u64,
    /// Since when a MARK has waited with no ACK at all.
    owed_since: Option<u64>,
    /// Since when a HELLO should have ended the pause.
    called_at: Option<u64>,
    /// Whether a HELLO came since the last dial; and the last dial before which one did.
    was_called: bool,
    called_dial: Option<u64>,
    /// HELLOs: when, and of which run.
    hellos: Vec<(u64, u64)>,
    /// When a run said HELLO again after another one had.
    returns: Vec<u64>,
}

impl Watch {
    /// The neighbour is dialled, by a server that stood still until `paused`.
    pub fn dialled(&mut self, now: u64, paused: u64) -> Result<(), Wrong> {
        if self.is_acked && now >= self.up_at + 10_000 {
            self.grown = 0;
        }
        // A HELLO ends the pause, unless the last one did so for nothing, or just now.
        let allowed = self.called_dial.map_or(0, |at| match self.is_acked {
            true => self.up_at + 100,
            false => at + 5_000,
        });
        if let Some(called) = self.called_at.take() {
            let due = called.max(allowed).max(paused);
            if now > due + 2 {
                return Err(format!("dials {} ms after a HELLO", now - due));
            }
        }
        if std::mem::take(&mut self.was_called) {
            self.called_dial = Some(now);
        }
        (self.is_acked, self.grown) = (false, self.grown + 1);
        self.dials.push(now);
        // Of two dials one may follow at once; three that fail take the first one's pause at least.
        if let [.., first, _, third] = self.dials[..] {
            let pause = (50 << (self.grown - 3).min(10)).min(2_500);
            if third < first + pause {
                return Err(format!("dials thrice within {} ms, {pause} is least", third - first));
            }
        }
        Ok(())
    }

    /// The link is up.
    pub fn resumed(&mut self, now: u64) {
        (self.up_at, self.owed_since) = (now, None);
    }

    /// A MARK went out.
    pub fn marked(&mut self, now: u64) {
        self.owed_since.get_or_insert(now);
    }

    /// The link is lost, for a reason that must be true.
    pub fn links_lost(&self, now: u64, timeout: u64, reason: &str) -> Result<(), Wrong> {
        let at = self.acked_at.max(self.up_at);
        let is_true = !reason.contains("acknowledged nothing") || now >= at + timeout;
        if is_true { Ok(()) } else { Err(format!("closes a link: {reason}, but at {at} ms")) }
    }

    pub fn acknowledged(&mut self, now: u64) {
        (self.is_acked, self.acked_at, self.owed_since) = (true, now, None);
        self.dials.clear();
    }

    /// A HELLO was accepted; the link may be waiting.
    fn hello(&mut self, epoch: u64, now: u64, is_waiting: bool) {
        self.was_called = true;
        if is_waiting {
            self.called_at.get_or_insert(now);
        }
        let is_another = self.hellos.last().is_some_and(|(_, last)| *last != epoch);
        let since = self.hellos.iter().rev().take_while(|(_, other)| *other != epoch);
        let others: std::collections::BTreeSet<u64> = since.map(|(_, other)| *other).collect();
        let is_known = self.hellos.iter().any(|(_, other)| *other == epoch);
        if is_another && is_known && others.len() < 4 {
            self.returns.push(now);
        }
        self.hellos.push((now, epoch));
    }

    /// Whether two servers of one name should have been noticed: three returns, none long after another.
    fn has_namesakes(&self, now: u64) -> bool {
        let [.., first, second, third] = self.returns[..] else { return false };
        third < second + 30_000 && second < first + 30_000 && now < third + 30_000
    }
}

impl World<'_> {
    /// A server has accepted the HELLO of a neighbour, or of who calls itself so: the former connection is
    /// closed, and our link to it need not wait.
    pub fn received_hello(
        &mut self,
        server: usize,
        from: usize,
        epoch: u64,
        wire: Option<u64>,
    ) -> Result<(), Wrong> {
        for former in self.network.identified(from, server) {
            if Some(former) != wire {
                if let Some(wire) = self.network.wires.get_mut(&former) {
                    wire.is_replaced = true;
                }
                let at = self.now + self.random.below(20) as u64;
                self.plan(at, Due::Replaced { wire: former });
            }
        }
        let neighbour = self.neighbour(server, from);
        let herd = &self.servers[server].herd;
        let is_waiting = !herd.link_is_dialling(neighbour)
            && !herd.link_is_up(neighbour)
            && !self.network.is_dialled(server, from);
        let (now, moment) = (self.now, self.moment(server));
        let Some(watch) = self.servers[server].watch.get_mut(usize::from(neighbour.0)) else {
            return Err("it knows itself not".to_owned());
        };
        watch.hello(epoch, now, is_waiting);
        let (is_noticed, is_so) = (
            self.servers[server].herd.has_namesakes(neighbour, moment),
            self.servers[server].watch[usize::from(neighbour.0)].has_namesakes(now),
        );
        if is_noticed != is_so || is_so && !self.schedule.has_pretenders() {
            return Err(format!(
                "server {server} takes S{from} for two: {is_noticed}, and {is_so}"
            ));
        }
        Ok(())
    }

    /// An impostor says HELLO with a neighbour's name, in an epoch of its own, and leaves or stays silent.
    pub fn pretend(
        &mut self,
        server: usize,
        name: usize,
        epoch: u64,
        leaves: bool,
    ) -> Result<(), Wrong> {
        if self.servers[server].is_down {
            return Ok(());
        }
        let mut inbound = Peer::Unidentified;
        let hello = format!("HELLO herd/1 S{name} {epoch:016x}");
        let (outcome, answer) = self.say(server, &mut inbound, &hello);
        if outcome != Outcome::Continue || !answer.starts_with(b"RESUME 0 0 ") {
            return Err(format!("{hello} is answered {}", answer.escape_ascii()));
        }
        self.received_hello(server, name, epoch, None)?;
        if leaves {
            self.servers[server].herd.peer_closed(inbound);
        } else {
            let (run, late) =
                (self.servers[server].run, self.now + 3 * self.schedule.heartbeat + 2);
            self.plan(late, Due::Late { server, run, inbound: Late(inbound) });
        }
        self.settle(server)
    }

    /// A peer that was silent for three heartbeats was disconnected, and nothing of it is handled any more.
    pub fn late(&mut self, server: usize, run: u64, mut inbound: Peer) -> Result<(), Wrong> {
        let Server { run: present, is_down, paused_until, .. } = self.servers[server];
        // A server that stood still first handles what has arrived in that time, and that is no silence.
        if is_down || present != run || paused_until + 2 >= self.now {
            return Ok(());
        }
        match self.say(server, &mut inbound, "MARK 7") {
            (Outcome::Close, answer) if answer.is_empty() => self.settle(server),
            other => Err(format!(
                "server {server} still handles lines of a peer that was silent: {other:?}"
            )),
        }
    }

    fn say(&mut self, number: usize, inbound: &mut Peer, line: &str) -> (Outcome, Vec<u8>) {
        let moment = self.moment(number);
        let server = &mut self.servers[number];
        let mut answer = Vec::new();
        let (line, shadow) = (line.as_bytes(), &mut server.shadow);
        let outcome =
            server.herd.handle_peer_line(inbound, line, &|_| true, moment, &mut answer, shadow);
        (outcome, answer)
    }

    /// Whether all is well in time with a server whose timers have run.
    pub fn check_timers(&self, number: usize) -> Result<(), Wrong> {
        let server = &self.servers[number];
        let timeout = 3 * self.schedule.heartbeat + 2;
        for (place, &other) in server.neighbours.iter().enumerate() {
            let is_up = server.herd.link_is_up(NeighbourId(place as u16));
            let owed = server.watch[place].owed_since.filter(|at| at + timeout < self.now);
            if let (true, Some(at)) = (is_up, owed) {
                return Err(format!("server {number} waits for an ACK of {other} since {at} ms"));
            }
            let silent =
                self.network.received_before(other, number, self.now.saturating_sub(timeout));
            if let Some(at) = silent {
                return Err(format!(
                    "server {number} has received nothing of {other} since {at} ms"
                ));
            }
        }
        Ok(())
    }

    /// Nobody is missing when a server reports that it is in sync: each neighbour that is linked has marked.
    pub fn check_in_sync(&mut self, number: usize) -> Result<(), Wrong> {
        let server = &mut self.servers[number];
        if !server.shadow.is_in_sync || std::mem::replace(&mut server.was_in_sync, true) {
            return Ok(());
        }
        for place in 0..server.neighbours.len() as u16 {
            let is_linked = server.herd.link_is_up(NeighbourId(place));
            if is_linked && !server.shadow.marked.contains(&place) {
                let missing = server.neighbours[usize::from(place)];
                return Err(format!("server {number} is in sync without a mark of {missing}"));
            }
        }
        Ok(())
    }
}

/// A inbound that waits among the things that will happen. (It has no order; nothing depends on it.)
#[derive(Clone, Copy, Debug)]
pub struct Late(pub Peer);

impl PartialEq for Late {
    fn eq(&self, _: &Late) -> bool {
        true
    }
}

impl Eq for Late {}

impl PartialOrd for Late {
    fn partial_cmp(&self, other: &Late) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Late {
    fn cmp(&self, _: &Late) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl std::hash::Hash for Late {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}
