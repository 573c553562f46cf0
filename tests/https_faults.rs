//! Claim: whatever a Places service does, each query is answered in time and in form, the next one is served, and a
//! client that only sends IAMAT notices nothing.

mod common;

use common::service::{Act, Identity, Seen, Service, ok, with_head};
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const KEY: &str = "sesame";
const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.5";
const AT: &str = "AT AT kiwi +34.068930-118.445127 1559865055.5";
const BODY: &str = "{\"results\" : [ 1, 2 ], \"status\" : \"OK\"}";

/// A server that asks this service, with these settings of `[places]`, and a client that said IAMAT.
fn server(service: &Service, places: &str) -> (Setup, ServerProcess, Client) {
    let (setup, server) = service.asked_by_goloman(KEY, places, &[]);
    let mut client = server.client();
    assert_eq!(client.ask(IAMAT), AT);
    (setup, server, client)
}

/// Asks, and expects the failure form with these words.
fn fails(client: &mut Client, radius: usize, words: &str) {
    let answer = client.whatsat("kiwi", &radius.to_string(), "5");
    assert_eq!(answer.first, AT);
    assert_eq!((answer.results().len(), answer.status().as_str()), (0, "UNKNOWN_ERROR"));
    assert!(answer.body.contains(words), "{words:?} in {}", answer.body);
}

fn chunked(text: &str) -> Vec<u8> {
    let half = text.len() / 2;
    let (one, two) = text.split_at(half);
    let body =
        format!("{half:x};a=\"b\\\"c\"\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\nT: v\r\n\r\n", two.len());
    with_head("200 OK\r\nTransfer-Encoding: chunked", body)
}

fn blanks_behind_sizes(text: &str) -> Vec<u8> {
    let body = format!("{:x} \t\r\n{text}\r\n0  \r\n\r\n", text.len());
    with_head("200 OK\r\nTransfer-Encoding: chunked", body)
}

#[test]
fn answers_of_every_valid_form_are_read() {
    let length = format!("Content-Length: {}", BODY.len());
    let shapes = vec![
        vec![Act::Send(ok(BODY))],
        vec![Act::Drip(ok(BODY))],
        vec![Act::Send(chunked(BODY))],
        vec![Act::Drip(chunked(BODY))],
        vec![Act::Send(with_head("200 OK", BODY)), Act::Close],
        vec![Act::Send(with_head("100 Continue", "")), Act::Send(ok(BODY))],
        vec![Act::Send(ok(BODY)), Act::Close],
        vec![Act::Send(ok(BODY)), Act::Cut], // It is whole all the same.
        vec![Act::Send([ok(BODY), b"more".to_vec()].concat())],
        vec![Act::Send(with_head(&format!("200 OK\r\nConnection: close\r\n{length}"), BODY))],
        vec![Act::Send(with_head(&format!("200 OK\r\n{length}\r\n{length}"), BODY))],
        // What real services send besides: a folded field, blanks behind a chunk's size, a coding
        // that is none, a version that does not exist yet.
        vec![Act::Send(with_head(&format!("200 OK\r\nA: b\r\n folded\r\n{length}"), BODY))],
        vec![Act::Send(blanks_behind_sizes(BODY))],
        vec![Act::Send(with_head(&format!("200 OK\r\nContent-Encoding: none\r\n{length}"), BODY))],
        vec![Act::Send([b"HTTP/1.2", &ok(BODY)[8..]].concat())],
    ];
    let count = shapes.len();
    let service = Service::good(move |seen| shapes[radius(seen) - 1].clone());
    let (_setup, _server, mut client) = server(&service, "");
    for number in 1..=count {
        let answer = client.whatsat("kiwi", &number.to_string(), "20");
        assert_eq!((answer.body.as_str(), number), (&*format!("{BODY}\n"), number));
    }
}

/// Miles, as the client said them.
fn radius(seen: &Seen) -> usize {
    let metres = seen.text.split("radius=").nth(1).and_then(|rest| rest.split('&').next());
    let metres: f64 = metres.expect("a radius").parse().expect("a number");
    (metres / 1609.344).round() as usize
}

