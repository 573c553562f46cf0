//! Claim: nobody joins the herd without a certificate that an authority of it has issued for the name that HELLO says;
//! the log says who was refused and why; and the real links do not notice.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::certificates::{By, Certificates, Issue, Usage};
use common::certified_client::CertifiedClient;
use common::{LIMIT, ServerProcess, Setup, wait_until};

const NAMES: [&str; 3] = ["Goloman", "Holiday", "Welsh"];

/// Goloman, Holiday and Welsh in a row, all over TLS.
struct Herd {
    certificates: Certificates,
    setup: Setup,
    servers: Vec<ServerProcess>,
    /// Where in its log each server had all its links.
    begins: Vec<usize>,
}

impl Herd {
    fn start() -> Herd {
        let certificates = Certificates::new(&NAMES);
        let shape: [(&str, &[&str]); 3] =
            [("Goloman", &["Holiday"]), ("Holiday", &["Welsh"]), ("Welsh", &[])];
        let (tls, ca) = (certificates.section(), certificates.path("herd-ca.pem"));
        let setup = Setup::new(&shape)
            .section(&format!("{tls}[tls.neighbours]\nca = {ca:?}\n[limits]\nexempt = []"));
        let servers = setup.start_all();
        let mut herd = Herd { certificates, setup, servers, begins: Vec::new() };
        herd.tell("one");
        herd.begins = herd.servers.iter().map(|server| server.log().len()).collect();
        herd
    }

    fn peers(&self) -> SocketAddr {
        self.setup.peers_address("Goloman")
    }

    /// What Goloman receives comes to Welsh, by two links.
    fn tell(&self, id: &str) {
        let client = |name| {
            CertifiedClient::connect(self.setup.clients_address(name), &self.certificates, None)
        };
        client("Goloman").ask(&format!("IAMAT {id} +1.0-1.0 1"));
        let mut asking = client("Welsh");
        wait_until(LIMIT, "Welsh learns it", || {
            asking.ask(&format!("WHATSAT {id} 0 0")).starts_with("AT AT ")
        });
    }

    /// Says HELLO over TLS. None if the connection is closed without an answer.
    fn hello(&self, shows: Option<&str>, says: &str) -> Option<String> {
        let mut intruder = CertifiedClient::connect(self.peers(), &self.certificates, shows);
        intruder.try_ask(&format!("HELLO herd/1 {says} 0123456789abcdef"))
    }

    /// Whether Goloman refuses somebody with these words within the time.
    fn logs_within(&self, limit: Duration, words: &str) -> bool {
        let begin = Instant::now();
        loop {
            let log = self.servers[0].log();
            let is_it = |line: &str| line.contains("rejected 127.0.0.1:") && line.contains(words);
            if log.lines().any(is_it) {
                return true;
            }
            if begin.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The links are the ones of the start.
    fn assert_links_stayed(&self) {
        self.tell("last");
        for (server, begin) in self.servers.iter().zip(&self.begins) {
            let log = server.log();
            let lost = log[*begin..]
                .lines()
                .find(|line| line.contains("is down") || line.contains("lost"));
            assert_eq!(lost, None, "{}", server.name);
        }
    }
}

#[test]
fn a_peer_without_the_right_certificate_gets_no_resume_and_the_log_says_why() {
    let herd = Herd::start();
    let holiday = || Issue::server("Holiday");
    let named = |uri: &str| Issue { uris: vec![uri.to_owned()], ..holiday() };
    for (file, issue) in [
        ("other", Issue { by: By::Other, ..holiday() }),
        ("clients", Issue { by: By::Clients, ..holiday() }),
        ("expired", Issue { days: -1, ..holiday() }),
        ("early", Issue { since: -1, ..holiday() }),
        ("server", Issue { usage: Usage::Server, ..holiday() }),
        ("client", named("herd:client:Holiday")),
        ("lower", named("herd:server:holiday")),
        ("escaped", named("herd:server:%48oliday")),
        ("nul", named("herd:server:Holiday\0")),
        ("lines", named("herd:server:x\n26-Nov-26 00:00:00 - INFO: forged")),
        ("host", Issue { uris: vec![], hosts: vec!["Holiday".into()], ..holiday() }),
    ] {
        herd.certificates.issue(file, issue);
    }
    for (shows, says, words) in [
        (None, "Holiday", "it sent no certificate, which it must have"),
        (Some("other"), "Holiday", "no authority that is trusted here has issued it"),
        (Some("clients"), "Holiday", "no authority that is trusted here has issued it"),
        (Some("expired"), "Holiday", "it has expired at"),
        (Some("early"), "Holiday", "it is not valid before"),
        (Some("server"), "Holiday", "it needs clientAuth among its extended key usages"),
        (Some("client"), "Holiday", "herd:client:Holiday"),
        (Some("lower"), "Holiday", "herd:server:holiday"),
        (Some("escaped"), "Holiday", "herd:server:%48oliday"),
        (Some("nul"), "Holiday", r"certificate names herd:server:Holiday\x00, dns:"),
        (Some("lines"), "Holiday", "forged"),
        (Some("host"), "Holiday", "HELLO says Holiday, the certificate names dns:Holiday"),
        (
            Some("Welsh"),
            "Holiday",
            "HELLO says Holiday, the certificate names herd:server:Welsh, dns:localhost (serial ",
        ),
        // Its own name, which a forwarded connection would say, and one that is not a neighbour's.
        (Some("Goloman"), "Goloman", "that is this server's own identity"),
        (Some("Welsh"), "Welsh", "HELLO says Welsh, which is no neighbour"),
    ] {
        // Warnings of one kind are logged once a second, so that the first attempt may be missing.
        let is_logged = (0..10).any(|_| {
            let answer = herd.hello(shows, says);
            let is_refused = answer.as_ref().is_none_or(|line| line.starts_with("? HELLO"));
            assert!(is_refused, "{shows:?} as {says}: {answer:?}");
            herd.logs_within(Duration::from_millis(1_100), words)
        });
        assert!(is_logged, "{shows:?} as {says}: {}", herd.servers[0].log());
        let log = herd.servers[0].log();
        assert!(!log.lines().any(|line| line.starts_with("26-Nov-26 00:00:00")), "a forged line");
    }
    herd.assert_links_stayed();
    // The right one would get in.
    let answer = herd.hello(Some("Holiday"), "Holiday").expect("an answer");
    assert!(answer.starts_with("RESUME "), "{answer}");
}

#[test]
fn plain_text_does_not_get_in_and_a_dialer_never_falls_back_to_it() {
    let herd = Herd::start();
    let mut plain = common::Client::connect(herd.peers());
    let answer = plain.ask("HELLO herd/1 Holiday 0123456789abcdef");
    assert_eq!(answer, "? HELLO herd/1 Holiday 0123456789abcdef");
    plain.expect_end();
    herd.servers[0].wait_for_log("plain text on a port that takes only TLS");
    herd.assert_links_stayed();
}
