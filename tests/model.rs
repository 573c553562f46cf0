//! Claim: in every order in which a small herd's messages can be sent, delivered, cut off and lost in a restart, no
//! surviving update is lost, nothing gets stuck, and all tables end equal. Every reachable state is visited; the
//! transitions are the server's own code.

mod common;

use std::hash::{Hash, Hasher};
use std::sync::LazyLock;
use std::time::Duration;

use herd_mio::clock::{Now, WallTime};
use herd_mio::herd::{Event, Herd, NeighbourId, Observer, Outcome, Output, Peer, Settings};
use herd_mio::protocol::{ClientRequest, Dialect, Epoch};
use regex::Regex;
use stateright::{Checker, Model, Property};

/// The herd, what its clients have to say, and how much may go wrong.
#[derive(Clone)]
struct SmallHerd {
    /// Pairs of neighbours.
    edges: &'static [(usize, usize)],
    servers: usize,
    /// Which server a client sends to, and what.
    script: &'static [(usize, &'static str)],
    cuts: u8,
    restarts: u8,
    /// Whether it begins with its links up; else how they come up is explored, too.
    is_connected: bool,
}

/// The herd at one moment.
#[derive(Clone, Debug)]
struct World {
    servers: Vec<Server>,
    wires: Vec<Wire>,
    sent: Vec<bool>,
    cuts: u8,
    restarts: u8,
}

#[derive(Clone, Debug)]
struct Server {
    herd: Herd,
    runs: u64,
    now: Duration,
}

/// The connection by which `from` sends to `to`.
#[derive(Clone, Debug)]
struct Wire {
    from: usize,
    to: usize,
    inbound: Peer,
    to_acceptor: Vec<Vec<u8>>,
    to_dialler: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// A client says the line with this number of the script.
    Tell(usize),
    /// A server's time goes on until it dials who is not connected.
    Dial(usize),
    /// The next line of a wire, to its acceptor.
    Deliver(usize),
    /// The next line of a wire, back to its dialler.
    Answer(usize),
    /// A wire is cut; what is on it is gone.
    Cut(usize),
    /// A server forgets everything.
    Restart(usize),
}

struct Deaf;

impl Observer for Deaf {
    fn record(&mut self, _: Event<'_>) {}
}

impl SmallHerd {
    fn neighbours(&self, server: usize) -> Vec<usize> {
        let ends = self.edges.iter().filter_map(|&(one, other)| match server {
            _ if server == one => Some(other),
            _ if server == other => Some(one),
            _ => None,
        });
        ends.collect()
    }

    fn herd(&self, server: usize, runs: u64, now: Duration) -> Herd {
        let neighbours = self.neighbours(server).into_iter().map(name).collect();
        let settings = Settings {
            name: name(server),
            neighbours,
            dialect: Dialect::Report,
            max_clients: 100,
            max_future: Duration::from_secs(300),
            heartbeat: Duration::from_secs(5),
            refill: true,
            epoch: Epoch(100 * (server as u64 + 1) + runs),
            seed: 1,
        };
        Herd::new(settings, moment(now))
    }

    fn neighbour_id(&self, server: usize, other: usize) -> NeighbourId {
        let place = self.neighbours(server).iter().position(|&one| one == other);
        NeighbourId(place.expect("they are neighbours") as u16)
    }
}

impl World {
    /// Every link says what it has to say: the order that counts is the one of delivery.
    fn pump(&mut self, model: &SmallHerd) {
        for wire in &mut self.wires {
            let neighbour = model.neighbour_id(wire.from, wire.to);
            let server = &mut self.servers[wire.from];
            let mut out = Vec::new();
            while server.herd.link_has_pending(neighbour) {
                server.herd.poll_link(
                    neighbour,
                    out.len() + 1,
                    moment(server.now),
                    &mut out,
                    &mut Deaf,
                );
            }
            wire.to_acceptor.extend(lines(&out));
        }
    }

    fn cut(&mut self, model: &SmallHerd, wire: usize) {
        let Wire { from, to, inbound, .. } = self.wires.remove(wire);
        let neighbour = model.neighbour_id(from, to);
        let server = &mut self.servers[from];
        server.herd.link_closed(neighbour, moment(server.now), &mut Deaf);
        self.servers[to].herd.peer_closed(inbound);
    }

    fn dial(&mut self, model: &SmallHerd, from: usize) {
        let server = &mut self.servers[from];
        let mut outputs: Vec<Output> = std::iter::from_fn(|| server.herd.poll_output()).collect();
        if outputs.is_empty() {
            // No HELLO has asked for a dial, so time goes on until one is due.
            server.now = server.herd.poll_timeout().unwrap_or(server.now).max(server.now);
            server.herd.handle_timeout(moment(server.now), &mut Deaf);
            outputs.extend(std::iter::from_fn(|| server.herd.poll_output()));
        }
        for output in outputs {
            let Output::Dial(neighbour) = output else { continue };
            let mut hello = Vec::new();
            server.herd.link_connected(neighbour, moment(server.now), &mut hello);
            let to = model.neighbours(from)[usize::from(neighbour.0)];
            let to_acceptor = lines(&hello);
            let inbound = Peer::Unidentified;
            self.wires.push(Wire { from, to, inbound, to_acceptor, to_dialler: Vec::new() });
        }
        // Else two worlds that differ in nothing would differ in the order of their wires.
        self.wires.sort_by_key(|wire| (wire.from, wire.to));
    }

