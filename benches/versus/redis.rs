//! Redis, which somebody would take instead: it keeps the same text under the client's id (SET), or the client's place
//! among those of others (GEOADD). Nothing is written to the disk, as nothing is by our server. It speaks RESP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::Failure;
use crate::load::Request;

/// A server without persistence, in this folder.
pub fn command(program: &str, port: u16, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "no", "--daemonize", "no", "--maxclients", "40000"]);
    command.arg("--dir").arg(folder);
    command
}

/// For each connection the SET of what an IAMAT says, each with a newer timestamp.
pub fn sets(connections: usize) -> Vec<Request> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let request = |index| {
        let value = format!("+34.068930-118.445127 {}.000000000", since.as_secs());
        let line = resp(&[b"SET", client(index).as_bytes(), value.as_bytes()]);
        let end = line.len() - b"\r\n".len();
        Request::counting(line, end - 9..end, b"+OK\r\n".to_vec())
    };
    (0..connections).map(request).collect()
}

/// For each connection the GEOADD of a client that moves north. An answer of 0 says that it was there before.
pub fn geoadds(connections: usize) -> Vec<Request> {
    let request = |index| {
        let line =
            resp(&[b"GEOADD", b"clients", b"-118.445127", b"34.068930", client(index).as_bytes()]);
        let at = memchr::memmem::find(&line, b"34.068930").unwrap_or(0) + b"34.".len();
        Request::counting(line, at..at + 6, b":0\r\n".to_vec())
    };
    (0..connections).map(request).collect()
}

/// Whether it does both, and all clients of the load are there.
pub fn check(server: SocketAddr) -> Result<(), Failure> {
    let mut redis = Redis::connect(server)?;
    redis.expect(&[b"SET", b"a", b"+34.068930-118.445127 1"], b"+OK\r\n")?;
    redis.expect(&[b"GET", b"a"], b"$23\r\n+34.068930-118.445127 1\r\n")?;
    for index in 0..CLIENTS {
        let id = client(index);
        redis.expect(&[b"GEOADD", b"clients", b"-118.4", b"34", id.as_bytes()], b":1\r\n")?;
    }
    redis.expect(&[b"GEOADD", b"clients", b"-118.4", b"34", client(0).as_bytes()], b":0\r\n")
}

/// A connection, one request at a time.
pub struct Redis {
    stream: TcpStream,
}

impl Redis {
    pub fn connect(server: SocketAddr) -> Result<Redis, Failure> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Redis { stream })
    }

    /// Sends a command, and compares what comes.
    pub fn expect(&mut self, words: &[&[u8]], due: &[u8]) -> Result<(), Failure> {
        let came = self.ask(&resp(words))?;
        match came == due {
            true => Ok(()),
            false => Err(format!("Redis: {:?}", String::from_utf8_lossy(&came)).into()),
        }
    }

    /// Sends bytes that are RESP already. Returns the answer as it came.
    pub fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        self.stream.write_all(request)?;
        let mut came = Vec::new();
        let mut buffer = [0; 16 * 1024];
        while whole(&came).is_none() {
            match self.stream.read(&mut buffer)? {
                0 => return Err("Redis closed the connection".into()),
                count => came.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(came)
    }
}

/// How long the answer is that stands at the beginning, if all of it has come.
fn whole(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b'\n', bytes)? + 1;
    let count = || std::str::from_utf8(&bytes[1..end - 2]).ok()?.parse::<usize>().ok();
    match bytes[0] {
        b'*' => (0..count()?).try_fold(end, |at, _| Some(at + whole(&bytes[at..])?)),
        b'$' => Some(end + count()? + 2).filter(|end| *end <= bytes.len()),
        _ => Some(end),
    }
}

/// A command as Redis reads it.
pub fn resp(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn client(index: usize) -> String {
    format!("client-{index:05}.cs.ucla.edu")
}

/// As many as the widest shape has connections.
const CLIENTS: usize = 1_000;
