//! Decimal numbers as text: digits, and perhaps a point with digits on both sides. They are
//! compared digit by digit and never become a float, because a float would accept `nan`, `1e9` and
//! `.5`, and could make two different timestamps equal.

use std::cmp::Ordering;

/// A decimal number without sign or exponent: `007`, `34.0689300`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    /// The digits before the point, at least one.
    pub whole: &'a [u8],
    /// The digits behind it: at least one if there is a point, else none.
    pub fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// Reads all of `text`, or nothing.
    pub fn parse(text: &'a [u8]) -> Option<Decimal<'a>> {
        let (number, rest) = Decimal::parse_prefix(text)?;
        rest.is_empty().then_some(number)
    }

    /// Reads the longest number that `text` begins with, and returns what follows it.
    pub fn parse_prefix(text: &'a [u8]) -> Option<(Decimal<'a>, &'a [u8])> {
        let (whole, rest) = digits(text);
        if whole.is_empty() {
            return None;
        }
        let Some(behind) = rest.strip_prefix(b".") else {
            return Some((Decimal { whole, fraction: b"" }, rest));
        };
        let (fraction, rest) = digits(behind);
        (!fraction.is_empty()).then_some((Decimal { whole, fraction }, rest))
    }
}

/// The digits that `text` begins with, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The value of at most 19 digits; the caller ensures both.
pub(super) fn integer(digits: &[u8]) -> u64 {
    // Eight at a time: digit by digit a timestamp takes 68 instructions more, 2 % of an IAMAT.
    let (words, rest) = digits.as_chunks();
    let value = words.iter().fold(0, |value, &word| value * EIGHT_DIGITS + eight_digits(word));
    rest.iter().fold(value, |value, digit| value * 10 + u64::from(digit - b'0'))
}

/// The value of eight digits: adjacent digits are combined into pairs, pairs into fours, fours into one.
fn eight_digits(word: [u8; 8]) -> u64 {
    let ones = u64::from_le_bytes(word) - EACH_BYTE * b'0' as u64;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

/// The inverse of [`eight_digits`]: a number is split into two of four digits, those into pairs, those into digits, each
/// time all at once.
fn digits_of(number: u64) -> [u8; 8] {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let high_pairs = ((fours * 5_243) >> 19) & 0x0000_007f_0000_007f; // divided by 100
    let pairs = high_pairs | ((fours - high_pairs * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f; // divided by 10
    let ones = tens | ((pairs - tens * 10) << 8);
    (ones + EACH_BYTE * b'0' as u64).to_le_bytes()
}

/// A number's text, written from its end to its beginning.
pub(super) struct NumberText {
    bytes: [u8; NUMBER_BYTES],
    begin: usize,
}

impl NumberText {
    /// An empty text.
    pub(super) fn new() -> NumberText {
        NumberText { bytes: [b'0'; NUMBER_BYTES], begin: NUMBER_BYTES }
    }

    /// Puts one byte in front.
    pub(super) fn put(&mut self, byte: u8) {
        self.begin -= 1;
        self.bytes[self.begin] = byte;
    }

    /// Puts `value` in front, in at least one digit.
    #[inline]
    pub(super) fn put_integer(&mut self, value: u64) {
        let (mut begin, mut rest) = (self.begin, value);
        // Two digits at a time: one by one an update takes 60 instructions more, 3 % of its total.
        while rest >= 10 {
            begin -= 2;
            self.bytes[begin..begin + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
            rest /= 100;
        }
        if rest > 0 {
            begin -= 1;
            self.bytes[begin] = b'0' + rest as u8;
        }
        self.begin = begin.min(self.begin - 1); // What is in front are zeros.
    }

    /// Puts a value of less than a billion in front, in nine digits.
    #[inline]
    pub(super) fn put_nine_digits(&mut self, value: u64) {
        let begin = self.begin - 9;
        self.bytes[begin] = b'0' + (value / EIGHT_DIGITS) as u8;
        self.bytes[begin + 1..self.begin].copy_from_slice(&digits_of(value % EIGHT_DIGITS));
        self.begin = begin;
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

pub(super) fn trim_zeros_before(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

fn trim_zeros_behind(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
    &digits[..digits.len() - zeros]
}

/// By value: `1`, `01` and `1.0` are equal.
impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (trim_zeros_before(self.whole), trim_zeros_before(other.whole));
        let (my_fraction, their_fraction) =
            (trim_zeros_behind(self.fraction), trim_zeros_behind(other.fraction));
        (mine.len().cmp(&theirs.len()))
            .then_with(|| mine.cmp(theirs))
            .then_with(|| my_fraction.cmp(their_fraction))
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

/// Room for the skew of any two clocks.
const NUMBER_BYTES: usize = 32;
/// 00 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < pairs.len() {
        pairs[value] = [b'0' + value as u8 / 10, b'0' + value as u8 % 10];
        value += 1;
    }
    pairs
};
/// The first number that has more.
const EIGHT_DIGITS: u64 = 100_000_000;
/// A 1 in each byte of a word.
const EACH_BYTE: u64 = u64::from_le_bytes([1; 8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_digits_on_both_sides() {
        for text in ["", ".", ".5", "5.", "1e9", "+1", "-1", "1_0", " 1", "1.2.3", "nan"] {
            assert!(Decimal::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn integers_print_as_they_were_read() {
        let mut values = vec![0, 1, u64::MAX];
        for power in (0..20).map(|digits| 10u64.pow(digits)) {
            values.extend([power - 1, power, power + 1, power.wrapping_mul(7) + power / 3]);
        }
        for value in values {
            let mut text = NumberText::new();
            text.put_integer(value);
            assert_eq!(text.as_slice(), value.to_string().as_bytes());
            if value < 10u64.pow(19) {
                assert_eq!(integer(text.as_slice()), value);
            }
        }
        let mut text = NumberText::new();
        text.put_integer(u64::MAX);
        text.put(b'.');
        text.put_nine_digits(12);
        assert_eq!(text.as_slice(), b"000000012.18446744073709551615");
        let mut text = NumberText::new();
        text.put_nine_digits(987_654_321);
        assert_eq!(text.as_slice(), b"987654321");
    }

    #[test]
    fn eight_digits_are_those_of_the_number() {
        let numbers = (0..10_000).flat_map(|four| [four, four * 10_000, four * 10_001]);
        for number in numbers.chain((0..EIGHT_DIGITS).step_by(9_973)) {
            let text = format!("{number:08}");
            assert_eq!(digits_of(number), text.as_bytes());
            assert_eq!(eight_digits(digits_of(number)), number);
        }
    }

    #[test]
    fn numbers_compare_by_value() {
        let number = |text: &'static str| Decimal::parse(text.as_bytes()).expect(text);
        assert_eq!(number("007.50"), number("7.5"));
        assert!(number("10") > number("9.999"));
        assert!(number("50.0000000000000000000001") > number("50"));
        assert!(number("0.09") < number("0.1"));
    }
}
