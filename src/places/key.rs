//! The API key. It appears in requests only: the type has no `Display`, its `Debug` hides it, and an answer
//! that contains it, in whatever encoding, is detected (protocol, section 3).

use std::fmt;

use memchr::memmem;

/// A key that a service of places asks for: visible ASCII, so that it fits into a header and can't
/// end one.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key in `text`, without white space around it, such as a file's last line end. None if it is
    /// empty, too long, or has a byte that no key has.
    pub fn parse(text: &[u8]) -> Option<ApiKey> {
        let key = text.trim_ascii();
        let fits = (1..=MAX_BYTES).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
        // Visible ASCII is UTF-8.
        fits.then(|| ApiKey(String::from_utf8_lossy(key).into_owned()))
    }

    /// The key itself, for a request. The caller is responsible for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `bytes` hold the key: as it is, in JSON's escapes, percent-encoded, or both.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let holds = |bytes: &[u8]| memmem::find(bytes, self.0.as_bytes()).is_some();
        if holds(bytes) {
            return true;
        }
        // Most answers have neither, and are not copied twice.
        if memchr::memchr2(b'\\', b'%', bytes).is_none() {
            return false;
        }
        let unescaped = without_escapes(bytes);
        holds(&unescaped) || holds(&percent_decoded(&unescaped))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// Undoes JSON's escapes of ASCII characters after any backslash.
fn without_escapes(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        rest = match rest {
            [b'u', b'0', b'0', high, low, after @ ..] => match hex(*high, *low) {
                Some(byte) => {
                    out.push(byte);
                    after
                }
                None => rest,
            },
            [escaped, after @ ..] => {
                out.push(*escaped);
                after
            }
            [] => rest,
        };
    }
    out.extend_from_slice(rest);
    out
}

/// Undoes percent-encoding; a `%` without two hexadecimal digits after it stands for itself. The library is
/// not used, because it looks at each byte separately: that takes half as long as all other work on an
/// answer.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let decoded = match rest {
            [high, low, ..] => hex(*high, *low),
            _ => None,
        };
        out.push(decoded.unwrap_or(b'%'));
        rest = &rest[if decoded.is_some() { 2 } else { 0 }..];
    }
    out.extend_from_slice(rest);
    out
}

/// The byte that two hexadecimal digits encode.
fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8) // Two digits fit.
}

/// Far more than any service's keys have.
const MAX_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ApiKey {
        ApiKey::parse(text.as_bytes()).expect("a key")
    }

    #[test]
    fn a_key_is_visible_ascii_and_nothing_around_it() {
        assert_eq!(key(" AIza-Sy_x\r\n").expose(), "AIza-Sy_x");
        for text in ["", " \n", "a b", "a\r\nHost: evil", "ключ", &"k".repeat(MAX_BYTES + 1)] {
            assert_eq!(ApiKey::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(format!("{:?}", key("secret")), "ApiKey(hidden)");
    }

    #[test]
    fn an_escaped_key_in_an_answer_is_detected() {
        let key = key("se/cret+1");
        for holding in [
            "{\"m\":\"se/cret+1\"}",
            "se\\/cret+1",
            "\\u0073e/cret\\u002b1",
            "https://x/?key=se%2fcret%2B1&y",
            "se\\u00252Fcret%2B1",
        ] {
            assert!(key.is_in(holding.as_bytes()), "{holding}");
        }
        for innocent in ["", "secret", "se/cret+", "\\", "\\u00", "%", "%2", "se%2Gcret+1"] {
            assert!(!key.is_in(innocent.as_bytes()), "{innocent}");
        }
    }
}
