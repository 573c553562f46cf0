//! Claim: the loop decides by the first byte whether a connection uses TLS, no handshake holds others up or lasts too
//! long, who is no longer trusted is closed, and a TLS stream that is cut loses no whole line and passes no part of one.

use std::io::{Read, Write};
use std::iter;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use herd_mio::application::{Budget, Command, Dial, Policy, Target, Ticket, TlsId};
use herd_mio::event_loop::{Change, GroupRules, Limits, Listen, Security, Silent};

mod common;
#[path = "loop_tls/start.rs"]
mod start;
#[path = "loop_tls/world.rs"]
mod world;

use common::certificates::By;
use common::{LIMIT, raise_descriptor_limit};
use world::{ID, Pki, Start, TlsClient, ask, read_line, read_to_end};

/// Two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = listener.local_addr().expect("an address");
    let one = TcpStream::connect(to).expect("it listens");
    (listener.accept().expect("it connects").0, one)
}

const MS: fn(u64) -> Duration = Duration::from_millis;

fn limits(handshake_timeout: Duration) -> Limits {
    Limits { handshake_timeout, ..Limits::default() }
}

#[test]
fn the_first_byte_decides_and_is_part_of_the_line() {
    let pki = Pki::new();
    for security in [pki.both(), pki.tls_only()] {
        let running = Start::with(security).run();
        let mut plain = running.connect();
        assert_eq!(ask(&mut plain, "a line"), "a line!");
        assert_eq!(running.next(), "open at 0: plain");
        let mut tls = running.tls(&pki.client());
        assert_eq!(tls.ask("another"), "another!");
        assert_eq!(running.next(), "open at 0: 1.3");
        assert_eq!(ask(&mut plain, "one more"), "one more!");
        running.stop();
    }
}

/// However small the pieces are: the first one has only the type of a record.
#[test]
fn a_handshake_that_arrives_byte_by_byte_succeeds() {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    // A forwarder that passes one byte on at a time, and waits until it was read. After some it passes a few at a time: a
    // look whether they were read takes milliseconds on some machines, and the first record alone has 1,500 bytes.
    let (mut one, mut other) = (running.connect(), pair());
    let mut client = TlsClient::new(other.1, &pki.client());
    let mut answers = one.try_clone().expect("a descriptor");
    let mut to_client = other.0.try_clone().expect("a descriptor");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut piece = [0; 24];
            for number in 0.. {
                let most = if number < 100 { 1 } else { piece.len() };
                match other.0.read(&mut piece[..most]) {
                    Ok(count @ 1..) => one.write_all(&piece[..count]).expect("it is connected"),
                    _ => return,
                }
                common::sockets::wait_until_read(&one);
            }
        });
        scope.spawn(move || {
            let _ = std::io::copy(&mut answers, &mut to_client);
        });
        client.handshake().expect("a handshake");
        assert_eq!(client.ask("a line"), "a line!");
        drop(client);
        running.stop();
    });
}

#[test]
fn a_silent_connection_is_opened_as_plain_or_refused_when_its_time_is_over() {
    let pki = Pki::new();
    let running = Start { limits: limits(MS(100)), ..Start::with(pki.both()) }.run();
    let mut silent = running.connect();
    assert_eq!(running.next(), "open at 0: plain");
    assert_eq!(ask(&mut silent, "now"), "now!");
    running.stop();
    for security in [pki.tls_only(), Security::Tls(pki.server())] {
        let running = Start { limits: limits(MS(100)), ..Start::with(security) }.run();
        let mut silent = running.connect();
        assert_eq!(running.next(), "refused Timeout: not even a first byte came in time");
        assert_eq!(read_to_end(&mut silent), b"", "no text is written into a handshake");
        running.stop();
    }
}

