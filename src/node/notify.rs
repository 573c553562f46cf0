//! The way to the service manager that has started this process: systemd's protocol, a datagram for each notice to the
//! socket that `NOTIFY_SOCKET` names (sd_notify(3)). Without that variable nothing is sent.
//!
//! `sd-notify` writes the texts and reads the variables of the watchdog. Its own `notify` is not used: it makes a socket
//! for each notice that blocks while the other side does not read, and it knows no abstract address, so a manager that
//! hangs would stop the loop. This socket never blocks: a ping or a status that finds no room is dropped, since the next
//! one says more, and a change of state is kept and sent before whatever comes next.
//!
//! A server of a supervisor has no service manager: it reports to the supervisor, by single bytes on its standard output
//! ([`REPORTS`]), which nothing else uses in a server.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use super::process;
use crate::errors::plain;
use crate::limits::MIN_WATCHDOG;
use crate::logging::target;
use crate::server::{Notice, ServiceManager};

/// The socket of a service manager.
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    /// The latest change of state, if it could not be sent.
    unsent: String,
    /// Reports the first failure.
    warn: Option<fn(&str)>,
}

/// What a service manager has set in the environment of this process.
pub struct Watched {
    pub notifier: Notifier,
    /// The time within which it wants a ping.
    pub watchdog: Option<Duration>,
}

impl Watched {
    /// None without a service manager, and for one that cannot be reached, which is reported to `warn`.
    pub fn from_environment(warn: fn(&str)) -> Option<Watched> {
        let name = std::env::var_os(NOTIFY_SOCKET)?;
        let notifier = address_of(&name).and_then(|address| Notifier::to(address, warn));
        match notifier {
            // A hostile value must not keep the loop busy.
            Ok(notifier) => {
                let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
                Some(Watched { notifier, watchdog: watchdog.map(|it| it.max(MIN_WATCHDOG)) })
            }
            Err(error) => {
                warn(&failure(&error));
                None
            }
        }
    }
}

impl Notifier {
    fn to(address: SocketAddr, warn: fn(&str)) -> io::Result<Notifier> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket, address, unsent: String::new(), warn: Some(warn) })
    }

    /// Sends notices in one datagram.
    pub fn tell(&mut self, notices: &[Notice<'_>]) {
        let text = text_of(notices);
        let datagram = format!("{}{text}", self.unsent);
        match self.socket.send_to_addr(datagram.as_bytes(), &self.address) {
            Ok(_) => self.unsent.clear(),
            Err(error) => {
                // Of several changes of state the last one counts.
                if notices.iter().any(is_state) {
                    self.unsent = text;
                }
                if let Some(warn) = self.warn.take() {
                    warn(&failure(&error));
                }
            }
        }
    }
}

/// The service manager of a server, or its supervisor.
pub(super) fn manager() -> Option<ServiceManager> {
    if process::is_supervised() {
        let watchdog = reports_within()?;
        return Some(ServiceManager::new(Box::new(report), watchdog));
    }
    let Watched { mut notifier, watchdog } = Watched::from_environment(|text| {
        // Not limited: once, for the first failure.
        log::warn!(target: target::LOOP, event = "notify_failed"; "{text}");
    })?;
    Some(ServiceManager::new(Box::new(move |notices| notifier.tell(notices)), watchdog))
}

/// None if the supervisor wants no reports; else how often it wants one that the server is alive.
fn reports_within() -> Option<Option<Duration>> {
    let text = std::env::var(REPORTS).ok()?;
    // It has no reader that could hold up the loop, but the supervisor may be stopped.
    rustix::io::ioctl_fionbio(rustix::stdio::stdout(), true).ok()?;
    let within = Duration::from_micros(text.parse().ok()?);
    Some((!within.is_zero()).then_some(within.max(MIN_WATCHDOG)))
}

/// Reports to the supervisor.
fn report(notices: &[Notice<'_>]) {
    let byte = |notice: &Notice<'_>| match notice {
        Notice::Ready => Some(REPORT_READY),
        Notice::Alive => Some(REPORT_ALIVE),
        _ => None,
    };
    let bytes: Vec<u8> = notices.iter().filter_map(byte).collect();
    if !bytes.is_empty() {
        // If the supervisor has ended, so will this server.
        let _ = rustix::io::write(rustix::stdio::stdout(), &bytes);
    }
}

/// Whether it must not be lost.
fn is_state(notice: &Notice<'_>) -> bool {
    matches!(notice, Notice::Ready | Notice::Reloading | Notice::Stopping)
}

/// Each notice as a line.
fn text_of(notices: &[Notice<'_>]) -> String {
    let mut text = String::new();
    let mut add = |state: NotifyState<'_>| {
        let _ = writeln!(text, "{state}"); // Writing to a String cannot fail.
    };
    for notice in notices {
        match notice {
            Notice::Ready => add(NotifyState::Ready),
            Notice::Status(status) => add(NotifyState::Status(status)),
            Notice::Alive => add(NotifyState::Watchdog),
            Notice::Reloading => {
                add(NotifyState::Reloading);
                if let Ok(now) = NotifyState::monotonic_usec_now() {
                    add(now);
                }
            }
            Notice::Stopping => add(NotifyState::Stopping),
            Notice::Extend(time) => {
                let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                add(NotifyState::ExtendTimeoutUsec(time));
            }
        }
    }
    text
}

/// An absolute path, or an abstract name behind an `@`.
fn address_of(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
        }
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "NOTIFY_SOCKET is neither an absolute path nor an abstract name",
        )),
    }
}

fn failure(error: &io::Error) -> String {
    format!(
        "the service manager cannot be told how the server is (NOTIFY_SOCKET): {}; the server goes on without that",
        plain(error)
    )
}

/// The variables of a service manager. A supervisor's servers do not get them: they are not the manager's.
pub const OF_SERVICE_MANAGER: [&str; 6] =
    [NOTIFY_SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];
/// Environment variable of a supervisor's server: it reports on its standard output that it is ready, and that it is
/// alive at half of this number of microseconds; 0 if only the former is wanted.
pub const REPORTS: &str = "HERD_MIO_REPORTS";
pub const REPORT_READY: u8 = b'R';
pub const REPORT_ALIVE: u8 = b'A';
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
