//! Which certificates of other servers of the herd are trusted: those that one of the herd's authorities has issued for
//! servers, that are valid and not revoked, and that name the server that was dialled.
//!
//! webpki decides everything but the name. The host that was dialled plays no part: a person who controls a DNS zone or
//! an address could have a certificate for it, and a herd behind NAT or in containers has other addresses than it knows
//! of.

use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    self, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::explain::of_webpki;
use super::trust::{Distrust, distrust};
use super::{Authorities, Identity, Names, Revocations, TlsError};

/// The verifier that the module's description explains.
pub(super) struct HerdTrust {
    identity: Identity,
    roots: RootCertStore,
    revoked: Revocations,
    algorithms: WebPkiSupportedAlgorithms,
}

impl HerdTrust {
    pub fn new(
        identity: Identity,
        authorities: &Authorities,
        revoked: &Revocations,
    ) -> Result<HerdTrust, TlsError> {
        revoked.check(authorities)?;
        let roots = authorities.roots()?;
        let algorithms = crypto::ring::default_provider().signature_verification_algorithms;
        Ok(HerdTrust { identity, roots, revoked: revoked.clone(), algorithms })
    }

    /// Judges a chain now, the server's own certificate first.
    pub fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let (leaf, others) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.verify(leaf, others, UnixTime::now(), webpki::KeyUsage::server_auth())
    }

    /// The same at a time, and for one of the two usages.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        usage: webpki::KeyUsage,
    ) -> Result<(), Error> {
        let parsed = webpki::EndEntityCert::try_from(leaf).map_err(of_webpki)?;
        let lists = self.revoked.lists();
        let revocation = Revocations::options(&lists);
        let (algorithms, roots) = (self.algorithms.all, &self.roots.roots);
        parsed
            .verify_for_usage(algorithms, roots, others, now, usage, revocation, None)
            .map_err(of_webpki)?;
        let names = Names::in_certificate(&parsed);
        match self.identity.is_in(&names) {
            true => Ok(()),
            false => {
                let expected = self.identity.clone();
                Err(distrust(Distrust::OtherIdentity { expected, found: names }))
            }
        }
    }
}

impl ServerCertVerifier for HerdTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usage = webpki::KeyUsage::server_auth();
        self.verify(end_entity, intermediates, now, usage).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for HerdTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HerdTrust").field("identity", &self.identity).finish_non_exhaustive()
    }
}
