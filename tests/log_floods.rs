//! Claim: no client or neighbour can fill the log at `--log-level warning`, whatever they do and however often: one record
//! per second and kind, and all that was suppressed is counted. At INFO every refused line has its record.

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use regex::Regex;
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use common::process::{ServerProcess, follow};
use common::{Client, LIMIT, Next, Setup, connect_as, wait_until};

/// More than any flood would need to be seen.
const MANY: usize = 1_200;

/// What the log says at WARNING and above of one kind: records, and the events that they stand for.
fn warnings(log: &str, example: &str, description: &str) -> (usize, u64) {
    let count = Regex::new(r"\b([0-9]+) similar messages? suppressed").expect("an expression");
    let mut records = 0;
    let mut events = 0;
    for record in log.lines().filter(|it| it.contains(" - WARNING: ") || it.contains(" - ERROR: "))
    {
        let suppressed =
            |record| count.captures(record).map(|it| it[1].parse::<u64>().expect("a number"));
        if record.contains(&format!("suppressed: {description}.")) {
            records += 1;
            events += suppressed(record).expect("a count");
        } else if record.contains(example) {
            records += 1;
            events += 1 + suppressed(record).unwrap_or(0);
        }
    }
    (records, events)
}

/// The server has said all of `events`, and by few records, although nothing more happened to it.
fn assert_few_records_tell_of_all(
    server: &ServerProcess,
    begin: Instant,
    example: &str,
    description: &str,
    events: usize,
) {
    let so_far = || warnings(&server.log(), example, description);
    let begin_of_wait = Instant::now();
    while so_far().1 < events as u64 && begin_of_wait.elapsed() < LIMIT {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (records, counted) = so_far();
    assert_eq!(counted, events as u64, "{example}: {}", server.log());
    // One a second, the first, and the last count.
    let most = begin.elapsed().as_secs() as usize + 2;
    assert!(records <= most, "{example}: {records} records, {most} are the most");
}

fn started(setup: &Setup) -> (ServerProcess, Instant) {
    (setup.start_with("Goloman", &["--log-level", "warning"]), Instant::now())
}

/// Waits until the server has closed a connection.
fn assert_closed(client: &mut Client) {
    loop {
        match client.next(LIMIT) {
            Next::End(_) | Next::Reset => return,
            Next::Line(_) => {}
            Next::Silence => panic!("the server does not close"),
        }
    }
}

/// Connects often, and each time waits until it is closed again.
fn be_closed_often(address: SocketAddr, bytes: &[u8], at_once: usize) {
    for _ in 0..MANY / at_once {
        let mut clients: Vec<_> = (0..at_once).map(|_| Client::connect(address)).collect();
        for client in &mut clients {
            _ = client.try_send(bytes);
        }
        clients.iter_mut().for_each(assert_closed);
    }
}

#[test]
fn refused_lines_are_logged_once_per_second_with_a_count() {
    let setup = Setup::alone().any_port();
    let (server, begin) = started(&setup);
    let mut client = server.client();
    for _ in 0..20 {
        client.send("\n".repeat(MANY));
        (0..MANY).for_each(|_| assert_eq!(client.line(), "? "));
    }
    let description = "refused lines of clients";
    assert_few_records_tell_of_all(&server, begin, "Refused from", description, 20 * MANY);
}

/// It may become slow again while it catches up.
#[test]
fn a_client_that_reads_too_slowly_is_logged_and_so_is_its_recovery() {
    const COUNT: usize = 6_000; // 24 MB: more than the kernel's buffers hold.
    let setup = Setup::alone().any_port().section("[limits]\noutput_bytes = 65536");
    let (server, _) = started(&setup);
    let mut client = server.client();
    let mut writer = client.stream.try_clone().expect("a descriptor");
    let line = format!("{}\n", "x".repeat(4_000));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            (0..COUNT).for_each(|_| writer.write_all(line.as_bytes()).expect("it is read"));
        });
        server.wait_for_log(" is slow: ");
        assert!(!server.log().contains("has recovered"), "nothing was read yet");
        (0..COUNT).for_each(|_| assert!(client.line().starts_with("? xxx")));
    });
    wait_until(LIMIT, "each recovery is recorded", || {
        let log = server.log();
        let slow = "connections that do not read their output fast enough";
        let (_, slow) = warnings(&log, " is slow: ", slow);
        let (_, recovered) = warnings(&log, " has recovered: ", "slow connections recovered");
        slow > 0 && slow == recovered
    });
}

