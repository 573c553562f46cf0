//! Claim: the Places service of this program's own speaks HTTPS that curl, Python and OpenSSL
//! understand, and ours understands OpenSSL's; `--herd` runs one beside the servers.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use common::process::{follow, installed};
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};
use tempfile::TempDir;

const KEY: &str = "sesame";
const AROUND: &str = "location=34.068930,-118.445127&radius=16093";

/// The service as a process. Dropped, it is killed.
struct PlacesServer {
    port: u16,
    folder: TempDir,
    child: Child,
}

impl PlacesServer {
    fn start() -> PlacesServer {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--places-server", "127.0.0.1:0", "--places-key", KEY, "--tls-dir"]);
        command.arg(folder.path()).arg("--log-dir").arg(folder.path());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program runs");
        let said = follow(child.stderr.take().expect("stderr is piped"));
        let port = Mutex::new(None);
        wait_until(LIMIT, "the service listens", || {
            let said = Arc::clone(&said);
            let said = said.lock().expect("the reader does not panic");
            let at = said.strip_prefix("Places listens on 127.0.0.1:").map(str::trim_end);
            *port.lock().expect("one thread") = at.and_then(|at| at.parse().ok());
            at.is_some()
        });
        let port = port.into_inner().expect("one thread").expect("a port");
        PlacesServer { port, folder, child }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("Places_log.txt")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// What OpenSSL's client gets for these bytes, TLS taken off; none where it isn't installed.
    fn openssl(&self, bytes: &str) -> Option<String> {
        let file = self.folder.path().join("request");
        std::fs::write(&file, bytes).expect("a file");
        let mut command = installed("openssl")?;
        let address = format!("localhost:{}", self.port);
        command.args(["s_client", "-quiet", "-verify_return_error", "-connect", &address]);
        command.arg("-CAfile").arg(self.folder.path().join("ca.pem"));
        command.stdin(std::fs::File::open(file).expect("a file"));
        Some(text(&command.output().expect("openssl runs").stdout))
    }
}

impl Drop for PlacesServer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn curl_is_answered_in_both_apis() {
    let service = PlacesServer::start();
    let Some(mut curl) = installed("curl") else { return };
    let ca = service.folder.path().join("ca.pem");
    let search = service.url(&format!("/maps/api/place/nearbysearch/json?{AROUND}&key={KEY}"));
    curl.args(["-sS", "--max-time", "20", "--cacert"]).arg(&ca);
    // Twice on one connection, and once without the key.
    curl.args([&search, &search, &search.replace(KEY, "open")]);
    let output = curl.output().expect("curl runs");
    assert_eq!(text(&output.stderr), "");
    let said = text(&output.stdout);
    assert_eq!(said.matches("\"status\" : \"OK\"").count(), 2, "{said}");
    assert_eq!(said.matches("\"status\" : \"REQUEST_DENIED\"").count(), 1, "{said}");
    assert!(said.contains("Bel Air"), "{said}");
    let connections = service.log().matches("is connected").count();
    assert_eq!(connections, 1, "curl keeps its connection");

