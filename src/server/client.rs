//! A client's lines (section 3): IAMAT, WHATSAT, and everything else.

use std::time::Duration;

use super::metrics::{ClosedReason, Kind, LineCommand, LineResult, Paused};
use super::new_ids::WaitingLine;
use super::places::PlacesRequest;
use super::records;
use super::tls::Rights;
use super::{Server, Session, policy};
use crate::application::{ClosedConnection, Io, Line, Next, Opened, Policy};
use crate::limits::GAZETTEER_EFFORT;
use crate::logging::rate_limit;
use crate::logging::{Traffic, target};
use crate::protocol::{ClientRequest, RequestError, Whatsat, is_http_request_line, write_refusal};

/// A client's connection.
#[derive(Debug, Default)]
pub struct Client {
    pub(super) waits: Option<Box<Waits>>,
    details: Option<Box<Details>>,
}

/// What is known of some clients, in a box: it takes a word of each other one.
#[derive(Debug, Default)]
struct Details {
    /// The id that it has sent last, where the admin listener shows it.
    last_id: Option<Vec<u8>>,
    /// If it has shown a certificate.
    rights: Option<Rights>,
}

/// What a client waits for.
#[derive(Debug)]
pub(super) enum Waits {
    Places(WaitingAnswer),
    NewId(WaitingLine),
}

/// An answer of places that is not complete.
#[derive(Debug)]
pub(super) struct WaitingAnswer {
    /// Its first line; it is sent together with the rest.
    first_line: Vec<u8>,
    since: Duration,
}

impl Client {
    pub(super) fn keep_id(&mut self, id: &[u8]) {
        let last = self.details.get_or_insert_default().last_id.get_or_insert_default();
        last.clear();
        last.extend_from_slice(id);
    }

    /// The id that it has sent last, if that was kept.
    pub(super) fn last_id(&self) -> Option<&[u8]> {
        self.details.as_deref()?.last_id.as_deref()
    }

    /// Its certificate, if it has shown one.
    pub(super) fn rights(&self) -> Option<&Rights> {
        self.details.as_deref()?.rights.as_ref()
    }

    /// What it waits for, as the metrics call it.
    pub(super) fn waits_for(&self) -> &'static str {
        match self.waits.as_deref() {
            Some(Waits::NewId(_)) => Paused::NewIds.text(),
            Some(Waits::Places(_)) | None => Paused::Places.text(),
        }
    }

    /// Bytes of memory that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        let of_id = self.last_id().map_or(0, <[u8]>::len);
        of_id
            + self.rights().map_or(0, Rights::held_bytes)
            + match self.waits.as_deref() {
                None => 0,
                Some(Waits::Places(waiting)) => waiting.first_line.capacity(),
                Some(Waits::NewId(waiting)) => waiting.held_bytes(),
            }
    }
}

impl Server {
    pub(super) fn client_opened(&mut self, opened: &Opened<'_>, io: &Io<'_>) -> (Session, Policy) {
        if self.is_unwanted_plaintext(Kind::Client, opened) {
            return self.plaintext_opened(Kind::Client, io);
        }
        log::info!(
            target: target::CLIENT, event = "connection_opened", peer:% = io.peer;
            "Client {} is connected{}.", io.peer, records::by_tls(opened)
        );
        let details =
            Rights::of(opened).map(|rights| Details { last_id: None, rights: Some(rights) });
        let client = Client { waits: None, details: details.map(Box::new) };
        (Session::Client(client), policy::client(&self.limits))
    }

    pub(super) fn client_line(
        &mut self,
        client: &mut Client,
        line: Line<'_>,
        io: &mut Io<'_>,
    ) -> Next {
        let line = match line {
            Line::Whole(line) | Line::Unfinished(line) => line,
            Line::TooLong(beginning) => return self.refuse_too_long(beginning, io),
        };
        let before = io.out.len();
        Traffic::Client.received(&io.peer, line);
        let next = ClientRequest::parse(line, self.dialect).and_then(|request| match request {
            ClientRequest::Iamat(iamat) => {
                if self.looks_at_ids && !self.permits_id(client, LineCommand::Iamat, iamat.id) {
                    return Ok(self.refuse_id(client, LineCommand::Iamat, iamat.id, line, io));
                }
                self.iamat(client, &iamat, line, io)
            }
            ClientRequest::Whatsat(whatsat) => {
                if self.looks_at_ids && !self.permits_id(client, LineCommand::Whatsat, whatsat.id) {
                    return Ok(self.refuse_id(client, LineCommand::Whatsat, whatsat.id, line, io));
                }
                self.whatsat(client, &whatsat, io)
            }
        });
        let next = next.unwrap_or_else(|reason| self.refuse(line, reason, io));
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        next
    }

