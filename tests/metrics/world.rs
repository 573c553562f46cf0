//! A server without sockets whose metrics are read before and after something happens to it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use herd_mio::application::{
    Application, Closed, ClosedConnection, Command, ConnectionId, Dial, DialEvent, Due, Io, Job,
    Line, ListenerId, LoopId, LoopMetrics, Next, Opened, Origin, Refused, Target, Ticket, TlsId,
    TlsInfo, TlsVersion,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::{
    Accept, ClientCertificates, ClientsTls, Config, EngineConfig, EngineKeep, EngineUrl, Who,
};
use herd_mio::herd::{AnswerAfter, DiskBatch};
use herd_mio::places::Provider;
use herd_mio::places::endpoint::Endpoint;
use herd_mio::protocol::Epoch;
use herd_mio::server::metrics::{Family, Process, SampleValue, StateNumbers, StateSource};
use herd_mio::server::{
    AllMetrics, EngineSetup, Message, Server, ServerMetrics, ServerSetup, Session,
};
use herd_mio::tls::{CertificateUse, Expiry};

/// The server `A`, its loop's counters, and a script in the loop's place.
pub struct World {
    pub server: Server,
    pub loops: Vec<(Arc<LoopMetrics>, Arc<ServerMetrics>)>,
    pub now: Duration,
    pub dials: Vec<Dial>,
    pub jobs: Vec<Job<Message>>,
    /// Requests for all connections.
    pub inspections: Vec<Ticket>,
    /// What the latest line or bytes were answered with.
    pub said: Vec<u8>,
    /// What the latest `fill` has appended.
    pub filled: Vec<u8>,
    /// Numbers and updates of the batches that the disk was handed.
    pub batches: Arc<Mutex<Vec<(u64, usize)>>>,
    pub state: Arc<StateByHand>,
    connections: HashMap<u32, (Session, Origin)>,
    last: u32,
}

/// In place of the thread of the state directory.
#[derive(Debug, Default)]
pub struct StateByHand(pub Mutex<StateNumbers>);

impl StateSource for StateByHand {
    fn failing(&self) -> Option<(Duration, String)> {
        self.numbers().is_failing.then(|| (Duration::from_secs(3), "it is full".to_owned()))
    }

    fn stuck(&self) -> Option<Duration> {
        None
    }

    fn numbers(&self) -> StateNumbers {
        *self.0.lock().expect("numbers")
    }
}

impl World {
    /// A server with the neighbours `B` and `C`.
    pub fn new() -> World {
        World::of(|_| {})
    }

    /// The same, with a Places service, two queries at a time and two more that wait.
    pub fn with_service() -> World {
        World::of(|config| {
            config.places.provider_override = Some(Provider::Google);
            let (host, path) = ("places.example".to_owned(), "/x".to_owned());
            config.places.endpoint = Endpoint { host, port: 443, path };
            config.places.timeout = Duration::from_secs(8);
            (config.places.max_in_flight, config.places.max_queued) = (1, 1);
        })
    }

    /// The same with TLS, a state directory and a cache of an engine, for which answers wait. (The configuration refuses both
    /// together.)
    pub fn with_all() -> World {
        let mut world = World::with_tls();
        world.attach_disk();
        world.join_engine(EngineKeep::Cache);
        world
    }

    /// A disk reads the feed from now on, and answers wait for it. Its numbers are those of `state`.
    pub fn attach_disk(&mut self) {
        let batches = Arc::clone(&self.batches);
        let port = move |batch: DiskBatch| {
            batches.lock().expect("a list").push((batch.number, batch.updates));
        };
        let after = AnswerAfter { disk: true, engine: false };
        self.server.attach_disk(Box::new(port), after);
        self.know_metrics();
    }

    /// The server is a member of an engine from now on.
    pub fn join_engine(&mut self, keep: EngineKeep) {
        let url = EngineUrl { host: "nats.example".to_owned(), port: 4_222, needs_tls: false };
        let setup = EngineSetup {
            config: EngineConfig { servers: vec![url], keep, ..EngineConfig::default() },
            prepare: Arc::new(|_| Err("no file is read here".to_owned())),
            inbox: "_INBOX.x".to_owned(),
            seed: 1,
            must_fit: false,
        };
        self.server.join_engine(setup, at(self.now));
        self.run_commands();
    }

