//! Claim: only the connection that reaches a limit pays for it. Without descriptors, with a full disk, or with
//! clients that do not read, a server keeps serving the others within bounded memory and time; and if it cannot
//! start, it reports why.

mod common;

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use common::client::Next;
use common::sockets::{open_descriptors, processor_time, resident_bytes, wait_until_read};
use common::{Client, LIMIT, ServerProcess, Setup, connect_as, run_to_end, shown, wait_until};

const IAMAT: &str = "IAMAT a +1.0+2.0 10";
const AT: &str = "AT AT a +1.0+2.0 10";

// Descriptors.

/// A server may keep its own limit of connections below that of descriptors, so new connections may wait or be closed; what
/// counts is that no served client suffers, and that room is used again.
#[test]
fn a_server_with_few_descriptors_serves_open_connections_and_accepts_more_when_it_can() {
    let setup = Setup::alone();
    let inner = setup.command("Goloman");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 40; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.env_remove("HERD_PLACES_KEY");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    runs_out_of_descriptors(&server, 60);
}

/// Lowered under a running server, the limit is met at accept itself.
#[test]
fn without_descriptors_a_server_does_not_spin_and_accepts_again_when_there_are_some() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    let now = u64::try_from(open_descriptors(server.pid())).expect("a few");
    let few = Rlimit { current: Some(now + 12), maximum: Some(now + 12) };
    prlimit(pid, Resource::Nofile, few).expect("the process is ours");
    runs_out_of_descriptors(&server, 40);
}

fn runs_out_of_descriptors(server: &ServerProcess, clients: usize) {
    let mut served: Vec<Client> = Vec::new();
    let mut waiting: Vec<Client> = Vec::new();
    for _ in 0..clients {
        let mut client = server.client();
        _ = client.try_send(format!("{IAMAT}\n"));
        match client.next(Duration::from_millis(if waiting.is_empty() { 1_000 } else { 20 })) {
            Next::Line(line) => {
                assert_eq!(shown(&line), AT);
                served.push(client);
            }
            Next::Silence => waiting.push(client),
            Next::End(_) | Next::Reset => {}
        }
    }
    assert!(
        served.len() >= 5 && served.len() < clients,
        "{} of {clients} are served",
        served.len()
    );

    let before = processor_time(server.pid());
    std::thread::sleep(Duration::from_secs(1));
    let used = processor_time(server.pid()) - before;
    assert!(
        used <= Duration::from_millis(200),
        "waiting for descriptors took {used:?} of a second"
    );
    for client in &mut served {
        assert_eq!(client.ask(IAMAT), AT, "who is served stays so");
    }

    served.truncate(2);
    for client in &mut waiting {
        // At least as many places are free again as the first of them needs.
        let next = client.next(LIMIT);
        assert!(matches!(next, Next::Line(_) | Next::End(_) | Next::Reset), "still waiting");
        if matches!(next, Next::Line(_)) {
            break;
        }
    }
    drop(waiting);
    wait_until(LIMIT, "new connections are served", || {
        let mut client = server.client();
        client.try_send(format!("{IAMAT}\n")).is_ok() && matches!(client.next(LIMIT), Next::Line(_))
    });
}

// Clients that don't read, don't finish, don't say anything.

#[test]
fn a_client_that_never_reads_is_paused_then_disconnected_without_affecting_others() {
    let setup = Setup::alone().section("[limits]\noutput_bytes = 65536\nwrite_timeout = \"1s\"");
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    server.assert_serves();
    let before = resident_bytes(server.pid());
    let mut greedy = server.client();
    greedy.stream.set_write_timeout(Some(Duration::from_millis(100))).expect("a write timeout");
    let line = format!("{}\n", "x".repeat(4_000)).repeat(16);
    let begin = Instant::now();
    let mut sent = 0_u64;
    let mut was_stopped = false;
    loop {
        match greedy.stream.write(line.as_bytes()) {
            Ok(count) => sent += u64::try_from(count).expect("a small number"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                was_stopped = true
            }
            Err(_) => break, // disconnected
        }
        // The kernel's buffers of both ends hold some megabytes.
        assert!(sent < 64 << 20, "the server took {sent} bytes whose answers nobody reads");
        assert!(
            begin.elapsed() < LIMIT,
            "a client that took no byte for a second is still connected"
        );
        server.assert_serves();
    }
    assert!(was_stopped, "the server stopped reading before it disconnected, after {sent} bytes");
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 16 << 20, "grown by {grown} bytes");
}

