//! Handshakes over a socket, and the two sides of an edge between servers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use herd_mio::application::{HandshakeFailure, TlsVersion};
use herd_mio::tls::{
    ClientAuthority, ClientTls, Identity, PeerSettings, Revocations, ServerSettings, ServerTls,
    TlsStream,
};

use super::LIMIT;
use super::certificates::Certificates;

/// How one side's handshake ended, and what it read then.
#[derive(Debug, Default)]
pub struct Seen {
    pub failure: Option<HandshakeFailure>,
    pub words: String,
    pub resumed: bool,
    pub version: Option<TlsVersion>,
    pub chain: usize,
    pub bytes: Vec<u8>,
}

/// Drives one side: the handshake, then it writes a line and reads one.
pub fn drive(mut stream: TlsStream<TcpStream>) -> Seen {
    let mut seen = Seen::default();
    let begin = Instant::now();
    let mut is_written = false;
    let mut into = [0; 256];
    while begin.elapsed() < LIMIT {
        if !stream.is_handshaking() && !is_written {
            is_written = stream.write(b"a line\n").is_ok();
        }
        if is_written && seen.bytes.ends_with(b"\n") && stream.flush().is_ok() {
            break;
        }
        let step = stream.flush().and_then(|()| stream.read(&mut into));
        match step {
            Ok(0) => break,
            Ok(count) => seen.bytes.extend_from_slice(&into[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                seen.failure = Some(stream.handshake_failure(&error));
                seen.words = stream.explain(&error);
                break;
            }
        }
    }
    seen.version = stream.version();
    seen.resumed = stream.is_resumed();
    seen.chain = stream.peer_chain().len();
    let _ = stream.close();
    seen
}

/// Accepts one connection, at the address that it returns, and drives it.
pub fn accept_one(server: &ServerTls) -> (SocketAddr, JoinHandle<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = server.clone();
    let accepting = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_nonblocking(true).expect("it can be set");
        drive(server.begin(stream).expect("a session"))
    });
    (address, accepting)
}

/// A handshake over a socket: what the dialer saw, and the acceptor.
pub fn shake(client: &ClientTls, server: &ServerTls) -> (Seen, Seen) {
    let (address, accepting) = accept_one(server);
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nonblocking(true).expect("it can be set");
    let dialer = drive(client.begin(stream).expect("a session"));
    (dialer, accepting.join().expect("no panic"))
}

/// The acceptor of neighbours named `name`, with a list of revoked certificates or none.
pub fn acceptor(certificates: &Certificates, name: &str, revoked: &Revocations) -> ServerTls {
    let authorities = &certificates.authorities("herd-ca.pem");
    let settings = ServerSettings {
        chain: &certificates.read(&format!("{name}.pem")),
        key: &certificates.read(&format!("{name}.key")),
        clients: Some(ClientAuthority { authorities, revoked, required: true }),
        alpn: &["herd/1"],
        min_version: TlsVersion::V1_3,
        resumes: false,
    };
    ServerTls::with(settings).expect("a server").naming("the neighbour", "[tls.neighbours] ca")
}

/// A dialer with the certificate in `own` that expects the server `dials`.
pub fn dialer(
    certificates: &Certificates,
    own: &str,
    dials: &Identity,
    revoked: &Revocations,
) -> ClientTls {
    ClientTls::of_server(PeerSettings {
        identity: dials,
        host: "holiday.example",
        authorities: &certificates.authorities("herd-ca.pem"),
        revoked,
        chain: &certificates.read(&format!("{own}.pem")),
        key: &certificates.read(&format!("{own}.key")),
        alpn: &["herd/1"],
    })
    .expect("a client")
}

/// The identity of the server Holiday.
pub fn holiday() -> Identity {
    Identity::of_server("Holiday")
}

/// Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs() as i64
}
