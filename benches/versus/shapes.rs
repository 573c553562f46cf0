//! The shapes of the load, and the rounds in which every server meets every shape.
//!
//! Servers stay up for the whole run, so that what compiles while it runs is warm. They take
//! turns within each round: a machine that is slow for a minute is slow for all of them.

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Failure;
use crate::allocator;
use crate::cores::{cpu_time, minor_faults};
use crate::figures::Figures;
use crate::load::{Load, Seen, connect, histogram};
use crate::options::Options;
use crate::peers::{Peer, Running, Workshop};

/// So many connections with so many requests outstanding on each, or a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub name: &'static str,
    pub connections: usize,
    pub depth: u32,
    /// Beside them, idle ones, as many as descriptors allow.
    pub is_crowded: bool,
    pub is_open: bool,
}

const fn closed(name: &'static str, connections: usize, depth: u32) -> Shape {
    Shape { name, connections, depth, is_crowded: false, is_open: false }
}

pub const ALL: [Shape; 5] = [
    closed("1x1", 1, 1),
    closed("64x1", 64, 1),
    closed("64x16", 64, 16),
    Shape { is_crowded: true, ..closed("1000x1", 1_000, 1) },
    Shape { is_open: true, ..closed("open", 64, 0) },
];

/// What one round brought.
struct Round {
    seen: Seen,
    cpu: Duration,
    /// Page faults of the server that needed no disk. Each block that its allocator maps for a read costs one at least.
    faults: u64,
    /// Records in the log for each request; two where none was lost.
    records: f64,
    /// Bytes of them.
    bytes: f64,
}

pub const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Shape {
    /// Whether so many requests are outstanding, without idle connections beside.
    pub fn is_closed(&self) -> bool {
        !self.is_open && !self.is_crowded
    }

    /// The open loop takes long, and what a log costs the others' slowest requests is nobody's question.
    fn wants(&self, peer: Peer, log: &str) -> bool {
        !self.is_open || log == "off" || peer == Peer::Ours
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A server that is measured, with its log off or at INFO.
struct Contender {
    peer: Peer,
    log: &'static str,
    running: Running,
}

/// Starts every server with the log off and on, checks what it answers, and runs all rounds.
pub fn measure(
    workshop: &Workshop,
    peers: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let mut servers = Vec::new();
    for &peer in peers {
        for log in ["off", "info"] {
            if log == "info" && !peer.can_log() {
                continue;
            }
            match start(workshop, peer, log == "info") {
                Ok(running) => servers.push(Contender { peer, log, running }),
                Err(error) => eprintln!("{} is left out: {error}", peer.title()),
            }
        }
    }
    // The slowest of many requests are few in one round, so they are looked for in all rounds together.
    let mut whole: Vec<Histogram<u64>> = servers.iter().map(|_| histogram()).collect();
    for round in 1..=options.rounds {
        for shape in ALL.into_iter().filter(|shape| options.wants_shape(shape.name)) {
            for (server, whole) in servers.iter().zip(&mut whole) {
                let Contender { peer, log, running } = server;
                if !shape.wants(*peer, log) {
                    continue;
                }
                let result = one(*peer, running, shape, options);
                eprint!("{round} {:6} {log:4} {:13} ", shape.name, peer.name());
                match result {
                    Ok(round) => {
                        let name = format!("{}/{log}/{}", shape.name, peer.name());
                        add(figures, &name, &round);
                        if shape.is_open {
                            whole.add(&round.seen.latency)?;
                            let slowest = whole.value_at_quantile(0.9999) as f64 / 1e3;
                            figures.set(format!("{name}/p99.99"), vec![slowest]);
                            figures.set(format!("{name}/requests"), vec![whole.len() as f64]);
                        }
                    }
                    Err(error) => eprintln!("failed: {error}"),
                }
            }
        }
    }
    for server in &servers {
        allocator::count(server.peer, server.log, &server.running, figures);
    }
    Ok(())
}

fn start(workshop: &Workshop, peer: Peer, log: bool) -> Result<Running, Failure> {
    let running = workshop.start(peer, log)?;
    peer.check(running.clients)?;
    Ok(running)
}

fn add(figures: &mut Figures, name: &str, round: &Round) {
    let Round { seen, cpu, faults, records, bytes } = round;
    let requests = seen.requests as f64;
    let (rate, cpu) = (requests / seen.elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / requests);
    figures.add(format!("{name}/rate"), rate);
    figures.add(format!("{name}/cpu"), cpu);
    figures.add(format!("{name}/faults"), *faults as f64 / requests);
    for (word, quantile) in QUANTILES {
        let micros = seen.latency.value_at_quantile(quantile) as f64 / 1e3;
        figures.add(format!("{name}/{word}"), micros);
    }
    if *records > 0.0 {
        figures.add(format!("{name}/records"), *records);
        figures.add(format!("{name}/bytes"), *bytes);
    }
    let p99 = seen.latency.value_at_quantile(0.99) as f64 / 1e3;
    eprintln!("{rate:9.0}/s {cpu:6.2} us CPU, p99 {p99:7.0} us");
}

/// One server, one shape, one round.
fn one(peer: Peer, server: &Running, shape: Shape, options: &Options) -> Result<Round, Failure> {
    let mut crowd = Vec::new();
    if shape.is_crowded {
        for index in 0..options.idle {
            crowd.push(connect(server.clients, index)?);
        }
    }
    let mut load = peer.load(server.clients, shape.connections)?;
    let run = |load: &mut Load, time: Duration| match shape.is_open {
        true => load.open(options.rate, OPEN * time),
        false => load.closed(shape.depth, time),
    };
    run(&mut load, options.measured / 5)?;
    // Answers to the requests under way are neither in the count of records nor in the other.
    load.drain()?;
    empty_log(server);
    let before = (cpu_time(server.id()), minor_faults(server.id()));
    let seen = run(&mut load, options.measured)?;
    let after = (cpu_time(server.id()), minor_faults(server.id()));
    load.drain()?;
    let all = seen.requests as f64 + f64::from(shape.depth) * shape.connections as f64;
    let (records, bytes) = records(server);
    let (cpu, faults) = (after.0 - before.0, after.1 - before.1);
    Ok(Round { seen, cpu, faults, records: records / all, bytes: bytes / all })
}

/// A log that nobody reads would fill the disk.
fn empty_log(server: &Running) {
    if let Some(path) = &server.log {
        settle(path);
        if let Ok(file) = OpenOptions::new().write(true).open(path) {
            let _ = file.set_len(0);
        }
    }
}

/// Waits, for a limited time, until the log has stopped growing.
fn settle(path: &Path) {
    let size = || std::fs::metadata(path).map_or(0, |data| data.len());
    let mut before = u64::MAX;
    for _ in 0..150 {
        let now = size();
        if now == before {
            return;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Records in a server's log about lines, and their bytes.
fn records(server: &Running) -> (f64, f64) {
    let (mut count, mut bytes) = (0, 0);
    let Some(path) = &server.log else { return (0.0, 0.0) };
    settle(path);
    if let Ok(mut file) = OpenOptions::new().read(true).write(true).open(path) {
        let mut buffer = vec![0; 1 << 20];
        while let Ok(read @ 1..) = file.read(&mut buffer) {
            count += memchr::memchr_iter(b'\n', &buffer[..read]).count();
            bytes += read;
        }
        let _ = file.set_len(0);
    }
    (count as f64, bytes as f64)
}

/// The open loop runs so many times as long as the others: its slowest requests need many.
const OPEN: u32 = 5;