#[test]
fn a_slow_reader_gets_every_answer() {
    let setup = Setup::alone().section("[limits]\noutput_bytes = 8192\nwrite_timeout = \"2s\"");
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut slow = server.client();
    let mut writer = slow.stream.try_clone().expect("a descriptor");
    const COUNT: usize = 20_000;
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let lines: String =
                (0..COUNT).map(|number| format!("{number} {}\n", "y".repeat(200))).collect();
            writer.write_all(lines.as_bytes()).expect("the server takes it as we read");
        });
        for number in 0..COUNT {
            if number % 4_000 == 0 {
                std::thread::sleep(Duration::from_millis(300));
            }
            assert!(slow.line().starts_with(&format!("? {number} ")), "answers keep their order");
        }
    });
}

#[test]
fn an_incomplete_line_times_out_and_an_idle_connection_does_not() {
    let setup = Setup::alone().section("[limits]\nline_timeout = \"300ms\"");
    let server = setup.start("Goloman");
    let mut idle = server.client();
    let mut after_a_line = server.client();
    assert_eq!(after_a_line.ask(IAMAT), AT);
    let mut begun = server.client();
    begun.send("IAMAT a +1.0");
    // Time counts from the line's first byte: dripping does not prolong it.
    let mut dripping = server.client();
    let begin = Instant::now();
    while dripping.try_send("x").is_ok()
        && dripping.next(Duration::from_millis(40)) == Next::Silence
    {
        assert!(begin.elapsed() < LIMIT, "a line that is begun for {:?} already", begin.elapsed());
    }
    assert!(begun.is_closed_within(LIMIT));
    assert_eq!(idle.ask(IAMAT), AT, "who says nothing has begun nothing");
    assert_eq!(after_a_line.ask(IAMAT), AT);
}

#[test]
fn a_slow_line_within_the_time_limit_is_answered() {
    let setup = Setup::alone().section("[limits]\nline_timeout = \"20s\"");
    let server = setup.start("Goloman");
    let mut client = server.client();
    for byte in format!("{IAMAT}\r\n").bytes() {
        client.send([byte]);
        wait_until_read(&client.stream);
    }
    assert_eq!(client.line(), AT);
}

#[test]
fn at_the_connection_limit_a_new_client_is_refused_if_none_is_idle_long_enough() {
    let setup = Setup::star(&["Hands"]).section("[limits]\nclient_connections = 5");
    let server = setup.start("Goloman");
    let mut five: Vec<Client> = (0..5).map(|_| server.client()).collect();
    for client in &mut five {
        assert_eq!(client.ask(IAMAT), AT);
    }
    for _ in 0..3 {
        assert!(server.client().is_closed_within(LIMIT), "the sixth");
    }
    connect_as(&server, "Hands", "00000000000000aa"); // neighbours are not counted
    for client in &mut five {
        assert_eq!(client.ask(IAMAT), AT, "the five are not touched");
    }
    five.pop();
    wait_until(LIMIT, "the place is given again", || {
        let mut client = server.client();
        client.try_send(format!("{IAMAT}\n")).is_ok() && matches!(client.next(LIMIT), Next::Line(_))
    });
}

