//! Another configuration for a server that runs. What has not changed is not touched: no connection is closed,
//! no link redialled, every mark stays. What needs a restart stays as it was ([`Config::reloaded`]).
//!
//! A neighbour whose `advertise` has changed is dialled again only if its address has: a link that is up stays if
//! the new address is the one that it is connected to, or one of those that the new name has.

use std::net::SocketAddr;

use super::metrics::{ClosedReason, Direction, Transition};
use super::neighbour::{self, Neighbour};
use super::records::HerdLog;
use super::reload::Reconfigured;
use super::tls::TlsRules;
use super::{FIRST_LOOP, Server, admin};
use crate::application::Target;
use crate::clock::Now;
use crate::config::Config;
use crate::herd::NeighbourId;
use crate::limits::ConfiguredLimits;
use crate::logging::target;

impl Server {
    /// Takes over another configuration, which must have a server of this one's name.
    pub fn reconfigure(&mut self, reconfigured: &Reconfigured, now: Now) {
        let Reconfigured { config, tls, neighbour_tls, expiries, .. } = reconfigured;
        let Some(index) = config.server(&self.herd.settings().name) else {
            return; // The caller has looked.
        };
        self.limits = limits_of(config, self.most_clients);
        self.change_new_ids(&config.limits, config.loops, now.elapsed);
        self.herd.set_heartbeat(config.link.heartbeat, now);
        self.draining.change(&config.stop);
        self.peers_address = config.servers[index].peer_listen;
        self.places.reconfigure(&config.places, config.loops, *tls);
        self.change_tls(TlsRules::new(config, index), neighbour_tls, expiries, now);
        if self.number == FIRST_LOOP {
            self.change_neighbours(neighbour::of(config, index, FIRST_LOOP), now);
            self.judge_neighbours(now);
            self.reconfigure_admin(config, index);
        }
        self.shows_ids = admin::shows_ids(config, index);
        self.looks_at_lines = self.must_look_at_lines();
        self.links_checked = super::UNCHECKED;
    }

    /// From now on these are the neighbours. Those that come are added before others go, so that an id is not used
    /// again while connections of the one that had it are being closed; unless no id is left.
    fn change_neighbours(&mut self, wanted: Vec<Neighbour>, now: Now) {
        let mut gone: Vec<NeighbourId> = (0..self.neighbours.len())
            .filter(|place| !self.neighbours[*place].is_removed)
            .map(|place| NeighbourId(place as u16))
            .collect();
        let (mut added, mut moved) = (Vec::new(), Vec::new());
        for new in wanted {
            match self.find(&new) {
                Some(known) => {
                    gone.retain(|neighbour| *neighbour != known);
                    self.neighbour(known).identity = new.identity;
                    if !is_same(&self.neighbour(known).target, &new.target) {
                        moved.push((known, new.target));
                    }
                }
                None => added.push(new),
            }
        }
        let late: Vec<Neighbour> =
            added.into_iter().filter_map(|new| self.add_neighbour(new, now)).collect();
        for neighbour in gone {
            self.remove_neighbour(neighbour);
        }
        for new in late {
            self.add_neighbour(new, now);
        }
        for (neighbour, target) in moved {
            self.move_neighbour(neighbour, target, now);
        }
    }

    /// The same neighbour: another server by its name, another loop by its number.
    fn find(&self, new: &Neighbour) -> Option<NeighbourId> {
        let is_loop = |target: &Target| matches!(target, Target::Loop(_));
        let place = self.neighbours.iter().position(|known| {
            let is_it = match is_loop(&new.target) {
                true => known.target == new.target,
                false => !is_loop(&known.target) && known.name == new.name,
            };
            is_it && !known.is_removed
        });
        place.map(|place| NeighbourId(place as u16))
    }

