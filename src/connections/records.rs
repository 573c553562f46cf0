//! What the log tells of connections and of the herd (section 6).

use std::fmt::Display;
use std::net::SocketAddr;

use memchr::memchr;

use super::Neighbour;
use crate::herd::{Event, NeighbourId, Offer, Witness};
use crate::logging::Escaped;
use crate::protocol::Common;

/// A line that came in.
pub(super) fn received(from: impl Display, line: &[u8]) {
    log::info!("Received from {from}: {}", Escaped(line));
}

/// An answer that goes out: its first line, and the size of what follows.
pub(super) fn sent(to: impl Display, answer: &[u8]) {
    if !log::log_enabled!(log::Level::Info) {
        return; // before the answer is searched for its first line's end
    }
    let end = memchr(b'\n', answer).unwrap_or(answer.len());
    match answer.len() - end {
        0 if answer.is_empty() => {}
        0 | 1 => log::info!("Sent to {to}: {}", Escaped(&answer[..end])),
        rest => log::info!("Sent to {to}: {} and {rest} bytes", Escaped(&answer[..end])),
    }
}

/// Why the line before was refused.
pub(super) fn refused(from: impl Display, reason: impl Display) {
    log::warn!("Refused from {from}: {reason}.");
}

/// A connection that came by a port of ours is gone.
pub(super) fn closed(who: &str, peer: SocketAddr) {
    log::info!("{who} {peer} is disconnected.");
}

/// Writes the herd's events into the log.
pub(super) struct Records<'a>(pub(super) &'a str, pub(super) &'a [Neighbour]);

impl Records<'_> {
    fn name(&self, neighbour: NeighbourId) -> &str {
        &self.1[usize::from(neighbour.0)].title
    }
}

impl Witness for Records<'_> {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Sending { update, neighbour } => log::info!(
                "Sending {} location at {} to {}.",
                Escaped(update.id),
                Escaped(update.location),
                self.name(neighbour)
            ),
            Event::CannotSend { update, neighbour } => {
                let name = self.name(neighbour);
                let (id, location) = (Escaped(update.id), Escaped(update.location));
                log::info!("Port {name} is down. Cannot send {id} at {location} to {name}.");
            }
            Event::Offered { update, offer } => offered(Escaped(update.id), offer),
            Event::Marked { neighbour, seq } => {
                log::info!("Sent to {}: MARK {}", self.name(neighbour), seq.0);
            }
            Event::SettingsSaid { neighbour, settings: Common { dialect, clients, ahead } } => {
                let dialect = Escaped(dialect);
                log::info!(
                    "Sent to {}: SETTINGS {dialect} {clients} {ahead}",
                    self.name(neighbour)
                );
            }
            Event::CaughtUp { neighbour, updates } => {
                log::info!(
                    "{} has told what was missing: {updates} updates.",
                    self.name(neighbour)
                );
            }
            Event::Filled => log::info!("{} is filled.", self.0),
            event => self.note_link(event),
        }
    }
}

impl Records<'_> {
    /// What happens to links and callers, which is rarer than updates.
    fn note_link(&mut self, event: Event<'_>) {
        match event {
            Event::LinkUp { neighbour, from, behind } => log::info!(
                "The link to {} is up; it has all up to {}, and {behind} changes follow.",
                self.name(neighbour),
                from.0
            ),
            Event::ToldAll { neighbour, updates } => {
                log::info!("{} was told what it missed: {updates} updates.", self.name(neighbour));
            }
            Event::HungUp { neighbour, reason } => log::warn!(
                "The link to {} is given up: {reason}. It is dialled again.",
                self.name(neighbour)
            ),
            Event::WrongName { neighbour, answered } => log::error!(
                "{} was dialled, and {} answered. Check `dial` in the configuration.",
                self.name(neighbour),
                Escaped(answered)
            ),
            Event::AnswerRefused { neighbour, line } => log::warn!(
                "{} answered what no neighbour answers, so the link is closed: {}",
                self.name(neighbour),
                Escaped(line)
            ),
            Event::Introduced { neighbour, from } => {
                let from = from.map_or(0, |seq| seq.0);
                log::info!(
                    "{} is connected, and tells what is after {from}.",
                    self.name(neighbour)
                );
            }
            Event::Skipped { neighbour, error, line } => log::warn!(
                "Skipped a malformed update from {}: {error}: {}",
                self.name(neighbour),
                Escaped(line)
            ),
            Event::CallerRefused { reason, .. } => {
                log::warn!("Refused on the neighbours' port: {reason}. The connection is closed.");
            }
            Event::Silent { neighbour } => log::warn!(
                "{} said nothing for three heartbeats and is disconnected.",
                self.name(neighbour)
            ),
            _ => {}
        }
    }
}

fn offered(id: Escaped<'_>, offer: Offer) {
    match offer {
        Offer::Stored(seq) => log::debug!("Stored {id} as change {}.", seq.0),
        Offer::Stale => log::debug!("{id} is known as new, or newer."),
        Offer::BelowFloor => log::debug!("{id} is older than what a full table keeps."),
    }
}
