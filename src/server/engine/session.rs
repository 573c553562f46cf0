//! What comes on a connection to the engine, from INFO on.

use std::time::Duration;

use super::refusals::{self, Refusal};
use super::servers::NatsServer;
use super::{Connected, Ended, LinkState, Server, Stage, records};
use crate::application::{Io, Next, TlsId};
use crate::limits::{ENGINE_EFFORT, ENGINE_LEAVE_WAIT, ENGINE_SILENCE};
use crate::nats::{self, Connect, FromServer, Info, Message, Parser};
use crate::server::metrics::EngineError;

/// A connection to the engine, as the loop keeps it: what has come of a message whose rest is missing.
#[derive(Debug)]
pub struct EngineSession {
    parser: Parser,
    input: Vec<u8>,
}

impl Default for EngineSession {
    fn default() -> EngineSession {
        EngineSession { parser: Parser::new(0), input: Vec::new() }
    }
}

impl EngineSession {
    /// The memory of its input.
    pub(in crate::server) fn held_bytes(&self) -> usize {
        self.input.capacity()
    }
}

/// How a connection goes on after something that came.
enum Step {
    Next,
    /// TLS begins, with this configuration.
    Secure(TlsId),
    End(Ended),
}

impl Server {
    /// Bytes have come; or none, once TLS has begun.
    #[inline(never)]
    pub(in crate::server) fn engine_bytes(
        &mut self,
        session: &mut EngineSession,
        bytes: &[u8],
        io: &mut Io<'_>,
    ) -> Next {
        let Some(connected) = self.engine.as_mut().and_then(|engine| engine.of(io.id)) else {
            return Next::Finish;
        };
        connected.received = io.now.elapsed;
        connected.pinged = None;
        if bytes.is_empty() {
            return match connected.stage {
                Stage::AwaitsTls => {
                    connected.is_tls = true;
                    let step = self.engine_log_in(io);
                    self.engine_goes_on(step, io)
                }
                _ => Next::Read,
            };
        }
        connected.has_received = true;
        let mut kept = std::mem::take(&mut session.input);
        let is_new = kept.is_empty();
        if !is_new {
            kept.extend_from_slice(bytes);
        }
        let input = if is_new { bytes } else { &kept[..] };
        let (handled, next) = self.engine_input(&mut session.parser, input, io);
        if next != Next::Finish && handled < input.len() {
            session.input = match is_new {
                true => bytes[handled..].to_vec(),
                false => {
                    kept.drain(..handled);
                    kept
                }
            };
        }
        next
    }

