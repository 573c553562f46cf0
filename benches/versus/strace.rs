//! Counts the system calls of a process that runs, by strace.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// Calls by their names.
pub type Calls = BTreeMap<String, f64>;

/// Attaches to all threads of a process, does something meanwhile, and returns the calls that the process made.
pub fn count(process: u32, doing: impl FnOnce() -> Result<(), Failure>) -> Result<Calls, Failure> {
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-p", &process.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("strace can't be run: {error}"))?;
    let done = wait_until_attached(process, &mut strace).and_then(|()| doing());
    if let Some(id) = Pid::from_raw(strace.id() as i32) {
        _ = kill_process(id, Signal::INT);
    }
    let said = strace.wait_with_output()?;
    done?;
    Ok(parse(&String::from_utf8_lossy(&said.stderr)))
}

fn wait_until_attached(process: u32, strace: &mut Child) -> Result<(), Failure> {
    let begin = Instant::now();
    while !is_traced(process) {
        if begin.elapsed() > LIMIT || strace.try_wait()?.is_some() {
            return Err("strace can't attach".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether all its threads are.
fn is_traced(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let states = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    states.into_iter().all(|status| !status.contains("TracerPid:\t0\n"))
}

/// "recvfrom  1000" and the like, between lines of dashes.
fn parse(text: &str) -> Calls {
    let row = |line: &str| {
        let (name, count) = line.trim().split_once(char::is_whitespace)?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter_map(row).filter(|(name, _)| name != "total").collect()
}

const LIMIT: Duration = Duration::from_secs(10);