#[test]
fn unusable_answers_are_explained_and_the_next_query_is_served() {
    let length = |head: &str| with_head(&format!("{head}\r\nContent-Length: 2"), "{}");
    let cases: Vec<(Vec<Act>, &str)> = vec![
        (vec![Act::Send(length("500 Oops"))], "HTTP status 500"),
        (vec![Act::Send(length("600 Oops"))], "HTTP status 600"),
        (vec![Act::Send(length("999 Denied"))], "HTTP status 999"),
        (
            vec![Act::Send(length("302 Found\r\nLocation: https://evil/"))],
            "HTTP status 302, a redirect",
        ),
        (vec![Act::Send(ok("no JSON"))], "it is not JSON"),
        (vec![Act::Send(ok("[]"))], "it is not a JSON object"),
        (vec![Act::Send(ok("{}"))], "it has no \\\"results\\\""),
        (vec![Act::Send(ok(b"{\"results\":[\"\xff\"]}"))], "it is not UTF-8"),
        (vec![Act::Send(b"garbage\r\n\r\n".to_vec())], "not HTTP/1.1"),
        (vec![Act::Send(b"HTTP/2 200\r\n\r\n".to_vec())], "not HTTP/1.1"),
        (vec![Act::Send(length("200 OK\r\nTransfer-Encoding: chunked"))], "both"),
        (vec![Act::Send(length("200 OK\r\nContent-Length: 3"))], "Content-Length"),
        (vec![Act::Send(length("200 OK\r\nContent-Encoding: gzip"))], "compressed"),
        (vec![Act::Send(length("101 Switching"))], "switch"),
        (vec![Act::Send(with_head("200 OK\r\nContent-Length: 5000", ""))], "over 4096 bytes"),
        (vec![Act::Send(with_head("200 OK", vec![b' '; 5000])), Act::Hold], "over 4096 bytes"),
        (vec![Act::Send(b"HTTP/1.1 200 OK\r\nA: ".repeat(2000))], "head"),
        (vec![Act::Noise], "TLS with localhost failed"),
        (vec![Act::Cut], "the connection was cut"),
        (vec![Act::Close], "closed"),
    ];
    let count = cases.len();
    let acts: Vec<Vec<Act>> = cases.iter().map(|(acts, _)| acts.clone()).collect();
    let service = Service::good(move |seen| match radius(seen) {
        31 => vec![Act::Send(ok(BODY))],
        number => acts[number - 1].clone(),
    });
    let (_setup, server, mut client) = server(&service, "response_bytes = 4096");
    for number in 1..=count {
        fails(&mut client, number, cases[number - 1].1);
        assert_eq!(client.whatsat("kiwi", "31", "5").results().len(), 2, "after case {number}");
    }
    let failures = || server.log().matches("The Places service failed a query").count();
    wait_until(LIMIT, "the log is written", || failures() >= count);
    assert_eq!(failures(), count, "each is logged once");
}

#[test]
fn an_answer_cut_at_any_byte_is_refused() {
    let shapes = [ok(BODY), chunked(BODY), with_head("200 OK", BODY)];
    // The first may not be cut at its end, the last one only with `close_notify`.
    for (shape, whole) in shapes.into_iter().enumerate() {
        let length = whole.len();
        let service = Service::good(move |seen| {
            let number = seen.connection - 1;
            let end = if number.is_multiple_of(2) { Act::Close } else { Act::Cut };
            vec![Act::Send(whole[..number / 2].to_vec()), end]
        });
        let (_setup, _server, mut client) = server(&service, "");
        for cut in 0..length {
            for notified in [true, false] {
                let answer = client.whatsat("kiwi", "1", "5");
                let until_close = shape == 2 && notified && cut + BODY.len() >= length;
                // Where the end of the body is the end of the stream, only what it says can show it.
                let whole_by_chance = until_close && answer.body.contains("is not JSON");
                assert!(
                    answer.status() == "UNKNOWN_ERROR" || whole_by_chance,
                    "shape {shape}, cut at {cut}, notified {notified}: {}",
                    answer.body
                );
            }
        }
        assert_eq!(service.requests().len(), 2 * length, "no cut answer is asked for again");
    }
}

