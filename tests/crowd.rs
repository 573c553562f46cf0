//! Claim: one address cannot shut others out: neither by holding every connection, nor by filling the table with ids. Who is
//! slowed loses nothing, and what is known is never slowed.

mod common;

use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Signal, getrlimit};

use common::client::Next;
use common::{Client, LIMIT, ServerProcess, Setup, raise_descriptor_limit, shown, wait_until};

/// The address of those who take too much, and of those who do not.
const CROWD: [u8; 4] = [127, 0, 0, 1];
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// Goloman with limits that concern loopback addresses, too.
fn strict(limits: &str) -> Setup {
    Setup::alone().section(&format!("[limits]\nexempt = []\n{limits}"))
}

/// The setup has the folder of the log.
fn start(setup: Setup) -> (Setup, ServerProcess) {
    let server = setup.start("Goloman");
    (setup, server)
}

fn from(ip: [u8; 4], server: &ServerProcess) -> Client {
    Client::connect_from(ip, server.clients)
}

fn iamat(id: &str) -> String {
    format!("IAMAT {id} +1.0-1.0 1")
}

fn at(id: &str) -> String {
    format!("AT AT {id} +1.0-1.0 1")
}

fn is_served(client: &mut Client) -> bool {
    client.try_send(iamat("a") + "\n").is_ok()
        && matches!(client.next(LIMIT), Next::Line(line) if line == at("a").as_bytes())
}

// Connections.

#[test]
fn an_address_with_all_connections_makes_room_for_others_and_not_for_itself() {
    raise_descriptor_limit();
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).min(2_600) - 600;
    let count = usize::try_from(most).expect("a few thousand");
    let (_folder, server) = start(strict(&format!("client_connections = {count}")));
    let mut crowd: Vec<Client> = (0..count).map(|_| from(CROWD, &server)).collect();
    // Each has just said something: none is idle.
    for client in &mut crowd {
        assert!(is_served(client));
    }
    assert!(from(CROWD, &server).is_closed_within(LIMIT), "it has its share already");
    for round in 0..3 {
        let mut other = from(OTHER, &server);
        assert!(is_served(&mut other), "round {round}");
        let mut gone: Vec<&mut Client> =
            crowd.iter_mut().filter_map(|client| (!is_served(client)).then_some(client)).collect();
        assert_eq!(gone.len(), 1, "one makes room for one");
        drop(other);
        wait_until(LIMIT, "the place is given again", || {
            *gone[0] = from(CROWD, &server);
            is_served(gone[0])
        });
    }
    server.wait_for_log("its addresses had the most connections (fair_share)");
}

/// Two addresses share a full server equally, and a third one gets its share from both.
#[test]
fn a_full_server_is_shared_equally_and_nobody_is_closed_in_turns() {
    let (_folder, server) = start(strict("client_connections = 12"));
    let mut crowd: Vec<Client> = (0..12).map(|_| from(CROWD, &server)).collect();
    crowd.iter_mut().for_each(|client| assert!(is_served(client)));
    let mut others = Vec::new();
    for (ip, share) in [(OTHER, 6), ([127, 0, 0, 3], 4)] {
        for nth in 0..share {
            let mut client = from(ip, &server);
            // With the last one they would have as many as those that lose one.
            let is_last = nth + 1 == share;
            assert_eq!(is_served(&mut client), !is_last, "{ip:?}, {nth}");
            if !is_last {
                others.push(client);
            }
        }
    }
    let open = |clients: &mut Vec<Client>| {
        clients.iter_mut().filter_map(|client| is_served(client).then_some(())).count()
    };
    assert_eq!(open(&mut crowd) + open(&mut others), 12);
}

/// The descriptors are fewer than the configured limit: an address must be accepted to be known.
#[test]
fn without_descriptors_another_address_is_served_too() {
    let setup = strict("");
    let inner = setup.command("Goloman");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 60; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args()).env_remove("HERD_PLACES_KEY");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut crowd: Vec<Client> = (0..100).map(|_| from(CROWD, &server)).collect();
    let served = crowd.iter_mut().filter_map(|client| is_served(client).then_some(())).count();
    assert!((10..60).contains(&served), "{served} are served");
    for _ in 0..3 {
        let mut other = from(OTHER, &server);
        assert!(is_served(&mut other));
    }
    let mut others: Vec<Client> = (0..5).map(|_| from(OTHER, &server)).collect();
    others.iter_mut().for_each(|other| assert!(is_served(other)));
}

