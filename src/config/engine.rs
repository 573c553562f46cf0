//! `[engine]`: a bucket of NATS that several servers share in place of links.
//!
//! | file | what |
//! |---|---|
//! | `engine.rs` | the settings, who is a member, and what `--check` says |
//! | `engine/read.rs` | the section of the file |
//! | `engine/cache.rs` | what does not go together with `keep = "cache"` |
//! | `engine/url.rs` | where a server of NATS is |
//! | `engine/files.rs` | the files of the section, as far as they are judged before the first connection |

mod cache;
mod files;
pub(super) mod read;
mod url;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tls::{with_name, write_path};
use super::units::written;
use super::{Config, ServerConfig};

pub use url::EngineUrl;

/// `[engine]` with `provider = "nats"`.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Servers of NATS; at least one.
    pub servers: Vec<EngineUrl>,
    pub bucket: String,
    /// The servers that use the engine, as indices into [`Config::servers`], ascending.
    pub members: Vec<usize>,
    /// Whether each server is one because none is named.
    pub has_all: bool,
    /// Copies of the bucket, if it must be made.
    pub replicas: usize,
    /// Whether a missing bucket is made.
    pub create: bool,
    pub ack: EngineAck,
    pub keep: EngineKeep,
    /// How long an answer is held.
    pub timeout: Duration,
    /// After so much silence the connection is tried with a PING.
    pub heartbeat: Duration,
    pub login: EngineLogin,
    /// The file with the certificates (PEM) that are trusted instead of the built-in roots.
    pub ca: Option<PathBuf>,
    /// The files of our certificate and its key (PEM), for mutual TLS.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins before the server's INFO.
    pub handshake_first: bool,
}

/// When an IAMAT is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineAck {
    /// Once the engine has acknowledged its update, or a newer one of the client.
    #[default]
    Engine,
    /// At once, as without an engine.
    Local,
}

/// Which clients a member holds in its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKeep {
    /// All clients of the bucket.
    #[default]
    All,
    /// At most `max_clients`, those that were used last.
    Cache,
}

/// How a member proves who it is. The secrets are in files, which are read at each connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EngineLogin {
    #[default]
    None,
    Password {
        user: String,
        file: PathBuf,
    },
    Token {
        file: PathBuf,
    },
    /// The seed of an nkey.
    Nkey {
        file: PathBuf,
    },
    /// A JWT and the seed of its nkey.
    Creds {
        file: PathBuf,
    },
}

/// What a server is where there is an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It uses the engine, and has no neighbours.
    Member,
    /// A member with neighbours.
    Bridge,
    /// It has links only.
    FloodOnly,
}

impl Default for EngineConfig {
    /// The settings that the section need not name.
    fn default() -> EngineConfig {
        EngineConfig {
            servers: Vec::new(),
            bucket: "herd".to_owned(),
            members: Vec::new(),
            has_all: true,
            replicas: 3,
            create: true,
            ack: EngineAck::default(),
            keep: EngineKeep::default(),
            timeout: Duration::from_secs(15),
            heartbeat: Duration::from_secs(2),
            login: EngineLogin::None,
            ca: None,
            certificate: None,
            handshake_first: false,
        }
    }
}

impl Config {
    /// The engine's settings as they are written, if the server at this index in [`Config::servers`] is a member.
    pub fn member_engine(&self, place: usize) -> Option<&EngineConfig> {
        self.engine.as_ref().filter(|engine| engine.members.contains(&place))
    }

    /// How long the answers of a server may wait for the engine; None if they do not.
    pub fn engine_wait(&self, place: usize) -> Option<Duration> {
        let engine = self.member_engine(place)?;
        (engine.ack == EngineAck::Engine).then_some(engine.timeout)
    }

    /// The engine's settings for a server, with the paths of its files as they are to be opened; None if the server is no
    /// member.
    pub fn engine_of(&self, server: &ServerConfig) -> Option<EngineConfig> {
        let mut engine = self.member_engine(self.server(&server.name)?)?.clone();
        let here = |path: &Path| self.file(&with_name(path, &server.name));
        for path in engine.files_mut() {
            *path = here(path);
        }
        Some(engine)
    }

