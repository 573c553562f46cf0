//! A server's lifeline: the pipe on its standard input. Its end means "stop". What the supervisor writes are frames:
//!
//! | frame | meaning |
//! |---|---|
//! | `L` | reopen the log |
//! | `D` | drain |
//! | `R`, the length in 4 bytes, big-endian, and a text | the configuration is now the one in this text ([`hand_on`]) |
//!
//! Writing never waits. What a server has not read yet is kept, and written later: one request to drain, one to reopen
//! the log, and the newest text. So a server that is stopped costs the memory of one frame, however many requests follow.

use std::io::{ErrorKind, Write};
use std::process::ChildStdin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{LIFELINE_RETRY, LIFELINE_RETRY_MAX, REFUSAL_BYTES, RELOAD_FILE_BYTES};
use crate::node::hand_on;

/// A frame, shared by all servers that it is for.
pub(super) type Frame = Arc<[u8]>;

/// The frame that hands over a configuration's text, of at most [`RELOAD_FILE_BYTES`], and the admin addresses of the
/// servers, if the command line has chosen them.
pub(super) fn frame_of(text: &str, admin: &str) -> Frame {
    frame(&hand_on("", admin, text))
}

/// The frame that says why a configuration was refused. It holds what is in force, too, because it may replace a frame
/// that a server has not read yet. A text that is longer than one of a reload is that of the start: all servers have it.
pub(super) fn frame_of_refusal(reason: &str, in_force: &str, admin: &str) -> Frame {
    let end = reason.floor_char_boundary(REFUSAL_BYTES);
    let in_force = if in_force.len() as u64 <= RELOAD_FILE_BYTES { in_force } else { "" };
    frame(&hand_on(&reason[..end], admin, in_force))
}

fn frame(text: &str) -> Frame {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [b"R", &length.to_be_bytes()[..], text.as_bytes()].concat().into()
}

/// Our end of the pipe, and what is still to be written.
pub(super) struct Lifeline {
    pipe: ChildStdin,
    /// The frame that is being written, and how many bytes of it are.
    frame: Frame,
    written: usize,
    drain: bool,
    reopen_log: bool,
    text: Option<Frame>,
    /// When to write on, if the pipe is full.
    retry_at: Option<Instant>,
    pause: Duration,
}

impl Lifeline {
    pub(super) fn new(pipe: ChildStdin) -> Lifeline {
        // A server that does not read must not block the supervisor; this never fails for a pipe.
        let _ = rustix::io::ioctl_fionbio(&pipe, true);
        Lifeline {
            pipe,
            frame: Frame::from([]),
            written: 0,
            drain: false,
            reopen_log: false,
            text: None,
            retry_at: None,
            pause: LIFELINE_RETRY,
        }
    }

    /// Asks the server to drain.
    pub(super) fn drain(&mut self) {
        self.drain = true;
        self.write();
    }

    /// Asks the server to reopen its log.
    pub(super) fn reopen_log(&mut self) {
        self.reopen_log = true;
        self.write();
    }

    /// Hands it a text that replaces each one that is not on its way yet.
    pub(super) fn reload(&mut self, frame: &Frame) {
        self.text = Some(Arc::clone(frame));
        self.write();
    }

    /// When to call [`Lifeline::write`], if anything is left to be written.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// What is to be written next.
    fn next_frame(&mut self) -> Option<Frame> {
        if std::mem::take(&mut self.drain) {
            return Some(Frame::from(*b"D"));
        }
        match std::mem::take(&mut self.reopen_log) {
            true => Some(Frame::from(*b"L")),
            false => self.text.take(),
        }
    }

    /// Writes as much as the pipe takes.
    pub(super) fn write(&mut self) {
        loop {
            if self.written == self.frame.len() {
                self.written = 0;
                let Some(next) = self.next_frame() else {
                    self.frame = Frame::from([]);
                    self.retry_at = None;
                    return;
                };
                self.frame = next;
            }
            match self.pipe.write(&self.frame[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.pause = LIFELINE_RETRY;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.retry_at = Some(Instant::now() + self.pause);
                    self.pause = (self.pause * 2).min(LIFELINE_RETRY_MAX);
                    return;
                }
                Err(_) => {
                    // The process is exiting. The next one gets all of it at its start.
                    (self.drain, self.reopen_log, self.text) = (false, false, None);
                    self.written = self.frame.len();
                }
            }
        }
    }
}
