//! Claim: members that keep a cache know every client that any of them has answered, however few fit into it, and say of
//! none that it is unknown unless the bucket says so. While NATS is away they answer for what is cached, and for nothing
//! else.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use herd_mio::limits::CACHE_REMEMBERED_FOR;
use rustix::process::Signal;
use serde_json::json;

use super::eye::{Eye, key};
use super::members::{
    known, members, start_all, tell, timestamp_of, timestamps, wait_until_in_sync, wait_until_known,
};
use super::nats::{Nats, Release};
use crate::common::client::Next;
use crate::common::http::get;
use crate::common::needs::Outcome;
use crate::common::process::run_to_end;
use crate::common::sockets::resident_bytes;
use crate::common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const BUCKET: &str = "herd";
const NAMES: [&str; 3] = ["Goloman", "Hands", "Holiday"];

/// Members that keep at most so many clients each.
fn caches(nats: &Nats, names: &[&str], clients: usize, more: &str) -> Setup {
    let setup = members(nats, names, &format!("keep = \"cache\"\n{more}"));
    setup.top(&format!("max_clients = {clients}"))
}

/// One of them, with a port for operators.
fn start(setup: &Setup) -> ServerProcess {
    let server = setup.start_with(NAMES[0], &["--admin", "0"]);
    wait_until_in_sync(&server, 1);
    assert!(
        !server.log().contains("in sync with the engine"),
        "it follows nothing: {}",
        server.log()
    );
    server
}

/// A sample of the metrics, by its name with its labels.
fn sample(server: &ServerProcess, name: &str) -> u64 {
    let metrics = get(server.admin(), "/metrics").text();
    let begins = format!("{name} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&begins));
    let value = value.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    value.parse().unwrap_or_else(|_| panic!("{name} {value}"))
}

fn queries(server: &ServerProcess, result: &str) -> u64 {
    sample(server, &format!("herd_engine_queries_total{{result=\"{result}\"}}"))
}

/// Tells a server these clients, a hundred lines at a time; all are answered.
fn tell_all(at: SocketAddr, ids: &[String], timestamp: u64) {
    let mut client = Client::connect(at);
    for ids in ids.chunks(100) {
        let update = |id: &String| format!("{id} +1.0-2.0 {timestamp}");
        client.send(ids.iter().fold(String::new(), |mut lines, id| {
            _ = writeln!(lines, "IAMAT {}", update(id));
            lines
        }));
        ids.iter().for_each(|id| assert_eq!(client.line(), format!("AT AT {}", update(id))));
    }
}

/// What a server says of these clients, asked over several connections at once.
fn ask_all(at: SocketAddr, ids: &[String]) -> Vec<Option<String>> {
    let parts = ids.chunks(ids.len().div_ceil(CONNECTIONS).max(1));
    std::thread::scope(|scope| {
        let ask = |part: &[String]| {
            let part: Vec<String> = part.to_vec();
            scope.spawn(move || {
                let part: Vec<&str> = part.iter().map(String::as_str).collect();
                timestamps(at, &part)
            })
        };
        let asked: Vec<_> = parts.map(ask).collect();
        asked.into_iter().flat_map(|it| it.join().expect("a client does not panic")).collect()
    })
}

const CONNECTIONS: usize = 16;

pub fn what_one_cache_answers_the_others_find_and_the_bucket_holds() -> Outcome {
    round_trip(Release::Current)
}

pub fn with_debians_server_the_others_find_what_one_cache_answers_as_well() -> Outcome {
    round_trip(Release::Debian)
}

fn round_trip(release: Release) -> Outcome {
    const CLIENTS: usize = 10_000;
    const CACHED: usize = 100;
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = caches(&nats, &NAMES, CACHED, "");
    let start = |name: &&str| setup.start_with(name, &["--admin", "0"]);
    let servers: Vec<ServerProcess> = NAMES.iter().map(start).collect();
    servers.iter().for_each(|server| wait_until_in_sync(server, 1));
    let ids: Vec<String> = (0..CLIENTS).map(|number| format!("client.{number}")).collect();
    let of = |at: usize| -> Vec<String> { ids.iter().skip(at).step_by(3).cloned().collect() };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (at, server) in servers.iter().enumerate() {
            let clients = server.clients;
            let told = of(at);
            scope.spawn(move || tell_all(clients, &told, 7));
        }
    });
    println!("{CLIENTS} clients told to caches of {CACHED} in {:.1?}", begun.elapsed());
    let all = eye.all(BUCKET);
    assert_eq!(all.len(), CLIENTS);
    for id in &ids {
        assert_eq!(timestamp_of(&all[&key(id.as_bytes())]), "7", "{id}");
    }
    let begun = Instant::now();
    for (at, server) in servers.iter().enumerate() {
        let told_elsewhere = of((at + 1) % 3);
        let found = ask_all(server.clients, &told_elsewhere);
        let missing = found.iter().filter(|found| found.as_deref() != Some("7")).count();
        assert_eq!(missing, 0, "of {} at {}", found.len(), server.name);
        assert_eq!(known(server, "nobody"), None);
        assert!(sample(server, "herd_table_clients") <= CACHED as u64);
        assert_eq!(queries(server, "known"), told_elsewhere.len() as u64);
        assert_eq!((queries(server, "unknown"), queries(server, "cached")), (1, 0));
        assert!(sample(server, "herd_engine_lookups_total") > told_elsewhere.len() as u64);
        assert!(sample(server, "herd_table_evicted_clients_total") > 0);
        for gauge in ["herd_engine_queries_waiting", "herd_engine_waiting_for_room"] {
            assert_eq!(sample(server, gauge), 0, "{gauge}");
        }
        assert_eq!(sample(server, "herd_paused_connections{reason=\"engine\"}"), 0);
        let varz = get(server.admin(), "/varz").json();
        assert_eq!(varz["engine"]["keep"], "cache");
    }
    println!("{CLIENTS} clients found elsewhere in {:.1?}", begun.elapsed());
    assert!(eye.consumers(BUCKET).is_empty(), "a cache follows nothing");
    Ok(())
}

