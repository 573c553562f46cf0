//! A configuration's text as sections, keys and values, each with its place, so that a mistake is reported with file,
//! line and column.
//!
//! This module does not know which keys exist. Its caller asks a section for each of them, and at the end the section
//! reports the keys that were never requested. Mistakes are collected and reported together.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::units::{parse_duration, parse_size, written};
use super::{ConfigError, ConfigFault, FAULTS_SHOWN};
use crate::errors::did_you_mean;

/// The text of a configuration, where it came from, and its mistakes.
pub struct Document<'t> {
    path: &'t Path,
    text: &'t str,
    /// Where each line begins.
    lines: OnceCell<Vec<usize>>,
    faults: RefCell<Vec<(usize, String)>>,
    /// The keys that were requested from the sections, as `limits.line_bytes`.
    keys: RefCell<BTreeSet<String>>,
}

/// One table of a document.
pub struct Section<'d, 't> {
    document: &'d Document<'t>,
    /// Its name in messages: `limits`, `server A`; empty for the top.
    heading: String,
    table: DeTable<'t>,
    /// The key under which it was found; none for the top.
    path: &'static str,
    /// Where it begins.
    at: Range<usize>,
    /// The keys that were requested, and those of them that are present.
    known: Vec<&'static str>,
    given: Vec<&'static str>,
}

/// Hints for keys that are not where they should be.
pub struct Hints {
    /// Keys, and where they belong.
    pub elsewhere: &'static [(&'static str, &'static str)],
    /// Old names of keys, and the present ones.
    pub renamed: &'static [(&'static str, &'static str)],
}

impl<'t> Document<'t> {
    pub fn new(path: &'t Path, text: &'t str) -> Document<'t> {
        Document {
            path,
            text,
            lines: OnceCell::new(),
            faults: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    /// The top table: the keys before any section, and the sections.
    pub fn top(&self) -> Result<Section<'_, 't>, ConfigError> {
        match DeTable::parse(self.text) {
            Ok(table) => Ok(self.section("", table.span(), table.into_inner())),
            Err(error) => {
                let at = error.span().unwrap_or(0..0);
                let text = self.unreadable(error.message(), &at);
                self.fault(&at, text);
                Err(self.error())
            }
        }
    }

    /// The folder of the file, where relative paths in it begin: the working directory for a pipe.
    pub fn folder(&self) -> PathBuf {
        let is_stream = self.path.starts_with("/dev") || self.path.starts_with("/proc");
        let folder = self.path.parent().filter(|_| !is_stream);
        folder.map(Path::to_owned).unwrap_or_default()
    }

    /// Adds a mistake at its place.
    pub fn fault(&self, at: &Range<usize>, text: String) {
        self.faults.borrow_mut().push((at.start, text));
    }

    /// Every key that was requested from a section; those within a section as `limits.line_bytes`.
    pub fn known_keys(&self) -> Vec<String> {
        self.keys.borrow().iter().cloned().collect()
    }

    /// Whether the next mistake will not be shown, so that its explanation can be short.
    pub fn has_many(&self) -> bool {
        self.faults.borrow().len() >= FAULTS_SHOWN
    }

    /// Fails if there are mistakes so far.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.faults.borrow().is_empty() { Ok(()) } else { Err(self.error()) }
    }

    /// The number of a line, counted from 1.
    pub fn line(&self, at: &Range<usize>) -> usize {
        let lines = self.lines.get_or_init(|| {
            let ends = self.text.match_indices('\n');
            std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect()
        });
        lines.partition_point(|begin| *begin <= at.start)
    }

    fn error(&self) -> ConfigError {
        let mut faults = self.faults.borrow().clone();
        faults.sort();
        let more = faults.len().saturating_sub(FAULTS_SHOWN);
        // Only for mistakes that are shown, because counting lines is slow.
        let numbered = faults.into_iter().take(FAULTS_SHOWN).map(|(at, text)| {
            let (line, column) = place(self.text, at);
            ConfigFault { line, column, text }
        });
        ConfigError::File { path: self.path.to_owned(), faults: numbered.collect(), more }
    }

