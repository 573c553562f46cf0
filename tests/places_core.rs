//! Claim: without a socket or a clock, a query for places gets a connection, one answer in its time, and
//! each client that waits its own share of it. (The order of addresses is the dialer's, and is tested
//! there.)

#[path = "places_core/world.rs"]
mod world;

use std::time::Duration;

use herd_mio::application::{Closed, Command, DialEvent, Freshness, Next, Start, Target};
use world::{ANSWER, KEPT_ANSWER, OTHER_ANSWER, World, address, client, second};

#[test]
fn a_query_is_dialled_by_name_and_one_of_several_addresses_has_a_quarter_of_its_time() {
    let mut world = World::new();
    world.ask(1, 1);
    let dial = world.dials().remove(0);
    assert_eq!(dial.to, Target::Name("places.example:443".to_owned()));
    assert_eq!((dial.attempt_timeout, dial.timeout), (second(2), second(8)));
    assert_eq!((dial.from, dial.start, dial.freshness), (None, Start::Best, Freshness::Cached));
    assert!(dial.tls.is_some());
    world.attempt_fails(&dial, "1.1.1.1:443", false, "no answer in time");
    world.attempt_fails(&dial, "2.2.2.2:443", false, "Connection refused");
    world.dial_fails(&dial);
    let (slot, text) = world.answers().remove(0);
    assert_eq!(slot, 1);
    assert!(text.contains("places.example can't be reached: Connection refused"), "{text}");
}

#[test]
fn an_address_that_times_out_at_a_querys_deadline_is_the_last_one_of_the_next_dial() {
    let mut world = World::new();
    world.ask(1, 1);
    let dial = world.dials().remove(0);
    world.attempt_fails(&dial, "1.1.1.1:443", false, "Connection refused");
    world.event(&dial, DialEvent::Connecting(address("2.2.2.2:443")));
    world.event(&dial, DialEvent::Handshaking(address("2.2.2.2:443")));
    world.pass(7);
    assert!(!world.cancels(&dial));
    world.pass(1);
    assert!(world.cancels(&dial));
    let text = world.answers().remove(0).1;
    assert!(text.contains("no answer within 8 s: the TLS handshake was not finished"), "{text}");
    world.ask(2, 2);
    let dial = world.dials().remove(0);
    assert_eq!(dial.start, Start::Behind(address("2.2.2.2:443")));
    world.open(&dial);
    world.ask(3, 3);
    assert_eq!(world.dials()[0].start, Start::Best, "the loop knows now what works");
}

#[test]
fn a_failed_certificate_check_is_reported_although_other_addresses_refuse() {
    let mut world = World::new();
    world.ask(1, 1);
    let reason = "the certificate of places.example is not trusted: it has expired";
    let dial = world.dials().remove(0);
    world.attempt_fails(&dial, "1.1.1.1:443", true, reason);
    for address in ["2.2.2.2:443", "3.3.3.3:443"] {
        world.attempt_fails(&dial, address, false, "Connection refused");
    }
    world.dial_fails(&dial);
    let text = world.answers().remove(0).1;
    assert!(text.contains(&format!("\"error_message\" : \"{reason}\"")), "{text}");
}

