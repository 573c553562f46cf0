//! TLS that begins on an open connection ([`Next::StartTls`]): sometimes a few words go in the clear first.
//!
//! ```text
//!   Open --StartTls--> Handshaking, clear --output is out, nothing has come--> Handshaking, TLS --complete--> Open
//! ```
//!
//! The session stays, so a failure is reported as the end of a connection, not as a failed dial. What the other side
//! sends between its last words in the clear and TLS ends the connection: nobody has verified who wrote it, and after
//! the handshake it would pass for a part of what follows.

use std::io::ErrorKind;

use super::limits::HANDSHAKE_EFFORT;
use super::secured::{FirstByte, Secured};
use super::serve::{Pause, Served, Slot};
use super::shared::Shared;
use super::state::{ConnectionState, Owed};
use super::timers::Timer;
use super::transport::Socket;
use crate::application::{Application, Closed, HandshakeFailure, TlsId};
use crate::tls;

#[cfg(doc)]
use crate::application::Next;

impl<S> Slot<S> {
    /// Nothing more is read or handled until TLS has begun. It begins once the output is sent.
    #[cold]
    pub(super) fn start_tls(&mut self, with: TlsId, shared: &mut Shared) {
        let connection = &mut self.connection;
        let known = shared.security.dials.contains_key(&with);
        let why = match (&connection.transport, connection.state) {
            (_, state) if state != ConnectionState::Open => return,
            (Socket::Tls(_), _) => "TLS has begun on this connection already",
            (Socket::Pair(_), _) => "a connection within the process has no TLS",
            _ if !known => "no TLS has this number",
            _ if connection.output_ends => "our side ends, so TLS can't begin",
            (Socket::Plain(_), _) => {
                connection.transport.hold_for_tls(with);
                // The one step back: until the handshake is complete it is as unusable as one that was just dialled.
                connection.state = ConnectionState::Handshaking;
                connection.owed = Owed::Nothing;
                shared.timers.clear(Timer::Input(connection.id));
                let until = shared.now.elapsed + shared.limits.handshake_timeout;
                shared.timers.set(Timer::Opening(connection.id), until);
                shared.queue_serve(connection);
                return shared.queue_flush(connection);
            }
        };
        shared.close(connection, Closed::Broken(why.to_owned()));
    }

    /// Advances a connection on which TLS begins or has begun.
    #[cold]
    pub(super) fn serve_start_tls<A: Application<Session = S>>(
        &mut self,
        app: &mut A,
        shared: &mut Shared,
    ) -> Served {
        let connection = &mut self.connection;
        let is_clear = connection.transport.is_clear();
        if is_clear && connection.unsent() > 0 {
            return Served::Done; // The last bytes of the output bring it back here.
        }
        if is_clear && !self.begin_tls(shared) {
            return Served::Done;
        }
        self.advance_tls(app, shared);
        self.account(app, shared);
        Served::Done
    }

    /// The output is sent: TLS begins. Returns false if it can't.
    fn begin_tls(&mut self, shared: &mut Shared) -> bool {
        let connection = &mut self.connection;
        let (now, generation) = (shared.now.elapsed, shared.security.generation);
        let Some(secured) = connection.transport.secured() else {
            return false;
        };
        let first = secured.first_byte();
        let dials = &shared.security.dials;
        let tls = secured.dialled_with.and_then(|id| dials.get(&id));
        let why = match (first, tls) {
            (Ok(FirstByte::None), Some(tls)) => match secured.begin_as_client(tls, generation) {
                Ok(()) => {
                    secured.began = Some(now);
                    connection.ready.readable = true;
                    shared.queue_flush(connection);
                    return true;
                }
                Err(error) => Closed::Broken(format!("no TLS: {}", tls::plain(&error))),
            },
            (Ok(FirstByte::Is(_)), _) => {
                Closed::Broken("bytes came in the clear where TLS had to begin".to_owned())
            }
            (Ok(FirstByte::End), _) => closed("the connection was closed where TLS had to begin"),
            (Err(error), _) => connection.why_broken(&error),
            (_, None) => Closed::Broken("no TLS has this number".to_owned()),
        };
        shared.close(connection, why);
        false
    }

    fn advance_tls<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) {
        shared.allowance.spend(HANDSHAKE_EFFORT);
        let connection = &mut self.connection;
        let Some(secured) = connection.transport.secured() else {
            return;
        };
        match secured.advance() {
            Ok(()) => return self.go_on_with_tls(app, shared),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.ready.readable = false
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => shared.queue_serve(connection),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let why = "the connection was closed during the TLS handshake";
                return shared.close(connection, closed(why));
            }
            Err(error) => return self.fail(&error, app, shared),
        }
        shared.queue_flush(connection);
        if connection.is_leaving && !connection.ready.readable {
            let why = "the TLS handshake was not complete when the loop stopped";
            shared.close(connection, closed(why));
        }
    }

    /// The handshake is complete: the application is called without bytes, and what came behind the handshake is read
    /// after that.
    fn go_on_with_tls<A: Application<Session = S>>(&mut self, app: &mut A, shared: &mut Shared) {
        let connection = &mut self.connection;
        if let Some(why) = shared.distrusts_at_end(connection) {
            return shared.close(connection, Closed::Tls(HandshakeFailure::Certificate, why));
        }
        if let Some(secured) = connection.transport.secured() {
            secured.note_complete(shared.now.elapsed);
        }
        shared.timers.clear(Timer::Opening(connection.id));
        connection.state = ConnectionState::Open;
        connection.ready.readable = true; // No event announces what TLS holds already.
        shared.queue_flush(connection); // It also puts one that wants to be filled on its list.
        let policy = *shared.policies.get(connection.policy);
        let next = self.handle_bytes(0, app, shared);
        self.go_on(next, Pause::Later, &policy, shared);
    }
}

impl Socket {
    /// Whether TLS is to begin on it, once the output is sent.
    pub(super) fn is_clear(&mut self) -> bool {
        self.secured().is_some_and(|secured| secured.is_clear())
    }

    /// Makes of plain TCP a connection whose TLS begins later. Others stay as they are.
    fn hold_for_tls(&mut self, with: TlsId) {
        let held = Socket::Tls(Box::new(Secured::held(with)));
        match std::mem::replace(self, held) {
            Socket::Plain(stream) => {
                if let Socket::Tls(secured) = self {
                    secured.hold(stream);
                }
            }
            other => *self = other,
        }
    }
}

fn closed(why: &str) -> Closed {
    Closed::Tls(HandshakeFailure::Closed, why.to_owned())
}
