//! Nothing that was answered is lost, whatever happens to NATS, to the network and to the members, while clients write.

use std::thread::sleep;
use std::time::{Duration, Instant};

use herd_mio::limits::ENGINE_SPREAD;
use rustix::process::Signal;
use serde_json::json;

use super::bare::{Bare, Pause};
use super::eye::{Entry, Eye, key};
use super::members::{
    Place, Writers, Written, held, members, members_by, milliseconds, start_all, timestamp_of,
};
use super::nats::{Nats, Node, Plan, Release};
use super::recorder::Recorder;
use crate::common::hosts::{HostProcess, Hosts};
use crate::common::needs::Outcome;
use crate::common::random::next;
use crate::common::{LIMIT, Setup, wait_until};

const BUCKET: &str = "herd";
const STREAM: &str = "KV_herd";
const WRITERS: usize = 8;
/// The most that members may add to a pause of NATS itself.
const ADDED: Duration = Duration::from_secs(1);

pub fn nothing_answered_is_lost_when_leaders_and_members_are_killed_for_a_minute() -> Outcome {
    killed(Release::Current, None, |_nats, eye, _recorder, places, written| {
        written.is_kept(eye, BUCKET, places);
        String::new()
    })
}

/// Each holds a tenth of the clients, and is asked for all of them.
pub fn nothing_answered_is_lost_when_leaders_and_caches_are_killed_for_a_minute() -> Outcome {
    killed(Release::Current, Some(400), |_nats, eye, _recorder, places, written| {
        assert!(written.answered.len() > 4_000, "{} clients", written.answered.len());
        written.is_kept(eye, BUCKET, places);
        String::new()
    })
}

/// Debian's NATS, 2.9.10, loses messages that it has acknowledged, and its nodes then hold different messages for good,
/// when leaders of a cluster are killed. Members have them, and fill a new bucket.
pub fn what_debians_cluster_has_lost_is_there_again_once_its_bucket_is_deleted_for_a_minute()
-> Outcome {
    killed(Release::Debian, None, |nats, eye, recorder, places, written| {
        let ids: Vec<&str> = written.answered.keys().map(String::as_str).collect();
        let of_leader: Vec<u64> = ids.iter().map(|id| leader_has(eye, id)).collect();
        let lost = recorder.acknowledged().into_iter().filter(|(lost, (timestamp, _))| {
            let at = ids.iter().position(|id| key(id.as_bytes()) == *lost);
            at.is_some_and(|at| of_leader[at] < *timestamp)
        });
        let lost = lost.count();
        let state = |node: &Node| {
            let state = node.stream(STREAM).unwrap_or_default()["state"].clone();
            format!("{} messages up to {}", state["messages"], state["last_seq"])
        };
        let states: Vec<String> = nats.nodes.iter().map(state).collect();
        let known = known_to_members(places, &ids);
        let forgotten =
            ids.iter().zip(&known).filter(|(id, known)| **known < written.answered[**id]);
        let forgotten = forgotten.count();

        eye.delete_stream(BUCKET);
        wait_until(4 * LIMIT, "the bucket has all that members know", || {
            let held = held(eye, BUCKET);
            ids.iter().zip(&known).all(|(id, known)| {
                held.get(&key(id.as_bytes())).is_some_and(|it| milliseconds(it) >= *known)
            })
        });
        written.tables_are_equal(eye, BUCKET, places);
        format!(
            ", its leader lacked {lost} acknowledged updates, {forgotten} of them known to no member any more, nodes \
             had {states:?}"
        )
    })
}

/// What the leader has of a client: its timestamp in milliseconds, or 0.
fn leader_has(eye: &mut Eye, id: &str) -> u64 {
    newest(eye.leader_get(BUCKET, id.as_bytes()).as_ref())
}

fn newest(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, |entry| milliseconds(&timestamp_of(entry)))
}

