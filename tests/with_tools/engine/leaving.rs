//! Claim: a NATS server that is about to stop, and a cluster that is restarted node by node, cost no answer and no client.

use std::time::Duration;

use super::eye::Eye;
use super::members::{Place, Writers, members, start_all};
use super::nats::{Nats, Release};
use crate::common::needs::Outcome;

pub fn a_rolling_restart_of_a_cluster_costs_no_answer_and_no_connection_of_a_client() -> Outcome {
    restarted(Nats::three(Release::Current)?, "")
}

/// A single node has nobody to send its clients to. Its JetStream is gone at once, and it ends after its grace period of 10 s
/// and a second for each connection that has stayed; answers may wait for longer than that.
pub fn a_restart_of_a_single_node_costs_no_answer_and_no_connection_of_a_client() -> Outcome {
    restarted(Nats::one(Release::Current)?, LONG)
}

/// A cluster of that release is not to be used (docs/durability.md).
pub fn with_debians_server_a_restart_costs_no_answer_and_no_connection_of_a_client() -> Outcome {
    restarted(Nats::one(Release::Debian)?, LONG)
}

const LONG: &str = "timeout = \"60s\"\n";

/// With the default timeout nothing that was answered is lost either, but clients may be disconnected unanswered.
fn restarted(nats: Nats, more: &str) -> Outcome {
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], more);
    let servers = start_all(&setup);
    let places = Place::all(&setup);
    let writers = Writers::start(4, &places);
    for node in &nats.nodes {
        writers.write_for(Duration::from_secs(1));
        node.lame_duck();
        node.start();
        if nats.nodes.len() > 1 {
            nats.wait_until_whole("KV_herd");
        }
    }
    writers.all_write_on();
    let written = writers.end();
    println!("longest pause {:.1?}", written.longest_pause());
    nats.wait_until_ready();
    eye.wait_for("herd", "hot.0", |value| value.starts_with("UPDATELOC "));
    written.is_kept(&mut eye, "herd", &places);
    for server in &servers {
        let log = server.log();
        assert!(log.contains("which is about to stop. Connecting to another server."), "{log}");
        assert!(!log.contains("the connection is closed"), "a client got no answer: {log}");
    }
    Ok(())
}