#[test]
fn at_most_64_unidentified_peers_wait_on_the_neighbours_port() {
    let setup = Setup::star(&["Hands"]).heartbeat("3s");
    let server = setup.start("Goloman");
    let begin = Instant::now();
    let mut peers: Vec<Client> = (0..80).map(|_| server.peer()).collect();
    // Those past the 64th are closed while the rest may still wait for its heartbeat.
    let mut closed = 0;
    wait_until(LIMIT, "no more than 64 wait", || {
        peers.retain_mut(|peer| !peer.is_closed_within(Duration::from_millis(1)));
        closed = 80 - peers.len();
        closed >= 16
    });
    if begin.elapsed() < Duration::from_secs(3) {
        assert_eq!(closed, 16, "and no fewer, before their heartbeat is over");
    }
    server.assert_serves();
    for peer in &mut peers {
        assert!(peer.is_closed_within(LIMIT), "a heartbeat is over");
    }
    connect_as(&server, "Hands", "00000000000000aa");
}

// Lines.

#[test]
fn a_line_of_the_maximum_length_is_accepted_and_one_byte_more_closes_the_connection() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let limit = "z".repeat(4_096);
    for ending in ["\n", "\r\n"] {
        let mut client = server.client();
        client.send(format!("{limit}{ending}{IAMAT}{ending}"));
        assert_eq!(client.line(), format!("? {limit}"));
        assert_eq!(client.line(), AT, "and the connection stays");

        let mut client = server.client();
        client.send(format!("{limit}z{ending}{IAMAT}{ending}"));
        assert_eq!(shown(&client.rest()), shown(format!("? {}\n", "z".repeat(256)).as_bytes()));
    }
    // Of two CR only the last one belongs to the ending.
    let mut client = server.client();
    client.send(format!("{limit}\r\r\n"));
    assert_eq!(shown(&client.rest()), shown(format!("? {}\n", "z".repeat(256)).as_bytes()));
    // The last line without LF has the same limit.
    let mut client = server.client();
    client.send(&limit);
    client.half_close();
    assert_eq!(shown(&client.rest()), shown(format!("? {limit}\n").as_bytes()));
}

#[test]
fn the_line_limit_is_the_same_when_bytes_arrive_one_by_one() {
    let setup = Setup::alone().section("[limits]\nline_bytes = 300");
    let server = setup.start("Goloman");
    let limit = "z".repeat(300);
    for ending in ["\n", "\r\n"] {
        let mut client = server.client();
        byte_by_byte(&mut client, &format!("{limit}{ending}{IAMAT}{ending}"));
        assert_eq!(client.line(), format!("? {limit}"));
        assert_eq!(client.line(), AT);

        let mut client = server.client();
        byte_by_byte(&mut client, &format!("{limit}z{ending}"));
        assert_eq!(shown(&client.rest()), shown(format!("? {}\n", "z".repeat(256)).as_bytes()));
    }
}

#[test]
fn a_line_without_an_end_is_refused_while_it_is_still_arriving() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let before = resident_bytes(server.pid());
    let mut client = server.client();
    let mut sent = 0;
    let piece = vec![b'z'; 65_536];
    while client.try_send(&piece).is_ok() {
        sent += piece.len();
        assert!(sent < 256 << 20, "still taken after {sent} bytes");
    }
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 8 << 20, "grown by {grown} bytes");
    let mut client = server.client();
    client.send(vec![b'z'; 4_098]);
    assert_eq!(
        shown(&client.rest()),
        shown(format!("? {}\n", "z".repeat(256)).as_bytes()),
        "no LF is needed to see it"
    );
}

#[test]
fn an_http_request_line_closes_the_connection() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    for version in ["1.0", "1.1"] {
        let mut client = server.client();
        client.send(format!("POST /? HTTP/{version}\r\nHost: localhost\r\n\r\n{IAMAT}\r\n"));
        assert_eq!(shown(&client.rest()), shown(format!("? POST /? HTTP/{version}\n").as_bytes()));
    }
    assert_eq!(server.client().ask("WHATSAT a 10 0"), "? WHATSAT a 10 0");
    assert_eq!(server.client().ask("GET / HTTP/2"), "? GET / HTTP/2");
}

// Order and ends.

