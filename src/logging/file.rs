//! Opening the log's file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

/// Opens a log, for its owner to write and its group to read. Never waits: a FIFO without a reader is
/// an error. A symbolic link is followed (`A_log.txt -> /dev/stdout`), unless another user has created
/// it: it could point to a file that we may write and the other user may not.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            if found.uid() != geteuid().as_raw() && found.uid() != 0 {
                return Err(io::Error::other("it is a symbolic link of another user"));
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
    // The server must run even if the disk is full.
    let _ = end_partial_record(path, &file);
    Ok(file)
}

/// A killed process or a full disk may have left half a record: the next record starts on a new line.
fn end_partial_record(path: &Path, mut file: &File) -> io::Result<()> {
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
