//! Claim: without a socket or a clock, a query for places goes from address to address, within its time, and each
//! client that asked has its own deadline.

use std::net::SocketAddr;
use std::time::Duration;

use herd_mio::application::Line;
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::connections::{
    Client, Command, Connection, ConnectionId, QueryId, Role, Server, Verdict,
};
use herd_mio::places::Provider;
use herd_mio::places::endpoint::Endpoint;
use herd_mio::protocol::Epoch;

/// A server that asks `places.example`, and gives a query eight seconds.
struct World {
    server: Server,
    now: Duration,
    connections: u32,
    /// Commands for the loop that it has not run.
    commands: Vec<Command>,
}

/// A connection that is being made for a query.
struct Dial {
    address: SocketAddr,
    id: ConnectionId,
}

impl World {
    fn new() -> World {
        let mut config = Config::default();
        config.places.provider_override = Some(Provider::Google);
        config.places.timeout = second(8);
        let (host, path) = ("places.example".to_owned(), "/x".to_owned());
        config.places.endpoint = Endpoint { host, port: 443, path };
        let server = Server::new(&config, 0, Epoch(1), 1, at(Duration::ZERO));
        let mut world = World { server, now: Duration::ZERO, connections: 0, commands: Vec::new() };
        assert_eq!(world.line(99, b"IAMAT kiwi +1.0+2.0 1"), Verdict::Next);
        world
    }

    fn moment(&self) -> Now {
        at(self.now)
    }

    fn line(&mut self, slot: u32, line: &[u8]) -> Verdict {
        let mut role = Role::Client(Client::default());
        let on = Connection { id: client(slot), role: &mut role, peer: address("9.9.9.9:9") };
        let moment = self.moment();
        let verdict = self.server.handle_line(on, Line::Whole(line), moment, &mut Vec::new());
        self.fetch();
        verdict
    }

    /// A client asks, each for another radius.
    fn ask(&mut self, slot: u32, radius: u32) {
        let line = format!("WHATSAT kiwi {radius} 5");
        assert_eq!(self.line(slot, line.as_bytes()), Verdict::Wait);
    }

    /// Fetches what the server wants done, but for its links.
    fn fetch(&mut self) {
        while let Some(command) = self.server.poll_command() {
            if !matches!(command, Command::Dial { .. }) {
                self.commands.push(command);
            }
        }
    }

    /// Time goes by, and what is due is done.
    fn pass(&mut self, seconds: u64) {
        self.now += second(seconds);
        let moment = self.moment();
        self.server.handle_timeout(moment);
        self.fetch();
    }

    fn resolved(&mut self, text: &str) {
        let addresses = text.split_whitespace().map(address).collect();
        let moment = self.moment();
        self.server.places_resolved(Ok(addresses), moment);
        self.fetch();
    }

    /// The loop starts the dials that it was given.
    fn dials(&mut self) -> Vec<Dial> {
        let is_open = |command: &mut Command| matches!(command, Command::OpenPlaces { .. });
        let told: Vec<Command> = self.commands.extract_if(.., is_open).collect();
        let opened = told.into_iter().filter_map(|command| match command {
            Command::OpenPlaces { query, address } => Some((query, address)),
            _ => None,
        });
        opened.map(|(query, address)| self.begin(query, address)).collect()
    }

    fn begin(&mut self, query: QueryId, address: SocketAddr) -> Dial {
        self.connections += 1;
        let id = ConnectionId { slot: self.connections, generation: 1 };
        let moment = self.moment();
        self.server.places_connecting(query, id, address, moment);
        self.fetch();
        Dial { address, id }
    }

    fn connected(&mut self, dial: &Dial) {
        let mut request = Vec::new();
        self.server.places_connected(dial.id, &mut request);
        assert!(request.starts_with(b"GET /x?"));
    }

    fn lost(&mut self, dial: &Dial, reason: &str) {
        let moment = self.moment();
        self.server.places_lost(dial.id, reason, moment);
        self.fetch();
    }

    /// TLS is finished, and the service answers, to close then.
    fn answers(&mut self, dial: &Dial) {
        let moment = self.moment();
        self.server.places_secured(dial.id, moment);
        let answer =
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"results\":[]}";
        let on = Connection { id: dial.id, role: &mut Role::Places, peer: dial.address };
        let verdict = self.server.handle_bytes(on, answer, moment, &mut Vec::new());
        assert_eq!(verdict, Verdict::Close);
        self.fetch();
    }

