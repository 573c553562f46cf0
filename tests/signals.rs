//! Claim: whatever state of signals a process inherits, and in whatever order signals arrive, it serves, reopens
//! its log and stops as documented; and a terminal can neither block it nor leave it behind.

mod common;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use common::herd::processes;
use common::process::{Running, send_signal, status_of, through};
use common::terminal::Terminal;
use common::{Client, Herd, LIMIT, ServerProcess, Setup, raise_descriptor_limit, wait_until};

const IAMAT: &str = "IAMAT a +1.0+2.0 10";
const AT: &str = "AT AT a +1.0+2.0 10";

// What is inherited.

#[test]
fn a_log_at_the_largest_size_that_a_file_may_have_is_a_full_disk() {
    let setup = Setup::alone().any_port();
    let limited = ["sh", "-c", "ulimit -f 8 && exec \"$0\" \"$@\""];
    let command = through(&limited, &setup.command("Goloman"));
    let mut server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    let mut client = server.client();
    for number in 0..500 {
        let text = format!("c{number} +1.0+2.0 10");
        assert_eq!(client.ask(&format!("IAMAT {text}")), format!("AT AT {text}"));
    }
    server.assert_serves();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let size = std::fs::metadata(setup.log_file("Goloman")).expect("a log").len();
    assert!((2_048..=8_192).contains(&size), "the limit was reached: {size}");
}

#[test]
fn inherited_child_processes_are_reaped() {
    // What `exec` in a shell leaves to a process, an orphan leaves to a container's first one.
    let with_jobs = ["sh", "-c", "sleep 0.1 & sleep 3 & exec \"$0\" \"$@\""];
    let (setup, alone) = (Herd::small_setup(), Setup::alone().any_port());
    let command = through(&with_jobs, &Herd::command(&setup));
    let herd = Herd::spawn(setup, command);
    let command = through(&with_jobs, &alone.command("Goloman"));
    let server = ServerProcess::spawn(command, "Goloman", alone.log_file("Goloman"));
    for (parent, own) in [(herd.child.id(), 2), (server.pid(), 0)] {
        let children = || processes().into_iter().filter(|process| process.parent == parent);
        wait_until(LIMIT, "the shell's jobs are gone", || children().count() == own);
    }
}

// Terminals.

#[test]
fn a_terminal_that_stops_background_output_stops_no_server() {
    let setup = Herd::small_setup();
    let terminal = Terminal::open();
    terminal.stop_background_output();
    terminal.drain();
    let command = terminal.control(&Herd::command(&setup));
    let herd = Herd::spawn_as_it_is(setup, command);
    herd.wait_until_served();
    herd.kill_and_wait_for_another("Hands");
}

#[test]
fn a_herd_ends_with_its_terminal() {
    let setup = Herd::small_setup();
    let terminal = Terminal::open();
    let command = terminal.control(&Herd::command(&setup));
    let mut herd = Herd::spawn_as_it_is(setup, command);
    herd.wait_until_served();
    assert_eq!(herd.children().len(), 2);
    drop(terminal);
    assert_eq!(herd.wait().code(), Some(0));
    assert_eq!(herd.left(), [0; 0]);
}

#[test]
fn a_server_ends_with_its_terminal() {
    let setup = Setup::alone();
    let terminal = Terminal::open();
    let child = terminal.control(&setup.command("Goloman")).spawn().expect("it runs");
    let mut server = Running(child);
    let address = setup.clients_address("Goloman");
    wait_until(LIMIT, "it listens", || Client::try_connect(address).is_ok());
    assert_eq!(Client::connect(address).ask(IAMAT), AT);
    drop(terminal);
    assert_eq!(status_of(&mut server.0), Some(0));
}

#[test]
fn sighup_with_an_open_terminal_reopens_the_log() {
    let setup = Herd::small_setup();
    let terminal = Terminal::open();
    let command = terminal.control(&Herd::command(&setup));
    let mut herd = Herd::spawn_as_it_is(setup, command);
    herd.wait_until_served();
    let new_log = herd.setup.move_log_away("Hands");
    herd.signal(Signal::HUP);
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    assert!(herd.answers("Hands") && herd.answers("Goloman"));
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
}

