//! Schedules as they are run, and made smaller.

use crate::schedule::Schedule;
use crate::world::{Report, World};

/// Runs one schedule. A panic of the core is a failure like any other.
pub fn check(schedule: &Schedule) -> Result<Report, String> {
    let run = || World::new(schedule).run();
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(_) => Err("the core panicked".to_owned()),
    }
}

/// The same failure, or another, with as few events as can be found by leaving some out, first many at once.
pub fn shrunk(mut schedule: Schedule) -> Schedule {
    let mut size = schedule.events.len().div_ceil(2);
    while size > 0 {
        let mut place = 0;
        while place < schedule.events.len() {
            let mut smaller = schedule.clone();
            let end = (place + size).min(smaller.events.len());
            smaller.events.drain(place..end);
            match check(&smaller) {
                Err(_) => schedule = smaller,
                Ok(_) => place += size,
            }
        }
        size /= 2;
    }
    schedule
}
