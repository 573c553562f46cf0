//! Records of traffic: lines that came in or went out, and updates on their way to neighbours. Nearly all
//! records of a log are of this kind, so they do not go through a logger. Whether a kind of them is recorded
//! is a bit, set when the log starts; if it is set, their bytes are appended to the turn's text, without
//! [`std::fmt`] where its cost is measurable.
//!
//! ```text
//!   Traffic::Client.received(peer, line);      Received from 127.0.0.1:5123: IAMAT kiwi …
//!   Traffic::Client.sent(peer, answer);        Sent to 127.0.0.1:5123: AT Goloman …
//!   Traffic::of_link(line).sent(name, line);   Sent to Hands: SETTINGS …
//!   Traffic::Flood.sending(id, location, name);   Sending kiwi location at … to Hands.
//! ```

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use Traffic::{Client, Engine, Flood, Http, Link, LinkMarks};
use log::LevelFilter;
use memchr::memchr;

use super::severity::Severity;
use super::text::{self, TurnText};
use super::{Format, Levels, PROCESS, escape, journal, json, target};

/// A kind of traffic that is recorded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Lines of clients and the answers to them.
    Client,
    /// Lines between servers.
    Link,
    /// MARK and ACK: in a herd without clients these are most lines, and they report nothing new. They are
    /// recorded at DEBUG, all others at INFO.
    LinkMarks,
    /// Updates for neighbours.
    Flood,
    /// Requests to the Places server and the answers to them.
    Http,
    /// Updates for the engine.
    Engine,
}

/// The other side of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Party<'a> {
    Address(SocketAddr),
    /// A neighbour.
    Name(&'a str),
}

/// A record.
enum TrafficRecord<'a> {
    Received { from: Party<'a>, line: &'a [u8] },
    Sent { to: Party<'a>, answer: &'a [u8] },
    SentResponse { to: Party<'a>, status: u16, bytes: usize },
    Sending { id: &'a [u8], location: &'a [u8], neighbour: &'a str },
    CannotSend { id: &'a [u8], location: &'a [u8], neighbour: &'a str },
}

/// The address of the latest record, as text: most records are about the same client as the one before, and to write the
/// text anew takes a third of a record.
#[derive(Debug, Default)]
pub(super) struct PeerText {
    address: Option<SocketAddr>,
    text: Vec<u8>,
}

impl PeerText {
    #[inline]
    fn of(&mut self, address: &SocketAddr) -> &[u8] {
        if self.address.as_ref() != Some(address) {
            self.write(address);
        }
        &self.text
    }

    #[inline(never)]
    fn write(&mut self, address: &SocketAddr) {
        self.address = Some(*address);
        self.text.clear();
        match address.ip() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                let (mut text, mut end) = ([0; MAX_IPV4_BYTES], 0);
                for (number, sign) in [(a, b'.'), (b, b'.'), (c, b'.'), (d, b':')] {
                    end = write_number(number.into(), &mut text, end);
                    text[end] = sign;
                    end += 1;
                }
                end = write_number(address.port(), &mut text, end);
                self.text.extend_from_slice(&text[..end]);
            }
            // A Vec takes everything.
            IpAddr::V6(_) => drop(write!(self.text, "{address}")),
        }
    }
}

/// Properties of a message that was appended.
struct Appended {
    /// Its text is the same in JSON.
    is_plain: bool,
    /// The name or the address of the other side.
    party: Range<usize>,
}

/// A bit for each kind that is recorded. Before a log has started, none is set.
static RECORDED: AtomicU8 = AtomicU8::new(0);

/// Decides which kinds are recorded.
pub(super) fn set(levels: &Levels) {
    let mut bits = 0;
    for kind in KINDS {
        if levels.of(kind.target()) >= kind.level() {
            bits |= kind.bit();
        }
    }
    RECORDED.store(bits, Ordering::Relaxed);
}

impl Traffic {
    /// The kind of a line between servers.
    pub fn of_link(line: &[u8]) -> Traffic {
        let is_mark = line.starts_with(b"MARK ") || line.starts_with(b"ACK ");
        if is_mark { Traffic::LinkMarks } else { Traffic::Link }
    }

