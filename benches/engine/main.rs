//! A member against a bare client of the same NATS server, in one run: figures differ from machine to machine and from hour
//! to hour, and so only ratios count.
//!
//! ```text
//!   cargo bench --bench engine -- [--nodes 3] [--clients 1000000] [--seconds 3] [--outage 60]
//! ```

mod bare;
#[path = "../versus/cores.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod cores;
#[path = "../versus/load.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod load;
mod servers;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bare::{Bare, Publish};
use cores::resident_bytes;
use load::Load;
use servers::{Nats, Server};

/// What went wrong, in words.
pub type Failure = Box<dyn std::error::Error>;

/// What is measured.
struct Options {
    nodes: usize,
    clients: usize,
    measured: Duration,
    outage: Duration,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches, too, but without this word.
    if !std::env::args().any(|word| word == "--bench") {
        return ExitCode::SUCCESS;
    }
    match Options::parse().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse() -> Result<Options, Failure> {
        let mut words = pico_args::Arguments::from_env();
        _ = words.contains("--bench");
        let seconds =
            |value: Option<u64>, default: u64| Duration::from_secs(value.unwrap_or(default));
        Ok(Options {
            nodes: words.opt_value_from_str("--nodes")?.unwrap_or(1),
            clients: words.opt_value_from_str("--clients")?.unwrap_or(1_000_000),
            measured: seconds(words.opt_value_from_str("--seconds")?, 3),
            outage: seconds(words.opt_value_from_str("--outage")?, 60),
        })
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut nats = Nats::start(folder.path(), options.nodes)?;
    println!(
        "{}; {} node(s); {}; load average {}",
        Nats::version(),
        options.nodes,
        cores::machine(),
        cores::busy()
    );
    println!("| what | bare | herd-mio | ratio | goal |\n|---|---|---|---|---|");
    updates(folder.path(), &nats, options)?;
    replay(folder.path(), &nats, options)?;
    outage(folder.path(), &mut nats, options)?;
    println!("load average at the end {}", cores::busy());
    Ok(())
}

/// Updates that are acknowledged, 64 at a time and one at a time.
fn updates(folder: &Path, nats: &Nats, options: &Options) -> Result<(), Failure> {
    let mut bare = Bare::connect(nats.addresses[0])?;
    bare.make_bucket("bare", options.nodes)?;
    let server = Server::start(folder, "Updates", &nats.section("updates", ""))?;
    server.in_sync()?;
    let rate = |count: usize, took: Duration| count as f64 / took.as_secs_f64();
    let mut of_64 = Load::connect(server.clients, 64)?;
    let mut single = Load::connect(server.clients, 1)?;
    let (mut plain, mut cas, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    let (mut raw_p50, mut our_p50) = (Vec::new(), Vec::new());
    let part = options.measured / ROUNDS;
    for _ in 0..ROUNDS {
        // In turns, so that what slows the machine down for a second slows all.
        let count = 20_000;
        plain.push(rate(count, bare.publish("bare", 64, count, 64, Publish::Plain)?.0));
        cas.push(rate(count, bare_cas(&mut bare, count)?));
        let seen = of_64.closed(1, part)?;
        ours.push(rate(seen.requests as usize, seen.elapsed));
        of_64.drain()?;
        let (_, latency) = bare.publish("bare", 1, 2_000, 1, Publish::Plain)?;
        raw_p50.push(latency.value_at_quantile(0.5) as f64 / 1e3);
        let seen = single.closed(1, part)?;
        our_p50.push(seen.latency.value_at_quantile(0.5) as f64 / 1e3);
        single.drain()?;
    }
    let [plain, cas, ours, raw_p50, our_p50] = [plain, cas, ours, raw_p50, our_p50].map(median);
    row("updates acknowledged a second, 64 at a time", plain, ours, "at least 0.6");
    row("the same, bare with compare-and-set", cas, ours, "");
    row("one at a time, p50, us", raw_p50, our_p50, &format!("at most {:.0} us", raw_p50 + 100.0));
    Ok(())
}

/// Compare-and-set from the beginning: what the messages before were is not known.
fn bare_cas(bare: &mut Bare, count: usize) -> Result<Duration, Failure> {
    bare.api("STREAM.PURGE.KV_bare", "")?;
    Ok(bare.publish("bare", 64, count, 64, Publish::CompareAndSet)?.0)
}

/// All clients are read from the bucket, and held in memory.
fn replay(folder: &Path, nats: &Nats, options: &Options) -> Result<(), Failure> {
    let clients = options.clients;
    let mut bare = Bare::connect(nats.addresses[0])?;
    bare.make_bucket("many", options.nodes)?;
    let empty = Server::start(folder, "Empty", &nats.section("none", ""))?;
    empty.in_sync()?;
    let before = resident_bytes(empty.id());
    drop(empty);
    bare.publish("many", clients, clients, 1_000, Publish::Plain)?;
    let (count, raw) = bare.replay("many")?;
    let server = Server::start(folder, "Replay", &nats.section("many", ""))?;
    let ours = server.in_sync()?;
    let a_client = (resident_bytes(server.id()).saturating_sub(before)) as f64 / clients as f64;
    assert_eq!(count, clients, "the bare reader has read all");
    let what = format!("ms until all of {clients} clients are there");
    row(&what, raw.as_secs_f64() * 1e3, ours.as_secs_f64() * 1e3, "at most 2");
    println!("| resident bytes a client | | {a_client:.0} | | at most 260 |");
    let took = bare.direct_get("many", clients, 100_000, 64)?;
    println!("| DIRECT.GET a second, 64 at a time | {:.0} | | | |", 100_000.0 / took.as_secs_f64());
    Ok(())
}

/// NATS is away while clients write: nothing piles up for it.
fn outage(folder: &Path, nats: &mut Nats, options: &Options) -> Result<(), Failure> {
    let server = Server::start(folder, "Outage", &nats.section("outage", "ack = \"local\"\n"))?;
    server.in_sync()?;
    let mut load = Load::connect(server.clients, 64)?;
    load.closed(16, options.measured)?;
    let with = resident_bytes(server.id());
    nats.kill();
    load.closed(16, options.measured)?;
    let begun = resident_bytes(server.id());
    let seen = load.closed(16, options.outage)?;
    let ended = resident_bytes(server.id());
    nats.start_again()?;
    load.drain()?;
    println!(
        "| resident MB with NATS; {:.0} s and {:.0} s without, {} updates | | {:.1}; {:.1}; {:.1} | | flat |",
        options.measured.as_secs_f64(),
        options.outage.as_secs_f64(),
        seen.requests,
        with as f64 / 1e6,
        begun as f64 / 1e6,
        ended as f64 / 1e6
    );
    let back = Instant::now();
    while server.times_in_sync() < 2 {
        if back.elapsed() > Duration::from_secs(60) {
            return Err("the member is not in sync after the outage".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("| s until in sync after the outage | | {:.1} | | |", back.elapsed().as_secs_f64());
    Ok(())
}

fn row(what: &str, bare: f64, ours: f64, goal: &str) {
    println!("| {what} | {bare:.0} | {ours:.0} | {:.2} | {goal} |", ours / bare);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

const ROUNDS: u32 = 5;