    /// Why the text is not valid TOML; for frequent mistakes without the parser's terms.
    fn unreadable(&self, message: &str, at: &Range<usize>) -> String {
        let begins = |(begin, _): &&(&str, &str)| message.starts_with(begin);
        match TOML_MISTAKES.iter().find(begins) {
            _ if message.starts_with("duplicate key") => {
                let key = self.excerpt(at);
                let servers =
                    if key == "server" { ", or write [[server]] for each server" } else { "" };
                format!("`{key}` is defined twice; define it once, with all of its keys{servers}")
            }
            Some((_, plain)) => (*plain).to_owned(),
            None => format!("this is not valid TOML: {message}"),
        }
    }

    fn section(&self, path: &'static str, at: Range<usize>, table: DeTable<'t>) -> Section<'_, 't> {
        let (known, given) = (Vec::new(), Vec::new());
        Section { document: self, heading: path.to_owned(), table, path, at, known, given }
    }

    /// A value as it is written, cut to the length of a message.
    fn excerpt(&self, at: &Range<usize>) -> String {
        let text = self.text.get(at.clone()).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let excerpt: String = line.chars().take(MAX_EXCERPT_CHARS).collect();
        let more = if excerpt.len() < text.len() { "…" } else { "" };
        let escape = |letter: char| match letter.is_control() {
            true => letter.escape_unicode().to_string(),
            false => letter.to_string(),
        };
        excerpt.chars().map(escape).collect::<String>() + more
    }
}

impl<'d, 't> Section<'d, 't> {
    /// Where it begins.
    pub fn at(&self) -> &Range<usize> {
        &self.at
    }

    /// Whether a key that was requested is present, valid or not.
    pub fn has(&self, key: &str) -> bool {
        self.given.contains(&key)
    }

    /// Whether nothing is in it that was not requested yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether a key that was not requested yet is present and its value is an empty list.
    pub fn has_empty_list(&self, key: &str) -> bool {
        let value = self.table.get(key).map(Spanned::get_ref);
        matches!(value, Some(DeValue::Array(values)) if values.is_empty())
    }

    /// Sets its name in messages.
    pub fn call(&mut self, heading: String) {
        self.heading = heading;
    }

    /// The section of that name within this one; an empty one if there is none.
    pub fn section(&mut self, key: &'static str) -> Section<'d, 't> {
        let document = self.document;
        let Some(value) = self.take(key) else {
            return document.section(key, self.at.clone(), DeTable::new());
        };
        let at = value.span();
        match value.into_inner() {
            DeValue::Table(table) => document.section(key, at, table),
            _ => {
                self.refuse(key, &at, &format!("a section, [{key}]"));
                document.section(key, at, DeTable::new())
            }
        }
    }

    /// The same for a section whose keys are those of the program, as `[tls.clients]`; `path` is its whole name.
    pub fn subsection(&mut self, key: &'static str, path: &'static str) -> Section<'d, 't> {
        let mut section = self.section(key);
        (section.path, section.heading) = (path, path.to_owned());
        section
    }

    /// The sections of that name, `[[key]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'d, 't>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let (at, expected) = (value.span(), format!("sections that begin with [[{key}]]"));
        let DeValue::Array(values) = value.into_inner() else {
            self.refuse(key, &at, &expected);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for value in values {
            let at = value.span();
            match value.into_inner() {
                DeValue::Table(table) => {
                    sections.push(self.document.section(key, at, table));
                }
                _ => self.refuse(key, &at, &expected),
            }
        }
        sections
    }

    /// A text and its place.
    pub fn text(&mut self, key: &'static str) -> Option<Spanned<String>> {
        let value = self.take(key)?;
        self.as_text(value, key)
    }

    /// A list of texts, with an example for the message about a value that is no list.
    pub fn texts(&mut self, key: &'static str, example: &str) -> Vec<Spanned<String>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let at = value.span();
        let DeValue::Array(values) = value.into_inner() else {
            self.refuse(key, &at, &format!("a list, such as {example}"));
            return Vec::new();
        };
        values.into_iter().filter_map(|value| self.as_text(value, key)).collect()
    }

