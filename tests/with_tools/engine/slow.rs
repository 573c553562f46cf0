//! A member that was stopped, or lost its connection many times, goes on where it was, and leaves nothing behind in NATS.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::eye::Eye;
use super::members::{errors, known, members, start_by, tell, wait_until_in_sync};
use super::nats::{Nats, Release};
use crate::common::needs::Outcome;
use crate::common::proxy::Proxy;
use crate::common::{LIMIT, ServerProcess, wait_until};

const BUCKET: &str = "herd";

pub fn a_member_that_stood_still_for_8_s_and_for_15_s_goes_on_where_it_was_for_a_minute() -> Outcome
{
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "");
    let servers: Vec<ServerProcess> =
        ["Goloman", "Hands"].map(|name| setup.start_with(name, &["--admin", "0"])).into();
    servers.iter().for_each(|server| wait_until_in_sync(server, 1));
    let [stopped, busy] = &servers[..] else { panic!("two members") };
    tell(stopped, "kiwi", 1);
    // NATS lets more be on its way to a consumer that has kept up: then more than the sockets' buffers hold.
    write(busy, 0, 400_000, Instant::now() + LIMIT);
    for (round, seconds) in [(1, 8), (2, 15)] {
        let before = whole_replays(&mut eye);
        let lost_before = errors(stopped, "lost") + errors(stopped, "silent");
        let since = Instant::now();
        stopped.hold();
        // On a slow machine fewer pass meanwhile, and it stands still for no longer.
        let passed = write(busy, round, 200_000, since + Duration::from_secs(seconds));
        let took = since.elapsed();
        sleep(Duration::from_secs(seconds).saturating_sub(took));
        stopped.signal(Signal::CONT);
        let (resumed, stood) = (Instant::now(), since.elapsed());
        tell(busy, "last", round as u64);
        let last = round.to_string();
        wait_until(LIMIT, "it knows the last one", || known(stopped, "last") == Some(last.clone()));
        let in_sync = resumed.elapsed();
        let lost = errors(stopped, "lost") + errors(stopped, "silent") - lost_before;
        println!(
            "stopped for {stood:.1?} while {passed} updates passed in {took:.1?}: in sync {in_sync:.1?} after, \
             {lost} connections lost"
        );
        // Whoever was cut off went on by a sequence: no new consumer reads from the beginning.
        let anew: Vec<String> =
            whole_replays(&mut eye).into_iter().filter(|name| !before.contains(name)).collect();
        assert!(anew.is_empty(), "{anew:?}");
    }
    Ok(())
}

pub fn a_hundred_reconnects_leave_one_consumer_for_each_member_for_a_minute() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let names: Vec<String> = (0..10).map(|number| format!("member{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let setup = members(&nats, &names, "");
    let proxy = Proxy::to(nats.nodes[0].address);
    let servers: Vec<ServerProcess> =
        names.iter().map(|name| start_by(&setup, name, &nats, proxy.address)).collect();
    for round in 0..10 {
        servers.iter().for_each(|server| wait_until_in_sync(server, round + 1));
        proxy.cut();
        wait_until(LIMIT, "all are cut off", || nats.nodes[0].connections() == 1);
        proxy.restore();
    }
    servers.iter().for_each(|server| wait_until_in_sync(server, 11));
    let at_once = eye.consumers(BUCKET).len();
    wait_until(3 * LIMIT, "each has one consumer", || eye.consumers(BUCKET).len() <= servers.len());
    assert_eq!(eye.consumers(BUCKET).len(), servers.len());
    println!("100 reconnects of 10 members: {at_once} consumers at once, 10 later");
    tell(&servers[0], "kiwi", 1);
    wait_until(LIMIT, "all still follow", || {
        servers.iter().all(|server| known(server, "kiwi").as_deref() == Some("1"))
    });
    Ok(())
}

/// So many updates of 20,000 clients, each of them answered, or as many as are by then. Returns how many.
fn write(server: &ServerProcess, round: usize, count: usize, until: Instant) -> usize {
    let mut client = server.client();
    let mut number = 0;
    while number < count && Instant::now() < until {
        let update = |number: usize| {
            format!("c{} +1.0-2.0 {}\n", number % 20_000, 1_000_000 * (round + 1) + number)
        };
        let batch: Vec<String> = (number..count.min(number + 1_000)).map(update).collect();
        number += batch.len();
        client.send(batch.iter().map(|update| format!("IAMAT {update}")).collect::<String>());
        for update in batch {
            assert_eq!(format!("{}\n", client.line()), format!("AT AT {update}"));
        }
    }
    number
}

/// The consumers that began at the bucket's beginning.
fn whole_replays(eye: &mut Eye) -> Vec<String> {
    let list = eye.api("CONSUMER.LIST.KV_herd", json!({})).expect("a list");
    let consumers = list["consumers"].as_array().cloned().unwrap_or_default();
    let whole = consumers.iter().filter(|it| it["config"]["deliver_policy"] == "all");
    whole.map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
}
