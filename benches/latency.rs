//! What one line costs: to parse, to handle, to be answered over loopback, to reach a neighbour, to be recorded.
//!
//! Over loopback the real binary runs in processes of its own, with the log off. Compare figures
//! of one run only: machines differ, and so does one machine from hour to hour.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use herd_mio::application::{Application, ConnectionId, Io, Line, Opened, Origin};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::http::{ResponseProgress, ResponseReader};
use herd_mio::logging::{Escaped, Format, LogSettings, Traffic, target};
use herd_mio::places::Area;
use herd_mio::places::gazetteer::Gazetteer;
use herd_mio::places::{answer, trim};
use herd_mio::protocol::{ClientRequest, Dialect};
use herd_mio::server::{CLIENTS, Server, ServerSetup};
use log::{Level, Log, Metadata, Record};

const IAMAT: &[u8] = b"IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997";

/// Of an output that is never full.
const ROOM: usize = 1 << 20;

fn parse(criterion: &mut Criterion) {
    criterion.bench_function("parse an IAMAT", |bencher| {
        bencher.iter(|| ClientRequest::parse(std::hint::black_box(IAMAT), Dialect::Report));
    });
}

fn handle(criterion: &mut Criterion) {
    let now = Now { elapsed: Duration::ZERO, wall: WallTime(1_700_000_000_000_000_000) };
    let config = &Config::default();
    let mut server = Server::new(ServerSetup::plain(config, now));
    let id = ConnectionId { slot: 0, generation: 1 };
    let peer = ([127, 0, 0, 1], 1).into();
    let mut out = Vec::new();
    let opened = Opened::plain(Origin::Accepted(CLIENTS));
    let opened = server.handle_open(opened, &mut Io::new(id, peer, now, &mut out, ROOM));
    let (mut session, _) = opened.expect("nobody is refused");
    let mut seconds = 1_000_000_000u64;
    criterion.bench_function("handle an IAMAT that moves its client", |bencher| {
        bencher.iter(|| {
            seconds += 1;
            let mut line = *b"IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 0000000000";
            let digits = line.len() - 10;
            let mut rest = seconds;
            for place in line[digits..].iter_mut().rev() {
                *place = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            out.clear();
            let mut io = Io::new(id, peer, now, &mut out, ROOM);
            let next = server.handle_line(&mut session, Line::Whole(&line), &mut io);
            while server.poll_command().is_some() {}
            next
        });
    });
}

fn places(criterion: &mut Criterion) {
    let gazetteer = Gazetteer::unpack();
    let query = Area { latitude: 34.068930, longitude: -118.445127, radius: 16_093.44 };
    criterion.bench_function("answer a WHATSAT from the gazetteer", |bencher| {
        bencher.iter(|| answer::trimmed(&gazetteer, &query, 5));
    });
}

/// What a query to a Places service costs beside the network: its answer read, as it comes from TLS in
/// records of 16 KiB, and trimmed.
fn answer(criterion: &mut Criterion) {
    let result = format!("{{\n         \"name\" : \"{}\"\n      }}", "x".repeat(1_000));
    let results = vec![result; 20].join(",\n      ");
    let body = format!("{{\n   \"results\" : [ {results} ],\n   \"status\" : \"OK\"\n}}\n");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\n\
                Date: Mon, 05 Oct 2026 10:00:00 GMT\r\nServer: x\r\n";
    let by_length = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body.as_bytes().chunks(4_096) {
        chunked += &format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
    }
    chunked += "0\r\n\r\n";
    let read = |text: &str| {
        let mut reader = ResponseReader::new(1024 * 1024);
        let mut progress = Ok(ResponseProgress::More);
        for record in text.as_bytes().chunks(16 * 1024) {
            progress = reader.push(record);
        }
        progress
    };
    for (name, text) in [("by length", by_length), ("in chunks", chunked)] {
        assert!(
            matches!(read(&text), Ok(ResponseProgress::Done(answer)) if answer.body == body.as_bytes())
        );
        criterion.bench_function(&format!("parse an answer of 20 KiB {name}"), |bencher| {
            bencher.iter(|| read(std::hint::black_box(&text)));
        });
    }
    criterion.bench_function("trim an answer of 20 results to 5", |bencher| {
        bencher.iter(|| trim::trim(std::hint::black_box(body.as_bytes()), "results", 5));
    });
}

/// Two servers, neighbours of each other, as processes that end with this.
struct Pair {
    processes: Vec<Child>,
    ports: [u16; 2],
    _folder: tempfile::TempDir,
}

impl Pair {
    fn start() -> Pair {
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<u16> = free_ports();
        let config = format!(
            "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:{}\"\npeer_listen = \"127.0.0.1:{}\"\n\
             neighbours = [\"B\"]\n[[server]]\nname = \"B\"\nlisten = \"127.0.0.1:{}\"\n\
             peer_listen = \"127.0.0.1:{}\"\n",
            ports[0], ports[1], ports[2], ports[3]
        );
        let file = folder.path().join("pair.toml");
        std::fs::write(&file, config).expect("a configuration");
        let start = |name: &str| {
            let mut process = Command::new(env!("CARGO_BIN_EXE_herd-mio"))
                .args(["--server", name, "--log-level", "off", "--config"])
                .arg(&file)
                .arg("--log-dir")
                .arg(folder.path())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a server");
            let mut line = String::new();
            let stderr = process.stderr.as_mut().expect("it is piped");
            BufReader::new(stderr).read_line(&mut line).expect("a word");
            assert!(line.contains("listens on"), "{line}");
            process
        };
        let processes = vec![start("A"), start("B")];
        Pair { processes, ports: [ports[0], ports[2]], _folder: folder }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_ports() -> Vec<u16> {
    let listeners: Vec<_> =
        (0..4).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    listeners.iter().map(|one| one.local_addr().expect("bound").port()).collect()
}

struct Talk {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    answer: Vec<u8>,
}

impl Talk {
    fn with(port: u16) -> Talk {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        Talk { stream, reader, answer: Vec::new() }
    }

    fn ask(&mut self, line: &str) -> &[u8] {
        self.stream.write_all(line.as_bytes()).expect("sent");
        self.answer.clear();
        self.reader.read_until(b'\n', &mut self.answer).expect("answered");
        &self.answer
    }
}

fn loopback(criterion: &mut Criterion) {
    let pair = Pair::start();
    let [mut near, mut far] = pair.ports.map(Talk::with);
    let mut seconds = 1_000_000_000u64;
    criterion.bench_function("an IAMAT and its answer over loopback", |bencher| {
        bencher.iter(|| {
            seconds += 1;
            near.ask(&format!("IAMAT kiwi +34.068930-118.445127 {seconds}\n")).len()
        });
    });
    criterion.bench_function("an IAMAT until a neighbour knows it", |bencher| {
        bencher.iter(|| {
            seconds += 1;
            near.ask(&format!("IAMAT kiwi +34.068930-118.445127 {seconds}\n"));
            let expected = format!("AT AT kiwi +34.068930-118.445127 {seconds}\n");
            loop {
                let known = far.ask("WHATSAT kiwi 0 0\n") == expected.as_bytes();
                if far.answer.starts_with(b"AT") {
                    far.skip_places();
                }
                if known {
                    break;
                }
            }
        });
    });
}

impl Talk {
    /// Passes over the rest of an answer, which ends with an empty line.
    fn skip_places(&mut self) {
        let mut line = Vec::new();
        while line != b"\n" {
            line.clear();
            self.reader.read_until(b'\n', &mut line).expect("the rest of the answer");
        }
    }
}

/// A record of a line that came in, by three ways: a logger that only formats and appends, fern before it,
/// and the writer for traffic. The last of all, because the log of this process is on from then on.
fn records(criterion: &mut Criterion) {
    let line = IAMAT;
    let peer: SocketAddr = ([127, 0, 0, 1], 5_123).into();
    let plain = Plain(Mutex::default());
    criterion.bench_function("record a line, a plain logger", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            let text = format_args!("Received from {peer}: {}", Escaped(line));
            let record = Record::builder().level(Level::Info).target("client").args(text).build();
            plain.log(&record);
            number += 1;
            if number % RECORDS_PER_TURN == 0 {
                plain.0.lock().expect("a text").clear();
            }
        });
    });
    for format in [Format::Report, Format::Json] {
        // A process has one log, so the second format is one for another process.
        let is_chosen = std::env::var_os("LOG_FORMAT").is_some_and(|name| name == "json");
        if is_chosen == (format == Format::Json) {
            log_by(criterion, format, peer, line);
        }
    }
}

