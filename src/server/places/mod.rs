//! Queries for places: which client asked what, which provider answers, and which clients wait.
//!
//! ```text
//!                       +--> local: the embedded gazetteer, at once
//!   WHATSAT --> Places -+
//!                       +--> pool: queries, shared and queued --> exchange: one connection's request
//!                                  and a pool of connections       and answer
//! ```
//!
//! A client that must wait gets its answer by its own `fill`, which [`Command::Fill`] asks for when the
//! answer is complete, and [`Places::take_answer`] hands it out.
//!
//! [`Command::Fill`]: crate::application::Command::Fill

mod answers;
mod exchange;
mod local;
mod pool;
mod queries;

use std::sync::Arc;
use std::time::Duration;

use super::ServerCommand;
use super::metrics::{ClosedReason, Kind, PlacesMetrics};
use crate::application::{
    ClosedConnection, ConnectionId, DialEvent, Due, FlushAt, Io, Next, Policy, Ticket, TlsId,
};
use crate::clock::Now;
use crate::config::PlacesSettings;
use crate::places::gazetteer::Gazetteer;
use crate::places::google::{Api, AreaText};
use crate::places::{Area, Provider};
use crate::protocol::Location;
use local::Local;
use pool::Pool;
use queries::{QueryId, Waiter};

/// What a client wants to know.
#[derive(Clone, Debug)]
pub struct PlacesRequest<'a> {
    /// The point around which places are wanted.
    pub location: &'a Location<'a>,
    /// Metres.
    pub radius: f64,
    /// The maximal number of places in the answer.
    pub bound: usize,
}

/// Messages from other threads about the queries.
#[derive(Debug)]
pub enum PlacesMessage {
    /// The gazetteer is ready.
    Unpacked(Box<Gazetteer>),
    /// It could not be unpacked, for this reason.
    UnpackFailed(String),
}

/// A connection with the Places service, as the loop keeps it. Its state is in the pool, which judges the deadlines of
/// all of them.
#[derive(Debug)]
pub struct PlacesSession {
    id: ConnectionId,
}

/// The bounds of the queries of one loop.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    in_flight: usize,
    queued: usize,
    /// Time for one query, all its steps together.
    timeout: Duration,
}

/// The provider that answers the queries of one server.
#[derive(Debug)]
pub struct Places {
    settings: PlacesSettings,
    current: Provided,
    /// Providers that were replaced. They take no more queries, and are here until those that they have are
    /// answered.
    former: Vec<Provided>,
    metrics: Arc<PlacesMetrics>,
}

#[derive(Debug)]
enum Provided {
    Local(Box<Local>),
    Service(Box<Pool>),
}

impl Places {
    /// The server's loops share the limits of `settings` evenly. Without `tls` a service is never dialled,
    /// because the request holds the API key.
    pub fn new(
        settings: &PlacesSettings,
        loops: usize,
        tls: Option<TlsId>,
        metrics: Arc<PlacesMetrics>,
    ) -> Places {
        let bounds = Bounds::of(settings, loops);
        let current = Provided::new(settings, bounds, tls, QueryId::NONE, Arc::clone(&metrics));
        Places { settings: settings.clone(), current, former: Vec::new(), metrics }
    }

    /// From now on queries are answered with these settings; those that came before, with the former ones, unless
    /// `tls` was theirs. If nothing has changed, connections are kept.
    pub fn reconfigure(&mut self, settings: &PlacesSettings, loops: usize, tls: Option<TlsId>) {
        if settings.is_same(&self.settings) {
            return;
        }
        self.settings = settings.clone();
        if let (Provided::Local(local), Provider::Offline) =
            (&mut self.current, settings.provider())
        {
            return local.reconfigure(Bounds::of(settings, loops));
        }
        let last = self.all().filter_map(Provided::last_query).max().unwrap_or(QueryId::NONE);
        let (bounds, metrics) = (Bounds::of(settings, loops), Arc::clone(&self.metrics));
        let next = Provided::new(settings, bounds, tls, last, metrics);
        let mut former = std::mem::replace(&mut self.current, next);
        if let Provided::Service(pool) = &mut former {
            pool.retire();
        }
        self.former.retain(|former| !former.is_over());
        self.former.push(former);
        // The TLS configuration of a former one that was replaced is not its own any more.
        for former in &mut self.former {
            if let Provided::Service(pool) = former
                && pool.tls() == tls
            {
                pool.abandon();
            }
        }
    }

