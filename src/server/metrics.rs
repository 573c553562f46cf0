//! What a server counts. Each number has one writer, the loop of its [`Server`](super::Server), and any thread may read
//! it. The values of a label are variants of an enum, so nothing that comes from a connection can make a new one.
//!
//! Numbers that a session can read when it is asked (the table, the feed, the links) are not here.

mod collect;
mod family;
mod labels;
mod of_engine;
mod of_links;
mod of_state;
mod of_tls;

use std::sync::Arc;
use std::time::Duration;

pub use labels::{
    AdminPath, BETWEEN_LOOPS, ClosedReason, DialResult, Direction, EngineError, EngineStateLabel,
    HandshakeResult, Kind, LineCommand, LineResult, Listener, Paused, PlacesResult, QueryResult,
    RateLimit, RejectedReason, Transition, UpdateResult, UpdateSource,
};

pub use family::{Family, FamilyKind, Sample, SampleValue};
pub use of_engine::EngineMetrics;
pub use of_state::{StateNumbers, StateSource};

use crate::application::{Counter, Gauge, Histogram, LoopMetrics};

/// Counters by two labels.
pub type Counters<const ROWS: usize, const COLUMNS: usize> = [[Counter; COLUMNS]; ROWS];

/// What one loop of a server counts.
#[derive(Debug)]
pub struct ServerMetrics {
    /// By [`LineCommand`] and [`LineResult`]. Not counted here are IAMATs that are ok: each of them is one update of a
    /// client ([`ServerMetrics::lines`] knows).
    pub(super) other_lines: Counters<{ LineCommand::COUNT }, { LineResult::COUNT }>,
    /// By [`UpdateSource`] and [`UpdateResult`]. Updates from other loops of the same server are not counted.
    pub updates: Counters<{ UpdateSource::COUNT }, { UpdateResult::COUNT }>,
    /// By [`LineCommand`].
    pub answers: [Histogram<13>; LineCommand::COUNT],
    /// By [`Kind`] and [`ClosedReason`].
    pub closed: Counters<{ Kind::COUNT }, { ClosedReason::COUNT }>,
    /// By [`Kind`] and [`RejectedReason`].
    pub rejected: Counters<{ Kind::COUNT }, { RejectedReason::COUNT }>,
    /// By [`RateLimit`].
    pub rate_limited: [Counter; RateLimit::COUNT],
    /// Connections that wait now, by [`Paused`].
    pub paused: [Gauge; Paused::COUNT],
    /// Lines whose answer had to wait, by [`LineCommand`].
    delayed: [Counter; LineCommand::COUNT],
    pub places: Arc<PlacesMetrics>,
    pub engine: EngineMetrics,
    /// Answers that are held back now.
    pub held_answers: Gauge,
    /// A [`DrainState`](super::DrainState) as a number ([`ServerMetrics::drain_state`]).
    pub(super) draining: Gauge,
    /// By [`Listener`] and [`HandshakeResult`].
    pub handshakes: Counters<{ Listener::COUNT }, { HandshakeResult::COUNT }>,
    /// Of handshakes that were successful, by [`Listener`].
    pub handshake_duration: [Histogram<9>; Listener::COUNT],
    /// By [`AdminPath`] and the place in [`ADMIN_CODES`].
    admin: Counters<{ AdminPath::COUNT }, { ADMIN_CODES.len() }>,
}

/// Queries for places.
#[derive(Debug)]
pub struct PlacesMetrics {
    /// By [`PlacesResult`].
    pub requests: [Counter; PlacesResult::COUNT],
    /// From the client's line to the answer, of queries that were not answered at once.
    pub duration: Histogram<10>,
    pub in_flight: Gauge,
    /// Queries without a slot.
    pub waiting: Gauge,
    /// Dialled connections whose TLS handshake is under way.
    pub in_handshake: Gauge,
    /// Queries that joined another one with the same request.
    pub shared: Counter,
    /// Requests that were sent on a fresh connection and on a kept one.
    pub connections: [Counter; 2],
}

