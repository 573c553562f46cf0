//! The certificates of a Places service of our own: an authority made for it alone, and a certificate
//! of that authority for this machine. Made once and kept in a folder, so that a service that is
//! started again is still trusted by those who trust it now.
//!
//! | file | what |
//! |---|---|
//! | `ca.pem` | the authority's certificate: what `--places-ca` and `curl --cacert` want |
//! | `places.pem` | the service's certificate, for `localhost` and the loopback addresses |
//! | `places-key.pem` | its key, for its owner's eyes only |
//!
//! The authority's own key is thrown away: it signs nothing else.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::errors::plain;

/// A service's certificate and key, as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Why there are no certificates.
#[derive(Debug)]
pub enum CertificateError {
    /// They could not be made.
    Make(rcgen::Error),
    /// A file can't be read or written.
    File { path: PathBuf, error: io::Error },
}

/// The identity that is kept in `folder`; it is made where there is none.
pub fn keep(folder: &Path) -> Result<Identity, CertificateError> {
    let paths = [CA, CERTIFICATE, KEY].map(|name| folder.join(name));
    let [ca, certificate, key] = &paths;
    if paths.iter().all(|path| path.exists()) {
        return Ok(Identity { certificate: read(certificate)?, key: read(key)? });
    }
    let (authority, identity) = make().map_err(CertificateError::Make)?;
    fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    write(key, &identity.key, 0o600)?;
    write(certificate, &identity.certificate, 0o644)?;
    write(ca, &authority, 0o644)?; // Last: who waits for it finds all three.
    Ok(identity)
}

/// An authority's certificate, and an identity that it vouches for.
fn make() -> Result<(String, Identity), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "herd-mio Places authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "herd-mio Places service");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    let identity = Identity { certificate: certificate.pem(), key: key.serialize_pem() };
    Ok((authority.pem(), identity))
}

fn read(path: &Path) -> Result<String, CertificateError> {
    fs::read_to_string(path).map_err(|error| at(path, error))
}

/// Writes beside the file and then puts it in its place, so that nobody ever reads half of one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut open = OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(mode);
    let written = open
        .open(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| at(path, error))
}

fn at(path: &Path, error: io::Error) -> CertificateError {
    CertificateError::File { path: path.to_owned(), error }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::Make(error) => write!(f, "can't make a certificate: {error}"),
            CertificateError::File { path, error } => {
                write!(f, "the certificate's file {}: {}", path.display(), plain(error))
            }
        }
    }
}

impl std::error::Error for CertificateError {}

/// What to trust, in a service's folder.
pub const CA: &str = "ca.pem";
const CERTIFICATE: &str = "places.pem";
const KEY: &str = "places-key.pem";
