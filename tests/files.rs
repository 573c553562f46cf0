//! Claim: files are made in such a way that another user of the machine gains nothing by what they have prepared
//! there; broken ones are made again; a log that cannot be written is reported and not waited for; and a
//! demonstration leaves nothing behind.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use tempfile::TempDir;

use common::process::{Running, follow, run_to_end, send_signal, status_of, through};
use common::{Herd, LIMIT, ServerProcess, Setup, wait_until};

const FILES: [&str; 3] = ["ca.pem", "places-key.pem", "places.pem"];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}")).permissions().mode()
        & 0o7777
}

/// The Places service with its certificates in this folder.
fn service(folder: &Path, log_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.args(["--places-server", "127.0.0.1:0", "--tls-dir"]).arg(folder);
    command.arg("--log-dir").arg(log_dir).env_remove("HERD_PLACES_KEY");
    command
}

/// Runs it until it listens.
fn run_service(mut command: Command) {
    let mut child = Running(command.stderr(Stdio::piped()).spawn().expect("it runs"));
    let said: Arc<Mutex<String>> = follow(child.0.stderr.take().expect("piped"));
    wait_until(LIMIT, "the service listens", || {
        let ended = child.0.try_wait().expect("a child");
        assert!(ended.is_none(), "{ended:?}: {}", said.lock().expect("text"));
        said.lock().expect("text").contains("Places listens on")
    });
    send_signal(child.0.id(), Signal::TERM);
    assert_eq!(status_of(&mut child.0), Some(0));
}

/// A private folder for certificates, and one for logs.
fn folders() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, logs) = (folder.path().join("tls"), folder.path().join("logs"));
    fs::create_dir(&tls).expect("a folder");
    fs::create_dir(&logs).expect("a folder");
    (folder, tls, logs)
}

// Keys.

/// The process's id is known to the shell that becomes it.
#[test]
fn a_key_is_not_written_to_a_file_prepared_by_somebody_else() {
    let (folder, tls, logs) = folders();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").expect("a file");
    let lay = format!(
        "ln -s '{}' '{tls}/places-key.'$$.new; (umask 0; echo >'{tls}/places.'$$.new); \
         exec \"$0\" \"$@\"",
        victim.display(),
        tls = tls.display()
    );
    run_service(through(&["sh", "-c", &lay], &service(&tls, &logs)));
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "precious");
    let key = fs::symlink_metadata(tls.join("places-key.pem")).expect("a key");
    assert!(key.is_file());
    assert_eq!(mode(&tls.join("places-key.pem")), 0o600);
    assert_eq!(mode(&tls.join("places.pem")), 0o644);
}

#[test]
fn a_key_file_is_private_whatever_the_umask() {
    let (folder, _, logs) = folders();
    let made = folder.path().join("made/by/the/program");
    run_service(through(&["sh", "-c", "umask 0; exec \"$0\" \"$@\""], &service(&made, &logs)));
    assert_eq!(mode(&made.join("places-key.pem")), 0o600);
    assert_eq!(mode(&made), 0o755);
    let found: Vec<_> = fs::read_dir(&made).expect("a folder").collect();
    assert_eq!(found.len(), FILES.len(), "nothing is left beside them: {found:?}");
}

#[test]
fn no_key_is_written_to_a_folder_that_others_can_write_to() {
    let (_folder, tls, logs) = folders();
    fs::set_permissions(&tls, Permissions::from_mode(0o777)).expect("it is ours");
    let ended = run_to_end(service(&tls, &logs));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("other users can write to it"), "{ended:?}");
    assert!(!tls.join("places-key.pem").exists());
}

