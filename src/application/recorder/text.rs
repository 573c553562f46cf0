//! Calls and answers as text, and back: fields are separated by tabs, bytes escaped.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::{
    Closed, ClosedConnection, Command, ConnectionId, Control, DialEvent, FullOutput,
    HandshakeFailure, Io, Line, ListenerId, LoopId, Next, Opened, Origin, Refused, Ticket, TlsInfo,
    TlsVersion,
};
use crate::clock::{Now, WallTime};

/// A call with the time.
pub(super) fn at(call: &str, now: Now) -> String {
    format!("{call}\t{}\t{}", now.elapsed.as_nanos(), now.wall.0)
}

/// A call about a connection, with everything that the handler sees of it.
pub(super) fn on(call: &str, io: &Io<'_>) -> String {
    let room = io.full.saturating_sub(io.out.len());
    format!("{}\t{}\t{}\t{room}", at(call, io.now), id(io.id), io.peer)
}

pub(super) fn open(opened: &Opened<'_>) -> String {
    let certificate = opened.certificate.map(|bytes| format!("!{}", bytes.escape_ascii()));
    let certificate = certificate.unwrap_or_default();
    format!("open\t{} {} {certificate}", origin(opened.origin), tls(opened.tls))
}

/// What TLS has agreed on: one word.
pub(super) fn tls(tls: Option<TlsInfo>) -> String {
    match tls {
        Some(TlsInfo { version, resumed, took }) => {
            format!("{},{resumed},{}", version.number(), took.as_nanos())
        }
        None => "plain".to_owned(),
    }
}

pub(super) fn line(line: Line<'_>) -> String {
    let kind = match line {
        Line::Whole(_) => "line",
        Line::Unfinished(_) => "unfinished",
        Line::TooLong(_) => "too-long",
    };
    format!("{kind}\t{}", line.bytes().escape_ascii())
}

pub(super) fn closed(closed: &ClosedConnection<'_>, now: Now) -> String {
    let why = match closed.why {
        Closed::Finished => "finished".to_owned(),
        Closed::Drained => "drained".to_owned(),
        Closed::Untrusted(reason) => format!("untrusted {}", reason.as_bytes().escape_ascii()),
        Closed::Commanded => "commanded".to_owned(),
        Closed::Broken(reason) => format!("broken {}", reason.as_bytes().escape_ascii()),
        Closed::Tls(failure, reason) => {
            format!("tls {failure:?} {}", reason.as_bytes().escape_ascii())
        }
        Closed::InputTimeout => "input-timeout".to_owned(),
        Closed::WriteTimeout => "write-timeout".to_owned(),
        Closed::Evicted => "evicted".to_owned(),
        Closed::FairShare => "fair-share".to_owned(),
        Closed::OutOfMemory => "out-of-memory".to_owned(),
        Closed::Unsolicited => "unsolicited".to_owned(),
    };
    let call = at(&format!("closed\t{why}"), now);
    format!("{call}\t{}\t{}\t{}", id(closed.id), closed.peer, origin(closed.origin))
}

pub(super) fn full(full: &FullOutput, now: Now) -> String {
    let call = at(&format!("full\t{}", full.is_full), now);
    format!("{call}\t{}\t{}\t{}", id(full.id), full.peer, full.unsent)
}

pub(super) fn dial(Ticket(ticket): Ticket, event: &DialEvent<'_>, now: Now) -> String {
    let event = match event {
        DialEvent::Resolved(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
            format!("resolved {}", addresses.join(" "))
        }
        DialEvent::Connecting(address) => format!("connecting {address}"),
        DialEvent::Handshaking(address) => format!("handshaking {address}"),
        DialEvent::HandshakeFailed(address, failure) => {
            format!("handshake-failed {address} {failure:?}")
        }
        DialEvent::AttemptFailed(address, why) => {
            format!("attempt-failed {address} {}", why.as_bytes().escape_ascii())
        }
        DialEvent::Failed(why) => format!("failed {}", why.as_bytes().escape_ascii()),
    };
    at(&format!("dial\t{ticket} {event}"), now)
}

pub(super) fn refused(ListenerId(listener): ListenerId, why: &Refused, now: Now) -> String {
    let why = match why {
        Refused::Limit(peer) => format!("limit {peer}"),
        Refused::Group(peer) => format!("group {peer}"),
        Refused::Handshake(peer, failure, why) => {
            format!("handshake {peer} {failure:?} {}", why.as_bytes().escape_ascii())
        }
        Refused::Kernel(error) => format!("kernel {}", error.to_string().as_bytes().escape_ascii()),
    };
    at(&format!("refused\t{listener} {why}"), now)
}

