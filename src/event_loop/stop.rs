//! Stopping in order: no newcomers, answers to what was received, a last word to the neighbours.
//!
//! ```text
//!   stop: those who wait are accepted, listeners closed, every client read once more
//!         -> clients answered and closed
//!         -> siblings have ended, links settled (the last MARK acknowledged) -> the loop is left
//!   ... or the grace time is over, or a second signal says that it is to end at once.
//! ```
//!
//! A client that is owed no answer is closed without lingering: nothing that it could lose is on
//! its way, so a herd with idle clients stops as fast as one without.

use std::time::Duration;

use super::connection::Life;
use super::listener::{Door, Listener};
use super::timers::Timer;
use super::{Entry, EventLoop};
use crate::connections::ConnectionId;
use crate::limits::{SECOND_SIGNAL_AFTER, SHUTDOWN_GRACE};
use crate::logging::target;

/// A server that stops.
#[derive(Debug)]
pub(super) struct Stopping {
    /// When it began to.
    since: Duration,
    /// Whether the loop is to be left.
    is_over: bool,
    /// Whether it is to be left without waiting for anything.
    pub(super) is_hurried: bool,
}

impl EventLoop {
    /// Begins to stop, or ends at once: a signal that comes while the server stops is impatience,
    /// unless it comes with the first one. (`timeout` and Ctrl-C on a group signal twice.)
    pub(super) fn stop_by_signal(&mut self) {
        match &mut self.stopping {
            None => self.stop(),
            Some(stopping) => {
                let is_second = self.now.elapsed >= stopping.since + SECOND_SIGNAL_AFTER;
                stopping.is_hurried |= is_second;
                stopping.is_over |= is_second;
            }
        }
    }

    /// Begins to stop. Said twice, it is done once.
    pub(super) fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        log::info!(target: target::LOOP, "{} stops.", self.server.title());
        let since = self.now.elapsed;
        self.stopping = Some(Stopping { since, is_over: false, is_hurried: false });
        // Whoever calls as a neighbour now hears of nothing that it needs. To a client that waits in the
        // kernel it is connected, and what it has sent counts as received: closing would reset it.
        self.listeners.retain(|listener| !matches!(listener.door, Door::Neighbours));
        self.listeners.iter_mut().for_each(Listener::accept_the_last);
        self.siblings.stop();
        self.timers.set(Timer::Grace, self.now.elapsed + SHUTDOWN_GRACE);
        let open = |entry: &Entry| entry.role.is_guest() && entry.connection.life == Life::Open;
        let guests = self.slots.iter_mut().filter(|(_, entry)| open(entry));
        let ids: Vec<_> = guests.map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.drain(id));
    }

    /// What the kernel has received counts as received: the guest is read until it is dry, and then closed.
    pub(super) fn drain(&mut self, id: ConnectionId) {
        if let Some(Entry { connection, role }) = self.slots.get_mut(id) {
            connection.ready.readable = true;
            // Until the last read brings something.
            connection.is_owed_nothing = connection.unsent() == 0 && !role.is_waiting();
            self.queue_serve(id);
        }
    }

    /// Closes the listeners behind which nobody waits any more who came before the server was to stop.
    pub(super) fn close_dry_listeners(&mut self) {
        if self.stopping.is_some() {
            self.listeners.retain(|listener| !listener.is_done());
        }
    }

    /// Who is not answered by now will not be.
    pub(super) fn end_grace(&mut self) {
        let acknowledged = match self.server.herd().is_settled() {
            true => "all updates are acknowledged",
            false => "not all updates are acknowledged",
        };
        // Not limited: a server stops once.
        log::warn!(
            target: target::LOOP,
            "{} leaves, although not all is answered or acknowledged: after {} s {} clients are \
             still connected, and {acknowledged}.",
            self.server.title(),
            SHUTDOWN_GRACE.as_secs(),
            self.guests,
        );
        if let Some(stopping) = &mut self.stopping {
            stopping.is_over = true;
        }
    }

    /// Leaves once nobody has anything to wait for.
    pub(super) fn leave_if_done(&mut self) {
        let Some(stopping) = &mut self.stopping else {
            return;
        };
        let nobody_waits = self.listeners.is_empty() && self.guests == 0;
        let others_are_gone = nobody_waits && self.siblings.have_ended();
        stopping.is_over |= others_are_gone && self.server.herd().is_settled();
    }

    /// Whether the loop is to be left.
    pub(super) fn is_over(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping.is_over)
    }
}
