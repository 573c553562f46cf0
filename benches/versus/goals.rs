//! Where the project wants to stand, and where a run has found it. Figures of one run only are
//! compared: machines differ, and so does one machine from hour to hour.

use crate::peers::Peer;
use crate::report::Findings;
use crate::shapes::{Cell, Round, median};

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Goal {
    pub what: String,
    pub bound: String,
    pub seen: String,
    /// The same ratio by the servers' CPU time, which neighbours on the machine disturb less.
    pub by_cpu: Option<f64>,
    pub holds: bool,
}

/// Every goal whose figures the run has.
pub fn all(findings: &Findings) -> Vec<Goal> {
    let mut goals = Vec::new();
    goals.extend(rate(findings, "64x1", false, Peer::Baseline, 0.9));
    goals.extend(rate(findings, "64x16", false, Peer::Baseline, 0.75));
    for shape in ["1x1", "64x1", "64x16", "1000x1"] {
        for tokio in [Peer::TokioBatched, Peer::TokioLines] {
            goals.extend(rate(findings, shape, false, tokio, 1.1));
        }
    }
    goals.extend(rate(findings, "64x1", false, Peer::Asyncio, 2.0));
    goals.extend(rate(findings, "64x16", false, Peer::Asyncio, 12.0));
    goals.extend(rate(findings, "64x1", true, Peer::Asyncio, 6.0));
    goals.extend(rate(findings, "64x16", true, Peer::Asyncio, 20.0));
    let p99 = |peer| Some(findings.cell(peer, "64x1", false)?.median(|round| round.latency[2]));
    if let (Some(ours), Some(baseline)) = (p99(Peer::Ours), p99(Peer::Baseline)) {
        goals.push(at_most(
            "64 × 1: p99 relative to C with epoll (baseline)",
            ours / baseline,
            1.4,
            "",
        ));
    }
    if let Some(ours) = findings.footprints.iter().find(|one| one.peer == Peer::Ours) {
        let connection = ours.a_connection.unwrap_or(f64::NAN);
        goals.push(at_most("resident memory of an idle connection", connection, 256.0, " bytes"));
        let client = ours.a_client.unwrap_or(f64::NAN);
        goals.push(at_most("resident memory of a client, of a million", client, 250.0, " bytes"));
    }
    if let [ours, each, kept] = findings.places.as_slice() {
        goals.push(at_least(
            "WHATSAT/s relative to aiohttp as in the report",
            ours.rate / each.rate,
            15.0,
        ));
        goals.push(at_least(
            "WHATSAT/s relative to aiohttp with a kept session",
            ours.rate / kept.rate,
            2.0,
        ));
    }
    if let Some((_, flood)) = findings.floods.first() {
        let ratio = flood.three_hops / flood.answer;
        goals.push(at_most("three hops of flooding, relative to one round trip", ratio, 4.0, ""));
    }
    goals
}

fn rate(findings: &Findings, shape: &str, log: bool, other: Peer, bound: f64) -> Option<Goal> {
    let ours = findings.cell(Peer::Ours, shape, log)?;
    let theirs = findings.cell(other, shape, log)?;
    let seen = in_pairs(ours, theirs, |ours, theirs| ours.rate / theirs.rate);
    let by_cpu = in_pairs(ours, theirs, |ours, theirs| theirs.cpu / ours.cpu);
    let log = if log { ", log at INFO" } else { "" };
    let what =
        format!("{}{log}: requests/s relative to {}", shape.replace('x', " × "), other.title());
    Some(Goal { by_cpu: Some(by_cpu), ..at_least(&what, seen, bound) })
}

/// The median of the ratios within each round: what slows the machine down for a second slows both.
fn in_pairs(ours: &Cell, theirs: &Cell, ratio: fn(&Round, &Round) -> f64) -> f64 {
    let pairs = ours.rounds.iter().zip(&theirs.rounds);
    median(pairs.map(|(ours, theirs)| ratio(ours, theirs)).collect())
}

fn at_least(what: &str, ratio: f64, bound: f64) -> Goal {
    Goal {
        what: what.to_owned(),
        bound: format!("at least {bound}"),
        seen: format!("{ratio:.2}"),
        by_cpu: None,
        holds: ratio >= bound,
    }
}

fn at_most(what: &str, value: f64, bound: f64, unit: &str) -> Goal {
    let seen = if unit.is_empty() { format!("{value:.2}") } else { format!("{value:.0}{unit}") };
    Goal {
        what: what.to_owned(),
        bound: format!("at most {bound}{unit}"),
        seen,
        by_cpu: None,
        holds: value <= bound,
    }
}
