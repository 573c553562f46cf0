//! A Places service that follows a script, over real TLS, on threads that block: the opposite of
//! the program under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned, version};
use tempfile::TempDir;

use super::{LIMIT, ServerProcess, Setup, wait_until};

/// One thing that the service does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    Send(Vec<u8>),
    /// Each in a record of its own, all in one segment.
    Together(Vec<Vec<u8>>),
    /// The first record whole and of the second one only a half, in one segment; the other half goes
    /// out before whatever is done next.
    AndHalf(Vec<u8>, Vec<u8>),
    /// One byte a record, one record a write.
    Drip(Vec<u8>),
    /// Waits until the test opens the gate.
    Hold,
    /// Takes its time.
    Pause(Duration),
    /// Bytes that are no TLS.
    Noise,
    /// `close_notify`, then the end.
    Close,
    /// The end without `close_notify`.
    Cut,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of all connections, from 1.
    pub connection: usize,
    /// On its connection, from 1.
    pub nth: usize,
    pub text: String,
}

/// How it presents itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Good,
    Expired,
    OtherName,
    UnknownAuthority,
    /// Another authority that bears the trusted one's name.
    ForgedAuthority,
    OnlyTls12,
    /// Accepts, and then says nothing at all.
    SilentBeforeHandshake,
}

type Script = Box<dyn Fn(&Seen) -> Vec<Act> + Send + Sync>;

pub struct Service {
    pub port: u16,
    pub address: SocketAddr,
    pub folder: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    seen: Mutex<Vec<Seen>>,
    gate: (Mutex<bool>, Condvar),
    is_over: AtomicBool,
    connections: AtomicUsize,
    resumed: AtomicUsize,
    asked_now: AtomicUsize,
    asked_most: AtomicUsize,
    acts: AtomicUsize,
    ended: AtomicUsize,
}

