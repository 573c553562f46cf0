//! Claim: a request takes no more system calls than docs/architecture.md lists.

use std::fs;

use rustix::process::Signal;

use crate::common::needs::{Outcome, kernel, tool};
use crate::common::places_server::{KEY, PlacesServer};
use crate::common::process::through;
use crate::common::{LIMIT, ServerProcess, Setup, wait_until};

/// The calls of one WHATSAT, from the client's line to the wait for the next one, and what the trace shows of each.
const WHATSAT: [(&str, &str); 7] = [
    ("recvfrom", "\"WHATSAT kiwi"),
    ("recvfrom", "EAGAIN"),     // Nothing is left over on the kept connection.
    ("sendto", "\"\\27\\3\\3"), // A record of TLS.
    ("epoll", "EPOLLIN"),
    ("recvfrom", "\"\\27\\3\\3"),
    ("sendto", "\"AT AT kiwi"),
    ("epoll", "EPOLLIN"),
];

pub fn a_whatsat_over_a_kept_connection_takes_the_seven_calls_that_are_documented() -> Outcome {
    let mut strace = tool("strace")?;
    let traced = strace.args(["-qq", "-o", "/dev/null", "true"]).status();
    kernel(traced.is_ok_and(|status| status.success()), "strace may not trace here")?;
    let service = PlacesServer::start();
    let setup = Setup::alone().any_port();
    let trace = setup.folder.path().join("trace");
    let trace_file = trace.to_str().expect("text");
    let mut command = setup.command("Goloman");
    command.args(["--log-level=off", "--places=google", "--places-url"]);
    command.arg(service.url("/maps/api/place/nearbysearch/json"));
    command.arg("--places-ca").arg(service.folder.path().join("ca.pem"));
    // With -D the tracer is the server's child, and not the other way round.
    let words = ["strace", "-D", "-f", "-qq", "-s", "32", "-o", trace_file];
    let mut command = through(&words, &command);
    command.env("HERD_PLACES_KEY", KEY);
    let mut server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut client = server.client();
    // Each asks for another place: two equal answers would be doubted for a moment.
    for number in 10..30 {
        client.ask(&format!("IAMAT kiwi{number} +34.{number}8930-118.445127 1559865055.5"));
    }
    for number in 10..30 {
        let answer = client.whatsat(&format!("kiwi{number}"), "10", "5");
        assert_eq!(answer.status(), "OK", "{}", answer.body);
    }
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let traced = || fs::read_to_string(&trace).unwrap_or_default();
    wait_until(LIMIT, "the trace is complete", || traced().contains("exit_group("));
    let traced = traced();
    // A slow machine may add a wait that times out to one of them, and not to all.
    let each: Vec<Vec<&str>> = requests(&traced);
    let is_as_listed = |calls: &&Vec<&str>| {
        let is = |(call, (name, shows)): (&&str, &(&str, &str))| {
            call.contains(name) && call.contains(shows)
        };
        calls.len() == WHATSAT.len() && calls.iter().zip(&WHATSAT).all(is)
    };
    assert!(each.len() > 15, "{traced}");
    let least = each.iter().min_by_key(|calls| calls.len());
    assert!(each.iter().any(|calls| is_as_listed(&calls)), "{least:#?}");
    Ok(())
}

/// The calls of each WHATSAT but the first and the last ones, each by one line.
fn requests(traced: &str) -> Vec<Vec<&str>> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    for call in traced.lines().filter(|line| !line.contains("<unfinished")) {
        if call.contains("\"WHATSAT kiwi") {
            all.push(Vec::new());
        }
        if let Some(calls) = all.last_mut() {
            calls.push(call);
        }
    }
    all.pop();
    all.drain(..1);
    all
}
