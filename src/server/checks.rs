//! Checks of connected neighbours: do their settings differ from ours, and do two servers have the same
//! name? Each problem is a warning, once, then at growing intervals; its end is recorded, too.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use super::Server;
use crate::clock::Now;
use crate::herd::{Differing, NeighbourId};
use crate::limits::NAMESAKES_RESET_AFTER;
use crate::logging::{Escaped, LastingProblem, target};

/// What may be wrong with one neighbour.
#[derive(Debug)]
pub(super) struct Checks {
    dialect: LastingProblem,
    max_clients: LastingProblem,
    max_future: LastingProblem,
    namesakes: LastingProblem,
}

impl Checks {
    pub(super) fn new() -> Checks {
        let new = || LastingProblem::new(Duration::ZERO);
        Checks { dialect: new(), max_clients: new(), max_future: new(), namesakes: new() }
    }
}

impl Server {
    /// Checks a neighbour that has just sent something from `peer`: a HELLO, its settings, or a MARK,
    /// as it does each heartbeat.
    pub(super) fn check_neighbour(&mut self, neighbour: NeighbourId, peer: SocketAddr, now: Now) {
        let ours = self.herd.settings().common();
        let known = &mut self.neighbours[usize::from(neighbour.0)];
        let (name, checks) = (&known.log_name, &mut known.checks);
        if let Some(Differing { dialect, max_clients, max_future }) = self.herd.differing(neighbour)
        {
            let own = Escaped(ours.dialect);
            check_setting(&mut checks.dialect, name, "dialect", dialect.as_ref(), own, now);
            check_setting(
                &mut checks.max_clients,
                name,
                "max_clients",
                max_clients.as_ref(),
                ours.max_clients,
                now,
            );
            let millis = |millis: u64| format!("{millis} ms");
            let theirs = max_future.map(millis);
            check_setting(
                &mut checks.max_future,
                name,
                "max_future",
                theirs.as_ref(),
                millis(ours.max_future),
                now,
            );
        }
        if self.herd.has_namesakes(neighbour, now) {
            if let Some(lasting) = checks.namesakes.occurs(now.elapsed) {
                // Not limited: `LastingProblem` says when.
                log::warn!(
                    target: target::LINK, event = "name_taken", peer:% = peer, neighbour = name;
                    "Two or more servers use the name {name}, and displace each other on the neighbours' port; \
                     this one connects from {peer}. Stop one or rename it{lasting}."
                );
            }
        } else if let Some(time) = checks.namesakes.is_over(now.elapsed) {
            let seconds = time.as_secs();
            // Not limited: `LastingProblem` says when.
            log::warn!(
                target: target::LINK, event = "name_free", neighbour = name;
                "Only one server uses the name {name} now. There were more for {seconds} s."
            );
        }
    }

    /// Warns if a HELLO that has just come from `peer` has this server's own name.
    pub(super) fn check_own_name(&mut self, peer: SocketAddr, now: Now) {
        if self.herd.namesake_at() == Some(now.elapsed)
            && let Some(lasting) = self.own_name.occurs(now.elapsed)
        {
            let name = &self.herd.settings().name;
            // Not limited: `LastingProblem` says when.
            log::warn!(
                target: target::LINK, event = "name_taken", peer:% = peer, neighbour = name;
                "Another server sends HELLO from {peer} with this one's own name, {name}. Stop one or rename \
                 it{lasting}."
            );
        }
    }

    /// Checks whether HELLOs with this server's own name have stopped.
    pub(super) fn check_own_name_is_free(&mut self, now: Now) {
        if self.herd.namesake_at().is_some_and(|at| at + NAMESAKES_RESET_AFTER <= now.elapsed)
            && let Some(time) = self.own_name.is_over(now.elapsed)
        {
            let (name, seconds) = (&self.herd.settings().name, time.as_secs());
            // Not limited: `LastingProblem` says when.
            log::warn!(
                target: target::LINK, event = "name_free", neighbour = name;
                "No other server sends HELLO with the name {name} now. One did for {seconds} s."
            );
        }
    }
}

fn check_setting(
    problem: &mut LastingProblem,
    name: &str,
    setting: &str,
    theirs: Option<&impl Display>,
    ours: impl Display,
    now: Now,
) {
    if let Some(theirs) = theirs {
        if let Some(lasting) = problem.occurs(now.elapsed) {
            // Not limited: `LastingProblem` says when.
            log::warn!(
                target: target::LINK, event = "setting_differs", neighbour = name;
                "{name} has `{setting}` = {theirs}, and this server {ours}. It must be the same in the whole \
                 herd{lasting}."
            );
        }
    } else if let Some(time) = problem.is_over(now.elapsed) {
        let seconds = time.as_secs();
        // Not limited: `LastingProblem` says when.
        log::warn!(
            target: target::LINK, event = "setting_agrees", neighbour = name;
            "{name} has the same `{setting}` as this server now. It differed for {seconds} s."
        );
    }
}
