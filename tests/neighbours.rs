//! Claim: a neighbour that says HELLO is dialled at once, whatever pause its link was in. Servers exchange the
//! settings that must be the same in the herd, and each reports differences and duplicate names to its operator:
//! once, then rarely, and once more when it is over.

mod common;

use std::time::Duration;

use common::{Client, LIMIT, ServerProcess, Setup, connect_as, wait_until};

/// Runs of neighbours that we play.
const FIRST_RUN: &str = "00000000000000aa";
const SECOND_RUN: &str = "00000000000000bb";

/// Goloman, whose neighbour Hands is not played yet.
fn goloman() -> (Setup, ServerProcess) {
    let setup = Setup::star(&["Hands"]).heartbeat("60s");
    let goloman = setup.start_with("Goloman", &["--log-level", "debug"]);
    (setup, goloman)
}

fn records(server: &ServerProcess, text: &str) -> usize {
    server.log().lines().filter(|record| record.contains(text)).count()
}

/// Waits until all is in the log that was caused by what `client` has said.
fn settle(server: &ServerProcess, client: &mut Client, mark: u64) {
    assert_eq!(client.ask(&format!("MARK {mark}")), format!("ACK {mark}"));
    server.wait_for_log(&format!("Received from Hands: MARK {mark}"));
}

