//! TLS: all calls to rustls are in this folder.
//!
//! | file | what |
//! |---|---|
//! | `client.rs` | the configuration of a client: of a service, or of another server of the herd |
//! | `server.rs` | the configuration of a server, and which clients it trusts |
//! | `stream.rs` | TLS over a stream that does not block |
//! | `records.rs` | the boundaries of records |
//! | `trust.rs` | which certificates of services are trusted |
//! | `herd_trust.rs` | which certificates of other servers of the herd are trusted |
//! | `revocations.rs` | lists of revoked certificates |
//! | `explain.rs` | errors of rustls, webpki and the system in words |
//! | `expiry.rs` | until when certificates are valid |
//! | `names.rs` | names in certificates, and who may speak for whom |
//! | `certificate.rs` | what a certificate says |
//! | `own.rs` | whether one's own certificate can be used |
//! | `certificates.rs` | one's own certificates, made and kept in a folder |
//!
//! Nothing here knows sockets, polling or what is sent over TLS.
//!
//! Names, subjects and serial numbers are what the other side has sent, or what a file contains. They may hold any
//! character. Code that logs or prints them must escape them.

use std::fmt;
use std::time::Duration;

use rustls::Error;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

pub use certificate::Certificate;
pub use client::{ClientTls, PeerSettings, Remedies, ServiceSettings};
pub use expiry::{CertificateUse, Expiry};
use explain::{explain_setup, plain_pem};
pub use explain::{is_of_tls, plain};
pub use names::{ClientNames, Identity, Names};
pub use own::{Own, OwnError, OwnHerd, judge_own};
pub use revocations::Revocations;
pub use server::{ClientAuthority, ServerSettings, ServerTls};
pub use stream::TlsStream;
pub use trust::Authorities;

mod certificate;
pub mod certificates;
mod client;
mod expiry;
mod explain;
mod herd_trust;
pub mod names;
mod own;
mod records;
mod revocations;
mod server;
mod stream;
#[cfg(test)]
mod tests;
mod trust;

/// The certificates in a PEM text, in its order.
fn chain_of(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    chain.map_err(|error| TlsError::Pem(plain_pem(&error)))
}

/// The first key in a PEM text: PKCS#8, SEC1 or PKCS#1.
fn key_of(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
        // PKCS#8 says it in the first line, older forms in the header behind that.
        let is_encrypted = pem.contains("-----BEGIN ENCRYPTED ") || pem.contains(",ENCRYPTED");
        TlsError::Pem(match error {
            _ if is_encrypted => {
                "it is encrypted, and a server has nobody to ask for the password: decrypt it (openssl pkey -in \
                 FILE), and let only the server read it"
                    .into()
            }
            pem::Error::NoItemsFound => {
                "there is no private key in it, which would begin with -----BEGIN PRIVATE KEY-----".into()
            }
            error => plain_pem(&error),
        })
    })
}

/// Unix seconds as rustls and webpki take them.
fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or_default()))
}

/// Names of protocols for ALPN (RFC 7301).
fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// Why TLS can't be used.
#[derive(Clone, Debug, PartialEq)]
pub enum TlsError {
    /// Neither a name nor an address.
    Host(String),
    /// A file is not PEM, or lacks what is needed.
    Pem(String),
    /// A list of revoked certificates is of none of the authorities that are trusted, or its signature is wrong.
    List { issuer: String },
    /// A certificate can't be read.
    Certificate,
    /// rustls refuses the certificate or key.
    Setup(Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Host(host) => write!(f, "{host:?} is neither a name nor an address"),
            TlsError::Pem(reason) => f.write_str(reason),
            TlsError::List { issuer } => write!(
                f,
                "the list of revoked certificates of {issuer:?} is signed by none of the trusted authorities, and would \
                 revoke nothing: add the certificate of its authority to them, or take the list out"
            ),
            TlsError::Certificate => f.write_str("the certificate is malformed"),
            TlsError::Setup(error) => f.write_str(&explain_setup(error)),
        }
    }
}

impl std::error::Error for TlsError {}
