//! The event loop: it decides when work happens. It waits for readiness, moves bytes between sockets and
//! buffers, and asks an [`Application`] what to answer. It knows connections, but not the meaning of what is
//! sent on them.
//!
//! One thread, one `EventLoop::turn` after the other:
//!
//! ```text
//!      +------------------------------------------------------------------+
//!      v                                                                  |
//!   1 wait -> 2 note -> 3 serve -> 4 fill -> 5 flush -> 6 timers -> 7 reap -> 8 turn end
//!             bits,     accept,    output    one write  messages,   give      the application
//!             only      read,      on        each       controls,   slots     submits its
//!                       frame,     request              what is     back      log records
//!                       answer                          due
//! ```
//!
//! What it promises: sockets are registered once, for both directions and edges, and never again; only the
//! kernel's `WouldBlock` (or a short read, where that means the same) clears a ready flag; a connection that
//! used up its budget is served again next turn, without waiting; a slot is given back only at the end of a
//! turn; no handler acts on another connection.
//!
//! What it never does: interpret a line, name a kind of connection, write a log record, or block anywhere but
//! in step 1.
//!
//! | to change ... | go to |
//! |---|---|
//! | how a connection is read, answered, written | `serve`, `lines`, `bytes`, `output`; its state: `connection` |
//! | whether a connection uses TLS, and its handshake | `opening`, `handshakes`, `upgrade`, `secured`, `security` |
//! | which connections are accepted, and what happens at a limit | `acceptor`, `memory` |
//! | how another host is reached | `dialer`, `resolver` |
//! | what other threads may send | `mailbox` |
//! | what changes while the loop runs: listeners, limits, TLS, policies | `reconfigure` |
//! | signals, the lifeline, the end | `controls`, `lifeline`, `drain`, `shutdown` |
//! | what the bytes mean | not here: it is an [`Application`] |

mod acceptor;
mod buffers;
mod bytes;
mod connect;
mod connection;
mod connections;
mod controls;
mod counting;
mod dialer;
mod drain;
mod groups;
mod handshakes;
mod inspect;
mod lifeline;
mod limits;
mod lines;
mod mailbox;
mod memory;
mod opening;
mod output;
mod pace;
mod policies;
mod reconfigure;
mod resolver;
mod round;
mod secured;
mod security;
mod serve;
mod shared;
mod shutdown;
mod slots;
mod state;
mod steps;
#[cfg(test)]
mod tests;
mod timers;
mod transport;
mod upgrade;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Poll, Token, Waker};

pub use acceptor::{Listen, Security, Silent};
pub use buffers::Buffers;
pub use connection::Connection;
pub use controls::{ControlRequest, Controls, Termination};
pub use groups::GroupRules;
pub use limits::{LIFELINE_TEXT, Limits};
pub use mailbox::Mailbox;
pub use reconfigure::{Bound, Change, Rules};
pub use state::{ConnectionState, Flush, Readiness, Received};
pub use transport::{Sharing, Socket, Transport};

use crate::application::{Application, LoopId, LoopMetrics, Ticket, TlsId};
use crate::clock::{Now, WallTime};
use crate::tls::ClientTls;
use acceptor::{Acceptor, Sources};
use connections::Connections;
use controls::WatchedControls;
use dialer::Dialer;
use limits::{EVENTS_PER_TURN, MAX_WAIT};
use mailbox::Inbox;
use shutdown::Shutdown;

/// The loop and all its parts.
pub struct EventLoop<A: Application> {
    app: A,
    poll: Poll,
    events: Events,
    connections: Connections<A::Session>,
    acceptor: Acceptor,
    /// Where listeners are registered.
    sources: Arc<Sources>,
    dialer: Dialer,
    inbox: Inbox<A::Message>,
    /// There may be messages from other threads.
    was_woken: bool,
    /// Signals and the supervisor's lifeline; only one loop of a process gets them.
    controls: WatchedControls,
    /// Other loops of the process, which drain and stop with this one.
    stop_with: Vec<Mailbox<A::Message>>,
    shutdown: Shutdown,
    start: Instant,
    /// A time just before this turn's poll; `None` if a signal interrupted it.
    polled_after: Option<Duration>,
    /// When the application wanted to be called at the latest, as it said before this turn's wait; zero if it
    /// was not asked.
    app_deadline: Duration,
    /// The application asked to see all connections.
    inspections: Vec<Ticket>,
}

