//! Claim: with TLS between servers only a neighbour's certificate makes a neighbour; whoever else calls is refused and
//! named, and the real links stay up. A link follows the transport and the identities that a reload brings.

mod common;

use rustix::process::Signal;
use serde_json::Value;

use common::certificates::{By, Certificates, Issue};
use common::certified_client::CertifiedClient;
use common::{Client, LIMIT, Next, Proxy, ServerProcess, Setup, wait_until};

/// A herd of this shape with certificates. `neighbours` are the first keys of `[tls.neighbours]`.
fn secured(shape: &[(&str, &[&str])], certificates: &Certificates, neighbours: &str) -> Setup {
    let (tls, ca) = (certificates.section(), certificates.path("herd-ca.pem"));
    Setup::new(shape).heartbeat("1s").section(&format!(
        "{tls}[tls.clients]\naccept = \"plain\"\n\n[tls.neighbours]\n{neighbours}\nca = {ca:?}\n"
    ))
}

const TLS: &str = "accept = \"tls\"\ndial = \"tls\"";

fn json(server: &ServerProcess, path: &str) -> Value {
    let mut admin = Client::connect(server.admin());
    admin.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let text = String::from_utf8(admin.rest()).expect("text");
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

/// The link with a neighbour.
fn link(server: &ServerProcess, neighbour: &str) -> Value {
    let all = json(server, "/linksz");
    let links = all["links"].as_array().expect("links");
    links.iter().find(|link| link["neighbour"] == neighbour).expect("the neighbour").clone()
}

fn is_up(server: &ServerProcess, neighbour: &str, transport: &str) -> bool {
    let link = link(server, neighbour);
    ["in", "out"]
        .iter()
        .all(|way| link[way]["state"] == "up" && link[way]["transport"] == transport)
}

/// The value of a metric of one neighbour, or of a kind of connections.
fn metric(server: &ServerProcess, path: &[&str]) -> f64 {
    let all = json(server, "/varz");
    let value = path.iter().fold(&all["metrics"], |value, key| &value[*key]);
    value.as_f64().unwrap_or_else(|| panic!("{path:?}: {value}"))
}

fn start(setup: &Setup, name: &str) -> ServerProcess {
    setup.start_with(name, &["--admin", "0"])
}

/// Waits until a server knows a client, by asking it.
fn learns(server: &ServerProcess, answer: &str) {
    let id = answer.split(' ').nth(2).expect("an id");
    wait_until(LIMIT, &format!("{} knows {id}", server.name), || {
        server.client().ask(&format!("WHATSAT {id} 0 0")) == answer
    });
}

#[test]
fn servers_with_certificates_of_one_authority_are_neighbours() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    let setup = secured(&[("Goloman", &["Holiday"]), ("Holiday", &[])], &certificates, TLS);
    let servers = [start(&setup, "Goloman"), start(&setup, "Holiday")];
    servers[0].client().ask("IAMAT kiwi +1.0+2.0 10");
    learns(&servers[1], "AT AT kiwi +1.0+2.0 10");
    servers[1].client().ask("IAMAT plum +1.0+2.0 10");
    learns(&servers[0], "AT AT plum +1.0+2.0 10");
    wait_until(LIMIT, "both links are up", || is_up(&servers[0], "Holiday", "tls"));
    let link = link(&servers[0], "Holiday");
    for way in ["in", "out"] {
        let names = link[way]["names"].as_array().expect("names");
        assert!(names.contains(&Value::from("URI:herd:server:Holiday")), "{names:?}");
    }
    let all = json(&servers[0], "/connz");
    let links: Vec<&Value> = all["connections"]
        .as_array()
        .expect("connections")
        .iter()
        .filter(|one| one["neighbour"] == "Holiday")
        .collect();
    assert_eq!(links.len(), 2, "{links:?}");
    for one in links {
        assert_eq!((&one["transport"], &one["tls"]), (&Value::from("tls"), &Value::from("1.3")));
        assert!(one["names"].to_string().contains("URI:herd:server:Holiday"), "{one}");
    }
    for server in servers {
        assert!(server.stop().success());
    }
}

