//! Which core runs what, how many descriptors there are, and what a process has used: CPU time
//! and memory, as the kernel reports them under `/proc`.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The servers' core and the load's. The same one, unpinned, where there is only one.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    pub server: Option<usize>,
    pub load: Option<usize>,
}

impl Cores {
    pub fn find() -> Cores {
        let mine = sched_getaffinity(None).unwrap_or_default();
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| mine.is_set(core));
        match (cores.next(), cores.next()) {
            (Some(server), Some(load)) => Cores { server: Some(server), load: Some(load) },
            _ => Cores { server: None, load: None },
        }
    }

    /// Runs `start` on the servers' core: what it starts inherits that. Then back to the load's.
    pub fn on_server_core<T>(self, start: impl FnOnce() -> T) -> T {
        pin(self.server);
        let started = start();
        pin(self.load);
        started
    }
}

fn pin(core: Option<usize>) {
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        if let Err(error) = sched_setaffinity(None, &set) {
            eprintln!("core {core} can't be chosen: {error}");
        }
    }
}

/// Raises the limit of descriptors as far as allowed, for this process and those it starts.
pub fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20) as usize
}

/// CPU time that all threads of a process have used, in user space and kernel.
pub fn cpu_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Page faults that needed no disk, of all threads of a process.
#[allow(dead_code, reason = "another bench has no use for it")]
pub fn minor_faults(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may hold spaces; the first field there is the state.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(7).and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// Bytes of a process that are in memory.
pub fn resident_bytes(process: u32) -> u64 {
    status_bytes(process, "VmRSS:")
}

/// Those of them that it shares with no file, and so with no other process of a herd.
#[allow(dead_code, reason = "another bench has no use for it")]
pub fn own_bytes(process: u32) -> u64 {
    status_bytes(process, "RssAnon:")
}

fn status_bytes(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    kilobytes * 1024
}

/// What this machine is: processor, cores, kernel, memory.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or("unknown").trim().to_owned()
    };
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    let hypervisor = if cpus.contains("hypervisor") { ", a virtual machine" } else { "" };
    format!(
        "{} ({cores} cores{hypervisor}), {memory}, Linux {}",
        value(&cpus, "model name"),
        kernel.trim()
    )
}

/// How many processes wanted to run on average in the last minute: ours, and others' noise.
pub fn busy() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}
