//! The tables of a run, as Markdown: medians, and in brackets where the middle half of the rounds lies.

use std::fmt::Write;

use crate::figures::{Figures, Spread};
use crate::goals::{self, Bound, Goal};
use crate::peers::{self, Peer};
use crate::plot::thousands;
use crate::runs::Run;
use crate::shapes::{self, Shape};
use crate::{calls, kept, nearby, places64, turns};

/// A table's name and how it is made; it is empty where nothing of it was measured.
pub type Table = (&'static str, fn(&Figures) -> String);

pub const ALL: [Table; 17] = [
    ("1x1", |figures| shape(figures, "1x1")),
    ("64x1", |figures| shape(figures, "64x1")),
    ("64x16", |figures| shape(figures, "64x16")),
    ("1000x1", |figures| shape(figures, "1000x1")),
    ("open", open),
    ("allocator", allocator),
    ("flood", flood),
    ("places", places),
    ("places64", places64),
    ("nearby", nearby),
    ("gazetteer", gazetteer),
    ("kept", kept),
    ("loops", loops),
    ("scraped", scraped),
    ("turns", turns),
    ("calls", calls),
    ("memory", memory),
];

/// All that a run has measured, to be read in a terminal.
pub fn all(run: &Run) -> String {
    let mut text = goals(std::slice::from_ref(run));
    for (name, table) in ALL {
        let table = table(&run.figures);
        if !table.is_empty() {
            _ = write!(text, "\n{name}\n\n{table}");
        }
    }
    text
}

/// Each goal that the last run has figures for; in how many of all runs it holds.
pub fn goals(runs: &[Run]) -> String {
    let head = ["what", "goal", "last run", "all runs", "by CPU time, last run", "holds"];
    let rows = goals::all().into_iter().filter_map(|goal| goal_row(&goal, runs)).collect();
    table(&head, rows)
}

fn goal_row(goal: &Goal, runs: &[Run]) -> Option<Vec<String>> {
    let last = runs.last()?;
    let seen = goal.seen.of(&last.figures)?;
    let medians: Vec<f64> =
        runs.iter().filter_map(|run| Some(goal.seen.of(&run.figures)?.median)).collect();
    let least = medians.iter().copied().fold(f64::MAX, f64::min);
    let most = medians.iter().copied().fold(f64::MIN, f64::max);
    let held = runs.iter().filter_map(|run| goal.holds(&run.figures)).filter(|held| *held).count();
    let bound = match goal.bound {
        Bound::AtLeast(bound) => format!("at least {}", plain(bound)),
        Bound::AtMost(bound) => format!("at most {}", plain(bound)),
    };
    let by_cpu = goal.by_cpu.as_ref().and_then(|seen| seen.of(&last.figures));
    let verdict = match held == medians.len() {
        true => format!("{held} of {}", medians.len()),
        false => format!("**{held} of {}**", medians.len()),
    };
    Some(vec![
        goal.what.clone(),
        bound + goal.unit,
        spread(Some(seen)),
        format!("{} to {}", number(least), number(most)),
        spread(by_cpu),
        verdict,
    ])
}

/// Of one shape of the closed loop.
fn shape(figures: &Figures, shape: &str) -> String {
    let head = [
        "server",
        "log",
        "requests/s",
        "CPU us per request",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "records per request",
    ];
    let mut rows = Vec::new();
    for (peer, log) in each() {
        let name = |what: &str| format!("{shape}/{log}/{}/{what}", peer.name());
        if figures.values(&name("rate")).is_empty() {
            continue;
        }
        let mut row = vec![peer.title().to_owned(), word_of(log).to_owned()];
        let columns = ["rate", "cpu", "p50", "p99", "p99.9"];
        row.extend(columns.map(|what| spread(figures.spread(&name(what)))));
        let records = figures.spread(&name("records"));
        row.push(records.map_or(String::new(), |records| format!("{:.2}", records.median)));
        rows.push(row);
    }
    table(&head, rows)
}

fn open(figures: &Figures) -> String {
    let head = [
        "server",
        "log",
        "CPU us per request",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "p99.99 us, all rounds",
        "requests, all rounds",
        "of them slower than the p99.99",
    ];
    let mut rows = Vec::new();
    for (peer, log) in each() {
        let name = |what: &str| format!("open/{log}/{}/{what}", peer.name());
        let Some(requests) = figures.spread(&name("requests")) else { continue };
        let mut row = vec![peer.title().to_owned(), word_of(log).to_owned()];
        row.extend(["cpu", "p50", "p99", "p99.9"].map(|what| spread(figures.spread(&name(what)))));
        row.push(median(figures, &name("p99.99")));
        row.push(number(requests.median));
        row.push(format!("{:.0}", (requests.median / 10_000.0).floor()));
        rows.push(row);
    }
    table(&head, rows)
}

fn allocator(figures: &Figures) -> String {
    let head = [
        "server",
        "shape",
        "log",
        "calls of mmap per read, by strace after the rounds",
        "page faults per request, in the rounds",
    ];
    let mut rows = Vec::new();
    for peer in [Peer::Uvloop, Peer::Asyncio] {
        for (shape, log) in [("1x1", "off"), ("1x1", "info"), ("64x1", "off"), ("64x1", "info")] {
            let maps = format!("allocator/{shape}/{log}/{}/maps", peer.name());
            let faults = format!("{shape}/{log}/{}/faults", peer.name());
            if figures.values(&faults).is_empty() {
                continue;
            }
            let title = title(shape);
            let maps = match figures.spread(&maps) {
                Some(maps) => number(maps.median),
                None => "not counted".to_owned(),
            };
            let faults = spread(figures.spread(&faults));
            rows.push(vec![peer.title().into(), title, word_of(log).into(), maps, faults]);
        }
    }
    table(&head, rows)
}

fn flood(figures: &Figures) -> String {
    let head = [
        "herd",
        "IAMAT to answer, us",
        "answer to third hop, us",
        "IAMAT to third hop, us",
        "updates/s",
    ];
    let ways =
        [("ours", "herd-mio, links kept"), ("asyncio", "asyncio, a connection for each update")];
    columns(figures, &head, "flood", &ways, &["answer", "hops", "all", "rate"])
}

fn places(figures: &Figures) -> String {
    let ways = [
        ("ours", "herd-mio"),
        ("each", "aiohttp, a session for each request"),
        ("kept", "aiohttp, a session kept"),
    ];
    let head = ["server", "requests/s", "p50 us", "p99 us"];
    columns(figures, &head, "places", &ways, &["rate", "p50", "p99"])
}

fn nearby(figures: &Figures) -> String {
    let head = ["where", "shape", "server", "queries/s", "CPU us per query", "p50 us", "p99 us"];
    let mut rows = Vec::new();
    for (spot, title_of_spot, ..) in nearby::SPOTS {
        for connections in nearby::CONNECTIONS {
            for (way, server) in [("ours", "herd-mio, WHATSAT"), ("redis", "Redis, GEOSEARCH")] {
                let shape = format!("{connections}x1");
                let name = |what: &str| format!("nearby/{spot}/{shape}/{way}/{what}");
                let cells = ["rate", "cpu", "p50", "p99"].map(|what| figures.spread(&name(what)));
                if cells[0].is_some() {
                    let mut row = vec![title_of_spot.into(), title(&shape), server.to_owned()];
                    row.extend(cells.map(spread));
                    rows.push(row);
                }
            }
        }
    }
    table(&head, rows)
}

fn places64(figures: &Figures) -> String {
    let head = ["server", "CPU us per request", "requests/s", "p50 us", "p99 us"];
    columns(figures, &head, "places64", &places64::WAYS, &["cpu", "rate", "p50", "p99"])
}

fn kept(figures: &Figures) -> String {
    let head = [
        "shape",
        "kept",
        "answers/s",
        "relative to memory only",
        "CPU us per answer, server",
        "NATS",
        "p50 us",
        "p99 us",
    ];
    let mut rows = Vec::new();
    for (connections, depth) in kept::SHAPES {
        let part = format!("kept/{connections}x{depth}");
        let ways = kept::WAYS.iter().map(|(way, title, _)| (*way, *title)).chain([kept::BARE]);
        for (way, title) in ways {
            let name = |what: &str| format!("{part}/{way}/{what}");
            if figures.values(&name("rate")).is_empty() {
                continue;
            }
            let plain = format!("{part}/{}/rate", kept::WAYS[0].0);
            let mut row = vec![format!("{connections} × {depth}"), title.to_owned()];
            row.push(spread(figures.spread(&name("rate"))));
            row.push(spread(figures.ratio(&name("rate"), &plain)));
            row.push(spread(figures.spread(&name("cpu"))));
            // Who does not use it pays nothing, but for its timers.
            let is_used = way.starts_with("engine") || way == kept::BARE.0;
            let of_nats = figures.spread(&name("nats")).filter(|_| is_used);
            row.push(spread(of_nats));
            row.push(spread(figures.spread(&name("p50"))));
            row.push(spread(figures.spread(&name("p99"))));
            rows.push(row);
        }
    }
    table(&head, rows)
}

fn loops(figures: &Figures) -> String {
    let head = ["loops", "CPU us per request, all together", "times one loop, a core each"];
    let ways = [
        ("1", "1", 1.0, "one loop"),
        ("2", "1", 2.0, "two loops"),
        ("1-mixed", "1-mixed", 1.0, "one loop, each request of another client"),
        ("2-mixed", "1-mixed", 2.0, "two loops, each request of another client"),
    ];
    let mut rows = Vec::new();
    for (way, one, loops, title) in ways {
        let name = |way: &str| format!("loops/{way}/cpu");
        let Some(cpu) = figures.spread(&name(way)) else { continue };
        let gain = figures.ratio(&name(one), &name(way)).map(|ratio| ratio.times(loops));
        rows.push(vec![title.to_owned(), spread(Some(cpu)), spread(gain)]);
    }
    table(&head, rows)
}

fn scraped(figures: &Figures) -> String {
    let head = ["shape", "", "requests/s", "CPU us per request", "turns above 2 ms, all shapes"];
    let mut rows = Vec::new();
    for shape in shapes::ALL.into_iter().filter(Shape::is_closed) {
        for (way, title_of_way) in [("plain", "no listener"), ("scraped", "scraped")] {
            let name = |what: &str| format!("scraped/{}/{way}/{what}", shape.name);
            if figures.values(&name("rate")).is_empty() {
                continue;
            }
            let cells = ["rate", "cpu", "long_turns"].map(|what| figures.spread(&name(what)));
            let mut row = vec![title(shape.name), title_of_way.to_owned()];
            row.extend(cells.map(spread));
            rows.push(row);
        }
    }
    table(&head, rows)
}

fn turns(figures: &Figures) -> String {
    let head = ["what is done to a server", "turns", "p99.9 ms, at most", "longest ms"];
    let mut rows = Vec::new();
    for (way, title, _) in turns::ALL {
        let cells = ["count", "p99.9", "longest"]
            .map(|what| figures.spread(&format!("turns/{way}/{what}")));
        if cells[0].is_some() {
            rows.push([vec![title.to_owned()], cells.map(spread).to_vec()].concat());
        }
    }
    table(&head, rows)
}

fn calls(figures: &Figures) -> String {
    let mut rows = Vec::new();
    for (way, title) in calls::WAYS {
        let seen = figures.spread(&format!("calls/{way}"));
        if seen.is_some() {
            rows.push(vec![title.to_owned(), spread(seen)]);
        }
    }
    table(&["what", "system calls"], rows)
}

fn gazetteer(figures: &Figures) -> String {
    let mut rows = Vec::new();
    for (name, title, unit) in nearby::BY_ITSELF {
        let seen = figures.spread(&format!("gazetteer/{name}"));
        if seen.is_some() {
            rows.push(vec![title.to_owned(), spread(seen) + unit]);
        }
    }
    table(&["what", "it takes"], rows)
}

fn memory(figures: &Figures) -> String {
    let head = [
        "server",
        "at start, MB",
        "bytes per idle connection",
        "bytes per client, of a million",
        "ms until it accepts",
        "size of the file, KB",
    ];
    let mut rows = Vec::new();
    for peer in peers::ALL {
        let memory = |what: &str| figures.spread(&format!("memory/{}/{what}", peer.name()));
        let start = |what: &str| figures.spread(&format!("start/{}/{what}", peer.name()));
        if memory("start").or(start("ms")).is_none() {
            continue;
        }
        let size = start("size").map(|size| size.times(1e-3));
        rows.push(vec![
            peer.title().to_owned(),
            spread(memory("start").map(|bytes| bytes.times(1e-6))),
            spread(memory("connection")),
            spread(memory("client")),
            spread(start("ms")),
            size.map_or("a runtime".to_owned(), |size| spread(Some(size))),
        ]);
    }
    table(&head, rows)
}

/// A row for each way, a column for each figure.
fn columns(
    figures: &Figures,
    head: &[&str],
    part: &str,
    ways: &[(&str, &str)],
    what: &[&str],
) -> String {
    let mut rows = Vec::new();
    for (way, title) in ways {
        let cells: Vec<_> =
            what.iter().map(|what| figures.spread(&format!("{part}/{way}/{what}"))).collect();
        if cells.iter().any(Option::is_some) {
            let mut row = vec![(*title).to_owned()];
            row.extend(cells.into_iter().map(spread));
            rows.push(row);
        }
    }
    table(head, rows)
}

/// Each server with its log off, and on where it has one.
pub fn each() -> impl Iterator<Item = (Peer, &'static str)> {
    let logs = |peer: Peer| if peer.can_log() { &["off", "info"][..] } else { &["off"][..] };
    peers::ALL.into_iter().flat_map(move |peer| logs(peer).iter().map(move |log| (peer, *log)))
}

/// How people write a shape.
pub fn title(shape: &str) -> String {
    shape.replace("1000", "1,000").replace('x', " × ")
}

fn word_of(log: &str) -> &str {
    if log == "info" { "INFO" } else { "off" }
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// The median, and where the middle half lies, if that is another number.
pub fn spread(spread: Option<Spread>) -> String {
    let Some(Spread { low, median, high }) = spread else { return String::new() };
    let (low, median, high) = (number(low), number(median), number(high));
    match low == median && high == median {
        true => median,
        false => format!("{median} ({low} to {high})"),
    }
}

fn median(figures: &Figures, name: &str) -> String {
    figures.spread(name).map_or(String::new(), |spread| number(spread.median))
}

pub fn number(value: f64) -> String {
    match value.abs() {
        below if below < 100.0 => format!("{value:.2}"),
        _ => thousands(value),
    }
}

/// A bound, which is a round number.
fn plain(bound: f64) -> String {
    if bound < 1_000.0 { bound.to_string() } else { thousands(bound) }
}