/// No certificate, one of another authority, one that has expired, a client's, and another server's.
#[test]
fn impostors_are_refused_by_name_and_the_real_link_stays() {
    let certificates = Certificates::new(&["Goloman", "Holiday", "Welsh"]);
    certificates.issue("other", Issue { by: By::Other, ..Issue::server("Holiday") });
    certificates.issue("late", Issue { days: -1, ..Issue::server("Holiday") });
    let uris = vec!["herd:client:Holiday".to_owned()];
    certificates.issue("client", Issue { uris, ..Issue::server("") });
    certificates.issue("of_clients", Issue { by: By::Clients, ..Issue::server("Holiday") });
    let shape: [(&str, &[&str]); 3] =
        [("Goloman", &["Holiday", "Welsh"]), ("Holiday", &[]), ("Welsh", &[])];
    let setup = secured(&shape, &certificates, TLS);
    let (goloman, holiday) = (start(&setup, "Goloman"), start(&setup, "Holiday"));
    wait_until(LIMIT, "the link is up", || is_up(&goloman, "Holiday", "tls"));
    let epochs = |server: &ServerProcess| {
        let link = link(server, "Holiday");
        (link["in"]["address"].clone(), link["out"]["since"].clone())
    };
    let before = epochs(&goloman);
    let hello = "HELLO herd/1 Holiday 00000000000000b1";
    for (shows, reason) in [
        (None, "certificate"),
        (Some("other"), "certificate"),
        (Some("late"), "expired"),
        (Some("of_clients"), "certificate"),
        (
            Some("client"),
            "HELLO says Holiday, the certificate names herd:client:Holiday, dns:localhost (serial ",
        ),
        (
            Some("Welsh"),
            "HELLO says Holiday, the certificate names herd:server:Welsh, dns:localhost (serial ",
        ),
    ] {
        let mut impostor = CertifiedClient::connect(goloman.peers, &certificates, shows);
        impostor.try_send(format!("{hello}\nUPDATELOC kiwi +1.0+2.0 10 Holiday +0.000000000\n"));
        let next = impostor.next();
        match shows {
            Some("client" | "Welsh") => {
                assert_eq!(next, Next::Line(format!("? {hello}").into_bytes()), "{shows:?}");
                assert!(!matches!(impostor.next(), Next::Line(_)), "no more");
            }
            _ => assert!(!matches!(next, Next::Line(_)), "{shows:?}: {next:?}"),
        }
        let address = impostor.local();
        wait_until(LIMIT, &format!("{shows:?} is rejected for {reason}"), || {
            let record = format!("rejected {address}: ");
            goloman.log().lines().any(|line| line.contains(&record) && line.contains(reason))
        });
    }
    let rejected = ["connections_rejected_total", "link_in", "certificate"];
    assert_eq!(metric(&goloman, &rejected), 6.0);
    assert_eq!(goloman.client().ask("WHATSAT kiwi 0 0"), "? WHATSAT kiwi 0 0");
    assert_eq!(epochs(&goloman), before, "nobody has touched the real link");
    assert!(is_up(&goloman, "Holiday", "tls"));
    holiday.client().ask("IAMAT plum +1.0+2.0 10");
    learns(&goloman, "AT AT plum +1.0+2.0 10");
}

#[test]
fn who_has_a_certificate_may_say_its_own_name_and_no_other() {
    let certificates = Certificates::new(&["Goloman", "Holiday", "Welsh"]);
    let both = vec!["herd:server:Holiday".to_owned(), "herd:server:Goloman".to_owned()];
    certificates.issue("both", Issue { uris: both, ..Issue::server("") });
    let folded = vec!["herd:server:holiday".to_owned()];
    certificates.issue("folded", Issue { uris: folded, ..Issue::server("") });
    let setup = secured(&[("Goloman", &["Holiday"]), ("Holiday", &[])], &certificates, TLS);
    let goloman = start(&setup, "Goloman");
    for (shows, name, reason) in [
        (
            "Holiday",
            "Goloman",
            "HELLO says Goloman, which is no neighbour, the certificate names herd:server:Holiday",
        ),
        ("Holiday", "holiday", "HELLO says holiday, which is no neighbour"),
        ("Welsh", "Welsh", "HELLO says Welsh, which is no neighbour"),
        ("folded", "Holiday", "HELLO says Holiday, the certificate names herd:server:holiday"),
        // Our own certificate: our own connection came back to us, or somebody has our key.
        (
            "Goloman",
            "Goloman",
            "that is this server's own identity, the certificate names herd:server:Goloman",
        ),
        (
            "both",
            "Holiday",
            "that is this server's own identity, the certificate names herd:server:Holiday",
        ),
        ("Holiday", "x\u{1b}[2J", "HELLO says x\\x1b[2J, which is no neighbour"),
    ] {
        let mut peer = CertifiedClient::connect(goloman.peers, &certificates, Some(shows));
        let hello = format!("HELLO herd/1 {name} 00000000000000b1");
        assert_eq!(peer.ask(&hello), format!("? {hello}"), "{shows}");
        assert!(!matches!(peer.next(), Next::Line(_)), "{shows}");
        goloman.wait_for_log(reason);
    }
    let mut peer = CertifiedClient::connect(goloman.peers, &certificates, Some("Holiday"));
    assert!(peer.ask("HELLO herd/1 Holiday 00000000000000b1").starts_with("RESUME 0 0 "));
    let mut silent = CertifiedClient::connect(goloman.peers, &certificates, Some("Holiday"));
    assert!(!matches!(silent.next(), Next::Line(_)), "no HELLO in time");
    goloman.wait_for_log("no HELLO within 1 s");
    let mut plain = goloman.peer();
    assert_eq!(
        plain.ask("HELLO herd/1 Holiday 00000000000000b1"),
        "? HELLO herd/1 Holiday 00000000000000b1"
    );
    plain.expect_end();
    goloman.wait_for_log("plain text on a port that takes only TLS");
}