    fn restart(&mut self, model: &SmallHerd, server: usize) {
        while let Some(wire) =
            self.wires.iter().position(|wire| wire.from == server || wire.to == server)
        {
            self.cut(model, wire);
        }
        let Server { runs, now, .. } = self.servers[server];
        let herd = model.herd(server, runs + 1, now);
        self.servers[server] = Server { herd, runs: runs + 1, now };
    }

    fn deliver(&mut self, wire: usize) {
        let Wire { from, to, inbound, to_acceptor, to_dialler } = &mut self.wires[wire];
        let line = to_acceptor.remove(0);
        let mut out = Vec::new();
        let Server { herd, now, .. } = &mut self.servers[*to];
        let admits = |_: NeighbourId| true;
        let outcome =
            herd.handle_peer_line(inbound, &line, &admits, moment(*now), &mut out, &mut Deaf);
        to_dialler.extend(lines(&out));
        assert_eq!(outcome, Outcome::Continue, "{from} to {to}: {}", line.escape_ascii());
    }

    fn answer(&mut self, model: &SmallHerd, wire: usize) {
        let Wire { from, to, to_dialler, .. } = &mut self.wires[wire];
        let neighbour = model.neighbour_id(*from, *to);
        let line = to_dialler.remove(0);
        let Server { herd, now, .. } = &mut self.servers[*from];
        let outcome = herd.handle_answer(neighbour, &line, moment(*now), &mut Deaf);
        assert_eq!(outcome, Outcome::Continue, "{to} back to {from}: {}", line.escape_ascii());
    }

    /// Each server's table, as lines.
    fn tables(&self) -> Vec<Vec<Vec<u8>>> {
        let table = |server: &Server| {
            let lines = server.herd.table().iter().map(|entry| entry.update.line());
            let mut lines: Vec<_> = lines.collect();
            lines.sort();
            lines
        };
        self.servers.iter().map(table).collect()
    }

    fn is_quiet(&self, model: &SmallHerd) -> bool {
        let connected = self.wires.len() == 2 * model.edges.len();
        let empty =
            self.wires.iter().all(|it| it.to_acceptor.is_empty() && it.to_dialler.is_empty());
        connected && empty && self.sent.iter().all(|sent| *sent)
    }
}

/// What makes two worlds the same: all but the hours that have passed, and the dice for jitter.
impl World {
    fn shape(&self) -> String {
        static TIMES: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"random_state: \d+|SessionId\(\d+\)|\d+(\.\d+)?(ns|µs|ms|s)\b")
                .expect("a pattern")
        });
        let World { servers, wires, sent, cuts, restarts } = self;
        let text = format!("{servers:?} {wires:?} {sent:?} {cuts} {restarts}");
        TIMES.replace_all(&text, "").into_owned()
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.shape().hash(hasher);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        self.shape() == other.shape()
    }
}

