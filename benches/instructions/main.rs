//! How many instructions the hot functions take, counted by callgrind. A count is the same on a
//! busy machine and on a quiet one, so a change of one part in a hundred can be seen, where a
//! clock would show the neighbours' work. It says nothing of caches, branches and the kernel: for
//! time see `latency` and `versus`.
//!
//! This program runs itself under valgrind once for each function, which then counts only what
//! happens inside [`measured`]. A word at the end of the command line picks the functions that
//! have it in their names: `just instructions IAMAT`.
//!
//! The counts are kept in `benches/instructions.toml`, so that a loss is seen and a gain stays: with
//! `--compare BUILD` the program fails where a count differs by more than 2 % in either direction, with
//! `--write BUILD` it writes the section of that build anew. A count depends on the compiler, on valgrind
//! and on the C library, so with other ones than the file names it reports, and fails nothing.

mod engine;
mod loops;
mod recorded;

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_mio::application::{
    Application, Command as LoopCommand, ConnectionId, Dial, Due, Framing, Io, Line, LineBuffer,
    LoopMetrics, Next, Opened, Origin, Target,
};
use herd_mio::clock::{Now, WallTime};
use herd_mio::config::Config;
use herd_mio::event_loop::Buffers;
use herd_mio::http::{Response, ResponseProgress, ResponseReader};
use herd_mio::logging::{Format, LogSettings, Party, Traffic};
use herd_mio::places::gazetteer::Gazetteer;
use herd_mio::places::google::{Answer, Api};
use herd_mio::places::trim::trim;
use herd_mio::places::{Area, answer};
use herd_mio::protocol::{ClientRequest, Dialect, FromDialler, Location};
use herd_mio::protocol::{Skew, Timestamp, split};
use herd_mio::server::admin::exposition::Exposition;
use herd_mio::server::{AllMetrics, CLIENTS, PEERS, Server, ServerSetup, Session};

/// A function, and by how many its count is divided: lines or calls of one round.
struct Case {
    name: &'static str,
    parts: u64,
    run: fn(),
}

const CASES: &[Case] = &[
    Case { name: "split an IAMAT into fields", parts: 1, run: fields },
    Case { name: "parse a location", parts: 1, run: location },
    Case { name: "parse a timestamp", parts: 1, run: timestamp },
    Case { name: "parse an IAMAT", parts: 1, run: iamat },
    Case { name: "parse an UPDATELOC", parts: 1, run: update },
    Case { name: "write a skew", parts: 1, run: skew },
    Case { name: "frame one of 16 lines", parts: BATCH, run: framing },
    Case { name: "an IAMAT, no neighbours", parts: 1, run: || iamats::<1>(0) },
    Case { name: "an IAMAT of 16, no neighbours", parts: BATCH, run: || iamats::<16>(0) },
    Case { name: "an IAMAT of 16, one neighbour down", parts: BATCH, run: || iamats::<16>(1) },
    Case { name: "tell a neighbour one update of 16", parts: BATCH, run: tell },
    Case { name: "receive one update of 16", parts: BATCH, run: receive_updates },
    Case { name: "hand one update of 16 to another loop", parts: BATCH, run: loops::hand_over },
    Case { name: "take one update of 16 from another loop", parts: BATCH, run: loops::take },
    Case {
        name: "an IAMAT of a member of an engine, one of 64 clients",
        parts: engine::CLIENTS_MOVING,
        run: engine::moves,
    },
    Case {
        name: "a WHATSAT of a cache of an engine, one of 64 clients",
        parts: engine::CLIENTS_MOVING,
        run: engine::asks,
    },
    Case { name: "a WHATSAT by the gazetteer, 20 places", parts: 1, run: whatsat },
    Case { name: "an HTTP answer of 20 places", parts: 1, run: http_answer },
    Case { name: "trim it to 5 places", parts: 1, run: trim_places },
    Case { name: "judge it, and trim it for one asker", parts: 1, run: judge_and_trim },
    Case { name: "a scrape, one neighbour", parts: 1, run: scrape },
    Case { name: "record a line, report", parts: BATCH, run: || record(Format::Report) },
    Case { name: "record a line, JSON", parts: BATCH, run: || record(Format::Json) },
];

