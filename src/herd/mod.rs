//! The herd: what one server knows, and how it synchronises with its neighbours
//! (sections 4 and 5).
//!
//! Never here: a socket, a clock, a thread, a file, a log record. Lines come in with the time as
//! an argument; lines go out into a buffer that the caller lends. [`Herd::poll_output`] returns
//! what else the caller must do, [`Herd::poll_timeout`] when it must call again. Events that matter
//! to an operator go to an [`Observer`] as they happen. So all of it runs in a simulator, with as
//! many servers as memory holds.
//!
//! ```text
//!   IAMAT ----------> +-------+      +------+ --cursor--> link ----UPDATELOC, MARK---> neighbour
//!                     | table | ---> | feed | --cursor--> link ----UPDATELOC, MARK---> neighbour
//!   UPDATELOC, -----> +-------+      +------+
//!   from inbound       newest wins    the changes, in order
//!   neighbours
//! ```

mod batch;
mod changes;
mod disk;
mod durable;
pub mod engine;
mod entry;
mod event;
mod feed;
mod floor;
mod heartbeat;
mod held;
mod kept;
mod link;
mod namesakes;
mod peer;
mod random;
mod recent;
mod status;
mod table;

use std::collections::VecDeque;
use std::time::Duration;

pub use disk::DiskBatch;
pub use entry::{Entry, Source};
pub use event::{Event, Observer};
pub use feed::{Feed, Record};
pub use floor::Floor;
pub use held::HeldAnswers;
pub use kept::{AnswerAfter, Awaited, Holder, InBucket};
pub use link::HELLO_RECEIVED;
pub use peer::{Differing, Peer, SessionId};
pub use random::Random;
pub use status::{InboundStatus, LinkStatus};
pub use table::{Applied, Table};

use crate::clock::Now;
use crate::protocol::{
    Common, Dialect, Epoch, FromAcceptor, Iamat, RequestError, Seq, UpdateRef, write_hello,
};
use durable::Durable;
use heartbeat::Heartbeat;
use link::{Link, LinkAction};
use peer::InboundPeer;

/// A neighbour of this server: its index in [`Settings::neighbours`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourId(pub u16);

/// The settings of one server. Its heartbeat and its neighbours can change while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    /// Empty for one that was removed.
    pub neighbours: Vec<String>,
    pub dialect: Dialect,
    /// The maximal number of clients in the table.
    pub max_clients: usize,
    /// How far a timestamp may lie ahead of the clock.
    pub max_future: Duration,
    pub heartbeat: Duration,
    /// Whether a new link starts with the full state; else it carries only later updates.
    pub refill: bool,
    /// Identifies this run of the server (its incarnation): random, not 0.
    pub epoch: Epoch,
    /// The key of the table's hash, and the seed of the jitter: random, too, and secret.
    pub seed: u128,
}

