//! Claim: several loops in one server (`loops`) behave as one server: every update reaches all of them, neighbours
//! receive it once, and a stop loses nothing.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use common::{Client, LIMIT, Next, ServerProcess, Setup, run_to_end, wait_until};

/// Connections enough that the kernel leaves no loop out: of three with a chance of 2⁻³⁷ at most.
const CROWD: usize = 64;

#[test]
fn an_update_sent_to_one_loop_reaches_all() {
    let setup = Setup::alone().top("loops = 3").any_port();
    let server = setup.start("Goloman");
    let mut crowd = crowd(&server);
    tell(&mut crowd, 1);
    wait_until_known(&mut crowd, 1);
    for worker in ["Goloman/2", "Goloman/3"] {
        server.wait_for_log(&format!("Received from {worker}: UPDATELOC client."));
        server.wait_for_log(&format!("location at +1.0+2.0 to {worker}."));
    }
    assert!(server.stop().success());
}

#[test]
fn loops_that_lost_each_other_reconnect() {
    let setup = Setup::alone().top("loops = 2").heartbeat("100ms").any_port();
    let server = setup.start("Goloman");
    let mut crowd = crowd(&server);
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(500)); // Longer than three heartbeats.
    server.signal(Signal::CONT);
    tell(&mut crowd, 1);
    wait_until_known(&mut crowd, 1);
}

#[test]
fn neighbours_see_one_server_and_receive_each_update_once() {
    let setup = Setup::star(&["Hands", "Holiday"]).top("loops = 2");
    let holiday = setup.play("Holiday");
    let goloman = setup.start("Goloman");
    let hands = setup.start("Hands");
    let mut link = holiday.greet_empty("00000000000000aa");
    assert_eq!(link.from, "Goloman");
    tell(&mut crowd(&goloman), 1);
    let (updates, _) = link.until_updates(CROWD);
    let ids: BTreeSet<_> = updates.iter().map(|line| line.split(' ').nth(1)).collect();
    assert_eq!((ids.len(), updates.len()), (CROWD, CROWD), "each once: {updates:#?}");
    assert!(updates.iter().all(|line| line.split(' ').nth(4) == Some("Goloman")), "{updates:#?}");
    assert!(holiday.accept_within(Duration::from_millis(100)).is_none(), "one link is enough");
    wait_until_known(&mut crowd(&hands), 1);
}

#[test]
fn a_stop_loses_nothing_that_any_loop_has_answered() {
    let setup = Setup::star(&["Hands"]).top("loops = 2");
    let hands = setup.start("Hands");
    let goloman = setup.start("Goloman");
    goloman.wait_for_log("The link to Hands is up");
    let mut crowd = crowd(&goloman);
    for timestamp in 1..=50 {
        tell(&mut crowd, timestamp);
    }
    assert!(goloman.stop().success());
    wait_until_known(&mut self::crowd(&hands), 50);
}

#[test]
fn unread_input_is_answered_by_every_loop_when_the_server_stops() {
    let setup = Setup::alone().top("loops = 2").any_port();
    let server = setup.start("Goloman");
    let mut crowd = crowd(&server);
    tell(&mut crowd, 1);
    for (place, client) in crowd.iter_mut().enumerate() {
        client.send(format!("IAMAT client.{place} +3.0+4.0 2\n"));
    }
    assert!(server.stop().success());
    for (place, client) in crowd.iter_mut().enumerate() {
        assert_eq!(client.line(), format!("AT AT client.{place} +3.0+4.0 2"));
        client.expect_end();
    }
}

#[test]
fn a_loop_that_ends_first_causes_no_warning_at_a_stop() {
    let setup = Setup::star(&["Hands"]).top("loops = 2");
    let hands = setup.play("Hands");
    let mut goloman = setup.start("Goloman");
    let mut link = hands.greet_empty("00000000000000aa");
    link.until_mark();
    tell(&mut crowd(&goloman), 1); // It is never acknowledged, so the first loop waits all of its grace.
    goloman.signal(Signal::TERM);
    assert_eq!(goloman.wait().code(), Some(0));
    let log = goloman.log();
    assert!(log.contains("Goloman/2 has stopped") && !log.contains("can't be reached"), "{log}");
}

#[test]
fn loops_share_the_connection_limit() {
    let limits = "[limits]\nclient_connections = 4";
    let setup = Setup::alone().top("loops = 2").section(limits).any_port();
    let server = setup.start("Goloman");
    let mut crowd = crowd(&server);
    for client in &mut crowd {
        // The write may show that one was rejected.
        let _ = client.try_send("IAMAT who.fits +1.0+2.0 1\n");
    }
    let fits = |client: &mut Client| matches!(client.next(LIMIT), Next::Line(_));
    assert_eq!(crowd.iter_mut().map(fits).filter(|&fits| fits).count(), 4);
}

#[test]
fn ports_of_a_server_that_runs_are_not_taken_by_another() {
    let setup = Setup::alone().top("loops = 2");
    let server = setup.start("Goloman");
    let second = run_to_end(setup.command("Goloman"));
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("can't listen for neighbours on"), "{}", second.stderr);
    for client in &mut crowd(&server) {
        assert_eq!(client.ask("IAMAT still.here +1.0+2.0 1"), "AT AT still.here +1.0+2.0 1");
    }
}

fn crowd(server: &ServerProcess) -> Vec<Client> {
    (0..CROWD).map(|_| server.client()).collect()
}

/// Each client sends its location.
fn tell(crowd: &mut [Client], timestamp: u32) {
    for (place, client) in crowd.iter_mut().enumerate() {
        let place = format!("client.{place} +1.0+2.0 {timestamp}");
        assert_eq!(client.ask(&format!("IAMAT {place}")), format!("AT AT {place}"));
    }
}

/// Waits until the update with this timestamp is known to whichever loops serve these clients.
fn wait_until_known(crowd: &mut [Client], timestamp: u32) {
    for client in crowd {
        for place in 0..CROWD {
            let id = format!("client.{place}");
            let line = format!("AT AT {id} +1.0+2.0 {timestamp}");
            wait_until(LIMIT, &line, || client.whatsat(&id, "1", "1").first == line);
        }
    }
}