    /// Answers a line of which only the beginning is known.
    #[cold]
    fn refuse_too_long(&mut self, beginning: &[u8], io: &mut Io<'_>) -> Next {
        let before = io.out.len();
        Traffic::Client.received(&io.peer, beginning);
        let reason = "the line is too long; the connection is closed";
        records::refused(rate_limit::Kind::ClientLineRefused, io.peer, reason);
        write_refusal(beginning, io.out);
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        self.metrics.count_line(command_of(beginning), LineResult::TooLong);
        self.ends.insert(io.id, ClosedReason::LineTooLong);
        Next::Finish
    }

    // Not inline: it would cost each IAMAT registers and stack.
    #[inline(never)]
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
        self.metrics.count_line(LineCommand::Whatsat, LineResult::Ok);
        match self.places.request(io.id, &request, io.now.elapsed) {
            Some(body) => {
                entry.update.get().write_at(self.dialect, io.out);
                io.out.extend_from_slice(&body);
                Ok(Next::Read)
            }
            None => {
                let mut first_line = Vec::new();
                entry.update.get().write_at(self.dialect, &mut first_line);
                let waiting = WaitingAnswer { first_line, since: io.now.elapsed };
                client.waits = Some(Box::new(Waits::Places(waiting)));
                self.metrics.count_delayed(LineCommand::Whatsat);
                self.metrics.pause(Paused::Places);
                Ok(Next::Wait)
            }
        }
    }

    /// Goes on with what a client waits for.
    pub(super) fn fill_client(&mut self, client: &mut Client, io: &mut Io<'_>) -> Next {
        match client.waits.take().map(|waits| *waits) {
            None => Next::Read, // It waits for nothing.
            Some(Waits::Places(waiting)) => self.fill_answer(client, waiting, io),
            Some(Waits::NewId(waiting)) => self.fill_new_id(client, waiting, io),
        }
    }

    /// Appends an answer of places, once it is complete: the first line and the rest.
    fn fill_answer(
        &mut self,
        client: &mut Client,
        waiting: WaitingAnswer,
        io: &mut Io<'_>,
    ) -> Next {
        let Some(body) = self.places.take_answer(io.id) else {
            client.waits = Some(Box::new(Waits::Places(waiting)));
            return Next::Wait;
        };
        let WaitingAnswer { first_line, since } = waiting;
        self.metrics.resume(Paused::Places);
        let took = io.now.elapsed.saturating_sub(since);
        self.metrics.answers[LineCommand::Whatsat as usize].observe(took);
        let before = io.out.len();
        // Reserve exactly: a large answer should not take twice its size.
        io.out.reserve_exact(first_line.len() + body.len());
        io.out.extend_from_slice(&first_line);
        io.out.extend_from_slice(&body);
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        Next::Read
    }

    pub(super) fn client_closed(&mut self, client: &Client, closed: &ClosedConnection<'_>) {
        records::disconnected(target::CLIENT, None, closed.peer);
        match client.waits.as_deref() {
            None => {}
            Some(Waits::Places(_)) => {
                self.metrics.resume(Paused::Places);
                self.places.forget(closed.id);
            }
            Some(Waits::NewId(waiting)) => self.forget_new_id(waiting),
        }
    }

    /// Answers a line that is not a command. After an HTTP request line, nothing more is read from the
    /// connection.
    #[cold]
    pub(super) fn refuse(&mut self, line: &[u8], reason: RequestError, io: &mut Io<'_>) -> Next {
        let hint = records::tls_hint(line);
        let kind = rate_limit::Kind::ClientLineRefused;
        records::refused(kind, io.peer, format_args!("{reason}{hint}"));
        write_refusal(line, io.out);
        let result = match reason {
            RequestError::UnknownClient => LineResult::UnknownId,
            _ => LineResult::Invalid,
        };
        self.metrics.count_line(command_of(line), result);
        if !is_http_request_line(line) {
            return Next::Read;
        }
        self.ends.insert(io.id, ClosedReason::Protocol);
        Next::Finish
    }
}

/// The command of a line that is refused: its first word.
fn command_of(line: &[u8]) -> LineCommand {
    match line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) {
        Some(b"IAMAT") => LineCommand::Iamat,
        Some(b"WHATSAT") => LineCommand::Whatsat,
        _ => LineCommand::Other,
    }
}