pub fn as_many_clients_are_asked_for_at_once_as_there_are_connections_and_none_is_denied() -> Outcome
{
    let nats = Nats::one(Release::Current)?;
    // Each answer takes the place of the one before.
    let setup = caches(&nats, &["Goloman", "Hands"], 1, "");
    let servers = start_all(&setup);
    let ids: Vec<String> = (0..200).map(|number| format!("client.{number}")).collect();
    tell_all(servers[0].clients, &ids, 7);
    let mut clients: Vec<Client> = ids.iter().map(|_| servers[1].client()).collect();
    for _ in 0..5 {
        for (client, id) in clients.iter_mut().zip(&ids) {
            client.send(format!("WHATSAT {id} 0 0\n"));
        }
        for (client, id) in clients.iter_mut().zip(&ids) {
            assert_eq!(client.answer().first, format!("AT AT {id} +1.0-2.0 7"));
        }
    }
    Ok(())
}

pub fn answers_come_in_the_order_of_their_lines_also_at_the_end_of_the_input_and_in_a_stop()
-> Outcome {
    let nats = Nats::one(Release::Current)?;
    let setup = caches(&nats, &NAMES, 10, "timeout = \"5m\"\n");
    let setup = setup.section("[stop]\ndrain_delay = \"off\"\ndrain_duration = \"5m\"");
    let mut servers = start_all(&setup);
    tell(&servers[0], "kiwi", 1);
    tell(&servers[0], "plum", 1);
    let mut client = servers[1].client();
    client.send(
        "WHATSAT kiwi 0 0\nIAMAT pear +1.0-2.0 2\nWHATSAT pear 0 0\nWHAT?\nIAMAT kiwi +1.0-2.0 3\n\
         WHATSAT plum 0 0\nWHATSAT nobody 0 0\n",
    );
    client.half_close();
    assert_eq!(client.answer().first, "AT AT kiwi +1.0-2.0 1");
    assert_eq!(client.line(), "AT AT pear +1.0-2.0 2");
    assert_eq!(client.answer().first, "AT AT pear +1.0-2.0 2");
    assert_eq!(client.line(), "? WHAT?");
    assert_eq!(client.line(), "AT AT kiwi +1.0-2.0 3");
    assert_eq!(client.answer().first, "AT AT plum +1.0-2.0 1");
    assert_eq!(client.line(), "? WHATSAT nobody 0 0");
    client.expect_end();

    // All waits for NATS, and then the server is told to stop, or to drain.
    for (signal, says, id) in [(Signal::TERM, "stops.", "fig"), (Signal::USR2, "drains: ", "date")]
    {
        let mut server = servers.pop().expect("three");
        tell(&server, "kiwi", 4);
        nats.nodes[0].hold();
        let waits = |number: usize| {
            let mut client = server.client();
            client.send(format!("WHATSAT {id}{number} 0 0\nIAMAT {id}{number} +1.0-2.0 5\n"));
            client
        };
        let mut waiting: Vec<Client> = (0..3).map(waits).collect();
        let mut killed = waits(3);
        killed.expect_silence(Duration::from_millis(200));
        killed.reset();
        server.signal(signal);
        server.wait_for_log(says);
        nats.nodes[0].go_on();
        for (number, client) in waiting.iter_mut().enumerate() {
            assert_eq!(client.line(), format!("? WHATSAT {id}{number} 0 0"));
            assert_eq!(client.line(), format!("AT AT {id}{number} +1.0-2.0 5"));
            client.expect_end();
        }
        assert!(server.wait().success());
        (0..3).for_each(|number| wait_until_known(&servers[..1], &format!("{id}{number}"), 5));
    }
    Ok(())
}

