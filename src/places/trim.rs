//! A service's answer, cut to the client's bound and otherwise unchanged (protocol,
//! section 3, WHATSAT).
//!
//! ```text
//!   {"next":…, "results" : [ {…}, {…}, {…}, {…} ], "status":…}
//!   └──────── kept, up to the end ────┘         └── kept ────┘
//!             of the last kept element          from the end of the last element
//! ```
//!
//! The body is cut by offsets and never printed again: a parser that builds values would turn 1.50 into 1.5
//! and `\u00e9` into é. Runs of line ends are collapsed without looking at the JSON around them, because
//! JSON allows no raw line end inside a string.
//!
//! Promises: the kept bytes are the service's own; a blank line ends the result, and there is none
//! before it; any input gives a result or an [`InvalidAnswer`], and takes time linear in
//! its length, no stack that grows with its depth, and memory for its own bytes, the keys of its top
//! level and the places where a client may want it cut. The service's JSON is parsed once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::list::List;
use super::scan::Scanner;

/// Why a service's answer can't be passed on. Its text is fit for an `error_message`, and quotes
/// nothing of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidAnswer {
    /// The body is not UTF-8 throughout, as JSON has to be.
    NotText,
    /// The body is not one JSON value and nothing else. Both count from 1.
    NotJson { line: usize, column: usize },
    /// The body is JSON, but an array, a string, null …
    NotAnObject,
    /// The object has a duplicate key: it is undefined which of the two counts.
    RepeatedKey,
    /// The object has no such list. Some services leave out an empty one: for those the caller takes this
    /// variant for an answer without results.
    NoList { list: String },
    /// The list's value is not an array.
    NotAList { list: String },
    /// An element of the list is malformed.
    BadPlace { what: &'static str },
}

impl fmt::Display for InvalidAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The Places service's answer is unusable: ")?;
        match self {
            Self::NotText => f.write_str("it is not UTF-8."),
            Self::NotJson { line, column } => {
                write!(f, "it is not JSON (line {line}, column {column}).")
            }
            Self::NotAnObject => f.write_str("it is not a JSON object."),
            Self::RepeatedKey => f.write_str("it has the same key twice."),
            Self::NoList { list } => write!(f, "it has no \"{list}\"."),
            Self::NotAList { list } => write!(f, "its \"{list}\" is not an array."),
            Self::BadPlace { what } => write!(f, "{what}."),
        }
    }
}

impl std::error::Error for InvalidAnswer {}

/// `body` with the first `bound` elements of its top-level array `list`, with every run of two or
/// more line ends (LF or CR LF) made one LF, without line ends at its beginning and end, and with two
/// newlines after it.
pub fn trim(body: &[u8], list: &str, bound: usize) -> Result<Vec<u8>, InvalidAnswer> {
    Ok(ParsedAnswer::read(body, list, bound)?.usable()?.trim(bound))
}

/// A service's answer, parsed once.
#[derive(Clone, Debug)]
pub struct ParsedAnswer<'b> {
    bytes: &'b [u8],
    /// All members of the object but the list.
    members: Members<'b>,
    list: Result<List, InvalidAnswer>,
}

/// The texts of values, by their keys.
type Members<'b> = HashMap<Cow<'b, str>, &'b str>;

/// An answer that can be trimmed, for several clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidAnswer<'b> {
    body: Cow<'b, [u8]>,
    list: Option<List>,
}

