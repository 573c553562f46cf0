//! Hosts talk with each other in plain text only if that is allowed, and with TLS nobody between them reads an update; they
//! reach each other; those that lose sight of each other without a word, packets that are late or lost, and a host
//! that comes back with the same address and an empty memory end with equal tables.

use crate::common::certificates::Certificates;
use crate::common::hosts::Hosts;
use crate::common::needs::Outcome;
use crate::common::{LIMIT, Setup, wait_until};

pub fn a_pulled_cable_is_noticed_and_missed_updates_are_sent() -> Outcome {
    let hosts = Hosts::new(3)?;
    let setup = Setup::alone(); // For its folder.
    let path = Hosts::line(&setup, "300ms");
    let mut servers: Vec<_> = (0..3).map(|number| hosts.start(&setup, number, &path)).collect();
    assert_eq!(hosts.say(0, "IAMAT kiwi +1.0-2.0 1"), "AT AT kiwi +1.0-2.0 1\n");
    hosts.wait_for("kiwi", "AT AT kiwi +1.0-2.0 1");

    // The host in the middle is cut off: no FIN, no reset.
    hosts.cable(1, "down");
    wait_until(LIMIT, "the link is lost", || servers[0].log().contains("Link to H2 lost"));
    hosts.say(0, "IAMAT kiwi +1.0-2.0 2");
    hosts.say(2, "IAMAT plum +3.0-4.0 2");
    hosts.say(1, "IAMAT pear +5.0-6.0 2");
    assert_eq!(hosts.knows(1, "kiwi"), "AT AT kiwi +1.0-2.0 1");
    hosts.cable(1, "up");
    hosts.wait_for("kiwi", "AT AT kiwi +1.0-2.0 2");
    hosts.wait_for("plum", "AT AT plum +3.0-4.0 2");
    hosts.wait_for("pear", "AT AT pear +5.0-6.0 2");

    // It is switched off and on again, with the same address and an empty memory, while nobody can
    // hear its connections end.
    hosts.cable(1, "down");
    servers.remove(1);
    hosts.say(0, "IAMAT kiwi +1.0-2.0 3");
    servers.insert(1, hosts.start(&setup, 1, &path));
    hosts.cable(1, "up");
    hosts.wait_for("kiwi", "AT AT kiwi +1.0-2.0 3");
    hosts.wait_for("pear", "AT AT pear +5.0-6.0 2");
    Ok(())
}

/// From a loopback address no packet leaves its host, so a link takes another one.
pub fn a_server_that_listens_at_a_loopback_address_reaches_a_neighbour_on_another_host() -> Outcome
{
    let hosts = Hosts::new(2)?;
    let setup = Setup::alone(); // For its folder.
    let path = Hosts::deaf_and_hearing(&setup);
    let _servers: Vec<_> = (0..2).map(|number| hosts.start(&setup, number, &path)).collect();
    assert_eq!(hosts.say(0, "IAMAT kiwi +1.0-2.0 1"), "AT AT kiwi +1.0-2.0 1\n");
    hosts.wait_for("kiwi", "AT AT kiwi +1.0-2.0 1");
    Ok(())
}

pub fn late_and_lost_packets_delay_updates_and_lose_none() -> Outcome {
    let hosts = Hosts::new(3)?;
    let weather = hosts.storm()?;
    let setup = Setup::alone(); // For its folder.
    let path = Hosts::line(&setup, "2s");
    let _servers: Vec<_> = (0..3).map(|number| hosts.start(&setup, number, &path)).collect();
    for round in 1..=5 {
        let line_of = |name: &str| {
            let line = |client| format!("IAMAT {name}{client} +1.0-2.0 {round}");
            (0..100).map(line).collect::<Vec<_>>().join("\\n")
        };
        assert_eq!(hosts.say(0, &line_of("a")).lines().count(), 100);
        assert_eq!(hosts.say(2, &line_of("b")).lines().count(), 100);
        assert_eq!(hosts.say(1, &format!("IAMAT kiwi +1.0-2.0 {round}")).lines().count(), 1);
    }
    for id in ["a0", "a50", "a99", "b0", "b50", "b99", "kiwi"] {
        hosts.wait_for(id, &format!("AT AT {id} +1.0-2.0 5"));
    }
    assert!(hosts.dropped() > 0, "{weather} dropped nothing");
    Ok(())
}

/// What everybody between the hosts would read of an update.
const UPDATE: &[&[u8]] = &[b"UPDATELOC", b"HELLO herd/1", b"kiwi"];

pub fn plain_text_between_hosts_is_refused_unless_it_is_allowed_and_tls_hides_every_line() -> Outcome
{
    let hosts = Hosts::new(2)?;
    let setup = Setup::alone(); // For its folder.
    let path = Hosts::pair(&setup, "");
    let output = hosts.server(&setup, 0, &path).output().expect("ip runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let refusal = "neighbours would talk in plain text with 10.77.0.1:14000: set [tls.neighbours], or allow it with \
                   allow_plaintext = [\"neighbours\"] in [security]";
    assert!(said.contains(refusal), "{said}");

    // Allowed, and read by the one in between.
    let plain = Hosts::pair(&setup, "[security]\nallow_plaintext = [\"neighbours\"]\n");
    let between = hosts.record(&setup, 0)?;
    let servers: Vec<_> = (0..2).map(|number| hosts.start(&setup, number, &plain)).collect();
    assert_eq!(hosts.say(0, "IAMAT kiwi +1.0-2.0 1"), "AT AT kiwi +1.0-2.0 1\n");
    hosts.wait_for("kiwi", "AT AT kiwi +1.0-2.0 1");
    for part in UPDATE {
        wait_until(LIMIT, "it is read in between", || between.has(part));
    }
    let warning = "WARNING: clients on other hosts can talk with H1 in plain text (10.77.0.1:4000)";
    assert!(servers[0].log().contains(warning), "{}", servers[0].log());
    drop((servers, between));

    let setup = Setup::alone(); // Other logs.
    let made = Certificates::new(&["H1", "H2"]);
    let (tls, ca) = (made.section(), made.path("herd-ca.pem"));
    let sections =
        format!("{tls}[tls.clients]\naccept = \"plain\"\n[tls.neighbours]\nca = {ca:?}\n");
    let secure = Hosts::pair(&setup, &sections);
    let between = hosts.record(&setup, 0)?;
    let _servers: Vec<_> = (0..2).map(|number| hosts.start(&setup, number, &secure)).collect();
    assert_eq!(hosts.say(0, "IAMAT kiwi +1.0-2.0 2"), "AT AT kiwi +1.0-2.0 2\n");
    hosts.wait_for("kiwi", "AT AT kiwi +1.0-2.0 2");
    // The protocol's name is said in the handshake, before anything is secret.
    wait_until(LIMIT, "the handshake is recorded", || between.has(b"herd/1"));
    for part in UPDATE {
        assert!(!between.has(part), "{}", String::from_utf8_lossy(part));
    }
    Ok(())
}