fn main() -> ExitCode {
    let mut arguments = pico_args::Arguments::from_env();
    if let Ok(Some(name)) = arguments.opt_value_from_str::<_, String>("--under-valgrind") {
        CASES.iter().filter(|case| case.name == name).for_each(|case| (case.run)());
        return ExitCode::SUCCESS;
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: pico_args::Arguments) -> Result<(), String> {
    let error = |error: pico_args::Error| error.to_string();
    let compared: Option<String> = arguments.opt_value_from_str("--compare").map_err(error)?;
    let written: Option<String> = arguments.opt_value_from_str("--write").map_err(error)?;
    let rest = arguments.finish();
    let mut words = rest.iter().filter_map(|word| word.to_str());
    let word = words.find(|word| !word.starts_with('-')); // Cargo says `--bench`.
    let Some(tools) = recorded::tools() else {
        println!("left out: valgrind is not installed, so no instructions are counted");
        return Ok(());
    };
    let known = compared.as_deref().map(|build| recorded::read(build, &tools)).transpose()?;
    println!(
        "{:>12}  {:>8}  function",
        "instructions",
        if known.is_some() { "change" } else { "" }
    );
    let (mut counts, mut changed) = (Vec::new(), 0);
    for case in CASES.iter().filter(|case| word.is_none_or(|word| case.name.contains(word))) {
        let total = count(case).map_err(|reason| format!("{}: {reason}", case.name))?;
        let count = total / (ROUNDS * case.parts);
        let change = known.as_ref().map(|known| known.change(case.name, count));
        println!("{count:>12}  {:>8}  {}", change.as_ref().map_or("", |it| it.text()), case.name);
        changed += usize::from(change.is_some_and(|change| change.is_beyond_tolerance()));
        counts.push((case.name, count));
    }
    if let Some(build) = written {
        recorded::write(&build, &tools, &counts, word.is_none())?;
    }
    match known {
        Some(known) => known.verdict(changed),
        None => Ok(()),
    }
}

/// Runs this program under callgrind for one function, and reads the count.
fn count(case: &Case) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=instructions::measured*")
        .arg(own)
        .args(["--under-valgrind", case.name])
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    match collected.and_then(|count| count.trim().parse().ok()) {
        Some(count) if count > 0 && output.status.success() => Ok(count),
        _ => Err(format!("valgrind counted nothing:\n{said}")),
    }
}

/// What is counted, and nothing else. Valgrind knows it by this name.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

/// A few rounds that are not counted, until all memory is there, then those that are. `prepare`
/// is never counted.
fn rounds<S, P>(
    mut state: S,
    mut prepare: impl FnMut(&mut S, usize) -> P,
    mut work: impl FnMut(&mut S, &mut P),
) {
    for round in 0..WARM_UP + ROUNDS as usize {
        let mut prepared = prepare(&mut state, round);
        match round {
            0..WARM_UP => work(&mut state, &mut prepared),
            _ => measured(&mut || work(&mut state, &mut prepared)),
        }
    }
}

/// Rounds of a function without state on one input.
fn pure<R>(input: &'static [u8], function: impl Fn(&'static [u8]) -> R) {
    rounds((), |_, _| input, |_, input| drop(black_box(function(black_box(input)))));
}

fn fields() {
    pure(IAMAT, |line| split(line).as_slice().len());
}

fn location() {
    pure(b"+34.068930-118.445127", |text| Location::parse(text).is_ok());
}

fn timestamp() {
    pure(b"1559865055.918963997", |text| Timestamp::parse(text).is_ok());
}

fn iamat() {
    pure(IAMAT, |line| ClientRequest::parse(line, Dialect::Report).is_ok());
}

fn update() {
    pure(UPDATELOC, |line| FromDialler::parse(line).is_ok());
}

fn skew() {
    let out = Vec::with_capacity(64);
    let write = |out: &mut Vec<u8>| {
        out.clear();
        black_box(Skew(263_873_386)).write(out);
    };
    rounds(out, |_, _| (), |out, ()| write(out));
}

