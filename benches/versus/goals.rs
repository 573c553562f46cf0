//! Where the project wants to stand, and where a run has found it. Figures of one run only are
//! compared: machines differ, and so does one machine from hour to hour.
//!
//! A new goal is one more row here: its words, its bound, and the names of the figures that it is about.

use crate::figures::{Figures, Spread};
use crate::peers::Peer;
use crate::turns;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Goal {
    pub what: String,
    pub bound: Bound,
    pub unit: &'static str,
    pub seen: Seen,
    /// The same ratio by the servers' CPU time, which neighbours on the machine disturb less.
    pub by_cpu: Option<Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What of the figures a goal is about.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The figure of this name, by this factor.
    Figure(String, f64),
    /// The ratio of two within each round, by this factor.
    Ratio(String, String, f64),
}

/// All goals, in the order of the table.
pub fn all() -> Vec<Goal> {
    let mut goals =
        vec![rate("64x1", false, Peer::Baseline, 0.9), rate("64x16", false, Peer::Baseline, 0.75)];
    for shape in ["1x1", "64x1", "64x16", "1000x1"] {
        for tokio in [Peer::TokioBatched, Peer::TokioLines] {
            goals.push(rate(shape, false, tokio, 1.1));
        }
    }
    goals.extend([
        rate("64x1", false, Peer::Asyncio, 2.0),
        rate("64x16", false, Peer::Asyncio, 12.0),
        rate("64x1", true, Peer::Asyncio, 6.0),
        rate("64x16", true, Peer::Asyncio, 20.0),
        with_the_log(),
        Goal::new("an IAMAT, sixteen at once", at_most(1_800.0), IAMAT.into(), " instructions"),
        Goal::new(
            "64 × 1: p99 relative to C with epoll (baseline)",
            at_most(1.4),
            Seen::ratio("64x1/off/ours/p99", "64x1/off/c-epoll/p99"),
            "",
        ),
    ]);
    goals.extend(calls());
    goals.extend(gazetteer());
    goals.extend(memory());
    goals.extend(turns());
    goals.extend(places());
    goals.extend(herds());
    goals
}

/// System calls.
fn calls() -> Vec<Goal> {
    [
        ("an IAMAT by itself, log at INFO", 5.0, "calls/info"),
        ("a WHATSAT over a kept HTTPS connection", 8.0, "calls/whatsat"),
    ]
    .map(|(what, most, seen)| Goal::new(what, at_most(most), seen.into(), " system calls"))
    .into()
}

/// What is asked of the gazetteer, without the connection.
fn gazetteer() -> Vec<Goal> {
    [
        ("the gazetteer's answer, Paris, 31 miles, bound 20", 6.0, "gazetteer/paris-20", " us"),
        ("the same with bound 0", 1.5, "gazetteer/paris-0", " us"),
        ("the same where no place is", 1.5, "gazetteer/ocean-20", " us"),
        ("to unpack the gazetteer, at a server's first query", 20.0, "gazetteer/unpack", " ms"),
        ("the gazetteer's memory in a server", 8.0, "gazetteer/memory", " MB"),
    ]
    .map(|(what, most, seen, unit)| Goal::new(what, at_most(most), seen.into(), unit))
    .into()
}

fn memory() -> Vec<Goal> {
    vec![
        Goal::new(
            "resident memory of an idle connection",
            at_most(217.0),
            "memory/ours/connection".into(),
            " bytes",
        ),
        Goal::new(
            "resident memory of a client, of a million",
            at_most(190.0),
            "memory/ours/client".into(),
            " bytes",
        ),
    ]
}

/// Of each way the turns are measured in, p99.9; and the longest while a full table forgets its oldest tenth.
fn turns() -> Vec<Goal> {
    let mut goals = Vec::new();
    for (way, title, _) in turns::ALL {
        let what = format!("{title}: p99.9 of the loop's turns");
        let seen = Seen::from(&*format!("turns/{way}/p99.9"));
        goals.push(Goal::new(&what, at_most(10.0), seen, " ms"));
    }
    goals.push(Goal::new(
        "a full table's oldest tenth, of a million: longest turn",
        at_most(5.0),
        "turns/full/longest".into(),
        " ms",
    ));
    goals
}

