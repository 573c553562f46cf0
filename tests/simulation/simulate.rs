//! Runs schedules of the simulation: one by its seed, or as many as asked for.
//!
//!     cargo run --release --example simulate -- --seed 7 --servers 50
//!     cargo run --release --example simulate -- --schedules 100000 [--from 0] [--as-it-is]
//!     cargo run --release --example simulate -- --scale [2000]
//!
//! A schedule that fails is made smaller, unless it is wanted as it is.

mod disk;
mod faults;
mod held;
mod judge;
mod network;
mod oracle;
mod random;
mod runs;
mod scale;
mod schedule;
mod tell;
mod watch;
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
    if words.contains("--scale") {
        let most = words.opt_free_from_str().ok().flatten().unwrap_or(usize::MAX);
        return match print_scale(most) {
            Ok(()) => ExitCode::SUCCESS,
            Err(wrong) => {
                println!("{wrong}");
                ExitCode::FAILURE
            }
        };
    }
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
                let schedule = if as_it_is { schedule } else { shrunk(schedule) };
                println!("{}\n{schedule}", check(&schedule).err().unwrap_or_default());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{schedules} schedules, {steps} steps: nothing was found");
    ExitCode::SUCCESS
}

/// Prints a row for each herd of at most so many servers, as Markdown.
fn print_scale(most: usize) -> Result<(), String> {
    println!(
        "| shape | servers | links a server | hops | ms until everywhere, mean | the longest | copies a server \
         | 1,000 at once | bytes a server | idle, bytes a second |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for servers in [5, 50, 500, 2_000].into_iter().filter(|&servers| servers <= most) {
        for (shape, edges) in scale::shapes(servers) {
            let all = servers as f64;
            let links = 2.0 * edges.len() as f64 / all;
            let cost = scale::measure(servers, edges)?;
            println!(
                "| {shape} | {servers} | {links:.1} | {} | {:.0} | {} | {:.2} | {:.2} | {:.0} | {:.1} |",
                cost.hops,
                cost.times.iter().sum::<u64>() as f64 / cost.times.len() as f64,
                cost.times.iter().max().unwrap_or(&0),
                cost.copies / all,
                cost.crowd_copies / all,
                cost.bytes / all,
                cost.idle_bytes / all,
            );
        }
    }
    Ok(())
}
