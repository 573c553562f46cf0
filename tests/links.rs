//! Claim: both sides of a link keep to the protocol, seen by a neighbour that the test plays: HELLO, RESUME, what
//! is sent again and what is not, MARK, ACK, and when a link is closed.

mod common;

use std::time::Duration;

use rustix::process::Signal;

use common::client::Next;
use common::neighbour::Resume;
use common::{Client, FakeNeighbour, LIMIT, ServerProcess, Setup, connect_as, wait_until};

/// Runs of neighbours that we play.
const FIRST_RUN: &str = "00000000000000aa";
const SECOND_RUN: &str = "00000000000000bb";

/// For what must not come: a link that has something to say says it in far less.
const QUIET: Duration = Duration::from_millis(300);

fn goloman_and_hands() -> (Setup, FakeNeighbour, ServerProcess) {
    let setup = Setup::star(&["Hands"]).heartbeat("60s");
    let hands = setup.play("Hands");
    let goloman = setup.start("Goloman");
    (setup, hands, goloman)
}

fn tell(server: &ServerProcess, id: &str, timestamp: &str) {
    let answer = server.client().ask(&format!("IAMAT {id} +1.0+2.0 {timestamp}"));
    assert_eq!(answer, format!("AT AT {id} +1.0+2.0 {timestamp}"));
}

fn ids(updates: &[String]) -> Vec<&str> {
    updates.iter().map(|update| update.split(' ').nth(1).expect("an id")).collect()
}

// The dialling side.

#[test]
fn a_neighbour_that_knows_nothing_gets_everything_and_then_a_mark() {
    let (_setup, hands, goloman) = goloman_and_hands();
    for (id, timestamp) in [("a", "10"), ("b", "11"), ("c", "12"), ("a", "13.5")] {
        tell(&goloman, id, timestamp);
    }
    let mut link = hands.greet();
    assert_eq!(link.from, "Goloman");
    link.resume("0", 0, FIRST_RUN);
    let (updates, _) = link.until_updates(3);
    assert_eq!(
        ids(&updates),
        ["b", "c", "a"],
        "one entry a client, its latest, in the order of their changes"
    );
    let form = r"^UPDATELOC a \+1\.0\+2\.0 13\.5 Goloman \+[0-9]+\.[0-9]{9}$";
    assert!(regex::Regex::new(form).expect("a regex").is_match(&updates[2]), "{updates:?}");
}

#[test]
fn an_empty_table_is_a_mark_alone() {
    let (_setup, hands, _goloman) = goloman_and_hands();
    let mut link = hands.greet_empty(FIRST_RUN);
    assert_eq!(link.until_mark().0, [""; 0]);
}

#[test]
fn resumed_from_a_mark_a_link_sends_only_what_is_newer() {
    let (_setup, hands, goloman) = goloman_and_hands();
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    tell(&goloman, "a", "10");
    tell(&goloman, "b", "11");
    let (_, mark) = link.until_updates(2);
    let epoch = link.epoch.clone();
    drop(link);
    tell(&goloman, "c", "12");
    let mut link = hands.greet();
    assert_eq!(link.epoch, epoch, "it is the same run");
    link.resume(&epoch, mark, FIRST_RUN);
    let (updates, _) = link.until_updates(1);
    assert_eq!(ids(&updates), ["c"]);
    link.expect_no_update(QUIET);
}

#[test]
fn a_mark_of_another_epoch_or_past_the_end_starts_from_the_beginning() {
    let (_setup, hands, goloman) = goloman_and_hands();
    tell(&goloman, "a", "10");
    tell(&goloman, "b", "11");
    let mut link = hands.greet();
    let epoch = link.epoch.clone();
    link.resume("123456789abcdef0", 2, FIRST_RUN);
    assert_eq!(ids(&link.until_updates(2).0), ["a", "b"], "of another run");
    drop(link);
    let mut link = hands.greet();
    link.resume(&epoch, u64::MAX, FIRST_RUN);
    assert_eq!(ids(&link.until_updates(2).0), ["a", "b"], "past the end");
}

