//! A server of the herd as an [`Application`]: its sessions are clients, peers, links, connections with a Places service,
//! and those of the admin listener. Never here: a socket, a poll, a thread, a file. The event loop calls [`Server`] with
//! the input of a connection, the answer goes into that connection's output, and an action on another connection is a
//! [`Command`] that the loop fetches.
//!
//! ```text
//!   listener CLIENTS ---> Session::Client ---+
//!   listener PEERS -----> Session::Peer -----+--> Server ---> herd, places
//!   listener ADMIN -----> Session::Admin ----+       |
//!   another loop -------> Session::LoopPeer -+       |
//!   dial of a loop -----> Session::LoopLink -+       |
//!   dial of a neighbour > Session::Link -----+       |
//!   dial of a query ----> Session::Places ---+       +------> Command: dial, fill, close
//! ```
//!
//! A server may run several loops, each with a `Server` of its own. They are each other's neighbours:
//! the first one has links to all others and to the neighbours of the configuration, and the others
//! have a link to the first.
//!
//! [`Application`]: crate::application::Application

pub mod admin;
mod answer_times;
mod attempts;
mod checks;
mod client;
mod closings;
mod deadlines;
mod dial;
mod drain;
mod engine;
mod handover;
mod held;
mod link;
pub mod metrics;
mod neighbour;
mod new_ids;
mod peer;
pub mod places;
pub mod policy;
mod reconfigure;
mod records;
mod reload;
mod service_manager;
mod session;
mod setup;
mod state;
mod tls;
mod wait_deadlines;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use client::Client;
pub use dial::PLACES_TICKETS;
pub use drain::DrainState;
pub use engine::{
    EngineLinkState, EngineLinkStatus, EngineMessage, EngineSession, EngineSetup, PrepareEngine,
    PreparedEngine,
};
pub use handover::{Handover, handovers};
pub use metrics::{AllMetrics, ServerMetrics};
pub use reload::{Reconfigured, ReloadEnd, ReloadJob, ReloadSource, ReloadState};
pub use service_manager::{Notice, ServiceManager, Tell};
pub use session::Session;
pub use setup::ServerSetup;
pub use state::{DiskPort, StateMessage};
pub use tls::CertifiedPeer;

use crate::application::{Command, ConnectionId, ListenerId, LoopId, LoopMetrics};
use crate::clock::Now;
use crate::herd::{Herd, NeighbourId, Output, Settings};
use crate::limits::ConfiguredLimits;
use crate::logging::{self, LastingProblem, TurnLog};
use crate::protocol::{Dialect, Seq};
use admin::{Admin, Asking};
use answer_times::AnswersAtOnce;
use dial::Tickets;
use drain::Draining;
use engine::EngineLink;
use metrics::ClosedReason;
use neighbour::Neighbour;
use new_ids::NewIds;
use peer::Unidentified;
use places::Places;
use reload::Reloads;
use session::Rare;
use state::Durable;
use tls::{Expiries, Tls, TlsRules};

/// The listener of the clients' port.
pub const CLIENTS: ListenerId = ListenerId(0);
/// The listener of the neighbours' port.
pub const PEERS: ListenerId = ListenerId(1);
/// The listener of the admin port, on the first loop only.
pub const ADMIN: ListenerId = ListenerId(2);
/// The first loop of a server, which has the neighbours' port and ends last.
pub const FIRST_LOOP: LoopId = LoopId(0);

/// Messages from other threads to a server.
#[derive(Debug)]
pub enum Message {
    /// Another loop of this server has ended: gracefully, or for this reason.
    LoopEnded(Result<(), Failure>),
    /// For the queries for places.
    Places(places::PlacesMessage),
    /// For the admin listener, of another loop.
    Admin(admin::AdminMessage),
    /// This loop was changed in the same step.
    Reconfigured(Reconfigured),
    /// A reload has ended.
    ReloadEnded(ReloadEnd),
    /// The files of the configuration have changed.
    FilesChanged,
    /// From the thread of the state directory.
    State(StateMessage),
    /// For the connection to the engine.
    Engine(EngineMessage),
    /// The log has other settings. At the end of the turn this loop uses them.
    LogChanged,
}

/// Why a server stops by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// One of its other loops failed, for this reason.
    Loop(String),
    /// The bucket has settings that it must not have, found in the first seconds of this run. The reason names them.
    Bucket { engine: String, reason: String },
}

