//! Why the herd cannot run, in plain words.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use crate::errors::plain;

/// Why the herd cannot run, or failed to stop.
#[derive(Debug)]
pub enum HerdError {
    /// Signals cannot be received, or this program's own file was not found.
    Setup(io::Error),
    /// A port cannot be listened on, nor can `more` others.
    Port { server: String, what: &'static str, address: SocketAddr, error: io::Error, more: usize },
    /// A server's process cannot be started.
    Start { name: String, error: io::Error },
    /// Our own Places server cannot be prepared.
    Places(String),
    /// A server exited as soon as it was started, after printing why.
    StartFailed { name: String, status: u8 },
    /// Servers that were killed because they had not stopped in time, or because of a second signal.
    Killed { names: Vec<String>, after: Duration, is_hurried: bool },
}

impl fmt::Display for HerdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HerdError::Setup(error) => write!(f, "cannot supervise the servers: {}", plain(error)),
            HerdError::Places(reason) => {
                write!(f, "cannot run the Places server: {reason}; or choose --places offline")
            }
            HerdError::Port { server, what, address, error, more } => {
                let others = match more {
                    0 => String::new(),
                    1 => " (the same for another port)".to_owned(),
                    more => format!(" (the same for {more} other ports)"),
                };
                let remedy = match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "stop the program that uses it, or choose another port"
                    }
                    io::ErrorKind::PermissionDenied => "choose a port above 1023",
                    _ => "check the address",
                };
                let reason = plain(error);
                write!(
                    f,
                    "{server} cannot listen on {address}, for {what}: {reason}{others}; {remedy}"
                )
            }
            HerdError::Start { name, error } => {
                let remedy = match Errno::from_io_error(error) {
                    Some(Errno::MFILE) => "; raise the limit (ulimit -n)",
                    Some(Errno::AGAIN) => "; raise the limit (ulimit -u)",
                    _ => "",
                };
                write!(f, "cannot start {name}: {}{remedy}", plain(error))
            }
            HerdError::StartFailed { name, .. } => {
                write!(f, "{name} failed to start (see above); stopping the other servers")
            }
            HerdError::Killed { names, after, is_hurried } => {
                let (names, after) = (names.join(", "), after.as_secs_f32());
                match is_hurried {
                    true => write!(f, "killed after {after:.1} s by a second signal: {names}"),
                    false => {
                        write!(f, "killed because they did not stop within {after:.1} s: {names}")
                    }
                }
            }
        }
    }
}

impl std::error::Error for HerdError {}
