//! How a loop is changed while it runs: listeners, their limits, the loop's own, TLS for dials, policies.
//!
//! ```text
//!   a job's thread                              the loop, step 6
//!   bind, load, check    Mailbox::reconfigure   register all new listeners -> the rest, which cannot fail
//!   listen             ----------------------->      | failed: nothing changed     |
//!                                                    +----> handle_message <-------+
//! ```
//!
//! All of a change takes effect in one step, between two turns, and so does the message that tells the
//! application of its result: no connection is handled by a loop and an application that disagree.
//!
//! What is open stays open. A listener that is replaced or removed accepts the connections that wait at it,
//! and is then closed. Deadlines that are set already stay, too: new times hold from the next message, write
//! or handshake on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpListener;

use super::acceptor::Listen;
use super::connections::Connections;
use super::groups::GroupRules;
use super::limits::Limits;
use super::policies;
use super::state::ConnectionState;
use super::timers::Timer;
use super::{EventLoop, transport};
use crate::application::{Application, ListenerId, Policy, TlsId};
use crate::tls::ClientTls;

/// A port that is taken, for a loop to listen on. Any thread can make one; dropping it frees the port.
pub struct Bound {
    listen: Listen,
    socket: socket2::Socket,
    address: SocketAddr,
}

/// What a listener's limits are from now on; see [`Listen`] for the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub id: ListenerId,
    pub connections: usize,
    pub max_open: usize,
    pub evict_after: Option<Duration>,
    pub groups: GroupRules,
}

/// What is to change in a loop. What is left empty stays as it is.
#[derive(Default)]
pub struct Change {
    /// Listeners that are new. If there is one with the same id, this one takes its place: the open
    /// connections of the id and their count stay.
    pub listen: Vec<Bound>,
    /// Listeners that are closed. An id without a listener is ignored.
    pub unlisten: Vec<ListenerId>,
    /// Limits of listeners, also of those in [`Change::listen`]. An id without a listener is ignored. Nobody is
    /// closed because a limit is lower: new connections meet it.
    pub rules: Vec<Rules>,
    pub limits: Option<Limits>,
    /// For dials that begin from now on. An id that exists is replaced; new ones follow the last one without
    /// a gap.
    pub client_tls: Vec<(TlsId, ClientTls)>,
    /// Every open connection with the first policy has the second one from now on. Both have the same
    /// framing (the length of a line may differ), `drains_on_stop` and class: these stay for a connection's
    /// life.
    pub policies: Vec<(Policy, Policy)>,
}

impl Bound {
    /// Takes a port: binds, and does not listen yet. Of loops that share a port, the first one's comes first,
    /// and the others bind its [`Bound::address`]. An error means that the port is in use, or the address is
    /// not this host's.
    pub fn new(listen: Listen) -> io::Result<Bound> {
        let socket = transport::bind(listen.address, listen.sharing)?;
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("the port has no address"))?;
        Ok(Bound { listen, socket, address })
    }

    pub fn id(&self) -> ListenerId {
        self.listen.id
    }

    /// The address, with the port that the kernel chose if the given one was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens: from now on the kernel queues connections for it. This can fail if another process has bound
    /// the same port and was faster. Of loops that share a port, the first one's listens first. The loop does
    /// the same for one that does not listen yet; a caller does it earlier to learn of a failure while
    /// nothing has changed.
    pub fn listen(&self) -> io::Result<()> {
        transport::listen(&self.socket, self.listen.sharing)
    }

    pub(super) fn into_parts(self) -> (Listen, TcpListener) {
        (self.listen, TcpListener::from_std(self.socket.into()))
    }
}

impl Rules {
    pub fn of(listen: &Listen) -> Rules {
        Rules {
            id: listen.id,
            connections: listen.connections,
            max_open: listen.max_open,
            evict_after: listen.evict_after,
            groups: listen.groups,
        }
    }

    pub(super) fn apply(&self, listen: &mut Listen) {
        listen.connections = self.connections;
        listen.max_open = self.max_open;
        listen.evict_after = self.evict_after;
        listen.groups = self.groups;
    }
}

impl Change {
    /// Refuses what the loop can't do, while nothing has changed yet. `client_tls` is the number of TLS
    /// configurations that the loop has.
    fn check(&self, client_tls: usize) -> io::Result<()> {
        let mut count = client_tls;
        for (TlsId(id), _) in &self.client_tls {
            let place = usize::from(*id);
            if place > count {
                return refuse(format!("there is no TLS configuration {count} before {place}"));
            }
            count = count.max(place + 1);
        }
        match self.policies.iter().find(|(old, new)| !policies::may_replace(old, new)) {
            Some((old, new)) => refuse(format!(
                "an open connection keeps its framing, class and drains_on_stop: {old:?} can't \
                 become {new:?}"
            )),
            None => Ok(()),
        }
    }
}

fn refuse(why: String) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::InvalidInput, why))
}

impl<A: Application> EventLoop<A> {
    /// Applies a change, or nothing of it. While the loop stops, every change is refused.
    pub(super) fn reconfigure(&mut self, change: Change) -> io::Result<()> {
        if self.shutdown.is_under_way() {
            return Err(io::Error::other("the loop is stopping"));
        }
        let shared = &self.connections.shared;
        let now = shared.now.elapsed;
        change.check(shared.client_tls.len())?;
        let new = self.acceptor.register(change.listen, self.poll.registry())?;
        // From here on nothing can fail.
        change.unlisten.iter().for_each(|id| self.acceptor.retire(*id, now));
        self.acceptor.replace(new, now);
        change.rules.iter().for_each(|rules| self.acceptor.set_rules(rules));
        self.acceptor.resume(); // There may be room now.
        self.connections.reconfigure(change.limits, change.client_tls, &change.policies);
        Ok(())
    }
}

impl<S> Connections<S> {
    fn reconfigure(
        &mut self,
        limits: Option<Limits>,
        client_tls: Vec<(TlsId, ClientTls)>,
        policies: &[(Policy, Policy)],
    ) {
        for (TlsId(id), tls) in client_tls {
            match self.shared.client_tls.get_mut(usize::from(id)) {
                Some(known) => *known = tls,
                None => self.shared.client_tls.push(tls),
            }
        }
        let is_judged_anew = limits.is_some() || !policies.is_empty();
        if let Some(limits) = limits {
            self.shared.limits = limits;
        }
        self.shared.policies.replace(policies);
        if is_judged_anew {
            self.judge_anew();
        }
    }

    /// A connection that was not read or filled because its output was too long may be now, and no event
    /// would tell.
    fn judge_anew(&mut self) {
        for (_, slot) in self.slots.iter_mut() {
            let (connection, shared) = (&mut slot.connection, &mut self.shared);
            if connection.state != ConnectionState::Open {
                continue;
            }
            if connection.unsent() > 0 {
                shared.queue_serve(connection);
                if connection.wants_fill {
                    shared.queue_fill(connection);
                }
            }
            if shared.policies.get(connection.policy).line_pause.is_none() {
                // Serving it no longer clears this.
                shared.timers.clear(Timer::LinePause(connection.id));
            }
        }
    }
}
