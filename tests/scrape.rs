//! Claim: over real sockets `/metrics` shows what clients and neighbours have done, and of several loops the sums.

mod common;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use herd_mio::limits::ADMIN_SESSIONS;
use rustix::process::Signal;

use common::process::administered;
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};

/// Connections enough that the kernel leaves no loop out: of two with a chance of 2⁻⁶³.
const CROWD: usize = 64;

type Samples = BTreeMap<String, f64>;

/// Where a server has its admin listener.
fn admin(server: &ServerProcess) -> SocketAddr {
    let mut address = None;
    wait_until(LIMIT, "the admin listener is known", || {
        address = administered(&server.stderr());
        address.is_some()
    });
    address.expect("it was waited for")
}

/// The samples of `/metrics`, each by its name with its labels.
fn scrape(server: &ServerProcess) -> Samples {
    let mut stream = TcpStream::connect(admin(server)).expect("the admin listener");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

/// Waits until a scrape holds these samples with these values.
#[track_caller]
fn wait_for(server: &ServerProcess, expected: &[(&str, f64)]) -> Samples {
    let mut samples = Samples::new();
    let is_right =
        |samples: &Samples| expected.iter().all(|(name, value)| samples.get(*name) == Some(value));
    wait_until(LIMIT, &format!("{expected:?}"), || {
        samples = scrape(server);
        is_right(&samples)
    });
    samples
}

fn start(setup: &Setup, name: &str) -> ServerProcess {
    setup.start_with(name, &["--admin", "127.0.0.1:0"])
}

#[test]
fn the_numbers_of_two_loops_are_added_and_those_between_them_are_left_out() {
    let setup = Setup::alone().top("loops = 2").any_port();
    let server = start(&setup, "Goloman");
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.client()).collect();
    let (mut sent, mut received) = (0, 0);
    for (number, client) in crowd.iter_mut().enumerate() {
        let line = format!("IAMAT client.{number} +1.0+2.0 1");
        sent += line.len() + 1;
        received += client.ask(&line).len() + 1;
    }
    let all = CROWD as f64;
    let samples = wait_for(
        &server,
        &[
            ("herd_table_clients", all),
            // The answers of a turn count in the next one.
            ("herd_answer_duration_seconds_count{command=\"iamat\"}", all),
        ],
    );
    let is = |name: &str| samples[name];
    assert_eq!(is("herd_lines_total{command=\"iamat\",result=\"ok\"}"), all);
    assert_eq!(is("herd_table_updates_total{source=\"client\",result=\"stored\"}"), all);
    for result in ["stored", "stale", "below_floor"] {
        let name = format!("herd_table_updates_total{{source=\"neighbour\",result=\"{result}\"}}");
        assert_eq!(is(&name), 0.0, "the other loop is no neighbour");
    }
    assert_eq!(is("herd_connections{kind=\"client\",transport=\"plain\"}"), all);
    assert_eq!(is("herd_connections_accepted_total{kind=\"client\",transport=\"plain\"}"), all);
    assert_eq!(is("herd_connections{kind=\"admin\",transport=\"plain\"}"), 1.0);
    for kind in ["link_in", "link_out"] {
        let name = format!("herd_connections{{kind=\"{kind}\",transport=\"plain\"}}");
        assert_eq!(is(&name), 0.0, "a pair of sockets is no link");
    }
    assert_eq!(is("herd_network_receive_bytes_total{kind=\"client\"}"), sent as f64);
    assert_eq!(is("herd_network_transmit_bytes_total{kind=\"client\"}"), received as f64);
    for number in [1, 2] {
        assert!(is(&format!("herd_loop_turns_total{{loop=\"{number}\"}}")) > 0.0);
        assert!(is(&format!("herd_loop_events_total{{loop=\"{number}\"}}")) > 0.0);
        assert!(is(&format!("herd_loop_busy_seconds_total{{loop=\"{number}\"}}")) > 0.0);
    }
    assert!(is("herd_log_records_total{level=\"info\"}") > all);
    assert_eq!(is("herd_log_dropped_records_total{output=\"file\"}"), 0.0);
    assert_eq!(is("herd_connections_limit"), 10_000.0);
    drop(crowd);
    let closed = ("herd_connections_closed_total{kind=\"client\",reason=\"peer\"}", all);
    wait_for(&server, &[("herd_connections{kind=\"client\",transport=\"plain\"}", 0.0), closed]);
}