    /// Whether records of this kind are written. If not, they cost only this test of a bit.
    #[inline]
    pub fn is_recorded(self) -> bool {
        RECORDED.load(Ordering::Relaxed) & self.bit() != 0
    }

    /// A line that came in, without its newline.
    #[inline]
    pub fn received<'a>(self, from: impl Into<Party<'a>>, line: &[u8]) {
        if self.is_recorded() {
            self.record(&TrafficRecord::Received { from: from.into(), line });
        }
    }

    /// An answer that goes out: its first line, and the size of the rest. Nothing for an empty one.
    #[inline]
    pub fn sent<'a>(self, to: impl Into<Party<'a>>, answer: &[u8]) {
        if self.is_recorded() && !answer.is_empty() {
            self.record(&TrafficRecord::Sent { to: to.into(), answer });
        }
    }

    /// An HTTP response that goes out; `bytes` is the size of its body.
    #[inline]
    pub fn sent_response<'a>(self, to: impl Into<Party<'a>>, status: u16, bytes: usize) {
        if self.is_recorded() {
            self.record(&TrafficRecord::SentResponse { to: to.into(), status, bytes });
        }
    }

    /// An update that goes to a neighbour, or to the engine.
    #[inline]
    pub fn sending(self, id: &[u8], location: &[u8], neighbour: &str) {
        if self.is_recorded() {
            self.record(&TrafficRecord::Sending { id, location, neighbour });
        }
    }

    /// An update that a neighbour, or the engine, does not get now: there is no connection to it.
    #[inline]
    pub fn cannot_send(self, id: &[u8], location: &[u8], neighbour: &str) {
        if self.is_recorded() {
            self.record(&TrafficRecord::CannotSend { id, location, neighbour });
        }
    }

    #[inline(never)]
    fn record(self, message: &TrafficRecord<'_>) {
        if let Some(log) = PROCESS.get() {
            let server = &log.core.server;
            text::append_each(&log.core, self.severity(), |text| self.write(message, server, text));
        }
    }

    fn write(self, message: &TrafficRecord<'_>, server: &str, text: &mut TurnText) {
        let fields = |out: &mut Vec<u8>| {
            journal::append_names(out, self.target(), message.event());
            message.append_journal_fields(out);
        };
        if !text.begin_again(self.severity(), self.target_number(), server, fields) {
            return;
        }
        match text.layout.format {
            Format::Report => {
                let begin = text.text.len();
                message.append::<false>(&mut text.peer, &mut text.text);
                text.limit_message(begin);
            }
            Format::Json => {
                let TurnText { text: out, heads, peer, .. } = text;
                let fields = [self.severity().name(), self.target(), server, message.event()];
                heads.append(out, self as usize * EVENTS + message.number(), fields);
                let begin = out.len();
                let Appended { is_plain, party } = message.append::<true>(peer, out);
                let is_cut = json::end_message(out, begin, is_plain);
                let is_cut = message.append_fields(party, out) | is_cut;
                json::append_end(out, is_cut);
            }
        }
        text.end();
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    fn target(self) -> &'static str {
        target::ALL[usize::from(self.target_number())]
    }

    /// The place of its target in [`target::ALL`].
    const fn target_number(self) -> u8 {
        match self {
            Traffic::Client => 0,
            Traffic::Link | Traffic::LinkMarks => 1,
            Traffic::Flood => 2,
            Traffic::Http => 5,
            Traffic::Engine => 12,
        }
    }

    /// The level at which it is recorded.
    fn level(self) -> LevelFilter {
        match self {
            Traffic::LinkMarks => LevelFilter::Debug,
            _ => LevelFilter::Info,
        }
    }

    fn severity(self) -> Severity {
        match self {
            Traffic::LinkMarks => Severity::Debug,
            _ => Severity::Info,
        }
    }
}

