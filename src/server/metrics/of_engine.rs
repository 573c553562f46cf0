//! The metrics of the engine, where a server is a member. Each loop is a member of its own: it counts here, and the first
//! loop shows the numbers of all.

use super::ServerMetrics;
use super::collect::{Loops, of_servers};
use super::family::Family;
use super::labels::{EngineError, EngineStateLabel, QueryResult};
use crate::application::{Counter, Gauge};
use crate::herd::engine::{EngineState, EngineStatus};
use crate::server::{EngineLinkState, Server};

/// What one loop counts of its engine.
#[derive(Debug, Default)]
pub struct EngineMetrics {
    /// By [`EngineError`].
    pub errors: [Counter; EngineError::COUNT],
    /// Answers that were held back for too long, and not given.
    pub given_up: Counter,
    /// By [`QueryResult`], where a cache is kept.
    pub queries: [Counter; QueryResult::COUNT],
    /// Queries that wait for the engine now.
    pub queries_waiting: Gauge,
    /// IAMATs that wait for room in a cache now.
    pub waiting_for_room: Gauge,
    connected: Gauge,
    /// Whether it has ever known all that the bucket holds.
    was_in_sync: Gauge,
    /// By [`EngineStateLabel`]: 1 for the present one.
    states: [Gauge; EngineStateLabel::COUNT],
    pending: Gauge,
    in_flight: Gauge,
    // These only grow, and are copied.
    connections: Gauge,
    conflicts: Gauge,
    repairs: Gauge,
    acknowledged: Gauge,
    received: Gauge,
    skipped: Gauge,
    asked: Gauge,
}

impl EngineMetrics {
    /// Shows how far the engine has come.
    fn show(&self, status: &EngineStatus) {
        let present = EngineStateLabel::from(status.state);
        for state in EngineStateLabel::ALL {
            self.states[*state as usize].set(u64::from(*state == present));
        }
        if status.state == EngineState::InSync {
            self.was_in_sync.set(1);
        }
        self.pending.set(status.pending);
        self.in_flight.set(status.in_flight as u64);
        self.conflicts.set(status.conflicts);
        self.repairs.set(status.repairs);
        self.acknowledged.set(status.published);
        self.received.set(status.received);
        self.skipped.set(status.skipped);
        self.asked.set(status.asked);
    }

    /// How far it has come, the messages that were not read yet, and the publishes that are not acknowledged yet.
    pub(in crate::server) fn shown(&self) -> (EngineStateLabel, u64, u64) {
        let mut all = EngineStateLabel::ALL.iter();
        let present = all.find(|state| self.states[**state as usize].get() == 1);
        // Before the first turn it has not shown anything yet.
        let present = present.copied().unwrap_or(EngineStateLabel::Disconnected);
        (present, self.pending.get(), self.in_flight.get())
    }

    pub(in crate::server) fn count_error(&self, class: EngineError) {
        self.errors[class as usize].add(1);
    }

    pub(in crate::server) fn count_query(&self, result: QueryResult) {
        self.queries[result as usize].add(1);
    }
}

impl Server {
    /// Lets the first loop see how far this one's engine has come. To be called when the engine was given something, or
    /// time.
    pub(in crate::server) fn show_engine(&self) {
        let metrics = &self.metrics.engine;
        if let Some(status) = self.herd.engine_status() {
            metrics.show(&status);
        }
        if let Some(link) = self.engine_link_status() {
            metrics.connected.set(u64::from(link.state == EngineLinkState::Up));
            metrics.connections.set(link.connects);
        }
    }

    /// Whether each loop has known all that the bucket holds at some time since the start. True without an engine.
    pub(in crate::server) fn was_filled_by_engine(&self) -> bool {
        let was = |metrics: &ServerMetrics| metrics.engine.was_in_sync.get() == 1;
        let mut others = self.all_metrics.loops.iter();
        self.herd.engine_status().is_none()
            || (was(&self.metrics) && others.all(|(_, metrics)| was(metrics)))
    }

    /// Whether each loop can use the bucket now.
    pub(in crate::server) fn can_ask_engine(&self) -> bool {
        let can = |metrics: &ServerMetrics| {
            metrics.engine.states[EngineStateLabel::InSync as usize].get() == 1
        };
        can(&self.metrics) && self.all_metrics.loops.iter().all(|(_, metrics)| can(metrics))
    }

