//! Claim: a member with neighbours passes on what comes from either side, each loop of a server is a member of its own,
//! and a server that drains reaches its engine until its end, by TLS where TLS is asked for.

use std::collections::BTreeSet;

use rustix::process::Signal;

use super::eye::Eye;
use super::members::{known, members, tell, timestamps, wait_until_in_sync, wait_until_known};
use super::nats::{Nats, Plan, Release};
use crate::common::certificates::{Certificates, Issue};
use crate::common::needs::Outcome;
use crate::common::{Client, LIMIT, ServerProcess, Setup, wait_until};

const BUCKET: &str = "herd";

pub fn a_bridge_passes_on_what_comes_from_either_side_and_says_what_it_cannot_send() -> Outcome {
    passes_on(Release::Current)
}

pub fn with_debians_server_a_bridge_passes_on_what_comes_from_either_side_as_well() -> Outcome {
    passes_on(Release::Debian)
}

fn passes_on(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let setup = Setup::new(&[("Goloman", &["Hands"]), ("Hands", &[]), ("Holiday", &[])])
        .heartbeat("1s")
        .section("[places]\nprovider = \"offline\"")
        .section(&nats.section("members = [\"Goloman\", \"Holiday\"]"));
    let servers = setup.start_all();
    let [bridge, flooded, member] = &servers[..] else { panic!("three servers") };
    [bridge, member].into_iter().for_each(|server| wait_until_in_sync(server, 1));
    bridge.wait_for_log("The link to Hands is up");
    flooded.wait_for_log("The link to Goloman is up");
    tell(flooded, "from.neighbour", 1);
    tell(member, "from.engine", 1);
    tell(bridge, "from.bridge", 1);
    for id in ["from.neighbour", "from.engine", "from.bridge"] {
        wait_until_known(&servers, id, 1);
    }

    nats.nodes[0].kill();
    bridge.wait_for_log("The connection to the engine at ");
    tell(flooded, "kiwi", 1);
    tell(flooded, "kiwi", 2);
    wait_until(LIMIT, "the bridge knows it", || known(bridge, "kiwi").as_deref() == Some("2"));
    // An older one changes nothing: there is nothing to send.
    tell(flooded, "plum", 1);
    bridge.wait_for_log(&unsent("plum"));
    assert_eq!(bridge.log().matches(&unsent("kiwi")).count(), 2);
    assert!(!bridge.log().contains(&unsent("from.neighbour")), "the engine was up");
    assert_eq!(known(member, "kiwi"), None);
    nats.nodes[0].start();
    wait_until_known(&servers, "kiwi", 2);
    wait_until_known(&servers, "plum", 1);
    let so_far = bridge.log().matches("Engine is down").count();
    tell(flooded, "lime", 1);
    wait_until_known(&servers, "lime", 1);
    assert_eq!(bridge.log().matches("Engine is down").count(), so_far, "the engine is up");
    Ok(())
}

fn unsent(id: &str) -> String {
    format!("Engine is down. Cannot send {id} at +1.0-2.0 to engine.")
}

pub fn each_loop_of_a_server_is_a_member_and_publishes_an_update_once() -> Outcome {
    loops_publish_once(Release::Current)
}

pub fn with_debians_server_each_loop_is_a_member_as_well() -> Outcome {
    loops_publish_once(Release::Debian)
}

