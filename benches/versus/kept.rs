//! What it costs to keep updates outside the process, on the disk or in an engine, beside a server that keeps them in
//! memory only. All in one run and in turns, so that the ratios count.

use std::fs;
use std::time::Duration;

use crate::Failure;
use crate::bare::Bare;
use crate::cores::cpu_time;
use crate::load::Load;
use crate::nats::Nats;
use crate::peers::{Running, Workshop, free_port};
use crate::shapes::median;

/// One way to keep updates, in one shape.
#[derive(Clone, Debug)]
pub struct Kept {
    pub title: &'static str,
    pub connections: usize,
    pub depth: u32,
    /// Answers a second.
    pub rate: f64,
    /// The same, relative to the server that keeps nothing.
    pub ratio: f64,
    /// Microseconds of the server's CPU an answer.
    pub cpu: f64,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
}

/// What is seen in one round.
struct Round {
    rate: f64,
    cpu: f64,
    p50: f64,
    p99: f64,
}

const SHAPES: [(usize, u32); 3] = [(1, 1), (64, 1), (64, 16)];

/// Each way, by the sections of its configuration. `{folder}` is a folder of its own.
const WAYS: [(&str, &str); 5] = [
    (PLAIN, ""),
    ("state directory, answered at once", "[state]\ndir = \"{folder}\"\n"),
    ("state directory, answered after the disk", "[state]\ndir = \"{folder}\"\nack = \"disk\"\n"),
    ("engine on one node, answered at once", "{engine}ack = \"local\"\n"),
    ("engine on one node, answered after it", "{engine}ack = \"engine\"\n"),
];
const PLAIN: &str = "memory only";

pub fn measure(workshop: &Workshop, time: Duration, rounds: usize) -> Result<Vec<Kept>, Failure> {
    let nats_folder = workshop.scratch.path().join("nats");
    fs::create_dir(&nats_folder)?;
    let nats = Nats::start(&nats_folder, 1);
    if let Err(error) = &nats {
        eprintln!("the engine is left out: {error}");
    }
    let mut running = Vec::new();
    for (number, (title, sections)) in WAYS.into_iter().enumerate() {
        let engine = match (sections.contains("{engine}"), &nats) {
            (true, Err(_)) => continue,
            (true, Ok(nats)) => {
                let bucket = format!("kept{number}");
                Bare::connect(nats.addresses[0])?.make_bucket(&bucket, 1)?;
                nats.section(&bucket, "")
            }
            _ => String::new(),
        };
        let folder = workshop.scratch.path().join(format!("kept-{number}"));
        fs::create_dir(&folder)?;
        let folder = folder.to_str().ok_or("a folder whose name is no text")?;
        let sections = sections.replace("{folder}", folder).replace("{engine}", &engine);
        running.push((title, workshop.start_with(free_port()?, &sections)?));
    }
    let mut all = Vec::new();
    for (connections, depth) in SHAPES {
        let mut seen: Vec<Vec<Round>> = running.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((_, server), seen) in running.iter().zip(&mut seen) {
                seen.push(one(server, connections, depth, time)?);
            }
        }
        let plain: Vec<f64> = seen[0].iter().map(|round| round.rate).collect();
        for ((title, _), rounds) in running.iter().zip(seen) {
            let of = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick).collect());
            let ratios = rounds.iter().zip(&plain).map(|(round, plain)| round.rate / plain);
            all.push(Kept {
                title,
                connections,
                depth,
                rate: of(|round| round.rate),
                ratio: median(ratios.collect()),
                cpu: of(|round| round.cpu),
                p50: of(|round| round.p50),
                p99: of(|round| round.p99),
            });
        }
    }
    Ok(all)
}

fn one(server: &Running, connections: usize, depth: u32, time: Duration) -> Result<Round, Failure> {
    let mut load = Load::connect(server.clients, connections)?;
    load.closed(depth, time / 5)?;
    let before = cpu_time(server.id());
    let seen = load.closed(depth, time)?;
    let cpu = cpu_time(server.id()) - before;
    load.drain()?;
    let micros = |quantile: f64| seen.latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Round {
        rate: seen.requests as f64 / seen.elapsed.as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / seen.requests as f64,
        p50: micros(0.5),
        p99: micros(0.99),
    })
}