#[test]
fn a_remaining_count_is_logged_at_the_end() {
    let setup = Setup::alone().any_port();
    let (mut server, _) = started(&setup);
    let mut client = server.client();
    client.send("\n".repeat(MANY));
    (0..MANY).for_each(|_| assert_eq!(client.line(), "? "));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let (_, events) = warnings(&server.log(), "Refused from", "refused lines of clients");
    assert_eq!(events, MANY as u64, "{}", server.log());
}

#[test]
fn at_info_every_refused_line_is_recorded_and_warnings_stay_limited() {
    let setup = Setup::alone().any_port();
    let begin = Instant::now();
    let server = setup.start("Goloman");
    let mut client = server.client();
    client.send("\n".repeat(MANY));
    (0..MANY).for_each(|_| assert_eq!(client.line(), "? "));
    let description = "refused lines of clients";
    assert_few_records_tell_of_all(&server, begin, "Refused from", description, MANY);
    let log = server.log();
    assert_eq!(log.matches(" - INFO: Refused from ").count(), MANY);
}

#[test]
fn peers_without_hello_do_not_fill_the_log() {
    let setup = Setup::alone().any_port().heartbeat("1s");
    let (server, begin) = started(&setup);
    let mut waiting = VecDeque::new();
    for _ in 0..MANY {
        waiting.push_back(server.peer());
        if waiting.len() > 64 {
            assert_closed(&mut waiting.pop_front().expect("there are 65"));
        }
    }
    waiting.iter_mut().for_each(assert_closed);
    let of = |log: &str| {
        let late =
            warnings(log, ": no HELLO within ", "connections that did not send HELLO in time");
        let closed = "connections closed before their HELLO, for newer ones";
        let pushed_out = warnings(log, "too many peers have not sent HELLO", closed);
        (late.0 + pushed_out.0, late.1 + pushed_out.1)
    };
    wait_until(LIMIT, "each of them is counted", || of(&server.log()).1 == MANY as u64);
    let most = 2 * (begin.elapsed().as_secs() as usize + 2);
    assert!(of(&server.log()).0 <= most, "{}", server.log());
}

#[test]
fn refused_lines_on_the_neighbours_port_do_not_fill_the_log() {
    let setup = Setup::alone().any_port();
    let (server, begin) = started(&setup);
    be_closed_often(server.peers, b"GET / HTTP/1.1\n", 50);
    let description = "refused lines on the neighbours' port";
    let example = "Refused on the neighbours' port";
    assert_few_records_tell_of_all(&server, begin, example, description, MANY);
}

#[test]
fn malformed_updates_do_not_fill_the_log() {
    let setup = Setup::star(&["Hands"]);
    let (server, begin) = started(&setup);
    let (mut inward, _) = connect_as(&server, "Hands", "00000000000000aa");
    inward.send("UPDATELOC a nowhere 10 Hands +0.000000001\n".repeat(MANY));
    assert_eq!(inward.ask("MARK 1"), "ACK 1");
    let description = "malformed updates skipped";
    assert_few_records_tell_of_all(&server, begin, "Skipped a malformed", description, MANY);
}

#[test]
fn incomplete_lines_do_not_fill_the_log() {
    let setup = Setup::alone().any_port().section("[limits]\nline_timeout = \"100ms\"");
    let (server, begin) = started(&setup);
    be_closed_often(server.clients, b"IAMAT", 200);
    let description = "lines, requests or handshakes not completed in time";
    let example = "line not completed within ";
    assert_few_records_tell_of_all(&server, begin, example, description, MANY);
}

#[test]
fn rejected_clients_do_not_fill_the_log() {
    let setup = Setup::alone().any_port().section("[limits]\nclient_connections = 1");
    let (server, begin) = started(&setup);
    let mut first = server.client();
    assert!(first.ask("IAMAT a +1.0+2.0 10").starts_with("AT AT "));
    be_closed_often(server.clients, b"", 100);
    let example = "connection limit (";
    assert_few_records_tell_of_all(&server, begin, example, "clients rejected", MANY);
}

