//! Certificates for a herd without a PKI of its own: two authorities, and what they issue for servers and clients.
//!
//! | file | what |
//! |---|---|
//! | `herd-ca.pem`, `herd-ca.key` | the authority of servers |
//! | `clients-ca.pem`, `clients-ca.key` | the authority of clients; another one, so that no client can be a server |
//! | `NAME.pem`, `NAME.key` | a server |
//! | `client.ID.pem`, `client.ID.key` | a client |
//!
//! What is there is kept, so that making them can be repeated: it makes what is missing. A renewed certificate keeps its
//! key. Only one file changes then, and a server that reads both at that moment never sees two that do not fit.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use siphasher::sip::SipHasher13;

use super::issue::{self, DAY, Leaf};
use super::{CertificateError, at, certificates, check, create, is_busy, read, write};
use crate::tls::explain::{Other, Side, explain_tls};
use crate::tls::herd_trust::HerdTrust;
use crate::tls::names::{CLIENT, client_uri};
use crate::tls::own::check_pair;
use crate::tls::{Authorities, Certificate, Identity, Remedies, Revocations, key_of, unix_time};

/// What to make.
#[derive(Clone, Debug)]
pub struct Request {
    pub folder: PathBuf,
    pub servers: Vec<ServerNames>,
    /// The ids that clients speak for, each with a certificate of its own.
    pub clients: Vec<Vec<u8>>,
    /// How long certificates of servers and clients are valid.
    pub days: u32,
    /// Whether certificates with fewer than [`RENEWED_BELOW`] days are issued again.
    pub renews: bool,
    /// Unix seconds.
    pub now: i64,
}

/// How a server is called.
#[derive(Clone, Debug)]
pub struct ServerNames {
    pub name: String,
    pub identity: Identity,
    /// Names and addresses by which clients and other tools reach it. Neighbours do not look at them.
    pub hosts: Vec<String>,
}

/// What became of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The certificate's file in the folder.
    pub file: String,
    /// Whom it names.
    pub names: String,
    /// Unix seconds.
    pub not_after: i64,
    pub done: Done,
    /// Why it should be made again, in words for the operator.
    pub note: Option<String>,
}

/// What was done about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Made,
    Renewed,
    /// It was there.
    Kept,
}

/// Makes what is missing in the folder. After an error, what was made before it stays, and is kept the next time.
pub fn make(request: &Request) -> Result<Vec<Row>, CertificateError> {
    let folder = &request.folder;
    create(folder, 0o700)?;
    check(folder)?;
    check_private(folder)?;
    let lock = File::open(folder).map_err(|error| at(folder, error))?;
    if is_busy(&lock, LOCK_WAIT) {
        return Err(CertificateError::Busy { path: folder.clone() });
    }
    let mut making = Making { request, rows: Vec::new() };
    let herd = making.authority(HERD_CA, "herd-mio herd")?;
    let clients = making.authority(CLIENTS_CA, "herd-mio clients")?;
    for server in &request.servers {
        making.server(server, &herd)?;
    }
    for (stem, uris) in clients_of(request)? {
        making.client(&stem, &uris, &clients)?;
    }
    lock.sync_all().map_err(|error| at(folder, error))?;
    Ok(making.rows)
}

/// Others must not even see which keys there are.
fn check_private(folder: &Path) -> Result<(), CertificateError> {
    let mode = fs::metadata(folder).map_err(|error| at(folder, error))?.mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let reason = "other users can open it (chmod o-rwx)".to_owned();
    Err(CertificateError::Folder { path: folder.to_owned(), reason })
}

