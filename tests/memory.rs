//! Claim: the memory of all buffers together stays within its bound, whatever clients send, ask for or leave
//! unread, and the connection that holds most of it pays. What counts is the resident memory at its peak, with a
//! fifth more for the allocator.

mod common;

use std::io::{ErrorKind, Read, Write};

use common::service::{Act, Service, ok};
use common::sockets::peak_resident_bytes;
use common::{Client, ServerProcess, Setup, raise_descriptor_limit};

const MIB: u64 = 1024 * 1024;
const BOUND: &str = "[limits]\nbuffer_bytes = 16777216";

#[test]
fn many_clients_that_never_read_stay_within_the_memory_bound() {
    read_nothing(Setup::alone());
}

/// Each loop has half of the bound.
#[test]
fn many_clients_of_two_loops_that_never_read_stay_within_the_memory_bound() {
    read_nothing(Setup::alone().top("loops = 2"));
}

fn read_nothing(setup: Setup) {
    let setup = setup.section(BOUND).any_port();
    let (server, peak) = start(&setup);
    let mut honest = server.client();
    let mut greedy: Vec<Client> = (0..100).map(|_| server.client()).collect();
    for client in &greedy {
        // Less for the kernel to hold, and so more for the server.
        let socket = socket2::SockRef::from(&client.stream);
        socket.set_recv_buffer_size(4_096).expect("a socket");
        client.stream.set_nonblocking(true).expect("a socket");
    }
    let lines = format!("{}\n", "x".repeat(2_000)).repeat(64);
    // Until the server has closed most of them, because together they hold too much.
    let mut rounds = 0;
    while greedy.len() > 70 {
        greedy.retain_mut(|client| match client.stream.write(lines.as_bytes()) {
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        });
        assert_eq!(honest.ask("IAMAT honest +1.0-1.0 1"), "AT AT honest +1.0-1.0 1");
        rounds += 1;
        assert!(rounds < 5_000, "{} of 100 are still connected", greedy.len());
    }
    assert_within(&server, peak, 16);
    server.wait_for_log("all buffers together are full");
}

/// An input that was large once and has half a line in it holds as much as before.
#[test]
fn held_memory_counts_and_not_only_the_bytes_in_it() {
    let setup = Setup::alone().section(BOUND).any_port();
    let (server, peak) = start(&setup);
    let lines = format!("{}half a line", format!("{}\n", "x".repeat(999)).repeat(60));
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..600 {
        let mut client = server.client();
        client.send(&lines);
        let mut answers = vec![0; 60 * 1_002];
        if client.stream.read_exact(&mut answers).is_ok() {
            clients.push(client);
        }
    }
    assert_within(&server, peak, 16);
    server.assert_serves();
}

#[test]
fn an_answer_larger_than_the_bound_closes_its_own_connection_only() {
    let body = format!("{{\"results\": [\"{}\"], \"status\": \"OK\"}}", "x".repeat(3 << 20));
    let service = Service::good(move |_| vec![Act::Send(ok(&body))]);
    let limits = "[limits]\nbuffer_bytes = 1048576\n";
    let (_setup, server) =
        service.asked_by_goloman("s3cret", &format!("timeout = \"60s\"\n{limits}"), &[]);
    let mut other = server.client();
    assert_eq!(other.ask("IAMAT kiwi +34.0-118.0 1"), "AT AT kiwi +34.0-118.0 1");
    let mut client = server.client();
    client.send("WHATSAT kiwi 10 20\n");
    assert_eq!(client.answer().status(), "UNKNOWN_ERROR"); // It was the service's connection.
    assert_eq!(other.ask("IAMAT kiwi +34.0-118.0 1"), "AT AT kiwi +34.0-118.0 1");
    server.wait_for_log("all buffers together are full");
}

/// One request and one answer, which all of a crowd wait for; copied for each it would be six times the bound.
#[test]
fn a_shared_answer_is_held_once() {
    const CROWD: usize = 400;
    let places = vec![format!("\"{}\"", "x".repeat(12_000)); 20].join(", ");
    let body = format!("{{\"results\": [{places}], \"status\": \"OK\"}}");
    let service = Service::good(move |_| vec![Act::Hold, Act::Send(ok(&body))]);
    let (_setup, server) =
        service.asked_by_goloman("s3cret", &format!("timeout = \"60s\"\n{BOUND}"), &[]);
    server.client().ask("IAMAT kiwi +34.0-118.0 1");
    let peak = peak_resident_bytes(server.pid());
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.client()).collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        client.send(format!("WHATSAT kiwi 10 {}\n", 18 + number % 3));
    }
    service.wait_for_requests(1);
    for client in &crowd {
        common::sockets::wait_until_read(&client.stream);
    }
    service.open_gate();
    for (number, client) in crowd.iter_mut().enumerate() {
        assert_eq!(client.answer().results().len(), 18 + number % 3, "client {number}");
    }
    assert_eq!(service.requests().len(), 1);
    assert_within(&server, peak, 16);
}

fn start(setup: &Setup) -> (ServerProcess, u64) {
    raise_descriptor_limit();
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    server.assert_serves();
    let peak = peak_resident_bytes(server.pid());
    (server, peak)
}

/// A fifth and four MiB, for the table, the log and the allocator, above the bound.
fn assert_within(server: &ServerProcess, before: u64, bound: u64) {
    let grown = peak_resident_bytes(server.pid()).saturating_sub(before);
    println!("grown by {:.1} MiB at most", grown as f64 / MIB as f64);
    assert!(grown <= bound * MIB * 6 / 5 + 4 * MIB, "grown by {grown} bytes");
}
