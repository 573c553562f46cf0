//! The herd: what one server knows, and how it and its neighbours come to know the same
//! (sections 4 and 5).
//!
//! Never here: a socket, a clock, a thread, a file, a log record. Lines come in with the time as
//! an argument; lines go out into a buffer that the caller lends, and what the caller must do
//! besides comes from [`Herd::poll_output`], by when from [`Herd::poll_timeout`]. What is worth
//! telling an operator goes to a [`Witness`] as it happens. So the whole of it runs in a
//! simulator, with as many servers as memory holds.
//!
//! ```text
//!   IAMAT ----------> +-------+      +------+ --cursor--> link ----UPDATELOC, MARK---> neighbour
//!                     | table | ---> | feed | --cursor--> link ----UPDATELOC, MARK---> neighbour
//!   UPDATELOC, -----> +-------+      +------+
//!   from introduced    newest wins    the changes, in order
//!   neighbours
//! ```

mod event;
mod feed;
mod introduced;
mod link;
mod namesakes;
mod table;

use std::collections::VecDeque;
use std::time::Duration;

pub use event::{Event, Witness};
pub use feed::{Feed, Record};
pub use introduced::{Caller, Differing, Visit};
pub use table::{Entry, Offer, Origin, Table};

use crate::clock::Now;
use crate::protocol::{
    Common, Dialect, Epoch, FromAcceptor, Iamat, Refused, Seq, UpdateRef, write_hello,
};
use introduced::Introduced;
use link::{Due, Link};

/// A neighbour of this server, by its place in [`Settings::neighbours`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourId(pub u16);

/// What a server of the herd is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    pub neighbours: Vec<String>,
    pub dialect: Dialect,
    /// Clients in the table at most.
    pub clients: usize,
    /// How far ahead of the clock a timestamp may lie.
    pub ahead: Duration,
    pub heartbeat: Duration,
    /// Whether a link starts with all that is known; else with what is new.
    pub refill: bool,
    /// This run's identity: random, not 0.
    pub epoch: Epoch,
    /// The key of the table's hash, and where jitter begins: random, too, and known to nobody.
    pub seed: u128,
}

impl Settings {
    /// What must be one for the whole herd.
    pub fn common(&self) -> Common<'static> {
        Common {
            dialect: self.dialect.name().as_bytes(),
            clients: self.clients as u64,
            ahead: u64::try_from(self.ahead.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What the outside must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to a neighbour, and say so with [`Herd::link_connected`] or [`Herd::link_closed`].
    Dial(NeighbourId),
    /// Close the link to a neighbour; [`Herd::link_closed`] need not be called.
    HangUp(NeighbourId),
    /// Close the connection by which a neighbour came.
    SendAway(NeighbourId),
}

/// What became of a neighbour's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was handled.
    Next,
    /// The connection is to be closed once what was appended is out.
    Close,
}

/// One server's part in the herd.
#[derive(Clone, Debug)]
pub struct Herd {
    settings: Settings,
    table: Table,
    links: Vec<Link>,
    introduced: Vec<Introduced>,
    /// How far each neighbour has filled us; none once that was said.
    filling: Option<Vec<Filling>>,
    /// When somebody last said HELLO by our own name.
    namesake_at: Option<Duration>,
    outputs: VecDeque<Output>,
    chance: u64,
}

/// Whether a neighbour has told all that it knew when we started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filling {
    /// It may be there.
    Expected,
    /// It can't be reached.
    Absent,
    /// It has sent its first MARK.
    Marked,
}

