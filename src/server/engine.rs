//! The connection to the engine: how it is made, kept and lost. What is said about the bucket on it is the core's
//! ([`Engine`](crate::herd::engine::Engine)); this is all that comes before that, and around it.
//!
//! ```text
//!   Paused ---> Preparing ---> Dialling ---> Open: AwaitsInfo -> (TLS) -> AwaitsWelcome -> InUse
//!     ^         files, on a    the loop            INFO        StartTls   CONNECT, PING    the core's messages,
//!     |         thread         connects              |            |       PONG             PING after silence
//!     +------------+--------------+------------------+------------+---------+----------------+
//! ```
//! There is one connection at a time. Whatever ends it, the next server is tried after a pause: the credentials may have
//! been rotated, the cluster may have been restarted, and the table is the truth in any case.

mod cache;
mod records;
mod refusals;
mod servers;
mod session;
mod state;
mod watch;

use std::sync::Arc;
use std::time::Duration;

pub(super) use cache::{WaitingForRoom, WaitingQuery};
pub use session::EngineSession;
pub(super) use state::EngineLink;
pub use state::{EngineLinkState, EngineLinkStatus};

use super::deadlines::earlier;
use super::metrics::EngineError;
use super::records::HerdLog;
use super::{Failure, Message, Server, ServerCommand, Session, policy};
use crate::application::{
    ClosedConnection, Command, Dial, DialEvent, Io, Job, Opened, Policy, Target, Ticket, TlsId,
};
use crate::clock::Now;
use crate::config::{EngineAck, EngineConfig, EngineKeep};
use crate::herd::engine::{EngineEvent, EngineSettings, Keep};
use crate::herd::{AnswerAfter, Event, Observer};
use crate::limits::{ENGINE_ATTEMPT_WAIT, ENGINE_DIAL_WAIT, ENGINE_FILES_WAIT, ENGINE_START};
use crate::nats::{Credentials, Info, Version};
use cache::CacheWaits;
use records::Problems;
use servers::Servers;
use state::{Connected, Ended, LinkState, Stage};

/// Reads the files of `[engine]`, for a connection to a server whose certificate must name this host. It may block.
pub type PrepareEngine = Arc<dyn Fn(&str) -> Result<PreparedEngine, String> + Send + Sync>;

/// What a connection to the engine needs of files.
#[derive(Debug)]
pub struct PreparedEngine {
    pub credentials: Credentials,
    /// The configuration for TLS with this host.
    pub tls: TlsId,
}

/// From other threads, for the connection to the engine.
#[derive(Debug)]
pub enum EngineMessage {
    /// The files were read, or can't be used for this reason, which names the file.
    Prepared(Result<PreparedEngine, String>),
    /// The loop has the configuration for TLS, or refuses it because it stops; then an earlier one must do.
    TlsReplaced,
}

/// What a member needs to know of its engine.
pub struct EngineSetup {
    pub config: EngineConfig,
    pub prepare: PrepareEngine,
    /// Random, and of this run alone: what stands first in subjects for answers.
    pub inbox: String,
    /// The seed of the order of servers, and of pauses.
    pub seed: u64,
    /// Whether a bucket with wrong settings, found soon after the start, ends the server ([`Failure::Bucket`]). Not where a
    /// supervisor would only start it again.
    pub must_fit: bool,
}

impl Server {
    /// From now on it is a member of an engine, which it connects to by itself. Call it before the loop runs.
    pub fn join_engine(&mut self, setup: EngineSetup, now: Now) {
        let EngineSetup { config, prepare, inbox, seed, must_fit } = setup;
        let settings = EngineSettings {
            bucket: config.bucket.clone(),
            replicas: config.replicas,
            create: config.create,
            keep: match config.keep {
                EngineKeep::All => Keep::All,
                EngineKeep::Cache => Keep::Cache,
            },
            inbox,
            seed,
        };
        self.herd.attach_engine(settings);
        let waits = config.ack == EngineAck::Engine;
        let mut servers = Servers::new(&config.servers, seed);
        let epoch = self.herd.settings().epoch.0;
        self.engine = Some(Box::new(EngineLink {
            client_name: format!("herd-mio/{}/{epoch:016x}", self.log_name),
            prepare,
            server: servers.next(),
            servers,
            state: LinkState::Paused { until: now.elapsed },
            serial: 0,
            is_fill_asked: false,
            problems: Problems::default(),
            error: None,
            since: now.elapsed,
            connects: 0,
            must_fit_until: must_fit.then(|| now.elapsed + ENGINE_START),
            cache: CacheWaits::of(&config),
            config,
        }));
        self.rare.has_deadlines = true;
        self.answers.watch_updates();
        // What a state directory asks for besides is said later.
        self.answer_after(AnswerAfter { disk: false, engine: waits });
        self.prepare_engine(now);
    }

