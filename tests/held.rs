//! Claim: an IAMAT is answered once what it says is kept, and never before; IAMATs do not wait for each other, whatever
//! else a client sends waits for the answers before it, and no answer that is owed is lost in a stop, a drain, at the end
//! of the client's input, or to make room for another client.
//!
//! A real server on its loop, in a thread; only the disk is the test's: it commits when the test says so.

mod common;
#[path = "held/world.rs"]
mod world;

use std::time::Duration;

use common::{Client, LIMIT, Next, wait_until};
use herd_mio::event_loop::Limits;
use herd_mio::herd::AnswerAfter;
use herd_mio::server::StateMessage;
use herd_mio::server::metrics::{ClosedReason, Kind, LineCommand, Paused};
use world::{QUIET, World, lines};

/// A timestamp of 2016.
const TIME: &str = "1479413884.392014450";

fn iamat(id: &str) -> String {
    format!("IAMAT {id} +34.068930-118.445127 {TIME}\n")
}

fn expect_at(client: &mut Client, id: &str) {
    assert_eq!(client.line(), format!("AT AT {id} +34.068930-118.445127 {TIME}"));
}

#[test]
fn an_iamat_is_answered_once_its_update_is_committed_and_not_before() {
    let world = World::new();
    let mut client = world.client();
    client.send(iamat("kiwi"));
    let batch = world.batch();
    assert!(batch.must_sync, "an answer waits for it");
    assert!(lines(&batch)[0].contains(" kiwi "), "{batch:?}");
    client.expect_silence(QUIET);
    assert_eq!((world.held(), world.paused(Paused::Kept)), (1, 1));
    world.say(StateMessage::Committed(batch.number));
    expect_at(&mut client, "kiwi");
    assert_eq!((world.held(), world.paused(Paused::Kept)), (0, 0));
    let took = world.metrics.answers[LineCommand::Iamat as usize].sum();
    assert!(took >= QUIET, "{took:?}");
    // What is kept already is answered at once.
    client.send(iamat("kiwi"));
    expect_at(&mut client, "kiwi");
    world.expect_no_batch();
}

#[test]
fn a_batch_that_fails_is_handed_over_again_and_nobody_is_answered_before() {
    let world = World::new();
    let mut client = world.client();
    client.send(iamat("kiwi"));
    for number in 1..=3 {
        let batch = world.batch();
        assert_eq!((batch.number, batch.updates), (number, 1));
        client.expect_silence(QUIET);
        world.say(StateMessage::Failed(batch.number));
    }
    world.commit();
    expect_at(&mut client, "kiwi");
}

/// 64 clients send 16 lines each. One after the other they would need 1,024 commits.
#[test]
fn iamats_of_a_connection_do_not_wait_for_each_other_and_are_answered_in_their_order() {
    let world = World::new();
    let mut clients: Vec<Client> = (0..64).map(|_| world.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let batch: String = (0..16).map(|line| iamat(&format!("{number}.{line}"))).collect();
        client.send(batch);
    }
    world.wait_until_held(64 * 16);
    let updates = world.commit().updates;
    if updates < 64 * 16 {
        assert_eq!(updates + world.commit().updates, 64 * 16);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        (0..16).for_each(|line| expect_at(client, &format!("{number}.{line}")));
    }
    world.expect_no_batch();
}

#[test]
fn a_stale_iamat_is_answered_once_the_newer_update_is_committed() {
    let world = World::new();
    let (mut new, mut old) = (world.client(), world.client());
    new.send("IAMAT kiwi +1+1 1479413884\n");
    world.wait_until_held(1);
    old.send("IAMAT kiwi +2+2 1479413883\n");
    world.wait_until_held(2);
    world.commit();
    assert!(new.line().ends_with("kiwi +1+1 1479413884"));
    assert!(old.line().ends_with("kiwi +2+2 1479413883"), "its answer repeats its own line");
}

