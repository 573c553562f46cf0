//! tokio on one thread, two ways: idiomatic lines with a write for each, and answers batched by
//! hand with one write for each read.
//!
//! ```text
//! versus-tokio lines|batched PORT LOG|off
//! ```
//!
//! A task a connection; the table is shared through an `Rc`, since all tasks run on one thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

mod log;
use log::Log;

const LINE_BYTES: usize = 4096;
const READ_BYTES: usize = 64 * 1024;
const AHEAD: Duration = Duration::from_secs(300);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, style, port, log] = arguments.as_slice() else {
        eprintln!("versus-tokio lines|batched PORT LOG|off");
        std::process::exit(2);
    };
    let port = port.parse().map_err(io::Error::other)?;
    let server = Rc::new(Server {
        clients: RefCell::default(),
        log: Log::open(log)?,
        is_batched: style == "batched",
    });
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, serve(server, port))
}

struct Server {
    clients: RefCell<HashMap<Vec<u8>, Update>>,
    log: Option<Log>,
    is_batched: bool,
}

struct Update {
    nanos: u128,
    location: Vec<u8>,
    timestamp: Vec<u8>,
}

async fn serve(server: Rc<Server>, port: u16) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(4096)?;
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let server = Rc::clone(&server);
        tokio::task::spawn_local(async move {
            server.info(|| format!("Client {peer} is connected."));
            // An error means that the client is gone.
            let _ = stream.set_nodelay(true);
            let _ = match server.is_batched {
                true => server.batches(stream, peer).await,
                false => server.lines(stream, peer).await,
            };
            server.info(|| format!("Client {peer} is disconnected."));
        });
    }
}

impl Server {
    /// As the tutorials have it: a line, an answer, a write.
    async fn lines(&self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let (reading, mut writing) = stream.split();
        let mut reader = BufReader::new(reading);
        let (mut line, mut answer) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).await? == 0 {
                return Ok(());
            }
            answer.clear();
            self.answer(line.strip_suffix(b"\n").unwrap_or(&line), peer, &mut answer);
            writing.write_all(&answer).await?;
        }
    }

    /// Reads what is there, answers every line of it, and writes once.
    async fn batches(&self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let (mut input, mut answers) = (Vec::with_capacity(LINE_BYTES), Vec::new());
        loop {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
            let mut rest = input.as_slice();
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                self.answer(&rest[..end], peer, &mut answers);
                rest = &rest[end + 1..];
            }
            let begun = rest.len();
            if begun > LINE_BYTES {
                return Ok(());
            }
            let handled = input.len() - begun;
            input.drain(..handled);
            input.reserve(READ_BYTES.min(LINE_BYTES));
            stream.write_all(&answers).await?;
            answers.clear();
        }
    }

    fn answer(&self, line: &[u8], peer: SocketAddr, out: &mut Vec<u8>) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.info(|| format!("Received from {peer}: {}", line.escape_ascii()));
        let before = out.len();
        match iamat(line) {
            Some([id, location, timestamp]) => {
                self.store(id, location, timestamp);
                out.extend_from_slice(b"AT AT");
                for field in [id, location, timestamp] {
                    out.push(b' ');
                    out.extend_from_slice(field);
                }
            }
            None => {
                out.extend_from_slice(b"? ");
                out.extend_from_slice(line);
            }
        }
        self.info(|| format!("Sent to {peer}: {}", out[before..].escape_ascii()));
        out.push(b'\n');
    }

    fn store(&self, id: &[u8], location: &[u8], timestamp: &[u8]) {
        let Some(nanos) = nanos(timestamp) else { return };
        let mut clients = self.clients.borrow_mut();
        match clients.get_mut(id) {
            Some(known) if known.nanos >= nanos => {}
            Some(known) => {
                known.nanos = nanos;
                location.clone_into(&mut known.location);
                timestamp.clone_into(&mut known.timestamp);
            }
            None => {
                let (location, timestamp) = (location.to_vec(), timestamp.to_vec());
                clients.insert(id.to_vec(), Update { nanos, location, timestamp });
            }
        }
    }

    fn info(&self, message: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            log.info(&message());
        }
    }
}

// ---- what a line says -----------------------------------------------------------------------

/// The three fields of a well-formed IAMAT.
fn iamat(line: &[u8]) -> Option<[&[u8]; 3]> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c);
    let mut fields = line.split(is_space).filter(|field| !field.is_empty());
    let [word, id, location, timestamp] = [(); 4].map(|()| fields.next());
    let (b"IAMAT", None) = (word?, fields.next()) else { return None };
    let (id, location, timestamp) = (id?, location?, timestamp?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let is_valid = id.len() <= 256
        && is_location(location)
        && nanos(timestamp).is_some_and(|nanos| nanos <= (now + AHEAD).as_nanos());
    is_valid.then_some([id, location, timestamp])
}

fn is_location(text: &[u8]) -> bool {
    fn read(text: &[u8]) -> Option<&[u8]> {
        let rest = angle(angle(text, 2, 90)?, 3, 180)?;
        let rest = match rest {
            [b'+' | b'-', altitude @ ..] => decimal(altitude)?.2,
            _ => rest,
        };
        let rest = rest.strip_prefix(b"CRSWGS_84").unwrap_or(rest);
        Some(rest.strip_prefix(b"/").unwrap_or(rest))
    }
    text.len() <= 64 && read(text).is_some_and(<[u8]>::is_empty)
}

/// Degrees, degrees and minutes, or degrees, minutes and seconds; the rest after them.
fn angle(text: &[u8], width: usize, greatest: u64) -> Option<&[u8]> {
    let [b'+' | b'-', unsigned @ ..] = text else { return None };
    let (whole, fraction, rest) = decimal(unsigned)?;
    let (degrees, parts) = match whole.len() {
        count if count <= width => (whole, &b""[..]),
        count if count == width + 2 || count == width + 4 => whole.split_at(width),
        _ => return None,
    };
    let (minutes, seconds) = parts.split_at(parts.len().min(2));
    let [degrees, minutes, seconds] = [degrees, minutes, seconds].map(integer);
    let exact = minutes == 0 && seconds == 0 && fraction.iter().all(|&digit| digit == b'0');
    let within = degrees < greatest || degrees == greatest && exact;
    (within && minutes < 60 && seconds < 60).then_some(rest)
}

/// Digits before the point, digits behind it, and the rest.
fn decimal(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (whole, rest) = digits(text);
    let (fraction, after) = match rest {
        [b'.', after @ ..] => digits(after),
        _ => (&b"0"[..], rest),
    };
    (!whole.is_empty() && !fraction.is_empty()).then_some((whole, fraction, after))
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

fn integer(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}

/// Nanoseconds since 1970.
fn nanos(text: &[u8]) -> Option<u128> {
    let (whole, fraction, rest) = decimal(text)?;
    if text.len() > 40 || whole.len() > 18 || !rest.is_empty() {
        return None;
    }
    let padded = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let below = padded.fold(0, |value, digit| value * 10 + u128::from(digit - b'0'));
    Some(u128::from(integer(whole)) * 1_000_000_000 + below)
}
