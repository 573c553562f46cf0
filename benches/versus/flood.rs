//! The flood: a chain of three servers, and at its end a neighbour that is only played, so that
//! what reaches it is seen when it comes.
//!
//! ```text
//!   client --IAMAT--> A --hop 1--> B --hop 2--> C --hop 3--> the played neighbour
//!          <--answer--
//! ```
//!
//! Ours keep their links; the report's asyncio opens a connection for each update and hop.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::cores::minor_faults;
use crate::peers::{Running, Workshop, free_port};
use crate::shapes::median;

/// What the flood takes, medians in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// From the IAMAT until its answer, at the first server.
    pub answer: f64,
    /// From the answer until the update has come three hops away.
    pub three_hops: f64,
    /// From the IAMAT until then.
    pub in_all: f64,
    /// Updates a second that came three hops away.
    pub rate: f64,
    /// Pages that all servers together touched for the first time meanwhile, for each update.
    pub faults: f64,
}

/// A chain, and what comes out at its end.
struct Chain {
    servers: Vec<Running>,
    /// When the update of the client with this number came.
    updates: Receiver<(usize, Instant)>,
}

/// Which servers stand in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Asyncio,
}

pub fn measure(workshop: &Workshop, kind: Kind, updates: usize) -> Result<Flood, Failure> {
    let chain = match kind {
        Kind::Ours => ours(workshop)?,
        Kind::Asyncio => asyncio(workshop)?,
    };
    let mut stream = TcpStream::connect(chain.servers[0].clients)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    chain.wait_for_links(&mut stream)?;
    let (mut answer, mut hops, mut in_all) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=SINGLE {
        let line = request(number);
        let begin = Instant::now();
        stream.write_all(line.as_bytes())?;
        expect_answer(&mut stream, &line)?;
        let answered = Instant::now();
        let came = chain.wait_for(number)?;
        answer.push(micros(answered - begin));
        hops.push(micros(came.saturating_duration_since(answered)));
        in_all.push(micros(came - begin));
    }
    let faults = || -> u64 { chain.servers.iter().map(|it| minor_faults(it.id())).sum() };
    let before = faults();
    let rate = chain.rate(&mut stream, updates)?;
    Ok(Flood {
        answer: median(answer),
        three_hops: median(hops),
        in_all: median(in_all),
        rate,
        faults: (faults() - before) as f64 / updates as f64,
    })
}

impl Chain {
    /// Says IAMATs until one has come through: links take a while to be made.
    fn wait_for_links(&self, stream: &mut TcpStream) -> Result<(), Failure> {
        let begin = Instant::now();
        while begin.elapsed() < TIMEOUT {
            let line = format!("IAMAT client-0 +1+1 {}\n", begin.elapsed().as_nanos());
            stream.write_all(line.as_bytes())?;
            expect_answer(stream, &line)?;
            if self.updates.recv_timeout(Duration::from_millis(500)).is_ok() {
                while self.updates.recv_timeout(Duration::from_millis(500)).is_ok() {}
                return Ok(());
            }
        }
        Err("no update came through the chain".into())
    }

    fn wait_for(&self, number: usize) -> Result<Instant, Failure> {
        loop {
            let (came, at) = self.updates.recv_timeout(TIMEOUT)?;
            if came == number {
                return Ok(at);
            }
        }
    }

    /// Updates a second through the whole chain, [`WINDOW`] of them on their way at a time.
    fn rate(&self, stream: &mut TcpStream, updates: usize) -> Result<f64, Failure> {
        let mut answers = stream.try_clone()?;
        let discard = thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while matches!(answers.read(&mut buffer), Ok(1..)) {}
        });
        let begin = Instant::now();
        let (mut sent, mut came) = (0, 0);
        while came < updates {
            let room = (came + WINDOW).min(updates);
            if room - sent >= WINDOW / 4 || room == updates {
                let lines: String =
                    (sent..room).map(|number| request(SINGLE + 1 + number)).collect();
                stream.write_all(lines.as_bytes())?;
                sent = room;
            }
            self.updates.recv_timeout(TIMEOUT)?;
            came += 1 + self.updates.try_iter().count();
        }
        let rate = updates as f64 / begin.elapsed().as_secs_f64();
        stream.shutdown(std::net::Shutdown::Both)?;
        let _ = discard.join();
        Ok(rate)
    }
}

