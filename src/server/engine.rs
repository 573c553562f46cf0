//! The connection to the engine: how it is made, kept and lost. What is said on it is the core's
//! ([`Engine`](crate::herd::engine::Engine)).

use super::Server;

impl Server {
    /// The core wants another connection, for this reason.
    pub(super) fn close_engine(&mut self, _reason: &str) {}
}
