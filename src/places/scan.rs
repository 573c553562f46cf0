//! A pass over a service's JSON that finds where its values begin and end, and builds none of them.
//!
//! An answer is half indentation. A general parser looks at each byte of it, and at each bracket decides anew what may
//! come: 278,000 instructions for an answer of twenty places. This one passes over blanks eight at a time and keeps the
//! nesting in the bits of a word: some 46,000, the search for the API key and the cut included.
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
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes[self.at..].starts_with(INDENTATION) {
            self.at += INDENTATION.len();
        }
        loop {
            match *bytes.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Passes this byte, if it is the next one that is not blank.
    #[inline]
    pub(super) fn pass(&mut self, byte: u8) -> Option<()> {
        let is_next = self.peek()? == byte;
        self.at += usize::from(is_next);
        is_next.then_some(())
    }

    /// Passes a member's key and its colon. Returns the key, which has no escape.
    pub(super) fn plain_key(&mut self) -> Option<&'b str> {
        self.pass(b'"')?;
        let begin = self.at;
        let key = &self.text[begin..self.string()? - 1];
        self.pass(b':')?;
        (!key.contains('\\')).then_some(key)
    }

    /// Passes a value. Returns where it begins and ends.
    pub(super) fn value(&mut self) -> Option<(usize, usize)> {
        self.peek()?;
        let begin = self.at;
        // What is open, the innermost last, behind a first 1: 1 for an object, 0 for an array.
        let mut open = 1u64;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'{' if self.pass(b'}').is_none() => {
                    open = nested(open, 1)?;
                    self.key()?;
                    continue;
                }
                b'[' if self.pass(b']').is_none() => {
                    open = nested(open, 0)?;
                    continue;
                }
                b'{' | b'[' => {} // An empty one.
                b'"' => self.at = self.string()?,
                b'-' | b'0'..=b'9' => {
                    self.at -= 1;
                    self.number()?;
                }
                b't' => self.word("rue")?,
                b'f' => self.word("alse")?,
                b'n' => self.word("ull")?,
                _ => return None,
            }
            // A value has ended, and perhaps those around it.
            loop {
                if open == 1 {
                    return Some((begin, self.at));
                }
                let byte = self.peek()?;
                self.at += 1;
                match (byte, open & 1) {
                    (b',', 1) => {
                        self.key()?;
                        break;
                    }
                    (b',', _) => break,
                    (b'}', 1) | (b']', 0) => open >>= 1,
                    _ => return None,
                }
            }
        }
    }

    /// Whether nothing but blanks is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    fn key(&mut self) -> Option<()> {
        self.pass(b'"')?;
        self.at = self.string()?;
        self.pass(b':')
    }

    /// Where a string ends, whose first quote is passed.
    #[inline]
    fn string(&mut self) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        loop {
            match *bytes.get(at)? {
                b'"' => {
                    self.at = at + 1;
                    return Some(self.at);
                }
                b'\\' => {
                    at += match bytes.get(at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                        _ => return None,
                    }
                }
                0..0x20 => return None,
                _ => at += 1,
            }
        }
    }

    fn number(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        self.at += usize::from(bytes[self.at] == b'-');
        match bytes.get(self.at)? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    /// Passes at least one digit.
    fn digits(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn word(&mut self, rest: &str) -> Option<()> {
        let is_there = self.text.as_bytes()[self.at..].starts_with(rest.as_bytes());
        self.at += if is_there { rest.len() } else { 0 };
        is_there.then_some(())
    }
}

/// One level deeper; None where there is no bit for it.
fn nested(open: u64, is_object: u64) -> Option<u64> {
    (open >> 63 == 0).then_some(open << 1 | is_object)
}

/// Eight bytes are compared as one word.
const INDENTATION: &[u8; 8] = b"        ";

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Bytes that are much of JSON, in any order.
        #[test]
        fn what_is_not_deeply_nested_is_accepted_if_and_only_if_it_is_json(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u00", "e9", "a", "\"a\":", "\"b\"", "0", "12", "-",
                    ".", "e", "E+", "true", "null", "fals", " ", "        ", "\n", "\u{1}", "é", "{\"k\":[1,2]}", ",1",
                ]),
                0..14,
            ),
        ) {
            let text = parts.concat();
            prop_assert_eq!(scanned(&text), parsed(&text));
        }
    }
}
