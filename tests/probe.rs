//! Claim: `--probe` exits with status 0 if a server answers 200 within two seconds, and otherwise with 1 and one line that
//! says why.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use common::program::{herd_mio, text};
use common::tls_server::{TlsServer, authority, authority_params, issued, names, self_signed};
use common::{LIMIT, Setup};

#[test]
fn a_server_that_is_well_is_seen_to_be() {
    let setup = Setup::alone().any_port();
    let server = setup.start_with("Goloman", &["--admin", "127.0.0.1:0"]);
    let admin = server.admin();
    for path in ["/livez", "/readyz", "/healthz?strict=1", "/metrics"] {
        assert_eq!(probe(&format!("http://{admin}{path}")), (Some(0), String::new()), "{path}");
    }
    let (status, why) = probe(&format!("http://{admin}/nothing"));
    assert_eq!((status, why), (Some(1), format!("http://{admin}/nothing: status 404")));
    let by_name = format!("http://localhost:{}/livez", admin.port());
    assert_eq!(probe(&by_name).0, Some(0));
    server.stop();
    let (status, why) = probe(&format!("http://{admin}/livez"));
    assert!(status == Some(1) && why.ends_with("Connection refused"), "{why}");
}

#[test]
fn a_server_that_waits_for_its_neighbours_is_not_ready_and_lives() {
    let setup = Setup::star(&["Hands"]);
    let _silent = setup.play("Hands");
    let server = setup.start_with("Goloman", &["--admin", "127.0.0.1:0"]);
    let admin = server.admin();
    let (status, why) = probe(&format!("http://{admin}/readyz"));
    assert_eq!((status, why), (Some(1), format!("http://{admin}/readyz: status 503")));
    assert_eq!(probe(&format!("http://{admin}/livez")).0, Some(0));
}

#[test]
fn only_the_status_counts_and_no_other_line_is_waited_for() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx", Ok(())),
        ("HTTP/1.1 200 OK\r\n\r\n", Ok(())),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.1 204 No Content\r\n\r\n", Err("status 204")),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", Err("status 302")),
        ("HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\n", Err("status 503")),
        ("", Err("closed")),
        ("HTTP/1.1 2", Err("cut")),
        ("AT AT kiwi\r\n\r\n", Err("HTTP")),
    ] {
        // With a body that is announced and never sent, it stays open; else it is closed.
        let holds = answer.ends_with('x');
        let server = TlsServer::start(move |mut stream| {
            let mut head = [0; 4096];
            _ = stream.read(&mut head);
            _ = stream.write_all(answer.as_bytes());
            if holds {
                _ = stream.read(&mut head);
            }
        });
        let (status, why) = probe(&format!("http://127.0.0.1:{}/", server.port));
        match expected {
            Ok(()) => assert_eq!((status, why.as_str()), (Some(0), ""), "{answer:?}"),
            Err(part) => assert!(status == Some(1) && why.contains(part), "{answer:?}: {why}"),
        }
    }
}

#[test]
fn a_server_that_says_nothing_is_waited_for_for_two_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    for (scheme, stage) in [("http", "no answer"), ("https", "no TLS")] {
        let begin = Instant::now();
        let (status, why) = probe(&format!("{scheme}://{address}/"));
        assert_eq!(status, Some(1));
        assert_eq!(why, format!("{scheme}://{address}/: {stage} within 2 s"));
        assert!(begin.elapsed() >= Duration::from_secs(2) && begin.elapsed() < LIMIT);
    }
}

#[test]
fn an_answer_byte_by_byte_has_no_more_time_than_one_at_once() {
    let server = TlsServer::start(|mut stream| {
        let mut head = [0; 4096];
        _ = stream.read(&mut head);
        let bytes = b"HTTP/1.1 200 OK\r\nX: ".iter().chain([b'x'; 10_000].iter());
        _ = bytes.into_iter().try_for_each(|byte| {
            std::thread::sleep(Duration::from_millis(10));
            stream.write_all(&[*byte])
        });
    });
    let (status, why) = probe(&format!("http://127.0.0.1:{}/", server.port));
    assert!(status == Some(1) && why.ends_with("no answer within 2 s"), "{why}");
}

#[test]
fn an_address_of_ipv6_is_written_in_brackets() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("IPv6 on loopback");
    let address: SocketAddr = listener.local_addr().expect("an address");
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = vec![0; 4096];
        let count = stream.read(&mut head).expect("a request");
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        String::from_utf8_lossy(&head[..count]).into_owned()
    });
    assert_eq!(probe(&format!("http://{address}/livez?x=1")), (Some(0), String::new()));
    let asked = asked.join().expect("no panic");
    let request =
        format!("GET /livez?x=1 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    assert_eq!(asked, request);
}

#[test]
fn over_https_a_server_is_trusted_that_the_file_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    let trusted = authority(authority_params("trusted"));
    std::fs::write(&ca, trusted.pem()).expect("a file");
    let server = issued(names(&["localhost"]), &trusted).serve();
    let url = format!("https://localhost:{}/livez", server.port);
    assert_eq!(probe_with(&url, &ca), (Some(0), String::new()));
    let (status, why) = probe(&url);
    assert!(status == Some(1) && why.contains("--probe-ca"), "the built-in roots: {why}");
    let (status, why) = probe_with(&format!("https://127.0.0.1:{}/", server.port), &ca);
    assert!(status == Some(1) && why.contains("127.0.0.1"), "another name: {why}");
    let (other, _) = self_signed(names(&["localhost"]));
    let (status, why) = probe_with(&format!("https://localhost:{}/", other.serve().port), &ca);
    assert!(status == Some(1) && !why.is_empty(), "another authority: {why}");
    let (status, why) = probe_with(&url, &folder.path().join("none.pem"));
    assert!(status == Some(1) && why.contains("none.pem: No such file"), "{why}");
    let (status, why) = probe_with(&url, folder.path());
    assert!(status == Some(1) && why.contains("not a regular file"), "{why}");
}

#[test]
fn a_port_that_speaks_the_other_one_of_http_and_https_is_not_well() {
    let setup = Setup::alone().any_port();
    let server = setup.start_with("Goloman", &["--admin", "127.0.0.1:0"]);
    let (status, why) = probe(&format!("https://{}/livez", server.admin()));
    assert!(status == Some(1) && !why.is_empty(), "{why}");
    let (status, why) = probe(&format!("http://{}/livez", server.clients));
    assert!(status == Some(1) && !why.is_empty(), "{why}");
}

#[test]
fn a_url_that_is_none_is_a_mistake_on_the_command_line() {
    for url in ["127.0.0.1:1/livez", "ftp://a/", "http://a b/", "http://"] {
        let output = herd_mio(&["--probe", url]);
        assert_eq!(output.status.code(), Some(2), "{url}");
        assert!(text(&output.stderr).contains("for --probe: expected an http:// or https://"));
    }
}

fn probe(url: &str) -> (Option<i32>, String) {
    ended(herd_mio(&["--probe", url]))
}

fn probe_with(url: &str, ca: &Path) -> (Option<i32>, String) {
    ended(herd_mio(&["--probe", url, "--probe-ca", ca.to_str().expect("text")]))
}

/// The status, and the reason: one line, or none.
fn ended(output: Output) -> (Option<i32>, String) {
    let why = text(&output.stderr);
    assert_eq!(why.lines().count(), usize::from(output.status.code() != Some(0)), "{why}");
    assert!(output.stdout.is_empty());
    let why = why.trim_end().strip_prefix("herd-mio: ").unwrap_or(&why).to_owned();
    (output.status.code(), why)
}
