//! A pass over a service's JSON that finds where its values begin and end, and builds none of them.
//!
//! An answer has long indentation, short strings and little else. This parser passes over blanks and strings eight bytes
//! at a time and keeps the nesting in the bits of a word: 224,000 instructions for the 17 KB of the bench's answer, cut to
//! five places, of which serde_json alone took 317,000 (`trim it to 5 places` in `benches/instructions.toml`).
//!
//! It only ever says yes: what it does not accept, be it no JSON or merely unusual (deeper nesting, a key with an
//! escape), the caller hands to serde_json, whose word counts. So what it accepts must be JSON for serde_json, too.

/// A position in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'b> {
    text: &'b str,
    at: usize,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(text: &'b str) -> Scanner<'b> {
        Scanner { text, at: 0 }
    }

    /// The next byte that is not blank; it is not passed.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        self.at = after_blanks(bytes, self.at);
        bytes.get(self.at).copied()
    }

    /// Passes this byte, if it is the next one that is not blank.
    pub(super) fn pass(&mut self, byte: u8) -> Option<()> {
        let is_next = self.peek()? == byte;
        self.at += usize::from(is_next);
        is_next.then_some(())
    }

    /// Passes a member's key and its colon. Returns the key, which has no escape.
    pub(super) fn plain_key(&mut self) -> Option<&'b str> {
        self.peek()?;
        let begin = self.at + 1;
        self.at = after_key(self.text.as_bytes(), self.at)?;
        let key = self.text[begin..self.at - 1].trim_ascii_end().strip_suffix('"')?;
        (!key.contains('\\')).then_some(key)
    }

    /// Passes a value. Returns where it begins and ends.
    pub(super) fn value(&mut self) -> Option<(usize, usize)> {
        let bytes = self.text.as_bytes();
        let begin = after_blanks(bytes, self.at);
        self.at = after_value(bytes, begin)?;
        Some((begin, self.at))
    }

    /// Whether nothing but blanks is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }
}

/// Where the value ends that begins here.
fn after_value(bytes: &[u8], mut at: usize) -> Option<usize> {
    // What is open, the innermost last, behind a first 1: 1 for an object, 0 for an array.
    let mut open = 1u64;
    loop {
        at = after_blanks(bytes, at);
        let byte = *bytes.get(at)?;
        at = match byte {
            b'{' | b'[' => {
                let is_object = u64::from(byte == b'{');
                at = after_blanks(bytes, at + 1);
                // Two behind an opening bracket is its closing one.
                if *bytes.get(at)? != byte + 2 {
                    open = nested(open, is_object)?;
                    at = if is_object == 1 { after_key(bytes, at)? } else { at };
                    continue;
                }
                at + 1
            }
            b'"' => after_string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => after_number(bytes, at)?,
            b't' => after_literal(bytes, at, b"true")?,
            b'f' => after_literal(bytes, at, b"false")?,
            b'n' => after_literal(bytes, at, b"null")?,
            _ => return None,
        };
        // A value has ended, and perhaps those around it.
        loop {
            if open == 1 {
                return Some(at);
            }
            at = after_blanks(bytes, at);
            let byte = *bytes.get(at)?;
            at += 1;
            match (byte, open & 1) {
                (b',', 1) => {
                    at = after_key(bytes, after_blanks(bytes, at))?;
                    break;
                }
                (b',', _) => break,
                (b'}', 1) | (b']', 0) => open >>= 1,
                _ => return None,
            }
        }
    }
}

/// Where the next byte is that is not blank.
#[inline(always)] // It is called for each token, and has few instructions; so has the next one.
fn after_blanks(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b' ') => match word(bytes, at) {
                Some(word) => at += first(word ^ of_each(b' ')),
                None => at += 1,
            },
            Some(b'\n' | b'\r' | b'\t') => at += 1,
            _ => return at,
        }
    }
}

/// Where a string ends, whose first quote is passed.
#[inline(always)]
fn after_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        if let Some(word) = word(bytes, at) {
            // The top bit of each byte that is one of these; a wrong one lies only behind a right one.
            let found = zeros(word ^ of_each(b'"')) | zeros(word ^ of_each(b'\\'));
            let control = word.wrapping_sub(of_each(b' ')) & !word;
            at += first((found | control) & of_each(0x80));
        }
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += escape(&bytes[at + 1..])?,
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// Where a key that begins here ends with its colon.
#[inline]
fn after_key(bytes: &[u8], at: usize) -> Option<usize> {
    let is_string = bytes.get(at) == Some(&b'"');
    let colon = after_blanks(bytes, after_string(bytes, is_string.then_some(at + 1)?)?);
    (bytes.get(colon) == Some(&b':')).then_some(colon + 1)
}

