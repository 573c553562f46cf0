//! A neighbour is reached by each of its working addresses, whatever the others and the resolver do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use crate::common::names::{BlackHole, LocalNames, Mute, own_loopback};
use crate::common::needs::{Missing, Outcome};
use crate::common::setup::each_learns_of_the_other;
use crate::common::{FakeNeighbour, LIMIT, ServerProcess, Setup, wait_until};

/// Runs of neighbours that we play.
const FIRST_RUN: &str = "00000000000000aa";

/// A herd of Goloman and Hands, where Hands is dialled by the name `hands.herd`, which stands for `count` addresses.
/// They come in the order in which Goloman tries them, each with Hands' port.
fn by_name(count: u8) -> Result<(Setup, LocalNames, Vec<SocketAddr>), Missing> {
    let mut setup = Setup::star(&["Hands"]).heartbeat("1s");
    let port = setup.peers_address("Hands").port();
    setup.detour_by_name("Goloman", "Hands", &format!("hands.herd:{port}"));
    // The tests of one process run side by side, and have each their own.
    static NEXT: AtomicU8 = AtomicU8::new(10);
    let first = NEXT.fetch_add(count, Ordering::SeqCst);
    let lines: Vec<_> =
        (0..count).map(|number| format!("{} hands.herd\n", own_loopback(first + number))).collect();
    let names = LocalNames::new(&setup, &format!("127.0.0.1 localhost\n{}", lines.concat()))?;
    let order = names.order("hands.herd");
    assert_eq!(order.len(), usize::from(count), "{order:?}");
    let addresses = order.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    Ok((setup, names, addresses))
}

fn warnings(server: &ServerProcess, about: &str) -> Vec<String> {
    let log = server.log();
    let records = log.lines().filter(|record| record.contains(" - WARNING: "));
    records.filter(|record| record.contains(about)).map(str::to_owned).collect()
}

pub fn an_address_that_accepts_and_says_nothing_does_not_keep_a_link_from_the_next() -> Outcome {
    let (setup, names, addresses) = by_name(3)?;
    let mute = [Mute::listen(addresses[0]), Mute::listen(addresses[1])];
    let hands = FakeNeighbour::listen("Hands", addresses[2]);
    let goloman = names.start(&setup, "Goloman");
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    assert!(mute.iter().all(|mute| mute.connections() > 0), "in the order of the look-up");
    // What worked last is tried first from then on, whatever the look-ups say.
    for _ in 0..2 {
        drop(link);
        link = hands.greet_empty(FIRST_RUN);
        link.until_mark();
    }
    assert!(mute.iter().all(|mute| mute.connections() == 0), "nobody else was tried");
    assert_eq!(warnings(&goloman, "Link to Hands lost"), [""; 0]);
    Ok(())
}

pub fn an_address_that_drops_every_packet_does_not_keep_a_link_from_the_next() -> Outcome {
    let (setup, names, addresses) = by_name(2)?;
    let _hole = BlackHole::listen(addresses[0])?;
    let hands = FakeNeighbour::listen("Hands", addresses[1]);
    let _goloman = names.start(&setup, "Goloman");
    hands.greet_empty(FIRST_RUN).until_mark();
    Ok(())
}

pub fn an_address_at_which_somebody_else_answers_does_not_keep_a_link_from_the_next() -> Outcome {
    let (setup, names, addresses) = by_name(4)?;
    // No listener, a web server, and another server of the herd.
    let web = FakeNeighbour::listen("web", addresses[1]);
    let wilkes = FakeNeighbour::listen("Wilkes", addresses[2]);
    let hands = FakeNeighbour::listen("Hands", addresses[3]);
    let goloman = names.start(&setup, "Goloman");
    let is_over = AtomicBool::new(false);
    let answers = |neighbour: &FakeNeighbour, answer: &str| {
        while !is_over.load(Ordering::SeqCst) {
            if let Some(mut client) = neighbour.accept_within(Duration::from_millis(50)) {
                _ = client.try_send(answer);
                client.is_closed_within(LIMIT);
            }
        }
    };
    let is_reached = std::thread::scope(|scope| {
        scope.spawn(|| answers(&web, "HTTP/1.1 400 Bad Request\r\n\r\n"));
        scope.spawn(|| answers(&wilkes, &format!("RESUME 0 0 {FIRST_RUN} Wilkes\n")));
        let reached = hands.accept_within(LIMIT);
        is_over.store(true, Ordering::SeqCst);
        reached.is_some()
    });
    assert!(is_reached, "nobody dials the last address");
    goloman.wait_for_log("ERROR: Hands was dialled, and Wilkes answered");
    Ok(())
}

