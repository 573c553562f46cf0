//! The Places server as a process: its port, its certificate, its loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    RunError, bind, finish, kernel, limits_of, print_listening, process, record_stopped,
    watch_controls,
};
use crate::config::{Config, PLACES_SERVICE};
use crate::errors::clients_are;
use crate::event_loop::{EventLoop, Limits, Listen, Security};
use crate::limits::{ConfiguredLimits, EVICT_IDLE_AFTER};
use crate::logging::{Log, target};
use crate::places::gazetteer::Gazetteer;
use crate::places_server::{HTTPS, PlacesServer, PlacesServerSetup};
use crate::tls::ServerTls;

/// Runs a Places server at `address` until it is stopped. Of the configuration it needs the API key, which
/// its clients must send, and the warnings.
pub fn run_places(
    config: &Config,
    address: SocketAddr,
    tls: ServerTls,
    log: Log,
) -> Result<(), RunError> {
    let limits = ConfiguredLimits::default();
    let max_open = process::max_http_clients(&limits);
    let setup = PlacesServerSetup {
        // Unpack before the first client comes, because every request needs the gazetteer.
        gazetteer: Arc::new(Gazetteer::unpack()),
        key: config.places.key.clone(),
        log_name: PLACES_SERVICE.to_owned(),
        limits: limits.clone(),
        log: Some(log.clone()),
    };
    let app = PlacesServer::new(setup);
    let mut event_loop =
        EventLoop::new(app, places_limits(&limits)).map_err(kernel("make a poll"))?;
    let port = Listen {
        security: Security::Tls(tls),
        connections: limits.client_connections,
        max_open,
        evict_after: Some(EVICT_IDLE_AFTER),
        ..Listen::on(HTTPS, address)
    };
    let listening = bind(&mut event_loop, "HTTP clients", port, None)?;
    watch_controls(&mut event_loop)?;
    print_listening(&format!("{PLACES_SERVICE} listens on {listening}"), &config.places.warnings);
    let stopped = event_loop.run().map_err(kernel("wait for events"))?;
    if stopped.grace_expired {
        // Not limited: a server stops once.
        log::warn!(
            target: target::LOOP, event = "stop_unfinished";
            "{PLACES_SERVICE} stopped before all was answered: after {} s {} still connected.",
            stopped.took.as_secs(),
            clients_are(stopped.still_open as u64),
        );
    }
    if !stopped.hurried {
        record_stopped(PLACES_SERVICE);
    }
    finish(stopped.hurried, &log)
}

/// The bounds of its loop. A drain is a stop here: the connections are those of servers, which come back as they need
/// them.
fn places_limits(limits: &ConfiguredLimits) -> Limits {
    let (drain_delay, drain_duration) = (Duration::ZERO, Duration::ZERO);
    Limits { drain_delay, drain_duration, ..limits_of(limits, 1) }
}
