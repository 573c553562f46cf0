//! How a connection ends: its output is sent, our side of the stream ends, the other side's rest is dropped.

use std::io::ErrorKind;

use super::{Connection, Transport};
use crate::application::Closed;
use crate::event_loop::limits::LINGER_BYTES;
use crate::event_loop::state::ConnectionState;

impl<T: Transport> Connection<T> {
    /// Nothing more is handled: the queued output is sent, and then the connection is closed.
    pub fn finish(&mut self) {
        if self.state < ConnectionState::Flushing {
            self.state = ConnectionState::Flushing;
            self.input.close();
        }
    }

    /// Closes it: nothing more happens. Returns whether it was still open.
    pub fn close(&mut self, why: Closed) -> bool {
        let was_open = self.state != ConnectionState::Closed;
        self.state = ConnectionState::Closed;
        if was_open {
            self.note_why(why);
        }
        was_open
    }

    /// Notes why it is being closed, unless a reason is known already. That a drain closes it is the weakest one: it may
    /// still break.
    pub fn note_why(&mut self, why: Closed) {
        let is_known = self.why.as_deref().is_some_and(|known| *known != Closed::Drained);
        if !is_known && why != Closed::Finished {
            self.why = Some(Box::new(why));
        }
    }

    /// The next step of closing, once all output is sent: shut writing down, and linger unless the other side
    /// has nothing more to send. Returns whether the connection is done.
    pub fn shut_down(&mut self) -> bool {
        let result = self.transport.shut_down_writing();
        if matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.ready.writable = false; // TLS's `close_notify` waits like other output.
            return false;
        }
        self.state = self.state.max(ConnectionState::Lingering);
        result.is_err() || self.has_ended() || self.is_owed_nothing
    }

    /// Ends our side and continues to read the other one. If the kernel does not take TLS's `close_notify`,
    /// the next flush tries again.
    pub fn end_output(&mut self) {
        match self.transport.shut_down_writing() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready.writable = false,
            _ => self.output_ends = false, // An error shows when it is read.
        }
    }

    /// Reads and drops the input of a lingering connection. Returns whether the connection is done.
    pub fn drop_input(&mut self, scratch: &mut [u8]) -> bool {
        match self.transport.read(scratch) {
            Ok(count) if count > 0 && self.dropped < LINGER_BYTES => {
                self.dropped = self.dropped.saturating_add(count as u32);
                self.note_short_read(count < scratch.len());
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready.readable = false;
                false
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => false,
            _ => true,
        }
    }
}