fn after_number(bytes: &[u8], mut at: usize) -> Option<usize> {
    at += usize::from(bytes[at] == b'-');
    at = match bytes.get(at)? {
        b'0' => at + 1,
        _ => after_digits(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = after_digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = after_digits(bytes, at)?;
    }
    Some(at)
}

/// Where at least one digit ends.
fn after_digits(bytes: &[u8], at: usize) -> Option<usize> {
    let count = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then_some(at + count)
}

fn after_literal(bytes: &[u8], at: usize, literal: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(literal).then_some(at + literal.len())
}

/// The length of an escape, whose backslash is passed and counts.
fn escape(rest: &[u8]) -> Option<usize> {
    match rest.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' if rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => Some(6),
        _ => None,
    }
}

/// One level deeper; None where there is no bit for it.
fn nested(open: u64, is_object: u64) -> Option<u64> {
    (open >> 63 == 0).then_some(open << 1 | is_object)
}

/// Eight bytes as a word, the first one lowest; None where there are fewer.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes[at..].first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

/// This byte eight times.
const fn of_each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The top bit of each byte that is 0, and perhaps of bytes behind such a one.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(of_each(1)) & !word
}

/// Which byte of a word is the first that is not 0; 8 if all are.
#[inline]
fn first(word: u64) -> usize {
    word.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// The value that the whole text is.
    fn scanned(text: &str) -> Option<&str> {
        let mut scanner = Scanner::new(text);
        let (begin, end) = scanner.value()?;
        scanner.is_at_end().then_some(&text[begin..end])
    }

    fn parsed(text: &str) -> Option<&str> {
        serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
    }

    #[test]
    fn usual_json_is_accepted_and_has_the_bounds_that_serde_json_finds() {
        for text in [
            "{}",
            " \n\t\r[ ] ",
            "{\"a\" : [ 1 , -0.5e+10 , 0 , 1E9 ], \"b\":{\"c\":null},\"d\":[[],{}] }",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD800 é\u{7f}\"",
            "                 true",
            "[false,                  null]",
            "-0",
        ] {
            assert_eq!(scanned(text), parsed(text), "{text}");
            assert!(scanned(text).is_some(), "{text}");
        }
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(scanned(&deep(63)).is_some());
        assert_eq!(scanned(&deep(65)), None, "serde_json must judge it");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "[1}",
            "{\"a\":1]",
            "[1,]",
            "[,1]",
            "{,}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{1:2}",
            "[1 2]",
            "1 2",
            "[",
            "{\"a\":",
            "\"a",
            "01",
            "-",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "tru",
            "nulls",
            "\"\u{1}\"",
            "\"1234567\n\"",
            "\"\\x\"",
            "\"\\u00g0\"",
            "\"\\u00e\"",
            "\"\\",
            "\u{feff}1",
        ] {
            assert_eq!((scanned(text), parsed(text)), (None, None), "{text:?}");
        }
    }

    /// A text in pieces, some of which are replaced below.
    const PIECES: [&str; 24] = [
        "{",
        "\"a\"",
        ":",
        "[",
        "-0",
        ".5",
        "e+1",
        ",",
        "        ",
        "\"x\\n\\u00e9é 89abcdef\"",
        ",",
        "{",
        "\"b\"",
        " : ",
        "null",
        "}",
        "\n",
        "]",
        ",",
        "\"c\"",
        ":",
        "[]",
        "}",
        " ",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_not_deeply_nested_is_accepted_if_and_only_if_it_is_json(
            changes in prop::collection::vec((0..PIECES.len(), 0..PIECES.len(), 0..3), 0..3),
        ) {
            let mut pieces = PIECES.to_vec();
            for (at, other, how) in changes {
                match how {
                    0 => pieces[at] = PIECES[other],
                    1 => pieces[at] = "",
                    _ => pieces.insert(at, PIECES[other]),
                }
            }
            let text = pieces.concat();
            prop_assert_eq!(scanned(&text), parsed(&text));
        }
    }
}