#[test]
fn a_link_is_shown_at_both_ends_and_its_lag_grows_while_the_neighbour_stands() {
    let setup = Setup::star(&["Hands"]).heartbeat("200ms");
    let (goloman, hands) = (start(&setup, "Goloman"), start(&setup, "Hands"));
    let up =
        |name, direction| format!("herd_link_up{{neighbour=\"{name}\",direction=\"{direction}\"}}");
    for (server, other) in [(&goloman, "Hands"), (&hands, "Goloman")] {
        let links = [up(other, "in"), up(other, "out")];
        let links: Vec<_> = links.iter().map(|name| (&name[..], 1.0)).collect();
        let others = [("herd_in_sync", 1.0), ("herd_ready", 1.0)];
        wait_for(server, &[&links[..], &others].concat());
    }
    goloman.client().ask("IAMAT kiwi +1.0+2.0 1");
    let sent = "herd_link_updates_total{neighbour=\"Hands\",direction=\"out\"}";
    let unacknowledged = "herd_link_unacknowledged_updates{neighbour=\"Hands\"}";
    wait_for(&goloman, &[(sent, 1.0), (unacknowledged, 0.0)]);
    let received = "herd_link_updates_total{neighbour=\"Goloman\",direction=\"in\"}";
    let delays = "herd_flood_delay_seconds_count{neighbour=\"Goloman\"}";
    let stored = "herd_table_updates_total{source=\"neighbour\",result=\"stored\"}";
    wait_for(&hands, &[(received, 1.0), (delays, 1.0), (stored, 1.0), ("herd_table_clients", 1.0)]);
    hands.hold();
    let lag = "herd_link_lag_seconds{neighbour=\"Hands\"}";
    let mut before = scrape(&goloman)[lag];
    // Past the three heartbeats after which the link is given up, it does not begin again.
    while before < 1.5 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = scrape(&goloman)[lag];
        assert!(now >= before || before < 0.2, "{now} s behind {before} s");
        before = now;
    }
    let samples = wait_for(&goloman, &[(&up("Hands", "out"), 0.0)]);
    let timeout =
        "herd_link_transitions_total{neighbour=\"Hands\",direction=\"out\",reason=\"timeout\"}";
    assert!(samples[timeout] >= 1.0, "and each attempt since then is one more");
    hands.signal(Signal::CONT);
    wait_for(&goloman, &[(&up("Hands", "out"), 1.0)]);
}

#[test]
#[cfg(target_os = "linux")]
fn what_the_kernel_knows_of_the_process_is_shown() {
    let setup = Setup::alone().any_port();
    let server = start(&setup, "Goloman");
    let before = scrape(&server);
    let crowd: Vec<Client> = (0..10)
        .map(|number| {
            let mut client = server.client();
            client.ask(&format!("IAMAT kiwi +1.0+2.0 {number}"));
            client
        })
        .collect();
    // Until the session before is gone, its descriptor counts, too.
    let after = wait_for(&server, &[("process_open_fds", before["process_open_fds"] + 10.0)]);
    assert!(after["process_max_fds"] >= after["process_open_fds"]);
    assert!(after["process_resident_memory_bytes"] > 1e6);
    assert!(after["process_virtual_memory_bytes"] > after["process_resident_memory_bytes"]);
    assert!(after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.expect("a clock").as_secs_f64() - after["process_start_time_seconds"];
    assert!((-2.0..600.0).contains(&age), "started {age} s ago");
    drop(crowd);
}

#[test]
fn a_session_too_many_of_the_admin_listener_is_counted_as_rejected() {
    let setup = Setup::alone().any_port();
    let server = start(&setup, "Goloman");
    let address = admin(&server);
    let open = || TcpStream::connect(address).expect("the admin listener");
    let sessions: Vec<TcpStream> = (0..ADMIN_SESSIONS).map(|_| open()).collect();
    let mut one_more = open();
    let mut answer = String::new();
    one_more.set_read_timeout(Some(LIMIT)).expect("a limit");
    one_more.read_to_string(&mut answer).expect("it is told why");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    drop((sessions, one_more));
    // Before they are seen to be gone, a scrape would be one too many itself.
    wait_until(LIMIT, "a session is free", || {
        let mut stream = open();
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        // One that is refused may be reset under the request.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 200 ")
    });
    let samples = scrape(&server);
    assert!(samples["herd_connections_rejected_total{kind=\"admin\",reason=\"full\"}"] >= 1.0);
    assert!(samples["herd_connections_closed_total{kind=\"admin\",reason=\"protocol\"}"] >= 1.0);
    assert!(samples["herd_admin_requests_total{path=\"other\",code=\"503\"}"] >= 1.0);
    assert!(samples["herd_admin_requests_total{path=\"/livez\",code=\"200\"}"] >= 1.0);
}

/// The alert for a full server compares the connections with this limit.
#[test]
fn with_few_descriptors_the_limit_in_force_is_shown() {
    let setup = Setup::alone().any_port();
    let inner = setup.command("Goloman");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\" --admin 127.0.0.1:0"]);
    command.arg(inner.get_program()).args(inner.get_args()).env_remove("HERD_PLACES_KEY");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let limit = scrape(&server)["herd_connections_limit"];
    server.wait_for_log(&format!("100 descriptors suffice for {limit} clients only"));
}
