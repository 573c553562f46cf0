//! Claim: whatever a network and its machines do to a herd, once they are done with it all tables are
//! equal, and equal to the newest of what survived; and on the way nothing that must never be is.
//!
//! The herd's core, exactly as the server runs it, over a virtual network and clock; all from a seed.
//! `just simulate` runs as many schedules as there is time for.

mod oracle;
mod random;
mod runs;
mod schedule;
mod world;

use runs::{check, shrunk};
use schedule::Schedule;

#[test]
fn every_schedule_ends_with_equal_tables() {
    for seed in 0..SCHEDULES {
        if let Err(wrong) = check(&Schedule::from_seed(seed, None)) {
            let smallest = shrunk(Schedule::from_seed(seed, None));
            panic!("{wrong}\n\nsmallest schedule that fails, of {smallest}");
        }
    }
}

#[test]
fn larger_herds_end_with_equal_tables() {
    for seed in 0..5 {
        let schedule = Schedule::from_seed(seed, Some(20));
        assert_eq!(check(&schedule).err(), None, "{schedule}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..50 {
        let schedule = Schedule::from_seed(seed, None);
        assert_eq!(check(&schedule), check(&schedule), "seed {seed}");
    }
}

/// Schedules in `cargo test`.
const SCHEDULES: u64 = 2_000;
