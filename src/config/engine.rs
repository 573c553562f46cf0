//! `[engine]`: a shared store in place of links.

use std::path::PathBuf;
use std::time::Duration;

use crate::tls::Authorities;

/// `[engine]`
#[derive(Clone, Debug, PartialEq)]
pub struct EngineConfig {
    /// Servers of NATS, each `nats://host:port` or `tls://host:port`.
    pub servers: Vec<EngineUrl>,
    pub bucket: String,
    /// The servers that use the engine, as indices into [`Config::servers`](super::Config::servers), ascending.
    pub members: Vec<usize>,
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
    /// Certificates that are trusted instead of the built-in roots.
    pub ca: Option<Authorities>,
    /// Our certificate and its key, for mutual TLS.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether TLS begins before the server's INFO.
    pub handshake_first: bool,
}

/// Where a server of NATS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineUrl {
    pub host: String,
    pub port: u16,
    /// Plain text is refused.
    pub needs_tls: bool,
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
    #[default]
    All,
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
