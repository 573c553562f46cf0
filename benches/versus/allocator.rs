//! In which state the memory allocator of a server in Python is. asyncio reads with `recv` of 256 KiB, for which glibc,
//! by what the process has freed before, takes memory that it has, or maps some and unmaps it again, each time. The same
//! server is up to twice as expensive then, so the processes that were measured are asked when all rounds are over.

use std::time::Duration;

use crate::Failure;
use crate::figures::Figures;
use crate::load::Load;
use crate::peers::{Peer, Running};
use crate::strace;

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
    let calls = strace::count(server.id(), || {
        load.closed(1, COUNTED)?;
        load.drain()
    })?;
    let calls = |name: &str| calls.get(name).copied().unwrap_or(0.0);
    let reads = calls("read") + calls("recvfrom");
    match reads > 0.0 {
        true => Ok(calls("mmap") / reads),
        false => Err("strace saw no read".into()),
    }
}

const COUNTED: Duration = Duration::from_secs(1);
