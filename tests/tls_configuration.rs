//! Claim: each mistake in the settings of TLS and of the stop is reported with its place and its remedy; plain text
//! between hosts is refused; and a file that can't be used ends the start with status 2, and `--check`, too.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::Setup;
use common::certificates::{By, Certificates, Issue, Usage};
use common::program::{A, PLAIN, check, file, herd_mio, server, text};
use herd_mio::config::Config;

/// The mistakes that `--check` names, each as `LINE:COLUMN: what`.
fn mistakes(contents: &str) -> Vec<String> {
    let (_folder, path) = file(contents);
    let output = herd_mio(&["--check", "--config", path.to_str().expect("text")]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{contents}{said}");
    let place = format!("{}:", path.display());
    said.trim_start_matches("herd-mio: ")
        .lines()
        .map(|line| line.strip_prefix(&place).unwrap_or_else(|| panic!("{line}")).to_owned())
        .collect()
}

/// Certificate, key and authorities, before further lines.
fn tls(tls: &str, clients: &str, neighbours: &str) -> String {
    format!(
        "{A}[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n{tls}\n[tls.clients]\n{clients}\n\
         [tls.neighbours]\nca = \"ca.pem\"\n{neighbours}\n"
    )
}

#[test]
fn each_mistake_in_the_settings_of_tls_is_reported_with_its_remedy() {
    for (contents, expected) in [
        (format!("{A}[tls]\n"), "4:1: tls.neighbours.ca is missing; expected the file with"),
        (
            format!(
                "{A}[tls.clients]\naccept = \"both\"\n[tls.neighbours]\naccept = \"plain\"\ndial = \"plain\"\n"
            ),
            "5:10: tls.certificate is missing; expected the path of a file, such as \"tls/{name}.pem\" (or accept = \
             \"plain\" in [tls.clients] and [tls.neighbours], and dial = \"plain\")",
        ),
        (
            format!("{A}[tls]\ncertificate = \"a.pem\"\n[tls.neighbours]\nca = \"ca.pem\"\n"),
            "4:1: tls.key is missing; expected the path of a file, such as \"tls/{name}.key\"",
        ),
        (
            format!(
                "{A}[tls]\nkey = \"a.key\"\n[tls.clients]\naccept = \"plain\"\n[tls.neighbours]\naccept = \"plain\"\ndial = \"plain\"\n"
            ),
            "4:1: tls.certificate and tls.key belong together; set both, or none",
        ),
        (
            format!(
                "{A}[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n[tls.neighbours]\naccept = \"plain\"\ndial = \"tls\"\n"
            ),
            "9:8: tls.neighbours.ca is missing; expected the file with the authorities of the servers' certificates, \
             such as \"tls/herd-ca.pem\" (or accept = \"plain\" and dial = \"plain\" in [tls.neighbours])",
        ),
        (
            tls("min_version = \"1.1\"", "", ""),
            "7:15: invalid `tls.min_version`: \"1.1\"; expected \"1.2\" or \"1.3\"",
        ),
        (
            tls("", "accept = \"TLS\"", ""),
            "9:10: invalid `tls.clients.accept`: \"TLS\"; expected \"plain\", \"both\" or \"tls\"",
        ),
        (
            tls("", "", "dial = \"both\""),
            "12:8: invalid `tls.neighbours.dial`: \"both\"; expected \"plain\" or \"tls\"",
        ),
        (
            tls("", "", "crl = \"\""),
            "12:7: invalid `tls.neighbours.crl`: \"\"; expected the path of a file, such as \"tls/herd.crl\"",
        ),
        (
            tls("", "certificates = \"optional\"", ""),
            "9:16: tls.clients.certificates = \"optional\" needs `ca` in [tls.clients], the authorities of these certificates",
        ),
        (tls("", "crl = \"c.crl\"", ""), "9:7: a `crl` needs the `ca` that has issued it"),
        (
            tls("", "ca = \"c.pem\"\ncertificates = \"optional\"\nids = \"certificate\"", ""),
            "11:7: tls.clients.ids = \"certificate\" needs accept = \"tls\" and certificates = \"required\" in [tls.clients]: \
             otherwise a client could leave its certificate out",
        ),
        (
            tls(
                "",
                "accept = \"both\"\nca = \"c.pem\"\ncertificates = \"required\"\nqueries = \"certificate\"",
                "",
            ),
            "12:11: tls.clients.queries = \"certificate\" needs accept = \"tls\" and",
        ),
        (
            format!("{A}[admin]\ntls = true\n"),
            "4:1: admin.tls needs a certificate: set `certificate` and `key` in [tls]",
        ),
        (format!("{A}[admin]\nca = \"o.pem\"\n"), "5:6: admin.ca needs tls = true in [admin]"),
        (
            format!("{A}[tls.client]\naccept = \"tls\"\n"),
            "4:6: unknown key `client` of tls; did you mean clients?",
        ),
        (
            format!("{A}accept = \"tls\"\n"),
            "4:1: unknown key `accept` of server A; it belongs in [tls.clients] or [tls.neighbours]",
        ),
        (
            format!("clients = 5\n{A}"),
            "1:1: unknown key `clients`; it belongs in a section of its own, [tls.clients] (the number of clients is `max_clients`)",
        ),
        (
            format!("{A}dial = \"b:1\"\n"),
            "4:1: unknown key `dial` of server A; it belongs in [tls.neighbours] (the address of a server is its `advertise`)",
        ),
        (
            format!("{A}[limits]\nhandshakes = 0\n"),
            "5:14: invalid `limits.handshakes`: 0; expected a whole number from 1 to 10000000",
        ),
    ] {
        let said = mistakes(&contents);
        let is_said = said.iter().any(|line| line.starts_with(expected));
        assert!(is_said, "{contents}\n{said:#?}\nexpected {expected}");
    }
}

#[test]
fn without_a_section_all_is_plain_and_with_one_all_is_tls() {
    let accepts = |text: &str| {
        let config = Config::parse(text).expect("a configuration");
        let tls = &config.tls;
        (tls.clients.accept.name(), tls.neighbours.accept.name(), tls.neighbours.dials_tls)
    };
    assert_eq!(accepts(A), ("plain", "plain", false));
    assert_eq!(accepts(&tls("", "", "")), ("tls", "tls", true));
    assert_eq!(accepts(&tls("", "accept = \"both\"", "dial = \"plain\"")), ("both", "tls", false));
}

#[test]
fn what_check_prints_has_every_setting_of_tls_and_means_the_same() {
    let text = format!(
        "{A}identity = \"dns:a.example\"\n[tls]\ncertificate = \"x/{{name}}.pem\"\nkey = \"/y/\\\"{{name}}.key\"\n\
         min_version = \"1.2\"\n[tls.clients]\naccept = \"tls\"\ncertificates = \"required\"\nca = \"c.pem\"\n\
         crl = \"c.crl\"\nids = \"certificate\"\nqueries = \"certificate\"\n[tls.neighbours]\naccept = \"both\"\n\
         dial = \"plain\"\nca = \"h.pem\"\ncrl = \"h.crl\"\n[admin]\ntls = true\nca = \"o.pem\"\n[stop]\n\
         on_sigterm = \"drain\"\ndrain_delay = \"off\"\ndrain_duration = \"90s\"\n[limits]\nhandshake_timeout = \"3s\"\n\
         handshakes = 7\nhandshakes_per_second = 0\nhandshakes_burst = 9\n[security]\n\
         allow_plaintext = [\"neighbours\", \"admin\"]\n"
    );
    let config = Config::parse(&text).expect("a configuration");
    let printed = config.summary();
    assert_eq!(Config::parse(&printed), Ok(config), "{printed}");
    let opens = "tls.clients.ids = \"certificate\"  # a server of the herd that runs with \"any\" opens it for all\n";
    assert!(printed.contains(opens), "{printed}");
}

#[test]
fn no_value_of_any_type_is_accepted_by_chance() {
    let values = ["-1", "1.5", "true", "\"\"", "[]", "{}", "[{}]", "\"\\u0000\"", "nan", "\"x y\""];
    for (section, keys) in [
        ("tls", "certificate key min_version clients neighbours"),
        ("tls.clients", "accept certificates ca crl ids queries"),
        ("tls.neighbours", "accept dial ca crl"),
        ("stop", "on_sigterm drain_delay drain_duration"),
        ("limits", "handshake_timeout handshakes handshakes_per_second handshakes_burst"),
    ] {
        for key in keys.split(' ') {
            for value in values {
                let is_path = ["certificate", "key", "ca", "crl"].contains(&key);
                let is_section = ["clients", "neighbours"].contains(&key);
                let is_fine = (is_path && value == "\"x y\"") || (is_section && value == "{}");
                let name = format!("invalid `{section}.{key}`: ");
                let said = Config::parse(&format!("{A}[{section}]\n{key} = {value}\n"));
                let said = said.map_or_else(|error| error.to_string(), |_| String::new());
                assert_eq!(!said.contains(&name), is_fine, "{section}.{key} = {value}: {said}");
            }
        }
    }
}

#[test]
fn two_servers_cannot_have_one_identity() {
    let pair = |one: &str, other: &str| server("A", 1200, one) + &server("B", 1201, other);
    let clash = "would have the same identity";
    for (contents, place, expected) in [
        (pair("identity = \"uri:herd:server:B\"", ""), "4:12", clash),
        (pair("identity = \"dns:a.example\"", "identity = \"dns:A.Example\""), "8:12", clash),
        (
            pair("identity = \"A\"", ""),
            "4:12",
            "expected \"uri:\" and a URI, such as \"uri:herd:server:Goloman\", or",
        ),
        (
            pair("identity = \"dns:*.example\"", ""),
            "4:12",
            "a name with a wildcard would be that of several servers",
        ),
        (
            pair("identity = \"uri:herd:client:A\"", ""),
            "4:12",
            "\"herd:client:\" begins the names of clients",
        ),
        (
            pair("identity = \"dns:192.0.2.1\"", ""),
            "4:12",
            "addresses in certificates are not looked at",
        ),
        (pair("identity = \"uri:no scheme\"", ""), "4:12", "invalid `identity` of server A"),
        (pair("identity = \"uri:\"", ""), "4:12", "invalid `identity` of server A"),
        (pair("identity = 5", ""), "4:12", "invalid `identity` of server A"),
    ] {
        let said = mistakes(&contents);
        assert!(said[0].starts_with(place) && said[0].contains(expected), "{contents}{said:#?}");
    }
    // Only a DNS name has no case.
    let apart = pair("identity = \"uri:urn:a\"", "identity = \"uri:urn:A\"");
    assert_eq!(check(&apart).status.code(), Some(0));
    let spiffe = pair("identity = \"uri:spiffe://herd.example/A\"", "identity = \"dns:b.example\"");
    let said = text(&check(&spiffe).stdout);
    assert!(said.contains("identity = \"uri:spiffe://herd.example/A\""), "{said}");
}

#[test]
fn times_of_a_drain_fit_together() {
    let stop = |lines: &str| format!("{A}[stop]\n{lines}\n");
    for (contents, expected) in [
        (
            "on_sigterm = \"halt\"",
            "5:14: invalid `stop.on_sigterm`: \"halt\"; expected \"stop\" or \"drain\"",
        ),
        (
            "drain_duration = \"999ms\"",
            "5:18: invalid `stop.drain_duration`: \"999ms\"; expected a time from \"1s\" to",
        ),
        (
            "drain_delay = \"0s\"",
            "5:15: invalid `stop.drain_delay`: \"0s\"; expected \"off\", or a time such as \"10s\"",
        ),
        (
            "drain_delay = \"31s\"",
            "5:15: stop.drain_delay (31s) must not be longer than stop.drain_duration (30s), of which",
        ),
        (
            "drain_duration = \"5s\"",
            "5:18: stop.drain_delay (10s) must not be longer than stop.drain_duration (5s), of which",
        ),
    ] {
        let said = mistakes(&stop(contents));
        assert!(said.len() == 1 && said[0].starts_with(expected), "{contents}: {said:#?}");
    }
    let off = stop("drain_delay = \"off\"\ndrain_duration = \"1s\"\non_sigterm = \"drain\"");
    let config = Config::parse(&off).expect("a configuration");
    assert!(config.stop.drain_delay.is_zero());
    let printed = text(&check(&off).stdout);
    assert_eq!(Config::parse(&printed).expect("what --check prints").stop, config.stop);
}

#[test]
fn plain_text_between_hosts_is_refused_unless_it_is_allowed() {
    let pair = |more: &str| server("A", 1200, more) + &server("B", 1201, "neighbours = [\"A\"]");
    let remedy =
        "set [tls.neighbours], or allow it with allow_plaintext = [\"neighbours\"] in [security]";
    for (more, place, address) in [
        ("advertise = \"holiday.example:22140\"", "4:13", "holiday.example:22140"),
        ("advertise = \"10.0.0.1:5\"", "4:13", "10.0.0.1:5"),
        ("peer_listen = \"0.0.0.0:22140\"", "4:15", "0.0.0.0:22140"),
        ("peer_listen = \"[::]:22140\"\nadvertise = \"localhost:22140\"", "4:15", "[::]:22140"),
    ] {
        let expected =
            format!("{place}: neighbours would talk in plain text with {address}: {remedy}");
        assert_eq!(mistakes(&pair(more)), [expected], "{more}");
        let allowed = check(PLAIN.to_owned() + &pair(more));
        assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed.stderr));
    }
    for here in [
        "advertise = \"localhost:9\"",
        "peer_listen = \"127.9.9.9:9\"",
        "peer_listen = \"[::1]:9\"",
    ] {
        let output = check(pair(here));
        assert_eq!(output.status.code(), Some(0), "{here}: {}", text(&output.stderr));
    }
    // Nobody talks with a server that has no neighbours.
    let alone = server("A", 1200, "peer_listen = \"0.0.0.0:22140\"");
    assert_eq!(check(alone).status.code(), Some(0));
    // One direction in plain text is enough.
    for half in ["accept = \"both\"", "dial = \"plain\""] {
        let herd = format!(
            "[tls]\ncertificate = \"{{name}}.pem\"\nkey = \"{{name}}.key\"\n[tls.neighbours]\nca = \"herd-ca.pem\"\n{half}\n{}",
            pair("peer_listen = \"0.0.0.0:22140\"")
        );
        assert!(mistakes(&herd)[0].ends_with(remedy), "{half}");
    }
}