#[test]
fn a_cap_limits_each_address_that_is_not_exempt() {
    let limits = "client_connections_per_address = 3";
    let (_folder, server) = start(strict(limits));
    let mut three: Vec<Client> = (0..3).map(|_| from(CROWD, &server)).collect();
    three.iter_mut().for_each(|client| assert!(is_served(client)));
    assert!(from(CROWD, &server).is_closed_within(LIMIT));
    assert!(is_served(&mut from(OTHER, &server)));
    three.pop();
    wait_until(LIMIT, "the place is given again", || is_served(&mut from(CROWD, &server)));
    server.wait_for_log("as limits.client_connections_per_address (3) allows");

    let (_folder, server) = start(Setup::alone().section(&format!("[limits]\n{limits}")));
    let mut many: Vec<Client> = (0..20).map(|_| from(CROWD, &server)).collect();
    many.iter_mut().for_each(|client| assert!(is_served(client), "loopback is exempt"));
}

// New ids.

#[test]
fn a_client_that_adds_ids_too_fast_waits_and_nobody_else_does() {
    let (_folder, server) = start(strict("new_ids_per_second = 20\nnew_ids_burst = 10"));
    let (mut fast, mut same, mut other) =
        (from(CROWD, &server), from(CROWD, &server), from(OTHER, &server));
    let begin = Instant::now();
    // Behind new ids: a known one, a query, and nonsense.
    let ids: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let lines: Vec<String> = ids.iter().map(|id| iamat(id)).collect();
    fast.send(lines.join("\n") + &format!("\n{}\nWHATSAT n39 10 5\nnonsense\n", iamat("n0")));
    for id in &ids[..10] {
        assert_eq!(fast.line(), at(id), "the burst");
    }
    assert_eq!(same.ask(&iamat("n3")), at("n3"), "a known id of the same address");
    assert_eq!(other.ask(&iamat("o")), at("o"), "a new id of another address");
    assert!(!other.whatsat("n3", "10", "5").is_refusal());
    for id in &ids[10..] {
        assert_eq!(fast.line(), at(id), "each is answered, in order");
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(1_450), "30 ids, 20 a second, took {took:?}");
    assert_eq!(fast.line(), at("n0"));
    assert!(!fast.answer().is_refusal());
    assert_eq!(fast.line(), "? nonsense");
    server.wait_for_log("add ids faster than limits.new_ids_per_second (20)");
}

#[test]
fn connections_of_one_address_wait_in_the_order_in_which_they_came() {
    let (_folder, server) = start(strict("new_ids_per_second = 4\nnew_ids_burst = 1"));
    let mut clients: Vec<Client> = (0..3).map(|_| from(CROWD, &server)).collect();
    assert_eq!(clients[0].ask(&iamat("first")), at("first"));
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!(
            "{}\n{}\n",
            iamat(&format!("a{number}")),
            iamat(&format!("b{number}"))
        ));
        let what = format!("a{number} waits");
        let delayed = || server.log().matches(" waits: its addresses").count() > number;
        wait_until(LIMIT, &what, delayed);
    }
    let order = |server: &ServerProcess| -> Vec<String> {
        let log = server.log();
        let sent = log.lines().filter_map(|record| record.split_once("AT AT "));
        sent.filter_map(|(_, rest)| rest.split(' ').next().map(str::to_owned)).collect()
    };
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.line(), at(&format!("a{number}")));
        assert_eq!(client.line(), at(&format!("b{number}")));
    }
    wait_until(LIMIT, "the log has all answers", || order(&server).len() == 7);
    assert_eq!(order(&server), ["first", "a0", "a1", "a2", "b0", "b1", "b2"]);
}

#[test]
fn a_line_that_waits_is_handled_although_its_client_has_gone() {
    let (_folder, server) = start(strict("new_ids_per_second = 4\nnew_ids_burst = 1"));
    let mut first = from(CROWD, &server);
    assert_eq!(first.ask(&iamat("first")), at("first"));
    let mut gone = from(CROWD, &server);
    gone.send(iamat("gone") + "\n");
    server.wait_for_log(" waits: its addresses");
    gone.reset();
    let mut ended = from(CROWD, &server);
    ended.send(iamat("ended")); // without its newline
    ended.half_close();
    assert_eq!(shown(&ended.rest()), shown(format!("{}\n", at("ended")).as_bytes()));
    for id in ["gone", "ended"] {
        assert!(!first.whatsat(id, "10", "5").is_refusal(), "{id} is known");
    }
}

