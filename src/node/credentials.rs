//! The certificates, keys and lists of `[tls]` and `[admin]`: read from their files, and judged as other servers will
//! judge them. Each file is opened once, and everything is read from that descriptor, so nobody can exchange it between
//! a check and its use. A key never leaves this value but for rustls.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use crate::config::{Accept, Config, ServerConfig};
use crate::errors::plain;
use crate::files;
use crate::limits::CERTIFICATE_FILE_BYTES;
use crate::tls::{
    Authorities, Certificate, CertificateUse, Expiry, Own, OwnError, OwnHerd, Revocations,
    TlsError, judge_own,
};

/// What was read for one server. Without `[tls]` all of it is empty.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Credentials {
    pub own: Option<OwnCredentials>,
    /// Of the other servers.
    pub herd: Trusted,
    pub clients: Trusted,
    pub operators: Trusted,
}

/// The server's own certificate and key (PEM). It has no `Debug`: nothing may print the key.
#[derive(Clone, PartialEq)]
pub(super) struct OwnCredentials {
    pub chain: String,
    pub key: String,
    certificate: Certificate,
}

/// Whom to trust.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Trusted {
    pub authorities: Option<Authorities>,
    pub revoked: Revocations,
}

/// Why a file can't be used.
#[derive(Debug)]
pub(super) struct CredentialsError {
    path: PathBuf,
    reason: String,
    pub kind: ErrorKind,
}

/// What a host that has the files of some servers only can go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The server's own certificate or key is not there.
    Missing,
    /// The certificate is another server's.
    OtherServer,
    Unusable,
}

impl Credentials {
    /// Reads the files for a server, and judges its certificate.
    pub fn load(config: &Config, server: &ServerConfig) -> Result<Credentials, CredentialsError> {
        let tls = &config.tls;
        let herd = trusted(config, [&tls.neighbours.ca, &tls.neighbours.crl], HERD)?;
        let clients = trusted(config, [&tls.clients.ca, &tls.clients.crl], CLIENTS)?;
        let operators = trusted(config, [&config.admin.ca, &None], OPERATORS)?;
        let mut credentials = Credentials { own: None, herd, clients, operators };
        if let Some(own) = &tls.own {
            let (certificate, key) = own.of(&server.name);
            let paths = [config.file(&certificate), config.file(&key)];
            credentials.own = Some(own_of(&paths, config, server, &credentials.herd)?);
        }
        Ok(credentials)
    }

    /// What has changed in the files from these to `new`, in words. A file that was not there before, or is not needed any
    /// more, belongs to a setting that has changed.
    pub fn changes(&self, new: &Credentials) -> Vec<String> {
        let mut changes = Vec::new();
        if let (Some(before), Some(after)) = (&self.own, &new.own) {
            if before.chain != after.chain {
                let end = day(after.certificate.not_after);
                changes.push(format!("tls certificate changed (valid until {end})"));
            }
            if before.key != after.key {
                changes.push("tls key changed".to_owned());
            }
        }
        for (what, before, after) in [
            ("tls neighbours", &self.herd, &new.herd),
            ("tls clients", &self.clients, &new.clients),
            ("admin", &self.operators, &new.operators),
        ] {
            if let (Some(one), Some(other)) = (&before.authorities, &after.authorities)
                && one != other
            {
                let end = other.not_after().map(|end| format!(" (valid until {})", day(end)));
                changes.push(format!("{what} ca changed{}", end.unwrap_or_default()));
            }
            let has_both = !before.revoked.is_empty() && !after.revoked.is_empty();
            if has_both && before.revoked != after.revoked {
                let next = after.revoked.next_update();
                let next = next.map(|next| format!(" (next update {})", day(next)));
                changes.push(format!("{what} crl changed{}", next.unwrap_or_default()));
            }
        }
        changes
    }

    /// Until when each of them is valid.
    pub fn expiries(&self) -> Vec<Expiry> {
        let end = |trusted: &Trusted| trusted.authorities.as_ref().and_then(Authorities::not_after);
        let own = self.own.as_ref().map(OwnCredentials::not_after);
        let all = [
            (CertificateUse::Server, own),
            (CertificateUse::HerdCa, end(&self.herd)),
            (CertificateUse::HerdCrl, self.herd.revoked.next_update()),
            (CertificateUse::ClientsCa, end(&self.clients)),
            (CertificateUse::ClientsCrl, self.clients.revoked.next_update()),
            (CertificateUse::AdminCa, end(&self.operators)),
        ];
        let known = all.into_iter().filter_map(|(what, end)| Some((what, end?)));
        known.map(|(what, not_after)| Expiry { what, not_after }).collect()
    }
}

