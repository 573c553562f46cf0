//! The table of the gazetteer, as the program has it: `build.rs` makes it of the list of places, in the order of the tree,
//! so that a program that starts has neither to unpack nor to read nor to sort.
//!
//! ```text
//!   rows:  latitude  longitude  population  GeoNames id  end of its text     20 bytes each, in the order of the tree
//!   texts: name, tab, country code, of one row after the other
//!   count: of the rows
//! ```

use super::degrees::Degrees;
use super::tree::{Node, Tree};

/// What a row says.
pub struct Row {
    pub latitude: Degrees,
    pub longitude: Degrees,
    pub population: u32,
    pub geonames_id: u32,
    /// Where its text ends in all texts, and the one of the next row begins.
    pub text_end: u32,
}

/// A row as it is stored.
pub type RowBytes = [u8; 20];

impl Row {
    pub fn read(bytes: &RowBytes) -> Row {
        let number = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&bytes[4 * at..4 * at + 4]);
            u32::from_le_bytes(number)
        };
        Row {
            latitude: Degrees::from_steps(number(0) as i32),
            longitude: Degrees::from_steps(number(1) as i32),
            population: number(2),
            geonames_id: number(3),
            text_end: number(4),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let angles = [self.latitude, self.longitude].map(|angle| angle.steps() as u32);
        let numbers = [self.population, self.geonames_id, self.text_end];
        for number in angles.into_iter().chain(numbers) {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// The point of the row that has this number.
    pub fn node(&self, row: u32) -> Node {
        Node::new(self.latitude.to_f64(), self.longitude.to_f64(), self.geonames_id, row)
    }
}

/// The rows and the texts of a table; empty ones if it is none.
pub fn parts(table: &[u8]) -> (&[RowBytes], &[u8]) {
    let parts = || {
        let (table, count) = table.split_last_chunk()?;
        let bytes = size_of::<RowBytes>().checked_mul(u32::from_le_bytes(*count) as usize)?;
        let (rows, texts) = table.split_at_checked(bytes)?;
        Some((rows.as_chunks().0, texts))
    };
    parts().unwrap_or_default()
}

/// Makes a table of lines as the list of places has them. Malformed lines are skipped, and so are lines after the first
/// 4 GiB of names.
pub fn make(list: &str) -> Vec<u8> {
    let (mut rows, mut nodes, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (line, number) in list.lines().filter_map(Line::parse).zip(0..=u32::MAX) {
        if u32::try_from(bytes + line.text.len()).is_err() {
            break;
        }
        bytes += line.text.len();
        nodes.push(line.row.node(number));
        rows.push(line);
    }
    let (mut table, mut texts) = (Vec::new(), Vec::with_capacity(bytes));
    for node in Tree::sort(nodes).nodes() {
        let Line { row, text } = &rows[node.row as usize];
        texts.extend_from_slice(text.as_bytes());
        Row { text_end: texts.len() as u32, ..*row }.write(&mut table);
    }
    table.extend_from_slice(&texts);
    table.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    table
}

/// One line of the list.
struct Line<'t> {
    /// Without the end of its text.
    row: Row,
    /// Name, tab, country code.
    text: &'t str,
}

impl<'t> Line<'t> {
    fn parse(line: &'t str) -> Option<Line<'t>> {
        let (latitude, rest) = line.split_once('\t')?;
        let (longitude, rest) = rest.split_once('\t')?;
        let (rest, geonames_id) = rest.rsplit_once('\t')?;
        let (text, population) = rest.rsplit_once('\t')?;
        if text.bytes().filter(|&byte| byte == b'\t').count() != 1 {
            return None;
        }
        let row = Row {
            latitude: Degrees::parse(latitude, 90)?,
            longitude: Degrees::parse(longitude, 180)?,
            population: population.parse().ok()?,
            geonames_id: geonames_id.parse().ok()?,
            text_end: 0,
        };
        Some(Line { row, text })
    }
}
