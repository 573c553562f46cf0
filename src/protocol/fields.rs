//! A line's fields (section 1): separated by runs of space, TAB, CR, FF or VT. Such runs at the line's
//! beginning and end are ignored.

/// More fields than any line of the protocol has; a line with more is invalid.
const MAX_FIELDS: usize = 8;

/// The fields of one line, in order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    fields: [&'a [u8]; MAX_FIELDS],
    count: usize,
}

impl<'a> Fields<'a> {
    /// The fields as a slice, to be matched against a pattern. Of a line with more than eight
    /// fields only the first eight are kept: still too many for each command.
    pub fn as_slice(&self) -> &[&'a [u8]] {
        &self.fields[..self.count]
    }
}

/// Splits a line, given without its ending, into its fields.
pub fn split(line: &[u8]) -> Fields<'_> {
    let mut fields = Fields { fields: [b""; MAX_FIELDS], count: 0 };
    let mut rest = line;
    while fields.count < MAX_FIELDS {
        let (field, behind) = rest.split_at(field_bytes(rest));
        if !field.is_empty() {
            fields.fields[fields.count] = field;
            fields.count += 1;
        }
        match behind {
            [_, behind @ ..] => rest = behind,
            [] => break,
        }
    }
    fields
}

/// The number of bytes before the first white space.
fn field_bytes(text: &[u8]) -> usize {
    // Eight at a time: byte by byte an IAMAT takes 190 instructions more, 6 % of its total.
    let (words, rest) = text.as_chunks();
    for (number, word) in words.iter().enumerate() {
        let mut found = up_to_space(u64::from_le_bytes(*word));
        while found != 0 {
            let place = found.trailing_zeros() as usize / 8;
            if is_white_space(word[place]) {
                return 8 * number + place;
            }
            found &= found - 1;
        }
    }
    let space = rest.iter().position(|&byte| is_white_space(byte));
    space.map_or(text.len(), |place| 8 * words.len() + place)
}

fn is_white_space(byte: u8) -> bool {
    // One comparison is enough for nearly every byte of a line.
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\r' | b'\x0c' | b'\x0b')
}

/// Marks each byte that is a space or less by its top bit; after the first such byte it may also mark
/// one that is not, because the subtraction borrows from the next byte.
fn up_to_space(word: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    word.wrapping_sub(EACH * (b' ' as u64 + 1)) & !word & (EACH << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_of_a_word_separates_or_does_not() {
        let pairs = (0..=255).flat_map(|byte| [(byte, b'!'), (byte, b' ')]);
        for (place, (byte, other)) in pairs.flat_map(|pair| (0..20).map(move |at| (at, pair))) {
            let mut line = [b'x'; 21];
            (line[place], line[place + 1]) = (byte, other);
            check(&line);
            line.swap(place, place + 1); // Behind a space the subtraction borrows.
            check(&line);
        }
    }

    fn check(line: &[u8]) {
        let expected = line.split(|byte| b" \t\r\x0c\x0b".contains(byte));
        let expected: Vec<&[u8]> = expected.filter(|field| !field.is_empty()).collect();
        assert_eq!(split(line).as_slice(), expected, "{line:?}");
    }

    #[test]
    fn of_more_than_eight_fields_the_first_eight_are_shown() {
        assert_eq!(split(b" a b c d e f g h i j ").as_slice().concat(), b"abcdefgh");
        assert!(split(b" \t\r\x0c\x0b \t\r\x0c\x0b ").as_slice().is_empty());
    }
}
