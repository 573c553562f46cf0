//! Claim: a client is served over TLS as in plain text; where only TLS is taken, plain text gets one refusal; and where
//! the configuration wants it, a client speaks only for the ids that its certificate names.

mod common;

use std::net::TcpStream;

use rustix::process::Signal;

use common::certificates::{By, Certificates, Issue};
use common::certified_client::CertifiedClient;
use common::{Client, LIMIT, Next, ServerProcess, Setup, wait_until};

/// Goloman with TLS for clients: these keys of `[tls.clients]`.
fn setup(certificates: &Certificates, clients: &str) -> Setup {
    let tls = certificates.section();
    Setup::alone().section(&format!(
        "{tls}[tls.clients]\n{clients}\n\n[tls.neighbours]\naccept = \"plain\"\ndial = \"plain\"\n"
    ))
}

fn start(certificates: &Certificates, clients: &str) -> (Setup, ServerProcess) {
    let setup = setup(certificates, clients).any_port();
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    (setup, server)
}

/// The keys with which ids are judged.
fn judged(certificates: &Certificates, more: &str) -> String {
    let ca = certificates.path("clients-ca.pem");
    format!("certificates = \"required\"\nca = {ca:?}\n{more}")
}

/// The value of a sample in `/metrics`.
fn sample(server: &ServerProcess, name: &str) -> f64 {
    let mut admin = Client::connect(server.admin());
    admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(admin.rest()).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name}"));
    value.trim().parse().expect("a number")
}

const IAMAT: &str = "IAMAT kiwi +34.068930-118.445127 1559865055.918963997";
const AT: &str = "AT AT kiwi +34.068930-118.445127 1559865055.918963997";

#[test]
fn a_port_for_both_serves_tls_and_plain_text() {
    let certificates = Certificates::new(&["Goloman"]);
    let (_setup, server) = start(&certificates, "accept = \"both\"");
    assert_eq!(server.client().ask(IAMAT), AT);
    let mut client = CertifiedClient::connect(server.clients, &certificates, None);
    assert_eq!(client.ask("nonsense"), "? nonsense");
    client.send(format!("{IAMAT}\nWHATSAT kiwi 10 0"));
    client.end();
    let all = client.rest();
    assert!(all.starts_with(&format!("{AT}\n{AT}\n")), "the last line ends with the stream: {all}");
    server.wait_for_log(&format!("Client {} is connected (TLS 1.3).", client.local()));
    for transport in ["plain", "tls"] {
        let name =
            format!("herd_connections_accepted_total{{kind=\"client\",transport=\"{transport}\"}}");
        assert_eq!(sample(&server, &name), 1.0, "{transport}");
    }
    assert_eq!(
        sample(&server, "herd_tls_handshakes_total{listener=\"clients\",result=\"ok\"}"),
        1.0
    );
}

#[test]
fn plain_text_gets_one_refusal_where_only_tls_is_taken() {
    let certificates = Certificates::new(&["Goloman"]);
    let (_setup, server) = start(&certificates, "accept = \"tls\"");
    let mut plain = server.client();
    plain.send(format!("{IAMAT}\nWHATSAT kiwi 10 0\n"));
    assert_eq!(plain.line(), format!("? {IAMAT}"));
    plain.expect_end();
    let from = plain.stream.local_addr().expect("an address");
    server.wait_for_log(&format!("rejected {from}: plain text on a port that takes only TLS"));
    let mut long = server.client();
    long.send("x".repeat(1_000));
    assert_eq!(long.line(), format!("? {}", "x".repeat(256)));
    let name = "herd_connections_rejected_total{kind=\"client\",reason=\"plaintext\"}";
    assert_eq!(sample(&server, name), 2.0);
    let mut client = CertifiedClient::connect(server.clients, &certificates, None);
    assert!(client.ask("WHATSAT kiwi 10 0").starts_with("? "), "nothing was stored");
    assert_eq!(client.ask(IAMAT), AT);
}

#[test]
fn a_client_hello_at_a_plain_port_is_recognised_in_the_log() {
    let setup = Setup::alone().any_port();
    let server = setup.start("Goloman");
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n";
    server.client().send(hello);
    server.wait_for_log("a client says IAMAT or WHATSAT (this looks like TLS).");
    server.peer().send(hello);
    server.wait_for_log("a neighbour says HELLO first (this looks like TLS): ");
    server.client().send("\x16 is no handshake\n");
    server.wait_for_log("\\x16 is no handshake");
    let hints = server.log().lines().filter(|line| line.contains("looks like TLS")).count();
    assert!((2..=4).contains(&hints), "{hints}: each at INFO, and once more at WARNING");
}