fn loops_publish_once(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let mut eye = Eye::open(&nats)?;
    let setup = members(&nats, &["Goloman", "Hands"], "").top("loops = 2");
    let servers = setup.start_all();
    for server in &servers {
        for number in ["", "/2"] {
            let text = format!("{}{number} is in sync with the engine", server.name);
            server.wait_for_log(&text);
        }
    }
    assert_eq!(eye.consumers(BUCKET).len(), 4, "one of each loop");
    // So many that the kernel leaves no loop out.
    let mut crowd: Vec<Client> = (0..64).map(|_| servers[0].client()).collect();
    let ids: Vec<String> = (0..crowd.len()).map(|number| format!("c{number}")).collect();
    for (client, id) in crowd.iter_mut().zip(&ids) {
        assert_eq!(client.ask(&format!("IAMAT {id} +1.0-2.0 1")), format!("AT AT {id} +1.0-2.0 1"));
    }
    for client in &mut crowd {
        for id in &ids {
            wait_until(LIMIT, "each loop knows it", || {
                client.whatsat(id, "0", "0").first == format!("AT AT {id} +1.0-2.0 1")
            });
        }
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    wait_until(LIMIT, "the other server knows all", || {
        timestamps(servers[1].clients, &ids).iter().all(Option::is_some)
    });
    let last = &eye.stream(BUCKET).expect("there is a stream")["state"]["last_seq"];
    assert_eq!(last.as_u64(), Some(ids.len() as u64), "each update was published once");
    for server in servers {
        assert!(!server.log().contains("The link to "), "{}", server.log());
        assert!(server.stop().success());
    }
    Ok(())
}

/// The neighbour's link is with the first loop alone; the other one is reached by the engine.
pub fn each_loop_of_a_bridge_knows_what_its_neighbour_knows_and_the_reverse() -> Outcome {
    loops_of_a_bridge(Release::Current)
}

pub fn with_debians_server_each_loop_of_a_bridge_knows_what_its_neighbour_knows_as_well() -> Outcome
{
    loops_of_a_bridge(Release::Debian)
}

fn loops_of_a_bridge(release: Release) -> Outcome {
    let nats = Nats::one(release)?;
    let setup = Setup::new(&[("Goloman", &["Hands"]), ("Hands", &[])])
        .top("loops = 2")
        .section("[places]\nprovider = \"offline\"")
        .section(&nats.section("members = [\"Goloman\"]"));
    let servers = setup.start_all();
    let [bridge, flooded] = &servers[..] else { panic!("two servers") };
    bridge.wait_for_log("Goloman is in sync with the engine");
    bridge.wait_for_log("Goloman/2 is in sync with the engine");
    bridge.wait_for_log("The link to Hands is up");
    tell(flooded, "from.neighbour", 1);
    let mut crowd: Vec<Client> = (0..64).map(|_| bridge.client()).collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        wait_until(LIMIT, "each loop knows it", || {
            client.whatsat("from.neighbour", "0", "0").first == "AT AT from.neighbour +1.0-2.0 1"
        });
        let update = format!("c{number} +1.0-2.0 1");
        assert_eq!(client.ask(&format!("IAMAT {update}")), format!("AT AT {update}"));
    }
    let ids: Vec<String> = (0..crowd.len()).map(|number| format!("c{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    wait_until(LIMIT, "the neighbour knows all", || {
        timestamps(flooded.clients, &ids).iter().all(Option::is_some)
    });
    Ok(())
}

pub fn a_server_that_drains_reaches_a_host_of_its_engine_that_it_never_dialled_before() -> Outcome {
    let certificates = Certificates::new(&[]);
    certificates.issue("nats", Issue::server("nats"));
    let (certificate, key) = (certificates.path("nats.pem"), certificates.path("nats.key"));
    let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}\n");
    let nats = Nats::prepare(&Plan { more: tls, ..Plan::three(Release::Current) })?;
    for node in &nats.nodes {
        // The cluster knows its nodes by a name, and we know one of them by its address.
        let file = node.configuration();
        let text = std::fs::read_to_string(file).expect("it is there");
        let advertise = format!("client_advertise: \"localhost:{}\"\n", node.address.port());
        std::fs::write(file, text + &advertise).expect("it can be written");
    }
    nats.nodes.iter().for_each(|node| node.start());
    nats.wait_until_ready();
    let ca = certificates.path("herd-ca.pem");
    let setup = members(&nats, &["Goloman"], &format!("ca = {ca:?}\ntimeout = \"5m\"\n"))
        .section("[stop]\ndrain_delay = \"5m\"\ndrain_duration = \"10m\"");
    let command = setup.command("Goloman"); // It writes the configuration, which this one replaces.
    let one = format!("[\"tls://{}\"]", nats.nodes[0].address);
    let text = setup.toml("Goloman").replace(&format!("{:?}", nats.urls()), &one);
    std::fs::write(setup.folder.path().join("Goloman.toml"), text).expect("a file");
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    wait_until_in_sync(&server, 1);
    let mut client = server.client();
    assert_eq!(client.ask("IAMAT kiwi +1.0-2.0 1"), "AT AT kiwi +1.0-2.0 1");
    assert!(!server.log().contains("localhost"), "{}", server.log());
    server.signal(Signal::USR2);
    server.wait_for_log("Goloman drains");
    nats.nodes[0].kill();
    wait_until_in_sync(&server, 2);
    assert_eq!(client.ask("IAMAT kiwi +1.0-2.0 2"), "AT AT kiwi +1.0-2.0 2");
    let log = server.log();
    let connected = log.lines().filter(|line| line.contains("Connected to the engine at "));
    let ways: BTreeSet<bool> = connected.map(|line| line.contains(" with TLS: ")).collect();
    assert_eq!(ways.into_iter().collect::<Vec<_>>(), [true], "nothing goes in plain text: {log}");
    assert!(log.contains("Connected to the engine at localhost:"), "{log}");
    Ok(())
}
