//! Certificates for one's own service: an authority made only for it, and a certificate that this authority
//! issues for this machine. They are made once and kept in a folder, so that clients that trust the service
//! still trust it after a restart.
//!
//! | file | what |
//! |---|---|
//! | `ca.pem` | the authority's certificate: what clients need to trust it (`curl --cacert`) |
//! | `NAME.pem` | the service's certificate, for `localhost` and the loopback addresses |
//! | `NAME-key.pem` | its key, which only its owner may read |
//!
//! The authority's own key is discarded: it signs nothing else. Certificates that somebody else has put there
//! are used and never overwritten.
//!
//! [`herd`] makes those of a whole herd.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{ServerTls, plain};

pub mod herd;
mod issue;

/// The service that the certificates are for.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The beginning of its files' names.
    pub file: &'static str,
    /// The beginning of the names in its certificates. By it this program recognizes the certificates that it
    /// has made.
    pub mark: &'static str,
}

/// A service's certificate and key, as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// Why certificates could not be made or used.
#[derive(Debug)]
pub enum CertificateError {
    /// They could not be created.
    Make(rcgen::Error),
    /// A file cannot be read or written.
    File { path: PathBuf, error: io::Error },
    /// The folder does not exist and cannot be created.
    Create { path: PathBuf, error: io::Error },
    /// Another user could put their own key into the folder, or read ours.
    Folder { path: PathBuf, reason: String },
    /// A certificate that this program has not made and therefore does not overwrite.
    Foreign { path: PathBuf, service: Service },
    /// What is in a file is of no use.
    Unusable { path: PathBuf, reason: String },
    /// The key of an authority is not there, and the certificate `wanted` needs it.
    NoAuthority { path: PathBuf, wanted: String },
    /// Another process makes certificates in the folder.
    Busy { path: PathBuf },
}

impl Service {
    fn certificate(self) -> String {
        format!("{}.pem", self.file)
    }

    fn key(self) -> String {
        format!("{}-key.pem", self.file)
    }
}

/// The identity in `folder`. It is made if there is none, and made again if this program's files are empty,
/// truncated or unreadable, say because the disk was full.
pub fn keep(folder: &Path, service: Service) -> Result<Identity, CertificateError> {
    create(folder, 0o755)?;
    check(folder)?;
    if let Some(identity) = kept(folder, service)? {
        return Ok(identity);
    }
    let lock = File::open(folder).map_err(|error| at(folder, error))?;
    is_busy(&lock, LOCK_WAIT); // If it still is, nothing breaks: each file is replaced as a whole.
    if let Some(identity) = kept(folder, service)? {
        return Ok(identity); // Another process has made it meanwhile.
    }
    let (authority, identity) = make(service.mark).map_err(CertificateError::Make)?;
    write(folder, &service.key(), &identity.key, 0o600)?;
    write(folder, &service.certificate(), &identity.certificate, 0o644)?;
    write(folder, CA, &authority, 0o644)?; // Last: a process that waits for it finds all three.
    lock.sync_all().map_err(|error| at(folder, error))?;
    Ok(identity)
}

/// Makes the folder, and those that it is in, if they are not there.
fn create(folder: &Path, mode: u32) -> Result<(), CertificateError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(folder);
    made.map_err(|error| CertificateError::Create { path: folder.to_owned(), error })
}

/// The folder must belong to us or to root, and no other user may write to it.
fn check(folder: &Path) -> Result<(), CertificateError> {
    let found = fs::metadata(folder).map_err(|error| at(folder, error))?;
    let (own, owner) = (geteuid().as_raw(), found.uid());
    // Many systems give each user a private group with the same number.
    let others = if found.gid() == own { 0o002 } else { 0o022 };
    let reason = if owner != own && owner != 0 {
        format!("it belongs to another user (uid {owner})")
    } else if found.mode() & others != 0 {
        "other users can write to it (chmod go-w)".to_owned()
    } else {
        return Ok(());
    };
    Err(CertificateError::Folder { path: folder.to_owned(), reason })
}