#[test]
fn a_neighbour_that_says_hello_is_dialled_before_its_next_line_is_handled() {
    let (setup, goloman) = goloman();
    let dialled = "Dialling Hands";
    wait_until(LIMIT, "the pauses grow", || records(&goloman, dialled) >= 5);
    let hands = setup.play("Hands");
    let (mut client, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    // The first mark is none of what is recorded line by line.
    client.ask("MARK 1");
    settle(&goloman, &mut client, 2);
    let log = goloman.log();
    let (_, behind) = log.split_once(&format!("HELLO herd/1 Hands {FIRST_RUN}")).expect("seen");
    let (between, _) = behind.split_once("Received from Hands: MARK 2").expect("seen");
    assert!(between.contains(dialled), "{between}");
    hands.greet_empty(SECOND_RUN).until_mark();
}

#[test]
fn without_refill_a_reconnected_neighbour_receives_new_updates() {
    let setup = Setup::star(&["Hands"]).section("[link]\nrefill = false\nheartbeat = \"60s\"");
    let goloman = setup.start_with("Goloman", &["--log-level", "debug"]);
    wait_until(LIMIT, "the pauses grow", || records(&goloman, "Dialling Hands") >= 5);
    let hands = setup.start("Hands");
    goloman.wait_for_log("The link to Hands is up");
    // It was dialled at its HELLO, at the latest: before its first MARK was handled, and then no more.
    goloman.wait_for_log("missed updates from Hands");
    let log = goloman.log();
    let (before, behind) = log.split_once("missed updates from Hands").expect("just seen");
    assert!(!behind.contains("Dialling Hands"), "{behind}");
    assert!(before.contains("Hands is connected, and sends"), "{before}");
    let known = goloman.client().ask("IAMAT kiwi +1.0+2.0 10");
    wait_until(LIMIT, "Hands knows", || hands.client().ask("WHATSAT kiwi 1 0") == known);
}

#[test]
fn repeated_hellos_of_an_unreachable_neighbour_do_not_cause_a_dial_each() {
    let (_setup, goloman) = goloman();
    for run in 0..500 {
        connect_as(&goloman, "Hands", &format!("{:016x}", 0xa0 + run % 3));
    }
    let (mut client, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    client.ask("MARK 1");
    settle(&goloman, &mut client, 2);
    let dials = records(&goloman, "Dialling Hands");
    assert!(dials < 50, "{dials} dials, 500 HELLOs");
}

#[test]
fn settings_are_sent_once_before_anything_else() {
    for (top, line) in [
        ("", "SETTINGS report 1000000 300000"),
        (
            "dialect = \"course\"\nmax_clients = 5\nmax_future = \"1500ms\"",
            "SETTINGS course 5 1500",
        ),
    ] {
        let setup = Setup::star(&["Hands"]).heartbeat("200ms").top(top);
        let hands = setup.play("Hands");
        let _goloman = setup.start("Goloman");
        let mut link = hands.greet_empty(FIRST_RUN);
        assert_eq!(link.settings(), line);
        for _ in 0..3 {
            link.until_mark(); // which fails on any other line
        }
    }
}

#[test]
fn differing_settings_are_reported_once_and_again_when_they_agree() {
    let (_setup, goloman) = goloman();
    let differ = |name: &str| format!("WARNING: Hands has `{name}` = ");
    let agree = |name: &str| format!("WARNING: Hands has the same `{name}` as this server now.");
    let say = |settings: &str, run: &str| {
        let (mut client, _) = connect_as(&goloman, "Hands", run);
        client.send(format!("{settings}\n"));
        client.ask("MARK 1");
        settle(&goloman, &mut client, 2);
    };
    say("SETTINGS report 1000000 300000", FIRST_RUN);
    assert_eq!(records(&goloman, " WARNING: Hands has"), 0);
    for _ in 0..5 {
        say("SETTINGS course 5 1500 and more of a later version", FIRST_RUN);
    }
    for (name, theirs, ours) in [
        ("dialect", "course", "report"),
        ("max_clients", "5", "1000000"),
        ("max_future", "1500 ms", "300000 ms"),
    ] {
        let record = format!("{}{theirs}, and this server {ours}.", differ(name));
        assert_eq!(records(&goloman, &record), 1, "{record}\n{}", goloman.log());
        assert_eq!(records(&goloman, &agree(name)), 0);
    }
    say("SETTINGS report 5 300000", SECOND_RUN);
    let seen = ["dialect", "max_clients", "max_future"].map(|name| records(&goloman, &agree(name)));
    assert_eq!(seen, [1, 0, 1], "{}", goloman.log());
    say("SETTINGS report 1000000 300000", SECOND_RUN);
    assert_eq!(records(&goloman, &agree("max_clients")), 1);
    assert_eq!(records(&goloman, " WARNING: Hands has"), 6, "{}", goloman.log());
}

#[test]
fn duplicate_server_names_are_reported_once() {
    let (setup, goloman) = goloman();
    let _hands = setup.play("Hands");
    let warning = "WARNING: Two or more servers use the name Hands";
    for run in [FIRST_RUN, SECOND_RUN] {
        connect_as(&goloman, "Hands", run);
    }
    connect_as(&goloman, "Hands", SECOND_RUN);
    let (mut client, _) = connect_as(&goloman, "Hands", "00000000000000cc");
    client.ask("MARK 1");
    settle(&goloman, &mut client, 2);
    assert_eq!(records(&goloman, warning), 0, "restarts are none: {}", goloman.log());
    for _ in 0..20 {
        connect_as(&goloman, "Hands", FIRST_RUN);
        connect_as(&goloman, "Hands", SECOND_RUN);
    }
    goloman.wait_for_log(warning);
    let (mut client, _) = connect_as(&goloman, "Hands", SECOND_RUN);
    client.ask("MARK 3");
    settle(&goloman, &mut client, 4);
    assert_eq!(records(&goloman, warning), 1, "{}", goloman.log());
}

#[test]
fn duplicate_server_names_are_reported_by_their_neighbour() {
    let setup = Setup::star(&["Hands"]).heartbeat("1s");
    let goloman = setup.start("Goloman");
    let _hands = setup.start("Hands");
    // An old host that came back: on ports of its own, and with Goloman at the same place.
    let text = setup.toml("Hands");
    let (before, own) = text.split_at(text.find("name = \"Hands\"").expect("Hands"));
    let lines = own.lines().map(|line| match line.split_once(" = ") {
        Some(("listen", _)) => "listen = \"127.0.0.1:0\"\n".to_owned(),
        // With neighbours it needs an address to be dialled at; Goloman dials the one that its own file names.
        Some(("peer_listen", _)) => {
            "peer_listen = \"127.0.0.1:0\"\nadvertise = \"127.0.0.1:9\"\n".to_owned()
        }
        _ => format!("{line}\n"),
    });
    let other = tempfile::tempdir().expect("a folder");
    let file = other.path().join("herd.toml");
    std::fs::write(&file, before.to_owned() + &lines.collect::<String>()).expect("written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--server", "Hands", "--config"]).arg(&file).arg("--log-dir").arg(other.path());
    let _other = ServerProcess::spawn(command, "Hands", other.path().join("Hands_log.txt"));
    goloman.wait_for_log("WARNING: Two or more servers use the name Hands");
    let log = goloman.log();
    let record =
        log.lines().find(|record| record.contains("Two or more servers")).expect("just seen");
    assert!(record.contains("127.0.0.1:"), "it names the address: {record}");
}

#[test]
fn a_server_with_our_own_name_is_reported_once() {
    let (_setup, goloman) = goloman();
    for _ in 0..10 {
        let mut client = goloman.peer();
        let line = format!("HELLO herd/1 Goloman {FIRST_RUN}");
        assert_eq!(client.ask(&line), format!("? {line}"));
        client.expect_end();
    }
    let (mut client, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    client.ask("MARK 1");
    settle(&goloman, &mut client, 2);
    let warning = "with this one's own name, Goloman.";
    assert_eq!(records(&goloman, warning), 1, "{}", goloman.log());
    assert!(goloman.log().lines().any(|it| it.contains(warning) && it.contains("WARNING")));
}

#[test]
fn loops_and_servers_of_one_configuration_cause_no_warnings() {
    let setup = Setup::star(&["Hands"]).top("loops = 3\ndialect = \"course\"").heartbeat("100ms");
    let hands = setup.start("Hands");
    let goloman = setup.start("Goloman");
    for (server, other) in [(&goloman, "Hands"), (&hands, "Goloman")] {
        server.wait_for_log(&format!("Received from {other}: SETTINGS course 1000000 300000"));
        let own = if other == "Hands" { "Goloman" } else { "Hands" };
        for worker in [2, 3] {
            server.wait_for_log(&format!("Received from {own}/{worker}: SETTINGS course"));
        }
    }
    std::thread::sleep(Duration::from_millis(500)); // Several heartbeats.
    for server in [goloman, hands] {
        let log = server.log();
        let is_of_us = |record: &&str| {
            record.contains("WARNING")
                && ["use the name", "own name", "has `"].iter().any(|it| record.contains(it))
        };
        assert_eq!(log.lines().find(is_of_us), None);
    }
}