/// A link with one neighbour.
#[derive(Debug)]
pub(super) struct LinkMetrics {
    /// By [`Direction`] and [`Transition`].
    pub(super) transitions: Counters<{ Direction::COUNT }, { Transition::COUNT }>,
    /// By [`Direction`].
    pub(super) updates: [Counter; Direction::COUNT],
    pub(super) malformed: Counter,
    /// By [`DialResult`].
    pub(super) dials: [Counter; DialResult::COUNT],
    /// From the arrival of the client's line at another server to the arrival of the update here, by two clocks.
    pub(super) flood_delay: Histogram<11>,
}

/// The counters of all loops of a server, the first loop's first.
#[derive(Clone, Debug, Default)]
pub struct AllMetrics {
    pub loops: Vec<(Arc<LoopMetrics>, Arc<ServerMetrics>)>,
    /// Reads what the kernel knows of this process; it takes microseconds. Sessions open no file.
    pub process: Option<fn() -> Option<Process>>,
    /// What the thread of the state directory counts; None without one.
    pub state: Option<Arc<dyn StateSource>>,
}

/// What the kernel knows of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// User and system time.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// None where counting them takes too long and was not done yet.
    pub open_descriptors: Option<u64>,
    pub max_descriptors: u64,
    /// Since 1970.
    pub start_seconds: f64,
}

impl Default for ServerMetrics {
    fn default() -> ServerMetrics {
        ServerMetrics {
            other_lines: counters(),
            updates: counters(),
            draining: Gauge::default(),
            answers: [const { Histogram::new(&ANSWER_BOUNDS) }; LineCommand::COUNT],
            closed: counters(),
            rejected: counters(),
            rate_limited: Default::default(),
            paused: Default::default(),
            delayed: Default::default(),
            places: Arc::default(),
            engine: EngineMetrics::default(),
            held_answers: Gauge::new(),
            handshakes: counters(),
            handshake_duration: [const { Histogram::new(&HANDSHAKE_BOUNDS) }; Listener::COUNT],
            admin: counters(),
        }
    }
}

impl Default for PlacesMetrics {
    fn default() -> PlacesMetrics {
        PlacesMetrics {
            requests: Default::default(),
            duration: Histogram::new(&PLACES_BOUNDS),
            in_flight: Gauge::new(),
            waiting: Gauge::new(),
            in_handshake: Gauge::new(),
            shared: Counter::new(),
            connections: Default::default(),
        }
    }
}

impl Default for LinkMetrics {
    fn default() -> LinkMetrics {
        LinkMetrics {
            transitions: counters(),
            updates: Default::default(),
            malformed: Counter::new(),
            dials: Default::default(),
            flood_delay: Histogram::new(&FLOOD_BOUNDS),
        }
    }
}

impl AllMetrics {
    /// Starts or stops the measurements that cost time or memory, in all loops.
    pub fn observe(&self, is_observed: bool) {
        self.loops.iter().for_each(|(metrics, _)| metrics.observe(is_observed));
    }
}

fn counters<const ROWS: usize, const COLUMNS: usize>() -> Counters<ROWS, COLUMNS> {
    [const { [const { Counter::new() }; COLUMNS] }; ROWS]
}

impl ServerMetrics {
    /// A client's line, unless it is an IAMAT that is ok.
    pub(super) fn count_line(&self, command: LineCommand, result: LineResult) {
        self.other_lines[command as usize][result as usize].add(1);
    }

    #[inline]
    pub(super) fn count_update(&self, source: UpdateSource, result: UpdateResult) {
        self.updates[source as usize][result as usize].add(1);
    }

    /// How many lines with this command had this result.
    pub fn lines(&self, command: LineCommand, result: LineResult) -> u64 {
        match (command, result) {
            (LineCommand::Iamat, LineResult::Ok) => {
                // One for which there was no room is handled again.
                let counted = |result: &&UpdateResult| **result != UpdateResult::NoRoom;
                let all = UpdateResult::ALL.iter().filter(counted);
                let of_clients = &self.updates[UpdateSource::Client as usize];
                all.map(|result| of_clients[*result as usize].get()).sum()
            }
            _ => self.other_lines[command as usize][result as usize].get(),
        }
    }

