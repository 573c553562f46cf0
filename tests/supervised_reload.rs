//! Claim: on SIGHUP, `--herd` reads its configuration once, puts it in force in all servers or in none, starts servers
//! that are new and stops those that are gone, and touches nothing else.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use common::http::Http;
use common::ports::{Port, reserve};
use common::process::send_signal;
use common::{Client, Herd, LIMIT, Setup, wait_until};

/// A herd whose file the test replaces.
struct Reloaded {
    herd: Herd,
    file: PathBuf,
}

impl Reloaded {
    fn start() -> Reloaded {
        Reloaded::of(Herd::small_setup())
    }

    fn of(setup: Setup) -> Reloaded {
        let command = Herd::command(&setup);
        let file = setup.folder.path().join("herd.toml");
        Reloaded { herd: Herd::spawn(setup, command), file }
    }

    /// Writes the file as the setup has it now, with more at its end, and asks for a reload.
    fn reload_with(&self, more: &str) {
        self.reload_text(&format!("{}\n{more}", self.herd.setup.toml("herd")));
    }

    fn reload_text(&self, text: &str) {
        std::fs::write(&self.file, text).expect("the file can be written");
        self.herd.signal(Signal::HUP);
    }

    /// Reloads the file and waits until the supervisor has printed this.
    fn reloads(&self, more: &str, said: &str) {
        self.reload_with(more);
        self.herd.wait_until_said(said);
    }

    fn pid(&self, name: &str) -> u32 {
        self.herd.child(name).unwrap_or_else(|| panic!("{name} runs"))
    }

    /// Kills a server and waits until another process of it has put this into its log.
    fn restarted_logs(&self, name: &str, text: &str) {
        self.herd.kill_and_wait_for_another(name);
        self.logs(name, text);
    }

    /// Waits until a server's log has this text.
    fn logs(&self, name: &str, text: &str) {
        let log = self.herd.setup.log_file(name);
        wait_until(LIMIT, &format!("{name} logs {text}"), || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains(text))
        });
    }

    fn stops(mut self) {
        self.herd.signal(Signal::TERM);
        assert_eq!(self.herd.wait().code(), Some(0), "{}", self.herd.said());
        assert_eq!(self.herd.left(), [0; 0]);
    }
}

#[test]
fn a_server_is_added_and_another_one_removed_and_the_rest_is_not_touched() {
    let mut herd = Reloaded::start();
    let (goloman, hands) = (herd.pid("Goloman"), herd.pid("Hands"));
    herd.herd.setup.add("South", &["Goloman"]);
    herd.herd.setup.remove("Hands");
    let removed = "configuration reloaded: server Hands removed, server South added, link between";
    herd.reloads("", removed);
    wait_until(LIMIT, "South answers", || herd.herd.answers("South"));
    wait_until(LIMIT, "Hands has ended", || {
        herd.herd.child("Hands").is_none() && !herd.herd.left().contains(&hands)
    });
    assert_eq!(herd.pid("Goloman"), goloman);
    herd.reloads("", "configuration reloaded: no changes");
    assert_eq!(herd.herd.children().len(), 2, "Hands is not started again");
    herd.stops();
}

#[test]
fn a_server_with_another_name_gets_the_ports_of_the_one_before() {
    let mut herd = Reloaded::start();
    let hands = herd.pid("Hands");
    send_signal(hands, Signal::STOP);
    herd.herd.setup.rename("Hands", "Mains");
    herd.reloads("", "server Hands removed, server Mains added");
    herd.herd.kill_and_wait_for_another("Goloman"); // So what can be started has been started.
    assert_eq!(herd.herd.child("Mains"), None, "Hands has its ports");
    send_signal(hands, Signal::CONT);
    wait_until(LIMIT, "Mains answers", || {
        herd.herd.child("Mains").is_some() && herd.herd.answers("Mains")
    });
    assert!(!herd.herd.said().contains("Mains exited"), "it did not start too early");
    herd.stops();
}