/// The clients' files, without their ending, and whom they name: those that are asked for, then the others that are
/// there.
fn clients_of(request: &Request) -> Result<Vec<(String, Vec<String>)>, CertificateError> {
    let asked = request.clients.iter().map(|id| (client_file(id), vec![client_uri(id)]));
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for one in asked {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    let folder = &request.folder;
    let entries = fs::read_dir(folder).map_err(|error| at(folder, error))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let stem = |name: String| name.strip_suffix(".pem").map(str::to_owned);
    let mut stems: Vec<String> =
        names.filter_map(stem).filter(|stem| stem.starts_with(CLIENT_FILE)).collect();
    stems.sort();
    for stem in stems {
        if !found.iter().any(|(asked, _)| *asked == stem) {
            let path = folder.join(format!("{stem}.pem"));
            let uris = read_certificate(&path, &read(&path)?)?.1.names.uris;
            found.push((stem, uris));
        }
    }
    Ok(found)
}

/// A file's name for the certificate of a client, whatever its id is. No server's name has a dot.
fn client_file(id: &[u8]) -> String {
    let uri = client_uri(id);
    // A file system may not distinguish upper and lower case, and a dot or a tilde may have a meaning.
    let written = utf8_percent_encode(uri.strip_prefix(CLIENT).unwrap_or(&uri), NO_TILDE);
    let mut written = written.to_string();
    if written.len() > ID_SHOWN {
        let hash = SipHasher13::new().hash(id);
        written = format!("{}-{hash:016x}", &written[..ID_SHOWN]); // It is ASCII.
    }
    format!("{CLIENT_FILE}{written}")
}

/// An authority in the folder. Its key is elsewhere most of the time.
struct Authority {
    /// Its files' name, without an ending.
    stem: &'static str,
    pem: String,
    not_after: i64,
}

/// A certificate that should be in the folder.
struct Wanted<'a> {
    stem: &'a str,
    leaf: Leaf<'a>,
    /// What it must be accepted for.
    identity: Identity,
}

struct Making<'a> {
    request: &'a Request,
    rows: Vec<Row>,
}