#[test]
fn whatever_is_no_iamat_waits_for_the_answers_before_it() {
    let world = World::new();
    let mut client = world.client();
    // The first query waits in any case: the places are unpacked for it.
    client.send(iamat("crow"));
    world.wait_until_held(1);
    world.commit();
    expect_at(&mut client, "crow");
    client.send("WHATSAT crow 10 1\n");
    assert!(client.answer().first.starts_with("AT "));
    let whatsat = "WHATSAT kiwi 10 1\n";
    client.send([&iamat("kiwi"), whatsat, "WHAT?\n", &iamat("emu"), &iamat("owl")].concat());
    world.wait_until_held(1);
    client.expect_silence(QUIET);
    assert_eq!(lines(&world.commit()).len(), 1, "the lines behind a WHATSAT are not handled");
    expect_at(&mut client, "kiwi");
    assert!(client.answer().first.starts_with("AT "));
    assert_eq!(client.line(), "? WHAT?");
    world.wait_until_held(2);
    client.expect_silence(QUIET);
    world.commit_until(0);
    expect_at(&mut client, "emu");
    expect_at(&mut client, "owl");
}

#[test]
fn refusals_come_in_their_turn_and_the_last_one_ends_the_connection() {
    let world = World::of(|plan| {
        plan.config.limits.line_bytes = 100;
        plan.config.max_future = Duration::from_secs(60);
    });
    let mut client = world.client();
    let (future, long) = (format!("IAMAT emu +1+1 {}\n", u32::MAX), "x".repeat(200));
    client.send([&iamat("kiwi"), &future, &iamat("owl"), &long, "\n"].concat());
    world.wait_until_held(1);
    client.expect_silence(QUIET);
    world.commit();
    expect_at(&mut client, "kiwi");
    assert_eq!(client.line(), format!("? {}", future.trim_end()));
    world.wait_until_held(1);
    world.commit_until(0);
    expect_at(&mut client, "owl");
    assert!(client.line().starts_with("? xxx"));
    client.expect_end();
}

#[test]
fn a_half_closed_connection_gets_the_answers_that_it_is_owed_and_then_its_end() {
    let world = World::new();
    let mut client = world.client();
    client.send([iamat("kiwi"), iamat("emu")].concat());
    client.half_close();
    world.wait_until_held(2);
    client.expect_silence(QUIET);
    world.commit_until(0);
    expect_at(&mut client, "kiwi");
    expect_at(&mut client, "emu");
    client.expect_end();
    // The same with a last line that waits, and has no end of its own.
    let mut client = world.client();
    client.send([&iamat("owl"), "WHAT?"].concat());
    client.half_close();
    world.wait_until_held(1);
    client.expect_silence(QUIET);
    world.commit();
    expect_at(&mut client, "owl");
    assert_eq!(client.line(), "? WHAT?");
    client.expect_end();
}

#[test]
fn a_new_id_waits_for_its_token_and_then_for_its_commit() {
    let world = World::of(|plan| {
        let limits = &mut plan.config.limits;
        (limits.new_ids_per_second, limits.new_ids_burst) = (1, 1);
        limits.exempt.clear();
    });
    let mut client = world.client();
    client.send([&iamat("kiwi"), &iamat("emu"), "WHAT?\n"].concat());
    wait_until(LIMIT, "a line waits for a token", || world.paused(Paused::NewIds) == 1);
    world.commit();
    expect_at(&mut client, "kiwi");
    let batch = world.batch();
    assert!(lines(&batch)[0].contains(" emu "));
    client.expect_silence(QUIET);
    world.say(StateMessage::Committed(batch.number));
    expect_at(&mut client, "emu");
    assert_eq!(client.line(), "? WHAT?");
}

