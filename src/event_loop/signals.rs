//! Signals, and the lifeline of a supervisor, as events of the loop like any other.
//!
//! The lifeline is the pipe on standard input of a server that a supervisor has started: its end
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
    /// The end of the lifeline: the supervisor stops, or is gone.
    LifelineEnded,
    /// SIGUSR1, SIGHUP, or a byte on the lifeline.
    ReopenLog,
}

/// The ways by which wishes come.
pub struct Wishes {
    signals: Signals,
    has_lifeline: bool,
}

impl Wishes {
    /// Begins to listen for them.
    pub fn register(
        registry: &Registry,
        signals_token: Token,
        lifeline_token: Token,
    ) -> io::Result<Wishes> {
        let mut signals = Signals::new(process::control_signals())?;
        registry.register(&mut signals, signals_token, Interest::READABLE)?;
        process::hear();
        process::reap(); // Orphans that had ended before.
        let has_lifeline = std::env::var_os(LIFELINE).is_some();
        if has_lifeline {
            let stdin = rustix::stdio::stdin();
            rustix::io::ioctl_fionbio(stdin, true)?;
            registry.register(&mut SourceFd(&0), lifeline_token, Interest::READABLE)?;
        }
        Ok(Wishes { signals, has_lifeline })
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

    /// What has come by the lifeline.
    pub fn lifeline(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut bytes = [0; 16];
        while self.has_lifeline {
            match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
                Ok(0) => {
                    self.has_lifeline = false;
                    wishes.push(Wish::LifelineEnded);
                }
                Ok(_) => wishes.push(Wish::ReopenLog),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => {
                    self.has_lifeline = false;
                    wishes.push(Wish::LifelineEnded);
                }
            }
        }
        wishes
    }
}

/// Whether this process had a lifeline that has ended. To be asked after the loop has run: before, it
/// would wait.
pub fn lifeline_has_ended() -> bool {
    std::env::var_os(LIFELINE).is_some()
        && rustix::io::read(rustix::stdio::stdin(), &mut [0; 1]) == Ok(0)
}

/// Set in a server's environment where its standard input is a supervisor's lifeline.
pub const LIFELINE: &str = "HERD_MIO_LIFELINE";
