//! Files that can be read only once: `--config /dev/stdin`, `--places-key-file <(pass herd)`.
//!
//! Each server reads its files by itself, also when it restarts much later, and would find a pipe empty. So
//! the supervisor reads the pipe, and passes the contents in a file in memory that the processes inherit.
//! (Not by their standard input, which is the lifeline: a text longer than a pipe holds would block the
//! supervisor until the server reads. Not by a temporary file: it outlives a supervisor that is killed, and
//! programs that clean `/tmp` remove it after weeks.)

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::memory::{memory_file, name_of};
use crate::cli::args::split;
use crate::files;

/// Contents that were read, with names under which they can be read again.
#[derive(Default)]
pub struct ReadOnce {
    files: Vec<Kept>,
}

struct Kept {
    /// The name that was typed.
    typed: String,
    /// The name under which this process and those that it starts can read it.
    name: String,
    _file: OwnedFd,
}

impl ReadOnce {
    /// Reads files that can be read only once, and replaces their names in the command line. The name of an
    /// unreadable file stays: opening it later reports why.
    pub fn replace(words: &mut [OsString]) -> ReadOnce {
        let mut files: Vec<Kept> = Vec::new();
        for at in 0..words.len() {
            let (option, joined) = split(&words[at]);
            if !OPTIONS.iter().any(|known| option == *known) {
                continue;
            }
            let is_joined = joined.is_some();
            let Some(path) = joined.or_else(|| words.get(at + 1).cloned()).map(PathBuf::from)
            else {
                continue;
            };
            if let (true, Ok(file)) = (is_read_once(&path), keep(&path)) {
                let name = name_of(&file);
                match is_joined {
                    true => words[at] = format!("{}={name}", option.display()).into(),
                    false => words[at + 1] = name.clone().into(),
                }
                files.push(Kept { typed: path.display().to_string(), name, _file: file });
            }
        }
        ReadOnce { files }
    }

    /// How a file that was read once was named on the command line; None for any other file.
    pub fn typed(&self, path: &Path) -> Option<&str> {
        let kept = self.files.iter().find(|kept| Path::new(&kept.name) == path);
        kept.map(|kept| kept.typed.as_str())
    }

    /// The message, with the names from the command line.
    pub fn as_typed(&self, message: String) -> String {
        self.files.iter().fold(message, |text, kept| text.replace(&kept.name, &kept.typed))
    }
}

/// Pipes and devices; and this process's own descriptors, because its servers have others.
fn is_read_once(path: &Path) -> bool {
    let is_special = |kind: fs::FileType| !kind.is_file() && !kind.is_dir();
    fs::metadata(path).is_ok_and(|found| is_special(found.file_type()))
        || path.starts_with("/dev")
        || path.starts_with("/proc")
}

/// Reads it into a file in memory.
fn keep(path: &Path) -> io::Result<OwnedFd> {
    memory_file(&files::read(path)?)
}

/// The options whose files each server reads at its start.
const OPTIONS: [&str; 3] = ["--config", "--places-ca", "--places-key-file"];
