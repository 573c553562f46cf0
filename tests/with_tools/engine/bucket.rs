//! A bucket that is deleted is made again or waited for, and is full again; and one that is restored from a backup is
//! repaired.

use serde_json::{Value, json};

use super::eye::{Eye, key};
use super::members::{known, members, start_all, tell, timestamp_of, wait_until_known};
use super::nats::{Nats, Release};
use crate::common::needs::Outcome;
use crate::common::{LIMIT, ServerProcess, wait_until};

const BUCKET: &str = "herd";

pub fn a_deleted_bucket_is_made_again_and_full_again_without_a_restart() -> Outcome {
    deleted(Release::Current)
}

pub fn with_debians_server_a_deleted_bucket_is_made_again_as_well() -> Outcome {
    deleted(Release::Debian)
}

fn deleted(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "");
    let servers = start_all(&setup);
    fill(&servers);
    wait_until_full(&mut eye, 1);
    eye.delete_stream(BUCKET);
    wait_until_full(&mut eye, 1);
    // It is followed again, too.
    tell(&servers[0], "kiwi", 7);
    wait_until_known(&servers, "kiwi", 7);
    assert_eq!(timestamp_of(&eye.get(BUCKET, b"kiwi").expect("it was answered")), "7");
    Ok(())
}

pub fn a_missing_bucket_that_must_not_be_made_is_waited_for() -> Outcome {
    missing(Release::Current)
}

pub fn with_debians_server_a_missing_bucket_is_waited_for_as_well() -> Outcome {
    missing(Release::Debian)
}

fn missing(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "create = false\n");
    let servers = setup.start_all();
    for server in &servers {
        wait_until(LIMIT, "an ERROR names the bucket", || {
            server
                .log()
                .lines()
                .any(|line| line.contains("ERROR") && line.contains("no bucket herd"))
        });
    }
    let mut client = servers[0].client();
    client.send("IAMAT kiwi +1.0-2.0 1\n");
    wait_until(LIMIT, "it is known here", || known(&servers[0], "kiwi").is_some());
    assert!(eye.stream(BUCKET).is_none(), "they made it");
    eye.make_stream(bucket());
    assert_eq!(client.line(), "AT AT kiwi +1.0-2.0 1");
    wait_until_known(&servers, "kiwi", 1);
    // And the same while they run.
    eye.delete_stream(BUCKET);
    client.send("IAMAT kiwi +1.0-2.0 2\n");
    wait_until(LIMIT, "it is known here", || known(&servers[0], "kiwi").as_deref() == Some("2"));
    assert!(eye.stream(BUCKET).is_none(), "they made it");
    eye.make_stream(bucket());
    assert_eq!(client.line(), "AT AT kiwi +1.0-2.0 2");
    wait_until_known(&servers, "kiwi", 2);
    Ok(())
}

pub fn a_bucket_that_is_restored_from_a_backup_is_repaired() -> Outcome {
    restored(Release::Current)
}

pub fn with_debians_server_a_restored_bucket_is_repaired_as_well() -> Outcome {
    restored(Release::Debian)
}

fn restored(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "create = false\n");
    eye.make_stream(bucket());
    let servers = start_all(&setup);
    fill(&servers);
    wait_until_full(&mut eye, 1);
    let file = nats.file("backup", "");
    let backup = eye.backup(BUCKET, &file);
    // All of these are newer than the backup; and so is one client.
    for number in 0..COUNT {
        tell(&servers[number % 2], &format!("client.{number}"), 2);
    }
    tell(&servers[1], "new", 2);
    eye.delete_stream(BUCKET);
    eye.restore(BUCKET, &file, backup);
    wait_until_full(&mut eye, 2);
    eye.wait_for(BUCKET, "new", |value| value.contains(" 2 "));
    tell(&servers[0], "kiwi", 7);
    wait_until_known(&servers, "kiwi", 7);
    Ok(())
}

pub fn a_bucket_in_memory_or_with_an_age_is_used_with_a_warning() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let mut config = bucket();
    config["storage"] = json!("memory");
    config["max_age"] = json!(3_600_000_000_000_u64);
    eye.make_stream(config);
    let setup = members(&nats, &["Goloman"], "");
    let servers = start_all(&setup);
    for word in ["memory", "max_age"] {
        wait_until(LIMIT, &format!("a WARNING names {word}"), || {
            servers[0].log().lines().any(|line| line.contains("WARNING") && line.contains(word))
        });
    }
    tell(&servers[0], "kiwi", 1);
    assert_eq!(eye.all(BUCKET).len(), 1);
    Ok(())
}

pub fn a_value_that_is_no_update_of_its_client_is_skipped_and_can_be_overwritten() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    eye.make_stream(bucket());
    let foreign = "UPDATELOC plum +1.0-2.0 900 Hands +0.000000000";
    eye.put(BUCKET, b"kiwi", "no update at all");
    eye.put(BUCKET, b"pear", foreign);
    let odd_key = json!({ "do": "publish", "subject": "$KV.herd.a.b", "value": foreign });
    eye.ask(odd_key);
    let setup = members(&nats, &["Goloman", "Hands"], "");
    let servers = start_all(&setup);
    assert_eq!(known(&servers[0], "plum"), None);
    assert_eq!(known(&servers[0], "pear"), None);
    for id in ["kiwi", "pear"] {
        tell(&servers[0], id, 5);
        wait_until_known(&servers, id, 5);
        assert_eq!(timestamp_of(&eye.get(BUCKET, id.as_bytes()).expect("it was answered")), "5");
    }
    // An operator forgets one client.
    eye.delete(BUCKET, b"kiwi");
    wait_until(LIMIT, "both have forgotten kiwi", || {
        servers.iter().all(|server| known(server, "kiwi").is_none())
    });
    tell(&servers[1], "kiwi", 4);
    wait_until_known(&servers, "kiwi", 4);
    Ok(())
}

/// A bucket as members make it.
pub fn bucket() -> Value {
    json!({
        "name": "KV_herd", "subjects": ["$KV.herd.>"], "retention": "limits", "max_consumers": -1,
        "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": 1, "max_msg_size": -1,
        "storage": "file", "discard": "new", "num_replicas": 1, "duplicate_window": 120_000_000_000_u64,
        "allow_direct": true, "allow_rollup_hdrs": true, "deny_delete": true
    })
}

const COUNT: usize = 200;

/// Each member is sent half of the clients.
fn fill(servers: &[ServerProcess]) {
    for number in 0..COUNT {
        tell(&servers[number % servers.len()], &format!("client.{number}"), 1);
    }
}

fn wait_until_full(eye: &mut Eye, timestamp: usize) {
    wait_until(2 * LIMIT, "the bucket is full", || {
        let all = eye.all(BUCKET);
        (0..COUNT).all(|number| {
            let entry = all.get(&key(format!("client.{number}").as_bytes()));
            entry.is_some_and(|entry| timestamp_of(entry) == timestamp.to_string())
        })
    });
}
