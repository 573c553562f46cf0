//! How a loop is changed while it runs: listeners, their limits, the loop's own, TLS for dials, policies.
//!
//! ```text
//!   a job's thread                                    the loop, step 6
//!   Bound::new    Change::prepare   Mailbox::reconfigure
//!   bind     -->  listen, register  ------------------>  all of it, in one step --> handle_message
//!      |               |                                     | the loop stops: nothing
//!      +--- failed: ---+---> nothing has changed             +-------------------> handle_message
//! ```
//!
//! Several loops of a process change together: the job prepares a change for each of them, and only if all
//! succeeded sends them.
//!
//! All of a change takes effect in one step, between two turns, and so does the message that tells the
//! application of its result: no connection is handled by a loop and an application that disagree.
//!
//! What is open stays open. A listener that is replaced or removed accepts the connections that wait at it,
//! and is then closed. Deadlines that are set already stay, too: new times hold from the next message, write
//! or handshake on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use mio::net::TcpListener;
use socket2::SockRef;

use super::acceptor::{Acceptor, Listen, Security, Sources};
use super::connections::Connections;
use super::groups::GroupRules;
use super::limits::Limits;
use super::mailbox::Mailbox;
use super::policies;
use super::state::ConnectionState;
use super::timers::Timer;
use super::{EventLoop, transport};
use crate::application::{Application, ListenerId, Policy, TlsId};
use crate::tls::ClientTls;

/// A port that is taken, for a loop to listen on. Any thread can make one; dropping it frees the port.
pub struct Bound {
    listen: Listen,
    socket: TcpListener,
    address: SocketAddr,
    /// Where it is registered, and its token there.
    registered: Option<(Arc<Sources>, Token)>,
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
    /// Listeners that are closed. An id without a listener is ignored. Connections that wait at them are still
    /// accepted, so `handle_open` may come for the id once more.
    pub unlisten: Vec<ListenerId>,
    /// Limits of listeners, also of those in [`Change::listen`]. An id without a listener is ignored. Nobody is
    /// closed because a limit is lower: new connections meet it.
    pub rules: Vec<Rules>,
    pub limits: Option<Limits>,
    /// How listeners secure the connections that they accept from now on, also those in [`Change::listen`]. Each open TLS
    /// connection of such a listener is verified again, some in each turn: one whose certificate the new authorities do
    /// not trust is closed ([`Closed::Untrusted`](crate::application::Closed::Untrusted)). Plain connections stay.
    pub security: Vec<(ListenerId, Security)>,
    /// For dials that begin from now on; open connections that were dialled with the same id are verified again. An id
    /// that exists is replaced. The ids may have gaps.
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
        let socket = TcpListener::from_std(socket.into());
        let address = socket.local_addr()?;
        Ok(Bound { listen, socket, address, registered: None })
    }

    /// Takes a socket that listens already, and perhaps for others, too: another loop of the process has a copy of it, or
    /// a service manager has opened it. It decides the address. Connections that wait at it when the loop closes it are
    /// not reset while somebody else has it.
    pub fn from_listener(listen: Listen, socket: std::net::TcpListener) -> io::Result<Bound> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket);
        let address = socket.local_addr()?;
        // Another sharing is not this loop's to choose.
        let listen = Listen { address, sharing: transport::Sharing::None, ..listen };
        Ok(Bound { listen, socket, address, registered: None })
    }

    pub fn id(&self) -> ListenerId {
        self.listen.id
    }

    pub(super) fn security(&self) -> &Security {
        &self.listen.security
    }

    /// The address, with the port that the kernel chose if the given one was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens: from now on the kernel queues connections for it. This can fail if another process has bound
    /// the same port and was faster. Of loops that share a port, the first one's listens first. A second call
    /// changes nothing.
    pub fn listen(&self) -> io::Result<()> {
        transport::listen(&SockRef::from(&self.socket), self.listen.sharing)
    }

    /// Listens and registers, unless that was done already, and returns the token.
    pub(super) fn register(&mut self, sources: &Arc<Sources>) -> io::Result<Token> {
        match &self.registered {
            Some((at, token)) if Arc::ptr_eq(at, sources) => Ok(*token),
            Some(_) => refuse("the listener was prepared for another loop".to_owned()),
            None => {
                self.listen()?;
                let token = sources.register(&mut self.socket)?;
                self.registered = Some((Arc::clone(sources), token));
                Ok(token)
            }
        }
    }

    pub(super) fn into_parts(self) -> (Listen, TcpListener) {
        (self.listen, self.socket)
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
    /// Whether it says how dials are secured, and nothing else.
    fn is_for_dials_alone(&self) -> bool {
        let Change { listen, unlisten, rules, limits, security, client_tls, policies } = self;
        let has_others = !listen.is_empty()
            || !unlisten.is_empty()
            || !rules.is_empty()
            || limits.is_some()
            || !security.is_empty()
            || !policies.is_empty();
        !has_others && !client_tls.is_empty()
    }

    /// Does what may fail: listens, and registers the listeners with the loop that the change is for. After it
    /// the loop can refuse the change only if it is stopping, or if the change itself makes no sense. After an
    /// error the change is of no use. A loop does the same for a change that was not prepared; with several
    /// loops, prepare all before the first one is sent. Of loops that share a port, the first one's comes
    /// first.
    pub fn prepare<M>(&mut self, for_loop: &Mailbox<M>) -> io::Result<()> {
        self.check_policies()?;
        self.listen.iter_mut().try_for_each(|bound| bound.register(for_loop.sources()).map(drop))
    }

    fn check_policies(&self) -> io::Result<()> {
        match self.policies.iter().find(|(old, new)| !policies::may_replace(old, new)) {
            Some((old, new)) => refuse(format!(
                "an open connection keeps its framing, class and drains_on_stop: {old:?} can't \
                 become {new:?}"
            )),
            None => Ok(()),
        }
    }
}

