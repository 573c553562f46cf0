//! Reads files that the operator names, as a whole and up to a limit, because they may be anything.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::limits::INPUT_FILE_BYTES;

/// All that is in a file, a pipe or a device.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(INPUT_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_FILE_BYTES {
        let most = INPUT_FILE_BYTES / (1024 * 1024);
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {most} MiB")));
    }
    Ok(bytes)
}