/// How a loop has ended.
#[derive(Debug)]
pub struct Stopped<A> {
    pub app: A,
    /// Connections that drain on a stop and were still open at the end: 0 if all was answered.
    pub still_open: usize,
    /// The grace time was over before all was answered.
    pub grace_expired: bool,
    /// How long that took, from the beginning of the stop, or of the drain before it.
    pub took: Duration,
    /// A second signal ended it at once.
    pub hurried: bool,
}

impl<A: Application> EventLoop<A> {
    /// One turn.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?; // 1
        self.note(); // 2
        self.serve(); // 3
        self.fill(); // 4
        self.flush(); // 5
        self.handle_timers(); // 6
        self.reap(); // 7
        self.end_turn(); // 8
        Ok(())
    }

    /// Step 1. Waits for readiness, a wake-up or the nearest deadline; does not wait if work is left.
    fn wait(&mut self) -> io::Result<()> {
        let ended = self.connections.shared.counting.begin_wait();
        let timeout = if self.has_work() {
            self.app_deadline = Duration::ZERO;
            Some(Duration::ZERO)
        } else {
            self.app_deadline = self.app.poll_timeout().unwrap_or(Duration::MAX);
            let timer = self.connections.shared.timers.next().unwrap_or(Duration::MAX);
            match timer.min(self.app_deadline) {
                Duration::MAX => None,
                at => {
                    let now = ended.unwrap_or_else(|| self.start.elapsed());
                    Some(at.saturating_sub(now).min(MAX_WAIT))
                }
            }
        };
        self.polled_after = Some(self.connections.shared.now.elapsed);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            // A wait that a signal interrupted has no events; whatever is in the buffer is old.
            Err(_) => {
                self.events.clear();
                self.polled_after = None;
            }
            Ok(()) => {}
        }
        let now = now(self.start);
        self.connections.shared.now = now;
        self.connections.shared.counting.begin_turn(now.elapsed);
        Ok(())
    }

    /// Whether there is work that no event will announce.
    fn has_work(&self) -> bool {
        self.connections.has_work()
            || self.acceptor.has_work()
            || self.was_woken
            || self.connections.shared.has_commands
            || self.controls.has_work()
            || !self.inspections.is_empty()
    }

    /// Step 2. Notes what the kernel reported, and does nothing else with it.
    fn note(&mut self) {
        let mut count = 0;
        for event in &self.events {
            count += 1;
            match event.token() {
                WAKER => self.was_woken = true,
                SIGNALS => self.controls.note_signals(),
                LIFELINE => self.controls.note_lifeline(),
                token if token.0 < FIRST_CONNECTION => self.acceptor.note(token),
                token => self.connections.note(slots::connection(token), event),
            }
        }
        if let Some(begun) = self.polled_after {
            let sockets = self.connections.len() + self.acceptor.len() + OWN_TOKENS;
            let shared = &mut self.connections.shared;
            shared.served_up_to.polled(begun, count, sockets, shared.ready.pushed);
        }
        self.connections.shared.counting.metrics.events.add(count as u64);
    }

    // Steps 3 to 8 are in `steps.rs`, in their order.
}

/// Setting a loop up and running it.
impl<A: Application> EventLoop<A> {
    /// A loop without listeners. An error means that the kernel refused something that the loop needs.
    pub fn new(app: A, limits: Limits) -> io::Result<EventLoop<A>> {
        let poll = Poll::new()?;
        let sources = Arc::new(Sources::new(poll.registry().try_clone()?));
        let inbox = Inbox::new(Arc::new(Waker::new(poll.registry(), WAKER)?), Arc::clone(&sources));
        let start = Instant::now();
        let registry = poll.registry().try_clone()?;
        Ok(EventLoop {
            app,
            events: Events::with_capacity(EVENTS_PER_TURN),
            connections: Connections::new(registry, limits, start, now(start)),
            acceptor: Acceptor::default(),
            sources,
            dialer: Dialer::default(),
            inbox,
            was_woken: false,
            controls: WatchedControls::default(),
            stop_with: Vec::new(),
            shutdown: Shutdown::default(),
            start,
            polled_after: None,
            app_deadline: Duration::ZERO,
            inspections: Vec::new(),
            poll,
        })
    }