    /// The answer; None if the client must wait until its `fill` is called.
    pub fn request(
        &mut self,
        client: ConnectionId,
        request: &PlacesRequest<'_>,
        now: Duration,
    ) -> Option<Vec<u8>> {
        let waiter = Waiter { client, bound: request.bound };
        match &mut self.current {
            Provided::Local(local) => local.request(waiter, request.area(), now),
            Provided::Service(pool) => pool.request(waiter, &request.area_text(), now),
        }
    }

    /// The answer for a client that waits; None until it is complete.
    pub fn take_answer(&mut self, client: ConnectionId) -> Option<Arc<Vec<u8>>> {
        self.all_mut().find_map(|provided| match provided {
            Provided::Local(local) => local.take_answer(client).map(Arc::new),
            Provided::Service(pool) => pool.take_answer(client),
        })
    }

    /// Forgets a client that was closed while it waited, or before it took its answer.
    pub fn forget(&mut self, client: ConnectionId) {
        for provided in self.all_mut() {
            match provided {
                Provided::Local(local) => local.forget(client),
                Provided::Service(pool) => pool.forget(client),
            }
        }
    }

    /// The next thing that the loop must do for the queries.
    pub fn poll_command(&mut self) -> Option<ServerCommand> {
        self.all_mut().find_map(|provided| match provided {
            Provided::Local(local) => local.poll_command(),
            Provided::Service(pool) => pool.poll_command(),
        })
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let timeouts = self.all().filter_map(|provided| match provided {
            Provided::Local(local) => local.poll_timeout(),
            Provided::Service(pool) => pool.poll_timeout(),
        });
        timeouts.min()
    }

    pub fn handle_timeout(&mut self, due: &mut Due<'_>) {
        for provided in self.all_mut() {
            match provided {
                Provided::Local(local) => local.handle_timeout(due.now.elapsed),
                Provided::Service(pool) => pool.handle_timeout(due),
            }
        }
        self.former.retain(|former| !former.is_over());
    }

    /// A message came from another thread.
    pub fn handle_message(&mut self, message: PlacesMessage, now: Now) {
        let locals = self.all_mut().filter_map(|provided| match provided {
            Provided::Local(local) => Some(local),
            Provided::Service(_) => None,
        });
        // Whichever waits: each gets what it asked for, sooner or later.
        if let Some(local) = locals.into_iter().find(|local| local.is_unpacking()) {
            local.handle_message(message, now.elapsed);
        }
    }

    /// Bytes of complete answers that clients have not taken yet.
    pub fn shared_bytes(&self) -> usize {
        let bytes = self.all().map(|provided| match provided {
            Provided::Service(pool) => pool.shared_bytes(),
            Provided::Local(_) => 0, // Each is made when it is taken.
        });
        bytes.sum()
    }

    fn all(&self) -> impl Iterator<Item = &Provided> {
        std::iter::once(&self.current).chain(&self.former)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Provided> {
        std::iter::once(&mut self.current).chain(&mut self.former)
    }

    fn pools(&mut self) -> impl Iterator<Item = &mut Pool> {
        self.all_mut().filter_map(|provided| match provided {
            Provided::Service(pool) => Some(&mut **pool),
            Provided::Local(_) => None,
        })
    }

    /// The pool that a connection belongs to.
    fn pool_of(&mut self, connection: ConnectionId) -> Option<&mut Pool> {
        self.pools().find(|pool| pool.has(connection))
    }
}

impl Provided {
    /// The numbers of its queries are greater than `last`.
    fn new(
        settings: &PlacesSettings,
        bounds: Bounds,
        tls: Option<TlsId>,
        last: QueryId,
        metrics: Arc<PlacesMetrics>,
    ) -> Provided {
        let api = match settings.provider() {
            Provider::Offline => return Provided::Local(Box::new(Local::new(bounds, metrics))),
            Provider::Google => Api::NearbySearch,
            Provider::GoogleNew => Api::New(settings.shape),
        };
        Provided::Service(Box::new(Pool::new(api, settings, bounds, tls, last, metrics)))
    }

    fn last_query(&self) -> Option<QueryId> {
        match self {
            Provided::Service(pool) => Some(pool.last_query()),
            Provided::Local(_) => None,
        }
    }

