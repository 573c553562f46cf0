//! Claim: without a socket or a clock, each address of a neighbour is tried once in a round, a connection
//! that brings no RESUME counts as failed, and what replaced dials still report is ignored. What was recorded
//! of each test is answered to the letter when it is replayed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use herd_mio::application::recorder::{Recorder, replay};
use herd_mio::application::{
    Application, Closed, ClosedConnection, Command, ConnectionId, Control, Dial, DialEvent, Due,
    Freshness, Io, Job, Line, LoopId, Next, Opened, Origin, Start, Target, Ticket, TlsId,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::server::{
    CLIENTS, FIRST_LOOP, Failure, Message, PEERS, Reconfigured, ReloadEnd, ReloadSource, Server,
    ServerSetup, Session,
};

/// Server A with one neighbour, B, and the loop played by hand.
struct World {
    server: Recorder<Server, Vec<u8>>,
    make: Box<dyn Fn() -> Server>,
    now: Duration,
    connections: u32,
    commands: Vec<Command<Message>>,
}

/// A connection that the loop has made.
struct Connection {
    id: ConnectionId,
    peer: SocketAddr,
    origin: Origin,
    session: Session,
    said: Vec<u8>,
}

impl World {
    /// B is dialled at this address or name.
    fn new(dial: &str) -> World {
        World::of_loops(dial, 1, FIRST_LOOP)
    }

    fn of_loops(dial: &str, loops: usize, number: LoopId) -> World {
        World::of(dial, Config { loops, ..Config::default() }, number, &[])
    }

    /// `configurations` are those for dials of neighbours, by their names.
    fn of(
        dial: &str,
        mut config: Config,
        number: LoopId,
        configurations: &[(&str, TlsId)],
    ) -> World {
        let known = configurations.iter().map(|(name, id)| ((*name).to_owned(), *id));
        let neighbour_tls = Arc::new(known.collect::<BTreeMap<_, _>>());
        config.servers.truncate(2);
        for (index, server) in config.servers.iter_mut().enumerate() {
            server.name = ["A", "B"][index].to_owned();
            server.neighbours = vec![1 - index];
        }
        config.servers[1].advertise = dial.to_owned();
        let make = move || {
            let neighbour_tls = Arc::clone(&neighbour_tls);
            let setup = ServerSetup::plain(&config, at(Duration::ZERO));
            Server::new(ServerSetup { number, neighbour_tls, ..setup })
        };
        let server = Recorder::new(make(), Vec::new());
        let (make, now, commands) = (Box::new(make), Duration::ZERO, Vec::new());
        let mut world = World { server, make, now, connections: 0, commands };
        world.pass(0);
        world
    }

    /// All that the server was called for, once more on another one.
    fn replay(self, messages: Vec<Message>) {
        let recording = self.server.into_parts().1.expect("memory can be written");
        let recording = String::from_utf8(recording).expect("a recording is text");
        let mut messages = messages.into_iter();
        let replayed = replay(&recording, (self.make)(), &mut || messages.next());
        assert_eq!(replayed.expect("it can be read").err(), None);
    }

    fn fetch(&mut self) {
        self.commands.extend(std::iter::from_fn(|| self.server.poll_command()));
    }

    /// Time goes by, and what is due is done.
    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        let mut nobody = |_| false;
        self.server.handle_timeout(&mut Due::new(at(self.now), &mut nobody));
        self.fetch();
    }

    /// The one dial that was asked for.
    fn dial(&mut self) -> Dial {
        let is_dial = |command: &mut Command<Message>| matches!(command, Command::Dial(_));
        let dials: Vec<_> = self.commands.extract_if(.., is_dial).collect();
        match <[_; 1]>::try_from(dials) {
            Ok([Command::Dial(dial)]) => dial,
            other => panic!("not one dial: {other:?}"),
        }
    }

    fn dials_nothing(&self) -> bool {
        !self.commands.iter().any(|command| matches!(command, Command::Dial(_)))
    }

    fn closes(&self, id: ConnectionId) -> bool {
        self.commands.iter().any(|command| matches!(command, Command::Close(one) if *one == id))
    }

    fn cancels(&self, dial: &Dial) -> bool {
        let is_it = |command: &Command<Message>| matches!(command, Command::Cancel(one) if *one == dial.ticket);
        self.commands.iter().any(is_it)
    }

    fn news(&mut self, ticket: Ticket, event: DialEvent<'_>) {
        self.server.handle_dial(ticket, event, at(self.now));
        self.fetch();
    }

    fn resolved(&mut self, dial: &Dial, text: &str) {
        let found: Vec<SocketAddr> = text.split_whitespace().map(address).collect();
        self.news(dial.ticket, DialEvent::Resolved(&found));
        self.news(dial.ticket, DialEvent::Connecting(found[0]));
    }

    /// The address that is tried can't be connected to, and the loop goes on to the next one, or has none.
    fn fails(&mut self, dial: &Dial, tried: &str, next: Option<&str>) {
        self.news(dial.ticket, DialEvent::AttemptFailed(address(tried), "Connection refused"));
        match next {
            Some(next) => self.news(dial.ticket, DialEvent::Connecting(address(next))),
            None => self.news(dial.ticket, DialEvent::Failed("all failed".to_owned())),
        }
    }

    fn open(&mut self, origin: Origin, peer: &str) -> Option<Connection> {
        self.connections += 1;
        let id = ConnectionId { slot: self.connections, generation: 1 };
        let mut said = Vec::new();
        let mut io = Io::new(id, address(peer), at(self.now), &mut said, 1 << 20);
        let opened = self.server.handle_open(Opened::plain(origin), &mut io);
        self.fetch();
        let (session, _) = opened?;
        Some(Connection { id, peer: address(peer), origin, session, said })
    }

    fn connects(&mut self, dial: &Dial, peer: &str) -> Connection {
        let link = self.open(Origin::Dialled(dial.ticket), peer).expect("it is wanted");
        assert_eq!(link.said, b"HELLO herd/1 A 0000000000000001\n");
        link
    }

    fn line(&mut self, on: &mut Connection, line: &str) -> Next {
        let mut io = Io::new(on.id, on.peer, at(self.now), &mut on.said, 1 << 20);
        let next = self.server.handle_line(&mut on.session, Line::Whole(line.as_bytes()), &mut io);
        self.fetch();
        next
    }

    fn fill(&mut self, on: &mut Connection) -> Next {
        let mut io = Io::new(on.id, on.peer, at(self.now), &mut on.said, 1 << 20);
        self.server.fill(&mut on.session, &mut io)
    }

    fn closed(&mut self, connection: Connection) {
        let Connection { id, peer, origin, session, .. } = connection;
        let closed = ClosedConnection { id, peer, origin, why: &Closed::Finished };
        self.server.handle_closed(closed, session, at(self.now));
        self.fetch();
    }
}