    /// Begins an attempt: the secrets may have been rotated since the last one.
    fn prepare_engine(&mut self, now: Now) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        engine.state = LinkState::Preparing { report_at: Some(now.elapsed + ENGINE_FILES_WAIT) };
        let (prepare, host) = (Arc::clone(&engine.prepare), engine.server.certified.clone());
        self.commands.push_back(Command::Run(Job {
            name: "engine-files",
            run: Box::new(move || Message::Engine(EngineMessage::Prepared(prepare(&host)))),
            failed: Box::new(|reason| Message::Engine(EngineMessage::Prepared(Err(reason)))),
        }));
    }

    /// From another thread.
    pub(super) fn engine_message(&mut self, message: EngineMessage, now: Now) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        let EngineMessage::Prepared(prepared) = message else {
            return;
        };
        if !matches!(engine.state, LinkState::Preparing { .. }) {
            return;
        }
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => return self.engine_ended(Ended::Refused(reason), None, now),
        };
        engine.serial += 1;
        let tls = engine.config.handshake_first.then_some(prepared.tls);
        let dial = Dial {
            tls,
            attempt_timeout: ENGINE_ATTEMPT_WAIT,
            timeout: ENGINE_DIAL_WAIT,
            ..Dial::new(engine.ticket(), Target::Name(engine.server.address()))
        };
        records::dialling(&engine.server.address());
        engine.state = LinkState::Dialling { prepared, in_handshake: false };
        self.commands.push_back(Command::Dial(dial));
    }

    /// Progress of its dial.
    pub(super) fn engine_dial(&mut self, ticket: Ticket, event: DialEvent<'_>, now: Now) {
        let Some(engine) = self.engine.as_mut().filter(|engine| engine.ticket() == ticket) else {
            return;
        };
        let LinkState::Dialling { in_handshake, .. } = &mut engine.state else {
            return;
        };
        match event {
            DialEvent::Handshaking(_) => *in_handshake = true,
            DialEvent::Connecting(_) => *in_handshake = false,
            DialEvent::Failed(reason) => {
                let end = match *in_handshake {
                    true => Ended::Tls(format!(
                        "{reason}; if it says INFO before TLS begins, set handshake_first = false in [engine]"
                    )),
                    false => Ended::Lost(reason),
                };
                self.engine_ended(end, None, now);
            }
            DialEvent::Resolved(_)
            | DialEvent::HandshakeFailed(..)
            | DialEvent::AttemptFailed(..) => {}
        }
    }

    /// It is connected. The server speaks first.
    pub(super) fn engine_opened(
        &mut self,
        ticket: Ticket,
        opened: &Opened<'_>,
        io: &Io<'_>,
    ) -> Option<(Session, Policy)> {
        let engine = self.engine.as_mut().filter(|engine| engine.ticket() == ticket)?;
        let now = io.now.elapsed;
        let state = std::mem::replace(&mut engine.state, LinkState::Paused { until: now });
        let LinkState::Dialling { prepared, .. } = state else {
            engine.state = state;
            return None;
        };
        engine.is_fill_asked = false;
        engine.state = LinkState::Open(Box::new(Connected {
            id: io.id,
            peer: io.peer,
            stage: Stage::AwaitsInfo,
            prepared: Some(prepared),
            is_tls: opened.tls.is_some(),
            opened: now,
            received: now,
            has_received: false,
            pinged: None,
            owes_ping: false,
            leaves_at: None,
            info: Info::default(),
            name: String::new(),
            version: Version::default(),
            end: None,
        }));
        let session = Session::Engine(Box::default());
        Some((session, policy::engine(&self.limits)))
    }

    /// It is closed.
    pub(super) fn engine_closed(&mut self, closed: &ClosedConnection<'_>, now: Now) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        let LinkState::Open(connected) = &mut engine.state else {
            return;
        };
        if connected.id != closed.id {
            return;
        }
        let end =
            connected.end.take().unwrap_or_else(|| connected.why_closed(closed.why, now.elapsed));
        let in_use = match connected.stage {
            Stage::InUse { since } => Some(now.elapsed.saturating_sub(since)),
            _ => None,
        };
        if in_use.is_some() {
            self.herd.engine_closed();
        }
        self.engine_ended(end, in_use, now);
    }

    /// The core wants another connection, for this reason.
    pub(super) fn close_engine(&mut self, reason: &str) {
        let Some(connected) = self.engine.as_mut().and_then(|engine| engine.connected()) else {
            return;
        };
        if connected.end.is_none() {
            connected.end = Some(Ended::Lost(reason.to_owned()));
            self.commands.push_back(Command::Close(connected.id));
        }
    }

    /// There is no connection, or not any more. The next server is tried after a pause.
    fn engine_ended(&mut self, end: Ended, in_use: Option<Duration>, now: Now) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        self.metrics.engine.count_error(end.class(in_use.is_some()));
        let pause = engine.servers.pause(in_use);
        let pause = match end {
            Ended::Refused(_) => engine.servers.refused_pause(),
            _ => pause,
        };
        engine.report_end(&end, in_use, pause, now.elapsed);
        engine.state = LinkState::Paused { until: now.elapsed + pause };
        engine.server = engine.servers.next();
        if in_use.is_some() {
            engine.since = now.elapsed;
        }
        self.show_engine();
    }

    /// Calls the core about its engine, reports what happens, shows how far it has come, and lets in whoever waits for that.
    fn with_engine(
        &mut self,
        call: impl FnOnce(&mut crate::herd::Herd, &mut dyn Observer),
        now: Now,
    ) {
        self.observe_engine(call, now);
        self.show_engine();
        self.make_room();
    }

    /// Calls the core about its engine, and reports what happens.
    fn observe_engine(
        &mut self,
        call: impl FnOnce(&mut crate::herd::Herd, &mut dyn Observer),
        now: Now,
    ) {
        let log = HerdLog::new(&self.log_name, &self.neighbours, &self.metrics);
        let mut log = EngineLog { log, is_in_sync: false, refused: None, is_misfit: false };
        call(&mut self.herd, &mut log);
        let EngineLog { is_in_sync, refused, is_misfit, .. } = log;
        let Some(engine) = &mut self.engine else {
            return;
        };
        if is_in_sync {
            engine.report_in_sync(now.elapsed);
        }
        if let Some(reason) = refused {
            self.metrics.engine.count_error(EngineError::Bucket);
            if is_misfit && engine.must_fit_until.is_some_and(|until| now.elapsed < until) {
                let engine = engine.server.address();
                self.fail(Failure::Bucket { engine, reason });
            } else {
                engine.report_unusable(&reason, now.elapsed);
            }
        }
    }
}

/// What the core reports of its engine; all else goes to the log.
struct EngineLog<'a> {
    log: HerdLog<'a>,
    is_in_sync: bool,
    refused: Option<String>,
    is_misfit: bool,
}

impl Observer for EngineLog<'_> {
    fn record(&mut self, event: Event<'_>) {
        match event {
            // The record names the server of NATS.
            Event::Engine(EngineEvent::Refused { reason, is_misfit }) => {
                self.refused = Some(reason.to_owned());
                self.is_misfit = is_misfit;
            }
            event => {
                self.is_in_sync |=
                    matches!(event, Event::Engine(EngineEvent::InSync | EngineEvent::CanAsk));
                self.log.record(event);
            }
        }
    }
}