impl<'b> ParsedAnswer<'b> {
    /// Parses `bytes`. At most the first `most` elements of its top-level array `list` will be needed.
    pub fn read(
        bytes: &'b [u8],
        list: &str,
        most: usize,
    ) -> Result<ParsedAnswer<'b>, InvalidAnswer> {
        // On the whole body first: the parser does not look at the text of values it passes over.
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidAnswer::NotText)?;
        if let Some(answer) = ParsedAnswer::scan(text, list, most) {
            return Ok(answer);
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let top = TopLevel { text, list, most }
            .deserialize(&mut parser)
            .and_then(|top| parser.end().map(|()| top))
            .map_err(|error| invalid_answer(error, text, list))?;
        if top.repeated_key {
            return Err(InvalidAnswer::RepeatedKey);
        }
        let list = top.list.ok_or_else(|| InvalidAnswer::NoList { list: list.to_owned() });
        Ok(ParsedAnswer { bytes, members: top.members, list })
    }

    /// The usual answer, on the fast way; None where it may be another one, or none at all.
    fn scan(text: &'b str, list: &str, most: usize) -> Option<ParsedAnswer<'b>> {
        let mut scanner = Scanner::new(text);
        let (mut members, mut found) = (Members::new(), None);
        scanner.pass(b'{')?;
        loop {
            let key = scanner.plain_key()?;
            let is_new = if key == list {
                found.replace(List::scan(&mut scanner, text, most)?).is_none()
            } else {
                let (begin, end) = scanner.value()?;
                members.insert(Cow::Borrowed(key), &text[begin..end]).is_none()
            };
            if !is_new {
                return None;
            }
            if scanner.pass(b',').is_none() {
                break;
            }
        }
        scanner.pass(b'}')?;
        let list = found.ok_or_else(|| InvalidAnswer::NoList { list: list.to_owned() });
        scanner.is_at_end().then_some(ParsedAnswer { bytes: text.as_bytes(), members, list })
    }

    /// The value of a top-level key that is not the list, if it is of that type.
    pub fn member<T: Deserialize<'b>>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.members.get(key)?).ok()
    }

    /// The answer for trimming, if it has the list.
    pub fn usable(self) -> Result<ValidAnswer<'b>, InvalidAnswer> {
        Ok(ValidAnswer { body: Cow::Borrowed(self.bytes), list: Some(self.list?) })
    }

    /// Whether there is anything in the object besides the list.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether the list is there.
    pub fn has_list(&self) -> bool {
        self.list.is_ok()
    }

    /// Whether the list has no elements, or is not there.
    pub fn is_empty(&self) -> bool {
        !self.list.as_ref().is_ok_and(|list| list.elements > 0)
    }

    /// The list's first elements, as many as the body was read for.
    pub fn elements(&self) -> impl Iterator<Item = &'b str> {
        let after = self.list.as_ref().map_or(&[][..], |list| &list.after);
        // The cuts are at commas of the JSON, so each part is valid text.
        let text = |pair: &[usize]| std::str::from_utf8(&self.bytes[pair[0]..pair[1]]).ok();
        after.windows(2).filter_map(text).map(|text| {
            let text = text.trim_ascii_start();
            text.strip_prefix(',').unwrap_or(text).trim_ascii_start()
        })
    }
}

impl<'b> ValidAnswer<'b> {
    /// An answer without a list: it is never cut.
    pub fn without_list(body: &'b [u8]) -> ValidAnswer<'b> {
        ValidAnswer { body: Cow::Borrowed(body), list: None }
    }

    /// An answer whose body was made here.
    pub fn made(
        body: Vec<u8>,
        list: &str,
        most: usize,
    ) -> Result<ValidAnswer<'static>, InvalidAnswer> {
        let list = ParsedAnswer::read(&body, list, most)?.list?;
        Ok(ValidAnswer { body: Cow::Owned(body), list: Some(list) })
    }

    /// The same as an owned value.
    pub fn into_owned(self) -> ValidAnswer<'static> {
        ValidAnswer { body: Cow::Owned(self.body.into_owned()), list: self.list }
    }

    /// Bytes of its body.
    pub fn held(&self) -> usize {
        self.body.len()
    }

    /// The body as [`trim`] leaves it.
    pub fn trim(&self, bound: usize) -> Vec<u8> {
        let (head, tail) = match &self.list {
            Some(list) if list.elements > bound => {
                let kept = bound.min(list.after.len() - 1);
                // If no element is kept, neither is the white space around the elements.
                let behind = if kept == 0 { list.closing_bracket } else { list.after_last };
                (&self.body[..list.after[kept]], &self.body[behind..])
            }
            _ => (&self.body[..], &b""[..]), // nothing too many: also the spaces in an empty array stay
        };
        without_blank_lines([head, tail].concat())
    }
}

/// Where `part`, a slice borrowed from `body`, begins in it.
fn offset(body: &str, part: &str) -> usize {
    part.as_ptr() as usize - body.as_ptr() as usize
}

/// Converts the parser's error. The visitors below raise no errors, so an error that is not a syntax error
/// is a value of another type, and the parser has not read what follows it: a syntax error there takes
/// precedence.
fn invalid_answer(error: serde_json::Error, text: &str, list: &str) -> InvalidAnswer {
    let not_json = |error: serde_json::Error| InvalidAnswer::NotJson {
        line: error.line(),
        column: error.column(),
    };
    if !error.is_data() {
        return not_json(error);
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) if value.get().starts_with('{') => {
            InvalidAnswer::NotAList { list: list.to_owned() }
        }
        Ok(_) => InvalidAnswer::NotAnObject,
        Err(error) => not_json(error),
    }
}

