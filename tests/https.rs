//! Claim: a WHATSAT is answered over real HTTPS with the service's own bytes; connections are kept, requests
//! shared, queries bounded, and the key stays secret.

mod common;

use std::collections::HashSet;
use std::process::Command;

use common::service::{Act, Identity, Seen, Service, ok, with_head};
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const KEY: &str = "AIza-sesame/open+1";
const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.5";
const AT: &str = "AT AT kiwi +34.068930-118.445127 1559865055.5";
const BODY: &str =
    "{\n  \"results\" : [ 1.50, {\"name\":\"\\u00e9\"}, 3 ],\n\n  \"status\" : \"OK\"\n}\n";

/// A server that asks this service, with these settings of `[places]`, and a client that said IAMAT.
fn server(service: &Service, places: &str) -> (Setup, ServerProcess, Client) {
    let (setup, server) = service.asked_by_goloman(KEY, places, &["--log-level=trace"]);
    let mut client = server.client();
    assert_eq!(client.ask(IAMAT), AT);
    (setup, server, client)
}

fn good(_: &Seen) -> Vec<Act> {
    vec![Act::Send(ok(BODY))]
}

#[test]
fn the_answer_is_the_services_own_byte_for_byte() {
    let service = Service::good(good);
    let (_setup, _server, mut client) = server(&service, "");
    client.send("WHATSAT kiwi 10 2\nWHATSAT kiwi 10 0\n");
    let answer = client.answer();
    assert_eq!(answer.first, AT);
    let expected =
        "{\n  \"results\" : [ 1.50, {\"name\":\"\\u00e9\"} ],\n  \"status\" : \"OK\"\n}\n";
    assert_eq!(answer.body, expected);
    assert_eq!(client.answer().body, "{\n  \"results\" : [],\n  \"status\" : \"OK\"\n}\n");
    let request = &service.requests()[0].text;
    let first = "GET /maps/api/place/nearbysearch/json?location=34.068930,-118.445127&radius=16093\
                 &key=AIza-sesame%2Fopen%2B1 HTTP/1.1\r\n";
    assert!(request.starts_with(first), "{request}");
    for header in [format!("Host: localhost:{}", service.port), "Accept-Encoding: identity".into()]
    {
        assert!(request.contains(&format!("\r\n{header}\r\n")), "{header}: {request}");
    }
}

#[test]
fn the_new_api_is_queried_by_post() {
    let service = Service::good(|_| vec![Act::Send(ok("{\"places\": [1, 2]}"))]);
    let setup = Setup::alone().any_port().section("[places]\nshape = \"service\"");
    let mut command = setup.command("Goloman");
    command.arg("--places=google-new").args(&service.arguments()[1..]).env("HERD_PLACES_KEY", KEY);
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut client = server.client();
    client.ask(IAMAT);
    assert_eq!(client.whatsat("kiwi", "10", "0").body, "{\"places\": []}\n");
    let request = &service.requests()[0].text;
    assert!(request.starts_with("POST "), "{request}");
    assert!(request.contains(&format!("\r\nX-Goog-Api-Key: {KEY}\r\n")), "{request}");
    assert!(request.contains("\r\nX-Goog-FieldMask: places."), "{request}");
    let body = "{\"maxResultCount\":1,\"locationRestriction\":{\"circle\":{\"center\":\
                {\"latitude\":34.068930,\"longitude\":-118.445127},\"radius\":16093}}}";
    assert!(request.ends_with(body), "{request}");
}

#[test]
fn a_connection_is_kept_for_the_next_query() {
    let service = Service::good(good);
    let (_setup, _server, mut client) = server(&service, "");
    for bound in 1..=10 {
        assert_eq!(client.whatsat("kiwi", &bound.to_string(), "20").results().len(), 3);
    }
    assert_eq!((service.connections(), service.requests().len()), (1, 10));
}

