//! What lies around a point.

/// What a WHATSAT asks: the places around a point.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Decimal degrees, north positive, within ±90.
    pub latitude: f64,
    /// Decimal degrees, east positive, within ±180.
    pub longitude: f64,
    /// Metres, not negative.
    pub radius: f64,
}
