//! A service manager as its services see it: a datagram socket that the test reads.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::LIMIT;

/// The socket that `NOTIFY_SOCKET` names.
pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

/// The lines of one datagram.
pub type Notices = Vec<String>;

impl ServiceManager {
    pub fn new() -> ServiceManager {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        ServiceManager { socket, path, _folder: folder }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a command one of a service: pings are wanted within this time, if any are.
    pub fn watch(&self, command: &mut Command, watchdog: Option<Duration>) {
        command.env("NOTIFY_SOCKET", &self.path).env_remove("WATCHDOG_PID");
        match watchdog {
            Some(time) => command.env("WATCHDOG_USEC", time.as_micros().to_string()),
            None => command.env_remove("WATCHDOG_USEC"),
        };
    }

    /// The next datagram, if one comes within this time.
    pub fn next_within(&self, time: Duration) -> Option<Notices> {
        self.socket.set_read_timeout(Some(time.max(Duration::from_millis(1)))).expect("a timeout");
        let mut bytes = [0; 4096];
        match self.socket.recv(&mut bytes) {
            Ok(count) => {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                assert!(text.ends_with('\n'), "{text:?}");
                Some(text.lines().map(str::to_owned).collect())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads on until a datagram has a line that begins like this, and returns all that came before and it.
    pub fn wait_for(&self, line: &str) -> Vec<Notices> {
        let begin = Instant::now();
        let mut seen = Vec::new();
        loop {
            let left = LIMIT.saturating_sub(begin.elapsed());
            let notices = self.next_within(left);
            let notices = notices.unwrap_or_else(|| panic!("{line:?} never comes; {seen:?}"));
            let is_it = notices.iter().any(|it| it.starts_with(line));
            seen.push(notices);
            if is_it {
                return seen;
            }
        }
    }

    /// All that has come.
    pub fn all(&self) -> Vec<Notices> {
        std::iter::from_fn(|| self.next_within(Duration::ZERO)).collect()
    }
}

/// How many lines there are that begin like this.
pub fn count(all: &[Notices], line: &str) -> usize {
    all.iter().flatten().filter(|it| it.starts_with(line)).count()
}
