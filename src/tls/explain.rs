//! Errors of rustls and webpki in words for an operator: what is wrong, and what helps.
//!
//! Both crates describe their errors for programmers, by the names of the variants. Here each variant of the
//! versions in `Cargo.lock` has a sentence, alone or with others that need the same remedy; the tests compare
//! the list with the sources of those versions. The enums may grow: a new variant gets a general sentence
//! until somebody writes a better one. The name of a variant is never shown.
//!
//! Names in certificates come from the other side. Characters that occur in host names are shown, all others
//! as `?`.

use std::io::{self, ErrorKind};

use rustls::pki_types::pem;
use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, ExtendedKeyPurpose,
    InconsistentKeys, OtherError,
};

use super::trust::Distrust;
use super::{Identity, Names, Remedies};
use crate::application::HandshakeFailure;
use chain::chain;
pub(super) use chain::of_webpki;
use protocol::{alert, incompatible, message, misbehaved};
use values::{bare, date, dotted};
pub(super) use values::{day, harmless};

mod chain;
mod protocol;
#[cfg(test)]
mod tests;
mod values;

/// The name of the other side in messages, and what helps if it can't be trusted or reached over TLS.
#[derive(Debug)]
pub(super) struct Other {
    pub name: String,
    pub remedies: Remedies,
    pub side: Side,
}

/// What the other side is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A service that we ask. It has no certificate of ours.
    Service,
    /// A server of the herd that we dial.
    Server,
    /// Who dials us.
    Client,
}

impl Side {
    /// The words that differ with the side, by the names that stand for them in the texts below.
    const fn words(self) -> [(&'static str, &'static str); 7] {
        let (side, whose, purpose, purposes, otherwise) = match self {
            Side::Service => ("the service", "a server's", "serverAuth", "servers", "clients"),
            Side::Server => ("the server", "a server's", "serverAuth", "servers", "clients"),
            Side::Client => ("the client", "a client's", "clientAuth", "clients", "servers"),
        };
        let trust = match self {
            Side::Service => "give it ca.pem to trust",
            Side::Server => "its [tls.neighbours] ca must contain that authority's certificate",
            Side::Client => "give it that authority's certificate to trust (ca.pem, herd-ca.pem)",
        };
        let remedy = match self {
            Side::Service => {
                "add this very certificate to {authorities}, or give the service one with CA:FALSE"
            }
            Side::Server | Side::Client => "it needs one with CA:FALSE",
        };
        [
            ("{remedy}", remedy),
            ("{side}", side),
            ("{whose}", whose),
            ("{purpose}", purpose),
            ("{purposes}", purposes),
            ("{otherwise}", otherwise),
            ("{trust}", trust),
        ]
    }
}

/// What a failed read or write means.
pub(super) fn explain(error: &io::Error, other: &Other) -> String {
    if error.kind() == ErrorKind::UnexpectedEof {
        return "the connection was cut".to_owned();
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => explain_tls(error, other),
        None => plain(error),
    }
}

/// The system's text for an error, without its number: "Address already in use" instead of "Address already
/// in use (os error 98)". The number does not help an operator.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})"));
    match number.and_then(|number| text.strip_suffix(&number)) {
        Some(words) => words.to_owned(),
        None => text,
    }
}

/// Whether TLS itself reports what is wrong, and not only that the stream has ended.
pub fn is_of_tls(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    error.is_some_and(|error| *error != Error::AlertReceived(AlertDescription::CloseNotify))
}

/// What a handshake failed at.
pub(super) fn handshake_failure(error: &io::Error) -> HandshakeFailure {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match error {
        None | Some(Error::AlertReceived(AlertDescription::CloseNotify)) => {
            HandshakeFailure::Closed
        }
        Some(Error::AlertReceived(_)) => HandshakeFailure::Alert,
        Some(
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::InvalidCertRevocationList(_),
        ) => HandshakeFailure::Certificate,
        Some(_) => HandshakeFailure::Protocol,
    }
}

pub(super) fn explain_tls(error: &Error, other: &Other) -> String {
    let mut words = words(error, &other.name);
    if other.side == Side::Client {
        // It may be a neighbour.
        words = words.replace("{side}", &other.name);
    }
    spelled(&words, &other.remedies, other.side)
}

/// Fills in `{authorities}`, `{address}` and the words of [`Side::words`], which the texts below may contain. Text from
/// the other side never contains a brace ([`harmless`]).
fn spelled(words: &str, remedies: &Remedies, side: Side) -> String {
    let of_side = side.words();
    let filled =
        of_side.iter().fold(words.to_owned(), |text, (name, word)| text.replace(name, word));
    filled.replace("{authorities}", remedies.authorities).replace("{address}", remedies.address)
}

