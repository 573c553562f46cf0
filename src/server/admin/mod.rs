//! The admin listener: health, counters and connections over HTTP, for operators and monitoring. GET and HEAD
//! only; nothing here changes state.
//!
//! ```text
//!   handle_bytes --> GetReader --> gate: Host, method, target --> routes --> Reply --> io.out
//!                                                                    |
//!                                                                    +--> Command::Inspect, and Wait
//! ```
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the sessions: requests in, replies out, time limits |
//! | `gate.rs`, `access.rs` | which requests are answered at all, and for whom |
//! | `routes.rs` | which path is answered by what, and with which parameters |
//! | `reply.rs` | a reply and its head |
//! | `health.rs` | `/livez`, `/readyz`, `/healthz` |
//! | `watch.rs` | what has gone wrong within the last minute |
//! | `pace.rs` | how much of the loop's time answers take |
//! | `exposition.rs` | `/metrics` |
//! | `varz.rs`, `links.rs`, `turns.rs` | `/varz`, `/linksz`, `/debug/turns` |
//! | `connections.rs`, `asking.rs` | `/connz`, also of another loop |
//! | `values.rs` | times and durations in JSON |
//! | `page.rs`, `events/` | the page at `/`, and the events that it shows |
//! | `ends.rs` | time limits and ends of sessions |
//!
//! It runs on the first loop, so each reply must be built within a fraction of a turn: lists are paged, and
//! nothing walks the table. It has sessions of its own number, so that an attack on it costs no client its
//! place.

mod access;
mod asking;
mod connections;
mod ends;
mod events;
pub mod exposition;
mod gate;
mod health;
mod links;
mod pace;
mod page;
mod records;
mod reply;
mod routes;
mod turns;
mod values;
mod varz;
mod watch;

use std::time::Duration;

use super::{Server, Session, policy};
use crate::application::{ConnectionId, Io, Next, Opened, Policy, Ticket};
use crate::config::Config;
use crate::http::{Get, GetReader};
use crate::limits::{
    ADMIN_EFFORT, ADMIN_HEAD_BYTES, ADMIN_HEAD_FIELDS, ADMIN_HEAD_TIMEOUT, ADMIN_IDLE,
    ADMIN_SESSIONS,
};
use crate::logging;
use crate::server::ServerCommand;
use crate::server::metrics::{AdminPath, ClosedReason, Kind, RejectedReason};
pub(super) use access::shows_ids;
use access::{Access, Carried, Verdict};
pub(super) use asking::Asking;
pub use asking::{AdminMessage, Post};
use events::{Events, HerdMap, Stream};
pub(super) use health::stuck_loop;
use pace::Pace;
use reply::Reply;
use routes::Answer;
use watch::Watch;

/// What the first loop keeps for the admin listener.
#[derive(Debug)]
pub struct Admin {
    settings: AdminRules,
    /// The sessions that are served, in no order.
    open: Vec<OpenSession>,
    watch: Watch,
    pace: Pace,
    /// None while no event stream is open.
    events: Option<Box<Events>>,
    herd: HerdMap,
}

/// The settings that requests are judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AdminRules {
    /// Names in `Host`, besides addresses and `localhost`.
    hosts: Vec<String>,
    ready_timeout: Duration,
    access: Access,
}

#[derive(Debug)]
struct OpenSession {
    id: ConnectionId,
    /// When it is closed, unless a request comes; or when it gets an error in place of its late answer.
    until: Duration,
    state: SessionState,
}

#[derive(Debug)]
enum SessionState {
    /// It is expected to send a request.
    Reading,
    /// Others have taken too much time: its request is handled later.
    Delayed,
    /// Now it is.
    Due,
    /// The answer to this question is not there yet.
    Waiting(Ticket),
    /// Its answer is there; `fill` writes it.
    Answered(Reply),
    /// It gets events.
    Streaming,
}

/// A connection with the admin listener.
#[derive(Debug)]
pub struct AdminSession {
    reader: GetReader<ADMIN_HEAD_FIELDS>,
    /// The request whose answer is not there yet.
    unanswered: Option<Unanswered>,
    /// Its place in the events, once it has asked for them.
    stream: Option<Stream>,
    /// How it is carried.
    carried: Carried,
}

#[derive(Debug)]
struct Unanswered {
    path: AdminPath,
    request: Get,
}

impl AdminSession {
    fn new(carried: Carried) -> AdminSession {
        let reader = GetReader::new(ADMIN_HEAD_BYTES);
        AdminSession { reader, unanswered: None, stream: None, carried }
    }

    /// Bytes of memory that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.reader.buffered()
    }
}

