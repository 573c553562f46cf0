//! Whether a second loop in one server pays (`loops` in the configuration). By CPU a request, because the
//! loops and the load want the same two cores.

use std::time::Duration;

use crate::Failure;
use crate::cores::cpu_time;
use crate::load::Load;
use crate::peers::{Running, Workshop, free_port};
use crate::shapes::median;

/// One way to serve 64 × 16.
#[derive(Clone, Copy, Debug)]
pub struct Loops {
    pub title: &'static str,
    /// How many loops share the work.
    pub loops: usize,
    /// Microseconds of CPU a request, of all loops together.
    pub cpu: f64,
}

pub fn measure(workshop: &Workshop, time: Duration, rounds: usize) -> Result<Vec<Loops>, Failure> {
    let ways = [
        ("one loop", 1, false),
        ("two loops", 2, false),
        ("one loop, each request of another client", 1, true),
        ("two loops, each request of another client", 2, true),
    ];
    let mut running = Vec::new();
    for (_, loops, _) in ways {
        running.push(workshop.start_ours(free_port()?, loops, false)?);
    }
    let mut cpu = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for ((server, cpu), (.., is_mixed)) in running.iter().zip(&mut cpu).zip(ways) {
            cpu.push(one(server, is_mixed, time)?);
        }
    }
    let rows = ways.into_iter().zip(cpu);
    Ok(rows.map(|((title, loops, ..), cpu)| Loops { title, loops, cpu: median(cpu) }).collect())
}

/// Microseconds of CPU a request.
fn one(server: &Running, is_mixed: bool, time: Duration) -> Result<f64, Failure> {
    let mut load = Load::connect(server.clients, 64)?;
    if is_mixed {
        load.mix_clients();
    }
    load.closed(16, time / 5)?;
    let before = cpu_time(server.id());
    let seen = load.closed(16, time)?;
    let cpu = cpu_time(server.id()) - before;
    load.drain()?;
    Ok(cpu.as_secs_f64() * 1e6 / seen.requests as f64)
}
