//! Listeners: accepting within a budget, making room at a limit, and the trap in it. When accepting fails
//! for want of descriptors, the edge that announced the newcomers is spent, and nothing announces them
//! again. So "there may be newcomers" is a flag of its own that only `WouldBlock` clears, and after a failure
//! the loop tries again: when a connection is closed, and a tenth of a second later.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::connections::Connections;
use super::limits::{ACCEPT_RETRY, ACCEPTS_PER_TURN, BACKLOG, CALL_EFFORT};
use super::state::ConnectionState;
use super::timers::Timer;
use super::transport::{Sharing, Socket, listen_on, set_socket_options};
use crate::application::{Application, Closed, ListenerId, Origin, Refused};
use crate::tls::ServerTls;

/// A port to listen on, and what comes by it. Write `Listen { .., ..Listen::on(id, address) }`.
#[derive(Clone)]
pub struct Listen {
    pub id: ListenerId,
    pub address: SocketAddr,
    pub security: Security,
    /// Connections that came by it, at once. At the limit one that was silent makes room, or the newcomer
    /// is refused.
    pub connections: usize,
    /// Connections that came by it and that the descriptors of the process suffice for. Beyond it none is
    /// accepted: newcomers wait in the kernel until one was closed, or one that was silent makes room.
    pub max_open: usize,
    /// How long a connection must have been silent to make room for another; with none, none does.
    pub evict_after: Option<Duration>,
    pub sharing: Sharing,
    /// Whether connections that wait in the kernel when the loop stops are accepted and answered: they are
    /// connected as far as they know, and closing would reset them.
    pub accept_on_stop: bool,
}

impl Listen {
    /// Plain bytes, for up to 10,000 connections of which none is ever closed for another one.
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
        }
    }
}

/// What lies below the application's bytes.
#[derive(Clone)]
pub enum Security {
    Plain,
    Tls(ServerTls),
}

/// A port that connections come by.
struct Listener {
    listen: Listen,
    socket: TcpListener,
    token: Token,
    /// Newcomers may be waiting.
    is_ready: bool,
    /// The kernel refused; until something changes there is no use in asking again.
    is_paused: bool,
    /// So many are accepted yet; no bound before the loop stops.
    left: Option<usize>,
    /// Accepted in the last turn. Whether an idle one makes room for it was not known yet.
    waiting: Option<(TcpStream, SocketAddr)>,
    /// Until then no connection has been idle for long enough, so none is searched for.
    no_eviction_before: Duration,
}

/// What came of an attempt to accept.
#[derive(Debug)]
enum Accepted {
    Newcomer(TcpStream, SocketAddr),
    /// Nobody is waiting.
    Nobody,
    /// The kernel can't give us another connection now, for want of descriptors or memory.
    Refused(io::Error),
}

/// What came of looking for a connection to be closed for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// One was closed.
    Made,
    /// Nobody has been silent for long enough.
    None,
    /// One has, as far as is known; but it may have sent something since the kernel was last asked.
    Unknown,
}

/// All listeners of a loop.
#[derive(Default)]
pub struct Acceptor {
    listeners: Vec<Listener>,
    /// Listeners that ever were: each keeps the token that it was given.
    tokens: usize,
}

impl Acceptor {
    /// Binds and listens. Returns the address, with the port that the kernel chose where none was asked
    /// for.
    pub fn listen(&mut self, listen: Listen, registry: &Registry) -> io::Result<SocketAddr> {
        let token = Token(self.tokens);
        let mut listener = Listener::bind(listen, token)?;
        registry.register(&mut listener.socket, token, Interest::READABLE)?;
        let address = listener.socket.local_addr()?;
        self.tokens += 1;
        self.listeners.push(listener);
        Ok(address)
    }

    /// Step 2: the kernel said that newcomers wait.
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

    /// The loop stops: from now on only those are accepted that wait already, at listeners that do so.
    pub fn stop(&mut self) {
        self.listeners.retain(|listener| listener.listen.accept_on_stop);
        self.listeners.iter_mut().for_each(Listener::accept_the_last);
    }

    /// Step 3: accepts newcomers while there are some, within a budget.
    pub fn accept<A: Application>(
        &mut self,
        app: &mut A,
        connections: &mut Connections<A::Session>,
    ) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.has_work()) {
            listener.accept_some(app, connections);
        }
        if connections.shared.is_stopping {
            self.listeners.retain(|listener| !listener.is_done());
        }
    }
}

impl Listener {
    fn bind(listen: Listen, token: Token) -> io::Result<Listener> {
        Ok(Listener {
            socket: listen_on(listen.address, listen.sharing)?,
            listen,
            token,
            is_ready: false,
            is_paused: false,
            left: None,
            waiting: None,
            no_eviction_before: Duration::ZERO,
        })
    }

    /// From now on accepts those that wait already, and no others: else newcomers that never end keep a
    /// loop from stopping. The kernel keeps no more than the backlog and one, and the
    /// first that came is the first to be accepted.
    fn accept_the_last(&mut self) {
        self.is_ready = true;
        self.left = Some(BACKLOG as usize + 1);
    }

    /// Whether a connection may be waiting to be accepted.
    fn has_work(&self) -> bool {
        self.is_ready && !self.is_paused || self.waiting.is_some()
    }

    /// Whether all that waited have been accepted, or none can be.
    fn is_done(&self) -> bool {
        self.waiting.is_none() && (!self.is_ready || self.is_paused || self.left == Some(0))
    }

