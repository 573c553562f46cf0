//! Links: the connections by which we tell our neighbours what changed (section 4).

use std::net::IpAddr;

use super::records::{self, Records};
use super::{Command, ConnectionId, Server, Verdict};
use crate::herd::{Moment, NeighbourId, Verdict as HerdVerdict};
use crate::protocol::Line;

impl Server {
    pub(super) fn dial(&mut self, neighbour: NeighbourId) -> Command {
        let address = self.neighbours[usize::from(neighbour.0)].dial.clone();
        log::debug!("Dialling {} at {address}.", self.known_as(neighbour));
        Command::Dial { neighbour, address }
    }

    /// Notes what a neighbour's `dial` stands for at present: from there it may call.
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
    pub fn link_connected(&mut self, neighbour: NeighbourId, now: Moment, out: &mut Vec<u8>) {
        let before = out.len();
        self.herd.link_connected(neighbour, now, out);
        log::info!("Connected to {}.", self.known_as(neighbour));
        records::sent(self.known_as(neighbour), &out[before..]);
    }

    /// A neighbour could not be reached, for this reason.
    pub fn link_failed(&mut self, neighbour: NeighbourId, reason: &str, now: Moment) {
        log::debug!("{} could not be reached: {reason}", self.known_as(neighbour));
        self.neighbours[usize::from(neighbour.0)].link = None;
        self.herd.link_closed(neighbour, now, &mut Records(&self.title, &self.neighbours));
    }

    pub(super) fn link_line(
        &mut self,
        neighbour: NeighbourId,
        line: Line<'_>,
        now: Moment,
    ) -> Verdict {
        let line = match line {
            Line::Whole(line) => line,
            Line::Unfinished(_) => return Verdict::Close,
            Line::TooLong(beginning) => {
                // What follows from it is a warning: no neighbour answers that.
                log::info!("An answer of {} is too long.", self.known_as(neighbour));
                beginning
            }
        };
        records::received_from_neighbour(self.known_as(neighbour), line);
        let witness = &mut Records(&self.title, &self.neighbours);
        match self.herd.handle_answer(neighbour, line, now, witness) {
            HerdVerdict::Next => Verdict::Next,
            HerdVerdict::Close => Verdict::Close,
        }
    }

    /// The links that have something to be told and are connected.
    pub fn lagging_links(&self) -> impl Iterator<Item = (NeighbourId, ConnectionId)> + '_ {
        let links = self.neighbours.iter().enumerate();
        links.filter_map(|(index, neighbour)| {
            let id = NeighbourId(index as u16);
            Some((id, neighbour.link?)).filter(|_| self.herd.link_lags(id))
        })
    }

    /// Appends what a neighbour has not been told yet, until `out` holds `full` bytes.
    pub fn poll_link(
        &mut self,
        neighbour: NeighbourId,
        full: usize,
        now: Moment,
        out: &mut Vec<u8>,
    ) {
        let witness = &mut Records(&self.title, &self.neighbours);
        self.herd.poll_link(neighbour, full, now, out, witness);
    }

    pub(super) fn hang_up(&mut self, neighbour: NeighbourId) -> Option<Command> {
        let link = &mut self.neighbours[usize::from(neighbour.0)].link;
        link.take().map(Command::Close)
    }

    pub(super) fn link_closed(&mut self, id: ConnectionId, neighbour: NeighbourId, now: Moment) {
        let link = &mut self.neighbours[usize::from(neighbour.0)].link;
        // One that was hung up is gone from the herd's view already.
        if *link == Some(id) {
            *link = None;
            log::info!("The link to {} is closed.", self.known_as(neighbour));
            self.herd.link_closed(neighbour, now, &mut Records(&self.title, &self.neighbours));
        }
    }
}