    /// Listens; [`Application::handle_open`] gets the listener's id. Returns the bound address.
    pub fn listen(&mut self, listen: Listen) -> io::Result<SocketAddr> {
        self.listen_at(Bound::new(listen)?)
    }

    /// The same at a port that is taken already.
    pub fn listen_at(&mut self, bound: Bound) -> io::Result<SocketAddr> {
        let (id, security) = (bound.id(), bound.security().clone());
        let address = bound.address();
        let listeners = Acceptor::register(vec![bound], &self.sources)?;
        self.acceptor.add(listeners);
        self.connections.shared.security.insert(id, security);
        Ok(address)
    }

    /// Adds a TLS client configuration for dials, under the lowest id that is free.
    pub fn client_tls(&mut self, tls: ClientTls) -> TlsId {
        let all = &self.connections.shared.security.dials;
        let is_free = |id: &u16| !all.contains_key(&TlsId(*id));
        let id = TlsId((0..u16::MAX).find(is_free).unwrap_or(u16::MAX));
        self.set_client_tls(id, tls);
        id
    }

    /// Adds a TLS client configuration for dials under an id of the caller's choice, instead of the one that has it.
    pub fn set_client_tls(&mut self, id: TlsId, tls: ClientTls) {
        self.connections.shared.security.dials.insert(id, tls);
    }

    /// Adds the way to another loop of the process, for dials to it. `us` is the id by which that loop knows
    /// this one.
    pub fn know<M: Send + 'static>(&mut self, other: LoopId, us: LoopId, mailbox: Mailbox<M>) {
        self.dialer.know(other, us, mailbox.for_pairs());
    }

    /// A handle for threads that send this loop messages.
    pub fn mailbox(&self) -> Mailbox<A::Message> {
        self.inbox.mailbox()
    }

    /// The loop's counters, which any thread may read.
    pub fn metrics(&self) -> Arc<LoopMetrics> {
        Arc::clone(&self.connections.shared.counting.metrics)
    }

    /// The application before the loop runs, to set up what needs a mailbox.
    pub fn application(&mut self) -> &mut A {
        &mut self.app
    }

    /// Watches signals and a supervisor's lifeline.
    pub fn watch_controls(&mut self, controls: Controls) -> io::Result<()> {
        self.controls = WatchedControls::watch(controls, self.poll.registry(), SIGNALS, LIFELINE)?;
        Ok(())
    }

    /// When this loop begins to drain or to stop, so does the other one.
    pub fn also_stop(&mut self, other: Mailbox<A::Message>) {
        self.stop_with.push(other);
    }

    /// Runs until a signal, a mailbox or the application stops it, and returns the application.
    pub fn run(mut self) -> io::Result<Stopped<A>> {
        self.run_commands(); // The application's first commands; no event would announce them.
        self.check_shutdown();
        self.app.handle_turn_end(); // The first wait may be long.
        while !self.shutdown.is_over() {
            self.turn()?;
        }
        Ok(Stopped {
            still_open: self.connections.shared.counts.draining,
            grace_expired: self.shutdown.has_grace_expired(),
            hurried: self.shutdown.is_hurried(),
            took: self.shutdown.took(self.connections.shared.now.elapsed),
            app: self.app,
        })
    }
}

/// The current time by both clocks; `start` is when the loop was made.
pub fn now(start: Instant) -> Now {
    let since_1970 = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    Now { elapsed: start.elapsed(), wall: WallTime(since_1970) }
}

/// Tokens of sources that are not connections: their generation is 0. The first ones are the listeners'.
const FIRST_CONNECTION: usize = 1 << 32;
const WAKER: Token = Token(FIRST_CONNECTION - 1);
const SIGNALS: Token = Token(FIRST_CONNECTION - 2);
const LIFELINE: Token = Token(FIRST_CONNECTION - 3);
const OWN_TOKENS: usize = 3;
