//! What runs: a herd, checked. Read from a TOML file (the module `file`), overridden by the command
//! line, and shown by `--check` (the module `drawing`).

mod drawing;
mod file;
mod places;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::Args;
use crate::limits::Limits;
use crate::places::key::Key;
use crate::protocol::Dialect;

pub use drawing::shown;
pub use places::{KEY_VARIABLE, PlacesSettings, Provider};

/// A whole herd, checked: every neighbour exists, every edge is known at both its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub dialect: Dialect,
    /// Clients in the table at most; one for the herd.
    pub clients: usize,
    /// How far ahead of a server's clock a client's timestamp may lie; one for the herd.
    pub ahead: Duration,
    /// Loops in each server, at least one, each on a thread of its own.
    pub loops: usize,
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
    /// Indices into [`Config::servers`], ascending, each edge at both of its ends.
    pub neighbours: Vec<usize>,
}

/// How neighbours talk.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkSettings {
    /// A MARK follows at the latest after this time; patience is three of them.
    pub heartbeat: Duration,
    /// Whether a new or restarted neighbour gets all that is known, not only what is new.
    pub refill: bool,
}

/// A configuration that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file, or one that it names, can't be read.
    Read { path: PathBuf, reason: String },
    /// It is no TOML, or has keys or types that are not known here.
    Toml { path: PathBuf, reason: String },
    /// A value that can't be used.
    Value { key: String, value: String, expected: String },
    /// The servers don't make a herd.
    Herd(String),
    /// The Places service can't be asked.
    Places(String),
}

impl Config {
    /// What runs, by what was typed.
    pub fn load(args: &Args) -> Result<Config, ConfigError> {
        let mut config = match &args.config {
            Some(path) => file::read(path)?,
            None => Config::default(),
        };
        config.dialect = args.dialect.unwrap_or(config.dialect);
        config.places.complete(args)?;
        Ok(config)
    }

    /// A Places service of this program's own: a herd of one, that nobody is a neighbour of. Its clients
    /// are visitors, who come by HTTPS.
    pub fn places_service(key: Option<Key>) -> Config {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = ServerConfig {
            name: PLACES_SERVICE.to_owned(),
            listen: nowhere,
            peers: nowhere,
            dial: nowhere.to_string(),
            neighbours: Vec::new(),
        };
        let places =
            PlacesSettings { chosen: Some(Provider::Offline), key, ..PlacesSettings::default() };
        Config { servers: vec![server], clients: 1, places, ..Config::default() }
    }

    /// The herd that a configuration's text describes.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        file::parse(text, Path::new("the configuration"))
    }

    /// The place of the server with that name.
    pub fn server(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|server| server.name == name)
    }

    /// The names of the servers, in order.
    pub fn names(&self) -> Vec<&str> {
        self.servers.iter().map(|server| server.name.as_str()).collect()
    }
}

/// The report's five servers, on this machine.
impl Default for Config {
    fn default() -> Config {
        let server = |&(name, port, neighbours): &(&str, u16, &[usize])| {
            let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let peers = local(port + PEERS_ABOVE_CLIENTS);
            ServerConfig {
                name: name.to_owned(),
                listen: local(port),
                peers,
                dial: peers.to_string(),
                neighbours: neighbours.to_vec(),
            }
        };
        Config {
            dialect: Dialect::Report,
            clients: 1_000_000,
            ahead: Duration::from_secs(300),
            loops: 1,
            servers: REPORT.iter().map(server).collect(),
            limits: Limits::default(),
            link: LinkSettings { heartbeat: Duration::from_secs(5), refill: true },
            places: PlacesSettings::default(),
        }
    }
}

/// How a server that listens at `peers` is dialled, unless it says otherwise: at that address,
/// or on this machine where it listens on all of its addresses.
fn default_dial(peers: SocketAddr) -> String {
    let ip = match peers.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, peers.port()).to_string()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Read { path, reason } => {
                write!(f, "can't read {}: {reason}", path.display())
            }
            ConfigError::Toml { path, reason } => write!(f, "{}: {reason}", path.display()),
            ConfigError::Value { key, value, expected } => {
                write!(f, "{key} is {value}, and should be {expected}")
            }
            ConfigError::Herd(text) | ConfigError::Places(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What a Places service calls itself, and its log.
pub const PLACES_SERVICE: &str = "Places";
/// A server's port for neighbours lies so far above its port for clients, unless it is set.
const PEERS_ABOVE_CLIENTS: u16 = 10_000;

/// Names, ports and neighbours in the report's herd.
const REPORT: [(&str, u16, &[usize]); 5] = [
    ("Goloman", 12138, &[1, 2, 3]),
    ("Hands", 12139, &[0, 3]),
    ("Holiday", 12140, &[0, 4]),
    ("Wilkes", 12141, &[0, 1]),
    ("Welsh", 12142, &[2]),
];