pub fn without_nats_cached_clients_are_answered_and_who_asks_for_others_is_disconnected() -> Outcome
{
    away(Release::Current)
}

pub fn with_debians_server_cached_clients_are_answered_without_nats_as_well() -> Outcome {
    away(Release::Debian)
}

fn away(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    // Longer than the pause before a server of NATS is dialled again.
    let setup = caches(&nats, &["Goloman", "Hands"], 100, "timeout = \"10s\"\n");
    let hands = setup.start("Hands");
    let server = start(&setup);
    wait_until_in_sync(&hands, 1);
    tell(&server, "kiwi", 1);
    ["plum", "plum2", "pear", "pear2"].iter().for_each(|id| tell(&hands, id, 1));
    assert_eq!(get(server.admin(), "/readyz").status, 200);
    for (hold, plum, pear) in [(true, "plum", "pear"), (false, "plum2", "pear2")] {
        let begun = Instant::now();
        if hold {
            nats.nodes[0].hold()
        } else {
            nats.nodes[0].kill()
        }
        let mut client = server.client();
        client.send(format!("WHAT?\nWHATSAT {pear} 0 0\n"));
        assert_eq!(client.line(), "? WHAT?", "what is owed before it is given");
        assert_eq!(known(&server, "kiwi").as_deref(), Some("1"), "it is cached");
        println!("a cached client is answered {:.1?} after NATS stood", begun.elapsed());
        assert_eq!(client.next(LIMIT), Next::End(Vec::new()));
        assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
        wait_until(LIMIT, "it is not ready", || get(server.admin(), "/readyz").status == 503);
        let begun = Instant::now();
        assert_eq!(known(&server, "kiwi").as_deref(), Some("1"), "it is cached");
        assert!(begun.elapsed() < Duration::from_secs(1), "it is known that NATS is away");
        // One that waits until it is back.
        let mut client = server.client();
        client.send(format!("WHATSAT {plum} 0 0\nWHATSAT nobody 0 0\n"));
        client.expect_silence(Duration::from_millis(200));
        assert_eq!(sample(&server, "herd_paused_connections{reason=\"engine\"}"), 1);
        let waiting = || sample(&server, "herd_engine_queries_waiting");
        assert_eq!(waiting(), 1);
        let mut leaves = server.client();
        leaves.send("WHATSAT nobody 0 0\n");
        wait_until(LIMIT, "it waits, too", || waiting() == 2);
        leaves.reset(); // That is noticed when its answer is written.
        if hold {
            nats.nodes[0].go_on();
        } else {
            nats.nodes[0].start();
        }
        assert_eq!(client.answer().first, format!("AT AT {plum} +1.0-2.0 1"));
        assert_eq!(client.line(), "? WHATSAT nobody 0 0");
        wait_until(LIMIT, "nobody waits", || waiting() == 0);
        wait_until(LIMIT, "it is ready", || get(server.admin(), "/readyz").status == 200);
    }
    assert!(queries(&server, "cached") >= 4);
    assert_eq!(queries(&server, "given_up"), 2);
    let closed = "herd_connections_closed_total{kind=\"client\",reason=\"answer_timeout\"}";
    assert_eq!(sample(&server, closed), 2);
    let log = server.log();
    let count = |text: &str| {
        log.lines().filter(|line| line.contains(" - WARNING: ") && line.contains(text)).count()
    };
    assert_eq!(count("gets what the cache has of a client"), 1, "one a minute");
    assert_eq!(count("has not said for 10 s what it has of a client; the connection is closed"), 2);
    Ok(())
}

