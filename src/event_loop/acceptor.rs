//! Listeners: they accept within a budget and make room at a limit. There is a trap: when `accept` fails
//! because the process has no descriptors left, the edge that announced the new connections is spent, and no
//! other one announces them. So "there may be new connections" is a flag of its own that only `WouldBlock`
//! clears, and after a failure the loop tries again when a connection is closed, and a tenth of a second
//! later.

mod replace;
mod room;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::Token;
use mio::net::{TcpListener, TcpStream};

use super::connections::Connections;
use super::counting::{AcceptPause, lack};
use super::groups::GroupRules;
use super::limits::{ACCEPT_RETRY, ACCEPTS_PER_TURN, BACKLOG, CALL_EFFORT};
use super::reconfigure::Bound;
use super::secured::Secured;
use super::shared::Shared;
use super::state::ConnectionState;
use super::timers::Timer;
use super::transport::{Sharing, Socket, set_socket_options};
use crate::application::{Application, Budget, Lack, ListenerId, Origin, Refused};
use crate::tls::ServerTls;
pub(super) use replace::Sources;
use room::Admission;

/// A port to listen on, and the limits on its connections. Write `Listen { .., ..Listen::on(id, address) }`.
#[derive(Clone)]
pub struct Listen {
    pub id: ListenerId,
    pub address: SocketAddr,
    pub security: Security,
    /// How many of its connections may be open at once. At the limit an idle one is closed to make room; if
    /// there is none, the new connection is refused.
    pub connections: usize,
    /// How many of its connections the process has descriptors for. Beyond that none is taken: new
    /// connections wait in the kernel until one is closed, perhaps an idle one to make room. With
    /// [`GroupRules::fair_share`] one is accepted to learn its address, and must therefore be at least one
    /// descriptor more; if no room can be made for it, it is refused, or waits if its address is exempt.
    pub max_open: usize,
    /// How long a connection must have been idle before it may be closed to make room for another; with
    /// `None`, none is.
    pub evict_after: Option<Duration>,
    pub sharing: Sharing,
    /// Whether connections that wait in the kernel when the loop stops are accepted and answered: to the
    /// other side they are connected, and closing the listener would reset them.
    pub accept_on_stop: bool,
    /// Whether a drain closes it, and its connections one after the other. The others serve until the loop stops.
    pub drains: bool,
    /// How much of it one group of addresses may take.
    pub groups: GroupRules,
}

impl Listen {
    /// Plain bytes, for up to 10,000 connections; none is ever closed to make room for another one.
    pub fn on(id: ListenerId, address: SocketAddr) -> Listen {
        Listen {
            id,
            address,
            security: Security::Plain,
            connections: 10_000,
            max_open: usize::MAX,
            evict_after: None,
            sharing: Sharing::None,
            accept_on_stop: true,
            drains: true,
            groups: GroupRules::default(),
        }
    }
}

/// What carries the application's bytes.
#[derive(Clone)]
pub enum Security {
    /// Bytes as they are.
    Plain,
    /// TLS only; plain bytes fail the handshake.
    Tls(ServerTls),
    /// The first byte decides: 22 begins TLS (RFC 8446, section 5.1), any other one is plain. No message of
    /// plain text on this listener may begin with that byte, and neither side may wait for the other one's first byte.
    Either { tls: ServerTls, silent: Silent },
}

/// What becomes of a connection that has sent no byte within
/// [`handshake_timeout`](super::Limits::handshake_timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// It is opened as plain.
    Open,
    /// It is refused.
    Refuse,
}

/// A port that accepts connections.
struct Listener {
    listen: Listen,
    socket: TcpListener,
    token: Token,
    /// New connections may be waiting.
    is_ready: bool,
    /// The kernel refused; until something changes it is useless to ask again.
    is_paused: bool,
    pause: AcceptPause,
    /// How many more may be accepted before it is closed; unbounded while it is in use.
    left: Option<usize>,
    /// Until when it stays although the kernel refuses, so that those that wait are accepted after all.
    /// Only a listener that is closed while the loop goes on has so much time.
    stays_until: Duration,
    /// Accepted, and not taken yet: it was not known whether an idle connection could make room for it, or
    /// it needs a descriptor that a closed connection gives back.
    waiting: Option<(TcpStream, SocketAddr)>,
    /// Before this time no connection has been idle for long enough, so the loop does not search for one.
    no_eviction_before: Duration,
}