/// Collapses runs of line ends, removes those at both ends, and adds the blank line that ends an answer.
fn without_blank_lines(text: Vec<u8>) -> Vec<u8> {
    let mut rest = text.as_slice();
    while let Some(length) = line_end(rest) {
        rest = &rest[length..];
    }
    while let [before @ .., b'\n' | b'\r'] = rest {
        rest = before; // a CR without LF too: the newlines that we add would be its LF
    }
    let mut out = Vec::with_capacity(rest.len() + 2);
    while let Some(lf) = memchr::memchr(b'\n', rest) {
        let after_first = lf + 1;
        let mut after = after_first;
        while let Some(length) = line_end(&rest[after..]) {
            after += length;
        }
        if after == after_first {
            out.extend_from_slice(&rest[..after]); // a single one stays as it is
        } else {
            let mut line = &rest[..lf];
            while let [before @ .., b'\r'] = line {
                line = before;
            }
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        rest = &rest[after..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\n\n");
    out
}

/// The length of the line end with which `text` begins, if it does: LF, and any CR right before it.
/// Several CRs before an LF are no line end of any system; but if only the last one counted, the CR left
/// over and the LF that replaces a run would make a new blank line.
fn line_end(text: &[u8]) -> Option<usize> {
    let returns = text.iter().take_while(|&&byte| byte == b'\r').count();
    (text.get(returns) == Some(&b'\n')).then_some(returns + 1)
}

/// Splits an object into its members, and detects duplicate keys.
struct TopLevel<'b, 'l> {
    text: &'b str,
    list: &'l str,
    most: usize,
}

#[derive(Default)]
struct Top<'b> {
    members: Members<'b>,
    list: Option<List>,
    repeated_key: bool,
}

impl<'b> DeserializeSeed<'b> for TopLevel<'b, '_> {
    type Value = Top<'b>;

    fn deserialize<D: Deserializer<'b>>(self, parser: D) -> Result<Top<'b>, D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'b> Visitor<'b> for TopLevel<'b, '_> {
    type Value = Top<'b>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'b>>(self, mut object: A) -> Result<Top<'b>, A::Error> {
        let mut top = Top::default();
        while let Some(MemberName(key)) = object.next_key()? {
            // Read on: a syntax error in the rest takes precedence.
            top.repeated_key |= if key == self.list {
                let elements = Elements { text: self.text, most: self.most };
                top.list.replace(object.next_value_seed(elements)?).is_some()
            } else {
                let value: &RawValue = object.next_value()?;
                top.members.insert(key, value.get()).is_some()
            };
        }
        Ok(top)
    }
}

/// A key, borrowed unless it has escapes. (A bare `Cow` would always be copied.)
#[derive(Deserialize)]
struct MemberName<'b>(#[serde(borrow)] Cow<'b, str>);

/// Finds the places at which an array may be cut. A vector of all of them would cost several times
/// the memory of an array of digits.
struct Elements<'b> {
    text: &'b str,
    most: usize,
}

impl<'b> DeserializeSeed<'b> for Elements<'b> {
    type Value = List;

    fn deserialize<D: Deserializer<'b>>(self, parser: D) -> Result<List, D::Error> {
        parser.deserialize_seq(self)
    }
}

