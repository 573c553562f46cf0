//! A record as one JSON object on a line. Its fields stand in this order: `time`, `level`, `target`, `server`,
//! `loop` (of records of a loop's thread), `event` (if it has a name), `message`, and then the event's own
//! fields. A line has at most 16 KiB and is valid JSON even if a text in it was cut; then it ends with
//! `"truncated":true`.

use std::cell::Cell;
use std::fmt::{self, Display, Write as _};
use std::str;

use log::kv::{self, Key, Source, Value, VisitSource, VisitValue};

use super::escape::{self, Harmless};

/// The fields after the time, for the record of a logger, up to `}`. `fields` are the record's own; the one
/// with the key [`EVENT`] comes before the message.
pub(super) fn append_rest(
    out: &mut Vec<u8>,
    level: &str,
    target: &str,
    server: &str,
    message: &str,
    fields: &dyn Source,
) {
    append_head(out, level, target, server);
    if let Some(event) = fields.get(Key::from(EVENT)) {
        append_written(out, EVENT, NAME_BYTES, |out| append_display(&event, out));
    }
    let mut is_cut = append_field(out, "message", message, MESSAGE_BYTES);
    let mut own = OwnFields { out, left: OWN_FIELDS_BYTES, is_cut: false };
    // Visiting fails only if a visitor does.
    let _ = fields.visit(&mut own);
    is_cut |= own.is_cut;
    append_end(out, is_cut);
}

/// Appends the fields of a record of a logger, except its event.
struct OwnFields<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes that they may still have, names not counted.
    left: usize,
    is_cut: bool,
}

impl<'kvs> VisitSource<'kvs> for OwnFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        match key.as_str() {
            EVENT => Ok(()),
            name => value.visit(OwnField { fields: self, name }),
        }
    }
}

struct OwnField<'a, 'b> {
    fields: &'a mut OwnFields<'b>,
    name: &'a str,
}

impl<'v> VisitValue<'v> for OwnField<'_, '_> {
    /// Appends a text, unless it is empty.
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        let fields = &mut *self.fields;
        let (begin, most) = (fields.out.len(), fields.left.min(FIELD_BYTES));
        let is_cut = append_written(fields.out, self.name, most, |out| append_display(&value, out));
        if fields.out.ends_with(b":\"\"") && !is_cut {
            fields.out.truncate(begin);
        }
        fields.left = fields.left.saturating_sub(fields.out.len() - begin);
        fields.is_cut |= is_cut;
        Ok(())
    }

    /// A value that the record does not have.
    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        append_number(self.fields.out, self.name, value);
        Ok(())
    }
}

fn append_display(value: &impl Display, out: &mut Vec<u8>) {
    let mut text = String::new();
    // A String takes everything; if a Display fails, the text up to then is used.
    let _ = write!(Harmless(&mut text), "{value}");
    out.extend_from_slice(text.as_bytes());
}

/// The part of traffic records between the time and the text of the message, which is the same for all records
/// of a kind. It is printed once, and then copied.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// The loop whose number they contain.
    loop_number: u16,
    heads: Vec<Vec<u8>>,
}

impl Heads {
    /// Head number `which`; `fields` are its level, target, server and event.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, which: usize, fields: [&str; 4]) {
        if self.loop_number != loop_number() {
            self.heads.clear();
            self.loop_number = loop_number();
        }
        if let Some(head) = self.heads.get(which)
            && !head.is_empty()
        {
            out.extend_from_slice(head);
            return;
        }
        let [level, target, server, event] = fields;
        let begin = out.len();
        append_head(out, level, target, server);
        append_text(out, EVENT, event);
        out.extend_from_slice(b",\"message\":\"");
        self.heads.resize(self.heads.len().max(which + 1), Vec::new());
        self.heads[which] = out[begin..].to_vec();
    }
}

/// `,"level":…,"target":…,"server":…,"loop":…`
fn append_head(out: &mut Vec<u8>, level: &str, target: &str, server: &str) {
    append_field(out, "level", level, NAME_BYTES);
    append_field(out, "target", target, NAME_BYTES);
    append_field(out, "server", server, NAME_BYTES);
    match loop_number() {
        0 => {}
        number => append_number(out, "loop", number.into()),
    }
}