/// What was received is answered: to its client a line that waits is like one that is being sent.
#[test]
fn at_a_stop_all_that_waits_is_answered() {
    let (_folder, server) = start(strict("new_ids_per_second = 1\nnew_ids_burst = 1"));
    let mut clients: Vec<Client> = (0..5).map(|_| from(CROWD, &server)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let lines: Vec<String> = (0..50).map(|nth| iamat(&format!("c{number}.{nth}"))).collect();
        client.send(lines.join("\n") + "\n");
    }
    server.wait_for_log(" waits: its addresses");
    for client in &clients {
        common::sockets::wait_until_read(&client.stream);
    }
    server.signal(Signal::TERM);
    for (number, client) in clients.iter_mut().enumerate() {
        let rest = shown(&client.rest());
        assert_eq!(rest.matches("AT AT ").count(), 50, "{number}: {rest}");
    }
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_reload_changes_the_limits_for_each_address_and_releases_what_waits() {
    let limits = "new_ids_per_second = 1\nnew_ids_burst = 1\nclient_connections_per_address = 2";
    let (setup, server) = start(strict(limits));
    let mut waiting = from(CROWD, &server);
    let lines: Vec<String> = (0..200).map(|number| iamat(&format!("n{number}"))).collect();
    waiting.send(lines.join("\n") + "\n");
    server.wait_for_log(" waits: its addresses");
    let _second = from(CROWD, &server);
    assert!(from(CROWD, &server).is_closed_within(LIMIT));
    let path = setup.config_file("Goloman");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, text.replace("exempt = []", "exempt = [\"127.0.0.1\"]")).expect("a file");
    let begin = Instant::now();
    server.signal(Signal::HUP);
    for number in 0..200 {
        assert_eq!(waiting.line(), at(&format!("n{number}")));
    }
    assert!(begin.elapsed() < Duration::from_secs(100), "one a second no longer");
    assert!(is_served(&mut from(CROWD, &server)), "it is exempt");
    let mut others: Vec<Client> = (0..3).map(|_| from(OTHER, &server)).collect();
    assert!(others[2].is_closed_within(LIMIT), "the cap of others stays");
    assert!(is_served(&mut others[0]));
}

#[test]
fn whoever_uses_this_machine_only_is_not_slowed() {
    let limits = "[limits]\nnew_ids_per_second = 1\nnew_ids_burst = 1";
    let (_folder, server) = start(Setup::alone().section(limits));
    let mut client = server.client();
    for number in 0..1_000 {
        assert_eq!(client.ask(&iamat(&format!("n{number}"))), at(&format!("n{number}")));
    }
}

#[test]
fn a_flood_of_new_ids_does_not_push_another_address_out_of_the_table() {
    flood("max_clients = 1000", "new_ids_per_second = 50\nnew_ids_burst = 100", 3);
}

/// `just crowd`
#[test]
#[ignore = "takes a minute"]
fn a_minute_of_new_ids_does_not_push_another_address_out_of_a_large_table() {
    flood("max_clients = 1000000", "", 60);
}

/// One connection tells new ids as fast as it can; it is answered all that does not wait still, and an id of another
/// address stays known.
fn flood(table: &str, limits: &str, seconds: u64) {
    let setup = strict(limits).top(table);
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut honest = from(OTHER, &server);
    assert_eq!(honest.ask(&iamat("honest")), at("honest"));
    let mut flooder = from(CROWD, &server);
    let mut sending = flooder.stream.try_clone().expect("a descriptor");
    let is_over = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(seconds);
    let answered = thread::scope(|scope| {
        let is_over = &is_over;
        scope.spawn(move || {
            sending.set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            // Timestamps that are newer than that of the honest client: it is the first to go.
            let lines =
                (0_u64..).map(|number| format!("IAMAT f{number} +1.0-1.0 {}\n", 10 + number));
            let mut rest = Vec::new();
            for line in lines {
                rest.extend_from_slice(line.as_bytes());
                while rest.len() > 32_768 {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let taken = sending.write(&rest).unwrap_or(0); // It waits.
                    rest.drain(..taken);
                }
            }
        });
        let mut answered = 0_u64;
        while Instant::now() < end {
            if let Next::Line(line) = flooder.next(Duration::from_millis(50)) {
                let expected = format!("AT AT f{answered} +1.0-1.0 {}", 10 + answered);
                assert_eq!(shown(&line), expected, "each is answered, and in order");
                answered += 1;
            }
        }
        is_over.store(true, Ordering::SeqCst);
        answered
    });
    println!("{answered} new ids in {seconds} s");
    assert!(answered > 100, "{answered}");
    assert!(!honest.whatsat("honest", "10", "5").is_refusal(), "it is known still");
    assert_eq!(honest.ask(&iamat("honest")), at("honest"));
}
