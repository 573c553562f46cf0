//! Claim: the Places server of this program keeps its certificates, and `--herd` runs one beside the servers. (That
//! other programs understand its HTTPS is in `tests/with_tools/https.rs`.)

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::places_server::{KEY, PlacesServer};
use common::process::{Running, follow};
use common::{Client, Herd, LIMIT, ServerProcess, Setup, wait_until};

const AROUND: &str = "location=34.068930,-118.445127&radius=16093";

#[test]
fn the_certificates_are_kept_for_the_next_start_and_the_key_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;

    let first = PlacesServer::start();
    let folder = first.folder.path();
    let mode =
        std::fs::metadata(folder.join("places-key.pem")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = |folder: &Path| std::fs::read(folder.join("ca.pem")).expect("a certificate");
    let before = read(folder);
    let mut again = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    again.args(["--places-server", "127.0.0.1:0", "--tls-dir"]).arg(folder);
    again.arg("--log-dir").arg(folder).stderr(Stdio::piped());
    let mut again = Running(again.spawn().expect("the program runs"));
    let said = follow(again.0.stderr.take().expect("stderr is piped"));
    wait_until(LIMIT, "it listens", || said.lock().expect("text").contains("listens on"));
    drop(again);
    assert_eq!(read(folder), before);
}

#[test]
fn the_herd_asks_the_service_that_runs_beside_it() {
    let setup = Setup::new(&[("Goloman", &["Welsh"]), ("Welsh", &[])]);
    let command = Herd::command(&setup);
    let mut herd = Herd::spawn(setup, command);
    // The servers wait two seconds for it, which may not be enough; a refusal is reported at once.
    herd.wait_until_said("Places listens on ");
    let setup = &herd.setup;
    let mut client = Client::connect(setup.clients_address("Welsh"));
    client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.5");
    let answer = client.whatsat("kiwi", "10", "5");
    assert_eq!((answer.results().len(), answer.status().as_str()), (5, "OK"));
    let log =
        || std::fs::read_to_string(setup.folder.path().join("Places_log.txt")).unwrap_or_default();
    let request = format!("GET /maps/api/place/nearbysearch/json?{AROUND}\n");
    wait_until(LIMIT, "the service's log records it", || log().contains(&request));
    herd.signal(rustix::process::Signal::TERM);
    assert!(herd.wait().success());
}

/// It answers what it is asked for, and a client can't see which of the two APIs was asked.
#[test]
fn the_new_api_answers_the_fields_that_are_asked_for_and_clients_read_the_same_from_both() {
    let service = PlacesServer::start();
    let ask = |provider: &str, path: &str| {
        let setup = Setup::alone().any_port();
        let mut command = setup.command("Goloman");
        command.arg(format!("--places={provider}")).env("HERD_PLACES_KEY", KEY);
        command.arg(format!("--places-url={}", service.url(path)));
        command.arg("--places-ca").arg(service.folder.path().join("ca.pem"));
        let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
        let mut client = server.client();
        client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.5");
        client.whatsat("kiwi", "10", "5").body
    };
    let legacy = ask("google", "/maps/api/place/nearbysearch/json");
    let new = ask("google-new", "/v1/places:searchNearby");
    // The New API knows no population.
    let lines = legacy.lines().filter(|line| !line.contains("\"population\""));
    assert_eq!(new.lines().collect::<Vec<_>>(), lines.collect::<Vec<_>>());
    assert!(new.contains("GeoNames") && new.contains("\"vicinity\""), "{new}");
}