#[test]
fn a_query_reports_how_far_its_dial_has_come_in_its_time() {
    let there = address("1.1.1.1:443");
    let steps: [(&str, Vec<DialEvent<'_>>); 3] = [
        ("its name was not resolved", vec![]),
        ("the connection was not made", vec![DialEvent::Connecting(there)]),
        (
            "the TLS handshake was not finished",
            vec![DialEvent::Connecting(there), DialEvent::Handshaking(there)],
        ),
    ];
    for (missing, events) in steps {
        let mut world = World::new();
        world.ask(1, 1);
        let dial = world.dials().remove(0);
        for event in events {
            world.event(&dial, event);
        }
        // The loop's time is up at the same moment as the query's, and either may be first.
        world.now += second(8);
        if missing.contains("TLS") {
            let late =
                DialEvent::AttemptFailed(there, "the TLS handshake was not complete in time");
            world.event(&dial, late);
        }
        world.dial_fails(&dial);
        let text = world.answers().remove(0).1;
        assert!(text.contains(&format!("no answer within 8 s: {missing}")), "{text}");
    }
}

#[test]
fn a_name_that_cannot_be_resolved_is_named_with_the_reason() {
    let mut world = World::new();
    world.ask(1, 1);
    let dial = world.dials().remove(0);
    world.event(&dial, DialEvent::Failed("places.example:443: not known".to_owned()));
    let text = world.answers().remove(0).1;
    assert!(text.contains("the name places.example can't be resolved: not known"), "{text}");
}

#[test]
fn a_client_that_joins_a_query_late_has_a_query_of_its_own() {
    let mut world = World::new();
    world.ask(1, 1);
    let first = world.dials().remove(0);
    let service = world.open(&first);
    world.pass(4);
    world.ask(2, 1);
    assert!(world.dials().is_empty(), "half of the time is left: they share the query");
    world.pass(3);
    world.ask(3, 1);
    let own = world.dials();
    assert_eq!(own.len(), 1, "a second is not enough");
    world.pass(1);
    assert!(world.closes(&service));
    let slots: Vec<u32> = world.answers().into_iter().map(|(slot, _)| slot).collect();
    assert_eq!(slots, [1, 2]);
    let mut service = world.open(&own[0]);
    world.pass(5);
    assert_eq!(world.says(&mut service, ANSWER), Next::Finish);
    let (slot, text) = world.answers().remove(0);
    assert!(slot == 3 && text.contains("results"), "{text}");
}

#[test]
fn an_endless_answer_is_read_for_a_limited_time_after_its_deadline() {
    let mut world = World::new();
    world.ask(1, 1);
    let dial = world.dials().remove(0);
    let mut service = world.open(&dial);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(world.says(&mut service, head), Next::Read);
    world.behind = Some(service.id);
    // As after a process was stopped: what came in time lies there, however late it is.
    for seconds in [100, 1, 1] {
        world.pass(seconds);
        assert_eq!(world.says(&mut service, b"1;of-no-use\r\n \r\n"), Next::Read);
        assert!(world.answers().is_empty(), "it may be read soon");
    }
    world.pass(1);
    let text = world.answers().remove(0).1;
    assert!(text.contains("no answer within 8 s: its body was not finished"), "{text}");
    assert!(world.closes(&service));
}

#[test]
fn a_silent_kept_connection_leaves_time_to_repeat_the_query() {
    let mut world = World::new();
    let mut kept = world.keep(1, 7);
    world.ask(2, 2);
    assert!(world.sends(&mut kept).starts_with("GET /x?"));
    world.pass(3);
    assert!(world.dials().is_empty(), "the service was slow recently");
    world.pass(1);
    let again = world.dials();
    assert_eq!(again.len(), 1, "half of the time is left");
    // The first answer counts, and the dial is not needed any more.
    assert_eq!(world.says(&mut kept, OTHER_ANSWER), Next::Read);
    assert_eq!(world.answers().len(), 1);
    assert!(world.cancels(&again[0]));
    assert!(world.try_open(&again[0]).is_none(), "no query needs it");
}

#[test]
fn a_query_that_two_connections_carry_takes_the_first_answer_and_closes_the_other() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    world.ask(2, 2);
    world.sends(&mut kept);
    world.pass(2);
    let again = world.dials().remove(0);
    let mut fresh = world.open(&again);
    assert_eq!(world.says(&mut fresh, KEPT_ANSWER), Next::Read);
    assert_eq!(world.answers().len(), 1);
    assert!(world.closes(&kept) && !world.closes(&fresh));
}

#[test]
fn a_dial_that_fails_leaves_a_query_to_the_silent_connection_that_still_carries_it() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    world.ask(2, 2);
    world.sends(&mut kept);
    world.pass(2);
    let again = world.dials().remove(0);
    world.attempt_fails(&again, "1.1.1.1:443", false, "Connection refused");
    world.dial_fails(&again);
    assert!(world.answers().is_empty(), "the service may just be slow");
    assert!(world.try_open(&again).is_none(), "it is over");
    world.says(&mut kept, OTHER_ANSWER);
    assert!(world.answers().remove(0).1.contains("results"));
}

