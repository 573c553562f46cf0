//! The log records about connections and about the herd (section 6).

pub(super) mod engine;

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::Duration;

use super::metrics::{Direction, ServerMetrics, Transition, UpdateResult, UpdateSource};
use super::neighbour::Neighbour;
use super::tls::Shown;
use super::{Server, handover};
use crate::application::{ClosedConnection, Opened, Refused};
use crate::clock::WallTime;
use crate::config::format_duration;
use crate::connection_records;
use crate::herd::engine::EngineEvent;
use crate::herd::{Applied, Event, HELLO_RECEIVED, NeighbourId, Observer};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, Field, IdBase64, TO_ENGINE, Traffic, field, target};
use crate::protocol::{Common, UpdateRef};

/// Records why the previous line was refused: at INFO with the traffic, and as a rate-limited warning for logs without
/// traffic.
pub(super) fn refused(kind: Kind, from: impl Display, reason: impl Display) {
    let fields = [field("peer", &from), field("reason", &reason)];
    rate_limit::note(kind, &fields, format_args!("Refused from {from}: {reason}."));
}

/// Records that a line of a client waits, because its group of addresses adds ids too fast.
pub(super) fn delayed(peer: SocketAddr, per_second: usize) {
    let text = format_args!(
        "{peer} waits: its addresses add ids faster than limits.new_ids_per_second ({per_second})"
    );
    rate_limit::warn(Kind::NewIdDelayed, &[field("peer", &peer)], text);
}

/// An answer was held back for so long, or in vain, and is not given.
pub(super) fn given_up(peer: SocketAddr, timeout: Option<Duration>) {
    let why = match timeout {
        Some(timeout) => {
            format!("has not acknowledged its update for {}", format_duration(timeout))
        }
        None => "does not take its update".to_owned(),
    };
    let text = format_args!("{peer} gets no answer: the engine {why}; the connection is closed");
    rate_limit::warn(Kind::AnswerGivenUp, &[field("peer", &peer)], text);
}

/// A neighbour's line.
pub(super) fn received_from_neighbour(name: &str, line: &[u8]) {
    Traffic::of_link(line).received(name, line);
}

/// The answer to a neighbour's line.
pub(super) fn sent_to_neighbour(name: &str, answer: &[u8]) {
    Traffic::of_link(answer).sent(name, answer);
}

/// What to add to the record of a connection that is open with TLS: its version, and whom the certificate names.
pub(super) fn by_tls(opened: &Opened<'_>) -> String {
    let Some(tls) = opened.tls else {
        return String::new();
    };
    let version = tls.version.number();
    match Shown::of(opened) {
        None => format!(" (TLS {version})"),
        Some(shown) => format!(" (TLS {version}, the certificate names {shown})"),
    }
}

/// What to add to the reason of a refused line that begins like a TLS handshake (RFC 8446, section 5.1).
pub(super) fn tls_hint(line: &[u8]) -> &'static str {
    if line.starts_with(b"\x16\x03") { " (this looks like TLS)" } else { "" }
}

/// An inbound connection was closed: a client's, or that of a neighbour whose name is known or not.
pub(super) fn disconnected(target: &str, neighbour: Option<&str>, peer: SocketAddr) {
    let who = neighbour.unwrap_or(if target == target::CLIENT { "Client" } else { "Peer" });
    log::info!(
        target: target, event = "connection_closed", peer:% = peer, neighbour = neighbour;
        "{who} {peer} is disconnected."
    );
}

/// What is done with an update of a neighbour besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpdateWatch {
    /// The time by which its delay is measured, if it is.
    pub(super) arrival: Option<WallTime>,
    /// It can't be sent to the engine now, which is recorded.
    pub(super) is_engine_down: bool,
}

/// Counts the herd's events, and writes them into the log.
pub(super) struct HerdLog<'a> {
    /// What the log calls the server.
    name: &'a str,
    neighbours: &'a [Neighbour],
    metrics: &'a ServerMetrics,
    /// What is done besides with each update of a neighbour.
    watch: Option<UpdateWatch>,
}

impl<'a> HerdLog<'a> {
    pub(super) fn new(
        name: &'a str,
        neighbours: &'a [Neighbour],
        metrics: &'a ServerMetrics,
    ) -> HerdLog<'a> {
        HerdLog { name, neighbours, metrics, watch: None }
    }

    pub(super) fn watch_update(&mut self, watch: Option<UpdateWatch>) {
        self.watch = watch;
    }

    fn neighbour(&self, neighbour: NeighbourId) -> &Neighbour {
        &self.neighbours[usize::from(neighbour.0)]
    }

    fn name(&self, neighbour: NeighbourId) -> &str {
        &self.neighbour(neighbour).log_name
    }
}

