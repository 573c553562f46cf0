//! Newest wins, whoever publishes first and whatever is put into the bucket.

use super::eye::Eye;
use super::members::{
    known, members, start_by, tell, timestamp_of, wait_until_in_sync, wait_until_known,
};
use super::nats::{Nats, Release};
use crate::common::needs::Outcome;
use crate::common::proxy::Proxy;
use crate::common::{LIMIT, wait_until};

const BUCKET: &str = "herd";

pub fn the_newest_update_wins_after_a_cut_and_an_older_one_in_the_bucket_is_replaced_once()
-> Outcome {
    newest_wins(Release::Current)
}

pub fn with_debians_server_the_newest_update_wins_as_well() -> Outcome {
    newest_wins(Release::Debian)
}

fn newest_wins(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands", "Holiday"], "");
    let proxy = Proxy::to(nats.nodes[0].address);
    let servers = [
        start_by(&setup, "Goloman", &nats, proxy.address),
        setup.start("Hands"),
        setup.start("Holiday"),
    ];
    let [cut_off, hands, holiday] = &servers;
    servers.iter().for_each(|server| wait_until_in_sync(server, 1));

    // The one that is cut off is sent the older update, and then the newer one.
    for (round, (id, here, there)) in
        [("kiwi", 200, 300), ("plum", 300, 200)].into_iter().enumerate()
    {
        let connected = nats.nodes[0].connections();
        proxy.cut();
        wait_until(LIMIT, "it is cut off", || nats.nodes[0].connections() < connected);
        let mut client = cut_off.client();
        client.send(format!("IAMAT {id} +1.0-2.0 {here}\n"));
        wait_until(LIMIT, "it has the update", || known(cut_off, id) == Some(here.to_string()));
        tell(hands, id, there);
        proxy.restore();
        // Its answer was held until now: something newer, or this update, is in the bucket.
        assert_eq!(client.line(), format!("AT AT {id} +1.0-2.0 {here}"));
        wait_until_in_sync(cut_off, round + 2);
        wait_until_known(&servers, id, 300);
        let entry = eye.get(BUCKET, id.as_bytes()).expect("it is in the bucket");
        assert_eq!(timestamp_of(&entry), "300");
    }

    // Somebody else puts an older one: each of the three sees it, and one of them repairs it.
    let older = "UPDATELOC kiwi +1.0-2.0 100 Hands +0.000000000";
    let number = eye.put(BUCKET, b"kiwi", older);
    eye.wait_for(BUCKET, "kiwi", |value| value.contains(" 300 "));
    assert_eq!(known(holiday, "kiwi").as_deref(), Some("300"));
    // Whatever else they publish comes before these, which are answered.
    for server in &servers {
        tell(server, &format!("marker.{}", server.name), 1);
    }
    let last = &eye.stream(BUCKET).expect("there is a stream")["state"]["last_seq"];
    let published = last.as_u64().expect("a number") - number;
    assert_eq!(published, 1 + servers.len() as u64, "the repair, and a marker of each");
    Ok(())
}
