//! Claim: `--herd` runs every server of the configuration, starts again one that dies, and leaves none behind, however
//! it ends itself.

mod common;

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use common::process::{follow, listens, send_signal};
use common::{Client, LIMIT, Setup, wait_until};

/// A supervisor and what it and its children say. Dropped, it is killed, and so (which a test here shows) are they.
struct Supervisor {
    child: Child,
    said: Arc<Mutex<String>>,
    setup: Setup,
}

impl Supervisor {
    fn start() -> Supervisor {
        let setup = Setup::report();
        let mut child = Command::new(env!("CARGO_BIN_EXE_herd-mio"))
            .arg("--herd")
            .arg("--config")
            .arg(setup.config_file("herd"))
            .arg("--log-dir")
            .arg(setup.folder.path())
            .env_remove("HERD_PLACES_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is there");
        let said = follow(child.stderr.take().expect("stderr is piped"));
        let supervisor = Supervisor { child, said, setup };
        wait_until(LIMIT, "all five say that they listen", || {
            let said = supervisor.said.lock().expect("nobody panics with it").clone();
            supervisor.setup.names().iter().all(|name| listens(&said, name).is_some())
        });
        supervisor
    }

    /// The process id of each child, found by its command line.
    fn children(&self) -> Vec<(String, u32)> {
        let config = self.setup.folder.path().join("herd.toml").to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let Ok(bytes) = std::fs::read(entry.path().join("cmdline")) else {
                continue;
            };
            let words: Vec<String> = bytes
                .split(|&byte| byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            if pid == self.child.id()
                || is_zombie(pid)
                || !words.iter().any(|word| word.contains(&config))
            {
                continue;
            }
            let is_named = |name: &String| {
                words.iter().any(|word| word == name || *word == format!("--server={name}"))
            };
            if let Some(name) = self.setup.names().into_iter().find(is_named) {
                found.push((name, pid));
            }
        }
        found.sort();
        found
    }

    fn child(&self, name: &str) -> Option<u32> {
        self.children().into_iter().find(|(found, _)| found == name).map(|(_, pid)| pid)
    }

    fn answers(&self, name: &str) -> bool {
        let Ok(mut client) = Client::try_connect(self.setup.clients_address(name)) else {
            return false;
        };
        client.try_send("IAMAT a +1.0+2.0 10\n").is_ok()
            && client.next(LIMIT) == common::Next::Line(b"AT AT a +1.0+2.0 10".to_vec())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        for (_, pid) in self.children() {
            send_signal(pid, Signal::KILL);
        }
    }
}

#[test]
fn all_servers_of_the_herd_listen_and_each_is_a_process_of_its_own() {
    let supervisor = Supervisor::start();
    for name in supervisor.setup.names() {
        assert!(supervisor.answers(&name), "{name} answers");
        assert!(supervisor.setup.log_file(&name).is_file(), "{name} keeps a log");
    }
    let children = supervisor.children();
    let names: Vec<&str> = children.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["Goloman", "Hands", "Holiday", "Welsh", "Wilkes"]);
}

#[test]
fn a_server_that_dies_is_started_again_and_catches_up() {
    let supervisor = Supervisor::start();
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
fn sigterm_stops_all_in_order() {
    ends_on(Signal::TERM);
}

#[test]
fn ctrl_c_stops_all_in_order() {
    ends_on(Signal::INT);
}

fn ends_on(signal: Signal) {
    let mut supervisor = Supervisor::start();
    let pids: Vec<u32> = supervisor.children().into_iter().map(|(_, pid)| pid).collect();
    assert_eq!(pids.len(), 5);
    send_signal(supervisor.child.id(), signal);
    let mut status = None;
    wait_until(LIMIT, "the supervisor ends", || {
        status = supervisor.child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert_eq!(supervisor.children(), [], "none is left when the supervisor has ended");
}

#[test]
fn a_killed_supervisor_leaves_no_server_behind() {
    let mut supervisor = Supervisor::start();
    assert_eq!(supervisor.children().len(), 5);
    supervisor.child.kill().expect("it runs");
    supervisor.child.wait().expect("it was killed");
    wait_until(LIMIT, "no server is left", || supervisor.children().is_empty());
    assert!(
        Client::try_connect(supervisor.setup.clients_address("Goloman")).is_err(),
        "and no port is held"
    );
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, fields)| fields.trim_start().starts_with(['Z', 'X']))
}
