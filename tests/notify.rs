//! Claim: a service manager learns when a server serves, how it is, that all its loops turn, and that it reloads or
//! stops; and whatever its socket is, the server serves.

mod common;

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};

use common::service_manager::{ServiceManager, count};
use common::{LIMIT, ServerProcess, Setup};
use rustix::process::Signal;

const TWO_SECONDS: Option<Duration> = Some(Duration::from_secs(2));

#[test]
fn it_is_ready_once_and_says_how_it_is_and_that_it_stops() {
    let manager = ServiceManager::new();
    let (_setup, server) = start(Setup::star(&["Hands"]), &manager, None);
    let first = manager.next_within(LIMIT).expect("the first notices");
    assert_eq!(first, ["READY=1", "STATUS=0 of 1 links up, 0 clients"], "before it is in sync");
    let _client = server.client();
    let status = manager.wait_for("STATUS=");
    assert_eq!(status, [["STATUS=0 of 1 links up, 1 client"]], "after ten seconds, and no more");
    server.stop();
    let rest = manager.all();
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(rest[0][0], "STOPPING=1");
    assert!(rest[0][1].starts_with("STATUS=stopping: 0 of 1 links up, "), "{rest:?}");
}

#[test]
fn a_server_without_neighbours_has_no_links_to_tell_of() {
    let manager = ServiceManager::new();
    let (_setup, _server) = start(Setup::alone(), &manager, None);
    assert_eq!(manager.wait_for("READY=1"), [["READY=1", "STATUS=0 clients"]]);
}

#[test]
fn pings_come_at_half_of_the_time_stop_with_the_process_and_go_on_with_it() {
    let manager = ServiceManager::new();
    // Before the first ping, and not when this test learns of it, which may be late.
    let begin = Instant::now();
    let (_setup, server) = start(Setup::alone(), &manager, TWO_SECONDS);
    for _ in 0..4 {
        manager.wait_for("WATCHDOG=1");
    }
    // A machine may be slow, but no ping comes early.
    assert!(begin.elapsed() > Duration::from_millis(2_900), "{:?}", begin.elapsed());
    server.hold();
    manager.all();
    assert_eq!(manager.next_within(Duration::from_secs(3)), None, "it stands");
    let begin = Instant::now();
    server.signal(Signal::CONT);
    manager.wait_for("WATCHDOG=1");
    manager.wait_for("WATCHDOG=1");
    assert!(begin.elapsed() > Duration::from_millis(900), "those that it missed do not follow");
    server.assert_serves();
}

#[test]
fn pings_go_on_under_load() {
    let manager = ServiceManager::new();
    let (_setup, server) = start(Setup::alone(), &manager, Some(Duration::from_millis(500)));
    manager.wait_for("READY=1");
    let mut client = server.client();
    let lines: String = (0..200).map(|at| format!("IAMAT {at} +1.0+2.0 10\n")).collect();
    for _ in 0..5 {
        manager.all();
        let begin = Instant::now();
        while count(&manager.all(), "WATCHDOG=1") == 0 {
            assert!(begin.elapsed() < LIMIT, "no ping under load");
            client.send(&lines);
            (0..200).for_each(|_| drop(client.line_bytes()));
        }
    }
    server.stop();
}

#[test]
fn a_watchdog_of_another_process_gets_no_pings() {
    let manager = ServiceManager::new();
    let setup = Setup::alone();
    let mut command = setup.command("Goloman");
    manager.watch(&mut command, Some(Duration::from_millis(200)));
    command.env("WATCHDOG_PID", "1");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    manager.wait_for("READY=1");
    assert_eq!(manager.next_within(Duration::from_secs(1)), None);
    server.stop();
}

