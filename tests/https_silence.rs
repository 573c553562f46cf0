//! Claim: a service that falls silent, on kept connections or while it thinks, costs no query that another
//! connection could answer.

mod common;

use std::time::Duration;

use common::service::{Act, Seen, Service, ok};
use common::{Client, LIMIT, Proxy, ServerProcess, Setup, wait_until};

const BODY: &str = "{\"results\" : [ 1, 2 ], \"status\" : \"OK\"}";
const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.5";
const ASKED_AGAIN: &str =
    "A kept connection with the Places service is silent; retrying on a new one.";

/// A server that asks this service by that port, and gives a query ten seconds.
fn server(service: &Service, port: u16) -> (Setup, ServerProcess) {
    let setup = Setup::alone().any_port().section("[places]\ntimeout = \"10s\"");
    let mut command = setup.command("Goloman");
    command.args(service.arguments_at(port)).arg("--log-level=debug");
    command.env("HERD_PLACES_KEY", "sesame");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    assert!(server.client().ask(IAMAT).starts_with("AT "));
    (setup, server)
}

fn ask(clients: &mut [Client], radius: usize) {
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("WHATSAT kiwi {} 5\n", radius + number));
    }
}

fn expect_answers(clients: &mut [Client]) {
    for client in clients {
        let answer = client.answer();
        assert_eq!(answer.status(), "OK", "{}", answer.body);
    }
}

/// A service that eight kept connections lead to, by a proxy.
fn eight_kept() -> (Service, Proxy, Setup, ServerProcess, Vec<Client>) {
    let service = Service::good(|_| vec![Act::Hold, Act::Send(ok(BODY))]);
    let proxy = Proxy::to(service.address);
    let (setup, server) = server(&service, proxy.address.port());
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    ask(&mut clients, 1);
    service.wait_for_requests(8);
    service.open_gate();
    expect_answers(&mut clients);
    assert_eq!(service.connections(), 8);
    (service, proxy, setup, server, clients)
}

#[test]
fn eight_kept_connections_that_die_together_cost_no_query() {
    let (service, proxy, _setup, _server, mut clients) = eight_kept();
    proxy.forget();
    ask(&mut clients, 11);
    expect_answers(&mut clients);
    assert_eq!(service.requests().len(), 16, "each was asked once more");
}

#[test]
fn one_silent_kept_connection_empties_the_pool() {
    let (_service, proxy, _setup, server, mut clients) = eight_kept();
    proxy.forget();
    ask(&mut clients[..1], 11);
    expect_answers(&mut clients[..1]);
    ask(&mut clients[1..], 12);
    expect_answers(&mut clients[1..]);
    // Seven times it would be; on a machine that hardly gets on, one that is alive may be suspected, too.
    let asked_again = server.log().matches(ASKED_AGAIN).count();
    assert!((1..=2).contains(&asked_again), "{asked_again} times: {}", server.log());
}

#[test]
fn a_slow_service_gets_one_repeated_query_and_then_more_time() {
    let service = Service::good(|seen| match (seen.connection, seen.nth) {
        (1, 1) => vec![Act::Send(ok(BODY))],
        // Longer than a fifth of the time that a query has.
        _ => vec![Act::Pause(Duration::from_millis(2_500)), Act::Send(ok(BODY))],
    });
    let (_setup, server) = server(&service, service.port);
    let mut client = server.client();
    for radius in 1..=4 {
        assert_eq!(client.whatsat("kiwi", &radius.to_string(), "5").status(), "OK");
    }
    // Not even that one, if the machine was so slow that the first answer took its time, too.
    let requests = service.requests().len();
    assert!((4..=5).contains(&requests), "four queries, one of them asked twice, not {requests}");
}

/// The kept connection is only slow, and the fresh one fails, or says nothing either.
#[test]
fn a_late_answer_on_a_kept_connection_counts_after_its_query_was_repeated() {
    for fresh in [Act::Cut, Act::Hold] {
        let service = Service::good(move |seen: &Seen| match (seen.connection, seen.nth) {
            (1, 1) => vec![Act::Send(ok(BODY))],
            (1, _) => vec![Act::Pause(Duration::from_millis(3_000)), Act::Send(ok(BODY))],
            _ => vec![fresh.clone()],
        });
        let (_setup, server) = server(&service, service.port);
        let mut client = server.client();
        for radius in ["1", "2", "3"] {
            assert_eq!(client.whatsat("kiwi", radius, "5").status(), "OK");
        }
        let on: Vec<_> = service.requests().iter().map(|seen| seen.connection).collect();
        let on_kept = on.iter().filter(|connection| **connection == 1).count();
        assert_eq!(on_kept, 3, "the kept one is kept: {on:?}");
        service.open_gate();
        let fresh = service.connections() - 1;
        wait_until(LIMIT, "the fresh one is closed", || service.ended() == fresh);
    }
}
