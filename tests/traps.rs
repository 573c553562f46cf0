//! Claim: the event loop avoids the traps of `docs/the-loop.md` that no other test shows.

mod common;

use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::{LIMIT, ServerProcess, Setup};

const IAMAT: &str = "IAMAT a +1.0+2.0 10";
const AT: &str = "AT AT a +1.0+2.0 10";

/// All of it is there before the server looks, so there is one edge, and far more than one turn handles.
#[test]
fn work_beyond_the_budget_is_done_without_another_event() {
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut client = server.client();
    assert_eq!(client.ask(IAMAT), AT);
    server.hold();
    let lines = 60_000;
    client.send("\n".repeat(lines));
    client.half_close();
    server.signal(Signal::CONT);
    let answers = client.rest();
    assert!(answers == "? \n".repeat(lines).as_bytes(), "{} bytes", answers.len());
}

/// The same from a client that stays, and so gives the server no event more: no line, no end.
#[test]
fn work_beyond_the_budget_is_done_while_the_client_keeps_its_side_open() {
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut client = server.client();
    assert_eq!(client.ask(IAMAT), AT);
    server.hold();
    let lines = 60_000;
    client.send("\n".repeat(lines));
    server.signal(Signal::CONT);
    for line in 0..lines {
        assert_eq!(client.line_bytes(), b"? ", "answer {line} of {lines}");
    }
}

/// Each line that it sends is a reason to try to write; none of the answers is accepted, so none restarts the clock.
#[test]
fn a_client_that_reads_nothing_is_disconnected_although_it_keeps_sending() {
    let setup = Setup::alone().section("[limits]\nwrite_timeout = \"1s\"\noutput_bytes = 65536");
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut client = server.client();
    client.ask("IAMAT paris +48.8566+2.3522 1");
    assert_eq!(client.whatsat("paris", "31", "20").results().len(), 20);
    // Fifty kilobytes of questions: more megabytes of answers than the kernel's buffers hold.
    client.send("WHATSAT paris 31 20\n".repeat(2_500));
    let begin = Instant::now();
    while client.try_send("x").is_ok() {
        assert!(begin.elapsed() < LIMIT, "it is still connected");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.wait_for_log("write timed out after ");
}

/// A process that was stopped and goes on finds its wait interrupted (Linux, signal(7)).
#[test]
#[cfg(target_os = "linux")]
fn an_interrupted_wait_loses_neither_a_client_nor_a_deadline() {
    let setup = Setup::alone().section("[limits]\nline_timeout = \"500ms\"");
    let server = setup.start("Goloman");
    let mut idle = server.client();
    assert_eq!(idle.ask(IAMAT), AT);
    let mut begun = server.client();
    begun.send("IAM");
    for _ in 0..20 {
        // Only a wait is interrupted, and only one that no event ends: neither may be left to chance.
        server.wait_until_asleep();
        server.hold();
        server.signal(Signal::CONT);
        server.wait_until_asleep();
        assert_eq!(idle.ask(IAMAT), AT);
    }
    assert!(begun.is_closed_within(LIMIT), "its deadline was kept");
    assert_eq!(idle.ask(IAMAT), AT);
}

/// A name takes a look-up, on a thread, and a wake-up that brings the addresses.
#[test]
fn a_neighbour_is_dialled_by_its_name() {
    let setup = Setup::star(&["Hands"]);
    let hands = setup.play("Hands");
    let port = setup.peers_address("Hands").port();
    let toml = setup.toml("Goloman");
    let section = "name = \"Hands\"\n";
    let named = toml.replace(section, &format!("{section}advertise = \"localhost:{port}\"\n"));
    assert_ne!(named, toml);
    let command = setup.command("Goloman");
    let path = setup.folder.path().join("Goloman.toml");
    std::fs::write(path, named).expect("the temporary folder can be written");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut link = hands.greet_empty("00000000000000bb");
    assert_eq!(server.client().ask(IAMAT), AT);
    let (updates, _) = link.until_updates(1);
    assert!(updates[0].starts_with("UPDATELOC a "), "{updates:?}");
}

/// What was accepted is a client although it has left already; its address was known at accept.
#[test]
fn an_aborted_connection_in_the_backlog_is_skipped() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    server.hold();
    for _ in 0..20 {
        server.client().reset();
    }
    let mut stayed = server.client();
    server.signal(Signal::CONT);
    assert_eq!(stayed.ask(IAMAT), AT);
}

/// More comes than one read takes. (The kernel holds no more than that before it is read, so this shows that the answer
/// comes, and not why: that input is read to its end is shown in `tests/connection.rs`.)
#[test]
fn an_answer_is_not_overtaken_by_a_reset() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let mut client = server.client();
    server.hold();
    client.send("x".repeat(100_000));
    server.signal(Signal::CONT);
    let answer = format!("? {}\n", "x".repeat(256));
    assert_eq!(String::from_utf8_lossy(&client.rest()), answer); // a reset would fail it
}

/// An unknown time zone means UTC. That is logged, so that nobody has to guess it from wrong times.
#[test]
fn an_unknown_time_zone_is_logged() {
    let setup = Setup::alone();
    let mut command = setup.command("Goloman");
    command.env("TZ", "No/Where");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    assert_eq!(server.client().ask(IAMAT), AT);
    server.wait_for_log("the local time zone is unknown, so times are UTC");
}

/// A read ends early at the urgent mark, which is no `WouldBlock`: what stands behind it has no edge of its own.
#[test]
#[cfg(target_os = "linux")]
fn input_behind_urgent_data_is_answered_before_more_arrives() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    for round in 0..10 {
        let mut client = server.client();
        assert_eq!(client.ask(IAMAT), AT);
        server.hold(); // so that all of it is there when the server reads
        for piece in ["first\n", "sec", "ond\nthird\n"] {
            client.send(piece);
            socket2::SockRef::from(&client.stream).send_out_of_band(b"!").expect("a send");
        }
        client.send("last\n");
        server.signal(Signal::CONT);
        // Of several urgent bytes only the last one is one: the others stand in line.
        let lines = [(); 4].map(|()| client.line());
        assert_eq!(lines, ["? first", "? !sec!ond", "? third", "? last"], "in round {round}");
    }
}
