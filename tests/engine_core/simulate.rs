//! Runs schedules of the simulation of members on one bucket: one by its seed, or as many as asked for.
//!
//!     cargo run --release --example simulate_engine -- --seed 7
//!     cargo run --release --example simulate_engine -- --schedules 100000 [--from 0] [--as-it-is]
//!
//! A schedule that fails is made smaller, unless it is wanted as it is. With TELL=1 in the environment each event of the core
//! is printed.

#[allow(dead_code, reason = "it serves other tests, too")]
mod alone;
mod asks;
mod faults;
mod laws;
mod member;
mod pauses;
#[path = "../simulation/random.rs"]
mod random;
mod runs;
mod schedule;
mod server;
mod stream;
mod wire;
mod world;

use std::process::ExitCode;

use runs::{check, shrunk};
use schedule::Schedule;

fn main() -> ExitCode {
    let mut words = pico_args::Arguments::from_env();
    let seed: Option<u64> = words.opt_value_from_str("--seed").ok().flatten();
    let schedules: u64 = words.opt_value_from_str("--schedules").ok().flatten().unwrap_or(10_000);
    let from: u64 = words.opt_value_from_str("--from").ok().flatten().unwrap_or(0);
    let as_it_is = words.contains("--as-it-is");
    if let Some(seed) = seed {
        let schedule = Schedule::from_seed(seed);
        println!("{schedule}");
        return match check(&schedule) {
            Ok(report) => {
                println!("all tables and the bucket are equal: {report:?}");
                ExitCode::SUCCESS
            }
            Err(wrong) => {
                println!("{wrong}");
                ExitCode::FAILURE
            }
        };
    }
    std::panic::set_hook(Box::new(|_| {}));
    let (mut steps, mut answers, mut asked, mut conflicts, mut repairs) = (0, 0, 0, 0, 0);
    for seed in from..from + schedules {
        if let Err(wrong) = pauses::check(seed) {
            println!("caught after {} schedules: {wrong}", seed - from + 1);
            return ExitCode::FAILURE;
        }
        match check(&Schedule::from_seed(seed)) {
            Ok(report) => {
                steps += report.steps;
                answers += report.answers;
                asked += report.asked;
                conflicts += report.conflicts;
                repairs += report.repairs;
            }
            Err(wrong) => {
                println!("caught after {} schedules: {wrong}\n", seed - from + 1);
                let schedule = Schedule::from_seed(seed);
                println!("{}", if as_it_is { schedule } else { shrunk(schedule) });
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{schedules} schedules, {steps} steps, {answers} answers, {asked} questions, {conflicts} conflicts, {repairs} repairs: nothing was found"
    );
    ExitCode::SUCCESS
}
