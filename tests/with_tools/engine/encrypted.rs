//! Claim: with TLS a member is in sync where the certificate is what it must be, and else one error names the server and
//! what is wrong; in plain text nothing of a login goes out where TLS is asked for.

use super::members::{errors, members, tell, wait_until_in_sync};
use super::nats::{Nats, Plan, Release};
use crate::common::certificates::{By, Certificates, Issue};
use crate::common::needs::{Missing, Outcome};
use crate::common::{Client, LIMIT, ServerProcess, Setup, wait_until};

/// A NATS server with the certificate in `nats.pem`.
fn secured(certificates: &Certificates, more: &str) -> Result<Nats, Missing> {
    let (certificate, key) = (certificates.path("nats.pem"), certificates.path("nats.key"));
    let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?}, {more} }}\n");
    Nats::start(&Plan { more: tls, ..Plan::one(Release::Current) })
}

fn certificates(issue: Issue) -> Certificates {
    let certificates = Certificates::new(&[]);
    certificates.issue("nats", issue);
    certificates
}

/// The member `Goloman`, which trusts `herd-ca.pem` and connects by this scheme.
fn member(
    nats: &Nats,
    certificates: &Certificates,
    scheme: &str,
    more: &str,
) -> (Setup, ServerProcess) {
    let setup = trusting(nats, certificates, more);
    let server = start(&setup, scheme);
    (setup, server)
}

fn trusting(nats: &Nats, certificates: &Certificates, more: &str) -> Setup {
    let ca = certificates.path("herd-ca.pem");
    members(nats, &["Goloman"], &format!("ca = {ca:?}\n{more}"))
}

fn start(setup: &Setup, scheme: &str) -> ServerProcess {
    let mut command = setup.command("Goloman"); // It writes the configuration, which this one replaces.
    command.args(["--admin", "0"]);
    let text = setup.toml("Goloman").replace("nats://", scheme);
    std::fs::write(setup.folder.path().join("Goloman.toml"), text).expect("a file");
    ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"))
}

fn works(server: &ServerProcess) {
    wait_until_in_sync(server, 1);
    assert!(server.log().contains(" with TLS: NATS "), "{}", server.log());
    tell(server, "kiwi", 1);
}

/// Waits for one record with this text, which names the server, and is counted as an error of this class.
fn fails(server: &ServerProcess, nats: &Nats, class: &str, text: &str) {
    let find = || -> Vec<String> {
        let log = server.log();
        let is_it = |line: &&str| {
            (line.contains(" - WARNING: ") || line.contains(" - ERROR: ")) && line.contains("ngine")
        };
        log.lines().filter(is_it).map(str::to_owned).collect()
    };
    wait_until(LIMIT, &format!("a record says {text:?}"), || !find().is_empty());
    let found = find();
    assert!(found[0].contains(text), "{found:#?}");
    assert!(found[0].contains(&nats.nodes[0].address.to_string()), "{found:#?}");
    assert!(errors(server, class) > 0, "{class}");
    assert_eq!(
        server.client().ask("WHATSAT nobody 0 0"),
        "? WHATSAT nobody 0 0",
        "others are served"
    );
}

pub fn tls_begins_behind_info_where_the_server_requires_it() -> Outcome {
    let certificates = certificates(Issue::server("nats"));
    let nats = secured(&certificates, "")?;
    for scheme in ["nats://", "tls://"] {
        let (_setup, server) = member(&nats, &certificates, scheme, "");
        works(&server);
    }
    Ok(())
}

pub fn tls_begins_before_info_where_both_sides_are_set_to_that() -> Outcome {
    let certificates = certificates(Issue::server("nats"));
    let nats = secured(&certificates, "handshake_first: true")?;
    let (_setup, server) = member(&nats, &certificates, "tls://", "handshake_first = true");
    works(&server);
    let (_setup, server) = member(&nats, &certificates, "tls://", "");
    fails(&server, &nats, "unreachable", "set handshake_first = true in [engine]");
    Ok(())
}

pub fn loops_that_keep_caches_find_by_tls_what_any_of_them_was_told() -> Outcome {
    let certificates = certificates(Issue::server("nats"));
    let nats = secured(&certificates, "")?;
    let setup = trusting(&nats, &certificates, "keep = \"cache\"");
    let setup = setup.top("loops = 2\nmax_clients = 50");
    let server = start(&setup, "tls://");
    let text = "with TLS: NATS ";
    wait_until(LIMIT, "both loops are connected", || server.log().matches(text).count() == 2);
    // So many connections that the kernel leaves no loop out, and more clients than both caches can hold.
    let mut crowd: Vec<Client> = (0..16).map(|_| server.client()).collect();
    let ids: Vec<String> = (0..200).map(|number| format!("c{number}")).collect();
    for (at, id) in ids.iter().enumerate() {
        let client = &mut crowd[at % 16];
        assert_eq!(client.ask(&format!("IAMAT {id} +1.0-2.0 1")), format!("AT AT {id} +1.0-2.0 1"));
    }
    for client in &mut crowd {
        for id in &ids {
            let first = client.whatsat(id, "0", "0").first;
            assert_eq!(first, format!("AT AT {id} +1.0-2.0 1"));
        }
    }
    assert!(server.stop().success());
    Ok(())
}

pub fn a_member_shows_its_certificate_where_the_server_asks_for_one() -> Outcome {
    let certificates = certificates(Issue::server("nats"));
    certificates.issue("member", Issue::server("member"));
    let ca = certificates.path("herd-ca.pem");
    let nats = secured(&certificates, &format!("ca_file: {ca:?}, verify: true"))?;
    let (own, key) = (certificates.path("member.pem"), certificates.path("member.key"));
    let own = format!("certificate = {own:?}\nkey = {key:?}");
    let (_setup, server) = member(&nats, &certificates, "tls://", &own);
    works(&server);
    let (_setup, server) = member(&nats, &certificates, "tls://", "");
    fails(&server, &nats, "tls", "certificate and key in [engine]");
    Ok(())
}

pub fn a_certificate_of_another_authority_name_or_time_is_refused() -> Outcome {
    let good = || Issue::server("nats");
    for (issue, text) in [
        (Issue { by: By::Other, ..good() }, "authority"),
        (Issue { hosts: vec!["other.example".to_owned()], ..good() }, "other.example"),
        (Issue { since: 9, days: -2, ..good() }, "expired"),
    ] {
        let certificates = certificates(issue);
        let nats = secured(&certificates, "")?;
        let (_setup, server) = member(&nats, &certificates, "tls://", "");
        fails(&server, &nats, "tls", text);
    }
    Ok(())
}

pub fn a_server_in_plain_text_is_refused_where_tls_is_asked_for() -> Outcome {
    let certificates = certificates(Issue::server("nats"));
    let nats = Nats::one(Release::Current)?;
    let (_setup, server) = member(&nats, &certificates, "tls://", "");
    fails(&server, &nats, "refused", "it offers no TLS, and tls:// refuses plain text");
    Ok(())
}