pub fn what_a_cache_has_no_room_for_is_answered_once_the_bucket_has_it_and_never_before() -> Outcome
{
    const CLIENTS: usize = 400;
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = caches(&nats, &NAMES[..1], 4, "timeout = \"8s\"\n");
    let server = start(&setup);
    tell(&server, "kiwi", 1);
    for (round, is_late) in [(1, false), (2, true)] {
        nats.nodes[0].hold();
        let id = |number: usize| format!("client.{round}.{number}");
        let told = |number: usize| {
            let mut client = server.client();
            client.send(format!("IAMAT {} +1.0-2.0 7\n", id(number)));
            client
        };
        let mut clients: Vec<Client> = (0..CLIENTS).map(told).collect();
        wait_until(LIMIT, "they wait for room", || {
            sample(&server, "herd_engine_waiting_for_room") == CLIENTS as u64 - 4
        });
        clients[CLIENTS - 1].expect_silence(Duration::from_millis(300));
        if is_late {
            for client in &mut clients {
                assert_eq!(client.next(LIMIT), Next::End(Vec::new()), "nothing false is said");
            }
        }
        nats.nodes[0].go_on();
        if !is_late {
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.line(), format!("AT AT {} +1.0-2.0 7", id(number)));
            }
        }
        // What was not answered may be lost, or kept; what was is there.
        let total = if is_late { 1 + CLIENTS + 4 } else { 1 + CLIENTS };
        wait_until(LIMIT, "what was taken up is there", || eye.all(BUCKET).len() >= total);
        let all = eye.all(BUCKET);
        let kept =
            (0..CLIENTS).filter(|&number| all.contains_key(&key(id(number).as_bytes()))).count();
        assert_eq!(kept, if is_late { 4 } else { CLIENTS });
        assert_eq!(sample(&server, "herd_engine_waiting_for_room"), 0);
    }
    tell(&server, "plum", 1);
    server.wait_for_log(
        "has no room, because of none of its clients it is known yet that the engine has its update",
    );
    server.wait_for_log("the cache had no room for its update for 8 s, and it is not stored");
    Ok(())
}

