//! Signals, and the leash of a supervisor, as events of the loop like any other.
//!
//! The leash is the pipe on standard input of a server that a supervisor has started: its end
//! means "stop", so that no server outlives its supervisor however that ended, and a byte means
//! "open the log anew".

use std::io;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

use crate::process;

/// What the operator, or the supervisor, wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT, or the SIGHUP of a terminal that was closed.
    Stop,
    /// The end of the leash: the supervisor stops, or is gone.
    LeashEnded,
    /// SIGUSR1, SIGHUP, or a byte on the leash.
    ReopenLog,
}

/// The ways by which wishes come.
pub struct Wishes {
    signals: Signals,
    has_leash: bool,
}

impl Wishes {
    /// Begins to listen for them.
    pub fn register(
        registry: &Registry,
        signals_token: Token,
        leash_token: Token,
    ) -> io::Result<Wishes> {
        let mut signals = Signals::new(process::control_signals())?;
        registry.register(&mut signals, signals_token, Interest::READABLE)?;
        process::hear();
        process::reap(); // Orphans that had ended before.
        let has_leash = std::env::var_os(LEASH).is_some();
        if has_leash {
            let stdin = rustix::stdio::stdin();
            rustix::io::ioctl_fionbio(stdin, true)?;
            registry.register(&mut SourceFd(&0), leash_token, Interest::READABLE)?;
        }
        Ok(Wishes { signals, has_leash })
    }

    /// The signals that have come.
    pub fn signals(&mut self) -> Vec<Wish> {
        let wish = |signal| match signal {
            SIGHUP if process::has_lost_its_terminal() => Some(Wish::Stop),
            SIGHUP | SIGUSR1 => Some(Wish::ReopenLog),
            SIGCHLD => {
                // A server starts no process: these are orphans that it has inherited, as the
                // first process of a container does.
                process::reap();
                None
            }
            _ => Some(Wish::Stop),
        };
        self.signals.pending().filter_map(wish).collect()
    }

    /// What has come by the leash.
    pub fn leash(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut bytes = [0; 16];
        while self.has_leash {
            match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
                Ok(0) => {
                    self.has_leash = false;
                    wishes.push(Wish::LeashEnded);
                }
                Ok(_) => wishes.push(Wish::ReopenLog),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    self.has_leash = false;
                    wishes.push(Wish::LeashEnded);
                }
            }
        }
        wishes
    }
}

/// Whether this process was on a leash that has ended. To be asked after the loop has run: before, it
/// would wait.
pub fn leash_has_ended() -> bool {
    std::env::var_os(LEASH).is_some()
        && rustix::io::read(rustix::stdio::stdin(), &mut [0; 1]) == Ok(0)
}

/// Set in a server's environment where its standard input is a supervisor's leash.
pub const LEASH: &str = "HERD_MIO_LEASH";
