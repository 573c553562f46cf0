//! What the events say, from what the server knows.

use std::time::Duration;

use super::Events;
use super::clients::ClientMap;
use super::state::{
    Delta, DiskShown, EngineShown, KeptShown, LinkShown, MapShown, Numbers, RecordShown, State,
    event,
};
use crate::clock::Now;
use crate::limits::EVENT_TURNS;
use crate::logging::{self, TailRecord, target};
use crate::server::admin::values::{seconds, time};
use crate::server::metrics::{EngineStateLabel, Kind, LineCommand, LineResult};
use crate::server::{DrainState, Server, ServerMetrics};

impl Server {
    pub(super) fn event_state(&mut self, events: &mut Events, now: Now) -> Vec<u8> {
        if events.map.is_none() && self.shows_ids {
            events.map = Some(ClientMap::new(self.herd.table()));
        }
        if events.last_turn.is_zero() {
            events.last_turn = now.elapsed;
            events.last_record = logging::latest_records(0, |_, _| false).1;
        }
        let numbers = self.event_numbers(now);
        let settings = self.herd.settings();
        let Some(admin) = &self.admin else { return Vec::new() };
        let state = State {
            server: &settings.name,
            version: env!("CARGO_PKG_VERSION"),
            epoch: format!("{:016x}", settings.epoch.0),
            positions: self.shows_ids,
            herd: &admin.herd,
            numbers,
            links: self.links_shown(now),
            turns: self.turns_shown(|start| start <= events.last_turn).0,
            map: events.map.as_mut().map(MapShown::all),
            log: self.records_shown(0, events.last_record).0,
        };
        event("state", &state)
    }

    pub(super) fn add_delta(&mut self, events: &mut Events, now: Now) {
        if let Some(map) = &mut events.map {
            map.follow(self.herd.table());
        }
        let numbers = self.event_numbers(now);
        let links = self.links_shown(now);
        let as_event = event("links", &links);
        let has_changed = events.links != as_event;
        events.links = as_event;
        let (turns, last) = self.turns_shown(|start| start > events.last_turn);
        events.last_turn = last.unwrap_or(events.last_turn);
        let map = events.map.as_mut().and_then(MapShown::changes);
        let links = has_changed.then_some(links);
        events.ring.push(event("delta", &Delta { numbers, links, turns, map }));
        let (log, last) = self.records_shown(events.last_record, u64::MAX);
        events.last_record = last;
        if !log.is_empty() {
            events.ring.push(event("log", &log));
        }
    }

    fn event_numbers(&mut self, now: Now) -> Numbers {
        let trouble = self.degraded(now);
        let loops = &self.all_metrics.loops;
        let lines = |of: &ServerMetrics| -> u64 {
            let pairs = LineCommand::ALL
                .iter()
                .flat_map(|command| LineResult::ALL.iter().map(move |result| (*command, *result)));
            pairs.map(|(command, result)| of.lines(command, result)).sum()
        };
        Numbers {
            time: time(now.wall),
            uptime: seconds(now.elapsed.saturating_sub(self.started.elapsed)),
            phase: match self.drain_state() {
                DrainState::Serving => "running",
                DrainState::Draining => "draining",
                DrainState::Stopping => "stopping",
            },
            trouble,
            clients: self.herd.table().len(),
            connections: loops
                .iter()
                .map(|(of, _)| of.class(Kind::Client.class()).open.get())
                .sum(),
            lines: loops.iter().map(|(_, of)| lines(of)).sum(),
            loops: loops.len(),
            kept: self.kept_shown(),
        }
    }

