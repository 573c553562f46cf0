//! The Places service of this program's own, as a process.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::needs::{Missing, tool};
use super::process::{Running, follow};
use super::{LIMIT, wait_until};

/// The key that it asks for.
pub const KEY: &str = "sesame";

/// The service as a process. Dropped, it is killed.
pub struct PlacesServer {
    pub port: u16,
    pub folder: TempDir,
    _running: Running,
}

impl PlacesServer {
    pub fn start() -> PlacesServer {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--places-server", "127.0.0.1:0", "--places-key", KEY, "--tls-dir"]);
        command.arg(folder.path()).arg("--log-dir").arg(folder.path());
        let mut running =
            Running(command.stderr(Stdio::piped()).spawn().expect("the program runs"));
        let said = follow(running.0.stderr.take().expect("stderr is piped"));
        let port = Mutex::new(None);
        wait_until(LIMIT, "the service listens", || {
            let said = Arc::clone(&said);
            let said = said.lock().expect("the reader does not panic");
            let at = said.strip_prefix("Places listens on 127.0.0.1:").map(str::trim_end);
            *port.lock().expect("one thread") = at.and_then(|at| at.parse().ok());
            at.is_some()
        });
        let port = port.into_inner().expect("one thread").expect("a port");
        PlacesServer { port, folder, _running: running }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("Places_log.txt")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// What OpenSSL's client gets for these bytes, TLS taken off.
    pub fn openssl(&self, bytes: &str) -> Result<String, Missing> {
        let file = self.folder.path().join("request");
        std::fs::write(&file, bytes).expect("a file");
        let mut command = tool("openssl")?;
        let address = format!("localhost:{}", self.port);
        command.args(["s_client", "-quiet", "-verify_return_error", "-connect", &address]);
        command.arg("-CAfile").arg(self.folder.path().join("ca.pem"));
        command.stdin(std::fs::File::open(file).expect("a file"));
        Ok(text(&command.output().expect("openssl runs").stdout))
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