/// As a load balancer asks whether somebody listens.
#[test]
fn an_end_without_a_byte_is_opened_and_ended_or_closed_quietly() {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    running.connect().shutdown(Shutdown::Write).expect("a socket");
    assert_eq!(running.next(), "open at 0: plain");
    assert_eq!(running.next(), "closed plain: Finished");
    running.stop();
    for security in [pki.tls_only(), Security::Tls(pki.server())] {
        let running = Start::with(security).run();
        let mut quiet = running.connect();
        quiet.shutdown(Shutdown::Write).expect("a socket");
        assert_eq!(read_to_end(&mut quiet), b"");
        let reset = running.connect();
        socket2::SockRef::from(&reset).set_linger(Some(Duration::ZERO)).expect("a socket");
        drop(reset);
        running.wait_until("none is in its handshake", |it| it.handshaking(ID).get() == 0);
        running.send("nothing else was reported");
        assert_eq!(running.next(), "nothing else was reported");
        running.stop();
    }
}

#[test]
fn a_first_byte_of_tls_and_then_silence_is_refused_in_time() {
    let pki = Pki::new();
    for security in [pki.both(), pki.tls_only(), Security::Tls(pki.server())] {
        let running = Start { limits: limits(MS(100)), ..Start::with(security) }.run();
        let mut one = running.connect();
        one.write_all(&[22]).expect("it is connected");
        let why = "refused Timeout: the TLS handshake was not complete in time";
        assert_eq!(running.next(), why);
        assert_eq!(read_to_end(&mut one), b"");
        running.change(Change { limits: Some(limits(LIMIT)), ..Change::default() });
        assert_eq!(running.tls(&pki.client()).ask("x"), "x!");
        running.stop();
    }
}

/// Each byte that comes in time prolongs nothing.
#[test]
fn a_handshake_that_drips_is_over_in_time() {
    let pki = Pki::new();
    let running = Start { limits: limits(MS(200)), ..Start::with(pki.both()) }.run();
    let mut slow = running.connect();
    // A record of 16 KiB, and in it a ClientHello: it has no end before the test has.
    let endless = [22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb].into_iter().chain(iter::repeat(0));
    let begin = Instant::now();
    for byte in endless {
        if slow.write_all(&[byte]).is_err() {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "it goes on for ever");
        std::thread::sleep(MS(5));
    }
    let why = running.next();
    assert!(why.starts_with("refused Timeout"), "{why}");
    running.stop();
}

#[test]
fn what_a_handshake_failed_at_is_reported() {
    let pki = Pki::new();
    let tls = pki.server_for(&["herd-ca.pem"]);
    let running = Start::with(Security::Tls(tls)).run();
    running.connect().write_all(b"IAMAT kiwi\n").expect("it is connected");
    let why = running.next();
    assert!(why.starts_with("refused Protocol: TLS with the client failed"), "{why}");
    let mut no_certificate = TlsClient::new(running.connect(), &pki.client());
    let _ = no_certificate.handshake().and_then(|()| no_certificate.line());
    let why = running.next();
    assert!(why.starts_with("refused Certificate: "), "{why}");
    let mut other_authority = TlsClient::new(running.connect(), &pki.client_of(By::Other));
    let _ = other_authority.handshake().and_then(|()| other_authority.line());
    let why = running.next();
    assert!(why.starts_with("refused Certificate: "), "{why}");
    let distrusts = pki.certificates.authorities("other-ca.pem");
    let distrusts =
        herd_mio::tls::ClientTls::new("localhost", Some(&distrusts), &[], Default::default());
    let mut distrusts = TlsClient::new(running.connect(), &distrusts.expect("a host"));
    distrusts.handshake().expect_err("another authority");
    let why = running.next();
    assert!(why.starts_with("refused Alert: "), "{why}");
    running.half_hellos(1, 1).pop().expect("one").shutdown(Shutdown::Write).expect("a socket");
    let why = running.next();
    assert!(why.starts_with("refused Closed: "), "{why}");
    running.stop();
}

