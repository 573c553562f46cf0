//! What becomes of a new connection: it is taken, waits for room, or is refused; and which open connection is
//! closed to make room for it.
//!
//! ```text
//!   its group has as many as one group may have        -> refused
//!   there is room                                      -> taken
//!   a group has more than its own would have           -> the longest silent one of that group is closed
//!   one has been idle for `evict_after`                -> the longest idle one is closed
//!   else                                               -> refused; or it waits, for want of descriptors only
//! ```

use std::net::SocketAddr;

use super::{Listener, Room};
use crate::addresses::AddressGroup;
use crate::application::{Closed, Refused};
use crate::event_loop::connections::Connections;

/// What becomes of a new connection.
#[derive(Debug)]
pub(super) enum Admission {
    Take,
    /// The next turn decides: it has read what has arrived and given descriptors back.
    NextTurn,
    /// It waits until a connection is closed.
    Pause,
    Refuse(Refused),
}

impl Listener {
    /// Decides about a new connection, and makes room for it.
    pub(super) fn admit<S>(
        &mut self,
        peer: SocketAddr,
        connections: &mut Connections<S>,
    ) -> Admission {
        let group = AddressGroup::of(peer.ip());
        let exempt = &connections.shared.limits.exempt;
        let is_exempt = exempt.iter().any(|prefix| prefix.contains(peer.ip()));
        let per_group = self.listen.groups.per_group;
        let has = connections.shared.groups.connections(self.listen.id, group);
        if per_group > 0 && has >= per_group && !is_exempt {
            return Admission::Refuse(Refused::Group(peer));
        }
        if self.lacks_descriptors(connections) {
            return self.wait_for_a_descriptor(peer, group, is_exempt, connections);
        }
        if !self.is_full(connections) {
            return Admission::Take;
        }
        match self.make_room(group, connections) {
            Room::Made if self.is_full(connections) => {
                // The limit was lowered: each newcomer brings the listener one connection nearer to it.
                self.make_room(group, connections);
                Admission::Take
            }
            Room::Made => Admission::Take,
            Room::Unknown => Admission::NextTurn,
            Room::None => Admission::Refuse(Refused::Limit(peer)),
        }
    }

    /// A new connection was accepted with one of the descriptors that are kept for other purposes, because
    /// only so its address can be known. If no room can be made, it must not hold up those behind it, unless
    /// its address is exempt: clients of such an address are trusted to leave.
    fn wait_for_a_descriptor<S>(
        &mut self,
        peer: SocketAddr,
        group: AddressGroup,
        is_exempt: bool,
        connections: &mut Connections<S>,
    ) -> Admission {
        if !connections.shared.closed.is_empty() {
            return Admission::NextTurn; // There will be descriptors.
        }
        match self.make_room(group, connections) {
            Room::Made | Room::Unknown => Admission::NextTurn,
            Room::None if is_exempt => Admission::Pause,
            Room::None => Admission::Refuse(Refused::Limit(peer)),
        }
    }

    fn make_room<S>(&mut self, group: AddressGroup, connections: &mut Connections<S>) -> Room {
        match self.share_fairly(group, connections) {
            true => Room::Made,
            false => self.evict_idle(connections),
        }
    }

    /// Closes the longest silent connection of the group that has the most, if that group has at least two
    /// more than the newcomer's would have: so it still has more than that one afterwards.
    fn share_fairly<S>(&self, group: AddressGroup, connections: &mut Connections<S>) -> bool {
        let groups = &connections.shared.groups;
        let Some((largest, most)) = groups.largest(self.listen.id) else {
            return false;
        };
        let newcomers = groups.connections(self.listen.id, group) + 1;
        if !self.listen.groups.fair_share || most < newcomers + 2 {
            return false;
        }
        let longest_silent = connections.longest_silent(largest);
        if let Some(id) = longest_silent {
            connections.close(id, Closed::FairShare);
        }
        longest_silent.is_some()
    }

    /// Closes the longest-idle connection, if it has been idle for long enough.
    pub(super) fn evict_idle<S>(&mut self, connections: &mut Connections<S>) -> Room {
        let Some(after) = self.listen.evict_after else {
            return Room::None;
        };
        let now = connections.shared.now.elapsed;
        if now < self.no_eviction_before {
            return Room::None; // Searched recently: none can be idle long enough yet.
        }
        let Some((last_read, id)) = connections.idlest(self.listen.id) else {
            return Room::None;
        };
        let silent_enough = last_read + after;
        if now < silent_enough {
            self.no_eviction_before = silent_enough;
            return Room::None;
        }
        // It was idle up to the last poll, but may have sent something since.
        if connections.shared.served_up_to.up_to() < silent_enough {
            return Room::Unknown;
        }
        connections.close(id, Closed::Evicted);
        Room::Made
    }
}

#[cfg(test)]
mod tests;