    fn accept_some<A: Application>(
        &mut self,
        app: &mut A,
        connections: &mut Connections<A::Session>,
    ) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !connections.shared.allowance.spend(4 * CALL_EFFORT) {
                return;
            }
            let newcomer = match self.waiting.take() {
                Some((stream, peer)) => Accepted::Newcomer(stream, peer),
                None if !self.is_ready || self.is_paused => return,
                None if self.lacks_descriptors(connections) => {
                    // Else a connection may have been idle for long enough when this is tried again.
                    self.evict_idle(connections);
                    return self.pause(connections);
                }
                None => self.accept(),
            };
            match newcomer {
                Accepted::Newcomer(stream, peer) => {
                    let is_full = self.is_full(connections);
                    if is_full && self.evict_idle(connections) == Room::Unknown {
                        self.waiting = Some((stream, peer));
                        return; // It is known once the kernel was asked again: in the next turn.
                    }
                    if let Err(why) = self.take(stream, peer, app, connections) {
                        app.handle_refused(self.listen.id, &why, connections.shared.now);
                    }
                }
                Accepted::Nobody => return,
                Accepted::Refused(error) => {
                    self.pause(connections);
                    let why = Refused::Kernel(error);
                    return app.handle_refused(self.listen.id, &why, connections.shared.now);
                }
            }
        }
    }

    fn is_full<S>(&self, connections: &Connections<S>) -> bool {
        connections.shared.counts.at(self.listen.id) >= self.listen.connections
    }

    fn lacks_descriptors<S>(&self, connections: &Connections<S>) -> bool {
        // Descriptors of those that were closed in this turn are free at its end.
        let shared = &connections.shared;
        shared.counts.at(self.listen.id) + shared.closed.len() >= self.listen.max_open
    }

    fn pause<S>(&mut self, connections: &mut Connections<S>) {
        self.is_paused = true;
        connections.shared.timer_in(Timer::Accept, ACCEPT_RETRY);
    }

    /// Accepts one connection, if there is one. Newcomers that have closed by then are skipped.
    fn accept(&mut self) -> Accepted {
        if self.left == Some(0) {
            return Accepted::Nobody;
        }
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    self.left = self.left.map(|left| left - 1);
                    return Accepted::Newcomer(stream, peer);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.is_ready = false;
                        return Accepted::Nobody;
                    }
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Accepted::Refused(error),
                },
            }
        }
    }

    /// Gives a newcomer a slot. One that is refused is closed here, by being dropped.
    fn take<A: Application>(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        app: &mut A,
        connections: &mut Connections<A::Session>,
    ) -> Result<(), Refused> {
        // An IPv4 address is the same by a socket of either family.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        set_socket_options(&stream);
        if self.is_full(connections) {
            return Err(Refused::Limit(peer));
        }
        let origin = Origin::Accepted(self.listen.id);
        let state = ConnectionState::Handshaking;
        match &self.listen.security {
            Security::Plain => {
                let id = connections.add(Socket::Plain(stream), peer, origin, state);
                connections.open(id, app);
            }
            Security::Tls(tls) => {
                let tls = tls.begin(stream);
                let refused = |error| {
                    Refused::Handshake(peer, format!("no TLS: {}", crate::tls::plain(&error)))
                };
                let socket = Socket::Tls(Box::new(tls.map_err(refused)?));
                let id = connections.add(socket, peer, origin, state);
                let timeout = connections.shared.limits.handshake_timeout;
                connections.shared.timer_in(Timer::Opening(id), timeout);
            }
        }
        Ok(())
    }

    /// Closes the connection that has been idle for longest, if that was long enough.
    fn evict_idle<S>(&mut self, connections: &mut Connections<S>) -> Room {
        let Some(after) = self.listen.evict_after else {
            return Room::None;
        };
        let now = connections.shared.now.elapsed;
        if now < self.no_eviction_before {
            return Room::None; // It was looked for not long ago.
        }
        let Some((last_read, id)) = connections.idlest(self.listen.id) else {
            return Room::None;
        };
        let silent_enough = last_read + after;
        if now < silent_enough {
            self.no_eviction_before = silent_enough;
            return Room::None;
        }
        // It may have sent something since the last poll: up to then it was silent.
        if connections.shared.served_up_to.up_to() < silent_enough {
            return Room::Unknown;
        }
        connections.close(id, Closed::Evicted);
        Room::Made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen() -> Listen {
        Listen::on(ListenerId(0), SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    #[test]
    fn endless_new_connections_do_not_keep_a_listener_open() {
        let mut listener = Listener::bind(listen(), Token(0)).expect("a free port");
        let address = listener.socket.local_addr().expect("it is bound");
        listener.accept_the_last();
        for number in 0..=BACKLOG {
            assert!(!listener.is_done(), "{number} of those that may have waited were accepted");
            // Each comes in time, so that nothing ever says that none waits.
            let _newcomer = std::net::TcpStream::connect(address).expect("it listens");
            assert!(matches!(listener.accept(), Accepted::Newcomer(..)));
        }
        assert!(listener.is_done());
        let _late = std::net::TcpStream::connect(address).expect("it listens still");
        assert!(matches!(listener.accept(), Accepted::Nobody));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_loops_of_one_process_share_a_port() {
        let first = Listen { sharing: Sharing::First, ..listen() };
        let first = Listener::bind(first, Token(0)).expect("a free port");
        let address = first.socket.local_addr().expect("it is bound");
        let other = Listen { address, sharing: Sharing::First, ..listen() };
        assert!(Listener::bind(other.clone(), Token(1)).is_err(), "it is another process's");
        let further = Listen { sharing: Sharing::Further, ..other };
        assert!(Listener::bind(further, Token(1)).is_ok());
    }
}