impl Observer for HerdLog<'_> {
    /// Most events are updates, and they are rarely recorded one by one. They must cost only the test of a bit, and not
    /// the stack frame of a function that formats.
    fn record(&mut self, event: Event<'_>) {
        // By reference: an update is not copied for this.
        let is_recorded = match &event {
            Event::Sending { .. } | Event::CannotSend { .. } => Traffic::Flood.is_recorded(),
            Event::HandedOver { .. } => Traffic::Link.is_recorded(),
            Event::Applied { update, from, applied } => {
                self.count_applied(update, *from, *applied);
                log::log_enabled!(target: target::TABLE, log::Level::Debug)
            }
            _ => true,
        };
        if is_recorded {
            self.write(&event);
        }
    }
}

impl HerdLog<'_> {
    #[inline]
    fn count_applied(&self, update: &UpdateRef<'_>, from: Option<NeighbourId>, applied: Applied) {
        let result = result_of(applied);
        match from {
            None => self.metrics.count_update(UpdateSource::Client, result),
            Some(neighbour) => self.count_received(update, neighbour, result),
        }
    }

    #[inline]
    fn count_received(&self, update: &UpdateRef<'_>, from: NeighbourId, result: UpdateResult) {
        let from = self.neighbour(from);
        if from.is_loop() {
            return; // It was counted where it came into this server.
        }
        self.metrics.count_update(UpdateSource::Neighbour, result);
        from.metrics.count_updates(Direction::In, 1);
        if let Some(watch) = self.watch {
            watched(update, from, result, watch);
        }
    }

    /// Counts what happens to a link.
    fn count(&self, event: &Event<'_>) {
        let (neighbour, direction, transition) = match *event {
            Event::LinkUp { neighbour, .. } => (neighbour, Direction::Out, Transition::Connected),
            Event::LinkDown { neighbour, reason } if reason == HELLO_RECEIVED => {
                (neighbour, Direction::Out, Transition::Replaced)
            }
            Event::LinkDown { neighbour, .. } => (neighbour, Direction::Out, Transition::Timeout),
            Event::PeerIdentified { neighbour, .. } => {
                (neighbour, Direction::In, Transition::Connected)
            }
            Event::PeerTimedOut { neighbour } => (neighbour, Direction::In, Transition::Timeout),
            Event::UpdateSkipped { neighbour, .. } => {
                let metrics = &self.neighbour(neighbour).metrics;
                metrics.count_updates(Direction::In, 1);
                return metrics.malformed.add(1);
            }
            Event::Engine(EngineEvent::Received { applied, .. }) => {
                return self.metrics.count_update(UpdateSource::Engine, result_of(applied));
            }
            // Each update is followed by a MARK.
            Event::MarkSent { neighbour, updates, .. } => {
                let metrics = &self.neighbour(neighbour).metrics;
                return metrics.count_updates(Direction::Out, updates as u64);
            }
            _ => return,
        };
        self.neighbour(neighbour).metrics.count(direction, transition);
    }

    #[inline(never)]
    fn write(&self, event: &Event<'_>) {
        self.count(event);
        match *event {
            Event::Sending { update, neighbour } => {
                let update = update.get();
                Traffic::Flood.sending(update.id, update.location, self.name(neighbour));
            }
            Event::HandedOver { neighbour, batch } => handover::record(self.name(neighbour), batch),
            Event::CannotSend { update, neighbour } => {
                Traffic::Flood.cannot_send(update.id, update.location, self.name(neighbour));
            }
            Event::Applied { update, applied, .. } => record_applied(update.id, applied),
            Event::MarkSent { neighbour, seq, .. } => {
                let name = self.name(neighbour);
                log::debug!(
                    target: target::LINK, event = "line_sent", neighbour = name;
                    "Sent to {name}: MARK {}", seq.0
                );
            }
            Event::SettingsSent {
                neighbour,
                settings: Common { dialect, max_clients, max_future },
            } => {
                let (dialect, name) = (Escaped(dialect), self.name(neighbour));
                log::info!(
                    target: target::LINK, event = "line_sent", neighbour = name;
                    "Sent to {name}: SETTINGS {dialect} {max_clients} {max_future}"
                );
            }
            Event::CatchUpReceived { neighbour, updates } => {
                let (plural, name) = (plural(updates), self.name(neighbour));
                log::info!(
                    target: target::LINK,
                    event = "catch_up_received", neighbour = name, updates = updates;
                    "Received {updates} missed update{plural} from {name}."
                );
            }
            Event::InSync => {
                log::info!(target: target::LINK, event = "in_sync"; "{} is in sync with its neighbours.", self.name)
            }
            Event::Engine(event) => engine::note(self.name, &event),
            event => self.note_link(event),
        }
    }
}

