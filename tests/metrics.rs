//! Claim: each metric moves for its reason, by the right amount, and no other one moves with it; the names are those of
//! `docs/operations.md`; and both formats hold what the numbers say.
//!
//! Without sockets: a script in the loop's place calls the server. The loop's own numbers are set by hand here; that the
//! loop counts right is tested with it.

#[path = "metrics/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use herd_mio::application::{
    Budget, Closed, DialEvent, HandshakeFailure, Lack, Line, ListenerId, Next, Opened, Origin,
    Refused, TlsInfo, TlsVersion, Turn,
};
use herd_mio::config::EngineKeep;
use herd_mio::limits::MAX_UNIDENTIFIED_PEERS;
use herd_mio::server::admin::exposition::Exposition;
use herd_mio::server::metrics::{
    AdminPath, Family, FamilyKind, Kind, Paused, RateLimit, StateNumbers,
};
use herd_mio::server::{ADMIN, CLIENTS, DrainState, Message, PEERS, ReloadEnd, StateMessage};
use regex::Regex;
use world::{WALL, World, peer, samples};

const SECOND: Duration = Duration::from_secs(1);
const B: &str = "b.example:9";

/// Asserts what changes, in the order of names.
#[track_caller]
fn assert_changes<R>(
    world: &mut World,
    act: impl FnOnce(&mut World) -> R,
    expected: &[(&str, f64)],
) {
    let changes = world.changes(act);
    let changes: BTreeSet<_> = changes.iter().map(|(name, by)| format!("{name} {by}")).collect();
    let expected: BTreeSet<_> = expected.iter().map(|(name, by)| format!("{name} {by}")).collect();
    let missing: Vec<_> = expected.difference(&changes).collect();
    let surplus: Vec<_> = changes.difference(&expected).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing: {missing:#?}\nelse: {surplus:#?}");
}

fn line(command: &str, result: &str) -> String {
    format!("herd_lines_total{{command={command},result={result}}}")
}

fn link(name: &str, more: &str) -> String {
    format!("herd_link_{name}{{neighbour=B{more}}}")
}

#[test]
fn a_clients_lines_count_by_command_and_result() {
    let mut world = World::new();
    let client = world.accept(CLIENTS);
    for (text, command, result) in [
        ("IAMAT kiwi +1.0", "iamat", "invalid"),
        ("IAMAT kiwi +1.0+2.0 9999999999", "iamat", "invalid"),
        ("WHATSAT kiwi 10 5", "whatsat", "unknown_id"),
        ("WHATSAT kiwi 10", "whatsat", "invalid"),
        ("iamat kiwi +1.0+2.0 1", "other", "invalid"),
        ("", "other", "invalid"),
    ] {
        let act = |world: &mut World| assert_eq!(world.line(client, text), Next::Read, "{text}");
        assert_changes(&mut world, act, &[(&line(command, result), 1.0)]);
    }
    for (beginning, command) in [("IAMAT x", "iamat"), ("WHATSAT", "whatsat"), ("xxx", "other")] {
        let client = world.accept(CLIENTS);
        let act = |world: &mut World| {
            world.handle_line(client, Line::TooLong(beginning.as_bytes()));
            world.close(client, &Closed::Finished);
        };
        let closed = "herd_connections_closed_total{kind=client,reason=line_too_long}";
        assert_changes(&mut world, act, &[(&line(command, "too_long"), 1.0), (closed, 1.0)]);
    }
}

#[test]
fn an_update_counts_by_its_source_and_its_result_and_moves_the_table_and_the_feed() {
    let mut world = World::of(|config| config.max_clients = 10);
    let client = world.accept(CLIENTS);
    let (ok, source) = (line("iamat", "ok"), "herd_table_updates_total{source=client,result=");
    let kept = [
        ("herd_table_clients{}", 1.0),
        ("herd_feed_sequence{}", 1.0),
        ("herd_feed_records{}", 1.0),
        ("herd_link_unacknowledged_updates{neighbour=B}", 1.0),
        ("herd_link_unacknowledged_updates{neighbour=C}", 1.0),
    ];
    let stored = format!("{source}stored}}");
    let act = |world: &mut World| world.line(client, "IAMAT c0 +1.0+2.0 100");
    assert_changes(&mut world, act, &[&[(&ok[..], 1.0), (&stored, 1.0)], &kept[..]].concat());
    let act = |world: &mut World| world.line(client, "IAMAT c0 +1.0+2.0 99");
    assert_changes(&mut world, act, &[(&ok, 1.0), (&format!("{source}stale}}"), 1.0)]);
    for number in 1..10 {
        world.line(client, &format!("IAMAT c{number} +1.0+2.0 {}", 100 + number));
    }
    // The eleventh evicts the oldest tenth of eleven, which are two; so afterwards there is one less.
    let act = |world: &mut World| world.line(client, "IAMAT c10 +1.0+2.0 110");
    let evicts = [
        (&ok[..], 1.0),
        (&stored, 1.0),
        ("herd_table_floor_raises_total{}", 1.0),
        ("herd_table_evicted_clients_total{}", 1.0),
    ];
    assert_changes(&mut world, act, &[&evicts, &kept[1..]].concat());
    let act = |world: &mut World| world.line(client, "IAMAT old +1.0+2.0 1");
    assert_changes(&mut world, act, &[(&ok, 1.0), (&format!("{source}below_floor}}"), 1.0)]);
}

/// A neighbour's inbound connection, past its HELLO and the updates that we had missed.
fn inbound(world: &mut World) -> u32 {
    let id = world.accept(PEERS);
    assert_eq!(world.line(id, "HELLO herd/1 B 00000000000000b1"), Next::Read);
    world.line(id, "MARK 0");
    id
}

/// A link to the neighbour B that is up and in use: all that there was is acknowledged.
fn outbound(world: &mut World) -> u32 {
    let dial = world.dial_of(B);
    let id = world.connect(&dial);
    assert_eq!(world.line(id, "RESUME 0 0 00000000000000b1 B"), Next::Read);
    world.line(id, "ACK 0");
    id
}

#[test]
fn what_neighbours_send_counts_by_neighbour() {
    let mut world = World::new();
    let peer = inbound(&mut world);
    let told = |seconds: &str| format!("UPDATELOC kiwi +1.0+2.0 1999999990 B {seconds}");
    let (table, delay) =
        ("herd_table_updates_total{source=neighbour,result=", "herd_flood_delay_seconds");
    let updates = link("updates_total", ",direction=in");
    // At 1,999,999,990 + 9.75 it was told, and the clock shows 2,000,000,000.
    let act = |world: &mut World| world.line(peer, &told("+9.750000000"));
    let expected = [
        (&updates[..], 1.0),
        (&format!("{table}stored}}"), 1.0),
        (&format!("{delay}_count{{neighbour=B}}"), 1.0),
        (&format!("{delay}_sum{{neighbour=B}}"), 0.25),
        ("herd_table_clients{}", 1.0),
        ("herd_feed_sequence{}", 1.0),
        ("herd_feed_records{}", 1.0),
        (&link("unacknowledged_updates", ""), 1.0),
        ("herd_link_unacknowledged_updates{neighbour=C}", 1.0),
    ];
    assert_changes(&mut world, act, &expected);
    // Its clock is ahead of ours: 0.
    let act = |world: &mut World| world.line(peer, &told("+11.000000000"));
    let expected = [
        (&updates[..], 1.0),
        (&format!("{table}stale}}"), 1.0),
        (&format!("{delay}_count{{neighbour=B}}"), 1.0),
    ];
    assert_changes(&mut world, act, &expected);
    let act = |world: &mut World| world.line(peer, "UPDATELOC kiwi nowhere");
    let malformed = link("malformed_updates_total", "");
    assert_changes(&mut world, act, &[(&updates, 1.0), (&malformed, 1.0)]);
}

#[test]
fn what_a_neighbour_had_kept_for_us_has_no_delay() {
    let mut world = World::new();
    let peer = world.accept(PEERS);
    world.line(peer, "HELLO herd/1 B 00000000000000b1");
    let update = "UPDATELOC kiwi +1.0+2.0 1 B +0.000000000";
    let changes = world.changes(|world| world.line(peer, update));
    assert!(changes.iter().any(|(name, _)| name.starts_with("herd_link_updates_total")));
    assert!(!changes.iter().any(|(name, _)| name.starts_with("herd_flood_delay")), "{changes:?}");
}

#[test]
fn an_inbound_link_comes_and_goes_for_a_reason() {
    let mut world = World::new();
    let up = link("up", ",direction=in");
    let transition =
        |reason: &str| link("transitions_total", &format!(",direction=in,reason={reason}"));
    let closed = |reason| format!("herd_connections_closed_total{{kind=link_in,reason={reason}}}");
    let (connected, gone) = (transition("connected"), closed("peer"));
    let mut peer = 0;
    assert_changes(&mut world, |world| peer = inbound(world), &[(&up, 1.0), (&connected, 1.0)]);
    let act = |world: &mut World| inbound(world);
    let expected =
        [(&connected[..], 1.0), (&transition("replaced"), 1.0), (&closed("replaced"), 1.0)];
    assert_changes(&mut world, act, &expected);
    let act = |world: &mut World| world.pass(30 * SECOND);
    let changes = world.changes(act);
    for name in [&transition("timeout"), &closed("line_timeout")] {
        assert!(changes.contains(&(name.clone(), 1.0)), "{name}: {changes:?}");
    }
    assert!(changes.contains(&(up.clone(), -1.0)));
    peer = inbound(&mut world);
    let act = |world: &mut World| world.close(peer, &Closed::Finished);
    assert_changes(&mut world, act, &[(&up, -1.0), (&transition("closed"), 1.0), (&gone, 1.0)]);
    peer = inbound(&mut world);
    let act = |world: &mut World| {
        assert_eq!(world.line(peer, "nonsense"), Next::Finish);
        world.close(peer, &Closed::Finished);
    };
    let expected = [(&up[..], -1.0), (&transition("refused"), 1.0), (&closed("protocol"), 1.0)];
    assert_changes(&mut world, act, &expected);
}

#[test]
fn an_outbound_link_comes_and_goes_for_a_reason() {
    let transition =
        |reason: &str| link("transitions_total", &format!(",direction=out,reason={reason}"));
    let closed = |reason| format!("herd_connections_closed_total{{kind=link_out,reason={reason}}}");
    let dials = |result: &str| link("dials_total", &format!(",result={result}"));
    let up = link("up", ",direction=out");
    let mut world = World::new();
    let mut id = 0;
    let act = |world: &mut World| id = outbound(world);
    let expected = [(&up[..], 1.0), (&transition("connected"), 1.0), (&dials("ok"), 1.0)];
    assert_changes(&mut world, act, &expected);
    let act = |world: &mut World| world.close(id, &Closed::Broken("reset".to_owned()));
    let expected = [(&up[..], -1.0), (&transition("closed"), 1.0), (&closed("reset"), 1.0)];
    assert_changes(&mut world, act, &expected);
    // Another server answers, and then nobody does as a neighbour would.
    for (answer, reason) in [("RESUME 0 0 00000000000000c1 C", "name"), ("HTTP/1.1 400", "refused")]
    {
        world.pass(SECOND);
        let dial = world.dial_of(B);
        let act = |world: &mut World| {
            let id = world.connect(&dial);
            assert_eq!(world.line(id, answer), Next::Finish);
            world.close(id, &Closed::Finished);
        };
        let expected =
            [(&dials("ok")[..], 1.0), (&transition(reason), 1.0), (&closed("protocol"), 1.0)];
        assert_changes(&mut world, act, &expected);
        world.pass(5 * SECOND);
    }
}

#[test]
fn a_dial_counts_by_its_result() {
    let dials = |result: &str| link("dials_total", &format!(",result={result}"));
    let mut world = World::new();
    let dial = world.dial_of(B);
    let refused = |world: &mut World| {
        world.dial_event(&dial, DialEvent::Connecting(peer()));
        world.dial_event(&dial, DialEvent::AttemptFailed(peer(), "Connection refused"));
        world.dial_event(&dial, DialEvent::Failed("Connection refused".to_owned()));
    };
    assert_changes(&mut world, refused, &[(&dials("refused"), 1.0)]);
    world.pass(SECOND);
    let dial = world.dial_of(B);
    let unknown = |world: &mut World| {
        world.dial_event(&dial, DialEvent::Failed("the name is unknown".to_owned()));
    };
    assert_changes(&mut world, unknown, &[(&dials("dns"), 1.0)]);
    world.pass(SECOND);
    let dial = world.dial_of(B);
    world.dial_event(&dial, DialEvent::Resolved(&[peer()]));
    world.dial_event(&dial, DialEvent::Connecting(peer()));
    let changes = world.changes(|world| world.pass(60 * SECOND));
    assert!(changes.contains(&(dials("timeout"), 1.0)), "{changes:?}");
}

#[test]
fn the_lag_is_the_age_of_the_oldest_mark_that_is_not_acknowledged() {
    let mut world = World::new();
    let lag = link("lag_seconds", "");
    let unacknowledged = link("unacknowledged_updates", "");
    let is = |world: &mut World| {
        let samples = samples(&world.families());
        (samples[&lag], samples[&unacknowledged])
    };
    world.pass(SECOND);
    assert_eq!(is(&mut world), (1.0, 0.0), "it was never up");
    let id = outbound(&mut world);
    assert_eq!(is(&mut world), (0.0, 0.0));
    let client = world.accept(CLIENTS);
    for second in 1..=3 {
        world.line(client, &format!("IAMAT kiwi +1.0+2.0 {second}"));
        world.pass(SECOND);
    }
    assert_eq!(is(&mut world), (3.0, 3.0));
    world.line(id, "ACK 2");
    assert_eq!(is(&mut world), (1.0, 1.0));
    world.pass(SECOND);
    world.close(id, &Closed::Finished);
    world.pass(SECOND);
    assert_eq!(is(&mut world), (3.0, 1.0), "it goes on counting while the link is down");
    world.dials.retain(|dial| !matches!(&dial.to, herd_mio::application::Target::Name(_)));
    world.pass(5 * SECOND);
    assert_eq!(is(&mut world).0, 8.0);
}

#[test]
fn updates_that_are_sent_count_whether_the_neighbour_had_missed_them_or_not() {
    let mut world = World::new();
    let client = world.accept(CLIENTS);
    for id in ["a", "b"] {
        world.line(client, &format!("IAMAT {id} +1.0+2.0 1"));
    }
    let sent = link("updates_total", ",direction=out");
    let changes = world.changes(outbound);
    assert!(changes.contains(&(sent.clone(), 2.0)), "{changes:?}");
    let changes = world.changes(|world| world.line(client, "IAMAT c +1.0+2.0 1"));
    assert!(changes.contains(&(sent, 1.0)), "{changes:?}");
}

#[test]
fn an_answer_at_once_counts_with_the_time_of_its_turn_and_a_delayed_one_with_its_wait() {
    let mut world = World::with_service();
    let client = world.accept(CLIENTS);
    let answers = |part: &str, command: &str| {
        format!("herd_answer_duration_seconds_{part}{{command={command}}}")
    };
    let turn = |world: &mut World, microseconds: u64| {
        world.turn(microseconds);
        // The loop was busy until now.
    };
    world.line(client, "IAMAT kiwi +1.0+2.0 1");
    world.line(client, "IAMAT kiwi +1.0+2.0 2");
    world.line(client, "nonsense");
    let busy = "herd_loop_busy_seconds_total{loop=1}";
    let expected = [
        (&answers("count", "iamat")[..], 2.0),
        (&answers("sum", "iamat"), 0.0005),
        (&answers("count", "other"), 1.0),
        (&answers("sum", "other"), 0.00025),
        (busy, 0.00025),
    ];
    assert_changes(&mut world, |world| turn(world, 250), &expected);
    assert_changes(&mut world, |world| turn(world, 1_000), &[(busy, 0.001)]);
    // A turn has its own time, not that of all turns so far.
    world.line(client, "IAMAT kiwi +1.0+2.0 3");
    let expected =
        [(&answers("count", "iamat")[..], 1.0), (&answers("sum", "iamat"), 0.0001), (busy, 0.0001)];
    assert_changes(&mut world, |world| turn(world, 100), &expected);
    // A query for places: the client waits for a second.
    let act = |world: &mut World| assert_eq!(world.line(client, "WHATSAT kiwi 1 5"), Next::Wait);
    let waits = "herd_paused_connections{reason=places}";
    let in_flight = "herd_places_in_flight{}";
    let expected = [(&line("whatsat", "ok")[..], 1.0), (waits, 1.0), (in_flight, 1.0)];
    assert_changes(&mut world, act, &expected);
    turn(&mut world, 0);
    let dial = world.dial_of("places.example:443");
    world.now += SECOND;
    let service = world.connect(&dial);
    let act = |world: &mut World| world.bytes(service, ANSWER);
    let places = "herd_places_request_duration_seconds";
    let expected = [
        (&answers("count", "whatsat")[..], 1.0),
        (&answers("sum", "whatsat"), 1.0),
        (waits, -1.0),
        (in_flight, -1.0),
        ("herd_places_requests_total{result=ok}", 1.0),
        (&format!("{places}_count{{}}"), 1.0),
        (&format!("{places}_sum{{}}"), 1.0),
    ];
    assert_changes(&mut world, act, &expected);
    assert_changes(&mut world, |world| turn(world, 0), &[]);
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"results\":[]}";

#[test]
fn queries_that_the_gazetteer_answers_count_whether_they_wait_for_it_or_not() {
    let mut world = World::new();
    let (waiting, paused) = ("herd_places_waiting{}", "herd_paused_connections{reason=places}");
    let changes = world.changes(|world| ask(world, 1));
    for name in [waiting, paused] {
        assert!(changes.contains(&(name.to_owned(), 1.0)), "{changes:?}");
    }
    world.turn(0);
    world.now += SECOND;
    let duration = "herd_places_request_duration_seconds";
    let expected = [
        (waiting, -1.0),
        (paused, -1.0),
        ("herd_places_requests_total{result=ok}", 1.0),
        (&format!("{duration}_count{{}}"), 1.0),
        (&format!("{duration}_sum{{}}"), 1.0),
        ("herd_answer_duration_seconds_count{command=whatsat}", 1.0),
        ("herd_answer_duration_seconds_sum{command=whatsat}", 1.0),
    ];
    assert_changes(&mut world, World::finish_job, &expected);
    let client = world.accept(CLIENTS);
    let act = |world: &mut World| {
        assert_eq!(world.line(client, "WHATSAT kiwi 1 5"), Next::Read);
        world.turn(500);
    };
    let expected = [
        (&line("whatsat", "ok")[..], 1.0),
        ("herd_places_requests_total{result=ok}", 1.0),
        ("herd_answer_duration_seconds_count{command=whatsat}", 1.0),
        ("herd_answer_duration_seconds_sum{command=whatsat}", 0.0005),
        ("herd_loop_busy_seconds_total{loop=1}", 0.0005),
    ];
    assert_changes(&mut world, act, &expected);
}

/// A client that asks, by its number; the radius makes the question.
fn ask(world: &mut World, radius: u32) -> u32 {
    let client = world.accept(CLIENTS);
    world.line(client, "IAMAT kiwi +1.0+2.0 1");
    world.line(client, &format!("WHATSAT kiwi {radius} 5"));
    client
}

#[test]
fn queries_for_places_count_by_their_result_and_by_what_they_wait_for() {
    let mut world = World::with_service();
    let counts = |world: &mut World| {
        let all = samples(&world.families());
        let of = |name: &str| all[name];
        let results = ["ok", "timeout", "refused", "http", "unusable", "busy"]
            .map(|result| of(&format!("herd_places_requests_total{{result={result}}}")));
        let now = ["in_flight", "waiting"].map(|what| of(&format!("herd_places_{what}{{}}")));
        let shared = of("herd_places_shared_total{}");
        let connections = ["false", "true"]
            .map(|reused| of(&format!("herd_places_connections_total{{reused={reused}}}")));
        (results, now, shared, connections)
    };
    let none = [0.0; 6];
    let first = ask(&mut world, 1);
    let dial = world.dial_of("places.example:443");
    ask(&mut world, 1);
    assert_eq!(counts(&mut world), (none, [1.0, 0.0], 1.0, [0.0, 0.0]));
    ask(&mut world, 2);
    assert_eq!(counts(&mut world), (none, [1.0, 1.0], 1.0, [0.0, 0.0]));
    ask(&mut world, 3);
    let busy = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    assert_eq!(counts(&mut world), (busy, [1.0, 1.0], 1.0, [0.0, 0.0]));
    world.dial_event(&dial, DialEvent::Handshaking(peer()));
    let handshakes = "herd_connections{kind=places,transport=handshake}";
    assert_eq!(samples(&world.families())[handshakes], 1.0);
    let service = world.open(Origin::Dialled(dial.ticket));
    assert_eq!(samples(&world.families())[handshakes], 0.0);
    world.bytes(service, ANSWER);
    // The one that waited has the same connection now.
    assert_eq!(counts(&mut world).3, [1.0, 1.0]);
    world.bytes(service, b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n");
    let ok_and_http = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
    assert_eq!(counts(&mut world), (ok_and_http, [0.0, 0.0], 1.0, [1.0, 1.0]));
    ask(&mut world, 4);
    world.bytes(service, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(counts(&mut world).0, [1.0, 0.0, 0.0, 1.0, 1.0, 1.0], "an answer without a list");
    ask(&mut world, 5);
    world.close(service, &Closed::Broken("reset".to_owned()));
    // It is tried once more on a fresh connection, which cannot be made.
    let dial = world.dial_of("places.example:443");
    world.dial_event(&dial, DialEvent::Failed("refused".to_owned()));
    assert_eq!(counts(&mut world).0, [1.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
    ask(&mut world, 6);
    world.pass(8 * SECOND);
    assert_eq!(counts(&mut world).0, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    // One that is gone waits no longer.
    let leaves = ask(&mut world, 7);
    let act = |world: &mut World| world.close(leaves, &Closed::Finished);
    let changes = world.changes(act);
    assert!(changes.contains(&("herd_paused_connections{reason=places}".to_owned(), -1.0)));
    let _ = first;
}

#[test]
fn a_line_that_waits_because_its_id_is_new_counts_while_it_waits_and_when_it_is_answered() {
    let mut world = World::of(|config| {
        config.limits.exempt = Vec::new();
        (config.limits.new_ids_per_second, config.limits.new_ids_burst) = (1, 1);
    });
    let client = world.accept(CLIENTS);
    world.line(client, "IAMAT first +1.0+2.0 1");
    world.turn(0);
    let waits = "herd_paused_connections{reason=new_ids}";
    let act =
        |world: &mut World| assert_eq!(world.line(client, "IAMAT next +1.0+2.0 1"), Next::Wait);
    let limited = "herd_rate_limited_total{limit=new_ids}";
    assert_changes(&mut world, act, &[(waits, 1.0), (limited, 1.0)]);
    let changes = world.changes(|world| {
        world.pass(SECOND);
        world.turn(0);
    });
    for (name, change) in [
        (waits, -1.0),
        (&line("iamat", "ok")[..], 1.0),
        ("herd_answer_duration_seconds_count{command=iamat}", 1.0),
        ("herd_answer_duration_seconds_sum{command=iamat}", 1.0),
    ] {
        assert!(changes.contains(&(name.to_owned(), change)), "{name}: {changes:?}");
    }
    world.line(client, "IAMAT one.more +1.0+2.0 1");
    let act = |world: &mut World| world.close(client, &Closed::Finished);
    let closed = "herd_connections_closed_total{kind=client,reason=peer}";
    assert_changes(&mut world, act, &[(waits, -1.0), (closed, 1.0)]);
}

#[test]
fn a_connection_is_closed_for_a_reason() {
    let mut world = World::new();
    let reasons = [
        (Closed::Finished, "peer"),
        (Closed::Evicted, "idle_evicted"),
        (Closed::FairShare, "fair_share"),
        (Closed::InputTimeout, "line_timeout"),
        (Closed::WriteTimeout, "write_timeout"),
        (Closed::OutOfMemory, "buffers_full"),
        (Closed::Broken("reset".to_owned()), "reset"),
        (Closed::Tls(HandshakeFailure::Closed, "cut".to_owned()), "tls"),
        (Closed::Untrusted("another authority".to_owned()), "revoked"),
    ];
    let name =
        |kind, reason| format!("herd_connections_closed_total{{kind={kind},reason={reason}}}");
    for (why, reason) in reasons {
        for (listener, kind) in [(CLIENTS, "client"), (PEERS, "link_in")] {
            let id = world.accept(listener);
            let act = |world: &mut World| world.close(id, &why);
            assert_changes(&mut world, act, &[(&name(kind, reason), 1.0)]);
        }
    }
    let client = world.accept(CLIENTS);
    let act = |world: &mut World| {
        assert_eq!(world.line(client, "GET / HTTP/1.1"), Next::Finish);
        world.close(client, &Closed::Finished);
    };
    let expected = [(&line("other", "invalid")[..], 1.0), (&name("client", "protocol"), 1.0)];
    assert_changes(&mut world, act, &expected);
    let client = world.accept(CLIENTS);
    let act = |world: &mut World| world.close(client, &Closed::Drained);
    assert_changes(&mut world, act, &[(&name("client", "drained"), 1.0)]);
    let client = world.accept(CLIENTS);
    use herd_mio::application::Application as _;
    world.server.handle_stop(world::at(world.now));
    let act = |world: &mut World| world.close(client, &Closed::Finished);
    assert_changes(&mut world, act, &[(&name("client", "stopped"), 1.0)]);
}

#[test]
fn a_server_that_drains_or_stops_says_so() {
    use herd_mio::application::{Application as _, Control};
    let mut world = World::new();
    let now = world::at(world.now);
    let act = |world: &mut World| world.server.handle_control(Control::Drain, now);
    assert_changes(&mut world, act, &[("herd_draining{}", 1.0)]);
    assert_eq!(world.server.drain_state(), DrainState::Draining);
    assert_changes(&mut world, |world| world.server.handle_stop(now), &[]);
    assert_eq!(world.server.drain_state(), DrainState::Stopping);
    let mut world = World::new();
    assert_eq!(world.server.drain_state(), DrainState::Serving);
    let act = |world: &mut World| world.server.handle_stop(now);
    assert_changes(&mut world, act, &[("herd_draining{}", 1.0)]);
}

#[test]
fn a_connection_is_rejected_for_a_reason() {
    let mut world = World::new();
    let rejected =
        |kind, reason| format!("herd_connections_rejected_total{{kind={kind},reason={reason}}}");
    let closed = |reason| format!("herd_connections_closed_total{{kind=link_in,reason={reason}}}");
    let act = |world: &mut World| world.refuse(CLIENTS, &Refused::Limit(peer()));
    assert_changes(&mut world, act, &[(&rejected("client", "full"), 1.0)]);
    let act = |world: &mut World| world.refuse(CLIENTS, &Refused::Group(peer()));
    assert_changes(&mut world, act, &[(&rejected("client", "per_address"), 1.0)]);
    let act = |world: &mut World| world.refuse(PEERS, &Refused::Limit(peer()));
    assert_changes(&mut world, act, &[(&rejected("link_in", "full"), 1.0)]);
    for hello in ["HELLO herd/1 X 00000000000000b1", "HELLO herd/1 A 00000000000000b1"] {
        let id = world.accept(PEERS);
        let act = |world: &mut World| {
            assert_eq!(world.line(id, hello), Next::Finish);
            world.close(id, &Closed::Finished);
        };
        let expected =
            [(&rejected("link_in", "not_a_neighbour")[..], 1.0), (&closed("protocol"), 1.0)];
        assert_changes(&mut world, act, &expected);
    }
    let id = world.accept(PEERS);
    let act = |world: &mut World| {
        assert_eq!(world.line(id, "IAMAT kiwi +1.0+2.0 1"), Next::Finish);
        world.close(id, &Closed::Finished);
    };
    let unidentified = rejected("link_in", "unidentified");
    assert_changes(&mut world, act, &[(&unidentified, 1.0), (&closed("protocol"), 1.0)]);
    for _ in 0..MAX_UNIDENTIFIED_PEERS {
        world.accept(PEERS);
    }
    let act = |world: &mut World| world.accept(PEERS);
    assert_changes(&mut world, act, &[(&unidentified, 1.0), (&closed("idle_evicted"), 1.0)]);
    let changes = world.changes(|world| world.pass(6 * SECOND));
    let all = MAX_UNIDENTIFIED_PEERS as f64;
    assert!(changes.contains(&(unidentified, all)), "{changes:?}");
    assert!(changes.contains(&(closed("line_timeout"), all)), "{changes:?}");
}

/// What is set, and what changes by that.
type Case<'a> = (&'a dyn Fn(&World), &'a [(&'a str, f64)]);

#[test]
fn the_loops_numbers_are_shown_each_under_its_name() {
    let mut world = World::of(|config| config.loops = 2);
    let own = |name: &str, labels: &str| format!("herd_loop_{name}{{loop=2{labels}}}");
    let cases: [Case<'_>; 15] = [
        (&|world| world.loops[1].0.turns.add(3), &[(&own("turns_total", ""), 3.0)]),
        (&|world| world.loops[1].0.events.add(4), &[(&own("events_total", ""), 4.0)]),
        (
            &|world| world.loops[1].0.busy.add(1_500_000_000),
            &[(&own("busy_seconds_total", ""), 1.5)],
        ),
        (
            &|world| {
                for (milliseconds, lines) in [(20, 1), (750, 2), (30, 3)] {
                    let duration = Duration::from_millis(milliseconds);
                    world.loops[1].0.record_turn(&Turn { duration, lines, ..Turn::default() });
                }
            },
            &[
                (&own("longest_turn_seconds", ""), 0.75),
                (&own("turn_duration_seconds_count", ""), 3.0),
                (&own("turn_duration_seconds_sum", ""), 0.8),
                (&own("busy_seconds_total", ""), 0.8),
            ],
        ),
        (
            &|world| world.loops[1].0.turn_duration.observe(Duration::from_millis(250)),
            &[
                (&own("turn_duration_seconds_count", ""), 1.0),
                (&own("turn_duration_seconds_sum", ""), 0.25),
            ],
        ),
        (
            &|world| world.loops[1].0.budget(Budget::Fill).add(5),
            &[(&own("budget_exhausted_total", ",budget=feed"), 5.0)],
        ),
        (
            &|world| world.loops[1].0.budget(Budget::Accepts).add(6),
            &[(&own("budget_exhausted_total", ",budget=accepts"), 6.0)],
        ),
        (
            &|world| world.loops[1].0.budget(Budget::Handshakes).add(7),
            &[(&own("budget_exhausted_total", ",budget=handshakes"), 7.0)],
        ),
        (
            &|world| {
                world.loops[1].0.waiting_handshakes.add(2);
                world.loops[1].0.rate_limited_handshakes.add(3);
                world.loops[1].0.handshaking(PEERS).add(4);
            },
            &[
                ("herd_paused_connections{reason=handshakes}", 2.0),
                ("herd_rate_limited_total{limit=handshakes}", 3.0),
                ("herd_connections{kind=link_in,transport=handshake}", 4.0),
            ],
        ),
        (
            &|world| world.loops[1].0.accept_paused[Lack::Memory as usize].add(2_500_000_000),
            &[("herd_accept_paused_seconds_total{reason=memory}", 2.5)],
        ),
        (&|world| world.loops[1].0.address_groups.add(7), &[("herd_address_groups{}", 7.0)]),
        (&|world| world.loops[1].0.buffer_bytes.add(8), &[("herd_buffer_bytes{}", 8.0)]),
        (&|world| world.loops[1].0.buffer_limit.add(9), &[("herd_buffer_limit_bytes{}", 9.0)]),
        (
            &|world| world.loops[1].0.class(Kind::Client.class()).full.add(1),
            &[("herd_paused_connections{reason=output_full}", 1.0)],
        ),
        (
            &|world| {
                world.loops[0].1.rate_limited[RateLimit::NewIds as usize].add(1);
                world.loops[1].1.rate_limited[RateLimit::NewIds as usize].add(1);
                world.loops[1].1.paused[Paused::NewIds as usize].add(1);
            },
            &[
                ("herd_rate_limited_total{limit=new_ids}", 2.0),
                ("herd_paused_connections{reason=new_ids}", 1.0),
            ],
        ),
    ];
    for (act, expected) in cases {
        assert_changes(&mut world, |world| act(world), expected);
    }
    for (kind, transport) in [
        (Kind::Client, "plain"),
        (Kind::Client, "tls"),
        (Kind::LinkIn, "plain"),
        (Kind::LinkIn, "tls"),
        (Kind::LinkOut, "plain"),
        (Kind::LinkOut, "tls"),
        (Kind::Places, "tls"),
        (Kind::Admin, "plain"),
        (Kind::Admin, "tls"),
    ] {
        let act = |world: &mut World| {
            for (metrics, _) in &world.loops {
                let class = metrics.class(kind.class());
                class.open.add(1);
                class.opened.add(2);
                if transport == "tls" {
                    class.tls.add(1);
                    class.tls_opened.add(2);
                }
                class.bytes_in.add(3);
                class.bytes_out.add(4);
            }
        };
        let labels = format!("{{kind={},transport={transport}}}", kind.text());
        let kind = format!("{{kind={}}}", kind.text());
        let expected = [
            (&format!("herd_connections{labels}")[..], 2.0),
            (&format!("herd_connections_accepted_total{labels}"), 4.0),
            (&format!("herd_network_receive_bytes_total{kind}"), 6.0),
            (&format!("herd_network_transmit_bytes_total{kind}"), 8.0),
        ];
        assert_changes(&mut world, act, &expected);
    }
}

#[test]
fn requests_of_the_admin_listener_count_by_path_and_status() {
    let mut world = World::new();
    let name = |path, code| format!("herd_admin_requests_total{{path={path},code={code}}}");
    for (path, code, shown) in [
        (AdminPath::Metrics, 200, name("/metrics", 200)),
        (AdminPath::Readyz, 503, name("/readyz", 503)),
        (AdminPath::Other, 421, name("other", 421)),
        (AdminPath::Varz, 418, name("/varz", 500)),
    ] {
        let act = |world: &mut World| world.loops[0].1.count_admin_request(path, code);
        assert_changes(&mut world, act, &[(&shown, 1.0)]);
    }
}

/// The loop answers the former question when the next one is waiting already.
#[test]
fn a_question_that_is_not_answered_in_time_counts_as_that_and_its_answer_is_not_the_next_ones() {
    let mut world = World::of(|config| config.servers[0].admin_listen = Some(peer()));
    let session = world.accept(ADMIN);
    let ask = |world: &mut World, limit: u32| {
        let request = format!("GET /connz?limit={limit} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(world.bytes(session, request.as_bytes()), Next::Wait);
    };
    ask(&mut world, 1);
    let name = |code| format!("herd_admin_requests_total{{path=/connz,code={code}}}");
    world.now += 3 * SECOND;
    assert_changes(&mut world, |world| world.pass(Duration::ZERO), &[(&name(503), 1.0)]);
    ask(&mut world, 2);
    assert_changes(&mut world, World::inspect, &[]);
    assert_changes(&mut world, World::inspect, &[(&name(200), 1.0)]);
    let reply = String::from_utf8_lossy(&world.filled);
    assert!(reply.contains("\"limit\":2"), "{reply}");
}

#[test]
fn combinations_are_shown_from_the_start_if_they_can_occur() {
    let all = samples(&World::new().families());
    for name in [
        "herd_admin_requests_total{path=/nothing,code=200}",
        "herd_connections_rejected_total{kind=client,reason=unidentified}",
        "herd_connections_rejected_total{kind=link_in,reason=per_address}",
        "herd_connections_rejected_total{kind=admin,reason=not_a_neighbour}",
    ] {
        assert!(!all.contains_key(name), "{name}");
    }
    for name in [
        "herd_connections_rejected_total{kind=client,reason=full}",
        // A reload without an admin listener closes its sessions.
        "herd_connections_closed_total{kind=admin,reason=replaced}",
        // A parameter that the path does not have, and a loop that does not answer.
        "herd_admin_requests_total{path=/livez,code=400}",
        "herd_admin_requests_total{path=/metrics,code=400}",
        "herd_admin_requests_total{path=/connz,code=503}",
    ] {
        assert!(all.contains_key(name), "{name}");
    }
}

#[test]
fn a_reload_moves_its_numbers_by_how_it_ends() {
    let mut world = World::new();
    let (successful, required) =
        ("herd_config_last_reload_successful{}", "herd_config_restart_required{}");
    let time = "herd_config_last_reload_success_timestamp_seconds{}";
    assert_eq!(samples(&world.families())[time], WALL as f64, "the start counts as one");
    world.now += 10 * SECOND;
    let ends = |end: ReloadEnd| |world: &mut World| world.message(Message::ReloadEnded(end));
    let failed = ReloadEnd::Failed("no such file".to_owned());
    assert_changes(&mut world, ends(failed), &[(successful, -1.0)]);
    let later = vec!["loops: 1 -> 2".to_owned()];
    let done = ends(ReloadEnd::Done { changes: Vec::new(), later, refused: None });
    assert_changes(&mut world, done, &[(successful, 1.0), (required, 1.0), (time, 10.0)]);
    world.now += SECOND;
    let done = ends(ReloadEnd::Done { changes: Vec::new(), later: Vec::new(), refused: None });
    assert_changes(&mut world, done, &[(required, -1.0), (time, 1.0)]);
}

#[test]
fn what_is_fixed_is_shown_and_what_the_kernel_knows() {
    let mut world = World::of(|config| {
        (config.max_clients, config.limits.client_connections) = (70, 80);
        config.loops = 2;
    });
    let all = samples(&world.families());
    for (name, value) in [
        ("herd_server_info{server=A,epoch=000000000000abcd,dialect=report}", 1.0),
        ("herd_table_clients_limit{}", 70.0),
        ("herd_connections_limit{}", 80.0),
        ("herd_ready{}", 1.0),
        ("herd_in_sync{}", 0.0),
        ("process_cpu_seconds_total{}", 1.5),
        ("process_resident_memory_bytes{}", 2.0),
        ("process_virtual_memory_bytes{}", 3.0),
        ("process_open_fds{}", 4.0),
        ("process_max_fds{}", 5.0),
        ("process_start_time_seconds{}", 6.5),
    ] {
        assert_eq!(all.get(name), Some(&value), "{name}");
    }
    let build = Regex::new(
        r"^herd_build_info\{version=\d+\.\d+\.\d+,revision=([0-9a-f]{12}|unknown),rust=1\.\d+\.\d+[^,]*\}$",
    );
    let build = build.expect("a pattern");
    assert!(all.keys().any(|name| build.is_match(name)), "{:?}", all.keys().next());
    // It is ready by its own account: that is the admin listener's to say.
    let not_ready = world.server.families(false, world::at(world.now));
    assert_eq!(samples(&not_ready)["herd_ready{}"], 0.0);
    // In sync: each of the other servers has sent that it has nothing.
    let mut world = World::new();
    for name in ["B", "C"] {
        let act = |world: &mut World| {
            let dial = world.dial_of(&format!("{}.example:9", name.to_lowercase()));
            let id = world.connect(&dial);
            world.line(id, &format!("RESUME 0 0 00000000000000b1 {name}"));
            let peer = world.accept(PEERS);
            world.line(peer, &format!("HELLO herd/1 {name} 00000000000000b1"));
            world.line(peer, "MARK 0");
        };
        let is_in_sync = world.changes(act).contains(&("herd_in_sync{}".to_owned(), 1.0));
        assert_eq!(is_in_sync, name == "C", "after {name}");
    }
}

#[test]
fn what_is_kept_is_shown_only_where_it_is_set() {
    let is_of_kept = |name: &String| {
        ["herd_state_", "herd_engine_", "herd_answers_held"].iter().any(|it| name.starts_with(it))
    };
    let mut world = World::new();
    assert!(!names(&world.families()).iter().any(is_of_kept));
    world.attach_disk();
    let shown = names(&world.families());
    assert!(shown.iter().any(|name| name.starts_with("herd_state_commits")), "{shown:?}");
    assert!(!shown.iter().any(|name| name.starts_with("herd_engine_")), "{shown:?}");
}

#[test]
fn the_numbers_of_the_state_directory_are_those_of_its_thread() {
    let mut world = World::new();
    world.attach_disk();
    type Change = fn(&mut StateNumbers);
    let changes: [(&str, f64, Change); 8] = [
        ("commits_total", 2.0, |it| it.commits = 2),
        ("updates_total", 3.0, |it| it.updates = 3),
        ("failures_total", 4.0, |it| it.failures = 4),
        ("failing", 1.0, |it| it.is_failing = true),
        ("last_commit_duration_seconds", 0.5, |it| it.last_commit = SECOND / 2),
        ("bytes", 4_096.0, |it| it.bytes = 4_096),
        ("restored_clients", 7.0, |it| it.restored = 7),
        ("restore_duration_seconds", 2.0, |it| it.restore = 2 * SECOND),
    ];
    for (name, by, change) in changes {
        let act = |world: &mut World| change(&mut world.state.0.lock().expect("numbers"));
        assert_changes(&mut world, act, &[(&format!("herd_state_{name}{{}}"), by)]);
    }
}

#[test]
fn an_answer_that_waits_for_the_disk_counts_until_its_batch_is_committed() {
    let mut world = World::of(|config| config.servers[0].neighbours.clear());
    world.attach_disk();
    let client = world.accept(CLIENTS);
    let changes = world.changes(|world| {
        world.line(client, "IAMAT kiwi +1.0+2.0 1");
        world.turn(0);
    });
    for name in ["herd_answers_held{}", "herd_state_unwritten_updates{}"] {
        assert!(changes.contains(&(name.to_owned(), 1.0)), "{name}: {changes:?}");
    }
    let (number, updates) = world.batches.lock().expect("a list")[0];
    assert_eq!(updates, 1);
    let changes = world.changes(|world| {
        world.message(Message::State(StateMessage::Committed(number)));
    });
    for name in ["herd_answers_held{}", "herd_state_unwritten_updates{}"] {
        assert!(changes.contains(&(name.to_owned(), -1.0)), "{name}: {changes:?}");
    }
}

#[test]
fn an_engine_that_cannot_be_reached_counts_its_errors() {
    let mut world = World::new();
    let before = world.now;
    world.join_engine(EngineKeep::All);
    let is = |world: &mut World, name: &str| samples(&world.families())[name];
    assert_eq!(is(&mut world, "herd_engine_connected{loop=1}"), 0.0);
    assert_eq!(is(&mut world, "herd_engine_state{loop=1,state=disconnected}"), 1.0);
    assert_eq!(is(&mut world, "herd_engine_state{loop=1,state=in_sync}"), 0.0);
    world.finish_job();
    assert_eq!(is(&mut world, "herd_engine_errors_total{class=refused}"), 1.0);
    assert_eq!(world.now, before);
}

/// Without a connection to the engine; what it answers is counted with real ones (`tests/with_tools/engine/cache.rs`).
#[test]
fn what_waits_for_the_engine_of_a_cache_counts_until_it_is_given_up() {
    const TIMEOUT: Duration = Duration::from_secs(15);
    let mut world = World::of(|config| {
        config.servers[0].neighbours.clear();
        config.max_clients = 1;
    });
    world.join_engine(EngineKeep::Cache);
    let paused = "herd_paused_connections{reason=engine}";
    let clients: Vec<u32> = (0..3).map(|_| world.accept(CLIENTS)).collect();
    let asks = |world: &mut World| {
        assert_eq!(world.line(clients[0], "WHATSAT kiwi 0 0"), Next::Wait);
        assert!(world.said.is_empty());
    };
    assert_changes(&mut world, asks, &[("herd_engine_queries_waiting{}", 1.0), (paused, 1.0)]);
    // One that is closed before waits no longer, and is given no answer.
    let leaves = world.accept(CLIENTS);
    world.line(leaves, "WHATSAT kiwi 0 0");
    let changes = world.changes(|world| world.close(leaves, &Closed::Broken("reset".to_owned())));
    for name in ["herd_engine_queries_waiting{}", paused] {
        assert!(changes.contains(&(name.to_owned(), -1.0)), "{name}: {changes:?}");
    }
    assert_changes(&mut world, |world| world.pass(TIMEOUT - SECOND), &[]);
    let given_up = "herd_engine_answers_given_up_total{}";
    let expected = [
        ("herd_engine_queries_total{result=given_up}", 1.0),
        ("herd_engine_queries_waiting{}", -1.0),
        (paused, -1.0),
        (given_up, 1.0),
    ];
    assert_changes(&mut world, |world| world.pass(SECOND), &expected);
    let changes = world.changes(|world| world.close(clients[0], &Closed::Finished));
    let closed = "herd_connections_closed_total{kind=client,reason=answer_timeout}".to_owned();
    assert!(changes.contains(&(closed, 1.0)), "{changes:?}");

    // There is room for one client.
    world.line(clients[1], "IAMAT kiwi +1.0+2.0 1");
    let tells = |world: &mut World| {
        assert_eq!(world.line(clients[2], "IAMAT plum +1.0+2.0 1"), Next::Wait);
        assert!(world.said.is_empty());
    };
    let expected = [
        ("herd_engine_waiting_for_room{}", 1.0),
        ("herd_table_updates_total{source=client,result=no_room}", 1.0),
        (paused, 1.0),
    ];
    assert_changes(&mut world, tells, &expected);
    // It tries again from time to time.
    let changes = world.changes(|world| world.pass(SECOND));
    assert_eq!(
        changes,
        [("herd_table_updates_total{source=client,result=no_room}".to_owned(), 1.0)]
    );
    let changes = world.changes(|world| world.pass(TIMEOUT));
    for (name, by) in [("herd_engine_waiting_for_room{}", -1.0), (paused, -1.0), (given_up, 1.0)] {
        assert!(changes.contains(&(name.to_owned(), by)), "{name}: {changes:?}");
    }
}

/// Every name with its type, as `promtool` and the documents know them.
fn names(families: &[Family]) -> Vec<String> {
    let kind = |kind| match kind {
        FamilyKind::Counter => "counter",
        FamilyKind::Gauge => "gauge",
        FamilyKind::Histogram => "histogram",
    };
    families.iter().map(|family| format!("{} {}", family.name, kind(family.kind))).collect()
}

#[test]
fn the_names_and_types_are_those_that_others_rely_on() {
    let now = names(&World::with_all().families());
    let golden: Vec<String> =
        include_str!("metrics/names.txt").lines().map(str::to_owned).collect();
    assert_eq!(now, golden, "a name or a type that changes breaks dashboards and alerts");
}

#[test]
fn the_document_describes_each_metric_with_its_type_and_its_labels() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).expect("the document");
    let row =
        Regex::new(r"(?m)^\| `((?:herd|process)_\w+)` \| (\w+) \|([^|]*)\|").expect("a pattern");
    let documented: BTreeSet<String> = row
        .captures_iter(&text)
        .map(|row| {
            let mut labels: Vec<&str> = row[3].split(',').map(str::trim).collect();
            labels.sort_unstable();
            format!("{} {} {}", &row[1], &row[2], labels.join(","))
        })
        .collect();
    let families = World::with_all().families();
    let shown = families.iter().zip(names(&families)).map(|(family, name)| {
        let mut labels: Vec<&str> = family
            .samples
            .first()
            .into_iter()
            .flat_map(|it| &it.labels)
            .map(|(name, _)| *name)
            .collect();
        // Without a log there is no output to see them by.
        if family.samples.is_empty() {
            labels.push("output");
        }
        labels.sort_unstable();
        format!("{name} {}", labels.join(","))
    });
    let shown: BTreeSet<String> = shown.collect();
    let missing: Vec<_> = shown.difference(&documented).collect();
    let surplus: Vec<_> = documented.difference(&shown).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not there: {missing:#?}\nonly there: {surplus:#?}"
    );
}

/// The samples of a text, those of buckets, sums and counts included.
fn count_series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count()
}

#[test]
fn the_number_of_series_is_bounded_by_neighbours_and_loops_whatever_comes() {
    let count = |world: &mut World| count_series(&Exposition::Text.encode(world.families()));
    let alone = |loops: usize, neighbours: usize| {
        let mut world = World::of(|config| {
            config.loops = loops;
            config.servers[0].neighbours.truncate(neighbours);
        });
        count(&mut world)
    };
    let base = alone(1, 0);
    let (of_neighbour, of_loop) = (alone(1, 1) - base, alone(2, 0) - base);
    println!("{base} series, {of_neighbour} more for a neighbour, {of_loop} for a loop");
    // The outputs of the log are missing here: two series for each of four.
    assert!(base - of_loop + 8 <= 250, "{base}");
    let tls = count(&mut World::with_tls()) - count(&mut World::new());
    println!("{tls} more with TLS at every port");
    assert!(tls <= 110, "{tls}");
    assert!(of_neighbour <= 40 && of_loop <= 60, "{of_neighbour}, {of_loop}");
    assert_eq!(alone(3, 2), base + 2 * of_neighbour + 2 * of_loop);
    let mut world = World::new();
    let before = count(&mut world);
    let client = world.accept(CLIENTS);
    for number in 0..100 {
        world.line(client, &format!("IAMAT id{number} +1.0+2.0 1"));
        world.line(client, &format!("COMMAND{number} x"));
        let peer = world.accept(PEERS);
        world.line(peer, &format!("HELLO herd/1 N{number} 00000000000000b1"));
        world.refuse(ListenerId(number), &Refused::Limit(peer_at(number)));
    }
    assert_eq!(count(&mut world), before, "no label comes from the wire");
}

fn peer_at(last: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], last).into()
}