#[test]
fn check_warns_of_clients_in_plain_text_beyond_this_host() {
    let contents = "[[server]]\nname = \"A\"\nlisten = \"0.0.0.0:1200\"\n";
    let said = text(&check(contents).stdout);
    let warning = "# warning: clients on other hosts can talk with A in plain text (0.0.0.0:1200); accept = \"tls\" in \
                   [tls.clients] forbids it";
    assert!(said.contains(warning), "{said}");
    assert!(!text(&check(A).stdout).contains("plain text"));
}

/// A herd of two with the files of a folder, by relative paths; `key` is the path of the keys.
fn herd(certificates: &Certificates, own: &str) -> std::path::PathBuf {
    let text = format!(
        "[tls]\n{own}\n[tls.clients]\nca = \"clients-ca.pem\"\n[tls.neighbours]\nca = \"herd-ca.pem\"\n{}{}",
        server("A", 1200, ""),
        server("B", 1201, "neighbours = [\"A\"]")
    );
    certificates.write("herd.toml", &text);
    certificates.path("herd.toml")
}

const OWN: &str = "certificate = \"{name}.pem\"\nkey = \"{name}.key\"";

fn checked(path: &Path) -> (Option<i32>, String, String) {
    let output = herd_mio(&["--check", "--config", path.to_str().expect("text")]);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_loads_the_files_and_names_one_that_cannot_be_used() {
    let certificates = Certificates::new(&["A", "B"]);
    let path = herd(&certificates, OWN);
    let (status, printed, said) = checked(&path);
    assert_eq!(status, Some(0), "{said}");
    assert!(!printed.contains("# note: "), "{printed}");

    let issue = |issue: Issue| certificates.issue("A", issue);
    let good = || issue(Issue::server("A"));
    type Break<'a> = (&'a str, &'a dyn Fn(), &'a str, &'a str);
    let wrong: [Break<'_>; 9] = [
        (
            "the key of another certificate",
            &|| certificates.write("A.key", &certificates.read("B.key")),
            "A.pem",
            "A.key)",
        ),
        ("no PEM", &|| certificates.write("A.pem", "nothing"), "A.pem", "[tls] certificate"),
        (
            "an expired one",
            &|| issue(Issue { days: -1, ..Issue::server("A") }),
            "A.pem",
            "it has expired",
        ),
        (
            "one of the future",
            &|| issue(Issue { since: -1, ..Issue::server("A") }),
            "A.pem",
            "it is not valid before",
        ),
        (
            "one without clientAuth",
            &|| issue(Issue { usage: Usage::Server, ..Issue::server("A") }),
            "A.pem",
            "clientAuth is missing",
        ),
        (
            "another server's",
            &|| issue(Issue::server("C")),
            "A.pem",
            "uri:herd:server:A must stand among",
        ),
        (
            "another authority's",
            &|| issue(Issue { by: By::Other, ..Issue::server("A") }),
            "A.pem",
            "its neighbours will refuse it",
        ),
        (
            "a key for all",
            &|| {
                good();
                let mode = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(certificates.path("A.key"), mode).expect("it can be set");
            },
            "A.key",
            "[tls] key: its mode 644 gives every user of this machine access; run chmod o-rwx on it",
        ),
        (
            "a broken authority",
            &|| {
                good();
                certificates.write(
                    "clients-ca.pem",
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                );
            },
            "clients-ca.pem",
            "[tls.clients] ca",
        ),
    ];
    for (what, breaks, file, reason) in wrong {
        breaks();
        let (status, _, said) = checked(&path);
        assert_eq!(status, Some(2), "{what}: {said}");
        let named = certificates.path(file).display().to_string();
        assert!(said.contains(&named) && said.contains(reason), "{what}: {said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
        good();
    }
}

#[test]
fn a_list_of_revoked_certificates_must_be_one_of_the_authorities() {
    let certificates = Certificates::new(&["A", "B"]);
    certificates.revoke(By::Herd, &["B.pem"], 30);
    certificates.revoke(By::Clients, &[], 30);
    let text = |crl: &str| {
        format!(
            "[tls]\n{OWN}\n[tls.neighbours]\nca = \"herd-ca.pem\"\ncrl = {crl:?}\n{}",
            server("A", 1200, "")
        )
    };
    for (crl, reason) in [
        ("herd.crl", None),
        ("herd.crl.der", None),
        ("clients.crl", Some("clients.crl: [tls.neighbours] crl: ")),
        (
            "A.pem",
            Some("A.pem: [tls.neighbours] crl: there is no list of revoked certificates in it"),
        ),
    ] {
        certificates.write("herd.toml", &text(crl));
        let (status, _, said) = checked(&certificates.path("herd.toml"));
        assert_eq!(status, Some(reason.map_or(0, |_| 2)), "{crl}: {said}");
        assert!(said.contains(reason.unwrap_or_default()), "{crl}: {said}");
    }
    // The server itself is in it.
    certificates.revoke(By::Herd, &["A.pem"], 30);
    certificates.write("herd.toml", &text("herd.crl"));
    let (status, _, said) = checked(&certificates.path("herd.toml"));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("A.pem: [tls] certificate: its neighbours will refuse it"), "{said}");
}

#[test]
fn a_key_that_is_no_regular_file_is_refused_without_waiting_for_it() {
    let certificates = Certificates::new(&["A", "B"]);
    let path = herd(&certificates, OWN);
    let key = certificates.path("A.key");
    std::fs::remove_file(&key).expect("it is there");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &key, kind, rustix::fs::Mode::RWXU, 0).expect("a FIFO");
    let (status, _, said) = checked(&path);
    assert_eq!(status, Some(2));
    assert!(said.contains("A.key: [tls] key: not a regular file"), "{said}");
}

