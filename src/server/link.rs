//! Links: the connections on which this server sends updates to its neighbours (section 4).

use super::metrics::{ClosedReason, DialResult, Direction, Transition};
use super::neighbour::{Handshake, UNKNOWN_ANSWER};
use super::records::{self, HerdLog};
use super::tls::Shown;
use super::{Server, Session, policy};
use crate::application::{
    Closed, ClosedConnection, HandshakeFailure, Io, Line, Next, Opened, Policy, Ticket,
};
use crate::clock::Now;
use crate::herd::{Event, NeighbourId, Observer, Outcome};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, Traffic, field, target};

impl Server {
    /// A dialled connection was made: appends the HELLO. If the dial was cancelled in the meantime, refuses
    /// it.
    pub(super) fn link_opened(
        &mut self,
        neighbour: NeighbourId,
        ticket: Ticket,
        opened: &Opened<'_>,
        io: &mut Io<'_>,
    ) -> Option<(Session, Policy)> {
        let is_dialling = self.herd.link_is_dialling(neighbour);
        let known = self.neighbours.get_mut(usize::from(neighbour.0))?;
        if known.dial != Some(ticket) || !is_dialling {
            return None;
        }
        known.dial = None;
        known.link = Some(io.id);
        known.connected_to = Some(io.peer);
        known.is_fill_asked = false;
        known.refusal = None;
        known.handshake = Handshake::None;
        known.link_certificate = Shown::of(opened).map(Box::new);
        known.attempts.connected(io.peer);
        known.metrics.dials[DialResult::Ok as usize].add(1);
        let is_loop = known.is_loop();
        let before = io.out.len();
        self.herd.link_connected(neighbour, io.now, io.out);
        let name = self.log_name_of(neighbour);
        log::info!(
            target: target::LINK, event = "link_opened", peer:% = io.peer, neighbour = name;
            "Connected to {name}{}.", records::by_tls(opened)
        );
        Traffic::Link.sent(name, &io.out[before..]);
        Some(match is_loop {
            true => (Session::LoopLink(neighbour), policy::loop_link(&self.limits)),
            false => (Session::Link(neighbour), policy::link(&self.limits)),
        })
    }

    // Not inline: ACKs are rare, and would cost each IAMAT registers and stack.
    #[inline(never)]
    pub(super) fn link_line(
        &mut self,
        neighbour: NeighbourId,
        line: Line<'_>,
        io: &mut Io<'_>,
    ) -> Next {
        let line = match line {
            Line::Whole(line) => line,
            Line::Unfinished(_) => return Next::Finish,
            Line::TooLong(beginning) => {
                // The consequence is a warning: no neighbour sends such an answer.
                let name = self.log_name_of(neighbour);
                log::info!(
                    target: target::LINK, event = "line_too_long", neighbour = name;
                    "An answer of {name} is too long."
                );
                beginning
            }
        };
        if self.neighbours[usize::from(neighbour.0)].link != Some(io.id) {
            return Next::Finish; // It was cancelled, and is closed after the lines of this turn.
        }
        records::received_from_neighbour(self.log_name_of(neighbour), line);
        let was_up = self.herd.link_is_up(neighbour);
        let log = HerdLog::new(&self.log_name, &self.neighbours, &self.metrics);
        let mut answers = AnswerLog { log, refusal: None };
        let verdict = self.herd.handle_answer(neighbour, line, io.now, &mut answers);
        if let Some(refusal) = answers.refusal {
            self.ends.insert(io.id, ClosedReason::Protocol);
            self.link_refused(neighbour, refusal, was_up, io.now);
        } else if !was_up && self.herd.link_is_up(neighbour) {
            self.link_came_up(neighbour, io.now);
        }
        match verdict {
            Outcome::Continue => Next::Read,
            Outcome::Close => Next::Finish,
        }
    }

