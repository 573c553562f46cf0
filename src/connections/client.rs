//! A client's lines (section 3): IAMAT, WHATSAT, and everything else.

use std::net::SocketAddr;

use super::places::Ask;
use super::records::{self, Records};
use super::{ConnectionId, Server, Verdict};
use crate::application::Line;
use crate::clock::Now;
use crate::limits::GAZETTEER_EFFORT;
use crate::logging::Traffic;
use crate::logging::rate_limit::Kind;
use crate::protocol::{ClientRequest, RequestError, Whatsat, is_http_request_line, write_refusal};

/// A client's connection.
#[derive(Debug, Default)]
pub struct Client {
    /// The first line of the answer that it waits for; it is sent together with the rest.
    waits_with: Option<Box<[u8]>>,
}

impl Client {
    /// Whether its last line is not answered yet. No further line is handled before it is.
    pub fn is_waiting(&self) -> bool {
        self.waits_with.is_some()
    }

    /// Bytes that it holds.
    pub fn buffered(&self) -> usize {
        self.waits_with.as_ref().map_or(0, |line| line.len())
    }
}

impl Server {
    pub(super) fn client_line(
        &mut self,
        id: ConnectionId,
        client: &mut Client,
        peer: SocketAddr,
        line: Line<'_>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Verdict {
        let before = out.len();
        let line = match line {
            Line::Whole(line) | Line::Unfinished(line) => line,
            Line::TooLong(beginning) => {
                Traffic::Client.received(peer, beginning);
                let reason = "the line is too long; the connection is closed";
                records::refused(Kind::ClientLineRefused, peer, reason);
                write_refusal(beginning, out);
                Traffic::Client.sent(peer, &out[before..]);
                return Verdict::Close;
            }
        };
        Traffic::Client.received(peer, line);
        let verdict = ClientRequest::parse(line, self.dialect).and_then(|request| match request {
            ClientRequest::Iamat(iamat) => {
                let observer = &mut Records(&self.title, &self.neighbours);
                self.herd.handle_iamat(&iamat, now, out, observer).map(|()| Verdict::Next)
            }
            ClientRequest::Whatsat(whatsat) => self.whatsat(id, client, &whatsat, now, out),
        });
        let verdict = verdict.unwrap_or_else(|reason| refuse(peer, line, reason, out));
        Traffic::Client.sent(peer, &out[before..]);
        verdict
    }

    fn whatsat(
        &mut self,
        id: ConnectionId,
        client: &mut Client,
        whatsat: &Whatsat<'_>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, RequestError> {
        let entry = self.herd.table().get(whatsat.id).ok_or(RequestError::UnknownClient)?;
        let location = entry.update.location().ok_or(RequestError::UnknownClient)?;
        let ask = Ask { location: &location, radius: whatsat.radius, bound: whatsat.bound };
        self.effort += GAZETTEER_EFFORT;
        match self.places.ask(id, &ask, now.elapsed) {
            Some(body) => {
                entry.update.get().write_at(self.dialect, out);
                out.extend_from_slice(&body);
                Ok(Verdict::Next)
            }
            None => {
                let mut first_line = Vec::new();
                entry.update.get().write_at(self.dialect, &mut first_line);
                client.waits_with = Some(first_line.into_boxed_slice());
                Ok(Verdict::Wait)
            }
        }
    }

    /// Appends an answer that a client has waited for: its first line and the rest, in one piece.
    pub fn deliver(
        &mut self,
        client: &mut Client,
        peer: SocketAddr,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        let before = out.len();
        if let Some(first_line) = client.waits_with.take() {
            // Exactly: a great answer should not take twice its size.
            out.reserve_exact(first_line.len() + body.len());
            out.extend_from_slice(&first_line);
            out.extend_from_slice(body);
        }
        Traffic::Client.sent(peer, &out[before..]);
    }
}

/// Answers a line that is no command. What asks for HTTP is not heard any further.
fn refuse(peer: SocketAddr, line: &[u8], reason: RequestError, out: &mut Vec<u8>) -> Verdict {
    records::refused(Kind::ClientLineRefused, peer, reason);
    write_refusal(line, out);
    if is_http_request_line(line) { Verdict::Close } else { Verdict::Next }
}