/// The result of an attempt to accept.
#[derive(Debug)]
enum Accepted {
    Connection(TcpStream, SocketAddr),
    /// No connection is waiting.
    None,
    /// The kernel can't give us another connection now: it lacks descriptors or memory.
    Refused(io::Error),
}

/// The result of looking for a connection to close for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// One was closed.
    Made,
    /// None has been idle for long enough.
    None,
    /// One has, as far as the loop knows; but it may have sent something since the last poll.
    Unknown,
}

/// All listeners of a loop.
#[derive(Default)]
pub struct Acceptor {
    listeners: Vec<Listener>,
    /// Whether one is closed once those that wait are accepted.
    closes_some: bool,
}

impl Acceptor {
    /// Step 2: the kernel reported new connections.
    pub fn note(&mut self, token: Token) {
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.token == token) {
            listener.is_ready = true;
        }
    }

    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Whether a connection may be waiting that no event will announce.
    pub fn has_work(&self) -> bool {
        self.listeners.iter().any(Listener::has_work)
    }

    /// Something has changed since the kernel refused: asking again may help.
    pub fn resume(&mut self) {
        self.listeners.iter_mut().for_each(|listener| listener.is_paused = false);
    }

    /// The loop stops: from now on only connections that wait already are accepted, by listeners with
    /// `accept_on_stop`.
    pub fn stop(&mut self) {
        self.listeners.retain(|listener| listener.listen.accept_on_stop);
        self.listeners.iter_mut().for_each(|listener| listener.accept_the_last(Duration::ZERO));
        self.closes_some = true;
    }

    /// Step 3: accepts new connections while there are some, within a budget.
    pub fn accept<A: Application>(
        &mut self,
        app: &mut A,
        connections: &mut Connections<A::Session>,
    ) {
        let in_use = self.listeners.iter_mut().filter(|one| one.has_work() && one.left.is_none());
        in_use.for_each(|listener| listener.accept_some(app, connections));
        if self.closes_some {
            // Last, and closed at once: a connection that comes in between is reset.
            let closing = self.listeners.iter_mut().filter(|one| one.has_work());
            let closing = closing.filter(|one| one.left.is_some());
            closing.for_each(|listener| listener.accept_some(app, connections));
            self.close_done(&connections.shared);
        }
    }
}

impl Listener {
    fn new(bound: Bound, token: Token) -> Listener {
        let (listen, socket) = bound.into_parts();
        Listener {
            socket,
            listen,
            token,
            is_ready: true, // It may have been registered before the loop knew of it.
            is_paused: false,
            pause: AcceptPause::default(),
            left: None,
            stays_until: Duration::ZERO,
            waiting: None,
            no_eviction_before: Duration::ZERO,
        }
    }

    /// From now on accepts the connections that wait already, and no others: an endless stream of new ones
    /// would keep it open. The kernel queues at most one more than the backlog, and they are accepted in the
    /// order of their arrival.
    fn accept_the_last(&mut self, stays_until: Duration) {
        self.is_ready = true;
        self.left = Some(BACKLOG as usize + 1);
        self.stays_until = stays_until;
    }

    /// Whether a connection may be waiting to be accepted.
    fn has_work(&self) -> bool {
        !self.is_paused && (self.is_ready || self.waiting.is_some())
    }

    /// Whether all connections that waited before it is closed have been accepted, or none can be.
    fn is_done(&self, now: Duration) -> bool {
        let is_refused = self.is_paused && now >= self.stays_until;
        is_refused || self.waiting.is_none() && (!self.is_ready || self.left == Some(0))
    }