/// Lines of a client, and what a turn costs once for all of them.
fn record(format: Format) {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink("/dev/null", folder.path().join("A_log.txt")).expect("a link");
    let settings = LogSettings { format, ..LogSettings::default() };
    let log = herd_mio::logging::start(folder.path(), "A", &settings).expect("a log");
    let peer = ([127, 0, 0, 1], 5_123).into();
    rounds(
        log,
        // Its thread waits then, so that the memory of the texts goes round in the same way in each run.
        |log, _| log.finish_within(Duration::from_secs(10)),
        |log, ()| {
            for _ in 0..BATCH {
                Traffic::Client.received(Party::Address(peer), black_box(IAMAT));
            }
            log.submit();
        },
    );
}

fn framing() {
    let work = |input: &mut LineBuffer, bytes: &mut Vec<u8>| {
        input.push(bytes);
        while let Some(line) = input.next_line(4_096) {
            black_box(line);
        }
    };
    rounds(LineBuffer::default(), |_, round| batch(16, round), work);
}

/// Clients that move, from the bytes of a read to the answers.
fn iamats<const LINES: usize>(neighbours: usize) {
    let server = Peer::new(neighbours, Origin::Accepted(CLIENTS));
    rounds(server, |_, round| batch(LINES, round), |server, bytes| server.receive(bytes));
}

/// From the feed to the output of a link that is up.
fn tell() {
    let prepare = |server: &mut Peer, round| server.receive(&batch(16, round));
    rounds(linked(), prepare, |server, ()| server.fill());
}

/// From the bytes that a neighbour sent to the table.
fn receive_updates() {
    let mut peer = Peer::new(1, Origin::Accepted(PEERS));
    peer.receive(b"HELLO herd/1 B 0000000000000002\nMARK 0\n");
    rounds((linked(), peer), lines_to_tell, |(_, receiver), bytes| receiver.receive(bytes));
}

/// What a server sends for a batch of IAMATs.
fn lines_to_tell((teller, _): &mut (Peer, Peer), round: usize) -> Vec<u8> {
    teller.receive(&batch(16, round));
    teller.fill();
    teller.output.clone()
}

/// From the counters to the text that Prometheus reads.
fn scrape() {
    let mut peer = linked();
    let counters = Arc::new(LoopMetrics::new(Instant::now()));
    let loops = vec![(Arc::clone(&counters), peer.server.metrics())];
    peer.server.know_metrics(counters, AllMetrics { loops, ..AllMetrics::default() });
    rounds(
        peer,
        |_, _| (),
        |peer, ()| drop(black_box(Exposition::Text.encode(peer.server.families(true, NOW)))),
    );
}

/// Paris and 31 miles around it.
fn whatsat() {
    let area = Area { latitude: 48.8566, longitude: 2.3522, radius: 31.0 * 1_609.344 };
    rounds(
        Gazetteer::unpack(),
        |_, _| (),
        |gazetteer, ()| drop(black_box(answer::trimmed(gazetteer, &area, 20))),
    );
}

fn http_answer() {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n".to_vec();
    let body = places();
    answer.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
    answer.extend(body);
    let read = |answer: &mut Vec<u8>| ResponseReader::new(1 << 20).push(answer);
    rounds(
        answer,
        |_, _| (),
        |answer, ()| assert!(matches!(read(answer), Ok(ResponseProgress::Done(_)))),
    );
}

fn trim_places() {
    rounds(places(), |_, _| (), |body, ()| assert!(trim(body, "results", 5).is_ok()));
}

fn judge_and_trim() {
    let response = Response { status: 200, body: places(), may_reuse: true };
    rounds(
        response,
        |_, _| (),
        |response, ()| {
            let answer = Api::NearbySearch.read(response, None, 5);
            let Answer::Places { usable, .. } = answer else {
                panic!("the body is usable");
            };
            drop(black_box(usable.trim(5)));
        },
    );
}

/// A server and one connection to it, with the memory that the loop would lend.
struct Peer {
    server: Server,
    session: Session,
    limit: usize,
    /// The session of the link to the neighbour, where that is up.
    link: Option<Session>,
    buffers: Buffers,
    input: LineBuffer,
    output: Vec<u8>,
}

impl Peer {
    fn new(neighbours: usize, origin: Origin) -> Peer {
        let mut config = Config::default();
        config.servers.truncate(2);
        for (index, server) in config.servers.iter_mut().enumerate() {
            server.name = ["A", "B"][index].to_owned();
            server.neighbours = vec![1 - index; neighbours];
        }
        Peer::of(Server::new(ServerSetup::plain(&config, NOW)), origin)
    }

