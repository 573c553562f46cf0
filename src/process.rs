//! State that a process inherits from its parent and must not depend on: blocked or ignored
//! signals, children that somebody else has started, a terminal that may be closed.
//!
//! A signal mask and ignored signals survive fork and exec, so each process sets its own
//! ([`begin`]), at the start of `main` and before any thread, for threads inherit the mask, too.
//!
//! | signal | known state |
//! |---|---|
//! | SIGTERM, SIGINT, SIGCHLD | not blocked, handled |
//! | SIGUSR1 | blocked until it is handled: unhandled it would end a process that just starts |
//! | SIGHUP | the same where there is no terminal; ignored where the parent ignored it (`nohup`) |
//! | SIGTTOU | blocked: the kernel then permits writing to a terminal with `tostop` |
//! | SIGXFSZ | handled, so that a write past `ulimit -f` fails with an error, like a full disk |
//! | SIGPIPE | ignored (by Rust's standard library) |

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

/// What the process found when it began.
struct Found {
    ignores_sighup: bool,
    has_terminal: bool,
}

static FOUND: OnceLock<Found> = OnceLock::new();

/// Sets every relevant signal to a known state. Call this once, before any thread is started.
pub fn begin() {
    let found = FOUND.get_or_init(look);
    let mut blocked = log_signals();
    if found.has_terminal {
        // It means that the terminal was closed: a process that still waits for a file should end.
        blocked.remove(Signal::SIGHUP);
    }
    // Blocked, not handled: after a handler the kernel would send it again for the same write.
    blocked.add(Signal::SIGTTOU);
    // It fails only for masks that the kernel does not know.
    let _ = blocked.thread_set_mask();
    // Nothing reads the flag: the handler only keeps the signal from killing the process.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    name_process();
}

/// The signals by which an operator controls a process, and the one about its children.
pub fn control_signals() -> Vec<i32> {
    let mut signals = vec![SIGTERM, SIGINT, SIGUSR1, SIGCHLD];
    if !FOUND.get_or_init(look).ignores_sighup {
        signals.push(SIGHUP);
    }
    signals
}

/// Unblocks the signals of the log, also those that are pending. Call this on the main thread once
/// [`control_signals`] are handled.
pub fn hear() {
    // It fails only for signals that the kernel does not know.
    let _ = log_signals().thread_unblock();
}

/// The signals that reopen the log. (SIGHUP may mean more.)
fn log_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGUSR1, Signal::SIGHUP])
}

/// Raises the limit on open descriptors to `needed`, as far as allowed, and returns the limit.
pub fn raise_descriptors(needed: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let most = limit.maximum.unwrap_or(u64::MAX);
        let raised = Rlimit { current: Some(needed.min(most)), maximum: limit.maximum };
        // If that is not allowed, continue with the current limit.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether the process had a controlling terminal at its start and has none now because it was
/// closed. SIGHUP then stops the process instead of reopening the log.
pub fn has_lost_its_terminal() -> bool {
    FOUND.get_or_init(look).has_terminal && open_terminal() == Err(Errno::NXIO)
}

/// Collects every child that has ended, also those that this process did not start: the first
/// process of a container inherits the orphans of all others, and `exec` in a shell its jobs.
pub fn reap() -> Vec<(Pid, ExitStatus)> {
    let mut ended = Vec::new();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended.push((pid, ExitStatus::from_raw(status.as_raw()))),
            Err(Errno::INTR) => {}
            // None has ended, or there is none.
            Ok(None) | Err(_) => return ended,
        }
    }
}

fn look() -> Found {
    Found { ignores_sighup: ignores(SIGHUP), has_terminal: open_terminal().is_ok() }
}

/// Whether a signal is ignored. Without `/proc` there is no way to know without `unsafe`, and the
/// answer is no.
fn ignores(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

fn open_terminal() -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open("/dev/tty", flags, Mode::empty()).map(drop)
}

/// A process that was started as `/proc/self/exe` is called `exe` by `ps` and `top`.
fn name_process() {
    const NAME: &str = "/proc/self/comm";
    if std::fs::read(NAME).is_ok_and(|name| name == b"exe\n") {
        let _ = std::fs::write(NAME, env!("CARGO_PKG_NAME"));
    }
}
