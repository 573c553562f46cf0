//! The same job on several runtimes, measured side by side: see `options::HELP`.
//!
//! ```text
//!   peers, redis     build and start the servers     rules     what each must answer first
//!   load             asks and compares               shapes    how much, in rounds
//!   parts            flood, places, places64, nearby, kept, loops, scraped, turns, calls, memory, machine:
//!                    what is no load
//!   figures, runs    what was seen, and its file     goals     where we want to stand
//!   tables, words, plot, document                    docs/measurements.md and its pictures
//! ```

mod allocator;
#[path = "../engine/bare.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod bare;
mod calls;
mod cores;
mod document;
mod figures;
mod flood;
mod goals;
mod kept;
mod load;
mod loops;
mod machine;
#[path = "../engine/many.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod many;
mod memory;
#[path = "../engine/servers.rs"]
#[allow(dead_code, reason = "it serves another bench, too")]
mod nats;
mod nearby;
mod options;
mod parts;
mod peers;
mod places;
mod places64;
mod plot;
mod redis;
mod rules;
mod runs;
mod scraped;
mod shapes;
mod strace;
mod tables;
mod turns;
mod words;

use std::process::ExitCode;

use cores::Cores;
use options::{Document, HELP, Options};
use peers::{Peer, Workshop};
use runs::Run;

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
    let workshop = Workshop::new(cores)?;
    if options.document != Document::Only {
        let measured = measure(&workshop, options)?;
        print!("{}", tables::all(&measured));
        let name = match &options.run {
            None if options.is_whole() => {
                Some(runs::free_name(&workshop.runs(), measured.fact("date")))
            }
            name => name.clone(),
        };
        if let Some(name) = name {
            let path = Run { name, ..measured }.write(&workshop.runs())?;
            eprintln!("the figures are in {}", path.display());
        }
    }
    if options.document != Document::No {
        document::write(&runs::all(&workshop.runs())?, &workshop)?;
    }
    Ok(())
}

fn measure(workshop: &Workshop, options: &Options) -> Result<Run, Failure> {
    cores::raise_descriptors();
    let mut present: Vec<Peer> = Vec::new();
    let mut measured = Run::default();
    for peer in peers::ALL.into_iter().filter(|peer| options.wants_server(peer.name())) {
        match workshop.build(peer) {
            Ok(()) => {
                present.push(peer);
                let version = workshop.version(peer);
                measured.facts.insert(format!("version of {}", peer.name()), version);
            }
            Err(error) => eprintln!("{} is left out: {error}", peer.title()),
        }
    }
    let facts = [
        ("machine", cores::machine()),
        ("date", today()),
        ("commit", workshop.commit()),
        ("how", how(options, workshop.cores)),
        ("version of NATS", nats::Nats::version()),
    ];
    measured.facts.extend(facts.map(|(name, words)| (name.to_owned(), words)));
    counted(workshop, &mut measured)?;
    workshop.cores.on_server_core(|| ()); // From here on this thread has the load's core.
    for (part, measure) in parts::ALL {
        let is_of_all = ["load", "flood", "memory", "start"].contains(&part);
        if !options.wants_part(part) || !is_of_all && !present.contains(&Peer::Ours) {
            continue;
        }
        let (begin, before) = (std::time::Instant::now(), cores::busy());
        // What the part has seen before it failed counts, too.
        if let Err(error) = measure(workshop, &present, options, &mut measured.figures) {
            eprintln!("{part} is left out: {error}");
        }
        let words = format!(
            "{}, {:.0} s, load average {before} before and {} after",
            today(),
            begin.elapsed().as_secs_f64(),
            cores::busy()
        );
        eprintln!("{part}: {words}");
        measured.parts.insert(part.to_owned(), words);
    }
    Ok(measured)
}

/// Instructions are counted by another bench; what its file says at this commit belongs to the run.
fn counted(workshop: &Workshop, run: &mut Run) -> Result<(), Failure> {
    let table: toml::Table = workshop.text("benches/instructions.toml")?.parse()?;
    for (name, count) in table.get("release").and_then(toml::Value::as_table).into_iter().flatten()
    {
        if let Some(count) = count.as_integer() {
            run.figures.add(format!("instructions/{name}"), count as f64);
        }
    }
    Ok(())
}

fn today() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}

/// How the run went, in words.
fn how(options: &Options, cores: Cores) -> String {
    let cores = match cores.server {
        Some(_) => "the server on one core, the load on another",
        None => "server and load on the same core",
    };
    format!(
        "{} rounds of {} s each, {cores}; the open loop sends {} requests/s",
        options.rounds,
        options.measured.as_secs_f64(),
        options.rate
    )
}
