//! Steps 3 to 8 of the turn, in their order, and what they share: commands, and the stop.

use super::EventLoop;
use super::controls::Termination;
use super::dialer::IN_PROCESS;
use super::limits::{CALL_EFFORT, EFFORT_PER_LOOK, HANDSHAKE_EFFORT, MESSAGES_PER_TURN};
use super::mailbox::Incoming;
use super::pace::share;
use super::serve::Served;
use super::state::ConnectionState;
use super::timers::Timer;
use super::transport::Socket;
use crate::application::{
    Application, Budget, Closed, ClosedConnection, Command, ConnectionId, Control, Due,
    HandshakeFailure, Origin, Refused,
};
use crate::clock::Now;

impl<A: Application> EventLoop<A> {
    /// Step 3. Accepts new connections, and serves each ready connection within a budget.
    pub(super) fn serve(&mut self) {
        self.begin_step();
        self.acceptor.accept(&mut self.app, &mut self.connections);
        self.begin_step();
        let count = self.connections.shared.ready.len();
        let share = share(count);
        for _ in 0..count {
            let Some(id) = self.connections.shared.ready.pop() else {
                break;
            };
            match self.connections.serve(id, share, &mut self.app) {
                Served::Done => {}
                Served::Connecting => {
                    self.dialer.check(id, &mut self.app, &mut self.connections);
                }
                Served::Opened(Origin::Dialled(ticket)) => self.dialer.opened(ticket),
                Served::Opened(_) => {}
                Served::NotOpened => self.not_opened(id),
            }
            // Connections for which no time is left stay first in the list, before any that join it from now
            // on.
            if !self.connections.shared.allowance.spend(CALL_EFFORT) {
                if !self.connections.shared.ready.is_empty() {
                    self.connections.shared.counting.exhausted(Budget::Lines);
                }
                break;
            }
        }
        self.run_commands();
    }

    /// A connection's handshake has failed: the application has no session for it.
    #[cold]
    fn not_opened(&mut self, id: ConnectionId) {
        if let Some((origin, peer)) = self.connections.origin(id) {
            let why = self.connections.why(id).cloned().unwrap_or(Closed::Finished);
            self.connections.abandon(id);
            self.report_unopened(id, origin, peer, &why);
        }
    }

    fn report_unopened(
        &mut self,
        id: ConnectionId,
        origin: Origin,
        peer: std::net::SocketAddr,
        why: &Closed,
    ) {
        let (app, connections) = (&mut self.app, &mut self.connections);
        let (failure, reason) = match why {
            Closed::Tls(failure, reason) => (*failure, reason.clone()),
            other => (HandshakeFailure::Closed, other.to_string()),
        };
        match origin {
            Origin::Dialled(_) => {
                self.dialer.attempt_failed(id, &reason, Some(failure), app, connections);
            }
            Origin::Accepted(listener) => {
                let why = match why {
                    // It had to make room for another one; no handshake has failed.
                    Closed::Evicted | Closed::FairShare => Refused::Limit(peer),
                    _ => Refused::Handshake(peer, failure, reason),
                };
                app.handle_refused(listener, &why, connections.shared.now);
            }
            Origin::Loop(_) => {} // The other loop sees its end of the pair close.
        }
    }

    /// Step 4. Each session that asked for it and has room appends to its output.
    pub(super) fn fill(&mut self) {
        self.begin_step();
        for _ in 0..self.connections.shared.fill.len() {
            let Some(id) = self.connections.shared.fill.pop() else {
                return;
            };
            self.connections.shared.has_commands = true;
            let effort = self.connections.fill(id, &mut self.app);
            // Connections for which no time is left come first in the next turn.
            if !self.connections.shared.allowance.spend(CALL_EFFORT.saturating_add(effort)) {
                if !self.connections.shared.fill.is_empty() {
                    self.connections.shared.counting.exhausted(Budget::Fill);
                }
                return;
            }
        }
    }

    /// Step 5. One write for each connection with unsent bytes.
    pub(super) fn flush(&mut self) {
        self.begin_step();
        for _ in 0..self.connections.shared.flush.len() {
            if let Some(id) = self.connections.shared.flush.pop() {
                self.connections.flush(id, &mut self.app);
            }
            if !self.connections.shared.allowance.spend(CALL_EFFORT) {
                return;
            }
        }
    }