    pub(super) fn add_engine(&self, loops: &Loops, all: &mut Vec<Family>) {
        if self.herd.engine_status().is_none() {
            return;
        }
        self.show_engine();
        let help = "Whether there is a connection to the engine";
        let mut connected = Family::gauge("herd_engine_connected", help);
        let help = "How far the engine has come: 1 for the present state";
        let mut states = Family::gauge("herd_engine_state", help);
        for (index, (_, metrics)) in loops.iter().enumerate() {
            let number = (index + 1).to_string();
            connected.add([("loop", &number)], &metrics.engine.connected);
            for state in EngineStateLabel::ALL {
                let is_it = &metrics.engine.states[*state as usize];
                states.add([("loop", &number), ("state", state.text())], is_it);
            }
        }
        all.extend([connected, states]);
        let sum = |number: fn(&EngineMetrics) -> u64| {
            of_servers(loops, |it: &ServerMetrics| number(&it.engine))
        };
        let gauge = |name, help, number| Family::gauge(name, help).of(sum(number));
        let counter = |name, help, number| Family::counter(name, help).of(sum(number));
        let help = "Messages of the bucket that were not read yet";
        all.push(gauge("herd_engine_pending_messages", help, |it| it.pending.get()));
        let help = "Publishes that are not acknowledged yet";
        all.push(gauge("herd_engine_publishes_in_flight", help, |it| it.in_flight.get()));
        let help = "Updates that the engine has acknowledged";
        all.push(counter("herd_engine_acknowledged_total", help, |it| it.acknowledged.get()));
        let help = "Publishes that another server came before";
        all.push(counter("herd_engine_conflicts_total", help, |it| it.conflicts.get()));
        let help = "Updates that were published again, because the bucket held an older one";
        all.push(counter("herd_engine_repairs_total", help, |it| it.repairs.get()));
        let help = "Updates that were read from the bucket";
        all.push(counter("herd_engine_received_total", help, |it| it.received.get()));
        let help = "Values of the bucket that are no update of their client";
        all.push(counter("herd_engine_skipped_total", help, |it| it.skipped.get()));
        let help = "Connections to the engine that were made";
        all.push(counter("herd_engine_connections_total", help, |it| it.connections.get()));
        let help = "What kept the engine from being used";
        let mut errors = Family::counter("herd_engine_errors_total", help);
        for class in EngineError::ALL {
            let count = of_servers(loops, |it| it.engine.errors[*class as usize].get());
            errors.add([("class", class.text())], count);
        }
        all.push(errors);
        let help = "Answers that waited for the engine for too long, and were never given";
        let given_up = of_servers(loops, |it| it.engine.given_up.get());
        all.push(Family::counter("herd_engine_answers_given_up_total", help).of(given_up));
        if self.herd.is_cache() {
            add_cache(loops, all);
        }
    }
}

/// What a member counts that keeps a cache. Clients that have left it are among those of the table.
fn add_cache(loops: &Loops, all: &mut Vec<Family>) {
    let help = "Queries for clients, by what the engine answered";
    let mut queries = Family::counter("herd_engine_queries_total", help);
    for result in QueryResult::ALL {
        let count = of_servers(loops, |it| it.engine.queries[*result as usize].get());
        queries.add([("result", result.text())], count);
    }
    all.push(queries);
    let help = "Queries that wait for the engine now";
    let waiting = of_servers(loops, |it| it.engine.queries_waiting.get());
    all.push(Family::gauge("herd_engine_queries_waiting", help).of(waiting));
    let help = "Requests for a client that were sent to the engine";
    let asked = of_servers(loops, |it| it.engine.asked.get());
    all.push(Family::counter("herd_engine_lookups_total", help).of(asked));
    let help = "IAMATs that wait for room in the cache now";
    let waiting = of_servers(loops, |it| it.engine.waiting_for_room.get());
    all.push(Family::gauge("herd_engine_waiting_for_room", help).of(waiting));
}

impl From<EngineState> for EngineStateLabel {
    fn from(state: EngineState) -> EngineStateLabel {
        match state {
            EngineState::Disconnected => EngineStateLabel::Disconnected,
            EngineState::Refused => EngineStateLabel::Refused,
            EngineState::Filling => EngineStateLabel::Filling,
            EngineState::InSync => EngineStateLabel::InSync,
        }
    }
}
