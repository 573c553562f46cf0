//! `--probe`: one HTTP request whose status says whether a server is well, for images without another HTTP client. It is
//! a small application on the event loop, so looking the name up, connecting and TLS take no longer than all of it may.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{RunError, kernel};
use crate::application::{
    Application, Closed, ClosedConnection, Command, Dial, DialEvent, Due, Io, Never, Next, Opened,
    Policy, Target, Ticket,
};
use crate::clock::Now;
use crate::event_loop::{self, EventLoop};
use crate::http::{HttpError, ResponseProgress, ResponseReader};
use crate::limits::{PROBE_BODY_BYTES, PROBE_TIMEOUT};
use crate::tls::ClientTls;

/// What is asked.
pub struct ProbeRequest {
    /// `host:port`, for the dial and for `Host`.
    pub authority: String,
    /// The path, with the query if there is one.
    pub target: String,
    /// None for plain HTTP.
    pub tls: Option<ClientTls>,
}

/// Sends a GET request, and returns the status of the answer, or in words why there is none.
pub fn probe(request: ProbeRequest) -> Result<u16, String> {
    run(request).unwrap_or_else(|error| Err(error.to_string()))
}

fn run(request: ProbeRequest) -> Result<Result<u16, String>, RunError> {
    let ProbeRequest { authority, target, tls } = request;
    // Nothing is owed to anybody once the status is known.
    let limits = event_loop::Limits { grace: Duration::ZERO, ..Default::default() };
    let text = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    let until = event_loop::now(Instant::now()).elapsed + PROBE_TIMEOUT;
    let mut probe =
        Probe { text, until, stage: "no connection", result: None, commands: VecDeque::new() };
    let mut dial = Dial { timeout: PROBE_TIMEOUT, ..Dial::new(TICKET, Target::Name(authority)) };
    dial.tls = tls.is_some().then_some(crate::application::TlsId(0));
    probe.commands.push_back(Command::Dial(dial));
    let mut event_loop = EventLoop::new(probe, limits).map_err(kernel("make a poll"))?;
    if let Some(tls) = tls {
        event_loop.client_tls(tls);
    }
    let stopped = event_loop.run().map_err(kernel("wait for events"))?;
    Ok(stopped.app.result.unwrap_or_else(|| Err("it was not finished".to_owned())))
}

struct Probe {
    /// The request.
    text: String,
    until: Duration,
    /// What there is none of yet, for a message.
    stage: &'static str,
    result: Option<Result<u16, String>>,
    commands: VecDeque<Command<Never>>,
}

impl Probe {
    /// The first result counts.
    fn end(&mut self, result: Result<u16, String>) {
        if self.result.is_none() {
            self.result = Some(result);
            self.commands.extend([Command::Cancel(TICKET), Command::Stop]);
        }
    }

    fn take(&mut self, read: Result<Option<u16>, HttpError>) -> Next {
        match read {
            Ok(None) => return Next::Read,
            Ok(Some(status)) => self.end(Ok(status)),
            Err(error) => self.end(Err(error.to_string())),
        }
        Next::Finish
    }
}

impl Application for Probe {
    type Session = ResponseReader;
    type Message = Never;

    fn handle_open(&mut self, _: Opened<'_>, io: &mut Io<'_>) -> Option<(ResponseReader, Policy)> {
        self.stage = "no answer";
        io.out.extend_from_slice(self.text.as_bytes());
        Some((ResponseReader::new(PROBE_BODY_BYTES), Policy::bytes()))
    }

    /// The status counts, and the body does not: neither must it be complete.
    fn handle_bytes(&mut self, reader: &mut ResponseReader, bytes: &[u8], _: &mut Io<'_>) -> Next {
        let read = match reader.push(bytes) {
            Ok(ResponseProgress::Done(response)) => Ok(Some(response.status)),
            Ok(ResponseProgress::More) => Ok(reader.status()),
            Err(error) => Err(error),
        };
        self.take(read)
    }

    fn handle_end(&mut self, reader: &mut ResponseReader, _: &mut Io<'_>) -> Next {
        let read = reader.end().map(|response| Some(response.status));
        self.take(read)
    }

    fn handle_dial(&mut self, _: Ticket, event: DialEvent<'_>, _: Now) {
        match event {
            DialEvent::Handshaking(_) => self.stage = "no TLS",
            DialEvent::Failed(reason) => self.end(Err(reason)),
            _ => {}
        }
    }

    fn handle_closed(&mut self, closed: ClosedConnection<'_>, _: ResponseReader, _: Now) {
        self.end(Err(match closed.why {
            Closed::Finished => "it closed the connection without an answer".to_owned(),
            why => why.to_string(),
        }));
    }

    fn poll_command(&mut self) -> Option<Command<Never>> {
        self.commands.pop_front()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        Some(self.until)
    }

    fn handle_timeout(&mut self, due: &mut Due<'_>) {
        if self.until <= due.now.elapsed {
            self.end(Err(format!("{} within {} s", self.stage, PROBE_TIMEOUT.as_secs())));
            self.until = Duration::MAX;
        }
    }
}

/// Of the only dial.
const TICKET: Ticket = Ticket(0);
