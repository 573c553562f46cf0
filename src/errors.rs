//! Errors of the operating system in words for an operator.

use std::io;

/// What the system says about an error, without its number: "Address already in use", and not
/// "Address already in use (os error 98)". A number helps nobody who can't look it up.
pub fn plain(error: &io::Error) -> String {
    without_numbers(&error.to_string())
}

/// An error may quote another one, so every number goes, also one in the middle of the text.
fn without_numbers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NUMBER_BEGINS) {
        let number = &rest[at + NUMBER_BEGINS.len()..];
        let digits =
            number.trim_start_matches('-').trim_start_matches(|c: char| c.is_ascii_digit());
        match digits.strip_prefix(')') {
            Some(behind) if digits.len() < number.len() => {
                kept.push_str(&rest[..at]);
                rest = behind;
            }
            _ => {
                kept.push_str(&rest[..at + NUMBER_BEGINS.len()]);
                rest = number;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// How the standard library begins the number of an error, behind its text.
const NUMBER_BEGINS: &str = " (os error ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_of_the_system_shows_its_number() {
        // Every number that a Unix may use, and some that none does.
        for number in -2..300 {
            let error = io::Error::from_raw_os_error(number);
            let text = plain(&error);
            assert!(!text.contains("os error"), "{number}: {text}");
            assert_eq!(format!("{text} (os error {number})"), error.to_string());
            let within = io::Error::other(format!("looking it up: {error}; once more"));
            assert_eq!(plain(&within), format!("looking it up: {text}; once more"));
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in ["", "it is closed", "a (os error b)", "(os error 5)", "x (os error )"] {
            assert_eq!(plain(&io::Error::other(text)), text);
        }
    }
}