#[test]
fn a_file_without_a_key_that_can_be_read_is_refused_for_what_it_is() {
    let certificates = Certificates::new(&["A", "B"]);
    let path = herd(&certificates, OWN);
    let good = certificates.read("A.key");
    let encrypted = "it is encrypted, and a server has nobody to ask for the password";
    let old_form = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                    DEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    for (text, reason) in [
        (good.replace("PRIVATE", "ENCRYPTED PRIVATE"), encrypted),
        (old_form.to_owned(), encrypted),
        (certificates.read("A.pem"), "there is no private key in it, which would begin with"),
        (String::new(), "there is no private key in it, which would begin with"),
        (good[..good.len() / 2].to_owned(), "is the file cut?"),
    ] {
        certificates.write("A.key", &text);
        let (status, _, said) = checked(&path);
        assert_eq!(status, Some(2), "{text}");
        assert!(said.contains("A.key: [tls] key: ") && said.contains(reason), "{said}");
    }
}

#[test]
fn a_host_that_has_one_servers_files_only_gets_a_note_for_each_other_server() {
    let certificates = Certificates::new(&["A", "B"]);
    let path = herd(&certificates, OWN);
    std::fs::remove_file(certificates.path("A.key")).expect("it is there");
    let (status, printed, said) = checked(&path);
    assert_eq!(status, Some(0), "{said}");
    let notes: Vec<&str> = printed.lines().filter(|line| line.starts_with("# note: ")).collect();
    assert_eq!(notes.len(), 1, "{printed}");
    assert!(
        notes[0].contains("the certificate of A was not checked: ") && notes[0].contains("A.key"),
        "{notes:?}"
    );
    // It has none at all.
    std::fs::remove_file(certificates.path("B.pem")).expect("it is there");
    let (status, _, said) = checked(&path);
    assert_eq!(status, Some(2));
    assert!(said.contains("A.key: [tls] key: No such file or directory; make it (herd-mio --make-certificates DIR)"), "{said}");
    // A path without the server's name: the file differs from host to host.
    certificates.issue("B", Issue::server("B"));
    let path = herd(&certificates, "certificate = \"B.pem\"\nkey = \"B.key\"");
    let (status, printed, said) = checked(&path);
    assert_eq!(status, Some(0), "{said}");
    assert!(printed.contains("(of A; the file may be another one on its host)"), "{printed}");
}

#[test]
fn a_server_does_not_start_with_a_file_that_it_cannot_use() {
    let certificates = Certificates::new(&["Goloman"]);
    let own = |name: &str| certificates.path(name).display().to_string();
    let setup = Setup::alone().section(&format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\n[tls.neighbours]\nca = {:?}",
        own("{name}.pem"),
        own("{name}.key"),
        own("herd-ca.pem")
    ));
    certificates.issue("Goloman", Issue { days: -2, ..Issue::server("Goloman") });
    let output = setup.command("Goloman").output().expect("it runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("Goloman.pem: [tls] certificate: it has expired"), "{said}");
    assert!(said.contains("--make-certificates DIR --renew"), "the remedy: {said}");
    let log = std::fs::read_to_string(setup.log_file("Goloman")).expect("a log");
    assert!(log.contains(" - ERROR: ") && log.contains("it has expired"), "{log}");
}
