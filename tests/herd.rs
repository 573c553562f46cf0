//! Claim: real servers that are neighbours end with equal tables, through deaths, restarts and cuts; and a slow,
//! dead or unresponsive neighbour does not delay others.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use regex::Regex;

use common::client::Next;
use common::sockets::resident_bytes;
use common::{Client, FakeNeighbour, LIMIT, Proxy, ServerProcess, Setup, wait_until};

/// A MARK three of these old breaks a link.
const SOON: &str = "300ms";

#[test]
fn an_update_sent_to_any_server_is_known_everywhere() {
    let setup = Setup::report();
    let herd = setup.start_all();
    for (place, receiver) in herd.iter().enumerate() {
        let location = format!("+{place}.5-118.{place}");
        let line = format!("AT AT client.{place} {location} 155986505{place}.918963997");
        let said = line.replacen("AT AT", "IAMAT", 1);
        assert_eq!(receiver.client().ask(&said), line);
        for server in &herd {
            wait_for_line(server, &format!("client.{place}"), &line);
        }
    }
    // A newer one replaces it everywhere, sent at the other end; an older one changes nothing.
    let welsh = &herd[4];
    assert_eq!(welsh.name, "Welsh");
    let newer = "AT AT client.0 +10.0+20.0 1559866000";
    assert_eq!(welsh.client().ask("IAMAT client.0 +10.0+20.0 1559866000"), newer);
    for server in &herd {
        wait_for_line(server, "client.0", newer);
    }
    let older = "IAMAT client.0 +30.0+40.0 1559865999.999999999";
    assert_eq!(herd[0].client().ask(older), older.replacen("IAMAT", "AT AT", 1));
    tell_and_wait(&herd, &herd[0], "behind", 7);
    for server in &herd {
        assert_eq!(first_line(server, "client.0"), newer, "at {}", server.name);
    }
}

#[test]
fn the_log_records_each_step_of_the_flood() {
    let setup = Setup::star(&["Hands", "Holiday"]);
    let goloman = setup.start("Goloman");
    let hands = setup.start("Hands");
    goloman.wait_for_log("Goloman is in sync with its neighbours.");
    hands.wait_for_log("Hands is in sync with its neighbours.");
    tell_and_wait(&[], &goloman, "warm.up", 1);
    wait_for_line(&hands, "warm.up", "AT AT warm.up +1.0-2.0 1");

    let line = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997";
    goloman.client().ask(line);
    goloman.wait_for_log(
        " - INFO: Sending kiwi.cs.ucla.edu location at +34.068930-118.445127 to Hands.",
    );
    goloman.wait_for_log(
        "Port Holiday is down. Cannot send kiwi.cs.ucla.edu at +34.068930-118.445127 to Holiday.",
    );
    let form = r"^[0-3][0-9]-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-[0-9]{2} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] - (DEBUG|INFO|WARNING|ERROR|CRITICAL): .+$";
    let form = Regex::new(form).expect("a regex");
    for record in goloman.log().lines() {
        assert!(form.is_match(record), "a record's form: {record:?}");
    }
}

#[test]
fn a_record_cannot_be_forged_through_an_id() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let mut client = server.client();
    client.send(b"IAMAT a\\b\x1b[31m\xc2\x85\xff\xe2\x80\xa8\xe2\x80\xae +1.0+2.0 10\n");
    assert_eq!(
        client.line_bytes(),
        b"AT AT a\\b\x1b[31m\xc2\x85\xff\xe2\x80\xa8\xe2\x80\xae +1.0+2.0 10"
    );
    server.wait_for_log("+1.0+2.0 10");
    server.wait_for_log(r"a\\b\x1b[31m");
    let log = std::fs::read(&server.log_file).expect("the log");
    let text = String::from_utf8(log).expect("the log is text, whatever came");
    let bad = text
        .chars()
        .find(|&c| (c.is_control() && c != '\n') || "\u{2028}\u{202e}\u{85}".contains(c));
    assert_eq!(bad, None, "in the log");
}