#[test]
fn a_broken_file_is_named_in_one_line_and_changes_nothing() {
    let herd = Reloaded::start();
    let pids = herd.herd.children();
    for (more, fault) in [
        ("[link]\nheartbeat = 5", ":13: invalid `link.heartbeat`: 5"),
        ("[link]\nhartbeat = \"5s\"", "unknown key `hartbeat`"),
        ("[link", "the closing bracket is missing"),
    ] {
        let before = herd.herd.said().len();
        herd.reload_with(more);
        let line = || {
            let said = herd.herd.said()[before..].to_owned();
            said.lines().find(|line| line.contains("configuration")).map(str::to_owned)
        };
        wait_until(LIMIT, "the mistake is named", || line().is_some());
        let line = line().expect("it was found");
        let file = format!("configuration not reloaded: {}:", herd.file.display());
        assert!(line.starts_with(&file), "{line}");
        assert!(line.contains(fault), "{line}");
    }
    assert_eq!(herd.herd.children(), pids);
    // The file is still broken.
    herd.herd.kill_and_wait_for_another("Hands");
    herd.reloads("", "configuration reloaded: no changes");
    herd.stops();
}

#[test]
fn a_server_that_is_restarted_gets_the_configuration_in_force() {
    let herd = Reloaded::start();
    herd.reloads("[log]\nformat = \"json\"", "log.format: report -> json");
    herd.restarted_logs("Hands", "{\"time\":");
    std::fs::write(&herd.file, "").expect("the file can be written"); // And nobody asks for a reload.
    herd.restarted_logs("Goloman", "{\"time\":");
    herd.stops();
}

#[test]
fn running_servers_get_the_text_that_the_supervisor_has_read() {
    let mut herd = Reloaded::start();
    herd.herd.setup.add("South", &["Goloman"]);
    herd.reloads(
        "[link]\nheartbeat = \"2s\"",
        "configuration reloaded: link.heartbeat: 5s -> 2s, ",
    );
    let text = herd.herd.setup.toml("herd");
    std::fs::write(&herd.file, "broken").expect("it can be written"); // Nobody else reads it.
    herd.logs("Goloman", "link.heartbeat: 5s -> 2s");
    herd.logs("Goloman", "neighbour South added");
    herd.logs("Hands", "link.heartbeat: 5s -> 2s");
    // The links work: what a client tells South is known everywhere.
    wait_until(LIMIT, "South answers", || herd.herd.answers("South"));
    let mut south = Client::connect(herd.herd.setup.clients_address("South"));
    assert_eq!(south.ask("IAMAT kiwi +1.0+2.0 10"), "AT AT kiwi +1.0+2.0 10");
    for name in ["Goloman", "Hands"] {
        let mut client = Client::connect(herd.herd.setup.clients_address(name));
        wait_until(LIMIT, "it is told", || {
            client.ask("WHATSAT kiwi 10 0") == "AT AT kiwi +1.0+2.0 10"
        });
    }
    // A server that gets the signal itself reads no file.
    let new_log = herd.herd.setup.move_log_away("Hands");
    send_signal(herd.pid("Hands"), Signal::HUP);
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    herd.reload_text(&text);
    herd.logs("Hands", "link.heartbeat: 2s -> 5s");
    let log = std::fs::read_to_string(&new_log).expect("a log");
    assert_eq!(log.matches("configuration reloaded").count(), 1, "{log}");
    herd.stops();
}

#[test]
fn a_watched_file_is_reloaded_without_a_signal() {
    let setup = Herd::small_setup().section("[reload]\nwatch = \"20ms\"");
    let herd = Reloaded::of(setup);
    let text = format!("{}\n[link]\nheartbeat = \"2s\"", herd.herd.setup.toml("herd"));
    std::fs::write(&herd.file, text).expect("it can be written");
    herd.herd.wait_until_said("configuration reloaded: link.heartbeat: 5s -> 2s");
    for name in ["Goloman", "Hands"] {
        herd.logs(name, "link.heartbeat: 5s -> 2s");
        let log = std::fs::read_to_string(herd.herd.setup.log_file(name)).expect("a log");
        assert_eq!(
            log.matches("configuration reloaded").count(),
            1,
            "only from the supervisor: {log}"
        );
    }
    std::fs::write(&herd.file, "").expect("it can be written");
    herd.herd.wait_until_said("the file has no [[server]]");
    assert_eq!(herd.herd.said().matches("not reloaded").count(), 1);
    herd.stops();
}

