//! Runs schedules of the simulation: one by its seed, or as many as asked for.
//!
//!     cargo run --release --example simulate -- --seed 7 --servers 50
//!     cargo run --release --example simulate -- --schedules 100000 [--from 0] [--as-it-is]
//!
//! A schedule that fails is made smaller, unless it is wanted as it is.

mod oracle;
mod random;
mod runs;
mod schedule;
mod world;

use std::process::ExitCode;

use runs::{check, shrunk};
use schedule::Schedule;

fn main() -> ExitCode {
    let mut words = pico_args::Arguments::from_env();
    let seed: Option<u64> = words.opt_value_from_str("--seed").ok().flatten();
    let servers: Option<usize> = words.opt_value_from_str("--servers").ok().flatten();
    let schedules: u64 = words.opt_value_from_str("--schedules").ok().flatten().unwrap_or(10_000);
    let from: u64 = words.opt_value_from_str("--from").ok().flatten().unwrap_or(0);
    let as_it_is = words.contains("--as-it-is");
    if let Some(seed) = seed {
        let schedule = Schedule::from_seed(seed, servers);
        println!("{schedule}");
        return match check(&schedule) {
            Ok(report) => {
                println!("all tables are equal: {report:?}");
                ExitCode::SUCCESS
            }
            Err(wrong) => {
                println!("{wrong}");
                ExitCode::FAILURE
            }
        };
    }
    std::panic::set_hook(Box::new(|_| {}));
    let mut steps = 0;
    for seed in from..from + schedules {
        match check(&Schedule::from_seed(seed, servers)) {
            Ok(report) => steps += report.steps,
            Err(wrong) => {
                println!("caught after {} schedules: {wrong}\n", seed - from + 1);
                let schedule = Schedule::from_seed(seed, servers);
                println!("{}", if as_it_is { schedule } else { shrunk(schedule) });
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{schedules} schedules, {steps} steps: nothing was found");
    ExitCode::SUCCESS
}
