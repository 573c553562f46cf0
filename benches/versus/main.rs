//! The same job on seven runtimes, measured side by side: see `options::HELP`.
//!
//! ```text
//!   peers    builds and starts the servers    rules    what each must answer first
//!   load     asks and compares                shapes   how much, in rounds
//!   flood, memory, places                     parts that are no load
//!   report, plot                              docs/measurements.md and its pictures
//! ```

mod cores;
mod load;
mod options;
mod peers;
mod rules;
mod shapes;

use std::process::ExitCode;

use cores::Cores;
use options::Options;
use peers::{Peer, Workshop};

/// What went wrong, in words.
pub type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches, too, but without this word.
    if !std::env::args().any(|word| word == "--bench") {
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
    let mut present: Vec<Peer> = Vec::new();
    for peer in peers::ALL.into_iter().filter(|peer| options.wants_server(peer.name())) {
        match workshop.build(peer) {
            Ok(()) => present.push(peer),
            Err(error) => eprintln!("{} is left out: {error}", peer.title()),
        }
    }
    cores.on_server_core(|| ());
    if options.wants_part("load") {
        shapes::measure(&workshop, &present, options, most);
    }
    Ok(())
}