#[test]
fn a_neighbour_with_another_name_is_disconnected_and_an_error_logged() {
    let (_setup, hands, goloman) = goloman_and_hands();
    let mut link = hands.greet();
    link.client.send(format!("RESUME 0 0 {FIRST_RUN} Wilkes\n"));
    assert!(link.client.is_closed_within(LIMIT));
    goloman.wait_for_log(" - ERROR: ");
    let log = goloman.log();
    let error = log.lines().find(|record| record.contains(" - ERROR: ")).expect("just seen");
    assert!(error.contains("Wilkes") && error.contains("Hands"), "it names both: {error}");
}

#[test]
fn anything_but_resume_and_ack_ends_the_link() {
    let (_setup, hands, goloman) = goloman_and_hands();
    let lines = [
        "HTTP/1.1 400 Bad Request",
        "",
        "ACK 1",
        "RESUME 0 0",
        "RESUME 0 x 00000000000000aa Hands",
    ];
    for line in lines {
        let mut link = hands.greet();
        link.client.send(format!("{line}\n"));
        assert!(link.client.is_closed_within(LIMIT), "after {line:?}");
    }
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    link.client.send("UPDATELOC a +1.0+2.0 10 Welsh +0.000000001\n");
    assert!(link.client.is_closed_within(LIMIT), "a link carries one direction");
    assert_eq!(goloman.client().ask("WHATSAT a 10 0"), "? WHATSAT a 10 0");
}

