//! The populated places of the world, embedded, and the nearest of them to a point.
//!
//! The data is GeoNames (CC BY 4.0: its name must be shown with it), `gazetteer.tsv.gz`. A line is a place, its fields
//! separated by tabs: latitude, longitude (both with five decimals), name, country code, population,
//! GeoNames id. `build.rs` makes a table of it (`table.rs`). The tests have checked this one file, so nothing here
//! reports a fault in it: a malformed line is skipped.

use std::borrow::Cow;

use super::Area;
use super::degrees::Degrees;
use super::table::{self, Row, RowBytes};
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

/// All places: the tree, which finds rows, and the table with the data of each row.
#[derive(Debug)]
pub struct Gazetteer {
    tree: Tree,
    table: Cow<'static, [u8]>,
}

impl Gazetteer {
    /// The embedded data. The points of its tree take some 4 ms of CPU, so they must not be made on a thread for which
    /// others wait, and 5.5 MB as long as the gazetteer lives. The rest is read where the program has it, which all
    /// processes share.
    pub fn unpack() -> Gazetteer {
        Gazetteer::of(Cow::Borrowed(EMBEDDED))
    }

    /// The places of a list, lines as the embedded data has them. Malformed lines are skipped, and
    /// so are lines after the first 4 GiB of names.
    pub fn read(list: &str) -> Gazetteer {
        Gazetteer::of(Cow::Owned(table::make(list)))
    }

    fn of(table: Cow<'static, [u8]>) -> Gazetteer {
        let (rows, _) = table::parts(&table);
        let nodes = rows.iter().zip(0..).map(|(row, number)| Row::read(row).node(number));
        Gazetteer { tree: Tree::of_sorted(nodes.collect()), table }
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
        let (rows, texts) = table::parts(&self.table);
        let found = self.tree.nearest(query, most).into_iter();
        found.map(|(node, distance)| place(rows, texts, node, distance)).collect()
    }
}

fn place<'g>(rows: &[RowBytes], texts: &'g [u8], node: &Node, distance: f64) -> Place<'g> {
    let number = node.row as usize;
    let row = Row::read(&rows[number]);
    let begin = if number == 0 { 0 } else { Row::read(&rows[number - 1]).text_end };
    let text = texts.get(begin as usize..row.text_end as usize).unwrap_or_default();
    let text = str::from_utf8(text).unwrap_or_default();
    let (name, country) = text.split_once('\t').unwrap_or((text, ""));
    let Row { latitude, longitude, population, geonames_id, .. } = row;
    Place { name, country, latitude, longitude, population, geonames_id, distance }
}

/// Made by `build.rs`.
static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gazetteer"));

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
