//! The fields of an update as nearly all clients write them: one space between two fields, and the location in decimal
//! degrees without an altitude.
//!
//! ```text
//!   kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997
//!   id: up to the    the places of all bytes of the rest that are no digits stand in one number, so the end of
//!   first space      a run of digits is found by one instruction
//! ```
//!
//! What is read here is valid, and the same as the general parsers read. Of any other text nothing is read: whether it is
//! valid, and why not, they decide. With them an IAMAT takes 650 instructions more, 40 % of its total.

use super::decimal::{Decimal, integer};
use super::request::MAX_ID_BYTES;
use super::time::{Skew, Timestamp};
use super::word::{first_up_to_space, no_digits, word};

/// The first three fields of an update, and what follows them.
pub(super) struct PlainFields<'a> {
    pub id: &'a [u8],
    pub location: &'a [u8],
    pub timestamp: Timestamp<'a>,
    /// Its caller sees whether the last number has ended: the text may be longer than what is looked at.
    pub rest: &'a [u8],
}

/// Reads what follows a command and a space.
#[inline(always)]
pub(super) fn fields(text: &[u8]) -> Option<PlainFields<'_>> {
    let (id, rest) = up_to_space(text)?;
    if !(1..=MAX_ID_BYTES).contains(&id.len()) {
        return None;
    }
    let numbers = Numbers::of(&rest[..rest.len().min(MAX_BYTES)]);
    let latitude = numbers.angle(0, 2, 90)?;
    let longitude = numbers.angle(latitude, 3, 180)?;
    let begin = numbers.behind_space(longitude)?;
    let (seconds, end) = numbers.decimal(begin)?;
    let (location, text, rest) = (&rest[..longitude], &rest[begin..end], &rest[end..]);
    Some(PlainFields { id, location, timestamp: Timestamp::of(text, &seconds)?, rest })
}

/// A skew, if this is the text of one as [`Skew::write`] writes it.
#[inline(always)]
pub(super) fn skew(text: &[u8]) -> Option<Skew> {
    let numbers = Numbers::of(&text[..text.len().min(MAX_BYTES)]);
    let (number, end) = numbers.decimal(1)?;
    let has_no_zero_before = number.whole[0] != b'0' || number.whole.len() == 1;
    let is_whole = end == text.len() && has_no_zero_before;
    match text[0] {
        b'+' if is_whole => Skew::of(&number, false),
        b'-' if is_whole => Skew::of(&number, true),
        _ => None,
    }
}

/// A text up to a space, and what follows that.
#[inline(always)]
pub(super) fn up_to_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 0;
    let end = loop {
        match first_up_to_space(word(text.get(end..)?)) {
            Some(place) => break end + place,
            None => end += 8,
        }
    };
    let [b' ', rest @ ..] = &text[end.min(text.len())..] else {
        return None;
    };
    Some((&text[..end], rest))
}

/// A text, and a bit for each of its bytes that is no digit, and for its end.
struct Numbers<'a> {
    text: &'a [u8],
    no_digits: u64,
}

impl<'a> Numbers<'a> {
    /// Of a text of at most [`MAX_BYTES`].
    #[inline(always)]
    fn of(text: &'a [u8]) -> Numbers<'a> {
        let (words, rest) = text.as_chunks();
        // Zeros stand behind the end, and are no digits.
        let last = no_digits(word(rest)) << (8 * words.len());
        let each = words.iter().enumerate();
        let bits = each.map(|(number, word)| no_digits(u64::from_le_bytes(*word)) << (8 * number));
        Numbers { text, no_digits: bits.fold(last, |all, bits| all | bits) }
    }

    /// Where the digits end that begin at a place in the text or at its end.
    #[inline(always)]
    fn end(&self, begin: usize) -> usize {
        begin + (self.no_digits >> begin).trailing_zeros() as usize
    }

    /// The decimal number that begins there, and its end.
    #[inline(always)]
    fn decimal(&self, begin: usize) -> Option<(Decimal<'a>, usize)> {
        let point = self.end(begin);
        let whole = self.text.get(begin..point).filter(|digits| !digits.is_empty())?;
        if self.text.get(point) != Some(&b'.') {
            return Some((Decimal { whole, fraction: b"" }, point));
        }
        let end = self.end(point + 1);
        let fraction = self.text.get(point + 1..end).filter(|digits| !digits.is_empty())?;
        Some((Decimal { whole, fraction }, end))
    }

    /// The end of the latitude or longitude that begins there, if it has at most so many digits before its point and is
    /// less than `greatest`.
    #[inline(always)]
    fn angle(&self, begin: usize, digits: usize, greatest: u64) -> Option<usize> {
        if !matches!(self.text.get(begin), Some(b'+' | b'-')) {
            return None;
        }
        let (number, end) = self.decimal(begin + 1)?;
        (number.whole.len() <= digits && integer(number.whole) < greatest).then_some(end)
    }

    /// The place behind a space that stands there.
    #[inline(always)]
    fn behind_space(&self, place: usize) -> Option<usize> {
        (self.text.get(place) == Some(&b' ')).then_some(place + 1)
    }
}

/// The bits of a number, less one for the end of the text.
const MAX_BYTES: usize = u64::BITS as usize - 1;

#[cfg(test)]
mod tests {
    use super::super::{ClientRequest, Dialect, FromDialler};

