//! A reload: the job that reads the configuration again and puts it in force in every loop, or changes nothing.
//!
//! ```text
//!   read -> parse, check -> certificates -> compare -> TLS, log, ports -> listen -> each loop, in one step -> log
//!   '---------------- any failure: everything that is new is dropped ----'
//! ```
//!
//! What is in force is known here: the next reload is compared with it, and not with what the last one has read, of
//! which a part may wait for a restart.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::credentials::Credentials;
use super::handed::Handed;
use super::tls::{Tls, TlsChange};
use super::watch::Watcher;
use super::{
    RunError, ServerLoop, admin_port, clients_port, loop_limits, peers_port, places_tls, process,
    tls,
};
use crate::application::{Job, ListenerId, TlsId};
use crate::config::{Config, Effect, Overrides, View, diff};
use crate::errors::without_keys;
use crate::event_loop::{Bound, Change, Mailbox, Rules, Security, Sharing};
use crate::limits::PLACES_GENERATIONS;
use crate::logging::{Log, target};
use crate::server::{ADMIN, CLIENTS, Message, Reconfigured, ReloadEnd, ReloadSource, policy};
use crate::tls::ClientTls;

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// None for the built-in one.
    pub path: Option<PathBuf>,
    /// The command line, which overrides the file each time.
    pub overrides: Overrides,
    /// Some of it was not put in force at the start, and waits for a restart of the whole herd.
    pub waits: bool,
}

/// All that a reload needs; its jobs share it.
struct Reloader {
    source: Source,
    /// The server's.
    name: String,
    log: Log,
    /// Of all loops, the first one's first.
    loops: Vec<Mailbox<Message>>,
    state: Mutex<State>,
    /// None if a supervisor watches for all of its servers, or if there is no file.
    watcher: Option<Watcher>,
}

/// It changes only when a reload has succeeded. (Only one runs at a time.)
struct State {
    /// What is in force.
    config: Config,
    /// Of listeners and dials of neighbours.
    tls: Tls,
    /// How many TLS configurations for the Places service were made. Each takes the place of an old one.
    tls_made: u64,
}

/// A configuration that can be put in force.
struct Prepared {
    config: Arc<Config>,
    /// Of listeners and dials of neighbours.
    tls: Tls,
    places_tls: Option<TlsId>,
    tls_made: u64,
    /// For how many clients of a loop there are descriptors.
    most_clients: usize,
    /// One for each loop.
    changes: Vec<Change>,
    log: Option<crate::logging::LogChange>,
}

/// TLS for the Places service.
struct PlacesTls {
    id: Option<TlsId>,
    /// If it is another one than before.
    new: Option<ClientTls>,
    made: u64,
}

/// From now on the first loop can reload. `further` are the other loops.
pub(super) fn prepare(
    first: &mut ServerLoop,
    further: &mut [ServerLoop],
    (config, index): (&Config, usize),
    source: Source,
    tls: Tls,
    log: &Log,
) {
    let mailboxes = further.iter_mut().map(|next| next.mailbox());
    let tls_made = u64::from(config.has_places_service());
    let watches = source.path.is_some() && !process::is_supervised();
    let files = [source.files(), config.tls_files(&config.servers[index])].concat();
    let watcher = watches.then(|| Watcher::new(files, first.mailbox()));
    let reloader = Arc::new(Reloader {
        name: config.servers[index].name.clone(),
        log: log.clone(),
        loops: std::iter::once(first.mailbox()).chain(mailboxes).collect(),
        state: Mutex::new(State { config: config.clone(), tls, tls_made }),
        watcher,
        source,
    });
    reloader.watch_every(config.reload.watch);
    first.application().waits_for_restart(reloader.source.waits);
    first.application().reload_by(Box::new(move |source| job(&reloader, source)));
}

