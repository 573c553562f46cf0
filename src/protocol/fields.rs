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
    let mut rest = line;
    while fields.count < MOST {
        let begin = rest.iter().position(|&byte| !is_white_space(byte));
        let Some(begin) = begin else {
            break;
        };
        let field = &rest[begin..];
        let end = field.iter().position(|&byte| is_white_space(byte)).unwrap_or(field.len());
        let (field, behind) = field.split_at(end);
        fields.fields[fields.count] = field;
        fields.count += 1;
        rest = behind;
    }
    fields
}

fn is_white_space(byte: u8) -> bool {
    // One comparison settles it for nearly every byte of a line.
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\r' | b'\x0c' | b'\x0b')
}
