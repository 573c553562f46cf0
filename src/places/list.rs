//! Where the list of places in a service's answer may be cut.

use super::scan::Scanner;

/// An array, in bytes from the start of the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct List {
    pub elements: usize,
    /// After the array's bracket, and after each of its first elements; empty if it has none.
    pub after: Vec<usize>,
    pub after_last: usize,
    pub closing_bracket: usize,
}

impl List {
    /// Passes over an array, whose first `most` elements may be needed.
    pub fn scan(scanner: &mut Scanner<'_>, text: &str, most: usize) -> Option<List> {
        let mut list = List::default();
        scanner.pass(b'[')?;
        if scanner.peek()? != b']' {
            loop {
                let (begin, end) = scanner.value()?;
                list.add(text, begin, end, most);
                if scanner.pass(b',').is_none() {
                    break;
                }
            }
        }
        scanner.pass(b']')?;
        list.close(text);
        Some(list)
    }

    /// Adds an element.
    pub fn add(&mut self, text: &str, begin: usize, end: usize, most: usize) {
        if self.elements == 0 {
            self.after.push(text[..begin].trim_ascii_end().len());
        }
        self.after_last = end;
        if self.elements < most {
            self.after.push(end);
        }
        self.elements += 1;
    }

    /// The array has ended.
    pub fn close(&mut self, text: &str) {
        let behind = &text[self.after_last..];
        self.closing_bracket = self.after_last + behind.len() - behind.trim_ascii_start().len();
    }
}
