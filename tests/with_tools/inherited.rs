//! What a process inherits, and finds, that not everybody can lay for it.

use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::common::needs::{Missing, Outcome, kernel, tool};
use crate::common::process::through;
use crate::common::{Herd, LIMIT, ServerProcess, Setup, run_to_end, wait_until};

const BLOCK: &str = "--block-signal=TERM,INT,HUP,CHLD,USR1,XFSZ";

pub fn a_signal_mask_that_is_inherited_blocks_nothing() -> Outcome {
    env_knows(BLOCK)?;
    let setup = Herd::small_setup();
    let command = through(&["env", BLOCK], &Herd::command(&setup));
    let mut herd = Herd::spawn(setup, command);
    herd.kill_and_wait_for_another("Hands"); // SIGCHLD
    let new_log = herd.setup.move_log_away("Goloman");
    herd.signal(Signal::HUP);
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
    for signal in [Signal::TERM, Signal::INT] {
        let setup = Setup::alone().any_port();
        let command = through(&["env", BLOCK], &setup.command("Goloman"));
        let mut server = ServerProcess::spawn(command, "Goloman", setup.log_file("Goloman"));
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
    }
    Ok(())
}

pub fn signals_that_the_parent_ignored_are_handled_but_for_sighup() -> Outcome {
    let ignore = "--ignore-signal=TERM,INT,HUP,CHLD,USR1,XFSZ";
    env_knows(ignore)?;
    let setup = Herd::small_setup();
    let command = through(&["env", ignore], &Herd::command(&setup));
    let mut herd = Herd::spawn(setup, command);
    herd.kill_and_wait_for_another("Hands");
    let new_log = herd.setup.move_log_away("Goloman");
    herd.signal(Signal::HUP);
    // Who has got a later signal has got this one, too.
    herd.kill_and_wait_for_another("Hands");
    assert!(!new_log.exists(), "SIGHUP stays ignored, as nohup wants it");
    herd.signal(Signal::USR1);
    wait_until(LIMIT, "a new log is there", || new_log.exists());
    herd.signal(Signal::TERM);
    assert_eq!(herd.wait().code(), Some(0));
    Ok(())
}

pub fn a_log_that_another_user_has_linked_elsewhere_is_refused() -> Outcome {
    let is_root = rustix::process::geteuid().is_root();
    kernel(is_root, "only root can lay another user's link")?;
    let setup = Setup::alone().any_port();
    let (target, log) = (setup.folder.path().join("elsewhere"), setup.log_file("Goloman"));
    symlink(&target, &log).expect("a link");
    std::os::unix::fs::lchown(&log, Some(12_345), None).expect("we are root");
    let ended = run_to_end(setup.command("Goloman"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("a symbolic link of another user"), "{ended:?}");
    assert!(!target.exists());
    Ok(())
}

/// That of coreutils 8.31 and later.
fn env_knows(option: &str) -> Outcome {
    let mut command = tool("env")?;
    command.args([option, "true"]);
    match run_to_end(command).code {
        Some(0) => Ok(()),
        _ => Err(Missing::Tool { program: format!("env {option}"), package: "coreutils" }),
    }
}
