//! The servers and the reader of these tests do what the tests take for granted.

use serde_json::json;

use super::eye::{Eye, key};
use super::members::{Written, members_by, start_all, tell, wait_until_known};
use super::nats::{Nats, Plan, Release};
use super::recorder::{Event, Recorder, What};
use crate::common::LIMIT;
use crate::common::needs::Outcome;
use crate::common::wait_until;

pub fn a_bucket_of_one_node_is_read_written_backed_up_and_restored() -> Outcome {
    one_node(Release::Current)
}

pub fn debians_server_does_the_same() -> Outcome {
    one_node(Release::Debian)
}

fn one_node(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    assert!(eye.all("herd").is_empty(), "there is no bucket");
    eye.ask(json!({ "do": "make_bucket", "bucket": "herd" }));
    let odd = b"_a.b*>\xff";
    let first = eye.put("herd", odd, "1");
    assert_eq!(eye.put("herd", odd, "2"), first + 1);
    eye.put("herd", b"kiwi", "3");
    eye.put("herd", b"plum", "4");
    eye.delete("herd", b"plum");
    let all = eye.all("herd");
    assert_eq!(all.len(), 2);
    assert_eq!(all[&key(odd)].value, b"2");
    assert_eq!(key(odd), "=5Fa=2Eb=2A=3E=FF");
    assert_eq!(eye.get("herd", odd).expect("it is there").sequence, first + 1);
    assert!(eye.consumers("herd").is_empty());

    let file = nats.file("backup", "");
    let backup = eye.backup("herd", &file);
    eye.put("herd", b"kiwi", "5");
    eye.delete_stream("herd");
    assert!(eye.stream("herd").is_none());
    eye.restore("herd", &file, backup);
    assert_eq!(eye.all("herd"), all);
    nats.nodes[0].kill();
    nats.nodes[0].start();
    nats.wait_until_ready();
    assert_eq!(eye.all("herd"), all);
    Ok(())
}

pub fn three_nodes_elect_another_leader_of_the_bucket() -> Outcome {
    let nats = Nats::three(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    eye.ask(json!({ "do": "make_bucket", "bucket": "herd", "replicas": 3 }));
    eye.put("herd", b"kiwi", "1");
    let first = nats.leader("KV_herd");
    nats.nodes[first].hold();
    wait_until(LIMIT, "another node leads", || {
        nats.try_leader("KV_herd").is_some_and(|leader| leader != first)
    });
    nats.nodes[first].go_on();
    nats.wait_until_whole("KV_herd");
    let second = nats.leader("KV_herd");
    nats.nodes[second].kill();
    assert!(!nats.nodes[second].is_running());
    wait_until(LIMIT, "another node leads", || {
        nats.try_leader("KV_herd").is_some_and(|leader| leader != second)
    });
    eye.wait_for("herd", "kiwi", |value| value == "1");
    nats.nodes[second].start();
    nats.wait_until_whole("KV_herd");
    assert!(nats.nodes[second].stop().success());
    Ok(())
}

pub fn a_recorder_reads_what_passes_between_members_and_nats() -> Outcome {
    let nats = Nats::prepare(&Plan::one(Release::Current))?;
    let recorder = Recorder::before(&nats);
    nats.nodes[0].start();
    nats.wait_until_ready();
    let mut eye = Eye::open(&nats)?;
    let setup = members_by(&["Goloman", "Hands"], &recorder.section(&nats));
    let servers = start_all(&setup);
    tell(&servers[0], "a.kiwi", 5);
    wait_until_known(&servers, "a.kiwi", 5);
    let of_kiwi = || -> Vec<Event> {
        let events = recorder.events().into_iter();
        events.filter(|event| event.key == "a=2Ekiwi").collect()
    };
    wait_until(LIMIT, "both have read it", || of_kiwi().len() == 4);
    let events = of_kiwi();
    assert!(events.iter().all(|event| event.timestamp == 5), "{events:?}");
    let count = |what: What| events.iter().filter(|event| event.what == what).count();
    assert_eq!(events[0].what, What::Published { expected: 0 });
    assert_eq!(count(What::Acknowledged { sequence: 1 }), 1, "{events:?}");
    assert_eq!(count(What::Delivered { sequence: 1 }), 2, "{events:?}");
    let answered = |timestamp| Written {
        answered: [("a.kiwi".to_owned(), timestamp)].into(),
        ..Written::default()
    };
    assert_eq!(recorder.unconfirmed(&answered(5)), None);
    assert!(recorder.unconfirmed(&answered(6)).is_some(), "nobody has acknowledged that");
    // Somebody who is no member has put an older one: a member replaces it.
    eye.put("herd", b"a.kiwi", "UPDATELOC a.kiwi +1.0-2.0 4 Goloman +0.500000000");
    eye.wait_for("herd", "a.kiwi", |value| value.contains(" 5 "));
    assert_eq!(recorder.replacement_by_an_older_one(), None);
    let acknowledged = recorder.acknowledged();
    assert_eq!(acknowledged["a=2Ekiwi"], (5, 3), "the newest, by its last message");
    Ok(())
}

pub fn a_small_store_is_full_and_has_room_again() -> Outcome {
    let nats = Nats::start(&Plan { store_size: Some("24m"), ..Plan::one(Release::Current) })?;
    let mut eye = Eye::open(&nats)?;
    eye.ask(json!({ "do": "make_bucket", "bucket": "herd" }));
    eye.put("herd", b"kiwi", "1");
    let ballast = nats.nodes[0].stored("ballast");
    assert!(std::fs::write(&ballast, vec![1; 32 << 20]).is_err(), "it takes no 32 MiB");
    std::fs::remove_file(&ballast).expect("it is there");
    eye.put("herd", b"kiwi", "2");
    Ok(())
}
