//! Numbers for tests that look random and are the same each time (xorshift).

/// The next number of the series that `state` has come to; it must not be 0.
pub fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}
