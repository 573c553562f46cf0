//! Clients of others on a loop that takes plain text and TLS at one port: socat and OpenSSL.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use herd_mio::application::TlsVersion;
use herd_mio::event_loop::{Security, Silent};
use herd_mio::tls::{ServerSettings, ServerTls};

use crate::common::needs::{Missing, Outcome, tool};
use crate::common::process::Running as Process;
use crate::loop_tls_world::{Pki, Running, Start, ask};

/// socat sends close_notify at the end of its input, then reads on.
pub fn socat_half_closes_by_close_notify_and_gets_the_answers_it_is_owed() -> Outcome {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    let authority = pki.certificates.path("herd-ca.pem");
    let address =
        format!("OPENSSL:{},cafile={},commonname=localhost", running.address, authority.display());
    let mut socat = tool("socat")?;
    socat.args(["-t", "30", "-", &address]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut socat = socat.spawn().expect("socat runs");
    let mut input = socat.stdin.take().expect("it is piped");
    input.write_all(b"a line\nwait\n").expect("socat reads");
    drop(input);
    running.await_event("waits");
    running.send("go");
    let output = socat.wait_with_output().expect("socat ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a line!\nlate!\n");
    assert_eq!(running.await_event("closed"), "closed 1.3: Finished");
    running.stop();
    Ok(())
}

pub fn openssl_speaks_the_versions_that_a_listener_takes() -> Outcome {
    let pki = Pki::new();
    let from = |min_version| {
        let tls = ServerTls::with(ServerSettings {
            chain: &pki.certificates.read("Goloman.pem"),
            key: &pki.certificates.read("Goloman.key"),
            clients: None,
            alpn: &["herd/1"],
            min_version,
            resumes: true,
        });
        let tls = tls.expect("certificates");
        Start::with(Security::Either { tls, silent: Silent::Open }).run()
    };
    let running = from(TlsVersion::V1_2);
    for (how, version) in [("-tls1_2", "1.2"), ("-tls1_3", "1.3")] {
        let mut openssl = s_client(&pki, &running, &[how])?;
        let mut input = openssl.0.stdin.take().expect("it is piped");
        input.write_all(b"a line\n").expect("OpenSSL reads");
        let mut answer = String::new();
        let output = openssl.0.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut answer).expect("an answer");
        assert_eq!(answer, "a line!\n");
        assert_eq!(running.await_event("open"), format!("open at 0: {version}"));
    }
    let _browser = s_client(&pki, &running, &["-alpn", "h2"])?;
    let why = running.await_event("refused");
    assert!(why.starts_with("refused Protocol: "), "{why}");
    assert_eq!(ask(&mut running.connect(), "plain"), "plain!");
    running.stop();
    let running = from(TlsVersion::V1_3);
    let _old = s_client(&pki, &running, &["-tls1_2"])?;
    let why = running.await_event("refused");
    assert!(why.starts_with("refused Protocol: "), "{why}");
    running.stop();
    Ok(())
}

fn s_client(pki: &Pki, running: &Running, how: &[&str]) -> Result<Process, Missing> {
    let mut openssl = tool("openssl")?;
    openssl.args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost"]);
    openssl.args(["-connect", &running.address.to_string(), "-CAfile"]);
    openssl.arg(pki.certificates.path("herd-ca.pem")).args(how);
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child: Child = openssl.spawn().expect("OpenSSL runs");
    Ok(Process(child))
}
