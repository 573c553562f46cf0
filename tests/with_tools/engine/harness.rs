//! The servers and the reader of these tests do what the tests take for granted.

use serde_json::json;

use super::eye::{Eye, key};
use super::nats::{Nats, Plan, Release};
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