#[test]
fn pipelined_commands_are_answered_in_order_and_nothing_overtakes_a_whatsat() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let mut client = server.client();
    let mut lines = String::new();
    for round in 0..50 {
        lines +=
            &format!("IAMAT a +34.068930-118.445127 {round}\nWHATSAT a 10 1\nnonsense {round}\n");
    }
    client.send(lines);
    for round in 0..50 {
        let at = format!("AT AT a +34.068930-118.445127 {round}");
        assert_eq!(client.line(), at);
        let answer = client.answer();
        assert_eq!(
            (&answer.first, answer.results().len()),
            (&at, 1),
            "what stood when its turn came"
        );
        assert_eq!(client.line(), format!("? nonsense {round}"));
    }
}

#[test]
fn a_pending_whatsat_is_answered_before_the_connection_closes() {
    let setup = Setup::alone();
    for last in ["WHATSAT a 10 5\n", "WHATSAT a 10 5"] {
        // A fresh one, whose first answer waits for the gazetteer.
        let server = setup.start("Goloman");
        let mut client = server.client();
        client.send(format!("IAMAT a +34.068930-118.445127 10\n{last}"));
        client.half_close();
        let at = "AT AT a +34.068930-118.445127 10";
        assert_eq!(client.line(), at);
        let answer = client.answer();
        assert_eq!(
            (&answer.first[..], &answer.status()[..], answer.results().len()),
            (at, "OK", 5)
        );
        client.expect_end();
    }
}

#[test]
fn resets_at_any_moment_leave_nothing_behind() {
    let setup = Setup::star(&["Hands"]);
    let server = setup.start("Goloman");
    server.assert_serves();
    let wait_for_descriptors = |limit: usize, what: &str| {
        wait_until(LIMIT, what, || open_descriptors(server.pid()) <= limit);
    };
    let before = open_descriptors(server.pid());
    let moments = [
        "".to_owned(),
        "IAM".to_owned(),
        format!("{IAMAT}\n"),
        format!("{IAMAT}\nWHATSAT a 10 20\n").repeat(50),
        format!("{}\n", "x".repeat(4_000)).repeat(100),
        "x".repeat(5_000),
        "GET / HTTP/1.1\r\nHost: me\r\n".to_owned(),
    ];
    for moment in &moments {
        for wait in [false, true] {
            let mut client = server.client();
            _ = client.try_send(moment);
            if wait {
                _ = client.next(Duration::from_millis(20));
            }
            client.reset();
        }
    }
    for moment in [
        "",
        "HEL",
        "HELLO herd/1 Hands 00000000000000aa\n",
        "HELLO herd/1 Hands 00000000000000aa\nUPDATELOC a",
    ] {
        let mut client = server.peer();
        _ = client.try_send(moment);
        client.reset();
    }
    server.assert_serves();
    wait_for_descriptors(before + 1, "every reset connection is given back");
}

#[test]
fn sigterm_answers_what_was_received_and_ends_with_0() {
    let setup = Setup::alone();
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = setup.start("Goloman");
        let mut idle = server.client();
        assert_eq!(idle.ask(IAMAT), AT);
        let mut client = server.client();
        const COUNT: usize = 500;
        client.send((0..COUNT).map(|number| format!("line {number}\n")).collect::<String>());
        client.send("WHATSAT a 10 1\n");
        wait_until_read(&client.stream);
        server.signal(signal);
        for number in 0..COUNT {
            assert_eq!(client.line(), format!("? line {number}"));
        }
        assert_eq!(client.answer().first, AT);
        client.expect_end();
        assert!(idle.is_closed_within(LIMIT), "who waits for nothing is closed");
        assert_eq!(server.wait().code(), Some(0));
        assert!(Client::try_connect(server.clients).is_err());
    }
}

// The log.