#[test]
fn queries_that_fail_do_not_fill_the_log() {
    // Nobody listens there: the port is reserved by the test.
    let nobody = common::ports::reserve();
    let url = format!("https://127.0.0.1:{}/", nobody.number);
    let setup = Setup::alone().any_port();
    let mut command = setup.command("Goloman");
    command.args(["--log-level", "warning", "--places", "google", "--places-url", &url]);
    command.env("HERD_PLACES_KEY", "sesame");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let begin = Instant::now();
    let mut client = server.client();
    assert!(client.ask("IAMAT a +1.0+2.0 10").starts_with("AT AT "));
    for _ in 0..MANY {
        assert_eq!(client.whatsat("a", "1", "1").status(), "UNKNOWN_ERROR");
    }
    let description = "queries for places failed";
    let example = "The Places service failed a query";
    assert_few_records_tell_of_all(&server, begin, example, description, MANY);
}

#[test]
fn http_requests_that_are_refused_do_not_fill_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--places-server", "127.0.0.1:0", "--log-level", "warning", "--tls-dir"]);
    command.arg(folder.path()).arg("--log-dir").arg(folder.path());
    let mut service =
        SoleProcess(command.stderr(Stdio::piped()).spawn().expect("the program runs"));
    let said = follow(service.0.stderr.take().expect("stderr is piped"));
    let port = || {
        let said = said.lock().expect("the reader does not panic");
        said.strip_prefix("Places listens on 127.0.0.1:")?.trim_end().parse::<u16>().ok()
    };
    wait_until(LIMIT, "the service listens", || port().is_some());
    let address = SocketAddr::from(([127, 0, 0, 1], port().expect("it listens")));
    let begin = Instant::now();
    let tls = Arc::new(trusting(&folder.path().join("ca.pem")));
    for _ in 0..MANY {
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(Arc::clone(&tls), name).expect("a session");
        let stream = Client::connect(address).stream;
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let mut stream = StreamOwned::new(session, stream);
        stream.write_all(b"GET\r\n\r\n").expect("the handshake succeeds");
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
    }
    let log = || std::fs::read_to_string(folder.path().join("Places_log.txt")).unwrap_or_default();
    let so_far = || warnings(&log(), "Refused from", "refused HTTP requests");
    wait_until(LIMIT, "each of them is counted", || so_far().1 == MANY as u64);
    assert!(so_far().0 <= begin.elapsed().as_secs() as usize + 2, "{}", log());
}

/// A process of this test's own. Dropped, it is killed.
struct SoleProcess(Child);

impl Drop for SoleProcess {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn trusting(authority: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority).expect("a certificate");
    roots.add(certificate).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("ring has them");
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[test]
fn marks_and_acknowledgements_are_recorded_at_debug_only() {
    for level in ["info", "debug"] {
        let setup = Setup::star(&["Hands"]);
        let hands = setup.play("Hands");
        let server = setup.start_with("Goloman", &["--log-level", level]);
        let mut link = hands.greet_empty("00000000000000bb");
        let (mut inward, _) = connect_as(&server, "Hands", "00000000000000bb");
        assert_eq!(inward.ask("MARK 1"), "ACK 1"); // What came before it is not recorded one by one.
        assert_eq!(inward.ask("MARK 2"), "ACK 2");
        let mut client = server.client();
        assert!(client.ask("IAMAT a +1.0+2.0 10").starts_with("AT AT "));
        link.until_updates(1);
        let is_debug = level == "debug";
        for record in [
            "Received from Hands: MARK 2",
            "Sent to Hands: ACK 2",
            "Sent to Hands: MARK ",
            "Received from Hands: ACK ",
        ] {
            if is_debug {
                server.wait_for_log(&format!(" - DEBUG: {record}"));
            }
        }
        inward.send("UPDATELOC b +1.0+2.0 10 Hands +0.000000001\n");
        server.wait_for_log(" - INFO: Received from Hands: UPDATELOC b ");
        let log = server.log();
        let kept = log.lines().filter(|it| it.contains(": MARK ") || it.contains(": ACK "));
        assert_eq!(kept.count() > 0, is_debug, "{log}");
    }
}