#[test]
fn each_server_in_turn_killed_and_restarted_ends_with_equal_tables() {
    let setup = Setup::report().heartbeat(SOON);
    let mut herd = setup.start_all();
    let mut expected: Vec<(String, String)> = Vec::new();
    for round in 0..herd.len() {
        let name = herd[round].name.clone();
        tell_all(&herd, &format!("before.{name}"), &mut expected);
        // What only the killed server knew would be lost with it, and rightly so.
        for server in &herd {
            for (id, line) in &expected {
                wait_for_line(server, id, line);
            }
        }
        herd.remove(round).kill();
        tell_all(&herd, &format!("without.{name}"), &mut expected);
        herd.insert(round, setup.start(&name));
        tell_all(&herd, &format!("after.{name}"), &mut expected);
    }
    for server in &herd {
        for (id, line) in &expected {
            wait_for_line(server, id, line);
        }
    }
}

#[test]
fn a_cut_through_the_middle_heals() {
    heals(|proxy| proxy.cut());
}

#[test]
fn a_silent_network_in_the_middle_is_noticed_and_heals() {
    heals(|proxy| proxy.freeze());
}

/// Goloman, Hands and Wilkes on one side, Holiday and Welsh on the other; both directions pass through us.
fn heals(part: impl Fn(&Proxy)) {
    let mut setup = Setup::report().heartbeat(SOON);
    let to_holiday = Proxy::to(setup.peers_address("Holiday"));
    let to_goloman = Proxy::to(setup.peers_address("Goloman"));
    setup.detour("Goloman", "Holiday", to_holiday.address);
    setup.detour("Holiday", "Goloman", to_goloman.address);
    let herd = setup.start_all();
    let mut expected = Vec::new();
    tell_all(&herd, "before", &mut expected);
    for server in &herd {
        for (id, line) in &expected {
            wait_for_line(server, id, line);
        }
    }

    part(&to_holiday);
    part(&to_goloman);
    tell_all(&herd, "apart", &mut expected);
    // The same client on both sides: after the cut the newer one stands everywhere.
    let (left, right) = (&herd[1], &herd[4]);
    assert_eq!((&left.name[..], &right.name[..]), ("Hands", "Welsh"));
    left.client().ask("IAMAT both +1.0+1.0 100");
    right.client().ask("IAMAT both +2.0+2.0 101");
    wait_for_line(&herd[3], "both", "AT AT both +1.0+1.0 100");
    wait_for_line(&herd[2], "both", "AT AT both +2.0+2.0 101");
    assert!(first_line(left, "apart.Welsh").starts_with("? "), "nothing passes a cut");
    expected.push(("both".to_owned(), "AT AT both +2.0+2.0 101".to_owned()));
    // Long enough that both sides have given the link up.
    std::thread::sleep(Duration::from_millis(1_200));

    to_holiday.restore();
    to_goloman.restore();
    for server in &herd {
        for (id, line) in &expected {
            wait_for_line(server, id, line);
        }
    }
    tell_all(&herd, "healed", &mut expected);
    for server in &herd {
        for (id, line) in &expected {
            wait_for_line(server, id, line);
        }
    }
}

#[test]
fn without_refill_a_restarted_server_knows_only_later_updates() {
    let setup = Setup::new(&[("Goloman", &["Hands"]), ("Hands", &[])])
        .section("[link]\nrefill = false\nheartbeat = \"300ms\"");
    let goloman = setup.start("Goloman");
    let hands = setup.start("Hands");
    goloman.wait_for_log("Goloman is in sync with its neighbours.");
    hands.wait_for_log("Hands is in sync with its neighbours.");
    goloman.client().ask("IAMAT old +1.0+2.0 10");
    wait_for_line(&hands, "old", "AT AT old +1.0+2.0 10");
    hands.kill();
    let hands = setup.start("Hands");
    // Its link is up again when something new arrives; what it had before the restart has not come with it.
    let mut round = 0;
    wait_until(LIMIT, "something new arrives", || {
        round += 1;
        goloman.client().ask(&format!("IAMAT new +1.0+2.0 {round}"));
        !first_line(&hands, "new").starts_with("? ")
    });
    assert_eq!(first_line(&hands, "old"), "? WHATSAT old 10 0");
}