#[test]
fn certificates_that_are_broken_are_made_again() {
    let (_folder, tls, logs) = folders();
    run_service(service(&tls, &logs));
    let whole = |name: &str| fs::read(tls.join(name)).expect("a file");
    let kept = FILES.map(whole);
    run_service(service(&tls, &logs));
    assert_eq!(FILES.map(whole), kept, "whole ones are kept");
    let half = &kept[1][..kept[1].len() / 2];
    for (name, text) in FILES.into_iter().zip([&b""[..], half, b"\xff\xfe\x00"]) {
        fs::write(tls.join(name), text).expect("a file");
        fs::set_permissions(tls.join(name), Permissions::from_mode(0o000)).expect("it is ours");
        run_service(service(&tls, &logs));
        assert!(whole(name).ends_with(b"-----\n"), "{name} is whole again");
        assert_eq!(mode(&tls.join("places-key.pem")), 0o600);
    }
    // A key of another certificate, as when the machine stopped between the two.
    fs::write(tls.join("places-key.pem"), &kept[1]).expect("a file");
    run_service(service(&tls, &logs));
    assert_ne!(whole("places-key.pem"), kept[1]);
}

#[test]
fn certificates_of_others_are_not_replaced() {
    let (_folder, tls, logs) = folders();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    fs::write(tls.join("places.pem"), &certificate).expect("a file");
    fs::write(tls.join("places-key.pem"), key.serialize_pem()).expect("a file");
    let ended = run_to_end(service(&tls, &logs));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("places.pem was not created by this program"), "{ended:?}");
    assert_eq!(fs::read_to_string(tls.join("places.pem")).expect("a file"), certificate);
    fs::write(tls.join("ca.pem"), &certificate).expect("a file");
    run_service(service(&tls, &logs));
    assert_eq!(fs::read_to_string(tls.join("places.pem")).expect("a file"), certificate);
}

// The log.

#[test]
fn a_log_is_writable_by_its_owner_and_readable_by_its_group() {
    let setup = Setup::alone().any_port();
    let words = ["sh", "-c", "umask 0; exec \"$0\" \"$@\""];
    let command = through(&words, &setup.command("Goloman"));
    let server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
    assert_eq!(mode(&server.log_file), 0o640);
    fs::remove_file(&server.log_file).expect("it is there");
    server.signal(Signal::USR1);
    wait_until(LIMIT, "a new log is there", || server.log_file.exists());
    assert_eq!(mode(&server.log_file), 0o640);
}

