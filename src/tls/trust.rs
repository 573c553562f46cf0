//! Which certificates are trusted.
//!
//! webpki decides, through rustls's own verifier: it checks the chain up to a trusted authority, the period
//! of validity, the purpose and the name. This file adds two things:
//!
//! - If the service's certificate is itself one of the authorities that the operator names, byte for byte, it
//!   is trusted, although it is an authority's: `openssl req -x509` makes such certificates, and services in
//!   one's own network usually have them. Its name and its period of validity must still match.
//! - If a signature can't be verified because an RSA key is too short or too long, webpki reports a wrong
//!   signature. This file then checks the key's length and reports that.
//!
//! Nothing here accepts a certificate that webpki refuses for any other reason.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    crypto,
};

use super::explain::{other_identity, plain_pem};
use super::{Certificate, ClientAuthority, Identity, Names, TlsError};

/// Certificates that are trusted instead of the built-in roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities(Vec<CertificateDer<'static>>);

impl Authorities {
    /// Parses PEM. It must contain at least one certificate, and each must be usable.
    pub fn from_pem(text: &[u8]) -> Result<Authorities, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
        let authorities =
            Authorities(certificates.map_err(|error| TlsError::Pem(plain_pem(&error)))?);
        authorities.roots()?;
        Ok(authorities)
    }

    /// When the first of the certificates expires (Unix seconds).
    pub fn not_after(&self) -> Option<i64> {
        let ends = self.0.iter().filter_map(|one| Certificate::read(one).ok());
        ends.map(|certificate| certificate.not_after).min()
    }

    /// The certificates (DER), one after the other.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|certificate| &**certificate)
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.0 {
            roots.add(certificate.clone()).map_err(TlsError::Setup)?;
        }
        if roots.is_empty() { Err(TlsError::Pem(NO_CERTIFICATE.to_owned())) } else { Ok(roots) }
    }
}

/// Which clients a server accepts: those with a certificate of one of the authorities, or all.
pub(super) fn of_clients(
    clients: Option<ClientAuthority<'_>>,
    provider: Arc<crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(clients) = clients else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    clients.revoked.check(clients.authorities)?;
    let roots = Arc::new(clients.authorities.roots()?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .with_crls(clients.revoked.ders())
        .allow_unknown_revocation_status(); // see `revocations.rs`
    let builder = match clients.required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    builder.build().map_err(no_verifier)
}

fn no_verifier(error: VerifierBuilderError) -> TlsError {
    match error {
        VerifierBuilderError::NoRootAnchors => TlsError::Pem(NO_CERTIFICATE.to_owned()),
        other => TlsError::Setup(Error::General(other.to_string())),
    }
}

/// Reasons not to trust a certificate for which rustls has no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// The service's RSA key has this many bits, and signatures of such a key can't be verified.
    OwnKey { bits: usize },
    /// The same for an authority's key.
    AuthoritysKey { bits: usize },
    /// It is the certificate of another server of the herd, or of none.
    OtherIdentity { expected: Identity, found: Names },
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, bits) = match self {
            Distrust::OwnKey { bits } => ("its", bits),
            Distrust::AuthoritysKey { bits } => ("its authority's", bits),
            Distrust::OtherIdentity { expected, found } => {
                return f.write_str(&other_identity(expected, found));
            }
        };
        write!(f, "{whose} RSA key has {bits} bits; it needs {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    }
}

impl std::error::Error for Distrust {}

/// The verifier that the module's description explains.
#[derive(Debug)]
pub(super) struct Trust {
    chain: Arc<WebPkiServerVerifier>,
    /// The authorities that the operator names; empty if the built-in roots are trusted.
    named: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Trusts `authorities`, or the built-in roots.
    pub(super) fn new(
        authorities: Option<&Authorities>,
        provider: Arc<crypto::CryptoProvider>,
    ) -> Result<Arc<Trust>, TlsError> {
        let (roots, named) = match authorities {
            Some(authorities) => (authorities.roots()?, authorities.0.clone()),
            None => {
                let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
                (RootCertStore::from_iter(roots), Vec::new())
            }
        };
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let chain = chain.map_err(no_verifier)?;
        Ok(Arc::new(Trust { chain, named }))
    }