pub fn a_bucket_without_allow_direct_is_refused_by_name() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    eye.ask(json!({ "do": "make_bucket", "bucket": BUCKET }));
    let setup = caches(&nats, &NAMES[..1], 100, "timeout = \"4s\"\n");
    let ended = run_to_end(setup.command("Goloman"));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains(NOT_DIRECT), "{}", ended.stderr);
    // An operator mends it, and spoils it again.
    let mut config = eye.stream(BUCKET).expect("it is there")["config"].clone();
    let mut set = |is_direct: bool| {
        config["allow_direct"] = json!(is_direct);
        eye.api("STREAM.UPDATE.KV_herd", config.clone()).expect("it is changed");
    };
    set(true);
    let server = start(&setup);
    tell(&server, "kiwi", 1);
    assert_eq!(known(&server, "kiwi").as_deref(), Some("1"));
    set(false);
    let mut client = server.client();
    client.send("WHATSAT nobody 0 0\n");
    assert_eq!(client.next(LIMIT), Next::End(Vec::new()), "unknown might be a lie");
    let is_it = |line: &str| line.contains(" - ERROR: ") && line.contains(NOT_DIRECT);
    wait_until(LIMIT, "an ERROR names the field", || server.log().lines().any(is_it));
    let ready = get(server.admin(), "/readyz");
    assert_eq!((ready.status, &ready.json()["checks"]["engine_asked"]), (503, &json!(false)));
    assert_eq!(known(&server, "kiwi").as_deref(), Some("1"), "it is cached");
    set(true);
    wait_until(LIMIT, "it is ready", || get(server.admin(), "/readyz").status == 200);
    assert_eq!(known(&server, "nobody"), None);
    Ok(())
}

const NOT_DIRECT: &str = "allow_direct is false and must be true where keep = \"cache\"";

pub fn a_cache_that_is_killed_takes_nothing_with_it() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let setup = caches(&nats, &["Goloman", "Hands"], 100, "");
    let mut servers = start_all(&setup);
    let ids: Vec<String> = (0..1_000).map(|number| format!("client.{number}")).collect();
    let other = servers.pop().expect("two");
    tell_all(servers[0].clients, &ids, 7);
    servers.pop().expect("one").kill();
    let found = ask_all(other.clients, &ids);
    assert!(found.iter().all(|found| found.as_deref() == Some("7")));
    // What it told before it was killed is not in the way of what it tells now.
    let again = setup.start("Goloman");
    wait_until_in_sync(&again, 1);
    tell_all(again.clients, &ids, 8);
    assert!(ask_all(other.clients, &ids).iter().all(|found| found.as_deref() == Some("8")));
    Ok(())
}

pub fn a_member_that_keeps_all_and_one_that_keeps_a_cache_know_the_same() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = caches(&nats, &["Goloman", "Hands"], 100, "");
    let all = {
        let command = setup.command("Hands"); // It writes the configuration, which this one replaces.
        let text = setup.toml("Hands").replace("keep = \"cache\"", "keep = \"all\"");
        let text = text.replace("max_clients = 100\n", "");
        std::fs::write(setup.folder.path().join("Hands.toml"), text).expect("a file");
        ServerProcess::spawn(command, "Hands", setup.log_file("Hands"))
    };
    let cache = setup.start("Goloman");
    let servers = [all, cache];
    servers.iter().for_each(|server| wait_until_in_sync(server, 1));
    let ids: Vec<String> = (0..600).map(|number| format!("client.{number}")).collect();
    let (ours, theirs) = ids.split_at(300);
    tell_all(servers[0].clients, ours, 5);
    tell_all(servers[1].clients, theirs, 5);
    // Each tells what the other one has told: newer, and older.
    tell_all(servers[0].clients, &theirs[..100], 6);
    tell_all(servers[1].clients, &ours[..100], 6);
    tell_all(servers[0].clients, &theirs[100..200], 4);
    tell_all(servers[1].clients, &ours[100..200], 4);
    let due = |id: &String| {
        let number: usize = id["client.".len()..].parse().expect("a number");
        Some(if number % 300 < 100 { "6" } else { "5" }.to_owned())
    };
    let due: Vec<Option<String>> = ids.iter().map(due).collect();
    for server in &servers {
        let what = format!("{} knows all", server.name);
        wait_until(LIMIT, &what, || ask_all(server.clients, &ids) == due);
    }
    let held: BTreeMap<String, String> =
        eye.all(BUCKET).iter().map(|(key, entry)| (key.clone(), timestamp_of(entry))).collect();
    for (id, due) in ids.iter().zip(&due) {
        assert_eq!(held.get(&key(id.as_bytes())), due.as_ref(), "{id}");
    }
    Ok(())
}