#[test]
fn a_full_disk_under_the_log_does_not_stop_the_service() {
    let setup = Setup::alone();
    std::os::unix::fs::symlink("/dev/full", setup.log_file("Goloman")).expect("a symbolic link");
    let mut server = setup.start("Goloman");
    let mut client = server.client();
    for number in 0..2_000 {
        assert_eq!(
            client.ask(&format!("IAMAT c{number} +1.0+2.0 10")),
            format!("AT AT c{number} +1.0+2.0 10")
        );
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

#[test]
fn sighup_reopens_a_log_that_was_moved_away() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    assert_eq!(
        server.client().ask("IAMAT before.rotation +1.0+2.0 10"),
        "AT AT before.rotation +1.0+2.0 10"
    );
    server.wait_for_log("before.rotation");
    let old = setup.folder.path().join("Goloman_log.txt.1");
    std::fs::rename(&server.log_file, &old).expect("it is there");
    server.signal(Signal::HUP);
    wait_until(LIMIT, "a new log is there", || server.log_file.exists());
    assert_eq!(
        server.client().ask("IAMAT after.rotation +1.0+2.0 10"),
        "AT AT after.rotation +1.0+2.0 10"
    );
    server.wait_for_log("after.rotation");
    assert!(!server.log().contains("before.rotation"));
    let old = std::fs::read_to_string(old).expect("the old log");
    assert!(old.contains("before.rotation") && !old.contains("after.rotation"), "{old}");
}

#[test]
fn sighup_keeps_the_old_log_if_the_new_one_cannot_be_opened() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let old = setup.folder.path().join("elsewhere");
    std::fs::rename(&server.log_file, &old).expect("it is there");
    std::fs::create_dir(&server.log_file).expect("a folder where the log should be");
    server.signal(Signal::HUP);
    wait_until(LIMIT, "it goes on in the old file", || {
        server.client().ask(IAMAT) == AT
            && std::fs::read_to_string(&old).is_ok_and(|log| log.contains(" a +1.0+2.0 10"))
    });
}

// Starts that fail.

#[test]
fn a_port_in_use_is_reported_with_exit_status_1() {
    let setup = Setup::alone();
    for taken in [setup.clients_address("Goloman"), setup.peers_address("Goloman")] {
        let holder = TcpListener::bind(taken).expect("the port is ours");
        let ended = run_to_end(setup.command("Goloman"));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&taken.port().to_string()), "it names the port: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
        drop(holder);
    }
    setup.start("Goloman").assert_serves();
}

#[test]
fn an_address_of_another_host_is_reported_with_exit_status_1() {
    let setup = Setup::alone();
    let file = setup.folder.path().join("far.toml");
    // Kept for documentation: no machine has it (RFC 5737).
    let far: SocketAddr = "192.0.2.1:12138".parse().expect("an address");
    let peer_listen = "peer_listen = \"127.0.0.1:0\"";
    let text = format!("[[server]]\nname = \"Goloman\"\nlisten = \"{far}\"\n{peer_listen}\n");
    std::fs::write(&file, text).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command
        .args(["--server", "Goloman", "--config"])
        .arg(&file)
        .arg("--log-dir")
        .arg(setup.folder.path());
    let ended = run_to_end(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&far.to_string()), "it names the address: {ended:?}");
}

#[test]
fn an_unwritable_log_folder_is_reported_at_the_start() {
    let setup = Setup::alone();
    let file = setup.folder.path().join("a-file");
    std::fs::write(&file, "no folder").expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--server", "Goloman", "--config"]).arg(setup.config_file("Goloman"));
    command.arg("--log-dir").arg(&file);
    let ended = run_to_end(command);
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert!(ended.stderr.contains("a-file"), "it names the folder: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

#[test]
fn an_unknown_server_is_reported_with_the_existing_names_and_exit_status_2() {
    let setup = Setup::report();
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--server", "Gollum", "--config"]).arg(setup.config_file("Gollum"));
    command.arg("--log-dir").arg(setup.folder.path());
    let ended = run_to_end(command);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for name in ["Gollum", "Goloman", "Hands", "Holiday", "Wilkes", "Welsh"] {
        assert!(ended.stderr.contains(name), "it names {name}: {ended:?}");
    }
}

fn byte_by_byte(client: &mut Client, text: &str) {
    for byte in text.bytes() {
        if client.try_send([byte]).is_err() {
            return; // closed, as the answer will show
        }
    }
}
