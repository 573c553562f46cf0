//! The conversations of `conformance/lines.txt`: what is sent, and what must come back.

use regex::bytes::Regex;

use super::shown;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Clients,
    Peers,
}

#[derive(Debug)]
pub enum CaseStep {
    Send(Vec<u8>),
    Expect(Line),
    HalfClose,
    Eof,
}

#[derive(Debug)]
pub enum Line {
    Exactly(Vec<u8>),
    Matching(Regex),
}

#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub dialect: String,
    pub port: Port,
    pub steps: Vec<CaseStep>,
}

impl Case {
    /// All that the client sends.
    pub fn sent(&self) -> Vec<u8> {
        let sends = self.steps.iter().filter_map(|step| match step {
            CaseStep::Send(bytes) => Some(&bytes[..]),
            _ => None,
        });
        sends.collect::<Vec<&[u8]>>().concat()
    }
}

/// Reads the format of the cases:
///
/// - `== name` begins one; `dialect: course` and `port: peers` may follow;
/// - `> text` sends the text and LF, `>| text` the text alone;
/// - `< text` is the next line that comes, `<~ regex` one that matches whole;
/// - `half-close`, `eof`.
pub fn parse(text: &[u8]) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix(b"== ") {
            let name = String::from_utf8(name.to_vec()).expect("names are text");
            cases.push(Case {
                name,
                dialect: "report".to_owned(),
                port: Port::Clients,
                steps: Vec::new(),
            });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with its name");
        match line {
            b"dialect: course" => case.dialect = "course".to_owned(),
            b"port: peers" => case.port = Port::Peers,
            _ => case.steps.push(step(line)),
        }
    }
    cases
}

fn step(line: &[u8]) -> CaseStep {
    let (mark, rest) = match line.iter().position(|&byte| byte == b' ') {
        Some(space) => (&line[..space], &line[space + 1..]),
        None => (line, &[][..]),
    };
    match mark {
        b">" => CaseStep::Send([&unescape(rest)[..], b"\n"].concat()),
        b">|" => CaseStep::Send(unescape(rest)),
        b"<" => CaseStep::Expect(Line::Exactly(unescape(rest))),
        b"<~" => {
            let pattern = std::str::from_utf8(rest).expect("a regex is text");
            let whole = Regex::new(&format!("^(?-u:{pattern})$")).expect("a regex");
            CaseStep::Expect(Line::Matching(whole))
        }
        b"half-close" => CaseStep::HalfClose,
        b"eof" => CaseStep::Eof,
        _ => panic!("not a line of a case: {}", shown(line)),
    }
}

/// `\n`, `\r`, `\t`, `\f`, `\v`, `\\` and `\xNN`.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&letter, behind) = rest.split_first().expect("an escape has a letter");
        rest = behind;
        bytes.push(match letter {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'f' => 0x0c,
            b'v' => 0x0b,
            b'\\' => b'\\',
            b'x' => {
                let (digits, behind) = rest.split_at(2);
                rest = behind;
                let digits = std::str::from_utf8(digits).expect("hexadecimal digits");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            }
            _ => panic!("no such escape: {}", shown(text)),
        });
    }
    bytes
}