pub(super) fn control(control: &Control) -> String {
    match control {
        Control::ReopenLog => "reopen-log".to_owned(),
        Control::Drain => "drain".to_owned(),
        Control::Reload(None) => "reload".to_owned(),
        Control::Reload(Some(text)) => format!("reload {}", text.escape_ascii()),
    }
}

/// The connections that the application asked about, and whether they were behind.
pub(super) fn asked(asked: &[(ConnectionId, bool)]) -> String {
    let asked: Vec<String> = asked.iter().map(|(one, is)| format!("{} {is}", id(*one))).collect();
    asked.join(" ")
}

pub(super) fn next(next: &Next) -> String {
    format!("{next:?}")
}

/// A job is written as its name, since its closure has no text form.
pub(super) fn command<M>(command: Option<&Command<M>>) -> String {
    match command {
        None => "none".to_owned(),
        Some(Command::Dial(dial)) => format!("{dial:?}"),
        Some(Command::Cancel(ticket)) => format!("cancel {ticket:?}"),
        Some(Command::Resolve { ticket, name }) => format!("resolve {ticket:?} {name:?}"),
        Some(Command::Fill(one)) => format!("fill {}", id(*one)),
        Some(Command::Finish(one)) => format!("finish {}", id(*one)),
        Some(Command::Leave(one)) => format!("leave {}", id(*one)),
        Some(Command::Close(one)) => format!("close {}", id(*one)),
        Some(Command::Run(job)) => format!("run {:?}", job.name),
        Some(Command::Inspect(ticket)) => format!("inspect {ticket:?}"),
        Some(Command::Stop) => "stop".to_owned(),
    }
}

pub(super) fn id(ConnectionId { slot, generation }: ConnectionId) -> String {
    format!("{slot}.{generation}")
}

pub(super) fn origin(origin: Origin) -> String {
    match origin {
        Origin::Accepted(ListenerId(listener)) => format!("accepted {listener}"),
        Origin::Dialled(Ticket(ticket)) => format!("dialled {ticket}"),
        Origin::Loop(LoopId(number)) => format!("loop {number}"),
    }
}

// The inverse functions. `None` if the text is not what the functions above write.

pub(super) fn parse_now(elapsed: &str, wall: &str) -> Option<Now> {
    let elapsed = Duration::from_nanos(elapsed.parse().ok()?);
    Some(Now { elapsed, wall: WallTime(wall.parse().ok()?) })
}

pub(super) fn parse_id(text: &str) -> Option<ConnectionId> {
    let (slot, generation) = text.split_once('.')?;
    Some(ConnectionId { slot: slot.parse().ok()?, generation: generation.parse().ok()? })
}

pub(super) fn parse_origin(text: &str) -> Option<Origin> {
    let (kind, number) = text.split_once(' ')?;
    Some(match kind {
        "accepted" => Origin::Accepted(ListenerId(number.parse().ok()?)),
        "dialled" => Origin::Dialled(Ticket(number.parse().ok()?)),
        "loop" => Origin::Loop(LoopId(number.parse().ok()?)),
        _ => return None,
    })
}

/// Where an opened connection comes from, what TLS has agreed on, and its certificate.
pub(super) fn parse_open(text: &str) -> Option<(Origin, Option<TlsInfo>, Option<Vec<u8>>)> {
    let place = text.match_indices(' ').nth(1)?.0;
    let (tls, certificate) = text[place + 1..].split_once(' ')?;
    let certificate = match certificate.strip_prefix('!') {
        Some(text) => Some(unescape(text)?),
        None => None,
    };
    Some((parse_origin(&text[..place])?, parse_tls(tls)?, certificate))
}

pub(super) fn parse_tls(word: &str) -> Option<Option<TlsInfo>> {
    if word == "plain" {
        return Some(None);
    }
    let mut parts = word.split(',');
    let number = parts.next()?;
    let version =
        [TlsVersion::V1_2, TlsVersion::V1_3].into_iter().find(|one| one.number() == number)?;
    let resumed = parts.next()?.parse().ok()?;
    let took = Duration::from_nanos(parts.next()?.parse().ok()?);
    Some(Some(TlsInfo { version, resumed, took }))
}

