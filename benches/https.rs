//! What HTTPS costs: a handshake, a resumed one, a query over a kept connection.
//!
//! The handshakes are both sides' work, on one thread; the query is answered by the real binary, in
//! two processes with the log off. Compare figures of one run only.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use criterion::{Criterion, criterion_group, criterion_main};
use herd_mio::tls::certificates::{self, Service};
use herd_mio::tls::{Authorities, ClientTls, Remedies, ServerTls};

/// Both ends of a connection agree on keys, and a byte goes each way, the tickets before it.
fn shake_hands(client: &ClientTls, server: &ServerTls, listener: &TcpListener) {
    let address = listener.local_addr().expect("an address");
    let near = TcpStream::connect(address).expect("a connection");
    let (far, _) = listener.accept().expect("a connection");
    let [near, far] = [near, far].map(|stream| {
        stream.set_nonblocking(true).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        stream
    });
    let mut client = client.begin(near).expect("a session");
    let mut server = server.begin(far).expect("a session");
    let _ = client.write(b"?");
    let mut answered = false;
    let mut byte = [0];
    loop {
        let _ = client.flush();
        match server.read(&mut byte) {
            Ok(1) => answered = server.write(b"!").is_ok(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
        let _ = server.flush();
        match client.read(&mut byte) {
            Ok(1) => return assert!(answered),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
    }
}

fn handshakes(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service { file: "places", mark: "a bench" };
    let identity = certificates::keep(folder.path(), service).expect("certificates");
    let server = ServerTls::new(&identity.certificate, &identity.key, None, &["http/1.1"])
        .expect("a server");
    let trusted = std::fs::read(folder.path().join(certificates::CA)).expect("a file");
    let trusted = Authorities::from_pem(&trusted).expect("an authority");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = || {
        let client =
            ClientTls::new("localhost", Some(&trusted), &["http/1.1"], Remedies::default());
        client.expect("a client")
    };
    criterion.bench_function("a full handshake, both sides", |bencher| {
        bencher.iter(|| shake_hands(&client(), &server, &listener));
    });
    let known = client();
    shake_hands(&known, &server, &listener);
    criterion.bench_function("a resumed handshake, both sides", |bencher| {
        bencher.iter(|| shake_hands(&known, &server, &listener));
    });
}

/// A process that ends with the value.
struct Process(Child, String);

impl Process {
    fn start(arguments: &[&str], folder: &Path) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_herd-mio"))
            .args(arguments)
            .args(["--log-level", "off", "--log-dir"])
            .arg(folder)
            .env("HERD_PLACES_KEY", "sesame")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut line = String::new();
        let stderr = child.stderr.as_mut().expect("it is piped");
        BufReader::new(stderr).read_line(&mut line).expect("a word");
        let rest = line.split("listens on ").nth(1).expect("a port");
        let address = rest.split([',', '\n']).next().expect("a port").to_owned();
        Process(child, address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn query(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let service = ["--places-server", "127.0.0.1:0", "--tls-dir", &path("")];
    let service = Process::start(&service, folder.path());
    let port = service.1.rsplit(':').next().expect("a port");
    let url = format!("https://localhost:{port}/maps/api/place/nearbysearch/json");
    std::fs::write(path("one.toml"), "[[server]]\nname = \"A\"\nlisten = \"127.0.0.1:0\"\n")
        .expect("a configuration");
    let (config, ca) = (path("one.toml"), path(certificates::CA));
    let server = ["--server", "A", "--config", &config, "--places", "google", "--places-url", &url];
    let server = [&server[..], &["--places-ca", &ca]].concat();
    let server = Process::start(&server, folder.path());
    let mut stream = TcpStream::connect(&server.1).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut line = String::new();
    stream.write_all(b"IAMAT kiwi +34.068930-118.445127 1559865055.5\n").expect("sent");
    reader.read_line(&mut line).expect("answered");
    let mut number = 0;
    criterion.bench_function("a WHATSAT over a kept connection", |bencher| {
        bencher.iter(|| {
            number += 1;
            let radius = format!("{}.{:03}", 5 + number % 20, number % 1000);
            stream.write_all(format!("WHATSAT kiwi {radius} 5\n").as_bytes()).expect("sent");
            line.clear();
            while !line.ends_with("\n\n") {
                reader.read_line(&mut line).expect("answered");
            }
            assert!(line.contains("\"status\" : \"OK\""), "{line}");
        });
    });
}

criterion_group!(benches, handshakes, query);
criterion_main!(benches);
