//! TLS for a server.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use rustls::{Error, ServerConfig, ServerConnection, crypto, version};

use super::explain::{self, Other, Side};
use super::{
    Authorities, Remedies, Revocations, TlsError, TlsStream, chain_of, key_of, protocols, trust,
};
use crate::application::TlsVersion;

/// The TLS configuration of a server.
#[derive(Clone)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
    other: Arc<Other>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// What a server needs.
#[derive(Clone, Copy)]
pub struct ServerSettings<'a> {
    /// The certificate, and those between it and an authority that clients know (PEM).
    pub chain: &'a str,
    /// Its key (PEM): PKCS#8, SEC1 or PKCS#1.
    pub key: &'a str,
    /// Whose certificates clients may show; None if they are asked for none.
    pub clients: Option<ClientAuthority<'a>>,
    /// The supported protocols (RFC 7301), the preferred one first. Who offers only others is refused, who offers none
    /// is served. If it is empty, none is negotiated.
    pub alpn: &'a [&'a str],
    pub min_version: TlsVersion,
    /// Whether clients may resume their sessions. Where they are asked for certificates none ever can: a resumed session
    /// would not be judged by a new list of revoked certificates.
    pub resumes: bool,
}

/// Whose certificates clients may show.
#[derive(Clone, Copy)]
pub struct ClientAuthority<'a> {
    pub authorities: &'a Authorities,
    pub revoked: &'a Revocations,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

impl ServerTls {
    /// `chain` and `key` are PEM. If `clients` is given, a client must have a certificate that one of these
    /// authorities has issued. `alpn` lists the supported protocols, the preferred one first; if it is empty,
    /// none is negotiated. TLS 1.2 and 1.3 are spoken.
    pub fn new(
        chain: &str,
        key: &str,
        clients: Option<&Authorities>,
        alpn: &[&str],
    ) -> Result<ServerTls, TlsError> {
        let revoked = &Revocations::none();
        let authority = |authorities| ClientAuthority { authorities, revoked, required: true };
        let clients = clients.map(authority);
        let min_version = TlsVersion::V1_2;
        ServerTls::with(ServerSettings { chain, key, clients, alpn, min_version, resumes: true })
    }

    /// There is no early data, and no key is ever logged.
    pub fn with(settings: ServerSettings<'_>) -> Result<ServerTls, TlsError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let clients = trust::of_clients(settings.clients, Arc::clone(&provider))?;
        let versions = match settings.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12][..],
            TlsVersion::V1_3 => &[&version::TLS13][..],
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(Arc::clone(&clients))
            .with_single_cert(chain_of(settings.chain)?, key_of(settings.key)?)
            .map_err(TlsError::Setup)?;
        config.alpn_protocols = protocols(settings.alpn);
        if settings.resumes && settings.clients.is_none() {
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
            config.send_tls13_tickets = TICKETS;
        } else {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        let remedies = Remedies::default();
        let other = Other { name: "the client".to_owned(), remedies, side: Side::Client };
        Ok(ServerTls { config: Arc::new(config), other: Arc::new(other), clients })
    }

    /// Sets what messages call the other side ("the client" otherwise, or say "the neighbour") and the setting with
    /// its authorities, say "[tls.clients] ca".
    pub fn naming(mut self, other: &str, authorities: &'static str) -> ServerTls {
        let remedies = Remedies { authorities, ..self.other.remedies };
        self.other = Arc::new(Other { name: other.to_owned(), remedies, side: Side::Client });
        self
    }

    /// Why a client would not be trusted now, in words for an operator, judged by the chain that it showed in the
    /// handshake (empty if it showed none); None if it would be. For connections that an earlier configuration has
    /// accepted.
    pub fn distrusts(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        if !self.clients.offer_client_auth() {
            return None;
        }
        let error = match chain.split_first() {
            None if self.clients.client_auth_mandatory() => Error::NoCertificatesPresented,
            None => return None,
            Some((leaf, others)) => {
                self.clients.verify_client_cert(leaf, others, UnixTime::now()).err()?
            }
        };
        Some(explain::explain_tls(&error, &self.other))
    }

    /// Begins TLS on an accepted stream.
    pub fn begin<S: Read + Write>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let session = ServerConnection::new(Arc::clone(&self.config));
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(TlsStream::new(stream, session.into(), Arc::clone(&self.other)))
    }
}

/// Sessions that clients may resume, some 300 bytes each: as many as there may be clients.
const SESSIONS: usize = 10_000;
/// Tickets for each handshake. One is enough for a client that comes back, and each takes the place of a session.
const TICKETS: usize = 1;
