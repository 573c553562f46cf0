//! The deadlines of the connection to the engine, and the requests to fill it.

use std::time::Duration;

use super::{
    Connected, Ended, EngineLink, EngineLinkState, EngineLinkStatus, LinkState, Server,
    ServerCommand, Stage, earlier,
};
use crate::application::{Command, Due};
use crate::herd::engine::{EngineState, EngineStatus};
use crate::limits::ENGINE_LOGIN_WAIT;

impl EngineLink {
    /// When [`Server::judge_engine`] must be called at the latest.
    fn poll_timeout(&self) -> Option<Duration> {
        match &self.state {
            LinkState::Paused { until } => Some(*until),
            LinkState::Preparing { report_at } => *report_at,
            // The loop has the deadlines of a dial.
            LinkState::Dialling { .. } => None,
            LinkState::Open(connected) => connected.poll_timeout(self.config.heartbeat),
        }
    }
}

impl Connected {
    fn poll_timeout(&self, heartbeat: Duration) -> Option<Duration> {
        match self.stage {
            _ if self.end.is_some() => None,
            Stage::AwaitsInfo | Stage::AwaitsTls | Stage::AwaitsWelcome => {
                Some(self.opened + ENGINE_LOGIN_WAIT)
            }
            Stage::InUse { .. } => {
                let silent = match self.pinged {
                    None => self.received + heartbeat,
                    Some(pinged) => pinged + heartbeat,
                };
                Some(self.leaves_at.map_or(silent, |at| at.min(silent)))
            }
        }
    }

    /// Why it is ended now, if it is.
    fn overdue(&self, heartbeat: Duration, now: Duration) -> Option<Ended> {
        let seconds = ENGINE_LOGIN_WAIT.as_secs();
        let reason = match self.stage {
            Stage::AwaitsInfo => {
                format!("it sent no INFO within {seconds} s{}", self.silence_hint(now))
            }
            Stage::AwaitsTls => {
                let reason = format!("the TLS handshake was not complete within {seconds} s");
                return Some(Ended::Tls(reason));
            }
            Stage::AwaitsWelcome => format!("it did not accept the login within {seconds} s"),
            Stage::InUse { .. } if self.leaves_at.is_some_and(|at| at <= now) => {
                return Some(Ended::Left);
            }
            Stage::InUse { .. } => {
                self.pinged.filter(|pinged| *pinged + heartbeat <= now)?;
                let time = crate::config::format_duration(heartbeat);
                format!("it did not answer a PING within {time}")
            }
        };
        Some(Ended::Silent(reason))
    }
}

impl Server {
    /// The next deadline of the engine: of its connection, or of its part in the core.
    pub(in crate::server) fn engine_timeout(&self) -> Option<Duration> {
        let engine = self.engine.as_ref()?;
        let cache = engine.cache.as_ref().and_then(|cache| cache.poll_timeout());
        earlier(earlier(engine.poll_timeout(), self.herd.poll_engine_timeout()), cache)
    }

    /// Whether the engine has all that is known here. True without a connection: then there is nothing to wait for but
    /// answers that are held back.
    pub(in crate::server) fn engine_is_settled(&self) -> bool {
        let is_up = |status: EngineLinkStatus<'_>| status.state == EngineLinkState::Up;
        let has_all = |status: EngineStatus| {
            status.state == EngineState::Refused
                || (status.in_flight == 0 && !self.herd.engine_has_pending())
        };
        !self.engine_link_status().is_some_and(is_up)
            || self.herd.engine_status().is_none_or(has_all)
    }

    /// Does what is due.
    pub(in crate::server) fn judge_engine(&mut self, due: &mut Due<'_>) {
        let now = due.now;
        let Some(engine) = &mut self.engine else {
            return;
        };
        let heartbeat = engine.config.heartbeat;
        let is_due = engine.poll_timeout().is_some_and(|at| at <= now.elapsed);
        match &mut engine.state {
            _ if !is_due => {}
            LinkState::Paused { .. } => self.prepare_engine(now),
            LinkState::Preparing { report_at } => {
                *report_at = None;
                engine.report_slow_files(now.elapsed);
            }
            LinkState::Dialling { .. } => {}
            // What it has sent may not have been read yet.
            LinkState::Open(connected) if due.is_behind(connected.id) => {}
            LinkState::Open(connected) => match connected.overdue(heartbeat, now.elapsed) {
                Some(end) => {
                    connected.end = Some(end);
                    self.commands.push_back(Command::Close(connected.id));
                }
                None => {
                    connected.pinged = Some(now.elapsed);
                    connected.owes_ping = true;
                    self.commands.push_back(Command::Fill(connected.id));
                }
            },
        }
        if self.herd.poll_engine_timeout().is_some_and(|at| at <= now.elapsed) {
            self.with_engine(|herd, log| herd.handle_engine_timeout(now, log), now);
        }
        self.judge_cache(due);
        self.show_engine();
    }

    /// A `Fill` for the connection to the engine, if the core has something to send and none was requested yet.
    #[cold]
    #[inline(never)]
    pub(in crate::server) fn next_engine_fill(&mut self) -> Option<ServerCommand> {
        let engine = self.engine.as_mut().filter(|engine| !engine.is_fill_asked)?;
        let id = match &engine.state {
            LinkState::Open(connected) if connected.takes_requests() => connected.id,
            _ => return None,
        };
        if !self.herd.engine_has_pending() {
            return None;
        }
        engine.is_fill_asked = true;
        Some(Command::Fill(id))
    }
}
