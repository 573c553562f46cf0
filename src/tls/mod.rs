//! TLS: all calls to rustls are in this folder.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | configurations, for clients and servers |
//! | `stream.rs` | TLS over a stream that does not block |
//! | `records.rs` | the boundaries of records |
//! | `trust.rs` | which certificates are trusted |
//! | `explain.rs` | errors of rustls, webpki and the system in words |
//! | `names.rs` | names in certificates |
//! | `expiry.rs` | until when certificates are valid |
//! | `certificates.rs` | one's own certificates, made and kept in a folder |
//!
//! Nothing here knows sockets, polling or what is sent over TLS.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection, crypto};

pub use expiry::{CertificateUse, Expiry};
use explain::{Other, explain_setup, plain_pem};
pub use explain::{is_of_tls, plain};
pub use names::{Identity, Names};
pub use stream::TlsStream;
pub use trust::Authorities;
use trust::Trust;

pub mod certificates;
mod expiry;
mod explain;
pub mod names;
mod records;
mod stream;
#[cfg(test)]
mod tests;
mod trust;

/// The TLS configuration of a client of one host.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
    other: Arc<Other>,
}

impl ClientTls {
    /// Trusts `authorities`, or the built-in roots. Sessions are resumed. `alpn` lists the protocols to offer
    /// (RFC 7301), the preferred one first; if it is empty, none is offered. `remedies` are for messages.
    pub fn new(
        host: &str,
        authorities: Option<&Authorities>,
        alpn: &[&str],
        remedies: Remedies,
    ) -> Result<ClientTls, TlsError> {
        let bad_host = || TlsError::Host(host.to_owned());
        let name = ServerName::try_from(host.to_owned()).map_err(|_| bad_host())?;
        let provider = Arc::new(crypto::ring::default_provider());
        let trust = Trust::new(authorities, Arc::clone(&provider))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous() // rustls's name for any verifier but its own; see `trust.rs`
            .with_custom_certificate_verifier(trust)
            .with_no_client_auth();
        config.alpn_protocols = protocols(alpn);
        let other = Arc::new(Other { name: host.to_owned(), remedies });
        Ok(ClientTls { config: Arc::new(config), host: name, other })
    }

    /// The host whose certificate is expected.
    pub fn host(&self) -> &str {
        &self.other.name
    }

    /// Begins TLS on a stream that is connected or connecting.
    pub fn begin<S: Read + Write>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.host.clone());
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(TlsStream::new(stream, session.into(), Arc::clone(&self.other)))
    }
}

/// The TLS configuration of a server.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    other: Arc<Other>,
}

impl ServerTls {
    /// `chain` and `key` are PEM. If `clients` is given, a client must have a certificate that one of these
    /// authorities has issued. `alpn` lists the supported protocols, the preferred one first; if it is empty,
    /// none is negotiated.
    pub fn new(
        chain: &str,
        key: &str,
        clients: Option<&Authorities>,
        alpn: &[&str],
    ) -> Result<ServerTls, TlsError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| TlsError::Pem(plain_pem(&error)))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let key = key.map_err(|error| TlsError::Pem(plain_pem(&error)))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = trust::of_clients(clients, Arc::clone(&provider))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(TlsError::Setup)?;
        config.alpn_protocols = protocols(alpn);
        let other = Other { name: "the client".to_owned(), remedies: Remedies::default() };
        Ok(ServerTls { config: Arc::new(config), other: Arc::new(other) })
    }

    /// Begins TLS on an accepted stream.
    pub fn begin<S: Read + Write>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let session = ServerConnection::new(Arc::clone(&self.config));
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(TlsStream::new(stream, session.into(), Arc::clone(&self.other)))
    }
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// The names, in messages, of the settings that an operator can change: "add its authority's certificate to
/// {authorities}", "is the host in {address} right?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedies {
    /// Where the trusted authorities come from, say "the file of --ca".
    pub authorities: &'static str,
    /// The setting with the host and the port, say "--url".
    pub address: &'static str,
}

impl Default for Remedies {
    fn default() -> Remedies {
        Remedies { authorities: "the trusted authorities", address: "the configuration" }
    }
}

/// Why TLS can't be used.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// Neither a name nor an address.
    Host(String),
    /// A file is not PEM, or lacks what is needed.
    Pem(String),
    /// rustls refuses the certificate or key.
    Setup(Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Host(host) => write!(f, "{host:?} is neither a name nor an address"),
            TlsError::Pem(reason) => f.write_str(reason),
            TlsError::Setup(error) => f.write_str(&explain_setup(error)),
        }
    }
}

impl std::error::Error for TlsError {}