fn job(reloader: &Arc<Reloader>, source: ReloadSource) -> Job<Message> {
    let reloader = Arc::clone(reloader);
    let run = move || match reloader.reload(source) {
        Ok(end) => Message::ReloadEnded(end),
        Err(reason) => Message::ReloadEnded(ReloadEnd::Failed(without_keys(&reason))),
    };
    Job {
        name: "reload",
        run: Box::new(run),
        failed: Box::new(|reason| Message::ReloadEnded(ReloadEnd::Failed(reason))),
    }
}

impl Reloader {
    /// Puts the configuration in force, or nothing of it.
    fn reload(&self, source: ReloadSource) -> Result<ReloadEnd, String> {
        let mut state = self.state();
        let handed = source.map(Handed::read);
        let refused = handed.as_ref().and_then(|handed| handed.refused.clone());
        let is_as_started = handed.as_ref().is_some_and(|handed| handed.text.is_empty())
            && self.source.path.is_some();
        if refused.is_some() && is_as_started {
            return Ok(ReloadEnd::Done { changes: Vec::new(), later: Vec::new(), refused });
        }
        let read = self.read(handed)?;
        for warning in &read.passed_warnings {
            // Not limited: an operator has asked for the reload.
            log::warn!(target: target::CONFIG, event = "socket_differs"; "{warning}");
        }
        let config = state.config.reloaded(&read, View::Server(&self.name));
        if let Some(reason) = config.neighbour_of_cache(&self.name) {
            return Err(reason);
        }
        let mut changes = texts(&state.config, &config, &self.name, |_| true);
        // What the supervisor has refused may be a file of certificates: those in force stay.
        let credentials = match refused.is_some() && changes.is_empty() {
            true => state.tls.credentials().clone(),
            false => self.credentials(&config)?,
        };
        changes.extend(state.tls.credentials().changes(&credentials));
        let later = texts(&config, &read, &self.name, |effect| effect != Effect::Reload);
        // The page shows all servers, also those that are no neighbours.
        if !changes.is_empty() || !config.is_same_herd(&state.config) {
            let prepared = self.prepare(&state, config, credentials)?;
            self.apply(prepared, &mut state)?;
            self.watch_every(state.config.reload.watch);
        }
        Ok(ReloadEnd::Done { changes, later, refused })
    }

    /// Reads and checks the configuration.
    fn read(&self, handed: Option<Handed>) -> Result<Config, String> {
        let Source { path, overrides, .. } = &self.source;
        let overrides = match &handed {
            Some(handed) => &handed.overrides(overrides),
            None => overrides,
        };
        self.watcher.iter().for_each(Watcher::loading);
        let Some(path) = path else {
            return Config::built_in_again(overrides).map_err(|error| error.in_one_line());
        };
        let text = match handed {
            Some(Handed { text, .. }) => String::from_utf8(text)
                .map_err(|_| format!("{}: the text is not valid UTF-8", path.display()))?,
            None if is_stream(path) => {
                return Err(format!(
                    "{} was read at the start and can't be read again; give the server a file with --config, or \
                     restart it",
                    path.display()
                ));
            }
            None => Config::read_again(path).map_err(|error| error.in_one_line())?,
        };
        let read = Config::from_text_again(&text, path, overrides, false);
        let config = read.map_err(|error| error.in_one_line())?;
        match config.server(&self.name) {
            Some(_) => Ok(config),
            None => Err(format!(
                "{}: no server named {:?}; the name of a server that runs can't change",
                path.display(),
                self.name
            )),
        }
    }

    /// Reads the files of certificates, keys and lists, also if nothing else has changed.
    fn credentials(&self, config: &Config) -> Result<Credentials, String> {
        let own = self.own(config);
        let files = [self.source.files(), config.tls_files(own)].concat();
        self.watcher.iter().for_each(|watcher| watcher.watch_also(&files));
        Credentials::load(config, own).map_err(|error| self.failed(&RunError::credentials(error)))
    }

    fn failed(&self, error: &RunError) -> String {
        match &self.source.path {
            Some(path) => format!("{}: {error}", path.display()),
            None => error.to_string(),
        }
    }