impl TrafficRecord<'_> {
    /// The words of the report. Whether they are plain is determined for JSON only.
    fn append<const JSON: bool>(&self, peer: &mut PeerText, out: &mut Vec<u8>) -> Appended {
        let escape = |bytes: &[u8], out: &mut Vec<u8>| match JSON {
            true => json::append_escaped(bytes, out),
            false => {
                escape::append(bytes, out);
                false
            }
        };
        let mut is_plain = true;
        let mut party = 0..0;
        match *self {
            TrafficRecord::Received { from, line } => {
                out.extend_from_slice(b"Received from ");
                party = from.append(peer, out);
                out.extend_from_slice(b": ");
                is_plain &= escape(line, out);
            }
            TrafficRecord::Sent { to, answer } => {
                let end = memchr(b'\n', answer).unwrap_or(answer.len());
                out.extend_from_slice(b"Sent to ");
                party = to.append(peer, out);
                out.extend_from_slice(b": ");
                is_plain &= escape(&answer[..end], out);
                let rest = answer.len() - end;
                if rest > 1 {
                    // A Vec takes everything.
                    let _ = write!(out, " and {rest} bytes");
                }
            }
            TrafficRecord::SentResponse { to, status, bytes } => {
                out.extend_from_slice(b"Sent to ");
                party = to.append(peer, out);
                let _ = write!(out, ": HTTP status {status} and {bytes} bytes");
            }
            TrafficRecord::Sending { id, location, neighbour } => {
                out.extend_from_slice(b"Sending ");
                is_plain &= escape(id, out);
                out.extend_from_slice(b" location at ");
                is_plain &= escape(location, out);
                out.extend_from_slice(b" to ");
                out.extend_from_slice(neighbour.as_bytes());
                out.push(b'.');
            }
            TrafficRecord::CannotSend { id, location, neighbour } => {
                let (what, name) =
                    if neighbour == TO_ENGINE { ("Engine", "") } else { ("Port ", neighbour) };
                out.extend_from_slice(what.as_bytes());
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b" is down. Cannot send ");
                is_plain &= escape(id, out);
                out.extend_from_slice(b" at ");
                is_plain &= escape(location, out);
                out.extend_from_slice(b" to ");
                out.extend_from_slice(neighbour.as_bytes());
                out.push(b'.');
            }
        }
        // A name comes from the configuration and is plain; but nothing else checks that here.
        if JSON && let Some(name) = self.name() {
            is_plain &= json::is_plain(name.as_bytes());
        }
        Appended { is_plain, party }
    }

    /// The neighbour that it names.
    fn name(&self) -> Option<&str> {
        match *self {
            TrafficRecord::Received { from: Party::Name(name), .. }
            | TrafficRecord::Sent { to: Party::Name(name), .. }
            | TrafficRecord::SentResponse { to: Party::Name(name), .. } => Some(name),
            TrafficRecord::Sending { neighbour, .. }
            | TrafficRecord::CannotSend { neighbour, .. } => Some(neighbour),
            _ => None,
        }
    }

    /// The stable name of what happened.
    fn event(&self) -> &'static str {
        match self {
            TrafficRecord::Received { .. } => "line_received",
            TrafficRecord::Sent { .. } => "line_sent",
            TrafficRecord::SentResponse { .. } => "response_sent",
            TrafficRecord::Sending { .. } => "flood_sent",
            TrafficRecord::CannotSend { .. } => "flood_missed",
        }
    }

    /// Less than [`EVENTS`], and different for each event.
    fn number(&self) -> usize {
        match self {
            TrafficRecord::Received { .. } => 0,
            TrafficRecord::Sent { .. } => 1,
            TrafficRecord::SentResponse { .. } => 2,
            TrafficRecord::Sending { .. } => 3,
            TrafficRecord::CannotSend { .. } => 4,
        }
    }

    /// The event's own fields of a JSON record. The message shows the other side at `shown`. Returns whether a
    /// field was cut.
    fn append_fields(&self, shown: Range<usize>, out: &mut Vec<u8>) -> bool {
        match *self {
            TrafficRecord::Received { from: party, line: bytes }
            | TrafficRecord::Sent { to: party, answer: bytes } => {
                party.append_fields(shown, bytes.len(), out)
            }
            TrafficRecord::SentResponse { to, status, bytes } => {
                let is_cut = to.append_fields(shown, bytes, out);
                out.extend_from_slice(b",\"status\":");
                json::append_digits(out, status.into());
                is_cut
            }
            TrafficRecord::Sending { id, location, neighbour }
            | TrafficRecord::CannotSend { id, location, neighbour } => {
                let mut is_cut = json::append_id(out, id);
                is_cut |= json::append_bytes(out, "location", location);
                json::append_text(out, "neighbour", neighbour) | is_cut
            }
        }
    }
}