impl OwnCredentials {
    /// The earliest end of all certificates of the chain (Unix seconds).
    fn not_after(&self) -> i64 {
        let chain = Authorities::from_pem(self.chain.as_bytes()).ok();
        let earliest = chain.and_then(|chain| chain.not_after());
        earliest.unwrap_or(self.certificate.not_after)
    }
}

fn own_of(
    [certificate, key]: &[PathBuf; 2],
    config: &Config,
    server: &ServerConfig,
    herd: &Trusted,
) -> Result<OwnCredentials, CredentialsError> {
    let what = CertificateUse::Server.setting();
    let chain = text(certificate, what, files::read_regular)?;
    let private = text(key, KEY, files::read_private)?;
    let tls = &config.tls.neighbours;
    let is_of_herd = tls.dials_tls || tls.accept != Accept::Plain;
    let authorities = herd.authorities.as_ref().filter(|_| is_of_herd);
    let herd = authorities.map(|authorities| OwnHerd {
        identity: &server.identity,
        authorities,
        revoked: &herd.revoked,
    });
    let own = Own { chain: &chain, key: &private, herd };
    match judge_own(&own, now()) {
        Ok(judged) => Ok(OwnCredentials { chain, key: private, certificate: judged }),
        Err(error) => {
            let path = if matches!(error, OwnError::Key(_)) { key } else { certificate };
            let is_others = matches!(error, OwnError::Identity(_));
            let kind = if is_others { ErrorKind::OtherServer } else { ErrorKind::Unusable };
            let reason = match error {
                OwnError::Pair(_) => format!("{error} (the key is {})", key.display()),
                _ => error.to_string(),
            };
            Err(CredentialsError { path: path.clone(), reason, kind })
        }
    }
}

/// The settings of authorities, and of a list of revoked certificates.
type Settings = [CertificateUse; 2];
const HERD: Settings = [CertificateUse::HerdCa, CertificateUse::HerdCrl];
const CLIENTS: Settings = [CertificateUse::ClientsCa, CertificateUse::ClientsCrl];
/// There is no list for operators: an authority for them alone is quickly exchanged.
const OPERATORS: Settings = [CertificateUse::AdminCa, CertificateUse::AdminCa];

fn trusted(
    config: &Config,
    [ca, crl]: [&Option<PathBuf>; 2],
    [of_ca, of_crl]: Settings,
) -> Result<Trusted, CredentialsError> {
    let mut trusted = Trusted::default();
    if let Some(ca) = ca {
        let authorities = parsed(&config.file(ca), of_ca.setting(), Authorities::from_pem)?;
        trusted.authorities = Some(authorities);
    }
    if let Some(crl) = crl {
        // The configuration has no list without authorities.
        let authorities = trusted.authorities.as_ref();
        let parse = |bytes: &[u8]| {
            let lists = Revocations::from_bytes(bytes)?;
            authorities.map_or(Ok(()), |authorities| lists.check(authorities)).map(|()| lists)
        };
        trusted.revoked = parsed(&config.file(crl), of_crl.setting(), parse)?;
    }
    Ok(trusted)
}

fn parsed<T>(
    path: &Path,
    setting: &str,
    parse: impl Fn(&[u8]) -> Result<T, TlsError>,
) -> Result<T, CredentialsError> {
    let bytes = files::read_regular(path, CERTIFICATE_FILE_BYTES);
    let bytes = bytes.map_err(|error| CredentialsError {
        // A file that all servers share must be there.
        kind: ErrorKind::Unusable,
        ..unreadable(path, setting, &error)
    })?;
    parse(&bytes).map_err(|error| CredentialsError {
        path: path.to_owned(),
        reason: format!("{setting}: {error}"),
        kind: ErrorKind::Unusable,
    })
}

/// The text of a file of PEM.
fn text(
    path: &Path,
    setting: &str,
    read: impl Fn(&Path, u64) -> io::Result<Vec<u8>>,
) -> Result<String, CredentialsError> {
    let bytes = read(path, CERTIFICATE_FILE_BYTES);
    let bytes = bytes.map_err(|error| unreadable(path, setting, &error))?;
    String::from_utf8(bytes).map_err(|_| CredentialsError {
        path: path.to_owned(),
        reason: format!("{setting}: this is not PEM; convert it with openssl"),
        kind: ErrorKind::Unusable,
    })
}

fn unreadable(path: &Path, setting: &str, error: &io::Error) -> CredentialsError {
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let kind = if is_missing { ErrorKind::Missing } else { ErrorKind::Unusable };
    let remedy = if is_missing {
        "; make it (herd-mio --make-certificates DIR), or correct the path"
    } else {
        ""
    };
    let reason = format!("{setting}: {}{remedy}", plain(error));
    CredentialsError { path: path.to_owned(), reason, kind }
}

/// Unix seconds.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A day, UTC.
fn day(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => "the end of time".to_owned(),
    }
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// The setting of the key.
const KEY: &str = "[tls] key";
