//! A latitude or longitude as the gazetteer's data writes it: exact, and printed with the same digits.

use std::fmt;

/// Degrees in steps of 0.00001, printed as the data writes them: with all five decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Degrees(i32);

impl Degrees {
    /// The inverse of printing; None for any other form than `-12.34567`, or beyond `greatest` degrees
    /// on either side.
    pub fn parse(text: &str, greatest: i32) -> Option<Degrees> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.')?;
        if !matches!(whole.len(), 1..=3) || fraction.len() != DECIMALS {
            return None;
        }
        let mut steps = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return None;
            }
            steps = steps * 10 + i32::from(digit - b'0'); // eight digits at most
        }
        let within = steps <= greatest * STEPS_PER_DEGREE;
        within.then_some(Degrees(if negative { -steps } else { steps }))
    }

    /// Those of so many steps, which must lie within the bounds of `parse`.
    pub(super) fn from_steps(steps: i32) -> Degrees {
        Degrees(steps)
    }

    /// The number of steps.
    pub(super) fn steps(self) -> i32 {
        self.0
    }

    /// The same as the nearest float, so the same as parsing the printed form as one.
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) / f64::from(STEPS_PER_DEGREE)
    }
}

impl Degrees {
    /// Appends what [`Degrees`] prints.
    pub fn write(self, out: &mut Vec<u8>) {
        if self.0 < 0 {
            out.push(b'-');
        }
        let steps = self.0.unsigned_abs();
        write_number(steps / STEPS_PER_DEGREE.unsigned_abs(), 1, out);
        out.push(b'.');
        write_number(steps % STEPS_PER_DEGREE.unsigned_abs(), DECIMALS, out);
    }
}

impl fmt::Display for Degrees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// Appends a number in at least so many digits, up to ten.
pub(super) fn write_number(number: u32, digits: usize, out: &mut Vec<u8>) {
    let mut text = [b'0'; u32::MAX.ilog10() as usize + 1];
    let (mut begin, mut rest) = (text.len(), number);
    while rest > 0 {
        begin -= 1;
        text[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text[begin.min(text.len() - digits)..]);
}

const DECIMALS: usize = 5;
const STEPS_PER_DEGREE: i32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_print_as_they_were_written() {
        for text in ["0.00000", "-0.00001", "9.00009", "-54.93355", "179.99999", "-180.00000"] {
            let degrees = Degrees::parse(text, 180);
            assert_eq!(degrees.map(|it| it.to_string()).as_deref(), Some(text));
            assert_eq!(degrees.map(Degrees::to_f64), text.parse().ok(), "{text}");
        }
        for text in ["", "1", "1.0000", "1.000000", ".00000", "+1.00000", "1.0000x", "180.00001"] {
            assert_eq!(Degrees::parse(text, 180), None, "{text}");
        }
    }
}
