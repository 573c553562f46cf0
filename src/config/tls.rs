//! `[tls]`: who speaks TLS with whom, and with which files; and `[[server]] identity`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::admin::is_loopback;
use super::document::{Document, Section};
use super::file::HINTS;
use super::{Config, ServerConfig};
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

    /// Whether each server has a certificate of its own by its path.
    pub fn is_of_one(&self) -> bool {
        self.certificate.to_string_lossy().contains("{name}")
    }
}

impl Config {
    /// Where a file of the configuration is.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The files of certificates, keys and lists that a server reads.
    pub fn tls_files(&self, server: &ServerConfig) -> Vec<PathBuf> {
        let TlsSettings { own, clients, neighbours, .. } = &self.tls;
        let own = own.as_ref().map(|own| own.of(&server.name));
        let own = own.into_iter().flat_map(|(certificate, key)| [certificate, key]);
        let shared = [&clients.ca, &clients.crl, &neighbours.ca, &neighbours.crl, &self.admin.ca];
        let shared = shared.into_iter().flatten().cloned();
        own.chain(shared).map(|path| self.file(&path)).collect()
    }

    /// The same for all servers.
    pub fn all_tls_files(&self) -> Vec<PathBuf> {
        let files = self.servers.iter().flat_map(|server| self.tls_files(server));
        files.collect::<BTreeSet<PathBuf>>().into_iter().collect()
    }

    /// A warning, if clients on other hosts may talk with a server in plain text.
    pub fn plain_clients(&self, server: &ServerConfig) -> Option<String> {
        let ServerConfig { name, listen, .. } = server;
        let is_warned = self.tls.clients.accept != Accept::Tls && !is_loopback(*listen);
        is_warned.then(|| {
            format!(
                "clients on other hosts can talk with {name} in plain text ({listen}); accept = \"tls\" in \
                 [tls.clients] forbids it"
            )
        })
    }
}

/// A path with the name of a server in place of `{name}`.
pub(super) fn with_name(path: &Path, name: &str) -> PathBuf {
    // A server's name is printable ASCII without a slash, and so is what it replaces.
    PathBuf::from(path.to_string_lossy().replace("{name}", name))
}

/// Reads the section. If there is one, TLS is the default between servers and for clients.
pub(super) fn read(document: &Document<'_>, top: &mut Section<'_, '_>, tls: &mut TlsSettings) {
    let mut section = top.section("tls");
    if top.has("tls") {
        tls.clients.accept = Accept::Tls;
        tls.neighbours =
            NeighboursTls { accept: Accept::Tls, dials_tls: true, ..Default::default() };
    }
    let certificate = file_path(&mut section, "certificate", "\"tls/{name}.pem\"");
    let key = file_path(&mut section, "key", "\"tls/{name}.key\"");
    let version = section.parsed("min_version", MinVersion::named, "\"1.2\" or \"1.3\"");
    tls.min_version = version.map_or(tls.min_version, Spanned::into_inner);
    let mut clients = section.subsection("clients", "tls.clients");
    let at_clients = read_clients(document, &mut clients, &mut tls.clients);
    clients.finish(&HINTS);
    let mut neighbours = section.subsection("neighbours", "tls.neighbours");
    let at_neighbours = read_neighbours(document, &mut neighbours, &mut tls.neighbours);
    neighbours.finish(&HINTS);
    if let Some(at) = at_clients.or(at_neighbours) {
        for (name, path, such_as) in
            [("certificate", &certificate, "tls/{name}.pem"), ("key", &key, "tls/{name}.key")]
        {
            if path.is_none() && !section.has(name) {
                let text = format!(
                    "tls.{name} is missing; expected the path of a file, such as {such_as:?} (or accept = \
                     \"plain\" in [tls.clients] and [tls.neighbours], and dial = \"plain\")"
                );
                document.fault(&at, text);
            }
        }
    } else if certificate.is_some() != key.is_some() {
        let text = "tls.certificate and tls.key belong together; set both, or none".to_owned();
        document.fault(section.at(), text);
    }
    let own = certificate.zip(key).map(|(certificate, key)| OwnFiles {
        certificate: certificate.into_inner(),
        key: key.into_inner(),
    });
    tls.own = own;
    section.finish(&HINTS);
}

