//! A client's lines (section 3): IAMAT, WHATSAT, and everything else.

use std::time::Duration;

use super::engine::{WaitingForRoom, WaitingQuery};
use super::held::{HeldBack, LineBehind};
use super::metrics::{ClosedReason, Kind, LineCommand, LineResult, Paused, ServerMetrics};
use super::new_ids::WaitingLine;
use super::places::{Places, PlacesRequest};
use super::records;
use super::tls::Rights;
use super::{Server, Session, policy};
use crate::application::{ClosedConnection, Io, Line, Next, Opened, Policy};
use crate::limits::GAZETTEER_EFFORT;
use crate::logging::rate_limit;
use crate::logging::{Traffic, target};
use crate::protocol::{
    ClientRequest, Dialect, RequestError, Update, Whatsat, is_http_request_line, write_refusal,
};

/// A client's connection.
#[derive(Debug, Default)]
pub struct Client {
    /// None if it waits for nothing.
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
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// Its line that is not answered. Nothing that follows it is handled before.
    pub(super) line: Option<Waiting>,
    /// Answers to the lines before that.
    pub(super) held: HeldBack,
}

/// A line that waits.
#[derive(Debug)]
pub(super) enum Waiting {
    /// For an answer of places.
    Places(WaitingAnswer),
    /// For a token.
    NewId(WaitingLine),
    /// For what the engine has of its client.
    Query(WaitingQuery),
    /// For room in a cache.
    Room(WaitingForRoom),
    /// For the answers that are held back before it.
    Behind(LineBehind),
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

    /// One of its lines waits: nothing more is handled until it is answered.
    pub(super) fn wait(&mut self, line: Waiting) -> Next {
        self.waits.get_or_insert_default().line = Some(line);
        Next::Wait
    }

    /// Its line, which waits now for places or for a token, has been waiting since then.
    pub(super) fn waits_since(&mut self, since: Duration) {
        let line = self.waits.as_deref_mut().and_then(|waits| waits.line.as_mut());
        if let Some(Waiting::Places(waiting)) = line {
            waiting.since = since;
        }
    }

    /// Whether answers to its lines are held back.
    pub(super) fn is_held_back(&self) -> bool {
        self.waits.as_deref().is_some_and(|waits| !waits.held.is_empty())
    }

    /// What it waits for, as the metrics call it.
    pub(super) fn waits_for(&self) -> &'static str {
        let paused = match self.waits.as_deref().and_then(|waits| waits.line.as_ref()) {
            Some(Waiting::NewId(_)) => Paused::NewIds,
            Some(Waiting::Places(_)) => Paused::Places,
            Some(Waiting::Query(_) | Waiting::Room(_)) => Paused::Engine,
            Some(Waiting::Behind(_)) | None => Paused::Kept,
        };
        paused.text()
    }

    /// Bytes of memory that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        let of_id = self.last_id().map_or(0, <[u8]>::len);
        of_id
            + self.rights().map_or(0, Rights::held_bytes)
            + self.waits.as_deref().map_or(0, Waits::held_bytes)
    }
}

