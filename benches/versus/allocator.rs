//! In which state the memory allocator of a server in Python is. asyncio reads with `recv` of 256 KiB, for which glibc,
//! by what the process has freed before, takes memory that it has, or maps some and unmaps it again, each time. The same
//! server is up to twice as expensive then, so the processes that were measured are asked when all rounds are over.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::figures::Figures;
use crate::load::Load;
use crate::peers::{Peer, Running};

/// Counts calls of mmap for each read. Where it cannot, it says why.
pub fn count(peer: Peer, log: &str, server: &Running, figures: &mut Figures) {
    if !matches!(peer, Peer::Asyncio | Peer::Uvloop) {
        return;
    }
    for (shape, connections) in [("1x1", 1), ("64x1", 64)] {
        match maps_per_read(server, connections) {
            Ok(maps) => {
                figures.add(format!("allocator/{shape}/{log}/{}/maps", peer.name()), maps);
            }
            Err(error) => {
                eprintln!("calls of mmap of {} are not counted: {error}", peer.title());
                return;
            }
        }
    }
}

fn maps_per_read(server: &Running, connections: usize) -> Result<f64, Failure> {
    let mut load = Load::connect(server.clients, connections)?;
    let strace = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-e", "trace=read,recvfrom,mmap"])
        .args(["-p", &server.id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("strace can't be run: {error}"))?;
    // While it attaches, and while it counts.
    let seen = load.closed(1, COUNTED);
    let id = Pid::from_raw(strace.id() as i32).ok_or("strace has no process id")?;
    _ = kill_process(id, Signal::INT);
    let said = strace.wait_with_output()?;
    seen?;
    load.drain()?;
    let text = String::from_utf8_lossy(&said.stderr);
    let calls = |name: &str| -> f64 {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let of = lines.filter(|line| line.first() == Some(&name));
        of.filter_map(|line| line.get(1)?.parse::<f64>().ok()).sum()
    };
    let reads = calls("read") + calls("recvfrom");
    match reads > 0.0 {
        true => Ok(calls("mmap") / reads),
        false => Err(format!("strace saw no read: {}", text.trim()).into()),
    }
}

const COUNTED: Duration = Duration::from_secs(1);
