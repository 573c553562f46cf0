//! Common parts of messages: system errors in plain words, and suggestions for mistyped names.

use std::fmt;

/// The text of an error without the system's number: "Address already in use", not "Address already in use (os
/// error 98)". Also for errors of libraries that quote a system error.
pub fn plain(error: &impl fmt::Display) -> String {
    without_numbers(&error.to_string())
}

/// An error may quote another one, so every number is removed, also in the middle of the text.
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

/// "1 client is", "2 clients are".
pub fn clients_are(count: u64) -> String {
    if count == 1 { "1 client is".to_owned() } else { format!("{count} clients are") }
}

/// A reason as the end of a sentence: with a full stop, unless it asks something at its end.
pub fn ended(reason: &str) -> impl fmt::Display {
    format!("{reason}{}", if reason.ends_with('?') { "" } else { "." })
}

/// The same text without API keys, because a message may quote a key that was typed in the wrong place. Recognises
/// Google's by their beginning.
pub fn without_keys(text: &str) -> String {
    let is_of_key = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    let mut parts = text.split(KEY_BEGINS);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(KEY_BEGINS);
        let rest = part.trim_start_matches(is_of_key);
        kept.push_str(if rest.len() < part.len() { "…" } else { "" });
        kept.push_str(rest);
    }
    kept
}

/// The most similar name, for "did you mean": at most every third letter may differ, so names of one or two letters
/// are never suggested for others. Ignores case.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_NAME_BYTES {
        return None; // Too long to be a mistyped name, and slow to compare.
    }
    let word = word.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&word, &name.to_lowercase());
    let near = |name: &&str| {
        let distance = distance(name);
        3 * distance <= word.chars().count().max(name.chars().count())
    };
    names.into_iter().filter(near).min_by_key(|name| distance(name))
}

/// `; did you mean Goloman?`, or nothing.
pub fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, names).map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// Names, separated by commas; of very many only the first ones.
pub fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_LISTED).map(AsRef::as_ref).collect();
    let left = names.len() - shown.len();
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    shown.join(", ") + &more
}

/// A longer list would not be read.
const NAMES_LISTED: usize = 20;
/// No option, key or server has a longer name.
const MAX_NAME_BYTES: usize = 100;
/// How each of Google's API keys begins.
const KEY_BEGINS: &str = "AIza";
/// How the standard library begins the number of an error, behind its text.
const NUMBER_BEGINS: &str = " (os error ";

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_reason_that_asks_something_has_no_full_stop_behind_it() {
        assert_eq!(ended("connection refused").to_string(), "connection refused.");
        assert_eq!(ended("what came is no TLS; is it?").to_string(), "what came is no TLS; is it?");
    }

    #[test]
    fn system_errors_show_no_number() {
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
    fn a_key_is_taken_out_of_a_text() {
        for (text, left) in [
            (
                "no server named \"AIzaSy-1_x\" (servers: A)",
                "no server named \"AIza…\" (servers: A)",
            ),
            ("AIzaA AIzaB", "AIza… AIza…"),
            ("AIza... AIza", "AIza... AIza"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_keys(text), left);
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let servers = ["Goloman", "Hands", "Holiday", "Wilkes", "Welsh"];
        for (word, name) in [
            ("Golaman", Some("Goloman")),
            ("GOLOMAN", Some("Goloman")),
            ("Hadns", Some("Hands")),
            ("holidays", Some("Holiday")),
            ("Wells", None),
            ("Welch", Some("Welsh")),
            ("", None),
            ("Hill", None),
        ] {
            assert_eq!(nearest(word, servers), name, "{word}");
        }
        assert_eq!(nearest("B", ["A", "C"]), None);
        assert_eq!(nearest("a", ["A", "C"]), Some("A"));
        assert_eq!(nearest("--heard", ["--herd", "--help"]), Some("--herd"));
        assert_eq!(nearest(&"x".repeat(1_000_000), ["x"]), None);
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in ["", "it is closed", "a (os error b)", "(os error 5)", "x (os error )"] {
            assert_eq!(plain(&io::Error::other(text)), text);
        }
    }
}
