//! Claim: each permission that a member needs and does not have is named once, and with those that the documents list a
//! member works.

use serde_json::json;

use super::eye::Eye;
use super::login::{SECRET, expect_error, expect_errors, hides, member, plan, records};
use super::members::{tell, wait_until_in_sync};
use super::nats::Nats;
use crate::common::needs::Outcome;
use crate::common::{LIMIT, ServerProcess, Setup, wait_until};

const STREAM_INFO: &str = "$JS.API.STREAM.INFO.KV_herd";
const STREAM_CREATE: &str = "$JS.API.STREAM.CREATE.KV_herd";
const MESSAGE_GET: &str = "$JS.API.STREAM.MSG.GET.KV_herd";
const CONSUMER_CREATE: &str = "$JS.API.CONSUMER.CREATE.KV_herd.>";
const CONSUMER_DELETE: &str = "$JS.API.CONSUMER.DELETE.KV_herd.>";
const DIRECT_GET: &str = "$JS.API.DIRECT.GET.KV_herd.>";
pub const FLOW: &str = "$JS.FC.KV_herd.>";
const VALUES: &str = "$KV.herd.>";
const ALL: [&str; 8] = [
    STREAM_INFO,
    STREAM_CREATE,
    MESSAGE_GET,
    CONSUMER_CREATE,
    CONSUMER_DELETE,
    DIRECT_GET,
    FLOW,
    VALUES,
];

/// A server of NATS whose user may do all but this.
pub fn without(missing: &[&str]) -> Result<Nats, crate::common::needs::Missing> {
    permitted(missing, "_INBOX.>")
}

fn permitted(missing: &[&str], subscribe: &str) -> Result<Nats, crate::common::needs::Missing> {
    let publish: Vec<&str> = ALL.into_iter().filter(|it| !missing.contains(it)).collect();
    Nats::start(&plan(&format!(
        "accounts {{ A {{ jetstream: enabled, users: [{{ user: herd, password: {SECRET}, permissions: {{ publish: \
         {publish:?}, subscribe: [{subscribe:?}] }} }}, {{ user: eye, password: eye }}] }} }}\n"
    )))
}

pub fn herd_member(nats: &Nats) -> (Setup, ServerProcess) {
    member(nats, "user = \"herd\"\npassword_file = \"{secret}\"", SECRET)
}

/// Somebody who may do everything.
fn eye(nats: &Nats) -> Result<Eye, crate::common::needs::Missing> {
    Eye::open_with(nats, &json!({ "user": "eye", "password": "eye" }), None)
}

/// The one error of a member.
fn denied(server: &ServerProcess, nats: &Nats, missing: &str) {
    let text = format!("does not permit our user to publish {missing}");
    expect_error(server, nats.nodes[0].address, "permissions", &text);
    hides(server, &[SECRET]);
}

pub fn with_the_permissions_of_the_documents_a_member_works() -> Outcome {
    let docs = include_str!("../../../docs/durability.md");
    for subject in ALL {
        assert!(docs.contains(&format!("`{subject}`")), "{subject}");
    }
    let nats = without(&[])?;
    let (_setup, server) = herd_member(&nats);
    wait_until_in_sync(&server, 1);
    tell(&server, "kiwi", 1);
    nats.nodes[0].kill();
    nats.nodes[0].start();
    wait_until_in_sync(&server, 2);
    tell(&server, "kiwi", 2);
    let denied = records(&server, "ERROR");
    assert!(denied.is_empty(), "{denied:#?}");
    Ok(())
}

pub fn what_a_member_needs_at_once_is_named_if_it_is_not_permitted() -> Outcome {
    for missing in [STREAM_INFO, STREAM_CREATE, CONSUMER_CREATE, VALUES] {
        let nats = without(&[missing])?;
        let (_setup, server) = herd_member(&nats);
        server.client().send("IAMAT kiwi +1.0-2.0 1\n");
        denied(&server, &nats, missing);
    }
    let nats = permitted(&[], "_OTHER.>")?;
    let (_setup, server) = herd_member(&nats);
    let text = "does not permit our user to subscribe _INBOX.>";
    expect_error(&server, nats.nodes[0].address, "permissions", text);
    Ok(())
}

pub fn a_consumer_that_may_not_be_removed_is_named_at_a_reconnect() -> Outcome {
    let nats = without(&[CONSUMER_DELETE])?;
    let (_setup, server) = herd_member(&nats);
    wait_until_in_sync(&server, 1);
    assert!(records(&server, "ERROR").is_empty());
    nats.nodes[0].kill();
    nats.nodes[0].start();
    denied(&server, &nats, CONSUMER_DELETE);
    // The engine removes it after a while.
    wait_until_in_sync(&server, 2);
    tell(&server, "kiwi", 1);
    Ok(())
}

pub fn flow_control_that_may_not_be_answered_is_named_once_much_is_to_be_read() -> Outcome {
    let nats = without(&[FLOW])?;
    fill(&nats)?;
    let (_setup, server) = herd_member(&nats);
    let text = format!("does not permit our user to publish {FLOW}");
    wait_until(LIMIT, "it is named", || {
        records(&server, "ERROR").iter().any(|record| record.contains(&text))
    });
    let said = records(&server, "ERROR");
    assert_eq!(said.iter().filter(|record| record.contains(&text)).count(), 1, "{said:#?}");
    assert!(said.iter().all(|it| it.contains(&nats.nodes[0].address.to_string())), "{said:#?}");
    Ok(())
}

/// Only members that keep a cache look clients up. The leader is asked instead.
pub fn a_look_up_that_may_not_be_made_is_named_at_a_query_and_the_leader_is_asked() -> Outcome {
    let nats = without(&[DIRECT_GET])?;
    let login = "keep = \"cache\"\nuser = \"herd\"\npassword_file = \"{secret}\"";
    let (_setup, server) = member(&nats, login, SECRET);
    wait_until_in_sync(&server, 1);
    let mut eye = eye(&nats)?;
    eye.put("herd", b"kiwi", "UPDATELOC kiwi +1.0-2.0 4 Goloman +0.500000000");
    assert_eq!(server.client().whatsat("kiwi", "0", "0").first, "AT AT kiwi +1.0-2.0 4");
    denied(&server, &nats, DIRECT_GET);
    Ok(())
}

/// A bucket so large that NATS sends it in parts.
pub fn fill(nats: &Nats) -> Result<(), crate::common::needs::Missing> {
    let mut eye = eye(nats)?;
    eye.ask(json!({ "do": "make_bucket", "bucket": "herd" }));
    let value = "x".repeat(10_000);
    for number in 0..2_000 {
        eye.put("herd", format!("c{number}").as_bytes(), &value);
    }
    Ok(())
}

/// The bucket is asked for a client only after a conflict that its consumer does not settle.
pub fn a_message_that_may_not_be_asked_for_is_named_once_a_conflict_needs_it() -> Outcome {
    let nats = without(&[MESSAGE_GET, CONSUMER_CREATE])?;
    let mut eye = eye(&nats)?;
    eye.ask(json!({ "do": "make_bucket", "bucket": "herd" }));
    eye.put("herd", b"kiwi", "what no member knows");
    let (_setup, server) = herd_member(&nats);
    server.wait_for_log(&format!("does not permit our user to publish {CONSUMER_CREATE}"));
    server.client().send("IAMAT kiwi +1.0-2.0 1\n");
    let texts = [MESSAGE_GET, CONSUMER_CREATE]
        .map(|missing| format!("does not permit our user to publish {missing}"));
    expect_errors(&server, nats.nodes[0].address, "permissions", &texts);
    Ok(())
}
