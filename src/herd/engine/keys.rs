//! Keys of the bucket: a client's id as one token of a subject, in letters that every tool for such buckets takes.
//!
//! Letters, digits, `-` and `_` stand for themselves; each other byte is `=` and two upper-case hexadecimal digits, and so
//! is a leading `_`, because keys that begin with `_kv` are reserved. `kiwi.cs.ucla.edu` is `kiwi=2Ecs=2Eucla=2Eedu`. Each
//! id has one spelling, and only this one is accepted back.

use crate::protocol::MAX_ID_BYTES;

/// Appends the key of a client.
pub(super) fn encode(id: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for (at, &byte) in id.iter().enumerate() {
        if is_plain(byte, at == 0) {
            out.push(byte);
        } else {
            out.extend([b'=', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
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
    byte.is_ascii_alphanumeric() || byte == b'-' || (byte == b'_' && !is_first)
}

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
        }
        assert_eq!(id(&[b'a'; MAX_ID_BYTES + 1]), None);
    }
}
