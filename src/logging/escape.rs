//! Makes bytes from the network harmless: they cannot end a record, begin another, or reverse its text.

use std::fmt::{self, Write};
use std::io;

/// Shows bytes as text. Control characters (including C1, the bidirectional marks and the separators
/// U+2028 and U+2029) and bytes that are not UTF-8 become `\xNN`; a backslash is doubled.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Most input is plain, and is written in one piece.
        if is_plain(self.0)
            && let Ok(text) = std::str::from_utf8(self.0)
        {
            return f.write_str(text);
        }
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                write_character(character, f)?;
            }
            write_bytes(chunk.invalid(), f)?;
        }
        Ok(())
    }
}

/// Passes text on, with escapes for the characters that are not harmless: the second guard, for a message whose
/// caller forgot [`Escaped`]. Text that was escaped stays as it is, so a backslash is not doubled.
pub(super) struct Harmless<'a, W>(pub &'a mut W);

impl<W: Write> Write for Harmless<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        let mut rest = text;
        while let Some(at) = rest.find(is_harmful) {
            let length = rest[at..].chars().next().map_or(0, char::len_utf8);
            self.0.write_str(&rest[..at])?;
            write_bytes(&rest.as_bytes()[at..at + length], self.0)?;
            rest = &rest[at + length..];
        }
        self.0.write_str(rest)
    }
}

/// Appends the text that [`Escaped`] shows.
pub(super) fn append(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        // A Vec takes everything.
        let _ = io::Write::write_fmt(out, format_args!("{}", Escaped(bytes)));
    }
}

/// Whether the bytes are visible ASCII without a backslash. It looks at all of them, because the
/// processor then compares many at a time: sixteen, of which the last ones may have been looked at before.
fn is_plain(bytes: &[u8]) -> bool {
    let are_plain = |bytes: &[u8]| {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'\\');
        bytes.iter().fold(true, |all, byte| all & is_plain(*byte))
    };
    match bytes.last_chunk::<16>() {
        Some(last) => {
            let (chunks, _) = bytes.as_chunks::<16>();
            chunks.iter().fold(are_plain(last), |all, chunk| all & are_plain(chunk))
        }
        None => are_plain(bytes),
    }
}

fn write_character(character: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if character == '\\' {
        return f.write_str("\\\\");
    }
    if is_harmful(character) {
        return write_bytes(character.encode_utf8(&mut [0; 4]).as_bytes(), f);
    }
    f.write_char(character)
}

fn is_harmful(character: char) -> bool {
    character.is_control() || is_layout(character)
}

/// A character that changes the layout of the text around it.
fn is_layout(character: char) -> bool {
    matches!(character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

fn write_bytes(bytes: &[u8], f: &mut impl Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_forge_a_record() {
        for (bytes, shown) in [
            (&b"plain text"[..], "plain text"),
            (b"a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"),
            (b"\x1b[31m\\", "\\x1b[31m\\\\"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (
                "caf\u{e9} \u{85}\u{202e}\u{2028}".as_bytes(),
                "caf\u{e9} \\xc2\\x85\\xe2\\x80\\xae\\xe2\\x80\\xa8",
            ),
        ] {
            assert_eq!(Escaped(bytes).to_string(), shown);
            let mut out = b"a ".to_vec();
            append(bytes, &mut out);
            assert_eq!(out, format!("a {shown}").into_bytes());
            let (mut escaped, mut raw) = (String::new(), String::new());
            write!(Harmless(&mut escaped), "{shown}").expect("a String takes everything");
            assert_eq!(escaped, shown, "what was escaped is not escaped again");
            let text = String::from_utf8_lossy(bytes);
            write!(Harmless(&mut raw), "{text}").expect("a String takes everything");
            assert!(!raw.contains(is_harmful), "{raw:?}");
        }
    }
}