    fn of(mut server: Server, origin: Origin) -> Peer {
        let (session, limit) = open(&mut server, origin, 0);
        let (buffers, input) = (Buffers::default(), LineBuffer::default());
        Peer { server, session, limit, link: None, buffers, input, output: Vec::new() }
    }

    /// Handles what one read brought, as the loop does.
    fn receive(&mut self, bytes: &[u8]) {
        self.buffers.reclaim(std::mem::take(&mut self.output));
        self.input.lend(self.buffers.lend());
        self.input.push(bytes);
        self.output = self.buffers.lend();
        while let Some(line) = self.input.next_line(self.limit) {
            let mut io = io(0, &mut self.output);
            assert_eq!(self.server.handle_line(&mut self.session, line, &mut io), Next::Read);
        }
        self.input.reclaim().into_iter().for_each(|memory| self.buffers.reclaim(memory));
    }

    /// Fills the link, as the loop does when it was asked to.
    fn fill(&mut self) {
        self.output.clear();
        if let Some(link) = &mut self.link {
            assert_eq!(self.server.fill(link, &mut io(1, &mut self.output)), Next::Read);
        }
    }
}

fn open(server: &mut Server, origin: Origin, slot: u32) -> (Session, usize) {
    let mut hello = Vec::new();
    let opened = server.handle_open(Opened::plain(origin), &mut io(slot, &mut hello));
    match opened {
        Some((session, policy)) => match policy.framing {
            Framing::Lines(limit) => (session, limit),
            Framing::Bytes => panic!("it sends lines"),
        },
        None => panic!("it was refused"),
    }
}

fn io(slot: u32, out: &mut Vec<u8>) -> Io<'_> {
    let id = ConnectionId { slot, generation: 1 };
    Io::new(id, ([127, 0, 0, 1], 1).into(), NOW, out, usize::MAX / 2)
}

/// A server with a client on it, whose link to its one neighbour is up.
fn linked() -> Peer {
    let mut peer = Peer::new(1, Origin::Accepted(CLIENTS));
    let mut now = |_| false;
    peer.server.handle_timeout(&mut Due::new(NOW, &mut now));
    let commands = std::iter::from_fn(|| peer.server.poll_command()).collect::<Vec<_>>();
    let [LoopCommand::Dial(Dial { ticket, to: Target::Address(_), .. })] = &commands[..] else {
        panic!("it dials its neighbour: {commands:?}");
    };
    let (mut link, _) = open(&mut peer.server, Origin::Dialled(*ticket), 1);
    let resume = Line::Whole(b"RESUME 0 0 0000000000000002 B");
    peer.server.handle_line(&mut link, resume, &mut io(1, &mut Vec::new()));
    peer.link = Some(link);
    peer.fill(); // It has missed nothing.
    peer
}

/// IAMATs of so many clients; each moves with every round.
fn batch(lines: usize, round: usize) -> Vec<u8> {
    let line = |client| {
        format!(
            "IAMAT client-{client:02}.ucla.edu +34.{round:06}-118.445127 1559865055.{round:09}\n"
        )
    };
    (0..lines).map(line).collect::<String>().into_bytes()
}

/// A body as Google's, of some 19 KiB.
fn places() -> Vec<u8> {
    let place = |index| {
        let filler =
            "            \"open_now\" : true, \"types\" : [ \"cafe\", \"food\" ],\n".repeat(14);
        format!("      {{\n{filler}            \"name\" : \"Place {index}\"\n      }}")
    };
    let list: Vec<String> = (0..20).map(place).collect();
    let list = list.join(",\n");
    format!("{{\n   \"results\" : [\n{list}\n   ],\n   \"status\" : \"OK\"\n}}\n").into_bytes()
}

const IAMAT: &[u8] = b"IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997";
const UPDATELOC: &[u8] =
    b"UPDATELOC kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997 Goloman +0.263873386";
const BATCH: u64 = 16;
const ROUNDS: u64 = 200;
const WARM_UP: usize = 20;
const NOW: Now = Now { elapsed: Duration::ZERO, wall: WallTime(1_700_000_000_000_000_000) };