/// Ends the text of a message, which starts at `begin`, after its opening quote; `is_plain` says that each of
/// its parts is plain. Returns whether it was cut.
#[inline]
pub(super) fn end_message(out: &mut Vec<u8>, begin: usize, is_plain: bool) -> bool {
    if is_plain && out.len() - begin <= MESSAGE_BYTES {
        out.push(b'"');
        return false;
    }
    encode(out, begin, MESSAGE_BYTES)
}

/// Appends bytes from outside, escaped as in the report. Returns whether they are the same in JSON, that is,
/// without a quote or a backslash.
#[inline]
pub(super) fn append_escaped(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let is_plain = is_plain(bytes);
    match is_plain {
        true => out.extend_from_slice(bytes),
        false => escape::append(bytes, out),
    }
    is_plain
}

/// `,"id":…`, escaped as in the message, and, if that loses bytes, `,"id_base64":…`. Returns whether it was
/// cut.
pub(super) fn append_id(out: &mut Vec<u8>, id: &[u8]) -> bool {
    let is_cut = append_bytes(out, "id", id);
    if str::from_utf8(id).is_ok() {
        return is_cut;
    }
    let shown = &id[..id.len().min(BASE64_BYTES)];
    append_name(out, "id_base64");
    out.push(b'"');
    append_base64(out, shown);
    out.push(b'"');
    is_cut || shown.len() < id.len()
}

/// A field with bytes from the network, escaped as in the message. Returns whether it was cut.
pub(super) fn append_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) -> bool {
    append_written(out, name, FIELD_BYTES, |out| escape::append(bytes, out))
}

/// A field with a text. Returns whether it was cut.
pub(super) fn append_text(out: &mut Vec<u8>, name: &str, text: &str) -> bool {
    append_field(out, name, text, FIELD_BYTES)
}

/// A field with a number.
fn append_number(out: &mut Vec<u8>, name: &str, number: u64) {
    append_name(out, name);
    append_digits(out, number);
}

/// A number.
pub(super) fn append_digits(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    let mut rest = number;
    loop {
        begin -= 1;
        digits[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

/// The end of the object.
pub(super) fn append_end(out: &mut Vec<u8>, is_cut: bool) {
    if is_cut {
        out.extend_from_slice(b",\"truncated\":true");
    }
    out.push(b'}');
}

/// Sets which loop of its server this thread runs, counted from 1, for its records.
pub fn set_loop_number(number: u16) {
    LOOP.set(number);
}

pub(super) fn loop_number() -> u16 {
    // A record may be written while the thread ends.
    LOOP.try_with(Cell::get).unwrap_or(0)
}

fn append_field(out: &mut Vec<u8>, name: &str, text: &str, most: usize) -> bool {
    append_written(out, name, most, |out| out.extend_from_slice(text.as_bytes()))
}

/// A field whose text `write` appends. Most texts are the same in JSON, and need no copy.
fn append_written(
    out: &mut Vec<u8>,
    name: &str,
    most: usize,
    write: impl FnOnce(&mut Vec<u8>),
) -> bool {
    append_name(out, name);
    out.push(b'"');
    let begin = out.len();
    write(out);
    if out.len() - begin <= most && is_plain(&out[begin..]) {
        out.push(b'"');
        return false;
    }
    encode(out, begin, most)
}

/// Encodes the text from `begin` on, which comes after its opening quote.
#[cold]
fn encode(out: &mut Vec<u8>, begin: usize, most: usize) -> bool {
    let text = String::from_utf8_lossy(&out[begin..]).into_owned();
    out.truncate(begin - 1);
    let end = end_within(&text, most);
    // A Vec takes everything, and a str is always valid JSON.
    let _ = serde_json::to_writer(&mut *out, &text[..end]);
    end < text.len()
}

/// Whether a JSON string shows these bytes as they are. It looks at all of them, because the processor then
/// compares many at a time.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let is_special = |byte: u8| !byte.is_ascii() | (byte < b' ') | (byte == 0x7f);
    let is_escaped = |byte: u8| (byte == b'"') | (byte == b'\\');
    bytes.iter().fold(0, |any, byte| any | u8::from(is_special(*byte) | is_escaped(*byte))) == 0
}

fn append_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// How much of a text fits into this many bytes of a JSON string.
fn end_within(text: &str, most: usize) -> usize {
    if text.len() <= most / MAX_ESCAPE_BYTES {
        return text.len();
    }
    let mut length = 0;
    for (at, letter) in text.char_indices() {
        length += match letter {
            '"' | '\\' => 2,
            letter if letter < ' ' => MAX_ESCAPE_BYTES,
            letter => letter.len_utf8(),
        };
        if length > most {
            return at;
        }
    }
    text.len()
}

/// An id as a record's `id_base64`: empty if the id is UTF-8, because its `id` then loses nothing.
#[derive(Clone, Copy, Debug)]
pub struct IdBase64<'a>(pub &'a [u8]);

impl fmt::Display for IdBase64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if str::from_utf8(self.0).is_ok() {
            return Ok(());
        }
        let mut text = Vec::new();
        append_base64(&mut text, &self.0[..self.0.len().min(BASE64_BYTES)]);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

fn append_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |shift: u32| DIGITS[(bits >> shift & 63) as usize];
        let digits = [digit(18), digit(12), digit(6), digit(0)];
        out.extend_from_slice(&digits[..=group.len()]);
        out.extend_from_slice(&b"=="[..3 - group.len()]);
    }
}

