//! The limit of one record in the report's format: a longer message is cut, and its size follows.

use std::fmt::{self, Write};

use super::escape::Harmless;
use crate::limits::LOG_RECORD_BYTES;

/// The part of a message that is written.
pub(super) fn cut(text: &str) -> &str {
    cut_at(text, LOG_RECORD_BYTES)
}

/// The same up to another length.
pub(super) fn cut_at(text: &str, most: usize) -> &str {
    match text.floor_char_boundary(most) {
        end if end < text.len() => &text[..end],
        _ => text,
    }
}

/// Appends the size of a message that was cut.
pub(super) fn append_size(length: usize, out: &mut Vec<u8>) {
    if length > LOG_RECORD_BYTES {
        out.extend_from_slice(format!(" [cut, {length} bytes in all]").as_bytes());
    }
}

/// A message that is cut while it is formatted, so that the whole of it is never in memory. Its characters can't
/// end a record or change a terminal, whatever its caller escaped.
pub(super) struct Limited<'a>(pub &'a fmt::Arguments<'a>);

impl fmt::Display for Limited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = CuttingWriter { out: f, length: 0, is_cut: false };
        // Writing fails only if a Display does: the text up to then is the message.
        let _ = Harmless(&mut out).write_fmt(*self.0);
        let length = out.length;
        match length > LOG_RECORD_BYTES {
            true => write!(f, " [cut, {length} bytes in all]"),
            false => Ok(()),
        }
    }
}

struct CuttingWriter<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    /// The length of the whole message.
    length: usize,
    is_cut: bool,
}

impl Write for CuttingWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LOG_RECORD_BYTES.saturating_sub(self.length);
        self.length += text.len();
        if self.is_cut {
            return Ok(());
        }
        let end = text.floor_char_boundary(room);
        self.is_cut = end < text.len();
        self.out.write_str(&text[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_two_characters_and_says_its_size() {
        for (text, kept) in [
            ("x".repeat(LOG_RECORD_BYTES), LOG_RECORD_BYTES),
            ("x".repeat(LOG_RECORD_BYTES + 1), LOG_RECORD_BYTES),
            (format!("xx{}", "€".repeat(LOG_RECORD_BYTES)), LOG_RECORD_BYTES - 2),
        ] {
            let mut expected = text.as_bytes()[..kept].to_vec();
            append_size(text.len(), &mut expected);
            assert_eq!(cut(&text).len(), kept);
            let (head, tail) = text.split_at(text.floor_char_boundary(LOG_RECORD_BYTES / 2));
            assert_eq!(Limited(&format_args!("{head}{tail}")).to_string().as_bytes(), expected);
        }
    }
}
