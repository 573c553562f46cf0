//! From a configuration to a running server: ports, TLS, loops and their applications, the process's
//! signals and limits. This is the only layer that knows both the event loop and the applications on it.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | one server of the herd: binds, runs, ends |
//! | `activation.rs` | sockets that a service manager has passed on |
//! | `notify.rs` | the way to a service manager, such as systemd |
//! | `places.rs` | the Places server |
//! | `engine.rs` | the files and the TLS of a server's engine |
//! | `loops.rs` | the further loops of a server, each on a thread of its own |
//! | `proc.rs` | what the kernel knows of the process, for metrics |
//! | `reload.rs` | another configuration for a server that runs |
//! | `watch.rs` | the watch over its files |
//! | `credentials.rs` | the files of certificates, keys and lists |
//! | `tls.rs` | the TLS of listeners and dials, made from these |
//! | `probe.rs` | one request to a server, for `--probe` |
//! | `state.rs` | the state directory: read before the ports are opened, closed after the last loop |
//! | `process.rs` | the resources of the process: signals, the lifeline, descriptors, random numbers |
//!
//! Ports are bound before anything else happens, the neighbours' first: a server that cannot have its
//! ports changes nothing. Only the state directory is read before that: a client that connects is answered by what it
//! holds.

mod activation;
mod credentials;
mod engine;
mod handed;
mod loops;
mod notify;
mod places;
mod probe;
mod proc;
pub mod process;
mod reload;
mod state;
mod tls;
mod watch;

use std::fmt;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

pub use crate::server::Notice;
pub use activation::Sockets;
pub use handed::hand_on;
pub use notify::{Notifier, OF_SERVICE_MANAGER, REPORT_ALIVE, REPORT_READY, REPORTS, Watched};
pub use places::run_places;
pub use probe::{ProbeRequest, probe};
pub use process::{LIFELINE, RESTARTED, lifeline_has_ended};
pub use reload::Source;
pub use state::{dump_state, load_state};
pub use tls::{check_certificates, require_certificates};

use crate::application::{LoopId, TlsId};
use crate::config::Config;
use crate::errors::{clients_are, plain};
use crate::event_loop::{self, Bound, Controls, EventLoop, GroupRules, Listen, Sharing, Stopped};
use crate::limits::{
    ADMIN_REFUSALS, ADMIN_SESSIONS, ConfiguredLimits, EVICT_IDLE_AFTER, LINK_OUTPUT_BYTES,
    SHUTDOWN_GRACE,
};
use crate::logging::{self, Log, stderr, target};
use crate::places::Provider;
use crate::server::{ADMIN, CLIENTS, FIRST_LOOP, Failure, PEERS, Server, ServerSetup};
use crate::state::StateError;
use crate::tls::{ClientTls, Remedies, TlsError};
use state::State;
use tls::{Tls, TlsChange};

