//! Claim: a reader that does not read standard error blocks neither a server nor a supervisor, and each message is
//! one write, so that processes that share it never write into each other's lines.

mod common;

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use common::process::{Running, send_signal, status_of};
use common::{Client, Herd, LIMIT, Setup, wait_until};

/// A pipe that is full to its last byte.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, true).expect("it is ours");
    while rustix::io::write(&writer, &[b'x'; 4_096]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("it is ours");
    (reader, writer)
}

#[test]
fn a_server_serves_and_stops_although_nobody_reads_standard_error() {
    let setup = Setup::alone();
    let (_reader, writer) = full_pipe();
    let mut command = setup.command("Goloman");
    let mut server = Running(command.stderr(writer).spawn().expect("it runs"));
    let address = setup.clients_address("Goloman");
    wait_until(LIMIT, "it listens", || Client::try_connect(address).is_ok());
    assert_eq!(Client::connect(address).ask("IAMAT a +1.0+2.0 10"), "AT AT a +1.0+2.0 10");
    send_signal(server.0.id(), Signal::TERM);
    assert_eq!(status_of(&mut server.0), Some(0));
}

#[test]
fn a_herd_restarts_its_servers_and_stops_although_nobody_reads_standard_error() {
    let setup = Herd::small_setup();
    let (_reader, writer) = full_pipe();
    let mut command = Herd::command(&setup);
    command.stdin(Stdio::null()).stderr(writer);
    let mut herd = Herd::spawn_as_it_is(setup, command);
    herd.wait_until_served();
    herd.kill_and_wait_for_another("Hands");
    herd.kill_and_wait_for_another("Hands");
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
    assert_eq!(herd.left(), [0; 0]);
}

#[test]
fn an_unread_error_message_does_not_keep_the_program_from_exiting() {
    let (_reader, writer) = full_pipe();
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    let mut child = command.arg("--nonsense").stderr(writer).spawn().expect("it runs");
    assert_eq!(status_of(&mut child), Some(2));
}

/// A datagram is what one write has written.
#[test]
fn each_message_is_one_write() {
    let setup = Herd::small_setup();
    let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
    ours.set_read_timeout(Some(LIMIT)).expect("a limit");
    let receive = || {
        let mut bytes = vec![0; 65_536];
        let count = ours.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..count].to_vec()).expect("text")
    };
    let is_whole = |message: &str| message.ends_with('\n') && message.lines().count() == 1;
    let stderr = || Stdio::from(OwnedFd::from(theirs.try_clone().expect("a descriptor")));

    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    let mut child = command.arg("--nonsense").stderr(stderr()).spawn().expect("it runs");
    _ = child.wait();
    let said = receive();
    assert!(said.starts_with("herd-mio: ") && is_whole(&said), "{said:?}");

    // Three processes: announcements and a death.
    let mut command = Herd::command(&setup);
    command.stdin(Stdio::null()).stderr(stderr());
    let herd = Herd::spawn_as_it_is(setup, command);
    let mut said: Vec<String> = (0..2).map(|_| receive()).collect();
    herd.kill_and_wait_for_another("Hands");
    said.extend((0..2).map(|_| receive()));
    assert!(said.iter().all(|message| is_whole(message)), "{said:?}");
    said.sort();
    let begins = ["Goloman listens on", "Hands listens on", "Hands listens on", "Hands was killed"];
    for (message, begin) in said.iter().zip(begins) {
        assert!(message.starts_with(begin), "{said:?}");
    }
}