thread_local! {
    /// 0 in a thread that runs no loop.
    static LOOP: Cell<u16> = const { Cell::new(0) };
}

/// The key of an event's name.
pub(super) const EVENT: &str = "event";
// All fields together, their names included, have less than 16 KiB.
/// A message, as JSON. A client's line has at most 4 KiB, unless the limit was raised.
const MESSAGE_BYTES: usize = 8 * 1024;
/// An id or a location, as JSON.
pub(super) const FIELD_BYTES: usize = 1_536;
/// The fields of a record of a logger together.
pub(super) const OWN_FIELDS_BYTES: usize = 6 * 1024;
/// An id's bytes, before they are encoded.
const BASE64_BYTES: usize = 1_536;
/// A name from the configuration; a server's has at most 64 bytes.
const NAME_BYTES: usize = 128;
/// `\u001f`
const MAX_ESCAPE_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn object(write: impl FnOnce(&mut Vec<u8>) -> bool) -> Value {
        let mut out = br#"{"time":"now""#.to_vec();
        let is_cut = write(&mut out);
        append_end(&mut out, is_cut);
        assert!(out.len() <= 16 * 1024);
        serde_json::from_slice(&out).expect("valid JSON")
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\x00", "//4A"),
        ] {
            let mut out = Vec::new();
            append_base64(&mut out, bytes);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn a_text_is_cut_so_that_the_line_stays_valid_and_within_its_limit() {
        for text in ["\u{1}", "\\", "\"", "a", "ü", "𝄞"] {
            let value = object(|out| {
                let fields = ["INFO", "client", "Goloman", "line_received"];
                Heads::default().append(out, 0, fields);
                let begin = out.len();
                out.extend(text.repeat(20_000).bytes());
                let is_cut = end_message(out, begin, is_plain(text.as_bytes()));
                append_id(out, &b"\xff\"".repeat(20_000)) | is_cut
            });
            assert_eq!(value["truncated"], true);
            let message = value["message"].as_str().expect("a message");
            assert!(!message.is_empty() && text.repeat(20_000).starts_with(message));
        }
    }

    #[test]
    fn an_id_that_is_no_utf_8_is_there_as_base64_too() {
        let value = object(|out| append_id(out, "a\"b\\c\u{2028}".as_bytes()));
        assert_eq!(value["id"], r#"a"b\\c\xe2\x80\xa8"#);
        assert!(value.get("id_base64").is_none() && value.get("truncated").is_none());
        let value = object(|out| append_id(out, b"\xff\n"));
        assert_eq!((&value["id"], &value["id_base64"]), (&r"\xff\x0a".into(), &"/wo=".into()));
    }
}
