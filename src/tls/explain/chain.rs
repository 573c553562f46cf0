//! The words for webpki's errors: those that rustls passes on, and those of chains that this program verifies itself.

use std::sync::Arc;

use rustls::{CertRevocationListError, CertificateError, Error, OtherError};

use super::{
    BAD_LIST, CRITICAL, MALFORMED, PURPOSE, REVOCATION, certificate, failure,
    unsupported_algorithm, unsupported_key,
};

/// webpki's error as rustls's own verifiers would report it, so that the other side gets the same alert.
pub(in crate::tls) fn of_webpki(error: webpki::Error) -> Error {
    use webpki::Error as Chain;
    match error {
        Chain::IssuerNotCrlSigner => CertRevocationListError::IssuerInvalidForCrl.into(),
        Chain::InvalidCrlSignatureForPublicKey => CertRevocationListError::BadSignature.into(),
        Chain::UnsupportedCrlSignatureAlgorithmContext(_)
        | Chain::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
            CertRevocationListError::UnsupportedCrlVersion.into()
        }
        Chain::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
        Chain::BadDer | Chain::BadDerTime | Chain::TrailingData(_) => {
            CertificateError::BadEncoding.into()
        }
        other => match as_rustls(&other) {
            Some(reason) => reason.into(),
            None => CertificateError::Other(OtherError(Arc::new(other))).into(),
        },
    }
}

/// The words for webpki's errors about a certificate, or about those between it and the authority.
pub(super) fn chain(reason: &webpki::Error) -> String {
    use webpki::Error as Chain;
    if let Some(reason) = as_rustls(reason) {
        return certificate(&reason);
    }
    let words = match reason {
        Chain::BadDer | Chain::BadDerTime | Chain::TrailingData(_) => MALFORMED,
        Chain::CaUsedAsEndEntity => "it is an authority's (CA:TRUE), and not {whose}; {remedy}",
        Chain::CertDistrusted => "its key is distrusted; {side} needs a new one",
        Chain::UnknownRevocationStatus | Chain::CrlExpired { .. } => REVOCATION,
        Chain::EmptyEkuExtension => {
            "it is for no purpose at all; it needs {purpose} among its extended key usages, or none of these"
        }
        Chain::EndEntityUsedAsCa => {
            "what has issued it is no authority (CA:FALSE); it must be issued by one with CA:TRUE"
        }
        Chain::ExtensionValueInvalid | Chain::MalformedExtensions => {
            "one of its extensions is malformed; {side} needs another one"
        }
        Chain::InvalidCertValidity => "it ends before it begins; {side} needs a new one",
        Chain::InvalidNetworkMaskConstraint | Chain::MalformedNameConstraint => {
            "its authority's limit on names is malformed; the authority must be made again"
        }
        Chain::InvalidSerialNumber => "its serial number is malformed; {side} needs another one",
        Chain::MalformedDnsIdentifier => "a name in it is malformed; {side} needs another one",
        Chain::MaximumNameConstraintComparisonsExceeded
        | Chain::MaximumPathBuildCallsExceeded
        | Chain::MaximumPathDepthExceeded
        | Chain::MaximumSignatureChecksExceeded => {
            "its chain takes too many steps to follow; have {side} send those certificates alone \
             that lead to its authority"
        }
        Chain::NameConstraintViolation => {
            "its authority may not issue certificates for such a name (name constraints); it needs \
             another authority, or another name"
        }
        Chain::PathLenConstraintViolated => {
            "there are more authorities between it and the trusted one than that one allows (path \
             length); it must be issued nearer to it"
        }
        Chain::RequiredEkuNotFoundContext(_) => PURPOSE,
        Chain::SignatureAlgorithmMismatch => {
            "it names two algorithms for its one signature; {side} needs another one"
        }
        Chain::UnsupportedCertVersion => {
            "it is not of X.509 version 3; make it again, with extensions (openssl x509 -req needs \
             -extfile for that)"
        }
        Chain::UnsupportedCriticalExtension => CRITICAL,
        Chain::UnsupportedNameType => return failure(&Error::UnsupportedNameType),
        other => return deprecated_or_of_a_list(other),
    };
    words.to_owned()
}

/// rustls's own error for it, which rustls uses if it has one.
fn as_rustls(reason: &webpki::Error) -> Option<CertificateError> {
    use webpki::Error as Chain;
    Some(match reason.clone() {
        Chain::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        Chain::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Chain::CertNotValidForName(webpki::InvalidNameContext { expected, presented }) => {
            CertificateError::NotValidForNameContext { expected, presented }
        }
        Chain::CertRevoked => CertificateError::Revoked,
        Chain::UnknownIssuer => CertificateError::UnknownIssuer,
        Chain::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        Chain::UnsupportedSignatureAlgorithmContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: context.signature_algorithm_id,
                supported_algorithms: context.supported_algorithms,
            }
        }
        Chain::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        _ => return None,
    })
}

/// webpki's other variants: those that it no longer makes, and those of revocation lists.
#[allow(deprecated)]
fn deprecated_or_of_a_list(reason: &webpki::Error) -> String {
    use webpki::Error as Chain;
    let words = match reason {
        Chain::RequiredEkuNotFound => PURPOSE,
        Chain::UnsupportedSignatureAlgorithm => return unsupported_algorithm(&[]),
        Chain::UnsupportedSignatureAlgorithmForPublicKey => return unsupported_key(&[]),
        Chain::InvalidCrlNumber
        | Chain::InvalidCrlSignatureForPublicKey
        | Chain::IssuerNotCrlSigner
        | Chain::UnsupportedCrlIssuingDistributionPoint
        | Chain::UnsupportedCrlVersion
        | Chain::UnsupportedDeltaCrl
        | Chain::UnsupportedIndirectCrl
        | Chain::UnsupportedRevocationReason
        | Chain::UnsupportedRevocationReasonsPartitioning
        | Chain::UnsupportedCrlSignatureAlgorithm
        | Chain::UnsupportedCrlSignatureAlgorithmContext(_)
        | Chain::UnsupportedCrlSignatureAlgorithmForPublicKey
        | Chain::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => BAD_LIST,
        _ => "for a reason that this version of the program does not know",
    };
    words.to_owned()
}