    /// Step 6. Handles messages and controls, and then what is due.
    ///
    /// A deadline is judged only once everything that arrived before it has been served
    /// ([`ServedUpTo`](super::pace::ServedUpTo)): the bytes that meet it may still be in the kernel, because
    /// the process was stopped or had too much to do.
    pub(super) fn handle_timers(&mut self) {
        let shared = &mut self.connections.shared;
        shared.served_up_to.served(shared.ready.popped);
        self.begin_step();
        // Messages first: a result that a thread sent in time may meet a deadline.
        if std::mem::take(&mut self.was_woken) {
            self.connections.shared.has_commands = true;
            self.handle_messages();
        }
        self.begin_step();
        self.judge();
        self.handle_controls();
        // In most turns nothing was called since the lines were handled.
        if self.connections.shared.has_commands {
            self.run_commands();
        }
    }

    /// One wake-up may stand for many messages: those beyond the budget are handled in the next turn.
    fn handle_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            if !self.connections.shared.allowance.spend(CALL_EFFORT) {
                break;
            }
            match self.inbox.poll() {
                Some(incoming) => self.handle_incoming(incoming),
                None => return,
            }
        }
        self.was_woken = true;
    }

    fn handle_incoming(&mut self, incoming: Incoming<A::Message>) {
        let (app, connections) = (&mut self.app, &mut self.connections);
        match incoming {
            Incoming::Message(message) => app.handle_message(message, connections.shared.now),
            Incoming::LookedUp { name, result } => {
                self.dialer.looked_up(&name, result, app, connections);
            }
            Incoming::Pair { from, stream } => {
                let (socket, origin) = (Socket::Pair(stream), Origin::Loop(from));
                let state = ConnectionState::Handshaking;
                let id = connections.add(socket, IN_PROCESS, origin, state);
                connections.open(id, app);
            }
            Incoming::Reconfigure(change, done) => {
                let message = done(self.reconfigure(*change));
                self.app.handle_message(message, self.connections.shared.now);
            }
            Incoming::Drain => self.drain(),
            Incoming::Stop => self.stop(),
        }
    }

    fn judge(&mut self) {
        let judged = self.connections.shared.served_up_to.up_to();
        let mut postponed = Vec::new();
        while self.connections.shared.allowance.spend(CALL_EFFORT)
            && let Some((at, timer)) = self.connections.shared.timers.pop_due(judged)
        {
            match timer.connection() {
                // It has unhandled input, or its socket has room for its output.
                Some(id) if self.connections.is_behind(id) => postponed.push((at, timer)),
                _ => {
                    self.connections.shared.has_commands = true;
                    self.handle_timer(timer);
                }
            }
        }
        for (at, timer) in postponed {
            self.connections.shared.timers.set(timer, at);
        }
        // What it said before the wait saves most turns the question.
        if self.app_deadline <= judged && self.app.poll_timeout().is_some_and(|at| at <= judged) {
            let connections = &mut self.connections;
            connections.shared.has_commands = true;
            let now = Now { elapsed: judged, ..connections.shared.now };
            let mut is_behind = |id| connections.is_behind(id);
            self.app.handle_timeout(&mut Due::new(now, &mut is_behind));
        }
    }

    fn handle_timer(&mut self, timer: Timer) {
        let connections = &mut self.connections;
        match timer {
            Timer::Input(id) => connections.close(id, Closed::InputTimeout),
            Timer::LinePause(id) => connections.end_line(id),
            Timer::Write(id) => connections.close(id, Closed::WriteTimeout),
            Timer::Linger(id) => connections.close(id, Closed::Finished),
            Timer::Opening(id) => connections.opening_is_late(id, &mut self.app),
            Timer::Handshakes => connections.admit_handshakes(),
            Timer::Verification => connections.verify_some(),
            Timer::Lookup(ticket) => {
                self.dialer.look_up_is_late(ticket, &mut self.app, connections);
            }
            Timer::Accept => self.acceptor.resume(),
            Timer::Drain => self.step_drain(),
            Timer::Shutdown if self.shutdown.is_draining() => self.end_drain(),
            Timer::Shutdown => self.shutdown.expire(),
        }
    }

    fn handle_controls(&mut self) {
        let Some(requests) = self.controls.take() else {
            return;
        };
        self.connections.shared.has_commands = true;
        let now = self.connections.shared.now;
        if requests.reopen_log {
            self.app.handle_control(Control::ReopenLog, now);
        }
        if let Some(text) = requests.reload {
            self.app.handle_control(Control::Reload(text), now);
        }
        if requests.drain {
            self.drain();
        }
        let mut stops = requests.stop;
        match requests.terminate {
            _ if self.shutdown.is_draining() => {} // It changes nothing.
            Some(Termination::Drain) if !self.shutdown.is_under_way() => self.drain(),
            terminate => stops |= terminate.is_some(),
        }
        if stops {
            self.shutdown.handle_signal(now.elapsed);
        }
        if stops || requests.lifeline_ended {
            self.stop();
        }
    }

    /// Runs the application's commands, as far as there is time: after the lines, so that output for other
    /// connections leaves with the same flush, after the timers, and after closed connections are reported.
    pub(super) fn run_commands(&mut self) {
        self.begin_step();
        self.connections.shared.has_commands = true;
        while self.connections.shared.allowance.is_left() {
            let Some(command) = self.app.poll_command() else {
                self.connections.shared.has_commands = false;
                return;
            };
            let effort = match &command {
                Command::Dial(dial) if dial.tls.is_some() => HANDSHAKE_EFFORT,
                Command::Fill(_) | Command::Finish(_) => CALL_EFFORT,
                _ => EFFORT_PER_LOOK,
            };
            self.run_command(command);
            self.connections.shared.allowance.spend(effort);
        }
    }

    fn run_command(&mut self, command: Command<A::Message>) {
        let (app, connections) = (&mut self.app, &mut self.connections);
        match command {
            Command::Dial(dial) => self.dialer.dial(dial, app, connections, &mut self.inbox),
            Command::Cancel(ticket) => self.dialer.cancel(ticket, connections),
            Command::Resolve { ticket, name } => {
                self.dialer.resolve(ticket, name, app, connections, &mut self.inbox);
            }
            Command::Fill(id) => connections.want_fill(id),
            Command::Finish(id) => connections.finish(id),
            Command::Leave(id) => connections.leave(id),
            Command::Close(id) => connections.close(id, Closed::Commanded),
            Command::Run(job) => self.inbox.run(job),
            Command::Inspect(ticket) => self.inspections.push(ticket),
            Command::Stop => self.stop(),
        }
    }

    /// Step 7. Gives back the slots of closed connections.
    pub(super) fn reap(&mut self) {
        self.begin_step();
        let mut any = false;
        while self.connections.shared.allowance.spend(CALL_EFFORT)
            && let Some(slot) = self.connections.reap()
        {
            any = true;
            let (connection, session) = (slot.connection, slot.session);
            let (id, peer, origin) = (connection.id, connection.peer(), connection.origin());
            let why = connection.why.as_deref().unwrap_or(&Closed::Finished);
            if let Some(session) = session {
                let closed = ClosedConnection { id, peer, origin, why };
                self.app.handle_closed(closed, session, self.connections.shared.now);
            } else if !connection.is_reported {
                self.report_unopened(id, origin, peer, why);
            }
        }
        if any {
            self.acceptor.resume();
            self.run_commands(); // The next event may be far away.
        }
        if !self.inspections.is_empty() {
            self.inspect();
        }
        self.check_shutdown();
    }

    /// Shows the application all connections, as it asked: now that those that are closed are reported.
    #[cold]
    fn inspect(&mut self) {
        for ticket in std::mem::take(&mut self.inspections) {
            self.connections.inspect(ticket, &mut self.app);
        }
        self.run_commands();
    }

    /// Step 8. Tells the application that the turn is over.
    pub(super) fn end_turn(&mut self) {
        let shared = &self.connections.shared;
        shared.counting.metrics.turns.add(1);
        self.connections.count_memory(&self.app);
        self.app.handle_turn_end();
    }

    /// Begins to stop. A second call does nothing.
    pub(super) fn stop(&mut self) {
        let now = self.connections.shared.now;
        // A drain that has taken longer than it may has used up some of the grace time.
        let since =
            self.shutdown.drain().map_or(now.elapsed, |drain| now.elapsed.min(drain.ends_at()));
        if !self.shutdown.begin(now.elapsed) {
            return;
        }
        // Loops that have already ended are ignored.
        self.stop_with.drain(..).for_each(|other| drop(other.stop()));
        let until = since + self.connections.shared.limits.grace;
        self.connections.shared.timers.clear(Timer::Drain);
        self.connections.shared.timers.set(Timer::Shutdown, until);
        self.acceptor.stop();
        self.connections.drain();
        self.app.handle_stop(now);
    }

    /// Ends the loop once nothing is left to wait for and all closed connections are reported.
    pub(super) fn check_shutdown(&mut self) {
        if self.shutdown.is_draining() {
            self.check_drain();
        }
        if self.shutdown.is_under_way() {
            self.check_stop();
        }
    }

    #[cold]
    fn check_stop(&mut self) {
        let shared = &self.connections.shared;
        let is_reported = shared.counts.draining == 0 && shared.closed.is_empty();
        let is_answered = self.acceptor.is_empty() && is_reported;
        if is_answered && self.app.may_stop() {
            self.shutdown.end();
        }
    }

    /// Begins a step, which has a time allowance of its own.
    fn begin_step(&mut self) {
        self.connections.shared.allowance.begin_step();
    }
}
