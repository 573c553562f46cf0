//! The kinds of connection, and the file that handles the input of each. This is the whole border to the event loop:
//! one call of the trait is one match here.

use std::time::Duration;

use super::admin::AdminSession;
use super::dial::{Purpose, purpose};
use super::metrics::Kind;
use super::tls::CertifiedPeer;
use super::{
    ADMIN, CLIENTS, Client, EngineSession, Failure, Message, PEERS, Server, ServerCommand, places,
};
use crate::application::{
    Application, Closed, ClosedConnection, Control, DialEvent, Due, FullOutput, Inspected, Io,
    Line, ListenerId, Next, Opened, Origin, Policy, Refused, Ticket,
};
use crate::clock::Now;
use crate::connection_records;
use crate::herd::{NeighbourId, Peer};
use crate::logging::target;

/// The other end of a connection.
#[derive(Debug)]
pub enum Session {
    /// Accepted on the clients' port.
    Client(Client),
    /// Accepted on the neighbours' port.
    Peer(Peer),
    /// The same, with TLS.
    CertifiedPeer(Box<CertifiedPeer>),
    /// In plain text, accepted on the port for connections of this kind, which takes only TLS.
    Plaintext(Kind),
    /// A neighbour that we dialled.
    Link(NeighbourId),
    /// From another loop of this server.
    LoopPeer(Peer),
    /// Another loop of this server that we dialled.
    LoopLink(NeighbourId),
    /// The Places service, that we dialled for a query.
    Places(places::PlacesSession),
    /// Accepted on the admin port.
    Admin(Box<AdminSession>),
    /// A server of NATS, that we dialled for the engine.
    Engine(Box<EngineSession>),
}

/// What few servers have, so that all others pay nothing for it.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The end of a turn is watched: while the server drains, and with a disk.
    pub watches_turns: bool,
    /// There are deadlines besides those of every server, of a drain and of certificates.
    pub has_deadlines: bool,
}

impl Application for Server {
    type Session = Session;
    type Message = Message;

    fn handle_open(&mut self, opened: Opened<'_>, io: &mut Io<'_>) -> Option<(Session, Policy)> {
        self.now = io.now.elapsed;
        self.count_handshake(&opened);
        match opened.origin {
            Origin::Accepted(CLIENTS) => Some(self.client_opened(&opened, io)),
            Origin::Accepted(PEERS) => Some(self.peer_opened(&opened, io)),
            Origin::Accepted(ADMIN) => self.admin_opened(&opened, io),
            Origin::Accepted(_) => None,
            Origin::Loop(from) => self.loop_opened(from),
            Origin::Dialled(ticket) => match purpose(ticket) {
                Purpose::Dial(neighbour) => self.link_opened(neighbour, ticket, &opened, io),
                Purpose::LookUp(_) => None,
                Purpose::Places => {
                    let (session, policy) = self.places.handle_open(ticket, io)?;
                    Some((Session::Places(session), policy))
                }
                Purpose::Engine => self.engine_opened(ticket, &opened, io),
            },
        }
    }

    fn handle_line(&mut self, session: &mut Session, line: Line<'_>, io: &mut Io<'_>) -> Next {
        self.now = io.now.elapsed;
        match session {
            Session::Client(client) => self.client_line(client, line, io),
            Session::Peer(peer) => self.peer_line(peer, line, io),
            Session::Link(neighbour) => self.link_line(*neighbour, line, io),
            Session::LoopPeer(peer) => self.loop_peer_line(peer, line, io),
            Session::LoopLink(neighbour) => self.loop_link_line(*neighbour, line, io),
            Session::CertifiedPeer(peer) => self.certified_peer_line(peer, line, io),
            Session::Plaintext(kind) => self.plaintext_line(*kind, line, io),
            // They send bytes.
            Session::Places(_) | Session::Admin(_) | Session::Engine(_) => Next::Finish,
        }
    }

    fn handle_bytes(&mut self, session: &mut Session, bytes: &[u8], io: &mut Io<'_>) -> Next {
        self.now = io.now.elapsed;
        match session {
            Session::Places(session) => self.places.handle_bytes(session, bytes, io),
            Session::Admin(session) => self.admin_bytes(session, bytes, io),
            Session::Engine(session) => self.engine_bytes(session, bytes, io),
            _ => Next::Finish, // They send lines.
        }
    }

    fn handle_end(&mut self, session: &mut Session, io: &mut Io<'_>) -> Next {
        self.now = io.now.elapsed;
        match session {
            Session::Places(session) => self.places.handle_end(session, io),
            _ => Next::Finish,
        }
    }

    fn fill(&mut self, session: &mut Session, io: &mut Io<'_>) -> Next {
        self.now = io.now.elapsed;
        match session {
            Session::Client(client) => self.fill_client(client, io),
            Session::Link(neighbour) => self.fill_link(*neighbour, io),
            Session::LoopLink(neighbour) => self.fill_loop_link(*neighbour, io),
            Session::Places(session) => self.places.fill(session, io),
            Session::Admin(session) => self.fill_admin(session, io),
            Session::Engine(_) => self.fill_engine(io),
            Session::Peer(_)
            | Session::LoopPeer(_)
            | Session::CertifiedPeer(_)
            | Session::Plaintext(_) => Next::Read,
        }
    }

