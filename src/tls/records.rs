//! Finds where TLS records begin and end in the received bytes.
//!
//! rustls keeps a record until it is whole, and does not tell whether it holds a part of one. A kept
//! connection that has received half a record is not idle: the other half would be taken for the answer to
//! the next request.

/// Tracks the records of one direction: a header of five bytes, the last two of which are the length of the
/// rest (RFC 8446, section 5.1).
#[derive(Debug, Default)]
pub(super) struct RecordBorders {
    header: [u8; HEADER_BYTES],
    /// How many bytes of the present header have arrived.
    seen: usize,
    /// How many bytes of the present record are missing.
    left: usize,
}

impl RecordBorders {
    /// Passes over received bytes.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { HEADER_BYTES - self.seen };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.left > 0 {
                self.left -= now.len();
                continue;
            }
            self.header[self.seen..self.seen + now.len()].copy_from_slice(now);
            self.seen += now.len();
            if self.seen == HEADER_BYTES {
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.seen = 0;
            }
        }
    }

    /// How many bytes of a record have arrived that is not whole.
    pub fn incomplete(&self) -> usize {
        match self.left {
            0 => self.seen,
            left => {
                let length = u16::from_be_bytes([self.header[3], self.header[4]]);
                HEADER_BYTES + usize::from(length) - left
            }
        }
    }

    /// Whether the last record is whole.
    pub fn is_between(&self) -> bool {
        self.seen == 0 && self.left == 0
    }
}

/// The memory in which rustls keeps what it has received. rustls does not tell its size, so this repeats how it grows:
/// each read makes room for [`READ_BYTES`] more, and only a read into an empty buffer makes it small again. So a
/// connection that sent a large record and then nothing holds as much as the record took.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    capacity: usize,
    /// What is in it at most. A record goes when its plaintext is read; parts of a long handshake message stay.
    used: usize,
}

impl ReadBuffer {
    /// Something is about to be read.
    pub fn prepare(&mut self) {
        let needed = (self.used + READ_BYTES).min(MOST_BYTES);
        if self.used == 0 {
            self.capacity = needed;
        } else if needed > self.capacity {
            self.capacity = needed.max(2 * self.capacity).min(MOST_BYTES); // As a `Vec` grows.
        }
    }

    /// So many bytes were read.
    pub fn add(&mut self, count: usize) {
        self.used = (self.used + count).min(MOST_BYTES);
    }

    /// What was read has become plaintext, except for an incomplete record.
    pub fn take(&mut self, borders: &RecordBorders) {
        self.used = borders.incomplete();
    }

    /// Memory that it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

const HEADER_BYTES: usize = 5;
/// How much rustls reads at once.
pub(super) const READ_BYTES: usize = 4 * 1024;
/// The longest handshake message that rustls puts together.
const MOST_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_record_holds_its_memory_until_the_next_read() {
        let (mut buffer, mut borders) = (ReadBuffer::default(), RecordBorders::default());
        let record = [&b"\x17\x03\x03\x40\x00"[..], &[b'x'; 16 * 1024]].concat();
        for bytes in record.chunks(READ_BYTES) {
            buffer.prepare();
            buffer.add(bytes.len());
            borders.pass(bytes);
        }
        buffer.take(&borders);
        assert!((16 * 1024..40 * 1024).contains(&buffer.capacity()), "{}", buffer.capacity());
        buffer.prepare();
        assert_eq!(buffer.capacity(), READ_BYTES);
        (0..100).for_each(|_| {
            buffer.prepare();
            buffer.add(READ_BYTES);
        });
        assert_eq!(buffer.capacity(), MOST_BYTES, "rustls refuses what is longer");
    }

    #[test]
    fn a_part_of_a_record_is_distinguished_from_a_whole_one_however_it_is_cut() {
        let records = b"\x17\x03\x03\x00\x02ab\x15\x03\x03\x00\x00\x16\x03\x01\x01\x00";
        let records = [&records[..], &[b'x'; 256]].concat();
        let whole_at = [0, 7, 12, records.len()];
        for piece in 1..=records.len() {
            let mut borders = RecordBorders::default();
            let mut passed = 0;
            for bytes in records.chunks(piece) {
                borders.pass(bytes);
                passed += bytes.len();
                assert_eq!(borders.is_between(), whole_at.contains(&passed), "{passed} by {piece}");
                let whole = whole_at.iter().rev().find(|end| **end <= passed).expect("0 is one");
                assert_eq!(borders.incomplete(), passed - whole, "{passed} by {piece}");
            }
        }
    }
}