impl Settings {
    /// The settings that must be equal throughout the herd.
    pub fn common(&self) -> Common<'static> {
        Common {
            dialect: self.dialect.name().as_bytes(),
            max_clients: self.max_clients as u64,
            max_future: u64::try_from(self.max_future.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What the caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to a neighbour, and report the result by [`Herd::link_connected`] or
    /// [`Herd::link_closed`].
    Dial(NeighbourId),
    /// Close the link to a neighbour; [`Herd::link_closed`] need not be called.
    CloseLink(NeighbourId),
    /// Close the inbound connection of a neighbour.
    ClosePeer(NeighbourId),
    /// This holder may have answers that are due ([`HeldAnswers::take_due`]).
    AnswersDue(Holder),
    /// The engine's answer to this holder's question is there ([`Herd::take_engine_answer`]).
    EngineAnswered(Holder),
    /// Close the connection to the engine and connect again; [`Herd::engine_closed`] need not be called.
    CloseEngine(&'static str),
}

/// How the caller goes on after a neighbour's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The line was handled; the next one may come.
    Continue,
    /// Close the connection once the appended output is sent.
    Close,
}

/// One server's part in the herd.
#[derive(Clone, Debug)]
pub struct Herd {
    settings: Settings,
    heartbeat: Heartbeat,
    table: Table,
    links: Vec<Link>,
    inbound: Vec<InboundPeer>,
    /// The state of the initial synchronisation with each neighbour; none once [`Event::InSync`] was
    /// reported.
    sync: Option<Vec<SyncState>>,
    /// When a peer last sent HELLO with this server's own name.
    namesake_at: Option<Duration>,
    outputs: VecDeque<Output>,
    random: Random,
    durable: Durable,
}

/// Whether a neighbour has sent the state that it had when we started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyncState {
    /// It may be reachable, and has not sent all yet.
    Pending,
    /// It cannot be reached.
    Unreachable,
    /// It has sent all that it had.
    Synced,
}

impl Herd {
    /// A server that knows nothing yet. It dials its neighbours at once, without a pause.
    pub fn new(settings: Settings, now: Now) -> Herd {
        let count = settings.neighbours.len();
        let id = |index: usize| NeighbourId(index as u16);
        let table = Table::new(settings.max_clients, settings.seed);
        Herd {
            random: Random(table.unpredictable(b"jitter")),
            table,
            links: (0..count).map(|index| Link::new(id(index), now.elapsed)).collect(),
            inbound: (0..count).map(|_| InboundPeer::new()).collect(),
            sync: Some(vec![SyncState::Pending; count]),
            namesake_at: None,
            outputs: VecDeque::new(),
            heartbeat: Heartbeat::new(settings.heartbeat),
            settings,
            durable: Durable::default(),
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its table of clients.
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
        observer: &mut dyn Observer,
    ) -> Result<(), RequestError> {
        self.handle_iamat_if(iamat, now, out, observer, || true).map(drop)
    }

    /// The same, if the update's client is known or `may_add` returns true. Otherwise the result is
    /// false, and nothing has changed.
    pub fn handle_iamat_if(
        &mut self,
        iamat: &Iamat<'_>,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
        may_add: impl FnOnce() -> bool,
    ) -> Result<bool, RequestError> {
        let latest = now.wall.0.saturating_add(self.settings.max_future.as_nanos() as i128);
        if iamat.timestamp.nanos > latest {
            return Err(RequestError::Future);
        }
        let Herd { settings, table, links, .. } = self;
        let update = UpdateRef {
            id: iamat.id,
            location: iamat.location,
            timestamp: iamat.timestamp,
            server: settings.name.as_bytes(),
            skew: now.wall.skew(&iamat.timestamp),
        };
        let before = out.len();
        update.write_at(settings.dialect, out);
        let Some(applied) = table.apply_if(&update, None, may_add) else {
            out.truncate(before);
            return Ok(false);
        };
        report(links, &update, None, applied, observer);
        Ok(true)
    }

    /// Records the synchronisation state of a neighbour. One that is in sync stays so.
    fn set_sync_state(
        &mut self,
        neighbour: NeighbourId,
        state: SyncState,
        observer: &mut dyn Observer,
    ) {
        if let Some(states) = &mut self.sync {
            let known = &mut states[usize::from(neighbour.0)];
            if *known != SyncState::Synced {
                *known = state;
            }
        }
        self.check_in_sync(observer);
    }

    /// Reports, once, that no neighbour's state is missing any more.
    fn check_in_sync(&mut self, observer: &mut dyn Observer) {
        let is_pending = |states: &Vec<SyncState>| states.contains(&SyncState::Pending);
        if self.sync.as_ref().is_some_and(|states| !is_pending(states)) {
            self.sync = None;
            observer.record(Event::InSync);
        }
    }

    /// The link's connection is open: appends the HELLO.
    pub fn link_connected(&mut self, neighbour: NeighbourId, now: Now, out: &mut Vec<u8>) {
        let timeout = 3 * self.settings.heartbeat;
        self.link(neighbour).connected(timeout, now.elapsed);
        write_hello(self.settings.name.as_bytes(), self.settings.epoch, out);
    }

    /// The link's connection is closed, or could not be made.
    pub fn link_closed(&mut self, neighbour: NeighbourId, now: Now, observer: &mut dyn Observer) {
        if self.link(neighbour).is_removed() {
            return;
        }
        let jitter = self.random.part();
        self.link(neighbour).closed(jitter, now.elapsed);
        // A neighbour that we cannot reach may be connected to us, and still have updates for us.
        if !self.inbound[usize::from(neighbour.0)].is_connected() {
            self.set_sync_state(neighbour, SyncState::Unreachable, observer);
        }
    }

    /// The link's connection could not be made, or ended before RESUME came, and the caller tries another
    /// address of the neighbour at once, without a pause.
    pub fn link_tries_again(&mut self, neighbour: NeighbourId, now: Now) {
        let timeout = 3 * self.settings.heartbeat;
        self.link(neighbour).dial(timeout, now.elapsed);
    }

    /// Handles a line that a neighbour answered on our link to it.
    pub fn handle_answer(
        &mut self,
        neighbour: NeighbourId,
        line: &[u8],
        now: Now,
        observer: &mut dyn Observer,
    ) -> Outcome {
        let greeting = self.link(neighbour).is_greeting();
        match FromAcceptor::parse(line) {
            Ok(FromAcceptor::Resume { name, .. })
                if greeting && name != self.name(neighbour).as_bytes() =>
            {
                observer.record(Event::WrongName { neighbour, answered: name });
                Outcome::Close
            }
            Ok(FromAcceptor::Resume { mark, epoch, .. }) if greeting => {
                let cursor = self.resume_from(mark);
                self.link(neighbour).resume(cursor, epoch, now.elapsed);
                let behind = self.table.end().0 - cursor.0;
                observer.record(Event::LinkUp { neighbour, from: cursor, behind });
                self.set_sync_state(neighbour, SyncState::Pending, observer);
                Outcome::Continue
            }
            Ok(FromAcceptor::Ack(seq)) if !greeting => {
                self.link(neighbour).ack(seq, now.elapsed);
                Outcome::Continue
            }
            _ => {
                observer.record(Event::AnswerRejected { neighbour, line });
                Outcome::Close
            }
        }
    }

    /// Where a neighbour's updates start: after its mark, if that is of our feed and not past its end.
    fn resume_from(&self, mark: Option<(Epoch, Seq)>) -> Seq {
        let end = self.table.end();
        match mark {
            _ if !self.settings.refill => end,
            Some((epoch, seq)) if epoch == self.settings.epoch && seq <= end => seq,
            _ => Seq(0),
        }
    }

    /// Appends to `out` what a neighbour has not been sent yet, until `out` holds `full` bytes.
    pub fn poll_link(
        &mut self,
        neighbour: NeighbourId,
        full: usize,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        let link = &mut self.links[usize::from(neighbour.0)];
        link.poll_settings(&self.settings, full, out, observer);
        link.poll_output(&self.table, full, now, out, &mut link::AsLine, observer);
    }

    /// Whether [`Herd::poll_link`] would append something, given room.
    pub fn link_has_pending(&self, neighbour: NeighbourId) -> bool {
        self.links[usize::from(neighbour.0)].has_pending(self.table.end())
    }

    /// Whether a connection to a neighbour was requested and is not open yet.
    pub fn link_is_dialling(&self, neighbour: NeighbourId) -> bool {
        self.links[usize::from(neighbour.0)].is_dialling()
    }

    /// Whether a connection to a neighbour was requested and is not usable yet: no RESUME has come.
    pub fn link_is_being_made(&self, neighbour: NeighbourId) -> bool {
        let link = &self.links[usize::from(neighbour.0)];
        link.is_dialling() || link.is_greeting()
    }

    /// Whether the link to a neighbour is up: it is sent every change.
    pub fn link_is_up(&self, neighbour: NeighbourId) -> bool {
        self.links[usize::from(neighbour.0)].is_up()
    }

    /// Whether a neighbour has sent HELLO on a connection that is open.
    pub fn peer_is_connected(&self, neighbour: NeighbourId) -> bool {
        self.inbound[usize::from(neighbour.0)].is_connected()
    }

    /// Whether each neighbour that could be reached has sent its full state since the start.
    pub fn is_in_sync(&self) -> bool {
        self.sync.is_none()
    }

    /// Whether every neighbour whose link is up has acknowledged all that is known here.
    pub fn is_settled(&self) -> bool {
        self.links.iter().all(|link| link.is_settled(self.table.end()))
    }

    /// What the caller must do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Herd::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let links = self.links.iter().filter_map(|link| link.poll_timeout(&self.heartbeat));
        let silence = || self.heartbeat.silence();
        let peers = self.inbound.iter().filter_map(|peer| peer.times_out_at(silence()));
        // Without neighbours the server is in sync, and no other event would report it.
        let in_sync = (self.sync.is_some() && self.links.is_empty()).then_some(Duration::ZERO);
        links.chain(peers).chain(in_sync).chain(self.heartbeat.settles_at()).min()
    }