impl Herd {
    /// A server that knows nothing yet. It dials its neighbours at once.
    pub fn new(settings: Settings, now: Now) -> Herd {
        let count = settings.neighbours.len();
        let id = |index: usize| NeighbourId(index as u16);
        let table = Table::new(settings.clients, settings.seed);
        Herd {
            chance: table.unpredictable(b"jitter"),
            table,
            links: (0..count).map(|index| Link::new(id(index), now.elapsed)).collect(),
            introduced: (0..count).map(|_| Introduced::new()).collect(),
            filling: Some(vec![Filling::Expected; count]),
            namesake_at: None,
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// What it was told at its start.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it knows.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// A neighbour's name.
    pub fn name(&self, neighbour: NeighbourId) -> &str {
        &self.settings.neighbours[usize::from(neighbour.0)]
    }

    /// Handles a client's IAMAT and appends its answer, which is the same whether the update is
    /// stored or not (section 3).
    pub fn handle_iamat(
        &mut self,
        iamat: &Iamat<'_>,
        now: Now,
        out: &mut Vec<u8>,
        witness: &mut dyn Witness,
    ) -> Result<(), Refused> {
        let latest = now.wall.0.saturating_add(self.settings.ahead.as_nanos() as i128);
        if iamat.timestamp.nanos > latest {
            return Err(Refused::Future);
        }
        let name = std::mem::take(&mut self.settings.name);
        let update = UpdateRef {
            id: iamat.id,
            location: iamat.location.text,
            timestamp: iamat.timestamp,
            server: name.as_bytes(),
            skew: now.wall.skew(&iamat.timestamp),
        };
        update.write_at(self.settings.dialect, out);
        self.store(&update, None, witness);
        self.settings.name = name;
        Ok(())
    }

    /// Offers an update to the table and says what became of it. The links find it in the feed.
    fn store(&mut self, update: &UpdateRef<'_>, from: Option<Origin>, witness: &mut dyn Witness) {
        let offer = self.table.offer(update, from);
        witness.note(Event::Offered { update: *update, offer });
        if !matches!(offer, Offer::Stored(_)) {
            return;
        }
        for (index, link) in self.links.iter().enumerate() {
            let neighbour = NeighbourId(index as u16);
            let told_us = from.is_some_and(|from| from.neighbour == neighbour);
            if !link.is_up() && !told_us {
                witness.note(Event::CannotSend { update: *update, neighbour });
            }
        }
    }

    /// Notes what a neighbour may still have for us.
    fn note_filling(&mut self, neighbour: NeighbourId, news: Filling, witness: &mut dyn Witness) {
        if let Some(filling) = &mut self.filling {
            let known = &mut filling[usize::from(neighbour.0)];
            if *known != Filling::Marked {
                *known = news;
            }
        }
        self.check_filled(witness);
    }

    /// Says, once, that nothing is missing any more.
    fn check_filled(&mut self, witness: &mut dyn Witness) {
        let missing = |filling: &Vec<Filling>| filling.contains(&Filling::Expected);
        if self.filling.as_ref().is_some_and(|filling| !missing(filling)) {
            self.filling = None;
            witness.note(Event::Filled);
        }
    }

    /// The link's connection is made: appends the HELLO.
    pub fn link_connected(&mut self, neighbour: NeighbourId, now: Now, out: &mut Vec<u8>) {
        let patience = 3 * self.settings.heartbeat;
        self.link(neighbour).connected(patience, now.elapsed);
        write_hello(self.settings.name.as_bytes(), self.settings.epoch, out);
    }

    /// The link's connection is closed, or could not be made.
    pub fn link_closed(&mut self, neighbour: NeighbourId, now: Now, witness: &mut dyn Witness) {
        let jitter = self.chance();
        self.link(neighbour).closed(jitter, now.elapsed);
        // One that is connected here can't be reached by us, and may have something for us all the same.
        if !self.introduced[usize::from(neighbour.0)].is_connected() {
            self.note_filling(neighbour, Filling::Absent, witness);
        }
    }

    /// The link's connection could not be made, or ended before RESUME came, and the outside tries another
    /// address of the neighbour at once, without a pause.
    pub fn link_tries_again(&mut self, neighbour: NeighbourId, now: Now) {
        let patience = 3 * self.settings.heartbeat;
        self.link(neighbour).dial(patience, now.elapsed);
    }

    /// Handles a line that a neighbour answered on our link to it.
    pub fn handle_answer(
        &mut self,
        neighbour: NeighbourId,
        line: &[u8],
        now: Now,
        witness: &mut dyn Witness,
    ) -> Verdict {
        let greeting = self.link(neighbour).is_greeting();
        match FromAcceptor::parse(line) {
            Ok(FromAcceptor::Resume { name, .. })
                if greeting && name != self.name(neighbour).as_bytes() =>
            {
                witness.note(Event::WrongName { neighbour, answered: name });
                Verdict::Close
            }
            Ok(FromAcceptor::Resume { mark, epoch, .. }) if greeting => {
                let cursor = self.resume_from(mark);
                self.link(neighbour).resume(cursor, epoch, now.elapsed);
                let behind = self.table.end().0 - cursor.0;
                witness.note(Event::LinkUp { neighbour, from: cursor, behind });
                self.note_filling(neighbour, Filling::Expected, witness);
                Verdict::Next
            }
            Ok(FromAcceptor::Ack(seq)) if !greeting => {
                self.link(neighbour).ack(seq, now.elapsed);
                Verdict::Next
            }
            _ => {
                witness.note(Event::AnswerRefused { neighbour, line });
                Verdict::Close
            }
        }
    }

    /// From where a neighbour is told: from its mark, if that is of our feed and not past it.
    fn resume_from(&self, mark: Option<(Epoch, Seq)>) -> Seq {
        let end = self.table.end();
        match mark {
            _ if !self.settings.refill => end,
            Some((epoch, seq)) if epoch == self.settings.epoch && seq <= end => seq,
            _ => Seq(0),
        }
    }

    /// Appends to `out` what a neighbour has not been told yet, until it holds `full` bytes.
    pub fn poll_link(
        &mut self,
        neighbour: NeighbourId,
        full: usize,
        now: Now,
        out: &mut Vec<u8>,
        witness: &mut dyn Witness,
    ) {
        let link = &mut self.links[usize::from(neighbour.0)];
        link.poll_settings(&self.settings, full, out, witness);
        link.poll_output(&self.table, full, now, out, witness);
    }

    /// Whether [`Herd::poll_link`] would append something, given room.
    pub fn link_lags(&self, neighbour: NeighbourId) -> bool {
        self.links[usize::from(neighbour.0)].lags(self.table.end())
    }

    /// Whether a connection to a neighbour has been asked for and is not there yet.
    pub fn link_is_dialling(&self, neighbour: NeighbourId) -> bool {
        self.links[usize::from(neighbour.0)].is_dialling()
    }

    /// Whether a connection to a neighbour has been asked for and is of no use yet: no RESUME has come.
    pub fn link_is_being_made(&self, neighbour: NeighbourId) -> bool {
        let link = &self.links[usize::from(neighbour.0)];
        link.is_dialling() || link.is_greeting()
    }

    /// Whether a neighbour is told what changes.
    pub fn link_is_up(&self, neighbour: NeighbourId) -> bool {
        self.links[usize::from(neighbour.0)].is_up()
    }

    /// Whether every neighbour that is there has all that is known here, and has said so.
    pub fn is_settled(&self) -> bool {
        self.links.iter().all(|link| link.is_settled(self.table.end()))
    }

    /// What the outside must do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Herd::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let heartbeat = self.settings.heartbeat;
        let links = self.links.iter().map(|link| link.poll_timeout(heartbeat));
        let callers = self.introduced.iter().filter_map(|one| one.silent_at(3 * heartbeat));
        // Without neighbours nothing is missing, and nothing else would say so.
        let filled = (self.filling.is_some() && self.links.is_empty()).then_some(Duration::ZERO);
        links.chain(callers).chain(filled).min()
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Now, witness: &mut dyn Witness) {
        let heartbeat = self.settings.heartbeat;
        self.check_filled(witness);
        for index in 0..self.links.len() {
            let neighbour = NeighbourId(index as u16);
            match self.links[index].handle_timeout(heartbeat, now.elapsed) {
                Due::Nothing => {}
                Due::Dial => self.dial(neighbour, now),
                Due::HangUp(reason) => self.give_up(neighbour, reason, now, witness),
            }
            let introduced = &mut self.introduced[index];
            if introduced.silent_at(3 * heartbeat).is_some_and(|at| at <= now.elapsed) {
                witness.note(Event::Silent { neighbour });
                introduced.send_away();
                self.outputs.push_back(Output::SendAway(neighbour));
            }
        }
    }

    /// A neighbour has said HELLO to us: it is there, so our link to it need not wait.
    fn neighbour_called(
        &mut self,
        neighbour: NeighbourId,
        epoch: Epoch,
        now: Now,
        witness: &mut dyn Witness,
    ) {
        if let Due::HangUp(reason) = self.link(neighbour).called(epoch, now.elapsed) {
            self.give_up(neighbour, reason, now, witness);
        }
        // Now, not when timers run: its next line may be handled before that.
        if self.link(neighbour).is_due_to_dial(now.elapsed) {
            self.dial(neighbour, now);
        }
    }

    fn dial(&mut self, neighbour: NeighbourId, now: Now) {
        let patience = 3 * self.settings.heartbeat;
        self.link(neighbour).dial(patience, now.elapsed);
        self.outputs.push_back(Output::Dial(neighbour));
    }

    fn give_up(
        &mut self,
        neighbour: NeighbourId,
        reason: &'static str,
        now: Now,
        witness: &mut dyn Witness,
    ) {
        witness.note(Event::HungUp { neighbour, reason });
        self.outputs.push_back(Output::HangUp(neighbour));
        self.link_closed(neighbour, now, witness);
    }

    fn link(&mut self, neighbour: NeighbourId) -> &mut Link {
        &mut self.links[usize::from(neighbour.0)]
    }

    /// A number between 0 and 1, the next of the series that the seed gives (splitmix64).
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}