#[test]
fn a_stop_waits_for_the_answers_that_are_held_back() {
    let world = World::new();
    let (mut client, mut idle) = (world.client(), world.client());
    assert_eq!(idle.ask("?"), "? ?");
    client.send(iamat("kiwi"));
    let batch = world.batch();
    world.wait_until_held(1);
    world.stop();
    idle.expect_end();
    client.expect_silence(QUIET);
    assert!(world.is_running());
    world.say(StateMessage::Committed(batch.number));
    expect_at(&mut client, "kiwi");
    client.expect_end();
    let stopped = world.end();
    assert_eq!((stopped.still_open, stopped.grace_expired), (0, false));
}

#[test]
fn a_stop_waits_until_the_disk_has_everything_whoever_waits_for_it() {
    let world = World::of(|plan| plan.answer_after = AnswerAfter::default());
    let mut client = world.client();
    client.send(iamat("kiwi"));
    expect_at(&mut client, "kiwi");
    let batch = world.batch();
    assert!(!batch.must_sync);
    client.send(iamat("emu"));
    expect_at(&mut client, "emu");
    world.stop();
    client.expect_end();
    std::thread::sleep(QUIET);
    assert!(world.is_running());
    world.say(StateMessage::Committed(batch.number));
    assert!(lines(&world.commit())[0].contains(" emu "));
    assert!(!world.end().grace_expired);
}

#[test]
fn a_stop_waits_for_a_disk_that_commits_nothing_no_longer_than_its_grace_time() {
    let grace = Duration::from_millis(200);
    let world = World::of(|plan| plan.limits = Limits { grace, ..Limits::default() });
    let mut client = world.client();
    client.send(iamat("kiwi"));
    world.wait_until_held(1);
    world.stop();
    let batch = world.batch();
    assert_eq!(batch.number, 1);
    let stopped = world.end();
    assert_eq!((stopped.still_open, stopped.grace_expired), (1, true));
    assert!(matches!(client.next(LIMIT), Next::End(rest) if rest.is_empty()), "no answer");
}

#[test]
fn a_drain_closes_a_client_only_once_it_has_its_answers() {
    let world = World::of(|plan| {
        plan.limits.drain_duration = LIMIT;
        plan.config.stop.drain_delay = Duration::ZERO;
    });
    let (mut client, mut idle) = (world.client(), world.client());
    client.send(iamat("kiwi"));
    let batch = world.batch();
    world.wait_until_held(1);
    assert_eq!(idle.ask("?"), "? ?");
    world.mailbox.drain().expect("it runs");
    idle.expect_end();
    client.expect_silence(QUIET);
    world.say(StateMessage::Committed(batch.number));
    expect_at(&mut client, "kiwi");
    client.expect_end();
    let drained = &world.metrics.closed[Kind::Client as usize][ClosedReason::Drained as usize];
    wait_until(LIMIT, "both were drained", || drained.get() == 2);
    assert!(!world.end().grace_expired);
}

#[test]
fn a_client_that_dies_takes_its_answers_with_it_and_nobody_elses() {
    let world = World::new();
    let (mut dying, mut other) = (world.client(), world.client());
    dying.send([&iamat("kiwi"), &iamat("emu"), "WHAT?\n"].concat());
    world.wait_until_held(2);
    other.send(iamat("kiwi"));
    world.wait_until_held(3);
    dying.reset();
    // It is not read while a line waits, so the reset shows when its answers are sent.
    world.commit_until(0);
    expect_at(&mut other, "kiwi");
    let mut dying = world.client();
    dying.send(iamat("owl"));
    world.wait_until_held(1);
    dying.reset();
    world.wait_until_held(0);
    assert_eq!(world.paused(Paused::Kept), 0);
    world.commit();
    assert_eq!(other.ask("?"), "? ?");
}

