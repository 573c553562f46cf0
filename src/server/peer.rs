//! Connections on which neighbours send updates to this server (section 4). A peer on the neighbours' port is
//! unidentified until it sends HELLO; other loops of this server need no name. The number of unidentified peers is
//! bounded, and so is the time that each may stay so.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::metrics::{self, ClosedReason, Direction, RejectedReason, Transition};
use super::neighbour::LinkError;
use super::records::{self, HerdLog, UpdateWatch};
use super::{Server, Session, link, policy};
use crate::application::{
    ClosedConnection, ConnectionId, Due, Io, Line, LoopId, Next, Opened, Policy, Target,
};
use crate::clock::Now;
use crate::config::format_duration;
use crate::connection_records;
use crate::herd::{NeighbourId, Outcome, Peer};
use crate::limits::MAX_UNIDENTIFIED_PEERS;
use crate::logging::rate_limit::Kind;
use crate::logging::{Escaped, Traffic, target};
use crate::protocol::write_refusal;

/// Peers that have not sent HELLO; the one that has waited longest is first.
#[derive(Debug, Default)]
pub(super) struct Unidentified {
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: ConnectionId,
    peer: SocketAddr,
    /// When its HELLO must have come.
    until: Duration,
    has_tls: bool,
}

impl Unidentified {
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.waiting.front().map(|waiting| waiting.until)
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.waiting.iter().any(|waiting| waiting.id == id)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }
}

impl Unidentified {
    /// Those in plain text.
    pub(super) fn in_plain_text(&self) -> Vec<ConnectionId> {
        let plain = self.waiting.iter().filter(|waiting| !waiting.has_tls);
        plain.map(|waiting| waiting.id).collect()
    }
}

impl Server {
    /// Accepts a connection on the neighbours' port. If too many peers have not sent HELLO, closes the one that has
    /// waited longest.
    pub(super) fn peer_opened(&mut self, opened: &Opened<'_>, io: &Io<'_>) -> (Session, Policy) {
        let Io { id, peer, now, .. } = *io;
        if self.unidentified.waiting.len() >= MAX_UNIDENTIFIED_PEERS
            && let Some(oldest) = self.unidentified.waiting.pop_front()
        {
            let peer = oldest.peer;
            let reason = format_args!("too many peers have not sent HELLO");
            connection_records::abort(Kind::TooManyUnidentified, peer, reason);
            self.metrics.count_rejected(metrics::Kind::LinkIn, RejectedReason::Unidentified);
            self.close(oldest.id, ClosedReason::IdleEvicted);
        }
        let until = now.elapsed + self.herd.settings().heartbeat;
        let has_tls = opened.tls.is_some();
        self.unidentified.waiting.push_back(Waiting { id, peer, until, has_tls });
        if self.is_unwanted_plaintext(metrics::Kind::LinkIn, opened) {
            return self.plaintext_opened(metrics::Kind::LinkIn, io);
        }
        log::info!(
            target: target::LINK, event = "connection_opened", peer:% = peer;
            "Peer {peer} is connected{}, not yet identified.", records::by_tls(opened)
        );
        match has_tls {
            true => self.certified_peer(opened),
            false => (Session::Peer(Peer::Unidentified), policy::peer(&self.limits)),
        }
    }

    /// The other end of a link from another loop of this server. It has no deadline for HELLO.
    pub(super) fn loop_opened(&mut self, from: LoopId) -> Option<(Session, Policy)> {
        let is_it = |target: &Target| *target == Target::Loop(from);
        let index = self.neighbours.iter().position(|neighbour| is_it(&neighbour.target))?;
        let session = Session::LoopPeer(Peer::Expected(NeighbourId(index as u16)));
        Some((session, policy::loop_peer(&self.limits)))
    }

