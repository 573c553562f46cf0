//! Dialling: makes a usable connection from `host:port`, an address or a loop, without blocking. Every kind
//! of connection uses it.
//!
//! ```text
//!                          +--> a look-up on a thread ---+
//!   Command::Dial --name --+                             +--> connect --> TLS --> handle_open
//!        |                 +--> what is known already ---+      |  ^       |
//!        |                                               |      v  |       v
//!        +--- literal address ---------------------------+     failed, or no time left: the next address
//!        +--- another loop ---> a pair of sockets ----------------------------> handle_open
//! ```
//!
//! A dial lives until its connection is open: until then it can be cancelled, and each attempt that fails
//! leads to the next address. A ticket has one dial. An attempt belongs to it by the connection's id, so
//! events of an attempt of a cancelled dial do not affect the next dial with that ticket.

mod attempts;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::UnixStream;

use super::connections::Connections;
use super::mailbox::{Inbox, ToLoop};
use super::resolver::{CacheAnswer, DnsCache};
use super::round::Round;
use super::state::ConnectionState;
use super::timers::Timer;
use super::transport::Socket;
use crate::application::{
    Application, ConnectionId, Dial, DialEvent, Freshness, LoopId, Start, Target, Ticket,
};
use crate::tls::plain;
use attempts::add;

/// All dials and look-ups in progress, and the cache of names.
#[derive(Default)]
pub(super) struct Dialer {
    dials: HashMap<Ticket, Dialing>,
    /// To which dial a connecting socket belongs.
    attempts: HashMap<ConnectionId, Ticket>,
    /// Look-ups for [`Command::Resolve`](crate::application::Command::Resolve), and their names.
    look_ups: HashMap<Ticket, String>,
    cache: DnsCache,
    /// Other loops of the process: each one's id, the id by which it knows this loop, and the way to it.
    loops: Vec<(LoopId, LoopId, ToLoop)>,
}

struct Dialing {
    dial: Dial,
    /// The name that is dialled, if it is one.
    name: Option<String>,
    stage: DialStage,
    round: Round,
}

/// How far a dial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DialStage {
    LookingUp,
    Connecting(ConnectionId, SocketAddr),
    Handshaking(ConnectionId, SocketAddr),
}

impl Dialer {
    /// Adds the way to another loop, which knows this one as `us`.
    pub fn know(&mut self, other: LoopId, us: LoopId, way: ToLoop) {
        self.loops.push((other, us, way));
    }

    /// Begins a dial. A dial in progress with the same ticket is cancelled.
    pub fn dial<A: Application>(
        &mut self,
        dial: Dial,
        app: &mut A,
        on: &mut Connections<A::Session>,
        inbox: &mut Inbox<A::Message>,
    ) {
        let ticket = dial.ticket;
        self.cancel(ticket, on);
        if dial.tls.is_some_and(|tls| !on.shared.security.dials.contains_key(&tls)) {
            let why = "no such TLS configuration".to_owned();
            return app.handle_dial(ticket, DialEvent::Failed(why), on.shared.now);
        }
        match dial.to.clone() {
            Target::Address(address) => self.try_all(dial, None, vec![address], app, on),
            Target::Name(name) => match name.parse() {
                Ok(address) => {
                    let found = [address];
                    app.handle_dial(ticket, DialEvent::Resolved(&found), on.shared.now);
                    self.try_all(dial, None, found.to_vec(), app, on);
                }
                Err(_) => self.dial_name(dial, name, app, on, inbox),
            },
            Target::Loop(other) => self.pair(ticket, other, app, on),
        }
    }

    fn dial_name<A: Application>(
        &mut self,
        dial: Dial,
        name: String,
        app: &mut A,
        on: &mut Connections<A::Session>,
        inbox: &mut Inbox<A::Message>,
    ) {
        let (ticket, now) = (dial.ticket, on.shared.now.elapsed);
        let asked = self.cache.ask(&name, dial.freshness, now);
        if asked.must_look_up {
            inbox.look_up(name.clone());
        }
        match asked.known {
            CacheAnswer::Addresses => self.use_known(dial, name, app, on),
            CacheAnswer::Failure(reason) => {
                let why = format!("{name}: {reason}");
                app.handle_dial(ticket, DialEvent::Failed(why), on.shared.now);
            }
            CacheAnswer::Nothing(until) => {
                let end = now.saturating_add(dial.timeout);
                on.shared.timers.set(Timer::Lookup(ticket), until.unwrap_or(end).min(end));
                let (stage, round) = (DialStage::LookingUp, Round::default());
                self.dials.insert(ticket, Dialing { dial, name: Some(name), stage, round });
            }
        }
    }

    /// Looks a name up without dialling it. Cached addresses are not used; a look-up in progress is.
    pub fn resolve<A: Application>(
        &mut self,
        ticket: Ticket,
        name: String,
        app: &mut A,
        on: &mut Connections<A::Session>,
        inbox: &mut Inbox<A::Message>,
    ) {
        self.cancel(ticket, on);
        if let Ok(address) = name.parse() {
            return app.handle_dial(ticket, DialEvent::Resolved(&[address]), on.shared.now);
        }
        let freshness = Freshness::Ask(Duration::MAX);
        if self.cache.ask(&name, freshness, on.shared.now.elapsed).must_look_up {
            inbox.look_up(name.clone());
        }
        self.look_ups.insert(ticket, name);
    }