#[test]
fn each_bucket_is_there_and_the_last_one_is_infinite_in_both_formats() {
    let mut world = World::new();
    let duration = &world.loops[0].0.turn_duration;
    duration.observe(Duration::from_micros(10));
    duration.observe(Duration::from_secs(2));
    let families = world.families();
    let text = Exposition::Text.encode(families.clone());
    let open = Exposition::OpenMetrics.encode(families);
    let name = "herd_loop_turn_duration_seconds";
    for (format, text) in [("text", &text), ("OpenMetrics", &open)] {
        let buckets: Vec<&str> =
            text.lines().filter(|line| line.starts_with(&format!("{name}_bucket"))).collect();
        assert_eq!(buckets.len(), 15, "{format}: {buckets:#?}");
        let last = buckets[14];
        assert!(last.contains("le=\"+Inf\"") && last.ends_with(" 2"), "{format}: {last}");
        assert!(buckets[..14].iter().all(|line| line.ends_with(" 1")), "{format}: {buckets:#?}");
        assert!(text.contains(&format!("{name}_count{{loop=\"1\"}} 2\n")), "{format}");
        assert!(!text.contains("e308"), "{format}: a bound that is no bound");
        assert!(text.contains("herd_lines_total{command=\"iamat\",result=\"ok\"} 0\n"), "{format}");
    }
    assert!(open.ends_with("# EOF\n") && !text.contains("# EOF"));
    // In OpenMetrics a counter's name is without its ending.
    assert!(open.contains("# TYPE herd_lines counter\n"));
    assert!(text.contains("# TYPE herd_lines_total counter\n"));
}

