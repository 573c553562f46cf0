//! Whether a second loop in one server would pay: two servers stand for its two loops, since loops that
//! share nothing but the feed are what two servers are. By CPU a request, because loops and load want
//! the same two cores.

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
        ("one loop", 1, false, false),
        ("two loops that know nothing of each other", 2, false, false),
        ("two loops, each told what the other is told", 2, true, false),
        ("one loop, each request of another client", 1, false, true),
        (
            "two loops, each told what the other is told, each request of another client",
            2,
            true,
            true,
        ),
    ];
    let mut running = Vec::new();
    for (_, loops, are_linked, _) in ways {
        running.push(start(workshop, loops, are_linked)?);
    }
    let mut cpu = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for ((servers, cpu), (.., is_mixed)) in running.iter().zip(&mut cpu).zip(ways) {
            cpu.push(one(servers, is_mixed, time)?);
        }
    }
    let rows = ways.into_iter().zip(cpu);
    Ok(rows.map(|((title, loops, ..), cpu)| Loops { title, loops, cpu: median(cpu) }).collect())
}

fn start(workshop: &Workshop, loops: usize, are_linked: bool) -> Result<Vec<Running>, Failure> {
    let mut text = String::new();
    let mut ports = Vec::new();
    for number in 0..loops {
        let (port, peers) = (free_port()?, free_port()?);
        let other = if are_linked { format!("\"Loop_{}\"", 1 - number) } else { String::new() };
        text += &format!(
            "[[server]]\nname = \"Loop_{number}\"\nlisten = \"127.0.0.1:{port}\"\n\
             peers = \"127.0.0.1:{peers}\"\nneighbours = [{other}]\n"
        );
        ports.push(port);
    }
    let config = workshop.scratch.path().join(format!("loops_{}.toml", ports[0]));
    std::fs::write(&config, text)?;
    let start = |(number, &port): (usize, &u16)| {
        let command = workshop.our_command(&format!("Loop_{number}"), &config, false);
        workshop.start_command(command, port, None)
    };
    ports.iter().enumerate().map(start).collect()
}

/// Microseconds of CPU a request.
fn one(servers: &[Running], is_mixed: bool, time: Duration) -> Result<f64, Failure> {
    let addresses: Vec<_> = servers.iter().map(|server| server.clients).collect();
    let mut load = Load::connect(&addresses, 64)?;
    if is_mixed {
        load.mix_clients();
    }
    load.closed(16, time / 5)?;
    let used = || servers.iter().map(|server| cpu_time(server.id())).sum::<Duration>();
    let before = used();
    let seen = load.closed(16, time)?;
    let cpu = used() - before;
    load.drain()?;
    Ok(cpu.as_secs_f64() * 1e6 / seen.requests as f64)
}
