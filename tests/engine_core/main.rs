//! Claim: whatever an engine, its network and its members do, afterwards all members' tables and the bucket are equal and
//! hold the newest of what is left; what was answered is in the bucket; and on the way no law of `laws.rs` is ever broken.
//!
//! The core of several members, exactly as the server runs it, on one model of a JetStream bucket, over a virtual network
//! and clock; all from a seed. `just simulate` runs as many schedules as there is time for.

mod alone;
mod asks;
mod cache;
mod faults;
mod given_up;
mod laws;
mod looks;
mod member;
mod pauses;
mod questions;
#[path = "../simulation/random.rs"]
mod random;
mod runs;
mod schedule;
mod server;
mod stream;
mod wire;
mod world;

use runs::{check, shrunk};
use schedule::Schedule;

#[test]
fn every_schedule_ends_with_equal_tables_and_an_equal_bucket() {
    let half = |first: u64| {
        for seed in (first..SCHEDULES).step_by(2) {
            if let Err(wrong) = check(&Schedule::from_seed(seed)) {
                let smallest = shrunk(Schedule::from_seed(seed));
                panic!("{wrong}\n\nsmallest schedule that fails, of {smallest}");
            }
        }
    };
    std::thread::scope(|scope| [0, 1].map(|first| scope.spawn(move || half(first))).map(drop));
}

/// One of many thousands of schedules in which that happens.
#[test]
fn an_earlier_publish_that_a_replaced_leader_took_over_a_later_one_is_repaired() {
    assert_eq!(check(&Schedule::from_seed(24_759)).err(), None);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let schedule = Schedule::from_seed(seed);
        assert_eq!(check(&schedule), check(&schedule), "seed {seed}");
    }
}

/// Schedules in `cargo test`.
const SCHEDULES: u64 = 400;