#[test]
fn both_formats_say_the_same() {
    let mut world = World::new();
    let client = world.accept(CLIENTS);
    world.line(client, "IAMAT kiwi +1.0+2.0 1");
    let families = world.families();
    // Buckets are written differently (1e-05 and 0.00001), and in another order.
    let values = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket"));
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            format!("{name} {}", value.parse::<f64>().expect("a number"))
        };
        lines.map(value).collect()
    };
    let text = values(&Exposition::Text.encode(families.clone()));
    assert_eq!(text, values(&Exposition::OpenMetrics.encode(families)));
    assert!(text.contains("herd_lines_total{command=\"iamat\",result=\"ok\"} 1"));
}

#[test]
fn who_takes_openmetrics_at_all_gets_it() {
    let of = |values: &[&str]| Exposition::accepted(values.iter().map(|value| value.as_bytes()));
    for values in [
        &["application/openmetrics-text"][..],
        &["text/plain, application/openmetrics-text;version=1.0.0;q=0.1"],
        &["*/*;q=1", "Application/OpenMetrics-Text ; Q=0.001"],
        &["application/openmetrics-text;q=0.5,text/plain;q=0.9"],
    ] {
        assert_eq!(of(values), Exposition::OpenMetrics, "{values:?}");
    }
    for values in [
        &[][..],
        &["*/*"],
        &["text/plain;version=0.0.4"],
        &["application/openmetrics-text;q=0"],
        &["application/openmetrics-text; version=1.0.0; q=0.000"],
        &["application/openmetrics-texts"],
    ] {
        assert_eq!(of(values), Exposition::Text, "{values:?}");
    }
    assert_eq!(Exposition::Text.content_type(), "text/plain; version=0.0.4; charset=utf-8");
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(Exposition::OpenMetrics.content_type(), open);
}

