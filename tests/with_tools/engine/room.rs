//! NATS without room gives no false answers, and is used on once it has room.

use serde_json::{Value, json};

use super::eye::{Eye, key};
use super::members::{known, members, start_all, tell, timestamp_of};
use super::nats::{Nats, Plan, Release};
use crate::common::client::Next;
use crate::common::needs::Outcome;
use crate::common::{LIMIT, ServerProcess, wait_until};

const BUCKET: &str = "herd";
/// Answers are held for so long that a test can free room before they are given up.
const PATIENT: &str = "timeout = \"5m\"\n";

pub fn a_full_disk_gives_no_false_answers_and_is_used_on_once_it_has_room() -> Outcome {
    let nats = Nats::start(&Plan { store_size: Some("24m"), ..Plan::one(Release::Current) })?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman"], PATIENT);
    let servers = start_all(&setup);
    tell(&servers[0], "kiwi", 1);
    let ballast = nats.nodes[0].stored("ballast");
    assert!(std::fs::write(&ballast, vec![1; 32 << 20]).is_err(), "it takes no 32 MiB");
    let held = write_until_held(&servers[0], &mut eye);
    std::fs::remove_file(&ballast).expect("it is there");
    // The current NATS server refuses every message after one that it could not write, until it is started again.
    nats.nodes[0].stop();
    nats.nodes[0].start();
    held.end(&mut eye);
    Ok(())
}

pub fn a_full_account_gives_no_false_answers_and_is_used_on_once_it_has_room() -> Outcome {
    let nats =
        Nats::start(&Plan { jetstream_more: "max_file: 1MB", ..Plan::one(Release::Current) })?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman"], PATIENT);
    let servers = start_all(&setup);
    tell(&servers[0], "kiwi", 1);
    eye.make_stream(json!({ "name": "ballast", "subjects": ["ballast"], "storage": "file" }));
    while eye
        .try_ask(json!({ "do": "publish", "subject": "ballast", "value": "b".repeat(10_000) }))
        .is_ok()
    {}
    let held = write_until_held(&servers[0], &mut eye);
    wait_for_error(&servers[0]);
    eye.api("STREAM.DELETE.ballast", Value::Null).expect("it is deleted");
    held.end(&mut eye);
    Ok(())
}

pub fn a_full_bucket_gives_no_false_answers_and_is_used_on_once_it_has_room() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    eye.ask(json!({ "do": "make_bucket", "bucket": BUCKET, "max_bytes": 20_000 }));
    let setup = members(&nats, &["Goloman"], PATIENT);
    let servers = start_all(&setup);
    tell(&servers[0], "kiwi", 1);
    let held = write_until_held(&servers[0], &mut eye);
    wait_for_error(&servers[0]);
    let stream = eye.stream(BUCKET).expect("it is there");
    let mut config = stream["config"].clone();
    config["max_bytes"] = json!(-1);
    eye.api("STREAM.UPDATE.KV_herd", config).expect("it is changed");
    held.end(&mut eye);
    Ok(())
}

/// Clients whose answers are held.
struct Held {
    client: crate::common::Client,
    unanswered: Vec<String>,
}

/// New clients write until one gets no answer. All that were answered are in the bucket.
fn write_until_held(server: &ServerProcess, eye: &mut Eye) -> Held {
    let mut client = server.client();
    for batch in 0..1_000 {
        let ids: Vec<String> = (0..100).map(|number| format!("c{batch}.{number}")).collect();
        client.send(ids.iter().map(|id| format!("IAMAT {id} +1.0-2.0 5\n")).collect::<String>());
        for (at, id) in ids.iter().enumerate() {
            match client.next(std::time::Duration::from_secs(3)) {
                Next::Line(line) => {
                    assert_eq!(String::from_utf8_lossy(&line), format!("AT AT {id} +1.0-2.0 5"));
                }
                Next::Silence => {
                    // WHATSAT goes on.
                    assert_eq!(known(server, "kiwi").as_deref(), Some("1"));
                    assert_eq!(known(server, id).as_deref(), Some("5"));
                    is_in_the_bucket(eye, &ids[..at]);
                    return Held { client, unanswered: ids[at..].to_vec() };
                }
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("100,000 clients had room");
}

impl Held {
    /// There is room again: all are answered, and in the bucket.
    fn end(mut self, eye: &mut Eye) {
        for id in &self.unanswered {
            match self.client.next(3 * LIMIT) {
                Next::Line(line) => {
                    assert_eq!(String::from_utf8_lossy(&line), format!("AT AT {id} +1.0-2.0 5"));
                }
                other => panic!("{id}: {other:?}"),
            }
        }
        is_in_the_bucket(eye, &self.unanswered);
    }
}

fn is_in_the_bucket(eye: &mut Eye, ids: &[String]) {
    let all = eye.all(BUCKET);
    for id in ids {
        let entry = all.get(&key(id.as_bytes()));
        let entry = entry.unwrap_or_else(|| panic!("{id} was answered and is not there"));
        assert_eq!(timestamp_of(entry), "5");
    }
}

/// The refusal is an ERROR, and not one for each update.
fn wait_for_error(server: &ServerProcess) {
    let errors = || server.log().lines().filter(|line| line.contains("ERROR")).count();
    wait_until(LIMIT, "an ERROR says that there is no room", || errors() > 0);
    assert!(errors() < 5, "{} ERRORs", errors());
}