#[test]
fn what_the_whole_herd_must_have_in_common_is_named_and_waits_for_a_restart_of_it() {
    let herd = Reloaded::start();
    let text = format!("dialect = \"course\"\nloops = 2\n{}", herd.herd.setup.toml("herd"));
    herd.reload_text(&text);
    herd.herd
        .wait_until_said("only after a restart of the whole herd: dialect: report -> course\n");
    herd.herd.wait_until_said("only after a restart of the server: loops: 1 -> 2\n");
    herd.herd.wait_until_said("configuration reloaded: no changes\n");
    herd.herd.kill_and_wait_for_another("Hands"); // It answers as the report does, or that would fail.
    herd.stops();
}

#[test]
fn a_server_that_does_not_read_holds_nobody_up_and_gets_the_newest_text_later() {
    let mut herd = Reloaded::start();
    let hands = herd.pid("Hands");
    send_signal(hands, Signal::STOP);
    // Longer than a pipe holds.
    let padding = format!("# {}\n", "x".repeat(300_000));
    for number in 1..=3 {
        let more = format!("{padding}[link]\nheartbeat = \"{number}s\"");
        herd.reloads(&more, &format!("-> {number}s"));
    }
    herd.herd.setup.add("South", &[]);
    herd.reloads(&format!("{padding}[link]\nheartbeat = \"4s\""), "server South added");
    wait_until(LIMIT, "South answers", || herd.herd.answers("South"));
    herd.herd.kill_and_wait_for_another("Goloman");
    send_signal(hands, Signal::CONT);
    wait_until(LIMIT, "Hands answers", || herd.herd.answers("Hands"));
    herd.logs("Hands", "-> 4s");
    assert_eq!(herd.pid("Hands"), hands);
    herd.stops();
}

/// A refusal is told with the text in force, so it may take the place of that text on the way.
#[test]
fn each_server_reports_that_a_reload_was_refused_until_one_succeeds() {
    let herd = Reloaded::start();
    let hands = herd.pid("Hands");
    send_signal(hands, Signal::STOP);
    let long = format!("#{}\n", "x".repeat(300_000)); // More than the lifeline holds.
    herd.reloads(&format!("{long}[link]\nheartbeat = \"4s\""), "link.heartbeat: 5s -> 4s");
    herd.reloads(&format!("{long}[link]\nheartbeat = \"3s\""), "link.heartbeat: 4s -> 3s");
    herd.reload_with("dialect = 1");
    herd.herd.wait_until_said("configuration not reloaded: ");
    send_signal(hands, Signal::CONT);
    for name in ["Goloman", "Hands"] {
        herd.logs(name, "-> 3s");
        herd.logs(name, "ERROR: configuration not reloaded, nothing has changed: ");
    }
    let log = || std::fs::read_to_string(herd.herd.setup.log_file("Goloman")).expect("a log");
    let reopened = || log().matches("Log reopened.").count();
    let before = reopened();
    herd.reloads("[link]\nheartbeat = \"2s\"", "link.heartbeat: 3s -> 2s");
    herd.logs("Goloman", "link.heartbeat: 3s -> 2s");
    herd.reloads("[link]\nheartbeat = \"4s\"", "link.heartbeat: 2s -> 4s");
    herd.logs("Goloman", "link.heartbeat: 2s -> 4s");
    assert_eq!(reopened(), before + 2, "once for each signal: {}", log());
    herd.stops();
}

/// A herd may start with a longer file than a reload reads.
#[test]
fn a_file_that_is_too_long_for_a_reload_stops_no_server() {
    let setup = Herd::small_setup();
    let command = Herd::command(&setup);
    let file = setup.folder.path().join("herd.toml");
    let long = format!("#{}\n{}", "x".repeat(1_100_000), setup.toml("herd"));
    std::fs::write(&file, long).expect("the file can be written");
    let herd = Reloaded { herd: Herd::spawn(setup, command), file };
    let before = herd.herd.children();
    herd.herd.signal(Signal::HUP);
    for name in ["Goloman", "Hands"] {
        herd.logs(name, "ERROR: configuration not reloaded, nothing has changed: ");
    }
    assert_eq!(herd.herd.children(), before);
    herd.reloads("[link]\nheartbeat = \"2s\"", "link.heartbeat: 5s -> 2s");
    herd.logs("Hands", "link.heartbeat: 5s -> 2s");
    assert_eq!(herd.herd.children(), before);
    herd.stops();
}