    /// Performs the actions that are due.
    pub fn handle_timeout(&mut self, now: Now, observer: &mut dyn Observer) {
        self.heartbeat.settle(now.elapsed);
        self.check_in_sync(observer);
        for index in 0..self.links.len() {
            let neighbour = NeighbourId(index as u16);
            match self.links[index].handle_timeout(&self.heartbeat, now.elapsed) {
                LinkAction::Nothing => {}
                LinkAction::Dial => self.dial(neighbour, now),
                LinkAction::Close(reason) => self.close_link(neighbour, reason, now, observer),
            }
            let inbound = &mut self.inbound[index];
            if inbound.times_out_at(self.heartbeat.silence()).is_some_and(|at| at <= now.elapsed) {
                observer.record(Event::PeerTimedOut { neighbour });
                inbound.disconnect();
                self.outputs.push_back(Output::ClosePeer(neighbour));
            }
        }
    }

    /// A neighbour has sent us HELLO: it is reachable, so our link to it need not wait.
    fn hello_received(
        &mut self,
        neighbour: NeighbourId,
        epoch: Epoch,
        now: Now,
        observer: &mut dyn Observer,
    ) {
        if let LinkAction::Close(reason) = self.link(neighbour).hello_received(epoch, now.elapsed) {
            self.close_link(neighbour, reason, now, observer);
        }
        // Now, not when timers run: its next line may be handled before that.
        if self.link(neighbour).is_due_to_dial(now.elapsed) {
            self.dial(neighbour, now);
        }
    }

