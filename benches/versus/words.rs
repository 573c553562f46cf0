//! The sentences of `docs/measurements.md` that speak of figures. Each is built of the last run's by a rule, and says less
//! than was seen rather than more: two servers differ only where the spreads of their rounds do not overlap, in no run.

use std::fmt::Write;

use crate::figures::{Figures, Spread};
use crate::goals;
use crate::machine;
use crate::peers::{self, Peer};
use crate::runs::Run;
use crate::tables::{number, spread, title};

/// What the document says first.
pub fn conclusion(runs: &[Run]) -> String {
    let Some(last) = runs.last() else { return String::new() };
    let mut text = String::new();
    let sentences = [
        goals_held(runs),
        against(runs, Peer::Baseline, &["64x1", "64x16"], "off"),
        against(runs, Peer::Uring, &["64x1", "64x16"], "off"),
        against(runs, Peer::TokioBatched, &["1x1", "64x1", "64x16", "1000x1"], "off"),
        against(runs, Peer::Asyncio, &["64x1", "64x16"], "off"),
        against(runs, Peer::Asyncio, &["64x1", "64x16"], "info"),
        against(runs, Peer::JavaVirtual, &["64x1", "64x16"], "off"),
        against(runs, Peer::RedisSet, &["64x1", "64x16"], "off"),
        against(runs, Peer::RedisGeoadd, &["64x1", "64x16"], "off"),
        nearby(runs),
        kept(runs),
        memory(&last.figures),
        flood(&last.figures),
        loops(&last.figures),
    ];
    for sentence in sentences.into_iter().flatten() {
        text += &wrapped(&format!("- {sentence}"), "  ");
    }
    text
}

/// How many goals hold in all runs, and which do not.
fn goals_held(runs: &[Run]) -> Option<String> {
    let (mut all, mut short) = (0, Vec::new());
    for goal in goals::all() {
        let held: Vec<bool> = runs.iter().filter_map(|run| goal.holds(&run.figures)).collect();
        if held.is_empty() {
            continue;
        }
        all += 1;
        let count = held.iter().filter(|held| **held).count();
        if count < held.len() {
            short.push(format!("{} ({count} of {})", goal.what, held.len()));
        }
    }
    let kept = all - short.len();
    let runs = if runs.len() == 1 { "the one run" } else { "every run" };
    match (all, short.is_empty()) {
        (0, _) => None,
        (_, true) => Some(format!("**All of {all} goals hold in {runs}.**")),
        _ => Some(format!(
            "**{kept} of {all} goals hold in {runs}.** In brackets, in how many runs the others do: {}.",
            short.join("; ")
        )),
    }
}

/// Our rate and CPU time relative to another's, at some shapes.
fn against(runs: &[Run], other: Peer, shapes: &[&str], log: &str) -> Option<String> {
    let (rates, cpu) = relative(runs, Peer::Ours, other, shapes, log)?;
    let with_log = if log == "info" { ", both with the log" } else { "" };
    Some(format!(
        "**Beside {}**{with_log}, herd-mio makes {rates}. A request takes {cpu} times as much CPU time.",
        other.title()
    ))
}

/// What one makes of another's requests per second at some shapes, and the ratios of their CPU time.
fn relative(
    runs: &[Run],
    one: Peer,
    other: Peer,
    shapes: &[&str],
    log: &str,
) -> Option<(String, String)> {
    let figures = &runs.last()?.figures;
    let (mut rates, mut cpus) = (Vec::new(), Vec::new());
    for shape in shapes {
        let name = |peer: Peer, what: &str| format!("{shape}/{log}/{}/{what}", peer.name());
        let rate = beside(runs, &name(one, "rate"), &name(other, "rate"), "requests/s");
        let Some(rate) = rate else { continue };
        rates.push(format!("at {} {rate}", title(shape)));
        if let Some(cpu) = figures.ratio(&name(one, "cpu"), &name(other, "cpu")) {
            cpus.push(number(cpu.median));
        }
    }
    (!rates.is_empty()).then(|| (rates.join("; "), listed(&cpus)))
}

