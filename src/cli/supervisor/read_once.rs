//! Files that can be read only once: `--config /dev/stdin`, `--places-key-file <(pass herd)`.
//!
//! Each server reads its files by itself, also when it restarts much later, and would find a pipe empty. So
//! the supervisor reads the pipe, and passes the contents in a file in memory that the processes inherit.
//! (Not by their standard input, which is the lifeline: a text longer than a pipe holds would block the
//! supervisor until the server reads. Not by a temporary file: it outlives a supervisor that is killed, and
//! programs that clean `/tmp` remove it after weeks.)

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};

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
                let name = format!("/proc/self/fd/{}", file.as_raw_fd());
                match is_joined {
                    true => words[at] = format!("{}={name}", option.display()).into(),
                    false => words[at + 1] = name.clone().into(),
                }
                files.push(Kept { typed: path.display().to_string(), name, _file: file });
            }
        }
        ReadOnce { files }
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

/// Reads it into a file in memory that only its owner can open, and no process can change.
#[cfg(target_os = "linux")]
fn keep(path: &Path) -> io::Result<OwnedFd> {
    let bytes = files::read(path)?;
    // Without CLOEXEC, so that it is inherited. Each process that opens it by name reads from its beginning.
    let memory = memfd_create("herd-mio", MemfdFlags::ALLOW_SEALING)?;
    fchmod(&memory, Mode::RUSR | Mode::WUSR)?;
    File::from(memory.try_clone()?).write_all(&bytes)?;
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(memory)
}

/// Other systems have no files in memory with a name.
#[cfg(not(target_os = "linux"))]
fn keep(_: &Path) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The options whose files each server reads at its start.
const OPTIONS: [&str; 3] = ["--config", "--places-ca", "--places-key-file"];
