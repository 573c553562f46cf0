//! The harness itself, run once more without the tools.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::needs::{Outcome, REQUIRE};

pub fn a_missing_tool_is_ignored_by_name_and_fails_where_it_is_required() -> Outcome {
    let folder = tempfile::tempdir().expect("a temporary folder");
    symlink("/bin/sh", folder.path().join("sh")).expect("a link");
    let ignored = run_without_tools(folder.path(), "");
    let said = String::from_utf8_lossy(&ignored.stdout).into_owned();
    assert!(ignored.status.success(), "{said}");
    let reason = "nc is not installed; Debian has it in netcat-openbsd";
    let name = "netcat::nc_gets_its_answer_and_the_end";
    assert!(said.contains(&format!("test {name} ... ignored ({reason})\n")), "{said}");
    assert!(said.contains("\ntest result: ok. 0 passed; 0 failed; 1 ignored; "), "{said}");
    let list = format!("ignored, because something is missing here:\n    {name}: {reason}\n\n");
    assert!(said.ends_with(&list), "{said}");

    let failed = run_without_tools(folder.path(), "1");
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert!(!failed.status.success(), "{said}");
    assert!(said.contains(&format!("{reason}, and {REQUIRE} is set")), "{said}");
    assert!(said.contains("\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; "), "{said}");
    Ok(())
}

/// The one test of netcat, where there is a shell and nothing else.
fn run_without_tools(folder: &Path, require: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("netcat::").env("PATH", folder).env(REQUIRE, require);
    command.output().expect("it runs")
}