    /// Appends what a neighbour has not been sent yet, as far as there is room. It is not inlined into the
    /// match on the session, where its loop over the feed would share the registers with all other kinds.
    #[inline(never)]
    pub(super) fn fill_link(&mut self, neighbour: NeighbourId, io: &mut Io<'_>) -> Next {
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        if known.link != Some(io.id) {
            return Next::Finish; // It was cancelled.
        }
        let full = io.full();
        let log = &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics);
        self.herd.poll_link(neighbour, full, io.now, io.out, log);
        let has_more = self.herd.link_has_pending(neighbour);
        self.neighbour(neighbour).is_fill_asked = has_more;
        if has_more { Next::Again } else { Next::Read }
    }

    /// From now on, links that are down count as down.
    pub(super) fn note_links_down(&mut self, now: Now) {
        for (index, neighbour) in self.neighbours.iter_mut().enumerate() {
            if !neighbour.is_removed && !self.herd.link_is_up(NeighbourId(index as u16)) {
                neighbour.unreachable.begins(now.elapsed);
            }
        }
    }

    /// A neighbour has sent RESUME: from now on its address is tried first.
    fn link_came_up(&mut self, neighbour: NeighbourId, now: Now) {
        self.links_checked = super::UNCHECKED;
        let known = self.neighbour(neighbour);
        known.attempt_until = None;
        known.handover.iter_mut().for_each(|handover| handover.restart());
        known.attempts.worked();
        known.misnamed.is_over(now.elapsed);
        if let Some(time) = known.unreachable.is_over(now.elapsed) {
            // Not limited: `LastingProblem` says when.
            log::warn!(
                target: target::LINK, event = "neighbour_reachable", neighbour = &known.log_name;
                "{} is reachable again, after {} s.", known.log_name, time.as_secs()
            );
        }
    }

    /// A neighbour's answer ends our link to it. If the link is still being made, other addresses are tried
    /// first, and the reason is reported if they fail, too.
    fn link_refused(&mut self, neighbour: NeighbourId, answer: Refusal, was_up: bool, now: Now) {
        let known = self.neighbour(neighbour);
        let name = &known.log_name;
        let reason = match answer {
            Refusal::WrongName(answered) => {
                if let Some(lasting) = known.misnamed.occurs(now.elapsed) {
                    // Not limited: `LastingProblem` says when.
                    log::error!(
                        target: target::LINK, event = "neighbour_misnamed", neighbour = name;
                        "{name} was dialled, and {answered} answered{lasting}. Check `advertise` in the \
                         configuration."
                    );
                }
                known.metrics.count(Direction::Out, Transition::Name);
                format!("{answered} answered")
            }
            Refusal::Unknown(line) => {
                known.metrics.count(Direction::Out, Transition::Refused);
                format!("{UNKNOWN_ANSWER}, {line}")
            }
        };
        if was_up {
            let text = format_args!("The link to {name} is closed: {reason}.");
            let fields = [field("neighbour", name), field("reason", &reason)];
            rate_limit::warn_of(Kind::LinkLineRefused, neighbour.0, &fields, text);
            self.note_link_error(neighbour, &reason);
        } else {
            known.refusal = Some(reason);
        }
    }

    /// The herd's core has given up a link or its dial.
    pub(super) fn close_link(&mut self, neighbour: NeighbourId) {
        self.cancel_dial(neighbour);
        if let Some(reason) = self.herd.link_status(neighbour).down_reason {
            self.note_link_error(neighbour, reason);
        }
        if let Some(link) = self.neighbour(neighbour).link.take() {
            self.close(link, ClosedReason::LineTimeout);
        }
    }

    pub(super) fn link_closed(
        &mut self,
        neighbour: NeighbourId,
        closed: &ClosedConnection<'_>,
        reason: ClosedReason,
        now: Now,
    ) {
        let known = self.neighbour(neighbour);
        // The herd's core no longer knows a link that was cancelled.
        if known.link != Some(closed.id) {
            return;
        }
        known.link = None;
        // A line that was refused is counted as that.
        if reason != ClosedReason::Protocol {
            known.metrics.count(Direction::Out, why_down(closed.why));
        }
        let broken = match closed.why {
            Closed::Tls(_, why) | Closed::Untrusted(why) => {
                Some(Escaped(why.as_bytes()).to_string())
            }
            _ => None,
        };
        if self.herd.link_is_being_made(neighbour) {
            // With TLS 1.3 a neighbour refuses a certificate after the handshake.
            let reason = broken.as_deref().unwrap_or("the connection ended before RESUME came");
            return self.link_attempt_failed(neighbour, reason, now);
        }
        let name = self.log_name_of(neighbour);
        log::info!(
            target: target::LINK, event = "link_down", peer:% = closed.peer, neighbour = name;
            "The link to {name} is closed."
        );
        if reason != ClosedReason::Protocol {
            let reason = broken.as_deref().unwrap_or("the connection was closed");
            self.note_link_error(neighbour, reason);
        }
        self.herd.link_closed(
            neighbour,
            now,
            &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics),
        );
    }
}

/// What ended a link, if no line of the neighbour did.
pub(super) fn why_down(why: &Closed) -> Transition {
    match why {
        Closed::Untrusted(_) | Closed::Tls(HandshakeFailure::Certificate, _) => {
            Transition::Certificate
        }
        _ => Transition::Closed,
    }
}

/// Why an answer ends the link on which it came.
enum Refusal {
    /// This server answered where another was dialled.
    WrongName(String),
    /// A line that no acceptor sends.
    Unknown(String),
}

/// Whether an answer ends its link. Any other answer is only logged.
struct AnswerLog<'a> {
    log: HerdLog<'a>,
    refusal: Option<Refusal>,
}

impl Observer for AnswerLog<'_> {
    fn record(&mut self, event: Event<'_>) {
        let quoted = |line: &[u8]| Escaped(&line[..line.len().min(QUOTED)]).to_string();
        match event {
            Event::WrongName { answered, .. } => {
                self.refusal = Some(Refusal::WrongName(quoted(answered)));
            }
            Event::AnswerRejected { line, .. } => {
                self.refusal = Some(Refusal::Unknown(quoted(line)));
            }
            event => self.log.record(event),
        }
    }
}

/// The maximal length of an answer that a record quotes.
const QUOTED: usize = 256;
