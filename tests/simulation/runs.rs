//! Schedules as they are run, and made smaller.

use crate::schedule::Schedule;
use crate::world::{Report, World, Wrong};

/// Runs one schedule. A panic of the core is a failure like any other.
pub fn check(schedule: &Schedule) -> Result<Report, Wrong> {
    let run = || World::new(schedule).run();
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(_) => Err("the core panicked".to_owned()),
    }
}

/// The same failure, or another, with as few events as can be found by leaving them out one by one.
pub fn shrunk(mut schedule: Schedule) -> Schedule {
    let mut place = 0;
    while place < schedule.events.len() {
        let mut smaller = schedule.clone();
        smaller.events.remove(place);
        match check(&smaller) {
            Err(_) => schedule = smaller,
            Ok(_) => place += 1,
        }
    }
    schedule
}
