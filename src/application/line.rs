//! Framing: a stream of bytes, cut anywhere, becomes lines (section 1).
//!
//! The lines depend on the bytes alone, never on how they were split. The buffer does not read: its owner
//! pushes bytes into it, and so decides how much it holds.
//!
//! ```text
//!              start          scanned            bytes.len()
//!                |               |                    |
//!   [ returned   | no LF in here | not looked at yet  |
//! ```

use memchr::memchr;

/// One line, without its ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// It ended with LF, or CR LF.
    Whole(&'a [u8]),
    /// The stream ended before the line did, or paused for too long ([`LineBuffer::end_line`]).
    Unfinished(&'a [u8]),
    /// It is longer than the limit; these are its first bytes. No line follows it.
    TooLong(&'a [u8]),
}

impl<'a> Line<'a> {
    /// Its bytes; of a line that is too long, the first ones.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Line::Whole(bytes) | Line::Unfinished(bytes) | Line::TooLong(bytes) => bytes,
        }
    }
}

/// Bytes received and not yet handled. Positions have 32 bits, because each connection has a buffer: no line is longer
/// than 1 GiB, and its owner pushes only what it has read at once.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    start: u32,
    scanned: u32,
    ended: bool,
    closed: bool,
    /// The bytes that wait are a line as they are.
    line_ended: bool,
    /// A line ended with a CR; an LF that follows as the first byte belongs to it.
    after_cr: bool,
}

impl LineBuffer {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        if self.start > 0 {
            // At most the beginning of one line is left, so this moves little.
            self.bytes.drain(..self.start as usize);
            self.scanned -= self.start;
            self.start = 0;
        }
        let mut bytes = bytes;
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes the bytes that wait a line although its ending is missing: [`LineBuffer::next_line`] returns it,
    /// and later bytes begin the next one. A CR as the last byte counts as the line's ending, together with
    /// an LF that may follow. Does nothing if there is no incomplete line, or if the stream has ended.
    pub fn end_line(&mut self) {
        self.line_ended = self.has_incomplete_line();
    }

    /// Notes that nothing more will be pushed: the remaining bytes are a line, too.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Whether [`LineBuffer::end`] was called and every line was returned.
    pub fn is_done(&self) -> bool {
        self.ended && self.is_empty()
    }

    /// Whether the stream's end was noted.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next line of at most `limit` bytes, without its ending.
    #[inline(always)] // Called for each line of a batch; too large for `inline` as a hint.
    pub fn next_line(&mut self, limit: usize) -> Option<Line<'_>> {
        match memchr(b'\n', &self.bytes[self.scanned as usize..]) {
            Some(distance) => {
                let (begin, end) = (self.start as usize, self.scanned as usize + distance);
                self.start = end as u32 + 1;
                self.scanned = self.start;
                let line = &self.bytes[begin..end];
                let length = line.strip_suffix(b"\r").unwrap_or(line).len();
                if length > limit {
                    return Some(self.refuse(begin, length));
                }
                Some(Line::Whole(&self.bytes[begin..begin + length]))
            }
            None => self.next_without_end(limit),
        }
    }

    fn next_without_end(&mut self, limit: usize) -> Option<Line<'_>> {
        let begin = self.start as usize;
        let limit = limit.min(LONGEST);
        self.scanned = self.end_of_bytes();
        if std::mem::take(&mut self.line_ended) {
            return Some(self.next_ended(begin, limit));
        }
        let pending = &self.bytes[begin..];
        if self.ended {
            let length = pending.len();
            if length > limit {
                return Some(self.refuse(begin, length));
            }
            self.start = self.end_of_bytes();
            return (length > 0).then(|| Line::Unfinished(&self.bytes[begin..]));
        }
        // A CR as the last byte may belong to the line's ending. And if the limit is small, all bytes that
        // will be shown must be here, or the answer would depend on the split.
        let length = pending.strip_suffix(b"\r").unwrap_or(pending).len();
        let too_long = length > limit && length >= SHOWN_OF_TOO_LONG;
        too_long.then(|| self.refuse(begin, length))
    }

    fn next_ended(&mut self, begin: usize, limit: usize) -> Line<'_> {
        let pending = &self.bytes[begin..];
        let line = pending.strip_suffix(b"\r");
        self.after_cr = line.is_some();
        let length = line.unwrap_or(pending).len();
        if length > limit {
            return self.refuse(begin, length);
        }
        self.start = self.end_of_bytes();
        Line::Unfinished(&self.bytes[begin..begin + length])
    }

    /// Returns the beginning of a line that is too long, and no line after it.
    fn refuse(&mut self, begin: usize, length: usize) -> Line<'_> {
        self.closed = true;
        self.start = self.end_of_bytes();
        self.scanned = self.start;
        Line::TooLong(&self.bytes[begin..begin + length.min(SHOWN_OF_TOO_LONG)])
    }

    /// Drops what was not returned yet, and whatever is pushed from now on.
    pub fn close(&mut self) {
        self.closed = true;
        self.bytes.clear();
        self.start = 0;
        self.scanned = 0;
    }

    fn end_of_bytes(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.start == self.end_of_bytes()
    }

    /// The number of bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start as usize
    }

    /// Memory that it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether all that waits is a line without its ending. True only if [`LineBuffer::next_line`] last
    /// returned `None`.
    pub fn has_incomplete_line(&self) -> bool {
        !self.is_empty() && self.scanned == self.end_of_bytes() && !self.ended && !self.line_ended
    }

    /// Lends memory to the buffer. Bytes that it holds are kept: lending is useful only before a push into an
    /// empty buffer.
    pub fn lend(&mut self, memory: Vec<u8>) {
        if self.is_empty() {
            self.bytes = memory;
            self.bytes.clear();
            self.start = 0;
            self.scanned = 0;
        }
    }

    /// Gives the memory back if it is empty.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        if !self.is_empty() || self.bytes.capacity() == 0 {
            return None;
        }
        self.start = 0;
        self.scanned = 0;
        Some(std::mem::take(&mut self.bytes))
    }

    /// Whether memory must be lent before a push.
    pub fn wants_memory(&self) -> bool {
        self.bytes.capacity() == 0
    }
}

