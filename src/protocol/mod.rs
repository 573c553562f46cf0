//! Bytes to values and back.

/// The words in which a herd talks to its clients (protocol, section 2). One for the whole herd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `AT AT <id> <location> <timestamp>`, radii in miles.
    #[default]
    Report,
    /// `AT <server> <skew> <id> <location> <timestamp>`, radii in kilometres.
    Course,
}
