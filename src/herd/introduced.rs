//! The accepting side of a link: what a neighbour tells us (section 4).
//!
//! One per configured neighbour, whether it is connected or not, because the mark outlives the
//! connection. A connection carries a [`Visit`]; a later HELLO makes a new one, and from then on
//! nothing more of the older is handled.

use std::time::Duration;

use super::namesakes::Namesakes;
use super::{Event, Filling, Herd, NeighbourId, Origin, Verdict, Witness};
use crate::clock::Now;
use crate::limits::{MARK_BYTES, MARK_UPDATES};
use crate::protocol::{Common, Epoch, FromDialler, PeerError, Seq, UpdateError, UpdateRef};
use crate::protocol::{write_ack, write_refusal, write_resume};

/// Which of a neighbour's connections a line came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit(u64);

/// Who is on a connection that a neighbour tells us things by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody yet: the first line must be a HELLO.
    Stranger,
    /// Nobody yet, but on this connection it can only be that neighbour, whatever name it says.
    Expected(NeighbourId),
    /// A neighbour.
    Introduced { neighbour: NeighbourId, visit: Visit },
}

/// A neighbour as it tells us things.
#[derive(Clone, Debug)]
pub struct Introduced {
    /// The run that its latest HELLO named.
    epoch: Option<Epoch>,
    /// The last MARK of that run.
    mark: Option<Seq>,
    visit: Visit,
    present: Option<Present>,
    namesakes: Namesakes,
    /// Where the settings of its latest run differ from ours.
    differing: Option<Differing>,
}

/// Settings in which a neighbour differs, as it said them: none where it agrees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differing {
    pub dialect: Option<String>,
    pub clients: Option<u64>,
    /// In whole milliseconds.
    pub ahead: Option<u64>,
}

/// A neighbour that is connected.
#[derive(Clone, Debug)]
struct Present {
    heard_at: Duration,
    /// Whether nothing followed its HELLO yet.
    is_new: bool,
    /// Since the last MARK.
    updates: usize,
    bytes: usize,
    /// Updates since the HELLO, while it tells what we missed.
    catching_up: Option<usize>,
}

impl Differing {
    fn between(theirs: &Common<'_>, ours: &Common<'_>) -> Differing {
        let dialect = String::from_utf8_lossy(theirs.dialect).into_owned();
        Differing {
            dialect: (theirs.dialect != ours.dialect).then_some(dialect),
            clients: (theirs.clients != ours.clients).then_some(theirs.clients),
            ahead: (theirs.ahead != ours.ahead).then_some(theirs.ahead),
        }
    }
}

impl Introduced {
    pub(super) fn new() -> Introduced {
        Introduced {
            epoch: None,
            mark: None,
            visit: Visit(0),
            present: None,
            namesakes: Namesakes::default(),
            differing: None,
        }
    }

    /// Its HELLO: the mark to resume from, and the visit that begins.
    pub(super) fn hello(&mut self, epoch: Epoch, now: Duration) -> (Option<(Epoch, Seq)>, Visit) {
        if self.epoch != Some(epoch) {
            self.epoch = Some(epoch);
            self.mark = None;
            self.differing = None;
        }
        self.namesakes.hello(epoch, now);
        self.visit.0 += 1;
        let present =
            Present { heard_at: now, is_new: true, updates: 0, bytes: 0, catching_up: Some(0) };
        self.present = Some(present);
        (self.mark.map(|mark| (epoch, mark)), self.visit)
    }

    /// Whether `visit` is the latest, and not over.
    pub(super) fn is_present(&self, visit: Visit) -> bool {
        self.present.is_some() && self.visit == visit
    }

    /// Whether it has a connection here.
    pub(super) fn is_connected(&self) -> bool {
        self.present.is_some()
    }

    /// Whether nothing followed its HELLO yet.
    fn is_new(&self) -> bool {
        self.present.as_ref().is_some_and(|present| present.is_new)
    }

