//! Reads files that the operator names, as a whole and up to a limit, because they may be anything.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::limits::INPUT_FILE_BYTES;

/// All that is in a file, a pipe or a device.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(File::open(path)?, INPUT_FILE_BYTES)
}

/// All that is in a regular file of at most `limit` bytes (whole MiB). Anything else fails and never blocks, not
/// even a FIFO that nobody writes to.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_at_most(open_regular(path)?.0, limit)
}

/// The same for a secret. Fails if every user could read or change the file.
pub fn read_private(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let (file, found) = open_regular(path)?;
    if found.mode() & 0o007 != 0 {
        let mode = found.mode() & 0o777;
        let reason = format!(
            "its mode {mode:03o} gives every user of this machine access; run chmod o-rwx on it"
        );
        return Err(io::Error::new(ErrorKind::PermissionDenied, reason));
    }
    read_at_most(file, limit)
}

/// Opens a file, and says what was opened.
fn open_regular(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok((file, found)),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
    }
}

fn read_at_most(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let most = limit / (1024 * 1024);
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {most} MiB")));
    }
    Ok(bytes)
}

/// What tells one version of some files from another: for each its size, the time of its last change, its device
/// and inode; None where there is no file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamps(BTreeMap<PathBuf, Option<[i64; 5]>>);

impl Stamps {
    /// Looks at the files now.
    pub fn of(paths: &[PathBuf]) -> Stamps {
        let stamp = |path: &PathBuf| {
            let found = std::fs::metadata(path).ok()?;
            let (size, device, inode) = (found.size(), found.dev(), found.ino());
            Some([size as i64, found.mtime(), found.mtime_nsec(), device as i64, inode as i64])
        };
        Stamps(paths.iter().map(|path| (path.clone(), stamp(path))).collect())
    }

    /// Of which files they are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// With further files.
    pub fn and(mut self, further: Stamps) -> Stamps {
        self.0.extend(further.0);
        self
    }
}

/// Decides from repeated looks at some files when to reload them: once they differ from those that were loaded and
/// two looks found the same, so that a file that is just being written is left alone. A version that was refused is
/// not loaded again.
#[derive(Debug)]
pub struct Watch {
    loaded: Stamps,
    last: Stamps,
}

impl Watch {
    /// `loaded` was taken before the files were read.
    pub fn new(loaded: Stamps) -> Watch {
        Watch { last: loaded.clone(), loaded }
    }

    /// The files are about to be read, whatever the reason; `stamps` was taken just before.
    pub fn loading(&mut self, stamps: Stamps) {
        self.loaded = stamps;
    }

    /// From now on these are the files, `stamps` their looks. Those that were among them before keep the stamps of which
    /// [`Watch::loading`] was told: they were read before this.
    pub fn loading_also(&mut self, mut stamps: Stamps) {
        for (path, stamp) in &mut stamps.0 {
            if let Some(loaded) = self.loaded.0.get(path) {
                *stamp = *loaded;
            }
        }
        self.loaded = stamps;
    }

    /// Whether the files should be reloaded now.
    pub fn look(&mut self, stamps: Stamps) -> bool {
        let is_settled = stamps == self.last;
        self.last = stamps;
        is_settled && self.last != self.loaded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_reloaded_once_when_two_looks_found_the_same_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let write = |text: &str| std::fs::write(&paths[0], text).expect("it can be written");
        write("one");
        let mut watch = Watch::new(Stamps::of(&paths));
        let look = |watch: &mut Watch| watch.look(Stamps::of(&paths));
        assert!(!look(&mut watch) && !look(&mut watch), "nothing has changed");
        write("twice");
        assert!(!look(&mut watch), "it may be half written");
        write("thrice");
        assert!(!look(&mut watch), "it was");
        assert!(look(&mut watch), "it has settled");
        watch.loading(Stamps::of(&paths));
        assert!(!look(&mut watch), "it is loaded");
        std::fs::rename(&paths[0], &paths[1]).expect("it can be renamed");
        assert!(!look(&mut watch));
        assert!(look(&mut watch), "a file that is gone is a change, and one that is new");
    }

    #[test]
    fn a_fifo_is_refused_without_waiting_for_it_and_a_long_file_without_reading_all_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (fifo, long) = (folder.path().join("fifo"), folder.path().join("long"));
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, Mode::RWXU, 0).expect("a FIFO");
        let error = read_regular(&fifo, 1024 * 1024).expect_err("it is no file");
        assert_eq!(error.to_string(), "not a regular file");
        File::create(&long).and_then(|file| file.set_len(1 << 30)).expect("a file with a hole");
        let error = read_regular(&long, 1024 * 1024).expect_err("it is too long");
        assert_eq!(error.to_string(), "larger than 1 MiB");
        assert!(read_regular(folder.path(), 1024 * 1024).is_err(), "a folder");
        File::create(&long).and_then(|file| file.set_len(1 << 20)).expect("a file");
        assert_eq!(read_regular(&long, 1024 * 1024).map(|bytes| bytes.len()).ok(), Some(1 << 20));
    }
}