fn words(error: &Error, host: &str) -> String {
    match error {
        Error::InvalidCertificate(reason) => {
            format!("the certificate of {host} is not trusted: {}", certificate(reason))
        }
        Error::AlertReceived(AlertDescription::CloseNotify) => "the connection was closed".into(),
        Error::AlertReceived(reason) => format!("{host} ended TLS: {}", alert(*reason)),
        other => format!("TLS with {host} failed: {}", failure(other)),
    }
}

/// Why rustls refuses a certificate or key of ours.
pub(super) fn explain_setup(error: &Error) -> String {
    let words = match error {
        Error::InvalidCertificate(reason) => {
            format!("a certificate can't be used: {}", certificate(reason))
        }
        other => failure(other),
    };
    spelled(&words, &Remedies::default(), Side::Service)
}

/// Why a list of revoked certificates can't be read.
pub(super) fn explain_list(error: &webpki::Error) -> String {
    spelled(&chain(error), &Remedies::default(), Side::Service)
}

/// What is wrong with a PEM file.
pub(super) fn plain_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a section in it has no -----END … line: is the file cut?".into()
        }
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN … line in it is malformed".into(),
        pem::Error::Base64Decode(_) => "a section in it is not base64: is the file damaged?".into(),
        pem::Error::Io(error) => plain(error),
        pem::Error::NoItemsFound => "what is needed is not in it".into(),
        pem::Error::SectionTooLarge => "a section in it is too large".into(),
        _ => "it can't be read as PEM text".into(),
    }
}

/// The text after "TLS with … failed: ".
fn failure(error: &Error) -> String {
    let words = match error {
        Error::InvalidCertificate(reason) => return certificate(reason),
        Error::AlertReceived(reason) => alert(*reason),
        Error::InvalidMessage(reason) => message(reason),
        Error::PeerIncompatible(reason) => incompatible(reason),
        Error::PeerMisbehaved(reason) => misbehaved(reason),
        Error::InvalidCertRevocationList(reason) => revocation_list(reason),
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key is not the certificate's: give the two that belong together"
        }
        Error::InconsistentKeys(_) => {
            "it can't be checked that the key is the certificate's: give an ECDSA, Ed25519 or RSA key"
        }
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "it sent a message out of turn; is there a proxy in between, or a faulty TLS?"
        }
        Error::InvalidEncryptedClientHello(_) => {
            "the encrypted greeting (ECH) is not used here, and failed all the same"
        }
        Error::NoCertificatesPresented => "it sent no certificate, which it must have",
        Error::UnsupportedNameType => {
            "that kind of name is not supported: use a host name or an IP address"
        }
        Error::DecryptError => {
            "what came can't be decrypted: it was changed on the way, or the other side is faulty"
        }
        Error::EncryptError => "what was to be sent can't be encrypted, being too large",
        Error::General(text) => return harmless(text),
        Error::FailedToGetCurrentTime => "the clock of this machine can't be read",
        Error::FailedToGetRandomBytes => "this machine gives no random bytes",
        Error::HandshakeNotComplete => "the handshake was not finished",
        Error::PeerSentOversizedRecord => {
            "it sent a record that is too large; is what listens there TLS at all?"
        }
        Error::NoApplicationProtocol => "both sides have no protocol in common (ALPN)",
        Error::BadMaxFragmentSize => "the size of records that was set is not possible",
        Error::Other(_) => "for a reason that is not known here",
        _ => "for a reason that this version of the program does not know",
    };
    words.to_owned()
}

