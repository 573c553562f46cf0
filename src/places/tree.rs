//! Finds the nearest of many points on the Earth without looking at all of them.
//!
//! Points are points on a sphere of radius 1, in three dimensions, where neither the poles nor the
//! date line are anything special, and the straight line between two points (the chord) orders them
//! as the distance over ground does. The index is a k-d tree without pointers: the middle node of a
//! range divides the others along one axis, the next axis divides the halves, down to small ranges.
//!
//! ```text
//!     nodes  0 ............ m ............ n
//!            └── x <= x(m) ─┘└─ x >= x(m) ─┘      then both by y, then by z, then by x again …
//! ```
//!
//! A search descends on its own side first, and visits the other side only where the plane between
//! them is nearer than the farthest point that would still be an answer.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Area;

/// A point of the unit sphere.
type Point = [f64; 3];

/// One of the points: 32 bytes, so two to a line of the cache.
#[derive(Debug)]
pub(super) struct Node {
    point: Point,
    /// Orders points at the same distance: the lesser first. No two nodes share one.
    pub id: u32,
    /// Where its owner keeps the rest of it.
    pub row: u32,
}

impl Node {
    /// Latitude and longitude in degrees, finite.
    pub fn new(latitude: f64, longitude: f64, id: u32, row: u32) -> Node {
        let point = point(latitude, longitude);
        Node { point, id, row }
    }
}

/// Nodes in the order that the module's head draws.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// The tree of these nodes.
    pub fn sort(mut nodes: Vec<Node>) -> Tree {
        part(&mut nodes, 0);
        Tree { nodes }
    }

    /// The tree of nodes that are in its order already.
    pub fn of_sorted(nodes: Vec<Node>) -> Tree {
        Tree { nodes }
    }

    /// All nodes, in the order of the tree.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes within the query's radius and [`ROUNDING`], nearest first, at most `most`, each with
    /// its distance over ground in metres.
    pub fn nearest(&self, query: &Area, most: usize) -> Vec<(&Node, f64)> {
        let centre = point(query.latitude, query.longitude);
        if most == 0 || !centre.iter().all(|coordinate| coordinate.is_finite()) {
            return Vec::new();
        }
        let reach = chord_squared(query.radius.max(0.0) + ROUNDING);
        let found = BinaryHeap::new();
        let mut search = NearestSearch { centre, most, reach, found };
        search.visit(&self.nodes, 0);
        let nearest_first = search.found.into_sorted_vec().into_iter();
        nearest_first.map(|it| (it.node, metres(it.chord_squared))).collect()
    }
}

/// Brings nodes into the order of the tree. The axes alternate; dividing along the longest side would
/// need the axis stored with each node.
fn part(nodes: &mut [Node], axis: usize) {
    if nodes.len() <= LEAF {
        return;
    }
    let by_axis = |one: &Node, other: &Node| one.point[axis].total_cmp(&other.point[axis]);
    let (below, _, above) = nodes.select_nth_unstable_by(nodes.len() / 2, by_axis);
    part(below, (axis + 1) % 3);
    part(above, (axis + 1) % 3);
}

struct NearestSearch<'t> {
    centre: Point,
    most: usize,
    /// The square of the chord beyond which nothing is an answer any more.
    reach: f64,
    /// The best so far, the worst of them on top.
    found: BinaryHeap<Candidate<'t>>,
}

impl<'t> NearestSearch<'t> {
    fn visit(&mut self, nodes: &'t [Node], axis: usize) {
        if nodes.len() <= LEAF {
            nodes.iter().for_each(|node| self.consider(node));
            return;
        }
        let (below, from_middle) = nodes.split_at(nodes.len() / 2);
        let Some((middle, above)) = from_middle.split_first() else {
            return;
        };
        let beyond = self.centre[axis] - middle.point[axis];
        let (own, other) = if beyond < 0.0 { (below, above) } else { (above, below) };
        self.visit(own, (axis + 1) % 3);
        self.consider(middle);
        if beyond * beyond <= self.reach {
            self.visit(other, (axis + 1) % 3);
        }
    }

    fn consider(&mut self, node: &'t Node) {
        let along = |axis: usize| node.point[axis] - self.centre[axis];
        let chord_squared = along(0).powi(2) + along(1).powi(2) + along(2).powi(2);
        if chord_squared > self.reach {
            return;
        }
        self.found.push(Candidate { chord_squared, node });
        if self.found.len() > self.most {
            self.found.pop();
        }
        if let (true, Some(worst)) = (self.found.len() == self.most, self.found.peek()) {
            self.reach = worst.chord_squared;
        }
    }
}

/// A node that may be an answer. The lesser is the better one.
struct Candidate<'t> {
    chord_squared: f64,
    node: &'t Node,
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_distance = self.chord_squared.total_cmp(&other.chord_squared);
        by_distance.then(self.node.id.cmp(&other.node.id))
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

fn point(latitude: f64, longitude: f64) -> Point {
    let (sin_latitude, cos_latitude) = latitude.to_radians().sin_cos();
    let (sin_longitude, cos_longitude) = longitude.to_radians().sin_cos();
    [cos_latitude * cos_longitude, cos_latitude * sin_longitude, sin_latitude]
}

/// The square of the chord that spans this many metres over ground.
fn chord_squared(metres: f64) -> f64 {
    let half_angle = metres / EARTH_RADIUS / 2.0;
    if half_angle >= std::f64::consts::FRAC_PI_2 {
        return f64::INFINITY; // half around or more: everything
    }
    (2.0 * half_angle.sin()).powi(2)
}

/// The inverse: metres over ground.
fn metres(chord_squared: f64) -> f64 {
    2.0 * EARTH_RADIUS * (chord_squared.sqrt() / 2.0).min(1.0).asin()
}

/// Metres; the mean radius (IUGG). Against the true ellipsoid distances are wrong by up to half a
/// percent: at 50 km that is less than a town is wide.
const EARTH_RADIUS: f64 = 6_371_008.8;

/// Metres that are added to a radius. Far above the rounding errors of a float (some nanometres), far
/// below the resolution of five decimals of a degree (a metre).
pub(super) const ROUNDING: f64 = 0.001;

/// Up to this many nodes are visited one by one instead of being divided.
const LEAF: usize = 8;
