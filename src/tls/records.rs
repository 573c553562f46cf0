//! Where TLS records begin and end among the bytes that come.
//!
//! rustls keeps a record until it is whole, and does not say whether it holds a part of one. A kept
//! connection on which half a record lies is not at rest: the other half would be taken for the answer
//! to the next request.

/// Follows the records of one direction: five bytes of header, of which the last two are the length
/// of what comes behind (RFC 8446, section 5.1).
#[derive(Debug, Default)]
pub(super) struct RecordBorders {
    header: [u8; HEADER_BYTES],
    /// Bytes of the present header that have come.
    seen: usize,
    /// Bytes of the present record that have not.
    left: usize,
}

impl RecordBorders {
    /// Takes note of bytes that have come.
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

    /// Whether the last record that came is whole.
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
