//! How the processes of the herd are started: with the same program as the supervisor.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::node::LIFELINE;

/// This program, and the environment of its processes.
pub(super) struct Program {
    path: PathBuf,
    /// What `ps` shows as the first word.
    called: OsString,
    pub(super) variables: Vec<(&'static str, OsString)>,
}

impl Program {
    /// After an upgrade in place the path by which the program was started may lead to another version
    /// or to nothing. `/proc/self/exe` still leads to this one: the child, a copy of the supervisor until
    /// it executes the program, resolves it.
    pub(super) fn find() -> io::Result<Program> {
        let own = Path::new("/proc/self/exe");
        let path = match std::fs::read_link(own) {
            Ok(_) => own.to_owned(),
            Err(_) => std::env::current_exe()?,
        };
        let called = std::env::args_os().next();
        let called = called.unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
        Ok(Program { path, called, variables: Vec::new() })
    }

    /// A process of it that has a lifeline.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0(&self.called).env(LIFELINE, "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}