    /// A text that `parse` accepts.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Option<Spanned<T>> {
        self.parsed_or(key, |text| parse(text).ok_or(""), expected)
    }

    /// The same, with a `parse` whose error adds to the text about what is expected.
    pub fn parsed_or<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
        expected: &str,
    ) -> Option<Spanned<T>> {
        let value = self.take(key)?;
        let at = value.span();
        let parsed = match value.get_ref() {
            DeValue::String(text) => parse(text),
            _ => Err(""),
        };
        match parsed {
            Ok(parsed) => Some(Spanned::new(at, parsed)),
            Err(why) => {
                self.refuse(key, &at, &format!("{expected}{why}"));
                None
            }
        }
    }

    /// A whole number.
    pub fn count(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<usize>,
        setting: &mut usize,
    ) {
        let Some(value) = self.take(key) else {
            return;
        };
        match whole_number(value.get_ref()).filter(|number| allowed.contains(number)) {
            Some(number) => *setting = number,
            None => {
                let (least, most) = allowed.into_inner();
                let expected = format!("a whole number from {least} to {most}");
                self.refuse(key, &value.span(), &expected);
            }
        }
    }

    /// A number of bytes, with or without a unit; at most `most`.
    pub fn size(&mut self, key: &'static str, most: usize, setting: &mut usize) {
        let Some(value) = self.take(key) else {
            return;
        };
        let size = match value.get_ref() {
            DeValue::String(text) => parse_size(text),
            value => whole_number(value),
        };
        match size.filter(|size| (1..=most).contains(size)) {
            Some(size) => *setting = size,
            None => {
                let expected =
                    format!("a number of bytes from 1 to {most}, such as 4096 or \"4KiB\"");
                self.refuse(key, &value.span(), &expected);
            }
        }
    }

    /// True or false.
    pub fn flag(&mut self, key: &'static str, setting: &mut bool) {
        let Some(value) = self.take(key) else {
            return;
        };
        match value.get_ref() {
            DeValue::Boolean(flag) => *setting = *flag,
            _ => self.refuse(key, &value.span(), "true or false"),
        }
    }

    /// A time, at most `most`; without an upper limit if that is [`Duration::MAX`].
    pub fn duration(&mut self, key: &'static str, most: Duration, setting: &mut Duration) {
        let parse = |text: &str| match parse_duration(text)? {
            time if time <= most => Ok(time),
            _ => Err(""),
        };
        let range = match most {
            Duration::MAX => String::new(),
            most => format!(" from \"1ms\" to \"{}\"", written(most)),
        };
        let expected = format!("a time{range}, such as \"500ms\", \"60s\", \"1m30s\" or \"1h\"");
        if let Some(time) = self.parsed_or(key, parse, &expected) {
            *setting = time.into_inner();
        }
    }

    /// Reports a value that a key cannot have.
    pub fn refuse(&self, key: &str, at: &Range<usize>, expected: &str) {
        let excerpt = self.document.excerpt(at);
        let text = format!("invalid {}: {excerpt}; expected {expected}", self.label(key));
        self.document.fault(at, text);
    }

    /// Reports a required key that is missing.
    pub fn misses(&self, key: &str, expected: &str) {
        let text = format!("{} is missing; expected {expected}", self.label(key));
        self.document.fault(&self.at, text);
    }

    /// Reports every key that was never requested.
    pub fn finish(self, hints: &Hints) {
        let within = |key: &&str| match self.path {
            "" => (*key).to_owned(),
            path => format!("{path}.{key}"),
        };
        // A table of keys that are not settings, such as log.levels, counts as one key.
        if !self.heading.contains('.') || self.path.contains('.') {
            self.document.keys.borrow_mut().extend(self.known.iter().map(within));
        }
        let mut keys: Vec<_> = self.table.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        for key in keys {
            let name = key.get_ref().as_ref();
            let place = match self.heading.as_str() {
                "" => String::new(),
                heading => format!(" of {heading}"),
            };
            let remedy = self.remedy(name, hints);
            let text = format!("unknown key `{}`{place}{remedy}", shortened(name));
            self.document.fault(&key.span(), text);
        }
    }

    /// What to do about an unknown key.
    fn remedy(&self, name: &str, hints: &Hints) -> String {
        let home = |key: &str| hints.elsewhere.iter().find(|(other, _)| *other == key);
        if let Some((_, new)) = hints.renamed.iter().find(|(old, _)| *old == name) {
            return match home(new) {
                Some((_, section)) if !self.known.contains(new) => {
                    format!(": it is now `{new}`, and belongs {section}")
                }
                _ => format!(": it is now `{new}`"),
            };
        }
        if is_of_api_key(name) {
            return "; give an API key by --places-key-file or the variable HERD_PLACES_KEY".into();
        }
        match home(name) {
            Some((_, section)) => format!("; it belongs {section}"),
            None if self.document.has_many() => String::new(),
            None => match did_you_mean(name, self.known.iter().copied()) {
                meant if meant.is_empty() => format!("; known keys: {}", self.known.join(", ")),
                meant => meant,
            },
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        self.known.push(key);
        let value = self.table.remove(key);
        self.given.extend(value.is_some().then_some(key));
        value
    }

    fn as_text(&self, value: Spanned<DeValue<'t>>, key: &str) -> Option<Spanned<String>> {
        let at = value.span();
        match value.into_inner() {
            DeValue::String(text) => Some(Spanned::new(at, text.into_owned())),
            _ => {
                self.refuse(key, &at, "text in quotation marks");
                None
            }
        }
    }

    /// How messages name a key.
    fn label(&self, key: &str) -> String {
        match self.heading.split_once(' ') {
            Some(_) => format!("`{key}` of {}", self.heading),
            None if self.heading.is_empty() => format!("`{key}`"),
            None => format!("`{}.{key}`", self.heading),
        }
    }
}

