//! Updates as values instead of lines: between the loops of one server, whose links are links as all others (HELLO,
//! RESUME, MARK, ACK), but for the updates. These are copied from the feed into a [`Batch`], which the caller hands
//! over; nothing is written, parsed or checked for it.
//!
//! An update costs the loop that takes it 1,000 instructions, where its line cost 2,550.

use std::hint::black_box;

use super::entry::Source;
use super::link::Carrier;
use super::table::{Applied, Table};
use super::{Event, Herd, NeighbourId, Observer, Peer, report};
use crate::clock::Now;
use crate::protocol::{Batch, Update, UpdateRef};

impl Carrier for Batch {
    fn put(&mut self, update: &Update, _out: &mut Vec<u8>) {
        self.push(update);
    }
}

impl Herd {
    /// As [`Herd::poll_link`], but the updates are appended to `batch`, up to the next MARK. Until `out` has that MARK, the
    /// batch is incomplete. Once it has, which is returned, the other side must be given the batch, even an empty one,
    /// before it handles the MARK.
    pub fn poll_link_values(
        &mut self,
        neighbour: NeighbourId,
        batch: &mut Batch,
        now: Now,
        out: &mut Vec<u8>,
        observer: &mut dyn Observer,
    ) -> bool {
        let link = &mut self.links[usize::from(neighbour.0)];
        let full = out.len() + 1; // One line.
        link.poll_settings(&self.settings, full, out, observer);
        let before = out.len();
        link.poll_output(&self.table, full, now, out, batch, observer);
        out.len() > before
    }

    /// The neighbour of a connection, if batches are taken for it: it is identified, and no later connection of the
    /// neighbour is. For any other one they must stay where they wait.
    pub fn takes_batches(&self, peer: Peer) -> Option<NeighbourId> {
        match peer {
            Peer::Identified { neighbour, session } => {
                let inbound = &self.inbound[usize::from(neighbour.0)];
                inbound.is_present(session).then_some(neighbour)
            }
            Peer::Unidentified | Peer::Expected(_) => None,
        }
    }

    /// Handles updates that were handed over for a connection that takes batches. They were checked where they came in,
    /// with the same settings.
    pub fn handle_batch(
        &mut self,
        peer: Peer,
        batch: &Batch,
        now: Now,
        observer: &mut dyn Observer,
    ) {
        let Some(neighbour) = self.takes_batches(peer) else {
            return;
        };
        let inbound = &mut self.inbound[usize::from(neighbour.0)];
        inbound.received(batch.len(), batch.bytes(), now.elapsed);
        if !inbound.is_catching_up() {
            observer.record(Event::HandedOver { neighbour, batch });
        }
        let source = inbound.epoch().map(|epoch| Source { neighbour, epoch });
        let links = &self.links;
        self.table.apply_batch(batch, source, |update, applied| {
            report(links, update, source, applied, observer);
        });
    }
}

impl Table {
    /// Applies updates in their order; `report` is called with each result.
    ///
    /// What is known of a client is rarely in the processor's cache, and to look it up takes several reads that wait for
    /// each other. So first each of these reads is done for several clients: they wait for memory together.
    fn apply_batch(
        &mut self,
        batch: &Batch,
        source: Option<Source>,
        mut report: impl FnMut(&UpdateRef<'_>, Applied),
    ) {
        let (mut hashes, mut ahead, mut updates) = ([0; TOGETHER], batch.ids(), batch.iter());
        let mut left = batch.len();
        while left > 0 {
            let hashes = &mut hashes[..left.min(TOGETHER)];
            left -= hashes.len();
            for (hash, id) in hashes.iter_mut().zip(ahead.by_ref()) {
                *hash = self.hash(id);
            }
            self.read_ahead(hashes);
            for (hash, (update, text)) in hashes.iter().zip(updates.by_ref()) {
                report(&update, self.apply_text(*hash, &update, &text, source));
            }
        }
    }

    /// Reads what is probably known of these clients, to have it in the cache.
    #[inline(never)]
    fn read_ahead(&self, hashes: &[u64]) {
        let mut slots = [None; TOGETHER];
        for (slot, hash) in slots.iter_mut().zip(hashes) {
            *slot = self.by_id.find(*hash, |_| true).copied();
        }
        let entries = slots.iter().flatten().filter_map(|&slot| self.entries.get(slot as usize));
        let read = entries.fold(0, |read: u8, entry| {
            let id = entry.update.id();
            read ^ id.first().unwrap_or(&0)
        });
        black_box(read);
    }
}

/// Clients that are read ahead: all of what is read of them fits into the smallest cache.
const TOGETHER: usize = 32;
