//! What it costs to keep updates outside the process, on the disk or in an engine, beside a server that keeps them in
//! memory only, and beside a client that publishes them to NATS without any server of ours. All in one run and in turns,
//! so that the ratios count.

use std::fs;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Failure;
use crate::bare::{Bare, Publish};
use crate::cores::cpu_time;
use crate::figures::Figures;
use crate::load::Load;
use crate::many::Many;
use crate::nats::Nats;
use crate::peers::{Running, Workshop, free_port};

/// Connections, and requests outstanding on each.
pub const SHAPES: [(usize, u32); 3] = [(1, 1), (64, 1), (64, 16)];

/// Each way: its name, its title, and the sections of its configuration. `{folder}` is a folder of its own.
pub const WAYS: [(&str, &str, &str); 5] = [
    ("memory", "memory only", ""),
    ("disk-later", "state directory, answered at once", "[state]\ndir = \"{folder}\"\n"),
    (
        "disk",
        "state directory, answered after the disk",
        "[state]\ndir = \"{folder}\"\nack = \"disk\"\n",
    ),
    ("engine-later", "engine on one node, answered at once", "{engine}ack = \"local\"\n"),
    ("engine", "engine on one node, answered after it", "{engine}ack = \"engine\"\n"),
];
/// The way without us.
pub const BARE: (&str, &str) = ("nats", "bare clients of NATS, acknowledged by JetStream");

pub fn measure(
    workshop: &Workshop,
    time: Duration,
    rounds: usize,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let nats_folder = workshop.scratch.path().join("nats");
    fs::create_dir(&nats_folder)?;
    let nats = Nats::start(&nats_folder, 1);
    if let Err(error) = &nats {
        eprintln!("the engine is left out: {error}");
    }
    let mut running = Vec::new();
    for (way, _, sections) in WAYS {
        let engine = match (sections.contains("{engine}"), &nats) {
            (true, Err(_)) => continue,
            (true, Ok(nats)) => {
                let bucket = format!("kept-{way}");
                Bare::connect(nats.addresses[0])?.make_bucket(&bucket, 1)?;
                nats.section(&bucket, "")
            }
            _ => String::new(),
        };
        let folder = workshop.scratch.path().join(format!("kept-{way}"));
        fs::create_dir(&folder)?;
        let folder = folder.to_str().ok_or("a folder whose name is no text")?;
        let sections = sections.replace("{folder}", folder).replace("{engine}", &engine);
        running.push((way, workshop.start_with(free_port()?, &sections)?));
    }
    let nats = nats.ok();
    let mut bare = nats.as_ref().map(Clients::connect).transpose()?;
    for (connections, depth) in SHAPES {
        for _ in 0..rounds {
            for (way, server) in &running {
                let name = format!("kept/{connections}x{depth}/{way}");
                let before = cpu_of(nats.as_ref());
                let seen = one(server, connections, depth, time)?;
                let of_nats = cpu_of(nats.as_ref()) - before;
                seen.note(&name, of_nats, figures);
            }
            if let (Some(bare), Some(nats)) = (&mut bare, &nats) {
                let name = format!("kept/{connections}x{depth}/{}", BARE.0);
                let before = cpu_of(Some(nats));
                let seen = bare.publish(connections, depth, time)?;
                seen.note(&name, cpu_of(Some(nats)) - before, figures);
            }
        }
    }
    Ok(())
}

fn cpu_of(nats: Option<&Nats>) -> Duration {
    nats.into_iter().flat_map(Nats::ids).map(cpu_time).sum()
}

/// What one round saw.
struct Round {
    answers: u64,
    elapsed: Duration,
    /// Of our server, where there is one.
    cpu: Option<Duration>,
    latency: Option<Histogram<u64>>,
}

impl Round {
    fn note(&self, name: &str, of_nats: Duration, figures: &mut Figures) {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / self.answers as f64;
        figures.add(format!("{name}/rate"), self.answers as f64 / self.elapsed.as_secs_f64());
        figures.add(format!("{name}/cpu"), self.cpu.map_or(f64::NAN, each));
        figures.add(format!("{name}/nats"), each(of_nats));
        if let Some(latency) = &self.latency {
            let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
            figures.add(format!("{name}/p50"), micros(0.5));
            figures.add(format!("{name}/p99"), micros(0.99));
        }
    }
}

fn one(server: &Running, connections: usize, depth: u32, time: Duration) -> Result<Round, Failure> {
    let mut load = Load::connect(server.clients, connections)?;
    load.closed(depth, time / 5)?;
    let before = cpu_time(server.id());
    let seen = load.closed(depth, time)?;
    let cpu = cpu_time(server.id()) - before;
    load.drain()?;
    let (answers, latency) = (seen.requests, Some(seen.latency));
    Ok(Round { answers, elapsed: seen.elapsed, cpu: Some(cpu), latency })
}

/// Clients that publish updates to a bucket and wait for JetStream's acknowledgements.
struct Clients {
    one: Bare,
    many: Many,
}

impl Clients {
    fn connect(nats: &Nats) -> Result<Clients, Failure> {
        let mut one = Bare::connect(nats.addresses[0])?;
        one.make_bucket(BARE.0, 1)?;
        Ok(Clients { one, many: Many::connect(nats.addresses[0], 64)? })
    }

    /// As many updates as take about so long. With 16 outstanding on each of 64 connections, all are on one connection
    /// here, which is cheaper for NATS.
    fn publish(
        &mut self,
        connections: usize,
        depth: u32,
        time: Duration,
    ) -> Result<Round, Failure> {
        let window = connections * depth as usize;
        let about = |rate: f64| ((time.as_secs_f64() * rate) as usize).max(window);
        let bucket = BARE.0;
        let (count, (elapsed, latency)) = match (connections, depth) {
            (1, 1) => {
                let count = about(40_000.0);
                let (elapsed, latency) = self.one.publish(bucket, 1, count, 1, Publish::Plain)?;
                (count, (elapsed, Some(latency)))
            }
            (_, 1) => {
                let count = about(80_000.0);
                (count, (self.many.publish(bucket, count, Publish::Plain)?, None))
            }
            _ => {
                let count = about(250_000.0);
                let (elapsed, latency) =
                    self.one.publish(bucket, window, count, window, Publish::Plain)?;
                (count, (elapsed, Some(latency)))
            }
        };
        Ok(Round { answers: count as u64, elapsed, cpu: None, latency })
    }
}
