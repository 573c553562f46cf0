//! How listeners and dials secure their connections, and what becomes of open connections when that changes: each is
//! verified again, some in each turn, because a verification costs as much as two hundred lines.
//!
//! A handshake that began before a change and ends after it was verified by the former rules, so it is verified again
//! at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::acceptor::Security;
use super::connection::Connection;
use super::connections::Connections;
use super::limits::{SLOTS_PER_LOOK, VERIFICATIONS_PER_TURN};
use super::shared::Shared;
use super::state::ConnectionState;
use super::timers::Timer;
use super::transport::Socket;
use crate::application::{Closed, ListenerId, Origin, TlsId};
use crate::tls::ClientTls;

/// How the connections of a loop are secured.
#[derive(Default)]
pub struct Securities {
    listeners: BTreeMap<ListenerId, Security>,
    /// For dials. The ids may have gaps.
    pub dials: BTreeMap<TlsId, ClientTls>,
    /// How often any of them was changed.
    pub generation: u64,
    verification: Verification,
}

/// The verification of open connections that is in progress.
#[derive(Default)]
struct Verification {
    listeners: BTreeSet<ListenerId>,
    dials: BTreeSet<TlsId>,
    /// The slot that is looked at next.
    at: usize,
    /// How many slots are left to look at. Another change begins to count again, but goes on from the same slot: however
    /// many changes come, each slot has its turn.
    left: usize,
}

impl Securities {
    /// That of a listener; it has one unless it was never there.
    pub fn of(&self, listener: ListenerId) -> Option<&Security> {
        self.listeners.get(&listener)
    }

    /// Sets that of a new listener.
    pub fn insert(&mut self, listener: ListenerId, security: Security) {
        self.listeners.insert(listener, security);
    }

    /// Why the other side of a connection is not trusted, by the rules of now.
    fn distrusts(&self, connection: &mut Connection<Socket>) -> Option<String> {
        let origin = connection.origin();
        let secured = connection.transport.secured()?;
        let chain = secured.session()?.peer_chain();
        match (origin, secured.dialled_with) {
            (Origin::Accepted(listener), _) => match self.of(listener)? {
                Security::Tls(tls) | Security::Either { tls, .. } => tls.distrusts(chain),
                Security::Plain => None,
            },
            (_, Some(id)) => self.dials.get(&id)?.distrusts(chain),
            _ => None,
        }
    }
}

impl Verification {
    fn concerns(&self, connection: &mut Connection<Socket>) -> bool {
        let is_open = matches!(connection.state, ConnectionState::Open | ConnectionState::Flushing);
        let origin = connection.origin();
        match (origin, connection.transport.secured()) {
            _ if !is_open => false,
            (Origin::Accepted(listener), Some(_)) => self.listeners.contains(&listener),
            (_, Some(secured)) => secured.dialled_with.is_some_and(|id| self.dials.contains(&id)),
            (_, None) => false,
        }
    }
}

impl Shared {
    /// Why the other side of a connection whose handshake is complete is not trusted although the handshake succeeded:
    /// the rules have changed in the meantime.
    pub(super) fn distrusts_at_end(&self, connection: &mut Connection<Socket>) -> Option<String> {
        let began_with = connection.transport.secured()?.generation;
        if began_with == self.security.generation {
            return None;
        }
        self.security.distrusts(connection)
    }
}

impl<S> Connections<S> {
    /// Changes how listeners and dials secure their connections, and begins to verify those that are open.
    pub(super) fn secure(
        &mut self,
        listeners: Vec<(ListenerId, Security)>,
        dials: Vec<(TlsId, ClientTls)>,
    ) {
        if listeners.is_empty() && dials.is_empty() {
            return;
        }
        let Shared { security, timers, now, .. } = &mut self.shared;
        security.generation += 1;
        let verification = &mut security.verification;
        verification.listeners.extend(listeners.iter().map(|(id, _)| *id));
        verification.dials.extend(dials.iter().map(|(id, _)| *id));
        verification.left = self.slots.bound();
        security.listeners.extend(listeners);
        security.dials.extend(dials);
        timers.set(Timer::Verification, now.elapsed);
    }

    /// [`Timer::Verification`] is due: verifies some connections.
    pub(super) fn verify_some(&mut self) {
        let bound = self.slots.bound().max(1);
        let mut verified = 0;
        for _ in 0..SLOTS_PER_LOOK {
            let Shared { security, .. } = &mut self.shared;
            if security.verification.left == 0 {
                security.verification = Verification::default();
                return;
            }
            if verified == VERIFICATIONS_PER_TURN {
                break;
            }
            let at = security.verification.at % bound;
            security.verification.at = at + 1;
            security.verification.left -= 1;
            let Some(slot) = self.slots.at_mut(at) else {
                continue;
            };
            if security.verification.concerns(&mut slot.connection) {
                verified += 1;
                if let Some(why) = security.distrusts(&mut slot.connection) {
                    self.shared.close(&mut slot.connection, Closed::Untrusted(why));
                }
            }
        }
        let now: Duration = self.shared.now.elapsed;
        self.shared.timers.set(Timer::Verification, now);
    }
}