    /// The run it speaks for.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Whether it tells what we missed: lines of that are not worth a record each.
    pub(super) fn is_catching_up(&self) -> bool {
        self.present.as_ref().is_some_and(|present| present.catching_up.is_some())
    }

    /// Notes a line of `bytes` bytes.
    pub(super) fn heard(&mut self, bytes: usize, is_update: bool, now: Duration) {
        if let Some(present) = &mut self.present {
            present.heard_at = now;
            present.is_new = false;
            present.bytes += bytes + 1;
            present.updates += usize::from(is_update);
            if let Some(updates) = &mut present.catching_up {
                *updates += usize::from(is_update);
            }
        }
    }

    /// Its MARK. If it ends the catching up, returns how many updates that took: in the midst of
    /// it a MARK comes when a batch is full, so one that comes earlier has nothing behind it.
    pub(super) fn mark(&mut self, seq: Seq) -> Option<usize> {
        self.mark = Some(seq);
        let present = self.present.as_mut()?;
        let batch_is_full = present.updates >= MARK_UPDATES || present.bytes >= MARK_BYTES;
        (present.updates, present.bytes) = (0, 0);
        if batch_is_full { None } else { present.catching_up.take() }
    }

    /// The visit is over; the mark stays.
    pub(super) fn left(&mut self, visit: Visit) {
        if self.visit == visit {
            self.present = None;
        }
    }

    /// It is to be disconnected; nothing more of this visit is handled.
    pub(super) fn send_away(&mut self) {
        self.present = None;
    }

    /// When its silence has lasted too long.
    pub(super) fn silent_at(&self, patience: Duration) -> Option<Duration> {
        self.present.as_ref().map(|present| present.heard_at + patience)
    }
}

impl Herd {
    /// Handles a line that came by the neighbours' port, appending the answer to it. `admits`
    /// says whether the connection's address is one that a neighbour may call from.
    pub fn handle_caller(
        &mut self,
        caller: &mut Caller,
        line: &[u8],
        admits: &dyn Fn(NeighbourId) -> bool,
        now: Now,
        out: &mut Vec<u8>,
        witness: &mut dyn Witness,
    ) -> Verdict {
        let parsed = FromDialler::parse(line);
        let refusal = match (*caller, parsed) {
            (Caller::Introduced { neighbour, visit }, _)
                if !self.introduced[usize::from(neighbour.0)].is_present(visit) =>
            {
                return Verdict::Close;
            }
            (Caller::Stranger, Ok(FromDialler::Hello { server, epoch })) => {
                match self.known(server) {
                    Some(neighbour) if admits(neighbour) => {
                        *caller = self.hello(neighbour, epoch, now, out, witness);
                        return Verdict::Next;
                    }
                    // (A loop of this server has its name, and is expected: it needs not be known.)
                    _ if server == self.settings.name.as_bytes() => {
                        self.namesake_at = Some(now.elapsed);
                        "that is this server's own name"
                    }
                    Some(_) => "no neighbour of that name calls from this address",
                    None => "no neighbour has that name",
                }
            }
            (Caller::Expected(neighbour), Ok(FromDialler::Hello { epoch, .. })) => {
                *caller = self.hello(neighbour, epoch, now, out, witness);
                return Verdict::Next;
            }
            (Caller::Stranger | Caller::Expected(_), Err(PeerError::Version)) => {
                "this server speaks herd/1 only"
            }
            (Caller::Stranger | Caller::Expected(_), _) => "the first line here is a HELLO",
            (Caller::Introduced { neighbour, .. }, Ok(FromDialler::Settings(theirs)))
                if self.introduced[usize::from(neighbour.0)].is_new() =>
            {
                self.handle_settings(neighbour, &theirs, line, now);
                return Verdict::Next;
            }
            (Caller::Introduced { .. }, Ok(FromDialler::Settings(_))) => {
                "a neighbour says SETTINGS once, before anything else"
            }
            (Caller::Introduced { neighbour, .. }, Ok(FromDialler::Update(update))) => {
                self.heard(neighbour, line, true, now);
                self.handle_update(neighbour, &update, line, witness);
                return Verdict::Next;
            }
            (Caller::Introduced { neighbour, .. }, Ok(FromDialler::Mark(seq))) => {
                self.heard(neighbour, line, false, now);
                self.handle_mark(neighbour, seq, out, witness);
                return Verdict::Next;
            }
            (Caller::Introduced { neighbour, .. }, Err(PeerError::Update(error))) => {
                self.heard(neighbour, line, true, now);
                witness.note(Event::Skipped { neighbour, error, line });
                return Verdict::Next;
            }
            (Caller::Introduced { .. }, _) => "a neighbour says SETTINGS, UPDATELOC or MARK",
        };
        witness.note(Event::CallerRefused { reason: refusal, line });
        write_refusal(line, out);
        Verdict::Close
    }

