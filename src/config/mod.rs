//! The checked configuration of a herd. It is read from a TOML file (the modules `document`, `file` and
//! `servers`), overridden by the command line, and printed by `--check` (the module `summary`).

pub mod admin;
mod diff;
mod document;
mod engine;
mod file;
mod herd_wide;
mod identities;
mod log;
mod passed;
mod places;
mod plain_text;
mod servers;
mod state;
mod stop;
mod summary;
mod tls;
mod units;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files;
use crate::limits::{ConfiguredLimits, RELOAD_FILE_BYTES};
use crate::logging::{self, LevelOverrides};
use crate::places::Provider;
use crate::places::endpoint::Endpoint;
use crate::places::key::ApiKey;
use crate::protocol::Dialect;
use crate::tls::Identity;

pub use admin::{AdminAddresses, AdminSettings, PlainText, SecuritySettings};
pub use diff::{Change, Effect, View, diff};
pub use engine::{EngineAck, EngineConfig, EngineKeep, EngineLogin, EngineUrl, Part};
pub use passed::PassedAddresses;
pub use places::{KEY_VARIABLE, PlacesSettings};
pub use state::{StateAck, StateSettings};
pub use stop::{OnSigterm, StopSettings};
pub use summary::format_duration;
pub use tls::{
    Accept, ClientCertificates, ClientsTls, MinVersion, NeighboursTls, OwnFiles, TlsSettings, Who,
};

/// A whole herd, checked: every neighbour exists, every edge is known at both its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub dialect: Dialect,
    /// The maximal number of clients in the table; the same in the whole herd.
    pub max_clients: usize,
    /// How far ahead of a server's clock a client's timestamp may lie; the same in the whole herd.
    pub max_future: Duration,
    /// Loops in each server, at least one, each on a thread of its own.
    pub loops: usize,
    pub servers: Vec<ServerConfig>,
    pub limits: ConfiguredLimits,
    pub link: LinkSettings,
    pub places: PlacesSettings,
    pub log: logging::LogSettings,
    pub admin: AdminSettings,
    pub security: SecuritySettings,
    pub reload: ReloadSettings,
    pub tls: TlsSettings,
    pub stop: StopSettings,
    pub state: StateSettings,
    /// None: servers synchronise by their links alone.
    pub engine: Option<EngineConfig>,
    /// Where relative paths of the configuration begin.
    pub folder: PathBuf,
    /// Which settings do not hold, because a socket was passed in their place.
    pub passed_warnings: Vec<String>,
}

/// When the configuration is read again without a signal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReloadSettings {
    /// How often the files are looked at; None if they are not.
    pub watch: Option<Duration>,
}

/// One server of the herd.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    pub name: String,
    /// Where its clients connect.
    pub listen: SocketAddr,
    /// Where its neighbours do.
    pub peer_listen: SocketAddr,
    /// How its neighbours reach it, `host:port`.
    pub advertise: String,
    /// Where operators and monitoring connect (HTTP); nowhere by default.
    pub admin_listen: Option<SocketAddr>,
    /// How its certificate names it.
    pub identity: Identity,
    /// Indices into [`Config::servers`], ascending, each edge at both of its ends.
    pub neighbours: Vec<usize>,
}

impl ServerConfig {
    /// The host of [`ServerConfig::advertise`], as it is written there: a name, or an address, an IPv6 one in brackets.
    pub fn host(&self) -> &str {
        self.advertise.rsplit_once(':').map_or(&self.advertise, |(host, _)| host)
    }
}

/// The settings of the links between neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkSettings {
    /// The maximal time between two MARKs; a neighbour that is silent for three times as long is disconnected.
    pub heartbeat: Duration,
    /// Whether a new or restarted neighbour gets the full state, and not only later updates.
    pub refill: bool,
}

/// The settings of the command line, which override the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    pub dialect: Option<Dialect>,
    pub admin: Option<AdminAddresses>,
    /// As it was typed: a relative path begins at the working directory.
    pub state_dir: Option<PathBuf>,
    /// Where the sockets listen that were passed to the server.
    pub passed: PassedAddresses,
    pub log_level: LevelOverrides,
    pub provider: Option<Provider>,
    pub places_url: Option<Endpoint>,
    pub places_ca: Option<PathBuf>,
    pub places_key_file: Option<PathBuf>,
    pub places_key: Option<ApiKey>,
}

/// How files are read: at the start, or at a reload.
type ReadFile = fn(&Path) -> io::Result<Vec<u8>>;

/// Why a configuration is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A file cannot be read.
    Read { path: PathBuf, option: &'static str, reason: String },
    /// The file is not valid TOML, or does not describe a herd. `faults` has at least one mistake; `more` are not
    /// shown.
    File { path: PathBuf, faults: Vec<ConfigFault>, more: usize },
    /// A server has the name of the Places server that would run beside it.
    NameTaken { path: PathBuf, fault: ConfigFault },
    /// The settings of places are incomplete, or the API key is invalid.
    Places(String),
    /// A socket that was passed to the server may not listen there.
    Passed(String),
    /// `--admin` names an address that an admin listener may not or cannot have.
    Admin(String),
}

