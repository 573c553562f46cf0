//! Claim: what a Places service sends unasked, behind an answer or on a kept connection, reaches no client: each
//! client gets the answer to its own question.

mod common;

use std::time::Duration;

use common::service::{Act, Seen, Service, ok};
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};
use rustix::process::Signal;

/// An answer that names the latitude that was asked for, with so many bytes around it.
fn answer(seen: &Seen, size: usize) -> Vec<u8> {
    let location = seen.text.split("location=").nth(1).and_then(|rest| rest.split(',').next());
    let location = location.expect("a location");
    let padding = "x".repeat(size);
    ok(format!("{{\"results\": [\"{location}\"], \"status\": \"OK\", \"x\": \"{padding}\"}}"))
}

/// A server that asks this service, and clients, each of which has said where it is.
fn server(service: &Service, places: &str, clients: usize) -> (Setup, ServerProcess, Vec<Client>) {
    let (setup, server) = service.asked_by_goloman("sesame", places, &["--log-level=debug"]);
    let mut clients: Vec<Client> = (0..clients).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(&format!("IAMAT c{number} +10.{number:03}+20.000 1559865055.5"));
    }
    (setup, server, clients)
}

fn ask(clients: &mut [Client]) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("WHATSAT c{number} 1 5\n"));
    }
}

/// Every client reads the answer to its own question.
fn expect_own_answers(clients: &mut [Client], what: &str) {
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.answer();
        let own = [format!("10.{number:03}")];
        assert_eq!(
            (answer.status().as_str(), &answer.results()[..]),
            ("OK", &own.map(Into::into)[..]),
            "{what}"
        );
    }
}

/// How an answer can come twice.
type Twice = fn(Vec<u8>) -> Vec<Act>;
const IN_ONE_RECORD: Twice = |answer| vec![Act::Send(answer.repeat(2))];
const IN_ONE_SEGMENT: Twice = |answer| vec![Act::Together(vec![answer.clone(), answer])];
/// Mostly there is another request by then.
const AFTER_A_PAUSE: Twice =
    |answer| vec![Act::Send(answer.clone()), Act::Pause(PAUSE), Act::Send(answer)];
/// The rest of the second one comes when there is another request.
const ONE_AND_A_HALF: Twice = |answer| vec![Act::AndHalf(answer.clone(), answer)];
/// The same with another answer, which nothing distinguishes from one that was asked for.
const ONE_AND_HALF_ANOTHER: Twice = |answer| {
    let another = String::from_utf8_lossy(&answer).replace("\"x\": ", "\"y\": ");
    vec![Act::AndHalf(answer, another.into_bytes())]
};

#[test]
fn a_repeated_answer_reaches_no_waiting_client() {
    for (name, twice) in [
        ("one record", IN_ONE_RECORD),
        ("one segment", IN_ONE_SEGMENT),
        ("one and a half", ONE_AND_A_HALF),
        ("one and half of another", ONE_AND_HALF_ANOTHER),
        ("after a pause", AFTER_A_PAUSE),
    ] {
        // Around the 4 KiB that rustls takes at once, and more than one record.
        for size in [0, 3_000, 20_000] {
            let what = format!("{name}, {size} bytes");
            let service = Service::good(move |seen| twice(answer(seen, size)));
            let (_setup, _server, mut clients) = server(&service, "max_in_flight = 1", 5);
            ask(&mut clients);
            expect_own_answers(&mut clients, &what);
            assert_eq!(service.connections(), 5, "each has a connection of its own: {what}");
        }
    }
}

#[test]
fn waiting_queries_share_one_connection_of_a_correct_service() {
    for size in [0, 3_000, 20_000] {
        let service = Service::good(move |seen| vec![Act::Send(answer(seen, size))]);
        let (_setup, _server, mut clients) = server(&service, "max_in_flight = 1", 20);
        ask(&mut clients);
        expect_own_answers(&mut clients, "answered once");
        assert_eq!((service.connections(), service.requests().len()), (1, 20));
    }
}