pub fn a_name_of_twenty_addresses_is_reached_by_the_last_of_them() -> Outcome {
    let (setup, names, addresses) = by_name(20)?;
    let hands = FakeNeighbour::listen("Hands", addresses[19]);
    let _goloman = names.start(&setup, "Goloman");
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    Ok(())
}

pub fn unanswered_look_ups_delay_no_other_name() -> Outcome {
    let silent = ["Wilkes", "Holiday", "Welsh"];
    let mut setup = Setup::star(&[&silent[..], &["Hands"]].concat()).heartbeat("1s");
    for name in silent {
        setup.detour_by_name("Goloman", name, &format!("{}.example:9", name.to_lowercase()));
    }
    let port = setup.peers_address("Hands").port();
    setup.detour_by_name("Goloman", "Hands", &format!("localhost:{port}"));
    let names = LocalNames::new(&setup, "127.0.0.1 localhost\n")?;
    let hands = setup.play("Hands");
    let goloman = names.start(&setup, "Goloman");
    hands.greet_empty(FIRST_RUN).until_mark();
    // The name is looked up again for the next dial, and the others hang still.
    hands.greet_empty(FIRST_RUN).until_mark();
    // Nor does the gazetteer wait, which a thread unpacks.
    let mut client = goloman.client();
    client.ask("IAMAT kiwi +34.068930-118.445127 10");
    assert!(client.ask("WHATSAT kiwi 10 1").starts_with("AT "));
    // Nor the end of the server.
    assert!(goloman.stop().success());
    Ok(())
}

pub fn an_earlier_look_up_result_is_used_while_the_next_one_hangs() -> Outcome {
    let (setup, names, addresses) = by_name(1)?;
    let hands = FakeNeighbour::listen("Hands", addresses[0]);
    let _goloman = names.start(&setup, "Goloman");
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    names.change("127.0.0.1 localhost\n");
    for _ in 0..3 {
        drop(link);
        link = hands.greet_empty(FIRST_RUN);
        link.until_mark();
    }
    Ok(())
}

pub fn a_name_is_looked_up_for_every_dial() -> Outcome {
    let (setup, names, addresses) = by_name(1)?;
    let hands = FakeNeighbour::listen("Hands", addresses[0]);
    let _goloman = names.start(&setup, "Goloman");
    let mut link = hands.greet_empty(FIRST_RUN);
    link.until_mark();
    let port = addresses[0].port();
    let moved = FakeNeighbour::listen("Hands", SocketAddr::from(([127, 0, 0, 1], port)));
    names.change("127.0.0.1 localhost hands.herd\n");
    drop((link, hands));
    moved.greet_empty(FIRST_RUN).until_mark();
    Ok(())
}

/// It moved while our link to it looked fine, so that nothing else would make us look its name up again.
pub fn a_neighbour_that_moved_is_known_by_its_new_address_once_it_has_called() -> Outcome {
    let (setup, names, addresses) = by_name(2)?;
    let hands = FakeNeighbour::listen("Hands", addresses[0]);
    let goloman = names.start(&setup, "Goloman");
    let mut link = hands.greet_empty(FIRST_RUN);
    names.change("127.0.0.1 localhost hands.herd\n");
    wait_until(LIMIT, "its HELLO from there is taken", || {
        let (_, mark) = link.until_mark_silently();
        link.ack(mark);
        let answer = goloman.peer().ask(&format!("HELLO herd/1 Hands {FIRST_RUN}"));
        answer.starts_with("RESUME ")
    });
    assert_eq!(warnings(&goloman, "ink to Hands"), [""; 0], "the link was up all the time");
    Ok(())
}

pub fn servers_at_a_loopback_and_at_another_address_of_the_host_know_each_other() -> Outcome {
    // No packet is sent: the kernel only says by which local address it would be.
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    let is_there = probe.connect("192.0.2.1:9").is_ok();
    let other: Option<IpAddr> = probe.local_addr().ok().map(|address| address.ip());
    let other = other.filter(|ip| is_there && !ip.is_loopback() && !ip.is_unspecified());
    let missing = || Missing::Kernel("this host has no address but the loopback's".to_owned());
    each_learns_of_the_other(Ipv4Addr::LOCALHOST.into(), other.ok_or_else(missing)?);
    Ok(())
}

pub fn a_name_that_nobody_answers_for_is_a_reason() -> Outcome {
    let mut setup = Setup::star(&["Hands"]).heartbeat("1s");
    setup.detour_by_name("Goloman", "Hands", "no.such.host.invalid:9");
    let names = LocalNames::new(&setup, "127.0.0.1 localhost\n")?;
    let goloman = names.start(&setup, "Goloman");
    goloman.wait_for_log("WARNING: Hands can't be reached: no.such.host.invalid:9 ");
    Ok(())
}