impl<'b> Visitor<'b> for Elements<'b> {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut array: A) -> Result<List, A::Error> {
        let mut list = List::default();
        while let Some(element) = array.next_element::<&RawValue>()? {
            let begin = offset(self.text, element.get());
            list.add(self.text, begin, begin + element.get().len(), self.most);
        }
        list.close(self.text);
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(body: &str, bound: usize) -> Result<String, InvalidAnswer> {
        trim(body.as_bytes(), "results", bound)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn an_answer_without_the_list_is_unusable() {
        let list = || "results".to_string();
        let not_json = |line, column| InvalidAnswer::NotJson { line, column };
        let cases = [
            ("", not_json(1, 0)),
            ("\u{feff}{\"results\":[]}", not_json(1, 1)),
            ("{\"results\":[]}\n x", not_json(2, 2)),
            ("{\"results\":[]}{}", not_json(1, 15)),
            ("{\"results\":[1,]}", not_json(1, 15)),
            ("{\"results\":[\"\n\"]}", not_json(1, 13)),
            ("null", InvalidAnswer::NotAnObject),
            ("[1]", InvalidAnswer::NotAnObject),
            ("{\"results\":[],\"results\":[]}", InvalidAnswer::RepeatedKey),
            ("{\"results\":[],\"r\\u0065sults\":[]}", InvalidAnswer::RepeatedKey),
            ("{\"status\":1,\"results\":[],\"status\":1}", InvalidAnswer::RepeatedKey),
            ("{}", InvalidAnswer::NoList { list: list() }),
            ("{\"x\":{\"results\":[]}}", InvalidAnswer::NoList { list: list() }),
            ("{\"results\":null}", InvalidAnswer::NotAList { list: list() }),
            ("{\"results\":{\"0\":1}}", InvalidAnswer::NotAList { list: list() }),
        ];
        for (body, reason) in cases {
            assert_eq!(trimmed(body, 1), Err(reason), "{body:?}");
        }
        let not_text = b"{\"results\":[],\"x\":\"\xff\"}";
        assert_eq!(trim(not_text, "results", 1), Err(InvalidAnswer::NotText));
    }

    #[test]
    fn the_reason_is_a_sentence() {
        let reason = trimmed("[]", 1).map_err(|reason| reason.to_string());
        let sentence = "The Places service's answer is unusable: it is not a JSON object.";
        assert_eq!(reason, Err(sentence.to_string()));
    }

    #[test]
    fn a_carriage_return_at_the_end_makes_no_second_blank_line() {
        let answer = Ok("{\"results\":[]}\n\n".to_string());
        assert_eq!(trimmed("{\"results\":[]}\r\n\r", 1), answer);
    }

    #[test]
    fn a_carriage_return_before_a_run_of_line_ends_makes_no_new_blank_line() {
        let answer = Ok("{\n\"results\":\r\r\n[]}\n\n".to_string());
        assert_eq!(trimmed("\r\r\n\n{\n\r\r\n\n\"results\":\r\r\n[]}", 1), answer);
    }

    #[test]
    fn an_escaped_name_of_the_list_is_the_list() {
        let answer = Ok("{\"r\\u0065sults\":[1]}\n\n".to_string());
        assert_eq!(trimmed("{\"r\\u0065sults\":[1 , 2]}", 1), answer);
    }

    #[test]
    fn an_empty_array_keeps_its_spaces_whatever_the_bound() {
        for bound in [0, 1, usize::MAX] {
            let answer = Ok("{\"results\": [ \t ]}\n\n".to_string());
            assert_eq!(trimmed("{\"results\": [ \t ]}", bound), answer);
        }
    }

    fn usable(body: &str, most: usize) -> ValidAnswer<'_> {
        let body = ParsedAnswer::read(body.as_bytes(), "results", most).expect("a body");
        body.usable().expect("usable")
    }

    #[test]
    fn one_parse_serves_every_smaller_bound() {
        for body in ["\n{\"results\" : [ 1,\n\n{} , [3] ],\"x\":0}", "{\"results\":[]}"] {
            let usable = usable(body, 2);
            for bound in 0..=2 {
                let alone = trim(body.as_bytes(), "results", bound);
                assert_eq!(alone, Ok(usable.trim(bound)), "{bound}: {body}");
            }
        }
        let usable = usable("{\"results\":[1 , 2 , 3 ]}", 20);
        // No caller asks for more elements than it was parsed for; one that does gets those that are there.
        assert_eq!(
            self::usable("{\"results\":[1 , 2 , 3 ]}", 1).trim(2),
            b"{\"results\":[1 ]}\n\n"
        );
        let trimmed = [0, 1, 2, 3].map(|bound| usable.trim(bound));
        let expected = ["[]", "[1 ]", "[1 , 2 ]", "[1 , 2 , 3 ]"];
        assert_eq!(
            trimmed,
            expected.map(|list| format!("{{\"results\":{list}}}\n\n").into_bytes())
        );
    }

    #[test]
    fn deep_json_does_not_overflow_the_stack() {
        let depth = 1_000_000;
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let answer = trimmed(&format!("{{\"results\":[{deep},{deep}]}}"), 1);
        assert_eq!(answer, Ok(format!("{{\"results\":[{deep}]}}\n\n")));
    }
}
