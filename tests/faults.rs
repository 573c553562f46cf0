//! Claim: a herd of real processes ends with equal tables after deaths at random and after a suspended server; and
//! an answered update is lost only if the one server that had it died before it could pass it on.

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use common::client::Next;
use common::random::next;
use common::{Client, LIMIT, ServerProcess, Setup, wait_until};
use rustix::process::Signal;

/// A MARK three of these old breaks a link.
const SOON: &str = "300ms";

#[test]
fn a_suspended_server_catches_up_when_it_is_resumed() {
    let setup = Setup::report().heartbeat(SOON);
    let herd = setup.start_all();
    let [goloman, hands, ..] = &herd[..] else { panic!("five servers") };
    tell(goloman, "before", 1);
    wait_for(&herd, "before", 1);
    hands.signal(Signal::STOP);
    // Its kernel still takes connections and bytes; only the missing ACKs can show it.
    goloman.wait_for_log("Link to Hands lost");
    for number in 2..200 {
        tell(goloman, "during", number);
    }
    wait_for(herd.iter().filter(|server| server.name != "Hands"), "during", 199);
    hands.signal(Signal::CONT);
    wait_for(&herd, "during", 199);
    tell(hands, "after", 1);
    wait_for(&herd, "after", 1);
}

#[test]
fn deaths_at_random_while_clients_write_end_with_equal_tables() {
    storm(30);
}

/// `cargo test --release --test faults -- --ignored --nocapture` takes some minutes and prints what was
/// lost.
#[test]
#[ignore = "takes some minutes"]
fn a_thousand_deaths_at_random() {
    storm(1_000);
}

/// An update that was answered.
#[derive(Clone, Copy, Debug)]
struct Answered {
    timestamp: u64,
    by: usize,
    /// Before it was sent: an answer may be read long after the server that gave it has died.
    sent_at: Instant,
}

/// What the clients of one storm have seen.
#[derive(Default)]
struct Story {
    /// Each client's last answered update, and the greatest timestamp that it has sent.
    progress: Mutex<HashMap<String, (Option<Answered>, u64)>>,
    answers: AtomicUsize,
    is_over: AtomicBool,
}

fn storm(kills: usize) {
    let setup = Setup::report().heartbeat(SOON);
    let addresses: Vec<SocketAddr> =
        setup.names().iter().map(|name| setup.clients_address(name)).collect();
    let mut herd = setup.start_all();
    let story = Arc::new(Story::default());
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let (story, addresses) = (Arc::clone(&story), addresses.clone());
            thread::spawn(move || write(number, &story, &addresses))
        })
        .collect();
    let mut deaths: Vec<(usize, Instant)> = Vec::new();
    let mut state = 0x2545_F491_4F6C_DD1D;
    for _ in 0..kills {
        let before = story.answers.load(Ordering::SeqCst);
        let some = next(&mut state) % 30;
        let what = "clients are answered";
        wait_until(LIMIT, what, || story.answers.load(Ordering::SeqCst) > before + some);
        let victim = next(&mut state) % herd.len();
        let name = herd[victim].name.clone();
        let dead = herd.remove(victim);
        dead.kill();
        deaths.push((victim, Instant::now()));
        herd.insert(victim, setup.start(&name));
    }
    story.is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.join().expect("a writer does not panic");
    }
    let progress = story.progress.lock().expect("the writers are gone").clone();
    let mut lost = 0;
    for (id, (answered, sent)) in &progress {
        let known = agreed(&herd, id);
        assert!(known.is_none_or(|known| known <= *sent), "{id}: nobody said {known:?}");
        let Some(Answered { timestamp, by, sent_at }) = answered else { continue };
        if known.is_some_and(|known| known >= *timestamp) {
            continue;
        }
        lost += 1;
        let died = deaths.iter().any(|(victim, death)| victim == by && death >= sent_at);
        assert!(died, "{id} {timestamp} is lost, and server {by}, which answered it, still lives");
    }
    let answers = story.answers.load(Ordering::SeqCst);
    println!(
        "{kills} deaths, {answers} updates answered, {} clients, {lost} last updates lost",
        progress.len()
    );
    assert!(answers > kills, "the clients have hardly written: {answers}");
}

/// One client after the other says where it is, at a server that happens to live.
fn write(number: usize, story: &Story, addresses: &[SocketAddr]) {
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ (number as u64 + 1);
    let mut timestamp = 1_000_000;
    while !story.is_over.load(Ordering::SeqCst) {
        let by = next(&mut state) % addresses.len();
        let Ok(mut client) = Client::try_connect(addresses[by]) else { continue };
        for _ in 0..next(&mut state) % 20 {
            timestamp += 1;
            let id = format!("w{number}.c{}", next(&mut state) % 50);
            let text = format!("{id} +{}.5-{}.25 {timestamp}", timestamp % 90, timestamp % 180);
            story.progress.lock().expect("a map").entry(id.clone()).or_default().1 = timestamp;
            let sent_at = Instant::now();
            if client.try_send(format!("IAMAT {text}\n")).is_err() {
                break;
            }
            match client.next(LIMIT) {
                Next::Line(line) => assert_eq!(line, format!("AT AT {text}").as_bytes()),
                Next::Silence => panic!("server {by} is silent"),
                _ => break, // It died.
            }
            let answered = Answered { timestamp, by, sent_at };
            story.progress.lock().expect("a map").entry(id).or_default().0 = Some(answered);
            story.answers.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The timestamp on which all servers agree in the end; none if none knows the client.
fn agreed(herd: &[ServerProcess], id: &str) -> Option<u64> {
    let mut known = Vec::new();
    wait_until(LIMIT, &format!("all agree on {id}"), || {
        known = herd.iter().map(|server| timestamp(server, id)).collect();
        known.iter().all(|one| *one == known[0])
    });
    known[0]
}

/// The timestamp that a server knows of a client.
fn timestamp(server: &ServerProcess, id: &str) -> Option<u64> {
    let mut client = server.client();
    client.send(format!("WHATSAT {id} 0 0\n"));
    let line = client.line();
    line.strip_prefix("AT AT ")?.rsplit(' ').next()?.parse().ok()
}

fn tell(server: &ServerProcess, id: &str, timestamp: u64) {
    let text = format!("{id} +1.0-2.0 {timestamp}");
    assert_eq!(server.client().ask(&format!("IAMAT {text}")), format!("AT AT {text}"));
}

fn wait_for<'a>(herd: impl IntoIterator<Item = &'a ServerProcess>, id: &str, wanted: u64) {
    for server in herd {
        let what = format!("{} knows {id} {wanted}", server.name);
        wait_until(LIMIT, &what, || timestamp(server, id) == Some(wanted));
    }
}