    fn know_metrics(&mut self) {
        let all = AllMetrics {
            loops: self.loops.clone(),
            process: Some(process),
            state: Some(Arc::clone(&self.state) as Arc<dyn StateSource>),
        };
        self.server.know_metrics(Arc::clone(&self.loops[0].0), all);
    }

    /// The same with TLS at every port and with neighbours, and ids that certificates name.
    pub fn with_tls() -> World {
        World::of(|config| {
            config.tls.clients = ClientsTls {
                accept: Accept::Tls,
                certificates: ClientCertificates::Required,
                ids: Who::Certificate,
                queries: Who::Certificate,
                ..ClientsTls::default()
            };
            config.tls.neighbours.accept = Accept::Tls;
            config.tls.neighbours.dials_tls = true;
            config.servers[0].admin_listen = Some(peer());
            config.admin.tls = true;
            config.admin.ca = Some("ca.pem".into());
        })
    }

    pub fn of(change: impl FnOnce(&mut Config)) -> World {
        let mut config = Config::parse(HERD).expect("a configuration");
        change(&mut config);
        let neighbour_tls = [("B".to_owned(), TlsId(1)), ("C".to_owned(), TlsId(2))];
        let neighbour_tls = Arc::new(BTreeMap::from(neighbour_tls));
        let expiries: Arc<[Expiry]> = match config.tls.clients.accept {
            Accept::Plain => Arc::default(),
            // Each a year later than the one before.
            _ => (1..).zip(CertificateUse::ALL).map(|(year, what)| expiry(what, year)).collect(),
        };
        let setup = |number| ServerSetup {
            number: LoopId(number),
            epoch: Epoch(0xabcd),
            tls: Some(TlsId(0)),
            neighbour_tls: Arc::clone(&neighbour_tls),
            expiries: Arc::clone(&expiries),
            ..ServerSetup::plain(&config, at(Duration::ZERO))
        };
        let mut server = Server::new(setup(0));
        let start = Instant::now();
        let mut loops = vec![(Arc::new(LoopMetrics::new(start)), server.metrics())];
        for number in 1..config.loops as u16 {
            let further = Server::new(setup(number)).metrics();
            loops.push((Arc::new(LoopMetrics::new(start)), further));
        }
        let process = Some(process as fn() -> Option<Process>);
        let all = AllMetrics { loops: loops.clone(), process, ..AllMetrics::default() };
        all.observe(true);
        server.know_metrics(Arc::clone(&loops[0].0), all);
        let mut world = World {
            server,
            loops,
            now: Duration::ZERO,
            dials: Vec::new(),
            jobs: Vec::new(),
            inspections: Vec::new(),
            said: Vec::new(),
            filled: Vec::new(),
            batches: Arc::default(),
            state: Arc::default(),
            connections: HashMap::new(),
            last: 0,
        };
        world.pass(Duration::ZERO);
        for dial in world.dials.clone() {
            world.dial_event(&dial, DialEvent::Resolved(&[peer()]));
        }
        world.turn(0);
        world
    }

    /// All metrics.
    pub fn families(&mut self) -> Vec<Family> {
        self.server.families(true, at(self.now))
    }

    /// A turn ends that took so many microseconds.
    pub fn turn(&mut self, microseconds: u64) {
        self.server.handle_turn_end();
        self.loops[0].0.busy.add(microseconds * 1_000);
    }

