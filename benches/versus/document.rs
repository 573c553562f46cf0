//! `docs/measurements.md` and its pictures, written as a whole from the runs that are kept. What people wrote stands in
//! `measurements.md` beside this file; a line `{{name}}` there is the place of what is called so here.

use std::fmt::Write;
use std::fs;

use crate::Failure;
use crate::figures::Figures;
use crate::peers::{self, Peer, Workshop};
use crate::plot::{bars, lines};
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
    let sentence = |sentence: Option<String>| sentence.map_or_else(missing, |it| it + "\n");
    if let Some((_, table)) = tables::ALL.into_iter().find(|(table, _)| *table == name) {
        let table = table(figures);
        return Ok(if table.is_empty() { missing() } else { table });
    }
    Ok(match name {
        "conclusion" => words::conclusion(runs),
        "goals" => tables::goals(runs),
        "run" => of_the_run(runs, last),
        "versions" => versions(last),
        "what the allocator did" => sentence(words::of_the_allocator(figures)),
        "what the slowest show" => sentence(words::of_lines(figures)),
        _ => match name.strip_prefix("what the bars show ") {
            Some(shape) => sentence(words::of_bars(figures, shape)),
            None => return Err(format!("benches/versus/measurements.md: no {name}").into()),
        },
    })
}

fn of_the_run(runs: &[Run], last: &Run) -> String {
    let names: Vec<String> = runs.iter().map(|run| format!("`{}`", run.name)).collect();
    let mut text = format!(
        "{} kept in `benches/versus/runs`: {}. The tables are of the last: {}, commit {}, {}.\n\n",
        match runs.len() {
            1 => "One run is".to_owned(),
            count => format!("{count} runs are"),
        },
        names.join(", "),
        last.fact("date"),
        last.fact("commit"),
        last.fact("machine")
    );
    _ = writeln!(text, "{}.\n", upper(last.fact("how")));
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

fn upper(words: &str) -> String {
    let mut rest = words.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

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
