//! A member that keeps a cache: which lines wait for the engine, and for how long.
//!
//! | file | what waits |
//! |---|---|
//! | `cache/queries.rs` | a WHATSAT, for what the engine has of its client |
//! | `cache/room.rs` | an IAMAT, for room in a cache of which nothing may be forgotten |
//!
//! A connection has at most one line that waits, so as many wait as there are connections.

mod queries;
mod room;

use std::time::Duration;

pub(in crate::server) use queries::WaitingQuery;
use room::Queue;
pub(in crate::server) use room::WaitingForRoom;

use super::{Server, earlier};
use crate::application::{Command, ConnectionId, Due, Io, Next};
use crate::config::{EngineConfig, EngineKeep};
use crate::limits::ENGINE_WAITS_PER_STEP;
use crate::server::metrics::{ClosedReason, Paused};
use crate::server::wait_deadlines::WaitDeadlines;

/// The lines that wait.
#[derive(Debug)]
pub(in crate::server) struct CacheWaits {
    deadlines: WaitDeadlines,
    for_room: Queue,
}

impl CacheWaits {
    /// None for a member that follows the bucket: it knows all clients, and has room for them.
    pub(super) fn of(config: &EngineConfig) -> Option<CacheWaits> {
        (config.keep == EngineKeep::Cache).then(|| CacheWaits {
            deadlines: WaitDeadlines::new(config.timeout),
            for_room: Queue::default(),
        })
    }

    /// When [`Server::judge_cache`] must be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        earlier(self.deadlines.poll_timeout(), self.for_room.poll_timeout())
    }
}

impl Server {
    /// Whether it keeps a cache: the engine is asked for each client that is queried.
    pub(in crate::server) fn keeps_cache(&self) -> bool {
        self.cache_waits().is_some()
    }

    fn cache_waits(&self) -> Option<&CacheWaits> {
        self.engine.as_ref()?.cache.as_ref()
    }

    fn cache_waits_mut(&mut self) -> Option<&mut CacheWaits> {
        self.engine.as_mut()?.cache.as_mut()
    }

    /// A connection begins to wait for the engine.
    fn waits_for_engine(&mut self, connection: ConnectionId, since: Duration) {
        if let Some(waits) = self.cache_waits_mut() {
            waits.deadlines.waits(connection, since);
        }
        self.metrics.pause(Paused::Engine);
    }

    /// It goes on waiting: its deadline may have been that of another line.
    fn goes_on_waiting(&mut self, connection: ConnectionId, since: Duration) {
        if let Some(waits) = self.cache_waits_mut() {
            waits.deadlines.waits(connection, since);
        }
    }

    /// It waits no longer.
    fn waited_for_engine(&mut self, connection: ConnectionId) {
        if let Some(waits) = self.cache_waits_mut() {
            waits.deadlines.waits_no_longer(connection);
        }
        self.metrics.resume(Paused::Engine);
    }

    fn has_waited_for_too_long(&self, since: Duration) -> bool {
        self.cache_waits().is_some_and(|waits| waits.deadlines.is_over(since))
    }

    /// It waited for too long: nothing more is sent to it.
    fn ends_without_answer(&mut self, io: &Io<'_>) -> Next {
        self.ends.insert(io.id, ClosedReason::AnswerTimeout);
        Next::Finish
    }

    /// Looks at the connections that wait for too long, and at those that wait for room.
    pub(super) fn judge_cache(&mut self, due: &mut Due<'_>) {
        let Some(engine) = self.engine.as_mut().filter(|engine| engine.cache.is_some()) else {
            return;
        };
        let now = due.now.elapsed;
        // What they wait for may have come, and was not read yet.
        let is_behind = engine.connected().is_some_and(|connected| due.is_behind(connected.id));
        if let Some(waits) = engine.cache.as_mut().filter(|_| !is_behind) {
            let overdue = waits.deadlines.take_overdue(now, ENGINE_WAITS_PER_STEP);
            self.commands.extend(overdue.into_iter().map(Command::Fill));
        }
        self.retry_for_room(now);
    }
}
