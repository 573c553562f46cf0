//! The Places server that runs beside a herd without a provider of places. Its certificates are in a
//! temporary folder, unless `--tls-dir` names another one.
//!
//! The supervisor removes the folder when it ends. If the supervisor is killed, the server notices that its
//! lifeline has closed, and removes the folder. The folder stays only if both are killed at once, with a
//! certificate and a key that are no longer trusted anywhere.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::hash::BuildHasher;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, Protocol, Socket, Type};

use super::supervisor::HerdError;
use crate::cli::args::Args;
use crate::config::{Config, KEY_VARIABLE};
use crate::errors::plain;
use crate::places::google::Api;
use crate::tls::certificates::{self, CertificateError, Service};

/// The supervisor's part of a Places server: its folder, its port and its key.
pub(in crate::cli) struct DemoPlaces {
    folder: PathBuf,
    temporary: Option<TemporaryFolder>,
    port: u16,
    key: String,
    /// The settings of its log: those of the servers.
    log: String,
    /// Reserves the port, also while the server restarts. This socket is bound and does not listen; because
    /// both sockets have `SO_REUSEADDR`, the server can bind the port while other programs cannot.
    _reservation: Socket,
}

impl DemoPlaces {
    pub(in crate::cli) fn new(args: &Args, config: &Config) -> Result<DemoPlaces, HerdError> {
        let (folder, mut temporary) = match &args.tls_dir {
            Some(folder) => (folder.clone(), None),
            None => {
                let temporary = TemporaryFolder::new().map_err(|error| no_folder(&error))?;
                (temporary.path.clone(), Some(temporary))
            }
        };
        // Made here, so that it exists when the servers start.
        certificates::keep(&folder, PLACES_CERTIFICATE)
            .map_err(|error| HerdError::Places(with_remedy(&error)))?;
        if let Some(temporary) = &mut temporary {
            temporary.lock();
        }
        let reservation = reserve().map_err(HerdError::Setup)?;
        let address = reservation.local_addr().map_err(HerdError::Setup)?;
        let port = address.as_socket().map_or(0, |address| address.port());
        // This secret protects nothing; but the demonstration should show requests with a key.
        let key = getrandom::u64().map_err(|error| HerdError::Setup(error.into()))?;
        let key = format!("{key:016x}");
        let log = config.log_text();
        Ok(DemoPlaces { folder, temporary, port, key, log, _reservation: reservation })
    }

    /// Waits, briefly, until the server accepts connections: until then, answers to queries only say that it
    /// cannot be reached.
    pub(in crate::cli) fn await_listening(&self) {
        let begin = Instant::now();
        let address = (Ipv4Addr::LOCALHOST, self.port);
        while TcpStream::connect(address).is_err() && begin.elapsed() < SERVICE_WAIT {
            thread::sleep(SERVICE_PROBE);
        }
    }

    /// Its next process has the log's settings of this configuration.
    pub(in crate::cli) fn use_log_of(&mut self, config: &Config) {
        self.log = config.log_text();
    }

    /// The command line of the Places server.
    pub(in crate::cli) fn service(&self, args: &Args) -> Vec<OsString> {
        let address = format!("{}:{}", Ipv4Addr::LOCALHOST, self.port);
        let mut words: Vec<OsString> = vec!["--places-server".into(), address.into()];
        words.extend(["--tls-dir".into(), self.folder.clone().into()]);
        words.extend(["--log-dir".into(), args.log_dir.clone().into()]);
        words
    }

    /// The options by which the servers use it.
    pub(in crate::cli) fn options(&self) -> Vec<OsString> {
        let path = Api::NearbySearch.path();
        let url = format!("https://localhost:{}{path}", self.port);
        let mut words: Vec<OsString> = vec!["--places".into(), "google".into()];
        words.extend(["--places-url".into(), url.into()]);
        words.extend(["--places-ca".into(), self.folder.join(certificates::CA).into()]);
        words
    }

    /// The environment variables of all of them.
    pub(in crate::cli) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![(KEY_VARIABLE, self.key.clone().into())];
        variables.push((LOG_SETTINGS, self.log.clone().into()));
        if self.temporary.is_some() {
            variables.push((TEMPORARY, self.folder.clone().into()));
        }
        variables
    }
}

/// A folder that is removed when the value is dropped.
struct TemporaryFolder {
    path: PathBuf,
    lock: Option<File>,
}

impl TemporaryFolder {
    fn new() -> io::Result<TemporaryFolder> {
        let random = RandomState::new();
        let mut attempt = 0;
        loop {
            let name = format!("herd-mio-{:016x}", random.hash_one(attempt));
            let path = std::env::temp_dir().join(name);
            attempt += 1;
            // Fails if anything has that name already, even a symbolic link that another user has created.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(TemporaryFolder { path, lock: None }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < NAMES => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl TemporaryFolder {
    /// Keeps programs that clean `/tmp` from removing the folder (tmpfiles.d(5)). Goes on if the file
    /// system has no locks.
    fn lock(&mut self) {
        self.lock = File::open(&self.path).ok();
        if let Some(folder) = &self.lock {
            let _ = flock(folder, FlockOperation::NonBlockingLockShared);
        }
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        drop(self.lock.take());
        // It may be gone already; and if it cannot be removed, there is nothing left to do.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn no_folder(error: &io::Error) -> HerdError {
    let parent = std::env::temp_dir();
    let (parent, reason) = (parent.display(), plain(error));
    HerdError::Places(format!(
        "cannot create a folder for its key in {parent}: {reason}; set TMPDIR to a writable folder, \
         or choose one with --tls-dir"
    ))
}

fn reserve() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket)
}

/// The message about a Places server's unusable certificates, with a remedy.
pub(in crate::cli) fn with_remedy(error: &CertificateError) -> String {
    match error {
        CertificateError::Create { .. } | CertificateError::Folder { .. } => {
            format!("{error}; choose another one with --tls-dir")
        }
        CertificateError::Foreign { .. } => {
            format!("{error}, or choose another folder with --tls-dir")
        }
        _ => error.to_string(),
    }
}

/// The certificate of a Places server: its files, and the mark by which this program knows that it made them.
pub const PLACES_CERTIFICATE: Service = Service { file: "places", mark: "herd-mio Places" };
/// How many names to try for a temporary folder.
const NAMES: u32 = 16;
/// Environment variable: the temporary folder of a Places server.
pub const TEMPORARY: &str = "HERD_MIO_TEMPORARY";
/// Environment variable: the log's settings of a Places server that a supervisor has started. It gets no
/// `--config`, because limits and keys in there are the servers'.
pub const LOG_SETTINGS: &str = "HERD_MIO_LOG";
/// How long the herd waits for the Places server at its start, and how often it checks.
const SERVICE_WAIT: Duration = Duration::from_secs(2);
const SERVICE_PROBE: Duration = Duration::from_millis(5);