impl Waits {
    pub(super) fn held_bytes(&self) -> usize {
        let of_line = match &self.line {
            None => 0,
            Some(Waiting::Places(waiting)) => waiting.first_line.capacity(),
            Some(Waiting::NewId(waiting)) => waiting.held_bytes(),
            Some(Waiting::Query(waiting)) => waiting.held_bytes(),
            Some(Waiting::Room(waiting)) => waiting.held_bytes(),
            Some(Waiting::Behind(waiting)) => waiting.held_bytes(),
        };
        of_line + self.held.held_bytes()
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
            Line::TooLong(beginning) => return self.too_long(client, beginning, io),
        };
        let before = io.out.len();
        Traffic::Client.received(&io.peer, line);
        let next = ClientRequest::parse(line, self.dialect).and_then(|request| match request {
            request if self.looks_at_lines => self.look_at(client, &request, line, io),
            ClientRequest::Iamat(iamat) => self.iamat(client, &iamat, line, io),
            ClientRequest::Whatsat(whatsat) => self.whatsat(client, &whatsat, io),
        });
        let next = next.unwrap_or_else(|reason| self.refuse_in_turn(client, line, reason, io));
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        next
    }

    /// Handles a command where something is to be judged or kept, or answers are held back.
    #[inline(never)]
    pub(super) fn look_at(
        &mut self,
        client: &mut Client,
        request: &ClientRequest<'_>,
        line: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        let (command, id) = match request {
            ClientRequest::Iamat(iamat) => (LineCommand::Iamat, iamat.id),
            ClientRequest::Whatsat(whatsat) => (LineCommand::Whatsat, whatsat.id),
        };
        let is_permitted = self.permits_id(client, command, id);
        match request {
            ClientRequest::Iamat(iamat) if is_permitted => {
                self.iamat_in_turn(client, iamat, line, io)
            }
            _ if client.is_held_back() => Ok(self.wait_behind(client, line, false, io)),
            ClientRequest::Whatsat(whatsat) if is_permitted && self.keeps_cache() => {
                self.query_engine(client, whatsat, line, io)
            }
            ClientRequest::Whatsat(whatsat) if is_permitted => self.whatsat(client, whatsat, io),
            _ => Ok(self.refuse_id(client, command, id, line, io)),
        }
    }

    #[cold]
    fn too_long(&mut self, client: &mut Client, beginning: &[u8], io: &mut Io<'_>) -> Next {
        Traffic::Client.received(&io.peer, beginning);
        if client.is_held_back() {
            return self.wait_behind(client, beginning, true, io);
        }
        let before = io.out.len();
        let next = self.refuse_too_long(beginning, io);
        Traffic::Client.sent(&io.peer, &io.out[before..]);
        next
    }

    /// Answers a line of which only the beginning is known.
    pub(super) fn refuse_too_long(&mut self, beginning: &[u8], io: &mut Io<'_>) -> Next {
        let reason = "the line is too long; the connection is closed";
        records::refused(rate_limit::Kind::ClientLineRefused, io.peer, reason);
        write_refusal(beginning, io.out);
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
        let (places, metrics, dialect) = (&mut self.places, &self.metrics, self.dialect);
        Answering { places, metrics, dialect }.answer(client, &entry.update, whatsat, io)
    }

    /// Answers a query for a client that is here, by what is known of it.
    pub(super) fn whatsat_of(
        &mut self,
        client: &mut Client,
        update: &Update,
        whatsat: &Whatsat<'_>,
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        let (places, metrics, dialect) = (&mut self.places, &self.metrics, self.dialect);
        Answering { places, metrics, dialect }.answer(client, update, whatsat, io)
    }

    /// Goes on with what a client waits for.
    pub(super) fn fill_client(&mut self, client: &mut Client, io: &mut Io<'_>) -> Next {
        if client.is_held_back() && !self.give_answers(client, io) {
            return Next::Finish;
        }
        let waiting = client.waits.as_deref_mut().and_then(|waits| waits.line.take());
        let next = match waiting {
            None => Next::Read,
            Some(Waiting::Places(waiting)) => self.fill_answer(client, waiting, io),
            Some(Waiting::NewId(waiting)) => self.fill_new_id(client, waiting, io),
            Some(Waiting::Query(waiting)) => self.fill_query(client, waiting, io),
            Some(Waiting::Room(waiting)) => self.fill_for_room(client, waiting, io),
            Some(Waiting::Behind(waiting)) => self.fill_line_behind(client, waiting, io),
        };
        if next == Next::Read { self.read_on(client) } else { next }
    }

    /// Appends an answer of places, once it is complete: the first line and the rest.
    fn fill_answer(
        &mut self,
        client: &mut Client,
        waiting: WaitingAnswer,
        io: &mut Io<'_>,
    ) -> Next {
        let Some(body) = self.places.take_answer(io.id) else {
            return client.wait(Waiting::Places(waiting));
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

    pub(super) fn client_closed(&mut self, client: &mut Client, closed: &ClosedConnection<'_>) {
        records::disconnected(target::CLIENT, None, closed.peer);
        let Some(mut waits) = client.waits.take() else {
            return;
        };
        self.drop_answers(&mut waits.held, closed.id);
        match waits.line {
            None | Some(Waiting::Behind(_)) => {}
            Some(Waiting::Places(_)) => {
                self.metrics.resume(Paused::Places);
                self.places.forget(closed.id);
            }
            Some(Waiting::NewId(waiting)) => self.forget_new_id(&waiting),
            Some(Waiting::Query(_)) => self.forget_query(closed.id),
            Some(Waiting::Room(waiting)) => self.waits_for_room_no_longer(&waiting, closed.id),
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

    /// The same for a line that comes behind others whose answers may be held back.
    #[cold]
    pub(super) fn refuse_in_turn(
        &mut self,
        client: &mut Client,
        line: &[u8],
        reason: RequestError,
        io: &mut Io<'_>,
    ) -> Next {
        match client.is_held_back() {
            true => self.wait_behind(client, line, false, io),
            false => self.refuse(line, reason, io),
        }
    }
}

/// What an answer to a query is made with.
struct Answering<'a> {
    places: &'a mut Places,
    metrics: &'a ServerMetrics,
    dialect: Dialect,
}

impl Answering<'_> {
    /// Appends it, or lets the client wait for the places.
    #[inline]
    fn answer(
        self,
        client: &mut Client,
        update: &Update,
        whatsat: &Whatsat<'_>,
        io: &mut Io<'_>,
    ) -> Result<Next, RequestError> {
        let location = update.location().ok_or(RequestError::UnknownClient)?;
        let (radius, bound) = (whatsat.radius, whatsat.bound);
        let request = PlacesRequest { location: &location, radius, bound };
        io.spend(GAZETTEER_EFFORT);
        self.metrics.count_line(LineCommand::Whatsat, LineResult::Ok);
        match self.places.request(io.id, &request, io.now.elapsed) {
            Some(body) => {
                update.get().write_at(self.dialect, io.out);
                io.out.extend_from_slice(&body);
                Ok(Next::Read)
            }
            None => {
                let mut first_line = Vec::new();
                update.get().write_at(self.dialect, &mut first_line);
                let waiting = WaitingAnswer { first_line, since: io.now.elapsed };
                self.metrics.count_delayed(LineCommand::Whatsat);
                self.metrics.pause(Paused::Places);
                Ok(client.wait(Waiting::Places(waiting)))
            }
        }
    }
}

/// The command of a line that is refused: its first word.
pub(super) fn command_of(line: &[u8]) -> LineCommand {
    match line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()) {
        Some(b"IAMAT") => LineCommand::Iamat,
        Some(b"WHATSAT") => LineCommand::Whatsat,
        _ => LineCommand::Other,
    }
}