/// The log of this process, written to nowhere.
fn log_by(criterion: &mut Criterion, format: Format, peer: SocketAddr, line: &'static [u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/dev/null", folder.path().join("Bench_log.txt")).expect("a link");
    let settings = LogSettings { format, ..LogSettings::default() };
    let log = herd_mio::logging::start(folder.path(), "Bench", &settings).expect("a log");
    let mut number = 0;
    let mut turn_ends = || {
        number += 1;
        if number % RECORDS_PER_TURN == 0 {
            log.submit();
        }
    };
    let name = format.name();
    criterion.bench_function(&format!("record a line, through fern, {name}"), |bencher| {
        bencher.iter(|| {
            log::info!(target: target::CLIENT, "Received from {peer}: {}", Escaped(line));
            turn_ends();
        });
    });
    criterion.bench_function(&format!("record a line, the traffic writer, {name}"), |bencher| {
        bencher.iter(|| {
            Traffic::Client.received(std::hint::black_box(&peer), std::hint::black_box(line));
            turn_ends();
        });
    });
}

/// A logger that does what ours did without fern: it formats, then appends under a lock.
struct Plain(Mutex<String>);

impl Log for Plain {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut text = self.0.lock().expect("a text");
        text.push_str("06-Jun-19 18:30:55");
        writeln!(text, " - INFO: {}", record.args()).expect("a String takes all");
    }

    fn flush(&self) {}
}

const RECORDS_PER_TURN: usize = 64;

criterion_group!(benches, parse, handle, places, answer, loopback, records);
criterion_main!(benches);