    pub(super) fn peer_line(&mut self, peer: &mut Peer, line: Line<'_>, io: &mut Io<'_>) -> Next {
        let before = io.out.len();
        let line = match line {
            Line::Whole(line) => line,
            Line::Unfinished(_) => return Next::Finish,
            Line::TooLong(beginning) => {
                let reason = "the line is too long; the connection is closed";
                records::refused(Kind::PeerLineRefused, io.peer, reason);
                write_refusal(beginning, io.out);
                Traffic::Link.sent(&io.peer, &io.out[before..]);
                self.ends.insert(io.id, ClosedReason::LineTooLong);
                return Next::Finish;
            }
        };
        let is_identified = matches!(peer, Peer::Identified { .. });
        if *peer == Peer::Unidentified && !self.unidentified.contains(io.id) {
            return Next::Finish; // It timed out; it is closed after the lines of this turn.
        }
        self.record_peer_line(peer, io.peer, line);
        let verdict = self.herd_peer_line(peer, line, io);
        if !is_identified && let Peer::Identified { neighbour, .. } = *peer {
            self.neighbour(neighbour).peer_certificate = None;
        }
        self.peer_line_handled(peer, is_identified, line, verdict, before, io)
    }

    /// The herd's core has handled a line: `verdict`, with an answer behind `before`.
    #[inline(always)] // In the path of each update, and once more in that of a HELLO.
    pub(super) fn peer_line_handled(
        &mut self,
        peer: &Peer,
        is_identified: bool,
        line: &[u8],
        verdict: Outcome,
        before: usize,
        io: &mut Io<'_>,
    ) -> Next {
        if !is_identified && let Peer::Identified { neighbour, .. } = *peer {
            self.unidentified.remove(io.id);
            self.replace_peer(neighbour, io.id);
            self.neighbour(neighbour).peer_address = Some(io.peer);
            self.heard_from(neighbour, io.peer.ip().to_canonical());
            self.links_checked = super::UNCHECKED; // A link to another run of it must send a MARK.
        }
        match peer {
            Peer::Unidentified => {
                Traffic::Link.sent(&io.peer, &io.out[before..]);
                self.check_own_name(io.peer, io.now);
            }
            Peer::Expected(neighbour) | Peer::Identified { neighbour, .. } => {
                records::sent_to_neighbour(self.log_name_of(*neighbour), &io.out[before..]);
                // HELLO and MARK are answered; of the other lines, only SETTINGS can reveal a problem.
                if io.out.len() > before || line.starts_with(b"SETTINGS") {
                    self.check_neighbour(*neighbour, io.peer, io.now);
                }
            }
        }
        match verdict {
            Outcome::Continue => Next::Read,
            Outcome::Close => {
                self.count_rejected_line(peer, line, io.id);
                Next::Finish
            }
        }
    }

    /// Counts that a line ends its connection: an unidentified peer's, or that of a neighbour.
    fn count_rejected_line(&mut self, peer: &Peer, line: &[u8], id: ConnectionId) {
        self.ends.entry(id).or_insert(ClosedReason::Protocol);
        match *peer {
            Peer::Unidentified | Peer::Expected(_) => {
                let reason = match line.starts_with(b"HELLO ") {
                    true => RejectedReason::NotANeighbour,
                    false => RejectedReason::Unidentified,
                };
                self.metrics.count_rejected(metrics::Kind::LinkIn, reason);
            }
            Peer::Identified { neighbour, .. } => {
                let known = &self.neighbours[usize::from(neighbour.0)];
                if known.peer == Some(id) {
                    known.metrics.count(Direction::In, Transition::Refused);
                }
            }
        }
    }

    /// Passes a line to the herd's core. After a HELLO from an unknown address, looks up the neighbour's name
    /// again: it may now resolve to another address.
    pub(super) fn herd_peer_line(
        &mut self,
        peer: &mut Peer,
        line: &[u8],
        io: &mut Io<'_>,
    ) -> Outcome {
        let neighbours = &self.neighbours;
        let watch = match *peer {
            Peer::Identified { neighbour, .. } if self.answers.watches_updates() => {
                Some(self.update_watch(neighbour, io.now))
            }
            _ => None,
        };
        let unknown_from_here = Cell::new(None);
        let admits = |neighbour: NeighbourId| {
            let address = io.peer.ip().to_canonical();
            let is_known = neighbours[usize::from(neighbour.0)].has_address(address);
            unknown_from_here.set(Some(neighbour).filter(|_| !is_known));
            is_known
        };
        let log = &mut HerdLog::new(&self.log_name, neighbours, &self.metrics);
        log.watch_update(watch);
        let verdict = self.herd.handle_peer_line(peer, line, &admits, io.now, io.out, log);
        if let Some(neighbour) = unknown_from_here.get() {
            self.look_up_again(neighbour, io.now);
        }
        verdict
    }

