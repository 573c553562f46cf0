//! Queries for places, as far as the connections know of them: who asked what, who answers, and who
//! waits.
//!
//! ```text
//!                       +--> offline: the embedded gazetteer, at once
//!   WHATSAT --> Places -+
//!                       +--> service: queries, shared and queued --> exchange: one connection's
//!                                     and a pool of connections       request and answer
//! ```

mod commands;
mod exchange;
mod names;
mod offline;
mod queries;
mod service;

use std::net::SocketAddr;
use std::time::Duration;

pub use queries::QueryId;

use super::{Command, ConnectionId, Server, Verdict};
use crate::clock::Now;
use crate::config::PlacesSettings;
use crate::places::gazetteer::Gazetteer;
use crate::places::google::{Api, AreaText};
use crate::places::{Area, Provider};
use crate::protocol::Location;
use offline::Offline;
use service::Service;

/// What a client wants to know.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Around which point.
    pub location: &'a Location<'a>,
    /// Metres.
    pub radius: f64,
    /// Places in the answer at most.
    pub bound: usize,
}

/// Who answers the queries of one server.
#[derive(Debug)]
pub(super) enum Places {
    Offline(Box<Offline>),
    Service(Box<Service>),
}

impl Places {
    pub(super) fn new(settings: &PlacesSettings) -> Places {
        let api = match settings.provider() {
            Provider::Offline => return Places::Offline(Box::new(Offline::new(settings))),
            Provider::Google => Api::NearbySearch,
            Provider::GoogleNew => Api::New(settings.shape),
        };
        Places::Service(Box::new(Service::new(api, settings)))
    }

    /// The answer, or none if it will be delivered.
    pub(super) fn ask(
        &mut self,
        who: ConnectionId,
        ask: &Ask<'_>,
        now: Duration,
    ) -> Option<Vec<u8>> {
        match self {
            Places::Offline(offline) => offline.ask(who, ask.query(), ask.bound, now),
            Places::Service(service) => service.ask(who, &ask.circle(), ask.bound, now),
        }
    }

    /// A client that may be waiting for an answer has left.
    pub(super) fn forget(&mut self, who: ConnectionId) {
        match self {
            Places::Offline(offline) => offline.forget(who),
            Places::Service(service) => service.forget(who),
        }
    }