#[test]
fn a_request_goes_out_on_a_kept_connection_only_after_nothing_was_found_on_it() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    world.ask(2, 2);
    assert_eq!(world.fills(&mut kept), Next::Probe);
    // Something lies there: an answer that no request was sent for.
    assert_eq!(world.says(&mut kept, KEPT_ANSWER), Next::Finish);
    assert!(world.answers().is_empty());
    let dial = world.dials().remove(0);
    let mut fresh = world.open(&dial);
    world.says(&mut fresh, KEPT_ANSWER);
    assert_eq!(world.answers().len(), 1);
    // For a minute no connection is kept, then they are again.
    for (slot, seconds, is_kept) in [(3, 0, false), (4, 59, false), (5, 1, true)] {
        world.pass(seconds);
        world.ask(slot, slot);
        let dial = world.dials().remove(0);
        let mut fresh = world.open(&dial);
        let next = world.says(&mut fresh, KEPT_ANSWER);
        assert_eq!(next == Next::Read, is_kept, "after {seconds} s more");
    }
}

#[test]
fn bytes_on_a_kept_connection_that_begin_no_answer_send_its_query_once_more_on_a_fresh_one() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    world.ask(2, 2);
    world.sends(&mut kept);
    // They belong to the answer before, and come when nothing distinguishes them from the next one but their form.
    assert_eq!(world.says(&mut kept, b"GARBAGE"), Next::Finish);
    assert!(world.answers().is_empty());
    let dial = world.dials().remove(0);
    let mut fresh = world.open(&dial);
    assert_eq!(world.says(&mut fresh, KEPT_ANSWER), Next::Finish, "it is not kept");
    assert!(world.answers().remove(0).1.contains("results"));
    // As a first answer they are a broken one.
    world.ask(3, 3);
    let dial = world.dials().remove(0);
    let mut fresh = world.open(&dial);
    assert_eq!(world.says(&mut fresh, b"GARBAGE"), Next::Finish);
    assert!(world.answers().remove(0).1.contains("is not HTTP/1.1"));
}

#[test]
fn a_part_of_an_answer_on_a_kept_connection_counts_as_one_that_no_request_was_sent_for() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    world.ask(2, 2);
    assert_eq!(world.fills(&mut kept), Next::Probe);
    world.closed(kept, Closed::Unsolicited);
    let dial = world.dials().remove(0);
    let mut fresh = world.open(&dial);
    assert_eq!(world.says(&mut fresh, KEPT_ANSWER), Next::Finish, "it is not kept");
    assert_eq!(world.answers().len(), 1);
}

#[test]
fn a_kept_connection_that_closes_costs_its_query_one_more_attempt_and_a_fresh_one_fails_it() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    world.ask(2, 2);
    world.sends(&mut kept);
    assert_eq!(world.ends(&mut kept), Next::Finish);
    world.closed(kept, Closed::Finished);
    let dial = world.dials().remove(0);
    let fresh = world.open(&dial);
    world.closed(fresh, Closed::Broken("Connection reset by peer".to_owned()));
    assert!(world.dials().is_empty());
    assert!(world.answers().remove(0).1.contains("Connection reset by peer"));
}

#[test]
fn a_kept_connection_that_closes_before_its_request_costs_nothing() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    for reason in ["end", "error"] {
        world.ask(2, 2);
        assert_eq!(world.fills(&mut kept), Next::Probe);
        if reason == "end" {
            assert_eq!(world.ends(&mut kept), Next::Finish);
        }
        world.closed(kept, Closed::Finished);
        let dial = world.dials().remove(0);
        kept = world.open(&dial);
        assert_eq!(world.says(&mut kept, KEPT_ANSWER), Next::Read, "{reason}");
        assert_eq!(world.answers().len(), 1);
    }
}

#[test]
fn an_equal_answer_to_another_question_is_kept_back_until_no_other_follows() {
    for other_follows in [false, true] {
        let mut world = World::new();
        let mut kept = world.keep(1, 0);
        world.ask(2, 2);
        world.sends(&mut kept);
        assert_eq!(world.says(&mut kept, KEPT_ANSWER), Next::Read);
        assert!(world.answers().is_empty(), "it may be the answer before once more");
        assert!(world.held_bytes(&kept) >= 14, "the answer is counted");
        if other_follows {
            assert_eq!(world.says(&mut kept, KEPT_ANSWER), Next::Finish);
            let dial = world.dials().remove(0);
            let mut fresh = world.open(&dial);
            world.says(&mut fresh, KEPT_ANSWER);
        } else {
            world.pass_time(Duration::from_millis(250));
            assert_eq!(world.fills(&mut kept), Next::Read, "the loop counts its memory again");
            assert_eq!(world.held_bytes(&kept), 0);
        }
        assert_eq!(world.answers().len(), 1);
    }
}

