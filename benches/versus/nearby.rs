//! The places near a client: WHATSAT by our gazetteer, beside GEOSEARCH by a Redis that holds the same places. Ours answers
//! with JSON in the form of Google's Places, Redis with names, distances and coordinates.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use flate2::read::GzDecoder;

use crate::Failure;
use crate::cores::cpu_time;
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

pub fn measure(
    workshop: &Workshop,
    _: &[Peer],
    options: &Options,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let ours = workshop.start_with(free_port()?, "[places]\nprovider = \"offline\"\n")?;
    let port = free_port()?;
    let command = redis::command(REDIS, port, workshop.scratch.path());
    let redis = workshop.start_command(command, port, None)?;
    fill(redis.clients)?;
    for _ in 0..options.rounds {
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