    /// The next thing that the loop must do for the queries.
    pub(super) fn poll_command(&mut self) -> Option<Command> {
        match self {
            Places::Offline(offline) => offline.poll_command(),
            Places::Service(service) => service.poll_command(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match self {
            Places::Offline(offline) => offline.poll_timeout(),
            Places::Service(service) => service.poll_timeout(),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        match self {
            Places::Offline(offline) => offline.handle_timeout(now),
            Places::Service(service) => service.handle_timeout(now),
        }
    }
}

impl Ask<'_> {
    fn query(&self) -> Area {
        let (latitude, longitude) = (&self.location.latitude, &self.location.longitude);
        Area { latitude: latitude.degrees(), longitude: longitude.degrees(), radius: self.radius }
    }

    fn circle(&self) -> AreaText {
        AreaText {
            latitude: self.location.latitude.decimal_degrees(),
            longitude: self.location.longitude.decimal_degrees(),
            // Within 50 km, so it fits; neither API takes 0.
            radius: (self.radius.round() as u32).max(1),
        }
    }
}

/// What the loop tells of the gazetteer and of connections with the service. Without a service there
/// are none, and nothing is told.
impl Server {
    /// The gazetteer is there.
    pub fn gazetteer_unpacked(&mut self, gazetteer: Box<Gazetteer>) {
        if let Places::Offline(offline) = &mut self.places {
            offline.unpacked(gazetteer);
        }
    }

    /// The gazetteer could not be unpacked, for this reason; it is tried again at the next query.
    pub fn gazetteer_failed(&mut self, reason: &str) {
        if let Places::Offline(offline) = &mut self.places {
            offline.failed(reason);
        }
    }

    /// What the service's name stands for, or why that is not known.
    pub fn places_resolved(&mut self, result: Result<Vec<SocketAddr>, String>, now: Now) {
        if let Some(service) = self.service() {
            service.resolved(result, now.elapsed);
        }
    }

    /// A connection with the service is being made for a query.
    pub fn places_connecting(
        &mut self,
        query: QueryId,
        id: ConnectionId,
        address: SocketAddr,
        now: Now,
    ) {
        if let Some(service) = self.service() {
            service.connecting(query, id, address, now.elapsed);
        }
    }

    /// A connection could not even be begun.
    pub fn places_not_connecting(&mut self, query: QueryId, reason: &str, now: Now) {
        if let Some(service) = self.service() {
            service.not_connecting(query, reason, now.elapsed);
        }
    }

    /// A connection is made: appends the request that it is for.
    pub fn places_connected(&mut self, id: ConnectionId, out: &mut Vec<u8>) {
        if let Some(service) = self.service() {
            service.connected(id, out);
        }
    }

    /// A kept connection that was chosen for a query is quiet: appends the request.
    pub fn places_quiet(&mut self, id: ConnectionId, now: Now, out: &mut Vec<u8>) {
        if let Some(service) = self.service() {
            service.quiet(id, out, now.elapsed);
        }
    }

    /// Something has come on a kept connection that nobody asked for. It must be closed.
    pub fn places_spoke(&mut self, id: ConnectionId, now: Now) {
        if let Some(service) = self.service() {
            service.spoke_unasked(id, now.elapsed);
        }
    }

    /// The TLS handshake of a connection is done.
    pub fn places_secured(&mut self, id: ConnectionId, now: Now) {
        if let Some(service) = self.service() {
            service.secured(id, now.elapsed);
        }
    }

    /// A connection has failed, for this reason.
    pub fn places_lost(&mut self, id: ConnectionId, reason: &str, now: Now) {
        if let Some(service) = self.service() {
            service.lost(id, reason, now.elapsed);
        }
    }

    /// A message that may quote the service, without what it may have said of the key.
    pub fn without_places_key(&self, message: String) -> String {
        match &self.places {
            Places::Service(service) => service.without_key(message),
            Places::Offline(_) => message,
        }
    }

    /// The host that is asked, as it stands in its certificate.
    pub fn places_host(&self) -> &str {
        match &self.places {
            Places::Service(service) => service.host(),
            Places::Offline(_) => "",
        }
    }

    /// Whether more of what a connection has received is still to be read.
    pub fn places_unread(&mut self, id: ConnectionId, is_unread: bool) {
        if let Some(service) = self.service() {
            service.unread(id, is_unread);
        }
    }

    /// Bytes of answers that are still to be delivered.
    pub fn undelivered(&self) -> usize {
        match &self.places {
            Places::Service(service) => service.undelivered(),
            Places::Offline(_) => 0, // Each is made when it is delivered.
        }
    }

    /// Bytes of answers that a connection holds.
    pub fn places_buffered(&mut self, id: ConnectionId) -> usize {
        self.service().map_or(0, |service| service.buffered(id))
    }

    pub(super) fn places_bytes(&mut self, id: ConnectionId, bytes: &[u8], now: Now) -> Verdict {
        match self.service() {
            Some(service) => service.handle_bytes(id, bytes, now.elapsed),
            None => Verdict::Close,
        }
    }

    pub(super) fn places_ended(&mut self, id: ConnectionId, now: Now) {
        if let Some(service) = self.service() {
            service.handle_end(id, now.elapsed);
        }
    }

    pub(super) fn places_closed(&mut self, id: ConnectionId, now: Now) {
        if let Some(service) = self.service() {
            service.closed(id, now.elapsed);
        }
    }

    fn service(&mut self) -> Option<&mut Service> {
        match &mut self.places {
            Places::Service(service) => Some(service),
            Places::Offline(_) => None,
        }
    }
}