    /// Answers that were delivered, to whom.
    fn delivered(&mut self) -> Vec<(u32, String)> {
        let is_answer = |command: &mut Command| matches!(command, Command::Deliver { .. });
        let told: Vec<Command> = self.commands.extract_if(.., is_answer).collect();
        let told = told.into_iter().filter_map(|command| match command {
            Command::Deliver { to, body } => {
                Some((to.slot, String::from_utf8(body.to_vec()).expect("text")))
            }
            _ => None,
        });
        told.collect()
    }

    fn closes(&self, dial: &Dial) -> bool {
        self.commands.iter().any(|command| matches!(command, Command::Close(id) if *id == dial.id))
    }

    fn lookups(&mut self) -> usize {
        let is_lookup = |command: &mut Command| matches!(command, Command::ResolvePlaces { .. });
        self.commands.extract_if(.., is_lookup).count()
    }
}

fn at(elapsed: Duration) -> Now {
    Now { elapsed, wall: WallTime(1_700_000_000_000_000_000 + elapsed.as_nanos() as i128) }
}

fn second(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn client(slot: u32) -> ConnectionId {
    ConnectionId { slot: 1_000 + slot, generation: 1 }
}

/// The addresses that were dialled, without what they have in common.
fn dialled(dials: &[Dial]) -> Vec<String> {
    dials.iter().map(|dial| dial.address.ip().to_string()).collect()
}

const THREE: &str = "1.1.1.1:443 2.2.2.2:443 3.3.3.3:443";

#[test]
fn an_address_that_times_out_is_followed_by_the_next_and_moves_to_the_end() {
    for finishes_tcp in [false, true] {
        let mut world = World::new();
        world.ask(1, 1);
        world.resolved(THREE);
        let first = world.dials();
        assert_eq!(dialled(&first), ["1.1.1.1"]);
        if finishes_tcp {
            world.connected(&first[0]);
        }
        world.pass(1);
        assert!(!world.closes(&first[0]), "a quarter of the query's time is not over");
        world.pass(1);
        assert!(world.closes(&first[0]), "TCP finished: {finishes_tcp}");
        let second = world.dials();
        assert_eq!(dialled(&second), ["2.2.2.2"]);
        world.connected(&second[0]);
        world.answers(&second[0]);
        assert_eq!(world.delivered().len(), 1);
        for _ in 0..3 {
            world.ask(1, 1);
            let next = world.dials();
            assert_eq!(dialled(&next), ["2.2.2.2"], "what worked last is first");
            world.connected(&next[0]);
            world.answers(&next[0]);
        }
        // It fails now, and stands behind the one that failed before.
        for expected in ["2.2.2.2", "3.3.3.3", "1.1.1.1"] {
            if expected == "2.2.2.2" {
                world.ask(2, 2);
            }
            let next = world.dials();
            assert_eq!(dialled(&next), [expected]);
            world.lost(&next[0], "Connection refused");
        }
        let told = world.delivered().pop().expect("a failure").1;
        assert!(told.contains("places.example can't be reached: Connection refused"), "{told}");
        world.ask(3, 3);
        assert_eq!(dialled(&world.dials()), ["2.2.2.2"], "all have failed: the longest ago first");
    }
}

#[test]
fn an_address_without_a_complete_handshake_does_not_count_as_working() {
    let mut world = World::new();
    world.ask(1, 1);
    world.resolved(THREE);
    let first = world.dials();
    world.ask(2, 2);
    let second = world.dials();
    assert_eq!(dialled(&second), ["1.1.1.1"], "nothing is known against it yet");
    world.lost(&second[0], "TLS with places.example failed");
    let other = world.dials();
    assert_eq!(dialled(&other), ["2.2.2.2"]);
    world.connected(&other[0]);
    world.answers(&other[0]);
    world.connected(&first[0]);
    world.ask(3, 3);
    assert_eq!(dialled(&world.dials()), ["2.2.2.2"]);
}

#[test]
fn the_last_address_has_all_the_remaining_time() {
    let mut world = World::new();
    world.ask(1, 1);
    world.resolved("1.1.1.1:443 2.2.2.2:443");
    let first = world.dials();
    world.lost(&first[0], "Connection refused");
    let last = world.dials();
    world.connected(&last[0]);
    world.pass(7);
    assert!(!world.closes(&last[0]));
    world.pass(1);
    assert!(world.closes(&last[0]));
    let told = world.delivered().pop().expect("a failure").1;
    assert!(told.contains("no answer within 8 s: the TLS handshake was not finished"), "{told}");
    world.ask(2, 2);
    assert_eq!(dialled(&world.dials()), ["1.1.1.1"]);
}

#[test]
fn a_certificate_error_is_reported_although_other_addresses_refuse() {
    let mut world = World::new();
    world.ask(1, 1);
    world.resolved(THREE);
    let reason = "the certificate of places.example is not trusted: it has expired";
    let first = world.dials();
    world.connected(&first[0]);
    world.lost(&first[0], reason);
    for _ in 0..2 {
        let next = world.dials();
        world.lost(&next[0], "Connection refused");
    }
    let told = world.delivered().pop().expect("a failure").1;
    assert!(told.contains(&format!("\"error_message\" : \"{reason}\"")), "{told}");
}

#[test]
fn a_silent_resolver_delays_no_query_once_addresses_are_known() {
    let mut world = World::new();
    world.ask(1, 1);
    assert_eq!((world.lookups(), world.dials().len()), (1, 0));
    world.resolved(THREE);
    let first = world.dials();
    world.connected(&first[0]);
    world.answers(&first[0]);
    world.pass(100);
    world.ask(2, 2);
    assert_eq!((world.lookups(), dialled(&world.dials())), (1, vec!["1.1.1.1".to_owned()]));
    world.ask(3, 3);
    assert_eq!((world.lookups(), world.dials().len()), (0, 1), "one look-up is under way");
}

#[test]
fn a_late_identical_query_has_its_own_time() {
    let mut world = World::new();
    world.ask(1, 1);
    world.resolved(THREE);
    let first = world.dials();
    world.connected(&first[0]);
    let moment = world.moment();
    world.server.places_secured(first[0].id, moment);
    world.pass(4);
    world.ask(2, 1);
    assert!(world.dials().is_empty(), "half of the time is left: they share the query");
    world.pass(3);
    world.ask(3, 1);
    let own = world.dials();
    assert_eq!(own.len(), 1, "a second is not enough");
    world.pass(1);
    let told: Vec<u32> = world.delivered().into_iter().map(|(slot, _)| slot).collect();
    assert_eq!(told, [1_001, 1_002]);
    world.connected(&own[0]);
    let moment = world.moment();
    world.server.places_secured(own[0].id, moment);
    world.pass(5);
    world.answers(&own[0]);
    let told = world.delivered().pop().expect("an answer");
    assert!(told.0 == 1_003 && told.1.contains("results"), "{told:?}");
}

/// What the service says that the loop has read of an answer, of which there is more.
fn says(world: &mut World, dial: &Dial, bytes: &[u8]) -> Verdict {
    let moment = world.moment();
    let on = Connection { id: dial.id, role: &mut Role::Places, peer: dial.address };
    let verdict = world.server.handle_bytes(on, bytes, moment, &mut Vec::new());
    world.fetch();
    verdict
}

#[test]
fn an_endless_answer_is_read_for_a_limited_time_after_its_deadline() {
    let mut world = World::new();
    world.ask(1, 1);
    world.resolved("1.1.1.1:443");
    let dial = world.dials().remove(0);
    world.connected(&dial);
    let moment = world.moment();
    world.server.places_secured(dial.id, moment);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(says(&mut world, &dial, head), Verdict::Next);
    world.server.places_unread(dial.id, true);
    // As after a suspension: what arrived in time is there, however late it is.
    for seconds in [100, 1, 1] {
        world.pass(seconds);
        assert_eq!(says(&mut world, &dial, b"1;of-no-use\r\n \r\n"), Verdict::Next);
        assert!(world.delivered().is_empty(), "it may be read soon");
    }
    world.pass(1);
    let told = world.delivered().pop().expect("a failure").1;
    assert!(told.contains("no answer within 8 s: its body was not finished"), "{told}");
    assert!(world.closes(&dial));
}

#[test]
fn a_silent_kept_connection_leaves_time_to_repeat_the_query() {
    let mut world = World::new();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"results\":[]}";
    world.ask(1, 1);
    world.resolved("1.1.1.1:443");
    let kept = world.dials().remove(0);
    world.connected(&kept);
    let moment = world.moment();
    world.server.places_secured(kept.id, moment);
    world.pass(7);
    assert_eq!(says(&mut world, &kept, answer), Verdict::Next);
    world.ask(2, 2);
    let moment = world.moment();
    world.server.places_quiet(kept.id, moment, &mut Vec::new());
    world.pass(3);
    assert!(world.dials().is_empty(), "the service was slow of late");
    world.pass(1);
    assert_eq!(dialled(&world.dials()), ["1.1.1.1"], "half of the time is left");
}
