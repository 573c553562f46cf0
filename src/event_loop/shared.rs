//! What all connections share besides the slots: buffers, timers, the lists of the turn, and the counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::connection::Connection;
use super::counting::Counting;
use super::groups::Groups;
use super::handshakes::Handshakes;
use super::limits::{Limits, READ_BYTES_PER_TURN};
use super::pace::{Allowance, ServedUpTo};
use super::policies::Policies;
use super::security::Securities;
use super::state::{ConnectionState, Owed};
use super::timers::{Timer, Timers};
use super::transport::Socket;
use crate::addresses::AddressGroup;
use crate::application::{Closed, ConnectionId, ListenerId, Origin};
use crate::clock::Now;

/// What all connections share, and their counts.
pub struct Shared {
    pub limits: Limits,
    /// The time of this turn.
    pub now: Now,
    pub timers: Timers,
    pub security: Securities,
    /// TLS handshakes of accepted connections.
    pub handshakes: Handshakes,
    /// The buffer of every read; one for all connections.
    pub scratch: Vec<u8>,
    pub buffers: Buffers,
    pub policies: Policies,
    /// Memory that connections hold.
    pub buffered: usize,
    pub counts: Counts,
    pub groups: Groups,
    pub counting: Counting,
    /// The time that the present step has left.
    pub allowance: Allowance,
    /// The time up to which deadlines may be judged.
    pub served_up_to: ServedUpTo,
    /// The loop stops: new connections are answered and then closed.
    pub is_stopping: bool,
    /// The application was called, and was not asked for its commands since; or there was no time for all.
    pub has_commands: bool,
    pub ready: Queue,
    pub fill: Queue,
    pub flush: Queue,
    pub closed: Queue,
}

/// Connections with work to do, each once (the connection has a bit for each list), the longest waiting
/// first.
#[derive(Debug, Default)]
pub struct Queue {
    ids: VecDeque<ConnectionId>,
    /// How many were ever put on the list.
    pub pushed: u64,
    /// How many have left it.
    pub popped: u64,
}

/// The numbers of connections that are not closed. They fall when a connection is closed, not when its slot
/// is given back: otherwise a burst of new connections at a limit would close too many or too few.
#[derive(Debug, Default)]
pub struct Counts {
    by_listener: Vec<usize>,
    /// Connections that the loop answers before it stops.
    pub draining: usize,
}

impl Queue {
    pub(super) fn push(&mut self, id: ConnectionId) {
        self.ids.push_back(id);
        self.pushed += 1;
    }

