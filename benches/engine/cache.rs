//! A member with `keep = "cache"`: its memory does not depend on how much the bucket holds, and each WHATSAT is a question to
//! the engine.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::acked::{Processes, watched};
use crate::bare::{Bare, Publish};
use crate::cores::resident_bytes;
use crate::servers::{Nats, Server};
use crate::{Failure, Options, median, row};

pub fn cache(folder: &Path, nats: &Nats, options: &Options) -> Result<(), Failure> {
    let mut bare = Bare::connect(nats.addresses[0])?;
    let mut resident = Vec::new();
    for (name, clients) in [("few", FEW), ("many", MANY)] {
        let bucket = format!("cache-{name}");
        bare.make_bucket(&bucket, options.nodes)?;
        bare.publish(&bucket, clients, clients, 1_000, Publish::Plain)?;
        let section = nats.section(&bucket, "keep = \"cache\"\n");
        let server = Server::start_for(folder, &bucket, CACHED, &section)?;
        server.in_sync()?;
        let mut askers = Askers::connect(server.clients, 64)?;
        // More clients than the cache holds.
        askers.ask(clients, 2 * CACHED)?;
        resident.push(resident_bytes(server.id()) as f64 / 1e6);
        if name == "few" {
            queries(nats, &mut bare, &bucket, &server, &mut askers, options)?;
        }
    }
    let what = format!("MB resident: cache of {CACHED}, bucket of {FEW} (left) and of {MANY}");
    row(&what, resident[0], resident[1], "0.9 to 1.1");
    Ok(())
}

/// One cache and those who ask it, 64 x 1, for a profiler.
pub fn asked(folder: &Path, nats: &Nats, options: &Options) -> Result<(), Failure> {
    let mut bare = Bare::connect(nats.addresses[0])?;
    bare.make_bucket("asked", options.nodes)?;
    bare.publish("asked", FEW, FEW, 1_000, Publish::Plain)?;
    let server =
        Server::start_for(folder, "Cache", CACHED, &nats.section("asked", "keep = \"cache\"\n"))?;
    server.in_sync()?;
    let mut askers = Askers::connect(server.clients, 64)?;
    let count = (options.measured.as_secs_f64() * 50_000.0) as usize;
    watched(nats, &server, || Ok((count, askers.ask(FEW, count)?)))
}

/// WHATSAT beside DIRECT.GET, in turns.
fn queries(
    nats: &Nats,
    bare: &mut Bare,
    bucket: &str,
    server: &Server,
    askers: &mut Askers,
    options: &Options,
) -> Result<(), Failure> {
    let count = (options.measured.as_secs_f64() * 4_000.0) as usize;
    let processes = Processes { nats };
    let (mut raw, mut ours, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let seen =
            processes.watch(None, || Ok((count, bare.direct_get(bucket, FEW, count, 64)?)))?;
        raw.push(seen.rate);
        let seen = processes.watch(Some(server.id()), || Ok((count, askers.ask(FEW, count)?)))?;
        ours.push(seen.rate);
        cpu.push(seen.cpu);
    }
    let of = |at: usize| median(cpu.iter().map(|cpu| cpu[at]).collect());
    let cpu = format!("CPU us: load {:.1}, server {:.1}, NATS {:.1}", of(0), of(1), of(2));
    println!("\n| what | bare | herd-mio | ratio | goal |\n|---|---|---|---|---|");
    let what = format!("WHATSAT 64 x 1 a second ({cpu}); bare: DIRECT.GET, 64 in flight");
    row(&what, median(raw), median(ours), "at least 0.5");
    Ok(())
}

/// Connections that ask for one client after the other.
struct Askers {
    poll: Poll,
    events: Events,
    streams: Vec<(TcpStream, Vec<u8>)>,
    asked: usize,
}

impl Askers {
    fn connect(address: SocketAddr, count: usize) -> Result<Askers, Failure> {
        let poll = Poll::new()?;
        let mut streams = Vec::with_capacity(count);
        for index in 0..count {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let descriptor = stream.as_raw_fd();
            poll.registry().register(
                &mut SourceFd(&descriptor),
                Token(index),
                Interest::READABLE,
            )?;
            streams.push((stream, Vec::new()));
        }
        Ok(Askers { poll, events: Events::with_capacity(1_024), streams, asked: 0 })
    }

    /// Each asks for the next one of so many clients when it has its answer, until `count` answers have come.
    fn ask(&mut self, clients: usize, count: usize) -> Result<Duration, Failure> {
        let begin = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        let mut scratch = vec![0; 64 * 1024];
        for (stream, _) in &mut self.streams {
            send(stream, self.asked, clients)?;
            (self.asked, sent) = (self.asked + 1, sent + 1);
        }
        while answered < sent {
            self.poll.poll(&mut self.events, Some(Duration::from_secs(20)))?;
            if self.events.is_empty() {
                return Err("no answer for twenty seconds".into());
            }
            for event in &self.events {
                let Token(index) = event.token();
                let (stream, answer) = &mut self.streams[index];
                match stream.read(&mut scratch) {
                    Ok(0) => return Err("the server closed a connection".into()),
                    Ok(length) => answer.extend_from_slice(&scratch[..length]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error.into()),
                }
                if !answer.ends_with(b"\n\n") {
                    continue;
                }
                if !answer.starts_with(b"AT ") {
                    return Err(String::from_utf8_lossy(answer).into());
                }
                answer.clear();
                answered += 1;
                if sent < count {
                    send(stream, self.asked, clients)?;
                    (self.asked, sent) = (self.asked + 1, sent + 1);
                }
            }
        }
        Ok(begin.elapsed())
    }
}

fn send(stream: &mut TcpStream, number: usize, clients: usize) -> Result<(), Failure> {
    let client = number.wrapping_mul(7_919) % clients;
    let line = format!("WHATSAT host-{client:07}.cs.ucla.edu 1 1\n");
    stream.write_all(line.as_bytes())?;
    Ok(())
}

/// Clients that the cache holds.
const CACHED: usize = 50_000;
const FEW: usize = 100_000;
const MANY: usize = 2_000_000;
