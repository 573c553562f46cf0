//! Before anything is measured each server must show that it does the job: lines that are right
//! and lines that are wrong, in one segment and cut in the middle, and the exact answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;

/// Sends every line, and compares every answer.
pub fn check(server: SocketAddr) -> Result<(), Failure> {
    let mut asked = Vec::new();
    let mut due = Vec::new();
    for (line, fields) in LINES {
        asked.extend_from_slice(format!("{line}\n").as_bytes());
        let answer = match fields {
            Some(fields) => format!("AT AT {fields}\n"),
            None => format!("? {line}\n").replace("\r\n", "\n"),
        };
        due.extend_from_slice(answer.as_bytes());
    }
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (begin, end) = asked.split_at(asked.len() / 2);
    stream.write_all(begin)?;
    std::thread::sleep(Duration::from_millis(20)); // So that the cut is seen; nothing hangs on it.
    stream.write_all(end)?;
    let mut came = vec![0; due.len()];
    stream.read_exact(&mut came)?;
    for (due, came) in due.split(|&byte| byte == b'\n').zip(came.split(|&byte| byte == b'\n')) {
        if due != came {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Err(format!("expected {:?}, got {:?}", text(due), text(came)).into());
        }
    }
    Ok(())
}

/// Lines, and what follows `AT AT ` where they are well-formed.
const LINES: [(&str, Option<&str>); 24] = [
    (
        "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997",
        Some("kiwi.cs.ucla.edu +34.068930-118.445127 1559865055.918963997"),
    ),
    ("  IAMAT \t a  +0+0   0.5 \r", Some("a +0+0 0.5")),
    ("IAMAT a +90-180 1", Some("a +90-180 1")),
    ("IAMAT a +90.0-180.00 1", Some("a +90.0-180.00 1")),
    ("IAMAT a +3404.5-11826.7 1", Some("a +3404.5-11826.7 1")),
    (
        "IAMAT a +340408.1-1182642.45+125.5CRSWGS_84/ 1",
        Some("a +340408.1-1182642.45+125.5CRSWGS_84/ 1"),
    ),
    ("IAMAT a +1+2-3/ 1", Some("a +1+2-3/ 1")),
    ("IAMAT a +90.01-118 1", None),
    ("IAMAT a +9001-118 1", None),
    ("IAMAT a +34-180.5 1", None),
    ("IAMAT a +3460-118 1", None),
    ("IAMAT a +340060-118 1", None),
    ("IAMAT a +34.-118 1", None),
    ("IAMAT a +.5-118 1", None),
    ("IAMAT a +340-118 1", None),
    ("IAMAT a 34-118 1", None),
    ("IAMAT a +34-118x 1", None),
    ("IAMAT a +34-118 -1", None),
    ("IAMAT a +34-118 1e3", None),
    ("IAMAT a +34-118 1.", None),
    ("IAMAT a +34-118 99999999999", None),
    ("IAMAT a +34-118 1 1", None),
    ("iamat a +34-118 1", None),
    ("", None),
];
