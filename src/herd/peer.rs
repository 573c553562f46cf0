//! The accepting side of a link: what a neighbour sends us (section 4).
//!
//! One per configured neighbour, whether it is connected or not, because the mark outlives the
//! connection. A connection carries a [`SessionId`]; a later HELLO makes a new one, and from then on
//! no more lines of the older connection are handled.

use std::time::Duration;

use super::namesakes::Namesakes;
use super::status::InboundStatus;
use super::{Event, Herd, NeighbourId, Observer, Outcome, Source, SyncState, report};
use crate::clock::Now;
use crate::limits::{MARK_BYTES, MARK_UPDATES};
use crate::protocol::{
    Common, Epoch, FromDialler, LineText, PeerError, Seq, UpdateError, UpdateRef,
};
use crate::protocol::{Written, write_ack, write_refusal, write_resume};

/// Identifies one of a neighbour's successive connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(u64);

/// The other side of a connection on the neighbours' port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Not identified yet: the first line must be a HELLO.
    Unidentified,
    /// Not identified yet; on this connection only that neighbour is possible, whatever name its
    /// HELLO has.
    Expected(NeighbourId),
    /// A neighbour.
    Identified { neighbour: NeighbourId, session: SessionId },
}

/// The state of a neighbour's inbound side.
#[derive(Clone, Debug)]
pub struct InboundPeer {
    /// The run that its latest HELLO named.
    epoch: Option<Epoch>,
    /// The last MARK of that run.
    mark: Option<Seq>,
    session: SessionId,
    presence: Option<Presence>,
    namesakes: Namesakes,
    /// The settings of its latest run that differ from ours.
    differing: Option<Differing>,
}

/// The neighbour's values of the settings that differ from ours; none where they are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differing {
    pub dialect: Option<String>,
    pub max_clients: Option<u64>,
    /// In whole milliseconds.
    pub max_future: Option<u64>,
}

/// A neighbour that is connected.
#[derive(Clone, Debug)]
struct Presence {
    last_received: Duration,
    /// Whether no line has followed its HELLO yet.
    is_new: bool,
    /// Since the last MARK.
    updates: usize,
    bytes: usize,
    /// Updates since the HELLO, while it sends what we missed.
    catching_up: Option<usize>,
}

impl Differing {
    fn between(theirs: &Common<'_>, ours: &Common<'_>) -> Differing {
        let dialect = String::from_utf8_lossy(theirs.dialect).into_owned();
        Differing {
            dialect: (theirs.dialect != ours.dialect).then_some(dialect),
            max_clients: (theirs.max_clients != ours.max_clients).then_some(theirs.max_clients),
            max_future: (theirs.max_future != ours.max_future).then_some(theirs.max_future),
        }
    }
}

impl InboundPeer {
    pub(super) fn new() -> InboundPeer {
        InboundPeer {
            epoch: None,
            mark: None,
            session: SessionId(0),
            presence: None,
            namesakes: Namesakes::default(),
            differing: None,
        }
    }

    /// Its id is another neighbour's from now on. Sessions are still counted on, so that no connection of the
    /// former one is taken for one of the new.
    pub(super) fn forget(&mut self) {
        *self = InboundPeer { session: self.session, ..InboundPeer::new() };
    }