/// A mistake in a configuration's text, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub text: String,
}

impl Config {
    /// Reads the file at `path`, or takes the report's herd, and applies the command line to it. `runs_all` says
    /// that the whole herd is to run on this machine, with a Places service if it needs one.
    pub fn load(
        path: Option<&Path>,
        overrides: &Overrides,
        runs_all: bool,
    ) -> Result<Config, ConfigError> {
        let Some(path) = path else {
            let mut config = Config::default();
            config.apply_overrides(overrides, files::read)?;
            return Ok(config);
        };
        Config::from_text(&Config::read(path)?, path, overrides, runs_all)
    }

    /// The servers of the file at `path`, or those of the report, for a task that needs their names and opens no port:
    /// the configuration may still lack the TLS without which plain text between hosts is refused, and no other file is
    /// read.
    pub fn load_for_certificates(path: Option<&Path>) -> Result<Config, ConfigError> {
        match path {
            None => Ok(Config::default()),
            Some(path) => Ok(file::parse_for_certificates(&Config::read(path)?, path)?.config),
        }
    }

    /// The text of the file at `path`, which may be a pipe, at the start of a process.
    pub fn read(path: &Path) -> Result<String, ConfigError> {
        file::read(path)
    }

    /// The text of the file at `path` for a reload: a regular file of at most [`RELOAD_FILE_BYTES`], because a
    /// process that serves must not wait for a pipe, nor read without end.
    ///
    /// [`RELOAD_FILE_BYTES`]: crate::limits::RELOAD_FILE_BYTES
    pub fn read_again(path: &Path) -> Result<String, ConfigError> {
        file::read_again(path)
    }

    /// The same as [`Config::load`] for a text that was read from `path`.
    pub fn from_text(
        text: &str,
        path: &Path,
        overrides: &Overrides,
        runs_all: bool,
    ) -> Result<Config, ConfigError> {
        Config::checked(text, path, overrides, runs_all, files::read)
    }

    /// The same for a reload: also the files of the command line are read as [`Config::read_again`] does.
    pub fn from_text_again(
        text: &str,
        path: &Path,
        overrides: &Overrides,
        runs_all: bool,
    ) -> Result<Config, ConfigError> {
        let read = |path: &Path| files::read_regular(path, RELOAD_FILE_BYTES);
        Config::checked(text, path, overrides, runs_all, read)
    }