#[test]
fn an_update_is_not_sent_back_to_its_source_epoch() {
    let (_setup, hands, goloman) = goloman_and_hands();
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    let (mut inward, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    assert_eq!(inward_update(&mut inward, "theirs", 1), "ACK 1");
    tell(&goloman, "ours", "20");
    let (updates, _) = link.until_updates(1);
    assert_eq!(ids(&updates), ["ours"]);
    link.expect_no_update(QUIET);
}

#[test]
fn a_neighbour_that_restarted_gets_its_own_updates_back() {
    let (_setup, hands, goloman) = goloman_and_hands();
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    let (mut inward, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    assert_eq!(inward_update(&mut inward, "theirs", 1), "ACK 1");
    drop(inward);
    drop(link);
    let mut link = hands.greet_empty(SECOND_RUN);
    assert_eq!(ids(&link.until_updates(1).0), ["theirs"], "its new run does not have it any more");
}

#[test]
fn an_update_from_one_neighbour_goes_on_to_the_others() {
    let setup = Setup::star(&["Hands", "Holiday"]).heartbeat("60s");
    let holiday = setup.play("Holiday");
    let goloman = setup.start("Goloman");
    let mut link = holiday.greet_empty(FIRST_RUN);
    link.until_mark();
    let (mut inward, _) = connect_as(&goloman, "Hands", SECOND_RUN);
    inward.send("UPDATELOC a +1.0+2.0 10 Welsh -0.000000001\nMARK 1\n");
    assert_eq!(inward.line(), "ACK 1");
    let (updates, _) = link.until_updates(1);
    assert_eq!(updates, ["UPDATELOC a +1.0+2.0 10 Welsh -0.000000001"], "every field as it came");
    // What changes nothing goes nowhere.
    inward.send("UPDATELOC a +1.0+2.0 10 Welsh -0.000000001\nUPDATELOC a +9.0+9.0 9 Welsh +0.000000001\nMARK 2\n");
    assert_eq!(inward.line(), "ACK 2");
    link.expect_no_update(QUIET);
}

#[test]
fn without_refill_a_link_begins_at_the_end_of_the_feed() {
    let setup = Setup::star(&["Hands"]).section("[link]\nheartbeat = \"60s\"\nrefill = false");
    let hands = setup.play("Hands");
    let goloman = setup.start("Goloman");
    tell(&goloman, "missed", "10");
    let mut link = hands.greet_empty(FIRST_RUN);
    assert_eq!(link.until_mark().0, [""; 0]);
    tell(&goloman, "received", "11");
    assert_eq!(ids(&link.until_updates(1).0), ["received"]);
}

#[test]
fn a_mark_comes_after_a_thousand_updates_in_the_middle_of_catching_up() {
    let (_setup, hands, goloman) = goloman_and_hands();
    const COUNT: usize = 5_000;
    let lines: String = (0..COUNT).map(|id| format!("IAMAT c{id} +1.0+2.0 10\n")).collect();
    let mut client = goloman.client();
    client.send(lines);
    for _ in 0..COUNT {
        client.line();
    }
    let mut link = hands.greet_empty(FIRST_RUN);
    let mut count = 0;
    let mut last = 0;
    while count < COUNT {
        let (updates, mark) = link.until_mark();
        let bytes: usize = updates.iter().map(|update| update.len() + 1).sum();
        // Where one write is filled before the mark is due the mark may stand behind it; more than a few lines is late.
        assert!(
            updates.len() <= 1_000 && bytes <= 70_000,
            "{} updates, {bytes} bytes without a mark",
            updates.len()
        );
        assert!(mark >= last, "marks rise: {mark} after {last}");
        count += updates.len();
        last = mark;
    }
    assert_eq!(count, COUNT);
}

#[test]
fn a_link_sends_marks_as_heartbeats_and_is_closed_without_acks() {
    let setup = Setup::star(&["Hands"]).heartbeat("200ms");
    let hands = setup.play("Hands");
    let goloman = setup.start("Goloman");
    let mut link = hands.greet_empty(FIRST_RUN);
    for _ in 0..4 {
        link.until_mark();
    }
    // From here on no ACK: three heartbeats after the next mark it is closed, and dialled again.
    assert!(link.client.is_closed_within(LIMIT));
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    assert!(goloman.log().lines().count() > 1);
}

#[test]
fn sigterm_waits_until_the_last_mark_is_acknowledged() {
    let (_setup, hands, mut goloman) = goloman_and_hands();
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    tell(&goloman, "last", "10");
    goloman.signal(Signal::TERM);
    let (updates, mark) = link.until_mark_silently();
    assert_eq!(ids(&updates), ["last"]);
    assert!(
        goloman.is_running(),
        "the mark is not acknowledged yet, and the grace time is not over"
    );
    link.ack(mark);
    assert_eq!(goloman.wait().code(), Some(0));
    assert!(link.client.is_closed_within(LIMIT));
}

#[test]
fn sigterm_does_not_wait_indefinitely() {
    let (_setup, hands, mut goloman) = goloman_and_hands();
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    tell(&goloman, "last", "10");
    goloman.signal(Signal::TERM);
    assert_eq!(goloman.wait().code(), Some(0), "the neighbour never acknowledges");
}

// The accepting side.

/// Sends the server an update over a link of this test; returns the answer to the mark.
fn inward_update(inward: &mut Client, id: &str, mark: u64) -> String {
    inward.ask(&format!("UPDATELOC {id} +1.0+2.0 10 Hands +0.000000001\nMARK {mark}"))
}

#[test]
fn resume_has_the_epoch_and_its_last_mark() {
    let (_setup, _hands, goloman) = goloman_and_hands();
    let (mut inward, resume) = connect_as(&goloman, "Hands", FIRST_RUN);
    let own_epoch = resume.own_epoch.clone();
    let nothing = Resume {
        epoch: "0".into(),
        mark: 0,
        own_epoch: own_epoch.clone(),
        own_name: "Goloman".into(),
    };
    assert_eq!(resume, nothing);
    assert_eq!(inward_update(&mut inward, "a", 17), "ACK 17");
    drop(inward);
    let (mut inward, resume) = connect_as(&goloman, "Hands", FIRST_RUN);
    assert_eq!((&resume.epoch[..], resume.mark), (FIRST_RUN, 17));
    assert_eq!(resume.own_epoch, own_epoch, "the same run of its own");
    assert_eq!(inward.ask("MARK 5"), "ACK 5", "a mark sets it also downwards");
    drop(inward);
    let (_, resume) = connect_as(&goloman, "Hands", FIRST_RUN);
    assert_eq!((&resume.epoch[..], resume.mark), (FIRST_RUN, 5));
    let (_, resume) = connect_as(&goloman, "Hands", SECOND_RUN);
    assert_eq!(resume, nothing, "of this run nothing is known");
    let (_, resume) = connect_as(&goloman, "Hands", FIRST_RUN);
    assert_eq!(resume, nothing, "and the mark of the first is forgotten");
}

#[test]
fn a_second_hello_replaces_the_first_connection() {
    let (_setup, _hands, goloman) = goloman_and_hands();
    let (mut first, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    let (mut second, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    // It says nothing that it could be closed for.
    assert!(first.is_closed_within(LIMIT));
    let mut third = goloman.peer();
    let address = third.stream.local_addr().expect("it is connected");
    goloman.wait_for_log(&format!("Peer {address} is connected"));
    // In one batch of events: a line of the former connection stands behind the HELLO that replaces it.
    goloman.hold();
    third.send(format!("HELLO herd/1 Hands {FIRST_RUN}\n"));
    second.send("UPDATELOC late +1.0+2.0 10 Hands +0.000000001\nMARK 9\n");
    goloman.signal(Signal::CONT);
    assert!(third.line().starts_with("RESUME "));
    assert!(second.is_closed_within(LIMIT));
    assert_eq!(inward_update(&mut third, "a", 1), "ACK 1");
    assert_eq!(goloman.client().ask("WHATSAT late 10 0"), "? WHATSAT late 10 0");
    assert!(goloman.client().whatsat("a", "10", "0").first.starts_with("AT AT a "));
}

#[test]
fn an_unknown_peer_is_rejected() {
    let (_setup, _hands, goloman) = goloman_and_hands();
    let lines = [
        "HELLO herd/2 Hands 00000000000000aa",
        "HELLO herd/1 Hands",
        "HELLO herd/1 Hands 00000000000000aa more",
        "HELLO herd/1 Hands xyz",
        "HELLO herd/1 Welsh 00000000000000aa",
        "HELLO herd/1 Goloman 00000000000000aa",
        "hello herd/1 Hands 00000000000000aa",
        "MARK 1",
        "",
    ];
    for line in lines {
        let mut peer = goloman.peer();
        assert_eq!(peer.ask(line), format!("? {line}"));
        peer.expect_end();
    }
    for line in [
        "IAMAT a +1.0+2.0 10",
        "ACK 1",
        "MARK",
        "MARK +1",
        "MARK 99999999999999999999999",
        "WHATSAT a 1 1",
    ] {
        let (mut inward, _) = connect_as(&goloman, "Hands", FIRST_RUN);
        assert_eq!(inward.ask(line), format!("? {line}"));
        inward.expect_end();
    }
}

#[test]
fn a_line_between_servers_may_be_as_long_as_65536_bytes() {
    let (_setup, _hands, goloman) = goloman_and_hands();
    let (mut inward, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    // Well-formed but for its white space, which may be as wide as it likes.
    let update = "UPDATELOC a +1.0+2.0 10 Hands +0.000000001";
    let wide = format!("{update}{}", " ".repeat(65_536 - update.len()));
    assert_eq!(inward.ask(&format!("{wide}\nMARK 1")), "ACK 1");
    assert!(goloman.client().whatsat("a", "10", "0").first.starts_with("AT AT a "));
    let answer = {
        inward.send(format!("{wide} \n"));
        inward.rest()
    };
    let answer = String::from_utf8(answer).expect("text");
    assert_eq!(answer, format!("? {}\n", &wide[..256]), "one more is too long");
}

#[test]
fn a_line_without_its_end_is_dropped() {
    let (_setup, _hands, goloman) = goloman_and_hands();
    let (mut inward, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    assert_eq!(inward_update(&mut inward, "a", 1), "ACK 1");
    inward.send("UPDATELOC cut +1.0+2.0 10 Hands +0.000000001");
    inward.half_close();
    inward.expect_end();
    assert_eq!(goloman.client().ask("WHATSAT cut 10 0"), "? WHATSAT cut 10 0");
}

#[test]
fn malformed_updates_are_skipped_and_the_link_stays() {
    let (_setup, _hands, goloman) = goloman_and_hands();
    let (mut inward, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    let malformed = [
        "UPDATELOC x",
        "UPDATELOC x 1.0+2.0 10 Hands +0.000000001",
        "UPDATELOC x +1.0+2.0 ten Hands +0.000000001",
        "UPDATELOC x +1.0+2.0 10 Ha/nds +0.000000001",
        "UPDATELOC x +1.0+2.0 10 Hands 0.000000001",
        "UPDATELOC x +1.0+2.0 10 Hands +0.00000001",
        "UPDATELOC x +1.0+2.0 10 Hands -0.000000000",
        // Received when the timestamp was still 301 seconds ahead: more than `max_future`.
        "UPDATELOC x +1.0+2.0 10 Hands -301.000000000",
        "UPDATELOC x +1.0+2.0 10 Hands -99999999999.000000000",
    ];
    for (mark, line) in malformed.iter().enumerate() {
        assert_eq!(inward.ask(&format!("{line}\nMARK {mark}")), format!("ACK {mark}"));
        assert_eq!(goloman.client().ask("WHATSAT x 10 0"), "? WHATSAT x 10 0", "after {line}");
    }
    // The clock plays no part: a timestamp of the year 5138 is accepted if its server says that it received it then.
    let line = "UPDATELOC far +1.0+2.0 99999999999 Hands -299.000000000\nMARK 90";
    assert_eq!(inward.ask(line), "ACK 90");
    assert_eq!(goloman.client().whatsat("far", "10", "0").first, "AT AT far +1.0+2.0 99999999999");
}

#[test]
fn a_silent_neighbour_is_disconnected_after_three_heartbeats() {
    let setup = Setup::star(&["Hands"]).heartbeat("200ms");
    let goloman = setup.start("Goloman");
    let (mut inward, _) = connect_as(&goloman, "Hands", FIRST_RUN);
    for mark in 1..=8 {
        // Beating, it stays up for longer than three heartbeats.
        assert_eq!(inward.ask(&format!("MARK {mark}")), format!("ACK {mark}"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(inward.is_closed_within(LIMIT), "silent, it is closed");
}

#[test]
fn a_peer_without_hello_is_disconnected_after_a_heartbeat() {
    let setup = Setup::star(&["Hands"]).heartbeat("200ms");
    let goloman = setup.start("Goloman");
    let mut silent = goloman.peer();
    assert!(silent.is_closed_within(LIMIT));
    let mut slow = goloman.peer();
    slow.send("HELLO herd/1 Ha");
    assert!(slow.is_closed_within(LIMIT), "a begun HELLO is none");
    connect_as(&goloman, "Hands", FIRST_RUN);
}

#[test]
fn a_dead_neighbour_is_reconnected_when_it_returns() {
    let setup = Setup::star(&["Hands"]).heartbeat("60s");
    let goloman = setup.start("Goloman");
    tell(&goloman, "a", "10");
    goloman.wait_for_log("Port Hands is down. Cannot send a at +1.0+2.0 to Hands.");
    let hands = setup.play("Hands");
    let mut link = hands.greet_empty(FIRST_RUN);
    assert_eq!(ids(&link.until_updates(1).0), ["a"]);
    // A neighbour that accepts and closes at once is not dialled in a busy loop.
    drop(link);
    let mut dials = 0;
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        if let Some(mut client) = hands.accept_within(Duration::from_millis(50)) {
            assert!(matches!(client.next(LIMIT), Next::Line(_)));
            dials += 1;
        }
    }
    assert!((1..=20).contains(&dials), "{dials} dials in a second");
    wait_until(LIMIT, "it still answers clients", || goloman.client().ask("x") == "? x");
}
