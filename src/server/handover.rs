//! What one loop of a server hands over to another: batches of updates, as values, in memory that both share.
//!
//! ```text
//!   the loop that sends                                     the loop that receives
//!   feed --copies--> open batch --MARK--> [ ][ ] at most 4 --MARK--> table
//!                                         <---- memory of batches that were taken
//! ```
//!
//! Everything else goes over the pair of sockets that links the loops, as lines: HELLO, RESUME, MARK, ACK. A batch is
//! complete with a MARK, and waits here before that MARK is written: so whoever reads the MARK finds all updates up to
//! it. One MARK wakes the other loop once for a whole turn's updates. While as many batches wait as may, nothing more
//! is copied: the feed has it, and a loop that stands still costs no more memory.
//!
//! A lock is held only to move a batch, never while updates are copied or applied.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::records::HerdLog;
use super::{Server, UNCHECKED};
use crate::application::{Io, Line, LoopId, Next, Target};
use crate::herd::{NeighbourId, Peer};
use crate::limits::BATCHES_WAITING;
use crate::logging::Traffic;
use crate::protocol::Batch;

/// One loop's end of both directions between it and another loop.
#[derive(Debug)]
pub struct Handover {
    sends: Way,
    receives: Way,
    /// Updates that were copied from the feed since the last MARK.
    open: Batch,
}

/// One direction.
type Way = Arc<Mutex<Batches>>;

#[derive(Debug, Default)]
struct Batches {
    waiting: VecDeque<Batch>,
    /// Empty ones, for their memory.
    spare: Vec<Batch>,
}

/// Both ends.
pub fn handovers() -> (Handover, Handover) {
    let ways = [Way::default(), Way::default()];
    let end = |sends: usize| Handover {
        sends: Arc::clone(&ways[sends]),
        receives: Arc::clone(&ways[1 - sends]),
        open: Batch::default(),
    };
    (end(0), end(1))
}

/// Also if the other loop has panicked: batches are whole, whatever else has happened.
fn lock(way: &Way) -> MutexGuard<'_, Batches> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records updates that were handed over, each as the line that it would have been.
#[cold]
pub(super) fn record(from: &str, batch: &Batch) {
    for (update, _) in batch.iter() {
        let mut line = Vec::new();
        update.write_updateloc(&mut line);
        Traffic::Link.received(from, line.trim_ascii_end());
    }
}

impl Handover {
    /// A new connection begins: what waits belonged to a former one, and is in the feed.
    pub(super) fn restart(&mut self) {
        self.open.clear();
        lock(&self.sends).waiting.clear();
    }

    /// The batch to fill; none while as many wait as may.
    pub(super) fn open(&mut self) -> Option<&mut Batch> {
        let has_room = lock(&self.sends).waiting.len() < BATCHES_WAITING;
        has_room.then_some(&mut self.open)
    }

    /// The open batch is complete: its MARK is written.
    pub(super) fn send(&mut self) {
        let mut sends = lock(&self.sends);
        let next = sends.spare.pop().unwrap_or_default();
        sends.waiting.push_back(mem::replace(&mut self.open, next));
    }

    /// The next batch that waits here.
    pub(super) fn take(&self) -> Option<Batch> {
        lock(&self.receives).waiting.pop_front()
    }

    /// It was applied.
    pub(super) fn give_back(&self, mut batch: Batch) {
        batch.clear();
        let mut receives = lock(&self.receives);
        if receives.spare.len() < BATCHES_WAITING {
            receives.spare.push(batch);
        }
    }
}

impl Server {
    /// How updates are exchanged with another loop. Call it before the loop runs; without it they are sent as lines.
    pub fn know_handover(&mut self, other: LoopId, handover: Handover) {
        let mut neighbours = self.neighbours.iter_mut();
        if let Some(known) = neighbours.find(|known| known.target == Target::Loop(other)) {
            known.handover = Some(Box::new(handover));
        }
    }

    /// A line of another loop that sends to this one. With a MARK come the updates up to it.
    pub(super) fn loop_peer_line(
        &mut self,
        peer: &mut Peer,
        line: Line<'_>,
        io: &mut Io<'_>,
    ) -> Next {
        if let Line::Whole(text) = &line
            && text.starts_with(b"MARK ")
            && let Some(neighbour) = self.herd.takes_batches(*peer)
        {
            self.take_batches(*peer, neighbour, io);
        }
        self.peer_line(peer, line, io)
    }

    fn take_batches(&mut self, peer: Peer, neighbour: NeighbourId, io: &mut Io<'_>) {
        let neighbours = &self.neighbours;
        let Some(handover) = &neighbours[usize::from(neighbour.0)].handover else {
            return;
        };
        let log = &mut HerdLog::new(&self.log_name, neighbours, &self.metrics);
        // Each MARK comes with one batch. It is empty if the MARK only says that the other loop is there.
        let Some(batch) = handover.take() else {
            return;
        };
        self.herd.handle_batch(peer, &batch, io.now, log);
        io.spend(u32::try_from(batch.len() / UPDATES_PER_EFFORT).unwrap_or(u32::MAX));
        handover.give_back(batch);
    }

    /// An ACK of another loop: it has taken a batch, so there may be room for the next.
    pub(super) fn loop_link_line(
        &mut self,
        neighbour: NeighbourId,
        line: Line<'_>,
        io: &mut Io<'_>,
    ) -> Next {
        let next = self.link_line(neighbour, line, io);
        self.links_checked = UNCHECKED;
        next
    }

    /// Hands over what the other loop does not have yet, one batch at most.
    pub(super) fn fill_loop_link(&mut self, neighbour: NeighbourId, io: &mut Io<'_>) -> Next {
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        if known.link != Some(io.id) {
            return Next::Finish; // It was cancelled.
        }
        let Some(mut handover) = known.handover.take() else {
            return self.fill_link(neighbour, io);
        };
        let mut is_complete = false;
        let has_room = handover.open().is_some_and(|batch| {
            let log = &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics);
            is_complete = self.herd.poll_link_values(neighbour, batch, io.now, io.out, log);
            true
        });
        if is_complete {
            handover.send();
        }
        // Without room, the next ACK asks again.
        let has_more = has_room && self.herd.link_has_pending(neighbour);
        let known = self.neighbour(neighbour);
        known.handover = Some(handover);
        known.is_fill_asked = has_more;
        if has_more { Next::Again } else { Next::Read }
    }
}

/// Updates that are as much work as what the loop counts by.
const UPDATES_PER_EFFORT: usize = 2;

#[cfg(test)]
mod tests;
