//! What a server holds in memory for a connection that says nothing, and for a client that it
//! knows; and how long it takes to start.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::Failure;
use crate::cores::resident_bytes;
use crate::load::connect;
use crate::peers::{Peer, Workshop};
use crate::shapes::median;

/// Bytes and milliseconds of one kind of server.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    pub peer: Peer,
    /// Resident before anybody has come.
    pub at_start: u64,
    /// Resident for each of thousands of connections that said one line and then nothing.
    pub a_connection: Option<f64>,
    /// Resident for each of a million clients in the table.
    pub a_client: Option<f64>,
}

/// Measures each part with a server of its own.
pub fn measure(workshop: &Workshop, peer: Peer, idle: usize) -> Result<Footprint, Failure> {
    let server = workshop.start(peer, false)?;
    let at_start = resident_bytes(server.id());
    let a_connection = or_say(peer, connections(server.clients, server.id(), idle));
    drop(server);
    // The baselines' entries have fixed fields; what they take says nothing.
    let a_client = match peer.is_in_c() {
        true => None,
        false => {
            let server = workshop.start(peer, false)?;
            or_say(peer, clients(server.clients, server.id()))
        }
    };
    Ok(Footprint { peer, at_start, a_connection, a_client })
}

/// The median time from the start of the process until it accepts connections.
pub fn start_up(workshop: &Workshop, peer: Peer) -> Result<Duration, Failure> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(workshop.start(peer, false)?.started_in.as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(times)))
}

fn or_say(peer: Peer, measured: Result<f64, Failure>) -> Option<f64> {
    measured.map_err(|error| eprintln!("{}: memory: {error}", peer.title())).ok()
}

fn connections(server: SocketAddr, process: u32, idle: usize) -> Result<f64, Failure> {
    ask(connect(server, 0)?)?; // What the first one costs, all share.
    let before = resident_bytes(process);
    let mut crowd = Vec::new();
    for index in 0..idle {
        crowd.push(ask(connect(server, index)?)?);
    }
    thread::sleep(SETTLE);
    Ok((resident_bytes(process).saturating_sub(before)) as f64 / idle as f64)
}

/// Says one line and reads its answer, so that the connection has done what connections do.
fn ask(mut stream: TcpStream) -> Result<TcpStream, Failure> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"x\n")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    match &answer {
        b"? x\n" => Ok(stream),
        _ => Err("a wrong answer".into()),
    }
}

fn clients(server: SocketAddr, process: u32) -> Result<f64, Failure> {
    let stream = TcpStream::connect(server)?;
    let before = resident_bytes(process);
    add_clients(&stream, 0..CLIENTS)?;
    thread::sleep(SETTLE);
    Ok((resident_bytes(process).saturating_sub(before)) as f64 / CLIENTS as f64)
}

/// Tells a server of the clients with these numbers, the first and the last of which are multiples of [`BATCH`].
pub fn add_clients(mut stream: &TcpStream, numbers: Range<usize>) -> Result<(), Failure> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    for first in numbers.step_by(BATCH) {
        let lines: String = (first..first + BATCH).map(|number| iamat(number, seconds)).collect();
        stream.write_all(lines.as_bytes())?;
        let mut answers = vec![0; lines.len()];
        stream.read_exact(&mut answers)?;
        if answers != lines.replace("IAMAT", "AT AT").as_bytes() {
            return Err("a wrong answer".into());
        }
    }
    Ok(())
}

/// 23 bytes of id, 21 of location, 20 of timestamp.
fn iamat(number: usize, seconds: u64) -> String {
    format!("IAMAT host-{number:07}.cs.ucla.edu +34.068930-118.445127 {seconds}.918963997\n")
}

const CLIENTS: usize = 1_000_000;
const BATCH: usize = 400;
const STARTS: usize = 9;
/// For garbage collectors, which take their time.
const SETTLE: Duration = Duration::from_millis(500);
