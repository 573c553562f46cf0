//! The contents of a database as lines, for backups and for moving: `FLOOR <age in nanoseconds> <id>` if there is a floor,
//! then an UPDATELOC line for each client, in the order of their ids.
//!
//! Reading them back adds to what the database has: the newer of two updates stays, and the higher of two floors. One line
//! that is wrong refuses all of them, and the database is as before.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use super::StateError;
use super::database::{Contents, Fault, Loaded, Loading, Restored, floor_text, parse, parse_floor};
use super::open::{StateDir, guarded};
use crate::errors::plain;
use crate::herd::Floor;
use crate::limits::{DUMP_BAD_LINES, DUMP_LINE_BYTES};
use crate::protocol::{UpdateError, UpdateRef};

/// Writes all that is in the database of the folder. The outer error is one of `out`.
pub fn dump(dir: &StateDir, out: &mut dyn Write) -> io::Result<Result<Restored, StateError>> {
    let database = match dir.open() {
        Ok(database) => database,
        Err(error) => return Ok(Err(error)),
    };
    let mut to = Lines { out, failure: None };
    let read = guarded(|| database.read(&mut to));
    match to.failure {
        Some(error) => Err(error),
        None => {
            out.flush()?;
            Ok(read.map_err(|fault| dir.explain(fault)))
        }
    }
}

struct Lines<'a> {
    out: &'a mut dyn Write,
    failure: Option<io::Error>,
}

impl Lines<'_> {
    fn write(&mut self, line: &[u8]) {
        if self.failure.is_none() {
            let written = self.out.write_all(line).and_then(|()| self.out.write_all(b"\n"));
            self.failure = written.err();
        }
    }
}

impl Contents for Lines<'_> {
    fn floor(&mut self, floor: &Floor) {
        let line = [FLOOR, &floor_text(floor)].concat();
        self.write(&line);
    }

    fn update(&mut self, _update: &UpdateRef<'_>, line: &[u8]) {
        self.write(line);
    }
}

/// Adds the lines of `input` to the database of the folder, all of them or none. A timestamp may be this much ahead of the
/// clock of the server that received it, as in a neighbour's line: the present time plays no part, so a backup stays good.
pub fn load(
    dir: &StateDir,
    input: &mut dyn BufRead,
    max_future: Duration,
) -> Result<Loaded, StateError> {
    let mut database = dir.open()?;
    let loaded = database.load(|loading| {
        let mut bad = BadLines::default();
        let mut line = Vec::new();
        for number in 1.. {
            let reason = match read_line(input, &mut line) {
                Ok(false) => break,
                Ok(true) => load_line(loading, &line, number, max_future)?,
                Err(reason) => {
                    bad.add(number, reason);
                    break;
                }
            };
            reason.into_iter().for_each(|reason| bad.add(number, reason));
        }
        bad.none()
    });
    loaded.map_err(|failure| match failure {
        Failure::Fault(fault) => dir.explain(fault),
        Failure::Bad(BadLines { shown, more }) => StateError::BadLines { shown, more },
    })
}

enum Failure {
    Fault(Fault),
    Bad(BadLines),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Fault(fault)
    }
}

#[derive(Default)]
struct BadLines {
    shown: Vec<String>,
    more: usize,
}

impl BadLines {
    fn add(&mut self, number: usize, reason: String) {
        if self.shown.len() < DUMP_BAD_LINES {
            self.shown.push(format!("line {number}: {reason}"));
        } else {
            self.more += 1;
        }
    }

    fn none(self) -> Result<(), Failure> {
        if self.shown.is_empty() { Ok(()) } else { Err(Failure::Bad(self)) }
    }
}

/// Reads the next line, without its LF. False at the end. After an error no further line can be read.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<bool, String> {
    line.clear();
    let mut bounded = input.take(DUMP_LINE_BYTES as u64);
    bounded
        .read_until(b'\n', line)
        .map_err(|error| format!("it can't be read: {}", plain(&error)))?;
    match line.pop() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) if line.len() + 1 == DUMP_LINE_BYTES => Err("it is too long".to_owned()),
        Some(_) => Err("it does not end, so more is missing".to_owned()),
    }
}

/// Returns why the line is wrong, if it is.
fn load_line(
    loading: &mut Loading<'_>,
    line: &[u8],
    number: usize,
    max_future: Duration,
) -> Result<Option<String>, Fault> {
    if let Some(text) = line.strip_prefix(FLOOR) {
        return Ok(match parse_floor(text) {
            Some(floor) if number == 1 => {
                loading.raise_floor(floor);
                None
            }
            Some(_) => Some("the floor stands on the first line, or nowhere".to_owned()),
            None => Some("expected FLOOR, an age in nanoseconds, and an id".to_owned()),
        });
    }
    match parse(line) {
        // It would win over every later update.
        Ok(update) if update.skew.0 < -(max_future.as_nanos() as i128) => {
            Ok(Some(UpdateError::Future.to_string()))
        }
        Ok(update) => loading.put(&update).map(|()| None),
        Err(reason) => Ok(Some(reason)),
    }
}

const FLOOR: &[u8] = b"FLOOR ";