    /// Whether no client and no connection needs it any more.
    fn is_over(&self) -> bool {
        match self {
            Provided::Service(pool) => pool.is_over(),
            Provided::Local(local) => local.is_over(),
        }
    }
}

impl Bounds {
    fn of(settings: &PlacesSettings, loops: usize) -> Bounds {
        let share = |limit: usize| limit.div_ceil(loops.max(1));
        Bounds {
            in_flight: share(settings.max_in_flight),
            queued: share(settings.max_queued),
            timeout: settings.timeout,
        }
    }
}

/// Connections with a service. Without a service there are none.
impl Places {
    /// Progress of a dial for a query.
    pub fn handle_dial(&mut self, ticket: Ticket, event: DialEvent<'_>, now: Now) {
        if let Some(pool) = self.pools().find(|pool| pool.dials(ticket)) {
            pool.handle_dial(ticket, event, now.elapsed);
        }
    }

    /// A dial with this ticket (at least [`super::PLACES_TICKETS`]) has made a connection: its request goes out, unless
    /// no query needs it any more.
    pub fn handle_open(
        &mut self,
        ticket: Ticket,
        io: &mut Io<'_>,
    ) -> Option<(PlacesSession, Policy)> {
        let pool = self.pools().find(|pool| pool.dials(ticket));
        let is_used = pool.is_some_and(|pool| pool.handle_open(ticket, io));
        let policy = Policy {
            flush: FlushAt::TurnEnd,
            drains_on_stop: false,
            evictable: false,
            class: Kind::Places.class(),
            ..Policy::bytes()
        };
        is_used.then_some((PlacesSession { id: io.id }, policy))
    }

    /// Bytes came. No bytes mean that a probed connection has nothing to read.
    pub fn handle_bytes(
        &mut self,
        _session: &mut PlacesSession,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> Next {
        match self.pool_of(io.id) {
            Some(pool) if bytes.is_empty() => pool.handle_quiet(io),
            Some(pool) => pool.handle_bytes(io.id, bytes, io.now.elapsed),
            None => Next::Finish,
        }
    }

    /// The service has ended its side of a connection.
    pub fn handle_end(&mut self, _session: &mut PlacesSession, io: &mut Io<'_>) -> Next {
        if let Some(pool) = self.pool_of(io.id) {
            pool.handle_end(io.id, io.now.elapsed);
        }
        Next::Finish
    }

    /// A kept connection was chosen for a query, and has room for its request.
    pub fn fill(&mut self, _session: &mut PlacesSession, io: &mut Io<'_>) -> Next {
        self.pool_of(io.id).map_or(Next::Finish, |pool| pool.fill(io.id))
    }

    /// A connection is closed. If it broke, that is recorded here, because the reason may quote the service, which
    /// knows the key.
    pub fn handle_closed(
        &mut self,
        closed: &ClosedConnection<'_>,
        _session: PlacesSession,
        now: Now,
    ) {
        if let Some(pool) = self.pool_of(closed.id) {
            pool.handle_closed(closed, now.elapsed);
        }
    }

    /// Why the server itself closes a connection, if it does.
    pub(super) fn why_closed(&self, connection: ConnectionId) -> Option<ClosedReason> {
        self.all().find_map(|provided| match provided {
            Provided::Service(pool) => pool.why_closed(connection),
            Provided::Local(_) => None,
        })
    }

    /// Bytes of an answer that a connection holds.
    pub fn held_bytes(&self, session: &PlacesSession) -> usize {
        let bytes = self.all().map(|provided| match provided {
            Provided::Service(pool) => pool.held_bytes(session.id),
            Provided::Local(_) => 0,
        });
        bytes.sum()
    }
}

impl PlacesRequest<'_> {
    fn area(&self) -> Area {
        let (latitude, longitude) = (&self.location.latitude, &self.location.longitude);
        Area { latitude: latitude.degrees(), longitude: longitude.degrees(), radius: self.radius }
    }

    fn area_text(&self) -> AreaText {
        AreaText {
            latitude: self.location.latitude.decimal_degrees(),
            longitude: self.location.longitude.decimal_degrees(),
            // Within 50 km, so it fits; neither API accepts 0.
            radius: (self.radius.round() as u32).max(1),
        }
    }
}
