//! Stopping in order: no newcomers, answers to what was received, a last word to the neighbours.
//!
//! ```text
//!   stop: listeners closed, every client read once more -> clients answered and closed
//!         -> siblings have ended, links settled (the last MARK acknowledged) -> the loop is left
//!   ... or the grace time is over.
//! ```

use super::EventLoop;
use super::connection::Life;
use super::timers::Timer;
use crate::limits::GRACE;

/// A server that stops.
#[derive(Debug)]
pub(super) struct Stopping {
    /// Whether the loop is to be left.
    pub(super) is_over: bool,
}

impl EventLoop {
    /// Begins to stop. Said twice, it is done once.
    pub(super) fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        log::info!("{} stops.", self.server.title());
        self.stopping = Some(Stopping { is_over: false });
        self.listeners.clear();
        self.siblings.stop();
        self.timers.set(Timer::Grace, self.now.elapsed + GRACE);
        let guests = self
            .slots
            .iter_mut()
            .filter(|(_, entry)| entry.role.is_guest() && entry.connection.life == Life::Open);
        // What the kernel has received counts as received: each guest is read until it is dry.
        let ids: Vec<_> = guests
            .map(|(id, entry)| {
                entry.connection.ready.readable = true;
                id
            })
            .collect();
        for id in ids {
            self.queue_serve(id);
        }
    }

    /// Who is not answered by now will not be.
    pub(super) fn end_grace(&mut self) {
        // Not limited: a server stops once.
        log::warn!("{} leaves, although not all is answered or acknowledged.", self.server.title());
        self.stopping = Some(Stopping { is_over: true });
    }

    /// Leaves once nobody has anything to wait for.
    pub(super) fn leave_if_done(&mut self) {
        let Some(stopping) = &mut self.stopping else {
            return;
        };
        let others_are_gone = self.guests == 0 && self.siblings.have_ended();
        stopping.is_over |= others_are_gone && self.server.herd().is_settled();
    }

    /// Whether the loop is to be left.
    pub(super) fn is_over(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping.is_over)
    }
}
