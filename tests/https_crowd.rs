//! Claim: a thousand queries at once go through the slots that there are, within bounded memory; who
//! leaves with a query in flight, and who only says IAMAT, disturbs nobody and is not disturbed.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};

use common::service::{Act, Seen, Service, ok, with_head};
use common::sockets::{open_descriptors, resident_bytes};
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const KEY: &str = "sesame";
const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.5";
const AT: &str = "AT AT kiwi +34.068930-118.445127 1559865055.5";
const BODY: &str = "{\"results\" : [ 1, 2 ], \"status\" : \"OK\"}";

/// A server that asks this service, with these settings of `[places]`, and a client that said IAMAT.
fn server(service: &Service, places: &str) -> (Setup, ServerProcess, Client) {
    let setup = Setup::alone().any_port().section(&format!("[places]\n{places}"));
    let mut command = setup.command("Goloman");
    command.args(service.arguments()).env("HERD_PLACES_KEY", KEY);
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut client = server.client();
    assert_eq!(client.ask(IAMAT), AT);
    (setup, server, client)
}

/// The location that a request asks around, as it stands there.
fn location(seen: &Seen) -> String {
    let rest = seen.text.split("location=").nth(1).expect("a location");
    rest.split('&').next().expect("split gives one part at least").to_owned()
}

/// An answer of some 4 KiB that says for whom it is.
fn named(seen: &Seen) -> Vec<u8> {
    let fill = "x".repeat(4_000);
    format!("{{\"results\": [\"{}\", \"{fill}\"], \"status\": \"OK\"}}", location(seen)).into_bytes()
}

/// As many clients as there are queries, each with a line behind its WHATSAT, and no answer before
/// all have asked.
#[test]
fn a_thousand_clients_that_ask_at_once_get_each_its_own_answer_and_no_more_than_64_are_in_flight() {
    const CLIENTS: usize = 1_000;
    let service = Service::good(|seen| vec![Act::Hold, Act::Send(ok(named(seen)))]);
    let (_setup, server, mut teller) =
        server(&service, "in_flight = 64\nwaiting = 1024\ntimeout = \"60s\"");
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
    let at = |number: usize| format!("c{number} +10.{number:03}+20.000 1559865055.5");
    let before = resident_bytes(server.pid());
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(teller.ask(&format!("IAMAT {}", at(number))), format!("AT AT {}", at(number)));
        client.send(format!("WHATSAT c{number} 1 1\nIAMAT behind{number} +1.0+2.0 10\n"));
    }
    wait_until(LIMIT, "all have asked", || server.log().matches(": WHATSAT c").count() == CLIENTS);
    wait_until(LIMIT, "all slots are taken", || service.asked_now() == 64);
    assert_eq!(teller.ask(IAMAT), AT, "who doesn't ask for places is answered meanwhile");
    assert_eq!(service.requests().len(), 64, "before one is answered");

    service.open_gate();
    let mut most = before;
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.answer();
        assert_eq!(answer.first, format!("AT AT {}", at(number)));
        let expected = format!("{{\"results\": [\"10.{number:03},20.000\"], \"status\": \"OK\"}}\n");
        assert_eq!(answer.body, expected);
        assert_eq!(client.line(), format!("AT AT behind{number} +1.0+2.0 10"));
        most = most.max(resident_bytes(server.pid()));
    }
    assert_eq!(service.requests().len(), CLIENTS);
    assert!(service.asked_most() <= 64, "{} at once", service.asked_most());
    assert!(service.connections() <= 64, "{} connections", service.connections());
    let grown = most.saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for {CLIENTS} queries of 4 KiB");
}

/// A connection that is being closed counts, too: a service that takes its time to close would
/// otherwise draw a new one from us for each of its answers.
#[test]
fn a_service_that_says_close_and_stays_gets_no_more_connections_than_there_are_slots() {
    let service = Service::good(|seen| {
        let body = named(seen);
        let head = format!("200 OK\r\nConnection: close\r\nContent-Length: {}", body.len());
        vec![Act::Send(with_head(&head, body))] // and reads on
    });
    let (_setup, server, mut client) = server(&service, "in_flight = 4\nwaiting = 1024");
    let mut clients: Vec<Client> = (0..100).map(|_| server.client()).collect();
    for number in 0..100 {
        client.ask(&format!("IAMAT c{number} +10.{number:03}+20.000 1559865055.5"));
    }
    let before = open_descriptors(server.pid());
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("WHATSAT c{number} 1 1\n"));
    }
    let mut most = before;
    for client in &mut clients {
        assert_eq!(client.answer().status(), "OK");
        most = most.max(open_descriptors(server.pid()));
    }
    let ours = most - before;
    println!("{ours} descriptors more, {} open at once at the service", service.open_most());
    assert!(ours <= 8, "{ours} connections at once for 4 slots");
}