#[test]
fn an_answer_that_is_kept_back_counts_when_its_connection_is_cut() {
    let mut world = World::new();
    let mut kept = world.keep(1, 0);
    world.ask(2, 2);
    world.sends(&mut kept);
    world.says(&mut kept, KEPT_ANSWER);
    assert_eq!(world.ends(&mut kept), Next::Finish);
    assert!(world.answers().remove(0).1.contains("results"));
    world.ask(3, 3);
    assert_eq!(world.dials().len(), 1, "and it is not in the pool");
    world.closed(kept, Closed::Broken("Connection reset by peer".to_owned()));
    assert!(world.answers().is_empty());
}

#[test]
fn an_idle_connection_is_closed_after_50_seconds() {
    let mut world = World::new();
    let kept = world.keep(1, 0);
    world.pass(49);
    assert!(!world.finishes(&kept));
    world.pass(1);
    assert!(world.finishes(&kept));
    world.ask(2, 2);
    assert_eq!(world.dials().len(), 1);
}

#[test]
fn an_answer_is_held_once_for_all_clients_until_the_last_has_taken_it_or_is_gone() {
    let mut world = World::new();
    for slot in 1..=4 {
        world.ask(slot, 1);
    }
    let dial = world.dials().remove(0);
    let mut service = world.open(&dial);
    world.says(&mut service, ANSWER);
    assert!(world.shared_bytes() > 0);
    world.leaves(4);
    let slots: Vec<u32> = world.answers().into_iter().map(|(slot, _)| slot).collect();
    assert_eq!((slots, world.shared_bytes()), (vec![1, 2, 3], 0));
}

#[test]
fn a_client_whose_answer_is_not_complete_waits_on() {
    let mut world = World::new();
    world.ask(1, 1);
    assert_eq!(world.fill_client(1), (String::new(), Next::Wait));
}

#[test]
fn no_text_contains_the_key() {
    let mut world = World::with_key("secret");
    let reasons = ["the certificate names secret.example", "it is for %73ecret"];
    for (slot, reason) in (1..).zip(reasons) {
        world.ask(slot, slot);
        let dial = world.dials().remove(0);
        if slot == 1 {
            world.attempt_fails(&dial, "1.1.1.1:443", true, reason);
            world.dial_fails(&dial);
        } else {
            let service = world.open(&dial);
            world.closed(service, Closed::Broken(reason.to_owned()));
        }
        let text = world.answers().remove(0).1;
        assert!(text.contains("contains the API key"), "{text}");
        assert!(!text.contains("ecret"), "{text}");
    }
}

#[test]
fn queries_beyond_the_slots_and_the_queue_are_refused_and_the_queue_moves_up() {
    let mut world = World::with_bounds(1, 1);
    world.ask(1, 1);
    world.ask(2, 2);
    let (text, next) = world.line(3, b"WHATSAT kiwi 3 5");
    assert!(text.contains("too many queries are waiting"), "{text}");
    assert_eq!(next, Next::Read);
    let dial = world.dials().remove(0);
    let mut service = world.open(&dial);
    assert_eq!(world.says(&mut service, KEPT_ANSWER), Next::Read);
    assert_eq!(world.answers().len(), 1);
    assert!(!world.sends(&mut service).is_empty(), "the queued query uses the connection");
}

#[test]
fn a_dial_whose_query_nobody_waits_for_goes_on_because_its_connection_is_kept() {
    let mut world = World::new();
    world.ask(1, 1);
    let dial = world.dials().remove(0);
    world.leaves(1);
    assert!(!world.cancels(&dial));
    let mut service = world.open(&dial);
    assert_eq!(world.says(&mut service, KEPT_ANSWER), Next::Read);
    world.ask(2, 2);
    assert!(world.dials().is_empty());
    assert!(!world.sends(&mut service).is_empty());
    let fills = |command: &Command<_>| matches!(command, Command::Fill(id) if *id == client(1));
    assert!(!world.commands.iter().any(fills));
}