#[test]
fn an_application_learns_what_tls_has_agreed_on_and_the_certificate() {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    let client = pki.client();
    let mut first = running.tls(&client);
    assert_eq!(first.ask("so that the ticket is read"), "so that the ticket is read!");
    let mut second = running.tls(&client);
    assert_eq!(second.ask("x"), "x!");
    assert_eq!([running.next(), running.next()], ["open at 0: 1.3", "open at 0: 1.3 resumed"]);
    let _undecided = running.connect();
    running.wait_until("it is accepted", |it| it.handshaking(ID).get() == 1);
    running.send("inspect");
    let seen = running.next();
    for part in ["1.3", "1.3 resumed", "not open, plain"] {
        assert!(seen.contains(part), "{seen}");
    }
    let class = &running.metrics.classes[0];
    assert_eq!((class.open.get(), class.tls.get(), class.tls_opened.get()), (2, 2, 2));
    first.close_notify();
    running.await_event("closed 1.3: Finished");
    assert_eq!((class.open.get(), class.tls.get(), class.tls_opened.get()), (1, 1, 2));
    running.stop();
    let running = Start::with(Security::Tls(pki.server_for(&["herd-ca.pem"]))).run();
    let mut certified = running.tls(&pki.client_of(By::Herd));
    assert_eq!(certified.ask("x"), "x!");
    assert_eq!(running.next(), "open at 0: 1.3 with a certificate");
    running.stop();
}

/// The time in which it says nothing does not count, the time in which it waits for the rest does.
#[test]
fn the_time_of_a_handshake_counts_from_its_first_byte() {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    let begin = Instant::now();
    let mut client = TlsClient::new(running.connect(), &pki.client());
    running.wait_until("it is accepted", |it| it.handshaking(ID).get() == 1);
    let silent = sleep(MS(60));
    client.flush();
    common::sockets::wait_until_read(client.tls.stream());
    let slow = sleep(MS(60));
    client.handshake().expect("a handshake");
    assert_eq!(client.ask("x"), "x!");
    let all = begin.elapsed();
    assert_eq!(running.next(), "open at 0: 1.3");
    running.send("took");
    let took = Duration::from_nanos(running.next().parse().expect("a number"));
    assert!(slow <= took && took <= all - silent, "{slow:?} <= {took:?} <= {all:?} - {silent:?}");
    running.stop();
}

/// Returns how long it took.
fn sleep(time: Duration) -> Duration {
    let begin = Instant::now();
    std::thread::sleep(time);
    begin.elapsed()
}

fn few_slots(pki: &Pki) -> Start {
    let limits = Limits { handshakes: 8, ..limits(LIMIT) };
    Start { limits, ..Start::with(pki.both()) }
}

#[test]
fn handshakes_that_go_no_further_hold_half_of_the_slots_and_nobody_elses() {
    let pki = Pki::new();
    let running = few_slots(&pki).run();
    let halves = running.half_hellos(1, 20);
    running.wait_until("the rest waits", |it| it.waiting_handshakes.get() == 16);
    assert_eq!(running.metrics.handshaking(ID).get(), 20);
    assert_eq!(ask(&mut running.connect(), "plain needs no slot"), "plain needs no slot!");
    assert_eq!(running.tls_from(2, &pki.client()).ask("x"), "x!", "another group has its own");
    let mut waits = TlsClient::new(running.connect(), &pki.client());
    waits.flush();
    running.wait_until("it waits", |it| it.waiting_handshakes.get() == 17);
    assert_eq!(running.metrics.rate_limited_handshakes.get(), 17);
    drop(halves);
    waits.handshake().expect("there is a slot");
    assert_eq!(waits.ask("y"), "y!");
    running.wait_until("none waits", |it| it.waiting_handshakes.get() == 0);
    running.wait_until("none is left", |it| it.handshaking(ID).get() == 0);
    running.stop();
}

#[test]
fn one_that_leaves_while_it_waits_holds_nothing() {
    let pki = Pki::new();
    let running = few_slots(&pki).run();
    let mut halves = running.half_hellos(1, 20);
    running.wait_until("the rest waits", |it| it.waiting_handshakes.get() == 16);
    halves.truncate(10);
    running.wait_until("ten wait no longer", |it| it.waiting_handshakes.get() == 6);
    assert_eq!(running.metrics.handshaking(ID).get(), 10);
    running.stop();
}