impl Service {
    pub fn start(
        identity: Identity,
        script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Service {
        Service::start_at("127.0.0.1", identity, script)
    }

    /// The same at another address of this host.
    pub fn start_at(
        ip: &str,
        identity: Identity,
        script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Service {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Arc::new(tls(identity, folder.path().join("ca.pem")));
        let listener = TcpListener::bind((ip, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let port = address.port();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            seen: Mutex::default(),
            gate: (Mutex::new(false), Condvar::new()),
            is_over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
            asked_now: AtomicUsize::new(0),
            asked_most: AtomicUsize::new(0),
            acts: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        });
        let service = Service { port, address, folder, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (shared, config) = (Arc::clone(&shared), Arc::clone(&config));
                thread::spawn(move || match identity {
                    Identity::SilentBeforeHandshake => shared.hold(),
                    _ => {
                        shared.serve(stream, number, config);
                        shared.ended.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        service
    }

    pub fn good(script: impl Fn(&Seen) -> Vec<Act> + Send + Sync + 'static) -> Service {
        Service::start(Identity::Good, script)
    }

    /// The arguments by which a server asks this service in Nearby Search.
    pub fn arguments(&self) -> Vec<String> {
        self.arguments_at(self.port)
    }

    /// The same by another port, of a proxy say.
    pub fn arguments_at(&self, port: u16) -> Vec<String> {
        let path = "/maps/api/place/nearbysearch/json";
        vec![
            "--places=google".into(),
            format!("--places-url=https://localhost:{port}{path}"),
            format!("--places-ca={}", self.folder.path().join("ca.pem").display()),
        ]
    }

    /// Goloman alone, asking this service, with these settings of `[places]` and more arguments.
    pub fn asked_by_goloman(
        &self,
        key: &str,
        places: &str,
        more: &[&str],
    ) -> (Setup, ServerProcess) {
        let setup = Setup::alone().any_port().section(&format!("[places]\n{places}"));
        let mut command = setup.command("Goloman");
        command.args(self.arguments()).args(more).env("HERD_PLACES_KEY", key);
        let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
        (setup, server)
    }

    pub fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no test panics with it").clone()
    }

    pub fn wait_for_requests(&self, count: usize) {
        wait_until(LIMIT, &format!("{count} requests"), || self.requests().len() >= count);
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Handshakes that took up an earlier session.
    pub fn resumed(&self) -> usize {
        self.shared.resumed.load(Ordering::SeqCst)
    }

    /// Requests that were being answered at once, at most.
    pub fn asked_most(&self) -> usize {
        self.shared.asked_most.load(Ordering::SeqCst)
    }

    /// What it has done so far, each [`Act`] counted.
    pub fn acts(&self) -> usize {
        self.shared.acts.load(Ordering::SeqCst)
    }

    /// Connections that are over.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }

    /// Lets go of all that are held, now and later.
    pub fn open_gate(&self) {
        self.shared.open_gate();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.open_gate();
        _ = TcpStream::connect(self.address); // wakes the one that accepts
    }
}

impl Shared {
    fn open_gate(&self) {
        *self.gate.0.lock().expect("no test panics with it") = true;
        self.gate.1.notify_all();
    }

    fn hold(&self) {
        let is_open = self.gate.0.lock().expect("no test panics with it");
        drop(self.gate.1.wait_timeout_while(is_open, LIMIT, |is_open| !*is_open));
    }

    fn serve(&self, stream: TcpStream, connection: usize, config: Arc<ServerConfig>) {
        _ = stream.set_nodelay(true);
        _ = stream.set_read_timeout(Some(LIMIT));
        let session = ServerConnection::new(config).expect("a session");
        let mut tls = StreamOwned::new(session, stream);
        let mut nth = 0;
        let mut half = Vec::new();
        while let Some(text) = read_request(&mut tls) {
            nth += 1;
            if nth == 1 && tls.conn.handshake_kind() == Some(HandshakeKind::Resumed) {
                self.resumed.fetch_add(1, Ordering::SeqCst);
            }
            let seen = Seen { connection, nth, text };
            self.seen.lock().expect("no test panics with it").push(seen.clone());
            let asked = self.asked_now.fetch_add(1, Ordering::SeqCst) + 1;
            self.asked_most.fetch_max(asked, Ordering::SeqCst);
            let acts = (self.script.lock().expect("no test panics with it"))(&seen);
            let goes_on = acts.into_iter().all(|act| {
                let goes_on = self.act(&mut tls, act, &mut half);
                self.acts.fetch_add(1, Ordering::SeqCst);
                goes_on
            });
            self.asked_now.fetch_sub(1, Ordering::SeqCst);
            if !goes_on {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    fn act(&self, tls: &mut Tls, act: Act, half: &mut Vec<u8>) -> bool {
        if tls.sock.write_all(&std::mem::take(half)).is_err() {
            return false;
        }
        let done = match act {
            Act::Send(bytes) => tls.write_all(&bytes).and_then(|()| tls.flush()),
            Act::Together(pieces) => {
                let records = pieces.iter().flat_map(|piece| records(&mut tls.conn, piece));
                let records: Vec<u8> = records.collect();
                tls.sock.write_all(&records)
            }
            Act::AndHalf(first, second) => {
                let mut bytes = records(&mut tls.conn, &first);
                let second = records(&mut tls.conn, &second);
                let (now, later) = second.split_at(second.len() / 2);
                bytes.extend_from_slice(now);
                half.extend_from_slice(later);
                tls.sock.write_all(&bytes)
            }
            Act::Drip(bytes) => {
                bytes.iter().try_for_each(|byte| tls.write_all(&[*byte]).and_then(|()| tls.flush()))
            }
            Act::Hold => {
                self.hold();
                Ok(())
            }
            Act::Pause(time) => {
                thread::sleep(time);
                Ok(())
            }
            Act::Noise => tls.sock.write_all(b"this is no TLS record at all"),
            Act::Close => {
                tls.conn.send_close_notify();
                _ = tls.conn.complete_io(&mut tls.sock);
                Err(ErrorKind::ConnectionAborted.into())
            }
            Act::Cut => Err(ErrorKind::ConnectionAborted.into()),
        };
        done.is_ok()
    }
}

/// Text as TLS sends it.
fn records(session: &mut ServerConnection, text: &[u8]) -> Vec<u8> {
    session.writer().write_all(text).expect("the session takes it");
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records).expect("memory takes it");
    }
    records
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Head and body of the next request; none at the end, or where the handshake fails.
fn read_request(tls: &mut Tls) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        match tls.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    tls.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

fn tls(identity: Identity, ca_file: PathBuf) -> ServerConfig {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        CertifiedIssuer::self_signed(params, key).expect("an authority")
    };
    let trusted = authority("trusted");
    std::fs::write(ca_file, trusted.pem()).expect("a file");
    let name = if identity == Identity::OtherName { "elsewhere" } else { "localhost" };
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    if identity == Identity::Expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    let issuer = match identity {
        Identity::UnknownAuthority => authority("unknown"),
        Identity::ForgedAuthority => authority("trusted"),
        _ => trusted,
    };
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let versions: &[_] = match identity {
        Identity::OnlyTls12 => &[&version::TLS12],
        _ => &[&version::TLS13, &version::TLS12],
    };
    let chain = vec![CertificateDer::from(certificate)];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
    ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration")
}

/// An answer of HTTP status 200 with this body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    with_head(&format!("200 OK\r\nContent-Length: {}", body.as_ref().len()), body)
}

/// The same with a head of its own, from the status on.
pub fn with_head(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body.as_ref()].concat()
}

/// What a test waits for at most that nothing comes.
pub const A_MOMENT: Duration = Duration::from_millis(200);
