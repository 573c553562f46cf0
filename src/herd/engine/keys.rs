//! Keys of the bucket: a client's id as one token of a subject, in letters that every tool for such buckets takes.
//!
//! Letters, digits, `-` and `_` stand for themselves; each other byte is `=` and two upper-case hexadecimal digits, and so
//! is a leading `_`, because keys that begin with `_kv` are reserved. `kiwi.cs.ucla.edu` is `kiwi=2Ecs=2Eucla=2Eedu`. Each
//! id has one spelling, and only this one is accepted back.

use crate::protocol::MAX_ID_BYTES;

/// Appends the key of a client.
pub(super) fn encode(id: &[u8], out: &mut Vec<u8>) {
    out.reserve(id.len() + 16);
    let mut rest = id;
    if let [b'_', behind @ ..] = rest {
        out.extend_from_slice(&escape(b'_'));
        rest = behind;
    }
    loop {
        let plain = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(rest.len());
        out.extend_from_slice(&rest[..plain]);
        let Some((&other, behind)) = rest[plain..].split_first() else { return };
        out.extend_from_slice(&escape(other));
        rest = behind;
    }
}

/// Whether this is the key of a client, as [`encode`] writes it.
pub(super) fn is_of(key: &[u8], id: &[u8]) -> bool {
    let mut rest = key;
    for (at, &byte) in id.iter().enumerate() {
        let length = if is_plain(byte, at == 0) { 1 } else { 3 };
        let Some((part, behind)) = rest.split_at_checked(length) else { return false };
        let is_it = if length == 1 { part[0] == byte } else { part == escape(byte) };
        if !is_it {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

/// What stands for a byte that does not stand for itself.
fn escape(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'=', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// The client of a key, appended to `id`. False if no client has this key.
pub(super) fn decode(key: &[u8], id: &mut Vec<u8>) -> bool {
    let begin = id.len();
    let mut rest = key;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, behind) {
            (b'=', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => return false,
            },
            (b'=', _) => return false,
            _ => (first, behind),
        };
        let is_first = id.len() == begin;
        if (first == b'=') == is_plain(byte, is_first) {
            return false;
        }
        id.push(byte);
        rest = behind;
    }
    (1..=MAX_ID_BYTES).contains(&(id.len() - begin))
}

/// Whether a byte stands for itself.
fn is_plain(byte: u8, is_first: bool) -> bool {
    PLAIN[usize::from(byte)] && !(is_first && byte == b'_')
}

/// The bytes that stand for themselves; `_` not as the first one.
const PLAIN: [bool; 256] = {
    let (mut plain, mut byte) = ([false; 256], 0);
    while byte < 256 {
        let char = byte as u8;
        plain[byte] = char.is_ascii_alphanumeric() || char == b'-' || char == b'_';
        byte += 1;
    }
    plain
};

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &[u8]) -> String {
        let mut out = Vec::new();
        encode(id, &mut out);
        String::from_utf8(out).expect("a key is ASCII")
    }

    fn id(key: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(key, &mut out).then_some(out)
    }

    #[test]
    fn ids_are_readable_and_come_back() {
        assert_eq!(key(b"kiwi.cs.ucla.edu"), "kiwi=2Ecs=2Eucla=2Eedu");
        assert_eq!(key(b"_kv_a"), "=5Fkv_a");
        for odd in [&b"*"[..], b">", b"..", b"$KV", b"=2E", b"_", b"a_", &[0xff; 256], &[0; 256]] {
            assert_eq!(id(key(odd).as_bytes()).as_deref(), Some(odd));
            assert!(is_of(key(odd).as_bytes(), odd) && !is_of(key(odd).as_bytes(), b"other"));
            assert!(key(odd).len() <= 3 * MAX_ID_BYTES);
        }
        for byte in 0..=255 {
            assert_eq!(id(key(&[byte, byte]).as_bytes()), Some(vec![byte, byte]));
        }
    }

    #[test]
    fn each_id_has_one_spelling() {
        let wrong: [&[u8]; 12] = [
            b"", b"=", b"=2", b"=2e", b"=41", b"_a", b"a=5F", b"a.b", b"a b", b"a=GG", b"=4", b"a=",
        ];
        for spelling in wrong {
            assert_eq!(id(spelling), None, "{}", spelling.escape_ascii());
            for client in [&b"A"[..], b"_a", b"a_", b"a.b", b"a b", b"a", b"=", b""] {
                let is_it = spelling == key(client).as_bytes();
                assert_eq!(is_of(spelling, client), is_it, "{}", spelling.escape_ascii());
            }
        }
        assert_eq!(id(&[b'a'; MAX_ID_BYTES + 1]), None);
    }
}