#[test]
fn sigusr1_reopens_the_log_of_a_server_and_of_a_herd() {
    let setup = Setup::alone();
    let server = setup.start("Goloman");
    let new_log = setup.move_log_away("Goloman");
    std::fs::write(setup.folder.path().join("Goloman.toml"), "broken").expect("it can be written");
    server.signal(Signal::USR1);
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    server.assert_serves();
    // SIGUSR1 alone reads no configuration; SIGHUP does both.
    assert!(!server.log().contains("reloaded"), "{}", server.log());
    let new_log = setup.move_log_away("Goloman");
    server.signal(Signal::HUP);
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    // What is recorded before the log is reopened still goes into the old file.
    let logs = [new_log.with_extension("old"), new_log];
    wait_until(LIMIT, "the reload is refused", || {
        let texts = logs.iter().filter_map(|log| std::fs::read_to_string(log).ok());
        texts.into_iter().any(|text| text.contains("configuration not reloaded"))
    });
    let herd = Herd::small();
    for name in ["Goloman", "Hands"] {
        let new_log = herd.setup.move_log_away(name);
        herd.signal(Signal::USR1);
        wait_until(LIMIT, "a new log is there", || new_log.exists());
        assert!(herd.answers(name));
    }
}

#[test]
fn a_log_signal_during_the_start_is_handled_after_it() {
    for mode in [&["--server", "Goloman"][..], &["--herd"]] {
        let setup = Herd::small_setup();
        let fifo = setup.folder.path().join("fifo");
        let mut mkfifo = Command::new("mkfifo");
        assert!(mkfifo.arg(&fifo).status().expect("it is in coreutils").success());
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(mode).arg("--config").arg(&fifo).arg("--log-dir").arg(setup.folder.path());
        // Without a terminal, for which SIGHUP would mean the end.
        let mut child = Running(through(&["setsid"], &command).spawn().expect("it runs"));
        // Once this is open the process waits for its configuration.
        let mut config = OpenOptions::new().write(true).open(&fifo).expect("a FIFO");
        send_signal(child.0.id(), Signal::HUP);
        send_signal(child.0.id(), Signal::USR1);
        // A process that has ended takes nothing.
        config.write_all(setup.toml("Goloman").as_bytes()).expect("it is read");
        drop(config);
        let log = || std::fs::read_to_string(setup.log_file("Goloman")).unwrap_or_default();
        wait_until(LIMIT, "the log is reopened", || {
            assert_eq!(child.0.try_wait().expect("a child"), None, "{mode:?}");
            log().contains("Log reopened.")
        });
        send_signal(child.0.id(), Signal::TERM);
        assert_eq!(status_of(&mut child.0), Some(0), "{mode:?}");
    }
}

// Stopping.

#[test]
fn idle_clients_do_not_delay_the_end_of_a_herd() {
    let names: Vec<String> = (0..12).map(|number| format!("N{number}")).collect();
    let shape: Vec<(&str, &[&str])> =
        names.iter().map(|name| (&name[..], &[] as &[&str])).collect();
    let setup = Setup::new(&shape).section("[places]\nprovider = \"offline\"");
    let command = Herd::command(&setup);
    let mut herd = Herd::spawn(setup, command);
    let mut idle: Vec<Client> = herd
        .setup
        .names()
        .iter()
        .map(|name| {
            let mut client = Client::connect(herd.setup.clients_address(name));
            assert_eq!(client.ask(IAMAT), AT);
            client
        })
        .collect();
    let begin = Instant::now();
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
    // One after the other, with a second for each client, it takes twelve.
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    idle.iter_mut().for_each(Client::expect_end);
}

