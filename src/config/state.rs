//! `[state]`: where the table is kept when the server does not run, and when a client is answered.

use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::document::Section;
use super::file::HINTS;
use super::tls::{file_path, write_path};
use super::{Config, ServerConfig};

/// `[state]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateSettings {
    /// The folder of the databases, one for each server; None if everything is kept in memory only.
    pub dir: Option<PathBuf>,
    pub ack: StateAck,
}

/// When an IAMAT is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateAck {
    /// At once.
    #[default]
    Memory,
    /// Once its update, or a newer one of the client, is committed and synced.
    Disk,
}

impl Config {
    /// The state directory, if there is one: a relative path of the file begins at the file's folder.
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.state.dir.as_deref().map(|dir| self.file(dir))
    }

    /// The database of a server, if there is a state directory.
    pub fn database(&self, server: &ServerConfig) -> Option<PathBuf> {
        self.state_dir().map(|dir| dir.join(format!("{}.redb", server.name)))
    }

    /// Applies `--state-dir`, whose relative path begins at the working directory.
    pub(super) fn apply_state_dir(&mut self, dir: &Path) {
        // It fails only where the working directory is gone, and then the path as it is has no better meaning.
        self.state.dir = Some(std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()));
    }
}

impl StateSettings {
    /// Whether answers wait for a disk that does not exist.
    pub(super) fn lacks_dir(&self) -> bool {
        self.ack == StateAck::Disk && self.dir.is_none()
    }
}

/// Reads the section, and returns where `ack` is: whether it goes together with `dir` is known once the command line is,
/// too.
pub(super) fn read(
    mut section: Section<'_, '_>,
    state: &mut StateSettings,
) -> Option<Range<usize>> {
    state.dir = file_path(&mut section, "dir", "\"state\"").map(Spanned::into_inner);
    let ack = section.parsed("ack", StateAck::named, "\"memory\" or \"disk\"");
    let at = ack.as_ref().map(Spanned::span);
    state.ack = ack.map_or(state.ack, Spanned::into_inner);
    section.finish(&HINTS);
    at
}

/// The settings as `--check` prints them.
pub(super) fn write(state: &StateSettings, text: &mut String) {
    text.push('\n');
    write_path(text, "state.dir", state.dir.as_deref());
    // Writing to a String never fails.
    let _ = writeln!(text, "state.ack = {:?}", state.ack.name());
}

impl StateAck {
    pub fn name(self) -> &'static str {
        match self {
            StateAck::Memory => "memory",
            StateAck::Disk => "disk",
        }
    }

    fn named(name: &str) -> Option<StateAck> {
        [StateAck::Memory, StateAck::Disk].into_iter().find(|one| one.name() == name)
    }
}

/// What is wrong with [`StateSettings::lacks_dir`].
pub(super) const LACKS_DIR: &str =
    "state.ack = \"disk\" needs a state directory: set `dir` in [state], or use --state-dir DIR";
