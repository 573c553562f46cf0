//! Control lines of a server, and the payloads behind them. Nothing is copied.

use memchr::{memchr, memchr2};

use super::error::WireError;
use super::headers::Headers;
use crate::limits::CONTROL_LINE_BYTES;

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromServer<'a> {
    /// What the server is, as JSON: first of all, and whenever something of it changes. [`Info::parse`](super::Info::parse)
    /// reads it.
    Info(&'a [u8]),
    Message(Message<'a>),
    Ping,
    Pong,
    Ok,
    /// The text without its quotes; of one that is not UTF-8, what is.
    Error(&'a str),
}

/// A message on a subject that we have subscribed to (`MSG`, `HMSG`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    pub subject: &'a [u8],
    pub sid: u64,
    /// Where an answer goes.
    pub reply: Option<&'a [u8]>,
    pub headers: Headers<'a>,
    pub payload: &'a [u8],
}

/// Reads what a server sends from the beginning of a buffer, and remembers between calls what it knows of an incomplete
/// beginning: so bytes that arrive one by one cost no more than bytes that arrive together.
#[derive(Clone, Debug)]
pub struct Parser {
    max_payload: usize,
    /// Bytes at the beginning without an end of the line.
    searched: usize,
    /// Bytes that the beginning has at least.
    wanted: usize,
    /// Bytes that were looked at.
    #[cfg(test)]
    looked_at: usize,
}

/// Reads the first of what a server sent. Returns it and its length in `bytes`, or None if it is incomplete. A message of
/// more than `max_payload` bytes, headers included, is an error.
///
/// Each call begins at the beginning of `bytes`. Where input is read as it arrives, use a [`Parser`].
pub fn parse(
    bytes: &[u8],
    max_payload: usize,
) -> Result<Option<(FromServer<'_>, usize)>, WireError> {
    Parser::new(max_payload).next(bytes)
}

impl Parser {
    /// One that knows nothing yet.
    pub fn new(max_payload: usize) -> Parser {
        Parser {
            max_payload,
            searched: 0,
            wanted: 0,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// Changes the bound for the bytes of a message, headers included.
    pub fn set_max_payload(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// As [`parse`]. After None the next call must be given the same bytes and more, after a value what is behind it.
    pub fn next<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<(FromServer<'a>, usize)>, WireError> {
        if bytes.len() < self.wanted {
            return Ok(None);
        }
        let within = &bytes[..bytes.len().min(CONTROL_LINE_BYTES)];
        let from = self.searched.min(within.len());
        #[cfg(test)]
        {
            self.looked_at += within.len() - from;
        }
        let Some(found) = memchr(b'\n', &within[from..]) else {
            if bytes.len() >= CONTROL_LINE_BYTES {
                return Err(WireError::LongLine);
            }
            self.searched = bytes.len();
            return Ok(None);
        };
        let end = from + found;
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        let behind = end + 1;
        #[cfg(test)]
        {
            self.looked_at += line.len();
        }
        let what = match verb_of(line) {
            (Verb::Msg, rest) => return self.message(rest, false, bytes, end),
            (Verb::Hmsg, rest) => return self.message(rest, true, bytes, end),
            (Verb::Info, rest) => FromServer::Info(rest.trim_ascii()),
            (Verb::Ping, _) => FromServer::Ping,
            (Verb::Pong, _) => FromServer::Pong,
            (Verb::Ok, _) => FromServer::Ok,
            (Verb::Err, rest) => FromServer::Error(error_text(rest)),
            (Verb::Unknown, _) => return Err(WireError::UnknownVerb(first_word(line))),
        };
        self.forget();
        Ok(Some((what, behind)))
    }

    /// The message whose control line ends at `end` with these fields.
    fn message<'a>(
        &mut self,
        fields: &'a [u8],
        has_headers: bool,
        bytes: &'a [u8],
        end: usize,
    ) -> Result<Option<(FromServer<'a>, usize)>, WireError> {
        let (mut message, header_bytes, all_bytes) = message_fields(fields, has_headers)?;
        if all_bytes > self.max_payload {
            return Err(WireError::TooLarge { bytes: all_bytes, limit: self.max_payload });
        }
        let begin = end + 1;
        let behind = begin + all_bytes;
        if bytes.len() < behind + 2 {
            // The line is read once more, when all is there.
            self.searched = end;
            self.wanted = behind + 2;
            return Ok(None);
        }
        if &bytes[behind..behind + 2] != b"\r\n" {
            return Err(WireError::PayloadEnd);
        }
        let (headers, payload) = bytes[begin..behind].split_at(header_bytes);
        message.headers = Headers(headers);
        message.payload = payload;
        self.forget();
        Ok(Some((FromServer::Message(message), behind + 2)))
    }

    /// How many bytes were looked at, so far.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> usize {
        self.looked_at
    }

    fn forget(&mut self) {
        self.searched = 0;
        self.wanted = 0;
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Info,
    Msg,
    Hmsg,
    Ping,
    Pong,
    Ok,
    Err,
    Unknown,
}

/// The verb of a line, in any case, and what follows it.
fn verb_of(line: &[u8]) -> (Verb, &[u8]) {
    // As nearly each is written.
    match line {
        [b'M', b'S', b'G', b' ', rest @ ..] => return (Verb::Msg, rest),
        [b'H', b'M', b'S', b'G', b' ', rest @ ..] => return (Verb::Hmsg, rest),
        _ => {}
    }
    let length = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let (word, rest) = line.split_at(length);
    let verbs: [(&[u8], Verb); 7] = [
        (b"MSG", Verb::Msg),
        (b"HMSG", Verb::Hmsg),
        (b"PING", Verb::Ping),
        (b"PONG", Verb::Pong),
        (b"INFO", Verb::Info),
        (b"+OK", Verb::Ok),
        (b"-ERR", Verb::Err),
    ];
    let verb = verbs.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    (verb.map_or(Verb::Unknown, |(_, verb)| *verb), rest)
}

/// `<subject> <sid> [reply] [header bytes] <all bytes>`: a message without its bytes, and the two lengths.
fn message_fields(
    fields: &[u8],
    has_headers: bool,
) -> Result<(Message<'_>, usize, usize), WireError> {
    let verb = if has_headers { "HMSG" } else { "MSG" };
    let (mut found, mut count): ([&[u8]; 5], usize) = ([b""; 5], 0);
    let mut rest = fields;
    while !rest.is_empty() {
        let end = memchr2(b' ', b'\t', rest).unwrap_or(rest.len());
        if end > 0 {
            *found.get_mut(count).ok_or(WireError::Fields { verb })? = &rest[..end];
            count += 1;
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    let lengths = if has_headers { 2 } else { 1 };
    let reply = match count.checked_sub(lengths + 2) {
        Some(0) => None,
        Some(1) => Some(found[2]),
        _ => return Err(WireError::Fields { verb }),
    };
    let number = |at: usize, field| number(found[at]).ok_or(WireError::Number { verb, field });
    let sid = number(1, "subscription")?;
    let all_bytes = number(count - 1, "length")?.try_into().unwrap_or(usize::MAX / 2);
    let header_bytes = match has_headers {
        true => number(count - 2, "header length")?.try_into().unwrap_or(usize::MAX),
        false => 0,
    };
    if header_bytes > all_bytes {
        return Err(WireError::HeaderLength);
    }
    let message = Message { subject: found[0], sid, reply, ..Message::default() };
    Ok((message, header_bytes, all_bytes))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A number of decimal digits, without a sign.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    if text.len() < 20 {
        // No sum overflows.
        return text.iter().try_fold(0u64, |sum, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then(|| sum * 10 + u64::from(digit))
        });
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        sum.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The text of an error, without blanks and quotes around it.
fn error_text(rest: &[u8]) -> &str {
    let text = rest.trim_ascii();
    let quoted = text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'"));
    let text = quoted.unwrap_or(text);
    match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// What stands for the verb of a line that has none: at most 16 bytes of it.
fn first_word(line: &[u8]) -> String {
    let length = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    line[..length.min(16)].escape_ascii().to_string()
}
