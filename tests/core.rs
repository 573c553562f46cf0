//! Claim: without a socket, a clock or a thread the core answers the conversations of
//! `conformance/lines.txt` as a real server does, however their bytes are split.

mod common;

use std::time::Duration;

use common::cases::{Case, Line, Port, Step, parse};
use common::shown;
use herd_mio::application::LineBuffer;
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::connections::{Client, Connection, ConnectionId, Role, Server, Verdict};
use herd_mio::herd::Peer;
use herd_mio::protocol::{Dialect, Epoch};

/// One connection to one server, and nothing else in the world.
struct World {
    server: Server,
    role: Role,
    input: LineBuffer,
    output: Vec<u8>,
    is_closed: bool,
}

impl World {
    fn new(case: &Case) -> World {
        let dialect = match &case.dialect[..] {
            "course" => Dialect::Course,
            _ => Dialect::Report,
        };
        let config = Config { dialect, ..Config::default() };
        World {
            server: Server::new(&config, 0, Epoch(0xabcd), 1, NOW),
            role: match case.port {
                Port::Clients => Role::Client(Client::default()),
                Port::Peers => Role::Peer(Peer::Unidentified),
            },
            input: LineBuffer::default(),
            output: Vec::new(),
            is_closed: false,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
        self.handle_lines();
    }

    fn handle_lines(&mut self) {
        let limit = self.server.line_bytes(&self.role);
        while !self.is_closed {
            let Some(line) = self.input.next_line(limit) else {
                break;
            };
            let id = ConnectionId { slot: 0, generation: 1 };
            let peer = ([127, 0, 0, 1], 1).into();
            let on = Connection { id, role: &mut self.role, peer };
            match self.server.handle_line(on, line, NOW, &mut self.output) {
                Verdict::Next => {}
                Verdict::Close => self.is_closed = true,
                Verdict::Wait => panic!("no case asks for places of a client that is known"),
            }
        }
    }

    /// The other side sends no more, and all is answered.
    fn end(&mut self) {
        self.input.end();
        self.handle_lines();
    }
}

/// What must have come back when all was sent.
fn compare(case: &Case, way: &str, output: &[u8]) {
    let mut rest = output;
    for step in &case.steps {
        let Step::Expect(wanted) = step else {
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

#[test]
fn every_case_is_answered_as_written_and_however_it_is_split() {
    for case in &parse(include_bytes!("conformance/lines.txt")) {
        let sent = case.sent();
        let half_closes = case.steps.iter().any(|step| matches!(step, Step::HalfClose));
        let run = |way: &str, pieces: &[&[u8]]| {
            let mut world = World::new(case);
            for piece in pieces {
                world.receive(piece);
            }
            if half_closes {
                world.end();
            }
            compare(case, way, &world.output);
            let wants_end = case.steps.iter().any(|step| matches!(step, Step::Eof));
            assert_eq!(wants_end, world.is_closed || half_closes, "{} ({way})", case.name);
        };
        for first in 0..=sent.len() {
            let (left, right) = sent.split_at(first);
            run(&format!("split at {first}"), &[left, right]);
        }
        run("byte by byte", &sent.chunks(1).collect::<Vec<_>>());
    }
}

/// A time of day at which every case makes sense.
const NOW: Now = Now { elapsed: Duration::ZERO, wall: WallTime(1_700_000_000_000_000_000) };