impl TrafficRecord<'_> {
    /// The same fields for journald.
    fn append_journal_fields(&self, out: &mut Vec<u8>) {
        match *self {
            TrafficRecord::Received { from: party, line: bytes }
            | TrafficRecord::Sent { to: party, answer: bytes } => {
                party.append_journal_field(out);
                journal::append_number(out, "bytes", bytes.len() as u64);
            }
            TrafficRecord::SentResponse { to, status, bytes } => {
                to.append_journal_field(out);
                journal::append_number(out, "bytes", bytes as u64);
                journal::append_number(out, "status", status.into());
            }
            TrafficRecord::Sending { id, location, neighbour }
            | TrafficRecord::CannotSend { id, location, neighbour } => {
                journal::append_id(out, id);
                journal::append_escaped(out, "location", location);
                journal::append(out, "neighbour", neighbour.as_bytes());
            }
        }
    }
}

impl Party<'_> {
    fn append_journal_field(&self, out: &mut Vec<u8>) {
        match self {
            Party::Name(name) => journal::append(out, "neighbour", name.as_bytes()),
            Party::Address(address) => {
                journal::append(out, "peer", address.to_string().as_bytes());
            }
        }
    }

    /// Returns its position.
    fn append(&self, peer: &mut PeerText, out: &mut Vec<u8>) -> Range<usize> {
        let begin = out.len();
        match self {
            Party::Name(name) => out.extend_from_slice(name.as_bytes()),
            Party::Address(address) => out.extend_from_slice(peer.of(address)),
        }
        begin..out.len()
    }

    /// Its field, and `bytes`. Returns whether a text was cut.
    fn append_fields(&self, shown: Range<usize>, bytes: usize, out: &mut Vec<u8>) -> bool {
        let is_cut = match self {
            Party::Name(name) => {
                let is_cut = json::append_text(out, "neighbour", name);
                out.extend_from_slice(b",\"bytes\":");
                is_cut
            }
            // It is plain in JSON, and comes before everything that may be cut or encoded.
            Party::Address(_) => {
                out.extend_from_slice(b",\"peer\":\"");
                out.extend_from_within(shown);
                out.extend_from_slice(b"\",\"bytes\":");
                false
            }
        };
        json::append_digits(out, bytes as u64);
        is_cut
    }
}

/// By reference: the address is copied only for a record.
impl From<&SocketAddr> for Party<'_> {
    fn from(address: &SocketAddr) -> Self {
        Party::Address(*address)
    }
}

impl<'a> From<&'a str> for Party<'a> {
    fn from(name: &'a str) -> Party<'a> {
        Party::Name(name)
    }
}

/// Writes a number from `begin` on, and returns its end.
fn write_number(number: u16, text: &mut [u8; MAX_IPV4_BYTES], begin: usize) -> usize {
    let end = begin + 1 + number.checked_ilog10().unwrap_or(0) as usize;
    let mut rest = number;
    for digit in text[begin..end].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    end
}

/// What an update is sent to that goes to no neighbour.
pub const TO_ENGINE: &str = "engine";
/// The number of events of traffic.
const EVENTS: usize = 5;
/// `255.255.255.255:65535`
const MAX_IPV4_BYTES: usize = 21;
const KINDS: [Traffic; 6] = [Client, Link, LinkMarks, Flood, Http, Engine];

#[cfg(test)]
mod tests;