    /// How many lines with this command were answered without a wait.
    pub(super) fn answered_at_once(&self, command: LineCommand) -> u64 {
        let all: u64 = LineResult::ALL.iter().map(|result| self.lines(command, *result)).sum();
        all.wrapping_sub(self.delayed[command as usize].get())
    }

    /// The answer to a line has to wait, or had to. Call this in the turn in which the line is counted.
    pub(super) fn count_delayed(&self, command: LineCommand) {
        self.delayed[command as usize].add(1);
    }

    pub(super) fn count_closed(&self, kind: Kind, reason: ClosedReason) {
        self.closed[kind as usize][reason as usize].add(1);
    }

    pub(super) fn count_rejected(&self, kind: Kind, reason: RejectedReason) {
        self.rejected[kind as usize][reason as usize].add(1);
    }

    /// A connection begins to wait, for this reason.
    pub(super) fn pause(&self, reason: Paused) {
        self.paused[reason as usize].add(1);
    }

    /// It waits no longer.
    pub(super) fn resume(&self, reason: Paused) {
        self.paused[reason as usize].subtract(1);
    }

    /// A request of the admin listener was answered with this status. A status that is none of [`ADMIN_CODES`] counts as
    /// the last of them.
    pub fn count_admin_request(&self, path: AdminPath, code: u16) {
        let place = ADMIN_CODES.iter().position(|known| *known == code);
        self.admin[path as usize][place.unwrap_or(ADMIN_CODES.len() - 1)].add(1);
    }

    /// How many requests for a path were answered with a status of [`ADMIN_CODES`].
    pub fn admin_requests(&self, path: AdminPath, code: u16) -> u64 {
        let place = ADMIN_CODES.iter().position(|known| *known == code);
        place.map_or(0, |place| self.admin[path as usize][place].get())
    }
}

impl PlacesMetrics {
    /// A query has ended, this long after the client's line.
    pub(super) fn count_request(&self, result: PlacesResult, took: Option<Duration>) {
        self.requests[result as usize].add(1);
        if let Some(took) = took {
            self.duration.observe(took);
        }
    }
}

impl LinkMetrics {
    #[inline]
    pub(super) fn count_updates(&self, direction: Direction, updates: u64) {
        self.updates[direction as usize].add(updates);
    }

    pub(super) fn count(&self, direction: Direction, transition: Transition) {
        self.transitions[direction as usize][transition as usize].add(1);
    }
}

/// The statuses with which the admin listener answers; 500 stands for every other one.
pub const ADMIN_CODES: [u16; 11] = [200, 400, 403, 404, 405, 408, 413, 421, 431, 503, 500];

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Bounds of the durations of answers, in nanoseconds.
const ANSWER_BOUNDS: [u64; 13] = [
    MICRO,
    10 * MICRO,
    100 * MICRO,
    MILLI,
    10 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
    2_500 * MILLI,
    5 * SECOND,
    10 * SECOND,
];
/// Bounds of the durations of queries for places, in nanoseconds.
const PLACES_BOUNDS: [u64; 10] = [
    5 * MILLI,
    10 * MILLI,
    25 * MILLI,
    50 * MILLI,
    100 * MILLI,
    250 * MILLI,
    500 * MILLI,
    SECOND,
    2_500 * MILLI,
    5 * SECOND,
];
/// Bounds of the durations of TLS handshakes, in nanoseconds.
const HANDSHAKE_BOUNDS: [u64; 9] = [
    500 * MICRO,
    MILLI,
    2 * MILLI,
    5 * MILLI,
    10 * MILLI,
    50 * MILLI,
    250 * MILLI,
    SECOND,
    5 * SECOND,
];
/// Bounds of the flood's delay, in nanoseconds.
const FLOOD_BOUNDS: [u64; 11] = [
    100 * MICRO,
    500 * MICRO,
    MILLI,
    5 * MILLI,
    10 * MILLI,
    50 * MILLI,
    100 * MILLI,
    500 * MILLI,
    SECOND,
    5 * SECOND,
    30 * SECOND,
];
