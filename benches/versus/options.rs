//! What was typed after `cargo bench --bench versus --`.

use std::time::Duration;

use crate::{parts, peers, shapes};

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time that each server is measured for in each round and shape, warming up not counted.
    pub measured: Duration,
    pub rounds: usize,
    /// Names of the servers to measure; all where none is named.
    pub only: Vec<String>,
    /// Names of the shapes to measure; all where none is named.
    pub shapes: Vec<String>,
    /// Idle connections beside the thousand busy ones.
    pub idle: usize,
    /// Requests a second of the open loop.
    pub rate: u32,
    /// The parts to measure; all where none is named.
    pub parts: Vec<String>,
    /// The run whose file gets what is measured; none where only a part was measured, to look at.
    pub run: Option<String>,
    /// Whether `docs/measurements.md` is written.
    pub document: Document,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    No,
    /// Once all is measured.
    Yes,
    /// And nothing is measured.
    Only,
}

pub const HELP: &str = "\
cargo bench --bench versus -- [options]

    --seconds N     measured time of each server, shape and round; five times that in the open loop [0.25]
    --rounds N      rounds, interleaved; medians and spreads are taken over them [5]
    --only A,B      measure only these servers, e.g. ours,c-epoll
    --shape A,B     measure only these shapes: 1x1, 64x1, 64x16, 1000x1, open
    --part A,B      measure only these parts: load, flood, places, places64, nearby, kept, loops, scraped, turns,
                    calls, memory, start, machine
    --rate N        requests/s of the open loop [20000]
    --idle N        idle connections beside the 1,000 busy ones [9000]
    --run NAME      write the figures to benches/versus/runs/NAME.toml; in a file that is there they replace those of
                    the same names, so parts may be measured one after the other
    --document      write docs/measurements.md and the plots from the runs that are kept; measure nothing

Without --only, --shape and --part everything is measured, in some eight minutes on a quiet machine; the run's file gets
the day's date and a number, and docs/measurements.md is written. All times are proportional to --rounds, and most to
--seconds.
";

impl Options {
    /// Reads the command line. `Err` says what is wrong.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            measured: Duration::from_millis(250),
            rounds: 5,
            only: Vec::new(),
            shapes: Vec::new(),
            idle: 9_000,
            rate: 20_000,
            parts: Vec::new(),
            run: None,
            document: Document::No,
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--bench" => {} // Cargo says so.
                "--seconds" => options.measured = Duration::from_secs_f64(number(&value()?)?),
                "--rounds" => options.rounds = number::<usize>(&value()?)?.max(1),
                "--only" => options.only = some_of(&servers(), "server", &value()?)?,
                "--shape" => options.shapes = some_of(&shapes(), "shape", &value()?)?,
                "--part" => options.parts = some_of(&parts(), "part", &value()?)?,
                "--idle" => options.idle = number(&value()?)?,
                "--rate" => options.rate = number::<u32>(&value()?)?.max(1),
                "--run" => options.run = Some(value()?),
                "--document" => options.document = Document::Only,
                _ => return Err(format!("unknown option {name}\n\n{HELP}")),
            }
        }
        if options.is_whole() && options.document == Document::No {
            options.document = Document::Yes;
        }
        Ok(options)
    }

    /// Whether everything is measured.
    pub fn is_whole(&self) -> bool {
        self.only.is_empty() && self.shapes.is_empty() && self.parts.is_empty()
    }

    pub fn wants_server(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == name)
    }

    pub fn wants_shape(&self, name: &str) -> bool {
        self.shapes.is_empty() || self.shapes.iter().any(|one| one == name)
    }

    /// A shape that was asked for is part of the load; nothing else is measured then.
    pub fn wants_part(&self, name: &str) -> bool {
        match self.parts.is_empty() {
            true => self.shapes.is_empty() || name == "load",
            false => self.parts.iter().any(|one| one == name),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number that fits"))
}

fn servers() -> Vec<&'static str> {
    peers::ALL.iter().map(|peer| peer.name()).collect()
}

fn shapes() -> Vec<&'static str> {
    shapes::ALL.iter().map(|shape| shape.name).collect()
}

fn parts() -> Vec<&'static str> {
    parts::ALL.iter().map(|(name, _)| *name).collect()
}

/// The names in a list, all of which must be known.
fn some_of(known: &[&str], kind: &str, text: &str) -> Result<Vec<String>, String> {
    let one = |name: &str| match known.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("there is no {kind} {name}; there are {}\n", known.join(", "))),
    };
    text.split(',').map(one).collect()
}
