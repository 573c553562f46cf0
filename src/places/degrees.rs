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

    /// The same as the nearest float, so the same as parsing the printed form as one.
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) / f64::from(STEPS_PER_DEGREE)
    }
}

impl fmt::Display for Degrees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let steps = self.0.unsigned_abs();
        let (whole, fraction) =
            (steps / STEPS_PER_DEGREE.unsigned_abs(), steps % STEPS_PER_DEGREE.unsigned_abs());
        write!(f, "{sign}{whole}.{fraction:0DECIMALS$}")
    }
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
