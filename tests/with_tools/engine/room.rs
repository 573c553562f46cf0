//! NATS without room gives no false answers, and is used on once it has room.

use serde_json::{Value, json};

use super::eye::{Eye, key};
use super::members::{known, members, sample, start_all, tell, timestamp_of, wait_until_in_sync};
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

pub fn an_update_that_is_too_large_for_the_bucket_ends_who_waits_for_it_at_once() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    // Nobody reaches the timeout in this test.
    let setup = members(&nats, &["Goloman"], PATIENT);
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    wait_until_in_sync(&server, 1);
    tell(&server, "kiwi", 1);
    allow_values_of(150, &mut eye);
    let long = "l".repeat(200);
    let batch = |timestamp: u64| {
        ["kiwi", &long, "plum"].map(|id| format!("IAMAT {id} +1.0-2.0 {timestamp}\n")).concat()
    };
    for (timestamp, refused) in [(2, 1), (3, 2), (3, 3)] {
        let mut client = server.client();
        client.send(batch(timestamp));
        assert_eq!(client.line(), format!("AT AT kiwi +1.0-2.0 {timestamp}"));
        // The one behind it may be kept, and gets no answer either.
        assert_eq!(client.next(LIMIT), Next::End(Vec::new()));
        wait_until(LIMIT, "it is counted, also when what was refused is repeated", || {
            sample(&server, "herd_connections_closed_total", "answer_refused") == refused
        });
    }
    assert_eq!(known(&server, &long).as_deref(), Some("3"), "queries are answered");
    let log = server.log();
    assert!(log.contains(&format!("The engine does not take an update of {long}: ")), "{log}");
    assert!(log.contains("gets no answer: the engine does not take its update"), "{log}");
    // A newer one that is short enough is kept, and whoever repeats the long one is answered once it may be as long.
    allow_values_of(-1, &mut eye);
    let mut client = server.client();
    client.send(batch(3));
    for id in ["kiwi", &long, "plum"] {
        assert_eq!(client.line(), format!("AT AT {id} +1.0-2.0 3"));
    }
    let entry = eye.get(BUCKET, long.as_bytes()).expect("it was answered");
    assert_eq!(timestamp_of(&entry), "3");
    assert_eq!(sample(&server, "herd_engine_answers_given_up_total", ""), 6);
    Ok(())
}

/// Sets the most bytes that a value of the bucket may have.
fn allow_values_of(bytes: i64, eye: &mut Eye) {
    let stream = eye.stream(BUCKET).expect("it is there");
    let mut config = stream["config"].clone();
    config["max_msg_size"] = json!(bytes);
    eye.api("STREAM.UPDATE.KV_herd", config).expect("it is changed");
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