/// A line with a timestamp in the far future is newer than any other.
const FREEZE: &str = "UPDATELOC kiwi +89.0+0.0 99999999999 Holiday +0.000000000\nMARK 1\n";

/// What a server answers for kiwi after it was told its place.
fn told(goloman: &ServerProcess) -> String {
    let mut client = goloman.client();
    client.ask("IAMAT kiwi +1.0+2.0 10");
    client.ask("WHATSAT kiwi 0 0")
}

#[test]
fn one_line_of_an_impostor_freezes_a_client_without_tls_and_not_with_it() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    let hello = "HELLO herd/1 Holiday 00000000000000b1\n";
    let plain = Setup::new(&[("Goloman", &["Holiday"]), ("Holiday", &[])]);
    let goloman = plain.start("Goloman");
    let mut impostor = goloman.peer();
    impostor.send(format!("{hello}{FREEZE}"));
    assert!(impostor.line().starts_with("RESUME 0 0 "));
    assert_eq!(impostor.line(), "ACK 1");
    assert_eq!(
        told(&goloman),
        "AT AT kiwi +89.0+0.0 99999999999",
        "a program on the host did this"
    );
    let setup = secured(&[("Goloman", &["Holiday"]), ("Holiday", &[])], &certificates, TLS);
    let goloman = start(&setup, "Goloman");
    let mut impostor = goloman.peer();
    impostor.send(format!("{hello}{FREEZE}"));
    assert!(impostor.line().starts_with("? HELLO"));
    let mut impostor = CertifiedClient::connect(goloman.peers, &certificates, None);
    impostor.try_send(format!("{hello}{FREEZE}"));
    assert!(!matches!(impostor.next(), Next::Line(_)));
    assert_eq!(told(&goloman), "AT AT kiwi +1.0+2.0 10");
}

#[test]
fn a_connection_that_is_forwarded_to_another_server_or_back_is_no_link() {
    let certificates = Certificates::new(&["Goloman", "Holiday", "Welsh"]);
    let shape: [(&str, &[&str]); 3] =
        [("Goloman", &["Holiday"]), ("Holiday", &[]), ("Welsh", &["Holiday"])];
    let mut setup = secured(&shape, &certificates, TLS);
    // Goloman's dials of Holiday come back to Goloman, then to Welsh.
    for (name, reason) in [("Goloman", "herd:server:Goloman"), ("Welsh", "herd:server:Welsh")] {
        let other = (name == "Welsh").then(|| start(&setup, "Welsh"));
        let proxy = Proxy::to(setup.peers_address(name));
        setup.detour("Goloman", "Holiday", proxy.address);
        let goloman = start(&setup, "Goloman");
        let error = || link(&goloman, "Holiday")["out"]["last_error"]["reason"].to_string();
        wait_until(LIMIT, &format!("{reason} is named"), || error().contains(reason));
        assert!(metric(&goloman, &["link_dials_total", "Holiday", "tls"]) >= 1.0);
        assert!(
            metric(&goloman, &["link_transitions_total", "Holiday", "out", "certificate"]) >= 1.0
        );
        assert_eq!(metric(&goloman, &["link_dials_total", "Holiday", "ok"]), 0.0);
        drop((goloman, other));
        setup = secured(&shape, &certificates, TLS);
    }
}