    /// If a key's length is the reason why a signature could not be verified, returns an error that names the
    /// key.
    fn blame_authority(&self, error: Error, intermediates: &[CertificateDer<'_>]) -> Error {
        if error != Error::InvalidCertificate(CertificateError::BadSignature) {
            return error;
        }
        let mut authorities = intermediates.iter().chain(&self.named);
        match authorities.find_map(|authority| unusable_rsa_bits(authority)) {
            Some(bits) => distrust(Distrust::AuthoritysKey { bits }),
            None => error,
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // webpki has checked the period of validity before this. Of its later checks, those of the
            // purpose (the operator's file decides that) and the chain (there is none) are not needed; the
            // name remains.
            Err(error) if is_authoritys(&error) && self.named.contains(end_entity) => {
                rustls::client::verify_server_name(
                    &ParsedCertificate::try_from(end_entity)?,
                    server_name,
                )?;
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => Err(self.blame_authority(error, intermediates)),
            Ok(verified) => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.chain.verify_tls12_signature(message, certificate, signed);
        verified.map_err(|error| blame_service(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.chain.verify_tls13_signature(message, certificate, signed);
        verified.map_err(|error| blame_service(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Whether webpki's only objection is that the certificate is an authority's.
fn is_authoritys(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else {
        return false;
    };
    inner.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

fn blame_service(error: Error, certificate: &CertificateDer<'_>) -> Error {
    if error != Error::InvalidCertificate(CertificateError::BadSignature) {
        return error;
    }
    match unusable_rsa_bits(certificate) {
        Some(bits) => distrust(Distrust::OwnKey { bits }),
        None => error,
    }
}

pub(super) fn distrust(reason: Distrust) -> Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
}

/// The length of a certificate's RSA key, if signatures of keys of that length can't be verified.
fn unusable_rsa_bits(certificate: &CertificateDer<'_>) -> Option<usize> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let bits = rsa_bits(&parsed.subject_public_key_info())?;
    (!(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits)).then_some(bits)
}

/// The length of the modulus in a SubjectPublicKeyInfo (RFC 8017, appendix A.1.1), if the key is an RSA key.
fn rsa_bits(key_info: &[u8]) -> Option<usize> {
    let (key_info, _) = der(key_info, SEQUENCE)?;
    let (algorithm, rest) = der(key_info, SEQUENCE)?;
    if !algorithm.starts_with(RSA_ENCRYPTION) {
        return None;
    }
    let (key, _) = der(rest, BIT_STRING)?;
    let (key, _) = der(key.strip_prefix(&[0])?, SEQUENCE)?;
    let (modulus, _) = der(key, INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some(8 * (modulus.len() - zeros) - first.leading_zeros() as usize)
}

/// The value at the start of `bytes`, if it has this tag, and the bytes after it. Lengths of up to two bytes
/// are understood, which is enough for any key.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes.strip_prefix(&[tag])? {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Bits of the RSA keys whose signatures ring verifies (`RSA_PKCS1_2048_8192_SHA256` and its like).
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;
/// 1.2.840.113549.1.1.1, with its tag and length.
const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const NO_CERTIFICATE: &str =
    "there is no certificate in it, which would begin with -----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    /// The SubjectPublicKeyInfo of an RSA key, with lengths of two bytes.
    fn key_info(modulus: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, value: &[u8]| {
            let length = u16::try_from(value.len()).expect("a short one").to_be_bytes();
            [&[tag, 0x82][..], &length, value].concat()
        };
        let integers = [wrap(INTEGER, modulus), wrap(INTEGER, &[1, 0, 1])].concat();
        let key = wrap(BIT_STRING, &[&[0][..], &wrap(SEQUENCE, &integers)].concat());
        let algorithm = wrap(SEQUENCE, &[RSA_ENCRYPTION, &[5, 0]].concat());
        wrap(SEQUENCE, &[algorithm, key].concat())
    }

    #[test]
    fn the_length_of_an_rsa_key_is_read() {
        let modulus = |bytes: usize, first: u8| {
            let mut modulus = vec![0xff; bytes];
            modulus[0] = first;
            modulus
        };
        assert_eq!(rsa_bits(&key_info(&[&[0], &modulus(128, 0x80)[..]].concat())), Some(1024));
        assert_eq!(rsa_bits(&key_info(&modulus(128, 0x7f))), Some(1023));
        assert_eq!(rsa_bits(&key_info(&[&[0], &modulus(256, 0xc0)[..]].concat())), Some(2048));
        assert_eq!(rsa_bits(&key_info(&[0])), None);
    }

    #[test]
    fn a_key_that_is_not_rsa_has_no_length_and_nothing_is_read_past_an_end() {
        let whole = key_info(&[0x80; 128]);
        for length in 0..whole.len() {
            assert_eq!(rsa_bits(&whole[..length]), None);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        let other = rcgen::PublicKeyData::subject_public_key_info(&key);
        assert_eq!(rsa_bits(&other), None);
    }
}
