//! Claim: a herd starts as a whole or not at all, on ports that belong to no other program; it can be started again
//! at once, its program can be replaced under it, and its files may come from a pipe and have any name.

mod common;

use std::ffi::OsStr;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use common::process::{Running, follow, run_to_end, send_signal, through};
use common::{Client, Herd, LIMIT, ServerProcess, Setup, wait_until};

// Ports.

/// Servers of two herds, with different ports for neighbours and the same one for clients.
fn two_at_one_port(loops: usize) -> (Setup, [Command; 2]) {
    let setup = Setup::alone();
    let listen = setup.clients_address("Goloman");
    let commands = ["A", "B"].map(|name| {
        let path = setup.folder.path().join(format!("{name}.toml"));
        let toml = format!(
            "loops = {loops}\n[[server]]\nname = \"{name}\"\nlisten = \"{listen}\"\n\
             peer_listen = \"127.0.0.1:0\"\n"
        );
        std::fs::write(&path, toml).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--server", name, "--config"]).arg(&path);
        command.arg("--log-dir").arg(setup.folder.path()).env_remove("HERD_PLACES_KEY");
        command
    });
    (setup, commands)
}

#[test]
fn a_port_that_loops_share_is_not_shared_with_another_server() {
    let (setup, [first, second]) = two_at_one_port(2);
    let first = ServerProcess::spawn(first, "A", setup.log_file("A"));
    let ended = run_to_end(second);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&first.clients.to_string()), "{ended:?}");
    // Only the loops of the first server accept.
    for _ in 0..20 {
        first.assert_serves();
    }
}

#[test]
fn of_two_servers_that_start_at_the_same_moment_one_gets_the_port() {
    for _ in 0..10 {
        let (_setup, commands) = two_at_one_port(2);
        let mut servers = commands.map(|mut command| {
            let child = command.stderr(Stdio::piped()).spawn().expect("it runs");
            Running(child)
        });
        let said = servers.each_mut().map(|server| follow(server.0.stderr.take().expect("piped")));
        wait_until(LIMIT, "each listens or says that it can't", || {
            said.iter().all(|said| said.lock().expect("text").contains("listen"))
        });
        let listen = |said: &str| said.contains(" listens on ");
        let listening = said.iter().filter(|said| listen(&said.lock().expect("text"))).count();
        assert_eq!(listening, 1, "{said:?}");
    }
}

/// The first process of a connection to close keeps its port for a minute (TIME_WAIT).
#[test]
fn a_server_with_several_loops_is_started_again_at_once() {
    let (setup, [first, _]) = two_at_one_port(2);
    let mut server = ServerProcess::spawn(first, "A", setup.log_file("A"));
    let mut client = server.client();
    assert_eq!(client.ask("IAMAT a +1.0+2.0 10"), "AT AT a +1.0+2.0 10");
    server.signal(Signal::TERM);
    client.expect_end(); // The server has closed first.
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--server", "A", "--config"]).arg(setup.folder.path().join("A.toml"));
    command.arg("--log-dir").arg(setup.folder.path());
    ServerProcess::spawn(command, "A", setup.log_file("A")).assert_serves();
}

#[test]
fn a_herd_with_a_port_in_use_starts_no_server_and_names_the_port() {
    let setup = Herd::small_setup();
    let taken = setup.peers_address("Hands"); // The last one that is tried.
    let _holder = TcpListener::bind(taken).expect("the port is ours");
    let ended = run_to_end(Herd::command(&setup));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let says = format!("Hands cannot listen on {taken}, for neighbours: Address already in use");
    assert!(ended.stderr.contains(&says), "{ended:?}");
    assert!(!setup.log_file("Goloman").exists(), "nothing was started");
}

#[test]
fn a_herd_waits_for_the_ports_of_the_one_before() {
    let setup = Herd::small_setup();
    let holder = TcpListener::bind(setup.clients_address("Hands")).expect("the port is ours");
    let mut command = Herd::command(&setup);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let herd = Herd::spawn_as_it_is(setup, command);
    // As long as servers take to stop that have something to write.
    std::thread::sleep(Duration::from_millis(300));
    drop(holder);
    herd.wait_until_served();
}