#[test]
fn one_that_waited_for_others_for_too_long_is_refused_as_that() {
    let pki = Pki::new();
    let within = |time| Limits { handshakes_per_second: 1, handshakes_burst: 1, ..limits(time) };
    let running = Start { limits: within(LIMIT), ..Start::with(pki.both()) }.run();
    let _first = running.tls(&pki.client());
    running.change(Change { limits: Some(within(MS(100))), ..Change::default() });
    let _second = running.half_hellos(1, 1);
    let why = running.await_event("refused Timeout");
    assert!(why.ends_with("its TLS handshake had to wait for others for too long"), "{why}");
    running.stop();
}

#[test]
fn a_group_begins_so_many_handshakes_and_then_waits_for_tokens() {
    let pki = Pki::new();
    let exempt = vec!["127.0.0.9/32".parse().expect("a prefix")];
    let limits = Limits { handshakes_per_second: 4, handshakes_burst: 2, exempt, ..limits(LIMIT) };
    let running = Start { limits, ..Start::with(pki.both()) }.run();
    let client = pki.client();
    let _open = [running.tls(&client), running.tls(&client)];
    let mut third = TlsClient::new(running.connect(), &client);
    third.flush();
    running.wait_until("it waits", |it| it.waiting_handshakes.get() == 1);
    let _exempt: Vec<_> = (0..4).map(|_| running.tls_from(9, &client)).collect();
    let _other = running.tls_from(2, &client);
    third.handshake().expect("there is a token");
    assert_eq!(third.ask("x"), "x!");
    assert_eq!(running.metrics.rate_limited_handshakes.get(), 1);
    running.stop();
}

#[test]
fn handshakes_beyond_the_budget_of_a_turn_are_served_in_the_next_ones() {
    const COUNT: usize = 60;
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    let client = pki.client();
    running.block();
    let mut all: Vec<TlsClient> =
        (0..COUNT).map(|_| TlsClient::new(running.connect(), &client)).collect();
    all.iter_mut().for_each(TlsClient::flush);
    running.go_on();
    for one in &mut all {
        one.handshake().expect("a handshake");
        assert_eq!(one.ask("x"), "x!");
    }
    assert!(running.metrics.budget(Budget::Handshakes).get() > 0);
    running.stop();
}

/// Those that are open go on as if nothing happened, and afterwards nothing is left of it.
#[test]
fn thousands_of_half_handshakes_delay_nobody_and_are_all_closed() {
    const COUNT: usize = 3_000;
    raise_descriptor_limit();
    let pki = Pki::new();
    let limits = limits(Duration::from_secs(3));
    let running = Start { limits, ..Start::with(pki.both()) }.run();
    let (mut plain, mut tls) = (running.connect(), running.tls(&pki.client()));
    assert_eq!((ask(&mut plain, "1"), tls.ask("1")), ("1!".to_owned(), "1!".to_owned()));
    running.wait_until("all is quiet", |it| it.handshaking(ID).get() == 0);
    let before = running.metrics.buffer_bytes.get();
    let halves = running.half_hellos(1, COUNT);
    for _ in 0..100 {
        assert_eq!((ask(&mut plain, "2"), tls.ask("2")), ("2!".to_owned(), "2!".to_owned()));
    }
    running.await_events("refused Timeout", COUNT);
    assert!(running.metrics.rate_limited_handshakes.get() > 0, "there are not so many slots");
    drop(halves);
    running.wait_until("none is left", |it| {
        it.handshaking(ID).get() == 0 && it.waiting_handshakes.get() == 0
    });
    assert_eq!((ask(&mut plain, "3"), tls.ask("3")), ("3!".to_owned(), "3!".to_owned()));
    running.wait_until("the memory is back", |it| it.buffer_bytes.get() <= before + 64 * 1024);
    running.stop();
}

