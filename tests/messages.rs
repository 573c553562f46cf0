//! Claim: a message says in plain words what is wrong, where, and what to do: no error number, no term of the
//! compiler, no secret.

mod common;

use std::net::TcpListener;
use std::process::Command;

use common::{LIMIT, Setup, run_to_end, wait_until};

/// The program in a folder of its own, with no key in its environment.
fn herd_mio(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(words).env_remove("HERD_PLACES_KEY");
    command
}

#[test]
fn no_message_shows_the_number_of_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("its address");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("herd.toml");
    let place =
        format!("[[server]]\nname = \"A\"\nlisten = \"{taken}\"\npeer_listen = \"127.0.0.1:0\"\n");
    std::fs::write(&path, place).expect("a configuration");
    let path = path.to_str().expect("text");
    let logs = folder.path().to_str().expect("text");
    let in_use = TcpListener::bind(taken).map(|_| "the test's own port was free");
    assert_eq!(in_use.map_err(|error| error.kind()), Err(std::io::ErrorKind::AddrInUse));
    for (words, part) in [
        (&["--check", "--config", "/nowhere/herd.toml"] as &[&str], "No such file"),
        (&["--check", "--config", "/"], "directory"),
        (&["--check", "--config", "/dev/zero"], "larger than"),
        (&["--check", "--places-key-file", "/nowhere/key"], "No such file"),
        (&["--check", "--places-key-file", "/dev/zero"], "larger than"),
        (&["--check", "--places-ca", "/nowhere/ca"], "No such file"),
        (&["--server", "Hands", "--log-dir", "/nowhere"], "No such file"),
        (&["--places-server", "127.0.0.1:0", "--tls-dir", "/dev/null/x"], "Not a directory"),
        (&["--server", "A", "--config", path, "--log-dir", logs], "Address already in use"),
        (
            &["--herd", "--places", "offline", "--config", path, "--log-dir", logs],
            "Address already",
        ),
    ] {
        let said = run_to_end(herd_mio(words)).stderr;
        assert!(said.contains(part), "{words:?}: {said:?} does not say {part:?}");
        assert!(!said.contains("os error"), "{words:?}: {said}");
    }
}

#[test]
fn no_record_and_no_answer_shows_the_number_of_an_error() {
    let setup = Setup::star(&["Hands"]);
    let nobody = setup.peers_address("Hands");
    let (url, log) = (format!("https://{nobody}/x"), setup.log_file("Goloman"));
    let options = ["--places", "google", "--places-url", &url, "--log-level", "debug"];
    let goloman = setup.start_with("Goloman", &options);
    let mut client = goloman.client();
    client.ask("IAMAT kiwi +34.0-118.0 10");
    let answer = client.whatsat("kiwi", "10", "5");
    assert_eq!(answer.status(), "UNKNOWN_ERROR");
    assert!(answer.body.contains("efused"), "{answer:?}");
    assert!(!answer.body.contains("os error"), "{answer:?}");
    wait_until(LIMIT, "the log names the link that was refused", || {
        let records = std::fs::read_to_string(&log).unwrap_or_default();
        records.lines().any(|record| record.contains("Hands") && record.contains("efused"))
    });
    assert!(!goloman.log().contains("os error"), "{}", goloman.log());
}
