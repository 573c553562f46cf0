//! A reload as a server sees it: who asks for one, that only one runs at a time, and what the log says of it. The work
//! is a job that `node` makes: it reads and checks the configuration on a thread, and then changes each loop in one
//! step, of which [`Reconfigured`] is the message.
//!
//! ```text
//!   SIGHUP, a supervisor's text, a changed file
//!        |
//!        v                         (thread)                         (each loop, between two turns)
//!   Server::ask_for_reload --Run--> read, check, bind, open --ok--> listeners, limits, Server::reconfigure
//!        ^   one more is remembered       | failed: nothing has changed       |
//!        +------------- ReloadEnded <-----+-----------------------------------+
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{DrainState, Message, Server};
use crate::application::{Command, Job, TlsId};
use crate::clock::{Now, WallTime};
use crate::config::Config;
use crate::logging::target;
use crate::tls::Expiry;

/// What a reload reads: the text that a supervisor has sent, or else the files.
pub type ReloadSource = Option<Vec<u8>>;

/// Makes the job of a reload.
pub type ReloadJob = Box<dyn Fn(ReloadSource) -> Job<Message> + Send>;

/// A loop was changed, or not.
#[derive(Debug)]
pub struct Reconfigured {
    pub result: Result<(), String>,
    /// What is in force from now on, if it was.
    pub config: Arc<Config>,
    /// The TLS configuration for the Places service.
    pub tls: Option<TlsId>,
    /// The same as at the start: [`ServerSetup::neighbour_tls`](super::ServerSetup::neighbour_tls) and
    /// [`ServerSetup::expiries`](super::ServerSetup::expiries).
    pub neighbour_tls: Arc<BTreeMap<String, TlsId>>,
    pub expiries: Arc<[Expiry]>,
    /// For how many clients of a loop there are descriptors.
    pub most_clients: usize,
}

impl Reconfigured {
    /// Without TLS between servers: for tests and simulators.
    pub fn plain(config: &Config, tls: Option<TlsId>) -> Reconfigured {
        Reconfigured {
            result: Ok(()),
            config: Arc::new(config.clone()),
            tls,
            neighbour_tls: Arc::default(),
            expiries: Arc::default(),
            most_clients: usize::MAX,
        }
    }
}

/// How a reload has ended.
#[derive(Debug)]
pub enum ReloadEnd {
    /// These changes are in force, and those take effect after a restart. A supervisor may have `refused` a newer
    /// configuration, for this reason.
    Done { changes: Vec<String>, later: Vec<String>, refused: Option<String> },
    /// Nothing has changed, for this reason.
    Failed(String),
}

/// What operators can ask about reloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReloadState {
    /// Whether the last reload, or the start, put in force what it had read.
    pub last_successful: bool,
    /// When that last happened.
    pub last_success: WallTime,
    /// Whether the configuration has changes that take effect after a restart only.
    pub restart_required: bool,
}

/// The reloads of a server.
pub(super) struct Reloads {
    /// None in the loops after the first, and in tests without files.
    job: Option<ReloadJob>,
    is_running: bool,
    /// One that was asked for while another one runs. What it reads replaces the source of each earlier one.
    next: Option<ReloadSource>,
    state: ReloadState,
}

impl Reloads {
    pub(super) fn new(now: Now) -> Reloads {
        let state =
            ReloadState { last_successful: true, last_success: now.wall, restart_required: false };
        Reloads { job: None, is_running: false, next: None, state }
    }
}

impl Server {
    /// From now on a reload runs this job. Call it before the loop runs.
    pub fn reload_by(&mut self, job: ReloadJob) {
        self.reloads.job = Some(job);
    }

    /// Whether the configuration has changes that the start has left out. Call it before the loop runs.
    pub fn waits_for_restart(&mut self, waits: bool) {
        self.reloads.state.restart_required = waits;
    }

    /// The result of the last reload.
    pub fn reload_state(&self) -> ReloadState {
        self.reloads.state
    }

    /// Begins a reload. While one runs, one more is remembered.
    pub(super) fn ask_for_reload(&mut self, source: ReloadSource) {
        if self.drain_state() == DrainState::Draining {
            return self.reload_failed("the server is draining");
        }
        let reloads = &mut self.reloads;
        let Some(make_job) = reloads.job.as_ref().filter(|_| !self.is_stopping) else {
            return;
        };
        if reloads.is_running {
            reloads.next = Some(source);
            return;
        }
        let job = make_job(source);
        reloads.is_running = true;
        self.tell_reloading();
        self.commands.push_back(Command::Run(job));
    }

    /// This loop was changed in this very step.
    pub(super) fn reconfigured(&mut self, reconfigured: &Reconfigured, now: Now) {
        // A failure is the job's to report.
        if reconfigured.result.is_ok() {
            self.most_clients = reconfigured.most_clients;
            self.reconfigure(reconfigured, now);
        }
    }

    /// The job has ended.
    pub(super) fn reload_ended(&mut self, end: ReloadEnd, now: Now) {
        self.reloads.is_running = false;
        // What follows is recorded with the settings of the log that are in force now.
        self.log.submit(now.elapsed);
        match end {
            ReloadEnd::Done { changes, later, refused: None } => {
                let state = &mut self.reloads.state;
                state.last_successful = true;
                state.last_success = now.wall;
                state.restart_required = !later.is_empty();
                record_changes(&changes, &later);
            }
            ReloadEnd::Done { changes, refused: Some(reason), .. } => {
                if !changes.is_empty() {
                    // An earlier text, which the refusal overtook.
                    record_changes(&changes, &[]);
                }
                self.reload_failed(&reason);
            }
            ReloadEnd::Failed(_) if self.is_stopping => {}
            ReloadEnd::Failed(reason) => self.reload_failed(&reason),
        }
        if let Some(source) = self.reloads.next.take() {
            self.ask_for_reload(source);
        }
        if !self.reloads.is_running {
            self.tell_reloaded(now);
        }
    }

    fn reload_failed(&mut self, reason: &str) {
        self.reloads.state.last_successful = false;
        // Not limited: an operator has asked for it, and one reload follows the other.
        log::error!(
            target: target::CONFIG, event = "reload_failed", reason = reason;
            "configuration not reloaded, nothing has changed: {reason}"
        );
    }
}

fn record_changes(changes: &[String], later: &[String]) {
    let count = match changes.len() {
        0 => "no changes".to_owned(),
        1 => "1 change".to_owned(),
        count => format!("{count} changes"),
    };
    log::info!(target: target::CONFIG, event = "reloaded"; "configuration reloaded: {count}");
    for change in changes {
        log::info!(target: target::CONFIG, event = "setting_changed"; "{change}");
    }
    for change in later {
        // Not limited: the number of settings is bounded, and an operator has asked for it.
        log::warn!(
            target: target::CONFIG, event = "restart_needed";
            "{change} takes effect after a restart"
        );
    }
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").field("state", &self.state).finish_non_exhaustive()
    }
}