/// The newest that any member knows of each client.
fn known_to_members(places: &[Place], ids: &[&str]) -> Vec<u64> {
    let mut newest = vec![0; ids.len()];
    for place in places {
        for (newest, known) in newest.iter_mut().zip(place.timestamps(ids)) {
            *newest = known.as_deref().map_or(0, milliseconds).max(*newest);
        }
    }
    newest
}

/// For a minute, the leader of three nodes and a member are killed again and again while clients write. A recorder
/// between members and NATS then knows what was acknowledged. Members keep all, or a cache of so many clients. Returns with
/// what `judge` has found.
fn killed(
    release: Release,
    cached: Option<usize>,
    judge: impl FnOnce(&Nats, &mut Eye, &Recorder, &[Place], &Written) -> String,
) -> Outcome {
    let nats = Nats::prepare(&Plan::three(release))?;
    let recorder = Recorder::before(&nats);
    nats.nodes.iter().for_each(Node::start);
    nats.wait_until_ready();
    let mut eye = Eye::open(&nats)?;
    let mut section = recorder.section(&nats);
    let mut top = String::new();
    if let Some(clients) = cached {
        section += "\nkeep = \"cache\"";
        top = format!("max_clients = {clients}");
    }
    let setup = members_by(&["Goloman", "Hands", "Holiday"], &section).top(&top);
    let mut servers = start_all(&setup);
    let places = Place::all(&setup);
    let bare = Bare::start(&nats, BUCKET);
    let writers = Writers::start(WRITERS, &places);
    let (seed, begin) = (seed(), Instant::now());
    let mut random = seed;
    let mut deaths = 0;
    while begin.elapsed() < Duration::from_secs(60) {
        writers.write_for(Duration::from_secs(4));
        let leader = nats.leader(STREAM);
        nats.nodes[leader].kill();
        let victim = next(&mut random) % servers.len();
        let server = servers.remove(victim);
        let name = server.name.clone();
        server.kill();
        servers.insert(victim, setup.start(&name));
        writers.write_for(Duration::from_secs(3));
        nats.nodes[leader].start();
        nats.wait_until_whole(STREAM);
        deaths += 1;
    }
    writers.all_write_on();
    let written = writers.end();
    let pauses = bare.end();
    assert_eq!(recorder.unconfirmed(&written), None);
    assert_eq!(recorder.replacement_by_an_older_one(), None);
    // Nodes of 2.9.10 do not agree on what the bucket holds.
    let most = if release == Release::Current { ADDED } else { Duration::MAX };
    let found = judge(&nats, &mut eye, &recorder, &places, &written);
    report(
        &format!("{release:?}, seed {seed}: {deaths} leaders and {deaths} members killed{found}"),
        &written,
        &pauses,
        most,
    );
    Ok(())
}

pub fn a_cluster_of_debians_release_is_used_with_a_warning() -> Outcome {
    let nats = Nats::three(Release::Debian)?;
    let setup = members(&nats, &["Goloman"], "");
    let servers = start_all(&setup);
    servers[0].wait_for_log(
        "NATS is 2.9.10, which in a cluster may take an older update for a newer one",
    );
    Ok(())
}

