//! Dialling: from the request of the herd's core to connect a neighbour, to a usable link. The loop looks up
//! names and connects; [`Attempts`] knows which addresses were tried. A dial is over when the neighbour has sent
//! RESUME, or when each of its addresses was tried. Only then does the herd's core learn that the dial failed,
//! and pauses.
//!
//! [`Attempts`]: super::attempts::Attempts

use std::net::IpAddr;
use std::time::Duration;

use super::Server;
use super::metrics::{ClosedReason, DialResult, Direction, Transition};
use super::neighbour::Handshake;
use super::records::HerdLog;
use crate::application::{
    Command, Dial, DialEvent, Due, Freshness, HandshakeFailure, Start, Target, Ticket,
};
use crate::clock::Now;
use crate::errors::ended;
use crate::herd::NeighbourId;
use crate::limits::{LOOKUP_REFRESH, LOOKUP_WAIT};
use crate::logging::target;

/// The first ticket of the queries for places. Those below are for neighbours.
pub const PLACES_TICKETS: u64 = 1 << 63;
/// The first ticket of look-ups of neighbours' names without a dial.
const LOOK_UP_TICKETS: u64 = 1 << 62;
/// The first ticket of dials of the engine.
const ENGINE_TICKETS: u64 = LOOK_UP_TICKETS | TICKETS;
/// How many there are of each of these.
const TICKETS: u64 = 1 << 61;

/// Makes tickets. Each dial and look-up of a neighbour has its own, so that an event of one that was replaced is
/// not taken for an event of the next.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    last: u64,
}

/// What a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Dial(NeighbourId),
    LookUp(NeighbourId),
    Places,
    Engine,
}

impl Tickets {
    fn next(&mut self, first: u64, neighbour: NeighbourId) -> Ticket {
        self.last += 1;
        let serial = (self.last << u16::BITS) % TICKETS;
        Ticket(first | serial | u64::from(neighbour.0))
    }
}

/// The ticket of a dial of the engine, each of which has a number of its own.
pub(super) fn engine_ticket(serial: u64) -> Ticket {
    Ticket(ENGINE_TICKETS | (serial % TICKETS))
}

/// What a ticket of this server is for.
pub(super) fn purpose(Ticket(ticket): Ticket) -> Purpose {
    let neighbour = NeighbourId(ticket as u16);
    match ticket {
        PLACES_TICKETS.. => Purpose::Places,
        ENGINE_TICKETS.. => Purpose::Engine,
        LOOK_UP_TICKETS.. => Purpose::LookUp(neighbour),
        _ => Purpose::Dial(neighbour),
    }
}

impl Server {
    /// Begins to dial a neighbour.
    pub(super) fn begin_round(&mut self, neighbour: NeighbourId) {
        let timeout = self.dial_timeout();
        let elapsed = self.now;
        let known = self.neighbour(neighbour);
        let to = known.target.clone();
        match &to {
            Target::Address(address) => {
                known.attempts.begin(Some(*address));
                known.attempt_until = Some(elapsed + timeout);
                log::debug!(
                    target: target::LINK, event = "dial", neighbour = &known.log_name;
                    "Dialling {} at {address}.", known.log_name
                );
            }
            Target::Name(name) => {
                known.attempts.begin(None);
                known.attempt_until = None; // Until the look-up returns an address.
                log::debug!(
                    target: target::LINK, event = "dial", neighbour = &known.log_name;
                    "Dialling {} at {name}.", known.log_name
                );
            }
            Target::Loop(_) => {
                known.attempts.begin(None);
                known.attempt_until = None;
            }
        }
        let (start, limit) = (known.attempts.start(), known.attempts.limit());
        self.dial(neighbour, to.clone(), start, limit);
        if let Target::Name(name) = to {
            // The dial may continue without the answer, which counts whenever it comes. (It is the same
            // look-up.)
            self.look_up(neighbour, name);
        }
    }

    /// Tries the next address of the round, if one is left.
    fn try_next(&mut self, neighbour: NeighbourId, otherwise: &str, now: Now) {
        let timeout = self.dial_timeout();
        let known = self.neighbour(neighbour);
        match known.attempts.next() {
            Some(address) => {
                let time = known.attempts.time(timeout);
                known.attempt_until = Some(now.elapsed + time);
                self.dial(neighbour, Target::Address(address), Start::Best, time);
            }
            None => {
                let reason = known.attempts.end(otherwise);
                self.link_failed(neighbour, &reason, now);
            }
        }
    }

