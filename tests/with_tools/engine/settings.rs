//! Settings of `[engine]` have their effect on real NATS servers. Those that are not here have theirs in the tests of what
//! they are about.

use super::eye::Eye;
use super::members::{members, start_all, start_by, tell, timestamp_of, wait_until_in_sync};
use super::nats::{Nats, Release};
use crate::common::needs::Outcome;
use crate::common::proxy::Proxy;

pub fn the_bucket_that_is_named_is_made_and_no_other() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "bucket = \"flock_2\"\n");
    let servers = start_all(&setup);
    tell(&servers[0], "kiwi", 7);
    assert_eq!(timestamp_of(&eye.get("flock_2", b"kiwi").expect("it was answered")), "7");
    assert!(eye.stream("herd").is_none(), "that is the default");
    Ok(())
}

pub fn a_connection_that_is_silent_for_two_heartbeats_is_given_up() -> Outcome {
    let nats = Nats::one(Release::Current)?;
    let proxy = Proxy::to(nats.nodes[0].address);
    let setup = members(&nats, &["Goloman"], "heartbeat = \"350ms\"\n");
    let server = start_by(&setup, "Goloman", &nats, proxy.address);
    wait_until_in_sync(&server, 1);
    proxy.freeze();
    server.wait_for_log("it did not answer a PING within 350 ms. Reconnecting.");
    proxy.restore();
    wait_until_in_sync(&server, 2);
    Ok(())
}
