//! Claim: to a service manager a herd is one service: ready when all servers listen, alive while its supervisor and its
//! servers are; and no server is told of the manager.

mod common;

use std::time::{Duration, Instant};

use common::process::send_signal;
use common::service_manager::{ServiceManager, count};
use common::{Herd, LIMIT, Setup, wait_until};
use rustix::process::Signal;

#[test]
fn a_herd_is_ready_when_all_servers_listen_and_keeps_the_manager_to_itself() {
    let manager = ServiceManager::new();
    let mut herd = start(Setup::report(), &manager, Some(Duration::from_secs(60)));
    let seen = manager.wait_for("READY=1");
    assert_eq!(seen.last().expect("it came")[1], "STATUS=5 of 5 servers run");
    let children = herd.children();
    assert_eq!(children.len(), 5);
    for (name, pid) in children {
        let variables = std::fs::read(format!("/proc/{pid}/environ")).expect("it runs");
        let variables = String::from_utf8_lossy(&variables).into_owned();
        for word in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"] {
            assert!(!variables.contains(word), "{name} has {word}");
        }
    }
    herd.signal(Signal::TERM);
    assert!(herd.wait().success());
    let rest = manager.all();
    assert_eq!((count(&rest, "STOPPING=1"), count(&rest, "READY=1")), (1, 0), "{rest:?}");
}

#[test]
fn pings_need_each_server_that_runs() {
    let manager = ServiceManager::new();
    let begin = Instant::now();
    let herd = start(Herd::small_setup(), &manager, Some(Duration::from_secs(2)));
    manager.wait_for("READY=1");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    assert!(begin.elapsed() > Duration::from_millis(1_900), "{:?}", begin.elapsed());

    let server = herd.child("Hands").expect("it runs");
    send_signal(server, Signal::STOP);
    // What it said before counts for a second.
    wait_until(LIMIT, "the pings end", || manager.next_within(Duration::from_secs(3)).is_none());
    send_signal(server, Signal::CONT);
    manager.wait_for("WATCHDOG=1");

    herd.signal(Signal::STOP);
    wait_until(LIMIT, "the pings end", || manager.next_within(Duration::from_secs(3)).is_none());
    herd.signal(Signal::CONT);
    manager.wait_for("WATCHDOG=1");

    herd.kill_and_wait_for_another("Hands");
    manager.all();
    manager.wait_for("WATCHDOG=1");
    let status = manager.wait_for("STATUS=");
    assert_eq!(status.last().expect("it came"), &["STATUS=2 of 2 servers run"]);
}

#[test]
fn a_reload_is_told_and_its_end() {
    let manager = ServiceManager::new();
    let herd = start(Herd::small_setup(), &manager, None);
    manager.wait_for("READY=1");
    let file = herd.setup.folder.path().join("herd.toml");
    let text = std::fs::read_to_string(&file).expect("the file");
    for text in [format!("{text}\n[link]\nheartbeat = \"1s\"\n"), "broken".to_owned()] {
        std::fs::write(&file, text).expect("a file");
        herd.signal(Signal::HUP);
        let seen = manager.wait_for("READY=1");
        assert_eq!(count(&seen, "RELOADING=1"), 1, "{seen:?}");
        assert_eq!(count(&seen, "MONOTONIC_USEC="), 1, "{seen:?}");
    }
    herd.wait_until_said("configuration not reloaded");
}

#[test]
fn a_drain_is_told_and_has_the_time_that_it_needs() {
    let manager = ServiceManager::new();
    let setup =
        Herd::small_setup().section("[stop]\ndrain_delay = \"1s\"\ndrain_duration = \"2s\"");
    let mut herd = start(setup, &manager, None);
    manager.wait_for("READY=1");
    herd.signal(Signal::USR2);
    let seen = manager.wait_for("STOPPING=1");
    assert_eq!(count(&seen, "EXTEND_TIMEOUT_USEC=30000000"), 1, "{seen:?}");
    assert!(herd.wait().success());
}

fn start(setup: Setup, manager: &ServiceManager, watchdog: Option<Duration>) -> Herd {
    let mut command = Herd::command(&setup);
    manager.watch(&mut command, watchdog);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "clients");
    Herd::spawn(setup, command)
}