#[test]
fn a_kept_connection_that_dies_under_a_request_costs_one_fresh_one_and_a_resumed_handshake() {
    for end in [Act::Close, Act::Cut] {
        let service = Service::good(move |seen| match (seen.connection, seen.nth) {
            (1, 2..) => vec![end.clone()],
            _ => vec![Act::Send(ok(BODY))],
        });
        let (_setup, _server, mut client) = server(&service, "");
        for radius in ["1", "2", "3"] {
            assert_eq!(client.whatsat("kiwi", radius, "20").status(), "OK");
        }
        // The first connection twice, the second time without an answer; then the second one.
        let seen: Vec<_> = service.requests().iter().map(|it| (it.connection, it.nth)).collect();
        assert_eq!(seen, [(1, 1), (1, 2), (2, 1), (2, 2)]);
        assert_eq!(service.resumed(), 1);
    }
}

#[test]
fn a_request_is_repeated_once_and_not_twice() {
    let service = Service::good(|seen| match seen.connection {
        1 if seen.nth == 1 => vec![Act::Send(ok(BODY))],
        _ => vec![Act::Cut],
    });
    let (_setup, _server, mut client) = server(&service, "");
    assert_eq!(client.whatsat("kiwi", "1", "20").status(), "OK");
    assert_eq!(client.whatsat("kiwi", "2", "20").status(), "UNKNOWN_ERROR");
    assert_eq!(service.requests().len(), 3);
}