/// Reads `[tls.clients]`; returns the place that says that TLS is used, if it is.
fn read_clients(
    document: &Document<'_>,
    section: &mut Section<'_, '_>,
    clients: &mut ClientsTls,
) -> Option<Range<usize>> {
    let accept = section.parsed("accept", Accept::named, ACCEPTED);
    let at_accept = accept.as_ref().map(Spanned::span);
    clients.accept = accept.map_or(clients.accept, Spanned::into_inner);
    let certificates = section.parsed("certificates", ClientCertificates::named, CERTIFICATES);
    let at_certificates = certificates.as_ref().map(Spanned::span);
    clients.certificates = certificates.map_or(clients.certificates, Spanned::into_inner);
    clients.ca = file_path(section, "ca", "\"tls/clients-ca.pem\"").map(Spanned::into_inner);
    let crl = file_path(section, "crl", "\"tls/clients.crl\"");
    check_crl(document, section, crl.as_ref(), clients.ca.as_ref());
    clients.crl = crl.map(Spanned::into_inner);
    if let Some(at) = at_certificates
        && clients.certificates != ClientCertificates::None
        && !section.has("ca")
    {
        let name = clients.certificates.name();
        let text = format!(
            "tls.clients.certificates = {name:?} needs `ca` in [tls.clients], the authorities of these certificates"
        );
        document.fault(&at, text);
    }
    for key in ["ids", "queries"] {
        let Some(who) = section.parsed(key, Who::named, "\"any\" or \"certificate\"") else {
            continue;
        };
        let at = who.span();
        let who = who.into_inner();
        let is_sure =
            clients.accept == Accept::Tls && clients.certificates == ClientCertificates::Required;
        if who == Who::Certificate && !is_sure {
            let text = format!(
                "tls.clients.{key} = \"certificate\" needs accept = \"tls\" and certificates = \"required\" in \
                 [tls.clients]: otherwise a client could leave its certificate out"
            );
            document.fault(&at, text);
        }
        *(if key == "ids" { &mut clients.ids } else { &mut clients.queries }) = who;
    }
    let at = at_accept.unwrap_or_else(|| section.at().clone());
    (clients.accept != Accept::Plain).then_some(at)
}

/// Reads `[tls.neighbours]`; returns the place that says that TLS is used, if it is.
fn read_neighbours(
    document: &Document<'_>,
    section: &mut Section<'_, '_>,
    neighbours: &mut NeighboursTls,
) -> Option<Range<usize>> {
    let accept = section.parsed("accept", Accept::named, ACCEPTED);
    let at_accept = accept.as_ref().map(Spanned::span);
    neighbours.accept = accept.map_or(neighbours.accept, Spanned::into_inner);
    let dial = section.parsed("dial", dials_tls, "\"plain\" or \"tls\"");
    let at_dial = dial.as_ref().map(Spanned::span);
    neighbours.dials_tls = dial.map_or(neighbours.dials_tls, Spanned::into_inner);
    neighbours.ca = file_path(section, "ca", "\"tls/herd-ca.pem\"").map(Spanned::into_inner);
    let crl = file_path(section, "crl", "\"tls/herd.crl\"");
    check_crl(document, section, crl.as_ref(), neighbours.ca.as_ref());
    neighbours.crl = crl.map(Spanned::into_inner);
    let accepts_tls = neighbours.accept != Accept::Plain;
    if !accepts_tls && !neighbours.dials_tls {
        return None;
    }
    let at = if accepts_tls { at_accept.or(at_dial) } else { at_dial };
    let at = at.unwrap_or_else(|| section.at().clone());
    if !section.has("ca") {
        let text = "tls.neighbours.ca is missing; expected the file with the authorities of the servers' \
                    certificates, such as \"tls/herd-ca.pem\" (or accept = \"plain\" and dial = \"plain\" in \
                    [tls.neighbours])";
        document.fault(&at, text.to_owned());
    }
    Some(at)
}

/// A list of revoked certificates is one of an authority.
fn check_crl(
    document: &Document<'_>,
    section: &Section<'_, '_>,
    crl: Option<&Spanned<PathBuf>>,
    ca: Option<&PathBuf>,
) {
    if let Some(crl) = crl
        && ca.is_none()
        && !section.has("ca")
    {
        let text = "a `crl` needs the `ca` that has issued it".to_owned();
        document.fault(&crl.span(), text);
    }
}

