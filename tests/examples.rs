//! Claim: over real sockets each example does what its first lines say, whatever its clients do.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

/// A running example. Dropping it ends its process.
struct Example {
    address: SocketAddr,
    child: Child,
}

impl Example {
    fn run(name: &str, words: &[&str]) -> Example {
        let mut child = Command::new(built().join(name))
            .arg("0") // any free port
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was built");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("text");
        let address = line.trim().strip_prefix("listening on ").expect("its address");
        Example { address: address.parse().expect("an address"), child }
    }

    fn connect(&self) -> TcpStream {
        limited(TcpStream::connect(self.address).expect("it listens"))
    }

    /// Resident memory in bytes; 0 where the kernel does not say.
    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.unwrap_or_default() * 1024
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder with the examples, built with this test's profile: `cargo test --test examples` alone does not
/// build them.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let profile = std::env::current_exe().expect("a path"); // <target>/<profile>/deps/<this>
        let profile = profile.ancestors().nth(2).expect("a folder").to_owned();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--manifest-path"]);
        build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        build.env("CARGO_TARGET_DIR", profile.parent().expect("a folder"));
        // Without the variables that cargo sets for this test: they would make build scripts run again
        // (ring's do).
        let of_the_package =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_", "OUT_DIR"];
        for (name, _) in std::env::vars_os() {
            if of_the_package.iter().any(|begin| name.to_string_lossy().starts_with(begin)) {
                build.env_remove(name);
            }
        }
        if profile.ends_with("release") {
            build.arg("--release");
        }
        for name in ["echo", "chat", "proxy", "hello"] {
            build.args(["--example", name]);
        }
        assert!(build.status().expect("cargo runs").success(), "the examples build");
        profile.join("examples")
    })
}

/// How long a test waits for what must happen, even on a loaded machine; a test that passes never waits this
/// long.
const LIMIT: Duration = Duration::from_secs(30);

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream.set_write_timeout(Some(LIMIT)).expect("a socket");
    stream
}

fn send(mut stream: &TcpStream, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).expect("a write");
}

/// Reads exactly what is expected next.
#[track_caller]
fn expect(mut stream: &TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).expect("it comes");
    assert_eq!(String::from_utf8_lossy(&got), text);
}

/// Reads to the end of the stream.
fn rest(mut stream: &TcpStream) -> String {
    let mut got = String::new();
    stream.read_to_string(&mut got).expect("text, and the end");
    got
}

#[test]
fn echo_sends_back_a_line_and_half_a_line() {
    let echo = Example::run("echo", &[]);
    let client = echo.connect();
    send(&client, "a line\nand an");
    expect(&client, "a line\n");
    send(&client, "other one\n");
    expect(&client, "and another one\n");
    send(&client, "half a line");
    client.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(rest(&client), "half a line\n", "the end of the stream ends the line");
}

#[test]
fn echo_closes_a_client_whose_line_is_too_long_and_no_other() {
    let echo = Example::run("echo", &[]);
    let (other, client) = (echo.connect(), echo.connect());
    send(&client, vec![b'x'; 4097]);
    assert_eq!(rest(&client), "");
    send(&other, "still here\n");
    expect(&other, "still here\n");
}

#[test]
fn a_chat_member_that_never_reads_does_not_stop_the_others() {
    const LINES: usize = 20_000;
    let chat = Example::run("chat", &[]);
    let join = |name: &str| {
        let member = chat.connect();
        expect(&member, "Your name?\n");
        send(&member, format!("{name}\n"));
        member
    };
    let (_deaf, speaker, listener) = (join("deaf"), join("ann"), join("bob"));
    send(&listener, "here\n"); // Once this arrives, it has joined.
    expect(&speaker, "bob: here\n");
    expect(&listener, "bob: here\n");
    let before = chat.resident_bytes();
    let mut listening = BufReader::new(&listener);
    let mut own = BufReader::new(&speaker);
    // In portions, so that no member that reads falls behind the history.
    for portion in 0..LINES / 100 {
        let lines: Vec<String> = (0..100).map(|nth| format!("line {portion}.{nth}")).collect();
        send(&speaker, lines.join("\n") + "\n");
        for reader in [&mut listening, &mut own] {
            for line in &lines {
                let mut got = String::new();
                reader.read_line(&mut got).expect("a line");
                assert_eq!(got, format!("ann: {line}\n"));
            }
        }
    }
    let grown = chat.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes are held for a member that does not read");
}

/// A proxy, and the listener of the server behind it.
fn proxied() -> (Example, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address").to_string();
    (Example::run("proxy", &[&address]), server)
}

