//! The client's end of a TLS connection: lines out, lines in.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::LIMIT;

pub struct TlsClient {
    stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl TlsClient {
    /// Connects, trusts the authorities in the file `ca`, and shows a certificate and its key, if one is given. The server
    /// is known as localhost.
    pub fn connect(address: SocketAddr, ca: &Path, own: Option<(&Path, &Path)>) -> TlsClient {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(ca).expect("a file") {
            roots.add(root.expect("PEM")).expect("an authority");
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_file_iter(chain).expect("a file");
                let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                config.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let stream = TcpStream::connect_timeout(&address, LIMIT).expect("it listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        TlsClient { stream: StreamOwned::new(session, stream), received: Vec::new() }
    }

    /// Sends a line and returns the one that answers; an error once the connection is closed.
    pub fn try_ask(&mut self, line: &str) -> std::io::Result<String> {
        self.stream.write_all(format!("{line}\n").as_bytes())?;
        self.stream.flush()?;
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => self.received.extend(&bytes[..count]),
            }
        }
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|error| panic!("no answer to {line:?}: {error}"))
    }

    /// Whether the other side closes within the time.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.stream.sock.set_read_timeout(Some(limit)).expect("a timeout");
        match self.stream.read(&mut [0; 64]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}
