//! Changes of the settings while the server runs: another heartbeat, neighbours that come and go or are reached
//! at another address. What is not named in a change stays as it is: links, epochs, marks.
//!
//! A [`NeighbourId`] is an index, so the place of a removed neighbour stays, and the next one that is added gets
//! it. An entry of the table that came from the former one is not taken for one of the new: its source names the
//! neighbour's run, too.

use std::time::Duration;

use super::link::Link;
use super::{Herd, NeighbourId, Observer, Output, SyncState};
use crate::clock::Now;

impl Herd {
    /// Sends and expects MARKs at another interval. No link breaks because a neighbour learns of the change
    /// later, by up to three of the longer heartbeats.
    pub fn set_heartbeat(&mut self, heartbeat: Duration, now: Now) {
        if self.settings.heartbeat != heartbeat {
            self.settings.heartbeat = heartbeat;
            self.heartbeat.change(heartbeat, now.elapsed);
        }
    }

    /// Adds a neighbour, which is dialled at once. None if there are as many neighbours as ids; then remove one
    /// first.
    pub fn add_neighbour(&mut self, name: &str, now: Now) -> Option<NeighbourId> {
        let count = self.links.len();
        let place = self.links.iter().position(Link::is_removed).unwrap_or(count);
        let neighbour = NeighbourId(u16::try_from(place).ok()?);
        let link = Link::new(neighbour, now.elapsed);
        if place == count {
            self.links.push(link);
            self.inbound.push(super::peer::InboundPeer::new());
            self.settings.neighbours.push(name.to_owned());
        } else {
            self.links[place] = link;
            self.inbound[place].forget();
            self.settings.neighbours[place] = name.to_owned();
        }
        if let Some(states) = &mut self.sync {
            states.resize(self.links.len(), SyncState::Pending);
            states[place] = SyncState::Pending;
        }
        Some(neighbour)
    }

    /// Removes a neighbour: nothing is sent to it or taken from it any more, and its HELLO is refused. The
    /// caller closes its connections in both directions.
    pub fn remove_neighbour(&mut self, neighbour: NeighbourId, observer: &mut dyn Observer) {
        let place = usize::from(neighbour.0);
        self.links[place].remove();
        self.inbound[place].disconnect();
        // No name is empty, so no HELLO has it.
        self.settings.neighbours[place].clear();
        self.outputs.retain(|output| output.neighbour() != Some(neighbour));
        self.set_sync_state(neighbour, SyncState::Unreachable, observer);
    }

    /// A neighbour is reached at another address: it is dialled there at once. The caller closes the link to the
    /// former one, or cancels its dial.
    pub fn neighbour_moved(&mut self, neighbour: NeighbourId, now: Now) {
        let place = usize::from(neighbour.0);
        if !self.links[place].is_removed() {
            self.links[place] = Link::new(neighbour, now.elapsed);
            let is_of_link = |output: &Output| {
                output.neighbour() == Some(neighbour) && !matches!(output, Output::ClosePeer(_))
            };
            self.outputs.retain(|output| !is_of_link(output));
        }
    }
}

impl Output {
    /// The neighbour that it is about, if it is about one.
    fn neighbour(&self) -> Option<NeighbourId> {
        match self {
            Output::Dial(neighbour)
            | Output::CloseLink(neighbour)
            | Output::ClosePeer(neighbour) => Some(*neighbour),
            Output::AnswersDue(_) | Output::EngineAnswered(_) | Output::CloseEngine(_) => None,
        }
    }
}