#[test]
fn a_stopping_server_answers_clients_that_it_had_not_accepted_yet() {
    raise_descriptor_limit();
    let setup = Setup::alone().any_port();
    let mut server = setup.start("Goloman");
    server.signal(Signal::STOP);
    // The kernel's, until the server goes on: more than it accepts in one turn (`ACCEPTS_PER_TURN`), because
    // the kernel reports the new connections one turn before the signal; and one that is silent.
    let mut clients: Vec<Client> = (0..1_500).map(|_| server.client()).collect();
    let mut silent = server.client();
    clients.iter_mut().for_each(|client| client.send(format!("{IAMAT}\n")));
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.line(), AT);
        client.expect_end();
    }
    silent.expect_end();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_at_once_changes_nothing() {
    for signals in [[Signal::TERM, Signal::INT], [Signal::INT, Signal::TERM]] {
        let mut herd = Herd::small();
        let slow = herd.child("Goloman").expect("it runs");
        send_signal(slow, Signal::STOP);
        signals.iter().for_each(|signal| herd.signal(*signal));
        wait_until(LIMIT, "the other one has stopped", || herd.children().len() == 1);
        assert_eq!(herd.child("Goloman"), Some(slow), "it was not killed");
        send_signal(slow, Signal::CONT);
        assert_eq!(herd.wait().code(), Some(0), "{}", herd.said());
        let log = std::fs::read_to_string(herd.setup.log_file("Goloman")).expect("a log");
        assert!(log.contains("Goloman has stopped."), "{log}");
    }
}

#[test]
fn a_second_signal_later_ends_a_herd_at_once_with_1() {
    let mut herd = Herd::small();
    let stuck = herd.child("Goloman").expect("it runs");
    send_signal(stuck, Signal::STOP);
    herd.signal(Signal::TERM);
    wait_until(LIMIT, "the other one has stopped", || herd.children().len() == 1);
    std::thread::sleep(Duration::from_millis(1_500)); // Past the second in which it means nothing.
    assert!(herd.child.try_wait().expect("a child").is_none(), "it waits for the stuck one");
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(1));
    herd.wait_until_said("by a second signal: Goloman");
    assert_eq!(herd.left(), [0; 0]);
}

#[test]
fn a_second_signal_later_ends_a_server_at_once_with_1() {
    let setup = Setup::star(&["Hands"]).heartbeat("10s");
    let hands = setup.play("Hands");
    let mut server = setup.start("Goloman");
    let mut link = hands.greet_empty("00000000000000bb");
    link.until_mark();
    assert_eq!(server.client().ask(IAMAT), AT);
    server.signal(Signal::TERM);
    link.until_mark_silently(); // It waits for its acknowledgement, for five seconds.
    std::thread::sleep(Duration::from_millis(1_100));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(1));
    wait_until(LIMIT, "it says why", || server.stderr().contains("was signalled twice"));
}

#[test]
fn a_stop_ends_after_the_grace_time_and_its_log_says_what_is_missing() {
    let setup = Setup::star(&["Hands"]).heartbeat("10s");
    let hands = setup.play("Hands");
    let mut server = setup.start("Goloman");
    let mut link = hands.greet_empty("00000000000000bb");
    link.until_mark();
    assert_eq!(server.client().ask(IAMAT), AT);
    let begin = Instant::now();
    server.signal(Signal::TERM);
    link.until_mark_silently(); // It is never acknowledged.
    assert_eq!(server.wait().code(), Some(0));
    assert!(begin.elapsed() >= Duration::from_secs(5), "it took {:?}", begin.elapsed());
    server.wait_for_log(
        "Goloman stopped before all was answered or acknowledged: after 5 s 0 clients are still \
         connected, and not all updates are acknowledged.",
    );
    server.wait_for_log("Goloman has stopped.");
}

#[test]
fn a_server_that_does_not_stop_is_killed_and_the_status_is_1() {
    let mut herd = Herd::small();
    let stuck = herd.child("Hands").expect("it runs");
    send_signal(stuck, Signal::STOP);
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(1));
    herd.wait_until_said("killed because they did not stop within ");
    let said = herd.said();
    let after = said.split("did not stop within ").nth(1).and_then(|text| text.split(' ').next());
    let seconds: f32 = after.and_then(|text| text.parse().ok()).expect("it says after how long");
    assert!(seconds >= 5.0, "{said}");
    assert_eq!(herd.left(), [0; 0]);
}
