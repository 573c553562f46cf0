//! Claim: in a handshake both sides trust by the authority, the purpose and the names of a certificate and by nothing
//! else, and a side that is refused can read why, on both sides.

use herd_mio::application::{HandshakeFailure, TlsVersion};
use herd_mio::tls::{Identity, Revocations};

mod common;

use common::certificates::{By, Certificates, Issue, Usage};
use common::handshake::{acceptor, dialer, holiday, now, shake};

#[test]
fn neighbours_trust_each_other_by_their_names_with_tls_1_3_and_without_resumption() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    let none = Revocations::none();
    let server = acceptor(&certificates, "Holiday", &none);
    let client = dialer(&certificates, "Goloman", &holiday(), &none);
    for _ in 0..2 {
        let (dialled, accepted) = shake(&client, &server);
        assert_eq!(dialled.bytes, b"a line\n", "{dialled:?}");
        assert_eq!(accepted.bytes, b"a line\n", "{accepted:?}");
        for seen in [dialled, accepted] {
            assert_eq!((seen.version, seen.resumed), (Some(TlsVersion::V1_3), false));
            assert_eq!(seen.chain, 1);
        }
    }
}

/// What is wrong with the certificate of the one side, and what both sides say.
struct Case {
    what: &'static str,
    issue: Issue,
    /// In the words of the side that refuses.
    refuses: &'static str,
    /// In the words of the side that is refused.
    refused: &'static str,
}

fn case(what: &'static str, issue: Issue, refuses: &'static str, refused: &'static str) -> Case {
    Case { what, issue, refuses, refused }
}

/// What is wrong with it whichever side shows it; `purpose` is the one that it lacks.
fn wrong_ones(purpose: Usage) -> Vec<Case> {
    let good = || Issue::server("Holiday");
    let other_purpose = match purpose {
        Usage::Server => Usage::Client,
        _ => Usage::Server,
    };
    vec![
        case(
            "of another authority",
            Issue { by: By::Other, ..good() },
            "no authority that is trusted here has issued it; add its authority's certificate to [tls.neighbours] ca",
            "it does not trust the authority of our certificate",
        ),
        case(
            "of the clients' authority",
            Issue { by: By::Clients, ..good() },
            "no authority that is trusted here has issued it",
            "it does not trust the authority of our certificate",
        ),
        case(
            "signed by itself",
            Issue { by: By::Itself, ..good() },
            "no authority that is trusted here has issued it",
            "it does not trust the authority of our certificate",
        ),
        case(
            "expired",
            Issue { days: -1, ..good() },
            "it has expired at ",
            "our certificate has expired, or is not valid yet, it says",
        ),
        case(
            "not valid yet",
            Issue { since: -1, ..good() },
            "it is not valid before ",
            "our certificate has expired, or is not valid yet, it says",
        ),
        case(
            "for the other purpose",
            Issue { usage: other_purpose, ..good() },
            "among its extended key usages, or none of these",
            "it does not accept certificates of our kind",
        ),
        case(
            "for mail",
            Issue { usage: Usage::Mail, ..good() },
            "among its extended key usages, or none of these",
            "it does not accept certificates of our kind",
        ),
        case(
            "without the one between it and the authority",
            Issue { by: By::IntermediateAlone, ..good() },
            "or have the ",
            "it does not trust the authority of our certificate",
        ),
    ]
}

#[test]
fn a_dialer_refuses_a_wrong_server_in_the_handshake_and_both_say_why() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    let none = Revocations::none();
    let client = dialer(&certificates, "Goloman", &holiday(), &none);
    let mut cases = wrong_ones(Usage::Server);
    let names = [
        (
            "another server's",
            "herd:server:Welsh",
            "it names herd:server:Welsh, and must name uri:herd:server:Holiday",
        ),
        ("in another case", "herd:server:holiday", "it names herd:server:holiday, and must name"),
        ("a client's", "herd:client:Holiday", "it names herd:client:Holiday, and must name"),
        ("encoded", "herd:server:%48oliday", "it names herd:server:%48oliday, and must name"),
        (
            "continued after a NUL",
            "herd:server:Holiday\0.example",
            "it names herd:server:Holiday?.example, and",
        ),
        ("longer", "herd:server:Holiday2", "it names herd:server:Holiday2, and must name"),
    ];
    for (what, uri, refuses) in names {
        let issue = Issue { uris: vec![uri.to_owned()], ..Issue::server("Holiday") };
        cases.push(case(what, issue, refuses, "it does not accept our certificate"));
    }
    // The common name, DNS names and addresses count for nothing.
    let uris = Vec::new();
    let hosts = ["Holiday", "holiday.example", "127.0.0.1"].map(str::to_owned).to_vec();
    let nameless = Issue { uris, hosts, ..Issue::server("Holiday") };
    cases.push(case("hosts alone", nameless, "it names no server, and must name", "it does not"));
    for Case { what, issue, refuses, refused } in cases {
        certificates.issue("wrong", issue);
        let server = acceptor(&certificates, "wrong", &none);
        let (dialled, accepted) = shake(&client, &server);
        assert_eq!(dialled.failure, Some(HandshakeFailure::Certificate), "{what}: {dialled:?}");
        let begins = "the certificate of holiday.example is not trusted: ";
        assert!(dialled.words.starts_with(begins), "{what}: {}", dialled.words);
        assert!(dialled.words.contains(refuses), "{what}: {}", dialled.words);
        assert!(dialled.bytes.is_empty() && accepted.bytes.is_empty(), "{what}");
        assert_eq!(accepted.failure, Some(HandshakeFailure::Alert), "{what}: {accepted:?}");
        assert!(accepted.words.contains(refused), "{what}: {}", accepted.words);
    }
}

