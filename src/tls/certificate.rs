//! What a certificate says (RFC 5280): its names, its serial number, and when it is valid.
//!
//! It is read, not judged: in a handshake it has been verified before, and a file of ours is judged by `own.rs`. All text
//! in it may hold any character, and must be escaped where it is logged or printed.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Names, TlsError};

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub names: Names,
    /// Hexadecimal bytes with colons, as openssl prints it: `3f:0a:...`.
    pub serial: String,
    /// Whose it is, and whose signature it has, as text: `CN=...`. At most some 500 bytes.
    pub subject: String,
    pub issuer: String,
    /// Valid from this time (Unix seconds) on.
    pub not_before: i64,
    /// Valid until this time (Unix seconds).
    pub not_after: i64,
    /// Whether its extended key usages allow that a server shows it. Without the extension all is allowed.
    pub allows_server: bool,
    /// The same for a client.
    pub allows_client: bool,
    /// Whether it is an authority's.
    pub is_authority: bool,
}

impl Certificate {
    /// Reads a certificate (DER).
    pub fn read(der: &[u8]) -> Result<Certificate, TlsError> {
        let malformed = || TlsError::Certificate;
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| malformed())?;
        let certificate = CertificateDer::from(der);
        let entity = webpki::EndEntityCert::try_from(&certificate).map_err(|_| malformed())?;
        if !rest.is_empty() {
            return Err(malformed());
        }
        let usages = parsed.extended_key_usage().map_err(|_| malformed())?.map(|it| it.value);
        Ok(Certificate {
            names: Names::in_certificate(&entity),
            serial: with_colons(parsed.raw_serial()),
            subject: bounded(parsed.subject().to_string()),
            issuer: bounded(parsed.issuer().to_string()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            allows_server: usages.is_none_or(|usages| usages.server_auth),
            allows_client: usages.is_none_or(|usages| usages.client_auth),
            is_authority: parsed.is_ca(),
        })
    }
}

/// A serial number, without the zero that only keeps it positive.
fn with_colons(serial: &[u8]) -> String {
    let serial = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let bytes = serial.iter().take(SERIAL_BYTES).map(|byte| format!("{byte:02x}"));
    bytes.collect::<Vec<_>>().join(":")
}

fn bounded(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(NAME_CHARACTERS) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Characters of a subject or an issuer that are kept for messages: real ones have fewer than 100.
const NAME_CHARACTERS: usize = 120;
/// Bytes of a serial number that are kept; more than 20 are not allowed (RFC 5280, section 4.1.2.2).
const SERIAL_BYTES: usize = 20;