#[test]
fn a_log_that_is_a_fifo_is_not_waited_for() {
    let setup = Setup::alone().any_port();
    let log = setup.log_file("Goloman");
    let mut mkfifo = Command::new("mkfifo");
    assert!(mkfifo.arg(&log).status().expect("it is in coreutils").success());
    let ended = run_to_end(setup.command("Goloman"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("a FIFO without a reader"), "{ended:?}");
    // With a reader it is a log; a reader that stops costs records, and delays nobody.
    let mut options = fs::OpenOptions::new();
    let _reader = options.read(true).write(true).open(&log).expect("a FIFO");
    let command = setup.command("Goloman");
    let mut server = ServerProcess::spawn(command, "Goloman", setup.folder.path().join("none"));
    let mut client = server.client();
    for number in 0..2_000 {
        let text = format!("c{number} +1.0+2.0 10");
        assert_eq!(client.ask(&format!("IAMAT {text}")), format!("AT AT {text}"));
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_partial_record_is_ended_before_the_next_one() {
    let setup = Setup::alone().any_port();
    let torn = "25-Nov-26 21:41:25 - INFO: Sent to 127.0.0.1:518";
    fs::write(setup.log_file("Goloman"), torn).expect("a log");
    let server = setup.start("Goloman");
    server.wait_for_log("Goloman listens on");
    assert_eq!(server.log().lines().next(), Some(torn));
    assert!(!server.log().contains("\n\n"), "{}", server.log());
    // A whole one needs no end.
    server.stop();
    let server = setup.start("Goloman");
    server.wait_for_log("Goloman listens on");
    assert!(!server.log().contains("\n\n"), "{}", server.log());
}

#[test]
fn a_log_may_be_a_symbolic_link_of_the_same_user() {
    let setup = Setup::alone().any_port();
    let target = setup.folder.path().join("elsewhere");
    symlink(&target, setup.log_file("Goloman")).expect("a link");
    let server = setup.start("Goloman");
    server.wait_for_log("Goloman listens on");
    assert_eq!(mode(&target), 0o640);
}

#[test]
fn a_folder_for_logs_that_does_not_exist_is_refused_in_every_mode() {
    let setup = Setup::alone();
    let nowhere = setup.folder.path().join("nowhere");
    let config = setup.config_file("Goloman");
    for mode in [
        &["--herd"][..],
        &["--herd", "--places", "offline"],
        &["--server", "Goloman"],
        &["--check"],
        &["--places-server", "127.0.0.1:0"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
        command.args(mode).arg("--config").arg(&config).arg("--log-dir").arg(&nowhere);
        command.env_remove("HERD_PLACES_KEY").current_dir(setup.folder.path());
        let ended = run_to_end(command);
        assert_eq!(ended.code, Some(2), "{mode:?}: {ended:?}");
        assert!(ended.stderr.contains("nowhere: No such file"), "{mode:?}: {ended:?}");
        assert!(!nowhere.exists(), "{mode:?}");
    }
}

// A demonstration.

/// A herd that runs a Places service, in a folder of its own, as in a checkout.
fn demonstration(more: &[&str]) -> (Herd, PathBuf) {
    let setup = Setup::new(&[("Goloman", &[])]);
    let (here, temporary) = (setup.folder.path().join("here"), setup.folder.path().join("tmp"));
    fs::create_dir(&here).expect("a folder");
    fs::create_dir(&temporary).expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_herd-mio"));
    command.arg("--herd").arg("--config").arg(setup.config_file("herd")).args(more);
    command.env_remove("HERD_PLACES_KEY").env("TMPDIR", &temporary).current_dir(&here);
    (Herd::spawn(setup, command), temporary)
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_demonstration_keeps_its_key_in_a_temporary_folder_that_goes_with_it() {
    let (mut herd, temporary) = demonstration(&[]);
    let here = herd.setup.folder.path().join("here");
    assert_eq!(entries(&here), ["Goloman_log.txt", "Places_log.txt"]);
    let [folder] = &entries(&temporary)[..] else { panic!("one folder") };
    assert_eq!(mode(&temporary.join(folder)), 0o700);
    assert_eq!(entries(&temporary.join(folder)), FILES);
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
    assert_eq!(entries(&temporary), [""; 0]);
    assert_eq!(entries(&here), ["Goloman_log.txt", "Places_log.txt"]);
}

#[test]
fn a_demonstration_that_is_killed_leaves_no_key_behind() {
    let (mut herd, temporary) = demonstration(&[]);
    assert_eq!(entries(&temporary).len(), 1);
    herd.child.kill().expect("it runs");
    herd.child.wait().expect("it was killed");
    wait_until(LIMIT, "its service has removed the folder", || entries(&temporary).is_empty());
}

#[test]
fn a_demonstration_keeps_its_certificates_in_the_given_folder() {
    let kept = tempfile::tempdir().expect("a folder");
    let tls = kept.path().join("tls");
    let (mut herd, temporary) = demonstration(&["--tls-dir", tls.to_str().expect("text")]);
    assert_eq!(entries(&temporary), [""; 0]);
    assert_eq!(entries(&tls), FILES);
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
    assert_eq!(entries(&tls), FILES);
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_what_to_do() {
    let setup = Setup::new(&[("Goloman", &[])]);
    let path = setup.folder.path().join("no folder");
    fs::write(&path, "").expect("a file");
    for (is_temporary, remedy) in [(true, "TMPDIR"), (false, "another one with --tls-dir")] {
        let mut command = Herd::command(&setup);
        match is_temporary {
            true => command.env("TMPDIR", &path),
            false => command.arg("--tls-dir").arg(&path),
        };
        let ended = run_to_end(command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let folder = format!("{}: ", path.display());
        assert!(ended.stderr.contains(&folder) && ended.stderr.contains(remedy), "{ended:?}");
        assert!(!ended.stderr.contains("certificate file"), "{ended:?}");
    }
}
