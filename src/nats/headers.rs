//! Headers of a message. What is wrong in them concerns the message, never the connection: another client may have
//! published them as they are.

use memchr::{memchr, memrchr};

use crate::limits::MAX_HEADERS;

/// The headers of a message as they came, from `NATS/1.0` on; empty if it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a>(pub &'a [u8]);

impl<'a> Headers<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The status of the first line, and its text; None if it has none. A status may have headers behind it.
    pub fn status(&self) -> Option<(u16, &'a str)> {
        let (first, _) = split_line(self.0);
        let rest = first.strip_prefix(b"NATS/1.0")?.trim_ascii();
        if rest.len() < 3 || !rest[..3].iter().all(u8::is_ascii_digit) {
            return None;
        }
        let (code, text) = rest.split_at(3);
        let is_apart = text.first().is_none_or(|byte| *byte == b' ' || *byte == b'\t');
        is_apart.then_some(())?;
        let code = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        Some((code, std::str::from_utf8(text.trim_ascii()).unwrap_or_default()))
    }

    /// The value of the first header of this name, without blanks around it. Names differ by case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.lines().find_map(|line| value_of(line, name))
    }

    /// The same, for two names at once.
    pub fn get_both(&self, names: [&str; 2]) -> [Option<&'a [u8]>; 2] {
        let mut found = [None; 2];
        for line in self.lines() {
            for (found, name) in found.iter_mut().zip(names) {
                *found = found.or_else(|| value_of(line, name));
            }
        }
        found
    }

    /// The same, as a number of decimal digits.
    pub fn number(&self, name: &str) -> Option<u64> {
        super::parse::number(self.get(name)?)
    }

    /// The value of the last header of this name, among the last `LAST_HEADERS`. Those that a server adds to a stored message
    /// stand behind the message's own, which may have the same names: it may be a copy of one that came from a stream.
    pub fn last(&self, name: &str) -> Option<&'a [u8]> {
        self.last_lines().find_map(|line| value_of(line, name))
    }

    /// The same, for two names at once.
    pub fn last_both(&self, names: [&str; 2]) -> [Option<&'a [u8]>; 2] {
        let mut found = [None; 2];
        for line in self.last_lines() {
            for (found, name) in found.iter_mut().zip(names) {
                *found = found.or_else(|| value_of(line, name));
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
        found
    }

    /// When a message that any copy has answered was stored, in nanoseconds since 1970; None if it does not say so.
    pub fn stored_at(&self) -> Option<i128> {
        let text = std::str::from_utf8(self.last("Nats-Time-Stamp")?).ok()?;
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(time.as_nanosecond())
    }

    /// Name and value of each header, up to [`MAX_HEADERS`]. A line without a colon is left out.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.lines().filter_map(|line| {
            let colon = memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// The lines behind the first one, up to [`MAX_HEADERS`].
    fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (first, rest) = split_line(self.0);
        let mut rest = if first.starts_with(b"NATS/1.0") { rest } else { b"" };
        let lines = std::iter::from_fn(move || {
            let (line, behind) = split_line(rest);
            rest = behind;
            (!line.is_empty()).then_some(line)
        });
        lines.take(MAX_HEADERS)
    }

    /// The last `LAST_HEADERS` lines, the last one first.
    fn last_lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = Some(self.0);
        let lines = std::iter::from_fn(move || {
            let text = rest?;
            let end = memrchr(b'\n', text);
            rest = end.map(|end| &text[..end]);
            Some(text[end.map_or(0, |end| end + 1)..].trim_ascii_end())
        });
        lines.filter(|line| !line.is_empty()).take(LAST_HEADERS)
    }
}

/// The value of a header, if this is its name.
fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // Seldom is there a colon at that place in another header.
    let (found, value) = line.split_at_checked(name.len())?;
    let value = value.strip_prefix(b":")?;
    (found == name.as_bytes()).then(|| value.trim_ascii())
}

/// As many as a server adds, and a few more.
const LAST_HEADERS: usize = 8;

/// The first line without its end, and what follows. `memmem` would look for CR LF, but takes longer to begin than most lines
/// are long.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut from = 0;
    while let Some(found) = memchr(b'\n', &bytes[from..]) {
        let end = from + found;
        if let Some(line) = bytes[..end].strip_suffix(b"\r") {
            return (line, &bytes[end + 1..]);
        }
        from = end + 1;
    }
    (bytes, b"")
}