/// Why a server could not start, or failed.
#[derive(Debug)]
pub enum RunError {
    /// A port can't be listened on.
    Bind { what: &'static str, address: SocketAddr, error: io::Error },
    /// The kernel refused something that the server needs.
    Kernel { what: &'static str, error: io::Error },
    /// TLS with the Places service can't be set up.
    Tls(TlsError),
    /// A file of `[tls]` or `[admin]` can't be used.
    Credentials(String),
    /// TLS can't be set up from the settings and their files.
    TlsSettings(TlsError),
    /// The state directory can't be used.
    State(StateError),
    /// What needs a state directory has none.
    NoStateDir,
    /// Over time there were more neighbours than can be numbered.
    TooManyNames,
    /// One of the server's other loops failed, for this reason.
    Loop(String),
    /// The bucket of the engine has settings that it must not have.
    Bucket { engine: String, reason: String },
    /// A second signal ended it before it had stopped.
    Hurried,
}

/// A loop of a server, before it runs.
type ServerLoop = EventLoop<Server>;

/// Runs server number `index` of the configuration until it is stopped. A reload reads `source` again.
/// `sockets` were passed on, and the configuration has their addresses.
pub fn run(
    config: &Config,
    index: usize,
    source: Source,
    sockets: Sockets,
    log: Log,
) -> Result<(), RunError> {
    let Sockets { clients, peers, admin } = sockets;
    let own = &config.servers[index];
    logging::set_loop_number(FIRST_LOOP.0 + 1);
    let most_clients = process::most_clients(config, own);
    let TlsChange { tls, dials, .. } = Tls::start(config, own)?;
    let mut first = new_loop(config, index, FIRST_LOOP, &tls, &log)?;
    dials.into_iter().for_each(|(id, dial)| first.set_client_tls(id, dial));
    first.application().know_most_clients(most_clients);
    let mut further = (1..config.loops)
        .map(|number| new_loop(config, index, LoopId(number as u16), &tls, &log))
        .collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<&mut ServerLoop> = std::iter::once(&mut first).chain(&mut further).collect();
    let state = State::start(config, index, &mut all)?;
    let port = tls.secure(peers_port(own.peer_listen));
    let peers = bind(&mut first, "neighbours", port, peers)?;
    let sharing = if config.loops > 1 { Sharing::First } else { Sharing::None };
    let port = clients_port(config, own.listen, most_clients, sharing);
    let mut copies = copies(clients, config.loops)?.into_iter();
    let listen = bind(&mut first, "clients", tls.secure(port), copies.next())?;
    let port = own.admin_listen.map(|address| tls.secure(admin_port(address)));
    let admin = port.map(|port| bind(&mut first, "administration", port, admin)).transpose()?;
    process::terminate_by(config.stop.on_sigterm);
    watch_controls(&mut first)?;
    for next in &mut further {
        next.application().know_most_clients(most_clients);
        let port = clients_port(config, listen, most_clients, Sharing::Further);
        bind(next, "clients", tls.secure(port), copies.next())?;
    }
    reload::prepare(&mut first, &mut further, (config, index), source, tls, &log);
    loops::start(&mut first, further, state.as_ref().map(State::source))?;
    if let Some(manager) = notify::manager() {
        first.application().report_to(manager);
    }
    let mut text = format!("{} listens on {listen}, for neighbours on {peers}", own.name);
    if let Some(address) = admin {
        text += &format!(", for administration on {address}");
    }
    print_listening(&text, &config.places.warnings);
    tls::warn_of_plain_text(config, own);
    let mut stopped = first.run().map_err(kernel("wait for events"))?;
    let failure = stopped.app.take_failure();
    if let Some(Failure::Loop(reason)) = failure {
        return Err(RunError::Loop(reason));
    }
    record_end(&stopped);
    if let Some(state) = state.filter(|_| !stopped.hurried) {
        state.finish(stopped.app.log_name(), stopped.grace_expired);
    }
    match failure {
        Some(Failure::Bucket { engine, reason }) => Err(RunError::Bucket { engine, reason }),
        _ => finish(stopped.hurried, &log),
    }
}

/// One loop of a server.
fn new_loop(
    config: &Config,
    index: usize,
    number: LoopId,
    in_force: &Tls,
    log: &Log,
) -> Result<ServerLoop, RunError> {
    let (epoch, seed) = process::fresh_run()?;
    let client_tls = places_tls(config)?;
    // The loop numbers its TLS configurations from 0 on.
    let tls = client_tls.is_some().then_some(TlsId(0));
    let log = Some(log.clone());
    let now = event_loop::now(Instant::now());
    let setup = ServerSetup {
        config,
        index,
        number,
        epoch,
        seed,
        tls,
        neighbour_tls: Arc::clone(&in_force.neighbours),
        expiries: Arc::clone(&in_force.expiries),
        log,
        now,
    };
    let limits = loop_limits(config);
    let mut new = EventLoop::new(Server::new(setup), limits).map_err(kernel("make a poll"))?;
    client_tls.into_iter().for_each(|tls| _ = new.client_tls(tls));
    engine::join(&mut new, config, index, now)?;
    Ok(new)
}

/// The TLS configuration for the Places service, if the server queries one.
fn places_tls(config: &Config) -> Result<Option<ClientTls>, RunError> {
    let places = &config.places;
    if places.provider() == Provider::Offline {
        return Ok(None);
    }
    let remedies = Remedies { authorities: "the file of --places-ca", address: "--places-url" };
    let tls = ClientTls::new(&places.endpoint.host, places.ca.as_ref(), &[HTTP_ALPN], remedies);
    tls.map(Some).map_err(RunError::Tls)
}

/// The bounds of one loop of a server. The bound of the buffers is for the whole server, so the loops share it.
fn loop_limits(config: &Config) -> event_loop::Limits {
    event_loop::Limits {
        drain_delay: config.stop.drain_delay,
        drain_duration: config.stop.drain_duration,
        ..limits_of(&config.limits, config.loops)
    }
}

/// The bounds of one of `loops` loops, as far as they are among the configured limits.
fn limits_of(limits: &ConfiguredLimits, loops: usize) -> event_loop::Limits {
    event_loop::Limits {
        output_bytes: limits.output_bytes,
        fill_bytes: LINK_OUTPUT_BYTES,
        buffer_bytes: limits.buffer_bytes.div_ceil(loops),
        write_timeout: limits.write_timeout,
        handshake_timeout: limits.handshake_timeout,
        handshakes: limits.handshakes.div_ceil(loops),
        handshakes_per_second: limits.handshakes_per_second.div_ceil(loops),
        handshakes_burst: limits.handshakes_burst.div_ceil(loops),
        grace: SHUTDOWN_GRACE,
        exempt: limits.exempt.clone(),
        ..event_loop::Limits::default()
    }
}

/// The clients' port. At the configured limit, and where the descriptors do not suffice for so many, it is
/// shared fairly among groups of addresses; within a group, the client idle longest is closed.
fn clients_port(
    config: &Config,
    address: SocketAddr,
    most_clients: usize,
    sharing: Sharing,
) -> Listen {
    Listen {
        connections: config.limits.client_connections.div_ceil(config.loops),
        max_open: most_clients,
        evict_after: Some(EVICT_IDLE_AFTER),
        sharing,
        groups: GroupRules {
            fair_share: true,
            per_group: config.limits.client_connections_per_address.div_ceil(config.loops),
        },
        ..Listen::on(CLIENTS, address)
    }
}

/// The neighbours' port. The server itself bounds how many peers may be unidentified. A peer that connects
/// while the server stops would receive nothing that it needs, so none is accepted then. While it drains, clients still
/// ask and tell: the links are needed until the last one has left.
fn peers_port(address: SocketAddr) -> Listen {
    Listen {
        connections: usize::MAX,
        accept_on_stop: false,
        drains: false,
        ..Listen::on(PEERS, address)
    }
}

/// The admin port. The server answers some connections beyond those that it serves, to tell them so. Operators and
/// probes watch a drain to its end.
fn admin_port(address: SocketAddr) -> Listen {
    Listen {
        connections: ADMIN_SESSIONS + ADMIN_REFUSALS,
        drains: false,
        ..Listen::on(ADMIN, address)
    }
}

/// Listens, at a socket that was passed on or at a new one, and returns the address with the port that the kernel chose
/// where none was asked for.
fn bind<A: crate::application::Application>(
    event_loop: &mut EventLoop<A>,
    what: &'static str,
    port: Listen,
    passed: Option<TcpListener>,
) -> Result<SocketAddr, RunError> {
    let address = port.address;
    let bound = match passed {
        // Connections that wait at it when the server stops are the next process's.
        Some(socket) => Bound::from_listener(Listen { accept_on_stop: false, ..port }, socket),
        None => Bound::new(port),
    };
    let listening = bound.and_then(|bound| event_loop.listen_at(bound));
    listening.map_err(|error| RunError::Bind { what, address, error })
}

/// A socket that was passed on, once for each loop: all of them accept from the same queue.
fn copies(passed: Option<TcpListener>, loops: usize) -> Result<Vec<TcpListener>, RunError> {
    let Some(socket) = passed else {
        return Ok(Vec::new());
    };
    let further = (1..loops).map(|_| socket.try_clone());
    let mut copies: Vec<TcpListener> =
        further.collect::<io::Result<_>>().map_err(kernel("share a socket between loops"))?;
    copies.push(socket);
    Ok(copies)
}

/// From now on signals and the supervisor's lifeline are events of this loop.
fn watch_controls<A: crate::application::Application>(
    event_loop: &mut EventLoop<A>,
) -> Result<(), RunError> {
    let lifeline = process::lifeline().map_err(kernel("watch the supervisor's pipe"))?;
    let signals = process::control_signals();
    let controls = Controls { signals, request: process::request_of, lifeline };
    event_loop.watch_controls(controls).map_err(kernel("watch for signals"))?;
    process::unblock_signals();
    process::reap(); // Orphans that ended before that.
    Ok(())
}

/// Records in the log how a loop of a server has ended.
fn record_end(stopped: &Stopped<Server>) {
    // A drain waits for its neighbours no longer than for the others that it waits for.
    if stopped.grace_expired || !stopped.app.herd().is_settled() {
        record_unfinished(stopped);
    }
    if !stopped.hurried {
        record_stopped(stopped.app.log_name());
    }
}

fn record_stopped(log_name: &str) {
    log::info!(target: target::LOOP, event = "stopped"; "{log_name} has stopped.");
}

/// Writes the log's last records, unless a second signal ended the server: then the caller writes them.
fn finish(is_hurried: bool, log: &Log) -> Result<(), RunError> {
    if is_hurried {
        return Err(RunError::Hurried);
    }
    log.finish();
    Ok(())
}

fn record_unfinished(stopped: &Stopped<Server>) {
    let server = &stopped.app;
    let acknowledged = match server.herd().is_settled() {
        true => "all updates are acknowledged",
        false => "not all updates are acknowledged",
    };
    let written = match server.herd().is_on_disk() {
        true => "",
        false => "; the state directory lacks the last ones",
    };
    // Not limited: a server stops only once.
    log::warn!(
        target: target::LOOP, event = "stop_unfinished";
        "{} stopped before all was answered or acknowledged: after {} s {} still connected, and \
         {acknowledged}{written}.",
        server.log_name(),
        stopped.took.as_secs(),
        clients_are(stopped.still_open as u64),
    );
}

/// Prints where the server listens on standard error, for people and scripts that wait for it. On a
/// terminal the configuration's warnings follow; scripts find them in the log, and a supervisor has
/// printed them already.
fn print_listening(text: &str, warnings: &[String]) {
    log::info!(target: target::LOOP, event = "start"; "{text}.");
    stderr::print_line(text);
    if io::stderr().is_terminal() && !process::is_supervised() {
        let print = |warning| stderr::print_line(&format!("herd-mio: warning: {warning}"));
        warnings.iter().for_each(print);
    }
}

fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |error| RunError::Kernel { what, error }
}

impl RunError {
    fn credentials(error: credentials::CredentialsError) -> RunError {
        RunError::Credentials(error.to_string())
    }

