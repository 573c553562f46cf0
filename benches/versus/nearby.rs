//! The places near a client: WHATSAT by our gazetteer, beside GEOSEARCH by a Redis that holds the same places. Ours answers
//! with JSON in the form of Google's Places, Redis with names, distances and coordinates.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use herd_mio::places::gazetteer::Gazetteer;
use herd_mio::places::{Area, answer};

use crate::Failure;
use crate::cores::{cpu_time, own_bytes};
use crate::figures::Figures;
use crate::load::{Load, Request};
use crate::options::Options;
use crate::peers::{Peer, REDIS, Running, Workshop, free_port};
use crate::redis::{self, Redis, resp};

/// Where is asked: its name, its title, latitude, longitude, miles.
pub const SPOTS: [(&str, &str, f64, f64, u32); 3] = [
    ("paris", "Paris, 31 miles", 48.8566, 2.3522, 31),
    ("ucla", "UCLA, 10 miles", 34.068930, -118.445127, 10),
    ("ocean", "in the Atlantic, 31 miles, no place", 30.0, -40.0, 31),
];
pub const CONNECTIONS: [usize; 2] = [1, 64];
/// Places in an answer at most.
const BOUND: usize = 20;
/// What is measured of the gazetteer without Redis: its name among the figures, its title, its unit.
pub const BY_ITSELF: [(&str, &str, &str); 6] = [
    ("paris-20", "the answer by itself, Paris, 31 miles, bound 20", " us"),
    ("paris-0", "the same with bound 0", " us"),
    ("ucla-20", "UCLA, 10 miles, bound 20", " us"),
    ("ocean-20", "where no place is", " us"),
    ("unpack", "to unpack the gazetteer, at a server's first query", " ms"),
    ("memory", "memory of a server after its first query, more than before", " MB"),
];
/// In each round.
const ANSWERS: u32 = 10_000;
const METRES_PER_MILE: f64 = 1_609.344;
const OFFLINE: &str = "[places]\nprovider = \"offline\"\n";

pub fn measure(
    workshop: &Workshop,
    _: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let ours = workshop.start_with(free_port()?, OFFLINE)?;
    let port = free_port()?;
    let command = redis::command(REDIS, port, workshop.scratch.path());
    let redis = workshop.start_command(command, port, None)?;
    fill(redis.clients)?;
    let gazetteer = Gazetteer::unpack();
    for _ in 0..options.rounds {
        first(workshop, figures)?;
        by_itself(&gazetteer, figures);
        for (spot, _, latitude, longitude, miles) in SPOTS {
            for connections in CONNECTIONS {
                let (mut whatsats, mut searches) = (Vec::new(), Vec::new());
                for index in 0..connections {
                    // Some hundred metres from each other.
                    let latitude = latitude + index as f64 * 0.001;
                    let (whatsat, found) =
                        whatsat(ours.clients, index, latitude, longitude, miles)?;
                    let (search, seen) = search(redis.clients, latitude, longitude, miles)?;
                    if found != seen {
                        return Err(format!("{spot}: {found} places, Redis has {seen}").into());
                    }
                    whatsats.push(whatsat);
                    searches.push(search);
                }
                for (way, server, requests) in
                    [("ours", &ours, whatsats), ("redis", &redis, searches)]
                {
                    let name = format!("nearby/{spot}/{connections}x1/{way}");
                    one(server, requests, options.measured, &name, figures)?;
                }
            }
        }
    }
    Ok(())
}

/// What a server's first query costs: the time to unpack the gazetteer, measured in this process, and the memory that a
/// server has more than before.
fn first(workshop: &Workshop, figures: &mut Figures) -> Result<(), Failure> {
    let begin = Instant::now();
    black_box(Gazetteer::unpack());
    figures.add("gazetteer/unpack", begin.elapsed().as_secs_f64() * 1e3);
    let server = workshop.start_with(free_port()?, OFFLINE)?;
    let (_, _, latitude, longitude, _) = SPOTS[0];
    let before = own_bytes(server.id());
    whatsat(server.clients, 0, latitude, longitude, 1)?;
    figures.add("gazetteer/memory", own_bytes(server.id()).saturating_sub(before) as f64 / 1e6);
    Ok(())
}

/// The answer to a WHATSAT by itself, without the connection, in this process.
fn by_itself(gazetteer: &Gazetteer, figures: &mut Figures) {
    for (spot, _, latitude, longitude, miles) in SPOTS {
        let area = Area { latitude, longitude, radius: f64::from(miles) * METRES_PER_MILE };
        for bound in [0, BOUND] {
            let begin = Instant::now();
            for _ in 0..ANSWERS {
                black_box(answer::trimmed(gazetteer, black_box(&area), bound));
            }
            let each = begin.elapsed().as_secs_f64() * 1e6 / f64::from(ANSWERS);
            figures.add(format!("gazetteer/{spot}-{bound}"), each);
        }
    }
}

