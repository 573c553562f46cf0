//! `docs/measurements.md`: what was measured goes between two markers, and what people wrote
//! around them stays.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::Failure;
use crate::flood::Flood;
use crate::goals::{self, Goal};
use crate::kept::Kept;
use crate::loops::Loops;
use crate::memory::Footprint;
use crate::peers::Peer;
use crate::places::Places;
use crate::plot::{bars, lines, thousands};
use crate::scraped::Scraped;
use crate::shapes::{self, Cell, Shape};

/// All that one run has seen.
#[derive(Default)]
pub struct Findings {
    pub machine: String,
    pub date: String,
    /// The load average over one minute, before the start and before the end.
    pub busy: [String; 2],
    pub how: String,
    pub versions: Vec<(Peer, String)>,
    pub cells: Vec<Cell>,
    pub floods: Vec<(&'static str, Flood)>,
    pub footprints: Vec<Footprint>,
    /// Time to start, and the size of the file where it is one.
    pub starts: Vec<(Peer, Duration, Option<u64>)>,
    pub places: Vec<Places>,
    pub loops: Vec<Loops>,
    pub scraped: Vec<Scraped>,
    pub kept: Vec<Kept>,
}

impl Findings {
    pub fn cell(&self, peer: Peer, shape: &str, log: bool) -> Option<&Cell> {
        let is_it = |cell: &&Cell| cell.peer == peer && cell.shape.name == shape && cell.log == log;
        self.cells.iter().find(is_it)
    }

    /// As Markdown.
    pub fn text(&self) -> String {
        let mut text = format!(
            "Measured on {} with {}. The load average over one minute was {} before the start, and \
             {} before the end. {}\n\n",
            self.date, self.machine, self.busy[0], self.busy[1], self.how
        );
        for (peer, version) in &self.versions {
            _ = writeln!(text, "- {}: {version}", peer.title());
        }
        self.goals(&mut text);
        for shape in shapes::ALL {
            self.shape(&mut text, shape);
        }
        self.flood(&mut text);
        self.whatsat(&mut text);
        self.loops(&mut text);
        self.scraped(&mut text);
        self.kept(&mut text);
        self.footprint(&mut text);
        text
    }

    fn goals(&self, text: &mut String) {
        let goals = goals::all(self);
        if goals.is_empty() {
            return;
        }
        text.push_str("\n### The goals\n\n");
        text.push_str("| what | goal | this run | by CPU per request | |\n|---|---|---|---|---|\n");
        for goal in goals {
            let Goal { what, bound, seen, by_cpu, holds } = goal;
            let by_cpu = by_cpu.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let verdict = if holds { "holds" } else { "**falls short**" };
            _ = writeln!(text, "| {what} | {bound} | {seen} | {by_cpu} | {verdict} |");
        }
    }

    fn shape(&self, text: &mut String, shape: Shape) {
        let cells = || self.cells.iter().filter(|cell| cell.shape == shape);
        if cells().next().is_none() {
            return;
        }
        _ = writeln!(text, "\n### {}\n", title(shape));
        text.push_str("| server | log | requests/s | CPU us per request | p50 us | p99 us | p99.9 us | p99.99 us | records per request |\n");
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for cell in cells() {
            let latency =
                |index: usize| thousands(cell.median(|round| round.latency[index]).round());
            let records = if cell.log {
                format!("{:.2}", cell.median(|round| round.records))
            } else {
                String::new()
            };
            _ = writeln!(
                text,
                "| {} | {} | {} | {:.2} | {} | {} | {} | {} | {records} |",
                cell.peer.title(),
                if cell.log { "INFO" } else { "off" },
                thousands(cell.median(|round| round.rate)),
                cell.median(|round| round.cpu),
                latency(0),
                latency(2),
                latency(3),
                latency(4)
            );
        }
    }

    fn flood(&self, text: &mut String) {
        if self.floods.is_empty() {
            return;
        }
        text.push_str("\n### The flood, through three servers to a neighbour\n\n");
        text.push_str("| herd | IAMAT to answer, us | answer to third hop, us | IAMAT to third hop, us | updates/s |\n|---|---|---|---|---|\n");
        for (name, flood) in &self.floods {
            _ = writeln!(
                text,
                "| {name} | {:.0} | {:.0} | {:.0} | {} |",
                flood.answer,
                flood.three_hops,
                flood.in_all,
                thousands(flood.rate)
            );
        }
    }

    fn whatsat(&self, text: &mut String) {
        if self.places.is_empty() {
            return;
        }
        text.push_str("\n### WHATSAT, one after the other, the service behind TLS\n\n");
        text.push_str("| server | requests/s | p50 us | p99 us |\n|---|---|---|---|\n");
        for Places { title, rate, p50, p99 } in &self.places {
            _ = writeln!(text, "| {title} | {} | {p50:.0} | {p99:.0} |", thousands(*rate));
        }
    }

    fn loops(&self, text: &mut String) {
        if self.loops.is_empty() {
            return;
        }
        text.push_str("\n### More than one loop, 64 × 16\n\n");
        text.push_str("| loops | CPU us per request, all together | times one loop, a core each |\n|---|---|---|\n");
        let mut one = f64::NAN;
        for Loops { title, loops, cpu } in &self.loops {
            if *loops == 1 {
                one = *cpu;
            }
            _ = writeln!(text, "| {title} | {cpu:.2} | {:.2} |", *loops as f64 * one / cpu);
        }
    }