#[test]
fn a_connection_whose_held_answers_take_too_much_is_not_read_until_some_are_given() {
    const LINES: usize = 20_000;
    let world = World::of(|plan| plan.config.limits.output_bytes = 65_536);
    let mut client = world.client();
    let writer = {
        let mut client = Client::of(client.stream.try_clone().expect("a descriptor"));
        std::thread::spawn(move || (0..LINES).for_each(|n| client.send(iamat(&n.to_string()))))
    };
    let mut before = 0;
    wait_until(LIMIT, "nothing more is read", || {
        std::thread::sleep(QUIET);
        let held = world.held();
        held > 0 && std::mem::replace(&mut before, held) == held
    });
    // An answer has some 70 bytes, and 40 go with it.
    assert!((300..1_000).contains(&before), "{before} answers are held back");
    assert!(client.next(QUIET) == Next::Silence);
    let mut given = 0;
    while given < LINES {
        let held = world.held();
        assert!(held < 2_000, "{held} answers are held back");
        let _ = world.commit();
        // Whatever was in that batch, and is in the socket by now.
        while let Next::Line(line) = client.next(Duration::from_millis(1)) {
            let end = format!(" {given} +34.068930-118.445127 {TIME}");
            assert!(line.ends_with(end.as_bytes()), "{}", common::shown(&line));
            given += 1;
        }
    }
    writer.join().expect("it does not panic");
}

#[test]
fn all_that_wait_for_one_client_are_answered_by_the_commit_of_its_newest_update() {
    const CLIENTS: usize = 200;
    let world = World::new();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| world.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("IAMAT hot +1+1 {}\n", 1_479_413_000 + number * 7 % CLIENTS));
    }
    world.wait_until_held(CLIENTS as u64);
    let first = world.commit();
    assert_eq!(first.updates, 1);
    world.commit_until(0);
    for (number, client) in clients.iter_mut().enumerate() {
        let end = format!(" hot +1+1 {}", 1_479_413_000 + number * 7 % CLIENTS);
        assert!(client.line().ends_with(&end));
    }
}

#[test]
fn a_client_that_is_owed_an_answer_does_not_make_room_for_another_one() {
    let world = World::of(|plan| {
        plan.listen.connections = 2;
        plan.listen.evict_after = Some(Duration::ZERO);
    });
    let mut owed = world.client();
    owed.send(iamat("kiwi"));
    world.wait_until_held(1);
    let mut idle = world.client();
    assert_eq!(idle.ask("?"), "? ?");
    let mut newcomer = world.client();
    assert_eq!(newcomer.ask("?"), "? ?");
    idle.expect_end();
    world.commit();
    expect_at(&mut owed, "kiwi");
}

/// Nothing connects to the engine here, so nothing is acknowledged.
#[test]
fn an_answer_that_the_engine_holds_up_for_too_long_is_never_given_and_the_connection_ends() {
    let timeout = Duration::from_millis(300);
    let world = World::of(|plan| {
        plan.config = engine_config();
        plan.config.engine.as_mut().expect("it was set").timeout = timeout;
        plan.answer_after.engine = true;
    });
    let mut client = world.client();
    let began = std::time::Instant::now();
    client.send([&iamat("kiwi"), &iamat("emu"), "WHAT?\n"].concat());
    world.wait_until_held(2);
    world.commit();
    client.expect_end();
    assert!(began.elapsed() >= timeout);
    assert_eq!(world.metrics.engine.given_up.get(), 2);
    assert_eq!((world.held(), world.paused(Paused::Kept)), (0, 0));
    let closed = &world.metrics.closed[Kind::Client as usize];
    let closed = &closed[ClosedReason::AnswerTimeout as usize];
    wait_until(LIMIT, "it is closed", || closed.get() == 1);
    // WHATSAT knows it all the same.
    assert!(world.client().whatsat("kiwi", "10", "1").first.starts_with("AT "));
}

/// The disk alone has no timeout.
fn engine_config() -> herd_mio::config::Config {
    let text = "[engine]\nprovider = \"nats\"\nservers = [\"nats://127.0.0.1:1\"]\n\
                [places]\nprovider = \"offline\"\n\
                [[server]]\nname = \"A\"\nlisten = \"127.0.0.1:0\"\npeer_listen = \"127.0.0.1:0\"\n";
    herd_mio::config::Config::parse(text).expect("a configuration")
}
