//! The metrics of links, for each neighbour of the configuration.

use super::family::Family;
use super::{DialResult, Direction, Transition};
use crate::clock::Now;
use crate::herd::NeighbourId;
use crate::server::Server;
use crate::server::neighbour::Neighbour;

impl Server {
    /// The neighbours that are other servers.
    pub(in crate::server) fn other_servers(
        &self,
    ) -> impl Iterator<Item = (NeighbourId, &Neighbour)> {
        let numbered = self.neighbours.iter().enumerate();
        let numbered = numbered.map(|(place, known)| (NeighbourId(place as u16), known));
        numbered.filter(|(id, known)| !known.is_loop() && !self.herd.name(*id).is_empty())
    }

    pub(super) fn add_links(&self, now: Now, all: &mut Vec<Family>) {
        let mut up = Family::gauge("herd_link_up", "Whether updates can be sent or received");
        let help = "How often a link came up, went down, or did not come up";
        let mut transitions = Family::counter("herd_link_transitions_total", help);
        let help = "Age of the oldest MARK that the neighbour has not acknowledged";
        let mut lag = Family::gauge("herd_link_lag_seconds", help);
        let help = "Updates that the neighbour has not acknowledged";
        let mut unacknowledged = Family::gauge("herd_link_unacknowledged_updates", help);
        let mut updates = Family::counter("herd_link_updates_total", "Updates sent and received");
        let help = "Updates that were received and are malformed";
        let mut malformed = Family::counter("herd_link_malformed_updates_total", help);
        let mut dials = Family::counter("herd_link_dials_total", "Attempts to connect");
        let help = "From the client's line at its server to the update's arrival, by two clocks";
        let mut delay = Family::histogram("herd_flood_delay_seconds", help);
        for (id, known) in self.other_servers() {
            let (name, metrics) = (("neighbour", &known.name[..]), &known.metrics);
            for direction in Direction::ALL {
                let of = [name, ("direction", direction.text())];
                up.add(
                    of,
                    match direction {
                        Direction::In => self.herd.peer_is_connected(id),
                        Direction::Out => self.herd.link_is_up(id),
                    },
                );
                updates.add(of, &metrics.updates[*direction as usize]);
                for reason in Transition::ALL {
                    let count = &metrics.transitions[*direction as usize][*reason as usize];
                    transitions.add([of[0], of[1], ("reason", reason.text())], count);
                }
            }
            lag.add([name], self.herd.link_lag(id, now).as_secs_f64());
            unacknowledged.add([name], self.herd.link_unconfirmed(id));
            malformed.add([name], &metrics.malformed);
            for result in DialResult::ALL {
                dials.add([name, ("result", result.text())], &metrics.dials[*result as usize]);
            }
            delay.add([name], &metrics.flood_delay);
        }
        let link = [up, transitions, lag, unacknowledged, updates, malformed, dials, delay];
        all.extend(link);
    }
}