#[test]
fn a_tls_stream_that_is_cut_passes_whole_lines_and_no_part_of_one() {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    let mut cut = running.tls(&pki.client());
    cut.send("whole\n15.98");
    cut.cut();
    assert_eq!(cut.line().expect("an answer"), "whole!");
    let why = "closed 1.3: Tls(Closed, \"the connection was cut; 5 bytes of an unfinished line \
               were dropped\")";
    assert_eq!(running.await_event("closed"), why);

    let mut reset = running.tls(&pki.client());
    reset.send("15.98");
    common::sockets::wait_until_read(reset.tls.stream());
    socket2::SockRef::from(&*reset.tls.stream())
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
    drop(reset);
    let why = running.await_event("closed");
    assert!(why.starts_with("closed 1.3: Broken(") && why.contains("5 bytes of an unfin"), "{why}");

    let mut clean = running.tls(&pki.client());
    clean.send("15.98");
    clean.close_notify();
    assert_eq!(clean.line().expect("an answer"), "unfinished 15.98!");
    assert_eq!(running.await_event("closed"), "closed 1.3: Finished");
    running.stop();
}

/// As a load balancer asks whether TLS works: nothing of it is a failure, and it does not depend on how much of it one
/// read finds.
#[test]
fn a_client_that_ends_with_the_last_message_of_its_handshake_has_completed_it() {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    let mut clean = TlsClient::new(running.connect(), &pki.client());
    clean.complete_unsent();
    clean.close_notify();
    assert_eq!(running.next(), "open at 0: 1.3");
    assert_eq!(running.next(), "closed 1.3: Finished");
    let end = clean.line().expect_err("it ends");
    assert_eq!(end.kind(), std::io::ErrorKind::NotConnected, "with close_notify");

    let mut cut = TlsClient::new(running.connect(), &pki.client());
    cut.complete_unsent();
    running.block(); // So that it finds all of it at once.
    cut.flush();
    cut.cut();
    running.go_on();
    assert_eq!(running.next(), "open at 0: 1.3");
    assert_eq!(running.next(), "closed 1.3: Tls(Closed, \"the connection was cut\")");

    let mut faulty = TlsClient::new(running.connect(), &pki.client());
    faulty.complete_unsent();
    running.block();
    faulty.flush();
    faulty.tls.stream().write_all(&[23, 3, 3, 0, 17, 0, 0, 0, 0, 0]).expect("it is connected");
    faulty.tls.stream().write_all(&[0; 12]).expect("it is connected");
    running.go_on();
    assert_eq!(running.next(), "open at 0: 1.3");
    let why = running.next();
    assert!(why.starts_with("closed 1.3: Tls(") && why.contains("can't be decrypted"), "{why}");
    running.stop();
}

/// Who delays a record could cut a line.
#[test]
fn a_pause_ends_no_line_under_tls() {
    let pki = Pki::new();
    let policy = Policy { line_pause: Some(MS(50)), ..Policy::lines(100) };
    let running = Start { policy, ..Start::with(pki.both()) }.run();
    let (mut tls, mut plain) = (running.tls(&pki.client()), running.connect());
    tls.send("ha");
    common::sockets::wait_until_read(tls.tls.stream());
    plain.write_all(b"ha").expect("it is connected");
    assert_eq!(read_line(&mut plain), "unfinished ha!", "the pause is over");
    assert_eq!(tls.ask("lf"), "half!");
    running.stop();
}

#[test]
fn answers_still_owed_are_sent_after_close_notify() {
    let pki = Pki::new();
    let running = Start::with(pki.both()).run();
    let mut client = running.tls(&pki.client());
    client.send("first\nwait\n");
    client.close_notify();
    client.cut(); // The end of the stream below follows, as socat sends it.
    running.await_event("waits");
    running.send("go");
    assert_eq!(client.line().expect("an answer"), "first!");
    assert_eq!(client.line().expect("an answer"), "late!");
    let end = client.line().expect_err("it ends");
    assert_eq!(end.kind(), std::io::ErrorKind::NotConnected, "with close_notify");
    running.stop();
}

