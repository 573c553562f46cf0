//! TLS for a client.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, crypto, version};

use super::explain::{self, Other, Side};
use super::herd_trust::HerdTrust;
use super::trust::Trust;
use super::{Authorities, Identity, Revocations, TlsError, TlsStream, chain_of, key_of, protocols};

/// The TLS configuration of a client of one host.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
    other: Arc<Other>,
    /// None for a service, whose certificate is judged once, in the handshake.
    herd: Option<Arc<HerdTrust>>,
}

/// What a connection to another server of the herd needs.
#[derive(Clone, Copy)]
pub struct PeerSettings<'a> {
    /// Must be among the names of the other side's certificate.
    pub identity: &'a Identity,
    /// The host that is dialled, without its port. It is told to the other side, unless it is an address, and is never
    /// compared with the certificate.
    pub host: &'a str,
    /// Who may have issued the other side's certificate; nobody else is trusted.
    pub authorities: &'a Authorities,
    pub revoked: &'a Revocations,
    /// Our own certificate and those between it and the authority (PEM), and its key.
    pub chain: &'a str,
    pub key: &'a str,
    pub alpn: &'a [&'a str],
}

/// What a connection to a service needs.
#[derive(Clone, Copy)]
pub struct ServiceSettings<'a> {
    /// A name or an address, in brackets or not: the one that must be in the certificate, whatever address is dialled.
    pub host: &'a str,
    /// Who may have issued the certificate; None: the built-in roots.
    pub authorities: Option<&'a Authorities>,
    /// Our own certificate and those between it and its authority (PEM), and its key, for a service that asks for one.
    pub own: Option<(&'a str, &'a str)>,
    /// The protocols to offer (RFC 7301), the preferred one first; if it is empty, none is offered.
    pub alpn: &'a [&'a str],
    /// For messages.
    pub remedies: Remedies,
}

impl ClientTls {
    /// For a service that asks for no certificate of ours ([`ClientTls::of_service`]).
    pub fn new(
        host: &str,
        authorities: Option<&Authorities>,
        alpn: &[&str],
        remedies: Remedies,
    ) -> Result<ClientTls, TlsError> {
        ClientTls::of_service(ServiceSettings { host, authorities, own: None, alpn, remedies })
    }

    /// For a connection to a service. Sessions are resumed.
    pub fn of_service(settings: ServiceSettings<'_>) -> Result<ClientTls, TlsError> {
        let ServiceSettings { host, authorities, own, alpn, remedies } = settings;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = server_name(bare).ok_or_else(|| TlsError::Host(host.to_owned()))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let trust = Trust::new(authorities, Arc::clone(&provider))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .dangerous() // rustls's name for any verifier but its own; see `trust.rs`
            .with_custom_certificate_verifier(trust);
        let mut config = match own {
            Some((chain, key)) => config
                .with_client_auth_cert(chain_of(chain)?, key_of(key)?)
                .map_err(TlsError::Setup)?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = protocols(alpn);
        let other = Arc::new(Other { name: host.to_owned(), remedies, side: Side::Service });
        Ok(ClientTls { config: Arc::new(config), host: name, other, herd: None })
    }

    /// For a connection to another server of the herd: TLS 1.3 alone, with our own certificate, and nothing is kept
    /// for a later session.
    pub fn of_server(settings: PeerSettings<'_>) -> Result<ClientTls, TlsError> {
        let bare = settings.host.trim_start_matches('[').trim_end_matches(']');
        // A zone is of this machine alone, and the dot at the end is not part of a name in TLS (RFC 6066, section 3).
        let bare = bare.split('%').next().unwrap_or(bare).trim_end_matches('.');
        let host = server_name(bare).ok_or_else(|| TlsError::Host(settings.host.to_owned()))?;
        let provider = Arc::new(crypto::ring::default_provider());
        let identity = settings.identity.clone();
        let herd = Arc::new(HerdTrust::new(identity, settings.authorities, settings.revoked)?);
        let verifier: Arc<HerdTrust> = Arc::clone(&herd);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(TlsError::Setup)?
            .dangerous() // rustls's name for any verifier but its own; see `herd_trust.rs`
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain_of(settings.chain)?, key_of(settings.key)?)
            .map_err(TlsError::Setup)?;
        config.alpn_protocols = protocols(settings.alpn);
        config.resumption = Resumption::disabled();
        config.enable_sni = matches!(host, ServerName::DnsName(_));
        let remedies = Remedies { authorities: "[tls.neighbours] ca", address: "`advertise`" };
        let other = Other { name: settings.host.to_owned(), remedies, side: Side::Server };
        Ok(ClientTls { config: Arc::new(config), host, other: Arc::new(other), herd: Some(herd) })
    }

    /// The host whose certificate is expected.
    pub fn host(&self) -> &str {
        &self.other.name
    }

    /// Why the other side would not be trusted now, in words for an operator, judged by the chain that it showed in
    /// the handshake; None if it would be. For connections that an earlier configuration has opened. A service is never
    /// judged again.
    pub fn distrusts(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        let error = self.herd.as_ref()?.judge(chain).err()?;
        Some(explain::explain_tls(&error, &self.other))
    }

    /// Begins TLS on a stream that is connected or connecting.
    pub fn begin<S: Read + Write>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.host.clone());
        let session = session.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(TlsStream::new(stream, session.into(), Arc::clone(&self.other)))
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
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