/// What a server can ask of its loop.
pub type ServerCommand = Command<Message>;

/// One server of the herd, or one of its loops, without its sockets.
pub struct Server {
    /// What the log calls it: its name in the herd and, after the first loop, its number.
    log_name: String,
    number: LoopId,
    herd: Herd,
    dialect: Dialect,
    limits: ConfiguredLimits,
    /// For how many clients of this loop there are descriptors.
    most_clients: usize,
    new_ids: NewIds,
    places: Places,
    neighbours: Vec<Neighbour>,
    /// Where its neighbours connect; it also dials them from this address.
    peers_address: SocketAddr,
    unidentified: Unidentified,
    /// The problem that another server sends HELLO with our name.
    own_name: LastingProblem,
    tickets: Tickets,
    commands: VecDeque<ServerCommand>,
    /// The feed's end when the check of the links began. [`UNCHECKED`] if all links must be checked again.
    links_checked: Seq,
    /// The link that is checked next; for those before it, `fill` was requested if they lag behind that end.
    next_link: usize,
    /// Other loops of this server that have not ended, as far as this one waits for them.
    other_loops: usize,
    failure: Option<Failure>,
    is_stopping: bool,
    draining: Draining,
    reloads: Reloads,
    log: TurnLog,
    metrics: Arc<ServerMetrics>,
    /// The counters of all loops, in the first one.
    all_metrics: AllMetrics,
    /// Durations of answers given at once.
    answers: AnswersAtOnce,
    /// Why connections are closed that are being closed by the server itself.
    ends: HashMap<ConnectionId, ClosedReason>,
    /// When it was made.
    started: Now,
    /// None without an admin listener, and on every loop but the first.
    admin: Option<Box<Admin>>,
    /// The service manager of the process; None without one, and on every loop but the first.
    manager: Option<Box<ServiceManager>>,
    /// Questions for the connections of loops.
    asking: Asking,
    /// Whether the admin listener shows ids of clients, so that they are kept.
    shows_ids: bool,
    /// Whether a client's command is looked at more closely: its id is to be kept, not every client may speak for every
    /// id, or answers are held back.
    looks_at_lines: bool,
    rare: Rare,
    durable: Durable,
    tls: Tls,
    /// None if it is no member of an engine.
    engine: Option<Box<EngineLink>>,
    /// The time of the latest call, as [`Now::elapsed`] counts.
    now: Duration,
}

impl Server {
    /// A server that has just started and knows nothing yet.
    pub fn new(setup: ServerSetup<'_>) -> Server {
        let ServerSetup { config, index, number, epoch, seed, tls, log, now, .. } = setup;
        let own = &config.servers[index];
        let is_first = number == FIRST_LOOP;
        let neighbours = neighbour::of(config, index, number);
        let settings = Settings {
            name: own.name.clone(),
            neighbours: neighbours.iter().map(|neighbour| neighbour.name.clone()).collect(),
            dialect: config.dialect,
            max_clients: config.max_clients,
            max_future: config.max_future,
            heartbeat: config.link.heartbeat,
            refill: config.link.refill,
            epoch,
            seed,
        };
        let metrics = Arc::<ServerMetrics>::default();
        let rules = TlsRules::new(config, index);
        let expiries = if is_first { setup.expiries } else { Arc::default() }; // One loop warns for all.
        Server {
            log_name: neighbour::loop_name(&own.name, number),
            number,
            herd: Herd::new(settings, now),
            dialect: config.dialect,
            limits: reconfigure::limits_of(config, usize::MAX),
            most_clients: usize::MAX,
            new_ids: NewIds::new(&config.limits, config.loops),
            places: Places::new(&config.places, config.loops, tls, Arc::clone(&metrics.places)),
            neighbours,
            peers_address: own.peer_listen,
            unidentified: Unidentified::default(),
            own_name: LastingProblem::new(Duration::ZERO),
            tickets: Tickets::default(),
            commands: VecDeque::new(),
            links_checked: UNCHECKED,
            next_link: 0,
            other_loops: if is_first { config.loops - 1 } else { 0 },
            failure: None,
            is_stopping: false,
            draining: Draining::new(&config.stop),
            reloads: Reloads::new(now),
            log: TurnLog::new(log),
            metrics,
            all_metrics: AllMetrics::default(),
            answers: AnswersAtOnce::default(),
            ends: HashMap::new(),
            started: now,
            manager: None,
            asking: Asking::default(),
            shows_ids: admin::shows_ids(config, index),
            looks_at_lines: admin::shows_ids(config, index) || rules.judges_ids(),
            rare: Rare::default(),
            durable: Durable::new(config, index),
            tls: Tls::new(rules, setup.neighbour_tls, Expiries::new(expiries, now.elapsed)),
            admin: Admin::new(config, index).filter(|_| is_first).map(Box::new),
            engine: None,
            now: now.elapsed,
        }
    }