    /// Time passes, and what is due is done.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut is_behind = |_| false;
        self.server.handle_timeout(&mut Due::new(at(self.now), &mut is_behind));
        self.run_commands();
    }

    /// A connection is open.
    pub fn open(&mut self, origin: Origin) -> u32 {
        self.open_as(Opened::plain(origin))
    }

    /// The same with TLS, whose handshake took a millisecond, and perhaps with a certificate.
    pub fn open_tls(&mut self, origin: Origin, certificate: Option<&[u8]>) -> u32 {
        let took = Duration::from_millis(1);
        let tls = Some(TlsInfo { version: TlsVersion::V1_3, resumed: false, took });
        self.open_as(Opened { origin, certificate, tls })
    }

    pub fn open_as(&mut self, opened: Opened<'_>) -> u32 {
        let origin = opened.origin;
        self.last += 1;
        let (id, now) = (self.last, at(self.now));
        let mut out = Vec::new();
        let mut io = Io::new(connection(id), peer(), now, &mut out, ROOM);
        let opened = self.server.handle_open(opened, &mut io);
        let (session, _) = opened.expect("it is accepted");
        self.connections.insert(id, (session, origin));
        self.run_commands();
        id
    }

    pub fn accept(&mut self, listener: ListenerId) -> u32 {
        self.open(Origin::Accepted(listener))
    }

    /// A line comes on a connection: how it goes on.
    pub fn line(&mut self, id: u32, line: &str) -> Next {
        self.handle_line(id, Line::Whole(line.as_bytes()))
    }

    pub fn handle_line(&mut self, id: u32, line: Line<'_>) -> Next {
        let now = at(self.now);
        let mut out = Vec::new();
        let mut io = Io::new(connection(id), peer(), now, &mut out, ROOM);
        let (session, _) = self.connections.get_mut(&id).expect("it is open");
        let next = self.server.handle_line(session, line, &mut io);
        self.said = out;
        self.run_commands();
        next
    }

    /// Bytes come on a connection.
    pub fn bytes(&mut self, id: u32, bytes: &[u8]) -> Next {
        let now = at(self.now);
        let mut out = Vec::new();
        let mut io = Io::new(connection(id), peer(), now, &mut out, ROOM);
        let (session, _) = self.connections.get_mut(&id).expect("it is open");
        let next = self.server.handle_bytes(session, bytes, &mut io);
        self.said = out;
        self.run_commands();
        next
    }

    /// A connection is closed.
    pub fn close(&mut self, id: u32, why: &Closed) {
        let (session, origin) = self.connections.remove(&id).expect("it is open");
        let closed = ClosedConnection { id: connection(id), peer: peer(), origin, why };
        self.server.handle_closed(closed, session, at(self.now));
        self.run_commands();
    }

    pub fn refuse(&mut self, listener: ListenerId, why: &Refused) {
        self.server.handle_refused(listener, why, at(self.now));
    }

    pub fn message(&mut self, message: Message) {
        self.server.handle_message(message, at(self.now));
        self.run_commands();
    }

    /// A thread has done the job that was asked for last.
    pub fn finish_job(&mut self) {
        let job = self.jobs.pop().expect("a job");
        self.message((job.run)());
    }

    /// The loop shows no connections for the request that came first.
    pub fn inspect(&mut self) {
        let ticket = self.inspections.remove(0);
        self.server.handle_inspect(ticket, &mut std::iter::empty(), at(self.now));
        self.run_commands();
    }

    /// The dial to a neighbour or to the Places service that was asked for last.
    pub fn dial_of(&mut self, name: &str) -> Dial {
        let is_it = |dial: &Dial| dial.to == Target::Name(name.to_owned());
        let place = self.dials.iter().rposition(is_it);
        let place = place.unwrap_or_else(|| panic!("{name} is dialled: {:?}", self.dials));
        self.dials.remove(place)
    }

    pub fn dial_event(&mut self, dial: &Dial, event: DialEvent<'_>) {
        self.server.handle_dial(dial.ticket, event, at(self.now));
        self.run_commands();
    }

    /// What a dial asked for is made.
    pub fn connect(&mut self, dial: &Dial) -> u32 {
        self.dial_event(dial, DialEvent::Connecting(peer()));
        self.open(Origin::Dialled(dial.ticket))
    }

    /// What the server asks of its loop, done at once.
    pub fn run_commands(&mut self) {
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::Dial(dial) => self.dials.push(dial),
                Command::Run(job) => self.jobs.push(job),
                Command::Inspect(ticket) => self.inspections.push(ticket),
                Command::Fill(id) => self.fill(id.slot),
                Command::Close(id) if self.connections.contains_key(&id.slot) => {
                    self.close(id.slot, &Closed::Commanded);
                }
                Command::Finish(id) if self.connections.contains_key(&id.slot) => {
                    self.close(id.slot, &Closed::Finished);
                }
                _ => {}
            }
        }
    }

    fn fill(&mut self, id: u32) {
        let now = at(self.now);
        let Some((session, _)) = self.connections.get_mut(&id) else {
            return;
        };
        loop {
            self.filled.clear();
            let mut io = Io::new(connection(id), peer(), now, &mut self.filled, ROOM);
            match self.server.fill(session, &mut io) {
                Next::Again => {}
                // The loop asks the kernel; there is nothing to read.
                Next::Probe => {
                    self.server.handle_bytes(session, &[], &mut io);
                    return;
                }
                _ => return,
            }
        }
    }

    /// What changes in the metrics, each by how much.
    pub fn changes<R>(&mut self, act: impl FnOnce(&mut World) -> R) -> Vec<(String, f64)> {
        let before = samples(&self.families());
        act(self);
        let after = samples(&self.families());
        let value = |all: &BTreeMap<String, f64>, name| all.get(name).copied().unwrap_or(0.0);
        let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
        // Nothing here is finer than a nanosecond.
        let exact = |change: f64| (change * 1e9).round() / 1e9;
        let change = |name| exact(value(&after, name) - value(&before, name));
        let changes = names.map(|name| (name.clone(), change(name)));
        changes.filter(|(_, change)| *change != 0.0).collect()
    }
}

