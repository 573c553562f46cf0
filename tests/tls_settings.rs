//! Claim: each setting of TLS does what it says for any client: versions, protocols, certificates and resumption; what is
//! loaded again is applied to connections that are open; and a certificate of one's own that others would refuse is
//! found before they do.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use herd_mio::application::{HandshakeFailure, TlsVersion};
use herd_mio::tls::{
    ClientAuthority, ClientTls, Identity, Own, OwnError, OwnHerd, Revocations, ServerSettings,
    ServerTls, TlsError, judge_own,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion, crypto, version,
};

mod common;

use common::LIMIT;
use common::certificates::{By, Certificates, Issue, Usage};
use common::handshake::{Seen, accept_one, acceptor, dialer, holiday, now};

/// What a client of others does.
struct Other {
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: &'static [&'static str],
    /// The file of its certificate.
    shows: Option<&'static str>,
}

static NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];
static OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];
const OTHER: Other = Other { versions: rustls::ALL_VERSIONS, alpn: &[], shows: None };

impl Other {
    fn config(&self, certificates: &Certificates) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let ca = certificates.read("herd-ca.pem");
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let (chain, key) = certificates.pair(file);
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// What the client got, and what it was told.
struct Got {
    bytes: Vec<u8>,
    version: Option<ProtocolVersion>,
    kind: Option<HandshakeKind>,
    alpn: Option<Vec<u8>>,
    error: Option<String>,
}

/// A connection of a client of others, and what the server saw.
fn connect(config: &Arc<ClientConfig>, server: &ServerTls) -> (Got, Seen) {
    let (address, accepting) = accept_one(server);
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("it can be set");
    let name = "localhost".try_into().expect("a name");
    let client = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let mut stream = StreamOwned::new(client, stream);
    let mut bytes = Vec::new();
    let mut error = stream.write_all(b"a line\n").and_then(|()| stream.flush()).err();
    if error.is_none() {
        error = stream.read_to_end(&mut bytes).err();
    }
    let error = error.filter(|error| error.kind() != ErrorKind::UnexpectedEof);
    let seen = accepting.join().expect("no panic");
    let got = Got {
        bytes,
        version: stream.conn.protocol_version(),
        kind: stream.conn.handshake_kind(),
        alpn: stream.conn.alpn_protocol().map(<[u8]>::to_vec),
        error: error.map(|error| error.to_string()),
    };
    (got, seen)
}

/// A listener for clients.
struct Listener {
    certificates: Certificates,
    min_version: TlsVersion,
    resumes: bool,
}

impl Listener {
    fn new() -> Listener {
        let certificates = Certificates::new(&["Goloman", "Holiday"]);
        certificates.client(b"kiwi");
        Listener { certificates, min_version: TlsVersion::V1_3, resumes: true }
    }

    fn tls(&self, required: Option<bool>) -> ServerTls {
        self.with(required, &Revocations::none()).expect("a server")
    }

    fn with(&self, required: Option<bool>, revoked: &Revocations) -> Result<ServerTls, TlsError> {
        let authorities = &self.certificates.authorities("clients-ca.pem");
        let clients = required.map(|required| ClientAuthority { authorities, revoked, required });
        ServerTls::with(ServerSettings {
            chain: &self.certificates.read("Goloman.pem"),
            key: &self.certificates.read("Goloman.key"),
            clients,
            alpn: &["herd/1"],
            min_version: self.min_version,
            resumes: self.resumes,
        })
    }