pub(super) fn parse_closed(text: &str) -> Option<Closed> {
    Some(match text.split_once(' ') {
        Some(("broken", reason)) => Closed::Broken(words(reason)?),
        Some(("tls", text)) => {
            let (failure, reason) = text.split_once(' ')?;
            Closed::Tls(parse_failure(failure)?, words(reason)?)
        }
        Some(("untrusted", reason)) => Closed::Untrusted(words(reason)?),
        Some(_) => return None,
        None => match text {
            "finished" => Closed::Finished,
            "drained" => Closed::Drained,
            "commanded" => Closed::Commanded,
            "input-timeout" => Closed::InputTimeout,
            "write-timeout" => Closed::WriteTimeout,
            "evicted" => Closed::Evicted,
            "fair-share" => Closed::FairShare,
            "out-of-memory" => Closed::OutOfMemory,
            "unsolicited" => Closed::Unsolicited,
            _ => return None,
        },
    })
}

/// Calls `then` with a dial's event, which borrows from the parsed text.
pub(super) fn parse_dial<T>(
    text: &str,
    then: impl FnOnce(Ticket, DialEvent<'_>) -> T,
) -> Option<T> {
    let (ticket, text) = text.split_once(' ')?;
    let ticket = Ticket(ticket.parse().ok()?);
    let (kind, text) = text.split_once(' ')?;
    Some(match kind {
        "resolved" => {
            let addresses: Result<Vec<SocketAddr>, _> =
                text.split_whitespace().map(str::parse).collect();
            then(ticket, DialEvent::Resolved(&addresses.ok()?))
        }
        "connecting" => then(ticket, DialEvent::Connecting(text.parse().ok()?)),
        "handshaking" => then(ticket, DialEvent::Handshaking(text.parse().ok()?)),
        "handshake-failed" => {
            let (address, failure) = text.split_once(' ')?;
            let failure = parse_failure(failure)?;
            then(ticket, DialEvent::HandshakeFailed(address.parse().ok()?, failure))
        }
        "attempt-failed" => {
            let (address, why) = text.split_once(' ')?;
            let why = words(why)?;
            then(ticket, DialEvent::AttemptFailed(address.parse().ok()?, &why))
        }
        "failed" => then(ticket, DialEvent::Failed(words(text)?)),
        _ => return None,
    })
}

pub(super) fn parse_refused(text: &str) -> Option<(ListenerId, Refused)> {
    let (listener, text) = text.split_once(' ')?;
    let (kind, text) = text.split_once(' ')?;
    let why = match kind {
        "limit" => Refused::Limit(text.parse().ok()?),
        "group" => Refused::Group(text.parse().ok()?),
        "handshake" => {
            let (peer, rest) = text.split_once(' ')?;
            let (failure, why) = rest.split_once(' ')?;
            Refused::Handshake(peer.parse().ok()?, parse_failure(failure)?, words(why)?)
        }
        "kernel" => Refused::Kernel(io::Error::other(words(text)?)),
        _ => return None,
    };
    Some((ListenerId(listener.parse().ok()?), why))
}

fn parse_failure(text: &str) -> Option<HandshakeFailure> {
    let all = [
        HandshakeFailure::Timeout,
        HandshakeFailure::Alert,
        HandshakeFailure::Certificate,
        HandshakeFailure::Protocol,
        HandshakeFailure::Closed,
    ];
    all.into_iter().find(|failure| format!("{failure:?}") == text)
}

pub(super) fn parse_control(text: &str) -> Option<Control> {
    match text.split_once(' ') {
        Some(("reload", text)) => Some(Control::Reload(Some(unescape(text)?))),
        Some(_) => None,
        None => match text {
            "reopen-log" => Some(Control::ReopenLog),
            "drain" => Some(Control::Drain),
            "reload" => Some(Control::Reload(None)),
            _ => None,
        },
    }
}

pub(super) fn parse_asked(text: &str) -> Option<Vec<(ConnectionId, bool)>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.chunks(2).map(|pair| Some((parse_id(pair[0])?, pair.get(1)?.parse().ok()?))).collect()
}

fn words(text: &str) -> Option<String> {
    String::from_utf8(unescape(text)?).ok()
}

/// The bytes that `escape_ascii` wrote.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(bytes)
}

/// For a message about a line that can't be parsed.
pub(super) fn excerpt(line: &dyn Display) -> String {
    line.to_string().chars().take(EXCERPT).collect()
}

/// Characters of a line that a message quotes.
const EXCERPT: usize = 200;
