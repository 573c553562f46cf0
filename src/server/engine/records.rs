//! What the log says of the connection to the engine: one record when it goes, when it comes, and when this server is in
//! sync; problems that last, at growing intervals. Each names the server of NATS. No record has a secret: what is quoted
//! is what that server has sent, and files are named and not shown.

use std::time::Duration;

use super::refusals::{self, Refusal};
use super::{Ended, EngineLink, EngineLinkState, LinkState};
use crate::config::format_duration;
use crate::errors::ended;
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Escaped, LastingProblem, TO_ENGINE, Traffic, field, target};
use crate::protocol::Iamat;
use crate::server::Server;
use crate::server::neighbour::LinkError;

/// What may be wrong for long.
#[derive(Debug)]
pub(super) struct Problems {
    down: LastingProblem,
    refused: LastingProblem,
    unusable: LastingProblem,
    files: LastingProblem,
    /// Permissions that are missing: not more than there are families of subjects.
    missing: Vec<(String, LastingProblem)>,
}

impl Default for Problems {
    fn default() -> Problems {
        let new = || LastingProblem::new(Duration::ZERO);
        Problems { down: new(), refused: new(), unusable: new(), files: new(), missing: Vec::new() }
    }
}

/// Missing permissions that are told apart.
const MAX_MISSING: usize = 16;
/// As much of an error as a record quotes.
const QUOTED: usize = 256;

/// An attempt begins.
pub(super) fn dialling(address: &str) {
    log::debug!(
        target: target::ENGINE, event = "dial", engine = address;
        "Dialling the engine at {address}."
    );
}

/// What a server of NATS has sent, for a record.
pub(super) fn quoted(text: &str) -> String {
    let end = text.char_indices().nth(QUOTED).map_or(text.len(), |(end, _)| end);
    Escaped(&text.as_bytes()[..end]).to_string()
}

impl Server {
    /// Whether it is a member without a connection to its engine.
    pub(in crate::server) fn is_engine_down(&self) -> bool {
        let status = self.engine_link_status();
        status.is_some_and(|status| status.state == EngineLinkState::Down)
    }

    /// A client's update is stored. While the engine is away, that can't be sent to it.
    pub(in crate::server) fn note_unsent_to_engine(&self, iamat: &Iamat<'_>) {
        if self.is_engine_down() {
            Traffic::Engine.cannot_send(iamat.id, iamat.location, TO_ENGINE);
        }
    }
}

impl EngineLink {
    /// The server of NATS, as records name it.
    fn engine_name(&self) -> String {
        let address = self.server.address();
        match &self.state {
            LinkState::Open(connected) if connected.peer.to_string() != address => {
                format!("{address} ({})", connected.peer)
            }
            _ => address,
        }
    }

    /// It is in use.
    pub(super) fn report_up(&mut self, now: Duration) {
        let name = self.engine_name();
        let LinkState::Open(connected) = &self.state else {
            return;
        };
        let (version, peer) = (connected.version, connected.peer);
        let tls = if connected.is_tls { " with TLS" } else { "" };
        log::info!(
            target: target::ENGINE,
            event = "engine_up", engine = &name, peer:% = peer, version:% = version;
            "Connected to the engine at {name}{tls}: NATS {version}."
        );
        let down = self.problems.down.is_over(now);
        let refused = self.problems.refused.is_over(now);
        if let Some(time) = down.max(refused) {
            // Not limited: `LastingProblem` says when.
            log::warn!(
                target: target::ENGINE, event = "engine_reachable", engine = &name;
                "The engine is reachable again at {name}, after {} s.", time.as_secs()
            );
        }
    }

    /// It ended, or was not made.
    pub(super) fn report_end(
        &mut self,
        end: &Ended,
        in_use: Option<Duration>,
        pause: Duration,
        now: Duration,
    ) {
        let name = self.engine_name();
        // A dial that failed names the address that it tried, and so does each record.
        let begins = format!("{}: ", self.server.address());
        let reason = end.reason();
        let reason = reason.strip_prefix(&begins).unwrap_or(reason);
        self.note_error(&format!("{name}: {reason}"), now);
        match end {
            Ended::Left => log::info!(
                target: target::ENGINE, event = "engine_left", engine = &name;
                "Left the engine at {name}, which is about to stop. Connecting to another server."
            ),
            Ended::Refused(_) => {
                let Some(lasting) = self.problems.refused.occurs(now) else {
                    return;
                };
                let again = format_duration(Duration::from_secs(pause.as_secs().max(1)));
                // Not limited: `LastingProblem` says when.
                log::error!(
                    target: target::ENGINE,
                    event = "engine_refused", engine = &name, reason = reason;
                    "The engine at {name} can't be used{lasting}: {} Trying again in {again}.", ended(reason)
                );
            }
            _ => self.report_lost(&name, reason, in_use.is_some(), now),
        }
    }

