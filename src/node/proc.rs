//! What the kernel knows of this process, for metrics. It is read in `/proc`, which only Linux has, when metrics are
//! asked for: one small file and two system calls, some microseconds.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::process;
use crate::server::metrics::Process;

/// Reads it; None where there is no `/proc`.
pub(super) fn read() -> Option<Process> {
    let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let ticks = clock_ticks_per_second() as f64;
    // A hardened service sees processes in /proc, and nothing else (ProcSubset=pid).
    let start_seconds = match BOOTED.get_or_init(booted) {
        Some(booted) => booted + stat.start_ticks as f64 / ticks,
        None => process::began(),
    };
    Some(Process {
        cpu_seconds: stat.cpu_ticks as f64 / ticks,
        resident_bytes: stat.resident_pages * page_size() as u64,
        virtual_bytes: stat.virtual_bytes,
        open_descriptors: open_descriptors(),
        max_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        start_seconds,
    })
}

/// Fields of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the name in brackets, and may hold anything.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - FIRST_FIELD)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: number(14)? + number(15)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

/// When the machine was booted, in seconds since 1970.
fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Since Linux 6.2 the size of this folder is the number of descriptors. Before, they must be counted, which takes long
/// if they are many: a thread does it, and this is the result of the call before.
fn open_descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    let size = fs::metadata(FOLDER).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    if !IS_COUNTING.swap(true, Relaxed) {
        let count = || {
            if let Ok(entries) = fs::read_dir(FOLDER) {
                // One of them is the folder itself.
                COUNTED.store(entries.count().saturating_sub(1) as u64, Relaxed);
            }
            IS_COUNTING.store(false, Relaxed);
        };
        if thread::Builder::new().name("count".into()).spawn(count).is_err() {
            IS_COUNTING.store(false, Relaxed);
        }
    }
    Some(COUNTED.load(Relaxed)).filter(|counted| *counted > 0)
}

static BOOTED: OnceLock<Option<f64>> = OnceLock::new();
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
/// 0 before the first count.
static COUNTED: AtomicU64 = AtomicU64::new(0);
/// The number of the first field behind the name.
const FIRST_FIELD: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_move_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 70 5 13 14 15 16 17 18 9000 4096 12 99";
        for name in ["herd-mio", "a) S 1 (b", ") "] {
            let stat = Stat::parse(&format!("4711 ({name}) {rest}"));
            let expected =
                Stat { cpu_ticks: 75, start_ticks: 9000, virtual_bytes: 4096, resident_pages: 12 };
            assert_eq!(stat, Some(expected), "{name}");
        }
        assert_eq!(Stat::parse("4711 (x) S 1"), None);
    }
}