/// No line is longer than this, whatever the limit.
const LONGEST: usize = 1 << 30;

/// How many bytes of a line that is too long are echoed (section 1).
const SHOWN_OF_TOO_LONG: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]], limit: usize) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        let mut seen = Vec::new();
        let mut take = |buffer: &mut LineBuffer| {
            while let Some(line) = buffer.next_line(limit) {
                seen.push(format!("{line:?}"));
            }
        };
        for piece in pieces {
            buffer.push(piece);
            take(&mut buffer);
        }
        buffer.end();
        take(&mut buffer);
        assert!(buffer.is_done());
        seen
    }

    /// The lines from these pieces; each piece but the last is followed by a pause.
    fn paused(pieces: &[&[u8]], limit: usize) -> Vec<String> {
        let mut buffer = LineBuffer::default();
        let mut seen = Vec::new();
        for piece in pieces {
            buffer.push(piece);
            for _ in 0..2 {
                while let Some(line) = buffer.next_line(limit) {
                    seen.push(format!("{line:?}"));
                }
                buffer.end_line();
            }
        }
        assert!(!buffer.has_incomplete_line());
        seen
    }

    #[test]
    fn a_pause_ends_a_line_and_later_bytes_begin_the_next() {
        let unfinished = |line: &[u8]| format!("{:?}", Line::Unfinished(line));
        let whole = |line: &[u8]| format!("{:?}", Line::Whole(line));
        assert_eq!(
            paused(&[b"ab", b"cd\ne"], 9),
            [unfinished(b"ab"), whole(b"cd"), unfinished(b"e")]
        );
        assert_eq!(paused(&[b"", b"\n", b""], 9), [whole(b"")]);
        assert_eq!(paused(&[b"ab", b"\n"], 9), [unfinished(b"ab"), whole(b"")]);
        // The two bytes of one ending, on both sides of the pause.
        assert_eq!(paused(&[b"ab\r", b"\ncd\n"], 9), [unfinished(b"ab"), whole(b"cd")]);
        assert_eq!(paused(&[b"ab\r", b"", b"\n", b"\n"], 9), [unfinished(b"ab"), whole(b"")]);
        assert_eq!(paused(&[b"ab\r", b"c\n"], 9), [unfinished(b"ab"), whole(b"c")]);
        assert_eq!(paused(&[b"\r", b"\n"], 9), [unfinished(b"")]);
        // The limit holds as for any line.
        assert_eq!(paused(&[b"abcd\r"], 4), [unfinished(b"abcd")]);
        let too_long = [format!("{:?}", Line::TooLong(b"abcde"))];
        assert_eq!(paused(&[b"abcde", b"more\n"], 4), too_long);
    }

    #[test]
    fn the_end_of_a_stream_is_not_taken_for_a_pause() {
        let mut buffer = LineBuffer::default();
        buffer.push(b"ab\r");
        assert_eq!(buffer.next_line(9), None);
        buffer.end();
        buffer.end_line();
        assert_eq!(buffer.next_line(9), Some(Line::Unfinished(b"ab\r")));
        assert_eq!(buffer.next_line(9), None);
        assert!(buffer.is_done());
    }

    #[test]
    fn the_limit_counts_the_line_without_its_ending() {
        let whole = format!("{:?}", Line::Whole(b"abcd"));
        assert_eq!(lines(&[b"abcd\r\n"], 4), std::slice::from_ref(&whole));
        assert_eq!(lines(&[b"abcd\r", b"\n"], 4), std::slice::from_ref(&whole));
        assert_eq!(lines(&[b"abcd\n"], 4), [whole]);
        let too_long = |seen| [format!("{:?}", Line::TooLong(seen))];
        assert_eq!(lines(&[b"abcde\nx\n"], 4), too_long(b"abcde"));
        assert_eq!(lines(&[b"abcd\r", b"x", b"\n"], 4), too_long(b"abcd\rx"));
        assert_eq!(lines(&[b"abcd\r"], 4), too_long(b"abcd\r"));
    }
}
