//! Listeners that come and go while the loop runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};

use super::{Acceptor, Listener};
use crate::application::ListenerId;
use crate::event_loop::limits::RETIRE_WITHIN;
use crate::event_loop::reconfigure::{Bound, Rules};
use crate::event_loop::shared::Shared;
use crate::event_loop::{FIRST_CONNECTION, OWN_TOKENS};

/// Where the listeners of a loop are registered, by any thread: then the loop itself can do without the step
/// that may fail. An event of a listener that the loop does not have yet is ignored.
pub(in crate::event_loop) struct Sources {
    registry: Registry,
    /// How many listeners there have ever been: each has a token of its own, or a late event of one that is
    /// closed could be taken for another's.
    tokens: AtomicUsize,
}

/// Listeners that are registered, but not in use yet. Dropping them closes them.
pub(in crate::event_loop) struct Registered(Vec<Listener>);

impl Sources {
    pub fn new(registry: Registry) -> Sources {
        Sources { registry, tokens: AtomicUsize::new(0) }
    }

    /// Registers a listener, once and for all, and returns its token.
    pub fn register(&self, socket: &mut TcpListener) -> io::Result<Token> {
        let token = self.tokens.fetch_add(1, Relaxed);
        if token >= MAX_LISTENERS {
            return Err(io::Error::other(
                "the loop has had too many listeners; start the program again",
            ));
        }
        self.registry.register(socket, Token(token), Interest::READABLE)?;
        Ok(Token(token))
    }
}

impl Acceptor {
    /// Makes sockets listen and registers them. After an error none is, and all are closed.
    pub fn register(bound: Vec<Bound>, sources: &Arc<Sources>) -> io::Result<Registered> {
        let mut registered = Registered(Vec::with_capacity(bound.len()));
        for mut bound in bound {
            let token = bound.register(sources)?;
            registered.0.push(Listener::new(bound, token));
        }
        Ok(registered)
    }

    /// Puts listeners in use beside those that are there.
    pub fn add(&mut self, new: Registered) {
        self.listeners.extend(new.0);
    }

    /// Puts listeners in use. Those that are there with the same id are closed once the connections that wait
    /// at them are accepted; connections that are open, and their counts, belong to the id and stay.
    pub fn replace(&mut self, by: Registered, now: Duration) {
        for new in &by.0 {
            self.retire(new.listen.id, now);
            // Those that wait at the old one are judged by the new limits.
            self.set_rules(&Rules::of(&new.listen));
        }
        self.listeners.extend(by.0);
    }

    /// Closes the listeners with an id, if there are any, once the connections that wait at them are
    /// accepted.
    pub fn retire(&mut self, id: ListenerId, now: Duration) {
        let in_use = self.listeners.iter_mut().filter(|one| one.left.is_none());
        for listener in in_use.filter(|one| one.listen.id == id) {
            listener.accept_the_last(now + RETIRE_WITHIN);
            self.closes_some = true;
        }
    }

    /// The loop drains: closes the listeners that drain, as [`Acceptor::retire`] does, and returns their ids.
    pub fn drain(&mut self, now: Duration) -> Vec<ListenerId> {
        let drains = self.listeners.iter().filter(|one| one.listen.drains);
        let mut ids: Vec<ListenerId> = drains.map(|one| one.listen.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.iter().for_each(|id| self.retire(*id, now));
        ids
    }

    /// Whether a listener that drains still accepts the connections that wait at it.
    pub fn drains(&self) -> bool {
        self.listeners.iter().any(|one| one.listen.drains)
    }

    /// Changes the rules for the listeners with an id, if there are any.
    pub fn set_rules(&mut self, rules: &Rules) {
        for listener in self.listeners.iter_mut().filter(|one| one.listen.id == rules.id) {
            rules.apply(&mut listener.listen);
            listener.no_eviction_before = Duration::ZERO;
        }
    }

    /// Closes the listeners that have accepted all that waited.
    #[cold]
    pub(super) fn close_done(&mut self, shared: &Shared) {
        let now = shared.now.elapsed;
        self.listeners.retain_mut(|listener| {
            let stays = listener.left.is_none() || !listener.is_done(now);
            if !stays {
                listener.pause.end(now, &shared.counting.metrics);
            }
            stays
        });
        self.closes_some = self.listeners.iter().any(|one| one.left.is_some());
    }
}

/// Listeners that a loop can have had in its life: the tokens below those of its own sources.
const MAX_LISTENERS: usize = FIRST_CONNECTION - OWN_TOKENS;
