//! How the processes of the herd are started: with the same program as the supervisor.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::manager::Reports;
use super::memory::{memory_file, name_of};
use crate::config::Config;
use crate::node::{LIFELINE, OF_SERVICE_MANAGER, REPORTS, RESTARTED};

/// This program, and the environment of its processes.
pub(super) struct Program {
    path: PathBuf,
    /// What `ps` shows as the first word.
    called: OsString,
    pub(super) variables: Vec<(&'static str, OsString)>,
    /// The text of the configuration in force, for processes that start from now on. Without one they read the
    /// file.
    config: Option<OwnedFd>,
    /// How servers report; None without a service manager.
    pub(super) reports: Option<Reports>,
    /// The settings of the whole herd, which only a restart of it changes.
    herd_wide: String,
    /// Where `--admin` has put the admin listeners of all servers. It is empty without that.
    pub(super) admin: String,
}

impl Program {
    /// After an upgrade in place the path by which the program was started may lead to another version
    /// or to nothing. `/proc/self/exe` still leads to this one: the child, a copy of the supervisor until
    /// it executes the program, resolves it.
    pub(super) fn find(config: &Config) -> io::Result<Program> {
        let own = Path::new("/proc/self/exe");
        let path = match std::fs::read_link(own) {
            Ok(_) => own.to_owned(),
            Err(_) => std::env::current_exe()?,
        };
        let called = std::env::args_os().next();
        let called = called.unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
        let herd_wide = config.herd_wide_text();
        Ok(Program {
            path,
            called,
            variables: Vec::new(),
            config: None,
            reports: None,
            herd_wide,
            admin: String::new(),
        })
    }

    /// Keeps the text of the configuration that is in force from now on. On systems without files in memory, each
    /// process goes on reading the file at its start.
    pub(super) fn keep_config(&mut self, text: &str) -> io::Result<()> {
        match memory_file(text.as_bytes()) {
            Ok(file) => self.config = Some(file),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A process of it that has a lifeline, and reads the configuration in force.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg0(&self.called).env(LIFELINE, "1");
        command.env(HERD_WIDE, &self.herd_wide).env_remove(REPORTS).env_remove(RESTARTED);
        command.env(ADMIN_OF_HERD, &self.admin);
        // They are for the supervisor alone.
        for name in OF_SERVICE_MANAGER {
            command.env_remove(name);
        }
        match &self.config {
            Some(file) => command.env(CONFIG_TEXT, name_of(file)),
            None => command.env_remove(CONFIG_TEXT),
        };
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Environment variable: where a process that a supervisor has started finds the text of the configuration in force.
/// `--config` still names the file, for messages.
pub const CONFIG_TEXT: &str = "HERD_MIO_CONFIG_TEXT";
/// Environment variable: the settings that all servers of the running herd have in common, although the file may have
/// new ones by now.
pub const HERD_WIDE: &str = "HERD_MIO_HERD_WIDE";
/// Environment variable: where the command line has put the admin listeners of all servers, so that the page of each
/// has links to those of the others.
pub const ADMIN_OF_HERD: &str = "HERD_MIO_ADMIN_OF_HERD";