    /// What a server is; None without an engine. `place` is its index in [`Config::servers`].
    pub fn part(&self, place: usize) -> Option<Part> {
        self.engine.as_ref()?;
        Some(match self.member_engine(place) {
            None => Part::FloodOnly,
            Some(_) if self.servers[place].neighbours.is_empty() => Part::Member,
            Some(_) => Part::Bridge,
        })
    }

    /// The engine of a former configuration, whose settings stay in force, with its members among these servers.
    pub(super) fn keep_engine(&mut self, old: &Config) {
        self.engine = old.engine.clone();
        let Some(engine) = &mut self.engine else {
            return;
        };
        engine.members = match engine.has_all {
            true => (0..self.servers.len()).collect(),
            false => {
                let is_member = |server: &ServerConfig| {
                    engine.members.iter().any(|&place| old.servers[place].name == server.name)
                };
                let servers = self.servers.iter().enumerate();
                servers.filter(|(_, it)| is_member(it)).map(|(place, _)| place).collect()
            }
        };
    }

    /// `[engine]` as `--check` prints it.
    pub(super) fn write_engine(&self, text: &mut String) {
        text.push('\n');
        // Writing to a String never fails.
        let Some(engine) = &self.engine else {
            let _ = writeln!(text, "# engine.provider is not set");
            return;
        };
        let servers: Vec<String> = engine.servers.iter().map(EngineUrl::to_string).collect();
        let _ = writeln!(text, "engine.provider = \"nats\"");
        let _ = writeln!(text, "engine.servers = {servers:?}");
        let _ = writeln!(text, "engine.bucket = {:?}", engine.bucket);
        let members = engine.members.iter().map(|&place| self.servers[place].name.as_str());
        let _ = match engine.has_all {
            // A comment: it is also true of a server that is added.
            true => writeln!(text, "# engine.members = all servers"),
            false => writeln!(text, "engine.members = {:?}", members.collect::<Vec<_>>()),
        };
        let _ = writeln!(text, "engine.replicas = {}", engine.replicas);
        let _ = writeln!(text, "engine.create = {}", engine.create);
        let _ = writeln!(text, "engine.ack = {:?}", engine.ack.name());
        let _ = writeln!(text, "engine.keep = {:?}", engine.keep.name());
        let _ = writeln!(text, "engine.timeout = {:?}", written(engine.timeout));
        let _ = writeln!(text, "engine.heartbeat = {:?}", written(engine.heartbeat));
        if let EngineLogin::Password { user, .. } = &engine.login {
            let _ = writeln!(text, "engine.user = {user:?}");
        }
        if let Some((key, file)) = engine.login.file() {
            write_path(text, key, Some(file));
        }
        let (certificate, key) =
            engine.certificate.as_ref().map(|(one, other)| (&**one, &**other)).unzip();
        write_path(text, "engine.ca", engine.ca.as_deref());
        write_path(text, "engine.certificate", certificate);
        write_path(text, "engine.key", key);
        let _ = writeln!(text, "engine.handshake_first = {}", engine.handshake_first);
    }

    /// Which servers are members, bridges, or have links only, in comments.
    pub(super) fn write_parts(&self, text: &mut String, drawn: usize) {
        let Some(engine) = &self.engine else {
            return;
        };
        // Writing to a String never fails.
        let kept = match engine.keep {
            EngineKeep::All => String::new(),
            EngineKeep::Cache => {
                let loops = if self.loops > 1 { " in each of its loops" } else { "" };
                format!("; a member keeps at most {} of its clients{loops}", self.max_clients)
            }
        };
        let _ =
            writeln!(text, "\n# Engine: bucket {0} of NATS (stream KV_{0}){kept}", engine.bucket);
        let parts = (0..self.servers.len()).filter_map(|place| self.part(place));
        if self.servers.len() > drawn {
            let parts: Vec<Part> = parts.collect();
            for part in [Part::Member, Part::Bridge, Part::FloodOnly] {
                let count = parts.iter().filter(|one| **one == part).count();
                let _ = writeln!(text, "#   {count} {}", part.name());
            }
            return;
        }
        let width = self.servers.iter().map(|server| server.name.len()).max().unwrap_or_default();
        for (server, part) in self.servers.iter().zip(parts) {
            let _ = writeln!(text, "#   {:>width$}   {}", server.name, part.name());
        }
    }

