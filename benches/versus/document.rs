//! `docs/measurements.md` and its pictures, written as a whole from the runs that are kept. What people wrote stands in
//! `measurements.md` beside this file; a line `{{name}}` there is the place of what is called so here.

use std::fmt::Write;
use std::fs;

use crate::Failure;
use crate::figures::Figures;
use crate::peers::{self, Peer, Workshop};
use crate::plot::{bars, lines, thousands};
use crate::runs::Run;
use crate::shapes;
use crate::tables;
use crate::words;

/// Writes the document and the pictures.
pub fn write(runs: &[Run], workshop: &Workshop) -> Result<(), Failure> {
    let last = runs.last().ok_or("no run is kept in benches/versus/runs")?;
    let template = workshop.text("benches/versus/measurements.md")?;
    let mut text = String::new();
    for line in template.lines() {
        match line.strip_prefix("{{").and_then(|line| line.strip_suffix("}}")) {
            Some(name) => text.push_str(&piece(name, runs, last)?),
            None => _ = writeln!(text, "{line}"),
        }
    }
    let docs = workshop.docs();
    fs::write(docs.join("measurements.md"), text)?;
    for (shape, title) in BARS {
        let rows = rows(&last.figures, shape);
        if !rows.is_empty() {
            let svg = bars(title, &["log off", "log at INFO"], &rows);
            fs::write(docs.join(format!("measurements-{shape}.svg")), svg)?;
        }
    }
    let comparison = docs.join("comparison.md");
    fs::write(&comparison, compared(&workshop.text("docs/comparison.md")?, &last.figures)?)?;
    let all = slowest(&last.figures);
    if !all.is_empty() {
        let svg = lines("Microseconds from when a request was due, log off", &STEPS, &all);
        fs::write(docs.join("measurements-open.svg"), svg)?;
    }
    Ok(())
}

/// What stands for a name of the template.
fn piece(name: &str, runs: &[Run], last: &Run) -> Result<String, Failure> {
    let figures = &last.figures;
    let missing = || "Not measured in the last run.\n".to_owned();
    let sentence =
        |sentence: Option<String>| sentence.map_or_else(missing, |it| words::wrapped(&it, ""));
    if let Some((_, table)) = tables::ALL.into_iter().find(|(table, _)| *table == name) {
        let table = table(figures);
        return Ok(if table.is_empty() { missing() } else { table });
    }
    Ok(match name {
        "conclusion" => words::conclusion(runs),
        "goals" => tables::goals(runs),
        "run" => of_the_run(runs, last),
        "versions" => versions(last),
        "what the machine takes" => sentence(words::of_the_machine(figures)),
        "what io_uring gives" => sentence(words::of_io_uring(runs)),
        "what the allocator did" => sentence(words::of_the_allocator(figures)),
        "what the slowest show" => sentence(words::of_lines(figures)),
        _ => match name.strip_prefix("what the bars show ") {
            Some(shape) => sentence(words::of_bars(figures, shape)),
            None => return Err(format!("benches/versus/measurements.md: no {name}").into()),
        },
    })
}

fn of_the_run(runs: &[Run], last: &Run) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let kept = match names.as_slice() {
        [_] => "One run is kept".to_owned(),
        all => format!("{} runs are kept", all.len()),
    };
    let mut text = words::wrapped(
        &format!(
            "{kept} in `benches/versus/runs`: {}. The tables are of the last, of {}: commit {}, {}. {}.",
            names.join(", "),
            last.fact("date"),
            last.fact("commit"),
            last.fact("machine"),
            upper(last.fact("how"))
        ),
        "",
    );
    text.push('\n');
    for (part, words) in &last.parts {
        _ = writeln!(text, "- {part}: {words}");
    }
    text
}

fn versions(run: &Run) -> String {
    let mut text = String::new();
    for peer in peers::ALL {
        let name = format!("version of {}", peer.name());
        match run.facts.get(&name) {
            Some(version) => _ = writeln!(text, "- {}: {version}", peer.title()),
            None => _ = writeln!(text, "- {}: not there", peer.title()),
        }
    }
    _ = writeln!(text, "- NATS: {}", run.fact("version of NATS"));
    text
}

fn rows(figures: &Figures, shape: &str) -> Vec<(String, Vec<Option<crate::figures::Spread>>)> {
    let rate =
        |peer: Peer, log: &str| figures.spread(&format!("{shape}/{log}/{}/rate", peer.name()));
    let both = |peer: Peer| (peer.title().to_owned(), vec![rate(peer, "off"), rate(peer, "info")]);
    let measured =
        |row: &(String, Vec<Option<crate::figures::Spread>>)| row.1.iter().any(Option::is_some);
    peers::ALL.into_iter().map(both).filter(measured).collect()
}

/// The times of the open loop by quantile.
fn slowest(figures: &Figures) -> Vec<(String, Vec<f64>)> {
    let values = |peer: Peer| -> Option<Vec<f64>> {
        let of =
            |step: &&str| Some(figures.spread(&format!("open/off/{}/{step}", peer.name()))?.median);
        STEPS.iter().map(of).collect()
    };
    LINES.into_iter().filter_map(|peer| Some((peer.title().to_owned(), values(peer)?))).collect()
}

/// `docs/comparison.md` with the figures of the last run in its table. The lines of code, the last column, stay.
fn compared(text: &str, figures: &Figures) -> Result<String, Failure> {
    let (before, rest) = text.split_once(BEGIN).ok_or("docs/comparison.md: no begin of figures")?;
    let (table, after) = rest.split_once(END).ok_or("docs/comparison.md: no end of figures")?;
    let mut rows = String::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let peer = peers::ALL.into_iter().find(|peer| Some(&peer.title()) == cells.first());
        let (Some(peer), Some(last)) = (peer, cells.last()) else {
            _ = writeln!(rows, "{line}");
            continue;
        };
        let names = [
            "64x1/off/{}/rate",
            "64x16/off/{}/rate",
            "64x16/info/{}/rate",
            "open/off/{}/p99.99",
            "memory/{}/connection",
            "memory/{}/client",
        ];
        let cell = |name: &str| match figures.spread(&name.replace("{}", peer.name())) {
            Some(value) => thousands(value.median),
            None if name.contains("info") && !peer.can_log() => "no log".to_owned(),
            None => "not measured".to_owned(),
        };
        let cells = names.map(cell).join(" | ");
        _ = writeln!(rows, "| {} | {cells} | {last} |", peer.title());
    }
    Ok(format!("{before}{BEGIN}{rows}{END}{after}"))
}

fn upper(words: &str) -> String {
    let mut rest = words.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

const BARS: [(&str, &str); 4] = [
    ("1x1", "Requests per second, 1 × 1"),
    ("64x1", "Requests per second, 64 × 1"),
    ("64x16", "Requests per second, 64 × 16"),
    ("1000x1", "Requests per second, 1,000 × 1, beside idle ones"),
];

const STEPS: [&str; shapes::QUANTILES.len() + 1] = ["p50", "p90", "p99", "p99.9", "p99.99"];

/// As many as there are colours.
const LINES: [Peer; 9] = [
    Peer::Baseline,
    Peer::Uring,
    Peer::Ours,
    Peer::TokioBatched,
    Peer::JavaNio,
    Peer::JavaVirtual,
    Peer::Node,
    Peer::Uvloop,
    Peer::Asyncio,
];
