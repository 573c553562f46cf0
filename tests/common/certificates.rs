//! A folder with the certificates of a herd, made in this process: two authorities, servers, clients, lists of revoked
//! certificates, and everything that may be wrong with them.
//!
//! ```text
//! let certificates = Certificates::new(&["Goloman", "Holiday"]);
//! certificates.client(b"kiwi");                       // kiwi.pem, kiwi.key: herd:client:kiwi
//! certificates.issue("late", Issue { days: -1, ..Issue::server("Goloman") });
//! certificates.path("late.pem");
//! certificates.revoke(By::Herd, &["late.pem"], 30);   // herd.crl
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herd_mio::tls::Authorities;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// See the module's description. The folder is removed with the value.
pub struct Certificates {
    folder: tempfile::TempDir,
    herd: CertifiedIssuer<'static, KeyPair>,
    clients: CertifiedIssuer<'static, KeyPair>,
    /// Trusted by nobody.
    other: CertifiedIssuer<'static, KeyPair>,
    /// Issued by `herd`; only its own file contains it (`intermediate.pem`).
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

/// A chain and its key, as rustls takes them.
pub type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Who issues a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `herd-ca.pem`
    Herd,
    /// `clients-ca.pem`
    Clients,
    /// `other-ca.pem`, which no configuration names.
    Other,
    /// An authority that `herd-ca.pem` has issued. Its certificate follows in the chain.
    Intermediate,
    /// The same, and the chain lacks its certificate.
    IntermediateAlone,
    /// The certificate itself.
    Itself,
}

/// Extended key usages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Both,
    Server,
    Client,
    /// The extension is missing.
    Unsaid,
    /// Another one.
    Mail,
}

/// A certificate to issue.
#[derive(Clone, Debug)]
pub struct Issue {
    pub by: By,
    pub uris: Vec<String>,
    /// Names and addresses of hosts.
    pub hosts: Vec<String>,
    pub usage: Usage,
    /// Valid from so many days before now; negative for one that is not valid yet.
    pub since: i64,
    /// Valid for so many days from now; negative for one that has expired.
    pub days: i64,
    pub serial: Option<Vec<u8>>,
    pub common_name: String,
}

impl Issue {
    /// What a server of the herd needs.
    pub fn server(name: &str) -> Issue {
        Issue {
            by: By::Herd,
            uris: vec![format!("herd:server:{name}")],
            hosts: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
            usage: Usage::Both,
            since: 1,
            days: 30,
            serial: None,
            common_name: name.to_owned(),
        }
    }

    /// What a client needs to speak for this id.
    pub fn client(id: &[u8]) -> Issue {
        let uri = format!("herd:client:{}", percent_encode(id, NON_ALPHANUMERIC));
        Issue {
            by: By::Clients,
            uris: vec![uri],
            hosts: Vec::new(),
            usage: Usage::Client,
            common_name: "a client".to_owned(),
            ..Issue::server("")
        }
    }
}