    /// Handles all that is complete, and returns its length.
    fn engine_input(
        &mut self,
        parser: &mut Parser,
        input: &[u8],
        io: &mut Io<'_>,
    ) -> (usize, Next) {
        let mut at = 0;
        loop {
            let (what, length) = match parser.next(&input[at..]) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => return (at, self.end_engine(io, Ended::Protocol(error.to_string()))),
            };
            at += length;
            let step = match what {
                FromServer::Message(message) => self.engine_delivers(&message, io),
                FromServer::Info(json) => self.engine_info(json, input.len() - at, parser, io),
                FromServer::Ping => {
                    nats::write_pong(io.out);
                    Step::Next
                }
                FromServer::Pong => self.engine_welcomes(io),
                FromServer::Ok => Step::Next,
                FromServer::Error(text) => self.engine_reports(text, io),
            };
            match self.engine_goes_on(step, io) {
                Next::Read => {}
                other => return (at, other),
            }
        }
        self.show_engine();
        self.make_room();
        let has_left = self.engine_may_be_left(io);
        (at, if has_left { self.end_engine(io, Ended::Left) } else { Next::Read })
    }

    fn engine_goes_on(&mut self, step: Step, io: &Io<'_>) -> Next {
        match step {
            Step::Next => Next::Read,
            Step::Secure(tls) => Next::StartTls(tls),
            Step::End(end) => self.end_engine(io, end),
        }
    }

    /// We end the connection, for this reason.
    fn end_engine(&mut self, io: &Io<'_>, end: Ended) -> Next {
        if let Some(connected) = self.engine.as_mut().and_then(|engine| engine.of(io.id)) {
            connected.end = Some(end);
        }
        Next::Finish
    }

    /// A message on a subject that the core has subscribed to.
    fn engine_delivers(&mut self, message: &Message<'_>, io: &mut Io<'_>) -> Step {
        io.spend(ENGINE_EFFORT);
        let (now, out) = (io.now, &mut *io.out);
        self.observe_engine(|herd, log| herd.engine_message(message, now, out, log), now);
        Step::Next
    }

    /// The server says what it is: first of all, and whenever that changes. `rest` bytes came behind it.
    fn engine_info(
        &mut self,
        json: &[u8],
        rest: usize,
        parser: &mut Parser,
        io: &mut Io<'_>,
    ) -> Step {
        let info = match Info::parse(json) {
            Ok(info) => info,
            Err(error) => return Step::End(Ended::Protocol(error.to_string())),
        };
        let Some(engine) = self.engine.as_mut() else {
            return Step::Next;
        };
        parser.set_max_payload(info.max_message_bytes());
        engine.servers.learn(&info.connect_urls, &engine.server);
        let server = engine.server.clone();
        let Some(connected) = engine.connected() else {
            return Step::Next;
        };
        if info.is_leaving && connected.leaves_at.is_none() {
            connected.leaves_at = Some(io.now.elapsed + ENGINE_LEAVE_WAIT);
        }
        if connected.stage != Stage::AwaitsInfo {
            return Step::Next;
        }
        if let Some(end) = unusable(&info, connected.is_tls, &server) {
            return Step::End(end);
        }
        let has_tls = connected.is_tls;
        let begins_tls = !has_tls && (info.tls_required || server.needs_tls);
        connected.name = info.server_name.chars().take(MAX_NAME).collect();
        connected.version = info.version();
        connected.info = info;
        match connected.prepared.as_ref().map(|prepared| prepared.tls).filter(|_| begins_tls) {
            Some(_) if rest > 0 => {
                let reason =
                    "it sent something between INFO and the TLS handshake, which may be forged";
                Step::End(Ended::Protocol(reason.to_owned()))
            }
            Some(tls) => {
                connected.stage = Stage::AwaitsTls;
                Step::Secure(tls)
            }
            // Nothing is said in the clear to a server that wants TLS, even if this were our own mistake.
            None if begins_tls => {
                Step::End(Ended::Protocol("the TLS for it was not prepared".to_owned()))
            }
            None => self.engine_log_in(io),
        }
    }

    /// Says what we are, and proves it.
    fn engine_log_in(&mut self, io: &mut Io<'_>) -> Step {
        let Some(engine) = self.engine.as_mut() else {
            return Step::Next;
        };
        let LinkState::Open(connected) = &mut engine.state else {
            return Step::Next;
        };
        let mut connect = Connect::new(&engine.client_name, env!("CARGO_PKG_VERSION"));
        connect.tls_required = connected.is_tls;
        let prepared = connected.prepared.take();
        if let Some(prepared) = &prepared
            && let Err(error) = prepared.credentials.prove(&connected.info, &mut connect)
        {
            return Step::End(Ended::Refused(format!("the login is not possible: {error}")));
        }
        connect.write(io.out);
        nats::write_ping(io.out);
        connected.stage = Stage::AwaitsWelcome;
        Step::Next
    }

    /// A PONG: the first one is the welcome, any other shows that the server lives.
    fn engine_welcomes(&mut self, io: &mut Io<'_>) -> Step {
        let now = io.now;
        let Some(engine) = self.engine.as_mut() else {
            return Step::Next;
        };
        let Some(connected) = engine.connected() else {
            return Step::Next;
        };
        if connected.stage != Stage::AwaitsWelcome {
            return Step::Next;
        }
        connected.stage = Stage::InUse { since: now.elapsed };
        let version = connected.version;
        engine.since = now.elapsed;
        engine.connects += 1;
        engine.report_up(now.elapsed);
        self.herd.engine_version(version);
        let out = &mut *io.out;
        self.with_engine(|herd, log| herd.engine_connected(now, out, log), now);
        Step::Next
    }

    /// `-ERR`
    fn engine_reports(&mut self, text: &str, io: &Io<'_>) -> Step {
        let Some(engine) = self.engine.as_mut() else {
            return Step::Next;
        };
        let refusal = refusals::judge(text, &engine.config.bucket);
        let is_in_use = engine.connected().is_some_and(|connected| connected.is_in_use());
        match refusal {
            Refusal::Login => Step::End(engine.login_refused(text)),
            Refusal::Permission(_) | Refusal::Other if is_in_use => {
                let is_permission = matches!(refusal, Refusal::Permission(_));
                let class =
                    if is_permission { EngineError::Permissions } else { EngineError::Server };
                self.metrics.engine.count_error(class);
                engine.report_error(text, &refusal, io.now.elapsed);
                Step::Next
            }
            _ => Step::End(Ended::Lost(format!("it reports {}", records::quoted(text)))),
        }
    }

    /// Whether the server is about to stop, and has answered all that it was asked.
    fn engine_may_be_left(&mut self, io: &Io<'_>) -> bool {
        let connected = self.engine.as_mut().and_then(|engine| engine.of(io.id));
        let leaves = connected.is_some_and(|connected| connected.leaves_at.is_some());
        leaves && self.herd.engine_status().is_none_or(|status| status.in_flight == 0)
    }

    /// Appends what the engine has not been sent yet, as far as there is room.
    #[inline(never)]
    pub(in crate::server) fn fill_engine(&mut self, io: &mut Io<'_>) -> Next {
        let Some(engine) = self.engine.as_mut() else {
            return Next::Finish;
        };
        engine.is_fill_asked = false;
        let Some(connected) = engine.of(io.id) else {
            return Next::Finish;
        };
        if std::mem::take(&mut connected.owes_ping) {
            nats::write_ping(io.out);
        }
        if !connected.takes_requests() {
            return Next::Read;
        }
        let (full, now, out) = (io.full(), io.now, &mut *io.out);
        self.with_engine(|herd, log| herd.poll_engine(full, now, out, log), now);
        let has_more = self.herd.engine_has_pending();
        if let Some(engine) = &mut self.engine {
            engine.is_fill_asked = has_more;
        }
        if has_more { Next::Again } else { Next::Read }
    }
}