#[test]
fn a_herd_that_waits_for_ports_can_be_stopped() {
    let setup = Herd::small_setup();
    let _holder = TcpListener::bind(setup.clients_address("Hands")).expect("the port is ours");
    let mut command = Herd::command(&setup);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut herd = Herd::spawn_as_it_is(setup, command);
    let status = format!("/proc/{}/status", herd.child.id());
    wait_until(LIMIT, "it handles SIGTERM", || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask & (1 << (Signal::TERM.as_raw() - 1)) != 0)
    });
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0), "{}", herd.said());
}

#[test]
fn an_address_of_another_host_is_not_tried_by_the_supervisor() {
    let setup = Setup::alone();
    let path = setup.folder.path().join("far.toml");
    // Kept for documentation: no machine has it (RFC 5737).
    let far: SocketAddr = "192.0.2.1:4000".parse().expect("an address");
    let toml =
        format!("[[server]]\nname = \"Far\"\nlisten = \"{far}\"\npeer_listen = \"127.0.0.1:0\"\n");
    std::fs::write(&path, toml).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--herd", "--places", "offline", "--config"]).arg(&path);
    command.arg("--log-dir").arg(setup.folder.path());
    let ended = run_to_end(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(setup.log_file("Far").exists(), "the server was started, and has said it: {ended:?}");
    assert!(ended.stderr.contains(&far.to_string()), "{ended:?}");
}

// The program.

#[test]
fn servers_are_started_again_although_the_program_was_replaced() {
    let setup = Herd::small_setup();
    let program = setup.folder.path().join("herd-mio");
    std::fs::copy(env!("CARGO_BIN_EXE_herd-mio"), &program).expect("a copy");
    let original = Herd::command(&setup);
    let mut command = Command::new(&program);
    command.args(original.get_args()).env_remove("HERD_PLACES_KEY");
    let herd = Herd::spawn(setup, command);
    std::fs::remove_file(&program).expect("it can be removed while it runs");
    std::fs::write(&program, "another version").expect("a file");
    herd.kill_and_wait_for_another("Hands");
    let hands = herd.child("Hands").expect("it runs");
    let read = |name: &str| std::fs::read(format!("/proc/{hands}/{name}")).expect("it runs");
    assert_eq!(read("comm"), b"herd-mio\n", "what ps shows");
    assert!(read("cmdline").starts_with(program.as_os_str().as_bytes()), "and what ps -f shows");
}

// Descriptors.

#[test]
fn a_herd_opens_as_many_descriptors_as_it_may() {
    let offline = "[places]\nprovider = \"offline\"";
    let names: Vec<String> = (0..12).map(|number| format!("N{number}")).collect();
    let shape: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    let herd = |shell: &str| {
        let setup = Setup::new(&shape).section(offline);
        let command = through(&["sh", "-c", shell], &Herd::command(&setup));
        (setup, command)
    };
    let (setup, command) = herd("ulimit -Sn 12 && exec \"$0\" \"$@\"");
    let herd_of_all = Herd::spawn(setup, command);
    assert_eq!(herd_of_all.children().len(), names.len());
    // Where it may not, it says what to do.
    let (_setup, command) = herd("ulimit -n 12 && exec \"$0\" \"$@\"");
    let ended = run_to_end(command);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("(ulimit -n)"), "{ended:?}");
}

/// A table that grows while clients connect delays all of them.
#[test]
fn a_server_has_room_for_the_descriptors_of_all_its_clients_from_the_start() {
    let server = Setup::alone().section("[limits]\nclient_connections = 700").start("Goloman");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("it runs");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("a size");
    assert!(size.trim().parse::<u64>().expect("a number") >= 700, "{size}");
}

// What is read.