    /// The resolver has answered, however late. The answer is for all that still wait for it.
    pub fn looked_up<A: Application>(
        &mut self,
        name: &str,
        result: io::Result<Vec<SocketAddr>>,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        let now = on.shared.now;
        let result = result.map_err(|error| plain(&error));
        let stored = self.cache.store(name, result, now.elapsed);
        for ticket in self.tickets_of_look_ups(name) {
            self.look_ups.remove(&ticket);
            match &stored {
                Ok(()) => {
                    let found = self.cache.in_order(name, Start::Best);
                    app.handle_dial(ticket, DialEvent::Resolved(&found), now);
                }
                Err(reason) => {
                    app.handle_dial(ticket, DialEvent::Failed(format!("{name}: {reason}")), now);
                }
            }
        }
        for ticket in self.tickets_of_dials(name) {
            let Some(Dialing { dial, .. }) = self.dials.remove(&ticket) else {
                continue;
            };
            on.shared.timers.clear(Timer::Lookup(ticket));
            match &stored {
                Err(reason) if !self.cache.is_usable(name, dial.freshness, now.elapsed) => {
                    app.handle_dial(ticket, DialEvent::Failed(format!("{name}: {reason}")), now);
                }
                _ => self.use_known(dial, name.to_owned(), app, on),
            }
        }
    }

    /// In the order of their tickets, so that the order of calls does not depend on a hash.
    fn tickets_of_look_ups(&self, name: &str) -> Vec<Ticket> {
        let waiting = self.look_ups.iter().filter(|(_, wanted)| *wanted == name);
        let mut tickets: Vec<Ticket> = waiting.map(|(ticket, _)| *ticket).collect();
        tickets.sort_unstable();
        tickets
    }

    fn tickets_of_dials(&self, name: &str) -> Vec<Ticket> {
        let waiting = self.dials.iter().filter(|(_, dialing)| {
            dialing.stage == DialStage::LookingUp && dialing.name.as_deref() == Some(name)
        });
        let mut tickets: Vec<Ticket> = waiting.map(|(ticket, _)| *ticket).collect();
        tickets.sort_unstable();
        tickets
    }

    /// A look-up's time is over.
    pub fn look_up_is_late<A: Application>(
        &mut self,
        ticket: Ticket,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        let is_waiting = |dialing: &Dialing| dialing.stage == DialStage::LookingUp;
        if !self.dials.get(&ticket).is_some_and(is_waiting) {
            return;
        }
        let Some(Dialing { dial, name: Some(name), .. }) = self.dials.remove(&ticket) else {
            return;
        };
        if self.cache.is_usable(&name, dial.freshness, on.shared.now.elapsed) {
            return self.use_known(dial, name, app, on);
        }
        let why =
            format!("{name} is still being looked up after {}", format_duration(dial.timeout));
        app.handle_dial(ticket, DialEvent::Failed(why), on.shared.now);
    }

    fn use_known<A: Application>(
        &mut self,
        dial: Dial,
        name: String,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        let addresses = self.cache.in_order(&name, dial.start);
        app.handle_dial(dial.ticket, DialEvent::Resolved(&addresses), on.shared.now);
        self.try_all(dial, Some(name), addresses, app, on);
    }

    /// Makes a connection to another loop: a pair of sockets, one of which is sent there.
    fn pair<A: Application>(
        &mut self,
        ticket: Ticket,
        other: LoopId,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        let way = self.loops.iter().find(|(known, ..)| *known == other);
        let made = match way {
            Some((_, us, way)) => {
                UnixStream::pair().and_then(|(ours, theirs)| way(*us, theirs).map(|()| ours))
            }
            None => Err(io::Error::other("no such loop")),
        };
        let opened = made.and_then(|ours| {
            let socket = Socket::Pair(ours);
            add(socket, IN_PROCESS, ticket, ConnectionState::Handshaking, on)
        });
        match opened {
            Ok(id) => drop(on.open(id, app)),
            Err(error) => {
                app.handle_dial(ticket, DialEvent::Failed(plain(&error)), on.shared.now);
            }
        }
    }

    /// Forgets a dial or a look-up, however far it has come.
    pub fn cancel<S>(&mut self, ticket: Ticket, on: &mut Connections<S>) {
        self.look_ups.remove(&ticket);
        let Some(Dialing { stage, .. }) = self.dials.remove(&ticket) else {
            return;
        };
        match stage {
            DialStage::LookingUp => on.shared.timers.clear(Timer::Lookup(ticket)),
            DialStage::Connecting(id, _) | DialStage::Handshaking(id, _) => {
                self.attempts.remove(&id);
                on.abandon(id);
            }
        }
    }
}

fn format_duration(time: Duration) -> String {
    match time.as_millis() {
        milliseconds if milliseconds % 1_000 == 0 => format!("{} s", milliseconds / 1_000),
        milliseconds => format!("{milliseconds} ms"),
    }
}

/// The peer address that connections within the process have.
pub(super) const IN_PROCESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests;