/// A port's handshakes, and how one ended.
fn handshakes(listener: &str, result: &str) -> String {
    format!("herd_tls_handshakes_total{{listener={listener},result={result}}}")
}

#[test]
fn a_handshake_counts_by_its_listener_and_its_result() {
    let mut world = World::with_tls();
    let duration = |part: &str, listener: &str| {
        format!("herd_tls_handshake_duration_seconds_{part}{{listener={listener}}}")
    };
    for (listener, name) in [(CLIENTS, "clients"), (PEERS, "peers"), (ADMIN, "admin")] {
        let act = |world: &mut World| world.open_tls(Origin::Accepted(listener), None);
        let expected = [
            (&handshakes(name, "ok")[..], 1.0),
            (&duration("count", name), 1.0),
            (&duration("sum", name), 0.001),
        ];
        assert_changes(&mut world, act, &expected);
    }
    let act = |world: &mut World| {
        let tls =
            TlsInfo { version: TlsVersion::V1_2, resumed: true, took: Duration::from_secs(2) };
        let origin = Origin::Accepted(CLIENTS);
        world.open_as(Opened { tls: Some(tls), ..Opened::plain(origin) });
    };
    let expected = [
        (&handshakes("clients", "resumed")[..], 1.0),
        (&duration("count", "clients"), 1.0),
        (&duration("sum", "clients"), 2.0),
    ];
    assert_changes(&mut world, act, &expected);
    for (listener, name, kind) in
        [(CLIENTS, "clients", "client"), (PEERS, "peers", "link_in"), (ADMIN, "admin", "admin")]
    {
        for (failure, result, rejected) in [
            (HandshakeFailure::Timeout, "timeout", Some("handshake_timeout")),
            (HandshakeFailure::Certificate, "certificate", Some("certificate")),
            (HandshakeFailure::Alert, "alert", None),
            (HandshakeFailure::Protocol, "protocol", None),
            (HandshakeFailure::Closed, "closed", None),
        ] {
            let why = Refused::Handshake(peer(), failure, "in words".to_owned());
            let reason = rejected.unwrap_or_default();
            let rejected_name =
                format!("herd_connections_rejected_total{{kind={kind},reason={reason}}}");
            let counted = handshakes(name, result);
            let mut expected = vec![(&counted[..], 1.0)];
            expected.extend(rejected.map(|_| (&rejected_name[..], 1.0)));
            assert_changes(&mut world, |world| world.refuse(listener, &why), &expected);
        }
    }
}