#[test]
fn a_server_that_is_removed_and_does_not_stop_is_killed() {
    let mut herd = Reloaded::start();
    let hands = herd.pid("Hands");
    send_signal(hands, Signal::STOP);
    herd.herd.setup.remove("Hands");
    herd.reloads("", "server Hands removed");
    // Meanwhile the others are watched.
    herd.herd.kill_and_wait_for_another("Goloman");
    assert_eq!(herd.herd.child("Hands"), Some(hands));
    herd.herd.wait_until_said("Hands is killed: it did not stop within 9 s");
    wait_until(LIMIT, "Hands is gone", || herd.herd.child("Hands").is_none());
    herd.stops();
}

#[test]
fn a_port_in_use_refuses_the_whole_reload() {
    let mut herd = Reloaded::start();
    let before = herd.herd.children();
    herd.herd.setup.add("South", &[]);
    let address = herd.herd.setup.clients_address("South");
    let taken = std::net::TcpListener::bind(address).expect("it is reserved for this test");
    let said =
        format!("configuration not reloaded: South cannot listen on {address}, for clients: ");
    herd.reloads("[link]\nheartbeat = \"2s\"", &said);
    assert_eq!(herd.herd.children(), before);
    herd.logs(
        "Goloman",
        "ERROR: configuration not reloaded, nothing has changed: South cannot listen",
    );
    drop(taken);
    herd.reloads("[link]\nheartbeat = \"2s\"", "link.heartbeat: 5s -> 2s, server South added");
    // Hands would move to the port of Goloman, which moves away at the same time.
    let goloman = herd.herd.setup.clients_address("Goloman").to_string();
    let hands = herd.herd.setup.clients_address("Hands").to_string();
    let text = herd.herd.setup.toml("herd");
    let swapped = text.replace(&goloman, "?").replace(&hands, &goloman).replace('?', &hands);
    herd.reload_text(&swapped);
    herd.herd.wait_until_said("has it: move ");
    herd.stops();
}

#[test]
fn an_address_that_a_server_cannot_have_refuses_the_whole_reload() {
    let herd = Reloaded::start();
    let goloman = herd.herd.setup.clients_address("Goloman");
    let text = herd.herd.setup.toml("herd");
    // An address for documentation, which no host has (RFC 5737); then one at which another program listens.
    let taken = SocketAddr::from(([127, 0, 0, 9], goloman.port()));
    let _listens = std::net::TcpListener::bind(taken).expect("nobody else uses this address");
    for address in
        ["203.0.113.7:8000", &format!("203.0.113.7:{}", goloman.port()), &taken.to_string()]
    {
        let moved = text.replace(&goloman.to_string(), address);
        herd.reload_text(&format!("{moved}\n[link]\nheartbeat = \"2s\""));
        let said = format!(
            "configuration not reloaded: Goloman cannot listen on {address}, for clients: "
        );
        herd.herd.wait_until_said(&said);
    }
    herd.reloads("", "configuration reloaded: no changes");
    for name in ["Goloman", "Hands"] {
        herd.logs(name, "configuration reloaded: no changes");
        let log = std::fs::read_to_string(herd.herd.setup.log_file(name)).expect("a log");
        assert!(!log.contains("heartbeat"), "{log}");
    }
    herd.stops();
}

#[test]
fn a_listener_that_waits_for_a_restart_of_its_server_is_named_until_then() {
    let herd = Reloaded::start();
    let local = herd.herd.setup.clients_address("Goloman");
    let any = format!("0.0.0.0:{}", local.port());
    let text = herd.herd.setup.toml("herd");
    let to_any = text.replace(&format!("\"{local}\""), &format!("\"{any}\""));
    let waits =
        format!("only after a restart of the server: server.Goloman.listen: {local} -> {any}\n");
    for times in 1..=2 {
        herd.reload_text(&to_any);
        let what = format!("{times} times: {waits}");
        wait_until(LIMIT, &what, || herd.herd.said().matches(&waits).count() == times);
    }
    herd.herd.kill_and_wait_for_another("Goloman");
    herd.reload_text(&format!("{to_any}\n[link]\nheartbeat = \"2s\""));
    herd.herd.wait_until_said("configuration reloaded: link.heartbeat: 5s -> 2s\n");
    // Back again: now that is what must wait.
    herd.reload_text(&format!("{text}\n[link]\nheartbeat = \"2s\""));
    let back =
        format!("only after a restart of the server: server.Goloman.listen: {any} -> {local}\n");
    herd.herd.wait_until_said(&back);
    assert_eq!(herd.herd.said().matches("only after").count(), 3, "{}", herd.herd.said());
    herd.stops();
}