/// The text after "the certificate of … is not trusted: ".
fn certificate(reason: &CertificateError) -> String {
    let words = match reason {
        CertificateError::BadEncoding => MALFORMED,
        CertificateError::Expired => {
            "it has expired, or ends before it begins; {side} needs a new one"
        }
        CertificateError::ExpiredContext { time, not_after } => {
            return format!(
                "it has expired at {} (the clock here says {}); {{side}} needs a new one",
                date(*not_after),
                date(*time)
            );
        }
        CertificateError::NotValidYet => "it is not valid yet; is the clock here right?",
        CertificateError::NotValidYetContext { time, not_before } => {
            return format!(
                "it is not valid before {} (the clock here says {}); is the clock right?",
                date(*not_before),
                date(*time)
            );
        }
        CertificateError::Revoked => "it has been revoked; {side} needs a new one",
        CertificateError::UnhandledCriticalExtension => CRITICAL,
        CertificateError::UnknownIssuer => {
            "no authority that is trusted here has issued it; add its authority's certificate to \
             {authorities}, or have {side} send the intermediate certificates, too"
        }
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => REVOCATION,
        CertificateError::BadSignature => {
            "its signature is not that of the authority that it names, or not of its own key; is in \
             {authorities} another authority of the same name?"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id, ..
        } => return unsupported_algorithm(signature_algorithm_id),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            public_key_algorithm_id,
            ..
        } => return unsupported_key(public_key_algorithm_id),
        CertificateError::NotValidForName => OTHER_NAME,
        CertificateError::NotValidForNameContext { expected, presented } => {
            return other_name(&expected.to_str(), presented);
        }
        CertificateError::InvalidPurpose => PURPOSE,
        CertificateError::InvalidPurposeContext { presented, .. } => {
            let is_of_others = presented.iter().any(|it| {
                matches!(it, ExtendedKeyPurpose::ClientAuth | ExtendedKeyPurpose::ServerAuth)
            });
            return match is_of_others {
                true => format!("it is for {{otherwise}} only; {NEEDS_PURPOSE}"),
                false => PURPOSE.into(),
            };
        }
        CertificateError::InvalidOcspResponse => {
            "the proof that it was not revoked (OCSP), which came with it, is wrong"
        }
        CertificateError::ApplicationVerificationFailure => "it is valid, but not accepted here",
        CertificateError::Other(other) => return beyond_rustls(other),
        // Deprecated, and made only from webpki's deprecated variants.
        #[allow(deprecated)]
        CertificateError::UnsupportedSignatureAlgorithm => return unsupported_algorithm(&[]),
        _ => "for a reason that this version of the program does not know",
    };
    words.to_owned()
}

/// Errors that rustls only passes on.
fn beyond_rustls(OtherError(reason): &OtherError) -> String {
    if let Some(reason) = reason.downcast_ref::<Distrust>() {
        return reason.to_string();
    }
    match reason.downcast_ref::<webpki::Error>() {
        Some(reason) => chain(reason),
        None => "for a reason that is not known here".to_owned(),
    }
}

fn revocation_list(reason: &CertRevocationListError) -> &'static str {
    match reason {
        CertRevocationListError::IssuerInvalidForCrl => {
            "its authority may not sign revocation lists; the authority must be made again"
        }
        _ => BAD_LIST,
    }
}

fn other_name(expected: &str, presented: &[String]) -> String {
    let expected = harmless(expected);
    if presented.is_empty() {
        return format!(
            "it is for no name at all; {expected} must be in its subjectAltName (a common name does \
             not count)"
        );
    }
    let names: Vec<String> =
        presented.iter().take(NAMES_SHOWN).map(|name| harmless(bare(name))).collect();
    let more = match presented.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "it is for another name, {}{more}, and not for {expected}; is the host in {{address}} right?",
        names.join(", ")
    )
}

/// The certificate of a server of the herd that is not the one that was dialled.
pub(super) fn other_identity(expected: &Identity, found: &Names) -> String {
    let expected = harmless(&expected.to_string());
    let of_kind = match expected.starts_with("uri:") {
        true => &found.uris,
        false => &found.dns,
    };
    let names: Vec<String> = of_kind.iter().take(NAMES_SHOWN).map(|name| harmless(name)).collect();
    let names = match names.is_empty() {
        true => "no server".to_owned(),
        false => names.join(", "),
    };
    format!(
        "it names {names}, and must name {expected} as a subjectAltName; is {{address}} right, and the certificate that \
         of this server?"
    )
}

fn unsupported_algorithm(id: &[u8]) -> String {
    format!("it is signed in a way that is not supported here{}; {SUPPORTED}", dotted(id))
}

fn unsupported_key(id: &[u8]) -> String {
    format!(
        "its key, or its authority's, is of a kind that is not supported here{}; {SUPPORTED}",
        dotted(id)
    )
}

/// How many of a certificate's names are shown.
const NAMES_SHOWN: usize = 5;
const MALFORMED: &str = "it is malformed; {side} needs another one";
const CRITICAL: &str =
    "it has a critical extension that is not understood here; {side} needs one without it";
const REVOCATION: &str =
    "it can't be checked whether it was revoked: the revocation list is missing or old";
const BAD_LIST: &str =
    "the list of revoked certificates can't be used; its authority must make it again";
const OTHER_NAME: &str = "it is for another name; is the host in {address} right?";
const PURPOSE: &str =
    "it is not for {purposes}; it needs {purpose} among its extended key usages, or none of these";
const NEEDS_PURPOSE: &str = "it needs {purpose} among its extended key usages, or none of these";
const SUPPORTED: &str =
    "it needs ECDSA with P-256 or P-384, Ed25519, or RSA with SHA-256 or better";
