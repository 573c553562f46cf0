//! The attempts of a dial: it connects to one address after the other until one connection can be used.

use std::io;
use std::net::SocketAddr;

use super::{DialStage, Dialer, Dialing};
use crate::application::{
    Application, ConnectionId, Dial, DialEvent, HandshakeFailure, Origin, Ticket,
};
use crate::event_loop::connect::connect;
use crate::event_loop::connections::Connections;
use crate::event_loop::round::Round;
use crate::event_loop::secured::Secured;
use crate::event_loop::state::ConnectionState;
use crate::event_loop::timers::Timer;
use crate::event_loop::transport::Socket;
use crate::tls::plain;

impl Dialer {
    /// Begins with the first of the addresses.
    pub(super) fn try_all<A: Application>(
        &mut self,
        dial: Dial,
        name: Option<String>,
        addresses: Vec<SocketAddr>,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        let (stage, round) = (DialStage::LookingUp, Round::new(addresses));
        self.try_next(Dialing { dial, name, stage, round }, app, on);
    }

    /// Tries the remaining addresses until an attempt can begin, and returns while it connects.
    fn try_next<A: Application>(
        &mut self,
        mut dialing: Dialing,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        let ticket = dialing.dial.ticket;
        while let Some((address, is_last)) = dialing.round.next() {
            let why = match begin(&dialing.dial, address, on) {
                Ok(id) => {
                    let Dial { attempt_timeout, timeout, .. } = dialing.dial;
                    let limit = if is_last { timeout } else { attempt_timeout.min(timeout) };
                    on.shared.timer_in(Timer::Opening(id), limit);
                    dialing.stage = DialStage::Connecting(id, address);
                    self.attempts.insert(id, ticket);
                    self.dials.insert(ticket, dialing);
                    return app.handle_dial(ticket, DialEvent::Connecting(address), on.shared.now);
                }
                Err(error) => plain(&error),
            };
            self.note_failure(&mut dialing, address, &why);
            app.handle_dial(ticket, DialEvent::AttemptFailed(address, &why), on.shared.now);
        }
        app.handle_dial(ticket, DialEvent::Failed(dialing.round.failures_text()), on.shared.now);
    }

    fn note_failure(&mut self, dialing: &mut Dialing, address: SocketAddr, why: &str) {
        dialing.round.failed(address, why);
        if let Some(name) = &dialing.name {
            self.cache.failed(name, address);
        }
    }

    /// Checks an attempt after an event for its connecting socket.
    pub fn check<A: Application>(
        &mut self,
        id: ConnectionId,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        let Some((ticket, dialing)) = self.of(id) else {
            return; // It was cancelled.
        };
        let DialStage::Connecting(_, address) = dialing.stage else {
            return;
        };
        match on.dial_progress(id) {
            Ok(false) => {}
            Ok(true) if dialing.dial.tls.is_some() => {
                dialing.stage = DialStage::Handshaking(id, address);
                app.handle_dial(ticket, DialEvent::Handshaking(address), on.shared.now);
                on.handshake(id);
            }
            Ok(true) => {
                if on.open(id, app) {
                    self.opened(ticket);
                }
            }
            Err(error) => self.attempt_failed(id, &plain(&error), None, app, on),
        }
    }

    /// The connection of a dial is open: the dial is over.
    pub fn opened(&mut self, ticket: Ticket) {
        let Some(Dialing { name, stage, .. }) = self.dials.remove(&ticket) else {
            return;
        };
        if let DialStage::Connecting(id, address) | DialStage::Handshaking(id, address) = stage {
            self.attempts.remove(&id);
            if let Some(name) = name {
                self.cache.worked(&name, address);
            }
        }
    }

    /// An attempt has failed, while connecting or in its handshake: continue with the next address.
    pub fn attempt_failed<A: Application>(
        &mut self,
        id: ConnectionId,
        why: &str,
        failure: Option<HandshakeFailure>,
        app: &mut A,
        on: &mut Connections<A::Session>,
    ) {
        on.abandon(id);
        let dialing = self.attempts.remove(&id).and_then(|ticket| self.dials.remove(&ticket));
        let Some(mut dialing) = dialing else {
            return; // It was cancelled.
        };
        if let DialStage::Connecting(_, address) | DialStage::Handshaking(_, address) =
            dialing.stage
        {
            self.note_failure(&mut dialing, address, why);
            if let (DialStage::Handshaking(..), Some(failure)) = (dialing.stage, failure) {
                let failed = DialEvent::HandshakeFailed(address, failure);
                app.handle_dial(dialing.dial.ticket, failed, on.shared.now);
            }
            let failed = DialEvent::AttemptFailed(address, why);
            app.handle_dial(dialing.dial.ticket, failed, on.shared.now);
        }
        self.try_next(dialing, app, on);
    }

    /// The dial to which a connecting socket belongs.
    fn of(&mut self, id: ConnectionId) -> Option<(Ticket, &mut Dialing)> {
        let ticket = *self.attempts.get(&id)?;
        Some((ticket, self.dials.get_mut(&ticket)?))
    }
}

/// Begins to connect to one address.
fn begin<S>(dial: &Dial, to: SocketAddr, on: &mut Connections<S>) -> io::Result<ConnectionId> {
    let stream = connect(dial.from, to)?;
    let security = &on.shared.security;
    let tls = dial.tls.and_then(|id| Some((id, security.dials.get(&id)?)));
    let socket = match tls {
        Some((id, tls)) => {
            let secured = Secured::dialled(stream, id, tls, security.generation)?;
            Socket::Tls(Box::new(secured))
        }
        None => Socket::Plain(stream),
    };
    add(socket, to, dial.ticket, ConnectionState::Connecting, on)
}

/// Gives a socket a slot; an error if it can't be registered.
pub(super) fn add<S>(
    socket: Socket,
    peer: SocketAddr,
    ticket: Ticket,
    state: ConnectionState,
    on: &mut Connections<S>,
) -> io::Result<ConnectionId> {
    let id = on.add(socket, peer, Origin::Dialled(ticket), state);
    if on.state(id) == Some(state) {
        return Ok(id);
    }
    on.abandon(id);
    Err(io::Error::other("it can't be watched"))
}
