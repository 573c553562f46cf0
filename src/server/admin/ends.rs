//! How sessions end: by their time limits, or closed by others.

use std::time::Duration;

use super::reply::Reply;
use super::{SessionState, records};
use crate::application::{ClosedConnection, Due, Refused};
use crate::limits::{ADMIN_ANSWER_WAIT, ADMIN_JUDGE_AGAIN};
use crate::server::{Server, ServerCommand};

impl Server {
    pub(in crate::server) fn admin_closed(&mut self, closed: &ClosedConnection<'_>) {
        if let Some(admin) = &mut self.admin {
            admin.open.retain(|session| session.id != closed.id);
            admin.pace.leave(closed.id);
            if let Some(events) = &mut admin.events {
                events.leave(closed.id);
            }
        }
        records::closed(closed, &self.limits);
    }

    /// Records that a connection to the admin listener was not accepted.
    pub(in crate::server) fn admin_refused(&self, why: &Refused) {
        match why {
            Refused::Limit(peer) | Refused::Group(peer) => records::full(*peer),
            Refused::Handshake(..) | Refused::Kernel(_) => self.record_refused(why),
        }
    }

    /// Closes sessions that have sent nothing for too long.
    pub(in crate::server) fn judge_admin(&mut self, due: &mut Due<'_>) {
        let now = due.now.elapsed;
        if self.admin.as_ref().is_some_and(|admin| admin.watch.next() <= now) {
            let sample = self.health_sample(now);
            if let Some(admin) = &mut self.admin {
                admin.watch.add(sample);
            }
        }
        self.advance_events(due.now);
        let Some(admin) = &mut self.admin else { return };
        if let Some(id) = admin.pace.next(now)
            && let Some(open) = admin.session(id)
        {
            open.state = SessionState::Due;
            self.commands.push_back(ServerCommand::Fill(id));
        }
        let mut late = Vec::new();
        for session in admin.open.iter_mut().filter(|session| session.until <= now) {
            match session.state {
                SessionState::Waiting(question) => late.push(question),
                // A request may have arrived and not been read yet, or the answer is being sent. It is judged again
                // after a while and not at once: a slow reader may be behind for long, and the loop would spin.
                _ if due.is_behind(session.id) && !is_stream(&session.state) => {
                    session.until = now + ADMIN_JUDGE_AGAIN
                }
                _ => {
                    session.until = Duration::MAX;
                    self.commands.push_back(ServerCommand::Close(session.id));
                }
            }
        }
        for question in late {
            let seconds = ADMIN_ANSWER_WAIT.as_secs();
            let text = format!("the loop has not answered within {seconds} s\n");
            self.deliver(question, Reply::text(503, text));
        }
    }
}

fn is_stream(state: &SessionState) -> bool {
    matches!(state, SessionState::Streaming)
}
