//! Claim: with `[admin] tls` the admin listener answers over TLS alone, and with `[admin] ca` it shows a client without a
//! certificate its health and nothing else. Names in certificates are shown where positions are.

mod common;

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use common::certificates::{By, Certificates, Issue};
use common::certified_client::CertifiedClient;
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};

/// Goloman, whose admin listener has these keys.
fn setup(certificates: &Certificates, admin: &str, clients: &str) -> Setup {
    let tls = certificates.section();
    Setup::alone().section(&format!(
        "{tls}[tls.clients]\n{clients}\n\n[tls.neighbours]\naccept = \"plain\"\ndial = \"plain\"\n\n\
         [admin]\n{admin}\n"
    ))
}

fn start(setup: &Setup) -> ServerProcess {
    setup.start_with("Goloman", &["--admin", "0"])
}

const PLAIN: &str = "accept = \"plain\"";
const PATHS: [&str; 7] =
    ["/", "/metrics", "/varz", "/connz", "/linksz", "/debug/turns", "/unknown"];
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/healthz"];

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// The status and the body of an answer.
fn read(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn get(
    admin: SocketAddr,
    certificates: &Certificates,
    shows: Option<&str>,
    path: &str,
) -> (u16, String) {
    let mut client = CertifiedClient::connect(admin, certificates, shows);
    client.send(request(path));
    read(&client.rest())
}

fn get_plain(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut client = Client::connect(admin);
    client.send(request(path));
    read(&String::from_utf8(client.rest()).expect("text"))
}

#[test]
fn requests_over_tls_are_answered_and_one_in_plain_text_is_told_so() {
    let certificates = Certificates::new(&["Goloman"]);
    let setup = setup(&certificates, "tls = true", PLAIN);
    let server = start(&setup);
    let admin = server.admin();
    for path in HEALTH.iter().chain(&PATHS[..6]) {
        assert_eq!(get(admin, &certificates, None, path).0, 200, "{path}");
    }
    for path in ["/livez", "/varz"] {
        let (status, body) = get_plain(admin, path);
        assert_eq!((status, &body[..]), (400, "this port takes only TLS: use https\n"), "{path}");
    }
    server.wait_for_log("plain text on a port that takes only TLS");
    let (_, metrics) = get(admin, &certificates, None, "/metrics");
    for (name, value) in [
        ("herd_connections_rejected_total{kind=\"admin\",reason=\"plaintext\"}", "2"),
        ("herd_admin_requests_total{path=\"other\",code=\"400\"}", "2"),
        ("herd_tls_handshakes_total{listener=\"admin\",result=\"ok\"}", "10"),
    ] {
        assert!(metrics.contains(&format!("{name} {value}\n")), "{name} is not {value}");
    }
    let (_, varz) = get(admin, &certificates, None, "/varz");
    let varz: Value = serde_json::from_str(&varz).expect("JSON");
    assert_eq!(varz["tls"]["admin"], true, "{}", varz["tls"]);
    assert_eq!(varz["tls"]["identity"], "uri:herd:server:Goloman");
    assert_eq!(varz["tls"]["clients"]["accept"], "plain");
    assert!(varz["tls"]["not_after"]["server"].as_str().is_some_and(|time| time.ends_with('Z')));
}

#[test]
fn without_a_certificate_only_health_is_shown() {
    let certificates = Certificates::new(&["Goloman"]);
    certificates.client(b"operator");
    certificates.issue("stranger", Issue { by: By::Other, ..Issue::client(b"operator") });
    let keys = format!("tls = true\nca = {:?}", certificates.path("clients-ca.pem"));
    let setup = setup(&certificates, &keys, PLAIN);
    let server = start(&setup);
    let admin = server.admin();
    for path in HEALTH {
        assert_eq!(get(admin, &certificates, None, path).0, 200, "{path}");
        assert_eq!(get(admin, &certificates, Some("operator"), path).0, 200, "{path}");
    }
    for path in PATHS {
        let (status, body) = get(admin, &certificates, None, path);
        assert_eq!(status, 403, "{path}");
        assert!(body.starts_with("this path needs a client certificate"), "{body}");
        let expected = if path == "/unknown" { 404 } else { 200 };
        assert_eq!(get(admin, &certificates, Some("operator"), path).0, expected, "{path}");
    }
    // Neither another host's name nor a path behind a health path helps.
    for path in ["/livez/../varz", "/livez%3f/../varz", "//varz", "/varz?/livez"] {
        assert_eq!(get(admin, &certificates, None, path).0, 403, "{path}");
    }
    let mut client = CertifiedClient::connect(admin, &certificates, None);
    client.send("GET /livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(read(&client.rest()).0, 421);
    // One connection: each request is judged by itself.
    let mut client = CertifiedClient::connect(admin, &certificates, None);
    let keep = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.send(keep("/livez") + &keep("/varz") + &request("/readyz"));
    let all = client.rest();
    let statuses: Vec<&str> =
        all.matches("HTTP/1.1 200").chain(all.matches("HTTP/1.1 403")).collect();
    assert_eq!(statuses.len(), 3, "{all}");
    let mut stranger = CertifiedClient::connect(admin, &certificates, Some("stranger"));
    stranger.try_send(request("/livez"));
    assert!(!matches!(stranger.next(), common::Next::Line(_)), "a bad certificate is none");
    let (_, metrics) = get(admin, &certificates, Some("operator"), "/metrics");
    for (name, value) in [
        ("herd_admin_requests_total{path=\"/varz\",code=\"403\"}", "3"),
        ("herd_connections_rejected_total{kind=\"admin\",reason=\"certificate\"}", "1"),
    ] {
        assert!(metrics.contains(&format!("{name} {value}\n")), "{name} is not {value}");
    }
}

#[test]
fn a_reload_turns_tls_on_for_sessions_that_are_open() {
    let certificates = Certificates::new(&["Goloman"]);
    let setup = setup(&certificates, "tls = false", PLAIN);
    let server = start(&setup);
    let mut plain = Client::connect(server.admin());
    plain.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(plain.line().starts_with("HTTP/1.1 200 "));
    let text = setup.toml("Goloman").replace("tls = false", "tls = true");
    std::fs::write(setup.folder.path().join("Goloman.toml"), text).expect("it can be written");
    server.signal(Signal::HUP);
    server.wait_for_log("configuration reloaded: ");
    plain.send(request("/livez"));
    let rest = String::from_utf8(plain.rest()).expect("text");
    assert!(rest.contains("HTTP/1.1 400 ") && rest.ends_with("use https\n"), "{rest}");
    assert_eq!(get(server.admin(), &certificates, None, "/livez").0, 200);
}

#[test]
fn names_of_clients_are_shown_where_positions_are_and_nowhere_else() {
    let certificates = Certificates::new(&["Goloman"]);
    certificates.client(b"kiwi");
    let ca = certificates.path("clients-ca.pem");
    let clients = format!("accept = \"both\"\ncertificates = \"optional\"\nca = {ca:?}");
    for (positions, is_shown) in [("true", true), ("false", false)] {
        let keys = format!("tls = true\npositions = {positions}");
        let setup = setup(&certificates, &keys, &clients);
        let server = start(&setup);
        let mut named = CertifiedClient::connect(server.clients, &certificates, Some("kiwi"));
        let mut anonymous = CertifiedClient::connect(server.clients, &certificates, None);
        let mut plain = server.client();
        for answer in [named.ask("x"), anonymous.ask("x"), plain.ask("x")] {
            assert_eq!(answer, "? x");
        }
        let silent = Client::connect(server.clients);
        let rows = || {
            let (_, all) = get(server.admin(), &certificates, None, "/connz?kind=client");
            let all: Value = serde_json::from_str(&all).expect("JSON");
            all["connections"].as_array().expect("connections").clone()
        };
        wait_until(LIMIT, "all four are shown", || rows().len() == 4);
        let rows = rows();
        let row = |address: SocketAddr| {
            let is_it = |row: &&Value| row["address"] == address.to_string();
            rows.iter().find(is_it).unwrap_or_else(|| panic!("{address}: {rows:?}"))
        };
        let expected = if is_shown { "[\"URI:herd:client:kiwi\"]" } else { "null" };
        assert_eq!(row(named.local())["names"].to_string(), expected);
        for (address, transport, version) in [
            (named.local(), "tls", Some("1.3")),
            (anonymous.local(), "tls", Some("1.3")),
            (plain.stream.local_addr().expect("an address"), "plain", None),
            // It has sent nothing, so nobody knows yet.
            (silent.stream.local_addr().expect("an address"), "handshake", None),
        ] {
            let row = row(address);
            assert_eq!(
                (row["transport"].as_str(), row["tls"].as_str()),
                (Some(transport), version)
            );
        }
        assert!(row(anonymous.local()).get("names").is_none());
    }
}

/// A certificate that ends soon: a warning, the metric, and a server that is degraded.
#[test]
fn a_certificate_that_ends_soon_is_warned_of_and_degrades_the_server() {
    let certificates = Certificates::new(&["Goloman"]);
    for (days, is_warned, is_degraded) in [(40, false, false), (20, true, false), (5, true, true)] {
        certificates.issue("Goloman", Issue { days, ..Issue::server("Goloman") });
        let setup = setup(&certificates, "tls = true", PLAIN);
        let server = start(&setup);
        let (_, health) = get(server.admin(), &certificates, None, "/healthz");
        let reason = "the server's certificate expires in";
        assert_eq!(health.contains(reason), is_degraded, "{health}");
        if is_warned {
            server.wait_for_log("WARNING: The server's certificate expires in ");
        }
        let (_, metrics) = get(server.admin(), &certificates, None, "/metrics");
        let name = "herd_certificate_not_after_timestamp_seconds{use=\"server\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
        let ends: f64 = line.parse().expect("a number");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let left = ends - now.expect("a clock").as_secs_f64();
        assert!((left - days as f64 * 86_400.0).abs() < 600.0, "{left}");
        assert_eq!(server.log().contains("certificate expires in"), is_warned);
    }
}
