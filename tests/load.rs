//! Claim: idle connections cost next to nothing, short ones leave nothing behind, and under a mixed load memory
//! stays at its initial level.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::sockets::{open_descriptors, resident_bytes};
use common::{Client, LIMIT, ServerProcess, Setup, raise_descriptor_limit, wait_until};
use rustix::process::{Resource, getrlimit};

#[test]
fn idle_connections_cost_little_and_slow_down_no_client() {
    raise_descriptor_limit();
    // The test has one end of each, and its own files besides.
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).min(9_500);
    let count = usize::try_from(most).expect("it fits") - 500;
    let setup = Setup::alone().any_port();
    let server = setup.start_with("Goloman", &["--log-level=off"]);
    let mut busy = server.client();
    work(&mut busy, 0, 1_000);
    let before = resident_bytes(server.pid());
    let idle: Vec<Client> = (0..count).map(|_| server.client()).collect();
    // All were accepted: the last one is answered.
    let mut last = server.client();
    work(&mut last, 1, 1);
    work(&mut busy, 0, 1_000);
    let each = resident_bytes(server.pid()).saturating_sub(before) / count as u64;
    println!("{count} idle connections, {each} resident bytes each");
    assert!(each < 1_024, "{each} bytes an idle connection");
    drop(idle);
    wait_until(LIMIT, "their descriptors are given back", || open_descriptors(server.pid()) < 64);
    work(&mut busy, 0, 1_000);
}

#[test]
fn short_connections_leave_nothing_behind() {
    let setup = Setup::alone().any_port();
    let server = setup.start_with("Goloman", &["--log-level=off"]);
    let churn = |count: usize| {
        for number in 0..count {
            let mut client = server.client();
            match number % 4 {
                0 => work(&mut client, number % 50, 1),
                1 => client.send("IAMAT half a li"), // and gone
                2 => client.reset(),
                _ => client.send("nonsense\nIAMAT x +1+1 1\nWHATSAT"),
            }
        }
        let mut after = server.client();
        work(&mut after, 0, 1);
    };
    churn(1_000);
    let (before, open) = (resident_bytes(server.pid()), open_descriptors(server.pid()));
    churn(4_000);
    wait_until(LIMIT, "descriptors are given back", || open_descriptors(server.pid()) <= open + 8);
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 2 * 1024 * 1024, "{grown} bytes more after 4,000 short connections");
}

#[test]
fn memory_stays_where_it_was_under_a_mixed_load() {
    mixed_load(Duration::from_secs(2), Duration::from_secs(4));
}

/// `cargo test --release --test load -- --ignored --nocapture`
#[test]
#[ignore = "takes ten minutes"]
fn memory_stays_where_it_was_for_ten_minutes() {
    mixed_load(Duration::from_secs(60), Duration::from_secs(540));
}

/// Clients that move, ask, half-close and reset, at two servers that keep each other alike.
fn mixed_load(first: Duration, then: Duration) {
    let setup = Setup::new(&[("Goloman", &["Hands"]), ("Hands", &[])]);
    let servers: Vec<ServerProcess> =
        setup.names().iter().map(|name| setup.start_with(name, &["--log-level=error"])).collect();
    servers[0].client().whatsat("nobody", "1", "1"); // a refusal
    let is_over = AtomicBool::new(false);
    let resident = || servers.iter().map(|server| resident_bytes(server.pid())).sum::<u64>();
    let (before, after) = thread::scope(|scope| {
        for number in 0..4 {
            let (is_over, servers) = (&is_over, &servers);
            scope.spawn(move || {
                let mut round = number;
                while !is_over.load(Ordering::SeqCst) {
                    round += 4;
                    one_client(&servers[round % 2], round);
                }
            });
        }
        let begin = Instant::now();
        let sleep_until = |end: Duration| thread::sleep(end.saturating_sub(begin.elapsed()));
        sleep_until(first);
        let before = resident();
        sleep_until(first + then);
        let after = resident();
        is_over.store(true, Ordering::SeqCst);
        (before, after)
    });
    println!("resident: {before} bytes after {first:?}, {after} bytes {then:?} later");
    assert!(after < before + before / 5 + 4 * 1024 * 1024, "{before} bytes grew to {after}");
}

fn one_client(server: &ServerProcess, round: usize) {
    let mut client = server.client();
    work(&mut client, round % 500, 20);
    match round % 5 {
        0 => {
            client.send("WHATSAT c0 31 20\n".repeat(5));
            for _ in 0..5 {
                client.answer();
            }
        }
        1 => client.send(vec![b'x'; 3_000]),
        2 => client.reset(),
        3 => {
            client.send("IAMAT last +1.0+1.0 5");
            client.half_close();
            assert_eq!(client.rest(), b"AT AT last +1.0+1.0 5\n");
        }
        _ => {}
    }
}

/// So many IAMATs, each checked.
fn work(client: &mut Client, number: usize, count: usize) {
    for nth in 0..count {
        let text = format!("c{} +34.068930-118.445127 155986505{}", number % 500, nth % 10);
        assert_eq!(client.ask(&format!("IAMAT {text}")), format!("AT AT {text}"));
    }
}
