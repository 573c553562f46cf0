//! With which TLS neighbours are dialled.

use crate::application::{Target, TlsId};
use crate::herd::NeighbourId;
use crate::server::Server;

impl Server {
    /// The TLS configuration with which a neighbour is dialled; None for plain text.
    pub(in crate::server) fn tls_for(&self, neighbour: NeighbourId) -> Option<TlsId> {
        let known = &self.neighbours[usize::from(neighbour.0)];
        if !self.tls.rules.dials_tls || matches!(known.target, Target::Loop(_)) {
            return None;
        }
        let made = self.tls.neighbours.get(&known.name).copied();
        // Nothing falls back to plain text: the loop refuses a dial with a configuration that it does not have.
        Some(made.unwrap_or(MISSING))
    }
}

const MISSING: TlsId = TlsId(u16::MAX);