    /// Both parsers read the same, as far as the one for plain lines reads anything.
    fn check(line: &[u8]) -> bool {
        let any = format!("{:?}", ClientRequest::parse_any(line, Dialect::Report));
        let line = line.to_vec();
        assert_eq!(format!("{:?}", ClientRequest::parse(&line, Dialect::Report)), any);
        let read = line.strip_prefix(b"IAMAT ").and_then(super::fields);
        read.is_some_and(|fields| fields.rest.is_empty())
    }

    /// The line with one byte replaced, added or left out at each place.
    fn near(line: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        (0..=line.len()).flat_map(move |at| {
            let (before, rest) = line.split_at(at);
            let behind = rest.get(1..).unwrap_or_default();
            let bytes = b" +-./059:\tX\0\x80".iter();
            let replaced = bytes.clone().map(move |&byte| [before, &[byte], behind].concat());
            let added = bytes.map(move |&byte| [before, &[byte], rest].concat());
            replaced.chain(added).chain([[before, behind].concat()])
        })
    }

    #[test]
    fn what_is_read_is_what_the_general_parser_reads() {
        for line in [
            &b"IAMAT k +9-8 3"[..],
            b"IAMAT k +89.9-179.5 1.5",
            b"IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997",
            b"IAMAT an-id-of-16-bytes +00.000000000000000-000.00000000000000 1559865055",
            b"IAMAT 8-bytes. +34.068930-118.445127 123456789012345678.918963997123456789012",
        ] {
            assert!(check(line), "{}", line.escape_ascii());
            for line in near(line) {
                check(&line);
            }
        }
        for line in near(b"IAMAT k +9-8 3") {
            for line in near(&line) {
                check(&line);
            }
        }
    }

    /// Where the bits of the number end is in each part of the text once.
    #[test]
    fn a_long_text_is_read_like_a_short_one() {
        let mut read = 0;
        for zeros in 1..70 {
            for line in [
                format!("IAMAT k +1.{}-2 3.5", "0".repeat(zeros)),
                format!("IAMAT k +1-2.{} 1559865055.918963997", "0".repeat(zeros)),
                format!("IAMAT k +34.068930-118.445127 1.{}", "0".repeat(zeros)),
                format!("IAMAT {} +34.068930-118.445127 1.5", "k".repeat(4 * zeros)),
            ] {
                read += usize::from(check(line.as_bytes()));
            }
        }
        assert!((150..250).contains(&read), "{read} of 276 are short enough");
    }

    #[test]
    fn what_is_read_of_an_update_is_what_the_general_parser_reads() {
        let (mut read, mut left) = (0, 0);
        let update =
            b"UPDATELOC kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997 A +0.263873386";
        assert!(FromDialler::parse(update).is_ok());
        for line in [&update[..], b"UPDATELOC k +1-2 3 A -4.000000005"].into_iter().flat_map(near) {
            let any = format!("{:?}", FromDialler::parse_any(&line));
            assert_eq!(format!("{:?}", FromDialler::parse(&line)), any);
            let Some((update, _)) = FromDialler::parse_plain(&line) else {
                left += 1;
                continue;
            };
            // What is kept of it is the line itself.
            let mut written = Vec::new();
            update.write_updateloc(&mut written);
            assert_eq!(written.strip_suffix(b"\n"), Some(&line[..]));
            read += 1;
        }
        assert!(read > 300 && left > 300, "{read} read, {left} left");
    }

    #[test]
    fn a_line_of_another_form_is_left_to_the_general_parser() {
        let long = [b"IAMAT ", &[b'k'; 257][..], b" +1-2 3"].concat();
        for line in [
            &b"IAMAT k  +1-2 3"[..],
            b"IAMAT k +1-2+3 3",
            b"IAMAT k +1-2/ 3",
            b"IAMAT k +3404.1-2 3",
            b"IAMAT k +90-2 3",
            b"IAMAT k +1-180 3",
            b"IAMAT k +1-2 3 ",
            b"IAMAT k +1-2 1234567890123456789",
            b"IAMAT k +1-2 1.0000000000000000000000000000000000000000",
            &long,
        ] {
            assert!(!check(line), "{}", line.escape_ascii());
        }
    }
}