/// A herd whose configuration comes by standard input.
fn from_standard_input(setup: &Setup, typed: &str, toml: &str) -> Command {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let text = toml.to_owned();
    std::thread::spawn(move || writer.write_all(text.as_bytes()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--herd", typed, "--log-dir"]).arg(setup.folder.path());
    command.env_remove("HERD_PLACES_KEY").stdin(reader).stderr(Stdio::piped());
    command
}

#[test]
fn a_configuration_from_a_pipe_is_read_once_and_kept_for_restarted_servers() {
    let setup = Herd::small_setup();
    // More than a pipe holds.
    let toml = format!("{}{}", "# A long comment.\n".repeat(10_000), setup.toml("herd"));
    let command = from_standard_input(&setup, "--config=/dev/stdin", &toml);
    let mut herd = Herd::spawn_as_it_is(setup, command);
    herd.wait_until_served();
    herd.kill_and_wait_for_another("Goloman");
    let new_log = herd.setup.move_log_away("Goloman");
    herd.signal(Signal::HUP);
    herd.wait_until_said(
        "configuration not reloaded: /dev/stdin is not a regular file and was read once",
    );
    wait_until(LIMIT, "its log is reopened all the same", || new_log.exists());
    herd.kill_and_wait_for_another("Hands");
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
}

#[test]
fn a_mistake_in_a_configuration_from_a_pipe_is_reported_with_the_typed_name() {
    let setup = Setup::alone();
    let command = from_standard_input(&setup, "--config=/dev/stdin", "loops = []\n");
    let mut herd = Herd::spawn_as_it_is(setup, command);
    assert_eq!(herd.wait().code(), Some(2));
    herd.wait_until_said("/dev/stdin");
    assert!(!herd.said().contains("/proc/self"), "{}", herd.said());
}

#[test]
fn a_configuration_without_end_is_refused() {
    let setup = Setup::alone();
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--herd", "--config", "/dev/zero", "--log-dir"]).arg(setup.folder.path());
    let ended = run_to_end(command);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("/dev/zero"), "{ended:?}");
}

#[test]
fn an_api_key_from_a_pipe_is_kept_for_restarted_servers() {
    let setup = Setup::new(&[("Goloman", &[])]);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(b"sesame\n").expect("room in the pipe");
    drop(writer);
    let mut command = Herd::command(&setup);
    // Nobody is there to be asked; what counts is that the servers run.
    command.args(["--places-key-file", "/dev/stdin", "--places-url", "https://127.0.0.1:1/"]);
    command.stdin(reader).stderr(Stdio::piped());
    let herd = Herd::spawn_as_it_is(setup, command);
    herd.wait_until_served();
    herd.kill_and_wait_for_another("Goloman");
    let log = std::fs::read_to_string(herd.setup.log_file("Goloman")).expect("a log");
    assert!(!log.contains("sesame") && !log.contains("other users can read"), "{log}");
}

#[test]
fn a_path_that_is_not_utf_8_is_accepted() {
    let setup = Setup::alone();
    let folder = setup.folder.path().join(OsStr::from_bytes(b"logs-\xff"));
    std::fs::create_dir(&folder).expect("a folder");
    let config = setup.folder.path().join(OsStr::from_bytes(b"herd-\xfe.toml"));
    std::fs::write(&config, setup.toml("Goloman")).expect("a file");
    let joined = |option: &str, path: &Path| {
        OsStr::from_bytes(&[option.as_bytes(), b"=", path.as_os_str().as_bytes()].concat())
            .to_owned()
    };
    let log = folder.join("Goloman_log.txt");
    for is_one_word in [false, true] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(["--server", "Goloman"]).env_remove("HERD_PLACES_KEY");
        if is_one_word {
            command.args([joined("--config", &config), joined("--log-dir", &folder)]);
        } else {
            command.arg("--config").arg(&config).arg("--log-dir").arg(&folder);
        }
        let server = ServerProcess::spawn(command, "Goloman", log.clone());
        server.assert_serves();
        server.wait_for_log("still.serving");
        std::fs::remove_file(&log).expect("it is there");
    }
    // A herd passes it on.
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--herd", "--places=offline"]).arg(joined("--config", &config));
    command.arg(joined("--log-dir", &folder)).env_remove("HERD_PLACES_KEY");
    let herd = Herd::spawn(setup, command);
    assert!(herd.answers("Goloman") && log.exists());
}

#[test]
fn a_process_group_that_is_signalled_stops_gracefully() {
    let mut herd = Herd::small();
    for (_, server) in herd.children() {
        send_signal(server, Signal::TERM);
    }
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0), "{}", herd.said());
    assert!(Client::try_connect(herd.setup.clients_address("Hands")).is_err());
}
