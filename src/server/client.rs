//! A client's lines (section 3): IAMAT, WHATSAT, and everything else.

use std::net::SocketAddr;

use super::places::PlacesRequest;
use super::records::{self, HerdLog};
use super::{Server, Session};
use crate::application::{ClosedConnection, Io, Line, Next, Policy};
use crate::limits::GAZETTEER_EFFORT;
use crate::logging::rate_limit::Kind;
use crate::logging::{Traffic, target};
use crate::protocol::{ClientRequest, RequestError, Whatsat, is_http_request_line, write_refusal};

/// A client's connection.
#[derive(Debug, Default)]
pub struct Client {
    /// The first line of the answer that it waits for; it is sent together with the rest.
    waits_with: Option<Box<[u8]>>,
}

impl Client {
    /// Bytes of memory that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        self.waits_with.as_ref().map_or(0, |line| line.len())
    }
}

impl Server {
    pub(super) fn client_opened(&mut self, io: &Io<'_>) -> (Session, Policy) {
        log::info!(
            target: target::CLIENT, event = "connection_opened", peer:% = io.peer;
            "Client {} is connected.", io.peer
        );
        let policy = Policy {
            input_timeout: self.limits.line_timeout,
            line_pause: self.limits.line_pause,
            ..Policy::lines(self.limits.line_bytes)
        };
        (Session::Client(Client::default()), policy)
    }

    pub(super) fn client_line(
        &mut self,
        client: &mut Client,
        line: Line<'_>,
        io: &mut Io<'_>,
    ) -> Next {
        let before = io.out.len();
        let line = match line {
            Line::Whole(line) | Line::Unfinished(line) => line,
            Line::TooLong(beginning) => {
                Traffic::Client.received(io.peer, beginning);
                let reason = "the line is too long; the connection is closed";
                records::refused(Kind::ClientLineRefused, io.peer, reason);
                write_refusal(beginning, io.out);
                Traffic::Client.sent(io.peer, &io.out[before..]);
                return Next::Finish;
            }
        };
        Traffic::Client.received(io.peer, line);
        let next = ClientRequest::parse(line, self.dialect).and_then(|request| match request {
            ClientRequest::Iamat(iamat) => {
                let log = &mut HerdLog(&self.log_name, &self.neighbours);
                self.herd.handle_iamat(&iamat, io.now, io.out, log).map(|()| Next::Read)
            }
            ClientRequest::Whatsat(whatsat) => self.whatsat(client, &whatsat, io),
        });
        let next = next.unwrap_or_else(|reason| refuse(io.peer, line, reason, io.out));
        Traffic::Client.sent(io.peer, &io.out[before..]);
        next
    }

    fn whatsat(
        &mut self,
        client: &mut Client,
        whatsat: &Whatsat<'_>,
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        let entry = self.herd.table().get(whatsat.id).ok_or(RequestError::UnknownClient)?;
        let location = entry.update.location().ok_or(RequestError::UnknownClient)?;
        let (radius, bound) = (whatsat.radius, whatsat.bound);
        let request = PlacesRequest { location: &location, radius, bound };
        io.spend(GAZETTEER_EFFORT);
        match self.places.request(io.id, &request, io.now.elapsed) {
            Some(body) => {
                entry.update.get().write_at(self.dialect, io.out);
                io.out.extend_from_slice(&body);
                Ok(Next::Read)
            }
            None => {
                let mut first_line = Vec::new();
                entry.update.get().write_at(self.dialect, &mut first_line);
                client.waits_with = Some(first_line.into_boxed_slice());
                Ok(Next::Wait)
            }
        }
    }

    /// Appends the answer that a client waits for, once it is complete: the first line and the
    /// rest.
    pub(super) fn fill_client(&mut self, client: &mut Client, io: &mut Io<'_>) -> Next {
        let Some(first_line) = client.waits_with.take() else {
            return Next::Read; // It waits for nothing.
        };
        let Some(body) = self.places.take_answer(io.id) else {
            client.waits_with = Some(first_line);
            return Next::Wait;
        };
        let before = io.out.len();
        // Reserve exactly: a large answer should not take twice its size.
        io.out.reserve_exact(first_line.len() + body.len());
        io.out.extend_from_slice(&first_line);
        io.out.extend_from_slice(&body);
        Traffic::Client.sent(io.peer, &io.out[before..]);
        Next::Read
    }

    pub(super) fn client_closed(&mut self, client: &Client, closed: &ClosedConnection<'_>) {
        records::disconnected(target::CLIENT, None, closed.peer);
        if client.waits_with.is_some() {
            self.places.forget(closed.id);
        }
    }
}

/// Answers a line that is not a command. After an HTTP request line, nothing more is read from the
/// connection.
fn refuse(peer: SocketAddr, line: &[u8], reason: RequestError, out: &mut Vec<u8>) -> Next {
    records::refused(Kind::ClientLineRefused, peer, reason);
    write_refusal(line, out);
    if is_http_request_line(line) { Next::Finish } else { Next::Read }
}