/// The path of a file; `such_as` is an example.
pub(super) fn file_path(
    section: &mut Section<'_, '_>,
    key: &'static str,
    such_as: &str,
) -> Option<Spanned<PathBuf>> {
    let path = section.text(key)?;
    let text = path.get_ref();
    if text.is_empty() || text.contains('\0') || text.len() > PATH_BYTES {
        let expected = format!("the path of a file, such as {such_as}");
        section.refuse(key, &path.span(), &expected);
        return None;
    }
    Some(Spanned::new(path.span(), PathBuf::from(path.into_inner())))
}

/// The settings as `--check` prints them.
pub(super) fn write(tls: &TlsSettings, text: &mut String) {
    let TlsSettings { own, min_version, clients, neighbours } = tls;
    text.push('\n');
    write_path(text, "tls.certificate", own.as_ref().map(|own| &*own.certificate));
    write_path(text, "tls.key", own.as_ref().map(|own| &*own.key));
    let dial = if neighbours.dials_tls { "tls" } else { "plain" };
    // Writing to a String never fails.
    let _ = writeln!(text, "tls.min_version = {:?}", min_version.name());
    let _ = writeln!(text, "tls.clients.accept = {:?}", clients.accept.name());
    let _ = writeln!(text, "tls.clients.certificates = {:?}", clients.certificates.name());
    write_path(text, "tls.clients.ca", clients.ca.as_deref());
    write_path(text, "tls.clients.crl", clients.crl.as_deref());
    for (key, who) in [("ids", clients.ids), ("queries", clients.queries)] {
        // The settings are those of all servers that run with this configuration.
        let opens = match who {
            Who::Certificate => "  # a server of the herd that runs with \"any\" opens it for all",
            Who::Any => "",
        };
        let _ = writeln!(text, "tls.clients.{key} = {:?}{opens}", who.name());
    }
    let _ = writeln!(text, "tls.neighbours.accept = {:?}", neighbours.accept.name());
    let _ = writeln!(text, "tls.neighbours.dial = {dial:?}");
    write_path(text, "tls.neighbours.ca", neighbours.ca.as_deref());
    write_path(text, "tls.neighbours.crl", neighbours.crl.as_deref());
}

/// The path of a file as `--check` prints it; a comment if there is none.
pub(super) fn write_path(text: &mut String, key: &str, path: Option<&Path>) {
    // Writing to a String never fails.
    let _ = match path {
        Some(path) => writeln!(text, "{key} = {:?}", path.to_string_lossy()),
        None => writeln!(text, "# {key} is not set"),
    };
}

impl Accept {
    pub fn name(self) -> &'static str {
        match self {
            Accept::Plain => "plain",
            Accept::Both => "both",
            Accept::Tls => "tls",
        }
    }

    fn named(name: &str) -> Option<Accept> {
        [Accept::Plain, Accept::Both, Accept::Tls].into_iter().find(|one| one.name() == name)
    }
}

impl ClientCertificates {
    pub fn name(self) -> &'static str {
        match self {
            ClientCertificates::None => "none",
            ClientCertificates::Optional => "optional",
            ClientCertificates::Required => "required",
        }
    }

    fn named(name: &str) -> Option<ClientCertificates> {
        use ClientCertificates::{None, Optional, Required};
        [None, Optional, Required].into_iter().find(|one| one.name() == name)
    }
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::Any => "any",
            Who::Certificate => "certificate",
        }
    }

    fn named(name: &str) -> Option<Who> {
        [Who::Any, Who::Certificate].into_iter().find(|one| one.name() == name)
    }
}

impl MinVersion {
    pub fn name(self) -> &'static str {
        match self.0 {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        }
    }

    fn named(name: &str) -> Option<MinVersion> {
        let versions = [TlsVersion::V1_2, TlsVersion::V1_3].map(MinVersion);
        versions.into_iter().find(|version| version.name() == name)
    }
}

fn dials_tls(text: &str) -> Option<bool> {
    match text {
        "plain" => Some(false),
        "tls" => Some(true),
        _ => None,
    }
}

const ACCEPTED: &str = "\"plain\", \"both\" or \"tls\"";
const CERTIFICATES: &str = "\"none\", \"optional\" or \"required\"";
/// As many as Linux takes (PATH_MAX).
const PATH_BYTES: usize = 4_096;
