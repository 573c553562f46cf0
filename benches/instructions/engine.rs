//! A member of an engine and its clients, each of which waits for its answer before it says more: all that the server does
//! for them between two system calls.

use std::sync::Arc;

use herd_mio::application::{
    Application, Command, ConnectionId, Io, Line, Next, Opened, Origin, TlsId,
};
use herd_mio::config::{Config, EngineConfig, EngineKeep, EngineUrl};
use herd_mio::nats::{Credentials, StreamConfig};
use herd_mio::server::{EngineSetup, PreparedEngine, Server, ServerSetup, Session};

use super::{NOW, batch, io, rounds};

/// Clients, and so lines of a round.
pub const CLIENTS_MOVING: u64 = 64;

/// What a member does for an IAMAT, from its line to its answer, and the engine's messages for it.
pub fn moves() {
    let lines = CLIENTS_MOVING as usize;
    let prepare =
        |member: &mut Member, round| (member.nats.answer(&member.sent), batch(lines, round));
    let member = Member::new(Config::default(), EngineKeep::All);
    rounds(member, prepare, |member, (answers, lines)| member.turn(answers, lines));
}

/// What a member that keeps a cache does for a WHATSAT, with the engine's answer. It holds half of the clients that are asked
/// for.
pub fn asks() {
    let config = Config { max_clients: CACHED, ..Config::default() };
    let prepare = |member: &mut Member, round| {
        let lines: String = (0..CLIENTS_MOVING as usize).map(|at| query(at + 64 * round)).collect();
        (member.nats.answer(&member.sent), lines.into_bytes())
    };
    let member = Member::new(config, EngineKeep::Cache);
    rounds(member, prepare, |member, (answers, lines)| member.turn(answers, lines));
}

fn query(number: usize) -> String {
    format!("WHATSAT host-{:07}.cs.ucla.edu 1 1\n", number * 7_919 % (2 * CACHED))
}

/// Clients that the cache holds.
const CACHED: usize = 1_000;

/// The server and its connections.
struct Member {
    server: Server,
    engine: Option<Session>,
    clients: Vec<Session>,
    /// To the engine, since it last answered.
    sent: Vec<u8>,
    output: Vec<u8>,
    answered: usize,
    nats: Nats,
}

impl Member {
    fn new(mut config: Config, keep: EngineKeep) -> Member {
        config.servers.truncate(1);
        config.servers[0].neighbours.clear();
        let url = EngineUrl { host: "nats.example".to_owned(), port: 4_222, needs_tls: false };
        let engine = EngineConfig {
            servers: vec![url],
            bucket: "herd".to_owned(),
            members: vec![0],
            replicas: 1,
            keep,
            ..EngineConfig::default()
        };
        config.engine = Some(engine.clone());
        let mut server = Server::new(ServerSetup::plain(&config, NOW));
        let prepared = || PreparedEngine { credentials: Credentials::default(), tls: TlsId(1) };
        let setup = EngineSetup {
            config: engine,
            prepare: Arc::new(move |_| Ok(prepared())),
            inbox: "_INBOX.0123456789abcdef".to_owned(),
            must_fit: false,
            seed: 1,
        };
        server.join_engine(setup, NOW);
        let clients = (0..CLIENTS_MOVING).map(|_| Session::Client(Default::default())).collect();
        let (sent, output) = (Vec::new(), Vec::new());
        let nats = Nats { sequence: 0 };
        let mut member = Member { server, engine: None, clients, sent, output, answered: 0, nats };
        member.connect();
        member
    }

    /// Until the engine is in sync.
    fn connect(&mut self) {
        self.run_commands();
        assert!(self.engine.is_some(), "it dials the engine");
        let info = b"INFO {\"server_name\":\"n\",\"version\":\"2.15.1\",\"headers\":true,\"jetstream\":true,\
                     \"max_payload\":1048576}\r\n";
        self.engine_sends(info);
        self.engine_sends(b"PONG\r\n");
        for _ in 0..3 {
            let answers = self.nats.answer(&self.sent);
            self.engine_sends(&answers);
        }
    }

    fn turn(&mut self, answers: &[u8], lines: &[u8]) {
        self.engine_sends(answers);
        for (slot, line) in lines.split(|byte| *byte == b'\n').enumerate() {
            let Some(client) = self.clients.get_mut(slot) else { break };
            let line = Line::Whole(line);
            let next =
                self.server.handle_line(client, line, &mut io(slot as u32, &mut self.output));
            assert!(matches!(next, Next::Owe | Next::Wait));
        }
        self.run_commands();
        assert_eq!(self.answered % self.clients.len(), 0);
    }