    fn dial(&mut self, neighbour: NeighbourId, now: Now) {
        let timeout = 3 * self.settings.heartbeat;
        self.link(neighbour).dial(timeout, now.elapsed);
        self.outputs.push_back(Output::Dial(neighbour));
    }

    fn close_link(
        &mut self,
        neighbour: NeighbourId,
        reason: &'static str,
        now: Now,
        observer: &mut dyn Observer,
    ) {
        observer.record(Event::LinkDown { neighbour, reason });
        self.link(neighbour).down_reason = Some(reason);
        self.outputs.push_back(Output::CloseLink(neighbour));
        self.link_closed(neighbour, now, observer);
    }

    fn link(&mut self, neighbour: NeighbourId) -> &mut Link {
        &mut self.links[usize::from(neighbour.0)]
    }
}

/// Reports what became of an update. If it is stored, the links find it in the feed.
fn report(
    links: &[Link],
    update: &UpdateRef<'_>,
    from: Option<Source>,
    applied: Applied,
    observer: &mut dyn Observer,
) {
    let sender = from.map(|from| from.neighbour);
    observer.record(Event::Applied { update, from: sender, applied });
    if matches!(applied, Applied::Stored(_)) {
        report_to_links(links, update, from, observer);
    }
}

/// Reports the links that are down and can't take an update.
fn report_to_links(
    links: &[Link],
    update: &UpdateRef<'_>,
    from: Option<Source>,
    observer: &mut dyn Observer,
) {
    for (index, link) in links.iter().enumerate() {
        let neighbour = NeighbourId(index as u16);
        let sent_it = from.is_some_and(|from| from.neighbour == neighbour);
        if !link.is_up() && !sent_it && !link.is_removed() {
            observer.record(Event::CannotSend { update, neighbour });
        }
    }
}
