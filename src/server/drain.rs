//! Draining: the server leaves, and its clients go elsewhere, not all at once. The loop decides when each of them is
//! closed; here is what operators, probes and clients see of it.

use std::time::Duration;

use super::Server;
use super::metrics::{ClosedReason, Kind, ServerMetrics};
use crate::clock::Now;
use crate::config::{StopSettings, format_duration};
use crate::errors::clients_are;
use crate::limits::SETTLE_HEARTBEATS;
use crate::logging::target;

/// How far a server is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainState {
    Serving,
    /// It is not ready, and goes on for a time; then it closes its clients evenly.
    Draining,
    /// It answers what has arrived, and ends.
    Stopping,
}

/// The drain of a server, or none.
#[derive(Debug, Default)]
pub(super) struct Draining {
    /// The settings in force.
    settings: StopSettings,
    /// When it began.
    since: Option<Duration>,
    /// Until when the neighbours' acknowledgements are waited for. Known once no client is left, in any loop.
    settles_until: Option<Duration>,
}

impl Draining {
    pub(super) fn new(settings: &StopSettings) -> Draining {
        Draining { settings: settings.clone(), since: None, settles_until: None }
    }

    /// Other settings; for a drain that has begun they come too late.
    pub(super) fn change(&mut self, settings: &StopSettings) {
        if self.since.is_none() {
            self.settings = settings.clone();
        }
    }

    /// When [`Draining::has_waited`] becomes true.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.settles_until
    }

    /// Whether the neighbours had enough time to acknowledge everything.
    pub(super) fn has_waited(&self, now: Duration) -> bool {
        self.settles_until.is_some_and(|until| until <= now)
    }
}

impl ServerMetrics {
    /// How far the server is on its way to the end. Any thread may ask.
    pub fn drain_state(&self) -> DrainState {
        let state = self.draining.get();
        let states = [DrainState::Serving, DrainState::Draining];
        states.into_iter().find(|one| *one as u64 == state).unwrap_or(DrainState::Stopping)
    }
}

impl Server {
    /// How far it is on its way to the end.
    pub fn drain_state(&self) -> DrainState {
        self.metrics.drain_state()
    }

    /// Whether it goes on, without draining.
    pub(super) fn is_serving(&self) -> bool {
        self.drain_state() == DrainState::Serving
    }

    /// Whether it listens for clients.
    pub(super) fn is_listening(&self, now: Now) -> bool {
        let closes_at = self.draining.since.map(|since| since + self.draining.settings.drain_delay);
        !self.is_stopping && closes_at.is_none_or(|at| now.elapsed < at)
    }

    /// The loop begins to drain.
    pub(super) fn begin_drain(&mut self, now: Now) {
        self.draining.since = Some(now.elapsed);
        self.rare.watches_turns = true;
        self.metrics.draining.set(DrainState::Draining as u64);
        let StopSettings { drain_delay, drain_duration, .. } = self.draining.settings;
        let clients = self.open_clients();
        let (delay, duration) = (format_duration(drain_delay), format_duration(drain_duration));
        log::info!(
            target: target::LOOP, event = "drain", clients = clients;
            "{} drains: {} connected; it listens for {delay} more, and closes them evenly until {duration} have passed.",
            self.log_name(),
            clients_are(clients)
        );
    }

    /// At the end of a turn: once no client is left, the wait for the neighbours begins. The first loop waits for the
    /// others before that.
    pub(super) fn watch_drain(&mut self, now: Duration) {
        let Draining { settings, since: Some(since), settles_until: None } = &self.draining else {
            return;
        };
        let is_closing = now >= *since + settings.drain_delay;
        if is_closing && self.other_loops == 0 && self.open_clients() == 0 {
            let heartbeat = self.herd.settings().heartbeat;
            self.draining.settles_until = Some(now + SETTLE_HEARTBEATS * heartbeat);
        }
    }

    /// The loop begins to stop. If it has drained until now, records how that went.
    pub(super) fn end_drain(&mut self, now: Now) {
        self.metrics.draining.set(DrainState::Stopping as u64);
        let Some(since) = self.draining.since else {
            return;
        };
        let drained = &self.metrics.closed[Kind::Client as usize][ClosedReason::Drained as usize];
        let (drained, left) = (drained.get(), self.open_clients());
        let took = now.elapsed.saturating_sub(since).as_secs();
        let left = match left {
            0 => String::new(),
            left => format!("; {} connected", clients_are(left)),
        };
        let plural = if drained == 1 { "client was" } else { "clients were" };
        log::info!(
            target: target::LOOP, event = "drained", clients = drained;
            "{} has drained for {took} s: {drained} {plural} closed{left}.",
            self.log_name()
        );
    }

    /// Clients of this loop.
    fn open_clients(&self) -> u64 {
        let own_loop = self.answers.own_loop();
        own_loop.map_or(0, |metrics| metrics.class(Kind::Client.class()).open.get())
    }
}