impl Admin {
    /// For server number `index` of the configuration; None if it has no admin listener.
    pub(super) fn new(config: &Config, index: usize) -> Option<Admin> {
        config.servers[index].admin_listen?;
        let settings = AdminRules {
            hosts: config.admin.hosts.clone(),
            ready_timeout: config.admin.ready_timeout,
            access: Access::new(&config.admin),
        };
        Some(Admin {
            settings,
            open: Vec::new(),
            watch: Watch::default(),
            pace: Pace::default(),
            events: None,
            herd: HerdMap::new(config, index),
        })
    }

    /// When [`Server::judge_admin`] must be called at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let sessions = self.open.iter().map(|session| session.until);
        let events = self.events.as_ref().and_then(|events| events.poll_timeout());
        let others = self.pace.poll_timeout().into_iter().chain(events);
        Some(sessions.chain(others).fold(self.watch.next(), Duration::min))
    }

    /// Bytes of memory that all sessions share.
    pub(super) fn shared_bytes(&self) -> usize {
        self.events.as_ref().map_or(0, |events| events.held_bytes())
    }

    /// Sets the time by which a session must send something; with `Duration::MAX` the loop limits the time.
    fn read_until(&mut self, id: ConnectionId, until: Duration) {
        if let Some(session) = self.session(id) {
            (session.until, session.state) = (until, SessionState::Reading);
        }
    }

    /// A session waits for the answer to a question until then.
    fn wait(&mut self, id: ConnectionId, question: Ticket, until: Duration) {
        if let Some(session) = self.session(id) {
            (session.until, session.state) = (until, SessionState::Waiting(question));
        }
    }

    /// Returns the session that waits for the answer to this question, if one does.
    fn set_reply(&mut self, question: Ticket, reply: Reply) -> Option<ConnectionId> {
        let waits =
            |state: &SessionState| matches!(state, SessionState::Waiting(it) if *it == question);
        let session = self.open.iter_mut().find(|session| waits(&session.state))?;
        (session.until, session.state) = (Duration::MAX, SessionState::Answered(reply));
        Some(session.id)
    }

    fn session(&mut self, id: ConnectionId) -> Option<&mut OpenSession> {
        self.open.iter_mut().find(|session| session.id == id)
    }
}

impl OpenSession {
    /// The reply, if it is there. From then on the next request is expected, until `until`.
    fn take_reply(&mut self, until: Duration) -> Option<Reply> {
        match std::mem::replace(&mut self.state, SessionState::Reading) {
            SessionState::Answered(reply) => {
                self.until = until;
                Some(reply)
            }
            other => {
                self.state = other;
                None
            }
        }
    }
}

impl Server {
    /// Other settings, or none any more: then its sessions are closed.
    pub(super) fn reconfigure_admin(&mut self, config: &Config, index: usize) {
        let new = Admin::new(config, index);
        let observes = new.is_some();
        if observes != self.admin.is_some() {
            self.all_metrics.observe(observes);
            logging::keep_tail(observes);
        }
        match (self.admin.take(), new) {
            (Some(mut admin), Some(new)) => {
                admin.settings = new.settings;
                admin.herd = new.herd;
                if let Some(events) = &mut admin.events {
                    events.begin_anew();
                }
                self.admin = Some(admin);
            }
            (Some(admin), None) => {
                for session in admin.open {
                    self.close(session.id, ClosedReason::Replaced);
                }
            }
            (None, new) => self.admin = new.map(Box::new),
        }
    }

    /// A connection to the admin listener. One beyond [`ADMIN_SESSIONS`] gets the answer 503 and is closed.
    pub(super) fn admin_opened(
        &mut self,
        opened: &Opened<'_>,
        io: &mut Io<'_>,
    ) -> Option<(Session, Policy)> {
        let admin = self.admin.as_mut()?;
        records::opened(io.peer);
        if admin.open.len() >= ADMIN_SESSIONS {
            records::full(io.peer);
            let text = format!("too many sessions: {ADMIN_SESSIONS} are open; try again later\n");
            Reply::text(503, text).write(false, false, io.out);
            self.metrics.count_admin_request(AdminPath::Other, 503);
            self.metrics.count_rejected(Kind::Admin, RejectedReason::Full);
            self.ends.insert(io.id, ClosedReason::Protocol);
            self.commands.push_back(ServerCommand::Finish(io.id));
        } else {
            admin.open.push(OpenSession {
                id: io.id,
                until: io.now.elapsed + ADMIN_HEAD_TIMEOUT,
                state: SessionState::Reading,
            });
        }
        let session = AdminSession::new(Carried::of(opened));
        Some((Session::Admin(Box::new(session)), policy::ADMIN))
    }