#[test]
fn a_new_server_that_cannot_start_is_tried_again_and_the_herd_goes_on() {
    let mut herd = Reloaded::start();
    let log = herd.herd.setup.log_file("South");
    std::fs::create_dir(&log).expect("a folder in the place of its log");
    herd.herd.setup.add("South", &[]);
    herd.reloads("", "South exited with status 1; restarting in");
    assert!(herd.herd.answers("Goloman") && herd.herd.answers("Hands"));
    std::fs::remove_dir(&log).expect("it is empty");
    wait_until(LIMIT, "South answers", || herd.herd.answers("South"));
    herd.stops();
}

#[test]
fn two_hundred_requests_in_a_row_leave_nothing_behind() {
    let herd = Reloaded::start();
    herd.reloads("", "configuration reloaded: no changes");
    let pids = herd.herd.children();
    let supervisor = herd.herd.child.id();
    let descriptors =
        || std::fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it runs").count();
    let threads =
        || std::fs::read_dir(format!("/proc/{supervisor}/task")).expect("it runs").count();
    let before = (descriptors(), threads());
    for number in 0..200 {
        herd.herd.signal(Signal::HUP);
        if number % 10 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    herd.reloads("[link]\nheartbeat = \"2s\"", "configuration reloaded: link.heartbeat: 5s -> 2s");
    // The reload before may not have ended when its message was there.
    let is_no_more = || descriptors() <= before.0 && threads() <= before.1;
    wait_until(LIMIT, "nothing is left open", is_no_more);
    assert_eq!(herd.herd.children(), pids);
    assert!(herd.herd.answers("Goloman") && herd.herd.answers("Hands"));
    herd.stops();
}

#[test]
fn a_file_that_has_become_a_fifo_or_endless_is_refused_at_once() {
    let herd = Reloaded::start();
    std::fs::remove_file(&herd.file).expect("it is there");
    let kind = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &herd.file, kind, mode, 0).expect("a FIFO");
    herd.herd.signal(Signal::HUP);
    herd.herd.wait_until_said("(--config): not a regular file\n");
    std::fs::remove_file(&herd.file).expect("it is there");
    herd.herd.signal(Signal::HUP);
    herd.herd.wait_until_said("(--config): No such file or directory\n");
    herd.reload_text(&"#\n".repeat(600_000));
    herd.herd.wait_until_said("(--config): larger than 1 MiB\n");
    herd.herd.kill_and_wait_for_another("Hands");
    herd.stops();
}

#[test]
fn the_demonstrations_places_server_reopens_its_log_and_stays() {
    let setup = Setup::new(&[("Goloman", &[])]);
    let herd = Reloaded::of(setup);
    let goloman = herd.pid("Goloman");
    let new_log = herd.herd.setup.move_log_away("Places");
    herd.reloads("[log]\nlevel = \"debug\"", "log.level: info -> debug");
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    assert_eq!(herd.pid("Goloman"), goloman);
    let said = herd.herd.said();
    assert!(!said.contains("Places exited") && !said.contains("Places was"), "{said}");
    herd.stops();
}

#[test]
fn a_new_server_gets_the_next_port_for_administration_and_the_others_keep_theirs() {
    let setup = Herd::small_setup();
    let ports = in_a_row(3);
    let mut command = Herd::command(&setup);
    command.args(["--admin", &ports[0].number.to_string()]);
    let file = setup.folder.path().join("herd.toml");
    let mut herd = Reloaded { herd: Herd::spawn(setup, command), file };
    let hands = herd.pid("Hands");
    herd.herd.setup.remove("Goloman");
    herd.herd.setup.add("South", &["Hands"]);
    herd.reloads("", "server Goloman removed, server South added");
    let admin = format!("--admin\0127.0.0.1:{}\0", ports[2].number);
    wait_until(LIMIT, "South has the next port", || {
        let south = herd.herd.child("South");
        let words = south.and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
        words.is_some_and(|words| String::from_utf8_lossy(&words).contains(&admin))
    });
    let connect = |port: &Port| std::net::TcpStream::connect(port.address()).is_ok();
    wait_until(LIMIT, "South and Hands listen there", || connect(&ports[2]) && connect(&ports[1]));
    assert_eq!(herd.pid("Hands"), hands);
    herd.reloads("", "configuration reloaded: no changes");
    herd.stops();
}