    /// Everything else that can fail.
    fn prepare(
        &self,
        state: &State,
        config: Config,
        credentials: Credentials,
    ) -> Result<Prepared, String> {
        let failed = |error: RunError| self.failed(&error);
        let old = &state.config;
        // The rest of the configuration leaves as many descriptors for clients.
        let most_clients = process::most_clients(&config, self.own(&config));
        let mut changes = self.limits(old, &config, most_clients);
        let (before, after) = ((old, self.own(old)), (&config, self.own(&config)));
        let tls = state.tls.changed(Some(before), after, credentials).map_err(failed)?;
        let TlsChange { tls, security, dials } = tls;
        secure(&mut changes, security, dials);
        let PlacesTls { id: places_tls, new, made: tls_made } =
            self.places_tls(state, &config).map_err(failed)?;
        if let (Some(id), Some(new)) = (places_tls, new) {
            changes.iter_mut().for_each(|change| change.client_tls.push((id, new.clone())));
        }
        let log = match config.log == old.log {
            true => None,
            false => Some(self.log.reconfigure(&config.log).map_err(|error| error.to_string())?),
        };
        self.bind((old, &config), &tls, most_clients, &mut changes).map_err(failed)?;
        for (change, mailbox) in changes.iter_mut().zip(&self.loops) {
            let register = "register a port";
            change.prepare(mailbox).map_err(|error| failed(super::kernel(register)(error)))?;
        }
        let config = Arc::new(config);
        Ok(Prepared { config, tls, places_tls, tls_made, most_clients, changes, log })
    }

    /// Limits of the loops and of their listeners, and policies, as far as they change.
    fn limits(&self, old: &Config, new: &Config, most_clients: usize) -> Vec<Change> {
        let limits = loop_limits(new);
        let policies = policy::changes(&old.limits, &new.limits);
        let clients = clients_port(new, self.own(new).listen, most_clients, Sharing::None);
        let rules = vec![Rules::of(&clients)];
        let changes = self.loops.iter().map(|_| Change {
            limits: (limits != loop_limits(old)).then(|| limits.clone()),
            policies: policies.clone(),
            rules: rules.clone(),
            ..Change::default()
        });
        changes.collect()
    }

    /// The TLS configuration for the Places service from now on, and a new one if anything about it changes.
    fn places_tls(&self, state: &State, config: &Config) -> Result<PlacesTls, RunError> {
        let id = |made: u64| TlsId((made % u64::from(PLACES_GENERATIONS)) as u16);
        let made = state.tls_made;
        if config.places.is_same(&state.config.places) {
            let id = config.has_places_service().then(|| id(made - 1));
            return Ok(PlacesTls { id, new: None, made });
        }
        Ok(match places_tls(config)? {
            None => PlacesTls { id: None, new: None, made },
            new => PlacesTls { id: Some(id(made)), new, made: made + 1 },
        })
    }

    /// Takes the ports of listeners that move, and listens.
    fn bind(
        &self,
        (old, new): (&Config, &Config),
        tls: &Tls,
        most_clients: usize,
        changes: &mut [Change],
    ) -> Result<(), RunError> {
        let (before, after) = (self.own(old), self.own(new));
        let mut bound = Vec::new();
        let take = |what, listen: crate::event_loop::Listen| {
            let address = listen.address;
            Bound::new(tls.secure(listen)).map_err(|error| RunError::Bind { what, address, error })
        };
        if before.peer_listen != after.peer_listen {
            bound.push((0, "neighbours", take("neighbours", peers_port(after.peer_listen))?));
        }
        match after.admin_listen {
            address if address == before.admin_listen => {}
            Some(address) => {
                let port = take("administration", admin_port(address))?;
                bound.push((0, "administration", port));
            }
            None => changes[0].unlisten.push(ADMIN),
        }
        if before.listen != after.listen {
            let sharing = if new.loops > 1 { Sharing::First } else { Sharing::None };
            let first = take("clients", clients_port(new, after.listen, most_clients, sharing))?;
            let address = first.address();
            bound.push((0, "clients", first));
            for number in 1..self.loops.len() {
                let port = clients_port(new, address, most_clients, Sharing::Further);
                bound.push((number, "clients", take("clients", port)?));
            }
        }
        // Last, when every port is taken: a connection that is accepted by the kernel must be served.
        for (_, what, one) in &bound {
            let failed = |error| RunError::Bind { what, address: one.address(), error };
            one.listen().map_err(failed)?;
        }
        for (number, _, one) in bound {
            changes[number].listen.push(one);
        }
        Ok(())
    }

