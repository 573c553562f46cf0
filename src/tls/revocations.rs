//! Lists of revoked certificates (CRLs, RFC 5280, section 5).
//!
//! A certificate whose issuer has a list is refused if it is in it. One whose issuer has none is not affected: with
//! intermediate authorities, often only one of them keeps a list. A list that is past its next update is still used, for
//! it is the best that is known; the operator is warned by [`Expiry`](super::Expiry). A list of an authority that is not
//! trusted is an error, for it would revoke nothing, and nobody would notice: who has the list of an intermediate
//! authority trusts that authority by name, too.

use std::fmt;
use std::sync::Arc;

use rustls::crypto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::explain::{explain_list, harmless, plain_pem};
use super::{Authorities, TlsError};

/// Lists of revoked certificates; cheap to clone.
#[derive(Clone, Default)]
pub struct Revocations {
    lists: Arc<[Parsed]>,
}

struct Parsed {
    der: CertificateRevocationListDer<'static>,
    list: CertRevocationList<'static>,
    /// Unix seconds; None if it does not say when the next one comes.
    next_update: Option<i64>,
}

impl Revocations {
    /// No list.
    pub fn none() -> Revocations {
        Revocations::default()
    }

    /// Reads a file with one list as DER, or with one or more as PEM.
    pub fn from_bytes(bytes: &[u8]) -> Result<Revocations, TlsError> {
        let is_der = bytes.first() == Some(&SEQUENCE);
        let lists = match is_der {
            true => vec![CertificateRevocationListDer::from(bytes.to_vec())],
            false => CertificateRevocationListDer::pem_slice_iter(bytes)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| TlsError::Pem(plain_pem(&error)))?,
        };
        if lists.is_empty() {
            return Err(TlsError::Pem(NO_LIST.to_owned()));
        }
        let lists = lists.into_iter().map(Parsed::read).collect::<Result<Arc<[_]>, _>>()?;
        Ok(Revocations { lists })
    }

    /// When the first of the lists should have been replaced (Unix seconds); None if none says when.
    pub fn next_update(&self) -> Option<i64> {
        self.lists.iter().filter_map(|one| one.next_update).min()
    }

    /// Checks that each list is signed by one of these authorities. One that is not would revoke nothing, in silence.
    pub fn check(&self, authorities: &Authorities) -> Result<(), TlsError> {
        let is_signed =
            |list: &Parsed| authorities.certificates().any(|one| list.is_signed_by(one));
        match self.lists.iter().find(|list| !is_signed(list)) {
            None => Ok(()),
            Some(list) => Err(TlsError::List { issuer: list.issuer() }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// The lists for rustls's own verifier.
    pub(super) fn ders(&self) -> impl Iterator<Item = CertificateRevocationListDer<'static>> {
        self.lists.iter().map(|one| one.der.clone())
    }

    /// The lists for webpki.
    pub(super) fn lists(&self) -> Vec<&CertRevocationList<'static>> {
        self.lists.iter().map(|one| &one.list).collect()
    }

    /// What the module's description says, for webpki; None without a list.
    pub(super) fn options<'a>(
        lists: &'a [&'a CertRevocationList<'a>],
    ) -> Option<RevocationOptions<'a>> {
        let options = RevocationOptionsBuilder::new(lists).ok()?;
        let options = options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore);
        Some(options.build())
    }
}

impl Parsed {
    fn read(der: CertificateRevocationListDer<'static>) -> Result<Parsed, TlsError> {
        let list = OwnedCertRevocationList::from_der(&der)
            .map_err(|error| TlsError::Pem(explain_list(&error)))?;
        let next_update = CertificateRevocationList::from_der(&der)
            .ok()
            .and_then(|(_, list)| list.next_update())
            .map(|time| time.timestamp());
        Ok(Parsed { der, list: list.into(), next_update })
    }

    /// Whether the authority with this certificate (DER) has signed it.
    fn is_signed_by(&self, authority: &[u8]) -> bool {
        let Ok((_, list)) = CertificateRevocationList::from_der(&self.der) else {
            return false;
        };
        let Ok((_, parsed)) = X509Certificate::from_der(authority) else {
            return false;
        };
        let der = CertificateDer::from(authority);
        let Ok(certificate) = webpki::EndEntityCert::try_from(&der) else {
            return false;
        };
        let algorithms = crypto::ring::default_provider().signature_verification_algorithms.all;
        let (signed, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        parsed.subject().as_raw() == list.issuer().as_raw()
            && algorithms
                .iter()
                .any(|one| certificate.verify_signature(*one, signed, signature).is_ok())
    }

    fn issuer(&self) -> String {
        let list = CertificateRevocationList::from_der(&self.der);
        list.map_or_else(|_| "?".to_owned(), |(_, list)| harmless(&list.issuer().to_string()))
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocations({} lists)", self.lists.len())
    }
}

impl PartialEq for Revocations {
    fn eq(&self, other: &Revocations) -> bool {
        self.ders().eq(other.ders())
    }
}

/// What each list begins with as DER, and no PEM.
const SEQUENCE: u8 = 0x30;
const NO_LIST: &str = "there is no list of revoked certificates in it, which would begin with -----BEGIN X509 CRL-----";
