//! The fields of a record in the native protocol of journald: `NAME=value` and a newline; for a value with a
//! newline the name, a newline, the length as 8 bytes (little-endian), the value and a newline.

use std::fmt::{Display, Write as _};

use log::kv::{self, Key, Source, Value, VisitSource, VisitValue};

use super::escape;
use super::escape::Harmless;
use super::json::{self, EVENT};
use super::severity::Severity;

/// Appends the fields that every record has, but for its message.
pub(super) fn append_head(out: &mut Vec<u8>, level: Severity, server: &str) {
    out.extend_from_slice(b"PRIORITY=");
    out.push(b'0' + level.priority());
    out.extend_from_slice(b"\nSYSLOG_IDENTIFIER=herd-mio\n");
    append(out, "server", server.as_bytes());
    match json::loop_number() {
        0 => {}
        number => append_number(out, "loop", number.into()),
    }
}

/// Appends the record's target and event.
pub(super) fn append_names(out: &mut Vec<u8>, target: &str, event: &str) {
    append(out, "target", target.as_bytes());
    append(out, EVENT, event.as_bytes());
}

/// Appends the target and the fields of a record of a logger.
pub(super) fn append_fields(out: &mut Vec<u8>, target: &str, fields: &dyn Source) {
    append(out, "target", target.as_bytes());
    let mut own = OwnFields { out, left: json::OWN_FIELDS_BYTES };
    // Visiting fails only if a visitor does.
    let _ = fields.visit(&mut own);
}

struct OwnFields<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes that they may still have.
    left: usize,
}

impl<'kvs> VisitSource<'kvs> for OwnFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        value.visit(OwnField { fields: self, name: key.as_str() })
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
        let begin = fields.out.len();
        append_display(fields.out, self.name, &value, fields.left.min(json::FIELD_BYTES));
        fields.left = fields.left.saturating_sub(fields.out.len() - begin);
        Ok(())
    }

    /// A value that the record does not have.
    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }
}

fn append_display(out: &mut Vec<u8>, name: &str, value: &impl Display, most: usize) {
    let mut text = String::new();
    // Writing to a String fails only if a Display does; the text up to then is used.
    let _ = write!(Harmless(&mut text), "{value}");
    text.truncate(text.floor_char_boundary(most));
    if !text.is_empty() {
        append(out, name, text.as_bytes());
    }
}

/// Appends bytes from the network, escaped as in the message.
pub(super) fn append_escaped(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let mut shown = Vec::new();
    escape::append(&bytes[..bytes.len().min(json::FIELD_BYTES)], &mut shown);
    append(out, name, &shown);
}

/// Appends a client's id and, if it is not UTF-8, its bytes.
pub(super) fn append_id(out: &mut Vec<u8>, id: &[u8]) {
    append_escaped(out, "id", id);
    append_display(out, "id_base64", &json::IdBase64(id), usize::MAX);
}

pub(super) fn append_number(out: &mut Vec<u8>, name: &str, number: u64) {
    append_name(out, name);
    out.push(b'=');
    json::append_digits(out, number);
    out.push(b'\n');
}

/// Appends `HERD_<NAME>` with a value.
pub(super) fn append(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    append_name(out, name);
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn append_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b"HERD_");
    out.extend(name.bytes().map(|byte| byte.to_ascii_uppercase()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_a_newline_is_sent_with_its_length() {
        let mut out = Vec::new();
        append(&mut out, "reason", b"a=b");
        append(&mut out, "id", b"a\nPRIORITY=0");
        append_number(&mut out, "bytes", 10);
        let expected =
            b"HERD_REASON=a=b\nHERD_ID\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nHERD_BYTES=10\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn an_id_is_escaped_and_its_bytes_are_there_too() {
        let mut out = Vec::new();
        append_id(&mut out, b"a\n\xff");
        assert_eq!(out, b"HERD_ID=a\\x0a\\xff\nHERD_ID_BASE64=YQr/\n");
        let fields = [("event", "link_down"), ("reason", ""), ("neighbour", "South")];
        let mut out = Vec::new();
        append_fields(&mut out, "link", &fields);
        assert_eq!(out, b"HERD_TARGET=link\nHERD_EVENT=link_down\nHERD_NEIGHBOUR=South\n");
    }
}