#[test]
fn every_server_of_the_course_answers_with_the_same_first_line() {
    let setup = Setup::report().top("dialect = \"course\"");
    let herd = setup.start_all();
    let line = herd[4].client().ask("IAMAT kiwi +34.068930-118.445127 1520023934.918963997");
    let form = r"^AT Welsh \+[0-9]+\.[0-9]{9} kiwi \+34\.068930-118\.445127 1520023934\.918963997$";
    assert!(Regex::new(form).expect("a regex").is_match(&line), "{line}");
    for server in &herd {
        wait_for_line(server, "kiwi", &line);
    }
    // A timestamp ahead of the clock has a negative skew.
    let ahead = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
        + 200;
    let line = herd[0].client().ask(&format!("IAMAT ahead +1.0+2.0 {ahead}"));
    let form = Regex::new(r"^AT Goloman -1[0-9]{2}\.[0-9]{9} ahead \+1\.0\+2\.0 [0-9]+$")
        .expect("a regex");
    assert!(form.is_match(&line), "{line}");
    for server in &herd {
        wait_for_line(server, "ahead", &line);
    }
}

/// The bound is 10, so when an eleventh client comes ⌈10/10⌉ = 1 entry goes, the one with the least age key, and the
/// floor rises to it. All timestamps lie far behind the clock, so the age key is (timestamp, id).
#[test]
fn a_full_table_evicts_a_tenth_and_nothing_below_the_floor_comes_back() {
    let setup = Setup::alone().top("max_clients = 10");
    let server = setup.start("Goloman");
    let mut client = server.client();
    let mut tell = |id: &str, timestamp: &str| {
        let said = client.ask(&format!("IAMAT {id} +1.0+2.0 {timestamp}"));
        assert_eq!(
            said,
            format!("AT AT {id} +1.0+2.0 {timestamp}"),
            "also what is not stored is answered"
        );
    };
    for number in 0..10 {
        tell(&format!("c{number}"), &format!("10{number}"));
    }
    assert_known(&server, &["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"], &[]);
    tell("new", "110"); // the eleventh: c0 goes, floor (100, c0)
    assert_known(&server, &["new", "c1", "c9"], &["c0"]);
    tell("c0", "100"); // equal to the floor is not above it
    tell("b", "100"); // (100, b) is below (100, c0)
    tell("z", "99.999999999"); // and this below both
    assert_known(&server, &["c1", "new"], &["c0", "b", "z"]);
    tell("d", "100"); // (100, d) is above the floor, but the least of eleven: it goes itself, floor (100, d)
    assert_known(&server, &["c1", "new"], &["d"]);
    tell("c5", "200"); // nobody new: nobody goes
    assert_known(&server, &["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "new"], &[]);
    tell("e", "150"); // c1 goes, floor (101, c1)
    tell("f", "150"); // c2 goes, floor (102, c2)
    tell("c0", "102"); // (102, c0) is below the floor
    tell("c0", "101.5");
    assert_known(
        &server,
        &["c3", "c4", "c5", "c6", "c7", "c8", "c9", "new", "e", "f"],
        &["c0", "c1", "c2"],
    );
    tell("c0", "300"); // above the floor, and c3 goes
    assert_known(&server, &["c0", "c4", "c5", "c6", "c7", "c8", "c9", "new", "e", "f"], &["c3"]);
}

/// ⌈11/10⌉ = 2 go at once.
#[test]
fn the_tenth_is_rounded_up() {
    let setup = Setup::alone().top("max_clients = 11");
    let server = setup.start("Goloman");
    let mut client = server.client();
    for number in 10..22 {
        client.ask(&format!("IAMAT c{number} +1.0+2.0 {number}"));
    }
    assert_known(&server, &["c12", "c13", "c20", "c21"], &["c10", "c11"]);
    client.ask("IAMAT x +1.0+2.0 11"); // (11, x) is above the floor (11, c11), and there is room for one
    assert_known(&server, &["x", "c12"], &["c11"]);
}

/// By order of events alone: no neighbour has answered anything when the client has its answer, and none answers its
/// mark before all three have their update. A server that waited for any of them would wait indefinitely.
#[test]
fn neighbours_that_delay_answers_delay_neither_the_client_nor_each_other() {
    let names = ["Hands", "Holiday", "Wilkes"];
    let setup = Setup::star(&names).heartbeat("60s");
    let neighbours = names.map(|name| setup.play(name));
    let goloman = setup.start("Goloman");
    let mut links = neighbours.each_ref().map(FakeNeighbour::greet);
    // No RESUME yet.
    let mut client = goloman.client();
    assert_eq!(client.ask("IAMAT kiwi +1.0+2.0 10"), "AT AT kiwi +1.0+2.0 10");
    for link in &mut links {
        link.resume("0", 0, "00000000000000aa");
    }
    // No ACK before each of the three has its update.
    let marks = links.each_mut().map(|link| {
        let (updates, mark) = link.until_mark_silently();
        assert_eq!(updates.len(), 1, "{updates:?}");
        assert!(updates[0].starts_with("UPDATELOC kiwi +1.0+2.0 10 Goloman +"), "{updates:?}");
        mark
    });
    assert_eq!(client.ask("IAMAT kiwi +3.0+4.0 11"), "AT AT kiwi +3.0+4.0 11");
    for (link, mark) in links.iter_mut().zip(marks) {
        link.ack(mark);
        let (updates, _) = link.until_updates(1);
        assert!(updates[0].starts_with("UPDATELOC kiwi +3.0+4.0 11 Goloman +"), "{updates:?}");
    }
}

/// The report's own test. One after the other they would take three seconds for their RESUMEs alone.
#[test]
fn three_neighbours_that_take_a_second_each_cost_one_second() {
    let names = ["Hands", "Holiday", "Wilkes"];
    let setup = Setup::star(&names);
    let neighbours = names.map(|name| setup.play(name));
    let goloman = setup.start("Goloman");
    let answered = AtomicUsize::new(0);
    let ready = Barrier::new(names.len() + 1);
    let took = std::thread::scope(|threads| {
        let slow = neighbours.each_ref().map(|neighbour| {
            let (ready, answered) = (&ready, &answered);
            threads.spawn(move || {
                let mut link = neighbour.greet();
                ready.wait();
                std::thread::sleep(Duration::from_secs(1));
                answered.fetch_add(1, Ordering::SeqCst);
                link.resume("0", 0, "00000000000000aa");
                let (updates, mark) = link.until_mark_silently();
                let received = Instant::now();
                std::thread::sleep(Duration::from_secs(1));
                link.ack(mark);
                assert_eq!(updates.len(), 1, "{updates:?}");
                received
            })
        });
        ready.wait();
        let begin = Instant::now();
        assert_eq!(goloman.client().ask("IAMAT kiwi +1.0+2.0 10"), "AT AT kiwi +1.0+2.0 10");
        let client_took = begin.elapsed();
        let before = answered.load(Ordering::SeqCst);
        assert!(
            before == 0 || client_took >= Duration::from_secs(1),
            "no neighbour answers within its second"
        );
        assert!(client_took < Duration::from_secs(1), "the client waited {client_took:?}");
        let received = slow.map(|thread| thread.join().expect("the neighbour got its update"));
        received.into_iter().max().map(|last| last.duration_since(begin))
    });
    let took = took.expect("three neighbours");
    assert!(took < Duration::from_secs(3), "one second each in parallel, not in a row: {took:?}");
}

#[test]
fn a_neighbour_that_never_reads_delays_nobody_and_costs_no_memory() {
    let setup = Setup::star(&["Hands", "Holiday"]);
    let deaf = setup.play("Hands");
    let keen = setup.play("Holiday");
    let goloman = setup.start_with("Goloman", &["--log-level", "error"]);
    let mut deaf_link = deaf.greet();
    deaf_link.resume("0", 0, "00000000000000aa");
    let mut link = keen.greet_empty("00000000000000bb");

    const IDS: usize = 5_000;
    let round = |timestamp: usize| -> String {
        (0..IDS)
            .map(|id| format!("IAMAT client.{id:040} +34.068930-118.445127 {timestamp}.5\n"))
            .collect()
    };
    let last = format!("client.{:040} +34.068930-118.445127", IDS - 1);
    let mut client = goloman.client();
    let mut play = |timestamp: usize, link: &mut common::Link| {
        client.send(round(timestamp));
        for _ in 0..IDS {
            assert!(client.line().starts_with("AT AT "), "every line is answered");
        }
        let wanted = format!("UPDATELOC {last} {timestamp}.5 Goloman ");
        let mut count = 0;
        loop {
            let (updates, _) = link.until_mark();
            count += updates.len();
            if updates.iter().any(|update| update.starts_with(&wanted)) {
                return count;
            }
        }
    };
    let first = play(1, &mut link);
    assert_eq!(first, IDS, "each client is new");
    let before = resident_bytes(goloman.pid());
    for timestamp in 2..=30 {
        play(timestamp, &mut link);
    }
    let after = resident_bytes(goloman.pid());
    let grown = after.saturating_sub(before);
    // 29 rounds of 5,000 updates of some 110 bytes make 16 MB: a queue for the deaf one would hold them all.
    assert!(grown < 8_000_000, "grown by {grown} bytes, from {before} to {after}");
    drop(deaf_link);
}

#[test]
fn an_update_that_was_just_answered_outlives_sigterm() {
    let setup = Setup::new(&[("Goloman", &["Hands"]), ("Hands", &[])]);
    let hands = setup.start("Hands");
    for round in 0..5 {
        let goloman = setup.start("Goloman");
        goloman.wait_for_log("Goloman is in sync with its neighbours.");
        let mut warm = goloman.client();
        warm.ask(&format!("IAMAT warm +1.0+2.0 {round}"));
        wait_for_line(&hands, "warm", &format!("AT AT warm +1.0+2.0 {round}"));
        let line = format!("AT AT last.{round} +1.0+2.0 10");
        assert_eq!(goloman.client().ask(&line.replacen("AT AT", "IAMAT", 1)), line);
        assert_eq!(goloman.stop().code(), Some(0));
        wait_for_line(&hands, &format!("last.{round}"), &line);
        std::fs::remove_file(setup.log_file("Goloman")).expect("a fresh log for the next round");
    }
}

/// Sends each server an IAMAT of a client of its own.
fn tell_all(herd: &[ServerProcess], what: &str, expected: &mut Vec<(String, String)>) {
    for server in herd {
        let id = format!("{what}.{}", server.name);
        let line = format!("AT AT {id} +1.0-2.0 {}", 1000 + expected.len());
        assert_eq!(server.client().ask(&line.replacen("AT AT", "IAMAT", 1)), line);
        expected.push((id, line));
    }
}

fn tell_and_wait(herd: &[ServerProcess], receiver: &ServerProcess, id: &str, timestamp: u32) {
    let line = format!("AT AT {id} +1.0-2.0 {timestamp}");
    assert_eq!(receiver.client().ask(&line.replacen("AT AT", "IAMAT", 1)), line);
    for server in herd {
        wait_for_line(server, id, &line);
    }
}

/// What this server answers first to a WHATSAT about the client.
fn first_line(server: &ServerProcess, id: &str) -> String {
    server.client().whatsat(id, "10", "0").first
}

fn wait_for_line(server: &ServerProcess, id: &str, line: &str) {
    let begin = Instant::now();
    let mut client = server.client();
    loop {
        let answer = client.whatsat(id, "10", "0");
        if answer.first == line {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "{} says {:?}, not {line:?}", server.name, answer.first);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn assert_known(server: &ServerProcess, known: &[&str], unknown: &[&str]) {
    let mut client: Client = server.client();
    for id in known {
        let answer = client.whatsat(id, "10", "0");
        assert!(answer.first.starts_with(&format!("AT AT {id} ")), "{id} is known: {answer:?}");
    }
    for id in unknown {
        let answer = client.whatsat(id, "10", "0");
        assert_eq!(answer.first, format!("? WHATSAT {id} 10 0"), "{id} is unknown");
    }
    client.half_close();
    assert_eq!(client.next(LIMIT), Next::End(Vec::new()));
}
