//! A line's fields (section 1): separated by runs of space, TAB, CR, FF or VT, which count
//! neither in front nor behind.

/// More fields than any line of the protocol has; a line with more is no line of it.
const MOST: usize = 8;

/// The fields of one line, in order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    fields: [&'a [u8]; MOST],
    count: usize,
}

impl<'a> Fields<'a> {
    /// The fields as a slice, to be matched against a pattern. A line of more fields than any
    /// command takes shows the first eight: still too many for each.
    pub fn as_slice(&self) -> &[&'a [u8]] {
        &self.fields[..self.count]
    }
}

/// Splits a line, given without its ending, into its fields.
pub fn split(line: &[u8]) -> Fields<'_> {
    let mut fields = Fields { fields: [b""; MOST], count: 0 };
    for field in line.split(|&byte| is_white_space(byte)).filter(|field| !field.is_empty()) {
        if fields.count == MOST {
            break;
        }
        fields.fields[fields.count] = field;
        fields.count += 1;
    }
    fields
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\x0c' | b'\x0b')
}
