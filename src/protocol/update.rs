//! An update: where a client is, which server received it, and which of two updates is the newer one.

use std::cmp::Ordering;
use std::ops::Range;

use super::time::{Skew, Timestamp};
use super::{Dialect, Location};

/// An update that borrows its texts: from a line just read, or from an [`Update`].
#[derive(Clone, Copy, Debug)]
pub struct UpdateRef<'a> {
    /// The client, in its own bytes.
    pub id: &'a [u8],
    /// ISO 6709 text that has been checked.
    pub location: &'a [u8],
    pub timestamp: Timestamp<'a>,
    /// The server that received it from the client.
    pub server: &'a [u8],
    /// That server's clock minus the timestamp.
    pub skew: Skew,
}

impl UpdateRef<'_> {
    /// The order in which the newest wins (section 5): timestamp, location text, received
    /// first, server, timestamp text. Total: two updates are equal only if each field is.
    pub fn newness(&self, other: &UpdateRef<'_>) -> Ordering {
        (self.timestamp.nanos.cmp(&other.timestamp.nanos))
            .then_with(|| self.location.cmp(other.location))
            .then_with(|| other.skew.cmp(&self.skew))
            .then_with(|| self.server.cmp(other.server))
            .then_with(|| self.timestamp.text.cmp(other.timestamp.text))
    }

    /// The lesser of the timestamp and the time of receipt, in nanoseconds since 1970: the
    /// first half of the age key (section 5, floor). The second is the id.
    pub fn age(&self) -> i128 {
        self.timestamp.nanos.min(self.timestamp.nanos + self.skew.0)
    }

    /// Appends the line for neighbours (section 4).
    pub fn write_updateloc(&self, out: &mut Vec<u8>) {
        self.write_line([COMMAND, b" ", self.id], out);
    }

    /// Appends this beginning of the line, and what follows the id.
    #[inline(always)]
    fn write_line<const N: usize>(&self, begin: [&[u8]; N], out: &mut Vec<u8>) {
        let skew = self.skew.text();
        let behind = [self.location, self.timestamp.text, self.server];
        // Reserve exactly: a vector that grows by itself doubles, which wastes much memory for a
        // million lines.
        let bytes = begin.iter().chain(&behind).map(|text| text.len()).sum::<usize>();
        out.reserve_exact(bytes + behind.len() + 1 + skew.as_slice().len() + 1);
        for text in begin {
            out.extend_from_slice(text);
        }
        for field in behind {
            out.push(b' ');
            out.extend_from_slice(field);
        }
        out.push(b' ');
        out.extend_from_slice(skew.as_slice());
        out.push(b'\n');
    }

    /// Appends the answer to a client (section 2).
    pub fn write_at(&self, dialect: Dialect, out: &mut Vec<u8>) {
        out.extend_from_slice(b"AT ");
        match dialect {
            Dialect::Report => out.extend_from_slice(b"AT"),
            Dialect::Course => {
                out.extend_from_slice(self.server);
                out.push(b' ');
                self.skew.write(out);
            }
        }
        for field in [self.id, self.location, self.timestamp.text] {
            out.push(b' ');
            out.extend_from_slice(field);
        }
        out.push(b'\n');
    }
}

/// An update that owns its text: the UPDATELOC line, encoded once and copied to every neighbour.
#[derive(Clone, Debug)]
pub struct Update {
    line: Vec<u8>,
    /// Where each of the first four fields ends.
    ends: [u16; 4],
    timestamp: i128,
    skew: Skew,
}

impl Update {
    /// Takes a copy of `update`.
    pub fn new(update: &UpdateRef<'_>) -> Update {
        let mut line = Vec::new();
        update.write_updateloc(&mut line);
        Update { line, ends: update.ends(), timestamp: update.timestamp.nanos, skew: update.skew }
    }

    /// Becomes a copy of `update`, which is of the same client, reusing its memory.
    pub fn assign(&mut self, update: &UpdateRef<'_>) {
        debug_assert_eq!(self.id(), update.id);
        // What the line begins with stays: to write it anew takes 60 instructions, 3 % of an IAMAT.
        self.line.truncate(usize::from(self.ends[0]));
        update.write_line([], &mut self.line);
        self.ends = update.ends();
        self.timestamp = update.timestamp.nanos;
        self.skew = update.skew;
    }

    /// Its fields.
    pub fn get(&self) -> UpdateRef<'_> {
        UpdateRef {
            id: self.id(),
            location: self.field(1),
            timestamp: Timestamp { text: self.field(2), nanos: self.timestamp },
            server: self.field(3),
            skew: self.skew,
        }
    }

    /// Whether the other one is newer ([`UpdateRef::newness`]).
    pub fn is_older_than(&self, other: &UpdateRef<'_>) -> bool {
        // Nearly always the timestamps differ: to make a view of this one takes 60 instructions, 3 % of an IAMAT.
        match self.timestamp.cmp(&other.timestamp.nanos) {
            Ordering::Equal => self.get().newness(other).is_lt(),
            order => order.is_lt(),
        }
    }

    /// See [`UpdateRef::age`].
    pub fn age(&self) -> i128 {
        self.get().age()
    }

    /// The client.
    pub fn id(&self) -> &[u8] {
        self.field(0)
    }

    /// Where the client is.
    pub fn location(&self) -> Option<Location<'_>> {
        Location::parse(self.field(1)).ok()
    }

    /// The UPDATELOC line with its LF.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    fn field(&self, index: usize) -> &[u8] {
        let begin = match index {
            0 => COMMAND.len() + 1,
            _ => usize::from(self.ends[index - 1]) + 1,
        };
        let range: Range<usize> = begin..usize::from(self.ends[index]);
        &self.line[range]
    }
}

impl UpdateRef<'_> {
    /// Where the first four fields end in the UPDATELOC line. Each has been read by the parsers
    /// here, which bound them to 256, 64, 40 and 64 bytes, so the sums fit.
    fn ends(&self) -> [u16; 4] {
        let mut end = COMMAND.len();
        [self.id, self.location, self.timestamp.text, self.server].map(|field| {
            end += 1 + field.len();
            end as u16
        })
    }
}

/// The first word of an update between servers.
pub(super) const COMMAND: &[u8] = b"UPDATELOC";
