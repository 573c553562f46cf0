//! An IAMAT that waits for a token: the session keeps its line.

use std::time::Duration;

use super::Position;
use crate::application::{Command, ConnectionId, Io, Next};
use crate::limits::{ConfiguredLimits, NEW_IDS_PER_STEP};
use crate::logging::Traffic;
use crate::protocol::{ClientRequest, Iamat, RequestError};
use crate::server::Server;
use crate::server::client::{Client, Waiting};
use crate::server::metrics::{LineCommand, Paused, RateLimit};
use crate::server::records::{self, HerdLog};

/// A line that waits.
#[derive(Debug)]
pub(in crate::server) struct WaitingLine {
    line: Box<[u8]>,
    position: Position,
    since: Duration,
}

impl WaitingLine {
    /// Bytes of memory that it takes, its place in the queue included.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        self.line.len() + size_of::<(Position, ConnectionId)>()
    }
}

impl Server {
    /// Handles an IAMAT, or keeps its line if it would add an id and there is no token.
    pub(in crate::server) fn iamat(
        &mut self,
        client: &mut Client,
        iamat: &Iamat<'_>,
        line: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        let log = &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics);
        let may_add = || self.new_ids.take(io.peer.ip(), io.now.elapsed);
        if self.herd.handle_iamat_if(iamat, io.now, io.out, log, may_add)? {
            return Ok(Next::Read);
        }
        Ok(self.wait_for_new_id(client, line, io))
    }

    /// Keeps a line for which there is no token.
    #[cold]
    fn wait_for_new_id(&mut self, client: &mut Client, line: &[u8], io: &mut Io<'_>) -> Next {
        let now = io.now.elapsed;
        let position = self.new_ids.wait(io.id, io.peer.ip(), now);
        let waiting = WaitingLine { line: line.into(), position, since: now };
        self.metrics.rate_limited[RateLimit::NewIds as usize].add(1);
        self.metrics.pause(Paused::NewIds);
        records::delayed(io.peer, self.limits.new_ids_per_second);
        client.wait(Waiting::NewId(waiting))
    }

    /// Handles the line of a connection that has got its token.
    pub(in crate::server) fn fill_new_id(
        &mut self,
        client: &mut Client,
        waiting: WaitingLine,
        io: &mut Io<'_>,
    ) -> Next {
        if self.new_ids.waits(waiting.position) {
            return client.wait(Waiting::NewId(waiting));
        }
        self.metrics.resume(Paused::NewIds);
        let before = io.out.len();
        let handled = ClientRequest::parse(&waiting.line, self.dialect).and_then(|request| {
            let ClientRequest::Iamat(iamat) = request else {
                return Ok(Next::Read); // It was one when it came, and is one still.
            };
            let log = &mut HerdLog::new(&self.log_name, &self.neighbours, &self.metrics);
            self.herd.handle_iamat(&iamat, io.now, io.out, log)?;
            if self.lacked_room(&iamat) {
                io.out.truncate(before);
                return Ok(self.wait_for_room(client, &waiting.line, true, io));
            }
            Ok(self.hold_answer(client, iamat.id, before, io))
        });
        self.waited(client, &waiting.line, waiting.since, handled, before, io)
    }

    /// An IAMAT has waited since then, and was handled: counts it, if it is answered now, and refuses it if it has to be.
    pub(in crate::server) fn waited(
        &mut self,
        client: &mut Client,
        line: &[u8],
        since: Duration,
        handled: Result<Next, RequestError>,
        before: usize,
        io: &mut Io<'_>,
    ) -> Next {
        let next = match handled {
            Ok(Next::Read) => {
                self.metrics.count_delayed(LineCommand::Iamat);
                let took = io.now.elapsed.saturating_sub(since);
                self.metrics.answers[LineCommand::Iamat as usize].observe(took);
                Next::Read
            }
            Ok(next) => next,
            Err(reason) => self.refuse_in_turn(client, line, reason, io),
        };
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        next
    }

    /// A connection that waited for a token is closed.
    pub(in crate::server) fn forget_new_id(&mut self, waiting: &WaitingLine) {
        self.metrics.resume(Paused::NewIds);
        self.new_ids.leave(waiting.position);
    }

    /// Lets the connections go on that have got a token by now.
    pub(in crate::server) fn resume_new_ids(&mut self, now: Duration) {
        for _ in 0..NEW_IDS_PER_STEP {
            let Some(connection) = self.new_ids.next_with_token(now) else {
                return;
            };
            self.commands.push_back(Command::Fill(connection));
        }
    }

    /// Other limits hold from now on.
    pub(in crate::server) fn change_new_ids(
        &mut self,
        limits: &ConfiguredLimits,
        loops: usize,
        now: Duration,
    ) {
        let released = self.new_ids.set_limits(limits, loops, now);
        self.commands.extend(released.into_iter().map(Command::Fill));
    }

    /// The server stops: what it has received is handled, so that nothing that waits is lost.
    pub(in crate::server) fn lift_new_ids(&mut self) {
        let released = self.new_ids.lift();
        self.commands.extend(released.into_iter().map(Command::Fill));
    }
}
