//! What the tests of the real binary share: free ports, configurations, server processes, clients, neighbours that the
//! test plays itself, and a forwarder whose links can be cut.
//!
//! Every wait here is for a condition and has a limit; every process ends with the value that started it.
#![allow(dead_code, unused_imports)] // each test file uses a part

pub mod cases;
pub mod certificates;
pub mod certified_client;
pub mod client;
pub mod handshake;
pub mod herd;
pub mod hosts;
pub mod http;
pub mod names;
pub mod needs;
pub mod neighbour;
pub mod places_server;
pub mod ports;
pub mod process;
pub mod program;
pub mod proxy;
pub mod random;
pub mod service;
pub mod service_manager;
pub mod setup;
pub mod sockets;
pub mod talkers;
pub mod terminal;
pub mod tls_server;

pub use client::{Answer, Client, Next};
pub use herd::Herd;
pub use neighbour::{FakeNeighbour, Link, connect_as};
pub use process::{Ended, ServerProcess, raise_descriptor_limit, run_to_end};
pub use proxy::Proxy;
pub use setup::{REPORT, Setup};

use std::time::{Duration, Instant};

/// How long a test waits for what must come. Far more than a loaded machine needs; no test that passes waits for it.
/// (Where code was broken on purpose to see a test fail, `tests/mutations.sh`, it should fail soon.)
pub const LIMIT: Duration = match option_env!("HERD_TEST_SOON") {
    None => Duration::from_secs(30),
    Some(_) => Duration::from_secs(10),
};

/// Asks until the condition holds; fails by naming what did not come.
pub fn wait_until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < limit, "after {limit:?} still not so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes as a reader of a failed test wants them: text, the rest escaped.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