    fn report_lost(&mut self, name: &str, reason: &str, was_up: bool, now: Duration) {
        let (event, what) = match was_up {
            true => ("engine_down", "The connection to the engine at"),
            false => ("engine_unreachable", "The engine at"),
        };
        let verb = if was_up { "is lost" } else { "can't be reached" };
        match self.problems.down.occurs(now) {
            Some(lasting) => {
                // Not limited: `LastingProblem` says when.
                log::warn!(
                    target: target::ENGINE, event = event, engine = name, reason = reason;
                    "{what} {name} {verb}{lasting}: {} Reconnecting.", ended(reason)
                );
            }
            // It goes once, and what comes of it may be told often.
            None if was_up => log::info!(
                target: target::ENGINE, event = event, engine = name, reason = reason;
                "{what} {name} {verb}: {} Reconnecting.", ended(reason)
            ),
            None => log::debug!(
                target: target::ENGINE, event = event, engine = name, reason = reason;
                "{what} {name} {verb}: {}", ended(reason)
            ),
        }
    }

    /// This server knows all that the bucket holds.
    pub(super) fn report_in_sync(&mut self, now: Duration) {
        if let Some(time) = self.problems.unusable.is_over(now) {
            // Not limited: `LastingProblem` says when.
            log::warn!(
                target: target::ENGINE, event = "engine_usable", engine = self.engine_name();
                "The engine can be used again, after {} s.", time.as_secs()
            );
        }
        self.problems.missing.clear();
    }

    /// The core can't use the bucket.
    pub(super) fn report_unusable(&mut self, reason: &str, now: Duration) {
        let name = self.engine_name();
        self.note_error(&format!("{name}: {reason}"), now);
        if let Some(lasting) = self.problems.unusable.occurs(now) {
            // Not limited: `LastingProblem` says when.
            log::error!(
                target: target::ENGINE, event = "engine_refused", engine = &name, reason = reason;
                "The engine at {name} can't be used{lasting}: {} Trying again.", ended(reason)
            );
        }
    }

    /// The files take long to be read.
    pub(super) fn report_slow_files(&mut self, now: Duration) {
        if let Some(lasting) = self.problems.files.occurs(now) {
            // Not limited: `LastingProblem` says when.
            log::error!(
                target: target::ENGINE, event = "engine_files_slow";
                "The files of [engine] are not read yet{lasting}. There is no connection to the engine until they are: \
                 check the disk or network that they lie on."
            );
        }
    }

    /// An error of a server of NATS that does not end the connection.
    pub(super) fn report_error(&mut self, text: &str, refusal: &Refusal, now: Duration) {
        let (name, shown) = (self.engine_name(), quoted(text));
        self.note_error(&format!("{name}: {shown}"), now);
        let Refusal::Permission(permission) = refusal else {
            let fields = [field("engine", &name), field("reason", &shown)];
            let text = format_args!(
                "The engine at {name} reports an error: {shown}. The connection stays."
            );
            return rate_limit::warn(Kind::EngineError, &fields, text);
        };
        let missing = &mut self.problems.missing;
        let known = missing.iter().position(|(known, _)| known == permission);
        let at = match known {
            Some(at) => at,
            None if missing.len() < MAX_MISSING => {
                missing.push((permission.clone(), LastingProblem::new(Duration::ZERO)));
                missing.len() - 1
            }
            None => return,
        };
        if let Some(lasting) = missing[at].1.occurs(now) {
            let permission = Escaped(permission.as_bytes());
            // Not limited: `LastingProblem` says when.
            log::error!(
                target: target::ENGINE,
                event = "engine_permission", engine = &name, permission:% = permission, reason:% = shown;
                "The engine at {name} does not permit our user to {permission}{lasting}. What needs it is tried again. Add \
                 it to the user's permissions there."
            );
        }
    }

    fn note_error(&mut self, reason: &str, now: Duration) {
        self.error = Some(LinkError { reason: reason.to_owned(), at: now });
    }

    /// Why a login was refused, with what an operator can do.
    pub(super) fn login_refused(&self, text: &str) -> Ended {
        let remedy = refusals::remedy(&self.config.login);
        Ended::Refused(format!("it refuses the login ({}): {remedy}", quoted(text)))
    }
}