impl Making<'_> {
    fn path(&self, stem: &str, ending: &str) -> PathBuf {
        self.request.folder.join(format!("{stem}.{ending}"))
    }

    fn expires_soon(&self, not_after: i64) -> bool {
        not_after - self.request.now < RENEWED_BELOW * DAY
    }

    fn authority(
        &mut self,
        stem: &'static str,
        whose: &str,
    ) -> Result<Authority, CertificateError> {
        let path = self.path(stem, "pem");
        let mut note = None;
        let mut done = Done::Made;
        let mut pem = None;
        if exists(&path) {
            let text = read(&path)?;
            let not_after = read_certificate(&path, &text)?.1.not_after;
            done = match self.request.renews && self.expires_soon(not_after) {
                true => Done::Renewed,
                false => Done::Kept,
            };
            if done == Done::Kept && self.expires_soon(not_after) {
                note = Some(SOON.to_owned());
            }
            pem = (done == Done::Kept).then_some(text);
        }
        let pem = match pem {
            Some(pem) => pem,
            None => {
                let key = match done {
                    Done::Renewed => self.authoritys_key(stem, stem)?,
                    _ => self.key(stem)?,
                };
                let pem = issue::authority(whose, &key, self.request.now);
                let pem = pem.map_err(CertificateError::Make)?;
                write(&self.request.folder, &format!("{stem}.pem"), &pem, 0o644)?;
                pem
            }
        };
        let not_after = read_certificate(&path, &pem)?.1.not_after;
        let names = match stem {
            HERD_CA => "the authority of servers",
            _ => "the authority of clients",
        };
        let (file, names) = (format!("{stem}.pem"), names.to_owned());
        self.rows.push(Row { file, names, not_after, done, note });
        Ok(Authority { stem, pem, not_after })
    }

    fn server(
        &mut self,
        server: &ServerNames,
        authority: &Authority,
    ) -> Result<(), CertificateError> {
        let (uris, mut hosts) = match &server.identity {
            Identity::Uri(uri) => (vec![uri.clone()], Vec::new()),
            Identity::Dns(name) => (Vec::new(), vec![name.clone()]),
        };
        // A host's name that is another server's identity would make this server that one.
        let is_others = |host: &String| {
            let others = self.request.servers.iter().filter(|other| other.name != server.name);
            others.map(|other| &other.identity).any(|identity| match identity {
                Identity::Dns(name) => name.eq_ignore_ascii_case(host),
                Identity::Uri(_) => false,
            })
        };
        for host in server.hosts.iter().filter(|host| !is_others(host)) {
            if !hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
                hosts.push(host.clone());
            }
        }
        let common_name = server.name.clone();
        let leaf = Leaf { common_name, uris: &uris, hosts: &hosts, is_server: true };
        let identity = server.identity.clone();
        self.leaf(Wanted { stem: &server.name, leaf, identity }, authority)
    }

    fn client(
        &mut self,
        stem: &str,
        uris: &[String],
        authority: &Authority,
    ) -> Result<(), CertificateError> {
        let Some(first) = uris.first() else {
            return Ok(()); // It is somebody else's file.
        };
        let common_name = "a client".to_owned();
        let leaf = Leaf { common_name, uris, hosts: &[], is_server: false };
        self.leaf(Wanted { stem, leaf, identity: Identity::Uri(first.clone()) }, authority)
    }

    fn leaf(&mut self, wanted: Wanted<'_>, authority: &Authority) -> Result<(), CertificateError> {
        let path = self.path(wanted.stem, "pem");
        let key_path = self.path(wanted.stem, "key");
        if exists(&key_path) {
            check_key(&key_path)?;
        }
        let mut row = Row {
            file: format!("{}.pem", wanted.stem),
            names: match &wanted.identity {
                Identity::Uri(uri) => uri.clone(),
                Identity::Dns(_) => wanted.identity.to_string(),
            },
            not_after: 0,
            done: Done::Made,
            note: None,
        };
        if exists(&path) {
            let text = read(&path)?;
            let (der, certificate) = read_certificate(&path, &text)?;
            row.not_after = certificate.not_after;
            row.done = Done::Renewed;
            if !(self.request.renews && self.expires_soon(certificate.not_after)) {
                row.done = Done::Kept;
                row.note = self.why_again(&wanted, authority, &der, certificate.not_after);
                self.rows.push(row);
                return Ok(());
            }
        }
        let issuer = self.issuer(authority, wanted.stem)?;
        let key = self.key(wanted.stem)?;
        let ends = self.request.now + i64::from(self.request.days) * DAY;
        row.not_after = ends.min(authority.not_after);
        let pem = issue::leaf(&issuer, &key, &wanted.leaf, self.request.now, row.not_after);
        let pem = pem.map_err(CertificateError::Make)?;
        write(&self.request.folder, &row.file, &pem, 0o644)?;
        self.rows.push(row);
        Ok(())
    }

    /// Why a certificate that is kept should not be, if so.
    fn why_again(
        &self,
        wanted: &Wanted<'_>,
        authority: &Authority,
        der: &CertificateDer<'_>,
        not_after: i64,
    ) -> Option<String> {
        let usage = match wanted.leaf.is_server {
            true => webpki::KeyUsage::server_auth(),
            false => webpki::KeyUsage::client_auth(),
        };
        let authorities = Authorities::from_pem(authority.pem.as_bytes()).ok()?;
        let none = Revocations::none();
        let trust = HerdTrust::new(wanted.identity.clone(), &authorities, &none).ok()?;
        match trust.verify(der, &[], unix_time(self.request.now), usage) {
            Ok(()) if self.expires_soon(not_after) => Some(SOON.to_owned()),
            Ok(()) => None,
            Err(error) => {
                let remedies = Remedies { authorities: CA_FILE, address: "the configuration" };
                let side = match wanted.leaf.is_server {
                    true => Side::Server,
                    false => Side::Client,
                };
                let other = Other { name: wanted.stem.to_owned(), remedies, side };
                Some(format!("{}; remove it to have it made again", explain_tls(&error, &other)))
            }
        }
    }

    /// The key of a certificate: the one that is there, or a new one.
    fn key(&self, stem: &str) -> Result<KeyPair, CertificateError> {
        let path = self.path(stem, "key");
        if exists(&path) {
            check_key(&path)?;
            let text = read(&path)?;
            return KeyPair::from_pem(&text).map_err(|_| unusable(&path, NOT_PKCS8));
        }
        let key = KeyPair::generate().map_err(CertificateError::Make)?;
        write(&self.request.folder, &format!("{stem}.key"), &key.serialize_pem(), 0o600)?;
        Ok(key)
    }

    /// The key of an authority, which signs the certificate in `wanted`.
    fn authoritys_key(&self, stem: &str, wanted: &str) -> Result<KeyPair, CertificateError> {
        let path = self.path(stem, "key");
        match exists(&path) {
            true => self.key(stem),
            false => Err(CertificateError::NoAuthority { path, wanted: format!("{wanted}.pem") }),
        }
    }

    /// The authority, ready to sign the certificate in `wanted`.
    fn issuer(
        &self,
        authority: &Authority,
        wanted: &str,
    ) -> Result<Issuer<'static, KeyPair>, CertificateError> {
        let key = self.authoritys_key(authority.stem, wanted)?;
        let chain = certificates(&authority.pem);
        let pair = key_of(&key.serialize_pem()).and_then(|key| check_pair(chain, key));
        pair.map_err(|error| unusable(&self.path(authority.stem, "key"), &error.to_string()))?;
        Issuer::from_ca_cert_pem(&authority.pem, key).map_err(CertificateError::Make)
    }
}

