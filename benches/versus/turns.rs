//! How long the loop's turns last, by the server's own histogram: under the shapes of the load and under attacks, those of
//! `tests/abuse.rs` that come over a socket. Each meets a server of its own, so that the longest turn belongs to it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::Failure;
use crate::load::Load;
use crate::memory::add_clients;
use crate::peers::{Workshop, free_port};
use crate::scraped::scrape;

/// What is done to a server: its name among the figures, what the table calls it, and how.
pub type Way = (&'static str, &'static str, Work);

#[derive(Clone, Copy)]
pub enum Work {
    /// So many connections with so many requests outstanding on each.
    Load(usize, u32),
    /// For so long, or until it is done.
    Attack(fn(SocketAddr, Duration) -> Result<(), Failure>),
}

pub const ALL: [Way; 10] = [
    ("1x1", "1 × 1", Work::Load(1, 1)),
    ("64x1", "64 × 1", Work::Load(64, 1)),
    ("64x16", "64 × 16", Work::Load(64, 16)),
    ("1000x1", "1,000 × 1", Work::Load(1_000, 1)),
    ("1000x16", "1,000 × 16", Work::Load(1_000, 16)),
    (
        "full",
        "1.3 million clients: a full table forgets its oldest tenth three times",
        Work::Attack(fill),
    ),
    ("unread", "clients that never read", Work::Attack(never_read)),
    ("bytes", "lines that come byte by byte", Work::Attack(byte_by_byte)),
    ("endless", "lines without an end", Work::Attack(endless_lines)),
    ("resets", "connections that are reset in the middle of a line", Work::Attack(resets)),
];

/// The turns of one server.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    pub count: u64,
    /// Milliseconds that so many of a thousand turns took at most: the bound of a bucket, or the longest turn.
    pub p999: f64,
    /// Milliseconds.
    pub longest: f64,
}

pub fn measure(workshop: &Workshop, work: Work, time: Duration) -> Result<Turns, Failure> {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let server = workshop.start_watched(free_port()?, admin)?;
    match work {
        Work::Load(connections, depth) => {
            let mut load = Load::connect(server.clients, connections)?;
            load.closed(depth, time)?;
            load.drain()?;
        }
        Work::Attack(attack) => attack(server.clients, time)?,
    }
    Turns::read(&scrape(admin)?)
}

impl Turns {
    fn read(metrics: &str) -> Result<Turns, Failure> {
        let value = |name: &str| -> Result<f64, Failure> {
            let is_it = |line: &&str| line.starts_with(name);
            let line = metrics.lines().find(is_it).ok_or_else(|| format!("no {name}"))?;
            Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
        };
        let longest = 1e3 * value("herd_loop_longest_turn_seconds{")?;
        let count = value("herd_loop_turn_duration_seconds_count{")? as u64;
        let mut p999 = longest;
        for line in metrics.lines().filter(|line| line.starts_with(BUCKET)) {
            let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            let up_to: u64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
            if 1_000 * up_to >= 999 * count {
                p999 = longest.min(1e3 * bound.ok_or("a bucket without a bound")?.parse::<f64>()?);
                break;
            }
        }
        Ok(Turns { count, p999, longest })
    }
}

fn fill(server: SocketAddr, _: Duration) -> Result<(), Failure> {
    add_clients(&TcpStream::connect(server)?, 0..1_300_000)
}

fn never_read(server: SocketAddr, time: Duration) -> Result<(), Failure> {
    let lines = LINE.repeat(1_000);
    let mut clients: Vec<TcpStream> = Vec::new();
    for_so_long(time, || {
        if clients.len() < 64 {
            clients.push(connect(server)?);
        }
        clients.retain_mut(|client| match client.write(lines.as_bytes()) {
            Err(error) => error.kind() == ErrorKind::WouldBlock,
            Ok(_) => true,
        });
        Ok(())
    })
}

fn byte_by_byte(server: SocketAddr, time: Duration) -> Result<(), Failure> {
    let mut clients: Vec<TcpStream> = (0..64).map(|_| connect(server)).collect::<Result<_, _>>()?;
    let mut bytes = LINE.bytes().cycle();
    for_so_long(time, || {
        let byte = [bytes.next().unwrap_or(b'\n')];
        for client in &mut clients {
            client.write_all(&byte)?;
            if byte == *b"\n" {
                client.set_nonblocking(false)?;
                _ = client.read(&mut [0; 256])?;
                client.set_nonblocking(true)?;
            }
        }
        Ok(())
    })
}

fn endless_lines(server: SocketAddr, time: Duration) -> Result<(), Failure> {
    let bytes = [b'x'; 64 * 1024];
    for_so_long(time, || {
        let mut client = connect(server)?;
        _ = client.write(&bytes);
        Ok(())
    })
}

fn resets(server: SocketAddr, time: Duration) -> Result<(), Failure> {
    for_so_long(time, || {
        let mut client = connect(server)?;
        client.write_all(&LINE.as_bytes()[..LINE.len() / 2])?;
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        Ok(())
    })
}

fn connect(server: SocketAddr) -> Result<TcpStream, Failure> {
    let client = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    client.set_nonblocking(true)?;
    Ok(client)
}

fn for_so_long(
    time: Duration,
    mut again: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        again()?;
    }
    Ok(())
}

const LINE: &str = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1520023934.918963997\n";
const BUCKET: &str = "herd_loop_turn_duration_seconds_bucket{";
