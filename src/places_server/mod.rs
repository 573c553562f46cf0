//! A Places server: HTTP requests in, answers from the embedded gazetteer out. It is for demonstrations,
//! tests and benches, so that the whole path over HTTPS can be tried without an API key and without
//! internet access.
//!
//! ```text
//!   handle_bytes --> RequestReader --> routes: status and body --> io.out
//! ```
//! Never here: a socket, TLS, a thread, a file. Each connection gets one answer per turn, because many
//! requests fit into one segment, and each answer is far larger and takes far longer than its request.

mod records;
pub mod routes;

pub use routes::{first_words, reply};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::application::{
    Application, ClosedConnection, Control, Due, FullOutput, Io, ListenerId, Never, Next, Opened,
    Origin, Policy, Refused,
};
use crate::clock::Now;
use crate::connection_records;
use crate::http::{CONTINUE, Request, RequestReader, write_response};
use crate::limits::{ConfiguredLimits, GAZETTEER_EFFORT};
use crate::logging::rate_limit::{self, Kind};
use crate::logging::{Log, Traffic, TurnLog, field, target};
use crate::places::gazetteer::Gazetteer;
use crate::places::key::ApiKey;

/// The listener of the HTTPS port.
pub const HTTPS: ListenerId = ListenerId(0);

/// What a Places server needs at its start.
pub struct PlacesServerSetup {
    pub gazetteer: Arc<Gazetteer>,
    /// The key that each request must contain.
    pub key: Option<ApiKey>,
    /// What the log calls the server.
    pub log_name: String,
    pub limits: ConfiguredLimits,
    /// Where its records go at the end of each turn.
    pub log: Option<Log>,
}

/// A Places server without its sockets.
pub struct PlacesServer {
    setup: PlacesServerSetup,
    clients: usize,
    log: TurnLog,
    /// The time of the latest call.
    now: Duration,
}

/// A connection that sends HTTP requests.
#[derive(Debug, Default)]
pub struct HttpClient {
    reader: RequestReader,
}

impl PlacesServer {
    pub fn new(mut setup: PlacesServerSetup) -> PlacesServer {
        let log = TurnLog::new(setup.log.take());
        PlacesServer { setup, clients: 0, log, now: Duration::ZERO }
    }

    /// What the log calls it.
    pub fn log_name(&self) -> &str {
        &self.setup.log_name
    }

    /// HTTP clients that are connected, or were when the loop ended.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Answers the next request of a connection, if it is complete.
    fn serve(&mut self, client: &mut HttpClient, io: &mut Io<'_>) -> Next {
        match client.reader.next_request() {
            Ok(Some(request)) => {
                io.spend(GAZETTEER_EFFORT);
                self.answer(&request, io.peer, io.out);
                match request.keep_alive {
                    true if client.reader.has_begun() => Next::Again,
                    true => Next::Read,
                    false => Next::Finish,
                }
            }
            Ok(None) => {
                if client.reader.wants_continue() {
                    io.out.extend_from_slice(CONTINUE);
                }
                if client.reader.has_begun() { Next::Rest } else { Next::Read }
            }
            Err(bad) => {
                let peer = io.peer;
                let fields = [field("peer", &peer), field("reason", &bad)];
                let text = format_args!("Refused from {peer}: {bad}.");
                rate_limit::note(Kind::HttpRequestRefused, &fields, text);
                write_response(bad.status(), format!("{bad}\n").as_bytes(), false, io.out);
                Next::Finish
            }
        }
    }

    fn answer(&self, request: &Request, peer: SocketAddr, out: &mut Vec<u8>) {
        let words = routes::first_words(request);
        Traffic::Http.received(&peer, words.as_bytes());
        let PlacesServerSetup { gazetteer, key, .. } = &self.setup;
        let (status, body) = routes::reply(request, gazetteer, key.as_ref());
        write_response(status, &body, request.keep_alive, out);
        Traffic::Http.sent_response(&peer, status, body.len());
    }
}

impl Application for PlacesServer {
    type Session = HttpClient;
    type Message = Never;

    fn handle_open(&mut self, opened: Opened<'_>, io: &mut Io<'_>) -> Option<(HttpClient, Policy)> {
        self.now = io.now.elapsed;
        if !matches!(opened.origin, Origin::Accepted(_)) {
            return None;
        }
        log::info!(
            target: target::HTTP, event = "connection_opened", peer:% = io.peer;
            "HTTP client {} is connected.", io.peer
        );
        self.clients += 1;
        let policy = Policy { input_timeout: self.setup.limits.line_timeout, ..Policy::bytes() };
        Some((HttpClient::default(), policy))
    }

    fn handle_bytes(&mut self, client: &mut HttpClient, bytes: &[u8], io: &mut Io<'_>) -> Next {
        self.now = io.now.elapsed;
        client.reader.push(bytes);
        self.serve(client, io)
    }

    fn handle_full(&mut self, full: FullOutput, _client: &mut HttpClient, now: Now) {
        self.now = now.elapsed;
        connection_records::full(&full);
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _client: HttpClient, now: Now) {
        self.now = now.elapsed;
        self.clients -= 1;
        records::closed(&closed, &self.setup.limits);
    }

    fn handle_refused(&mut self, _listener: ListenerId, why: &Refused, now: Now) {
        self.now = now.elapsed;
        records::refused(why, &self.setup.limits);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.log.poll_timeout()
    }

    fn handle_timeout(&mut self, due: &mut Due<'_>) {
        self.now = due.now.elapsed;
        self.log.handle_timeout(self.now);
    }

    fn handle_control(&mut self, control: Control, now: Now) {
        self.now = now.elapsed;
        match control {
            Control::ReopenLog | Control::Reload(_) => self.log.reopen(),
            Control::Drain => {}
        }
    }

    fn handle_stop(&mut self, now: Now) {
        self.now = now.elapsed;
        log::info!(target: target::LOOP, event = "stop"; "{} stops.", self.log_name());
    }

    fn held_bytes(&self, client: &HttpClient) -> usize {
        client.reader.buffered()
    }

    fn handle_turn_end(&mut self) {
        self.log.submit(self.now);
    }
}

#[cfg(test)]
mod tests;
