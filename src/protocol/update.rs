//! An update: where a client is, which server received it, and which of two updates is the newer one.

mod batch;

use std::cmp::Ordering;

use super::plain;
use super::time::{Skew, Timestamp};
use super::{Dialect, Location};
pub use batch::Batch;

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
        begin_line(out, self.id);
        let skew = self.skew.text();
        let fields = self.behind_id(skew.as_slice());
        let begin = out.len();
        out.resize(begin + bytes_of(fields), 0);
        fill(&mut out[begin..], fields);
    }

    /// What follows the id in that line.
    #[inline(always)]
    fn behind_id<'s>(&'s self, skew: &'s [u8]) -> [&'s [u8]; 4] {
        [self.location, self.timestamp.text, self.server, skew]
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
///
/// A server holds one for each client, so it is small: 32 bytes, and the text in a block of exactly its length. The text
/// lacks the word that all lines begin with, because the allocator rounds up to 16 bytes. Times take 8 and 4 bytes
/// instead of 16 where they fit, which timestamps of the years 1677 to 2262 and skews of less than 2 s do; of others the
/// text is read again where they are needed.
#[derive(Clone, Debug)]
pub struct Update {
    /// The line behind its first word, with its LF.
    text: Box<[u8]>,
    /// As in [`UpdateRef`], or [`FAR`]: then the text tells.
    timestamp: i64,
    /// The same; [`AHEAD`] or [`BEHIND`] if the text tells.
    skew: i32,
    /// The lengths of the first four fields; of the id one less.
    lengths: [u8; 4],
}

const _: () = assert!(size_of::<Update>() == 32);

/// Where the text of an update that is kept comes from.
pub trait LineText {
    /// It as a block of memory of its own.
    fn block(&self, update: &UpdateRef<'_>) -> Box<[u8]>;

    /// Puts it in place of that of another update of the same client.
    fn replace(&self, update: &UpdateRef<'_>, text: &mut Box<[u8]>);
}

/// It is written, field by field.
#[derive(Clone, Copy, Debug)]
pub struct Written;

/// This is the text without its LF, and need not be written once more.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a>(&'a [u8]);

impl LineText for Written {
    fn block(&self, update: &UpdateRef<'_>) -> Box<[u8]> {
        let skew = update.skew.text();
        text_of(update.id, update.behind_id(skew.as_slice()))
    }

    #[inline(always)]
    fn replace(&self, update: &UpdateRef<'_>, text: &mut Box<[u8]>) {
        let skew = update.skew.text();
        let fields = update.behind_id(skew.as_slice());
        // What the line begins with stays: to write it anew takes 60 instructions, 3 % of an IAMAT.
        let begin = update.id.len();
        if text.len() == begin + bytes_of(fields) {
            fill(&mut text[begin..], fields);
        } else {
            *text = text_of(update.id, fields);
        }
    }
}

impl LineText for Copied<'_> {
    fn block(&self, _: &UpdateRef<'_>) -> Box<[u8]> {
        let mut text = Vec::with_capacity(self.0.len() + 1);
        text.extend_from_slice(self.0);
        text.push(b'\n');
        text.into_boxed_slice()
    }

    #[inline(always)]
    fn replace(&self, update: &UpdateRef<'_>, text: &mut Box<[u8]>) {
        match text.split_last_mut() {
            Some((_, before)) if before.len() == self.0.len() => before.copy_from_slice(self.0),
            _ => *text = self.block(update),
        }
    }
}

impl<'a> Copied<'a> {
    /// Of a line without its first word and its ending.
    pub(super) fn of(text: &'a [u8]) -> Copied<'a> {
        Copied(text)
    }
}

impl Update {
    /// Takes a copy of `update`.
    pub fn new(update: &UpdateRef<'_>) -> Update {
        Update::with(update, &Written)
    }

    /// The same, with this text.
    pub fn with(update: &UpdateRef<'_>, text: &impl LineText) -> Update {
        Update {
            text: text.block(update),
            timestamp: short(update.timestamp.nanos),
            skew: small(update.skew),
            lengths: update.lengths(),
        }
    }

    /// Becomes a copy of `update`, which is of the same client. Usually the text is as long as before, and its memory is
    /// used again.
    pub fn assign(&mut self, update: &UpdateRef<'_>, text: &impl LineText) {
        debug_assert_eq!(self.id(), update.id);
        text.replace(update, &mut self.text);
        self.lengths = update.lengths();
        self.timestamp = short(update.timestamp.nanos);
        self.skew = small(update.skew);
    }

    /// Its fields.
    pub fn get(&self) -> UpdateRef<'_> {
        view(&self.text, self.lengths, self.nanos(), self.skew())
    }

    /// Whether the other one is newer ([`UpdateRef::newness`]).
    pub fn is_older_than(&self, other: &UpdateRef<'_>) -> bool {
        // Nearly always the timestamps differ: to make a view of this one takes 60 instructions, 3 % of an IAMAT.
        match self.nanos().cmp(&other.timestamp.nanos) {
            Ordering::Equal => self.get().newness(other).is_lt(),
            order => order.is_lt(),
        }
    }

    /// See [`UpdateRef::age`].
    #[inline]
    pub fn age(&self) -> i128 {
        match self.skew {
            0.. => self.nanos(),
            _ => self.nanos() + self.skew().0,
        }
    }

    /// The client.
    #[inline]
    pub fn id(&self) -> &[u8] {
        &self.text[..usize::from(self.lengths[0]) + 1]
    }

    /// Where the client is.
    pub fn location(&self) -> Option<Location<'_>> {
        Location::parse(self.get().location).ok()
    }

    /// Appends the UPDATELOC line with its LF.
    #[inline]
    pub fn write_updateloc(&self, out: &mut Vec<u8>) {
        begin_line(out, &self.text);
    }

    /// How long that line is.
    pub fn line_bytes(&self) -> usize {
        BEGIN.len() + self.text.len()
    }

    /// The UPDATELOC line with its LF.
    pub fn line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        self.write_updateloc(&mut line);
        line
    }

    /// Whether this is its UPDATELOC line, given without its LF.
    pub fn is_line(&self, line: &[u8]) -> bool {
        let behind = line.strip_prefix(COMMAND).and_then(|rest| rest.strip_prefix(b" "));
        behind.is_some() && self.text.strip_suffix(b"\n") == behind
    }

    #[inline]
    fn nanos(&self) -> i128 {
        match self.timestamp {
            FAR => self.far_nanos(),
            nanos => nanos.into(),
        }
    }

    #[inline]
    fn skew(&self) -> Skew {
        match self.skew {
            AHEAD | BEHIND => self.far_skew(),
            nanos => Skew(nanos.into()),
        }
    }

    #[cold]
    #[inline(never)]
    fn far_nanos(&self) -> i128 {
        let [id, location, timestamp, _] = self.lengths.map(usize::from);
        let begin = id + 1 + 1 + location + 1;
        let text = &self.text[begin..begin + timestamp];
        Timestamp::parse(text).map_or(FAR.into(), |timestamp| timestamp.nanos)
    }

    #[cold]
    #[inline(never)]
    fn far_skew(&self) -> Skew {
        let [id, location, timestamp, server] = self.lengths.map(usize::from);
        let begin = id + 1 + 1 + location + 1 + timestamp + 1 + server + 1;
        // It was written here, so nearly all are plain. To read it any other way takes 300 instructions more.
        let text = &self.text[begin..self.text.len() - 1];
        plain::skew(text).or_else(|| Skew::parse(text)).unwrap_or(Skew(self.skew.into()))
    }
}