/// "1.30 (1.28 to 1.33) times as many requests/s" of the last run; "as many" where the spreads overlap in any run, or the runs
/// contradict each other.
fn beside(runs: &[Run], one: &str, other: &str, unit: &str) -> Option<String> {
    let ratio = runs.last()?.figures.ratio(one, other)?;
    let is_one_way = |run: &Run| {
        let median = run.figures.ratio(one, other).map(|it| it.median);
        median.is_none_or(|median| {
            run.figures.differ(one, other) && (median > 1.0) == (ratio.median > 1.0)
        })
    };
    Some(match runs.iter().all(is_one_way) {
        true => format!("{} times as many {unit}", spread(Some(ratio))),
        false => {
            let (low, high) = (number(ratio.low), number(ratio.high));
            format!("as many {unit} as far as the rounds tell ({low} to {high} times)")
        }
    })
}

/// What the next interface of the kernel gives, by the two servers that do nothing else.
pub fn of_io_uring(runs: &[Run]) -> Option<String> {
    let shapes = ["1x1", "64x1", "64x16", "1000x1"];
    let (rates, cpu) = relative(runs, Peer::Uring, Peer::Baseline, &shapes, "off")?;
    Some(format!(
        "Beside C with epoll, C with io_uring makes {rates}. A request takes {cpu} times as much CPU time."
    ))
}

/// What the machine takes for memory, and what of two goals that is.
pub fn of_the_machine(figures: &Figures) -> Option<String> {
    let median = |name: &str| Some(figures.spread(name)?.median);
    let (touch, append) = (median("machine/touch")?, median("machine/append")?);
    let bytes = median("64x16/info/ours/bytes")?;
    let log = median("64x16/info/ours/cpu")? - median("64x16/off/ours/cpu")?;
    let (faults, rate) = (median("flood/ours/faults")?, median("flood/ours/rate")?);
    Some(format!(
        "On the machine of the last run a page of memory ({} bytes) takes {} us when it is touched for the first time, and {} us \
         when it is appended to a file. So of the {} us of CPU that the log at INFO adds to an IAMAT at 64 × 16, {} us are the \
         kernel's for appending {} bytes; and of the {} us that an update takes through four servers, {} us are the kernel's for \
         {} pages that their tables had not touched before.",
        machine::PAGE,
        number(touch),
        number(append),
        number(log),
        number(append * bytes / machine::PAGE as f64),
        number(bytes),
        number(1e6 / rate),
        number(touch * faults),
        number(faults)
    ))
}

/// The gazetteer's answers beside Redis'.
fn nearby(runs: &[Run]) -> Option<String> {
    let name = |way: &str| format!("nearby/paris/64x1/{way}/rate");
    Some(format!(
        "**Places near a client**: at 64 × 1 around Paris, WHATSAT by the gazetteer makes {} as Redis' `GEOSEARCH` among \
         the same places.",
        beside(runs, &name("ours"), &name("redis"), "queries/s")?
    ))
}

fn kept(runs: &[Run]) -> Option<String> {
    let name = |way: &str| format!("kept/64x1/{way}/rate");
    let mut text = format!(
        "**What was answered is kept**: at 64 × 1 a server with a state directory that answers after the disk makes {} as one \
         that keeps nothing",
        beside(runs, &name("disk"), &name("memory"), "answers/s")?
    );
    let engine = beside(runs, &name("engine"), &name("memory"), "answers/s");
    let bare = beside(runs, &name("engine"), &name("nats"), "answers/s");
    if let (Some(engine), Some(bare)) = (engine, bare) {
        _ = write!(
            text,
            "; one that answers after its engine {engine} as that, and {bare} as 64 bare clients of NATS"
        );
    }
    Some(text + ".")
}

fn memory(figures: &Figures) -> Option<String> {
    let of = |peer: Peer, what: &str| figures.spread(&format!("memory/{}/{what}", peer.name()));
    let (connection, client) = (of(Peer::Ours, "connection")?, of(Peer::Ours, "client")?);
    let others = peers::ALL.into_iter().filter(|peer| *peer != Peer::Ours);
    let next = others
        .filter_map(|peer| Some((of(peer, "connection")?.median, peer)))
        .min_by(|one, other| one.0.total_cmp(&other.0));
    let next = next.map_or(String::new(), |(bytes, peer)| {
        format!(" (the next is {} with {})", peer.title(), number(bytes))
    });
    Some(format!(
        "**Memory**: {} bytes for an idle connection{next}, {} for a client in the table.",
        number(connection.median),
        number(client.median)
    ))
}

fn flood(figures: &Figures) -> Option<String> {
    let (hops, answer) = (figures.spread("flood/ours/hops")?, figures.spread("flood/ours/answer")?);
    let rate = figures.spread("flood/ours/rate")?;
    Some(format!(
        "**Flooding**: three hops take {} us, one round trip to a client {} us; {} updates/s come through a line of four.",
        spread(Some(hops)),
        spread(Some(answer)),
        spread(Some(rate))
    ))
}