#[test]
fn a_server_that_is_restarted_still_says_what_waits_for_a_restart_of_the_herd() {
    let setup = Herd::small_setup();
    let ports = in_a_row(2);
    let mut command = Herd::command(&setup);
    command.args(["--admin", &ports[0].number.to_string()]);
    let file = setup.folder.path().join("herd.toml");
    let herd = Reloaded { herd: Herd::spawn(setup, command), file };
    let is_required = |value: u8| {
        let line = format!("\nherd_config_restart_required {value}\n");
        std::net::TcpStream::connect(ports[0].address()).is_ok()
            && Http::connect(ports[0].address()).get("/metrics").text().contains(&line)
    };
    herd.reload_text(&format!("max_clients = 500\n{}", herd.herd.setup.toml("herd")));
    wait_until(LIMIT, "Goloman says so", || is_required(1));
    herd.herd.kill_and_wait_for_another("Goloman");
    wait_until(LIMIT, "the next Goloman listens", || is_required(0) || is_required(1));
    assert!(is_required(1));
    herd.reloads("", "configuration reloaded: no changes\n");
    wait_until(LIMIT, "nothing waits any more", || is_required(0));
    herd.stops();
}

#[test]
fn the_page_of_each_server_of_a_herd_leads_to_those_of_the_others() {
    let mut setup = Herd::small_setup();
    setup.add("Wilkes", &["Hands"]);
    let ports = in_a_row(4);
    let mut command = Herd::command(&setup);
    command.args(["--admin", &ports[0].number.to_string()]);
    let file = setup.folder.path().join("herd.toml");
    let mut herd = Reloaded { herd: Herd::spawn(setup, command), file };
    let page = |at: usize| format!("http://127.0.0.1:{}/", ports[at].number);
    let expect = |at: usize, expected: &[(&str, usize)]| {
        let expected = expected.iter().map(|(name, at)| ((*name).to_owned(), page(*at)));
        let expected: Vec<(String, String)> = expected.collect();
        wait_until(LIMIT, "the page has these links", || pages(&ports[at]) == expected);
    };
    let all = [("Goloman", 0), ("Hands", 1), ("Wilkes", 2)];
    (0..3).for_each(|at| expect(at, &all));
    // No neighbour of Wilkes changes.
    herd.herd.setup.remove("Goloman");
    herd.herd.setup.add("South", &["Hands"]);
    herd.reloads("", "server Goloman removed, server South added");
    let left = [("Hands", 1), ("Wilkes", 2), ("South", 3)];
    (1..4).for_each(|at| expect(at, &left));
    herd.herd.kill_and_wait_for_another("Wilkes");
    expect(2, &left);
    // A text that is refused changes no link.
    herd.reload_text("nonsense");
    herd.herd.kill_and_wait_for_another("South");
    (1..4).for_each(|at| expect(at, &left));
    herd.stops();
}

/// The servers that a page shows, with the addresses of their pages; none if nothing is there that answers.
fn pages(port: &Port) -> Vec<(String, String)> {
    let Ok(mut stream) = TcpStream::connect(port.address()) else { return Vec::new() };
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if stream.write_all(request).is_err() {
        return Vec::new();
    }
    // The head, `retry`, the name of the event, and its data.
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(data) = lines.filter_map(|it| Some(it.strip_prefix("data: ")?.to_owned())).next()
    else {
        return Vec::new();
    };
    let state: serde_json::Value = serde_json::from_str(&data).expect("JSON");
    let servers = state["herd"]["servers"].as_array().expect("servers").iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    servers.map(|server| (text(&server["name"]), text(&server["page"]))).collect()
}

/// Ports of which each is one above the one before.
fn in_a_row(count: usize) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    while ports.len() < count {
        let next = reserve();
        if ports.last().is_some_and(|last| last.number + 1 != next.number) {
            ports.clear();
        }
        ports.push(next);
    }
    ports
}
