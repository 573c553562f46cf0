//! Claim: a link connects from the address at which its server is known; and the log names a neighbour that cannot
//! be reached, with the reason. (That each address of a neighbour is tried is in `tests/with_tools/dialling.rs`.)

mod common;

use std::time::Duration;

use common::client::Next;
use common::names::own_loopback;
use common::setup::each_learns_of_the_other;
use common::{FakeNeighbour, LIMIT, ServerProcess, Setup, wait_until};

/// Runs of neighbours that we play.
const FIRST_RUN: &str = "00000000000000aa";

fn warnings(server: &ServerProcess, about: &str) -> Vec<String> {
    let log = server.log();
    let records = log.lines().filter(|record| record.contains(" - WARNING: "));
    records.filter(|record| record.contains(about)).map(str::to_owned).collect()
}

#[test]
fn a_link_connects_from_the_address_of_its_servers_peer_listen() {
    each_learns_of_the_other(own_loopback(2).into(), own_loopback(3).into());
}

#[test]
fn an_unreachable_neighbour_is_logged_once_with_the_reason_and_once_when_it_returns() {
    let setup = Setup::star(&["Hands", "Wilkes"]).heartbeat("1s");
    let goloman = setup.start("Goloman");
    for name in ["Hands", "Wilkes"] {
        goloman.wait_for_log(&format!("{name} can't be reached"));
        let said = warnings(&goloman, name);
        assert_eq!(said.len(), 1, "{said:#?}");
        let address = setup.peers_address(name).to_string();
        for text in ["WARNING", "Connection refused", &address] {
            assert!(said[0].contains(text), "no {text:?}: {said:#?}");
        }
    }
    let hands = setup.play("Hands");
    let mut link = hands.greet_empty(FIRST_RUN);
    goloman.wait_for_log("Hands is reachable again");
    // A link that is lost and found at once is none that can't be reached.
    link.until_mark();
    drop(link);
    hands.greet_empty(FIRST_RUN).until_mark();
    let said = warnings(&goloman, "Hands");
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(warnings(&goloman, "Wilkes is reachable").is_empty());
}

#[test]
fn an_invalid_answer_to_hello_is_logged_as_the_reason() {
    let setup = Setup::star(&["Hands"]).heartbeat("60s");
    let hands = setup.play("Hands");
    let goloman = setup.start("Goloman");
    let said = || warnings(&goloman, "Hands can't be reached");
    wait_until(LIMIT, "Hands' answer is reported", || {
        refuse(&hands);
        !said().is_empty()
    });
    assert!(said()[0].contains("? HELLO herd/1 Goloman"), "{:#?}", said());
}

/// Answers a HELLO as a server does that knows no such neighbour.
fn refuse(neighbour: &FakeNeighbour) {
    let Some(mut client) = neighbour.accept_within(Duration::from_millis(100)) else { return };
    if let Next::Line(hello) = client.next(LIMIT) {
        _ = client.try_send([b"? ", &hello[..], b"\n"].concat());
        assert!(client.is_closed_within(LIMIT), "after a refusal");
    }
}
