//! What the loop counts: for all connections of a class, for each turn, and, while somebody observes it, for
//! each connection.
//!
//! What is always counted costs an addition beside a system call. The rest (a look at the clock in each turn,
//! memory for each connection) costs one branch in each turn, read and write until it is asked for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::transport::{Socket, Transport};
use crate::application::{Activity, Budget, Class, ConnectionId, Lack, LoopMetrics, Turn};
use crate::clock::nanoseconds;

/// The loop's side of its metrics.
pub struct Counting {
    pub metrics: Arc<LoopMetrics>,
    start: Instant,
    lines: u64,
    reads: u64,
    writes: u64,
    /// When the present or latest wait began, if the loop was observed then.
    wait_began: Option<Duration>,
    /// The present turn, if it is observed; its counts are the sums before it.
    turn: Option<Turn>,
    /// What each connection does, while the loop is observed.
    activities: Option<Activities>,
}

/// Activities by slot, each with the generation of its connection. Apart from the connections, so that an idle
/// one stays small.
#[derive(Default)]
struct Activities(Vec<(u32, Activity)>);

/// The class of a connection that is not open yet: it is counted in none.
pub(super) const UNCOUNTED: Class = Class(u8::MAX);

impl Counting {
    pub fn new(start: Instant) -> Counting {
        Counting {
            metrics: Arc::new(LoopMetrics::new(start)),
            start,
            lines: 0,
            reads: 0,
            writes: 0,
            wait_began: None,
            turn: None,
            activities: None,
        }
    }

    /// The loop begins to wait: the turn before has ended. Returns the time if that took a look at the clock.
    #[inline]
    pub fn begin_wait(&mut self) -> Option<Duration> {
        let now = if self.metrics.is_observed() { Some(self.end_observed()) } else { None };
        if now.is_none() && self.wait_began.is_some() {
            (self.turn, self.activities) = (None, None);
        }
        self.wait_began = now;
        self.metrics.busy_since.set(0);
        now
    }

    #[cold]
    fn end_observed(&mut self) -> Duration {
        let now = self.start.elapsed();
        self.activities.get_or_insert_default();
        if let Some(begun) = self.turn.take() {
            self.metrics.record_turn(&Turn {
                duration: now.saturating_sub(begun.start),
                events: self.metrics.events.get() - begun.events,
                lines: self.lines - begun.lines,
                reads: self.reads - begun.reads,
                writes: self.writes - begun.writes,
                ..begun
            });
        }
        now
    }

    /// The wait has ended.
    #[inline]
    pub fn begin_turn(&mut self, now: Duration) {
        self.metrics.busy_since.set(nanoseconds(now));
        if let Some(wait_began) = self.wait_began {
            self.turn = Some(Turn {
                start: now,
                wait: now.saturating_sub(wait_began),
                duration: Duration::ZERO,
                events: self.metrics.events.get(),
                lines: self.lines,
                reads: self.reads,
                writes: self.writes,
            });
        }
    }

    /// A connection is open, and its class is known.
    pub fn opened(&mut self, connection: &mut Connection<Socket>, class: Class, now: Duration) {
        connection.class = class;
        if let Some(class) = self.metrics.classes.get(usize::from(class.0)) {
            class.open.add(1);
            class.opened.add(1);
            if connection.transport.tls_info().is_some() {
                class.tls.add(1);
                class.tls_opened.add(1);
            }
        }
        if let Some(activities) = &mut self.activities {
            activities.begin(connection.id, now);
        }
    }

    /// A connection is closed; it may not have been open.
    pub fn closed(&mut self, connection: &mut Connection<Socket>) {
        // TLS may hold the count of bytes that came with no data.
        self.received(connection, 0);
        self.sent(connection, 0);
        self.set_full(connection, false);
        if let Some(class) = self.metrics.classes.get(usize::from(connection.class.0)) {
            class.open.subtract(1);
            if connection.transport.tls_info().is_some() {
                class.tls.subtract(1);
            }
        }
    }

    /// A read was made, and brought `plain` bytes.
    #[inline]
    pub fn read(&mut self, connection: &mut Connection<Socket>, plain: usize) {
        self.reads += 1;
        self.received(connection, plain);
    }

