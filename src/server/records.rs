//! What the log says of connections and of the herd (section 6).

use std::fmt::{self, Display};
use std::net::SocketAddr;

use super::Server;
use super::neighbour::Neighbour;
use crate::application::{Closed, ClosedConnection, Refused};
use crate::config::format_duration;
use crate::errors::plain;
use crate::herd::{Applied, Event, NeighbourId, Observer};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, Traffic, target};
use crate::protocol::Common;

/// Why the line before was refused: with the traffic, and once in a while where the traffic is not
/// recorded.
pub(super) fn refused(kind: Kind, from: impl Display, reason: impl Display) {
    log::info!(target: kind.target(), "Refused from {from}: {reason}.");
    rate_limit::warn_or_count(kind, format_args!("Refused from {from}: {reason}."));
}

/// A neighbour's line.
pub(super) fn received_from_neighbour(name: &str, line: &[u8]) {
    Traffic::of_link(line).received(name, line);
}

/// What answers a neighbour's line.
pub(super) fn sent_to_neighbour(name: &str, answer: &[u8]) {
    Traffic::of_link(answer).sent(name, answer);
}

/// An inbound connection was closed.
pub(super) fn disconnected(who: &str, peer: SocketAddr) {
    let target = if who == "Client" { target::CLIENT } else { target::LINK };
    log::info!(target: target, "{who} {peer} is disconnected.");
}

/// Writes the herd's events into the log.
pub(super) struct HerdLog<'a>(pub(super) &'a str, pub(super) &'a [Neighbour]);

impl HerdLog<'_> {
    fn name(&self, neighbour: NeighbourId) -> &str {
        &self.1[usize::from(neighbour.0)].log_name
    }
}

impl Observer for HerdLog<'_> {
    /// Updates are most of the events, and rarely recorded one by one: they must cost a look at a bit, and
    /// not the frame of a function that formats.
    fn record(&mut self, event: Event<'_>) {
        let is_recorded = match event {
            Event::Sending { .. } | Event::CannotSend { .. } => Traffic::Flood.is_recorded(),
            Event::Applied { .. } => log::log_enabled!(target: target::TABLE, log::Level::Debug),
            _ => true,
        };
        if is_recorded {
            self.write(&event);
        }
    }
}

impl HerdLog<'_> {
    #[inline(never)]
    fn write(&self, event: &Event<'_>) {
        match *event {
            Event::Sending { update, neighbour } => {
                Traffic::sending(update.id, update.location, self.name(neighbour));
            }
            Event::CannotSend { update, neighbour } => {
                Traffic::cannot_send(update.id, update.location, self.name(neighbour));
            }
            Event::Applied { update, applied } => record_applied(Escaped(update.id), applied),
            Event::MarkSent { neighbour, seq } => {
                log::debug!(target: target::LINK, "Sent to {}: MARK {}", self.name(neighbour), seq.0);
            }
            Event::SettingsSent {
                neighbour,
                settings: Common { dialect, max_clients, max_future },
            } => {
                let dialect = Escaped(dialect);
                log::info!(
                    target: target::LINK,
                    "Sent to {}: SETTINGS {dialect} {max_clients} {max_future}",
                    self.name(neighbour)
                );
            }
            Event::CatchUpReceived { neighbour, updates } => {
                let plural = plural(updates);
                log::info!(
                    target: target::LINK,
                    "Received {updates} missed update{plural} from {}.",
                    self.name(neighbour)
                );
            }
            Event::InSync => {
                log::info!(target: target::LINK, "{} is in sync with its neighbours.", self.0)
            }
            event => self.note_link(event),
        }
    }
}