#[test]
fn a_request_whose_answer_has_begun_is_not_repeated() {
    let service = Service::good(|seen| match seen.nth {
        1 => vec![Act::Send(ok(BODY))],
        _ => vec![Act::Send(b"HTTP/1.1".to_vec()), Act::Cut],
    });
    let (_setup, _server, mut client) = server(&service, "");
    assert_eq!(client.whatsat("kiwi", "1", "20").status(), "OK");
    assert_eq!(client.whatsat("kiwi", "2", "20").status(), "UNKNOWN_ERROR");
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn clients_that_ask_the_same_share_one_request() {
    let service = Service::good(|_| vec![Act::Hold, Act::Send(ok(BODY))]);
    let (_setup, server, _client) = server(&service, "");
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("WHATSAT kiwi 10 2\n");
    }
    wait_until(LIMIT, "all have asked", || {
        server.log().matches(": WHATSAT kiwi 10 2").count() == 20
    });
    drop(clients.pop()); // A client that leaves does not disturb the others.
    service.open_gate();
    for client in &mut clients {
        assert_eq!(client.answer().results().len(), 2);
    }
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn a_thousand_queries_at_once_get_each_its_own_answer_through_the_slots_that_there_are() {
    let service = Service::good(|seen| {
        let location = seen.text.split("location=").nth(1).and_then(|rest| rest.split('&').next());
        let location = location.expect("a location");
        vec![Act::Send(ok(format!("{{\"results\": [\"{location}\"], \"status\": \"OK\"}}")))]
    });
    let (_setup, server, mut client) = server(&service, "max_in_flight = 64\nmax_queued = 1024");
    let mut clients: Vec<Client> = (0..100).map(|_| server.client()).collect();
    for number in 0..1_000 {
        client.ask(&format!("IAMAT c{number} +10.{number:03}+20.000 1559865055.5"));
    }
    for (place, client) in clients.iter_mut().enumerate() {
        let lines = (0..10).map(|nth| format!("WHATSAT c{} 1 5\n", 10 * place + nth));
        client.send(lines.collect::<String>());
    }
    for (place, client) in clients.iter_mut().enumerate() {
        for nth in 0..10 {
            let number = 10 * place + nth;
            let answer = client.answer();
            assert_eq!(
                answer.first,
                format!("AT AT c{number} +10.{number:03}+20.000 1559865055.5")
            );
            assert_eq!(answer.results(), [format!("10.{number:03},20.000")]);
        }
    }
    let requests = service.requests();
    assert_eq!(requests.len(), 1_000);
    assert_eq!(requests.iter().map(|seen| &seen.text).collect::<HashSet<_>>().len(), 1_000);
    assert!(service.asked_most() <= 64 && service.connections() <= 64, "{}", service.connections());
}

#[test]
fn a_query_beyond_the_queue_is_answered_at_once_and_the_others_wait() {
    let service = Service::good(|_| vec![Act::Hold, Act::Send(ok(BODY))]);
    let (_setup, server, _client) =
        server(&service, "max_in_flight = 2\nmax_queued = 1\ntimeout = \"30s\"");
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for (place, client) in clients.iter_mut().enumerate() {
        client.send(format!("WHATSAT kiwi {} 5\n", place + 1));
        let asked = format!(": WHATSAT kiwi {} 5", place + 1);
        server.wait_for_log(&asked);
    }
    let refused = clients.pop().expect("the last one").answer();
    assert_eq!(refused.status(), "UNKNOWN_ERROR");
    assert!(refused.body.contains("too many queries are waiting"), "{}", refused.body);
    assert_eq!(service.requests().len(), 2);
    service.open_gate();
    for client in &mut clients {
        assert_eq!(client.answer().status(), "OK");
    }
}

#[test]
fn only_the_service_sees_the_key() {
    let echo =
        |text: &str| with_head("200 OK\r\nX-Echo: AIza-sesame/open+1\r\nContent-Length: 90", text);
    let pad = |text: String| format!("{text:90}");
    let service = Service::good(move |seen| {
        let text = match seen.nth {
            1 => "AIza-sesame/open+1",
            2 => "AIza-sesame\\/open\\u002b1",
            3 => "AIza-sesame%2Fopen%2b1",
            4 => return vec![Act::Send(echo(&pad("{\"results\": []}".into())))],
            _ => return vec![Act::Send(with_head("403 No\r\nContent-Length: 18", KEY))],
        };
        vec![Act::Send(echo(&pad(format!("{{\"results\": [\"{text}\"]}}"))))]
    });
    let (setup, server, mut client) = server(&service, "");
    for radius in ["1", "2", "3"] {
        let answer = client.whatsat("kiwi", radius, "5");
        assert!(answer.body.contains("answer holds the API key"), "{}", answer.body);
    }
    assert_eq!(client.whatsat("kiwi", "4", "5").results().len(), 0);
    assert_eq!(client.whatsat("kiwi", "5", "5").status(), "UNKNOWN_ERROR");
    let (log, said) = (server.log_file.clone(), server.stderr());
    server.stop();
    let mut check = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    check.arg("--check").arg("--config").arg(setup.config_file("Goloman"));
    let check = check.env("HERD_PLACES_KEY", KEY).output().expect("it runs");
    let log = std::fs::read_to_string(log).expect("a log");
    for text in [log, said, String::from_utf8_lossy(&check.stdout).into_owned()] {
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[test]
fn a_refusal_by_the_service_is_passed_on_and_the_log_says_what_to_try() {
    let denied =
        "{\"results\": [], \"status\": \"REQUEST_DENIED\", \"error_message\": \"Legacy.\"}";
    let service = Service::good(move |_| vec![Act::Send(ok(denied))]);
    let (_setup, server, mut client) = server(&service, "");
    assert_eq!(client.whatsat("kiwi", "1", "5").body, format!("{denied}\n"));
    server.wait_for_log("REQUEST_DENIED: Legacy.");
    server.wait_for_log("try --places google-new");
}

#[test]
fn a_query_in_flight_is_answered_before_the_server_leaves() {
    let service = Service::good(|_| vec![Act::Hold, Act::Send(ok(BODY))]);
    let (_setup, server, mut client) = server(&service, "");
    client.send("WHATSAT kiwi 10 2\n");
    service.wait_for_requests(1);
    server.signal(rustix::process::Signal::TERM);
    server.wait_for_log("Goloman stops.");
    service.open_gate();
    assert_eq!(client.answer().results().len(), 2);
    client.expect_end();
}

#[test]
fn a_service_with_tls_1_2_is_supported() {
    let service = Service::start(Identity::OnlyTls12, good);
    let (_setup, _server, mut client) = server(&service, "");
    assert_eq!(client.whatsat("kiwi", "1", "5").status(), "OK");
}
