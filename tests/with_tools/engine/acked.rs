//! Claim: an answer says that the update is in the bucket, where all members find it. What NATS has not acknowledged is
//! not answered, and who waits for too long is disconnected; queries are answered all the time.

use std::time::{Duration, Instant};

use super::eye::{Eye, key};
use super::members::{errors, known, members, start_all, tell, timestamp_of, wait_until_in_sync};
use super::nats::{Nats, Release};
use crate::common::client::Next;
use crate::common::needs::Outcome;
use crate::common::random::next;
use crate::common::{Client, LIMIT, ServerProcess, wait_until};

const BUCKET: &str = "herd";

pub fn what_one_member_answers_all_members_know_and_the_bucket_holds_to_the_letter() -> Outcome {
    round_trip(Release::Current)
}

pub fn with_debians_server_all_members_know_what_one_answers_as_well() -> Outcome {
    round_trip(Release::Debian)
}

fn round_trip(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands", "Holiday"], "");
    let servers = start_all(&setup);
    let ids = odd_ids(1_000);
    let update =
        |id: &[u8], number: usize| [id, format!(" +1.5-2.25 {number}.5").as_bytes()].concat();
    let mut client = servers[0].client();
    for (number, id) in ids.iter().enumerate() {
        client.send([b"IAMAT ", &update(id, number)[..], b"\n"].concat());
        assert_eq!(client.line_bytes(), [b"AT AT ", &update(id, number)[..]].concat());
    }
    let answered = Instant::now();
    let due = |(number, id): (usize, &Vec<u8>)| [b"AT AT ", &update(id, number)[..]].concat();
    let due: Vec<Vec<u8>> = ids.iter().enumerate().map(due).collect();
    for server in &servers[1..] {
        let what = format!("{} knows all", server.name);
        wait_until(LIMIT, &what, || first_lines(server, &ids) == due);
    }
    println!("{} clients known everywhere {:.1?} after", ids.len(), answered.elapsed());
    let all = eye.all(BUCKET);
    assert_eq!(all.len(), ids.len());
    for (number, id) in ids.iter().enumerate() {
        let value = &all[&key(id)].value;
        let begins = [b"UPDATELOC ", &update(id, number)[..], b" Goloman "].concat();
        let skew = value.strip_prefix(&begins[..]);
        let skew = skew.unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(value)));
        let skew = String::from_utf8(skew.to_vec()).expect("the skew of a clock");
        assert!(skew.starts_with(['+', '-']) && skew.parse::<f64>().is_ok(), "{skew}");
    }
    Ok(())
}

/// The first lines of the answers to queries for all of these.
fn first_lines(server: &ServerProcess, ids: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut client: Client = server.client();
    let mut lines = Vec::new();
    for ids in ids.chunks(100) {
        let queries: Vec<u8> =
            ids.iter().flat_map(|id| [b"WHATSAT ", &id[..], b" 0 0\n"].concat()).collect();
        client.send(queries);
        for _ in ids {
            let first = client.line_bytes();
            // A body ends with a blank line.
            while first.starts_with(b"AT ") && !client.line_bytes().is_empty() {}
            lines.push(first);
        }
    }
    lines
}

/// Ids of all bytes that an id may have, and those that mean something to NATS.
fn odd_ids(count: usize) -> Vec<Vec<u8>> {
    let mut ids: Vec<Vec<u8>> =
        ["*", ">", "$KV.herd.>", "=2E", "_kv", "_", "..", ".", "a.b", "$JS.API.INFO", "-", "="]
            .map(|id| id.as_bytes().to_vec())
            .to_vec();
    ids.push(vec![0xFF; 256]);
    let mut random = 0x9E37_79B9_7F4A_7C15;
    while ids.len() < count {
        let length = 1 + next(&mut random) % 40;
        let byte = |_| 0x21 + (next(&mut random) % (0x100 - 0x21)) as u8;
        let id: Vec<u8> = (0..length).map(byte).collect();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

pub fn what_nats_has_not_acknowledged_is_answered_once_it_has() -> Outcome {
    acknowledged_late(Release::Current)
}

pub fn with_debians_server_what_is_not_acknowledged_is_answered_once_it_is_as_well() -> Outcome {
    acknowledged_late(Release::Debian)
}

fn acknowledged_late(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman"], "timeout = \"5m\"\n");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    wait_until_in_sync(&server, 1);
    tell(&server, "kiwi", 1);
    nats.nodes[0].hold();
    let mut client = server.client();
    client.send("IAMAT kiwi +1.0-2.0 2\n");
    client.expect_silence(Duration::from_secs(3));
    assert_eq!(known(&server, "kiwi").as_deref(), Some("2"), "queries are answered");
    // It stands still for so long that the connection is given up, too.
    wait_until(LIMIT, "the silence is noticed", || errors(&server, "silent") == 1);
    assert_eq!(errors(&server, "lost"), 0);
    assert_eq!(client.next(Duration::ZERO), Next::Silence);
    nats.nodes[0].go_on();
    assert_eq!(client.line(), "AT AT kiwi +1.0-2.0 2");
    let entry = eye.get(BUCKET, b"kiwi").expect("it was answered");
    assert_eq!(timestamp_of(&entry), "2");
    Ok(())
}

pub fn who_waits_for_nats_for_too_long_is_disconnected_without_an_answer() -> Outcome {
    given_up(Release::Current)
}

pub fn with_debians_server_who_waits_for_too_long_is_disconnected_as_well() -> Outcome {
    given_up(Release::Debian)
}

fn given_up(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman"], "timeout = \"4s\"\n");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    wait_until_in_sync(&server, 1);
    nats.nodes[0].hold();
    let mut client = server.client();
    client.send("WHATSAT nobody 0 0\nIAMAT kiwi +1.0-2.0 2\n");
    assert_eq!(client.line(), "? WHATSAT nobody 0 0", "what is owed before it is given");
    assert_eq!(client.next(LIMIT), Next::End(Vec::new()));
    assert_eq!(known(&server, "kiwi").as_deref(), Some("2"), "queries are answered");
    let log = server.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(GIVEN_UP)).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(" - WARNING: "), "{warnings:?}");
    nats.nodes[0].go_on();
    // It was not answered, and is not lost.
    eye.wait_for(BUCKET, "kiwi", |value| value.contains(" 2 "));
    tell(&server, "kiwi", 3);
    Ok(())
}

const GIVEN_UP: &str = "the connection is closed";
