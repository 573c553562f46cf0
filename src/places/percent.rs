//! Percent-encoding, as in the query of a URL (RFC 3986, section 2.1).

/// `text` with all but the unreserved characters encoded.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The inverse. A `%` that no two hexadecimal digits follow stands for itself.
pub fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let decoded = match rest {
            [_, high, low, ..] => hex(*high, *low),
            _ => None,
        };
        out.push(decoded.unwrap_or(b'%'));
        rest = &rest[if decoded.is_some() { 3 } else { 1 }..];
    }
    out.extend_from_slice(rest);
    out
}

/// The byte that two hexadecimal digits stand for.
pub(super) fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8) // two digits fit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_undoes_encoding() {
        for text in ["", "a-b.c_d~e", "34.0,-118.4", "100%", "é\n&=+"] {
            assert_eq!(decoded(encoded(text).as_bytes()), text.as_bytes());
        }
        assert_eq!(encoded("a,b+é"), "a%2Cb%2B%C3%A9");
        assert_eq!(decoded(b"%2c%2C%%4"), b",,%%4");
    }
}
