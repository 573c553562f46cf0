//! The populated places of the world, embedded, and the nearest of them to a point.
//!
//! The data is GeoNames (CC BY 4.0: its name must be shown with it). A line is a place, its fields
//! separated by tabs: latitude, longitude (both with five decimals), name, country code, population,
//! GeoNames id. The tests have checked this one file, so nothing here reports a fault in it: a
//! malformed line is skipped, and if unpacking fails, the data ends there.

use std::io::Read;

use flate2::read::GzDecoder;

use super::Area;
use super::degrees::Degrees;
use super::tree::{Node, Tree};

/// One place of the data, and its distance from the requested point.
#[derive(Clone, Debug, PartialEq)]
pub struct Place<'g> {
    /// As GeoNames spells it.
    pub name: &'g str,
    /// The country's two letters (ISO 3166-1).
    pub country: &'g str,
    /// North positive.
    pub latitude: Degrees,
    /// East positive.
    pub longitude: Degrees,
    /// 0 if GeoNames doesn't know it.
    pub population: u32,
    /// No two places share one.
    pub geonames_id: u32,
    /// Metres over ground, on a sphere.
    pub distance: f64,
}

/// All places: the tree, which finds rows, and columns with the data of each row.
#[derive(Debug)]
pub struct Gazetteer {
    tree: Tree,
    /// Latitude and longitude.
    positions: Vec<(Degrees, Degrees)>,
    populations: Vec<u32>,
    /// Name, tab and country code of each row, one after the other.
    text: String,
    /// Where the text of each row ends, and the next one begins.
    text_ends: Vec<u32>,
}

impl Gazetteer {
    /// Unpacks the embedded data. That takes some 75 ms of CPU (30 to inflate, the rest to read lines
    /// and to order the tree), so it must not run on a thread for which others wait. It takes 11 MB
    /// as long as the gazetteer lives, and 8 MB more during unpacking.
    pub fn unpack() -> Gazetteer {
        let mut table = Vec::with_capacity(UNPACKED_BYTES);
        // After an error, the text before it is used; see the module's head.
        let _ = GzDecoder::new(EMBEDDED).read_to_end(&mut table);
        Gazetteer::read(&String::from_utf8_lossy(&table))
    }

    /// The places of `table`, lines as the embedded data has them. Malformed lines are skipped, and
    /// so are lines after the first 4 GiB of names.
    pub fn read(table: &str) -> Gazetteer {
        let mut nodes = Vec::with_capacity(EXPECTED_PLACES);
        let mut positions = Vec::with_capacity(EXPECTED_PLACES);
        let mut populations = Vec::with_capacity(EXPECTED_PLACES);
        let mut text = String::with_capacity(EXPECTED_TEXT);
        let mut text_ends = Vec::with_capacity(EXPECTED_PLACES);
        for (line, row) in table.lines().filter_map(Row::parse).zip(0..=u32::MAX) {
            let Ok(text_end) = u32::try_from(text.len() + line.text.len()) else {
                break;
            };
            let Row { latitude, longitude, geonames_id, .. } = line;
            nodes.push(Node::new(latitude.to_f64(), longitude.to_f64(), geonames_id, row));
            positions.push((latitude, longitude));
            populations.push(line.population);
            text.push_str(line.text);
            text_ends.push(text_end);
        }
        Gazetteer { tree: Tree::new(nodes), positions, populations, text, text_ends }
    }

    /// The number of places.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there are no places.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The places within the query's radius, nearest first, at most `most`. Of places at the same
    /// distance, the one with the lesser GeoNames id comes first, so the answer to a query is always
    /// the same. The radius is taken a millimetre longer than it is, so that rounding loses no place
    /// on its edge (with radius 0: at the point itself).
    pub fn nearest(&self, query: &Area, most: usize) -> Vec<Place<'_>> {
        let found = self.tree.nearest(query, most).into_iter();
        found.map(|(node, distance)| self.place(node, distance)).collect()
    }

    fn place(&self, node: &Node, distance: f64) -> Place<'_> {
        let row = node.row as usize;
        let begin = if row == 0 { 0 } else { self.text_ends[row - 1] as usize };
        let text = &self.text[begin..self.text_ends[row] as usize];
        let (name, country) = text.split_once('\t').unwrap_or((text, ""));
        let (latitude, longitude) = self.positions[row];
        Place {
            name,
            country,
            latitude,
            longitude,
            population: self.populations[row],
            geonames_id: node.id,
            distance,
        }
    }
}

