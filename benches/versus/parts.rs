//! The parts of a run that are not load: each is measured in rounds, whatever it compares in turns, and its figures get
//! their names here.

use crate::Failure;
use crate::figures::Figures;
use crate::flood::{self, Kind};
use crate::options::Options;
use crate::peers::{Peer, Workshop};
use crate::shapes::{self, Shape};
use crate::{calls, kept, loops, machine, memory, nearby, places, places64, scraped, turns};

/// One part: its name, and how it is measured.
pub type Part =
    (&'static str, fn(&Workshop, &[Peer], &Options, &mut Figures) -> Result<(), Failure>);

/// In the order in which they are measured.
pub const ALL: [Part; 13] = [
    ("load", shapes::measure),
    ("flood", flood),
    ("places", places),
    ("places64", |workshop, _, options, figures| {
        places64::measure(workshop, options.measured, options.rounds, figures)
    }),
    ("nearby", nearby::measure),
    ("kept", |workshop, _, options, figures| {
        kept::measure(workshop, options.measured, options.rounds, figures)
    }),
    ("loops", loops),
    ("scraped", scraped),
    ("turns", turns),
    ("calls", calls::measure),
    ("memory", memory),
    ("start", start),
    ("machine", machine::measure),
];

fn flood(
    workshop: &Workshop,
    present: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let kinds = [(Peer::Ours, Kind::Ours, 100_000), (Peer::Asyncio, Kind::Asyncio, 1_000)];
    for _ in 0..options.rounds {
        for (peer, kind, updates) in kinds {
            if present.contains(&peer) {
                let seen = flood::measure(workshop, kind, updates)?;
                let name = |what: &str| format!("flood/{}/{what}", peer.name());
                figures.add(name("answer"), seen.answer);
                figures.add(name("hops"), seen.three_hops);
                figures.add(name("all"), seen.in_all);
                figures.add(name("rate"), seen.rate);
                figures.add(name("faults"), seen.faults);
            }
        }
    }
    Ok(())
}

fn places(
    workshop: &Workshop,
    _: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    for _ in 0..options.rounds {
        let seen = places::measure(workshop, options.measured)?;
        for (way, seen) in ["ours", "each", "kept"].into_iter().zip(seen) {
            eprintln!("places {:36} {:9.0}/s", seen.title, seen.rate);
            figures.add(format!("places/{way}/rate"), seen.rate);
            figures.add(format!("places/{way}/p50"), seen.p50);
            figures.add(format!("places/{way}/p99"), seen.p99);
        }
    }
    Ok(())
}

fn loops(
    workshop: &Workshop,
    _: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    for _ in 0..options.rounds {
        let seen = loops::measure(workshop, options.measured, 1)?;
        for (way, seen) in ["1", "2", "1-mixed", "2-mixed"].into_iter().zip(seen) {
            eprintln!("{} loops {:42} {:6.3} us CPU", seen.loops, seen.title, seen.cpu);
            figures.add(format!("loops/{way}/cpu"), seen.cpu);
        }
    }
    Ok(())
}

fn scraped(
    workshop: &Workshop,
    _: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let is_wanted = |shape: &Shape| shape.is_closed() && options.wants_shape(shape.name);
    let shapes: Vec<Shape> = shapes::ALL.into_iter().filter(is_wanted).collect();
    for _ in 0..options.rounds {
        for seen in scraped::measure(workshop, &shapes, options.measured, 1)? {
            let way = if seen.is_scraped { "scraped" } else { "plain" };
            let name = |what: &str| format!("scraped/{}/{way}/{what}", seen.shape.name);
            figures.add(name("rate"), seen.rate);
            figures.add(name("cpu"), seen.cpu);
            // Of all shapes together.
            if let Some(turns) = seen.long_turns {
                figures.add(name("long_turns"), turns as f64);
            }
        }
    }
    Ok(())
}

/// A turn is timed by the wall's clock: what else runs on the server's core lengthens some.
fn turns(
    workshop: &Workshop,
    _: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    for _ in 0..options.rounds {
        for (way, title, work) in turns::ALL {
            let seen = turns::measure(workshop, work, options.measured)?;
            eprintln!("turns {title}: {} turns, the longest {:.2} ms", seen.count, seen.longest);
            figures.add(format!("turns/{way}/count"), seen.count as f64);
            figures.add(format!("turns/{way}/p99.9"), seen.p999);
            figures.add(format!("turns/{way}/longest"), seen.longest);
        }
    }
    Ok(())
}

/// In one round: memory is what it is, and the slower servers need a while for a million clients.
fn memory(
    workshop: &Workshop,
    present: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    for &peer in present.iter().filter(|peer| peer.is_herd()) {
        let seen = match memory::measure(workshop, peer, options.idle) {
            Ok(seen) => seen,
            Err(error) => {
                eprintln!("{}: no memory: {error}", peer.title());
                continue;
            }
        };
        eprintln!("memory {:13} {:?} bytes per client", peer.name(), seen.a_client);
        let name = |what: &str| format!("memory/{}/{what}", seen.peer.name());
        figures.add(name("start"), seen.at_start as f64);
        figures.add(name("connection"), seen.a_connection.unwrap_or(f64::NAN));
        figures.add(name("client"), seen.a_client.unwrap_or(f64::NAN));
    }
    Ok(())
}

fn start(
    workshop: &Workshop,
    present: &[Peer],
    _: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    for &peer in present.iter().filter(|peer| peer.is_herd()) {
        match memory::start_up(workshop, peer) {
            Ok(time) => figures.add(format!("start/{}/ms", peer.name()), time.as_secs_f64() * 1e3),
            Err(error) => eprintln!("{} does not start: {error}", peer.title()),
        }
        if let Some(size) = workshop.size(peer) {
            figures.add(format!("start/{}/size", peer.name()), size as f64);
        }
    }
    Ok(())
}