    /// Adds a neighbour; returns it if no id is left.
    fn add_neighbour(&mut self, new: Neighbour, now: Now) -> Option<Neighbour> {
        let Some(NeighbourId(place)) = self.herd.add_neighbour(&new.name, now) else {
            return Some(new);
        };
        match self.neighbours.get_mut(usize::from(place)) {
            Some(removed) => *removed = new,
            None => self.neighbours.push(new),
        }
        None
    }

    fn remove_neighbour(&mut self, neighbour: NeighbourId) {
        self.abandon_link(neighbour, "it is no longer a neighbour");
        if let Some(peer) = self.neighbour(neighbour).peer.take() {
            self.close(peer, ClosedReason::Replaced);
        }
        let known = self.neighbour(neighbour);
        known.is_removed = true;
        known.look_up = None;
        known.addresses.clear();
        self.herd.remove_neighbour(
            neighbour,
            &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics),
        );
    }

    fn move_neighbour(&mut self, neighbour: NeighbourId, target: Target, now: Now) {
        let is_up = self.herd.link_is_up(neighbour);
        let known = self.neighbour(neighbour);
        known.look_up = None;
        known.resolved_at = None;
        known.target = target.clone();
        match target {
            Target::Name(name) if is_up => {
                known.has_moved = true;
                self.look_up(neighbour, name);
            }
            Target::Address(address) => {
                known.addresses = vec![address];
                self.redial_unless_connected_to(neighbour, &[address], now);
            }
            _ => self.redial_unless_connected_to(neighbour, &[], now),
        }
    }

    /// The name of a neighbour that has moved has these addresses.
    pub(super) fn neighbour_found(&mut self, neighbour: NeighbourId, now: Now) {
        let is_up = self.herd.link_is_up(neighbour);
        let known = self.neighbour(neighbour);
        if std::mem::take(&mut known.has_moved) && is_up {
            let addresses = known.addresses.clone();
            self.redial_unless_connected_to(neighbour, &addresses, now);
        }
    }

    /// Dials a neighbour at its new address, unless the link that is up is connected to one of `addresses`.
    fn redial_unless_connected_to(
        &mut self,
        neighbour: NeighbourId,
        addresses: &[SocketAddr],
        now: Now,
    ) {
        let is_up = self.herd.link_is_up(neighbour);
        let known = self.neighbour(neighbour);
        let is_there = known.connected_to.is_some_and(|address| addresses.contains(&address));
        if !(is_up && is_there) {
            self.redial(neighbour, "its address has changed", now);
        }
    }

    /// Closes the link to a neighbour, and dials it again at once.
    pub(super) fn redial(&mut self, neighbour: NeighbourId, reason: &str, now: Now) {
        let known = self.neighbour(neighbour);
        known.attempts = Default::default();
        known.refusal = None;
        self.abandon_link(neighbour, reason);
        self.herd.neighbour_moved(neighbour, now);
    }

    /// Closes the link to a neighbour, or cancels its dial.
    fn abandon_link(&mut self, neighbour: NeighbourId, reason: &str) {
        if self.herd.link_is_up(neighbour) {
            let name = self.log_name_of(neighbour);
            log::info!(
                target: target::LINK, event = "link_down", neighbour = name, reason = reason;
                "The link to {name} is closed: {reason}."
            );
            self.neighbour(neighbour).metrics.count(Direction::Out, Transition::Replaced);
        }
        self.cancel_dial(neighbour);
        if let Some(link) = self.neighbour(neighbour).link.take() {
            self.close(link, ClosedReason::Replaced);
        }
    }
}

/// The limits of one loop, which has descriptors for `most_clients`.
pub(super) fn limits_of(config: &Config, most_clients: usize) -> ConfiguredLimits {
    let connections = config.limits.client_connections.div_ceil(config.loops);
    ConfiguredLimits { client_connections: connections.min(most_clients), ..config.limits.clone() }
}

/// Whether two ways of writing where a neighbour is are equal without a look-up.
fn is_same(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Name(one), Target::Name(other)) => one.eq_ignore_ascii_case(other),
        _ => one == other,
    }
}