    /// Answers the next request, if it is complete: one per turn, because many fit into one segment.
    pub(super) fn admin_bytes(
        &mut self,
        session: &mut AdminSession,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> Next {
        session.reader.push(bytes);
        let now = io.now.elapsed;
        let Some(admin) = &mut self.admin else {
            return Next::Finish; // The listener was removed.
        };
        match session.reader.next_request() {
            Ok(Some(request)) => {
                admin.read_until(io.id, now + ADMIN_IDLE);
                io.spend(ADMIN_EFFORT);
                self.answer_admin(request, session, io)
            }
            Ok(None) if session.reader.has_begun() => {
                admin.read_until(io.id, Duration::MAX); // The policy limits the time of a head.
                Next::Rest
            }
            Ok(None) => Next::Read,
            Err(bad) => {
                records::refused(io.peer, bytes, &bad);
                self.metrics.count_admin_request(AdminPath::Other, bad.status());
                Reply::text(bad.status(), format!("{bad}\n")).write(false, false, io.out);
                Next::Finish
            }
        }
    }

    /// Answers a request, or lets it wait because others have taken too much time. Probes never wait.
    fn answer_admin(&mut self, request: Get, session: &mut AdminSession, io: &mut Io<'_>) -> Next {
        if !routes::is_health(&request.target)
            && let Some(admin) = &mut self.admin
            && admin.pace.delays(io.id, io.now.elapsed)
        {
            if let Some(open) = admin.session(io.id) {
                (open.until, open.state) = (Duration::MAX, SessionState::Delayed);
            }
            session.unanswered = Some(Unanswered { path: AdminPath::Other, request });
            return Next::Wait;
        }
        self.answer_now(request, session, io)
    }

    fn answer_now(&mut self, request: Get, session: &mut AdminSession, io: &mut Io<'_>) -> Next {
        let Some(admin) = &self.admin else {
            return Next::Finish; // The listener was removed.
        };
        let verdict = session.carried.judge(admin.settings.access);
        let (path, answer) = match gate::check(&request, &admin.settings.hosts) {
            _ if verdict == Verdict::Plaintext => return self.refuse_plaintext(io),
            Err(reply) => (AdminPath::Other, Answer::Now(reply)),
            Ok(()) if verdict == Verdict::Uncertified => {
                self.route_uncertified(&request, io.id, io.now)
            }
            Ok(()) => self.route_admin(&request, io.id, io.now),
        };
        match answer {
            Answer::Now(reply) => {
                if let Some(admin) = &mut self.admin {
                    admin.pace.spend(pace::of_body(reply.length()), io.now.elapsed);
                }
                self.write_reply(path, &request, &reply, session, io)
            }
            Answer::Later => {
                session.unanswered = Some(Unanswered { path, request });
                Next::Wait
            }
            Answer::Events => self.open_events(&request, session, io),
        }
    }

    fn write_reply(
        &mut self,
        path: AdminPath,
        request: &Get,
        reply: &Reply,
        session: &AdminSession,
        io: &mut Io<'_>,
    ) -> Next {
        self.metrics.count_admin_request(path, reply.status);
        records::answered(io.peer, request, reply.status);
        // A server that stops answers what it has begun with, and no more.
        let keep_alive = request.keep_alive && !self.is_stopping;
        reply.write(keep_alive, request.method == "HEAD", io.out);
        match keep_alive {
            true if session.reader.has_begun() => Next::Again,
            true => Next::Read,
            false => Next::Finish,
        }
    }

    /// Writes the reply that a session waits for, once it is there.
    pub(super) fn fill_admin(&mut self, session: &mut AdminSession, io: &mut Io<'_>) -> Next {
        if let Some(stream) = &mut session.stream {
            return self.fill_events(stream, io);
        }
        let Some(Unanswered { path, request }) = session.unanswered.take() else {
            return Next::Read; // It waits for nothing.
        };
        let Some(admin) = &mut self.admin else {
            return Next::Finish; // The listener was removed.
        };
        let until = io.now.elapsed + ADMIN_IDLE;
        let open = admin.session(io.id);
        if let Some(OpenSession { state: SessionState::Due, .. }) = open {
            admin.read_until(io.id, until);
            return self.answer_now(request, session, io);
        }
        match open.and_then(|open| open.take_reply(until)) {
            Some(reply) => self.write_reply(path, &request, &reply, session, io),
            None => {
                session.unanswered = Some(Unanswered { path, request });
                Next::Wait
            }
        }
    }
}
