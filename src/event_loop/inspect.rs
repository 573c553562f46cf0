//! All connections as the application may see them
//! ([`Command::Inspect`](crate::application::Command::Inspect)).

use super::connections::Connections;
use super::state::ConnectionState;
use crate::application::{Application, Inspected, Ticket};

impl<S> Connections<S> {
    /// Passes all connections that are not closed to the application.
    pub fn inspect<A: Application<Session = S>>(&mut self, ticket: Ticket, app: &mut A) {
        let shared = &self.shared;
        let most = shared.limits.output_bytes;
        let slots =
            self.slots.iter().filter(|(_, slot)| slot.connection.state != ConnectionState::Closed);
        let mut all = slots.map(|(id, slot)| {
            let connection = &slot.connection;
            let unsent = connection.unsent();
            Inspected {
                id,
                peer: connection.peer(),
                origin: connection.origin(),
                session: slot.session.as_ref(),
                unsent,
                silent_since: connection.last_read(),
                tls: connection.transport.tls_info(),
                activity: shared.counting.activity_of(id),
                waits: connection.is_waiting(),
                is_full: unsent > most && !shared.policies.get(connection.policy).reads_when_full,
            }
        });
        app.handle_inspect(ticket, &mut all, shared.now);
    }
}