    /// Handles its HELLO. Returns the mark to resume from, and the new session.
    pub(super) fn hello(
        &mut self,
        epoch: Epoch,
        now: Duration,
    ) -> (Option<(Epoch, Seq)>, SessionId) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.mark = None;
            self.differing = None;
        }
        self.namesakes.hello(epoch, now);
        self.session.0 += 1;
        let presence = Presence {
            last_received: now,
            is_new: true,
            updates: 0,
            bytes: 0,
            catching_up: Some(0),
        };
        self.presence = Some(presence);
        (self.mark.map(|mark| (epoch, mark)), self.session)
    }

    /// Whether `session` is the latest one and still open.
    pub(super) fn is_present(&self, session: SessionId) -> bool {
        self.presence.is_some() && self.session == session
    }

    /// What is known of it, for an operator.
    pub(super) fn status(&self) -> InboundStatus {
        InboundStatus {
            is_up: self.presence.is_some(),
            last_received: self.presence.as_ref().map(|presence| presence.last_received),
            epoch: self.epoch,
            mark: self.mark,
        }
    }

    /// Whether it has an inbound connection.
    pub(super) fn is_connected(&self) -> bool {
        self.presence.is_some()
    }

    /// Whether no line has followed its HELLO yet.
    fn is_new(&self) -> bool {
        self.presence.as_ref().is_some_and(|presence| presence.is_new)
    }

    /// The epoch of its latest HELLO.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Whether it sends what we missed: those lines are not worth a log record each.
    pub(super) fn is_catching_up(&self) -> bool {
        self.presence.as_ref().is_some_and(|presence| presence.catching_up.is_some())
    }

    /// Records what was received: a line, or so many updates as values, whose lines would have so many bytes, LFs included.
    pub(super) fn received(&mut self, updates: usize, bytes: usize, now: Duration) {
        if let Some(presence) = &mut self.presence {
            presence.last_received = now;
            presence.is_new = false;
            presence.bytes += bytes;
            presence.updates += updates;
            if let Some(caught_up) = &mut presence.catching_up {
                *caught_up += updates;
            }
        }
    }

    /// Handles its MARK. If this MARK ends the catch-up, returns how many updates that took: during a
    /// catch-up a MARK comes when a batch is full, so one that comes earlier is the last.
    pub(super) fn mark(&mut self, seq: Seq) -> Option<usize> {
        self.mark = Some(seq);
        let presence = self.presence.as_mut()?;
        let batch_is_full = presence.updates >= MARK_UPDATES || presence.bytes >= MARK_BYTES;
        (presence.updates, presence.bytes) = (0, 0);
        if batch_is_full { None } else { presence.catching_up.take() }
    }

    /// The session's connection is closed; the mark is kept.
    pub(super) fn closed(&mut self, session: SessionId) {
        if self.session == session {
            self.presence = None;
        }
    }

    /// The connection is to be closed; no more lines of this session are handled.
    pub(super) fn disconnect(&mut self) {
        self.presence = None;
    }

    /// When the connection times out if nothing is received.
    pub(super) fn times_out_at(&self, timeout: Duration) -> Option<Duration> {
        self.presence.as_ref().map(|presence| presence.last_received + timeout)
    }
}

impl Herd {
    /// Handles a line that was received on the neighbours' port, and appends the answer to `out`.
    /// `admits` says whether a neighbour may connect from the connection's address.
    pub fn handle_peer_line(
        &mut self,
        peer: &mut Peer,
        line: &[u8],
        admits: &dyn Fn(NeighbourId) -> bool,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) -> Outcome {
        if let Peer::Identified { neighbour, session } = *peer {
            if !self.inbound[usize::from(neighbour.0)].is_present(session) {
                return Outcome::Close;
            }
            // Nearly all lines are such updates.
            if let Some((update, text)) = FromDialler::parse_plain(line) {
                self.received(neighbour, line, true, now);
                self.handle_update(neighbour, &update, &text, line, observer);
                return Outcome::Continue;
            }
        }
        self.handle_other_line(peer, line, admits, now, out, observer)
    }

    #[inline(never)]
    fn handle_other_line(
        &mut self,
        peer: &mut Peer,
        line: &[u8],
        admits: &dyn Fn(NeighbourId) -> bool,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) -> Outcome {
        let parsed = FromDialler::parse(line);
        let refusal = match (*peer, parsed) {
            (Peer::Unidentified, Ok(FromDialler::Hello { server, epoch })) => {
                match self.find_neighbour(server) {
                    Some(neighbour) if admits(neighbour) => {
                        *peer = self.hello(neighbour, epoch, now, out, observer);
                        return Outcome::Continue;
                    }
                    // (A loop of this server has the same name; its connections are `Expected`.)
                    _ if server == self.settings.name.as_bytes() => {
                        self.namesake_at = Some(now.elapsed);
                        "that is this server's own name"
                    }
                    Some(_) => "no neighbour of that name connects from this address",
                    None => "no neighbour has that name",
                }
            }
            (Peer::Expected(neighbour), Ok(FromDialler::Hello { epoch, .. })) => {
                *peer = self.hello(neighbour, epoch, now, out, observer);
                return Outcome::Continue;
            }
            (Peer::Unidentified | Peer::Expected(_), Err(PeerError::Version)) => {
                "this server speaks herd/1 only"
            }
            (Peer::Unidentified | Peer::Expected(_), _) => "a neighbour says HELLO first",
            (Peer::Identified { neighbour, .. }, Ok(FromDialler::Settings(theirs)))
                if self.inbound[usize::from(neighbour.0)].is_new() =>
            {
                self.handle_settings(neighbour, &theirs, line, now);
                return Outcome::Continue;
            }
            (Peer::Identified { .. }, Ok(FromDialler::Settings(_))) => {
                "a neighbour says SETTINGS once, before anything else"
            }
            (Peer::Identified { neighbour, .. }, Ok(FromDialler::Update(update))) => {
                self.received(neighbour, line, true, now);
                self.handle_update(neighbour, &update, &Written, line, observer);
                return Outcome::Continue;
            }
            (Peer::Identified { neighbour, .. }, Ok(FromDialler::Mark(seq))) => {
                self.received(neighbour, line, false, now);
                self.handle_mark(neighbour, seq, out, observer);
                return Outcome::Continue;
            }
            (Peer::Identified { neighbour, .. }, Err(PeerError::Update(error))) => {
                self.received(neighbour, line, true, now);
                observer.record(Event::UpdateSkipped { neighbour, error, line });
                return Outcome::Continue;
            }
            (Peer::Identified { .. }, _) => "a neighbour says SETTINGS, UPDATELOC or MARK",
        };
        observer.record(Event::PeerRejected { reason: refusal, line });
        write_refusal(line, out);
        Outcome::Close
    }

