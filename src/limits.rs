//! Every bound of the server, with its reason (protocol, section 7).
use std::time::Duration;

/// The limits that a configuration can set (`[limits]`).
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub line_bytes: usize,
    pub begun_line: Duration,
    pub connections: usize,
    pub unsent_bytes: usize,
    pub stalled: Duration,
    pub buffer_bytes: usize,
}