pub fn nothing_answered_is_lost_when_a_leader_stands_still_of_a_cluster() -> Outcome {
    let nats = Nats::three(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands", "Holiday"], "");
    let servers = start_all(&setup);
    let places = Place::all(&setup);
    let bare = Bare::start(&nats, BUCKET);
    let writers = Writers::start(WRITERS, &places);
    // A member may find that the former leader, which goes on, acknowledged what the next one does not have. It then
    // compares all anew, after a while by chance.
    for _ in 0..2 {
        writers.write_for(Duration::from_secs(2));
        let leader = nats.leader(STREAM);
        nats.nodes[leader].hold();
        sleep(Duration::from_secs(8));
        nats.nodes[leader].go_on();
        nats.wait_until_whole(STREAM);
    }
    writers.all_write_on();
    let written = writers.end();
    let pauses = bare.end();
    written.is_kept(&mut eye, BUCKET, &places);
    report("a leader stood still for 8 s, twice", &written, &pauses, ADDED + ENGINE_SPREAD);
    drop(servers);
    Ok(())
}

pub fn nothing_answered_is_lost_when_the_network_is_cut_for_a_minute() -> Outcome {
    let hosts = Hosts::new(6)?;
    let nats = Nats::start(&Plan { hosts: Some(&hosts), ..Plan::three(Release::Current) })?;
    // NATS is on the first three hosts; H4 to H6 are on the others, each with its clients.
    let mut eye = Eye::open_with(&nats, &json!({}), Some(hosts.name(5)))?;
    let setup = Setup::alone(); // For its folder.
    let config = configuration(&setup, &nats);
    let servers: Vec<HostProcess> =
        (3..6).map(|number| hosts.start(&setup, number, &config)).collect();
    let count = |server: &HostProcess| server.log().matches("is in sync with the engine").count();
    servers.iter().for_each(|server| wait_until(LIMIT, "it is in sync", || count(server) > 0));
    let place = |number: usize| Place {
        address: ([10, 77, 0, number as u8 + 1], 4000).into(),
        host: Some(hosts.name(number).to_owned()),
    };
    let places: Vec<Place> = (3..6).map(place).collect();
    let writers = Writers::start(WRITERS, &places);
    writers.write_for(Duration::from_secs(2));

    // A member cannot reach NATS. Nobody hears a connection end.
    let before = count(&servers[0]);
    hosts.cable(3, "down");
    sleep(Duration::from_secs(20));
    hosts.cable(3, "up");
    let healed = Instant::now();
    wait_until(LIMIT, "H4 is in sync again", || count(&servers[0]) > before);
    println!("a member that was cut off for 20 s: in sync {:.1?} after", healed.elapsed());
    writers.write_for(Duration::from_secs(2));

    // The leader cannot reach the other two nodes, nor any member.
    let leader = nats.leader(STREAM);
    hosts.cable(leader, "down");
    sleep(Duration::from_secs(20));
    hosts.cable(leader, "up");
    let healed = Instant::now();
    nats.wait_until_whole(STREAM);
    writers.all_write_on();
    println!("a leader that was cut off for 20 s: all write on {:.1?} after", healed.elapsed());
    let written = writers.end();
    written.is_kept(&mut eye, BUCKET, &places);
    println!(
        "a member and a leader cut off for 20 s each: {}, longest pause {:.1?}",
        summary(&written),
        written.longest_pause()
    );
    for server in &servers {
        server.signal(Signal::TERM);
    }
    Ok(())
}

/// Three members on hosts of their own.
fn configuration(setup: &Setup, nats: &Nats) -> String {
    let server = |number: usize| {
        format!(
            "[[server]]\nname = \"H{number}\"\nlisten = \"10.77.0.{number}:4000\"\n\
             peer_listen = \"127.0.0.1:1400{number}\"\n"
        )
    };
    let servers: String = (4..7).map(server).collect();
    let text = format!("{servers}[places]\nprovider = \"offline\"\n{}", nats.section(""));
    let path = setup.folder.path().join("hosts.toml");
    std::fs::write(&path, text).expect("a file");
    path.to_str().expect("text").to_owned()
}

/// Chance differs from run to run, and can be repeated by `HERD_TEST_SEED`.
fn seed() -> u64 {
    let set = std::env::var("HERD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    set.unwrap_or(u64::from(std::process::id()) << 16 | 1)
}

/// `pauses` are those of NATS itself, to which members may add so much.
fn report(what: &str, written: &Written, pauses: &[Pause], most: Duration) {
    let of_nats = pauses.iter().map(Pause::length).max().unwrap_or_default();
    let added = written.most_added_to(pauses);
    println!(
        "{what}: {}, longest pause {:.1?}, that of NATS {of_nats:.1?}, most that was added {added:.2?}",
        summary(written),
        written.longest_pause(),
    );
    assert!(added <= most, "{added:?} are not NATS's");
}

fn summary(written: &Written) -> String {
    format!(
        "{} updates of {} clients answered, {} connections lost",
        written.answers,
        written.answered.len(),
        written.lost_connections
    )
}