fn at(elapsed: Duration) -> Now {
    Now { elapsed, wall: WallTime(1_700_000_000_000_000_000 + elapsed.as_nanos() as i128) }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

const RESUME: &str = "RESUME 0 0 0000000000000002 B";
const THREE: &str = "1.1.1.1:9 2.2.2.2:9 3.3.3.3:9";

#[test]
fn a_name_is_looked_up_afresh_and_dialled_from_the_address_that_neighbours_know() {
    let mut world = World::new("b.example:9");
    let dial = world.dial();
    assert_eq!(dial.to, Target::Name("b.example:9".to_owned()));
    assert_eq!((dial.start, dial.tls), (Start::Best, None));
    assert_eq!(dial.freshness, Freshness::Ask(Duration::from_millis(500)));
    assert_eq!(dial.from, Some(Config::default().servers[0].peer_listen));
    assert_eq!((dial.attempt_timeout.as_secs(), dial.timeout.as_secs()), (1, 15));
    world.replay(Vec::new());
}

#[test]
fn a_connection_without_a_resume_is_left_for_the_next_address_and_not_tried_twice() {
    let mut world = World::new("b.example:9");
    let dial = world.dial();
    world.resolved(&dial, THREE);
    let mut first = world.connects(&dial, "1.1.1.1:9");
    assert_eq!(world.line(&mut first, "RESUME 0 0 0000000000000003 C"), Next::Finish);
    assert!(world.dials_nothing(), "its connection ends first");
    world.closed(first);
    let second = world.dial();
    assert_eq!(second.to, Target::Address(address("2.2.2.2:9")));
    world.news(second.ticket, DialEvent::Connecting(address("2.2.2.2:9")));
    let silent = world.connects(&second, "2.2.2.2:9");
    world.pass(999);
    assert!(!world.closes(silent.id), "its time is not over");
    world.pass(1);
    assert!(world.closes(silent.id));
    world.closed(silent);
    let third = world.dial();
    assert_eq!(third.to, Target::Address(address("3.3.3.3:9")));
    world.fails(&third, "3.3.3.3:9", None);
    assert!(world.dials_nothing(), "each was tried once");
    world.pass(100);
    let again = world.dial();
    assert_eq!(again.to, Target::Name("b.example:9".to_owned()), "after a pause");
    assert_eq!(again.start, Start::Behind(address("2.2.2.2:9")));
    assert_eq!(again.attempt_timeout.as_secs(), 2, "perhaps they were slow only");
    world.replay(Vec::new());
}

#[test]
fn the_last_of_several_addresses_has_no_more_time_than_the_others() {
    let mut world = World::new("b.example:9");
    let dial = world.dial();
    world.resolved(&dial, "1.1.1.1:9 2.2.2.2:9");
    world.fails(&dial, "1.1.1.1:9", Some("2.2.2.2:9"));
    world.pass(999);
    assert!(!world.cancels(&dial));
    world.pass(1);
    assert!(world.cancels(&dial));
    world.pass(100);
    assert_eq!(world.dial().to, Target::Name("b.example:9".to_owned()));
    world.replay(Vec::new());
}

#[test]
fn a_resume_makes_its_address_the_first_one_from_then_on() {
    let mut world = World::new("b.example:9");
    let dial = world.dial();
    world.resolved(&dial, THREE);
    world.fails(&dial, "1.1.1.1:9", Some("2.2.2.2:9"));
    let mut link = world.connects(&dial, "2.2.2.2:9");
    assert_eq!(world.line(&mut link, RESUME), Next::Read);
    let fill = |command: &Command<Message>| matches!(command, Command::Fill(id) if *id == link.id);
    assert_eq!(world.commands.iter().filter(|command| fill(command)).count(), 1);
    world.closed(link);
    world.pass(100);
    assert_eq!(world.dial().start, Start::At(address("2.2.2.2:9")));
    world.replay(Vec::new());
}

#[test]
fn reports_of_a_replaced_dial_are_ignored() {
    let mut world = World::new("1.1.1.1:9");
    let first = world.dial();
    world.pass(15_000);
    assert!(world.cancels(&first));
    world.pass(100);
    let second = world.dial();
    assert_ne!(first.ticket, second.ticket);
    assert!(world.open(Origin::Dialled(first.ticket), "1.1.1.1:9").is_none());
    world.news(first.ticket, DialEvent::Failed("late".to_owned()));
    assert!(world.dials_nothing());
    world.connects(&second, "1.1.1.1:9");
    assert!(world.open(Origin::Dialled(second.ticket), "1.1.1.1:9").is_none(), "one is enough");
    world.replay(Vec::new());
}

#[test]
fn a_hello_from_an_unknown_address_looks_the_name_up_again_but_not_more_often_than_every_five_seconds()
 {
    let mut world = World::new("b.example:9");
    let dial = world.dial();
    world.resolved(&dial, "1.1.1.1:9");
    let look_ups = |world: &mut World| {
        let is_look_up =
            |command: &mut Command<Message>| matches!(command, Command::Resolve { .. });
        world.commands.extract_if(.., is_look_up).collect::<Vec<_>>()
    };
    let asked = look_ups(&mut world);
    let [Command::Resolve { ticket, .. }] = &asked[..] else {
        panic!("with its dial: {asked:?}");
    };
    world.news(*ticket, DialEvent::Resolved(&[address("1.1.1.1:9")]));
    let hello = |world: &mut World| {
        let mut peer = world.open(Origin::Accepted(PEERS), "9.9.9.9:9").expect("it is accepted");
        let next = world.line(&mut peer, "HELLO herd/1 B 0000000000000002");
        world.closed(peer);
        next
    };
    assert_eq!(hello(&mut world), Next::Finish);
    assert_eq!(look_ups(&mut world).len(), 0, "it was looked up just now");
    world.pass(5_000);
    assert_eq!(hello(&mut world), Next::Finish);
    let asked = look_ups(&mut world);
    let [Command::Resolve { ticket, name }] = &asked[..] else {
        panic!("one look-up: {asked:?}");
    };
    assert_eq!(name, "b.example:9");
    assert_eq!(hello(&mut world), Next::Finish);
    assert_eq!(look_ups(&mut world).len(), 0, "it is being looked up");
    world.news(*ticket, DialEvent::Resolved(&[address("9.9.9.9:9")]));
    assert_eq!(hello(&mut world), Next::Read, "it has moved");
    world.replay(Vec::new());
}

/// The resolver takes longer than a dial waits for it, and the neighbour has moved.
#[test]
fn addresses_that_come_after_the_dial_went_on_without_them_count_at_once() {
    let mut world = World::new("b.example:9");
    let dial = world.dial();
    let is_look_up = |command: &Command<Message>| matches!(command, Command::Resolve { .. });
    let asked = world.commands.iter().find(|command| is_look_up(command));
    let Some(&Command::Resolve { ticket, ref name }) = asked else {
        panic!("it must hear of the look-up's end, too");
    };
    assert_eq!(dial.to, Target::Name(name.clone()));
    world.resolved(&dial, "1.1.1.1:9"); // What was known before.
    let hello = |world: &mut World| {
        let mut peer = world.open(Origin::Accepted(PEERS), "9.9.9.9:9").expect("it is accepted");
        let next = world.line(&mut peer, "HELLO herd/1 B 0000000000000002");
        world.closed(peer);
        next
    };
    assert_eq!(hello(&mut world), Next::Finish);
    world.news(ticket, DialEvent::Resolved(&[address("9.9.9.9:9")]));
    assert_eq!(hello(&mut world), Next::Read);
    assert_eq!(world.commands.iter().filter(|command| is_look_up(command)).count(), 1);
    world.replay(Vec::new());
}

#[test]
fn loops_of_one_server_dial_each_other_and_wait_for_each_other() {
    let mut first = World::of_loops("1.1.1.1:9", 3, FIRST_LOOP);
    let is_dial = |command: &mut Command<Message>| matches!(command, Command::Dial(_));
    let dials: Vec<_> = first.commands.extract_if(.., is_dial).collect();
    let targets: Vec<Target> = dials
        .into_iter()
        .filter_map(|command| if let Command::Dial(dial) = command { Some(dial.to) } else { None })
        .collect();
    let wanted =
        [Target::Address(address("1.1.1.1:9")), Target::Loop(LoopId(1)), Target::Loop(LoopId(2))];
    assert_eq!(targets, wanted);
    let mut second = World::of_loops("1.1.1.1:9", 3, LoopId(1));
    assert_eq!(second.dial().to, Target::Loop(FIRST_LOOP));
    assert_eq!(
        (first.server.application().log_name(), second.server.application().log_name()),
        ("A", "A/2")
    );
    // A loop needs no HELLO in time, and is known by where it comes from.
    let mut peer = first.open(Origin::Loop(LoopId(2)), "0.0.0.0:0").expect("it is a loop");
    first.pass(5_000);
    assert!(!first.closes(peer.id));
    assert_eq!(first.line(&mut peer, "HELLO herd/1 A 0000000000000007"), Next::Read);
    assert!(!first.server.may_stop() && second.server.may_stop());
    first.server.handle_message(Message::LoopEnded(Ok(())), at(first.now));
    assert!(!first.server.may_stop());
    let failed = || Err(Failure::Loop("it panicked".to_owned()));
    first.server.handle_message(Message::LoopEnded(failed()), at(first.now));
    first.fetch();
    assert!(first.server.may_stop());
    assert!(first.commands.iter().any(|command| matches!(command, Command::Stop)));
    assert_eq!(first.server.application().take_failure(), failed().err());
    first.replay(vec![Message::LoopEnded(Ok(())), Message::LoopEnded(failed())]);
}

/// The loop may have no time for the rest of the commands: then more may have changed before it asks again.
#[test]
fn a_link_that_was_looked_at_before_the_last_change_is_looked_at_again() {
    let mut world = World::of_loops("1.1.1.1:9", 3, FIRST_LOOP);
    let is_dial = |command: &mut Command<Message>| matches!(command, Command::Dial(_));
    let dials: Vec<_> = world.commands.extract_if(.., is_dial).collect();
    let mut links = Vec::new();
    for command in dials {
        let Command::Dial(dial) = command else {
            continue;
        };
        let mut link = world.connects(&dial, "1.1.1.1:9");
        let name = if links.is_empty() { "B" } else { "A" };
        let resume = format!("RESUME 0 0 000000000000000{} {name}", 2 + links.len());
        assert_eq!(world.line(&mut link, &resume), Next::Read);
        links.push(link);
    }
    let mut client = world.open(Origin::Accepted(CLIENTS), "9.9.9.9:9").expect("it is accepted");
    links.iter_mut().for_each(|link| assert_eq!(world.fill(link), Next::Read));
    world.commands.clear();
    let mut tell = |world: &mut World, time: u32| {
        let line = format!("IAMAT one +1+1 1700000000.{time}");
        let mut io = Io::new(client.id, client.peer, at(world.now), &mut client.said, 1 << 20);
        let line = Line::Whole(line.as_bytes());
        assert_eq!(world.server.handle_line(&mut client.session, line, &mut io), Next::Read);
    };
    let fills = |command: &Command<Message>, link: &Connection| matches!(command, Command::Fill(id) if *id == link.id);
    tell(&mut world, 1);
    let first = world.server.poll_command().expect("three links have pending changes");
    assert!(fills(&first, &links[0]));
    assert_eq!(world.fill(&mut links[0]), Next::Read);
    tell(&mut world, 2);
    world.fetch();
    for (place, link) in links.iter().enumerate() {
        assert!(world.commands.iter().any(|one| fills(one, link)), "link {place} was forgotten");
    }
}

#[test]
fn a_dial_has_its_time_from_when_it_was_asked_for() {
    let mut world = World::new("1.1.1.1:9");
    let first = world.dial();
    world.fails(&first, "1.1.1.1:9", None);
    world.pass(10_000);
    let second = world.dial();
    world.pass(14_999);
    assert!(!world.cancels(&second));
    world.pass(1);
    assert!(world.cancels(&second));
    world.replay(Vec::new());
}

#[test]
fn peers_that_do_not_say_hello_are_limited_in_number_and_time() {
    let mut world = World::new("1.1.1.1:9");
    let mut peers: Vec<Connection> = Vec::new();
    for _ in 0..65 {
        peers.push(world.open(Origin::Accepted(PEERS), "1.1.1.1:9").expect("it is accepted"));
    }
    let closed = |world: &World| peers.iter().filter(|peer| world.closes(peer.id)).count();
    assert_eq!(closed(&world), 1);
    assert!(world.closes(peers[0].id), "the one that had the longest time");
    world.pass(4_999);
    assert_eq!(closed(&world), 1);
    let behind = peers[64].id;
    world.now += Duration::from_millis(1);
    let mut is_behind = |id| id == behind;
    world.server.handle_timeout(&mut Due::new(at(world.now), &mut is_behind));
    world.fetch();
    assert_eq!(closed(&world), 64);
    world.pass(0);
    assert_eq!(closed(&world), 65, "it was behind, and is judged at the next call");
    let mut late = peers.remove(0);
    assert_eq!(world.line(&mut late, "HELLO herd/1 B 0000000000000002"), Next::Finish);
    world.replay(Vec::new());
}

// Another configuration.

/// Server A and those that it is to have as neighbours, by name and `advertise`.
fn herd(neighbours: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    let others = neighbours.iter().map(|(name, advertise)| {
        let mut server = Config::default().servers[1].clone();
        server.name = (*name).to_owned();
        server.advertise = (*advertise).to_owned();
        server.neighbours = vec![0];
        server
    });
    let mut own = config.servers[0].clone();
    own.name = "A".to_owned();
    own.neighbours = (1..=neighbours.len()).collect();
    config.servers = std::iter::once(own).chain(others).collect();
    config
}

impl World {
    fn reconfigure(&mut self, config: &Config) {
        let now = at(self.now);
        self.server.application().reconfigure(&Reconfigured::plain(config, None), now);
        self.fetch();
        self.pass(0);
    }

    /// A and B at 1.1.1.1:9, linked both ways.
    fn linked() -> (World, Connection, Connection) {
        let mut world = World::new("1.1.1.1:9");
        let dial = world.dial();
        let mut link = world.connects(&dial, "1.1.1.1:9");
        assert_eq!(world.line(&mut link, RESUME), Next::Read);
        let mut peer = world.open(Origin::Accepted(PEERS), "1.1.1.1:7").expect("it is accepted");
        assert_eq!(world.line(&mut peer, HELLO), Next::Read);
        world.commands.clear();
        (world, link, peer)
    }

    fn closes_nothing(&self) -> bool {
        !self.commands.iter().any(|command| matches!(command, Command::Close(_)))
    }
}

const HELLO: &str = "HELLO herd/1 B 0000000000000002";

#[test]
fn an_unchanged_configuration_and_changes_that_do_not_concern_links_touch_none() {
    let (mut world, mut link, mut peer) = World::linked();
    let same = herd(&[("B", "1.1.1.1:9")]);
    world.reconfigure(&same);
    let mut other = herd(&[("B", "1.1.1.1:9")]);
    other.link.heartbeat = Duration::from_secs(2);
    other.limits.line_bytes = 99;
    other.places.timeout = Duration::from_secs(1);
    other.servers[0].peer_listen = address("127.0.0.1:9999");
    world.reconfigure(&other);
    assert!(world.dials_nothing() && world.closes_nothing(), "{:?}", world.commands);
    assert_eq!(world.line(&mut peer, "MARK 7"), Next::Read);
    assert_eq!(world.line(&mut link, "ACK 0"), Next::Read);
    world.closed(link);
    world.pass(100);
    let dial = world.dial();
    assert_eq!(dial.from, Some(address("127.0.0.1:9999")), "the next dial");
    assert_eq!(dial.timeout, Duration::from_secs(6), "three of the new heartbeats");
}

#[test]
fn a_neighbour_that_is_added_is_dialled_and_accepted_and_no_other_one_is() {
    let (mut world, ..) = World::linked();
    world.reconfigure(&herd(&[("B", "1.1.1.1:9"), ("South", "2.2.2.2:9")]));
    let dial = world.dial();
    assert_eq!(dial.to, Target::Address(address("2.2.2.2:9")));
    assert!(world.closes_nothing());
    let mut south = world.open(Origin::Accepted(PEERS), "2.2.2.2:7").expect("it is accepted");
    assert_eq!(world.line(&mut south, "HELLO herd/1 South 0000000000000003"), Next::Read);
    let mut link = world.connects(&dial, "2.2.2.2:9");
    assert_eq!(world.line(&mut link, "RESUME 0 0 0000000000000003 South"), Next::Read);
}

#[test]
fn a_removed_neighbour_is_disconnected_both_ways_and_its_hello_is_refused() {
    let (mut world, mut link, mut peer) = World::linked();
    world.reconfigure(&herd(&[]));
    assert!(world.closes(link.id) && world.closes(peer.id));
    assert_eq!(world.line(&mut link, "ACK 0"), Next::Finish, "what it still sends is not heard");
    assert_eq!(world.line(&mut peer, "MARK 1"), Next::Finish);
    world.closed(link);
    world.closed(peer);
    world.pass(100_000);
    assert!(world.dials_nothing());
    let mut again = world.open(Origin::Accepted(PEERS), "1.1.1.1:7").expect("it is accepted");
    assert_eq!(world.line(&mut again, HELLO), Next::Finish);
    assert!(again.said.starts_with(b"? HELLO"));

    // It comes back, beside another one.
    world.reconfigure(&herd(&[("C", "3.3.3.3:9"), ("B", "1.1.1.1:9")]));
    let dials: Vec<Target> = std::mem::take(&mut world.commands)
        .into_iter()
        .filter_map(|command| match command {
            Command::Dial(dial) => Some(dial.to),
            _ => None,
        })
        .collect();
    assert_eq!(dials, ["3.3.3.3:9", "1.1.1.1:9"].map(|to| Target::Address(address(to))));
    let mut again = world.open(Origin::Accepted(PEERS), "1.1.1.1:7").expect("it is accepted");
    assert_eq!(world.line(&mut again, HELLO), Next::Read);
}

#[test]
fn the_dial_of_a_removed_neighbour_is_cancelled() {
    let mut world = World::new("1.1.1.1:9");
    let dial = world.dial();
    world.reconfigure(&herd(&[]));
    assert!(world.cancels(&dial));
    world.reconfigure(&herd(&[("C", "3.3.3.3:9")]));
    assert_eq!(world.dial().to, Target::Address(address("3.3.3.3:9")));
    world.news(dial.ticket, DialEvent::Failed("late".to_owned()));
    assert!(world.open(Origin::Dialled(dial.ticket), "1.1.1.1:9").is_none(), "not C's");
}

#[test]
fn a_neighbour_is_dialled_again_only_if_its_address_has_really_changed() {
    // To another address: at once, and to no other place.
    let (mut world, link, peer) = World::linked();
    world.reconfigure(&herd(&[("B", "2.2.2.2:9")]));
    assert!(world.closes(link.id) && !world.closes(peer.id));
    assert_eq!(world.dial().to, Target::Address(address("2.2.2.2:9")));

    // To a name that has the address of the link: it stays.
    for (found, moves) in [("1.1.1.1:9", false), ("5.5.5.5:9", true)] {
        let (mut world, link, _peer) = World::linked();
        world.reconfigure(&herd(&[("B", "b.example:9")]));
        assert!(world.dials_nothing() && world.closes_nothing(), "nobody knows yet");
        let is_look_up = |command: &Command<Message>| matches!(command, Command::Resolve { .. });
        let Some(Command::Resolve { ticket, .. }) = world.commands.iter().find(|it| is_look_up(it))
        else {
            panic!("it must be looked up: {:?}", world.commands);
        };
        world.news(*ticket, DialEvent::Resolved(&[address(found)]));
        world.pass(0);
        assert_eq!((world.closes(link.id), world.dials_nothing()), (moves, !moves), "{found}");
    }

    // While it is dialled: the dial is replaced.
    let mut world = World::new("1.1.1.1:9");
    let dial = world.dial();
    world.reconfigure(&herd(&[("B", "2.2.2.2:9")]));
    assert!(world.cancels(&dial));
    assert_eq!(world.dial().to, Target::Address(address("2.2.2.2:9")));
}

#[test]
fn an_unchanged_neighbour_that_is_being_dialled_is_not_dialled_again() {
    let mut world = World::new("1.1.1.1:9");
    let dial = world.dial();
    world.reconfigure(&herd(&[("B", "1.1.1.1:9")]));
    assert!(world.dials_nothing() && !world.cancels(&dial));
    world.connects(&dial, "1.1.1.1:9");
}

#[test]
fn one_reload_runs_and_one_is_remembered() {
    let mut world = World::new("1.1.1.1:9");
    let job = |source: ReloadSource| Job {
        name: if source.is_some() { "text" } else { "file" },
        run: Box::new(|| Message::FilesChanged),
        failed: Box::new(|_| Message::FilesChanged),
    };
    let begun = |world: &mut World| {
        world.fetch();
        let is_job = |command: &mut Command<Message>| matches!(command, Command::Run(_));
        let jobs = world.commands.extract_if(.., is_job).map(|command| match command {
            Command::Run(job) => job.name,
            other => panic!("{other:?}"),
        });
        jobs.collect::<Vec<_>>()
    };
    let now = at(Duration::ZERO);
    let server = world.server.application();
    assert!(server.reload_state().last_successful);
    server.handle_control(Control::Reload(None), now);
    server.reload_by(Box::new(job));
    server.handle_control(Control::Reload(None), now);
    server.handle_control(Control::Reload(None), now);
    server.handle_message(Message::FilesChanged, now);
    server.handle_control(Control::Reload(Some(b"text".to_vec())), now);
    assert_eq!(begun(&mut world), ["file"]);
    let failed = || Message::ReloadEnded(ReloadEnd::Failed("it is broken".to_owned()));
    world.server.application().handle_message(failed(), now);
    assert!(!world.server.application().reload_state().last_successful);
    assert_eq!(begun(&mut world), ["text"], "the last of three");
    let later = vec!["loops: 1 -> 2".to_owned()];
    let done = Message::ReloadEnded(ReloadEnd::Done { changes: Vec::new(), later, refused: None });
    world.server.application().handle_message(done, now);
    let state = world.server.application().reload_state();
    assert!(state.last_successful && state.restart_required);
    assert_eq!(begun(&mut world), [""; 0]);
}

/// A herd whose neighbours are dialled with TLS.
fn dials_tls() -> Config {
    let mut config = Config::default();
    config.tls.neighbours.dials_tls = true;
    config
}

#[test]
fn a_neighbour_is_dialled_with_its_own_tls_and_never_in_plain_text_for_want_of_it() {
    let mut world = World::of("1.1.1.1:9", dials_tls(), FIRST_LOOP, &[("B", TlsId(7))]);
    assert_eq!(world.dial().tls, Some(TlsId(7)));
    world.replay(Vec::new());
    let mut world = World::of("1.1.1.1:9", dials_tls(), FIRST_LOOP, &[("C", TlsId(7))]);
    let dial = world.dial();
    assert_eq!(dial.tls, Some(TlsId(u16::MAX)), "the loop has none of that number");
    world.news(dial.ticket, DialEvent::Failed("no such TLS configuration".to_owned()));
    world.pass(100);
    assert!(world.dial().tls.is_some());
    world.replay(Vec::new());
}

#[test]
fn a_tls_handshake_takes_its_time_from_that_of_its_address() {
    let mut world = World::of("b.example:9", dials_tls(), FIRST_LOOP, &[("B", TlsId(7))]);
    let dial = world.dial();
    world.resolved(&dial, "1.1.1.1:9 2.2.2.2:9");
    world.pass(900);
    world.news(dial.ticket, DialEvent::Handshaking(address("1.1.1.1:9")));
    world.pass(99);
    assert!(!world.cancels(&dial), "a second from the dial to RESUME");
    world.pass(1);
    assert!(world.cancels(&dial));
    let second = world.dial();
    assert_eq!((&second.to, second.tls), (&Target::Address(address("2.2.2.2:9")), Some(TlsId(7))));
    world.replay(Vec::new());
}