    fn handle_full(&mut self, full: FullOutput, _session: &mut Session, now: Now) {
        self.now = now.elapsed;
        connection_records::full(&full);
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, session: Session, now: Now) {
        self.now = now.elapsed;
        let is_recorded = match session {
            Session::Places(_) => !matches!(closed.why, Closed::Broken(_) | Closed::Tls(..)),
            Session::Admin(_) | Session::Engine(_) => false,
            _ => true,
        };
        if is_recorded {
            self.record_closed(&closed);
        }
        let reason = self.count_closed(&closed, &session);
        match session {
            Session::Client(mut client) => self.client_closed(&mut client, &closed),
            Session::Peer(peer) | Session::LoopPeer(peer) => {
                self.peer_closed(peer, &closed, reason);
            }
            Session::CertifiedPeer(certified) => self.peer_closed(certified.peer, &closed, reason),
            Session::Plaintext(_) => self.plaintext_closed(&closed),
            Session::Link(neighbour) | Session::LoopLink(neighbour) => {
                self.link_closed(neighbour, &closed, reason, now);
            }
            Session::Places(session) => self.places.handle_closed(&closed, session, now),
            Session::Admin(_) => self.admin_closed(&closed),
            Session::Engine(_) => self.engine_closed(&closed, now),
        }
    }

    fn handle_dial(&mut self, ticket: Ticket, event: DialEvent<'_>, now: Now) {
        self.now = now.elapsed;
        match purpose(ticket) {
            Purpose::Dial(neighbour) => self.neighbour_dial(neighbour, ticket, event, now),
            Purpose::LookUp(neighbour) => self.neighbour_look_up(neighbour, ticket, event, now),
            Purpose::Places => self.places.handle_dial(ticket, event, now),
            Purpose::Engine => self.engine_dial(ticket, event, now),
        }
    }

    fn handle_refused(&mut self, listener: ListenerId, why: &Refused, now: Now) {
        self.now = now.elapsed;
        self.count_refused(listener, why);
        match listener {
            ADMIN => self.admin_refused(why),
            _ => self.record_refused(why),
        }
    }

    fn handle_message(&mut self, message: Message, now: Now) {
        self.now = now.elapsed;
        match message {
            Message::LoopEnded(result) => self.loop_ended(result),
            Message::Places(message) => self.places.handle_message(message, now),
            Message::Admin(message) => self.admin_message(message),
            Message::Reconfigured(reconfigured) => self.reconfigured(&reconfigured, now),
            Message::ReloadEnded(end) => self.reload_ended(end, now),
            Message::FilesChanged => self.ask_for_reload(None),
            Message::State(message) => self.state_message(message),
            Message::Engine(message) => self.engine_message(message, now),
            Message::LogChanged => {}
        }
    }

    fn handle_inspect(
        &mut self,
        ticket: Ticket,
        all: &mut dyn Iterator<Item = Inspected<'_, Session>>,
        now: Now,
    ) {
        self.now = now.elapsed;
        self.inspected(ticket, all, now);
    }

    fn poll_command(&mut self) -> Option<ServerCommand> {
        self.next_command()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.next_deadline()
    }

    fn handle_timeout(&mut self, due: &mut Due<'_>) {
        self.do_what_is_due(due);
    }

    fn handle_control(&mut self, control: Control, now: Now) {
        self.now = now.elapsed;
        match control {
            Control::ReopenLog => self.log.reopen(),
            Control::Drain => {
                self.begin_drain(now);
                self.tell_draining(now);
            }
            Control::Reload(text) => {
                // By a signal, and whatever the reload finds: a log that was rotated must be reopened. A supervisor asks
                // for that by itself.
                if text.is_none() {
                    self.log.reopen();
                }
                self.ask_for_reload(text);
            }
        }
    }

    fn handle_stop(&mut self, now: Now) {
        self.now = now.elapsed;
        self.end_drain(now);
        self.is_stopping = true;
        self.tell_stopping(now);
        self.lift_new_ids();
        self.leave_events(now);
        log::info!(target: target::LOOP, event = "stop"; "{} stops.", self.log_name());
    }

    /// True once the other loops have ended, which may have updates for the neighbours until then, the disk has all that
    /// is known here, and so have every connected neighbour and the engine. A drain does not wait for long for the latter.
    fn may_stop(&self) -> bool {
        let is_settled = || {
            let has_all = self.herd().is_settled() && self.engine_is_settled();
            has_all || self.draining.has_waited(self.now)
        };
        self.other_loops == 0 && self.herd().is_on_disk() && is_settled()
    }

    fn held_bytes(&self, session: &Session) -> usize {
        match session {
            Session::Client(client) => client.held_bytes(),
            Session::Places(session) => self.places.held_bytes(session),
            Session::Admin(session) => session.held_bytes(),
            Session::Engine(session) => session.held_bytes(),
            Session::CertifiedPeer(peer) => peer.held_bytes(),
            Session::Peer(_) | Session::Plaintext(_) | Session::Link(_) => 0,
            Session::LoopPeer(_) | Session::LoopLink(_) => 0,
        }
    }

    fn shared_bytes(&self) -> usize {
        self.places.shared_bytes() + self.admin.as_ref().map_or(0, |admin| admin.shared_bytes())
    }

    fn handle_turn_end(&mut self) {
        self.answers.turn_ends(&self.metrics);
        if self.rare.watches_turns {
            self.watched_turn_ends();
        }
        self.log.submit(self.now);
    }
}

impl Server {
    /// What few servers do at the end of a turn.
    #[cold]
    fn watched_turn_ends(&mut self) {
        self.watch_drain(self.now);
        self.hand_over_to_disk();
    }

    /// Another loop has ended. If it failed, this one must stop, too: otherwise no loop would answer some of the
    /// clients.
    fn loop_ended(&mut self, result: Result<(), Failure>) {
        self.other_loops = self.other_loops.saturating_sub(1);
        if let Err(failure) = result {
            self.fail(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Session;

    /// It is a part of each connection, and most are clients that say nothing: what few have is in boxes.
    #[test]
    fn a_session_is_small() {
        let session = size_of::<Option<Session>>();
        assert!(session <= 24, "{session} bytes");
    }
}
