//! What the log tells of connections and of the herd (section 6).

use std::fmt::{self, Display};
use std::net::SocketAddr;

use super::Neighbour;
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

/// A connection that came by a port of ours is gone.
pub(super) fn closed(who: &str, peer: SocketAddr) {
    let target = match who {
        "Client" => target::CLIENT,
        "Visitor" => target::HTTP,
        _ => target::LINK,
    };
    log::info!(target: target, "{who} {peer} is disconnected.");
}

/// Writes the herd's events into the log.
pub(super) struct Records<'a>(pub(super) &'a str, pub(super) &'a [Neighbour]);

impl Records<'_> {
    fn name(&self, neighbour: NeighbourId) -> &str {
        &self.1[usize::from(neighbour.0)].title
    }
}

impl Observer for Records<'_> {
    fn record(&mut self, event: Event<'_>) {
        match event {
            Event::Sending { update, neighbour } => {
                Traffic::sending(update.id, update.location, self.name(neighbour));
            }
            Event::CannotSend { update, neighbour } => {
                Traffic::cannot_send(update.id, update.location, self.name(neighbour));
            }
            Event::Applied { update, applied } => record_applied(Escaped(update.id), applied),
            Event::Marked { neighbour, seq } => {
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
                log::info!(
                    target: target::LINK,
                    "{} has told what was missing: {updates} updates.",
                    self.name(neighbour)
                );
            }
            Event::InSync => log::info!(target: target::LINK, "{} is filled.", self.0),
            event => self.note_link(event),
        }
    }
}

impl Records<'_> {
    /// A warning that concerns one neighbour, which others must not keep from being said.
    fn warn(&self, kind: Kind, neighbour: NeighbourId, text: fmt::Arguments<'_>) {
        rate_limit::warn_of(kind, neighbour.0, text);
    }

    /// What happens to links and callers, which is rarer than updates.
    fn note_link(&mut self, event: Event<'_>) {
        match event {
            Event::LinkUp { neighbour, from, behind } => log::info!(
                target: target::LINK,
                "The link to {} is up; it has all up to {}, and {behind} changes follow.",
                self.name(neighbour),
                from.0
            ),
            Event::CatchUpSent { neighbour, updates } => {
                log::info!(target: target::LINK, "{} was told what it missed: {updates} updates.", self.name(neighbour));
            }
            Event::LinkDown { neighbour, reason } => self.warn(
                Kind::LinkGivenUp,
                neighbour,
                format_args!(
                    "The link to {} is given up: {reason}. It is dialled again.",
                    self.name(neighbour)
                ),
            ),
            Event::PeerIdentified { neighbour, from } => {
                let from = from.map_or(0, |seq| seq.0);
                log::info!(
                    target: target::LINK,
                    "{} is connected, and tells what is after {from}.",
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
