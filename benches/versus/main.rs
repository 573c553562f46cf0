//! The same job on seven runtimes, measured side by side: see `options::HELP`.
//!
//! ```text
//!   peers    builds and starts the servers    rules    what each must answer first
//!   load     asks and compares                shapes   how much, in rounds
//!   flood, memory, places, loops, scraped, kept    parts that are no load
//!   report, plot, goals                       docs/measurements.md and its pictures
//! ```

#[path = "../engine/bare.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod bare;
mod cores;
mod flood;
mod goals;
mod kept;
mod load;
mod loops;
mod memory;
#[path = "../engine/servers.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod nats;
mod options;
mod peers;
mod places;
mod plot;
mod report;
mod rules;
mod scraped;
mod shapes;

use std::process::ExitCode;

use cores::Cores;
use flood::Kind;
use options::{HELP, Options};
use peers::{Peer, Workshop};
use report::Findings;
use shapes::Shape;

/// What went wrong, in words.
pub type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches, too, but without this word.
    if !std::env::args().any(|word| word == "--bench") {
        return ExitCode::SUCCESS;
    }
    if std::env::args().any(|word| word == "--help") {
        eprint!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(text) => {
            eprint!("{text}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let cores = Cores::find();
    let most = cores::raise_descriptors();
    let workshop = Workshop::new(cores)?;
    let mut findings = Findings {
        machine: cores::machine(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        how: how(options, cores),
        ..Findings::default()
    };
    findings.busy[0] = cores::busy();
    let mut present: Vec<Peer> = Vec::new();
    for peer in peers::ALL.into_iter().filter(|peer| options.wants_server(peer.name())) {
        match workshop.build(peer) {
            Ok(()) => present.push(peer),
            Err(error) => eprintln!("{} is left out: {error}", peer.title()),
        }
    }
    findings.versions = present.iter().map(|&peer| (peer, workshop.version(peer))).collect();
    cores.on_server_core(|| ()); // From here on this thread has the load's core.
    if options.wants_part("load") {
        findings.cells = shapes::measure(&workshop, &present, options, most);
    }
    other_parts(&workshop, &present, options, most, &mut findings);
    findings.busy[1] = cores::busy();
    print!("{}", findings.text());
    if options.write {
        findings.write(&workshop.docs())?;
    }
    Ok(())
}

fn other_parts(
    workshop: &Workshop,
    present: &[Peer],
    options: &Options,
    most: usize,
    findings: &mut Findings,
) {
    let kinds = [
        (Peer::Ours, Kind::Ours, "herd-mio, links kept", 100_000),
        (Peer::Asyncio, Kind::Asyncio, "asyncio, a connection for each update", 3_000),
    ];
    for (peer, kind, title, updates) in kinds {
        if options.wants_part("flood") && present.contains(&peer) {
            match flood::measure(workshop, kind, updates) {
                Ok(flood) => findings.floods.push((title, flood)),
                Err(error) => eprintln!("{title}: no flood: {error}"),
            }
        }
    }
    if options.wants_part("places") && present.contains(&Peer::Ours) {
        match places::measure(workshop, options.measured) {
            Ok(places) => findings.places = places,
            Err(error) => eprintln!("WHATSAT is left out: {error}"),
        }
    }
    if options.wants_part("kept") && present.contains(&Peer::Ours) {
        match kept::measure(workshop, options.measured, options.rounds) {
            Ok(kept) => findings.kept = kept,
            Err(error) => eprintln!("keeping updates is left out: {error}"),
        }
    }
    if options.wants_part("loops") && present.contains(&Peer::Ours) {
        match loops::measure(workshop, options.measured, options.rounds) {
            Ok(loops) => findings.loops = loops,
            Err(error) => eprintln!("two loops are left out: {error}"),
        }
    }
    if options.wants_part("scraped") && present.contains(&Peer::Ours) {
        let is_wanted = |shape: &Shape| shape.is_closed() && options.wants_shape(shape.name);
        let shapes: Vec<Shape> = shapes::ALL.into_iter().filter(is_wanted).collect();
        match scraped::measure(workshop, &shapes, options.measured, options.rounds) {
            Ok(scraped) => findings.scraped = scraped,
            Err(error) => eprintln!("scrapes are left out: {error}"),
        }
    }
    for &peer in present {
        if options.wants_part("memory") {
            let idle = options.idle.unwrap_or(9_000.min(most.saturating_sub(500)));
            match memory::measure(workshop, peer, idle) {
                Ok(footprint) => findings.footprints.push(footprint),
                Err(error) => eprintln!("{}: no memory: {error}", peer.title()),
            }
        }
        if options.wants_part("start") {
            match memory::start_up(workshop, peer) {
                Ok(time) => findings.starts.push((peer, time, workshop.size(peer))),
                Err(error) => eprintln!("{} does not start: {error}", peer.title()),
            }
        }
    }
}

/// How the run went, in words.
fn how(options: &Options, cores: Cores) -> String {
    let cores = match cores.server {
        Some(_) => "the server on one core, the load on another",
        None => "server and load on the same core",
    };
    format!(
        "{} rounds of {} s each, {cores}; medians over the rounds. The open loop sends {} requests \
         a second.",
        options.rounds,
        options.measured.as_secs_f64(),
        options.rate
    )
}