impl HerdLog<'_> {
    /// A warning about one neighbour. It is limited separately, so that warnings about others do not suppress it.
    fn warn(
        &self,
        kind: Kind,
        neighbour: NeighbourId,
        reason: Option<Field<'_>>,
        text: fmt::Arguments<'_>,
    ) {
        let name = ("neighbour", self.name(neighbour).into());
        match reason {
            Some(reason) => rate_limit::warn_of(kind, neighbour.0, &[name, reason], text),
            None => rate_limit::warn_of(kind, neighbour.0, &[name], text),
        }
    }

    /// Events of links and peers, which are rarer than updates.
    fn note_link(&self, event: Event<'_>) {
        match event {
            Event::LinkUp { neighbour, from, behind } => log::info!(
                target: target::LINK, event = "link_up", neighbour = self.name(neighbour);
                "The link to {} is up; it has all up to {}, and {behind} changes follow.",
                self.name(neighbour),
                from.0
            ),
            Event::CatchUpSent { neighbour, updates } => {
                let (plural, name) = (plural(updates), self.name(neighbour));
                log::info!(
                    target: target::LINK,
                    event = "catch_up_sent", neighbour = name, updates = updates;
                    "Sent {updates} missed update{plural} to {name}."
                );
            }
            Event::LinkDown { neighbour, reason } => self.warn(
                Kind::LinkLost,
                neighbour,
                Some(field("reason", &reason)),
                format_args!("Link to {} lost: {reason}. Reconnecting.", self.name(neighbour)),
            ),
            Event::PeerIdentified { neighbour, from } => {
                let from = from.map_or(0, |seq| seq.0);
                log::info!(
                    target: target::LINK, event = "peer_identified", neighbour = self.name(neighbour);
                    "{} is connected, and sends the updates after {from}.",
                    self.name(neighbour)
                );
            }
            Event::UpdateSkipped { neighbour, error, line } => self.warn(
                Kind::UpdateSkipped,
                neighbour,
                Some(field("reason", &error)),
                format_args!(
                    "Skipped a malformed update from {}: {error}: {}",
                    self.name(neighbour),
                    Escaped(line)
                ),
            ),
            Event::PeerRejected { reason, line } => {
                let (hint, line) = (tls_hint(line), Escaped(line));
                let text = format_args!(
                    "Refused on the neighbours' port: {reason}{hint}: {line}. The connection is closed."
                );
                rate_limit::note(Kind::PeerLineRefused, &[field("reason", &reason)], text);
            }
            Event::PeerTimedOut { neighbour } => self.warn(
                Kind::NeighbourSilent,
                neighbour,
                None,
                format_args!(
                    "{} sent nothing for three heartbeats and is disconnected.",
                    self.name(neighbour)
                ),
            ),
            _ => {}
        }
    }
}

/// A neighbour's update is looked at.
#[cold]
fn watched(update: &UpdateRef<'_>, from: &Neighbour, result: UpdateResult, watch: UpdateWatch) {
    if let Some(arrival) = watch.arrival {
        measure_delay(update, from, arrival);
    }
    if watch.is_engine_down && result == UpdateResult::Stored {
        Traffic::Engine.cannot_send(update.id, update.location, TO_ENGINE);
    }
}

/// Measures how long an update took since a client told a neighbour where it is.
fn measure_delay(update: &UpdateRef<'_>, from: &Neighbour, arrival: WallTime) {
    let told = update.timestamp.nanos.saturating_add(update.skew.0);
    let delay = arrival.0.saturating_sub(told).clamp(0, i128::from(u64::MAX));
    from.metrics.flood_delay.observe(Duration::from_nanos(delay as u64));
}

#[inline]
fn result_of(applied: Applied) -> UpdateResult {
    match applied {
        Applied::Stored(_) => UpdateResult::Stored,
        Applied::Stale => UpdateResult::Stale,
        Applied::BelowFloor => UpdateResult::BelowFloor,
        Applied::NoRoom => UpdateResult::NoRoom,
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl Server {
    /// Records why a connection was closed, if it was by a limit or by an error.
    pub(super) fn record_closed(&self, closed: &ClosedConnection<'_>) {
        connection_records::closed(closed, target::LOOP, "line", &self.limits);
    }

    /// Records that a connection was not accepted.
    pub(super) fn record_refused(&self, why: &Refused) {
        match why {
            Refused::Limit(peer) => connection_records::client_rejected(*peer, &self.limits),
            Refused::Group(peer) => connection_records::group_rejected(*peer, &self.limits),
            Refused::Handshake(peer, _, reason) => {
                let reason = Escaped(reason.as_bytes());
                connection_records::rejected(Kind::TlsFailed, *peer, format_args!("{reason}"));
            }
            Refused::Kernel(error) => connection_records::accept_failed(error),
        }
    }
}

fn record_applied(id: &[u8], applied: Applied) {
    let (id, base64) = (Escaped(id), IdBase64(id));
    match applied {
        Applied::Stored(seq) => log::debug!(
            target: target::TABLE, event = "update_stored", id:% = id, id_base64:% = base64;
            "Stored {id} as change {}.", seq.0
        ),
        Applied::Stale => log::debug!(
            target: target::TABLE, event = "update_stale", id:% = id, id_base64:% = base64;
            "{id} is already known with this update or a newer one."
        ),
        Applied::BelowFloor => log::debug!(
            target: target::TABLE, event = "update_too_old", id:% = id, id_base64:% = base64;
            "{id} is older than what a full table keeps."
        ),
        Applied::NoRoom => log::debug!(
            target: target::TABLE, event = "update_not_taken", id:% = id, id_base64:% = base64;
            "The cache is full of clients whose updates the engine does not have yet: it has no room for {id}."
        ),
    }
}
