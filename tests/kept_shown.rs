//! Claim: an operator sees what keeps updates outside the process, and what is wrong with it: in the page's events, in
//! `/healthz` and `/readyz`. A server that has neither a state directory nor an engine shows neither.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use common::http::get;
use common::ports::{Port, reserve};
use common::{LIMIT, ServerProcess, Setup, wait_until};
use serde_json::{Value, json};

/// What the page's first event says of it.
fn shown(server: &ServerProcess) -> Value {
    let numbers = first_event(server.admin())["numbers"].take();
    numbers["kept"].clone()
}

fn first_event(admin: SocketAddr) -> Value {
    let mut stream = TcpStream::connect(admin).expect("it accepts");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is sent");
    let lines = BufReader::new(stream).lines().map(|line| line.expect("in time, and text"));
    let mut data = lines.filter_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    serde_json::from_str(&data.next().expect("an event")).expect("JSON")
}

/// A member whose NATS does not run; its answers do not wait for it.
fn member(setup: Setup) -> (Setup, Port) {
    let nobody = reserve();
    let address = nobody.address();
    let engine =
        format!("[engine]\nprovider = \"nats\"\nservers = [\"nats://{address}\"]\nack = \"local\"");
    (setup.section(&engine), nobody)
}

#[test]
fn a_server_without_a_state_directory_and_an_engine_shows_neither() {
    let setup = Setup::alone();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    assert_eq!(shown(&server), Value::Null);
}

#[test]
fn the_state_directory_is_shown_with_its_size_and_its_last_commit() {
    let setup = Setup::alone().section("[state]\ndir = \"kept\"\nack = \"disk\"");
    std::fs::create_dir(setup.folder.path().join("kept")).expect("a folder");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    server.client().ask("IAMAT kiwi +34.0-118.4 1559865055.9");
    wait_until(LIMIT, "nothing is unwritten", || shown(&server)["disk"]["unwritten"] == 0);
    let kept = shown(&server);
    let disk = &kept["disk"];
    assert_eq!((&disk["ack"], &disk["failing"]), (&json!(true), &json!(false)), "{kept}");
    assert!(disk["bytes"].as_u64() > Some(1_000) && disk["commit"].as_f64() > Some(0.0), "{kept}");
    assert_eq!((&kept["held"], &kept["engine"]), (&json!(0), &Value::Null), "{kept}");
}

#[test]
fn an_engine_that_cannot_be_reached_is_named_once_with_its_reason() {
    let (setup, nobody) = member(Setup::alone());
    let address = nobody.address();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    let reason = format!("{address}: Connection refused");
    wait_until(LIMIT, "the page has the reason", || {
        shown(&server)["engine"]["reason"] == json!(reason)
    });
    let kept = shown(&server);
    let expected = json!({
        "ack": false, "state": "disconnected", "address": null, "version": null, "pending": 0, "in_flight": 0,
        "reason": reason,
    });
    assert_eq!((&kept["engine"], &kept["disk"]), (&expected, &Value::Null), "{kept}");
    let health = get(server.admin(), "/healthz").json();
    let said = health["reasons"][0].as_str().expect("a reason");
    assert!(said.starts_with("the engine is not connected, for "), "{said}");
    assert!(said.ends_with(&format!(" s: {reason}")), "{said}");
    let log = server.log();
    let said =
        format!("The engine at {address} can't be reached: Connection refused. Reconnecting.");
    assert!(log.contains(&said), "{log}");
}