impl UpdateRef<'_> {
    /// The lengths of the first four fields, of the id one less. Each has been read by the parsers here, which bound them
    /// to 256, 64, 40 and 64 bytes, so they fit.
    #[inline(always)]
    fn lengths(&self) -> [u8; 4] {
        let texts = [self.location, self.timestamp.text, self.server];
        let [location, timestamp, server] = texts.map(|text| text.len() as u8);
        [(self.id.len() - 1) as u8, location, timestamp, server]
    }
}

/// An update by its text.
#[inline(always)]
fn view(text: &[u8], lengths: [u8; 4], nanos: i128, skew: Skew) -> UpdateRef<'_> {
    let mut rest = text;
    let mut next = |length: usize| {
        let (field, behind) = rest.split_at(length);
        rest = &behind[1..];
        field
    };
    let [id, location, timestamp, server] = lengths.map(usize::from);
    UpdateRef {
        id: next(id + 1),
        location: next(location),
        timestamp: Timestamp { text: next(timestamp), nanos },
        server: next(server),
        skew,
    }
}

/// A time that does not fit into 64 bits as nanoseconds.
const FAR: i64 = i64::MIN;

/// A skew that does not fit into 32 bits: the client's clock is ahead of the server's, or behind.
const AHEAD: i32 = i32::MIN;
const BEHIND: i32 = i32::MAX;

fn short(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(FAR)
}

fn small(Skew(nanos): Skew) -> i32 {
    nanos.clamp(AHEAD.into(), BEHIND.into()) as i32
}

fn begin_line(out: &mut Vec<u8>, behind: &[u8]) {
    out.reserve(BEGIN.len() + behind.len());
    out.extend_from_slice(BEGIN);
    out.extend_from_slice(behind);
}

#[inline(never)]
fn text_of(id: &[u8], fields: [&[u8]; 4]) -> Box<[u8]> {
    let mut text = vec![0; id.len() + bytes_of(fields)].into_boxed_slice();
    fill(put(&mut text, id), fields);
    text
}

/// How long the text of these fields is, with a space before each and the LF.
#[inline(always)]
fn bytes_of(fields: [&[u8]; 4]) -> usize {
    fields.iter().map(|field| 1 + field.len()).sum::<usize>() + 1
}

/// Writes these fields into text that is as long as they are.
#[inline(always)]
fn fill(text: &mut [u8], fields: [&[u8]; 4]) {
    let behind = fields.into_iter().fold(text, |rest, field| put(put(rest, b" "), field));
    put(behind, b"\n");
}

/// Writes what a text begins with, and returns the rest.
#[inline(always)]
fn put<'a>(text: &'a mut [u8], begin: &[u8]) -> &'a mut [u8] {
    let (here, behind) = text.split_at_mut(begin.len());
    here.copy_from_slice(begin);
    behind
}

/// The first word of an update between servers.
pub(super) const COMMAND: &[u8] = b"UPDATELOC";
/// The same, with what follows it.
const BEGIN: &[u8] = b"UPDATELOC ";