/// Why a server can't be used, as far as its INFO shows.
fn unusable(info: &Info, is_tls: bool, server: &NatsServer) -> Option<Ended> {
    if !info.headers {
        let reason = "it takes no headers: remove no_header_support from its configuration";
        return Some(Ended::Refused(reason.to_owned()));
    }
    if server.needs_tls && !is_tls && !info.tls_required && !info.tls_available {
        let reason = "it offers no TLS, and tls:// refuses plain text: set up TLS there, or write nats:// in servers of \
                      [engine]";
        return Some(Ended::Refused(reason.to_owned()));
    }
    // It would close the connection in a moment.
    info.is_leaving.then(|| Ended::Lost("it is about to stop".to_owned()))
}

impl Connected {
    pub(super) fn is_in_use(&self) -> bool {
        matches!(self.stage, Stage::InUse { .. })
    }

    /// Whether the core may send something.
    pub(super) fn takes_requests(&self) -> bool {
        self.is_in_use() && self.leaves_at.is_none() && self.end.is_none()
    }

    /// What may be the reason if nothing has come for so long.
    pub(super) fn silence_hint(&self, now: Duration) -> &'static str {
        match self.has_received || self.is_tls || now < self.opened + ENGINE_SILENCE {
            true => "",
            false => "; if it waits for TLS, set handshake_first = true in [engine]",
        }
    }
}

/// As much of a server's name as is kept.
const MAX_NAME: usize = 64;