#[test]
fn a_listener_changes_between_plain_both_and_tls_and_what_is_open_stays() {
    let pki = Pki::new();
    let client = pki.client();
    let running = Start::with(Security::Plain).run();
    let mut plain = running.connect();
    assert_eq!(ask(&mut plain, "1"), "1!");
    let mut hello = running.connect();
    hello.write_all(b"\x16\x03\x01\n").expect("it is connected");
    assert_eq!(read_line(&mut hello), "\u{16}\u{3}\u{1}!", "a line like any other");
    running.secure(pki.both());
    let mut tls = running.tls(&client);
    assert_eq!(ask(&mut running.connect(), "2"), "2!");
    let mut undecided = running.connect();
    running.wait_until("it is accepted", |it| it.handshaking(ID).get() == 1);
    running.secure(Security::Tls(pki.server()));
    let mut late = TlsClient::new(undecided.try_clone().expect("a descriptor"), &client);
    late.handshake().expect("a handshake by the rules of now");
    running.connect().write_all(b"plain\n").expect("it is connected");
    assert!(running.await_event("refused").starts_with("refused Protocol"));
    // This one waits in the kernel while the change comes.
    running.block();
    let mut waits = running.connect();
    waits.write_all(b"3\n").expect("it is connected");
    let change = Change { security: vec![(ID, Security::Plain)], ..Change::default() };
    running.mailbox.reconfigure(change, |done| format!("changed: {done:?}")).expect("it runs");
    running.go_on();
    assert_eq!(running.await_event("changed"), "changed: Ok(())");
    assert_eq!(read_line(&mut waits), "3!");
    assert_eq!((ask(&mut plain, "4"), tls.ask("4")), ("4!".to_owned(), "4!".to_owned()));
    assert_eq!(late.ask("4"), "4!");
    undecided.set_nonblocking(false).expect("a socket");
    undecided.flush().expect("it is open");
    running.stop();
}

/// More of them than one turn verifies.
#[test]
fn connections_whose_authority_is_replaced_are_closed_and_no_others() {
    const COUNT: usize = 40;
    let pki = Pki::new();
    let (herd, clients) = (pki.client_of(By::Herd), pki.client_of(By::Clients));
    let asks = |authorities: &[&str]| Security::Either {
        tls: pki.server_for(authorities),
        silent: Silent::Open,
    };
    let running = Start::with(asks(&["herd-ca.pem", "clients-ca.pem"])).run();
    let mut plain = running.connect();
    assert_eq!(ask(&mut plain, "1"), "1!");
    let mut old: Vec<TlsClient> = (0..COUNT).map(|_| running.tls(&herd)).collect();
    let mut new: Vec<TlsClient> = (0..COUNT).map(|_| running.tls(&clients)).collect();
    old.iter_mut().chain(&mut new).for_each(|one| assert_eq!(one.ask("1"), "1!"));
    running.secure(asks(&["clients-ca.pem", "herd-ca.pem"]));
    old.iter_mut().chain(&mut new).for_each(|one| assert_eq!(one.ask("2"), "2!"));
    running.secure(asks(&["clients-ca.pem"]));
    for why in running.await_events("closed", COUNT) {
        assert!(why.starts_with("closed 1.3: Untrusted(\"the certificate of the client"), "{why}");
    }
    new.iter_mut().for_each(|one| assert_eq!(one.ask("3"), "3!"));
    assert_eq!(ask(&mut plain, "3"), "3!");
    old.iter_mut().for_each(|one| drop(one.line().expect_err("it is closed")));
    running.stop();
}

/// The rules that held when it began would let it in.
#[test]
fn a_handshake_that_ends_after_a_change_is_judged_by_the_new_rules() {
    let pki = Pki::new();
    let asks = |name: &str| Security::Tls(pki.server_for(&[name]));
    let running = Start::with(asks("herd-ca.pem")).run();
    let mut client = TlsClient::new(running.connect(), &pki.client_of(By::Herd));
    client.flush();
    common::sockets::wait_until_read(client.tls.stream());
    running.secure(asks("clients-ca.pem"));
    let _ = client.handshake().and_then(|()| client.line());
    let why = running.next();
    assert!(why.starts_with("refused Certificate: the certificate of the client"), "{why}");
    running.stop();
}

