//! Claim: `--herd` runs every server of the configuration, restarts one that dies, and leaves none behind, however
//! it ends itself.

mod common;

use rustix::process::Signal;

use common::process::send_signal;
use common::{Client, Herd, LIMIT, wait_until};

#[test]
fn all_servers_of_the_herd_listen_and_each_is_a_process_of_its_own() {
    let supervisor = Herd::start();
    for name in supervisor.setup.names() {
        assert!(supervisor.answers(&name), "{name} answers");
        assert!(supervisor.setup.log_file(&name).is_file(), "{name} keeps a log");
    }
    let children = supervisor.children();
    let names: Vec<&str> = children.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["Goloman", "Hands", "Holiday", "Welsh", "Wilkes"]);
}

#[test]
fn a_server_that_dies_is_restarted_and_catches_up() {
    let supervisor = Herd::start();
    let mut goloman = Client::connect(supervisor.setup.clients_address("Goloman"));
    assert_eq!(goloman.ask("IAMAT kiwi +1.0+2.0 10"), "AT AT kiwi +1.0+2.0 10");
    let holiday = supervisor.child("Holiday").expect("it runs");
    send_signal(holiday, Signal::KILL);
    wait_until(LIMIT, "another Holiday runs", || {
        supervisor.child("Holiday").is_some_and(|pid| pid != holiday)
    });
    wait_until(LIMIT, "it knows what the herd knows", || {
        let Ok(mut client) = Client::try_connect(supervisor.setup.clients_address("Holiday"))
        else {
            return false;
        };
        client.try_send("WHATSAT kiwi 10 0\n").is_ok()
            && client.next(LIMIT) == common::Next::Line(b"AT AT kiwi +1.0+2.0 10".to_vec())
    });
    let others: Vec<(String, u32)> =
        supervisor.children().into_iter().filter(|(name, _)| name != "Holiday").collect();
    assert_eq!(others.len(), 4, "nobody else was touched");
}

#[test]
fn sigterm_stops_all_gracefully() {
    ends_on(Signal::TERM);
}

#[test]
fn ctrl_c_stops_all_gracefully() {
    ends_on(Signal::INT);
}

fn ends_on(signal: Signal) {
    let mut supervisor = Herd::start();
    let pids: Vec<u32> = supervisor.children().into_iter().map(|(_, pid)| pid).collect();
    assert_eq!(pids.len(), 5);
    supervisor.signal(signal);
    assert_eq!(supervisor.wait().code(), Some(0));
    assert_eq!(supervisor.left(), [0; 0], "none is left when the supervisor has ended");
}

#[test]
fn a_killed_supervisor_leaves_no_server_behind() {
    let mut supervisor = Herd::start();
    assert_eq!(supervisor.children().len(), 5);
    supervisor.child.kill().expect("it runs");
    supervisor.child.wait().expect("it was killed");
    wait_until(LIMIT, "no server is left", || supervisor.left().is_empty());
    assert!(
        Client::try_connect(supervisor.setup.clients_address("Goloman")).is_err(),
        "and no port is held"
    );
}
