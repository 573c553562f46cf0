//! Claim: no client waits for all that other clients have asked: the last one gets its share while the others have
//! most of their work still before them, and they do not delay a stop.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

use rustix::process::Signal;

use common::{Client, LIMIT, ServerProcess, Setup};

const AT: &str = "AT AT honest +1.0-1.0 1";
/// The dearest line whose answer is short: all places within fifty kilometres of Paris, of which none is wanted.
const DEAR: &str = "WHATSAT paris 31 0\n";
const LINES: usize = 1_000;
const GREEDY: usize = 100;

#[test]
fn the_last_client_does_not_wait_for_the_expensive_lines_of_all_others() {
    let (_setup, server) = start();
    let mut honest = server.client();
    assert_eq!(honest.ask("IAMAT honest +1.0-1.0 1"), AT);
    let mut greedy: Vec<Client> = (0..GREEDY).map(|_| server.client()).collect();
    ask_for_much(&server, &mut greedy, |_| {
        let _ = honest.try_send("IAMAT honest +1.0-1.0 1\n");
    });
    assert_eq!(honest.line(), AT);
    server.hold();
    let answered = answered(&mut greedy);
    assert!(answered < GREEDY * LINES / 4, "{answered} answers came before the one");
}

/// It comes when all the others are there, and has to be accepted first.
#[test]
fn a_new_connection_does_not_wait_for_the_expensive_lines_of_all_others() {
    let (_setup, server) = start();
    let mut greedy: Vec<Client> = (0..GREEDY).map(|_| server.client()).collect();
    let mut honest = None;
    ask_for_much(&server, &mut greedy, |server| {
        let mut client = server.client();
        client.send("IAMAT honest +1.0-1.0 1\n");
        honest = Some(client);
    });
    assert_eq!(honest.expect("it came").line(), AT);
    server.hold();
    let answered = answered(&mut greedy);
    assert!(answered < GREEDY * LINES / 4, "{answered} answers came before the one");
}

/// They go on asking, so there is always more to be answered.
#[test]
fn a_stop_during_expensive_lines_ends_within_the_grace_time() {
    let (_setup, mut server) = start();
    let mut greedy: Vec<Client> = (0..GREEDY).map(|_| server.client()).collect();
    for client in &greedy {
        client.stream.set_nonblocking(true).expect("a socket");
    }
    let lines = DEAR.repeat(LINES);
    let mut answered = 0;
    let mut is_stopping = false;
    let begun = Instant::now();
    while server.is_running() {
        assert!(begun.elapsed() < LIMIT, "it answers for ever, and has sent {answered} bytes");
        for client in &mut greedy {
            let _ = client.stream.write(lines.as_bytes()); // It may be full, or closed by now.
            answered += client.stream.read(&mut [0; 1 << 16]).unwrap_or(0);
        }
        if !is_stopping && answered > LINES {
            server.signal(Signal::TERM);
            is_stopping = true;
        }
    }
    assert!(server.wait().success());
}

/// One connection alone may have all of a turn, and is cut off there.
#[test]
fn work_beyond_a_connections_budget_is_done_later_and_in_order() {
    let (_setup, server) = start();
    let mut client = server.client();
    let mut lines = String::new();
    for round in 0..300 {
        lines += &format!("{DEAR}IAMAT round +1.0-1.0 {round}\n");
    }
    client.send(lines);
    for round in 0..300 {
        assert!(client.answer().first.starts_with("AT AT paris "), "in round {round}");
        assert_eq!(client.line(), format!("AT AT round +1.0-1.0 {round}"));
    }
}

/// A server that knows where Paris is and has its gazetteer unpacked.
fn start() -> (Setup, ServerProcess) {
    let setup = Setup::alone().section("[places]\nprovider = \"offline\"").any_port();
    let server = setup.start_with("Goloman", &["--log-level", "warning"]);
    let mut client = server.client();
    client.ask("IAMAT paris +48.8566+2.3522 1");
    assert_eq!(client.whatsat("paris", "31", "20").results().len(), 20);
    (setup, server)
}

/// Each of the crowd asks for all it can before the server looks, and then something else happens.
fn ask_for_much(server: &ServerProcess, crowd: &mut [Client], then: impl FnOnce(&ServerProcess)) {
    for client in crowd.iter_mut() {
        assert_eq!(client.ask("nonsense"), "? nonsense"); // It was accepted.
    }
    server.wait_until_asleep();
    server.hold();
    for client in crowd {
        client.send(DEAR.repeat(LINES));
    }
    then(server);
    server.signal(Signal::CONT);
}

/// How many answers the crowd has got.
fn answered(crowd: &mut [Client]) -> usize {
    let mut count = 0;
    for client in crowd {
        client.stream.set_nonblocking(true).expect("a socket");
        let mut bytes = Vec::new();
        let mut one = vec![0; 1 << 16];
        loop {
            match client.stream.read(&mut one) {
                Ok(0) => break,
                Ok(got) => bytes.extend_from_slice(&one[..got]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break, // Nothing more, or a reset.
            }
        }
        count += bytes.windows(9).filter(|text| *text == b"AT AT par").count();
    }
    count
}