    fn dial(&mut self, neighbour: NeighbourId, to: Target, start: Start, limit: Duration) {
        let tls = self.tls_for(neighbour);
        let timeout = self.dial_timeout();
        let ticket = self.tickets.next(0, neighbour);
        let is_another_loop = matches!(to, Target::Loop(_));
        let is_whole_round = matches!(to, Target::Name(_));
        let known = self.neighbour(neighbour);
        known.dial = Some(ticket);
        known.is_dialled_with_tls = tls.is_some();
        known.handshake = Handshake::None;
        self.commands.push_back(Command::Dial(Dial {
            attempt_timeout: limit.min(timeout),
            timeout: if is_whole_round { timeout } else { self.time_of(neighbour) },
            from: (!is_another_loop).then_some(self.peers_address),
            start,
            freshness: Freshness::Ask(LOOKUP_WAIT.min(timeout)),
            tls,
            ..Dial::new(ticket, to)
        }));
    }

    /// The time limit of the address that is being tried.
    fn time_of(&self, neighbour: NeighbourId) -> Duration {
        self.neighbours[usize::from(neighbour.0)].attempts.time(self.dial_timeout())
    }

    /// The time limit of a single address, and of a look-up: as long as the herd's core waits. It starts to
    /// count at the same moments.
    fn dial_timeout(&self) -> Duration {
        3 * self.herd.settings().heartbeat
    }

    /// Forgets a dial and its present attempt.
    pub(super) fn cancel_dial(&mut self, neighbour: NeighbourId) {
        let known = self.neighbour(neighbour);
        known.attempt_until = None;
        if let Some(ticket) = known.dial.take() {
            self.commands.push_back(Command::Cancel(ticket));
        }
    }

    /// Progress of a dial.
    pub(super) fn neighbour_dial(
        &mut self,
        neighbour: NeighbourId,
        ticket: Ticket,
        event: DialEvent<'_>,
        now: Now,
    ) {
        let timeout = self.dial_timeout();
        let Some(known) = self.neighbours.get_mut(usize::from(neighbour.0)) else {
            return;
        };
        if known.dial != Some(ticket) {
            return; // It was cancelled or replaced before this event came.
        }
        match event {
            DialEvent::Resolved(addresses) => {
                if matches!(known.target, Target::Name(_)) && known.attempts.awaits_addresses() {
                    known.attempts.resolved(addresses);
                    known.addresses = addresses.to_vec(); // It may connect from these.
                }
            }
            DialEvent::Connecting(address) => {
                known.attempts.trying(address);
                known.handshake = Handshake::None;
                known.attempt_until = Some(now.elapsed + known.attempts.time(timeout));
            }
            DialEvent::Handshaking(_) => known.handshake = Handshake::UnderWay,
            DialEvent::HandshakeFailed(_, failure) => known.handshake = Handshake::Failed(failure),
            DialEvent::AttemptFailed(address, reason) => {
                known.attempts.trying(address);
                self.note_failed_attempt(neighbour, reason, now);
                if self.neighbour(neighbour).attempts.chooses() {
                    self.cancel_dial(neighbour);
                    self.try_next(neighbour, reason, now);
                }
            }
            DialEvent::Failed(reason) => {
                known.dial = None;
                if known.attempts.awaits_addresses() {
                    known.metrics.dials[DialResult::Dns as usize].add(1);
                    self.note_link_error(neighbour, &reason);
                }
                if self.neighbour(neighbour).attempts.is_trying() {
                    self.note_failed_attempt(neighbour, &reason, now);
                }
                self.try_next(neighbour, &reason, now);
            }
        }
    }

    /// An address failed. From now on the herd's core waits for the next one.
    fn note_failed_attempt(&mut self, neighbour: NeighbourId, reason: &str, now: Now) {
        let known = self.neighbour(neighbour);
        let is_late = known.attempt_until.is_some_and(|until| until <= now.elapsed);
        let result = match std::mem::take(&mut known.handshake) {
            Handshake::None if is_late => DialResult::Timeout,
            Handshake::None => DialResult::Refused,
            Handshake::UnderWay => DialResult::Tls,
            Handshake::Failed(failure) => {
                if failure == HandshakeFailure::Certificate {
                    known.metrics.count(Direction::Out, Transition::Certificate);
                }
                DialResult::Tls
            }
        };
        known.metrics.dials[result as usize].add(1);
        record_failed_attempt(&known.log_name, reason);
        known.attempts.failed(reason);
        self.note_link_error(neighbour, reason);
        self.herd.link_tries_again(neighbour, now);
    }

    /// A connection to a neighbour ended before it was usable, or timed out: tries the next address. The
    /// neighbour's answer, if any, is a better reason than the close that followed it.
    pub(super) fn link_attempt_failed(&mut self, neighbour: NeighbourId, reason: &str, now: Now) {
        let known = self.neighbour(neighbour);
        known.link = None;
        known.attempt_until = None;
        let refusal = known.refusal.take();
        let reason = refusal.as_deref().unwrap_or(reason);
        record_failed_attempt(&known.log_name, reason);
        known.attempts.unanswered(reason);
        self.note_link_error(neighbour, reason);
        self.herd.link_tries_again(neighbour, now);
        self.try_next(neighbour, reason, now);
    }