fn places() -> Vec<Goal> {
    vec![
        Goal::new(
            "WHATSAT/s relative to aiohttp as in the report",
            at_least(16.0),
            Seen::ratio("places/ours/rate", "places/each/rate"),
            "",
        ),
        Goal::new(
            "WHATSAT/s relative to aiohttp with a kept session",
            at_least(2.0),
            Seen::ratio("places/ours/rate", "places/kept/rate"),
            "",
        ),
        Goal::new(
            "64 WHATSATs at once, the service after 20 ms: CPU a request of aiohttp with a kept session, relative to ours",
            at_least(5.0),
            Seen::ratio("places64/kept/cpu", "places64/ours/cpu"),
            "",
        ),
    ]
}

/// Several loops, several servers.
fn herds() -> Vec<Goal> {
    let two = Seen::Ratio("loops/1-mixed/cpu".into(), "loops/2-mixed/cpu".into(), 2.0);
    vec![
        Goal::new(
            "three hops of flooding, relative to one round trip",
            at_most(4.0),
            Seen::ratio("flood/ours/hops", "flood/ours/answer"),
            "",
        ),
        Goal::new(
            "updates/s through four servers in a line",
            at_least(600_000.0),
            "flood/ours/rate".into(),
            "",
        ),
        Goal::new(
            "two loops relative to one, each request of another client, by CPU time",
            at_least(1.6),
            two,
            "",
        ),
    ]
}

/// By CPU time: with a core for the server's two threads and one for the load, the rate is the slower one's.
fn with_the_log() -> Goal {
    Goal {
        by_cpu: Some(Seen::ratio("64x16/off/ours/cpu", "64x16/info/ours/cpu")),
        ..Goal::new(
            "64 × 16 with the log at INFO, relative to the log off",
            at_least(0.75),
            Seen::ratio("64x16/info/ours/rate", "64x16/off/ours/rate"),
            "",
        )
    }
}

fn rate(shape: &str, log: bool, other: Peer, bound: f64) -> Goal {
    let (log, words) = if log { ("info", ", log at INFO") } else { ("off", "") };
    let name = |peer: Peer, what: &str| format!("{shape}/{log}/{}/{what}", peer.name());
    let what = format!(
        "{}{words}: requests/s relative to {}",
        shape.replace("1000", "1,000").replace('x', " × "),
        other.title()
    );
    let ratio = Seen::ratio(&name(Peer::Ours, "rate"), &name(other, "rate"));
    let by_cpu = Seen::ratio(&name(other, "cpu"), &name(Peer::Ours, "cpu"));
    Goal { by_cpu: Some(by_cpu), ..Goal::new(&what, at_least(bound), ratio, "") }
}

fn at_least(bound: f64) -> Bound {
    Bound::AtLeast(bound)
}

fn at_most(bound: f64) -> Bound {
    Bound::AtMost(bound)
}

impl Goal {
    pub fn new(what: &str, bound: Bound, seen: Seen, unit: &'static str) -> Goal {
        Goal { what: what.to_owned(), bound, unit, seen, by_cpu: None }
    }

    /// Whether the median of the run holds it; none where the run has not measured it.
    pub fn holds(&self, figures: &Figures) -> Option<bool> {
        let median = self.seen.of(figures)?.median;
        Some(match self.bound {
            Bound::AtLeast(bound) => median >= bound,
            Bound::AtMost(bound) => median <= bound,
        })
    }
}

impl Seen {
    pub fn ratio(over: &str, under: &str) -> Seen {
        Seen::Ratio(over.to_owned(), under.to_owned(), 1.0)
    }

    pub fn of(&self, figures: &Figures) -> Option<Spread> {
        match self {
            Seen::Figure(name, factor) => Some(figures.spread(name)?.times(*factor)),
            Seen::Ratio(over, under, factor) => Some(figures.ratio(over, under)?.times(*factor)),
        }
    }
}

impl From<&str> for Seen {
    fn from(name: &str) -> Seen {
        Seen::Figure(name.to_owned(), 1.0)
    }
}

/// Counted by `benches/instructions`, and taken from its file.
const IAMAT: &str = "instructions/an IAMAT of 16, no neighbours";
