//! The shapes of the load, and the rounds in which every server meets every shape.
//!
//! Servers stay up for the whole run, so that what compiles while it runs is warm. They take
//! turns within each round: a machine that is slow for a minute is slow for all of them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use crate::Failure;
use crate::cores::cpu_time;
use crate::load::{Load, Seen, connect};
use crate::options::Options;
use crate::peers::{Peer, Running, Workshop};
use crate::rules;

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

/// One server, one shape, with the log or without, in all rounds.
#[derive(Clone, Debug)]
pub struct Cell {
    pub peer: Peer,
    pub shape: Shape,
    pub log: bool,
    pub rounds: Vec<Round>,
}

/// What one round brought.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Requests a second.
    pub rate: f64,
    /// Microseconds of CPU that the server took for a request.
    pub cpu: f64,
    /// Microseconds: p50, p90, p99, p99.9, p99.99.
    pub latency: [f64; 5],
    /// Records in the log for each request; two where none was lost.
    pub records: f64,
}

pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

impl Shape {
    /// Whether so many requests are outstanding, without idle connections beside.
    pub fn is_closed(&self) -> bool {
        !self.is_open && !self.is_crowded
    }
}

impl Cell {
    /// The median over the rounds of what `of` picks.
    pub fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Starts every server with the log off and on, checks what it answers, and runs all rounds.
pub fn measure(workshop: &Workshop, peers: &[Peer], options: &Options, most: usize) -> Vec<Cell> {
    let mut servers = Vec::new();
    for &peer in peers {
        for log in [false, true] {
            if log && !peer.can_log() {
                continue;
            }
            match start(workshop, peer, log) {
                Ok(running) => servers.push((peer, log, running)),
                Err(error) => eprintln!("{} is left out: {error}", peer.title()),
            }
        }
    }
    let idle = options.idle.unwrap_or(most.saturating_sub(1_500));
    let mut cells = Vec::new();
    for round in 1..=options.rounds {
        for shape in ALL.into_iter().filter(|shape| options.wants_shape(shape.name)) {
            for (peer, log, running) in &servers {
                let result = one(running, shape, options, idle);
                let word = if *log { "info" } else { "off" };
                eprint!("{round} {:6} {word:4} {:13} ", shape.name, peer.name());
                match result {
                    Ok(round) => {
                        eprintln!(
                            "{:9.0}/s {:6.2} us CPU, p50 {:7.0} us, p99 {:7.0} us",
                            round.rate, round.cpu, round.latency[0], round.latency[2]
                        );
                        add(&mut cells, *peer, shape, *log, round);
                    }
                    Err(error) => eprintln!("failed: {error}"),
                }
            }
        }
    }
    cells
}

fn start(workshop: &Workshop, peer: Peer, log: bool) -> Result<Running, Failure> {
    let running = workshop.start(peer, log)?;
    rules::check(running.clients)?;
    Ok(running)
}

fn add(cells: &mut Vec<Cell>, peer: Peer, shape: Shape, log: bool, round: Round) {
    let found =
        cells.iter_mut().find(|cell| (cell.peer, cell.shape, cell.log) == (peer, shape, log));
    match found {
        Some(cell) => cell.rounds.push(round),
        None => cells.push(Cell { peer, shape, log, rounds: vec![round] }),
    }
}

/// One server, one shape, one round.
fn one(server: &Running, shape: Shape, options: &Options, idle: usize) -> Result<Round, Failure> {
    let mut crowd = Vec::new();
    if shape.is_crowded {
        for index in 0..idle {
            crowd.push(connect(server.clients, index)?);
        }
    }
    let mut load = Load::connect(server.clients, shape.connections)?;
    let run = |load: &mut Load, time: Duration| match shape.is_open {
        true => load.open(options.rate, time),
        false => load.closed(shape.depth, time),
    };
    run(&mut load, options.measured / 5)?;
    // Answers to the requests under way are neither in the count of records nor in the other.
    load.drain()?;
    empty_log(server);
    let before = cpu_time(server.id());
    let seen = run(&mut load, options.measured)?;
    let cpu = cpu_time(server.id()) - before;
    load.drain()?;
    let all = seen.requests as f64 + f64::from(shape.depth) * shape.connections as f64;
    Ok(round(&seen, cpu, records(server) / all))
}

fn round(seen: &Seen, cpu: Duration, records: f64) -> Round {
    let requests = seen.requests as f64;
    Round {
        rate: requests / seen.elapsed.as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / requests,
        latency: QUANTILES.map(|of| seen.latency.value_at_quantile(of) as f64 / 1e3),
        records,
    }
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
    for _ in 0..50 {
        let now = size();
        if now == before {
            return;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Records in a server's log about lines.
fn records(server: &Running) -> f64 {
    let Some(path) = &server.log else { return 0.0 };
    settle(path);
    let Ok(mut file) = File::open(path) else { return 0.0 };
    let mut buffer = vec![0; 1 << 20];
    let mut count = 0;
    while let Ok(read @ 1..) = file.read(&mut buffer) {
        count += memchr::memchr_iter(b'\n', &buffer[..read]).count();
    }
    empty_log(server);
    count as f64
}