#[test]
fn a_dialled_connection_is_verified_again_when_its_tls_changes() {
    let pki = Pki::new();
    let server = Start::with(Security::Tls(pki.server_for(&["herd-ca.pem"]))).run();
    pki.client_of(By::Herd);
    let trusts = |authorities| pki.client_with("client-Herd", authorities);
    let dial = |ticket, tls| {
        let dial = Dial::new(Ticket(ticket), Target::Address(server.address));
        Command::Dial(Dial { tls: Some(TlsId(tls)), timeout: LIMIT, ..dial })
    };
    let ids = [7, 300];
    let start = Start {
        dials: ids.map(|id| (TlsId(id), trusts("herd-ca.pem"))).to_vec(),
        commands: vec![dial(1, ids[0]), dial(2, ids[1])],
        ..Start::with(Security::Plain)
    };
    let running = start.run();
    let mut open = running.await_events("dialled", 2);
    open.sort();
    assert_eq!(open, [1, 2].map(|ticket| format!("dialled {ticket}: 1.3 with a certificate")));
    let client_tls = vec![(TlsId(300), trusts("other-ca.pem"))];
    running.change(Change { client_tls, ..Change::default() });
    let why = running.await_event("closed");
    assert!(why.starts_with("closed 1.3: Untrusted(\"the certificate of "), "{why}");
    running.send("inspect");
    assert_eq!(running.next(), "inspected 1.3", "the other one stays");
    running.stop();
    server.stop();
}

/// What was received is answered, and who has sent no request holds nothing up.
#[test]
fn a_stop_finds_connections_in_each_state() {
    let pki = Pki::new();
    for security in [pki.both(), pki.tls_only(), Security::Tls(pki.server())] {
        let takes_plain = !matches!(security, Security::Tls(_));
        let limits = Limits { handshakes: 4, grace: LIMIT, ..limits(LIMIT) };
        let running = Start { limits, ..Start::with(security) }.run();
        let mut open = running.tls_from(2, &pki.client());
        let mut silent = running.connect();
        let mut halves = running.half_hellos(1, 4);
        running.wait_until("two of them wait", |it| it.waiting_handshakes.get() == 2);
        running.wait_until("all are accepted", |it| it.handshaking(ID).get() == 5);
        running.block();
        open.send("a line in the kernel\n");
        silent.set_nodelay(true).expect("a socket");
        let mut plain = running.connect_from(3);
        plain.write_all(b"another\n").expect("it is connected");
        let mut backlog = running.connect_from(4);
        running.mailbox.stop().expect("it runs");
        running.go_on();
        assert_eq!(open.line().expect("an answer"), "a line in the kernel!");
        if takes_plain {
            assert_eq!(read_line(&mut plain), "another!");
        }
        for one in halves.iter_mut().chain([&mut silent, &mut backlog]) {
            assert_eq!(read_to_end(one), b"");
        }
        let stopped = running.stop_is_over();
        assert!(!stopped.grace_expired && stopped.still_open == 0);
    }
}

#[test]
fn connections_in_their_handshake_count_for_the_limit_and_leave_first_by_fair_share() {
    let pki = Pki::new();
    let fair = |listen| Listen {
        connections: 3,
        groups: GroupRules { fair_share: true, per_group: 0 },
        ..listen
    };
    let running = Start { listen: fair, ..Start::with(pki.both()) }.run();
    let mut halves: Vec<TcpStream> = running.half_hellos(1, 2);
    let _silent = running.connect();
    running.wait_until("all are accepted", |it| it.handshaking(ID).get() == 3);
    assert_eq!(ask(&mut running.connect_from(2), "x"), "x!");
    let first = halves[0].local_addr().expect("an address");
    let why = format!("refused Limit({first})");
    assert_eq!(running.await_event("refused"), why, "that is no failed handshake");
    assert_eq!(running.metrics.handshaking(ID).get(), 2);
    assert_eq!(read_to_end(&mut halves[0]), b"");
    running.stop();
}
