//! `[tls]`: who speaks TLS with whom, and with which files; and `[[server]] identity`.

use std::path::{Path, PathBuf};

use crate::application::TlsVersion;

/// `[tls]`. Without the section nothing of it is in force, and everything is plain text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// The servers' own certificate and key; None without `[tls]`.
    pub own: Option<OwnFiles>,
    /// For clients and the admin listener. Between servers only 1.3 is spoken.
    pub min_version: MinVersion,
    pub clients: ClientsTls,
    pub neighbours: NeighboursTls,
}

/// The files of a server's own certificate and key, with `{name}` for the server's name.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnFiles {
    /// The chain (PEM), the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
}

/// The lowest version of TLS that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinVersion(pub TlsVersion);

/// What a listener takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    #[default]
    Plain,
    /// The first byte decides.
    Both,
    Tls,
}

/// `[tls.clients]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientsTls {
    pub accept: Accept,
    pub certificates: ClientCertificates,
    /// The authorities of clients' certificates (PEM).
    pub ca: Option<PathBuf>,
    /// Revoked certificates of clients (PEM or DER).
    pub crl: Option<PathBuf>,
    /// Who may say IAMAT for which id.
    pub ids: Who,
    /// Who may say WHATSAT for which id.
    pub queries: Who,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    #[default]
    None,
    Optional,
    Required,
}

/// Who may speak for an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    #[default]
    Any,
    /// A client whose certificate names the id.
    Certificate,
}

/// `[tls.neighbours]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NeighboursTls {
    pub accept: Accept,
    /// Whether this server dials its neighbours with TLS. It never falls back to plain text.
    pub dials_tls: bool,
    /// The authorities of the servers' certificates (PEM); required if `accept` or `dial` is not plain.
    pub ca: Option<PathBuf>,
    /// Revoked certificates of servers (PEM or DER).
    pub crl: Option<PathBuf>,
}

impl Default for MinVersion {
    fn default() -> MinVersion {
        MinVersion(TlsVersion::V1_3)
    }
}

impl OwnFiles {
    /// The paths of the server of that name: certificate and key.
    pub fn of(&self, name: &str) -> (PathBuf, PathBuf) {
        (with_name(&self.certificate, name), with_name(&self.key, name))
    }
}

impl TlsSettings {
    /// Whether any listener or dial uses TLS, apart from the admin listener.
    pub fn is_used(&self) -> bool {
        self.clients.accept != Accept::Plain
            || self.neighbours.accept != Accept::Plain
            || self.neighbours.dials_tls
    }
}

fn with_name(path: &Path, name: &str) -> PathBuf {
    // A server's name is printable ASCII without a slash, and so is what it replaces.
    PathBuf::from(path.to_string_lossy().replace("{name}", name))
}
