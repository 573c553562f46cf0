//! A client that speaks TLS, with any certificate of a test, or with none.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::certificates::{Certificates, Pair};
use super::{LIMIT, Next, shown};

/// See the module's description.
pub struct CertifiedClient {
    tls: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl CertifiedClient {
    /// Connects, trusting `herd-ca.pem`. It shows the certificate of that name, if one is named.
    pub fn connect(
        address: SocketAddr,
        certificates: &Certificates,
        shows: Option<&str>,
    ) -> CertifiedClient {
        CertifiedClient::over(connect(address), certificates, shows)
    }

    /// The same over a connection that is there.
    pub fn over(
        stream: TcpStream,
        certificates: &Certificates,
        shows: Option<&str>,
    ) -> CertifiedClient {
        let authorities = certificates.read("herd-ca.pem");
        let shows = shows.map(|file| certificates.pair(file));
        CertifiedClient::begin(stream, config(&authorities, shows))
    }

    /// Connects, trusting other authorities (PEM). It shows a certificate of these, if one is named.
    pub fn trusting(
        address: SocketAddr,
        authorities: &str,
        shows: Option<(&Certificates, &str)>,
    ) -> CertifiedClient {
        let shows = shows.map(|(certificates, file)| certificates.pair(file));
        CertifiedClient::begin(connect(address), config(authorities, shows))
    }

    fn begin(stream: TcpStream, config: ClientConfig) -> CertifiedClient {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name);
        let tls = StreamOwned::new(session.expect("a session"), stream);
        CertifiedClient { tls, received: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let sent = self.tls.write_all(bytes).and_then(|()| self.tls.flush());
        sent.unwrap_or_else(|error| {
            panic!("sending {}: {error}", shown(&bytes[..bytes.len().min(80)]))
        });
    }

    /// The same where the other side may have gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        _ = self.tls.write_all(bytes.as_ref()).and_then(|()| self.tls.flush());
    }

    /// Sends a line and returns the one that answers.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\n"));
        self.line()
    }

    /// The same where the other side may close instead: None then.
    pub fn try_ask(&mut self, line: &str) -> Option<String> {
        self.try_send(format!("{line}\n"));
        match self.next() {
            Next::Line(line) => Some(String::from_utf8_lossy(&line).into_owned()),
            _ => None,
        }
    }

    /// Whether the other side closes within the time.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.tls.sock.set_read_timeout(Some(limit)).expect("a limit");
        matches!(self.next(), Next::End(_) | Next::Reset)
    }

    /// The next line; anything else fails the test.
    pub fn line(&mut self) -> String {
        match self.next() {
            Next::Line(line) => String::from_utf8_lossy(&line).into_owned(),
            other => panic!("a line was due, this came: {other:?}"),
        }
    }

    /// The next line, or what came instead. An alert counts as a reset.
    pub fn next(&mut self) -> Next {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.received.drain(..=end).collect();
                line.pop();
                return Next::Line(line);
            }
            let mut bytes = [0; 4096];
            match self.tls.read(&mut bytes) {
                Ok(0) => return Next::End(std::mem::take(&mut self.received)),
                Ok(count) => self.received.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Silence,
                Err(_) => return Next::Reset,
            }
        }
    }

    /// All that comes up to the end, which must be one of TLS.
    pub fn rest(&mut self) -> String {
        let mut all = std::mem::take(&mut self.received);
        self.tls.read_to_end(&mut all).expect("an end of TLS");
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Says that nothing more follows.
    pub fn end(&mut self) {
        self.tls.conn.send_close_notify();
        self.tls.flush().expect("it is sent");
    }

    /// Ends the connection below TLS, as somebody on the way could.
    pub fn cut(&mut self) {
        self.tls.sock.shutdown(Shutdown::Write).expect("it is connected");
    }

    pub fn local(&self) -> SocketAddr {
        self.tls.sock.local_addr().expect("an address")
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, LIMIT).expect("the port")
}

fn config(authorities: &str, shows: Option<Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(authority.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    match shows {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).expect("a certificate that can be shown")
        }
    }
}
