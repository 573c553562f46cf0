//! Step 6 of the turn: what threads have done is fetched, and then what is due is done.
//!
//! A deadline is judged only once all that came before it has been served ([`CaughtUp`]): the bytes that
//! keep it may lie in the kernel, because the process was stopped or has had too much to do.
//!
//! [`CaughtUp`]: super::pace::CaughtUp

use std::time::Duration;

use super::pace::Allowance;
use super::timers::Timer;
use super::{Entry, EventLoop};
use crate::clock::Now;
use crate::connections::{ConnectionId, Role};
use crate::limits::CALL_EFFORT;
use crate::logging::rate_limit::{self, Kind};

impl EventLoop {
    /// Step 6. Does what is due.
    pub(super) fn handle_timers(&mut self) {
        self.caught_up.served(self.served);
        self.allowance = Allowance::new(self.start);
        // First: what a thread has done in time may have met a deadline.
        while self.allowance.spend(CALL_EFFORT)
            && let Some(done) = self.worker.poll().or_else(|| self.places_worker.poll())
        {
            self.handle_done(done);
        }
        while self.allowance.spend(CALL_EFFORT)
            && let Some(mail) = self.siblings.poll()
        {
            self.handle_mail(mail);
        }
        self.judge();
        self.obey_all();
        // What became due for a link, and what a full output kept from it, goes out next turn.
        for (_, id) in self.links_with_room() {
            self.queue_flush(id);
        }
    }

    fn judge(&mut self) {
        let judged = self.caught_up.up_to();
        let mut postponed = Vec::new();
        while self.allowance.spend(CALL_EFFORT)
            && let Some((at, timer)) = self.timers.pop_due(judged)
        {
            let connection = match timer {
                Timer::Dial(neighbour) => self.server.link_being_made(neighbour),
                timer => timer.connection(),
            };
            match connection {
                // More of what it sent, or room for what it is sent, is waiting to be used.
                Some(id) if self.is_behind(id) => postponed.push((at, timer)),
                _ => self.handle_timer(timer),
            }
        }
        for (at, timer) in postponed {
            self.timers.set(timer, at);
        }
        if self.server.poll_timeout().is_some_and(|at| at <= judged) {
            self.server.handle_timeout(Now { elapsed: judged, ..self.now });
        }
    }

    /// Whether there is something that a connection is to be served or flushed for.
    pub(super) fn is_behind(&mut self, id: ConnectionId) -> bool {
        let entry = self.slots.get_mut(id);
        entry.is_some_and(|Entry { connection, .. }| connection.is_queued || connection.is_dirty)
    }

    /// Keeps the time of the pause in a client's begun line: from the last byte that came of it. Neighbours end
    /// their lines, and half of one is none.
    pub(super) fn watch_line_pause(&mut self, id: ConnectionId, begun: bool, pause: Duration) {
        let timer = Timer::LinePause(id);
        match self.slots.get_mut(id) {
            Some(Entry { connection, role: Role::Client(_) }) if begun => {
                self.timers.set(timer, connection.heard_at + pause);
            }
            _ => self.timers.clear(timer),
        }
    }

    /// Nothing more came of a begun line: it is served as it is, before anything more is read.
    fn end_line(&mut self, id: ConnectionId) {
        if let Some(Entry { connection, .. }) = self.slots.get_mut(id) {
            connection.end_line();
            self.queue_serve(id);
        }
    }

    fn handle_timer(&mut self, timer: Timer) {
        match timer {
            Timer::BegunLine(id) => {
                let reason = "a begun line was not finished in time";
                self.give_up(id, Kind::NotFinished, reason);
            }
            Timer::LinePause(id) => self.end_line(id),
            Timer::Stalled(id) => {
                self.give_up(id, Kind::Stalled, "it took none of its bytes for too long");
            }
            Timer::Linger(id) => self.kill(id),
            Timer::Hello(id) => self.give_up_stranger(id),
            Timer::Dial(neighbour) => self.dial_is_late(neighbour),
            Timer::Accept => self.resume_accepting(),
            Timer::Grace => self.end_grace(),
            Timer::Suppressed => rate_limit::say_rest(),
        }
    }
}