impl HerdLog<'_> {
    /// A warning that concerns one neighbour, which others must not keep from being said.
    fn warn(&self, kind: Kind, neighbour: NeighbourId, text: fmt::Arguments<'_>) {
        rate_limit::warn_of(kind, neighbour.0, text);
    }

    /// What happens to links and peers, which is rarer than updates.
    fn note_link(&self, event: Event<'_>) {
        match event {
            Event::LinkUp { neighbour, from, behind } => log::info!(
                target: target::LINK,
                "The link to {} is up; it has all up to {}, and {behind} changes follow.",
                self.name(neighbour),
                from.0
            ),
            Event::CatchUpSent { neighbour, updates } => {
                let plural = plural(updates);
                log::info!(target: target::LINK, "Sent {updates} missed update{plural} to {}.", self.name(neighbour));
            }
            Event::LinkDown { neighbour, reason } => self.warn(
                Kind::LinkLost,
                neighbour,
                format_args!("Link to {} lost: {reason}. Reconnecting.", self.name(neighbour)),
            ),
            Event::PeerIdentified { neighbour, from } => {
                let from = from.map_or(0, |seq| seq.0);
                log::info!(
                    target: target::LINK,
                    "{} is connected, and sends what is after {from}.",
                    self.name(neighbour)
                );
            }
            Event::UpdateSkipped { neighbour, error, line } => self.warn(
                Kind::UpdateSkipped,
                neighbour,
                format_args!(
                    "Skipped a malformed update from {}: {error}: {}",
                    self.name(neighbour),
                    Escaped(line)
                ),
            ),
            Event::PeerRejected { reason, .. } => {
                let text = format_args!(
                    "Refused on the neighbours' port: {reason}. The connection is closed."
                );
                log::info!(target: target::LINK, "{text}");
                rate_limit::warn_or_count(Kind::PeerLineRefused, text);
            }
            Event::PeerTimedOut { neighbour } => self.warn(
                Kind::NeighbourSilent,
                neighbour,
                format_args!(
                    "{} said nothing for three heartbeats and is disconnected.",
                    self.name(neighbour)
                ),
            ),
            _ => {}
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl Server {
    /// A limit has closed a connection, or the kernel. What is closed gracefully has its record as a client, a peer or a
    /// link.
    pub(super) fn record_closed(&self, closed: &ClosedConnection<'_>) {
        let peer = closed.peer;
        match closed.why {
            Closed::Finished | Closed::Commanded | Closed::Unsolicited => {}
            // It may quote the other side's certificate.
            Closed::Broken(reason) => {
                log::info!(target: target::LOOP, "The connection with {peer} is broken: {}", Escaped(reason.as_bytes()))
            }
            Closed::InputTimeout => {
                let time = format_duration(self.limits.line_timeout);
                let text = format_args!("closed {peer}: line not completed within {time}");
                rate_limit::warn(Kind::NotFinished, text);
            }
            Closed::WriteTimeout => {
                let time = format_duration(self.limits.write_timeout);
                let text = format_args!("closed {peer}: write timed out after {time}");
                rate_limit::warn(Kind::WriteTimeout, text);
            }
            Closed::Evicted => {
                let text =
                    format_args!("closed {peer}: idle for longest, evicted for a new client");
                rate_limit::warn(Kind::ClientEvicted, text);
            }
            Closed::OutOfMemory => {
                let text = format_args!(
                    "closed {peer}: all buffers together are full, and its own were the largest"
                );
                rate_limit::warn(Kind::BuffersFull, text);
            }
        }
    }

    /// A connection was not accepted.
    pub(super) fn record_refused(&self, why: &Refused) {
        match why {
            Refused::Limit(peer) => {
                let limit = self.limits.client_connections;
                let text = format_args!("rejected {peer}: connection limit ({limit}) reached");
                rate_limit::warn(Kind::ClientRejected, text);
            }
            Refused::Handshake(peer, reason) => {
                let reason = Escaped(reason.as_bytes());
                let text = format_args!("rejected {peer}: {reason}");
                rate_limit::warn(Kind::TlsFailed, text);
            }
            Refused::Kernel(error) => {
                let reason = plain(error);
                let text = format_args!("No connection can be accepted for now: {reason}");
                rate_limit::warn(Kind::AcceptFailed, text);
            }
        }
    }
}

fn record_applied(id: Escaped<'_>, applied: Applied) {
    match applied {
        Applied::Stored(seq) => {
            log::debug!(target: target::TABLE, "Stored {id} as change {}.", seq.0)
        }
        Applied::Stale => log::debug!(target: target::TABLE, "{id} is known as new, or newer."),
        Applied::BelowFloor => {
            log::debug!(target: target::TABLE, "{id} is older than what a full table keeps.")
        }
    }
}