#[test]
fn the_gazetteer_is_unpacked_by_one_job_for_all_clients_that_wait_and_then_answers_at_once() {
    let mut world = World::offline();
    world.ask(1, 1);
    world.ask(2, 20);
    world.leaves(2);
    world.ask(3, 20);
    let jobs = world.jobs();
    assert_eq!(jobs.len(), 1);
    for job in jobs {
        let message = (job.run)();
        world.message(message);
    }
    let answers = world.answers();
    let slots: Vec<u32> = answers.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [1, 3]);
    assert!(answers.iter().all(|(_, text)| text.contains("GeoNames")), "{answers:?}");
    let (text, next) = world.line(4, b"WHATSAT kiwi 1 5");
    assert!(next == Next::Read && text.contains("GeoNames"), "{text}");
}

#[test]
fn a_gazetteer_that_is_late_or_cannot_be_unpacked_fails_the_queries_and_the_next_one_tries_again() {
    let mut world = World::offline();
    world.ask(1, 1);
    world.pass(8);
    let text = world.answers().remove(0).1;
    assert!(text.contains("the gazetteer was not unpacked in time"), "{text}");
    world.ask(2, 1);
    let job = world.jobs().remove(0);
    world.message((job.failed)("its thread panicked".to_owned()));
    let text = world.answers().remove(0).1;
    assert!(text.contains("the gazetteer could not be unpacked"), "{text}");
    world.ask(3, 1);
    assert_eq!(world.jobs().len(), 1);
}

// Another configuration.

#[test]
fn connections_of_former_settings_are_not_kept() {
    let mut world = World::new();
    let service = world.keep(1, 0);
    world.ask(2, 2);
    assert_eq!(world.dials().len(), 0, "it is kept");
    let mut other = World::new();
    let kept = other.keep(1, 0);
    other.change_places(1, |places| places.timeout = second(4));
    assert!(other.finishes(&kept) && !world.finishes(&service));
}

#[test]
fn queries_that_were_accepted_before_a_change_are_answered_by_the_former_service() {
    let mut world = World::new();
    world.ask(1, 1);
    let old = world.dials().remove(0);
    let mut service = world.open(&old);
    world.change_places(1, |places| places.timeout = second(4));
    world.ask(2, 2);
    let new = world.dials().remove(0);
    assert_eq!((new.timeout, new.tls), (second(4), Some(herd_mio::application::TlsId(1))));
    assert_ne!(new.ticket, old.ticket);
    world.says(&mut service, KEPT_ANSWER);
    let answers = world.answers();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0, 1);
    // Its connection is not used for queries of the new settings.
    world.closed(service, Closed::Finished);
    let mut service = world.open(&new);
    world.says(&mut service, KEPT_ANSWER);
    assert_eq!(world.answers()[0].0, 2);
    world.ask(3, 3);
    assert_eq!(world.dials().len(), 0, "this one's is kept");
}

#[test]
fn a_change_to_the_same_settings_keeps_the_connections() {
    let mut world = World::new();
    world.ask(1, 1);
    let dial = world.dials().remove(0);
    let mut service = world.open(&dial);
    world.says(&mut service, KEPT_ANSWER);
    world.answers();
    world.change_places(0, |_| {});
    world.ask(2, 2);
    assert_eq!(world.dials().len(), 0);
}

#[test]
fn after_several_changes_in_a_row_the_oldest_queries_are_answered_with_a_failure() {
    let mut world = World::new();
    world.ask(1, 1);
    let dial = world.dials().remove(0);
    for (seconds, tls) in [(7, 1), (6, 2), (5, 3), (4, 0)] {
        assert_eq!(world.answers(), []);
        world.change_places(tls, |places| places.timeout = second(seconds));
    }
    assert!(world.cancels(&dial));
    let (slot, text) = world.answers().remove(0);
    assert!(slot == 1 && text.contains("the settings of places have changed"), "{text}");
}

#[test]
fn the_provider_changes_from_the_gazetteer_to_a_service_and_back() {
    let mut world = World::offline();
    world.ask(1, 1);
    let jobs = world.jobs();
    world.change_places(0, |places| {
        places.provider_override = Some(herd_mio::places::Provider::Google);
    });
    world.ask(2, 2);
    assert_eq!(world.dials().len(), 1);
    for job in jobs {
        world.message((job.run)());
    }
    let answers = world.answers();
    assert!(answers[0].0 == 1 && answers[0].1.contains("results"), "{answers:?}");
    world.change_places(0, |places| places.provider_override = None);
    world.ask(3, 3);
    assert_eq!((world.dials().len(), world.jobs().len()), (0, 1));
}
