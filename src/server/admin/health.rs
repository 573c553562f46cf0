//! Health: `/livez` says whether a restart would help, `/readyz` whether clients should come, and `/healthz`, for
//! people and alerts, what is wrong.

use std::time::Duration;

use serde::Serialize;

use super::reply::Reply;
use super::watch::Sample;
use crate::application::LoopMetrics;
use crate::clock::Now;
use crate::limits::LOOP_STUCK_AFTER;
use crate::logging;
use crate::server::metrics::{EngineStateLabel, PlacesResult};
use crate::server::{AllMetrics, EngineLinkState, Server};

/// The answer to `/livez`.
#[derive(Serialize)]
struct Live {
    status: &'static str,
    checks: LiveChecks,
}

#[derive(Serialize)]
struct LiveChecks {
    /// Every loop has ended a turn within the last seconds.
    loops_turn: bool,
}

/// The answer to `/readyz`.
#[derive(Serialize)]
struct Ready {
    status: &'static str,
    checks: ReadyChecks,
}

#[derive(Serialize)]
struct ReadyChecks {
    /// The server has been in sync with its neighbours since its start.
    in_sync: bool,
    /// `ready_timeout` has passed, so that the server no longer waits to be in sync.
    ready_timeout: bool,
    /// The server listens.
    listeners: bool,
    /// The server stops accepting clients in order to end.
    draining: bool,
    /// The server has known all that the engine's bucket holds at some time since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_filled: Option<bool>,
    /// A server that keeps a cache can ask the engine for a client now.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_asked: Option<bool>,
    /// How far it has come with the engine now. One that follows the bucket is ready without an engine: it answers WHATSAT,
    /// and other members would do no better.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'static str>,
    /// The state directory can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    state_works: Option<bool>,
}

/// The answer to `/healthz`.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

impl Server {
    pub(super) fn livez(&self, now: Now) -> Reply {
        let stuck = stuck_loop(&self.all_metrics, now.elapsed, LOOP_STUCK_AFTER);
        let loops_turn = stuck.is_none();
        let (code, status) = if loops_turn { (200, "ok") } else { (503, "stuck") };
        Reply::json(code, &Live { status, checks: LiveChecks { loops_turn } })
    }

    pub(super) fn readyz(&self, now: Now) -> Reply {
        let is_cache = self.herd.is_cache();
        let follows = self.herd.engine_status().is_some() && !is_cache;
        let checks = ReadyChecks {
            in_sync: self.herd.is_in_sync(),
            ready_timeout: self.has_ready_timeout_passed(now),
            listeners: self.is_listening(now),
            draining: !self.is_serving(),
            engine_filled: follows.then(|| self.was_filled_by_engine()),
            engine_asked: is_cache.then(|| self.can_ask_engine()),
            engine: self.herd.engine_status().map(|it| EngineStateLabel::from(it.state).text()),
            state_works: self.state_numbers().map(|numbers| !numbers.is_failing),
        };
        let (code, status) = if self.is_ready(now) { (200, "ok") } else { (503, "not ready") };
        Reply::json(code, &Ready { status, checks })
    }

    /// Whether clients should come.
    pub(super) fn is_ready(&self, now: Now) -> bool {
        let is_filled = self.herd.is_in_sync() && self.was_filled_by_engine();
        let is_filled = is_filled || self.has_ready_timeout_passed(now);
        is_filled && self.is_serving() && !self.lacks_its_disk() && !self.lacks_its_engine()
    }

    /// Whether it can't answer a query, because it keeps a cache of an engine that can't be asked. Other servers may.
    fn lacks_its_engine(&self) -> bool {
        self.herd.is_cache() && !self.can_ask_engine()
    }

    /// Whether it can't answer an IAMAT, because its answers wait for a disk that fails. Other servers can.
    fn lacks_its_disk(&self) -> bool {
        self.herd.answer_after().disk && self.state_numbers().is_some_and(|it| it.is_failing)
    }

    fn has_ready_timeout_passed(&self, now: Now) -> bool {
        let since = now.elapsed.saturating_sub(self.started.elapsed);
        self.admin.as_ref().is_some_and(|admin| since >= admin.settings.ready_timeout)
    }

    pub(super) fn healthz(&mut self, is_strict: bool, now: Now) -> Reply {
        let reasons = self.degraded(now);
        let (code, status) = match reasons.is_empty() {
            true => (200, "ok"),
            false if is_strict => (503, "degraded"),
            false => (200, "degraded"),
        };
        Reply::json(code, &Health { status, reasons })
    }