    fn scraped(&self, text: &mut String) {
        if self.scraped.is_empty() {
            return;
        }
        text.push_str("\n### Scraped ten times a second, or without an admin listener\n\n");
        text.push_str("| shape | | requests/s | CPU us per request | turns above 2 ms |\n|---|---|---|---|---|\n");
        for Scraped { shape, is_scraped, rate, cpu, long_turns } in &self.scraped {
            let (name, way) = (title(*shape), if *is_scraped { "scraped" } else { "no listener" });
            let long = long_turns.map_or(String::new(), |turns| turns.to_string());
            _ = writeln!(text, "| {name} | {way} | {} | {cpu:.3} | {long} |", thousands(*rate));
        }
    }

    fn kept(&self, text: &mut String) {
        if self.kept.is_empty() {
            return;
        }
        text.push_str("\n### What it costs to keep updates outside the process\n\n");
        text.push_str("| shape | kept | requests/s | relative to memory only | CPU us per request | p50 us | p99 us |\n|---|---|---|---|---|---|---|\n");
        for Kept { title, connections, depth, rate, ratio, cpu, p50, p99 } in &self.kept {
            _ = writeln!(
                text,
                "| {connections} × {depth} | {title} | {} | {ratio:.2} | {cpu:.2} | {} | {} |",
                thousands(*rate),
                thousands(p50.round()),
                thousands(p99.round())
            );
        }
    }

    fn footprint(&self, text: &mut String) {
        if !self.footprints.is_empty() {
            text.push_str("\n### Memory, resident, of the process alone\n\n");
            text.push_str("| server | at start, MB | bytes per idle connection | bytes per client, of a million |\n|---|---|---|---|\n");
        }
        for footprint in &self.footprints {
            let or_none = |bytes: Option<f64>| bytes.map_or("".to_owned(), thousands);
            _ = writeln!(
                text,
                "| {} | {:.1} | {} | {} |",
                footprint.peer.title(),
                footprint.at_start as f64 / 1e6,
                or_none(footprint.a_connection),
                or_none(footprint.a_client)
            );
        }
        if !self.starts.is_empty() {
            text.push_str("\n### To start, and to ship\n\n");
            text.push_str(
                "| server | ms until it accepts | size of the file, KB |\n|---|---|---|\n",
            );
        }
        for (peer, time, size) in &self.starts {
            let size = size.map_or("a runtime".to_owned(), |size| thousands(size as f64 / 1e3));
            _ = writeln!(text, "| {} | {:.1} | {size} |", peer.title(), time.as_secs_f64() * 1e3);
        }
    }

    /// Writes the document and the pictures into a folder.
    pub fn write(&self, docs: &Path) -> Result<(), Failure> {
        let path = docs.join("measurements.md");
        let old = fs::read_to_string(&path).unwrap_or_else(|_| format!("{FIRST}{BEGIN}\n{END}\n"));
        let (before, rest) =
            old.split_once(BEGIN).ok_or("docs/measurements.md has no begin marker")?;
        let (_, after) = rest.split_once(END).ok_or("docs/measurements.md has no end marker")?;
        fs::write(&path, format!("{before}{BEGIN}\n{}{END}{after}", self.text()))?;
        for shape in shapes::ALL.into_iter().filter(|shape| !shape.is_open) {
            self.plot_rates(docs, shape)?;
        }
        self.plot_open_loop(docs)
    }

    fn plot_rates(&self, docs: &Path, shape: Shape) -> Result<(), Failure> {
        let rate = |peer, log| {
            let cell = self.cell(peer, shape.name, log)?;
            Some(cell.median(|round| round.rate))
        };
        let rows: Vec<_> = crate::peers::ALL
            .into_iter()
            .map(|peer| (peer.title().to_owned(), vec![rate(peer, false), rate(peer, true)]))
            .filter(|(_, values)| values.iter().any(Option::is_some))
            .collect();
        if !rows.is_empty() {
            let title = format!("Requests per second, {}", title(shape));
            let svg = bars(&title, &["log off", "log at INFO"], &rows);
            fs::write(docs.join(format!("measurements-{}.svg", shape.name)), svg)?;
        }
        Ok(())
    }

    fn plot_open_loop(&self, docs: &Path) -> Result<(), Failure> {
        let open = self.cells.iter().filter(|cell| cell.shape.is_open && !cell.log);
        let all: Vec<_> = open
            .map(|cell| {
                let values = (0..shapes::QUANTILES.len())
                    .map(|index| cell.median(|round| round.latency[index]));
                (cell.peer.title().to_owned(), values.collect::<Vec<_>>())
            })
            .collect();
        if !all.is_empty() {
            let steps = ["p50", "p90", "p99", "p99.9", "p99.99"];
            let svg = lines("Microseconds from when a request was due, log off", &steps, &all);
            fs::write(docs.join("measurements-open.svg"), svg)?;
        }
        Ok(())
    }
}

fn title(shape: Shape) -> String {
    match (shape.is_open, shape.is_crowded) {
        (true, _) => format!("{} connections, requests at a fixed rate", shape.connections),
        (_, true) => {
            format!("{} × {}, beside idle ones", thousands(shape.connections as f64), shape.depth)
        }
        _ => format!("{} × {}", shape.connections, shape.depth),
    }
}

const BEGIN: &str =
    "<!-- measured: begin. The bench writes what stands from here to the end marker. -->";
const END: &str = "<!-- measured: end -->";
const FIRST: &str = "# Measurements\n\n";