    pub fn pop(&mut self) -> Option<ConnectionId> {
        let id = self.ids.pop_front()?;
        self.popped += 1;
        Some(id)
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Shared {
    pub fn new(limits: Limits, start: Instant, now: Now) -> Shared {
        let mut shared = Shared {
            now,
            timers: Timers::default(),
            security: Securities::default(),
            handshakes: Handshakes::new(&limits),
            scratch: vec![0; READ_BYTES_PER_TURN],
            buffers: Buffers::default(),
            policies: Policies::default(),
            buffered: 0,
            counts: Counts::default(),
            groups: Groups::default(),
            counting: Counting::new(start),
            allowance: Allowance::new(start),
            served_up_to: ServedUpTo::default(),
            limits,
            is_stopping: false,
            has_commands: false,
            ready: Queue::default(),
            fill: Queue::default(),
            flush: Queue::default(),
            closed: Queue::default(),
        };
        shared.set_limits(shared.limits.clone());
        shared
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.counting.metrics.buffer_limit.set(limits.buffer_bytes as u64);
        self.limits = limits;
        self.limit_handshakes();
    }

    /// Puts a connection on the list of those to serve next.
    pub fn queue_serve(&mut self, connection: &mut Connection<Socket>) {
        if !std::mem::replace(&mut connection.read_pending, true) {
            self.ready.push(connection.id);
        }
    }

    /// Puts a connection on the list of those to flush next.
    pub fn queue_flush(&mut self, connection: &mut Connection<Socket>) {
        if !std::mem::replace(&mut connection.write_pending, true) {
            self.flush.push(connection.id);
        }
    }

    /// Puts a connection on the list of those to fill next.
    pub fn queue_fill(&mut self, connection: &mut Connection<Socket>) {
        if !std::mem::replace(&mut connection.fill_pending, true) {
            self.fill.push(connection.id);
        }
    }

    /// Counts a new connection. Until its policy is known, an accepted one may be owed an answer; a dialled
    /// one is not.
    pub fn admit(&mut self, connection: &mut Connection<Socket>) {
        self.counts.count_opened(connection.origin());
        if let Origin::Accepted(listener) = connection.origin() {
            let group = AddressGroup::of(connection.peer().ip());
            connection.group = self.groups.opened(listener, group, connection.id.slot);
            self.count_groups();
        }
        self.set_drains(connection, matches!(connection.origin(), Origin::Accepted(_)));
        connection.policy = self.policies.take(Policies::UNOPENED);
        let (_, held) = connection.account(connection.buffered());
        self.buffered += held;
        if self.is_stopping && connection.drains {
            self.drain(connection);
        }
    }

    pub fn set_drains(&mut self, connection: &mut Connection<Socket>, drains: bool) {
        self.counts.draining -= usize::from(connection.drains);
        self.counts.draining += usize::from(drains);
        connection.drains = drains;
    }

    /// The loop stops: a connection that is owed nothing is closed without lingering.
    pub fn drain(&mut self, connection: &mut Connection<Socket>) {
        self.release(connection);
        // True until the last read brings something.
        connection.is_owed_nothing = connection.state <= ConnectionState::Open
            && connection.unsent() == 0
            && !connection.is_waiting()
            && connection.owed == Owed::Nothing
            && connection.has_no_line();
    }

    /// Reads a connection until it is empty, answers it, and then closes it.
    pub fn release(&mut self, connection: &mut Connection<Socket>) {
        if connection.state > ConnectionState::Open {
            return; // It is being closed already.
        }
        connection.is_leaving = true;
        connection.ready.readable = true;
        self.queue_serve(connection);
    }

    /// Nothing is left to read and handle of a connection that leaves.
    pub fn finish_leaving(&mut self, connection: &mut Connection<Socket>) {
        if connection.is_waiting() {
            return; // `fill` lets it go on.
        }
        if !self.is_stopping {
            // In a drain there is time for the rest of a line.
            if connection.has_incomplete_line() && !connection.has_ended() {
                return;
            }
            connection.note_why(Closed::Drained);
        }
        self.finish(connection);
    }

    pub fn finish(&mut self, connection: &mut Connection<Socket>) {
        if connection.state < ConnectionState::Open {
            return self.close(connection, Closed::Finished); // Nothing can be sent on it yet.
        }
        connection.finish();
        self.queue_flush(connection);
    }

    pub fn close(&mut self, connection: &mut Connection<Socket>, why: Closed) {
        if connection.close(why) {
            self.counts.count_closed(connection.origin());
            self.groups.closed(connection.group, connection.id.slot);
            self.count_groups();
            self.counting.closed(connection);
            self.end_handshake(connection);
            self.set_drains(connection, false);
            self.closed.push(connection.id);
        }
    }

    /// Notes that bytes arrived on a connection.
    #[inline]
    pub fn note_read(&mut self, connection: &mut Connection<Socket>, count: usize) {
        if connection.note_read(self.now.elapsed) {
            self.groups.sent(connection.group, connection.id.slot);
        }
        self.counting.read(connection, count);
    }

    fn count_groups(&self) {
        self.counting.metrics.address_groups.set(self.groups.len() as u64);
    }

    /// Sets a timer unless it is set.
    pub fn timer_in(&mut self, timer: Timer, after: Duration) {
        self.timers.set_once(timer, self.now.elapsed + after);
    }
}

impl Counts {
    /// The number of a listener's connections.
    pub fn at(&self, listener: ListenerId) -> usize {
        self.by_listener.get(usize::from(listener.0)).copied().unwrap_or(0)
    }

    fn count_opened(&mut self, origin: Origin) {
        let Origin::Accepted(ListenerId(listener)) = origin else {
            return;
        };
        let place = usize::from(listener);
        if self.by_listener.len() <= place {
            self.by_listener.resize(place + 1, 0);
        }
        self.by_listener[place] += 1;
    }

    fn count_closed(&mut self, origin: Origin) {
        if let Origin::Accepted(ListenerId(listener)) = origin {
            self.by_listener[usize::from(listener)] -= 1;
        }
    }
}