fn request(number: usize) -> String {
    format!("IAMAT client-{number} +34.068930-118.445127 1559865055.918963997\n")
}

fn expect_answer(stream: &mut TcpStream, request: &str) -> Result<(), Failure> {
    let due = request.replacen("IAMAT", "AT AT", 1);
    let mut came = vec![0; due.len()];
    stream.read_exact(&mut came)?;
    match came == due.as_bytes() {
        true => Ok(()),
        false => Err(format!("expected {due:?}, got {:?}", String::from_utf8_lossy(&came)).into()),
    }
}

fn ours(workshop: &Workshop) -> Result<Chain, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut text = String::new();
    let mut clients = Vec::new();
    for (name, neighbour) in [("A", "B"), ("B", "C"), ("C", "Played")] {
        let port = free_port()?;
        text += &server(name, port, free_port()?, &format!("neighbours = [\"{neighbour}\"]"));
        clients.push((name, port));
    }
    text += &server("Played", free_port()?, listener.local_addr()?.port(), "");
    let config = workshop.scratch.path().join("chain.toml");
    std::fs::write(&config, text)?;
    let updates = play(listener);
    let mut servers = Vec::new();
    for (name, port) in clients {
        let command = workshop.our_command(name, &config, false);
        servers.push(workshop.start_command(command, port, None)?);
    }
    Ok(Chain { servers, updates })
}

fn server(name: &str, clients: u16, peers: u16, rest: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\nlisten = \"127.0.0.1:{clients}\"\n\
         peer_listen = \"127.0.0.1:{peers}\"\n{rest}\n"
    )
}

fn asyncio(workshop: &Workshop) -> Result<Chain, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut next = listener.local_addr()?.port();
    let updates = play(listener);
    let mut servers = Vec::new();
    for _ in 0..3 {
        let port = free_port()?;
        let mut command = workshop.python("streams.py");
        command.args([&port.to_string(), "off", "--neighbours", &next.to_string()]);
        servers.push(workshop.start_command(command, port, None)?);
        next = port;
    }
    servers.reverse();
    Ok(Chain { servers, updates })
}

/// Plays the neighbour at the end: a thread for each connection that comes, until the bench ends.
fn play(listener: TcpListener) -> Receiver<(usize, Instant)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                if let Err(error) = read_updates(&stream, &sender)
                    && error.kind() != ErrorKind::ConnectionReset
                {
                    eprintln!("the played neighbour: {error}");
                }
            });
        }
    });
    receiver
}

/// Reads what a server sends, and answers what keeps a link up.
fn read_updates(mut stream: &TcpStream, sender: &Sender<(usize, Instant)>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let mut fields = line.split_ascii_whitespace();
        match fields.next() {
            Some("UPDATELOC") => {
                let id = fields.next().and_then(|id| id.strip_prefix("client-"));
                if let Some(number) = id.and_then(|number| number.parse().ok()) {
                    // Nobody listens any more once all is measured.
                    let _ = sender.send((number, Instant::now()));
                }
            }
            Some("HELLO") => stream.write_all(b"RESUME 0 0 00000000000000d1 Played\n")?,
            Some("MARK") => {
                let seq = fields.next().unwrap_or("0");
                stream.write_all(format!("ACK {seq}\n").as_bytes())?;
            }
            _ => {}
        }
        line.clear();
    }
    Ok(())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

const TIMEOUT: Duration = Duration::from_secs(20);
/// Updates that are timed one by one.
const SINGLE: usize = 1_000;
/// Updates on their way at a time when their number a second is measured.
const WINDOW: usize = 256;
