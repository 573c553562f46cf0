//! Whether one's own certificate can be used, judged as the other servers of the herd will judge it: a server that starts
//! with a certificate that its neighbours refuse looks like a failure of the network.

use std::fmt;

use rustls::crypto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::explain::{Other, Side, day, explain_tls};
use super::herd_trust::HerdTrust;
use super::{
    Authorities, Certificate, Identity, Remedies, Revocations, TlsError, chain_of, key_of,
    unix_time,
};

/// One's own certificate, and what it is for.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// The certificate, and those between it and the authority (PEM).
    pub chain: &'a str,
    /// Its key (PEM).
    pub key: &'a str,
    /// What other servers of the herd judge by; None if TLS is for clients and operators alone.
    pub herd: Option<OwnHerd<'a>>,
}

/// By what other servers judge one's own certificate. Their settings may differ, but should not.
#[derive(Clone, Copy)]
pub struct OwnHerd<'a> {
    pub identity: &'a Identity,
    pub authorities: &'a Authorities,
    pub revoked: &'a Revocations,
}

/// Why one's own certificate can't be used.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnError {
    /// The file of the certificate can't be read as one.
    Certificate(TlsError),
    /// The file of the key can't be read as one.
    Key(TlsError),
    /// The key is of another certificate, or of a kind that is not supported.
    Pair(TlsError),
    /// Unix seconds.
    Expired { not_after: i64 },
    /// Unix seconds.
    NotYetValid { not_before: i64 },
    /// An extended key usage is missing.
    Usage(&'static str),
    /// Other servers would not take it for this server's.
    Identity(Identity),
    /// The herd's list of revoked certificates can't be used.
    List(TlsError),
    /// Other servers would refuse it for this reason.
    Untrusted(String),
}

/// Judges one's own certificate at `now` (Unix seconds): its key belongs to it, it is valid, it may be used by a server
/// and, for the herd, by a client, it has the server's identity, and its chain leads to one of the herd's authorities.
pub fn judge_own(own: &Own<'_>, now: i64) -> Result<Certificate, OwnError> {
    let chain = chain_of(own.chain).map_err(OwnError::Certificate)?;
    let leaf = chain.first().ok_or_else(|| OwnError::Certificate(TlsError::Pem(EMPTY.into())))?;
    let certificate = Certificate::read(leaf).map_err(OwnError::Certificate)?;
    let key = key_of(own.key).map_err(OwnError::Key)?;
    check_pair(chain.clone(), key).map_err(OwnError::Pair)?;
    if certificate.not_before > now {
        return Err(OwnError::NotYetValid { not_before: certificate.not_before });
    }
    if certificate.not_after < now {
        return Err(OwnError::Expired { not_after: certificate.not_after });
    }
    if !certificate.allows_server {
        return Err(OwnError::Usage("serverAuth"));
    }
    let Some(herd) = own.herd else {
        return Ok(certificate);
    };
    if !certificate.allows_client {
        return Err(OwnError::Usage("clientAuth"));
    }
    if !herd.identity.is_in(&certificate.names) {
        return Err(OwnError::Identity(herd.identity.clone()));
    }
    let trust = HerdTrust::new(herd.identity.clone(), herd.authorities, herd.revoked);
    let trust = trust.map_err(OwnError::List)?;
    let at = unix_time(now);
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        trust.verify(leaf, &chain[1..], at, usage).map_err(|error| {
            let remedies = Remedies { authorities: "[tls.neighbours] ca", ..Remedies::default() };
            let name = "this server".to_owned();
            let other = Other { name, remedies, side: Side::Server };
            OwnError::Untrusted(explain_tls(&error, &other))
        })?;
    }
    Ok(certificate)
}

/// Whether a key is that of a certificate.
pub(super) fn check_pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(), TlsError> {
    let pair = CertifiedKey::from_der(chain, key, &crypto::ring::default_provider());
    pair.map(|_| ()).map_err(TlsError::Setup)
}

impl fmt::Display for OwnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OwnError::Certificate(reason) => write!(f, "[tls] certificate: {reason}"),
            OwnError::Key(reason) => write!(f, "[tls] key: {reason}"),
            OwnError::Pair(reason) => write!(f, "[tls] certificate and key: {reason}"),
            OwnError::Expired { not_after } => {
                let day = day(*not_after);
                write!(f, "[tls] certificate: it has expired at {day}; {RENEW}")
            }
            OwnError::NotYetValid { not_before } => {
                let day = day(*not_before);
                write!(
                    f,
                    "[tls] certificate: it is not valid before {day}; is the clock of this machine right?"
                )
            }
            OwnError::Usage(usage) => write!(
                f,
                "[tls] certificate: {usage} is missing among its extended key usages; a server of the herd needs \
                 serverAuth and clientAuth, because it accepts connections and dials"
            ),
            OwnError::Identity(identity) => write!(
                f,
                "[tls] certificate: it does not name this server, so its neighbours will refuse it; {identity} must \
                 stand among its subject alternative names"
            ),
            OwnError::List(reason) => write!(f, "[tls.neighbours] crl: {reason}"),
            OwnError::Untrusted(reason) => {
                write!(f, "[tls] certificate: its neighbours will refuse it: {reason}")
            }
        }
    }
}

impl std::error::Error for OwnError {}

const EMPTY: &str =
    "there is no certificate in it, which would begin with -----BEGIN CERTIFICATE-----";
const RENEW: &str = "issue a new one (herd-mio --make-certificates DIR --renew does it for certificates that it has made)";