    /// There are descriptors for this many clients of this loop. Call it before the loop runs; a reload tells it again.
    pub fn know_most_clients(&mut self, most_clients: usize) {
        self.most_clients = most_clients;
        self.limits.client_connections = self.limits.client_connections.min(most_clients);
    }

    /// What the log calls it.
    pub fn log_name(&self) -> &str {
        &self.log_name
    }

    /// Its part in the herd.
    pub fn herd(&self) -> &Herd {
        &self.herd
    }

    /// Why the server stops by itself, if it does.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Stops, for this reason.
    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.commands.push_back(ServerCommand::Stop);
    }

    /// What the log calls a neighbour.
    fn log_name_of(&self, neighbour: NeighbourId) -> &str {
        &self.neighbours[usize::from(neighbour.0)].log_name
    }

    fn neighbour(&mut self, neighbour: NeighbourId) -> &mut Neighbour {
        &mut self.neighbours[usize::from(neighbour.0)]
    }

    /// Its counters.
    pub fn metrics(&self) -> Arc<ServerMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Its loop's counters, and in the first loop those of all loops, which it can show then.
    pub fn know_metrics(&mut self, own: Arc<LoopMetrics>, all: AllMetrics) {
        self.answers.know(own);
        self.all_metrics = all;
        if self.admin.is_some() {
            self.all_metrics.observe(true);
            logging::keep_tail(true);
        }
    }

    fn close(&mut self, connection: ConnectionId, reason: ClosedReason) {
        self.ends.insert(connection, reason);
        self.commands.push_back(Command::Close(connection));
    }

    /// What the loop must do next: first the requests of the herd, then those of the sessions, then those of the
    /// queries for places. The links come last, so that each is filled once with everything that the lines have
    /// brought.
    fn next_command(&mut self) -> Option<ServerCommand> {
        self.run_outputs();
        let command = self.commands.pop_front().or_else(|| self.places.poll_command());
        command.or_else(|| self.next_fill())
    }

    /// Carries out what the herd's core wants.
    fn run_outputs(&mut self) {
        while let Some(output) = self.herd.poll_output() {
            match output {
                Output::Dial(neighbour) => self.begin_round(neighbour),
                Output::CloseLink(neighbour) => self.close_link(neighbour),
                Output::ClosePeer(neighbour) => self.close_peer(neighbour),
                Output::AnswersDue(holder) | Output::EngineAnswered(holder) => {
                    self.answers_due(holder);
                }
                Output::CloseEngine(reason) => self.close_engine(reason),
            }
        }
    }

    /// Returns a `Fill` for a link that has something to send and was not requested yet. Between two changes of the
    /// feed, one check of each link is enough. The loop may have run out of time before all were checked: a later
    /// change concerns the links already checked, too, so the check then begins with the first one again.
    fn next_fill(&mut self) -> Option<ServerCommand> {
        let end = self.herd.table().end();
        if self.links_checked != end {
            self.links_checked = end;
            self.next_link = 0;
        }
        while let Some(neighbour) = self.neighbours.get_mut(self.next_link) {
            let id = NeighbourId(self.next_link as u16);
            self.next_link += 1;
            let link = neighbour.link.filter(|_| !neighbour.is_fill_asked);
            if let Some(link) = link.filter(|_| self.herd.link_has_pending(id)) {
                neighbour.is_fill_asked = true;
                return Some(Command::Fill(link));
            }
        }
        self.engine.is_some().then(|| self.next_engine_fill()).flatten()
    }
}

/// No feed has this end.
const UNCHECKED: Seq = Seq(u64::MAX);
