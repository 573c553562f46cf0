//! A terminal of a test's own, and processes that it controls.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::process::through;

/// A pseudo-terminal. Closed when the value is dropped, as a window is.
pub struct Terminal {
    master: OwnedFd,
    path: String,
}

impl Terminal {
    pub fn open() -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let path = ptsname(&master, Vec::new()).expect("it has a name");
        Terminal { master, path: path.into_string().expect("text") }
    }

    /// The end that programs use.
    pub fn end(&self) -> File {
        let flags = OFlags::NOCTTY.bits() as i32;
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).custom_flags(flags).open(&self.path);
        opened.expect("it can be opened")
    }

    /// As `stty tostop`: who writes and is not in the foreground is stopped.
    pub fn stop_background_output(&self) {
        let end = self.end();
        let mut modes = tcgetattr(&end).expect("it is a terminal");
        modes.local_modes |= LocalModes::TOSTOP;
        tcsetattr(&end, OptionalActions::Now, &modes).expect("it is a terminal");
    }

    /// Reads what programs write, so that they never wait for it.
    pub fn drain(&self) {
        let mut master = File::from(self.master.try_clone().expect("a descriptor"));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while master.read(&mut bytes).is_ok_and(|count| count > 0) {}
        });
    }

    /// The command with this as its controlling terminal and its standard streams. The process keeps
    /// its id.
    pub fn control(&self, command: &Command) -> Command {
        let mut controlled = through(&["setsid", "--ctty"], command);
        controlled.stdin(self.end()).stdout(self.end()).stderr(self.end());
        controlled
    }
}