    #[cold]
    fn update_watch(&self, neighbour: NeighbourId, now: Now) -> UpdateWatch {
        // What a neighbour sends to let us catch up is old.
        let is_new = self.answers.is_observed() && !self.herd.is_catching_up(neighbour);
        UpdateWatch { arrival: is_new.then_some(now.wall), is_engine_down: self.is_engine_down() }
    }

    /// The lines that a neighbour sends to let us catch up are not recorded one by one: one record says that they
    /// begin, another that they end.
    fn record_peer_line(&self, peer: &Peer, address: SocketAddr, line: &[u8]) {
        match peer {
            Peer::Unidentified => Traffic::Link.received(&address, line),
            Peer::Identified { neighbour, .. }
                if self.herd.is_catching_up(*neighbour) && !line.starts_with(b"SETTINGS") => {}
            Peer::Expected(neighbour) | Peer::Identified { neighbour, .. } => {
                records::received_from_neighbour(self.log_name_of(*neighbour), line);
            }
        }
    }

    /// Of a neighbour's inbound connections only the latest counts.
    fn replace_peer(&mut self, neighbour: NeighbourId, id: ConnectionId) {
        if let Some(former) = self.neighbour(neighbour).peer.replace(id) {
            self.neighbour(neighbour).metrics.count(Direction::In, Transition::Replaced);
            self.close(former, ClosedReason::Replaced);
        }
    }

    /// The herd's core has asked to close a neighbour's connection.
    pub(super) fn close_peer(&mut self, neighbour: NeighbourId) {
        let at = self.now;
        let known = self.neighbour(neighbour);
        if let Some(peer) = known.peer.take() {
            let reason = "it sent nothing for three heartbeats".to_owned();
            known.peer_error = Some(LinkError { reason, at });
            self.close(peer, ClosedReason::LineTimeout);
        }
    }

    pub(super) fn peer_closed(
        &mut self,
        peer: Peer,
        closed: &ClosedConnection<'_>,
        reason: ClosedReason,
    ) {
        self.herd.peer_closed(peer);
        self.unidentified.remove(closed.id);
        let Peer::Identified { neighbour, .. } = peer else {
            return records::disconnected(target::LINK, None, closed.peer);
        };
        let name = self.log_name_of(neighbour);
        records::disconnected(target::LINK, Some(name), closed.peer);
        let at = self.now;
        let known = self.neighbour(neighbour);
        if known.peer == Some(closed.id) {
            known.peer = None;
            // A line that was refused is counted as that.
            if reason == ClosedReason::Protocol {
                let reason = "it sent a line that is not accepted".to_owned();
                known.peer_error = Some(LinkError { reason, at });
            } else {
                let reason = match reason {
                    ClosedReason::LineTooLong => "it sent a line that is too long".to_owned(),
                    _ => Escaped(closed.why.to_string().as_bytes()).to_string(),
                };
                known.peer_error = Some(LinkError { reason, at });
                known.metrics.count(Direction::In, link::why_down(closed.why));
            }
        }
    }

    /// Closes peers that have not sent HELLO in time.
    pub(super) fn judge_unidentified(&mut self, due: &mut Due<'_>) {
        let now = due.now.elapsed;
        let is_late = |waiting: &Waiting| waiting.until <= now;
        if !self.unidentified.waiting.front().is_some_and(is_late) {
            return;
        }
        let mut late = Vec::new();
        self.unidentified.waiting.retain(|waiting| {
            // Its HELLO may have arrived and not been read yet.
            let is_over = is_late(waiting) && !due.is_behind(waiting.id);
            late.extend(is_over.then_some(*waiting));
            !is_over
        });
        for Waiting { id, peer, .. } in late {
            let time = format_duration(self.herd.settings().heartbeat);
            connection_records::abort(
                Kind::HelloMissing,
                peer,
                format_args!("no HELLO within {time}"),
            );
            self.metrics.count_rejected(metrics::Kind::LinkIn, RejectedReason::Unidentified);
            self.close(id, ClosedReason::LineTimeout);
        }
    }
}