fn refuse<T>(why: String) -> io::Result<T> {
    Err(io::Error::new(ErrorKind::InvalidInput, why))
}

impl<A: Application> EventLoop<A> {
    /// Applies a change, or nothing of it. While the loop stops, every change is refused; while it drains, all but those
    /// that only say how dials are secured: what it needs until its end may be dialled then.
    pub(super) fn reconfigure(&mut self, change: Change) -> io::Result<()> {
        if self.shutdown.is_under_way() {
            return Err(io::Error::other("the loop is stopping"));
        }
        if self.shutdown.is_draining() && !change.is_for_dials_alone() {
            return Err(io::Error::other("the loop is draining"));
        }
        let now = self.connections.shared.now.elapsed;
        change.check_policies()?; // While nothing has changed yet.
        let listening = change.listen.iter().map(|new| (new.id(), new.listen.security.clone()));
        let security: Vec<_> = listening.chain(change.security).collect();
        let new = Acceptor::register(change.listen, &self.sources)?;
        // From here on nothing can fail.
        change.unlisten.iter().for_each(|id| self.acceptor.retire(*id, now));
        self.acceptor.replace(new, now);
        change.rules.iter().for_each(|rules| self.acceptor.set_rules(rules));
        self.acceptor.resume(); // There may be room now.
        let Change { limits, client_tls, policies, .. } = change;
        self.connections.secure(security, client_tls);
        self.connections.reconfigure(limits, &policies, &mut self.app);
        Ok(())
    }
}

impl<S> Connections<S> {
    fn reconfigure<A: Application<Session = S>>(
        &mut self,
        limits: Option<Limits>,
        policies: &[(Policy, Policy)],
        app: &mut A,
    ) {
        let is_judged_again = limits.is_some() || !policies.is_empty();
        if let Some(limits) = limits {
            self.shared.set_limits(limits);
        }
        self.shared.policies.replace(policies);
        if is_judged_again {
            self.judge_again(app);
        }
    }

    /// A connection that was not read or filled because its output was too long may be now, and no event
    /// would tell.
    fn judge_again<A: Application<Session = S>>(&mut self, app: &mut A) {
        for (_, slot) in self.slots.iter_mut() {
            let shared = &mut self.shared;
            slot.check_full(slot.connection.unsent(), app, shared);
            let connection = &mut slot.connection;
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
