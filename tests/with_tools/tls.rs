//! OpenSSL, socat and nc as clients, as servers, and as the makers of certificates.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use herd_mio::tls::{
    Authorities, Certificate, ClientNames, Identity, Own, OwnHerd, Revocations, judge_own,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::common::certificates::{By, Certificates, Issue, Usage};
use crate::common::handshake::{dialer, drive, holiday, now};
use crate::common::needs::{Missing, Outcome, netcat, tool};
use crate::common::ports::reserve;
use crate::common::process::{Running, follow, read_to_end};
use crate::common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const LINE: &str = "IAMAT kiwi +1.0-1.0 1\n";
const ANSWER: &str = "AT AT kiwi +1.0-1.0 1\n";

/// A tool with this input: what it printed, on both streams.
fn say(mut command: Command, input: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("input");
    std::fs::write(&file, input).expect("the temporary folder can be written");
    let output = command.stdin(std::fs::File::open(&file).expect("just written")).output();
    let output = output.expect("it is there");
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// One server with more in `[tls.clients]`.
struct One {
    certificates: Certificates,
    setup: Setup,
    server: ServerProcess,
}

impl One {
    fn start(top: &str, clients: &str) -> One {
        let certificates = Certificates::new(&["Goloman"]);
        let file = |name: &str| format!("{:?}", certificates.path(name).display().to_string());
        let setup = Setup::alone().section(&format!(
            "[tls]\n{top}\ncertificate = {}\nkey = {}\n[tls.neighbours]\nca = {}\n[tls.clients]\nca = {}\n{clients}\n[limits]\nexempt = []",
            file("{name}.pem"),
            file("{name}.key"),
            file("herd-ca.pem"),
            file("clients-ca.pem"),
        ));
        let server = setup.start("Goloman");
        One { certificates, setup, server }
    }

    fn address(&self) -> SocketAddr {
        self.setup.clients_address("Goloman")
    }

    fn ca(&self) -> String {
        self.certificates.path("herd-ca.pem").display().to_string()
    }

    /// `socat -t5 - OPENSSL:localhost:PORT,...`
    fn socat(&self) -> Result<Command, Missing> {
        let mut socat = tool("socat")?;
        let (port, ca) = (self.address().port(), self.ca());
        socat.args(["-t5", "-"]);
        socat.arg(format!("OPENSSL:localhost:{port},cafile={ca},commonname=localhost"));
        Ok(socat)
    }

    /// `openssl s_client` with more; it ends with its input and the answer.
    fn s_client(&self, more: &[&str]) -> Result<Command, Missing> {
        let mut openssl = tool("openssl")?;
        openssl.args(["s_client", "-connect", &self.address().to_string(), "-CAfile", &self.ca()]);
        openssl.args(["-verify_return_error", "-quiet", "-no_ign_eof"]).args(more);
        Ok(openssl)
    }

    fn netcat(&self) -> Result<Command, Missing> {
        let mut nc = netcat()?;
        nc.args(["-N", "-w", "10", "127.0.0.1", &self.address().port().to_string()]);
        Ok(nc)
    }
}

pub fn socat_openssl_and_nc_are_served_as_the_settings_say() -> Outcome {
    let one = One::start("", "");
    assert_eq!(say(one.socat()?, LINE), ANSWER);
    assert_eq!(say(one.netcat()?, LINE), format!("? {LINE}"));
    let old = say(one.s_client(&["-tls1_2"])?, LINE);
    assert!(old.contains("alert protocol version"), "{old}");
    let browser = say(one.s_client(&["-alpn", "h2"])?, LINE);
    assert!(browser.contains("alert no application protocol"), "{browser}");
    drop(one);
    let one = One::start("min_version = \"1.2\"", "accept = \"both\"");
    assert_eq!(say(one.socat()?, LINE), ANSWER);
    assert_eq!(say(one.netcat()?, LINE), ANSWER);
    for more in [&["-tls1_2"][..], &["-tls1_3"], &["-alpn", "h2,herd/1"]] {
        let answer = asked(&one, more)?;
        assert!(answer.contains(ANSWER.trim_end()), "{more:?}: {answer}");
    }
    one.server.assert_serves();
    Ok(())
}

/// What OpenSSL's client printed until the answer came, or until it ended.
fn asked(one: &One, more: &[&str]) -> Result<String, Missing> {
    let mut command = one.s_client(more)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = Running(command.spawn().expect("openssl runs"));
    let mut stdin = client.0.stdin.take().expect("a pipe");
    let stdout = follow(client.0.stdout.take().expect("a pipe"));
    let stderr = follow(client.0.stderr.take().expect("a pipe"));
    let _ = stdin.write_all(LINE.as_bytes());
    wait_until(LIMIT, "OpenSSL's client is answered, or ends", || {
        let is_answered = stdout.lock().expect("no panic").contains("AT AT ");
        is_answered || client.0.try_wait().expect("a process").is_some()
    });
    drop(stdin);
    let _ = client.0.wait();
    Ok(read_to_end(&stdout) + &read_to_end(&stderr))
}

pub fn openssls_client_is_judged_by_its_certificate() -> Outcome {
    tool("openssl")?;
    let one = One::start("", "certificates = \"required\"");
    let certificates = &one.certificates;
    let good = || Issue::client(b"kiwi");
    let encoded = vec!["herd:client:k%69wi".to_owned()];
    for (file, issue, logged) in [
        ("good", good(), None),
        ("encoded", Issue { uris: encoded, ..good() }, None),
        ("unsaid", Issue { usage: Usage::Unsaid, ..good() }, None),
        ("other", Issue { by: By::Other, ..good() }, Some("no authority that is trusted here")),
        ("expired", Issue { days: -1, ..good() }, Some("it has expired at")),
        ("early", Issue { since: -1, ..good() }, Some("it is not valid before")),
        ("server", Issue { usage: Usage::Server, ..good() }, Some("it needs clientAuth")),
        ("itself", Issue { by: By::Itself, ..good() }, Some("no authority that is trusted here")),
    ] {
        certificates.issue(file, issue);
        let [chain, key] = ["pem", "key"]
            .map(|it| certificates.path(&format!("{file}.{it}")).display().to_string());
        let answer = asked(&one, &["-cert", &chain, "-key", &key])?;
        assert_eq!(answer.contains("AT AT kiwi"), logged.is_none(), "{file}: {answer}");
        assert_eq!(answer.contains("alert"), logged.is_some(), "{file}: {answer}");
    }
    let answer = asked(&one, &[])?;
    assert!(answer.contains("alert certificate required"), "{answer}");
    one.server.wait_for_log("rejected 127.0.0.1:");
    Ok(())
}

pub fn no_session_can_be_resumed_where_certificates_are_asked_for() -> Outcome {
    tool("openssl")?;
    for (clients, resumes) in [("", true), ("certificates = \"optional\"", false)] {
        let one = One::start("", clients);
        let session = one.certificates.path("session");
        let session = session.to_str().expect("text");
        asked(&one, &["-sess_out", session])?;
        assert_eq!(Path::new(session).exists(), resumes, "{clients}");
    }
    Ok(())
}

/// OpenSSL plays a neighbour that is dialled.
pub fn openssls_server_is_a_neighbour_if_its_certificate_says_so() -> Outcome {
    let certificates = Certificates::new(&["Goloman", "Holiday", "Welsh"]);
    for (shows, words) in [
        ("Holiday", None),
        ("Welsh", Some("it names herd:server:Welsh, and must name uri:herd:server:Holiday")),
    ] {
        let port = reserve();
        let path = |file: String| certificates.path(&file).display().to_string();
        let mut openssl = tool("openssl")?;
        openssl.args(["s_server", "-accept", &port.number.to_string(), "-quiet", "-Verify", "1"]);
        openssl.args(["-verify_return_error", "-CAfile", &path("herd-ca.pem".into())]);
        openssl.args([
            "-cert",
            &path(format!("{shows}.pem")),
            "-key",
            &path(format!("{shows}.key")),
        ]);
        openssl.args(["-alpn", "herd/1", "-rev"]);
        openssl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _running = Running(openssl.spawn().expect("openssl runs"));
        wait_until(LIMIT, "OpenSSL listens", || Client::try_connect(port.address()).is_ok());
        let client = dialer(&certificates, "Goloman", &holiday(), &Revocations::none());
        let stream = TcpStream::connect(port.address()).expect("a connection");
        stream.set_nonblocking(true).expect("it can be set");
        let seen = drive(client.begin(stream).expect("a session"));
        match words {
            None => assert_eq!(seen.bytes, b"enil a\n", "{seen:?}"),
            Some(words) => assert!(seen.words.contains(words), "{}", seen.words),
        }
    }
    Ok(())
}

pub fn openssl_accepts_what_make_certificates_makes() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |mut command: Command| {
        let output = command.current_dir(folder.path()).output().expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command:?}: {text}");
        text
    };
    let mut make = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    make.args(["--make-certificates", "tls", "--client", "kiwi", "--client", "*"]);
    run(make);
    let openssl = |words: &str| {
        let mut openssl = tool("openssl")?;
        openssl.args(words.split(' '));
        Ok(openssl)
    };
    for (ca, file, purposes) in [
        ("herd-ca", "Goloman", &["sslserver", "sslclient"][..]),
        ("clients-ca", "client.kiwi", &["sslclient"]),
    ] {
        for purpose in purposes {
            let words = format!(
                "verify -x509_strict -purpose {purpose} -CAfile tls/{ca}.pem tls/{file}.pem"
            );
            assert!(run(openssl(&words)?).contains("OK"));
        }
        let pair = [
            format!("x509 -in tls/{file}.pem -noout -pubkey"),
            format!("pkey -in tls/{file}.key -pubout"),
        ];
        let [of_certificate, of_key] = pair.map(|words| openssl(&words).map(run));
        assert_eq!(of_certificate?, of_key?);
    }
    let text = run(openssl("x509 -in tls/Goloman.pem -noout -text")?);
    for words in [
        "URI:herd:server:Goloman, DNS:localhost, IP Address:127.0.0.1",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "ASN1 OID: prime256v1",
        "CA:FALSE",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = run(openssl("x509 -in tls/herd-ca.pem -noout -text")?);
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"));
    let text = run(openssl("x509 -in tls/client.%2A.pem -noout -ext subjectAltName")?);
    assert!(text.contains("URI:herd:client:%2A"), "{text}");
    Ok(())
}

