//! Files in memory, by which processes inherit a text. They have a name only while a process has them open, so they
//! outlive nobody.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

#[cfg(target_os = "linux")]
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};

/// Writes a file in memory that only its owner can open, and no process can change.
#[cfg(target_os = "linux")]
pub(super) fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    use std::io::Write;
    // Without CLOEXEC, so that it is inherited. Each process that opens it by name reads from its beginning.
    let memory = memfd_create("herd-mio", MemfdFlags::ALLOW_SEALING)?;
    fchmod(&memory, Mode::RUSR | Mode::WUSR)?;
    std::fs::File::from(memory.try_clone()?).write_all(bytes)?;
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(memory)
}

/// Other systems have no files in memory with a name.
#[cfg(not(target_os = "linux"))]
pub(super) fn memory_file(_: &[u8]) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The name under which this process, and those that it starts, can read the file.
pub(super) fn name_of(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