    /// What is wrong, in words.
    pub(super) fn degraded(&mut self, now: Now) -> Vec<String> {
        let mut reasons: Vec<String> = self.broken_links(now).collect();
        let sample = self.health_sample(now.elapsed);
        if let Some(admin) = &mut self.admin {
            admin.watch.add(sample);
            match admin.watch.dropped(&sample) {
                0 => {}
                count => {
                    reasons.push(format!("the log has dropped {count} records in the last minute"))
                }
            }
            if let Some(time) = admin.watch.failing(&sample) {
                let seconds = time.as_secs();
                reasons.push(format!("queries for places have failed for {seconds} s"));
            }
        }
        reasons.extend(self.tls.expiries.degraded(now.wall));
        reasons.extend(self.broken_engine(now));
        if let Some((time, reason)) = self.state_failing() {
            let seconds = time.as_secs();
            reasons
                .push(format!("the state directory can't be written, for {seconds} s: {reason}"));
        }
        if !self.reload_state().last_successful {
            reasons.push("the last reload of the configuration failed; the log says why".into());
        }
        let loops = &self.all_metrics.loops;
        if loops.iter().any(|(metrics, _)| metrics.accept_paused_now.get() > 0) {
            reasons.push("no connection can be accepted: descriptors or memory are missing".into());
        }
        if let Some(number) = stuck_loop(&self.all_metrics, now.elapsed, LOOP_STUCK_AFTER) {
            reasons.push(format!("loop {number} is stuck"));
        }
        reasons
    }

    /// A neighbour that is silent for three heartbeats is disconnected, and so its link is down.
    fn broken_links(&self, now: Now) -> impl Iterator<Item = String> {
        self.other_servers().flat_map(move |(id, known)| {
            let out = (!self.herd.link_is_up(id)).then(|| {
                let time = self.herd.link_lag(id, now).as_secs();
                let reason = known.link_error.as_ref().map(|error| format!(": {}", error.reason));
                let reason = reason.unwrap_or_default();
                format!("the link to {} is down, for {time} s{reason}", known.name)
            });
            let inbound = (!self.herd.peer_is_connected(id))
                .then(|| format!("{} is not connected to this server", known.name));
            out.into_iter().chain(inbound)
        })
    }

    /// What keeps the engine from being used.
    fn broken_engine(&self, now: Now) -> Option<String> {
        let link = self.engine_link_status()?;
        if link.state == EngineLinkState::Down {
            let time = now.elapsed.saturating_sub(link.since).as_secs();
            let reason = link.error.map(|(reason, _)| format!(": {reason}")).unwrap_or_default();
            return Some(format!("the engine is not connected, for {time} s{reason}"));
        }
        let reason = self.herd.engine_refusal()?;
        Some(format!("the engine's bucket can't be used: {reason}"))
    }

    /// The counters that show trouble, at this time.
    pub(super) fn health_sample(&self, at: Duration) -> Sample {
        let mut sample = Sample { at, ..Sample::default() };
        sample.dropped = logging::counters().outputs.iter().map(|output| output.dropped).sum();
        for (_, metrics) in &self.all_metrics.loops {
            for result in PlacesResult::ALL {
                let count = metrics.places.requests[*result as usize].get();
                match result {
                    PlacesResult::Ok => sample.succeeded += count,
                    PlacesResult::Busy => {} // A limit of ours.
                    _ => sample.failed += count,
                }
            }
        }
        sample
    }
}

/// The number of a loop that has not ended its turn for this long, counted from 1. `now` is of the first loop, which
/// asks.
pub(in crate::server) fn stuck_loop(
    all: &AllMetrics,
    now: Duration,
    after: Duration,
) -> Option<usize> {
    let (reader, _) = all.loops.first()?;
    let is_stuck =
        |metrics: &LoopMetrics| metrics.busy_for(reader, now).is_some_and(|busy| busy >= after);
    let place = all.loops.iter().skip(1).position(|(metrics, _)| is_stuck(metrics))?;
    Some(place + 2)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_loop_that_does_not_end_its_turn_is_stuck() {
        let start = Instant::now();
        let of = |_| (Arc::new(LoopMetrics::new(start)), Arc::default());
        let all = AllMetrics { loops: (0..3).map(of).collect(), ..AllMetrics::default() };
        let stuck = |seconds| stuck_loop(&all, Duration::from_secs(seconds), LOOP_STUCK_AFTER);
        assert_eq!(stuck(1_000), None, "all wait");
        all.loops[0].0.busy_since.set(1_000_000_000);
        assert_eq!(stuck(1_000), None, "the first one asks, so it turns");
        all.loops[2].0.busy_since.set(5_000_000_000);
        assert_eq!((stuck(14), stuck(15)), (None, Some(3)));
        all.loops[2].0.busy_since.set(0);
        assert_eq!(stuck(15), None);
    }
}
