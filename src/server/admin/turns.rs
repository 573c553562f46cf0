//! `/debug/turns`: the latest turns of a loop, to see where time goes.

use serde::Serialize;

use super::reply::Reply;
use super::routes::Query;
use super::values::{seconds, time_at};
use crate::application::Turn;
use crate::clock::Now;
use crate::limits::{ADMIN_TURNS, ADMIN_TURNS_DEFAULT};
use crate::server::Server;

#[derive(Serialize)]
struct Turns {
    #[serde(rename = "loop")]
    number: usize,
    /// The oldest first.
    turns: Vec<OneTurn>,
}

#[derive(Serialize)]
struct OneTurn {
    start: Option<String>,
    wait: f64,
    duration: f64,
    events: u64,
    lines: u64,
    reads: u64,
    writes: u64,
}

impl Server {
    pub(super) fn turns(&self, query: &mut Query<'_>, now: Now) -> Result<Reply, String> {
        let last = query.number("last", 1..=ADMIN_TURNS, ADMIN_TURNS_DEFAULT)?;
        let loops = &self.all_metrics.loops;
        let number = query.number("loop", 1..=loops.len().max(1), 1)?;
        let turns = loops.get(number - 1).map_or_else(Vec::new, |(of, _)| of.latest_turns(last));
        // Each loop counts from its own start, within milliseconds of ours.
        let shown = |turn: Turn| OneTurn {
            start: time_at(turn.start, now),
            wait: seconds(turn.wait),
            duration: seconds(turn.duration),
            events: turn.events,
            lines: turn.lines,
            reads: turn.reads,
            writes: turn.writes,
        };
        Ok(Reply::json(200, &Turns { number, turns: turns.into_iter().map(shown).collect() }))
    }
}