#[test]
fn a_client_speaks_only_for_the_ids_that_its_certificate_names() {
    let certificates = Certificates::new(&["Goloman"]);
    let uri = |names: &[&str]| names.iter().map(|name| format!("herd:client:{name}")).collect();
    let of = |names: &[&str]| Issue { uris: uri(names), ..Issue::client(b"") };
    certificates.issue("kiwi", of(&["kiwi"]));
    certificates.issue("two", of(&["koala", "kiwi%2Ecs.ucla.edu"]));
    certificates.issue("gateway", of(&["*"]));
    certificates.issue("star", of(&["%2A"]));
    certificates.issue("bytes", of(&["%FF%00%0a", "%c3%a9"]));
    certificates.issue("odd", of(&["%", "%2", "%zz", "", "%00kiwi", "kiwi%00"]));
    // Neither another kind of name, nor a server's, names an id.
    let dns = Issue { hosts: vec!["kiwi".to_owned()], uris: Vec::new(), ..Issue::client(b"") };
    certificates.issue("dns", dns);
    certificates.issue("server", Issue { by: By::Clients, ..Issue::server("kiwi") });
    let keys = judged(&certificates, "ids = \"certificate\"\nqueries = \"certificate\"");
    let (_setup, server) = start(&certificates, &keys);
    let cases: [(&str, &[&str], &[&str]); 8] = [
        ("kiwi", &["kiwi"], &["koala", "KIWI", "kiw", "kiwi1", "*", "herd:client:kiwi"]),
        ("two", &["koala", "kiwi.cs.ucla.edu"], &["kiwi", "kiwi%2Ecs.ucla.edu"]),
        ("gateway", &["kiwi", "koala", "*"], &[]),
        ("star", &["*"], &["kiwi", "%2A", "%2a"]),
        ("bytes", &["é"], &["%c3%a9", "kiwi"]),
        ("odd", &[], &["kiwi", "%", "%2", "%zz"]),
        ("dns", &[], &["kiwi"]),
        ("server", &[], &["kiwi", "herd:server:kiwi"]),
    ];
    let mut refused = 0.0;
    for (certificate, permitted, others) in cases {
        let mut client = CertifiedClient::connect(server.clients, &certificates, Some(certificate));
        for id in permitted {
            let rest = format!("{id} +1.0+2.0 10");
            assert_eq!(
                client.ask(&format!("IAMAT {rest}")),
                format!("AT AT {rest}"),
                "{certificate}"
            );
            let answer = client.ask(&format!("WHATSAT {id} 0 0"));
            assert_eq!(answer, format!("AT AT {rest}"), "{certificate}");
            while !client.line().is_empty() {}
        }
        for id in others {
            for line in [format!("IAMAT {id} +1.0+2.0 11"), format!("WHATSAT {id} 0 0")] {
                assert_eq!(client.ask(&line), format!("? {line}"), "{certificate}, and it stays");
                refused += 1.0;
            }
        }
    }
    let mut client = CertifiedClient::connect(server.clients, &certificates, Some("bytes"));
    client.send(b"IAMAT \xff\x00 +1.0+2.0 10\n");
    assert!(
        matches!(client.next(), Next::Line(line) if line.starts_with(b"? ")),
        "not the whole id"
    );
    refused += 1.0;
    server.wait_for_log("the certificate names kiwi, not koala.");
    server.wait_for_log("the certificate names no client, not kiwi.");
    server.wait_for_log("the certificate names koala, kiwi.cs.ucla.edu, not kiwi.");
    let of = |command: &str| {
        sample(
            &server,
            &format!("herd_lines_total{{command=\"{command}\",result=\"not_permitted\"}}"),
        )
    };
    assert_eq!(of("iamat") + of("whatsat"), refused);
}

#[test]
fn queries_alone_are_judged_where_only_they_are_to_be() {
    let certificates = Certificates::new(&["Goloman"]);
    certificates.client(b"kiwi");
    let (_setup, server) =
        start(&certificates, &judged(&certificates, "queries = \"certificate\""));
    let mut client = CertifiedClient::connect(server.clients, &certificates, Some("kiwi"));
    assert_eq!(client.ask("IAMAT koala +1.0+2.0 10"), "AT AT koala +1.0+2.0 10");
    assert_eq!(client.ask("WHATSAT koala 0 0"), "? WHATSAT koala 0 0");
}

