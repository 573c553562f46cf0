//! A client that speaks TLS, with any certificate of a test, or with none.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::certificates::Certificates;
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
        let stream = TcpStream::connect_timeout(&address, LIMIT).expect("the port");
        CertifiedClient::over(stream, certificates, shows)
    }

    /// The same over a connection that is there.
    pub fn over(
        stream: TcpStream,
        certificates: &Certificates,
        shows: Option<&str>,
    ) -> CertifiedClient {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config(certificates, shows)), name);
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

fn config(certificates: &Certificates, shows: Option<&str>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let herd = CertificateDer::from_pem_slice(certificates.read("herd-ca.pem").as_bytes());
    roots.add(herd.expect("a certificate")).expect("an authority");
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    match shows {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = certificates.read(&format!("{name}.pem"));
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
            let key = certificates.read(&format!("{name}.key"));
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
            builder.with_client_auth_cert(chain, key).expect("a certificate that can be shown")
        }
    }
}
