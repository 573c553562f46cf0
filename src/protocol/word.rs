//! Text, eight bytes at a time: a line has some seventy bytes, and one by one they cost more than all that is done with
//! them. The bytes of a word stand in it as in the text, the first one lowest.

/// The first eight bytes of a text; zeros stand where it has ended.
#[inline(always)]
pub(super) fn word(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => short(text),
    }
}

/// A text of less than eight bytes.
#[inline(always)]
fn short(text: &[u8]) -> u64 {
    match (text.first_chunk(), text.last_chunk()) {
        // They may overlap: the bytes that they share are the same.
        (Some(first), Some(last)) => {
            let first = u64::from(u32::from_le_bytes(*first));
            first | u64::from(u32::from_le_bytes(*last)) << (8 * (text.len() - 4))
        }
        _ => text.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The place of the first byte that is a space or less; none if all eight are greater.
#[inline(always)]
pub(super) fn first_up_to_space(word: u64) -> Option<usize> {
    // The difference may borrow from the bytes behind the first one that is a space or less.
    let found = word.wrapping_sub((b' ' as u64 + 1) * ONES) & !word & TOPS;
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

/// A bit for each byte that is no digit, that of the first byte lowest.
#[inline(always)]
pub(super) fn no_digits(word: u64) -> u64 {
    let values = word ^ (b'0' as u64 * ONES);
    let sums = (values & !TOPS) + (0x80 - 10) * ONES; // none carries into the next byte
    let marks = (sums | values) & TOPS;
    // The product has the bit of each byte once in its top byte, and elsewhere no two in one place.
    (marks >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// A 1 in each byte.
const ONES: u64 = u64::from_le_bytes([1; 8]);
/// The top bit of each byte.
const TOPS: u64 = ONES << 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_the_beginning_of_the_text() {
        let text = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        for length in 0..=text.len() {
            let mut bytes = [0; 8];
            bytes[..length.min(8)].copy_from_slice(&text[..length.min(8)]);
            assert_eq!(word(&text[..length]).to_le_bytes(), bytes);
        }
    }

    #[test]
    fn each_byte_is_judged_by_itself() {
        let others = [0, b' ', b'!', b'9', b':', 0x7f, 0x80, 0xff];
        for (byte, other) in (0..=255).flat_map(|byte| others.map(|other| (byte, other))) {
            for at in 0..8 {
                let mut bytes = [other; 8];
                bytes[at] = byte;
                let bits = (0..8).filter(|&at| !bytes[at].is_ascii_digit()).map(|at| 1 << at);
                assert_eq!(no_digits(u64::from_le_bytes(bytes)), bits.sum::<u64>(), "{bytes:?}");
                let first = bytes.iter().position(|&byte| byte <= b' ');
                assert_eq!(first_up_to_space(u64::from_le_bytes(bytes)), first, "{bytes:?}");
            }
        }
    }
}
