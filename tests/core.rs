//! Claim: without a socket, a clock or a thread the server answers the conversations of
//! `conformance/lines.txt` as a real one does, however their bytes are split; and what was recorded of
//! them is answered to the letter when it is replayed.

mod common;

use std::time::Duration;

use common::cases::{Case, CaseStep, Line, Port, parse};
use common::shown;
use herd_mio::application::recorder::{Recorder, replay};
use herd_mio::application::{
    Application, Closed, ClosedConnection, ConnectionId, Framing, Io, LineBuffer, Next, Opened,
    Origin, Policy,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::protocol::{Dialect, Epoch};
use herd_mio::server::{self, CLIENTS, PEERS, Server, Session};

/// One connection to one server, and nothing else in the world.
struct World {
    server: Recorder<Server, Vec<u8>>,
    session: Session,
    policy: Policy,
    origin: Origin,
    input: LineBuffer,
    output: Vec<u8>,
    is_closed: bool,
}

impl World {
    fn new(case: &Case) -> World {
        let origin = match case.port {
            Port::Clients => Origin::Accepted(CLIENTS),
            Port::Peers => Origin::Accepted(PEERS),
        };
        let mut server = Recorder::new(server(case), Vec::new());
        let mut output = Vec::new();
        let mut io = Io::new(ID, peer(), NOW, &mut output, ROOM);
        let opened = server.handle_open(Opened::plain(origin), &mut io);
        let (session, policy) = opened.expect("nothing is refused");
        let (input, is_closed) = (LineBuffer::default(), false);
        World { server, session, policy, origin, input, output, is_closed }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
        self.handle_lines();
    }

    fn handle_lines(&mut self) {
        let Framing::Lines(limit) = self.policy.framing else {
            panic!("it sends lines");
        };
        while !self.is_closed {
            let Some(line) = self.input.next_line(limit) else {
                break;
            };
            let mut io = Io::new(ID, peer(), NOW, &mut self.output, ROOM);
            match self.server.handle_line(&mut self.session, line, &mut io) {
                Next::Read => {}
                Next::Finish => self.is_closed = true,
                next => panic!("{next:?}, and no case asks for places of a client that is known"),
            }
            while self.server.poll_command().is_some() {}
        }
    }

    /// The other side sends no more, and all is answered.
    fn end(&mut self) {
        self.input.end();
        self.handle_lines();
    }

    /// The connection is closed. What was recorded of it.
    fn close(mut self) -> String {
        let (origin, why) = (self.origin, &Closed::Finished);
        let closed = ClosedConnection { id: ID, peer: peer(), origin, why };
        self.server.handle_closed(closed, self.session, NOW);
        self.server.handle_turn_end();
        let recording = self.server.into_parts().1.expect("memory can be written");
        String::from_utf8(recording).expect("a recording is text")
    }
}

fn server(case: &Case) -> Server {
    let dialect = match &case.dialect[..] {
        "course" => Dialect::Course,
        _ => Dialect::Report,
    };
    let config = &Config { dialect, ..Config::default() };
    let setup = server::ServerSetup::plain(config, NOW);
    Server::new(server::ServerSetup { epoch: Epoch(0xabcd), ..setup })
}

fn peer() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

/// What must have come back when all was sent.
fn compare(case: &Case, way: &str, output: &[u8]) {
    let mut rest = output;
    for step in &case.steps {
        let CaseStep::Expect(wanted) = step else {
            continue;
        };
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.unwrap_or_else(|| panic!("{} ({way}): no line is left", case.name));
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let is_right = match wanted {
            Line::Exactly(text) => line == text,
            Line::Matching(pattern) => pattern.is_match(line),
        };
        assert!(is_right, "{} ({way}): {} instead of {wanted:?}", case.name, shown(line));
    }
    assert!(rest.is_empty(), "{} ({way}): {} besides", case.name, shown(rest));
}

fn cases() -> Vec<Case> {
    parse(include_bytes!("conformance/lines.txt"))
}

#[test]
fn every_case_is_answered_as_written_and_however_it_is_split() {
    for case in &cases() {
        let sent = case.sent();
        let half_closes = case.steps.iter().any(|step| matches!(step, CaseStep::HalfClose));
        let run = |way: &str, pieces: &[&[u8]]| {
            let mut world = World::new(case);
            for piece in pieces {
                world.receive(piece);
            }
            if half_closes {
                world.end();
            }
            compare(case, way, &world.output);
            let wants_end = case.steps.iter().any(|step| matches!(step, CaseStep::Eof));
            assert_eq!(wants_end, world.is_closed || half_closes, "{} ({way})", case.name);
        };
        for first in 0..=sent.len() {
            let (left, right) = sent.split_at(first);
            run(&format!("split at {first}"), &[left, right]);
        }
        run("byte by byte", &sent.chunks(1).collect::<Vec<_>>());
    }
}

#[test]
fn a_recording_of_each_case_is_replayed_without_a_difference() {
    for case in &cases() {
        let mut world = World::new(case);
        world.receive(&case.sent());
        world.end();
        let recording = world.close();
        assert!(recording.starts_with("open\taccepted"), "{recording}");
        let replayed = replay(&recording, server(case), &mut || None).expect("it can be read");
        let difference = replayed.err();
        assert_eq!(difference, None, "{}", case.name);
    }
}

#[test]
fn a_replay_finds_the_call_that_is_answered_otherwise() {
    let case = cases().into_iter().find(|case| matches!(case.port, Port::Clients));
    let case = case.expect("clients have cases");
    let mut world = World::new(&case);
    world.receive(b"IAMAT kiwi +1.0+2.0 1700000000.0\nnonsense\n");
    let recording = world.close();
    let forged = recording.replace("? nonsense", "? nothing");
    let replayed = replay(&forged, server(&case), &mut || None).expect("it can be read");
    let difference = replayed.err().expect("the answer differs");
    assert!(difference.recorded.contains("? nothing"), "{difference:?}");
    assert!(difference.replayed.contains("? nonsense"), "{difference:?}");
    let unknown = replay("whatever\tthis is\n", server(&case), &mut || None);
    assert!(unknown.is_err_and(|error| error.to_string().starts_with("line 1: whatever")));
}

const ID: ConnectionId = ConnectionId { slot: 0, generation: 1 };
const ROOM: usize = 1 << 20;
/// A time of day at which every case makes sense.
const NOW: Now = Now { elapsed: Duration::ZERO, wall: WallTime(1_700_000_000_000_000_000) };