#[test]
fn a_refused_certificate_is_the_last_error_of_the_link_that_shows_it() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    // Goloman trusts this authority and Holiday does not.
    let setup = secured(&[("Goloman", &["Holiday"]), ("Holiday", &[])], &certificates, TLS);
    certificates.issue("Welsh", Issue { ..Issue::server("Welsh") });
    let text = setup.toml("Holiday").replace(
        "name = \"Goloman\"",
        "name = \"Goloman\"\nidentity = \"uri:spiffe://herd/goloman\"",
    );
    let path = setup.config_file("Holiday");
    std::fs::write(&path, text).expect("it can be written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--server", "Holiday", "--admin", "0", "--config"]).arg(&path);
    command.arg("--log-dir").arg(setup.folder.path()).env_remove("HERD_PLACES_KEY");
    let holiday = ServerProcess::spawn(command, "Holiday", setup.log_file("Holiday"));
    let goloman = start(&setup, "Goloman");
    holiday.wait_for_log("HELLO says Goloman, the certificate names herd:server:Goloman");
    let out = || link(&goloman, "Holiday")["out"].clone();
    wait_until(LIMIT, "Goloman has been refused", || {
        out()["last_error"]["reason"].to_string().contains("? HELLO herd/1 Goloman")
    });
    // Holiday dials Goloman by an identity that its certificate does not have.
    let error = || link(&holiday, "Goloman")["out"]["last_error"]["reason"].to_string();
    wait_until(LIMIT, "the identity is named", || error().contains("spiffe://herd/goloman"));
}

/// Each step is a reload of all servers; a link is lost for no longer than one dial.
#[test]
fn a_herd_in_plain_text_moves_to_tls_in_three_reloads() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    let shape: [(&str, &[&str]); 2] = [("Goloman", &["Holiday"]), ("Holiday", &[])];
    let setup = secured(&shape, &certificates, "accept = \"plain\"\ndial = \"plain\"");
    let servers = [start(&setup, "Goloman"), start(&setup, "Holiday")];
    let is = |transport: &str| {
        is_up(&servers[0], "Holiday", transport) && is_up(&servers[1], "Goloman", transport)
    };
    wait_until(LIMIT, "the links are up", || is("plain"));
    for (number, (keys, transport)) in [
        ("accept = \"both\"\ndial = \"plain\"", "plain"),
        ("accept = \"both\"\ndial = \"tls\"", "tls"),
        (TLS, "tls"),
    ]
    .into_iter()
    .enumerate()
    {
        for server in &servers {
            let former = "accept = \"plain\"\ndial = \"plain\"";
            let text = setup.toml(&server.name);
            assert!(text.contains(former), "{text}");
            let path = setup.folder.path().join(format!("{}.toml", server.name));
            std::fs::write(path, text.replace(former, keys)).expect("it can be written");
            server.signal(Signal::HUP);
            let reloads = || server.log().matches("configuration reloaded: ").count();
            wait_until(LIMIT, "it is reloaded", || reloads() > number);
        }
        wait_until(LIMIT, &format!("the links are up after {keys}"), || is(transport));
        servers[0].client().ask(&format!("IAMAT kiwi{number} +1.0+2.0 10"));
        learns(&servers[1], &format!("AT AT kiwi{number} +1.0+2.0 10"));
    }
    servers[0].wait_for_log("The link to Holiday is closed: from now on it is dialled with TLS.");
    let log = servers[0].log();
    assert_eq!(log.matches("The link to Holiday is closed").count(), 1, "{log}");
}

#[test]
fn a_neighbour_whose_identity_changes_is_judged_by_the_new_one() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    let shape: [(&str, &[&str]); 2] = [("Goloman", &["Holiday"]), ("Holiday", &[])];
    let setup = secured(&shape, &certificates, TLS);
    let (goloman, _holiday) = (start(&setup, "Goloman"), start(&setup, "Holiday"));
    wait_until(LIMIT, "the links are up", || is_up(&goloman, "Holiday", "tls"));
    let text = setup.toml("Goloman");
    let other = text
        .replace("name = \"Holiday\"", "name = \"Holiday\"\nidentity = \"dns:holiday.example\"");
    assert_ne!(text, other);
    std::fs::write(setup.folder.path().join("Goloman.toml"), other).expect("it can be written");
    goloman.signal(Signal::HUP);
    goloman.wait_for_log("configuration reloaded: ");
    let down = || {
        let link = link(&goloman, "Holiday");
        link["in"]["state"] == "down" && link["out"]["state"] != "up"
    };
    wait_until(LIMIT, "both directions are closed", down);
    goloman.wait_for_log(
        "The connection of Holiday is closed: its certificate does not name its identity.",
    );
    goloman.wait_for_log("HELLO says Holiday, the certificate names herd:server:Holiday");
    let closed = metric(&goloman, &["connections_closed_total", "link_in", "revoked"]);
    assert_eq!(closed, 1.0);
    assert!(metric(&goloman, &["link_transitions_total", "Holiday", "in", "certificate"]) >= 1.0);
}
