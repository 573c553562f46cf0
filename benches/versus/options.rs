//! What was typed after `cargo bench --bench versus --`.

use std::time::Duration;

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
    /// Idle connections beside the thousand busy ones; if not given, as many as descriptors allow.
    pub idle: Option<usize>,
    /// Requests a second of the open loop.
    pub rate: u32,
    /// Besides the load: flood, memory, start-up, places, loops, scraped, kept.
    pub parts: Vec<String>,
    /// Whether `docs/measurements.md` and the plots are written.
    pub write: bool,
}

pub const HELP: &str = "\
cargo bench --bench versus -- [options]

    --seconds N     measured time of each server, shape and round [0.4]
    --rounds N      rounds, interleaved; medians are taken over them [7]
    --only A,B      measure only these servers, e.g. ours,c-epoll
    --shape A,B     measure only these shapes: 1x1, 64x1, 64x16, 1000x1, open
    --part A,B      measure only these parts: load, flood, memory, start, places,
                    loops, scraped, kept
    --rate N        requests/s of the open loop [20000]
    --idle N        idle connections beside the 1,000 busy ones [as many as descriptors allow]
    --write         write docs/measurements.md and the plots even after a partial run

Without --only, --shape and --part everything is measured and docs/measurements.md is written.
";

impl Options {
    /// Reads the command line. `Err` says what is wrong.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            measured: Duration::from_millis(400),
            rounds: 7,
            only: Vec::new(),
            shapes: Vec::new(),
            idle: None,
            rate: 20_000,
            parts: Vec::new(),
            write: false,
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--bench" => {} // Cargo says so.
                "--seconds" => options.measured = Duration::from_secs_f64(number(&value()?)?),
                "--rounds" => options.rounds = number::<usize>(&value()?)?.max(1),
                "--only" => options.only = list(&value()?),
                "--shape" => options.shapes = list(&value()?),
                "--part" => options.parts = list(&value()?),
                "--idle" => options.idle = Some(number(&value()?)?),
                "--rate" => options.rate = number::<u32>(&value()?)?.max(1),
                "--write" => options.write = true,
                _ => return Err(format!("unknown option {name}\n\n{HELP}")),
            }
        }
        let all = options.only.is_empty() && options.shapes.is_empty() && options.parts.is_empty();
        options.write |= all;
        Ok(options)
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

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}
