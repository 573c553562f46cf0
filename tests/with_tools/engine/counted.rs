//! Claim: each metric of the engine moves for its reason on a member that uses a real NATS server.

use serde_json::json;

use super::eye::Eye;
use super::members::{errors, members, sample, tell, wait_until_in_sync};
use super::nats::{Nats, Release};
use super::permissions;
use crate::common::client::Next;
use crate::common::needs::Outcome;
use crate::common::{LIMIT, ServerProcess, wait_until};

/// A metric with all its labels, such as `herd_engine_state` of `in_sync`.
fn count(server: &ServerProcess, name: &str, label: &str) -> u64 {
    sample(server, &format!("herd_engine_{name}"), label)
}

fn wait_for(server: &ServerProcess, name: &str, label: &str, value: u64) {
    let what = format!("{}: herd_engine_{name} {label} is {value}", server.name);
    wait_until(LIMIT, &what, || count(server, name, label) == value);
}

pub fn each_metric_of_a_member_moves_for_its_reason() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "timeout = \"5m\"\n");
    let servers = ["Goloman", "Hands"].map(|name| setup.start_with(name, &["--admin", "0"]));
    let [goloman, hands] = &servers;
    for server in &servers {
        wait_until_in_sync(server, 1);
        wait_for(server, "connected", "", 1);
        wait_for(server, "connections_total", "", 1);
        wait_for(server, "state", "state=\"in_sync\"", 1);
        wait_for(server, "state", "", 1);
        wait_for(server, "received_total", "", 0);
    }
    // Both read what one of them has published.
    tell(goloman, "kiwi", 1);
    wait_for(goloman, "acknowledged_total", "", 1);
    servers.iter().for_each(|server| wait_for(server, "received_total", "", 1));
    assert_eq!(count(hands, "acknowledged_total", ""), 0);
    // No update, and an older one. Both members replace them, and one of them comes too late.
    eye.put("herd", b"kiwi", "nonsense");
    servers.iter().for_each(|server| wait_for(server, "skipped_total", "", 1));
    servers.iter().for_each(|server| wait_for(server, "repairs_total", "", 1));
    let conflicts =
        || servers.iter().map(|server| count(server, "conflicts_total", "")).sum::<u64>();
    eye.wait_for("herd", "kiwi", |value| value.starts_with("UPDATELOC kiwi +1.0-2.0 1 "));
    wait_until(LIMIT, "nothing is on its way", || {
        servers.iter().all(|server| count(server, "publishes_in_flight", "") == 0)
    });
    let before = conflicts();

    // Two members replace the same message: the second one is refused. Until NATS goes on, both are on their way.
    nats.nodes[0].hold();
    let mut clients = servers.each_ref().map(ServerProcess::client);
    for (client, timestamp) in clients.iter_mut().zip([7, 8]) {
        client.send(format!("IAMAT kiwi +1.0-2.0 {timestamp}\n"));
    }
    servers.iter().for_each(|server| wait_for(server, "publishes_in_flight", "", 1));
    nats.nodes[0].go_on();
    for (client, timestamp) in clients.iter_mut().zip([7, 8]) {
        assert_eq!(client.line(), format!("AT AT kiwi +1.0-2.0 {timestamp}"));
    }
    servers.iter().for_each(|server| wait_for(server, "publishes_in_flight", "", 0));
    assert!(conflicts() > before, "{before}");

    // Without a server of NATS.
    nats.nodes[0].kill();
    wait_for(goloman, "connected", "", 0);
    wait_for(goloman, "state", "state=\"disconnected\"", 1);
    wait_for(goloman, "errors_total", "class=\"lost\"", 1);
    wait_until(LIMIT, "it is dialled in vain", || errors(goloman, "unreachable") > 0);
    nats.nodes[0].start();
    wait_for(goloman, "connections_total", "", 2);
    wait_for(goloman, "state", "state=\"in_sync\"", 1);

    // A bucket that cannot be used any more, as its operator has changed it.
    let stream = eye.stream("herd").expect("it is there");
    let mut config = stream["config"].clone();
    config["max_msgs_per_subject"] = json!(5);
    eye.api("STREAM.UPDATE.KV_herd", config).expect("it is changed");
    nats.nodes[0].kill();
    nats.nodes[0].start();
    wait_for(goloman, "state", "state=\"refused\"", 1);
    assert!(errors(goloman, "bucket") > 0);

    // It says that it is about to stop.
    let left = errors(goloman, "left");
    nats.nodes[0].lame_duck();
    wait_until(LIMIT, "it is left", || errors(goloman, "left") > left);
    Ok(())
}

pub fn messages_that_are_to_come_are_counted_while_they_do_not_come() -> Outcome {
    let nats = permissions::without(&[permissions::FLOW])?;
    permissions::fill(&nats)?;
    let (_setup, server) = permissions::herd_member(&nats);
    // It may not tell NATS to go on.
    wait_for(&server, "state", "state=\"filling\"", 1);
    wait_until(LIMIT, "they are counted", || count(&server, "pending_messages", "") > 0);
    Ok(())
}

pub fn an_answer_that_is_never_given_is_counted() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let setup = members(&nats, &["Goloman"], "timeout = \"4s\"\n");
    let server = setup.start_with("Goloman", &["--admin", "0"]);
    wait_until_in_sync(&server, 1);
    nats.nodes[0].hold();
    let mut client = server.client();
    client.send("IAMAT kiwi +1.0-2.0 2\nIAMAT plum +1.0-2.0 2\n");
    assert_eq!(client.next(LIMIT), Next::End(Vec::new()));
    wait_for(&server, "answers_given_up_total", "", 2);
    wait_until(LIMIT, "the connection is counted", || {
        sample(&server, "herd_connections_closed_total", "answer_timeout") == 1
    });
    Ok(())
}
