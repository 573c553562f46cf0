//! What a server needs to know when it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{FIRST_LOOP, Server};
use crate::application::{LoopId, TlsId};
use crate::clock::Now;
use crate::config::Config;
use crate::herd::Herd;
use crate::logging::Log;
use crate::protocol::Epoch;
use crate::tls::Expiry;

/// What a server needs at its start.
pub struct ServerSetup<'a> {
    pub config: &'a Config,
    /// Its place in [`Config::servers`].
    pub index: usize,
    /// Which of its [`Config::loops`] it is, from [`FIRST_LOOP`] on.
    pub number: LoopId,
    /// This run's identity: random, not 0. Each loop has its own.
    pub epoch: Epoch,
    /// The seed of the server's random numbers: random and secret.
    pub seed: u128,
    /// The TLS configuration for the Places service, if the server queries one.
    pub tls: Option<TlsId>,
    /// The TLS configuration for each neighbour, by its name; empty if neighbours are dialled in plain text.
    pub neighbour_tls: Arc<BTreeMap<String, TlsId>>,
    /// Until when certificates and revocation lists are valid.
    pub expiries: Arc<[Expiry]>,
    /// Where its records go at the end of each turn.
    pub log: Option<Log>,
    pub now: Now,
}

impl<'a> ServerSetup<'a> {
    /// Of the configuration's first server with one loop, without TLS and without a log: for tests and simulators.
    pub fn plain(config: &'a Config, now: Now) -> ServerSetup<'a> {
        ServerSetup {
            config,
            index: 0,
            number: FIRST_LOOP,
            epoch: Epoch(1),
            seed: 1,
            tls: None,
            neighbour_tls: Arc::default(),
            expiries: Arc::default(),
            log: None,
            now,
        }
    }
}

impl Server {
    /// Its part in the herd, to be filled with what a former run has kept. Call it before the loop runs.
    pub fn restoring(&mut self) -> &mut Herd {
        &mut self.herd
    }
}