#[test]
fn a_reload_is_told_and_that_it_has_ended_also_if_it_failed() {
    let manager = ServiceManager::new();
    let (setup, server) = start(Setup::alone(), &manager, None);
    manager.wait_for("READY=1");
    let mut last = 0;
    for text in [setup.toml("Goloman") + "\n[link]\nheartbeat = \"1s\"\n", "broken".to_owned()] {
        std::fs::write(setup.folder.path().join("Goloman.toml"), text).expect("a file");
        server.signal(Signal::HUP);
        let seen = manager.wait_for("READY=1");
        assert_eq!(count(&seen, "RELOADING=1"), 1, "{seen:?}");
        let at = seen.iter().flatten().find_map(|it| it.strip_prefix("MONOTONIC_USEC="));
        let at: u64 = at.expect("the time").parse().expect("a number");
        assert!(last < at && at < microseconds_since_boot(), "{last} < {at}");
        last = at;
        assert!(seen.iter().flatten().any(|it| it == "STATUS=reloading: 0 clients"), "{seen:?}");
        assert_eq!(seen.last().expect("it came")[1], "STATUS=0 clients");
    }
    server.wait_for_log("configuration not reloaded");
    server.stop();
}

#[test]
fn whatever_the_socket_is_the_server_serves_and_warns_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let _stream = UnixListener::bind(path("stream")).expect("a socket");
    std::fs::write(path("file"), "").expect("a file");
    let full = UnixDatagram::bind(path("full")).expect("a socket");
    fill(&path("full"));
    let long = format!("/{}", "x".repeat(5_000));
    for name in [
        "",
        "relative",
        "vsock:2:1234",
        "@nobody.is.here",
        &format!("@{}", "x".repeat(200)),
        &long,
        &path("missing"),
        &path("stream"),
        &path("file"),
        &path("full"),
        folder.path().to_str().expect("text"),
    ] {
        let setup = Setup::alone().any_port();
        let mut command = setup.command("Goloman");
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "200000");
        let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
        server.wait_for_log("the service manager cannot be told how the server is");
        server.assert_serves();
        // Several pings later.
        std::thread::sleep(Duration::from_millis(500));
        server.assert_serves();
        let log = server.log();
        assert_eq!(log.matches("WARNING").count(), 1, "{name}: {log}");
        assert!(server.stop().success(), "{name}");
    }
    drop(full);
}

#[test]
fn a_manager_that_reads_late_learns_that_the_server_is_ready() {
    let manager = ServiceManager::new();
    fill(manager.path().to_str().expect("text"));
    let (_setup, server) = start(Setup::alone(), &manager, Some(Duration::from_millis(400)));
    server.wait_for_log("the service manager cannot be told how the server is");
    server.assert_serves();
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
}

#[test]
fn an_abstract_address_is_one_too() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("herd-mio.test.{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    let setup = Setup::alone().any_port();
    let mut command = setup.command("Goloman");
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let _server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    socket.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut bytes = [0; 100];
    let count = socket.recv(&mut bytes).expect("a notice");
    assert!(bytes[..count].starts_with(b"READY=1\n"));
}

#[test]
fn a_watchdog_that_makes_no_sense_keeps_nobody_busy() {
    for (value, pings) in
        [("1", 1..8), ("0", 0..1), ("-1", 0..1), ("x", 0..1), ("18446744073709551615", 1..2)]
    {
        let manager = ServiceManager::new();
        let setup = Setup::alone().any_port();
        let mut command = setup.command("Goloman");
        manager.watch(&mut command, None);
        command.env("WATCHDOG_USEC", value);
        let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
        let mut seen = manager.wait_for("READY=1");
        std::thread::sleep(Duration::from_millis(600));
        seen.extend(manager.all());
        let came = count(&seen, "WATCHDOG=1");
        assert!(pings.contains(&came), "{value}: {came} pings");
        server.assert_serves();
    }
}

/// Goloman, as a service of this manager.
fn start(
    setup: Setup,
    manager: &ServiceManager,
    watchdog: Option<Duration>,
) -> (Setup, ServerProcess) {
    let mut command = setup.command("Goloman");
    manager.watch(&mut command, watchdog);
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    (setup, server)
}

/// Sends to a socket until it takes no more.
fn fill(path: &str) {
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("it is ours");
    while filler.send_to(b"full\n", path).is_ok() {}
}

/// Those of the monotonic clock are never more.
fn microseconds_since_boot() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("/proc");
    let seconds: f64 = text.split_whitespace().next().expect("a number").parse().expect("one");
    ((seconds + 1.0) * 1e6) as u64
}