    let mut curl = installed("curl").expect("it was there");
    curl.args(["-sS", "--max-time", "20", "--cacert"]).arg(&ca);
    curl.arg(service.url("/v1/places:searchNearby"));
    curl.args(["-H", "X-Goog-Api-Key: sesame", "-H", "Content-Type: application/json", "-d"]);
    curl.arg(
        "{\"maxResultCount\":2,\"locationRestriction\":{\"circle\":{\"center\":\
         {\"latitude\":34.06893,\"longitude\":-118.445127},\"radius\":16093.0}}}",
    );
    let said = text(&curl.output().expect("curl runs").stdout);
    let body: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let places = body["places"].as_array().expect("places");
    assert_eq!(places.len(), 2);
    assert_eq!(places[0]["displayName"]["text"], "Bel Air");
    assert!(!service.log().contains(KEY), "the key is in the log");
}

/// What it is asked for it tells, and a client can't tell which of the two APIs was asked.
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

#[test]
fn python_is_answered() {
    let service = PlacesServer::start();
    let Some(mut python) = installed("python3") else { return };
    let script = "import ssl, sys, http.client\n\
        context = ssl.create_default_context(cafile=sys.argv[2])\n\
        service = http.client.HTTPSConnection('localhost', int(sys.argv[1]), timeout=20, context=context)\n\
        for _ in range(2):\n\
        \x20   service.request('GET', sys.argv[3])\n\
        \x20   answer = service.getresponse()\n\
        \x20   print(answer.status, len(answer.read()) > 500)\n";
    python.args(["-c", script, &service.port.to_string()]);
    python.arg(service.folder.path().join("ca.pem"));
    python.arg(format!("/maps/api/place/nearbysearch/json?{AROUND}&key={KEY}"));
    let output = python.output().expect("python3 runs");
    assert_eq!(text(&output.stdout), "200 True\n200 True\n", "{}", text(&output.stderr));
}

#[test]
fn requests_in_one_segment_are_answered_in_order_and_nonsense_is_refused() {
    let service = PlacesServer::start();
    let request =
        |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    let search = format!("/maps/api/place/nearbysearch/json?{AROUND}&key={KEY}");
    let mut all = request(&search, "").repeat(40);
    all += &request("/elsewhere", "Connection: close\r\n");
    let Some(said) = service.openssl(&all) else { return };
    let statuses: Vec<&str> = said.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    assert_eq!(statuses.len(), 41, "{said}");
    assert!(statuses[..40].iter().all(|status| status.contains(" 200 ")), "{statuses:?}");
    assert!(statuses[40].contains(" 404 "), "{}", statuses[40]);

    let nonsense = service.openssl("this is no HTTP\r\n\r\n").expect("openssl was there");
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    let smuggled = "POST /v1/places:searchNearby HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET";
    let smuggled = service.openssl(smuggled).expect("openssl was there");
    assert!(smuggled.starts_with("HTTP/1.1 400 "), "{smuggled}");
}

#[test]
fn what_is_no_tls_is_disconnected_and_costs_nobody_anything() {
    let service = PlacesServer::start();
    let address = ([127, 0, 0, 1], service.port).into();
    let mut plain = Client::connect(address);
    plain.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    plain.rest(); // An alert, and the end.
    let mut silent = Client::connect(address);
    silent.half_close();
    silent.rest();
    let request = "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if let Some(said) = service.openssl(request) {
        assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    }
}

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
    let mut again = again.spawn().expect("the program runs");
    let said = follow(again.stderr.take().expect("stderr is piped"));
    wait_until(LIMIT, "it listens", || said.lock().expect("text").contains("listens on"));
    _ = again.kill();
    _ = again.wait();
    assert_eq!(read(folder), before);
}

#[test]
fn openssls_server_is_understood() {
    let service = PlacesServer::start(); // For its certificate.
    let folder = service.folder.path();
    let Some(mut openssl) = installed("openssl") else { return };
    let body = "{\n\n\"results\" : [ 1.50, 2 ], \"status\" : \"OK\" }\n";
    let name = "places?location=34.068930,-118.445127&radius=1609&key=sesame";
    std::fs::write(folder.join(name), body).expect("a file");
    let port = common::ports::reserve();
    openssl.current_dir(folder).args(["s_server", "-WWW", "-accept", &port.number.to_string()]);
    openssl.args(["-cert", "places.pem", "-key", "places-key.pem"]);
    let mut openssl = openssl.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    wait_until(LIMIT, "OpenSSL listens", || Client::try_connect(port.address()).is_ok());

    let setup = Setup::alone().any_port();
    let mut command = setup.command("Goloman");
    command.arg("--places=google").env("HERD_PLACES_KEY", KEY);
    command.arg(format!("--places-url=https://localhost:{}/places", port.number));
    command.arg("--places-ca").arg(folder.join("ca.pem"));
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut client = server.client();
    client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.5");
    for _ in 0..2 {
        let answer = client.whatsat("kiwi", "1", "1");
        assert_eq!(answer.body, "{\n\"results\" : [ 1.50 ], \"status\" : \"OK\" }\n");
    }
    _ = openssl.kill();
    _ = openssl.wait();
}

#[test]
fn the_herd_asks_the_service_that_runs_beside_it() {
    let setup = Setup::new(&[("Goloman", &["Welsh"]), ("Welsh", &[])]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.arg("--herd").arg("--config").arg(setup.config_file("Goloman"));
    command.arg("--log-dir").arg(setup.folder.path()).env_remove("HERD_PLACES_KEY");
    let mut herd = command.stderr(Stdio::null()).spawn().expect("the program runs");
    let address = setup.clients_address("Welsh");
    wait_until(LIMIT, "Welsh listens", || Client::try_connect(address).is_ok());
    let mut client = Client::connect(address);
    client.ask("IAMAT kiwi +34.068930-118.445127 1559865055.5");
    let answer = client.whatsat("kiwi", "10", "5");
    assert_eq!((answer.results().len(), answer.status().as_str()), (5, "OK"));
    let log =
        || std::fs::read_to_string(setup.folder.path().join("Places_log.txt")).unwrap_or_default();
    let request = format!("GET /maps/api/place/nearbysearch/json?{AROUND}\n");
    wait_until(LIMIT, "the service's log tells of it", || log().contains(&request));
    common::process::send_signal(herd.id(), rustix::process::Signal::TERM);
    assert!(herd.wait().expect("it ends").success());
}