    fn connect(&self, other: &Other, server: &ServerTls) -> (Got, Seen) {
        connect(&other.config(&self.certificates), server)
    }
}

#[test]
fn older_versions_are_refused_unless_the_setting_allows_them() {
    let mut listener = Listener::new();
    let old = Other { versions: OLD, ..OTHER };
    let (got, seen) = listener.connect(&old, &listener.tls(None));
    assert!(got.bytes.is_empty());
    assert_eq!(seen.failure, Some(HandshakeFailure::Protocol));
    let words = "TLS with the client failed: both sides have no version of TLS in common";
    assert!(seen.words.starts_with(words), "{}", seen.words);
    let (got, seen) = listener.connect(&OTHER, &listener.tls(None));
    assert_eq!(
        (got.version, seen.version),
        (Some(ProtocolVersion::TLSv1_3), Some(TlsVersion::V1_3))
    );

    listener.min_version = TlsVersion::V1_2;
    let (got, seen) = listener.connect(&old, &listener.tls(None));
    assert_eq!(got.bytes, b"a line\n", "{:?}", got.error);
    assert_eq!(
        (got.version, seen.version),
        (Some(ProtocolVersion::TLSv1_2), Some(TlsVersion::V1_2))
    );
    let (got, _) = listener.connect(&OTHER, &listener.tls(None));
    assert_eq!(got.version, Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn who_offers_only_other_protocols_is_refused_and_who_offers_none_is_served() {
    let listener = Listener::new();
    for (alpn, agreed) in [
        (&[][..], Ok(None)),
        (&["herd/1"], Ok(Some(&b"herd/1"[..]))),
        (&["h2", "herd/1"], Ok(Some(b"herd/1"))),
        (&["h2", "http/1.1"], Err("both sides have no protocol in common (ALPN)")),
        (&["HERD/1"], Err("both sides have no protocol in common (ALPN)")),
    ] {
        let (got, seen) = listener.connect(&Other { alpn, ..OTHER }, &listener.tls(None));
        match agreed {
            Ok(protocol) => {
                assert_eq!(
                    (got.bytes.as_slice(), got.alpn.as_deref()),
                    (&b"a line\n"[..], protocol)
                );
            }
            Err(words) => {
                assert_eq!(seen.failure, Some(HandshakeFailure::Protocol), "{alpn:?}");
                assert!(seen.words.contains(words), "{}", seen.words);
                assert!(got.error.expect("an alert").contains("NoApplicationProtocol"), "{alpn:?}");
            }
        }
    }
}

#[test]
fn sessions_are_resumed_only_where_no_certificate_is_asked_for() {
    for (min_version, versions) in [(TlsVersion::V1_3, NEW), (TlsVersion::V1_2, OLD)] {
        let mut listener = Listener { min_version, ..Listener::new() };
        for (required, resumes) in
            [(None, true), (None, false), (Some(false), true), (Some(true), true)]
        {
            listener.resumes = resumes;
            let server = listener.tls(required);
            let shows = required.map(|_| "kiwi");
            let resumes = resumes && required.is_none();
            let config = Other { versions, shows, ..OTHER }.config(&listener.certificates);
            let kinds: Vec<_> = (0..3).map(|_| connect(&config, &server)).collect();
            let resumed: Vec<bool> =
                kinds.iter().map(|(got, _)| got.kind == Some(HandshakeKind::Resumed)).collect();
            let seen: Vec<bool> = kinds.iter().map(|(_, seen)| seen.resumed).collect();
            assert_eq!(resumed, [false, resumes, resumes], "{min_version:?} {shows:?}");
            assert_eq!(seen, resumed);
        }
    }
}

#[test]
fn clients_show_certificates_as_the_setting_says() {
    let listener = Listener::new();
    let good = Issue::client(b"kiwi");
    for (file, issue) in [
        ("expired", Issue { days: -1, ..good.clone() }),
        ("early", Issue { since: -1, ..good.clone() }),
        ("servers", Issue { usage: Usage::Server, ..good.clone() }),
        ("herds", Issue { by: By::Herd, ..good.clone() }),
        ("others", Issue { by: By::Other, ..good.clone() }),
        ("encoded", Issue { uris: vec!["herd:client:%6b%69w%69".to_owned()], ..good }),
    ] {
        listener.certificates.issue(file, issue);
    }
    for (required, shows, words) in [
        (None, None, Ok(0)),
        (None, Some("others"), Ok(0)), // It is not asked for it.
        (Some(false), None, Ok(0)),
        (Some(false), Some("kiwi"), Ok(1)),
        (Some(true), Some("kiwi"), Ok(1)),
        (Some(true), Some("encoded"), Ok(1)),
        (Some(true), None, Err("it sent no certificate, which it must have")),
        (Some(true), Some("expired"), Err("it has expired at")),
        (Some(true), Some("early"), Err("it is not valid before")),
        (Some(true), Some("servers"), Err("it needs clientAuth among its extended key usages")),
        (Some(true), Some("herds"), Err("no authority that is trusted here has issued it")),
        (Some(false), Some("others"), Err("no authority that is trusted here has issued it")),
    ] {
        let (got, seen) = listener.connect(&Other { shows, ..OTHER }, &listener.tls(required));
        match words {
            Ok(chain) => {
                assert_eq!(
                    (got.bytes.as_slice(), seen.chain),
                    (&b"a line\n"[..], chain),
                    "{shows:?}"
                );
            }
            Err(words) => {
                assert!(got.bytes.is_empty(), "{shows:?}");
                assert_eq!(seen.failure, Some(HandshakeFailure::Certificate), "{shows:?}");
                assert!(seen.words.contains(words), "{shows:?}: {}", seen.words);
                assert!(got.error.is_some(), "{shows:?}");
            }
        }
    }
}

#[test]
fn keys_are_read_in_each_form_that_openssl_writes() {
    let certificates = Certificates::new(&["Goloman"]);
    let pkcs8 = certificates.read("Goloman.key");
    let key = PrivateKeyDer::from_pem_slice(pkcs8.as_bytes()).expect("a key");
    // The key within PKCS#8 (RFC 5958) is the one of SEC1 (RFC 5915): from its own SEQUENCE on.
    let der = key.secret_der();
    let begin = der.windows(5).rposition(|it| it[0] == 0x30 && it[2..] == [0x02, 0x01, 0x01]);
    let sec1 = &der[begin.expect("SEC1 within")..];
    let sec1 = sec1_pem(&sec1[..2 + usize::from(sec1[1])]);
    for key in [&pkcs8, &sec1, &format!("a text before it\n{sec1}")] {
        let chain = &certificates.read("Goloman.pem");
        let judged = judge_own(&Own { chain, key, herd: None }, now());
        assert!(judged.is_ok(), "{judged:?}\n{key}");
    }
}

/// As openssl writes it.
fn sec1_pem(der: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let is_there = digit <= three.len();
            text.push(if is_there { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n")
}

/// The certificates of a chain that was shown before a reload.
fn shown(certificates: &Certificates, file: &str) -> Vec<CertificateDer<'static>> {
    certificates.pair(file).0
}

#[test]
fn connections_are_judged_again_by_what_is_loaded_now() {
    let listener = Listener::new();
    let certificates = &listener.certificates;
    certificates.client(b"koala");
    let (kiwi, koala) = (shown(certificates, "kiwi"), shown(certificates, "koala"));
    certificates.revoke(By::Clients, &["kiwi.pem"], 30);
    let list = std::fs::read(certificates.path("clients.crl")).expect("a list");
    let revoked = Revocations::from_bytes(&list).expect("a list");

    let before = listener.tls(Some(true));
    assert_eq!((before.distrusts(&kiwi), before.distrusts(&koala)), (None, None));
    let after = listener.with(Some(true), &revoked).expect("a server");
    let why = after.distrusts(&kiwi).expect("it is revoked");
    assert!(why.ends_with("it has been revoked; the client needs a new one"), "{why}");
    assert_eq!(after.distrusts(&koala), None);
    // Who has shown none may stay only where none must be shown.
    let why = after.distrusts(&[]).expect("it has none");
    assert!(why.ends_with("it sent no certificate, which it must have"), "{why}");
    assert_eq!(listener.tls(Some(false)).distrusts(&[]), None);
    assert_eq!(listener.tls(None).distrusts(&kiwi), None, "it is not asked for any more");
    // Another authority, as when the old one is dropped.
    let other = acceptor(certificates, "Goloman", &Revocations::none());
    let why = other.distrusts(&koala).expect("its authority is not trusted");
    assert!(why.contains("no authority that is trusted here has issued it"), "{why}");
}

#[test]
fn links_are_judged_again_by_what_is_loaded_now() {
    let certificates = Certificates::new(&["Goloman", "Holiday", "Welsh"]);
    let none = Revocations::none();
    let before = dialer(&certificates, "Goloman", &holiday(), &none);
    let chain = shown(&certificates, "Holiday");
    assert_eq!(before.distrusts(&chain), None);
    let why = before.distrusts(&shown(&certificates, "Welsh")).expect("another server");
    assert!(why.contains("it names herd:server:Welsh, and must name"), "{why}");

    certificates.revoke(By::Herd, &["Holiday.pem"], -1);
    let list = std::fs::read(certificates.path("herd.crl.der")).expect("a list");
    let revoked = Revocations::from_bytes(&list).expect("a list");
    let why = dialer(&certificates, "Goloman", &holiday(), &revoked).distrusts(&chain);
    assert!(why.expect("it is revoked").contains("it has been revoked"));
    let renamed = Identity::Uri("herd:server:Holiday2".to_owned());
    let why = dialer(&certificates, "Goloman", &renamed, &none).distrusts(&chain);
    assert!(why.expect("it has another name").contains("must name uri:herd:server:Holiday2"));
    // A Places service is judged in the handshake alone.
    let service = ClientTls::new("localhost", None, &[], Default::default()).expect("a client");
    assert_eq!(service.distrusts(&[]), None);
}

#[test]
fn a_list_that_would_revoke_nothing_is_an_error() {
    let listener = Listener::new();
    let certificates = &listener.certificates;
    let list = |file: &str| {
        Revocations::from_bytes(&std::fs::read(certificates.path(file)).expect("a file"))
    };
    certificates.revoke(By::Herd, &[], 30);
    certificates.revoke(By::Clients, &[], 30);
    let of_herd = list("herd.crl").expect("a list");
    let error = listener.with(Some(true), &of_herd).err().expect("it is of another authority");
    let words = "the list of revoked certificates of \"CN=herd of a test\" is signed by none";
    assert!(error.to_string().starts_with(words), "{error}");
    assert!(listener.with(Some(true), &list("clients.crl").expect("a list")).is_ok());
    // An authority of the same name with another key.
    let namesake = Certificates::new(&[]);
    assert!(of_herd.check(&namesake.authorities("herd-ca.pem")).is_err());
    assert!(of_herd.check(&certificates.authorities("herd-ca.pem")).is_ok());
    // Several lists in one file, and files that have none.
    let both = certificates.read("herd.crl") + &certificates.read("clients.crl");
    certificates.write("both.crl", &both);
    assert!(
        list("both.crl")
            .expect("two lists")
            .check(&certificates.authorities("herd-ca.pem"))
            .is_err()
    );
    for text in ["", "nothing", &certificates.read("herd-ca.pem"), "0\u{3}\u{1}"] {
        certificates.write("bad.crl", text);
        assert!(list("bad.crl").is_err(), "{text}");
    }
}

#[test]
fn an_own_certificate_that_others_would_refuse_is_found_and_explained() {
    let certificates = Certificates::new(&["Goloman", "Welsh"]);
    let good = || Issue::server("Goloman");
    certificates.issue("expired", Issue { days: -1, ..good() });
    certificates.issue("early", Issue { since: -1, ..good() });
    certificates.issue("server", Issue { usage: Usage::Server, ..good() });
    certificates.issue("client", Issue { usage: Usage::Client, ..good() });
    certificates.issue("mail", Issue { usage: Usage::Mail, ..good() });
    certificates.issue("other", Issue { by: By::Other, ..good() });
    certificates.issue("itself", Issue { by: By::Itself, ..good() });
    certificates.issue("alone", Issue { by: By::IntermediateAlone, ..good() });
    certificates.issue("deep", Issue { by: By::Intermediate, ..good() });
    certificates.issue("unsaid", Issue { usage: Usage::Unsaid, ..good() });
    certificates.revoke(By::Herd, &["Goloman.pem"], 30);
    let list = std::fs::read(certificates.path("herd.crl")).expect("a list");
    let authorities = &certificates.authorities("herd-ca.pem");
    let identity = &Identity::of_server("Goloman");
    let judge = |chain: &str, key: &str, revoked: &Revocations| {
        let herd = Some(OwnHerd { identity, authorities, revoked });
        judge_own(&Own { chain, key, herd }, now())
    };
    let none = Revocations::none();
    for file in ["Goloman", "deep", "unsaid"] {
        let read = |ending: &str| certificates.read(&format!("{file}.{ending}"));
        let judged = judge(&read("pem"), &read("key"), &none).expect(file);
        assert_eq!(judged.names.uris, ["herd:server:Goloman"]);
    }
    for (file, words) in [
        ("expired", "[tls] certificate: it has expired at "),
        ("early", "[tls] certificate: it is not valid before "),
        ("server", "clientAuth is missing among its extended key usages"),
        ("client", "serverAuth is missing among its extended key usages"),
        ("mail", "serverAuth is missing among its extended key usages"),
        (
            "Welsh",
            "it does not name this server, so its neighbours will refuse it; uri:herd:server:Goloman must",
        ),
        (
            "other",
            "its neighbours will refuse it: the certificate of this server is not trusted: no authority",
        ),
        ("itself", "add its authority's certificate to [tls.neighbours] ca"),
        ("alone", "or have the server send the intermediate certificates, too"),
    ] {
        let read = |ending: &str| certificates.read(&format!("{file}.{ending}"));
        let error = judge(&read("pem"), &read("key"), &none).expect_err(file).to_string();
        assert!(error.contains(words), "{file}: {error}");
    }
    let (chain, key) = (certificates.read("Goloman.pem"), certificates.read("Goloman.key"));
    let revoked = Revocations::from_bytes(&list).expect("a list");
    let error = judge(&chain, &key, &revoked).expect_err("it is revoked").to_string();
    assert!(error.contains("it has been revoked"), "{error}");
    let error = judge(&chain, &certificates.read("Welsh.key"), &none).expect_err("another key");
    let words = "[tls] certificate and key: the key is not the certificate's: give the two that belong together";
    assert_eq!(error.to_string(), words);
    assert!(matches!(judge("", &key, &none), Err(OwnError::Certificate(_))));
    assert!(matches!(judge(&key, &key, &none), Err(OwnError::Certificate(_))));
    assert!(matches!(judge(&chain, &chain, &none), Err(OwnError::Key(_))));
    // Without a herd, the name and the authority are nobody's business.
    for (file, is_good) in
        [("itself", true), ("server", true), ("client", false), ("expired", false)]
    {
        let (chain, key) = (
            &certificates.read(&format!("{file}.pem")),
            &certificates.read(&format!("{file}.key")),
        );
        assert_eq!(judge_own(&Own { chain, key, herd: None }, now()).is_ok(), is_good, "{file}");
    }
}

/// A certificate of more than 64 KiB is refused before it is read.
#[test]
fn names_of_any_length_and_content_are_harmless() {
    let certificates = Certificates::new(&["Holiday"]);
    let server = acceptor(&certificates, "Holiday", &Revocations::none());
    let names = |uris: Vec<String>| Issue { uris, ..Issue::server("Goloman") };
    certificates.issue("many", names((0..2_000).map(|it| format!("herd:client:{it}")).collect()));
    certificates.issue("long", names(vec![format!("herd:server:{}", "x".repeat(50_000))]));
    certificates.issue("huge", names(vec!["x".repeat(100_000)]));
    for (file, words) in [
        ("many", None),
        ("long", None),
        ("huge", Some("it sent more certificates, or larger ones, than are read here")),
    ] {
        // A client that does not look at its own certificate.
        let (chain, key) = certificates.pair(file);
        let key = crypto::ring::sign::any_supported_type(&key).expect("a key");
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let mut config = ClientConfig::clone(&OTHER.config(&certificates));
        config.client_auth_cert_resolver = Arc::new(shown);
        let (got, seen) = connect(&Arc::new(config), &server);
        match words {
            None => assert_eq!(got.bytes, b"a line\n", "{file}: {seen:?}"),
            Some(words) => assert!(seen.words.contains(words), "{file}: {}", seen.words),
        }
    }
}
