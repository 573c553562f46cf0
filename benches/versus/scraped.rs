//! What it costs to be watched: the same load on our server without an admin listener, and on one that has it and is
//! scraped ten times a second, as no Prometheus does. The scrapes come from the load's core.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::cores::cpu_time;
use crate::load::Load;
use crate::peers::{Running, Workshop, free_port};
use crate::shapes::{Shape, median};

/// One shape, with scrapes or without.
#[derive(Clone, Copy, Debug)]
pub struct Scraped {
    pub shape: Shape,
    pub is_scraped: bool,
    /// Requests a second.
    pub rate: f64,
    /// Microseconds of CPU a request, scrapes included.
    pub cpu: f64,
    /// Turns since the start that took more than 2 ms, if turns are timed.
    pub long_turns: Option<u64>,
}

pub fn measure(
    workshop: &Workshop,
    shapes: &[Shape],
    time: Duration,
    rounds: usize,
) -> Result<Vec<Scraped>, Failure> {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let plain = workshop.start_ours(free_port()?, 1, false)?;
    let watched = workshop.start_watched(free_port()?, admin)?;
    let ways = [(&plain, None), (&watched, Some(admin))];
    let mut seen = vec![[(Vec::new(), Vec::new()), (Vec::new(), Vec::new())]; shapes.len()];
    for _ in 0..rounds {
        for (shape, seen) in shapes.iter().zip(&mut seen) {
            for ((server, admin), (rates, cpus)) in ways.into_iter().zip(seen) {
                let (rate, cpu) = one(server, admin, *shape, time)?;
                rates.push(rate);
                cpus.push(cpu);
            }
        }
    }
    let long_turns = long_turns(&scrape(admin)?)?;
    let mut rows = Vec::new();
    for (shape, seen) in shapes.iter().zip(seen) {
        for ((_, admin), (rates, cpus)) in ways.into_iter().zip(seen) {
            rows.push(Scraped {
                shape: *shape,
                is_scraped: admin.is_some(),
                rate: median(rates),
                cpu: median(cpus),
                long_turns: admin.map(|_| long_turns),
            });
        }
    }
    Ok(rows)
}

/// Requests a second, and microseconds of CPU a request.
fn one(
    server: &Running,
    admin: Option<SocketAddr>,
    shape: Shape,
    time: Duration,
) -> Result<(f64, f64), Failure> {
    let mut load = Load::connect(server.clients, shape.connections)?;
    load.closed(shape.depth, time / 5)?;
    let is_done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let scraper = scope.spawn(|| admin.map(|admin| scrape_until(&is_done, admin)));
        let before = cpu_time(server.id());
        let seen = load.closed(shape.depth, time);
        let cpu = cpu_time(server.id()) - before;
        is_done.store(true, Ordering::Relaxed);
        let scraped = scraper.join().map_err(|_| "the scraper panicked")?;
        scraped.transpose().map_err(|error| format!("a scrape failed: {error}"))?;
        seen.map(|seen| (seen, cpu))
    });
    let (seen, cpu) = seen?;
    load.drain()?;
    let requests = seen.requests as f64;
    Ok((requests / seen.elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / requests))
}

fn scrape_until(is_done: &AtomicBool, admin: SocketAddr) -> std::io::Result<()> {
    let begin = Instant::now();
    for number in 1.. {
        if is_done.load(Ordering::Relaxed) {
            break;
        }
        scrape(admin)?;
        thread::sleep((number * PERIOD).saturating_sub(begin.elapsed()));
    }
    Ok(())
}

/// What the admin listener says of the server's numbers.
pub fn scrape(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        Ok(answer)
    } else {
        Err(std::io::Error::other(answer))
    }
}

/// How many turns took more than 2 ms.
fn long_turns(metrics: &str) -> Result<u64, Failure> {
    let value = |of: &str| -> Result<u64, Failure> {
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(of)).ok_or("no such sample")?;
        Ok(line.trim().parse()?)
    };
    let duration = "herd_loop_turn_duration_seconds";
    let all = value(&format!("{duration}_count{{loop=\"1\"}}"))?;
    Ok(all - value(&format!("{duration}_bucket{{loop=\"1\",le=\"0.002\"}}"))?)
}

/// Between two scrapes.
const PERIOD: Duration = Duration::from_millis(100);
