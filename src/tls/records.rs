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

    /// Whether the last record is whole.
    pub fn is_between(&self) -> bool {
        self.seen == 0 && self.left == 0
    }
}

const HEADER_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

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
            }
        }
    }
}