/// One line of the data.
struct Row<'t> {
    latitude: Degrees,
    longitude: Degrees,
    /// Name, tab, country code.
    text: &'t str,
    population: u32,
    geonames_id: u32,
}

impl<'t> Row<'t> {
    fn parse(line: &'t str) -> Option<Row<'t>> {
        let (latitude, rest) = line.split_once('\t')?;
        let (longitude, rest) = rest.split_once('\t')?;
        let (rest, geonames_id) = rest.rsplit_once('\t')?;
        let (text, population) = rest.rsplit_once('\t')?;
        if text.bytes().filter(|&byte| byte == b'\t').count() != 1 {
            return None;
        }
        Some(Row {
            latitude: Degrees::parse(latitude, 90)?,
            longitude: Degrees::parse(longitude, 180)?,
            text,
            population: population.parse().ok()?,
            geonames_id: geonames_id.parse().ok()?,
        })
    }
}

static EMBEDDED: &[u8] = include_bytes!("gazetteer.tsv.gz");

/// A little more than the data needs, so that the buffer is not moved while it fills.
const UNPACKED_BYTES: usize = 8_000_000;

/// As many as the data has.
const EXPECTED_PLACES: usize = 170_391;

/// Bytes; a little more than the names and country codes need.
const EXPECTED_TEXT: usize = 2_500_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(gazetteer: &Gazetteer, latitude: f64, longitude: f64, radius: f64) -> Vec<&str> {
        let query = Area { latitude, longitude, radius };
        gazetteer.nearest(&query, 20).iter().map(|place| place.name).collect()
    }

    #[test]
    fn a_line_of_another_form_is_skipped() {
        let gazetteer = Gazetteer::read(
            "91.00000\t0.00000\tToo far north\tXX\t1\t1\n\
             1.0\t0.00000\tOne decimal\tXX\t1\t2\n\
             1.00000\t0.00000\tNo country\t1\t3\n\
             1.00000\t0.00000\tA tab\tXX\tYY\t1\t4\n\
             1.00000\t0.00000\tMinus\tXX\t-1\t5\n\
             \n\
             1.00000\t0.00000\tGood\tXX\t1\t6",
        );
        assert_eq!(names(&gazetteer, 1.0, 0.0, 0.0), ["Good"]);
        assert_eq!(gazetteer.len(), 1);
    }

    #[test]
    fn no_distance_is_longer_for_a_pole_or_the_date_line() {
        let gazetteer = Gazetteer::read(
            "0.00000\t179.99000\tWest\tXX\t0\t1\n\
             0.00000\t-179.98000\tEast\tXX\t0\t2\n\
             89.99000\t10.00000\tThis side\tXX\t0\t3\n\
             89.98000\t-170.00000\tOther side\tXX\t0\t4\n",
        );
        assert_eq!(names(&gazetteer, 0.0, 180.0, 5_000.0), ["West", "East"]);
        assert_eq!(names(&gazetteer, 0.0, -180.0, 5_000.0), ["West", "East"]);
        assert_eq!(names(&gazetteer, 0.0, -180.0, 2_000.0), ["West"]);
        for longitude in [0.0, 10.0, 180.0] {
            let found = names(&gazetteer, 90.0, longitude, 5_000.0);
            assert_eq!(found, ["This side", "Other side"]);
        }
        assert_eq!(names(&gazetteer, 89.99, -170.0, 5_000.0), ["Other side", "This side"]);
    }

    #[test]
    fn of_places_equally_far_the_lesser_id_comes_first() {
        let lines: String = (0..50)
            .map(|number| format!("5.00000\t5.00000\tNumber {number}\tXX\t0\t{}\n", 100 - number))
            .collect();
        let found = names(&Gazetteer::read(&lines), 5.0, 5.1, 50_000.0).join(" ");
        let expected: Vec<_> = (30..50).rev().map(|number| format!("Number {number}")).collect();
        assert_eq!(found, expected.join(" "));
    }

    #[test]
    fn a_query_that_is_no_point_finds_nothing() {
        let gazetteer = Gazetteer::read("1.00000\t0.00000\tGood\tXX\t1\t6");
        assert!(names(&gazetteer, f64::NAN, 0.0, 1e9).is_empty());
        assert!(names(&gazetteer, 1.0, f64::INFINITY, 1e9).is_empty());
        assert!(names(&gazetteer, 1.0, 0.1, f64::NAN).is_empty());
        assert_eq!(names(&gazetteer, -1.0, 180.0, f64::INFINITY), ["Good"]);
    }
}
