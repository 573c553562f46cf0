//! Opening the log's file.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

/// Opens a log, for its owner to write and its group to read, and ends an incomplete record in it.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    end_partial_record(path, &file);
    Ok(file)
}

/// Opens a log without a change to what it holds. Never waits: a FIFO without a reader is an error. A symbolic link
/// is followed (`A_log.txt -> /dev/stdout`), unless another user may have created it: it could point to a file that
/// we may write and the other user may not.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            if !is_ours(&found) {
                return Err(io::Error::other("it is a symbolic link of another user"));
            }
            // It could be replaced by another link before it is opened.
            if path.parent().and_then(others_who_can_write).is_some() {
                let text = "it is a symbolic link in a folder in which other users can write";
                return Err(io::Error::other(text));
            }
        }
        // If it is not a symbolic link now, it must not become one before it is opened.
        _ => flags |= OFlags::NOFOLLOW,
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640).custom_flags(flags.bits() as i32);
    let file = options.open(path).map_err(|error| {
        let is_fifo = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        match Errno::from_io_error(&error) {
            Some(Errno::NXIO) if is_fifo => io::Error::other("it is a FIFO without a reader"),
            _ => error,
        }
    })?;
    // From here on the writer's thread may wait: that is its purpose.
    rustix::io::ioctl_fionbio(&file, false)?;
    Ok(file)
}

/// A warning if other users can write in the log's folder: they can then replace the log.
pub(super) fn folder_warning(folder: &Path) -> Option<String> {
    let others = others_who_can_write(folder)?;
    Some(format!(
        "{others} can write in the log's folder {} and replace the log; choose another folder with --log-dir, or \
         make this one writable for its owner only",
        folder.display()
    ))
}

/// Which users besides root and us can write in a folder, as far as its mode says. An unreadable one has none.
fn others_who_can_write(folder: &Path) -> Option<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let found = fs::metadata(folder).ok()?;
    if found.mode() & WRITABLE_BY_ALL != 0 {
        return Some("all users".to_owned());
    }
    (!is_ours(&found)).then(|| format!("the user with the number {}", found.uid()))
}

fn is_ours(found: &Metadata) -> bool {
    found.uid() == geteuid().as_raw() || found.uid() == 0
}

/// A killed process or a full disk may have left half a record: the next record starts on a new line.
fn end_partial_record(path: &Path, file: &File) {
    // The server must run even if the disk is full.
    let _ = try_to_end_partial_record(path, file);
}

fn try_to_end_partial_record(path: &Path, mut file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(());
    }
    let mut last = [b'\n'];
    File::open(path)?.read_exact_at(&mut last, found.len() - 1)?;
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// The bit of a folder's mode.
const WRITABLE_BY_ALL: u32 = 0o002;