fn loops(figures: &Figures) -> Option<String> {
    let gain = |one: &str, two: &str| -> Option<Spread> {
        Some(figures.ratio(&format!("loops/{one}/cpu"), &format!("loops/{two}/cpu"))?.times(2.0))
    };
    Some(format!(
        "**A second loop on a second core** makes {} times the requests at 64 × 16 by CPU time, and {} times where each \
         request is of another client.",
        spread(Some(gain("1", "2")?)),
        spread(Some(gain("1-mixed", "2-mixed")?))
    ))
}

/// What to see in the bars of a shape.
pub fn of_bars(figures: &Figures, shape: &str) -> Option<String> {
    let name = |peer: Peer| format!("{shape}/off/{}/rate", peer.name());
    let rate = |peer: Peer| figures.spread(&name(peer));
    let ours = rate(Peer::Ours)?;
    let others = || peers::ALL.into_iter().filter(|peer| *peer != Peer::Ours);
    let differs = |peer: Peer| figures.differ(&name(peer), &name(Peer::Ours));
    let titles = |is_wanted: &dyn Fn(Peer, Spread) -> bool| -> Vec<String> {
        let wanted = others().filter(|peer| rate(*peer).is_some_and(|rate| is_wanted(*peer, rate)));
        wanted.map(|peer| format!("*{}*", peer.title())).collect()
    };
    let longer = titles(&|peer, rate| differs(peer) && rate.median > ours.median);
    let alike = titles(&|peer, _| !differs(peer));
    let longer = match longer.as_slice() {
        [] => "no bar is longer than herd-mio's".to_owned(),
        some => format!("longer than herd-mio's bar: {}", listed(some)),
    };
    let alike = match alike.as_slice() {
        [] => String::new(),
        some => format!("; not to be told from it: {}", listed(some)),
    };
    Some(format!("What to see at {}, log off: {longer}{alike}.", title(shape)))
}

/// What to see in the lines of the open loop.
pub fn of_lines(figures: &Figures) -> Option<String> {
    let slowest = |peer: Peer| {
        let value = figures.spread(&format!("open/off/{}/p99.99", peer.name()))?;
        Some((value.median, peer))
    };
    let by_value = |one: &(f64, Peer), other: &(f64, Peer)| one.0.total_cmp(&other.0);
    let all = || peers::ALL.into_iter().filter_map(slowest);
    let (least, most) = (all().min_by(by_value)?, all().max_by(by_value)?);
    let (ours, _) = slowest(Peer::Ours)?;
    Some(format!(
        "What to see: the lines rise at the right, where the slowest requests are; one of 10,000 takes longer than {} us with \
         {}, {} us with herd-mio, and {} us with {}.",
        number(least.0),
        least.1.title(),
        number(ours),
        number(most.0),
        most.1.title()
    ))
}

/// The state in which the allocator of each server in Python was while it was measured.
pub fn of_the_allocator(figures: &Figures) -> Option<String> {
    let mut parts = Vec::new();
    for peer in [Peer::Asyncio, Peer::Uvloop] {
        for shape in ["1x1", "64x1"] {
            let name = format!("{shape}/off/{}/faults", peer.name());
            let Some(faults) = figures.spread(&name) else { continue };
            let state = match (faults.low > 0.5, faults.high < 0.5) {
                (true, _) => "mapped memory for each read, the expensive state",
                (_, true) => "read into memory that it had, the cheap state",
                _ => "changed its state from round to round",
            };
            parts.push(format!("{} at {} {state}", peer.title(), title(shape)));
        }
    }
    (!parts.is_empty()).then(|| format!("With the log off, {}.", parts.join("; ")))
}

/// "1, 2 and 3".
fn listed(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [some @ .., last] => format!("{} and {last}", some.join(", ")),
    }
}

/// Lines as long as the documents have them; all but the first begin with `indent`.
pub fn wrapped(words: &str, indent: &str) -> String {
    let (mut text, mut length) = (String::new(), 0);
    for word in words.split(' ') {
        let of_word = word.chars().count();
        if length > 0 && length + 1 + of_word > LINE {
            text.push('\n');
            text.push_str(indent);
            length = indent.len();
        } else if length > 0 {
            text.push(' ');
            length += 1;
        }
        text.push_str(word);
        length += of_word;
    }
    text + "\n"
}

const LINE: usize = 120;