    /// What keeps updates outside the process. The state directory and the engine have numbers of their own.
    fn kept_shown(&self) -> Option<KeptShown> {
        let after = self.herd.answer_after();
        let loops = &self.all_metrics.loops;
        let disk = self.state_numbers().map(|numbers| DiskShown {
            ack: after.disk,
            failing: numbers.is_failing,
            unwritten: self.herd.disk_uncommitted(),
            bytes: numbers.bytes,
            commit: seconds(numbers.last_commit),
            reason: self.state_failing().map(|(_, reason)| reason),
        });
        let engine = self.engine_link_status().map(|link| {
            self.show_engine();
            let engines = loops.iter().map(|(_, of)| of.engine.shown());
            let (state, pending, in_flight) = engines.fold(
                (EngineStateLabel::InSync, 0, 0),
                |(worst, pending, in_flight), (state, to_read, waiting)| {
                    (worst.min(state), pending + to_read, in_flight + waiting)
                },
            );
            let reason = match state {
                EngineStateLabel::InSync => None,
                _ => self.herd.engine_refusal().or(link.error.map(|(reason, _)| reason)),
            };
            EngineShown {
                ack: after.engine,
                state: state.text(),
                address: link.peer.map(|peer| peer.to_string()),
                version: link.server.map(|(_, version)| version.to_string()),
                pending,
                in_flight,
                reason: reason.map(str::to_owned),
            }
        });
        let held = loops.iter().map(|(_, of)| of.held_answers.get()).sum();
        (disk.is_some() || engine.is_some()).then_some(KeptShown { held, disk, engine })
    }

    pub(in crate::server::admin) fn links_shown(&self, now: Now) -> Vec<LinkShown<'_>> {
        let links = self.other_servers().map(|(id, known)| {
            let out = self.herd.link_status(id).state;
            let is_in = self.herd.inbound_status(id).is_up;
            let is_out = self.herd.link_is_up(id);
            let error = match (is_out, is_in) {
                (false, _) => known.link_error.as_ref(),
                (true, false) => known.peer_error.as_ref(),
                (true, true) => None,
            };
            LinkShown {
                neighbour: &known.name,
                up: is_out && is_in,
                out,
                inbound: if is_in { "up" } else { "down" },
                lag: (seconds(self.herd.link_lag(id, now)) * 10.0).round() / 10.0,
                reason: error.map(|error| error.reason.clone()),
            }
        });
        links.collect()
    }

    /// The latest records of the log after one number and up to another, and the number of the last one that there is.
    /// Without positions there are none that may hold some, and of warnings only that there were some: they quote lines.
    fn records_shown(&self, after: u64, until: u64) -> (Vec<RecordShown>, u64) {
        let is_shown =
            |target: &str, is_warning: bool| self.shows_ids || is_warning || !holds_ids(target);
        let (records, last) = logging::latest_records(after, is_shown);
        let records = records.into_iter().filter(|record| record.number <= until);
        let records = records.map(|record| match self.shows_ids || !holds_ids(record.target) {
            true => record,
            false => TailRecord { text: HIDDEN.to_owned(), ..record },
        });
        (records.map(RecordShown::new).collect(), last)
    }

    /// Durations of the latest turns of the first loop of which that is true, and when the last of them began.
    fn turns_shown(&self, is_shown: impl Fn(Duration) -> bool) -> (Vec<f64>, Option<Duration>) {
        let latest = self.all_metrics.loops.first().map(|(of, _)| of.latest_turns(EVENT_TURNS));
        let latest = latest.unwrap_or_default().into_iter().filter(|turn| is_shown(turn.start));
        let latest: Vec<_> = latest.collect();
        let microseconds = |duration: Duration| (seconds(duration) * 1e7).round() / 10.0;
        let durations = latest.iter().map(|turn| microseconds(turn.duration)).collect();
        (durations, latest.last().map(|turn| turn.start))
    }
}

/// Whether records of a target hold ids and positions of clients. A target that is not known here may.
fn holds_ids(target: &str) -> bool {
    !matches!(
        target,
        target::HTTP
            | target::ADMIN
            | target::TLS
            | target::CONFIG
            | target::LOOP
            | target::STATE
            | target::SUPERVISOR
    )
}

/// In place of a text that may hold ids and positions.
const HIDDEN: &str =
    "(see the log: this may quote ids and positions, and [admin] positions is not set)";