    /// What may be a mistake about the engine.
    pub(super) fn engine_warnings(&self, most: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(engine) = &self.engine else {
            return warnings;
        };
        if engine.members.is_empty() {
            warnings.push("engine.members is empty: no server uses the engine".to_owned());
        }
        let mut edges = Vec::new();
        for &place in &engine.members {
            let server = &self.servers[place];
            let later = server.neighbours.iter().filter(|other| **other > place);
            let both = later.filter(|other| engine.members.binary_search(other).is_ok());
            edges.extend(both.map(|&other| (&server.name, &self.servers[other].name)));
        }
        for (one, other) in edges.iter().take(most) {
            warnings.push(format!(
                "{one} and {other} are neighbours and both members of the engine: each update reaches both of them twice"
            ));
        }
        if edges.len() > most {
            warnings.push(format!("the same is true of {} more links", edges.len() - most));
        }
        if engine.timeout < ELECTION && engine.ack == EngineAck::Engine {
            warnings.push(format!(
                "engine.timeout is {}: a cluster of NATS that elects a leader acknowledges nothing for up to {}, and \
                 clients whose answers are held for longer than engine.timeout are disconnected",
                written(engine.timeout),
                written(ELECTION)
            ));
        }
        if let (Some(url), Some((key, _))) = (engine.plain_and_far(), engine.login.file())
            && key != NKEY_FILE
        {
            warnings.push(format!(
                "the secret of {key} may go to {url} in plain text; a server that is named with tls:// gets it \
                 encrypted only"
            ));
        }
        warnings
    }
}

impl EngineConfig {
    /// A server on another host with which plain text may be spoken.
    fn plain_and_far(&self) -> Option<&EngineUrl> {
        let is_near = |url: &EngineUrl| {
            let host = url.host.trim_matches(['[', ']']);
            let address = host.parse::<std::net::IpAddr>();
            address.is_ok_and(|ip| ip.to_canonical().is_loopback()) || host == "localhost"
        };
        let is_plain = |url: &&EngineUrl| !url.needs_tls && !self.handshake_first;
        self.servers.iter().find(|url| is_plain(url) && !is_near(url))
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let login = match &mut self.login {
            EngineLogin::None => None,
            EngineLogin::Password { file, .. }
            | EngineLogin::Token { file }
            | EngineLogin::Nkey { file }
            | EngineLogin::Creds { file } => Some(file),
        };
        let own = self.certificate.as_mut().map(|(certificate, key)| [certificate, key]);
        login.into_iter().chain(&mut self.ca).chain(own.into_iter().flatten())
    }
}

impl EngineLogin {
    /// The file that holds the secret, and the setting that names it, as `engine.token_file`.
    pub fn file(&self) -> Option<(&'static str, &Path)> {
        match self {
            EngineLogin::None => None,
            EngineLogin::Password { file, .. } => Some(("engine.password_file", file)),
            EngineLogin::Token { file } => Some(("engine.token_file", file)),
            EngineLogin::Nkey { file } => Some((NKEY_FILE, file)),
            EngineLogin::Creds { file } => Some(("engine.creds_file", file)),
        }
    }
}

impl EngineAck {
    pub fn name(self) -> &'static str {
        match self {
            EngineAck::Engine => "engine",
            EngineAck::Local => "local",
        }
    }

    fn named(name: &str) -> Option<EngineAck> {
        [EngineAck::Engine, EngineAck::Local].into_iter().find(|one| one.name() == name)
    }
}

impl EngineKeep {
    pub fn name(self) -> &'static str {
        match self {
            EngineKeep::All => "all",
            EngineKeep::Cache => "cache",
        }
    }

    fn named(name: &str) -> Option<EngineKeep> {
        [EngineKeep::All, EngineKeep::Cache].into_iter().find(|one| one.name() == name)
    }
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Part::Member => "member",
            Part::Bridge => "bridge (member with neighbours)",
            Part::FloodOnly => "flood only",
        }
    }
}

const NKEY_FILE: &str = "engine.nkey_file";
/// How long a cluster of NATS acknowledges nothing while it elects a leader: up to 8 s were seen.
const ELECTION: Duration = Duration::from_secs(10);
