//! Links: the connections by which we tell our neighbours what changed (section 4).

use std::net::IpAddr;

use super::records::{self, Records};
use super::{Command, ConnectionId, Server, Verdict};
use crate::application::Line;
use crate::clock::Now;
use crate::herd::{Event, NeighbourId, Observer, Outcome};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, Traffic, target};

impl Server {
    pub(super) fn dial(&mut self, neighbour: NeighbourId) -> Command {
        let address = self.neighbours[usize::from(neighbour.0)].dial.clone();
        log::debug!(target: target::LINK, "Dialling {} at {address}.", self.known_as(neighbour));
        Command::Dial { neighbour, address }
    }

    /// Notes what a neighbour's `advertise` stands for at present: from there it may call.
    pub fn resolved(&mut self, neighbour: NeighbourId, addresses: Vec<IpAddr>) {
        self.neighbours[usize::from(neighbour.0)].addresses = addresses;
    }

    /// Whether a neighbour is still to be connected to, after its name was looked up: the herd
    /// may have given this dial up meanwhile, or an earlier look-up have led to a connection.
    pub fn awaits_connection(&self, neighbour: NeighbourId) -> bool {
        let link = self.neighbours[usize::from(neighbour.0)].link;
        link.is_none() && self.herd.link_is_dialling(neighbour)
    }

    /// A connection to a neighbour is being made, and may be closed before it is.
    pub fn link_connecting(&mut self, neighbour: NeighbourId, id: ConnectionId) {
        self.neighbours[usize::from(neighbour.0)].link = Some(id);
    }

    /// A dialled connection is made: appends the HELLO.
    pub fn link_connected(&mut self, neighbour: NeighbourId, now: Now, out: &mut Vec<u8>) {
        let before = out.len();
        self.herd.link_connected(neighbour, now, out);
        log::info!(target: target::LINK, "Connected to {}.", self.known_as(neighbour));
        Traffic::Link.sent(self.known_as(neighbour), &out[before..]);
    }

    /// A connection to a neighbour that is of no use yet, if there is one.
    pub fn link_being_made(&self, neighbour: NeighbourId) -> Option<ConnectionId> {
        let is_being_made = self.herd.link_is_being_made(neighbour);
        self.neighbours[usize::from(neighbour.0)].link.filter(|_| is_being_made)
    }

    /// A connection to a neighbour could not be made, or ended before it was of use. Another address of it is
    /// tried at once, or [`Server::link_failed`] called. Returns the reason as far as it is known: what
    /// the neighbour answered says more than that the connection was closed then.
    pub fn link_attempt_failed(
        &mut self,
        neighbour: NeighbourId,
        reason: &str,
        now: Now,
    ) -> String {
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        known.link = None;
        let reason = known.refusal.take().unwrap_or_else(|| reason.to_owned());
        log::debug!(target: target::LINK, "An attempt to reach {} failed: {reason}", known.title);
        self.herd.link_tries_again(neighbour, now);
        reason
    }

    /// A neighbour could not be reached, for this reason.
    pub fn link_failed(&mut self, neighbour: NeighbourId, reason: &str, now: Now) {
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        let title = &known.title;
        match known.unreachable.occurs(now.elapsed) {
            Some(lasting) => {
                // Not limited: `LastingProblem` says when.
                log::warn!(target: target::LINK, "{title} can't be reached{lasting}: {reason}. It is dialled again.");
            }
            None => log::debug!(target: target::LINK, "{title} can't be reached: {reason}."),
        }
        self.link_over(neighbour, now);
    }

    /// There is no connection to a neighbour, and none being made.
    pub fn link_over(&mut self, neighbour: NeighbourId, now: Now) {
        self.neighbours[usize::from(neighbour.0)].link = None;
        self.herd.link_closed(neighbour, now, &mut Records(&self.title, &self.neighbours));
    }

    pub(super) fn link_line(
        &mut self,
        neighbour: NeighbourId,
        line: Line<'_>,
        now: Now,
    ) -> Verdict {
        let line = match line {
            Line::Whole(line) => line,
            Line::Unfinished(_) => return Verdict::Close,
            Line::TooLong(beginning) => {
                // What follows from it is a warning: no neighbour answers that.
                log::info!(target: target::LINK, "An answer of {} is too long.", self.known_as(neighbour));
                beginning
            }
        };
        records::received_from_neighbour(self.known_as(neighbour), line);
        let was_up = self.herd.link_is_up(neighbour);
        let records = Records(&self.title, &self.neighbours);
        let mut observer = Answers { records, refusal: None };
        let verdict = self.herd.handle_answer(neighbour, line, now, &mut observer);
        if let Some(refusal) = observer.refusal {
            self.link_refused(neighbour, refusal, was_up, now);
        } else if !was_up && self.herd.link_is_up(neighbour) {
            self.link_came_up(neighbour, now);
        }
        match verdict {
            Outcome::Continue => Verdict::Next,
            Outcome::Close => Verdict::Close,
        }
    }

