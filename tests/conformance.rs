//! Claim: a real server answers every conversation of `conformance/lines.txt` as written, even if the client's
//! bytes are cut into two segments, or into one for each byte.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::cases::{Case, CaseStep, Line, Port, parse, unescape};
use common::sockets::wait_until_read;
use common::{Client, LIMIT, Next, ServerProcess, Setup, shown};

/// How long a case without `eof` must stay silent at its end.
const SILENCE: Duration = Duration::from_millis(100);

/// How the client's bytes go out.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// As the case is written: each send by itself, answers read where they stand.
    AsWritten,
    /// All that the case sends, in two segments: the second one leaves when the server has read the first.
    SplitAt(usize),
    /// All that the case sends, a segment a byte.
    ByteByByte,
}

/// One fresh server for each way of each case. On two cores that is a minute at most as long as a server starts within
/// some 50 ms, so no split is left out.
#[test]
fn every_case_is_answered_as_written_and_however_it_is_split() {
    let cases = parse(include_bytes!("conformance/lines.txt"));
    let mut runs: Vec<(&Case, Way)> = Vec::new();
    for case in &cases {
        runs.push((case, Way::AsWritten));
        runs.push((case, Way::ByteByByte));
        runs.extend((1..case.sent().len()).map(|at| (case, Way::SplitAt(at))));
    }
    let setups = ["report", "course"].map(|dialect| {
        let setup = Setup::report().any_port().top(&format!("dialect = {dialect:?}"));
        setup.config_file("Goloman");
        setup
    });
    let setup_of = |case: &Case| &setups[usize::from(case.dialect == "course")];

    let failures = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let threads = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(case, way)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = next.load(Ordering::Relaxed);
                    let server = start(setup_of(case), case, run);
                    if let Err(what) = converse(&server, case, way) {
                        let text = format!("== {} ({way:?})\n{what}", case.name);
                        failures.lock().expect("no thread panics with it").push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panicked");
    let shown: Vec<String> = failures.iter().take(20).cloned().collect();
    assert!(
        failures.is_empty(),
        "{} of {} failed:\n{}",
        failures.len(),
        runs.len(),
        shown.join("\n")
    );
}

#[test]
fn the_cases_are_parsed_with_every_byte() {
    let cases = parse(include_bytes!("conformance/lines.txt"));
    assert_eq!(cases.len(), 40);
    let bytes =
        cases.iter().find(|case| case.name == "the copy keeps every byte").expect("that case");
    assert_eq!(bytes.sent(), b"\t what\0is \xff\xfe this \r\n");
    let [CaseStep::Send(_), CaseStep::Expect(Line::Exactly(line))] = &bytes.steps[..] else {
        panic!("{bytes:?}")
    };
    assert_eq!(line, b"? \t what\0is \xff\xfe this ");
    let course = cases.iter().filter(|case| case.dialect == "course").count();
    let peers = cases.iter().filter(|case| case.port == Port::Peers).count();
    assert_eq!((course, peers), (2, 8));
    let sends: usize = cases.iter().map(|case| case.sent().len()).sum();
    assert!((1_000..3_000).contains(&sends), "{sends} bytes");
    assert_eq!(unescape(br"a\n\r\t\f\v\\\x00\xfF"), b"a\n\r\t\x0c\x0b\\\0\xff");
    let empty = cases.iter().find(|case| case.name == "empty line").expect("that case");
    assert_eq!(empty.sent(), b"\n");
    let [CaseStep::Send(_), CaseStep::Expect(Line::Exactly(line))] = &empty.steps[..] else {
        panic!("{empty:?}")
    };
    assert_eq!(line, b"? ");
}

fn start(setup: &Setup, case: &Case, run: usize) -> ServerProcess {
    let log_folder = setup.folder.path().join(run.to_string());
    std::fs::create_dir_all(&log_folder).expect("the temporary folder can be written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.arg("--server").arg("Goloman").env_remove("HERD_PLACES_KEY");
    command.arg("--config").arg(setup.folder.path().join("Goloman.toml"));
    command.arg("--log-dir").arg(&log_folder);
    assert!(Path::new(&log_folder).is_dir(), "for {}", case.name);
    ServerProcess::spawn(command, "Goloman", log_folder.join("Goloman_log.txt"))
}

fn converse(server: &ServerProcess, case: &Case, way: Way) -> Result<(), String> {
    let address: SocketAddr = match case.port {
        Port::Clients => server.clients,
        Port::Peers => server.peers,
    };
    let mut client = Client::connect(address);
    match way {
        Way::AsWritten => as_written(&mut client, case),
        Way::SplitAt(at) => {
            let sent = case.sent();
            let (first, second) = sent.split_at(at);
            client.try_send(first).map_err(|error| format!("sending the first part: {error}"))?;
            wait_until_read(&client.stream);
            _ = client.try_send(second); // after what closes, the server may not want it
            compare_all(&mut client, case)
        }
        Way::ByteByByte => {
            for byte in case.sent() {
                if client.try_send([byte]).is_err() {
                    break; // closed; the comparison shows whether that is right
                }
            }
            compare_all(&mut client, case)
        }
    }
}

fn as_written(client: &mut Client, case: &Case) -> Result<(), String> {
    for step in &case.steps {
        match step {
            CaseStep::Send(bytes) => client.send(bytes),
            CaseStep::HalfClose => client.half_close(),
            CaseStep::Expect(line) => expect(client, line)?,
            CaseStep::Eof => return expect_next(client, LIMIT, Next::End(Vec::new())),
        }
    }
    expect_next(client, SILENCE, Next::Silence)
}

/// The end comes sooner than a silence: the client half-closes where the case does not, unless the server closes first.
/// Whatever came that was not due comes before it.
fn compare_all(client: &mut Client, case: &Case) -> Result<(), String> {
    let server_closes = matches!(case.steps.last(), Some(CaseStep::Eof));
    let client_closes = case.steps.iter().any(|step| matches!(step, CaseStep::HalfClose));
    if client_closes || !server_closes {
        client.half_close();
    }
    for step in &case.steps {
        if let CaseStep::Expect(line) = step {
            expect(client, line)?;
        }
    }
    expect_next(client, LIMIT, Next::End(Vec::new()))
}

fn expect(client: &mut Client, wanted: &Line) -> Result<(), String> {
    let next = client.next(LIMIT);
    let Next::Line(line) = &next else {
        return Err(format!("due: {wanted:?}\ncame: {next:?}"));
    };
    let same = match wanted {
        Line::Exactly(bytes) => line == bytes,
        Line::Matching(regex) => regex.is_match(line),
    };
    let due = match wanted {
        Line::Exactly(bytes) => shown(bytes),
        Line::Matching(regex) => regex.to_string(),
    };
    if same { Ok(()) } else { Err(format!("due:  {due}\ncame: {}", shown(line))) }
}

fn expect_next(client: &mut Client, limit: Duration, wanted: Next) -> Result<(), String> {
    let next = client.next(limit);
    if next == wanted { Ok(()) } else { Err(format!("at the end due: {wanted:?}\ncame: {next:?}")) }
}
