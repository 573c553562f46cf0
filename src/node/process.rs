//! The resources of the process: its signals, a supervisor's lifeline, its descriptors, its random
//! numbers. A process inherits state from its parent on which it must not depend: signals that are
//! blocked or ignored, children that another program has started, a terminal that may be closed. A signal
//! mask and ignored signals survive fork and exec, so each process sets its own ([`begin`]) at the start
//! of `main`, before it starts any thread, because threads inherit the mask, too.
//!
//! | signal | known state |
//! |---|---|
//! | SIGTERM, SIGINT, SIGCHLD | not blocked, handled |
//! | SIGUSR1, SIGUSR2 | blocked until they are handled: unhandled they would kill a process that is just starting |
//! | SIGHUP | the same if there is no terminal; ignored if the parent ignored it (`nohup`) |
//! | SIGTTOU | blocked: the kernel then permits writing to a terminal with `tostop` |
//! | SIGXFSZ | handled, so that a write past `ulimit -f` fails with an error, like a full disk |
//! | SIGPIPE | ignored (by Rust's standard library) |

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};

use super::{RunError, kernel};
use crate::application::Control;
use crate::config::{Config, OnSigterm, ServerConfig};
use crate::event_loop::{ControlRequest, LIFELINE_TEXT, Termination};
use crate::limits::{
    ADMIN_REFUSALS, ADMIN_SESSIONS, ConfiguredLimits, HANDED_ADMIN_BYTES, MAX_UNIDENTIFIED_PEERS,
    REFUSAL_BYTES, RELOAD_FILE_BYTES,
};
use crate::logging::target;
use crate::places::Provider;
use crate::protocol::Epoch;

/// The state that the process found at its start.
struct Found {
    ignores_sighup: bool,
    has_terminal: bool,
}

static FOUND: OnceLock<Found> = OnceLock::new();
static BEGAN: OnceLock<f64> = OnceLock::new();
/// Whether SIGTERM drains ([`terminate_by`]). A process has one configuration, and one meaning of a signal.
static DRAINS_ON_SIGTERM: AtomicBool = AtomicBool::new(false);

/// Sets every relevant signal to a known state. Call this once, before any thread is started.
pub fn begin() {
    began();
    let found = FOUND.get_or_init(look);
    let mut blocked = held_signals();
    if found.has_terminal {
        // It means that the terminal was closed: a process that is still waiting for a file should end.
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

/// When [`begin`] was called first, in seconds since 1970.
pub(super) fn began() -> f64 {
    let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    *BEGAN.get_or_init(|| since_1970().map_or(0.0, |since| since.as_secs_f64()))
}

/// The signals by which an operator controls a process, and the one about its children.
pub fn control_signals() -> Vec<i32> {
    let mut signals = vec![SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGCHLD];
    if !FOUND.get_or_init(look).ignores_sighup {
        signals.push(SIGHUP);
    }
    signals
}

/// Unblocks the signals, so that earlier ones that were held back and all later ones are delivered. Call
/// this on the main thread once [`control_signals`] are handled.
pub fn unblock_signals() {
    // It fails only for signals that the kernel does not know.
    let _ = held_signals().thread_unblock();
}

/// The effect of a signal on a server. Its loop calls this for each of [`control_signals`] that came.
pub fn request_of(signal: i32) -> Option<ControlRequest> {
    match signal {
        SIGTERM => Some(ControlRequest::Terminate(termination())),
        SIGHUP if has_lost_its_terminal() => Some(ControlRequest::Terminate(termination())),
        // A server of a supervisor gets the configuration from it: all of them have one text.
        SIGHUP if !is_supervised() => Some(ControlRequest::Control(Control::Reload(None))),
        SIGHUP | SIGUSR1 => Some(ControlRequest::Control(Control::ReopenLog)),
        SIGUSR2 => Some(ControlRequest::Control(Control::Drain)),
        SIGCHLD => {
            // A server starts no process: these are orphans that it has inherited, as the first
            // process of a container does.
            reap();
            None
        }
        _ => Some(ControlRequest::Stop),
    }
}

/// From now on SIGTERM means this.
pub fn terminate_by(on_sigterm: OnSigterm) {
    DRAINS_ON_SIGTERM.store(on_sigterm == OnSigterm::Drain, Relaxed);
}

/// What SIGTERM means.
fn termination() -> Termination {
    if DRAINS_ON_SIGTERM.load(Relaxed) { Termination::Drain } else { Termination::Stop }
}

/// Whether a supervisor has started this process.
pub(super) fn is_supervised() -> bool {
    std::env::var_os(LIFELINE).is_some()
}

/// Whether a supervisor whose herd serves has started this process: if it ended at once, it would be started again.
pub(super) fn is_restarted() -> bool {
    is_supervised() && std::env::var_os(RESTARTED).is_some()
}

/// The pipe on standard input of a process that a supervisor has started; None without a supervisor.
pub fn lifeline() -> io::Result<Option<OwnedFd>> {
    match is_supervised() {
        true => Ok(Some(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?)),
        false => Ok(None),
    }
}

/// Whether this process has a lifeline that has ended. Call this only after a loop has watched it: before
/// that, it would block.
pub fn lifeline_has_ended() -> bool {
    is_supervised() && rustix::io::read(rustix::stdio::stdin(), &mut [0; 1]) == Ok(0)
}

/// Identifies one run of a server: its epoch, which neighbours learn, and its seed, which is secret. Both
/// are the operating system's random numbers.
pub(super) fn fresh_run() -> Result<(Epoch, u128), RunError> {
    let (mut epoch, mut seed) = ([0; 8], [0; 16]);
    for bytes in [&mut epoch[..], &mut seed[..]] {
        getrandom::fill(bytes).map_err(|error| kernel("get random numbers")(error.into()))?;
    }
    // 0 means no epoch.
    Ok((Epoch(u64::from_ne_bytes(epoch).max(1)), u128::from_ne_bytes(seed)))
}

/// The number of clients for which each loop of a server has descriptors, after the process has raised its
/// own limit as far as it may. Descriptors for neighbours, unidentified peers, connections with the Places
/// service, the admin listener, the log and the loops are set aside, so that a crowd of clients can't split
/// the herd.
pub(super) fn most_clients(config: &Config, own: &ServerConfig) -> usize {
    let queries = match config.places.provider() {
        Provider::Offline => 0,
        // While a kept connection is silent, a fresh one carries its query, too.
        _ => 2 * config.places.max_in_flight,
    };
    let admin = own.admin_listen.map_or(0, |_| ADMIN_SESSIONS + ADMIN_REFUSALS);
    let neighbours = own.neighbours.len();
    let set_aside =
        config.loops * OWN_DESCRIPTORS + MAX_UNIDENTIFIED_PEERS + 4 * neighbours + queries + admin;
    max_open(config.limits.client_connections, set_aside).div_ceil(config.loops)
}

/// The same for the clients of a Places server.
pub(super) fn max_http_clients(limits: &ConfiguredLimits) -> usize {
    max_open(limits.client_connections, OWN_DESCRIPTORS + MAX_UNIDENTIFIED_PEERS)
}

fn max_open(wanted: usize, set_aside: usize) -> usize {
    let needed = (wanted + set_aside) as u64;
    let descriptors = raise_descriptors(needed);
    reserve_descriptors(needed.min(descriptors));
    // With very few descriptors the reserved ones shrink, down to half of the total.
    let set_aside = (set_aside as u64).min(descriptors / 2);
    let clients = usize::try_from(descriptors - set_aside).unwrap_or(usize::MAX);
    if clients < wanted {
        // Not limited: it happens once, at the start, and at a reload that changes something.
        log::warn!(
            target: target::LOOP, event = "descriptors_scarce";
            "{descriptors} descriptors suffice for {clients} clients only, not for the {wanted} \
             that `client_connections` allows: raise the limit (ulimit -n)."
        );
    }
    clients
}

/// The signals that wait until the process handles them.
fn held_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP])
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