impl Model for SmallHerd {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let server = |server| Server { herd: self.herd(server, 0, START), runs: 0, now: START };
        let mut world = World {
            servers: (0..self.servers).map(server).collect(),
            wires: Vec::new(),
            sent: vec![false; self.script.len()],
            cuts: 0,
            restarts: 0,
        };
        if self.is_connected {
            self.connect(&mut world);
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend((0..self.script.len()).filter(|&it| !world.sent[it]).map(Action::Tell));
        for server in 0..self.servers {
            let dialled = world.wires.iter().filter(|wire| wire.from == server).count();
            if dialled < self.neighbours(server).len() {
                actions.push(Action::Dial(server));
            }
            if world.restarts < self.restarts {
                actions.push(Action::Restart(server));
            }
        }
        for (number, wire) in world.wires.iter().enumerate() {
            if !wire.to_acceptor.is_empty() {
                actions.push(Action::Deliver(number));
            }
            if !wire.to_dialler.is_empty() {
                actions.push(Action::Answer(number));
            }
            if world.cuts < self.cuts {
                actions.push(Action::Cut(number));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Tell(number) => {
                world.sent[number] = true;
                let (server, line) = self.script[number];
                let Server { herd, now, .. } = &mut world.servers[server];
                let Ok(ClientRequest::Iamat(iamat)) =
                    ClientRequest::parse(line.as_bytes(), Dialect::Report)
                else {
                    panic!("the script says {line}");
                };
                let answer = herd.handle_iamat(&iamat, moment(*now), &mut Vec::new(), &mut Deaf);
                answer.expect("it does not lie in the future");
            }
            Action::Dial(server) => world.dial(self, server),
            Action::Deliver(wire) => world.deliver(wire),
            Action::Answer(wire) => world.answer(self, wire),
            Action::Cut(wire) => {
                world.cuts += 1;
                world.cut(self, wire);
            }
            Action::Restart(server) => {
                world.restarts += 1;
                world.restart(self, server);
            }
        }
        world.pump(self);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<SmallHerd>> {
        vec![
            Property::always("all tables are equal when all is quiet", |model, world: &World| {
                let tables = world.tables();
                !world.is_quiet(model) || tables.iter().all(|table| *table == tables[0])
            }),
            Property::always("without a restart nothing is lost", |model, world: &World| {
                let complete = world.tables()[0].len() == model.clients() && model.newest(world);
                !world.is_quiet(model) || world.restarts > 0 || complete
            }),
            Property::always("nothing gets stuck", |model, world: &World| {
                let mut actions = Vec::new();
                model.actions(world, &mut actions);
                !actions.is_empty() || world.is_quiet(model)
            }),
            Property::sometimes("a herd gets quiet after all faults", |model, world: &World| {
                let all = world.cuts == model.cuts && world.restarts == model.restarts;
                world.is_quiet(model) && all
            }),
        ]
    }
}

impl SmallHerd {
    /// Brings all links up, in one of the orders in which they can.
    fn connect(&self, world: &mut World) {
        loop {
            let mut actions = Vec::new();
            self.actions(world, &mut actions);
            let connects = |action: &Action| {
                matches!(action, Action::Dial(_) | Action::Deliver(_) | Action::Answer(_))
            };
            let Some(action) = actions.into_iter().find(connects) else { return };
            *world = self.next_state(world, action).expect("every action leads somewhere");
        }
    }

    /// How many clients the script has.
    fn clients(&self) -> usize {
        let ids: std::collections::BTreeSet<_> =
            self.script.iter().map(|(_, line)| line.split(' ').nth(1)).collect();
        ids.len()
    }

    /// Whether the first server knows the greatest timestamp of each client.
    fn newest(&self, world: &World) -> bool {
        let field = |line: &str, place: usize| line.split(' ').nth(place).map(str::to_owned);
        self.script.iter().all(|(_, line)| {
            let id = field(line, 1).expect("an id");
            let entry = world.servers[0].herd.table().get(id.as_bytes());
            let sent = field(line, 3).expect("a timestamp");
            entry.is_some_and(|it| it.update.get().timestamp.text >= sent.as_bytes())
        })
    }
}

fn name(server: usize) -> String {
    ["A", "B", "C"][server].to_owned()
}

fn moment(elapsed: Duration) -> Now {
    Now { elapsed, wall: WallTime(1_700_000_000_000_000_000) }
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.map(|line| line.strip_suffix(b"\n").expect("a whole line").to_vec()).collect()
}

const START: Duration = Duration::from_secs(1);

fn explore(what: &str, model: SmallHerd) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!(
        "{what}: {} states, {} of them different",
        checker.state_count(),
        checker.unique_state_count()
    );
    checker.assert_properties();
}

const CROSSING: &[(usize, &str)] = &[(0, "IAMAT kiwi +1.0+1.0 1"), (1, "IAMAT kiwi +2.0+2.0 2")];
const MEETING: &[(usize, &str)] = &[(0, "IAMAT kiwi +1.0+1.0 1"), (2, "IAMAT kiwi +2.0+2.0 2")];

#[test]
fn two_servers_come_up_while_updates_cross_with_a_cut_and_a_restart() {
    let herd = SmallHerd {
        edges: &[(0, 1)],
        servers: 2,
        script: CROSSING,
        cuts: 1,
        restarts: 1,
        is_connected: false,
    };
    explore("two servers that come up", herd);
}

#[test]
fn two_servers_with_two_clients_lose_nothing_in_two_cuts() {
    let script =
        &[(0, "IAMAT kiwi +1.0+1.0 1"), (1, "IAMAT kiwi +2.0+2.0 2"), (0, "IAMAT plum +1.0+1.0 1")];
    let herd = SmallHerd {
        edges: &[(0, 1)],
        servers: 2,
        script,
        cuts: 2,
        restarts: 0,
        is_connected: true,
    };
    explore("two servers, two clients, two cuts", herd);
}

#[test]
fn three_servers_in_a_line_with_updates_that_meet_in_the_middle_and_a_cut() {
    let herd = SmallHerd {
        edges: &[(0, 1), (1, 2)],
        servers: 3,
        script: MEETING,
        cuts: 1,
        restarts: 0,
        is_connected: true,
    };
    explore("three servers, a cut", herd);
}

#[test]
fn three_servers_in_a_line_the_middle_one_of_which_forgets() {
    let herd = SmallHerd {
        edges: &[(0, 1), (1, 2)],
        servers: 3,
        script: &MEETING[..1],
        cuts: 0,
        restarts: 1,
        is_connected: true,
    };
    explore("three servers, a restart", herd);
}

#[test]
fn a_ring_of_three_passes_on_what_is_new_and_nothing_twice() {
    let herd = SmallHerd {
        edges: &[(0, 1), (1, 2), (0, 2)],
        servers: 3,
        script: CROSSING,
        cuts: 0,
        restarts: 0,
        is_connected: true,
    };
    explore("a ring of three", herd);
}