    fn engine_sends(&mut self, bytes: &[u8]) {
        self.sent.clear();
        if let Some(engine) = self.engine.as_mut().filter(|_| !bytes.is_empty()) {
            let next = self.server.handle_bytes(engine, bytes, &mut io(ENGINE, &mut self.sent));
            assert_eq!(next, Next::Read);
        }
        self.run_commands();
    }

    /// Does what the server asks of its loop.
    fn run_commands(&mut self) {
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::Run(job) => self.server.handle_message((job.run)(), NOW),
                Command::Dial(dial) => {
                    let opened = Opened::plain(Origin::Dialled(dial.ticket));
                    let opened = self.server.handle_open(opened, &mut io(ENGINE, &mut self.sent));
                    self.engine = opened.map(|(session, _)| session);
                }
                Command::Fill(ConnectionId { slot: ENGINE, .. }) => {
                    let Some(engine) = &mut self.engine else { continue };
                    self.server.fill(engine, &mut io(ENGINE, &mut self.sent));
                }
                Command::Fill(ConnectionId { slot, .. }) => {
                    self.output.clear();
                    let mut io: Io<'_> = io(slot, &mut self.output);
                    self.server.fill(&mut self.clients[slot as usize], &mut io);
                    self.answered += usize::from(self.output.starts_with(b"AT "));
                }
                other => panic!("it asks for {other:?}"),
            }
        }
    }
}

/// What stands for NATS.
struct Nats {
    /// Of the last message in the bucket.
    sequence: u64,
}

impl Nats {
    /// Answers to what was sent to it, and what it delivers.
    fn answer(&mut self, sent: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        let mut rest = sent;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = std::str::from_utf8(&rest[..end]).expect("a control line").trim_end();
            rest = &rest[end + 1..];
            let fields: Vec<&str> = line.split(' ').collect();
            if !matches!(fields[0], "PUB" | "HPUB") {
                continue;
            }
            let (subject, reply) = (fields[1], fields[2]);
            let number = |at: usize| fields[fields.len() - at].parse::<usize>().expect("a length");
            let headers = if fields[0] == "HPUB" { number(2) } else { 0 };
            let (headers, payload) = rest[..number(1)].split_at(headers);
            rest = &rest[number(1) + 2..];
            if subject.starts_with("$KV.") {
                self.sequence += 1;
                let sequence = self.sequence;
                let body = format!("{{\"stream\":\"KV_herd\",\"seq\":{sequence}}}");
                message(reply, 1, "", &[], body.as_bytes(), &mut answers);
                let of =
                    format!("$JS.ACK.KV_herd.c.1.{sequence}.{sequence}.1700000000000000000.0 ");
                message(subject, 2, &of, headers, payload, &mut answers);
            } else if let Some(of) = subject.strip_prefix("$JS.API.DIRECT.GET.KV_herd.") {
                let sequence = self.sequence_of(of);
                let id = of.strip_prefix("$KV.herd.").expect("a key").replace("=2E", ".");
                let headers = format!(
                    "NATS/1.0\r\nNats-Stream: KV_herd\r\nNats-Subject: {of}\r\nNats-Sequence: {sequence}\r\n\
                     Nats-Time-Stamp: 2026-11-26T17:00:00.123456789Z\r\n\r\n"
                );
                let value = format!(
                    "UPDATELOC {id} +34.068930-118.445127 1700000000.{sequence:09} Bare +0.263873386"
                );
                message(reply, 1, "", headers.as_bytes(), value.as_bytes(), &mut answers);
            } else if subject.starts_with("$JS.API.STREAM.INFO") {
                let config = StreamConfig::of_bucket("herd", 1).to_json();
                let config = String::from_utf8(config).expect("a configuration");
                let body = format!("{{\"config\":{config},\"created\":\"2026-01-01T00:00:00Z\"}}");
                message(reply, 1, "", &[], body.as_bytes(), &mut answers);
            } else if subject.starts_with("$JS.API.CONSUMER.CREATE") {
                message(reply, 1, "", &[], b"{\"num_pending\":0}", &mut answers);
            }
        }
        answers
    }

    /// The number of the message of a key that is only asked for.
    fn sequence_of(&self, subject: &str) -> u64 {
        let digits = subject.bytes().filter(u8::is_ascii_digit).take(7);
        digits.fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0')) + 1
    }
}

fn message(
    subject: &str,
    sid: u64,
    reply: &str,
    headers: &[u8],
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let all = headers.len() + payload.len();
    let line = match headers.len() {
        0 => format!("MSG {subject} {sid} {reply}{all}\r\n"),
        of_headers => format!("HMSG {subject} {sid} {reply}{of_headers} {all}\r\n"),
    };
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// The engine's connection.
const ENGINE: u32 = 1_000;
