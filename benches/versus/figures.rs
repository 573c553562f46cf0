//! Raw figures: under each name one value for each round. Tables, goals and sentences are made of them alone, whether the
//! run has just ended or its file was kept.
//!
//! A name is a path: `64x1/off/ours/rate`. What a part measures begins with the part's name, except for the load, whose
//! names begin with the shape's.

use std::collections::BTreeMap;

/// One run's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(BTreeMap<String, Vec<f64>>);

/// Where the middle half of some values lies, and their median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the values lies below.
    pub low: f64,
    pub median: f64,
    /// A quarter of the values lies above.
    pub high: f64,
}

impl Figures {
    /// Adds the value of one more round. What was not measured is left out.
    pub fn add(&mut self, name: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.0.entry(name.into()).or_default().push(value);
        }
    }

    /// All values at once, in place of those that there are.
    pub fn set(&mut self, name: impl Into<String>, values: Vec<f64>) {
        self.0.insert(name.into(), values);
    }

    /// The values in the order of the rounds.
    pub fn values(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn spread(&self, name: &str) -> Option<Spread> {
        Spread::of(self.values(name).to_vec())
    }

    /// The spread of the ratios within each round: what slows the machine down for a second slows both. Where the two were
    /// not measured in the same rounds, there is no ratio.
    pub fn ratio(&self, over: &str, under: &str) -> Option<Spread> {
        let (over, under) = (self.values(over), self.values(under));
        if over.len() != under.len() {
            return None;
        }
        Spread::of(over.iter().zip(under).map(|(over, under)| over / under).collect())
    }

    /// Whether the two differ: their spreads do not overlap. Of fewer than three rounds nothing is said.
    pub fn differ(&self, one: &str, other: &str) -> bool {
        if self.values(one).len().min(self.values(other).len()) < 3 {
            return false;
        }
        let apart = |one: Spread, other: Spread| one.is_apart_from(other);
        self.spread(one).zip(self.spread(other)).is_some_and(|(one, other)| apart(one, other))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// Figures of the same name are replaced.
    pub fn take(&mut self, newer: Figures) {
        self.0.extend(newer.0);
    }
}

impl Spread {
    /// None of no values.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        // Between two values on a straight line.
        let at = |part: f64| {
            let place = part * (values.len() - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Spread { low: at(0.25), median: at(0.5), high: at(0.75) })
    }

    pub fn is_apart_from(self, other: Spread) -> bool {
        self.low > other.high || self.high < other.low
    }

    pub fn times(self, factor: f64) -> Spread {
        Spread { low: self.low * factor, median: self.median * factor, high: self.high * factor }
    }
}
