//! What the kernel knows of a connection's two ends and of a process.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::LIMIT;

/// Waits until the process at the other end has read every byte that this end sent (Linux; elsewhere a pause stands in
/// for it).
///
/// Two looks at `/proc/net/tcp`, in this order: our end has nothing unacknowledged, so all of it is in the other end's
/// queue or past it; then the other end's queue is empty, so the process has taken it.
pub fn wait_until_read(ours: &TcpStream) {
    if !cfg!(target_os = "linux") {
        std::thread::sleep(Duration::from_millis(20));
        return;
    }
    let (local, remote) = match (ours.local_addr(), ours.peer_addr()) {
        (Ok(local), Ok(remote)) => (local, remote),
        _ => return, // closed by the other side already: it reads no more
    };
    let begin = Instant::now();
    wait_for_queue(begin, local, remote, |tx, _rx| tx == 0);
    wait_for_queue(begin, remote, local, |_tx, rx| rx == 0);
}

/// Waits until every byte that this end sent, and its end, is in the kernel of the other one, read or not.
pub fn wait_until_arrived(ours: &TcpStream) {
    if !cfg!(target_os = "linux") {
        std::thread::sleep(Duration::from_millis(20));
    } else if let (Ok(local), Ok(remote)) = (ours.local_addr(), ours.peer_addr()) {
        wait_for_queue(Instant::now(), local, remote, |tx, _rx| tx == 0);
    }
}

/// Waits until the row of this end shows what is wanted, or is gone.
fn wait_for_queue(
    begin: Instant,
    local: SocketAddr,
    remote: SocketAddr,
    wanted: fn(u64, u64) -> bool,
) {
    let key = format!(" {} {} ", proc_form(local), proc_form(remote));
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
        let Some(row) = table.lines().find(|row| row.contains(&key)) else {
            return;
        };
        let queues = row.split_ascii_whitespace().nth(4).expect("the fifth field holds the queues");
        let (tx, rx) = queues.split_once(':').expect("tx_queue:rx_queue");
        let number = |text| u64::from_str_radix(text, 16).expect("a hexadecimal number");
        if wanted(number(tx), number(rx)) {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "not read within {LIMIT:?}: {row}");
        std::thread::yield_now();
    }
}

/// `0100007F:2F6A`: the address as the number that its bytes make on this machine, then the port.
fn proc_form(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory that a process ever had, in bytes.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("its memory");
    let kib: u64 = line
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number of KiB");
    kib * 1024
}

/// Processor time that a process has used. The kernel counts in hundredths of a second.
pub fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in parentheses may hold anything; fields count from behind it.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * 10)
}

/// How many descriptors a process has open.
pub fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}