/// The identity in the folder, if all of its files can be used.
fn kept(folder: &Path, service: Service) -> Result<Option<Identity>, CertificateError> {
    let names = [CA.to_owned(), service.certificate(), service.key()];
    let [ca, certificate, key] = names.map(|name| read(&folder.join(name)));
    let (ca, certificate, key) = (ca?, certificate?, key?);
    let is_whole =
        !certificates(&ca).is_empty() && ServerTls::new(&certificate, &key, None, &[]).is_ok();
    if is_whole {
        return Ok(Some(Identity { certificate, key }));
    }
    for (name, text) in [(CA.to_owned(), ca), (service.certificate(), certificate)] {
        let is_ours =
            |found: &CertificateDer<'_>| memmem::find(found, service.mark.as_bytes()).is_some();
        if !certificates(&text).iter().all(is_ours) {
            return Err(CertificateError::Foreign { path: folder.join(name), service });
        }
    }
    Ok(None)
}

/// The whole certificates in a PEM text.
fn certificates(text: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok).collect()
}

/// Waits until no other process makes certificates in the folder, and keeps others from it while `lock` is open. Returns
/// whether one still does when the time is over. A file system without locks is used without.
fn is_busy(lock: &File, limit: Duration) -> bool {
    let begin = Instant::now();
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) if begin.elapsed() < limit => thread::sleep(LOCK_PROBE),
            result => return result == Err(Errno::AGAIN),
        }
    }
}

/// An authority's certificate, and an identity that it has signed.
fn make(mark: &str) -> Result<(String, Identity), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("{mark} authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, format!("{mark} service"));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    let identity = Identity { certificate: certificate.pem(), key: key.serialize_pem() };
    Ok((authority.pem(), identity))
}

/// The content of a file; an empty string if it is missing, may not be read, or is not text.
fn read(path: &Path) -> Result<String, CertificateError> {
    // Do not wait for the writer of a FIFO.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let mut bytes = Vec::new();
    match opened.and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => Ok(String::from_utf8(bytes).unwrap_or_default()),
        Err(error) if is_no_file(error.kind()) => Ok(String::new()),
        Err(error) => Err(at(path, error)),
    }
}

fn is_no_file(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// Writes a temporary file and renames it, so that no process ever reads half a file. The temporary file is
/// always new and readable only by its owner, whatever was at that path before.
fn write(folder: &Path, name: &str, text: &str, mode: u32) -> Result<(), CertificateError> {
    let random = RandomState::new().hash_one(name);
    let beside = folder.join(format!(".{name}.{random:016x}"));
    let mut open = OpenOptions::new();
    open.write(true).create_new(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let path = folder.join(name);
    let mut file = open.open(&beside).map_err(|error| at(&path, error))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, &path));
    written.map_err(|error| {
        // What was written is useless; an error in removing it matters less.
        let _ = fs::remove_file(&beside);
        at(&path, error)
    })
}

fn at(path: &Path, error: io::Error) -> CertificateError {
    CertificateError::File { path: path.to_owned(), error }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::Make(error) => write!(f, "cannot create a certificate: {error}"),
            CertificateError::File { path, error } => {
                write!(f, "cannot use the certificate file {}: {}", path.display(), plain(error))
            }
            CertificateError::Create { path, error } => {
                write!(f, "cannot create the folder {}: {}", path.display(), plain(error))
            }
            CertificateError::Folder { path, reason } => {
                write!(f, "the folder {} is not safe for a private key: {reason}", path.display())
            }
            CertificateError::Unusable { path, reason } => {
                write!(f, "{} can't be used: {reason}", path.display())
            }
            CertificateError::NoAuthority { path, wanted } => write!(
                f,
                "{} is not there, and {wanted} can't be made without it: bring the key back for as long as it is needed",
                path.display()
            ),
            CertificateError::Busy { path } => {
                write!(f, "another process makes certificates in the folder {}", path.display())
            }
            CertificateError::Foreign { path, service } => write!(
                f,
                "{} was not created by this program, and the set of {CA}, {} and {} is incomplete; \
                 complete it",
                path.display(),
                service.certificate(),
                service.key()
            ),
        }
    }
}

impl std::error::Error for CertificateError {}

/// The file in a service's folder that clients must trust.
pub const CA: &str = "ca.pem";
/// More than any of the files contains.
const FILE_BYTES: u64 = 1024 * 1024;
/// How long to wait for another process that makes certificates, and how often to check.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PROBE: Duration = Duration::from_millis(10);