#[test]
fn an_acceptor_refuses_a_wrong_neighbour_and_both_say_why() {
    let certificates = Certificates::new(&["Goloman", "Holiday"]);
    let none = Revocations::none();
    let server = acceptor(&certificates, "Holiday", &none);
    for Case { what, issue, refuses, refused } in wrong_ones(Usage::Client) {
        certificates.issue("wrong", issue);
        let client = dialer(&certificates, "wrong", &holiday(), &none);
        let (dialled, accepted) = shake(&client, &server);
        assert_eq!(accepted.failure, Some(HandshakeFailure::Certificate), "{what}: {accepted:?}");
        let begins = "the certificate of the neighbour is not trusted: ";
        assert!(accepted.words.starts_with(begins), "{what}: {}", accepted.words);
        assert!(accepted.words.contains(refuses), "{what}: {}", accepted.words);
        assert!(accepted.bytes.is_empty() && dialled.bytes.is_empty(), "{what}");
        // With TLS 1.3 the dialer's handshake was complete before the acceptor judged.
        assert_eq!(dialled.failure, Some(HandshakeFailure::Alert), "{what}: {dialled:?}");
        assert!(dialled.words.contains(refused), "{what}: {}", dialled.words);
    }
}

#[test]
fn chains_usages_and_names_that_are_right_in_another_way_are_accepted() {
    let certificates = Certificates::new(&["Goloman"]);
    let none = Revocations::none();
    let good = || Issue::server("Holiday");
    let dns = Identity::Dns("holiday.example".to_owned());
    let spiffe = Identity::Uri("spiffe://example.org/herd/holiday".to_owned());
    let hosts = |host: &str| Issue { uris: Vec::new(), hosts: vec![host.to_owned()], ..good() };
    let uris = ["herd:server:Welsh", "spiffe://example.org/herd/holiday"].map(str::to_owned);
    let cases = [
        ("an intermediate authority", Issue { by: By::Intermediate, ..good() }, holiday(), true),
        ("no usages", Issue { usage: Usage::Unsaid, ..good() }, holiday(), true),
        ("a DNS name", hosts("Holiday.EXAMPLE"), dns.clone(), true),
        ("a wildcard", hosts("*.example"), dns.clone(), false),
        ("a part of a DNS name", hosts("a.holiday.example"), dns, false),
        ("a URI of another PKI", Issue { uris: uris.to_vec(), ..good() }, spiffe, true),
    ];
    for (what, issue, identity, is_good) in cases {
        certificates.issue("other", issue);
        let server = acceptor(&certificates, "other", &none);
        let client = dialer(&certificates, "Goloman", &identity, &none);
        let (dialled, accepted) = shake(&client, &server);
        assert_eq!(dialled.bytes == b"a line\n", is_good, "{what}: {dialled:?}");
        assert_eq!(accepted.bytes == b"a line\n", is_good, "{what}: {accepted:?}");
    }
}

#[test]
fn revoked_certificates_are_refused_by_both_sides_even_by_a_list_that_is_overdue() {
    let certificates = Certificates::new(&["Goloman", "Holiday", "Welsh"]);
    certificates.issue("deep", Issue { by: By::Intermediate, ..Issue::server("Holiday") });
    for (days, form) in [(30, "herd.crl"), (-30, "herd.crl"), (30, "herd.crl.der")] {
        certificates.revoke(By::Herd, &["Holiday.pem"], days);
        let bytes = std::fs::read(certificates.path(form)).expect("a list");
        let revoked = Revocations::from_bytes(&bytes).expect("a list");
        let due = revoked.next_update().expect("it says when");
        assert_eq!(due > now(), days > 0, "{due}");

        let server = acceptor(&certificates, "Holiday", &Revocations::none());
        let client = dialer(&certificates, "Goloman", &holiday(), &revoked);
        let (dialled, accepted) = shake(&client, &server);
        let revoked_words = "it has been revoked; the server needs a new one";
        assert!(dialled.words.ends_with(revoked_words), "{form}: {}", dialled.words);
        assert!(accepted.words.ends_with("our certificate has been revoked, it says"));

        let server = acceptor(&certificates, "Goloman", &revoked);
        let goloman = Identity::of_server("Goloman");
        let client = dialer(&certificates, "Holiday", &goloman, &Revocations::none());
        let (dialled, accepted) = shake(&client, &server);
        let revoked_words = "it has been revoked; the neighbour needs a new one";
        assert!(accepted.words.ends_with(revoked_words), "{form}: {}", accepted.words);
        assert!(dialled.words.ends_with("our certificate has been revoked, it says"));

        // Others are not touched, nor is one whose issuer has no list.
        for own in ["Welsh", "deep"] {
            let client = dialer(&certificates, own, &goloman, &revoked);
            let (dialled, accepted) = shake(&client, &server);
            assert_eq!(dialled.bytes, b"a line\n", "{own}: {dialled:?} {accepted:?}");
        }
    }
}