/// Each sample, as Prometheus writes its name. Of a histogram: its count and its sum.
pub fn samples(families: &[Family]) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for family in families {
        for sample in &family.samples {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let labels = labels.join(",");
            let mut add = |part: &str, value| {
                let known = all.insert(format!("{}{part}{{{labels}}}", family.name), value);
                assert_eq!(known, None, "{} {labels} is there once", family.name);
            };
            match &sample.value {
                SampleValue::Whole(value) => add("", *value as f64),
                SampleValue::Real(value) => add("", *value),
                SampleValue::Histogram { sum, count, .. } => {
                    add("_sum", *sum);
                    add("_count", *count as f64);
                }
            }
        }
    }
    all
}

fn expiry(what: CertificateUse, year: i64) -> Expiry {
    Expiry { what, not_after: WALL as i64 + year * 365 * 86_400 }
}

fn process() -> Option<Process> {
    Some(Process {
        cpu_seconds: 1.5,
        resident_bytes: 2,
        virtual_bytes: 3,
        open_descriptors: Some(4),
        max_descriptors: 5,
        start_seconds: 6.5,
    })
}

pub fn connection(id: u32) -> ConnectionId {
    ConnectionId { slot: id, generation: 1 }
}

pub fn peer() -> SocketAddr {
    ([127, 0, 0, 1], 9).into()
}

/// The wall clock shows `WALL` seconds when the loop was made.
pub fn at(elapsed: Duration) -> Now {
    Now { elapsed, wall: WallTime(WALL * 1_000_000_000 + elapsed.as_nanos() as i128) }
}

const HERD: &str = r#"
security.allow_plaintext = ["neighbours"]

[[server]]
name = "A"
listen = "127.0.0.1:1001"
peer_listen = "127.0.0.1:2001"
neighbours = ["B", "C"]

[[server]]
name = "B"
listen = "127.0.0.1:1002"
peer_listen = "127.0.0.1:2002"
advertise = "b.example:9"

[[server]]
name = "C"
listen = "127.0.0.1:1003"
peer_listen = "127.0.0.1:2003"
advertise = "c.example:9"
"#;
pub const WALL: i128 = 2_000_000_000;
const ROOM: usize = 1 << 20;