pub fn a_client_that_an_operator_deletes_is_unknown_to_every_cache() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = caches(&nats, &["Goloman", "Hands"], 100, "");
    let servers = start_all(&setup);
    tell(&servers[0], "kiwi", 5);
    tell(&servers[0], "plum", 5);
    wait_until_known(&servers, "kiwi", 5);
    eye.delete(BUCKET, b"kiwi");
    for server in &servers {
        assert_eq!(known(server, "kiwi"), None, "{}", server.name);
        assert_eq!(known(server, "plum").as_deref(), Some("5"));
    }
    // An older one than before is the newest now.
    tell(&servers[1], "kiwi", 4);
    wait_until_known(&servers, "kiwi", 4);
    Ok(())
}

/// To be run in release: `just engine cache::the_memory`.
pub fn the_memory_of_a_cache_is_flat_in_figures() -> Outcome {
    const CACHED: usize = 10_000;
    let nats = Nats::one(Release::Current)?;
    let setup = caches(&nats, &["Goloman", "Hands"], CACHED, "");
    // As many clients come from here as from a crowd.
    let setup = setup.section("[limits]\nexempt = [\"127.0.0.0/8\"]");
    let servers = start_all(&setup);
    let tell = |new: Range<usize>, timestamp: u64| {
        let each = new.len().div_ceil(CONNECTIONS);
        std::thread::scope(|scope| {
            for part in 0..CONNECTIONS {
                let ids = (new.start + part * each)..(new.start + (part + 1) * each).min(new.end);
                let ids: Vec<String> = ids.map(|number| format!("client.{number}")).collect();
                let at = servers[part % 2].clients;
                scope.spawn(move || tell_all(at, &ids, timestamp));
            }
        });
    };
    // What is remembered of clients that have left takes its place within two periods.
    let begun = Instant::now();
    let rounds = (1..900).take_while(|_| begun.elapsed() < 2 * CACHE_REMEMBERED_FOR);
    rounds.for_each(|round| tell(0..100_000, round));
    let mut figures = Vec::new();
    let mut told = 0;
    for clients in [100_000, 500_000, 1_000_000, 2_000_000] {
        let begun = Instant::now();
        let new = told..clients;
        tell(new.clone(), 999);
        let rate = new.len() as f64 / begun.elapsed().as_secs_f64();
        told = clients;
        // Those that were told last, and others from all the time before, are asked for at both.
        let ids: Vec<String> =
            (0..20_000).map(|number| format!("client.{}", number * clients / 20_000)).collect();
        let begun = Instant::now();
        for server in &servers {
            assert!(ask_all(server.clients, &ids).iter().all(|it| it.as_deref() == Some("999")));
        }
        let asked = 2.0 * ids.len() as f64 / begun.elapsed().as_secs_f64();
        let bytes = servers.iter().map(|server| resident_bytes(server.pid())).max();
        let bytes = bytes.expect("two servers");
        println!(
            "{clients} clients, caches of {CACHED}: {:.1} MB resident, {rate:.0} told and {asked:.0} asked for a second",
            bytes as f64 / 1e6
        );
        figures.push(bytes as f64);
    }
    let grown = figures[figures.len() - 1] / figures[0];
    assert!(grown < 1.1, "{grown:.2} times as much: {figures:?}");
    Ok(())
}