    /// Whether the configuration or its files are to blame, so that another start would fail, too.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            RunError::State(error) => error.is_of_configuration(),
            _ => matches!(
                self,
                RunError::Credentials(_)
                    | RunError::TlsSettings(_)
                    | RunError::NoStateDir
                    | RunError::Bucket { .. }
            ),
        }
    }
}

impl From<StateError> for RunError {
    fn from(error: StateError) -> RunError {
        RunError::State(error)
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Bind { what, address, error } => {
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => "stop the program that has it, or choose another",
                    io::ErrorKind::PermissionDenied => "choose one above 1023",
                    _ => "check the address",
                };
                write!(f, "can't listen for {what} on {address}: {}; {remedy}", plain(error))
            }
            RunError::Kernel { what, error } => write!(f, "can't {what}: {}", plain(error)),
            RunError::Tls(error) => write!(f, "can't speak TLS with the Places service: {error}"),
            RunError::Credentials(reason) => write!(f, "can't use {reason}"),
            RunError::TlsSettings(error) => write!(f, "can't set up TLS: {error}"),
            RunError::State(error @ StateError::BadLines { .. }) => {
                write!(f, "loads nothing: {error}")
            }
            RunError::State(error) => write!(f, "can't use its state directory: {error}"),
            RunError::NoStateDir => {
                f.write_str("keeps nothing: set `dir` in [state], or use --state-dir DIR")
            }
            RunError::TooManyNames => {
                f.write_str("has had too many neighbours since its start; restart it")
            }
            RunError::Loop(reason) => f.write_str(reason),
            RunError::Bucket { engine, reason } => {
                write!(
                    f,
                    "can't use the engine at {engine}: {reason}; change the bucket, or set another one in [engine]"
                )
            }
            RunError::Hurried => f.write_str("was signalled twice; it exits without waiting"),
        }
    }
}

impl std::error::Error for RunError {}

/// The protocol that is used over TLS (RFC 7301).
const HTTP_ALPN: &str = "http/1.1";