#[test]
fn a_client_without_the_required_certificate_is_not_served() {
    let certificates = Certificates::new(&["Goloman"]);
    certificates.issue("stranger", Issue { by: By::Other, ..Issue::client(b"kiwi") });
    certificates.issue("late", Issue { days: -1, ..Issue::client(b"kiwi") });
    let (_setup, server) = start(&certificates, &judged(&certificates, "ids = \"certificate\""));
    for shows in [None, Some("stranger"), Some("late")] {
        let mut client = CertifiedClient::connect(server.clients, &certificates, shows);
        client.try_send(format!("{IAMAT}\n"));
        assert!(!matches!(client.next(), Next::Line(_)), "{shows:?}");
    }
    let rejected = "herd_connections_rejected_total{kind=\"client\",reason=\"certificate\"}";
    wait_until(LIMIT, "three are rejected", || sample(&server, rejected) == 3.0);
    let handshakes = "herd_tls_handshakes_total{listener=\"clients\",result=\"certificate\"}";
    assert_eq!(sample(&server, handshakes), 3.0);
    server.wait_for_log("rejected 127.0.0.1:");
}

/// A line without its end could be a shortened one: `...155986505` is a valid timestamp, too.
#[test]
fn a_line_whose_end_was_cut_off_is_not_stored() {
    let certificates = Certificates::new(&["Goloman"]);
    let (_setup, server) = start(&certificates, "accept = \"both\"");
    let mut client = CertifiedClient::connect(server.clients, &certificates, None);
    assert_eq!(client.ask("first"), "? first");
    client.send("IAMAT kiwi +1.0+2.0 155986505");
    client.cut();
    assert!(!matches!(client.next(), Next::Line(_)), "nothing is answered");
    let closed = "herd_connections_closed_total{kind=\"client\",reason=\"tls\"}";
    wait_until(LIMIT, "the connection is closed", || sample(&server, closed) == 1.0);
    assert_eq!(server.client().ask("WHATSAT kiwi 0 0"), "? WHATSAT kiwi 0 0");
    // What plain text has always done.
    let mut plain = server.client();
    plain.send("IAMAT kiwi +1.0+2.0 155986505");
    plain.half_close();
    assert_eq!(plain.line(), "AT AT kiwi +1.0+2.0 155986505");
}

#[test]
fn names_in_a_certificate_forge_no_record_of_the_log() {
    let certificates = Certificates::new(&["Goloman"]);
    let forged = "herd:client:x\n01-Jan-26 00:00:00 - CRITICAL: all is lost\u{1b}[2J";
    let common_name = "y\n01-Jan-26 00:00:00 - CRITICAL: all is lost".to_owned();
    let uris = vec![forged.to_owned()];
    certificates.issue("forger", Issue { uris, common_name, ..Issue::client(b"") });
    let keys = judged(&certificates, "ids = \"certificate\"");
    let (_setup, server) = start(&certificates, &keys);
    let mut client = CertifiedClient::connect(server.clients, &certificates, Some("forger"));
    assert_eq!(client.ask("IAMAT kiwi +1.0+2.0 10"), "? IAMAT kiwi +1.0+2.0 10");
    server.wait_for_log("not kiwi");
    let log = server.log();
    assert!(!log.contains('\u{1b}'), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("01-Jan-26")), "{log}");
}

#[test]
fn a_reload_that_ends_plain_text_lets_its_clients_have_their_answers_and_closes_them() {
    let certificates = Certificates::new(&["Goloman"]);
    let setup_of = |accept: &str| setup(&certificates, &format!("accept = \"{accept}\""));
    let (before, after) = (setup_of("both"), setup_of("tls"));
    let server = before.start_with("Goloman", &["--admin", "0"]);
    let mut plain = server.client();
    assert_eq!(plain.ask(IAMAT), AT);
    let (begun, rest) = IAMAT.split_at(20);
    let mut late = server.client();
    assert_eq!(late.ask(IAMAT), AT);
    late.send(begun);
    let mut tls = CertifiedClient::connect(server.clients, &certificates, None);
    assert_eq!(tls.ask(IAMAT), AT);
    // The same server and ports with the other keys.
    let text = before.toml("Goloman").replace("accept = \"both\"", "accept = \"tls\"");
    assert_ne!(text, before.toml("Goloman"));
    drop(after);
    std::fs::write(before.folder.path().join("Goloman.toml"), text).expect("it can be written");
    server.signal(Signal::HUP);
    server.wait_for_log("configuration reloaded: ");
    plain.expect_end();
    assert_eq!(late.ask(rest), AT, "it had begun a line");
    late.expect_end();
    server.wait_for_log("plain text is no longer accepted");
    assert_eq!(tls.ask(IAMAT), AT, "it stays");
    let closed = "herd_connections_closed_total{kind=\"client\",reason=\"replaced\"}";
    wait_until(LIMIT, "both are closed", || sample(&server, closed) == 2.0);
    let mut late = server.client();
    assert_eq!(late.ask(IAMAT), format!("? {IAMAT}"));
    late.expect_end();
    drop(TcpStream::connect(server.clients).expect("the port is open"));
}