/// Whether there is anything of that name, if only a link that leads nowhere.
fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// A key that others can read is no secret.
fn check_key(path: &Path) -> Result<(), CertificateError> {
    let mode = fs::metadata(path).map_err(|error| at(path, error))?.mode();
    match mode & OTHERS {
        0 => Ok(()),
        _ => Err(unusable(
            path,
            "other users can read it (chmod o-rwx), and may have; make a new one",
        )),
    }
}

/// The first certificate in a file.
fn read_certificate(
    path: &Path,
    text: &str,
) -> Result<(CertificateDer<'static>, Certificate), CertificateError> {
    let der = certificates(text).into_iter().next();
    let der = der.ok_or_else(|| unusable(path, "there is no certificate in it"))?;
    let certificate =
        Certificate::read(&der).map_err(|error| unusable(path, &error.to_string()))?;
    Ok((der, certificate))
}

fn unusable(path: &Path, reason: &str) -> CertificateError {
    CertificateError::Unusable { path: path.to_owned(), reason: reason.to_owned() }
}

/// The names of the authorities' files, without an ending. No server may have one of them as its name.
pub const AUTHORITIES: [&str; 2] = [HERD_CA, CLIENTS_CA];
const HERD_CA: &str = "herd-ca";
const CLIENTS_CA: &str = "clients-ca";
const CLIENT_FILE: &str = "client.";
/// Certificates with fewer days are renewed: servers warn from then on, too.
pub const RENEWED_BELOW: i64 = 30;
const SOON: &str = "has fewer than 30 days; --renew issues it again";
const CA_FILE: &str = "the folder's authority";
const NOT_PKCS8: &str = "it is not a key as PKCS#8 (openssl pkcs8 -topk8 -nocrypt converts others)";
/// The bits of a mode that are for other users.
const OTHERS: u32 = 0o007;
/// Characters of an id in a file's name; names have 255 bytes at most.
const ID_SHOWN: usize = 120;
/// What is encoded in a URI stays so, and its percent signs are not encoded once more.
const NO_TILDE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'%');
/// How long to wait for another process that makes certificates in the folder.
const LOCK_WAIT: Duration = Duration::from_secs(10);