    /// A write was made, and the transport took `plain` bytes.
    #[inline]
    pub fn wrote(&mut self, connection: &mut Connection<Socket>, plain: usize) {
        self.writes += 1;
        self.sent(connection, plain);
    }

    #[inline]
    fn received(&mut self, connection: &mut Connection<Socket>, plain: usize) {
        let Some(class) = self.metrics.classes.get(usize::from(connection.class.0)) else {
            return; // TLS keeps the number until it is open.
        };
        let bytes = connection.transport.received(plain) as u64;
        class.bytes_in.add(bytes);
        if let Some(activity) = self.activity(connection.id) {
            activity.bytes_in += bytes;
        }
    }

    #[inline]
    fn sent(&mut self, connection: &mut Connection<Socket>, plain: usize) {
        let Some(class) = self.metrics.classes.get(usize::from(connection.class.0)) else {
            return;
        };
        let bytes = connection.transport.sent(plain) as u64;
        class.bytes_out.add(bytes);
        if let Some(activity) = self.activity(connection.id) {
            activity.bytes_out += bytes;
        }
    }

    /// Lines of a connection were handled.
    #[inline]
    pub fn handled(&mut self, id: ConnectionId, lines: u64) {
        self.lines += lines;
        if let Some(activity) = self.activity(id) {
            activity.lines += lines;
        }
    }

    /// Notes whether a connection's output is full. Returns whether that is new.
    pub fn set_full(&mut self, connection: &mut Connection<Socket>, is_full: bool) -> bool {
        if connection.is_full == is_full {
            return false;
        }
        connection.is_full = is_full;
        if let Some(class) = self.metrics.classes.get(usize::from(connection.class.0)) {
            if is_full { class.full.add(1) } else { class.full.subtract(1) }
        }
        true
    }

    /// Work is left for the next turn.
    pub fn exhausted(&mut self, budget: Budget) {
        self.metrics.budget(budget).add(1);
    }

    #[inline]
    fn activity(&mut self, id: ConnectionId) -> Option<&mut Activity> {
        self.activities.as_mut()?.of(id)
    }

    /// What a connection did since it was opened, if all of that was counted.
    pub fn activity_of(&self, id: ConnectionId) -> Option<Activity> {
        let (generation, activity) = self.activities.as_ref()?.0.get(id.slot as usize)?;
        (*generation == id.generation).then_some(*activity)
    }
}

impl Activities {
    fn begin(&mut self, id: ConnectionId, opened: Duration) {
        let slot = id.slot as usize;
        if self.0.len() <= slot {
            // Generation 0 is no connection's.
            self.0.resize(slot + 1, (0, Activity::default()));
        }
        self.0[slot] = (id.generation, Activity { opened, ..Activity::default() });
    }

    fn of(&mut self, id: ConnectionId) -> Option<&mut Activity> {
        let (generation, activity) = self.0.get_mut(id.slot as usize)?;
        (*generation == id.generation).then_some(activity)
    }
}

/// The time for which a listener can accept nothing, because the kernel lacks something.
#[derive(Debug, Default)]
pub struct AcceptPause {
    since: Option<(Duration, Lack)>,
}

impl AcceptPause {
    /// An attempt was refused.
    pub fn begin(&mut self, lack: Lack, now: Duration, metrics: &LoopMetrics) {
        self.end(now, metrics);
        self.since = Some((now, lack));
        metrics.accept_paused_now.add(1);
    }

    /// The kernel has answered again, or the listener is gone.
    pub fn end(&mut self, now: Duration, metrics: &LoopMetrics) {
        if let Some((since, lack)) = self.since.take() {
            metrics.accept_paused[lack as usize].add(nanoseconds(now.saturating_sub(since)));
            metrics.accept_paused_now.subtract(1);
        }
    }
}

/// What the kernel lacked, by the error of an attempt to accept.
pub(super) fn lack(error: &io::Error) -> Lack {
    let no_buffers = rustix::io::Errno::NOBUFS.raw_os_error();
    let is_of_memory =
        error.kind() == io::ErrorKind::OutOfMemory || error.raw_os_error() == Some(no_buffers);
    if is_of_memory { Lack::Memory } else { Lack::Descriptors }
}