fn one(
    server: &Running,
    requests: Vec<Request>,
    time: Duration,
    name: &str,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let mut load = Load::saying(server.clients, requests)?;
    load.closed(1, time / 5)?;
    let before = cpu_time(server.id());
    let seen = load.closed(1, time)?;
    let cpu = cpu_time(server.id()) - before;
    load.drain()?;
    let requests = seen.requests as f64;
    figures.add(format!("{name}/rate"), requests / seen.elapsed.as_secs_f64());
    figures.add(format!("{name}/cpu"), cpu.as_secs_f64() * 1e6 / requests);
    for (word, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let micros = seen.latency.value_at_quantile(quantile) as f64 / 1e3;
        figures.add(format!("{name}/{word}"), micros);
    }
    Ok(())
}

/// All places of the gazetteer's data.
fn fill(server: SocketAddr) -> Result<(), Failure> {
    let packed: &[u8] = include_bytes!("../../src/places/gazetteer.tsv.gz");
    let mut table = String::new();
    GzDecoder::new(packed).read_to_string(&mut table)?;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split('\t').collect()).collect();
    let mut redis = Redis::connect(server)?;
    for some in lines.chunks(100) {
        let mut words = vec![b"GEOADD".to_vec(), b"places".to_vec()];
        for line in some {
            let [latitude, longitude, name, country, _, id] = line.as_slice() else {
                return Err("a line of the gazetteer has other fields".into());
            };
            let member = format!("{name}, {country}, {id}");
            words.extend([longitude.as_bytes().into(), latitude.as_bytes().into(), member.into()]);
        }
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        redis.expect(&words, format!(":{}\r\n", some.len()).as_bytes())?;
    }
    Ok(())
}

/// A WHATSAT of a client that has told where it is, its answer, and how many places are in it.
fn whatsat(
    server: SocketAddr,
    index: usize,
    latitude: f64,
    longitude: f64,
    miles: u32,
) -> Result<(Request, usize), Failure> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let id = format!("near-{latitude:.4}-{index}");
    let fields = format!("{id} {latitude:+.6}{longitude:+.6} 1559865055.918963997");
    let line = format!("WHATSAT {id} {miles} {BOUND}\n");
    stream.write_all(format!("IAMAT {fields}\n{line}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut at = String::new();
    reader.read_line(&mut at)?;
    let mut answer = String::new();
    while !answer.ends_with("\n\n") {
        if reader.read_line(&mut answer)? == 0 {
            return Err("the server closed the connection".into());
        }
    }
    let first = format!("AT AT {fields}\n");
    let body = answer.strip_prefix(&first).ok_or_else(|| format!("a wrong answer: {answer}"))?;
    let parsed: serde_json::Value = serde_json::from_str(body)?;
    let results = parsed["results"].as_array().map_or(0, Vec::len);
    match (parsed["status"].as_str(), results) {
        (Some("OK"), 1..=BOUND) | (Some("ZERO_RESULTS"), 0) => {
            Ok((Request::counting(line.into_bytes(), 0..0, answer.into_bytes()), results))
        }
        _ => Err(format!("an answer without places: {body}").into()),
    }
}

/// The same question to Redis, its answer, and how many places are in it.
fn search(
    server: SocketAddr,
    latitude: f64,
    longitude: f64,
    miles: u32,
) -> Result<(Request, usize), Failure> {
    let [longitude, latitude] = [longitude, latitude].map(|degrees| format!("{degrees:.6}"));
    let (miles, bound) = (miles.to_string(), BOUND.to_string());
    let line = resp(&[
        b"GEOSEARCH",
        b"places",
        b"FROMLONLAT",
        longitude.as_bytes(),
        latitude.as_bytes(),
        b"BYRADIUS",
        miles.as_bytes(),
        b"mi",
        b"ASC",
        b"COUNT",
        bound.as_bytes(),
        b"WITHCOORD",
        b"WITHDIST",
    ]);
    let answer = Redis::connect(server)?.ask(&line)?;
    let count = std::str::from_utf8(&answer)
        .ok()
        .and_then(|text| text.strip_prefix('*')?.split_once("\r\n")?.0.parse::<usize>().ok());
    let count = count.ok_or_else(|| format!("Redis: {}", String::from_utf8_lossy(&answer)))?;
    Ok((Request::counting(line, 0..0, answer), count))
}