#[test]
fn a_client_that_leaves_alone_with_its_query_gives_the_slot_back_when_its_answer_comes() {
    for is_reset in [false, true] {
        let (answer, script) = one_by_one();
        let service = Service::good(script);
        let (_setup, server, mut client) = server(&service, "in_flight = 1\ntimeout = \"60s\"");
        let mut leaver = server.client();
        leaver.send("WHATSAT kiwi 1 5\n");
        service.wait_for_requests(1);
        match is_reset {
            true => leaver.reset(),
            false => drop(leaver),
        }
        client.send("WHATSAT kiwi 2 5\n");
        server.wait_for_log(": WHATSAT kiwi 2 5");
        let mut other = server.client();
        assert_eq!(other.ask(IAMAT), AT);
        assert_eq!(service.requests().len(), 1, "the only slot is taken");
        answer.send(ok(BODY)).expect("the service waits for it");
        answer.send(ok(BODY)).expect("the service will wait for it");
        assert_eq!(client.answer().results().len(), 2);
        assert_eq!(service.connections(), 1, "and the connection was kept");
    }
}

#[test]
fn who_half_closes_behind_its_question_gets_the_answer_and_the_end() {
    let (answer, script) = one_by_one();
    let service = Service::good(script);
    let (_setup, server, mut client) = server(&service, "timeout = \"60s\"");
    client.send("WHATSAT kiwi 1 5\nIAMAT last +1.0+2.0 10");
    client.half_close();
    service.wait_for_requests(1);
    server.assert_serves();
    answer.send(ok(BODY)).expect("the service waits for it");
    assert_eq!(client.answer().results().len(), 2);
    assert_eq!(client.line(), "AT AT last +1.0+2.0 10");
    client.expect_end();
}

/// While each is under way and not answered, another client's lines are; and after it, the next query.
#[test]
fn whatever_the_service_does_a_client_that_only_says_iamat_is_answered_meanwhile() {
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("status 500", with_head("500 Oops\r\nContent-Length: 2", "{}")),
        ("redirect", with_head("302 Found\r\nLocation: https://evil/\r\nContent-Length: 0", "")),
        ("not JSON", ok("places")),
        ("garbage", b"\x00\xff\r\n\r\n".to_vec()),
        ("coded", with_head("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2", "\x1f\x0b")),
        ("over-long", ok(vec![b' '; 9_000])),
        ("endless head", b"HTTP/1.1 200 OK\r\nA: ".repeat(4_000)),
        ("nine interim answers", with_head("100 Continue", "").repeat(9)),
        ("cut", Vec::new()),
    ];
    for (name, bytes) in wrong {
        let (answer, script) = one_by_one();
        let service = Service::good(script);
        let (_setup, server, mut client) =
            server(&service, "answer_bytes = 4096\ntimeout = \"60s\"");
        let mut other = server.client();
        client.send("WHATSAT kiwi 1 5\n");
        service.wait_for_requests(1);
        let mut answered = 0;
        for nth in 0..200 {
            if nth == 100 {
                answer.send(bytes.clone()).expect("the service waits for it");
            }
            answered += usize::from(other.ask(IAMAT) == AT);
        }
        assert_eq!(answered, 200, "beside {name}");
        let failure = client.answer();
        assert_eq!((failure.first.as_str(), failure.results().len()), (AT, 0), "{name}");
        assert_eq!(failure.status(), "UNKNOWN_ERROR", "{name}");
        client.send("WHATSAT kiwi 2 5\n");
        answer.send(ok(BODY)).expect("the service will wait for it");
        assert_eq!(client.answer().results().len(), 2, "after {name}");
    }
}

/// A script that answers a request with what the test sends, when it sends it; nothing is a cut. An
/// answer that can't be a last one on its connection ends in a cut, too.
fn one_by_one() -> (Sender<Vec<u8>>, impl Fn(&Seen) -> Vec<Act> + Send + Sync) {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    let receiver = Mutex::new(receiver);
    let script = move |_: &Seen| {
        let receiver = receiver.lock().expect("no script panics with it");
        match receiver.recv_timeout(LIMIT) {
            Ok(bytes) if bytes.is_empty() => vec![Act::Cut],
            Ok(bytes) => vec![Act::Send(bytes)],
            Err(_) => {
                is_over.store(true, Ordering::SeqCst);
                vec![Act::Cut]
            }
        }
    };
    (sender, script)
}