    fn known(&self, name: &[u8]) -> Option<NeighbourId> {
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
        witness: &mut dyn Witness,
    ) -> Caller {
        let introduced = &mut self.introduced[usize::from(neighbour.0)];
        let (mark, visit) = introduced.hello(epoch, now.elapsed);
        write_resume(mark, self.settings.epoch, self.settings.name.as_bytes(), out);
        witness.note(Event::Introduced { neighbour, from: mark.map(|(_, seq)| seq) });
        self.neighbour_called(neighbour, epoch, now, witness);
        Caller::Introduced { neighbour, visit }
    }

    fn heard(&mut self, neighbour: NeighbourId, line: &[u8], is_update: bool, now: Now) {
        self.introduced[usize::from(neighbour.0)].heard(line.len(), is_update, now.elapsed);
    }

    fn handle_settings(
        &mut self,
        neighbour: NeighbourId,
        theirs: &Common<'_>,
        line: &[u8],
        now: Now,
    ) {
        self.heard(neighbour, line, false, now);
        let differing = Differing::between(theirs, &self.settings.common());
        self.introduced[usize::from(neighbour.0)].differing = Some(differing);
    }

    fn handle_update(
        &mut self,
        neighbour: NeighbourId,
        update: &UpdateRef<'_>,
        line: &[u8],
        witness: &mut dyn Witness,
    ) {
        if update.skew.0 < -(self.settings.ahead.as_nanos() as i128) {
            let error = UpdateError::Future;
            witness.note(Event::Skipped { neighbour, error, line });
            return;
        }
        let introduced = &self.introduced[usize::from(neighbour.0)];
        let from = introduced.epoch().map(|epoch| Origin { neighbour, epoch });
        self.store(update, from, witness);
    }

    fn handle_mark(
        &mut self,
        neighbour: NeighbourId,
        seq: Seq,
        out: &mut Vec<u8>,
        witness: &mut dyn Witness,
    ) {
        write_ack(seq, out);
        if let Some(updates) = self.introduced[usize::from(neighbour.0)].mark(seq) {
            witness.note(Event::CaughtUp { neighbour, updates });
        }
        self.note_filling(neighbour, Filling::Marked, witness);
    }

    /// The connection that a caller came by is closed.
    pub fn caller_left(&mut self, caller: Caller) {
        if let Caller::Introduced { neighbour, visit } = caller {
            self.introduced[usize::from(neighbour.0)].left(visit);
        }
    }

    /// In what a neighbour's settings differ from ours; none where it has not said them.
    pub fn differing(&self, neighbour: NeighbourId) -> Option<&Differing> {
        self.introduced[usize::from(neighbour.0)].differing.as_ref()
    }

    /// Whether two servers call themselves by a neighbour's name, and push each other off.
    pub fn has_namesakes(&self, neighbour: NeighbourId, now: Now) -> bool {
        self.introduced[usize::from(neighbour.0)].namesakes.are_about(now.elapsed)
    }

    /// When somebody last said HELLO by this server's own name.
    pub fn namesake_at(&self) -> Option<Duration> {
        self.namesake_at
    }

    /// Whether a neighbour tells what we missed while we or it were away.
    pub fn is_catching_up(&self, neighbour: NeighbourId) -> bool {
        self.introduced[usize::from(neighbour.0)].is_catching_up()
    }
}
