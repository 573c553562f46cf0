//! Limits of answers that are held back.

/// Connections that are looked at in one turn because an answer to them may be held back for too long.
pub const HELD_ANSWERS_PER_STEP: usize = 1_024;
/// Clients that have got their answers leave the memory that they needed for waiting to those that wait next, so many at
/// the most: as many as get their answers in one turn of a busy server.
pub const SPARE_WAITS: usize = 256;
/// More than so much of one client is given back at once.
pub const SPARE_WAITS_BYTES: usize = 1_024;