fn accept(server: &TcpListener) -> TcpStream {
    limited(server.accept().expect("the proxy dials").0)
}

/// Writes `count` bytes and ends its side.
fn write_all(stream: &TcpStream, count: usize) -> JoinHandle<()> {
    let mut stream = stream.try_clone().expect("a second handle");
    thread::spawn(move || {
        let bytes: Vec<u8> = (0..count).map(|nth| nth as u8).collect();
        stream.write_all(&bytes).expect("a write");
        stream.shutdown(Shutdown::Write).expect("it is open");
    })
}

/// Reads to the end, and checks every byte.
fn read_all(mut stream: &TcpStream) -> usize {
    let (mut into, mut count) = (vec![0; 1 << 16], 0);
    loop {
        match stream.read(&mut into).expect("bytes or the end") {
            0 => return count,
            read => {
                let is_right = |(nth, byte): (usize, &u8)| *byte == (count + nth) as u8;
                assert!(into[..read].iter().enumerate().all(is_right), "after {count} bytes");
                count += read;
            }
        }
    }
}

#[test]
fn the_proxy_carries_20_mb_and_the_half_close_in_each_direction() {
    const AMOUNT: usize = 20_000_000;
    let (proxy, server) = proxied();
    let client = proxy.connect();
    let behind = accept(&server);
    let before = proxy.resident_bytes();
    let writer = write_all(&client, AMOUNT);
    assert_eq!(read_all(&behind), AMOUNT);
    writer.join().expect("it has written all");
    // The client's side has ended; the other one is still open.
    let writer = write_all(&behind, AMOUNT);
    assert_eq!(read_all(&client), AMOUNT);
    writer.join().expect("it has written all");
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "the proxy must not read ahead, but holds {grown} bytes");
}

#[test]
fn the_proxy_carries_both_directions_at_once() {
    const AMOUNT: usize = 5_000_000;
    let (proxy, server) = proxied();
    let client = proxy.connect();
    let behind = accept(&server);
    let writers = [write_all(&client, AMOUNT), write_all(&behind, AMOUNT)];
    let other = behind.try_clone().expect("a second handle");
    let reader = thread::spawn(move || read_all(&other));
    assert_eq!(read_all(&client), AMOUNT);
    assert_eq!(reader.join().expect("it has read all"), AMOUNT);
    for writer in writers {
        writer.join().expect("it has written all");
    }
}

#[test]
fn a_reset_ends_the_other_side_of_the_proxy_without_another_event() {
    let (proxy, server) = proxied();
    let client = proxy.connect();
    let behind = accept(&server);
    send(&client, "x");
    expect(&behind, "x");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(client); // With this linger time it sends a reset.
    assert_eq!(rest(&behind), "");
    let client = proxy.connect();
    let behind = accept(&server);
    send(&behind, "y");
    expect(&client, "y");
    SockRef::from(&behind).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(behind);
    assert_eq!(rest(&client), "");
}

#[test]
fn the_proxy_closes_a_client_if_it_cannot_reach_the_server() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let proxy = Example::run("proxy", &[&gone.to_string()]);
    let ended = proxy.connect().read(&mut [0]);
    assert!(
        matches!(ended, Ok(0)) || ended.is_err_and(|it| it.kind() == ErrorKind::ConnectionReset)
    );
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}\n", body.len() + 1)
}

#[test]
fn hello_answers_pipelined_requests_in_order_including_those_computed_by_a_thread() {
    let hello = Example::run("hello", &[]);
    let client = hello.connect();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let (quick, slow) = (request("/"), request("/slow"));
    send(&client, [quick.repeat(40), slow, quick].concat());
    expect(&client, &(answer("hello").repeat(40) + &answer("500000500000") + &answer("hello")));
    // A request in pieces, which is also the last one.
    for piece in ["GET /", " HTTP/1.1\r\nConnection: cl", "ose\r\n\r\n"] {
        send(&client, piece);
    }
    assert_eq!(rest(&client), answer("hello"));
    let client = hello.connect();
    send(&client, request("/elsewhere"));
    expect(&client, "HTTP/1.1 404 Not Found\r\n");
    let client = hello.connect();
    send(&client, "good morning\r\n\r\n");
    assert!(rest(&client).starts_with("HTTP/1.1 400 Bad Request\r\n"));
    let client = hello.connect();
    send(&client, "GET /slow HTTP/1.1\r\nConnection: close\r\n\r\n");
    client.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(
        rest(&client),
        answer("500000500000"),
        "a client that has ended its side gets the answer, too"
    );
}