#[test]
fn two_hundred_clients_at_the_default_settings_get_each_its_own_answer() {
    for (name, twice) in [
        ("one record", IN_ONE_RECORD),
        ("one segment", IN_ONE_SEGMENT),
        ("after a pause", AFTER_A_PAUSE),
    ] {
        let service = Service::good(move |seen| twice(answer(seen, 3_000)));
        let (_setup, _server, mut clients) = server(&service, "", 200);
        ask(&mut clients);
        expect_own_answers(&mut clients, name);
    }
}

#[test]
fn a_service_that_answers_different_questions_alike_is_trusted_and_its_connection_kept() {
    let same = || vec![Act::Send(ok("{\"results\": [], \"status\": \"ZERO_RESULTS\"}"))];
    let service = Service::good(move |_| same());
    let (_setup, server, mut clients) = server(&service, "max_in_flight = 1", 20);
    ask(&mut clients);
    for client in &mut clients {
        assert_eq!(client.answer().status(), "ZERO_RESULTS");
    }
    assert_eq!((service.connections(), service.requests().len()), (1, 20));
    assert!(!server.log().contains("sent more than was asked for"), "{}", server.log());
}

#[test]
fn an_answer_equal_to_the_one_before_counts_even_if_the_connection_is_cut_after_it() {
    let same = || Act::Send(ok("{\"results\": [], \"status\": \"ZERO_RESULTS\"}"));
    for end in [Act::Cut, Act::Close] {
        let second = end.clone();
        let service = Service::good(move |seen| match seen.nth {
            1 => vec![same()],
            _ => vec![same(), second.clone()],
        });
        let (_setup, _server, mut clients) = server(&service, "max_in_flight = 1", 2);
        ask(&mut clients);
        for client in &mut clients {
            assert_eq!(client.answer().status(), "ZERO_RESULTS", "{end:?}");
        }
        assert_eq!(service.requests().len(), 2, "{end:?}");
    }
}

#[test]
fn a_byte_on_an_idle_connection_closes_it_and_the_next_query_goes_out_on_a_fresh_one() {
    let service = Service::good(|seen| match seen.connection {
        1 => vec![Act::Send(answer(seen, 0)), Act::Hold, Act::Send(answer(seen, 0))],
        _ => vec![Act::Send(answer(seen, 0))],
    });
    let (_setup, _server, mut clients) = server(&service, "", 2);
    let (first, second) = clients.split_at_mut(1);
    ask(first);
    expect_own_answers(first, "before");
    service.open_gate();
    wait_until(LIMIT, "the connection is closed", || service.ended() == 1);
    second[0].send("WHATSAT c1 1 5\n");
    assert_eq!(second[0].answer().results(), ["10.001"]);
    assert_eq!(service.connections(), 2);
}

/// One wait reports the client's line and the surplus, the line first.
#[test]
fn unread_bytes_on_an_idle_connection_do_not_answer_the_next_query() {
    let service = Service::good(|seen| match seen.connection {
        1 => vec![Act::Send(answer(seen, 0)), Act::Hold, Act::Send(answer(seen, 0))],
        _ => vec![Act::Send(answer(seen, 0))],
    });
    let (_setup, server, mut clients) = server(&service, "", 2);
    let (first, second) = clients.split_at_mut(1);
    ask(first);
    expect_own_answers(first, "before");
    server.signal(Signal::STOP);
    second[0].send("WHATSAT c1 1 5\n");
    service.open_gate();
    wait_until(LIMIT, "the surplus is sent", || service.acts() == 3);
    server.signal(Signal::CONT);
    assert_eq!(second[0].answer().results(), ["10.001"]);
    assert_eq!(service.requests().len(), 2, "the request was answered");
}

#[test]
fn a_service_that_sends_surplus_gets_fresh_connections_for_a_while() {
    let service = Service::good(|seen| match seen.connection {
        1 => IN_ONE_RECORD(answer(seen, 0)),
        _ => vec![Act::Send(answer(seen, 0))],
    });
    let (_setup, server, mut clients) = server(&service, "", 4);
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("WHATSAT c{number} 1 5\n"));
        assert_eq!(client.answer().results(), [format!("10.{number:03}")]);
    }
    assert_eq!(service.connections(), 4);
    server.wait_for_log("The Places service sent more than was asked for");
}

/// Long enough for another request to go out in that time, as a rule. It does not matter whether it does.
const PAUSE: Duration = Duration::from_millis(20);