    /// Changes each loop, and waits until all have. Only a loop that stops refuses a prepared change: then the server
    /// ends, so it does not matter that other loops have changed.
    fn apply(&self, prepared: Prepared, state: &mut State) -> Result<(), String> {
        let Prepared {
            config,
            tls: in_force,
            places_tls: tls,
            tls_made,
            most_clients,
            changes,
            log,
        } = prepared;
        let (report, reports) = mpsc::channel();
        for (mailbox, change) in self.loops.iter().zip(changes) {
            let (config, report) = (Arc::clone(&config), report.clone());
            let neighbour_tls = Arc::clone(&in_force.neighbours);
            let expiries = Arc::clone(&in_force.expiries);
            let done = move |result: std::io::Result<()>| {
                let result = result.map_err(|error| error.to_string());
                let _ = report.send(result.clone()); // The job waits for it.
                Message::Reconfigured(Reconfigured {
                    result,
                    config,
                    tls,
                    neighbour_tls,
                    expiries,
                    most_clients,
                })
            };
            mailbox.reconfigure(change, done).map_err(|error| error.to_string())?;
        }
        drop(report);
        // A loop that ends drops its sender.
        let results: Vec<Result<(), String>> = reports.iter().collect();
        for result in &results {
            result.clone()?;
        }
        if results.len() < self.loops.len() {
            return Err("a loop of the server has ended".to_owned());
        }
        if let Some(log) = log {
            log.commit();
            // This fails only for a loop that has ended.
            self.loops.iter().for_each(|mailbox| drop(mailbox.send(Message::LogChanged)));
        }
        process::terminate_by(config.stop.on_sigterm);
        let old = std::mem::replace(&mut state.config, (*config).clone());
        (state.tls, state.tls_made) = (in_force, tls_made);
        let own = self.own(&config);
        if old.plain_clients(self.own(&old)) != config.plain_clients(own) {
            tls::warn_of_plain_text(&config, own);
        }
        Ok(())
    }

    fn own<'a>(&self, config: &'a Config) -> &'a crate::config::ServerConfig {
        let index = config.server(&self.name).unwrap_or_default();
        &config.servers[index] // `read` has looked for it.
    }

    fn watch_every(&self, interval: Option<Duration>) {
        self.watcher.iter().for_each(|watcher| watcher.look_every(interval));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is changed by single assignments.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// The files that a reload reads.
    fn files(&self) -> Vec<PathBuf> {
        let Overrides { places_ca, places_key_file, .. } = &self.overrides;
        [&self.path, places_ca, places_key_file].into_iter().flatten().cloned().collect()
    }
}

/// Adds the changes of TLS: clients connect to each loop, neighbours and operators to the first one, which alone dials
/// neighbours.
fn secure(
    changes: &mut [Change],
    security: Vec<(ListenerId, Security)>,
    dials: Vec<(TlsId, ClientTls)>,
) {
    for (number, change) in changes.iter_mut().enumerate() {
        let is_here = |(id, _): &&(ListenerId, Security)| number == 0 || *id == CLIENTS;
        change.security = security.iter().filter(is_here).cloned().collect();
    }
    if let Some(first) = changes.first_mut() {
        first.client_tls = dials;
    }
}

/// Whether a path names one of this process's own descriptors: standard input, or a pipe of a shell.
fn is_stream(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/proc")
}

/// The changes of a server's view, as far as their effect is wanted.
fn texts(old: &Config, new: &Config, name: &str, wanted: impl Fn(Effect) -> bool) -> Vec<String> {
    let changes = diff(old, new, View::Server(name)).into_iter();
    changes.filter(|change| wanted(change.effect)).map(|change| change.text).collect()
}