    fn find_neighbour(&self, name: &[u8]) -> Option<NeighbourId> {
        let mut names = self.settings.neighbours.iter();
        let index = names.position(|neighbour| neighbour.as_bytes() == name)?;
        Some(NeighbourId(index as u16))
    }

    fn hello(
        &mut self,
        neighbour: NeighbourId,
        epoch: Epoch,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) -> Peer {
        let inbound = &mut self.inbound[usize::from(neighbour.0)];
        let (mark, session) = inbound.hello(epoch, now.elapsed);
        write_resume(mark, self.settings.epoch, self.settings.name.as_bytes(), out);
        observer.record(Event::PeerIdentified { neighbour, from: mark.map(|(_, seq)| seq) });
        self.hello_received(neighbour, epoch, now, observer);
        Peer::Identified { neighbour, session }
    }

    fn received(&mut self, neighbour: NeighbourId, line: &[u8], is_update: bool, now: Now) {
        // The dialler, too, counts only updates for a batch.
        let (updates, bytes) = if is_update { (1, line.len() + 1) } else { (0, 0) };
        self.inbound[usize::from(neighbour.0)].received(updates, bytes, now.elapsed);
    }

    fn handle_settings(
        &mut self,
        neighbour: NeighbourId,
        theirs: &Common<'_>,
        line: &[u8],
        now: Now,
    ) {
        self.received(neighbour, line, false, now);
        let differing = Differing::between(theirs, &self.settings.common());
        self.inbound[usize::from(neighbour.0)].differing = Some(differing);
    }

    fn handle_update(
        &mut self,
        neighbour: NeighbourId,
        update: &UpdateRef<'_>,
        text: &impl LineText,
        line: &[u8],
        observer: &mut dyn Observer,
    ) {
        if update.skew.0 < -(self.settings.max_future.as_nanos() as i128) {
            let error = UpdateError::Future;
            observer.record(Event::UpdateSkipped { neighbour, error, line });
            return;
        }
        let inbound = &self.inbound[usize::from(neighbour.0)];
        let from = inbound.epoch().map(|epoch| Source { neighbour, epoch });
        let hash = self.table.hash(update.id);
        let applied = self.table.apply_text(hash, update, text, from);
        report(&self.links, update, from, applied, observer);
    }

    fn handle_mark(
        &mut self,
        neighbour: NeighbourId,
        seq: Seq,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) {
        write_ack(seq, out);
        if let Some(updates) = self.inbound[usize::from(neighbour.0)].mark(seq) {
            observer.record(Event::CatchUpReceived { neighbour, updates });
        }
        if !self.is_catching_up(neighbour) {
            self.set_sync_state(neighbour, SyncState::Synced, observer);
        }
    }

    /// A peer's connection is closed.
    pub fn peer_closed(&mut self, peer: Peer) {
        if let Peer::Identified { neighbour, session } = peer {
            self.inbound[usize::from(neighbour.0)].closed(session);
        }
    }

    /// The settings in which a neighbour differs from us; none if it has not sent any.
    pub fn differing(&self, neighbour: NeighbourId) -> Option<&Differing> {
        self.inbound[usize::from(neighbour.0)].differing.as_ref()
    }

    /// Whether two servers use one neighbour's name, and displace each other's connections.
    pub fn has_namesakes(&self, neighbour: NeighbourId, now: Now) -> bool {
        self.inbound[usize::from(neighbour.0)].namesakes.are_present(now.elapsed)
    }

    /// When a peer last sent HELLO with this server's own name.
    pub fn namesake_at(&self) -> Option<Duration> {
        self.namesake_at
    }

    /// Whether a neighbour is sending what we missed while the connection was down.
    pub fn is_catching_up(&self, neighbour: NeighbourId) -> bool {
        self.inbound[usize::from(neighbour.0)].is_catching_up()
    }
}