    /// The report's herd, for a reload without a configuration file.
    pub fn built_in_again(overrides: &Overrides) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        let read = |path: &Path| files::read_regular(path, RELOAD_FILE_BYTES);
        config.apply_overrides(overrides, read)?;
        Ok(config)
    }

    fn checked(
        text: &str,
        path: &Path,
        overrides: &Overrides,
        runs_all: bool,
        read: ReadFile,
    ) -> Result<Config, ConfigError> {
        let file::Parsed { mut config, names, state_ack, cache_at } = file::parse(text, path)?;
        config.apply_overrides(overrides, read)?;
        let lacks_dir = state_ack.filter(|_| config.state.lacks_dir());
        let lacks_dir = lacks_dir.map(|at| (at, state::LACKS_DIR.to_owned()));
        let has_dir = config.state_of_cache(overrides.state_dir.is_some());
        let faults: Vec<ConfigFault> = (lacks_dir.into_iter())
            .chain(cache_at.zip(has_dir))
            .map(|(at, fault)| {
                let (line, column) = document::place(text, at.start);
                ConfigFault { line, column, text: fault }
            })
            .collect();
        if !faults.is_empty() {
            return Err(ConfigError::File { path: path.to_owned(), faults, more: 0 });
        }
        if runs_all && config.needs_places_service(overrides) {
            let is_taken = |server: &ServerConfig| server.name.eq_ignore_ascii_case(PLACES_SERVICE);
            if let Some(server) = config.servers.iter().position(is_taken) {
                let (line, column) = document::place(text, names[server].start);
                let text = PLACES_IS_TAKEN.to_owned();
                let fault = ConfigFault { line, column, text };
                return Err(ConfigError::NameTaken { path: path.to_owned(), fault });
            }
        }
        Ok(config)
    }

    fn apply_overrides(
        &mut self,
        overrides: &Overrides,
        read: ReadFile,
    ) -> Result<(), ConfigError> {
        self.dialect = overrides.dialect.unwrap_or(self.dialect);
        overrides.log_level.apply(&mut self.log.levels);
        if let Some(addresses) = &overrides.admin {
            self.apply_admin(addresses)?;
        }
        if let Some(dir) = &overrides.state_dir {
            self.apply_state_dir(dir);
        }
        self.apply_passed(&overrides.passed)?;
        self.places.apply_overrides(overrides, read)
    }

    /// Whether `--herd` runs this program's own Places service beside the servers: if neither the file nor the
    /// command line chooses a provider.
    pub fn needs_places_service(&self, overrides: &Overrides) -> bool {
        let asks = overrides.places_url.is_some() || overrides.places_ca.is_some();
        self.places.provider_override.is_none() && self.places.key.is_none() && !asks
    }

    /// Whether places come from a service, and not from the built-in list.
    pub fn has_places_service(&self) -> bool {
        self.places.provider() != Provider::Offline
    }

    /// The herd that a configuration's text describes.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        Ok(file::parse(text, Path::new("the configuration"))?.config)
    }

    /// Every key that a configuration can have: `dialect`, `limits`, `limits.line_bytes`, `server.name` and so on.
    pub fn known_keys() -> Vec<String> {
        file::known_keys()
    }

    /// Whether the same servers have the same neighbours and the same addresses.
    pub fn is_same_herd(&self, other: &Config) -> bool {
        let of = |server: &ServerConfig| {
            let ServerConfig { name, neighbours, advertise, admin_listen, .. } = server;
            (name.clone(), neighbours.clone(), advertise.clone(), *admin_listen)
        };
        self.servers.iter().map(of).eq(other.servers.iter().map(of))
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
            let peer_listen = local(port + PEERS_ABOVE_CLIENTS);
            ServerConfig {
                name: name.to_owned(),
                listen: local(port),
                peer_listen,
                advertise: peer_listen.to_string(),
                admin_listen: None,
                identity: Identity::of_server(name),
                neighbours: neighbours.to_vec(),
            }
        };
        Config {
            dialect: Dialect::Report,
            max_clients: 1_000_000,
            max_future: Duration::from_secs(300),
            loops: 1,
            servers: REPORT.iter().map(server).collect(),
            limits: ConfiguredLimits::default(),
            link: LinkSettings { heartbeat: Duration::from_secs(5), refill: true },
            places: PlacesSettings::default(),
            log: logging::LogSettings::default(),
            admin: AdminSettings::default(),
            security: SecuritySettings::default(),
            reload: ReloadSettings::default(),
            tls: TlsSettings::default(),
            stop: StopSettings::default(),
            state: StateSettings::default(),
            engine: None,
            folder: PathBuf::new(),
            passed_warnings: Vec::new(),
        }
    }
}

/// The default of `advertise`: the address of `peer_listen`, or this machine's if that is unspecified (0.0.0.0).
fn default_advertise(peer_listen: SocketAddr) -> String {
    let ip = match peer_listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        _ => return peer_listen.to_string(),
    };
    SocketAddr::new(ip, peer_listen.port()).to_string()
}

impl ConfigError {
    /// The text for a place that has one line: the first mistake, and how many follow.
    pub fn in_one_line(&self) -> String {
        let text = self.to_string();
        match text.split_once('\n') {
            None => text,
            Some((first, rest)) => {
                format!("{first} (and {} more; --check shows them)", rest.lines().count())
            }
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Read { path, option, reason } => {
                write!(f, "cannot read {} ({option}): {reason}", path.display())
            }
            ConfigError::File { path, faults, more } => {
                for (number, fault) in faults.iter().enumerate() {
                    let ConfigFault { line, column, text } = fault;
                    let next = if number > 0 { "\n" } else { "" };
                    write!(f, "{next}{}:{line}:{column}: {text}", path.display())?;
                }
                match more {
                    0 => Ok(()),
                    1 => write!(f, "\n{}: and 1 more mistake", path.display()),
                    left => write!(f, "\n{}: and {left} more mistakes", path.display()),
                }
            }
            ConfigError::NameTaken { path, fault: ConfigFault { line, column, text } } => {
                write!(f, "{}:{line}:{column}: {text}", path.display())
            }
            ConfigError::Places(text) | ConfigError::Admin(text) | ConfigError::Passed(text) => {
                f.write_str(text)
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The name of our own Places server, and of its log.
pub const PLACES_SERVICE: &str = "Places";
const PLACES_IS_TAKEN: &str = "a server cannot be named \"Places\" while --herd runs a Places server of that name, \
                               which has a log of its own; choose another name, or set places.provider";
/// The maximal number of mistakes in one message. Further ones are mostly the same mistake, repeated.
const FAULTS_SHOWN: usize = 20;
/// How far a server's port for neighbours lies above its port for clients, unless it is set.
const PEERS_ABOVE_CLIENTS: u16 = 10_000;

/// Names, ports and neighbours in the report's herd.
const REPORT: [(&str, u16, &[usize]); 5] = [
    ("Goloman", 12138, &[1, 2, 3]),
    ("Hands", 12139, &[0, 3]),
    ("Holiday", 12140, &[0, 4]),
    ("Wilkes", 12141, &[0, 1]),
    ("Welsh", 12142, &[2]),
];
