//! How far the connection to the engine has come, and what operators are shown of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::cache::CacheWaits;
use super::records::Problems;
use super::servers::{NatsServer, Servers};
use super::{PrepareEngine, PreparedEngine};
use crate::application::{Closed, ConnectionId, Ticket};
use crate::config::EngineConfig;
use crate::nats::{Info, Version};
use crate::server::metrics::EngineError;
use crate::server::neighbour::LinkError;
use crate::server::{Server, dial};

/// How far the connection to the engine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineLinkState {
    /// It is made, or will be.
    Down,
    /// It is in use.
    Up,
}

/// The connection to the engine, for operators.
#[derive(Clone, Copy, Debug)]
pub struct EngineLinkStatus<'a> {
    pub state: EngineLinkState,
    /// Since when, as [`Now::elapsed`](crate::clock::Now::elapsed) counts.
    pub since: Duration,
    /// Where it is connected.
    pub peer: Option<SocketAddr>,
    /// The server's name in its cluster and its version, as it says itself. Escape them.
    pub server: Option<(&'a str, Version)>,
    /// The last error in words, and when it was.
    pub error: Option<(&'a str, Duration)>,
    /// When it is dialled next.
    pub next_dial: Option<Duration>,
    /// Connections that were in use, so far.
    pub connects: u64,
}

/// A member's connection to the engine.
pub(in crate::server) struct EngineLink {
    pub(super) config: EngineConfig,
    pub(super) prepare: PrepareEngine,
    /// How we appear in the lists of a server of NATS.
    pub(super) client_name: String,
    pub(super) servers: Servers,
    /// The one that is being tried, or is connected.
    pub(super) server: NatsServer,
    pub(super) state: LinkState,
    /// Of the latest dial.
    pub(super) serial: u64,
    pub(super) is_fill_asked: bool,
    pub(super) problems: Problems,
    pub(super) error: Option<LinkError>,
    pub(super) since: Duration,
    pub(super) connects: u64,
    /// Until then a bucket with wrong settings ends the server; None if it never does.
    pub(super) must_fit_until: Option<Duration>,
    /// None unless it keeps a cache.
    pub(super) cache: Option<CacheWaits>,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum LinkState {
    Paused {
        until: Duration,
    },
    /// The files are being read, which is reported if it takes too long.
    Preparing {
        report_at: Option<Duration>,
    },
    Dialling {
        prepared: PreparedEngine,
        in_handshake: bool,
    },
    Open(Box<Connected>),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    pub(super) stage: Stage,
    /// Until the welcome has come.
    pub(super) prepared: Option<PreparedEngine>,
    pub(super) is_tls: bool,
    pub(super) opened: Duration,
    /// When something came last.
    pub(super) received: Duration,
    pub(super) has_received: bool,
    /// When the PING was asked for that nothing has answered yet, and whether it still has to be written.
    pub(super) pinged: Option<Duration>,
    pub(super) owes_ping: bool,
    /// The server is about to stop: the connection ends then at the latest.
    pub(super) leaves_at: Option<Duration>,
    /// What the server said of itself at the beginning.
    pub(super) info: Info,
    pub(super) name: String,
    pub(super) version: Version,
    /// Why we end it, if we do.
    pub(super) end: Option<Ended>,
}

/// What is expected on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    AwaitsInfo,
    AwaitsTls,
    AwaitsWelcome,
    InUse { since: Duration },
}

/// Why a connection ended, or was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Another attempt may succeed.
    Lost(String),
    /// The same, and TLS is what failed.
    Tls(String),
    /// The same: what came is not the protocol of NATS.
    Protocol(String),
    /// The same: what was due did not come in time.
    Silent(String),
    /// An operator must change something.
    Refused(String),
    /// The server of NATS stops.
    Left,
}

impl Ended {
    pub(super) fn reason(&self) -> &str {
        match self {
            Ended::Left => "it is about to stop",
            Ended::Lost(reason)
            | Ended::Tls(reason)
            | Ended::Protocol(reason)
            | Ended::Silent(reason)
            | Ended::Refused(reason) => reason,
        }
    }

    /// How the metrics count it, for a connection that was in use or not.
    pub(super) fn class(&self, was_in_use: bool) -> EngineError {
        match self {
            Ended::Left => EngineError::Left,
            Ended::Lost(_) if was_in_use => EngineError::Lost,
            Ended::Lost(_) => EngineError::Unreachable,
            Ended::Tls(_) => EngineError::Tls,
            Ended::Protocol(_) => EngineError::Protocol,
            Ended::Silent(_) => EngineError::Silent,
            Ended::Refused(_) => EngineError::Refused,
        }
    }
}

impl EngineLink {
    /// Our connection, if there is one.
    pub(super) fn connected(&mut self) -> Option<&mut Connected> {
        match &mut self.state {
            LinkState::Open(connected) => Some(connected),
            _ => None,
        }
    }

    /// The same, if it is this one and is not being ended.
    pub(super) fn of(&mut self, id: ConnectionId) -> Option<&mut Connected> {
        self.connected().filter(|connected| connected.id == id && connected.end.is_none())
    }

    pub(super) fn ticket(&self) -> Ticket {
        dial::engine_ticket(self.serial)
    }
}

impl Server {
    /// The connection to the engine; None if this server is no member.
    pub fn engine_link_status(&self) -> Option<EngineLinkStatus<'_>> {
        let engine = self.engine.as_ref()?;
        let connected = match &engine.state {
            LinkState::Open(connected) => Some(connected),
            _ => None,
        };
        let in_use = connected.filter(|it| matches!(it.stage, Stage::InUse { .. }));
        Some(EngineLinkStatus {
            state: if in_use.is_some() { EngineLinkState::Up } else { EngineLinkState::Down },
            since: engine.since,
            peer: connected.map(|connected| connected.peer),
            server: in_use.map(|connected| (connected.name.as_str(), connected.version)),
            error: engine.error.as_ref().map(|error| (error.reason.as_str(), error.at)),
            next_dial: match engine.state {
                LinkState::Paused { until } => Some(until),
                _ => None,
            },
            connects: engine.connects,
        })
    }
}

impl Connected {
    /// What may be the reason if TLS ends before the login: with TLS 1.3 a server refuses our certificate, or that we have
    /// none, only then.
    fn certificate_hint(&self) -> &'static str {
        match self.stage {
            Stage::InUse { .. } => "",
            _ => "; what that server asks of us is set by certificate and key in [engine]",
        }
    }

    /// Why the other side has closed it.
    pub(super) fn why_closed(&self, why: &Closed, now: Duration) -> Ended {
        let reason = match why {
            Closed::Finished | Closed::Commanded => "the server closed the connection".to_owned(),
            // The reason says at what it ended.
            Closed::Tls(..) => return Ended::Tls(format!("{why}{}", self.certificate_hint())),
            why => why.to_string(),
        };
        Ended::Lost(match self.stage {
            Stage::AwaitsInfo => {
                format!("{reason} before it sent INFO{}", self.silence_hint(now))
            }
            Stage::AwaitsTls => return Ended::Tls(format!("TLS can't begin: {reason}")),
            Stage::AwaitsWelcome => format!("{reason} before it accepted the login"),
            Stage::InUse { .. } => reason,
        })
    }
}
