//! What runs: the herd as its configuration file describes it.
use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::Limits;
use crate::protocol::Dialect;

/// A whole herd, checked: every neighbour exists, every edge is known at both its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub dialect: Dialect,
    /// Clients in the table at most; one for the herd.
    pub clients: usize,
    /// How far ahead of a server's clock a client's timestamp may lie; one for the herd.
    pub ahead: Duration,
    pub servers: Vec<ServerConfig>,
    pub limits: Limits,
    pub link: LinkSettings,
    pub places: PlacesSettings,
}

/// One server of the herd.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    pub name: String,
    /// Where its clients connect.
    pub listen: SocketAddr,
    /// Where its neighbours do.
    pub peers: SocketAddr,
    /// How its neighbours reach it, `host:port`.
    pub dial: String,
    /// Indices into `Config::servers`, ascending, each edge at both of its ends.
    pub neighbours: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LinkSettings {
    pub heartbeat: Duration,
    pub refill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Google,
    GoogleNew,
    Offline,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PlacesSettings {
    pub provider: Provider,
    /// Time for one query, all its steps together.
    pub timeout: Duration,
    pub in_flight: usize,
    pub waiting: usize,
    pub answer_bytes: usize,
}