#[test]
fn plain_text_where_only_tls_is_taken_is_refused_and_counts_as_that() {
    let mut world = World::with_tls();
    let closed = |kind| format!("herd_connections_closed_total{{kind={kind},reason=protocol}}");
    let rejected =
        |kind| format!("herd_connections_rejected_total{{kind={kind},reason=plaintext}}");
    for (listener, kind, line) in [
        (CLIENTS, "client", "IAMAT kiwi +1.0+2.0 1"),
        (PEERS, "link_in", "HELLO herd/1 B 00000000000000b1"),
    ] {
        let id = world.accept(listener);
        let act = |world: &mut World| {
            assert_eq!(world.line(id, line), Next::Finish);
            assert_eq!(String::from_utf8_lossy(&world.said), format!("? {line}\n"));
            world.close(id, &Closed::Finished);
        };
        assert_changes(&mut world, act, &[(&rejected(kind), 1.0), (&closed(kind), 1.0)]);
    }
    let id = world.accept(ADMIN);
    let act = |world: &mut World| {
        let next = world.bytes(id, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(next, Next::Finish);
        let said = String::from_utf8_lossy(&world.said).into_owned();
        assert!(said.starts_with("HTTP/1.1 400 ") && said.ends_with("use https\n"), "{said}");
        world.close(id, &Closed::Finished);
    };
    let request = "herd_admin_requests_total{path=other,code=400}";
    let expected = [(&rejected("admin")[..], 1.0), (&closed("admin"), 1.0), (request, 1.0)];
    assert_changes(&mut world, act, &expected);
}

#[test]
fn a_client_without_a_certificate_for_an_id_may_not_speak_for_it() {
    let mut world = World::with_tls();
    let client = world.open_tls(Origin::Accepted(CLIENTS), None);
    for (text, command) in [("IAMAT kiwi +1.0+2.0 1", "iamat"), ("WHATSAT kiwi 10 5", "whatsat")] {
        let act = |world: &mut World| {
            assert_eq!(world.line(client, text), Next::Read);
            assert_eq!(String::from_utf8_lossy(&world.said), format!("? {text}\n"));
        };
        assert_changes(&mut world, act, &[(&line(command, "not_permitted"), 1.0)]);
    }
}

#[test]
fn a_peer_whose_certificate_names_nobody_is_rejected_for_it() {
    let mut world = World::with_tls();
    for (name, reason) in [("B", "certificate"), ("X", "not_a_neighbour")] {
        let id = world.open_tls(Origin::Accepted(PEERS), None);
        let hello = format!("HELLO herd/1 {name} 00000000000000b1");
        let act = |world: &mut World| {
            assert_eq!(world.line(id, &hello), Next::Finish);
            assert_eq!(String::from_utf8_lossy(&world.said), format!("? {hello}\n"));
            world.close(id, &Closed::Finished);
        };
        let rejected = format!("herd_connections_rejected_total{{kind=link_in,reason={reason}}}");
        let closed = "herd_connections_closed_total{kind=link_in,reason=protocol}";
        assert_changes(&mut world, act, &[(&rejected, 1.0), (closed, 1.0)]);
    }
}

#[test]
fn a_dial_that_fails_in_tls_counts_as_that_and_one_for_its_certificate_says_so() {
    let dials = |result: &str| link("dials_total", &format!(",result={result}"));
    let transition =
        |reason: &str| link("transitions_total", &format!(",direction=out,reason={reason}"));
    let mut world = World::with_tls();
    for failure in [HandshakeFailure::Certificate, HandshakeFailure::Protocol] {
        let dial = world.dial_of(B);
        assert_eq!(dial.tls, Some(herd_mio::application::TlsId(1)));
        let act = |world: &mut World| {
            world.dial_event(&dial, DialEvent::Connecting(peer()));
            world.dial_event(&dial, DialEvent::Handshaking(peer()));
        };
        let handshake = "herd_connections{kind=link_out,transport=handshake}";
        assert_changes(&mut world, act, &[(handshake, 1.0)]);
        let act = |world: &mut World| {
            world.dial_event(&dial, DialEvent::HandshakeFailed(peer(), failure));
            world.dial_event(&dial, DialEvent::Failed("in words".to_owned()));
        };
        let (tls, refused) = (dials("tls"), transition("certificate"));
        let mut expected = vec![(&tls[..], 1.0), (handshake, -1.0)];
        let is_certificate = failure == HandshakeFailure::Certificate;
        expected.extend(is_certificate.then_some((&refused[..], 1.0)));
        assert_changes(&mut world, act, &expected);
        world.pass(SECOND);
    }
    // The neighbour refuses our certificate, which TLS 1.3 says after the handshake.
    let dial = world.dial_of(B);
    let id = world.connect(&dial);
    let closed = "herd_connections_closed_total{kind=link_out,reason=tls}";
    let act = |world: &mut World| {
        world.close(id, &Closed::Tls(HandshakeFailure::Certificate, "refused".to_owned()));
    };
    assert_changes(&mut world, act, &[(&transition("certificate"), 1.0), (closed, 1.0)]);
}

#[test]
fn the_end_of_each_certificate_is_shown() {
    let all = samples(&World::with_tls().families());
    for (year, what) in (1..).zip(["server", "herd_ca", "clients_ca", "herd_crl", "clients_crl"]) {
        let name = format!("herd_certificate_not_after_timestamp_seconds{{use={what}}}");
        assert_eq!(all[&name], (WALL + year * 365 * 86_400) as f64, "{name}");
    }
}