impl Certificates {
    /// Makes the folder with `herd-ca.pem`, `clients-ca.pem`, `other-ca.pem`, and `NAME.pem` and `NAME.key` for each
    /// server. It has no keys of authorities.
    pub fn new(servers: &[&str]) -> Certificates {
        let folder = tempfile::tempdir().expect("a folder");
        let herd = authority("herd of a test");
        let certificates = Certificates {
            clients: authority("clients of a test"),
            other: authority("somebody else"),
            intermediate: CertifiedIssuer::signed_by(
                authority_params("department", 0),
                KeyPair::generate().expect("a key"),
                &herd,
            )
            .expect("an authority"),
            herd,
            folder,
        };
        certificates.write("herd-ca.pem", &certificates.herd.pem());
        certificates.write("clients-ca.pem", &certificates.clients.pem());
        certificates.write("other-ca.pem", &certificates.other.pem());
        certificates.write("intermediate.pem", &certificates.intermediate.pem());
        for name in servers {
            certificates.issue(name, Issue::server(name));
        }
        certificates
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The content of a file in the folder.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `[tls]` of a configuration, with which each server has its own certificate. Other keys of it may follow.
    pub fn section(&self) -> String {
        let folder = self.folder().display();
        format!("[tls]\ncertificate = \"{folder}/{{name}}.pem\"\nkey = \"{folder}/{{name}}.key\"\n")
    }

    /// The certificates in a file of the folder, to be trusted.
    pub fn authorities(&self, name: &str) -> Authorities {
        Authorities::from_pem(self.read(name).as_bytes()).expect("certificates")
    }

    /// The certificate in `FILE.pem`, those that follow it, and the key in `FILE.key`.
    pub fn pair(&self, file: &str) -> Pair {
        let chain = self.read(&format!("{file}.pem"));
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
        let key = self.read(&format!("{file}.key"));
        (chain.expect("PEM"), PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"))
    }

    /// Writes `FILE.pem` (the chain) and `FILE.key`, in place of those that are there.
    pub fn issue(&self, file: &str, issue: Issue) {
        let (by, params) = (issue.by, params(&issue));
        let key = KeyPair::generate().expect("a key");
        let certificate = match by {
            By::Herd => params.signed_by(&key, &self.herd),
            By::Clients => params.signed_by(&key, &self.clients),
            By::Other => params.signed_by(&key, &self.other),
            By::Intermediate | By::IntermediateAlone => params.signed_by(&key, &self.intermediate),
            By::Itself => params.self_signed(&key),
        };
        let mut chain = certificate.expect("a certificate").pem();
        if by == By::Intermediate {
            chain += &self.intermediate.pem();
        }
        self.write(&format!("{file}.pem"), &chain);
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    /// Issues a client's certificate for an id that can be a file's name: `ID.pem` and `ID.key`.
    pub fn client(&self, id: &[u8]) {
        self.issue(&String::from_utf8_lossy(id), Issue::client(id));
    }

    /// Writes `herd.crl`, `clients.crl` or `intermediate.crl` (PEM), and the same with `.der` added: the certificates in
    /// these files are revoked. The next list is due in so many days; one that is past is written with a negative number.
    pub fn revoke(&self, by: By, files: &[&str], days: i64) {
        let begin = date_time_ymd(1970, 1, 1);
        let revoked_cert = |serial: Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: begin + from_now(-60),
            reason_code: None,
            invalidity_date: None,
        };
        let serials = files.iter().map(|file| serial_of(&self.read(file)));
        let params = CertificateRevocationListParams {
            this_update: begin + from_now((days.min(0) - 1) * DAY),
            next_update: begin + from_now(days * DAY),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.map(revoked_cert).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let (file, issuer) = match by {
            By::Herd => ("herd.crl", &self.herd),
            By::Clients => ("clients.crl", &self.clients),
            By::Intermediate => ("intermediate.crl", &self.intermediate),
            by => panic!("{by:?} has no list"),
        };
        let list = params.signed_by(issuer).expect("a list");
        self.write(file, &list.pem().expect("PEM"));
        self.write_bytes(&format!("{file}.der"), list.der());
    }

    /// Writes a file, which only its owner may read.
    pub fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("it can be written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("it can be set");
    }
}

fn params(issue: &Issue) -> CertificateParams {
    let mut params = CertificateParams::new(issue.hosts.clone()).expect("names");
    for uri in &issue.uris {
        let uri = uri.as_str().try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
    }
    params.distinguished_name.push(DnType::CommonName, &issue.common_name);
    params.use_authority_key_identifier_extension = issue.by != By::Itself;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match issue.usage {
        Usage::Both => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Unsaid => Vec::new(),
        Usage::Mail => vec![ExtendedKeyUsagePurpose::EmailProtection],
    };
    params.serial_number = issue.serial.clone().map(SerialNumber::from);
    let begin = date_time_ymd(1970, 1, 1);
    // One that has expired began before.
    params.not_before = begin + from_now((issue.days.min(0) - issue.since) * DAY);
    params.not_after = begin + from_now(issue.days * DAY);
    params
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(authority_params(name, 1), key).expect("an authority")
}

fn authority_params(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// The serial number of the first certificate in a PEM text.
fn serial_of(pem: &str) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    pem.parse_x509().expect("a certificate").raw_serial().to_vec()
}

/// The time so many seconds from now, since 1970. (rcgen does not export the type of its times, so that it can only be
/// added to one.)
fn from_now(seconds: i64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    Duration::from_secs(now.checked_add_signed(seconds).expect("a time after 1970"))
}

const DAY: i64 = 24 * 60 * 60;
