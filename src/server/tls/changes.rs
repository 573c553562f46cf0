//! Other rules for TLS in a server that runs: a neighbour is dialled again if its link has another transport than it
//! should have, connections whose certificates name others by now are closed, and so is plain text where it is no
//! longer accepted. What the rules still allow is not touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Tls, TlsRules};
use crate::application::{Command, Inspected, Ticket, TlsId};
use crate::clock::Now;
use crate::config::Accept;
use crate::connection_records;
use crate::herd::NeighbourId;
use crate::logging::rate_limit::Kind;
use crate::logging::target;
use crate::server::metrics::{ClosedReason, Direction, Transition};
use crate::server::neighbour::LinkError;
use crate::server::{Server, Session};
use crate::tls::Expiry;

/// The ticket of an inspection that looks for clients in plain text.
pub(in crate::server) const PLAIN_CLIENTS: Ticket = Ticket(u64::MAX);

impl Server {
    /// These rules hold from now on. The neighbours are judged by [`Server::judge_neighbours`], once their identities are
    /// known.
    pub(in crate::server) fn change_tls(
        &mut self,
        rules: TlsRules,
        neighbours: &Arc<BTreeMap<String, TlsId>>,
        expiries: &Arc<[Expiry]>,
        now: Now,
    ) {
        let Tls { rules: former, neighbours: configurations, expiries: known } = &mut self.tls;
        let ends_plain = former.clients != Accept::Tls && rules.clients == Accept::Tls;
        *former = rules;
        *configurations = Arc::clone(neighbours);
        known.change(expiries, now.elapsed);
        if ends_plain {
            self.commands.push_back(Command::Inspect(PLAIN_CLIENTS));
        }
    }

    /// Compares the connections with all neighbours with the rules that are in force.
    pub(in crate::server) fn judge_neighbours(&mut self, now: Now) {
        for place in 0..self.neighbours.len() {
            let known = &self.neighbours[place];
            if known.is_removed || known.is_loop() {
                continue;
            }
            let neighbour = NeighbourId(place as u16);
            self.judge_link(neighbour, now);
            self.judge_peer(neighbour);
        }
        if self.tls.rules.peers == Accept::Tls {
            for id in self.unidentified.in_plain_text() {
                self.close(id, ClosedReason::Replaced);
            }
        }
    }

    fn judge_link(&mut self, neighbour: NeighbourId, now: Now) {
        let wants_tls = self.tls_for(neighbour).is_some();
        let known = &self.neighbours[usize::from(neighbour.0)];
        if known.link.is_none() && known.dial.is_none() {
            return; // It is dialled by the rules of then.
        }
        let names_others = |certificate: &super::Shown| !certificate.is_of(&known.identity);
        let reason = if wants_tls != known.is_dialled_with_tls {
            if wants_tls {
                "from now on it is dialled with TLS"
            } else {
                "from now on it is dialled in plain text"
            }
        } else if known.link_certificate.as_deref().is_some_and(names_others) {
            "its certificate does not name its identity"
        } else {
            return;
        };
        self.redial(neighbour, reason, now);
    }

    fn judge_peer(&mut self, neighbour: NeighbourId) {
        let (at, rules) = (self.now, &self.tls.rules);
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        let Some(peer) = known.peer else { return };
        let (reason, transition, closed) = match known.peer_certificate.as_deref() {
            None if rules.peers == Accept::Tls => {
                ("plain text is no longer accepted", Transition::Replaced, ClosedReason::Replaced)
            }
            Some(shown) if !shown.is_of(&known.identity) || shown.is_of(&rules.own) => (
                "its certificate does not name its identity",
                Transition::Certificate,
                ClosedReason::Revoked,
            ),
            _ => return,
        };
        log::info!(
            target: target::LINK, event = "peer_dismissed", neighbour = &known.log_name, reason = reason;
            "The connection of {} is closed: {reason}.", known.log_name
        );
        known.peer = None;
        known.peer_error = Some(LinkError { reason: reason.to_owned(), at });
        known.metrics.count(Direction::In, transition);
        self.close(peer, closed);
    }

    /// All connections of this loop: clients in plain text are closed, after the answers that they are owed.
    pub(in crate::server) fn end_plain_clients(
        &mut self,
        all: &mut dyn Iterator<Item = Inspected<'_, Session>>,
    ) {
        for Inspected { id, peer, session, tls, .. } in all {
            if tls.is_none() && matches!(session, Some(Session::Client(_))) {
                let reason = format_args!("plain text is no longer accepted");
                connection_records::abort(Kind::PlainTextEnded, peer, reason);
                self.ends.insert(id, ClosedReason::Replaced);
                self.commands.push_back(Command::Leave(id));
            }
        }
    }
}