    /// From now on the links that are down count as down.
    pub(super) fn note_links_down(&mut self, now: Now) {
        for (index, neighbour) in self.neighbours.iter_mut().enumerate() {
            if !self.herd.link_is_up(NeighbourId(index as u16)) {
                neighbour.unreachable.begins(now.elapsed);
            }
        }
    }

    /// A neighbour has said RESUME.
    fn link_came_up(&mut self, neighbour: NeighbourId, now: Now) {
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        known.misnamed.is_over(now.elapsed);
        if let Some(time) = known.unreachable.is_over(now.elapsed) {
            // Not limited: `LastingProblem` says when.
            log::warn!(target: target::LINK, "{} is reachable again, after {} s.", known.title, time.as_secs());
        }
        self.commands.push_back(Command::LinkUp(neighbour));
    }

    /// What a neighbour answered ends our link to it. One that is being made is tried elsewhere first, and
    /// the reason told if that fails, too.
    fn link_refused(&mut self, neighbour: NeighbourId, answer: Refusal, was_up: bool, now: Now) {
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        let title = &known.title;
        let reason = match answer {
            Refusal::WrongName(name) => {
                if let Some(lasting) = known.misnamed.occurs(now.elapsed) {
                    // Not limited: `LastingProblem` says when.
                    log::error!(
                        target: target::LINK,
                        "{title} was dialled, and {name} answered{lasting}. Check `advertise` in the \
                         configuration."
                    );
                }
                format!("{name} answered")
            }
            Refusal::Unknown(line) => format!("it answered what no neighbour answers, {line}"),
        };
        if was_up {
            let text = format_args!("The link to {title} is closed: {reason}.");
            rate_limit::warn_of(Kind::LinkLineRefused, neighbour.0, text);
        } else {
            known.refusal = Some(reason);
        }
    }

    /// The links that have something to be told and are connected.
    pub fn lagging_links(&self) -> impl Iterator<Item = (NeighbourId, ConnectionId)> + '_ {
        let links = self.neighbours.iter().enumerate();
        links.filter_map(|(index, neighbour)| {
            let id = NeighbourId(index as u16);
            Some((id, neighbour.link?)).filter(|_| self.herd.link_has_pending(id))
        })
    }

    /// Appends what a neighbour has not been told yet, until `out` holds `full` bytes.
    pub fn poll_link(&mut self, neighbour: NeighbourId, full: usize, now: Now, out: &mut Vec<u8>) {
        let observer = &mut Records(&self.title, &self.neighbours);
        self.herd.poll_link(neighbour, full, now, out, observer);
    }

    pub(super) fn hang_up(&mut self, neighbour: NeighbourId) -> Option<Command> {
        let link = &mut self.neighbours[usize::from(neighbour.0)].link;
        link.take().map(Command::Close)
    }

    pub(super) fn link_closed(&mut self, id: ConnectionId, neighbour: NeighbourId, now: Now) {
        let link = &mut self.neighbours[usize::from(neighbour.0)].link;
        // One that was hung up is gone from the herd's view already.
        if *link == Some(id) {
            *link = None;
            log::info!(target: target::LINK, "The link to {} is closed.", self.known_as(neighbour));
            self.herd.link_closed(neighbour, now, &mut Records(&self.title, &self.neighbours));
        }
    }
}

/// Why an answer ends the link on which it came.
enum Refusal {
    /// This server answered, and another was dialled.
    WrongName(String),
    /// No acceptor answers this.
    Unknown(String),
}

/// Looks whether an answer ends its link. All else goes into the log.
struct Answers<'a> {
    records: Records<'a>,
    refusal: Option<Refusal>,
}

impl Observer for Answers<'_> {
    fn record(&mut self, event: Event<'_>) {
        let quoted = |line: &[u8]| Escaped(&line[..line.len().min(QUOTED)]).to_string();
        match event {
            Event::WrongName { answered, .. } => {
                self.refusal = Some(Refusal::WrongName(quoted(answered)));
            }
            Event::AnswerRejected { line, .. } => {
                self.refusal = Some(Refusal::Unknown(quoted(line)));
            }
            event => self.records.record(event),
        }
    }
}

/// How much of an answer a record quotes.
const QUOTED: usize = 256;