/// Makes the process's table of descriptors large enough for so many, by one that is closed again. The table would grow with
/// the connections, and while it does a process of several threads waits until each processor has been idle or in another
/// process: 10 to 60 ms were seen.
fn reserve_descriptors(count: u64) {
    let last = count.min(DESCRIPTORS_RESERVED).saturating_sub(1) as i32;
    // Without it, the table grows when it has to.
    let _ = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), last);
}

/// Whether the process had a controlling terminal at its start and has none now because it was
/// closed. SIGHUP then stops the process instead of reloading.
pub fn has_lost_its_terminal() -> bool {
    FOUND.get_or_init(look).has_terminal && open_terminal() == Err(Errno::NXIO)
}

/// Reaps every child that has ended, also those that this process did not start: the first process of a
/// container inherits the orphans of all others, and a process started by `exec` in a shell inherits the
/// shell's jobs.
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

/// Whether a signal is ignored. Without `/proc` this can't be found out without `unsafe`, and the answer
/// is no.
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

/// Restores the process's name: `ps` and `top` show a process that was started as `/proc/self/exe` as
/// `exe`.
fn name_process() {
    const NAME: &str = "/proc/self/comm";
    if std::fs::read(NAME).is_ok_and(|name| name == b"exe\n") {
        let _ = std::fs::write(NAME, env!("CARGO_PKG_NAME"));
    }
}

/// Set in the environment of a process whose standard input is a supervisor's lifeline.
pub const LIFELINE: &str = "HERD_MIO_LIFELINE";
/// Set besides in that of a server that a herd which serves has started.
pub const RESTARTED: &str = "HERD_MIO_RESTARTED";
/// A longer text, with what else is handed on, would count as the end of the lifeline, and stop the server.
const _: () =
    assert!(RELOAD_FILE_BYTES as usize + REFUSAL_BYTES + HANDED_ADMIN_BYTES + 2 <= LIFELINE_TEXT);
/// Of each loop: standard streams, poll, waker, signals, listeners, log, a look-up, links to other
/// loops, and some to spare.
const OWN_DESCRIPTORS: usize = 24;
/// Descriptors that the table has room for from the start, at most: half a megabyte of the kernel's memory.
const DESCRIPTORS_RESERVED: u64 = 65_536;