    fn accept_some<A: Application>(
        &mut self,
        app: &mut A,
        connections: &mut Connections<A::Session>,
    ) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !connections.shared.allowance.spend(4 * CALL_EFFORT) {
                break;
            }
            let accepted = match self.waiting.take() {
                Some((stream, peer)) => Accepted::Connection(stream, peer),
                None if !self.is_ready || self.is_paused => return,
                None if self.lacks_descriptors(connections) && !self.listen.groups.fair_share => {
                    // If none could be closed, one may have been idle for long enough at the next attempt.
                    self.evict_idle(connections);
                    return self.pause(Lack::Descriptors, connections);
                }
                None => self.accept(),
            };
            if !matches!(accepted, Accepted::Refused(_)) {
                let Shared { now, counting, .. } = &connections.shared;
                self.pause.end(now.elapsed, &counting.metrics);
            }
            match accepted {
                Accepted::Connection(stream, peer) => {
                    let refused = match self.admit(peer, connections) {
                        Admission::Take => {
                            self.take(stream, peer, app, connections);
                            None
                        }
                        Admission::Refuse(why) => Some(why),
                        Admission::NextTurn => {
                            self.waiting = Some((stream, peer));
                            return; // The next turn's poll will tell.
                        }
                        Admission::Pause => {
                            self.waiting = Some((stream, peer));
                            return self.pause(Lack::Descriptors, connections);
                        }
                    };
                    if let Some(why) = refused {
                        app.handle_refused(self.listen.id, &why, connections.shared.now);
                    }
                }
                Accepted::None => return,
                Accepted::Refused(error) => {
                    self.pause(lack(&error), connections);
                    let why = Refused::Kernel(error);
                    return app.handle_refused(self.listen.id, &why, connections.shared.now);
                }
            }
        }
        connections.shared.counting.exhausted(Budget::Accepts);
    }

    fn is_full<S>(&self, connections: &Connections<S>) -> bool {
        connections.shared.counts.at(self.listen.id) >= self.listen.connections
    }

    fn lacks_descriptors<S>(&self, connections: &Connections<S>) -> bool {
        // Connections closed in this turn free their descriptors only at its end.
        let shared = &connections.shared;
        shared.counts.at(self.listen.id) + shared.closed.len() >= self.listen.max_open
    }

    fn pause<S>(&mut self, lack: Lack, connections: &mut Connections<S>) {
        self.is_paused = true;
        let Shared { now, counting, .. } = &connections.shared;
        self.pause.begin(lack, now.elapsed, &counting.metrics);
        connections.shared.timer_in(Timer::Accept, ACCEPT_RETRY);
    }

    /// Accepts one connection, if there is one. Connections that were aborted before that are skipped.
    fn accept(&mut self) -> Accepted {
        if self.left == Some(0) {
            return Accepted::None;
        }
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    self.left = self.left.map(|left| left - 1);
                    // An IPv4 address looks the same through a socket of either family.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    return Accepted::Connection(stream, peer);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.is_ready = false;
                        return Accepted::None;
                    }
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Accepted::Refused(error),
                },
            }
        }
    }

    /// Gives a new connection a slot.
    fn take<A: Application>(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        app: &mut A,
        connections: &mut Connections<A::Session>,
    ) {
        set_socket_options(&stream);
        let listener = self.listen.id;
        let (origin, state) = (Origin::Accepted(listener), ConnectionState::Handshaking);
        let shared = &mut connections.shared;
        match shared.security.of(listener) {
            None | Some(Security::Plain) => {
                let id = connections.add(Socket::Plain(stream), peer, origin, state);
                connections.open(id, app);
            }
            Some(Security::Tls(_) | Security::Either { .. }) => {
                shared.counting.metrics.handshaking(listener).add(1);
                let secured = Secured::undecided(stream, listener);
                let id = connections.add(Socket::Tls(Box::new(secured)), peer, origin, state);
                let timeout = connections.shared.limits.handshake_timeout;
                connections.shared.timer_in(Timer::Opening(id), timeout);
            }
        }
    }
}

#[cfg(test)]
mod tests;