pub fn openssls_keys_are_read_in_each_form() -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    for (make, begins) in [
        ("genrsa -traditional -out key 2048", "-----BEGIN RSA PRIVATE KEY-----"),
        ("genpkey -algorithm RSA -out key", "-----BEGIN PRIVATE KEY-----"),
        ("ecparam -name prime256v1 -genkey -noout -out key", "-----BEGIN EC PRIVATE KEY-----"),
        // With its parameters in a section before it.
        ("ecparam -name secp384r1 -genkey -out key", "-----BEGIN EC PARAMETERS-----"),
        ("genpkey -algorithm ed25519 -out key", "-----BEGIN PRIVATE KEY-----"),
    ] {
        for words in [make, "req -x509 -key key -subj /CN=x -days 2 -out pem"] {
            let mut openssl = tool("openssl")?;
            let output = openssl.args(words.split(' ')).current_dir(folder.path()).output();
            assert!(output.expect("openssl runs").status.success(), "{words}");
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("text");
        let (chain, key) = (&read("pem"), &read("key"));
        assert!(key.starts_with(begins), "{key}");
        let judged = judge_own(&Own { chain, key, herd: None }, now());
        assert!(judged.is_ok(), "{make}: {judged:?}");
    }
    Ok(())
}

/// The commands of `docs/security.md`, one block after the other, and what they make.
pub fn the_commands_about_certificates_do_what_the_page_says() -> Outcome {
    tool("openssl")?;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let blocks: Vec<&str> =
        page.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(blocks.len() >= 7, "{blocks:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let herd = crate::common::program::server("Goloman", 4000, "");
    std::fs::write(folder.path().join("herd.toml"), herd).expect("it can be written");
    let bin = Path::new(env!("CARGO_BIN_EXE_herd-mio")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    for block in blocks {
        let mut shell = tool("bash")?;
        shell.args(["-eu", "-c", block]).current_dir(folder.path()).env("PATH", &path);
        let output = shell.output().expect("bash runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{text}");
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("it was made");
    let authorities = &Authorities::from_pem(read("herd-ca.pem").as_bytes()).expect("one");
    let identity = &Identity::of_server("Goloman");
    let judge = |revoked: &Revocations| {
        let (chain, key) = (&read("Goloman.pem"), &read("Goloman.key"));
        let herd = Some(OwnHerd { identity, authorities, revoked });
        judge_own(&Own { chain, key, herd }, now())
    };
    judge(&Revocations::none()).expect("other servers accept it");
    let list = Revocations::from_bytes(read("herd.crl").as_bytes()).expect("a list");
    let error = judge(&list).expect_err("it was revoked").to_string();
    assert!(error.contains("it has been revoked"), "{error}");
    let kiwi = CertificateDer::from_pem_slice(read("kiwi.pem").as_bytes()).expect("PEM");
    let names = ClientNames::of(&Certificate::read(&kiwi).expect("a certificate").names);
    assert!(names.may_speak_for(b"kiwi.example") && names.may_speak_for("café".as_bytes()));
    assert!(!names.may_speak_for(b"kiwi"));
    Ok(())
}
