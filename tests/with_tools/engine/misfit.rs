//! A bucket with settings that it must not have ends a start: somebody looks at it then. A server that has run for longer,
//! or that a herd starts again, goes on and looks at the bucket again.

use std::net::SocketAddr;
use std::time::Instant;

use herd_mio::limits::ENGINE_START;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::bucket::bucket;
use super::eye::Eye;
use super::members::{known, members, start_by, tell, wait_until_in_sync};
use super::nats::{Nats, Release};
use crate::common::needs::Outcome;
use crate::common::process::{run_to_end, send_signal};
use crate::common::proxy::Proxy;
use crate::common::{Herd, LIMIT, wait_until};

pub fn a_start_with_a_bucket_of_other_settings_ends_with_status_2_and_names_each() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman"], "");
    let two_loops = members(&nats, &["Goloman"], "").top("loops = 2");
    let cases: [(Value, &[&str]); 5] = [
        (json!({ "max_msgs_per_subject": 5 }), &["max_msgs_per_subject is 5 and must be 1"]),
        (
            json!({ "subjects": ["$KV.herd.>", "other"] }),
            &[r#"subjects is ["$KV.herd.>", "other"] and must be ["$KV.herd.>"]"#],
        ),
        (
            json!({ "subjects": ["$KV.herd.a"], "retention": "workqueue" }),
            &[
                r#"subjects is ["$KV.herd.a"] and must be ["$KV.herd.>"], "#,
                r#"retention is "workqueue" and must be "limits""#,
            ],
        ),
        (json!({ "retention": "interest" }), &[r#"retention is "interest" and must be "limits""#]),
        (json!({ "max_msg_size": 500 }), &["max_msg_size is 500 and must be -1 or at least 1024"]),
    ];
    for (other, sentences) in cases {
        eye.make_stream(with(other));
        for setup in [&setup, &two_loops] {
            let ended = run_to_end(setup.command("Goloman"));
            assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            let begins = format!("herd-mio: Goloman can't use the engine at {}", address(&nats));
            for part in sentences.iter().copied().chain([&begins[..], "KV_herd", "set another"]) {
                assert!(ended.stderr.contains(part), "{part}\n{}", ended.stderr);
            }
            let log = std::fs::read_to_string(setup.log_file("Goloman")).expect("a log");
            let says_why = |line: &&str| line.contains("ERROR") && line.contains(sentences[0]);
            assert_eq!(log.lines().filter(says_why).count(), 1, "{log}");
            std::fs::remove_file(setup.log_file("Goloman")).expect("it is there");
        }
        eye.delete_stream("herd");
    }
    Ok(())
}

pub fn a_herd_that_starts_with_a_bucket_of_other_settings_ends_with_status_2() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    eye.make_stream(with(json!({ "max_msgs_per_subject": 5 })));
    let setup = members(&nats, &["Goloman", "Hands"], "");
    let ended = run_to_end(Herd::command(&setup));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("max_msgs_per_subject is 5 and must be 1"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("restarting"), "{}", ended.stderr);
    Ok(())
}

/// The herd serves: to end would not mend the bucket, and would take away what its servers know.
pub fn a_bucket_that_gets_other_settings_later_is_refused_and_servers_go_on() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "ack = \"local\"\n");
    let command = Herd::command(&setup);
    let herd = Herd::spawn(setup, command);
    let log = |name: &str| std::fs::read_to_string(herd.setup.log_file(name)).unwrap_or_default();
    let refused = |name: &str| {
        let is_it = |line: &&str| line.contains("ERROR") && line.contains(REFUSED);
        log(name).lines().filter(is_it).count()
    };
    for name in herd.setup.names() {
        let text = format!("{name} is in sync with the engine");
        wait_until(LIMIT, &text, || log(&name).contains(&text));
    }
    let update = |eye: &mut Eye, config| {
        eye.api("STREAM.UPDATE.KV_herd", config).expect("it may be changed");
    };
    update(&mut eye, with(json!({ "max_msgs_per_subject": 5 })));
    // A member looks at the bucket when it connects.
    nats.nodes[0].kill();
    nats.nodes[0].start();
    for name in herd.setup.names() {
        wait_until(2 * LIMIT, &format!("{name} refuses the bucket"), || refused(&name) >= 1);
        assert!(herd.answers(&name), "{name} serves on");
    }
    // One that is started again finds it so from the beginning.
    let before = refused("Goloman");
    let killed = herd.child("Goloman").expect("it runs");
    send_signal(killed, Signal::KILL);
    wait_until(2 * LIMIT, "the new process refuses the bucket", || refused("Goloman") > before);
    let again = herd.child("Goloman").expect("it runs");
    assert_ne!(again, killed);
    assert!(herd.answers("Goloman"), "it serves on");
    nats.wait_until_ready();
    update(&mut eye, bucket());
    wait_until(2 * LIMIT, "the bucket has what was told meanwhile", || {
        eye.get("herd", b"a").is_some()
    });
    assert_eq!(herd.child("Goloman"), Some(again), "nobody was restarted");
    Ok(())
}

pub fn a_bucket_of_other_settings_that_is_found_late_is_refused_and_the_server_goes_on() -> Outcome
{
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    eye.make_stream(with(json!({ "max_msgs_per_subject": 5 })));
    let proxy = Proxy::to(address(&nats));
    proxy.cut();
    let setup = members(&nats, &["Goloman"], "ack = \"local\"\n");
    let (server, began) = (start_by(&setup, "Goloman", &nats, proxy.address), Instant::now());
    server.wait_for_log("The engine at");
    tell(&server, "kiwi", 1);
    wait_until(2 * ENGINE_START, "it has run for longer than a start lasts", || {
        began.elapsed() > ENGINE_START
    });
    proxy.restore();
    server.wait_for_log(REFUSED);
    assert_eq!(known(&server, "kiwi").as_deref(), Some("1"));
    eye.delete_stream("herd");
    wait_until_in_sync(&server, 1);
    eye.wait_for("herd", "kiwi", |value| value.contains(" 1 "));
    Ok(())
}

const REFUSED: &str = "max_msgs_per_subject is 5 and must be 1";

/// A bucket as members make it, but for these settings.
fn with(other: Value) -> Value {
    let mut config = bucket();
    let fields = config.as_object_mut().expect("it is one");
    fields.extend(other.as_object().expect("it is one, too").clone());
    config
}

fn address(nats: &Nats) -> SocketAddr {
    nats.nodes[0].address
}