/// Line and column of a byte, both counted from 1, columns in characters.
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
    (line, column)
}

/// Whether this is a likely name for an API key or its file, which have no place in a file that all servers share.
fn is_of_api_key(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    !name.starts_with("nkey") && ["key", "key_file", "keyfile"].iter().any(|it| name.ends_with(it))
}

fn whole_number(value: &DeValue<'_>) -> Option<usize> {
    match value {
        DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(MAX_EXCERPT_CHARS).flat_map(char::escape_debug).collect()
}

/// Frequent mistakes in TOML: how the parser's message begins, and plain words.
const TOML_MISTAKES: [(&str, &str); 14] = [
    (
        "string values must be quoted",
        "expected a value: text in quotation marks, a number without a unit, or true or false",
    ),
    ("invalid basic string, expected `\"`", "the closing quotation mark is missing"),
    ("invalid literal string, expected `'`", "the closing quotation mark is missing"),
    ("invalid multi-line", "the closing quotation marks are missing"),
    ("unclosed", "the closing bracket is missing"),
    ("missing comma between array elements", "a comma or the list's closing bracket is missing"),
    ("carriage return must be followed", "a line must end with LF or CR LF, not with CR alone"),
    ("cannot extend value of type", "this key already has a value, so it cannot be a section"),
    ("invalid basic string, expected non", "write a control character as \\u and four digits"),
    ("key with no value", "expected `=` and a value after the key"),
    ("unquoted keys cannot be empty", "expected a key"),
    ("invalid key-value pair", "expected a key"),
    ("cannot recurse further", "the brackets are nested too deeply"),
    ("recursion limit", "the key has too many dots"),
];
/// Characters of a value in a message.
const MAX_EXCERPT_CHARS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_and_a_column_of_characters() {
        let text = "a = 1\nü = 2\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 5), (1, 6));
        assert_eq!(place(text, 6), (2, 1));
        assert_eq!(place(text, 8), (2, 2));
        assert_eq!(place(text, 1_000), (3, 1));
    }
}
