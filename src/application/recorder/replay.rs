//! Makes the recorded calls again.

use std::collections::HashMap;
use std::io;

use super::super::{
    Application, ClosedConnection, ConnectionId, Due, FullOutput, Io, Line, Opened, Origin,
};
use super::{Recorder, inspected, text};

/// The first call that an application answered differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The recording's line, counted from 1.
    pub line: usize,
    pub recorded: String,
    pub replayed: String,
}

/// Makes the recorded calls of `application`, and compares the answers. `message` makes the messages, which
/// are not in the recording, in their order; if it returns `None`, the call is left out.
///
/// The application must be in the state in which the recorded one was when the recording began. Stops at the
/// first difference. A line that no [`Recorder`] wrote is an error of the kind `InvalidData`.
pub fn replay<A: Application>(
    recording: &str,
    application: A,
    message: &mut dyn FnMut() -> Option<A::Message>,
) -> io::Result<Result<A, Difference>> {
    let mut replayer = Replayer {
        recorder: Recorder::new(application, Vec::new()),
        sessions: HashMap::new(),
        message,
    };
    for (index, recorded) in recording.lines().enumerate() {
        let unknown = || {
            let text = format!("line {}: {}", index + 1, text::excerpt(&recorded));
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        replayer.recorder.to.clear();
        let call = recorded.split("\t=>\t").next().unwrap_or(recorded);
        let fields: Vec<&str> = call.split('\t').collect();
        replayer.call(&fields).ok_or_else(unknown)?;
        let replayed =
            String::from_utf8_lossy(&replayer.recorder.to).trim_end_matches('\n').to_owned();
        if !replayed.is_empty() && replayed != recorded {
            let (line, recorded) = (index + 1, recorded.to_owned());
            return Ok(Err(Difference { line, recorded, replayed }));
        }
    }
    Ok(Ok(replayer.recorder.inner))
}

struct Replayer<'a, A: Application> {
    recorder: Recorder<A, Vec<u8>>,
    sessions: HashMap<ConnectionId, A::Session>,
    message: &'a mut dyn FnMut() -> Option<A::Message>,
}

impl<A: Application> Replayer<'_, A> {
    /// Makes one call. `None` if the fields are not a recorded call.
    fn call(&mut self, fields: &[&str]) -> Option<()> {
        match *fields {
            ["command"] => drop(self.recorder.poll_command()),
            ["turn"] => self.recorder.handle_turn_end(),
            [kind, what, elapsed, wall] => {
                let now = text::parse_now(elapsed, wall)?;
                match kind {
                    "dial" => text::parse_dial(what, |ticket, event| {
                        self.recorder.handle_dial(ticket, event, now);
                    })?,
                    "refused" => {
                        let (listener, why) = text::parse_refused(what)?;
                        self.recorder.handle_refused(listener, &why, now);
                    }
                    "message" => {
                        if let Some(message) = (self.message)() {
                            self.recorder.handle_message(message, now);
                        }
                    }
                    "timeout" => {
                        let mut asked = text::parse_asked(what)?.into_iter();
                        // An application that asks differently gets the answer recorded at that position, and
                        // differs in the text.
                        let mut is_behind =
                            |_| asked.next().is_some_and(|(_, is_behind)| is_behind);
                        self.recorder.handle_timeout(&mut Due::new(now, &mut is_behind));
                    }
                    "inspect" => {
                        inspected::replay(what, &mut self.recorder, &self.sessions, now)?;
                    }
                    "control" => self.recorder.handle_control(text::parse_control(what)?, now),
                    "stop" => self.recorder.handle_stop(now),
                    _ => return None,
                }
            }
            [kind, what, elapsed, wall, id, peer, last] => {
                let now = text::parse_now(elapsed, wall)?;
                let (id, peer) = (text::parse_id(id)?, peer.parse().ok()?);
                if kind == "closed" {
                    let (why, origin) = (&text::parse_closed(what)?, text::parse_origin(last)?);
                    let session = self.sessions.remove(&id)?;
                    let closed = ClosedConnection { id, peer, origin, why };
                    self.recorder.handle_closed(closed, session, now);
                    return Some(());
                }
                if kind == "full" {
                    let (is_full, unsent) = (what.parse().ok()?, last.parse().ok()?);
                    let session = self.sessions.get_mut(&id)?;
                    let full = FullOutput { id, peer, is_full, unsent };
                    self.recorder.handle_full(full, session, now);
                    return Some(());
                }
                let mut out = Vec::new();
                let mut io = Io::new(id, peer, now, &mut out, last.parse().ok()?);
                self.call_on(kind, what, &mut io)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn call_on(&mut self, kind: &str, what: &str, io: &mut Io<'_>) -> Option<()> {
        if kind == "open" {
            let (origin, tls, certificate): (Origin, _, _) = text::parse_open(what)?;
            let certificate = certificate.as_deref();
            if let Some((session, _)) =
                self.recorder.handle_open(Opened { origin, certificate, tls }, io)
            {
                self.sessions.insert(io.id, session);
            }
            return Some(());
        }
        let session = self.sessions.get_mut(&io.id)?;
        let bytes = text::unescape(what)?;
        let recorder = &mut self.recorder;
        match kind {
            "line" => drop(recorder.handle_line(session, Line::Whole(&bytes), io)),
            "unfinished" => drop(recorder.handle_line(session, Line::Unfinished(&bytes), io)),
            "too-long" => drop(recorder.handle_line(session, Line::TooLong(&bytes), io)),
            "bytes" => drop(recorder.handle_bytes(session, &bytes, io)),
            "end" => drop(recorder.handle_end(session, io)),
            "fill" => drop(recorder.fill(session, io)),
            _ => return None,
        }
        Some(())
    }
}
