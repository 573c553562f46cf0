//! A member against a bare client of the same NATS server, in one run: figures differ from machine to machine and from hour
//! to hour, and so only ratios count.
//!
//! ```text
//!   cargo bench --bench engine -- [--nodes 3] [--clients 1000000] [--seconds 3] [--outage 60] [--only updates]
//!   cargo bench --bench engine -- --only member --seconds 20       what a profiler is to watch; `--only asked`: the cache
//! ```

mod acked;
mod bare;
mod cache;
#[path = "../versus/cores.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod cores;
#[path = "../versus/load.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod load;
mod many;
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
    /// The only part that is run: `updates`, `replay`, `cache` or `outage`; or `member` or `asked`, which are run by their
    /// names alone.
    only: Option<String>,
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
            only: words.opt_value_from_str("--only")?,
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
    let has = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    let is_named = |part: &str| options.only.as_deref() == Some(part);
    if is_named("member") {
        acked::member(folder.path(), &nats, options)?;
    }
    if is_named("asked") {
        cache::asked(folder.path(), &nats, options)?;
    }
    if has("updates") {
        acked::updates(folder.path(), &nats, options)?;
    }
    if has("replay") {
        replay(folder.path(), &nats, options)?;
    }
    if has("cache") {
        cache::cache(folder.path(), &nats, options)?;
    }
    if has("outage") {
        outage(folder.path(), &mut nats, options)?;
    }
    println!("load average at the end {}", cores::busy());
    Ok(())
}

/// All clients are read from the bucket, and held in memory.
fn replay(folder: &Path, nats: &Nats, options: &Options) -> Result<(), Failure> {
    let clients = options.clients;
    let mut bare = Bare::connect(nats.addresses[0])?;
    bare.make_bucket("many", options.nodes)?;
    // The table has room for them and no more: what it reserves counts, too.
    let start = |name, section: String| Server::start_for(folder, name, clients, &section);
    let empty = start("Empty", nats.section("none", ""))?;
    empty.in_sync()?;
    let before = resident_bytes(empty.id());
    drop(empty);
    bare.publish("many", clients, clients, 1_000, Publish::Plain)?;
    let (mut raw, mut ours, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let (count, took) = bare.replay("many")?;
        assert_eq!(count, clients, "the bare reader has read all");
        raw.push(took.as_secs_f64() * 1e3);
        let server = start("Replay", nats.section("many", ""))?;
        ours.push(server.in_sync()?.as_secs_f64() * 1e3);
        bytes.push(resident_bytes(server.id()).saturating_sub(before) as f64 / clients as f64);
    }
    let what = format!("ms until all of {clients} clients are there");
    println!("\n| what | bare | herd-mio | ratio | goal |\n|---|---|---|---|---|");
    row(&what, median(raw), median(ours), "at most 2");
    println!("| resident bytes a client | | {:.0} | | at most 260 |", median(bytes));
    let took = bare.direct_get("many", clients, 100_000, 64)?;
    println!("| DIRECT.GET a second, 64 at a time | {:.0} | | | |", 100_000.0 / took.as_secs_f64());
    Ok(())
}

/// NATS is away while clients write: nothing piles up for it.
fn outage(folder: &Path, nats: &mut Nats, options: &Options) -> Result<(), Failure> {
    let server = Server::start(folder, "Outage", &nats.section("outage", "ack = \"local\"\n"))?;
    server.in_sync()?;
    let mut load = Load::connect(server.clients, 64)?;
    load.mix_clients();
    let resident = || resident_bytes(server.id()) as f64 / 1e6;
    // Until all of 64,000 clients are known.
    let mut updates = write(&mut load, options.measured)?;
    while updates < 200_000 {
        updates += write(&mut load, options.measured)?;
    }
    println!("\n| an outage | MB resident | updates |\n|---|---|---|");
    println!("| with NATS | {:.1} | {updates} |", resident());
    nats.kill();
    updates = write(&mut load, options.measured)?;
    println!("| {:.0} s without | {:.1} | {updates} |", options.measured.as_secs_f64(), resident());
    let begin = Instant::now();
    while begin.elapsed() < options.outage {
        let rest = options.outage.saturating_sub(begin.elapsed());
        updates += write(&mut load, rest.min(Duration::from_secs(60)))?;
        let (seconds, now) = (begin.elapsed() + options.measured, resident());
        println!("| {:.0} s without | {now:.1} | {updates} |", seconds.as_secs_f64());
    }
    nats.start_again()?;
    load.drain()?;
    let back = Instant::now();
    server.in_sync()?;
    println!(
        "| in sync {:.1} s after it is back | {:.1} | |",
        back.elapsed().as_secs_f64(),
        resident()
    );
    Ok(())
}

/// Clients write for so long, a fifth of the time, which leaves the machine to others. Returns how many updates.
fn write(load: &mut Load, time: Duration) -> Result<u64, Failure> {
    let (begin, mut updates) = (Instant::now(), 0);
    while begin.elapsed() < time {
        updates += load.closed(16, Duration::from_millis(20))?.requests;
        load.drain()?;
        std::thread::sleep(Duration::from_millis(80));
    }
    Ok(updates)
}

fn row(what: &str, bare: f64, ours: f64, goal: &str) {
    println!("| {what} | {bare:.0} | {ours:.0} | {:.2} | {goal} |", ours / bare);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