#[test]
fn an_untrusted_certificate_is_reported() {
    for (identity, words) in [
        (Identity::UnknownAuthority, "the certificate of localhost is not trusted: no authority"),
        (Identity::ForgedAuthority, "the certificate of localhost is not trusted: its signature"),
        (Identity::Expired, "the certificate of localhost is not trusted: it has expired"),
        (
            Identity::OtherName,
            "the certificate of localhost is not trusted: it is for another name",
        ),
    ] {
        let service = Service::start(identity, |_| vec![Act::Send(ok(BODY))]);
        let (_setup, _server, mut client) = server(&service, "");
        fails(&mut client, 1, words);
        fails(&mut client, 2, words);
        assert!(service.requests().is_empty(), "it received something all the same");
        assert_eq!(client.ask(IAMAT), AT);
    }
}

#[test]
fn a_silent_service_times_out_and_others_are_served_until_then() {
    let silent: [(Identity, Vec<Act>, &str); 4] = [
        (Identity::SilentBeforeHandshake, vec![], "the TLS handshake was not finished"),
        (Identity::Good, vec![Act::Hold], "nothing came"),
        (Identity::Good, vec![Act::Send(b"HTTP/1.1 200".to_vec()), Act::Hold], "its head was not"),
        (Identity::Good, vec![Act::Send(ok(BODY)[..60].to_vec()), Act::Hold], "its body was not"),
    ];
    for (identity, acts, words) in silent {
        let service = Service::start(identity, move |_| acts.clone());
        let (_setup, server, mut client) = server(&service, "timeout = \"1500ms\"");
        client.send("WHATSAT kiwi 1 5\n");
        wait_until(LIMIT, "the service is asked", || service.connections() == 1);
        let mut other = server.client();
        for _ in 0..20 {
            assert_eq!(other.ask(IAMAT), AT); // Before the query is answered, for the log says so:
        }
        let log = server.log();
        assert!(!log.contains("failed a query"), "20 IAMATs took longer than the deadline: {log}");
        let answer = client.answer();
        assert!(answer.body.contains("no answer within 1500 ms: "), "{}", answer.body);
        assert!(answer.body.contains(words), "{words}: {}", answer.body);
        assert_eq!(client.ask(IAMAT), AT);
    }
}

#[test]
fn a_missing_service_is_reported_as_unreachable() {
    let service = Service::good(|_| vec![]);
    let setup = Setup::alone().any_port();
    let port = common::ports::reserve();
    let start = |url: String| {
        let mut command = setup.command("Goloman");
        command.arg("--places=google").arg(format!("--places-url={url}"));
        command.args(&service.arguments()[2..]).env("HERD_PLACES_KEY", KEY);
        ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"))
    };
    for (url, words) in [
        (format!("https://localhost:{}/x", port.number), "can't be reached: Connection refused"),
        ("https://nowhere.invalid/x".to_owned(), "the name nowhere.invalid can't be resolved"),
    ] {
        let server = start(url);
        let mut client = server.client();
        client.ask(IAMAT);
        fails(&mut client, 1, words);
        fails(&mut client, 2, words);
    }
}

#[test]
fn an_endless_answer_is_cut_at_its_limit_and_costs_no_more_memory() {
    let endless = || {
        let mut acts = vec![Act::Send(with_head("200 OK", "{\"results\": [\""))];
        acts.extend((0..200).map(|_| Act::Send(vec![b'x'; 65_536])));
        acts
    };
    let service = Service::good(move |_| endless());
    let (_setup, server, mut client) = server(&service, "response_bytes = 1048576");
    fails(&mut client, 1, "over 1048576 bytes");
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    if let Some(peak) = peak {
        let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(kilobytes < 100_000, "{kilobytes} kB at most");
    }
}