    /// A neighbour could not be reached, for this reason.
    fn link_failed(&mut self, neighbour: NeighbourId, reason: &str, now: Now) {
        let is_stopping = !self.is_serving();
        let known = self.neighbour(neighbour);
        // Another loop stops before this one, which is expected.
        if !(is_stopping && matches!(known.target, Target::Loop(_))) {
            let name = &known.log_name;
            match known.unreachable.occurs(now.elapsed) {
                Some(lasting) => {
                    // Not limited: `LastingProblem` says when.
                    log::warn!(
                        target: target::LINK,
                        event = "neighbour_unreachable", neighbour = name, reason:% = reason;
                        "{name} can't be reached{lasting}: {} Reconnecting.", ended(reason)
                    );
                }
                None => log::debug!(
                    target: target::LINK,
                    event = "neighbour_unreachable", neighbour = name, reason:% = reason;
                    "{name} can't be reached: {}", ended(reason)
                ),
            }
        }
        known.link = None;
        known.dial = None;
        known.attempt_until = None;
        self.herd.link_closed(
            neighbour,
            now,
            &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics),
        );
    }

    /// Judges the addresses whose time limit has passed.
    pub(super) fn judge_attempts(&mut self, due: &mut Due<'_>) {
        let now = due.now;
        for index in 0..self.neighbours.len() {
            let known = &self.neighbours[index];
            let neighbour = NeighbourId(index as u16);
            match (known.attempt_until.filter(|at| *at <= now.elapsed), known.link) {
                (None, _) => {}
                // Its RESUME may have arrived and not been read yet.
                (Some(_), Some(link)) if due.is_behind(link) => {}
                (Some(_), Some(link)) => {
                    self.neighbour(neighbour).metrics.count(Direction::Out, Transition::Timeout);
                    self.close(link, ClosedReason::LineTimeout);
                    let reason = "connected, but it sent no RESUME in time";
                    self.link_attempt_failed(neighbour, reason, now);
                }
                (Some(_), None) => {
                    let reason = match known.handshake {
                        Handshake::UnderWay => {
                            "connected, but the TLS handshake was not complete in time"
                        }
                        _ => "no answer in time",
                    };
                    self.note_failed_attempt(neighbour, reason, now);
                    self.cancel_dial(neighbour);
                    self.try_next(neighbour, reason, now);
                }
            }
        }
    }

    /// The result of a look-up without a dial.
    pub(super) fn neighbour_look_up(
        &mut self,
        neighbour: NeighbourId,
        ticket: Ticket,
        event: DialEvent<'_>,
        now: Now,
    ) {
        let Some(known) = self.neighbours.get_mut(usize::from(neighbour.0)) else {
            return;
        };
        if known.look_up != Some(ticket) {
            return;
        }
        let is_found = matches!(event, DialEvent::Resolved(_));
        match event {
            DialEvent::Resolved(addresses) => known.addresses = addresses.to_vec(),
            // Known addresses are kept: a failing resolver must not cut off a neighbour that has not moved.
            DialEvent::Failed(_) => {}
            _ => return,
        }
        known.look_up = None;
        known.resolved_at = Some(now.elapsed);
        if is_found {
            self.neighbour_found(neighbour, now);
        }
    }

    /// Looks up a neighbour's name although it is not dialled: it has sent HELLO from an unknown address, so it
    /// may have moved.
    pub(super) fn look_up_again(&mut self, neighbour: NeighbourId, now: Now) {
        let known = &self.neighbours[usize::from(neighbour.0)];
        let Target::Name(name) = &known.target else {
            return;
        };
        if known.resolved_at.is_none_or(|at| at + LOOKUP_REFRESH <= now.elapsed) {
            self.look_up(neighbour, name.clone());
        }
    }

    /// Requests a look-up of a neighbour's name, unless one is under way.
    pub(super) fn look_up(&mut self, neighbour: NeighbourId, name: String) {
        if self.neighbour(neighbour).look_up.is_none() {
            let ticket = self.tickets.next(LOOK_UP_TICKETS, neighbour);
            self.neighbour(neighbour).look_up = Some(ticket);
            self.commands.push_back(Command::Resolve { ticket, name });
        }
    }

    /// A neighbour has sent HELLO from this address.
    pub(super) fn heard_from(&mut self, neighbour: NeighbourId, ip: IpAddr) {
        let known = self.neighbour(neighbour);
        known.attempts.heard_from(ip, &known.addresses);
    }
}

fn record_failed_attempt(neighbour: &str, reason: &str) {
    log::debug!(
        target: target::LINK, event = "dial_failed", neighbour = neighbour, reason:% = reason;
        "An attempt to reach {neighbour} failed: {reason}"
    );
}
